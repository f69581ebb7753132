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
use crate::config::{ComponentConfig, ComponentMisfire, ComponentOverlap, ComponentRuns};
use crate::schedule::{JobSpec, Misfire, Overlap, Retry, Trigger};
use crate::scheduler::{Job, JobError, Report, RunContext, RunFuture};

/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What has run so long is sound: its next restart waits as short as the first.
const STEADY: Duration = Duration::from_secs(60);

/// How often the calendar is asked again while a phase goes on: an operator can end it early at any moment.
const LOOK: TimeDelta = TimeDelta::seconds(1);

/// A slot noticed within this time of coming due is on time.
const GRACE: TimeDelta = TimeDelta::seconds(10);

/// No stretch of phases lasts longer.
const LONGEST_STRETCH: TimeDelta = TimeDelta::days(30);

/// What a slot that was missed is worth making up for.
const MADE_UP_FOR: TimeDelta = TimeDelta::hours(24);

/// Starts of the daemon within one stretch of phases.
const MOST_STARTS: i32 = 10_000;

/// From SIGKILL to the end of a run: what is left of it is looked for, and its last lines are read.
const AFTER_KILL: Duration = Duration::from_secs(7);

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
        if ended.is_success() { Ok(ended.report()) } else { Err(retry(ended.summary()).with(ended.report())) }
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

/// The line of the job table for a `[[component]]`.
pub(super) fn spec_of(config: &ComponentConfig) -> JobSpec {
    let delta = |span: Duration| TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    let attempts = i32::try_from(config.attempts).unwrap_or(i32::MAX);
    let (trigger, deadline, misfire, attempts) = match &config.runs {
        ComponentRuns::AtSlots { trigger, time_limit } => {
            // Every try may take its whole time, and a slot that is made up for may be a day late.
            let tries = delta((*time_limit + LONGEST_PAUSE).saturating_mul(config.attempts));
            (trigger.clone(), tries.max(MADE_UP_FOR), misfire_of(config), attempts)
        }
        // It lasts as long as the phases do, and is taken up again however often the daemon is started meanwhile.
        ComponentRuns::WhilePhases { phases, .. } => {
            (Trigger::While { phases: phases.clone() }, LONGEST_STRETCH, Misfire::WhilePhaseOpen, MOST_STARTS)
        }
    };
    JobSpec {
        name: config.name,
        purpose: config.purpose,
        trigger,
        misfire,
        grace: GRACE,
        deadline,
        overlap: match config.overlap {
            ComponentOverlap::Skip => Overlap::Skip,
            ComponentOverlap::Queue => Overlap::QueueOne,
            ComponentOverlap::Cancel => Overlap::CancelPrevious,
            ComponentOverlap::Allow => Overlap::Allow(config.overlap_max),
        },
        retry: Retry::times(attempts),
        breaker: config.breaker,
        stop_grace: config.stop_grace + AFTER_KILL,
    }
}

fn misfire_of(config: &ComponentConfig) -> Misfire {
    match config.misfire {
        ComponentMisfire::RunOnce => Misfire::RunOnce,
        ComponentMisfire::Skip => Misfire::Skip,
        ComponentMisfire::WhilePhaseOpen => Misfire::WhilePhaseOpen,
        ComponentMisfire::CatchUp => {
            Misfire::CatchUp { max: config.catch_up_max, newest_first: false, spacing: TimeDelta::zero() }
        }
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
