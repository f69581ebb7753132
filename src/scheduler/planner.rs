//! The loop that decides: once a second, and at each slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::ledger::{Ledger, Ticket, ticket_of};
use super::runner;
use super::status::{Living, Place, Status};
use super::{Entry, RunContext};
use crate::calendar::Calendar;
use crate::metrics;
use crate::schedule::{JobSpec, Verdict, judge, may_run_late};
use crate::store::{JobRun, NewRun, Origin, RunState, StoreError};

/// The longest the planner sleeps: a stepped clock or a lost wake-up costs a second at most.
const LONGEST_SLEEP: TimeDelta = TimeDelta::seconds(1);

/// How often a process says that its runs go on, and how long after the last word they count as abandoned.
const HEARTBEAT: Duration = Duration::from_secs(5);
const SILENCE: TimeDelta = TimeDelta::seconds(20);

/// A ledger this far ahead of the clock was written under a wrong clock.
const FUTURE: TimeDelta = TimeDelta::minutes(5);

/// A run that was cut off so often, beyond its ordinary tries, is not begun again.
const MOST_TAKEOVERS: i32 = 5;

/// Decides what is due and runs it.
pub struct Planner {
    entries: Vec<Entry>,
    ledger: Ledger,
    status: Arc<Status>,
    nudge: Arc<Notify>,
    runs: TaskTracker,
    retention: TimeDelta,
    stop: CancellationToken,
    /// The newest decided slot of each job; never moves back.
    cursors: HashMap<&'static str, DateTime<Utc>>,
    last_heartbeat: Duration,
}

