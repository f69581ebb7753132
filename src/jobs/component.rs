//! The jobs of components: a command run once for each slot, or kept running while the market is in some phases.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::calendar::{Phase, SharedCalendars};
use crate::clock::SharedClock;
use crate::components::{self, Command, ComponentError, Ended, Mark};
use crate::config::{ComponentConfig, ComponentRuns};
use crate::scheduler::{Job, JobError, Report, RunContext, RunFuture};

/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What has run so long is sound: its next restart waits as short as the first.
const STEADY: Duration = Duration::from_secs(60);

/// How often the calendar is asked again while a phase goes on: an operator can end it early at any moment.
const LOOK: TimeDelta = TimeDelta::seconds(1);

/// One component.
#[derive(Debug)]
pub struct Component {
    command: Command,
    runs: ComponentRuns,
    calendar: Arc<SharedCalendars>,
    clock: SharedClock,
}

impl Component {
    /// The job of a `[[component]]`.
    pub fn new(config: &ComponentConfig, calendar: Arc<SharedCalendars>, clock: SharedClock) -> Self {
        Self { command: Command::of(config), runs: config.runs.clone(), calendar, clock }
    }

    /// To its end. Whatever goes wrong may go right another time: a program can be mended while the daemon runs.
    async fn once(&self, context: &RunContext) -> Result<Report, JobError> {
        if context.stop.is_cancelled() {
            return Err(retry("stopped before it was started"));
        }
        let ended = components::run(&self.command, &mark(context), &context.stop).await;
        let ended = ended.map_err(|fault| retry(fault.to_string()))?;
        if ended.stopped {
            return Err(retry(format!("stopped before it was done, {}", ended.summary())));
        }
        if ended.is_success() { Ok(ended.report()) } else { Err(retry(ended.summary())) }
    }

    /// Until the phases are over. When the daemon stops it before that, the run is not done: the next start goes on with it.
    async fn keep(&self, context: &RunContext, phases: &[Phase], first_pause: Duration) -> Result<Report, JobError> {
        let mut kept = Kept::default();
        let mut pause = first_pause;
        while self.is_wanted(phases) && !context.stop.is_cancelled() {
            let began = self.clock.monotonic();
            let stop = context.stop.child_token();
            kept.take(self.run_while(context, phases, &stop).await);
            if stop.is_cancelled() {
                break;
            }
            if self.clock.monotonic().saturating_sub(began) >= STEADY {
                pause = first_pause;
            }
            let (starts, how, pause_ms) = (kept.starts, kept.how(), pause.as_millis());
            warn!(component = self.command.name, starts, pause_ms, how, "it ended by itself and is started again");
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = self.phases_over(phases) => {}
                () = context.stop.cancelled() => {}
            }
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        if context.stop.is_cancelled() && self.is_wanted(phases) {
            return Err(retry(format!("stopped before the phase was over; {}", kept.how())));
        }
        kept.report()
    }

    /// One start, ended when the phases are over.
    async fn run_while(
        &self,
        context: &RunContext,
        phases: &[Phase],
        stop: &CancellationToken,
    ) -> Result<Ended, ComponentError> {
        let mark = mark(context);
        let mut running = std::pin::pin!(components::run(&self.command, &mark, stop));
        tokio::select! {
            ended = &mut running => return ended,
            () = self.phases_over(phases) => stop.cancel(),
        }
        running.await
    }

    /// Returns once the market is in none of the phases, a second after an operator's word at most.
    async fn phases_over(&self, phases: &[Phase]) {
        loop {
            let now = self.clock.now();
            let moment = self.calendar.load().at(now);
            if !phases.contains(&moment.phase) {
                return;
            }
            let look = now.checked_add_signed(LOOK).unwrap_or(DateTime::<Utc>::MAX_UTC);
            self.clock.sleep_until(moment.next_transition.min(look)).await;
        }
    }

    fn is_wanted(&self, phases: &[Phase]) -> bool {
        phases.contains(&self.calendar.load().at(self.clock.now()).phase)
    }
}

impl Job for Component {
    fn run(self: Arc<Self>, context: RunContext) -> RunFuture {
        Box::pin(async move {
            match &self.runs {
                ComponentRuns::AtSlots { .. } => self.once(&context).await,
                ComponentRuns::WhilePhases { phases, restart_after } => {
                    self.keep(&context, phases, *restart_after).await
                }
            }
        })
    }
}

fn mark(context: &RunContext) -> Mark {
    Mark { run_id: context.id, slot: context.slot }
}

fn retry(message: impl Into<String>) -> JobError {
    JobError::Retry { after: None, message: message.into() }
}

/// What became of a component that is kept running.
#[derive(Default)]
struct Kept {
    starts: u32,
    last: Option<Result<Ended, ComponentError>>,
    has_run: bool,
}

impl Kept {
    fn take(&mut self, outcome: Result<Ended, ComponentError>) {
        self.starts += 1;
        self.has_run |= outcome.is_ok();
        self.last = Some(outcome);
    }

    fn how(&self) -> String {
        match &self.last {
            None => "it was not started".to_owned(),
            Some(Ok(ended)) => ended.summary(),
            Some(Err(fault)) => fault.to_string(),
        }
    }

    /// One that could not be started a single time has not run, whatever the calendar says.
    fn report(&self) -> Result<Report, JobError> {
        if self.starts > 0 && !self.has_run {
            return Err(JobError::Fail(self.how()));
        }
        let last = match &self.last {
            Some(Ok(ended)) => ended.report(),
            Some(Err(fault)) => json!({ "error": fault.to_string() }),
            None => Report::Null,
        };
        Ok(json!({ "starts": self.starts, "last": last }))
    }
}
