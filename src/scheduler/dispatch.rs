//! Beginning what waits, ending what is to end, and taking up what nobody carries any more.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ledger::Ticket;
use super::planner::Planner;
use super::{Entry, RunContext};
use crate::metrics;
use crate::schedule::{Misfire, may_run_late};
use crate::store::{JobRun, Origin, RunState, StoreError, Term};

/// A run that was cut off so often, beyond its ordinary tries, is not begun again.
const MOST_TAKEOVERS: i32 = 5;

/// A run of this process that lives nowhere in it counts as abandoned after so long: one that was just claimed is not yet
/// counted as living.
const UNCONFIRMED: TimeDelta = TimeDelta::seconds(20);

impl Planner {
    /// Begins the runs that wait and whose turn it is, the one that waits longest first.
    pub(super) async fn dispatch(&mut self, term: &Term, now: DateTime<Utc>) -> Result<(), StoreError> {
        // Where nobody else can write the ledger, nothing waits that nobody here has spoken of.
        if self.ledger.store.is_exclusive() && !self.unasked && !self.status.has_waiting() {
            return Ok(());
        }
        let mut waiting = self.ledger.store.waiting_runs().await?;
        self.unasked = false;
        self.status.set_waiting(!waiting.is_empty());
        let due = |run: &JobRun| run.next_attempt_at.is_none_or(|at| at <= now);
        self.soonest_waiting = waiting.iter().filter(|run| !due(run)).filter_map(|run| run.next_attempt_at).min();
        waiting.retain(due);
        if waiting.is_empty() {
            return Ok(());
        }
        waiting.sort_by_key(|run| (run.next_attempt_at, run.scheduled_for, run.id));
        let mut running: HashMap<String, usize> =
            self.ledger.store.busy_jobs().await?.into_iter().map(|(job, (running, _))| (job, running)).collect();
        for run in waiting {
            let begun = self.begin(&run, term, now, running.get(&run.job).copied().unwrap_or_default()).await?;
            *running.entry(run.job).or_default() += usize::from(begun);
        }
        Ok(())
    }

    async fn begin(&self, run: &JobRun, term: &Term, now: DateTime<Utc>, running: usize) -> Result<bool, StoreError> {
        let Some(entry) = self.entry(&run.job) else {
            self.settle(run, "there is no such job any more", now).await?;
            return Ok(false);
        };
        if run.deadline.is_some_and(|deadline| deadline <= now) {
            self.settle(run, "its deadline passed while it waited", now).await?;
            return Ok(false);
        }
        let by_schedule = matches!(run.origin, Origin::Scheduled | Origin::Catchup);
        let window_end = || entry.spec.trigger.window_end(&self.ledger.calendar.load(), run.scheduled_for);
        if by_schedule && entry.spec.misfire == Misfire::WhilePhaseOpen && now >= window_end() {
            self.settle(run, "the phase it belonged to was over", now).await?;
            return Ok(false);
        }
        if running >= entry.spec.overlap.at_once() {
            return Ok(false);
        }
        if !self.ledger.store.begin_attempt(run.id, run.attempt, term, now).await? {
            return Ok(false);
        }
        if run.attempt > 0 {
            info!(job_name = run.job, slot = %run.scheduled_for, run_id = %run.id, attempt = run.attempt + 1, "a run is tried again");
        } else {
            metrics::job_late(entry.spec.name, now - run.scheduled_for);
        }
        self.spawn(Arc::clone(entry), ticket_again(entry, run, term, now));
        Ok(true)
    }

    /// Ends a run that waited in vain.
    async fn settle(&self, run: &JobRun, why: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
        let state = if run.attempt > 0 { RunState::Failed } else { RunState::Missed };
        if self.ledger.store.settle_waiting(run.id, run.attempt, state, why, now).await? {
            warn!(job_name = run.job, slot = %run.scheduled_for, run_id = %run.id, state = state.name(), why, "a run waited in vain");
            if let Some(entry) = self.entry(&run.job) {
                metrics::job_left_out(entry.spec.name, state.name());
            }
        }
        Ok(())
    }