impl Planner {
    /// A planner that has not looked at the ledger yet. Slots older than `retention` are not owed. After `stop` nothing is
    /// begun: neither a slot nor another attempt.
    pub fn new(entries: Vec<Entry>, ledger: Ledger, retention: Duration, stop: CancellationToken) -> Self {
        Self {
            entries,
            ledger,
            status: Arc::default(),
            nudge: Arc::default(),
            runs: TaskTracker::new(),
            retention: TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX),
            stop,
            cursors: HashMap::new(),
            last_heartbeat: Duration::ZERO,
        }
    }

    /// What it is doing.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Makes it look at once.
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.nudge)
    }

    /// The runs under way, to wait for at the end.
    pub fn runs(&self) -> TaskTracker {
        self.runs.clone()
    }

    /// Reads from the ledger where each job stands, and takes up what a process before this one left undone.
    ///
    /// # Errors
    /// When the database fails: a planner that does not know what was decided must not decide.
    pub async fn prepare(&mut self) -> Result<(), StoreError> {
        let now = self.ledger.clock.now();
        for entry in &self.entries {
            let name = entry.spec.name;
            metrics::job_registered(name);
            let since = self.ledger.store.register_job(name, now).await?;
            let decided = self.ledger.store.last_decided_slot(name).await?;
            let cursor = decided.map_or(since, |decided| decided.max(since)).max(now - self.retention);
            if cursor > now + FUTURE {
                // Waiting for that time would be silence; slots that have a row already stay theirs.
                error!(job_name = name, ledger = %cursor, "the ledger is ahead of the clock; the job goes on from now");
            }
            self.cursors.insert(name, if cursor > now + FUTURE { now } else { cursor });
        }
        for ((job, state), at) in self.ledger.store.last_runs().await? {
            if state == RunState::Ok {
                metrics::job_succeeded(job, at);
            }
        }
        // Nobody else can be running anything from this file, so nothing needs to go silent first.
        let silence = if self.ledger.store.is_exclusive() { TimeDelta::microseconds(-1) } else { SILENCE };
        self.take_over(now - silence).await
    }

    /// Runs a job now, outside its schedule.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run_now(&self, job: &str, origin: Origin) -> Result<(), StoreError> {
        let Some(entry) = self.entry(job) else { return Ok(()) };
        if let Some(ticket) = self.ledger.claim_now(&entry.spec, origin).await? {
            self.spawn(entry.clone(), ticket);
        }
        Ok(())
    }

    /// Decides until told to stop. Runs under way go on in [`Planner::runs`].
    pub async fn run(mut self) {
        loop {
            let began = self.ledger.clock.monotonic();
            let now = self.ledger.clock.now();
            let fault = self.look(now).await.err().map(|fault| fault.to_string());
            self.status.looked(began);
            self.report_fault(fault);
            let sleep = self.ledger.clock.sleep_until(self.next_look(now));
            tokio::select! {
                () = sleep => {}
                () = self.nudge.notified() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Decides everything that is due now. A job whose rows could not be written keeps its cursor and is judged again.
    async fn look(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.beat(now).await?;
        for index in 0..self.entries.len() {
            self.decide(index, now).await?;
        }
        metrics::scheduler_ticked(now);
        Ok(())
    }

    async fn decide(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), StoreError> {
        let entry = &self.entries[index];
        let spec = &entry.spec;
        let cursor = self.cursors.get(spec.name).copied().unwrap_or(now);
        // One calendar for the whole decision, whatever is swapped meanwhile.
        let calendar = self.ledger.calendar.load();
        let slots: Vec<_> = spec.trigger.slots(&calendar, cursor, now).collect();
        if let Some(newest) = slots.last().copied() {
            let verdicts = judge(spec, &calendar, &slots, now, self.status.is_running(spec.name));
            let rows: Vec<NewRun> =
                verdicts.into_iter().map(|(slot, verdict)| self.row(spec, &calendar, slot, verdict)).collect();
            let written = self.ledger.store.claim_runs(&rows).await?;
            for row in rows.iter().filter(|row| written.contains(&row.id)) {
                self.act_on(entry, row);
            }
            self.cursors.insert(spec.name, newest);
        }
        let next = spec.trigger.next_after(&calendar, now);
        self.status.set_next(spec.name, next);
        metrics::job_next_due(spec.name, next);
        Ok(())
    }

    fn row(&self, spec: &JobSpec, calendar: &Calendar, slot: DateTime<Utc>, verdict: Verdict) -> NewRun {
        let (origin, state, reason) = match verdict {
            Verdict::Run { late: None } => (Origin::Scheduled, RunState::Running, None),
            Verdict::Run { late } => (Origin::Catchup, RunState::Running, late),
            Verdict::Skipped(reason) => (Origin::Scheduled, RunState::Skipped, Some(reason)),
            Verdict::Missed(reason) => (Origin::Scheduled, RunState::Missed, Some(reason)),
        };
        self.ledger.row(spec, calendar, slot, origin, state, reason)
    }

    /// What was claimed is begun; what was left out is said.
    fn act_on(&self, entry: &Entry, row: &NewRun) {
        metrics::job_late(row.job, row.claimed_at - row.scheduled_for);
        if row.state == RunState::Running {
            self.spawn(entry.clone(), ticket_of(&entry.spec, row));
        } else {
            let reason = row.reason.as_deref().unwrap_or_default();
            metrics::job_left_out(row.job, row.state.name());
            warn!(job_name = row.job, slot = %row.scheduled_for, state = row.state.name(), reason, "a slot was left out");
        }
    }

    fn spawn(&self, entry: Entry, ticket: Ticket) {
        let (status, ledger, stop) = (Arc::clone(&self.status), self.ledger.clone(), self.stop.clone());
        let living = Living::begin(&status, entry.spec.name, ticket.context.id, Place::Planner);
        self.runs.spawn(async move {
            runner::run(ledger, entry, ticket, stop).await;
            drop(living);
        });
    }

    fn entry(&self, job: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.spec.name == job)
    }

    /// Says that the runs under way go on, and looks for runs of which nothing was heard.
    async fn beat(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let monotonic = self.ledger.clock.monotonic();
        if monotonic < self.last_heartbeat + HEARTBEAT {
            return Ok(());
        }
        self.ledger.store.heartbeat(&self.status.live_runs(), now).await?;
        // One's own rows too: a run whose end, or whose very claim, could not be confirmed lives nowhere any more.
        self.take_over(now - SILENCE).await?;
        self.last_heartbeat = monotonic;
        Ok(())
    }

    /// Runs that a process left undone are done again where the schedule still wants them, and given up where not.
    async fn take_over(&self, silent_since: DateTime<Utc>) -> Result<(), StoreError> {
        let live = self.status.live_runs();
        for run in self.ledger.store.abandoned_runs(silent_since).await? {
            if live.contains(&run.id) {
                continue;
            }
            match self.worth_resuming(&run) {
                Ok(entry) => self.resume(entry, &run).await?,
                Err(why) => {
                    if let Some(entry) = self.entry(&run.job) {
                        metrics::job_left_out(entry.spec.name, RunState::Lost.name());
                    }
                    warn!(job_name = run.job, slot = %run.scheduled_for, run_id = %run.id, reason = why, "a run was lost");
                    self.ledger.give_up(&run, format!("nothing was heard of it any more; {why}")).await?;
                }
            }
        }
        Ok(())
    }

    fn worth_resuming(&self, run: &JobRun) -> Result<&Entry, String> {
        let entry = self.entry(&run.job).ok_or("there is no such job any more")?;
        if !matches!(run.origin, Origin::Scheduled | Origin::Catchup) {
            return Err(format!("its origin was {}, which is not repeated", run.origin));
        }
        // Ordinary retries count as attempts as well; what is beyond them ended its process.
        if run.attempt >= entry.spec.attempts + MOST_TAKEOVERS {
            return Err(format!("it was begun {} times", run.attempt));
        }
        let now = self.ledger.clock.now();
        may_run_late(&entry.spec, &self.ledger.calendar.load(), run.scheduled_for, now).map(|()| entry)
    }

    async fn resume(&self, entry: &Entry, run: &JobRun) -> Result<(), StoreError> {
        let now = self.ledger.clock.now();
        if !self.ledger.store.begin_attempt(run.id, run.attempt, &self.ledger.owner, now).await? {
            return Ok(());
        }
        info!(job_name = run.job, slot = %run.scheduled_for, run_id = %run.id, attempt = run.attempt + 1, "a run is taken over");
        let deadline = now + entry.spec.deadline;
        let context = RunContext {
            id: run.id,
            slot: run.scheduled_for,
            deadline,
            origin: Origin::Catchup,
            stop: CancellationToken::new(),
        };
        let ticket = Ticket { job: entry.spec.name, context, attempt: run.attempt + 1, started_at: now };
        self.spawn(entry.clone(), ticket);
        Ok(())
    }

    /// Counted from when the last look began: one that took long is followed by the next at once.
    fn next_look(&self, looked: DateTime<Utc>) -> DateTime<Utc> {
        let soonest = self.status.next_slot();
        let latest = looked + LONGEST_SLEEP;
        soonest.map_or(latest, |slot| slot.min(latest))
    }

    /// A failing database is said once when it begins and once when it ends, not each second.
    fn report_fault(&self, fault: Option<String>) {
        metrics::database_up(fault.is_none());
        if self.status.set_ledger_fault(fault.clone()) {
            match fault {
                Some(fault) => error!(error = %fault, "the ledger cannot be written; nothing is begun until it can"),
                None => info!("the ledger can be written"),
            }
        }
    }
}