    /// Tells the runs that live here, and whose end somebody has asked for, to end.
    pub(super) async fn end_cancelled(&self) -> Result<(), StoreError> {
        if self.status.running() == 0 {
            return Ok(());
        }
        for (run, by) in self.ledger.store.cancelled_runs(&self.ledger.owner).await? {
            if self.status.cancel(run, &by) {
                info!(run_id = %run, by, "a run is told to end");
            }
        }
        Ok(())
    }

    /// Runs of processes that are gone.
    pub(super) async fn take_over_abandoned(&self) -> Result<(), StoreError> {
        let silence = self.leadership.silence();
        self.take_over(self.ledger.store.abandoned_runs(&self.ledger.owner, silence).await?).await
    }

    /// One's own runs whose end, or whose very claim, could not be confirmed: they live nowhere any more.
    pub(super) async fn take_over_own(&self) -> Result<(), StoreError> {
        let since = self.ledger.clock.now() - UNCONFIRMED;
        let mut runs = self.ledger.store.runs_of(&self.ledger.owner, since).await?;
        runs.retain(|run| !self.status.is_live(run.id));
        self.take_over(runs).await
    }

    /// What the schedule still wants waits for another attempt; the rest is lost.
    async fn take_over(&self, runs: Vec<JobRun>) -> Result<(), StoreError> {
        for run in runs {
            let (job, slot) = (&run.job, run.scheduled_for);
            if let Some(by) = &run.cancel_by {
                self.ledger.abandon(&run, RunState::Cancelled, None, format!("cancelled {by}")).await?;
                continue;
            }
            match self.worth_resuming(&run) {
                Ok(entry) => {
                    let deadline = self.ledger.clock.now() + entry.spec.deadline;
                    let reason = "its process ended during the run; begun again".to_owned();
                    if self.ledger.abandon(&run, RunState::Queued, Some(deadline), reason).await? {
                        info!(job_name = job, %slot, run_id = %run.id, attempt = run.attempt + 1, "a run is taken over");
                        self.nudge.notify_one();
                    }
                }
                Err(why) => {
                    let reason = format!("nothing was heard of it any more; {why}");
                    if self.ledger.abandon(&run, RunState::Lost, None, reason).await? {
                        warn!(job_name = job, %slot, run_id = %run.id, reason = why, "a run was lost");
                        if let Some(entry) = self.entry(job) {
                            metrics::job_left_out(entry.spec.name, RunState::Lost.name());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn worth_resuming(&self, run: &JobRun) -> Result<&Arc<Entry>, String> {
        let entry = self.entry(&run.job).ok_or("there is no such job any more")?;
        let asked_for = matches!(run.origin, Origin::Manual | Origin::Backfill);
        if !asked_for && !matches!(run.origin, Origin::Scheduled | Origin::Catchup) {
            return Err(format!("its origin was {}, which is not repeated", run.origin));
        }
        // Ordinary retries count as attempts as well; what is beyond them ended its process.
        if run.attempt >= entry.spec.retry.attempts + MOST_TAKEOVERS {
            return Err(format!("it was begun {} times", run.attempt));
        }
        let now = self.ledger.clock.now();
        if asked_for {
            return match run.deadline {
                Some(deadline) if deadline <= now => Err("its deadline has passed".to_owned()),
                _ => Ok(entry),
            };
        }
        may_run_late(&entry.spec, &self.ledger.calendar.load(), run.scheduled_for, now).map(|()| entry)
    }
}

fn ticket_again(entry: &Entry, run: &JobRun, term: &Term, now: DateTime<Utc>) -> Ticket {
    let context = RunContext {
        id: run.id,
        slot: run.scheduled_for,
        deadline: run.deadline.unwrap_or(now + entry.spec.deadline),
        origin: run.origin,
        stop: CancellationToken::new(),
    };
    let trace_id = run.trace_id.clone().unwrap_or_else(|| run.id.simple().to_string());
    Ticket { job: entry.spec.name, context, attempt: run.attempt + 1, fence: term.epoch, started_at: now, trace_id }
}
