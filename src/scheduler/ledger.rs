//! Writing the ledger: how a slot becomes a row, and a row a result.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::finisher::Finisher;
use super::{JobError, Report, RunContext};
use crate::calendar::{Calendar, SharedCalendars};
use crate::clock::SharedClock;
use crate::metrics;
use crate::schedule::JobSpec;
use crate::store::{Finish, JobRun, NewRun, Origin, RunState, Store, StoreError};

/// A start just before a slot still gets its chance.
const SHORTEST_COLD_START: TimeDelta = TimeDelta::seconds(30);

/// The right to run one attempt of one slot.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Name of the job.
    pub job: &'static str,
    /// What the run is told.
    pub context: RunContext,
    /// Only the newest attempt can end the row.
    pub attempt: i32,
    /// The epoch of the planner that began it; 0 beside the schedule.
    pub fence: i64,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// What the log knows it by.
    pub trace_id: String,
}

/// How an attempt ended, as the runner sees it.
#[derive(Debug)]
pub(super) enum Ended {
    /// Done.
    Ok(Report),
    /// Not done, and not tried again.
    Failed(JobError),
    /// Not done; tried again after this pause.
    Again(JobError, Duration),
    /// Ended on somebody's word.
    Cancelled(String),
    /// Cut off because the daemon stops; the next start begins it again where the schedule still wants it.
    CutOff,
}

/// The ledger as one process writes it.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Where it is kept.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// What phase it is.
    pub calendar: Arc<SharedCalendars>,
    /// This process, unlike any other and any before it.
    pub owner: String,
    pub(super) finisher: Finisher,
}

impl Ledger {
    /// A ledger for this process.
    pub fn new(store: Store, clock: SharedClock, calendar: Arc<SharedCalendars>) -> Self {
        let owner = format!("{}-{}", std::process::id(), Uuid::now_v7().simple());
        let finisher = Finisher::start(store.clone());
        Self { store, clock, calendar, owner, finisher }
    }

    /// A row for a slot, decided by `calendar` at `now`.
    pub(super) fn row(
        &self,
        spec: &JobSpec,
        calendar: &Calendar,
        slot: DateTime<Utc>,
        origin: Origin,
        state: RunState,
        reason: Option<String>,
    ) -> NewRun {
        let moment = calendar.at(slot);
        let id = Uuid::now_v7();
        let open = matches!(state, RunState::Running | RunState::Queued);
        NewRun {
            id,
            job: spec.name,
            scheduled_for: slot,
            origin,
            state,
            reason,
            owner: self.owner.clone(),
            claimed_at: self.clock.now(),
            deadline: open.then(|| self.deadline(spec, calendar, slot, origin)),
            session_date: moment.session,
            phase: moment.phase.to_string(),
            calendar_version: calendar.version().to_owned(),
            next_attempt_at: None,
            trace_id: id.simple().to_string(),
        }
    }

    /// A slot that is on time must be done by its own deadline; one that is run late keeps a fair share of time; the run at
    /// start may go on trying until the schedule takes over.
    fn deadline(&self, spec: &JobSpec, calendar: &Calendar, slot: DateTime<Utc>, origin: Origin) -> DateTime<Utc> {
        let now = self.clock.now();
        match origin {
            Origin::Scheduled => slot + spec.deadline,
            Origin::ColdStart => spec.trigger.next_after(calendar, now).max(now + SHORTEST_COLD_START),
            Origin::Catchup | Origin::Manual | Origin::Api | Origin::Backfill | Origin::Repeat => now + spec.deadline,
        }
    }

    /// Claims a run outside the schedule, due now: asked for by a caller, or needed at start.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_now(&self, spec: &JobSpec, origin: Origin) -> Result<Option<Ticket>, StoreError> {
        let row = self.row(spec, &self.calendar.load(), self.clock.now(), origin, RunState::Running, None);
        let ticket = ticket_of(spec, &row, 0);
        let claimed = self.store.claim_runs(&[row], None).await?;
        Ok((!claimed.is_empty()).then_some(ticket))
    }

    /// Writes down how the only attempt of a run beside the schedule ended.
    pub async fn finish(&self, ticket: &Ticket, result: Result<Report, JobError>) {
        let ended = match result {
            Ok(report) => Ended::Ok(report),
            Err(fault) => Ended::Failed(fault),
        };
        self.end(ticket, ended).await;
    }

    /// Writes down that a run beside the schedule was ended on somebody's word.
    pub async fn finish_cancelled(&self, ticket: &Ticket, by: String) {
        self.end(ticket, Ended::Cancelled(by)).await;
    }

    /// Writes down how an attempt ended. `false`: it was another attempt's to write, or could not be written.
    pub(super) async fn end(&self, ticket: &Ticket, ended: Ended) -> bool {
        let finish = self.finish_of(ticket, &ended);
        let state = finish.state;
        let (finished_at, duration) = (finish.finished_at, finish.finished_at - ticket.started_at);
        match self.finisher.finish(finish).await {
            Ok(true) => {
                if state != RunState::Queued {
                    metrics::job_finished(ticket.job, state.name(), finished_at, duration);
                }
                tell(ticket, &ended, duration.num_milliseconds());
                true
            }
            Ok(false) => {
                warn!(
                    attempt = ticket.attempt,
                    "the run was taken over by another attempt; its end is theirs to write"
                );
                false
            }
            Err(fault) => {
                error!(
                    error = %fault,
                    "the end of the run could not be written; it will be found abandoned and done again, which changes \
                     nothing twice"
                );
                false
            }
        }
    }

    fn finish_of(&self, ticket: &Ticket, ended: &Ended) -> Finish {
        let now = self.clock.now();
        let finish = Finish {
            run: ticket.context.id,
            attempt: ticket.attempt,
            fence: ticket.fence,
            owner: self.owner.clone(),
            started_at: Some(ticket.started_at),
            finished_at: now,
            attempt_state: RunState::Failed,
            state: RunState::Failed,
            next_attempt_at: None,
            deadline: None,
            reason: None,
            error: None,
            stats: None,
        };
        let (ok, cancelled) = (RunState::Ok, RunState::Cancelled);
        match ended {
            Ended::Ok(report) => Finish { attempt_state: ok, state: ok, stats: Some(report.to_string()), ..finish },
            Ended::Failed(fault) => {
                Finish { error: Some(fault.to_string()), stats: fault.report().map(ToString::to_string), ..finish }
            }
            Ended::Again(fault, pause) => Finish {
                state: RunState::Queued,
                next_attempt_at: Some(self.clock.later(*pause)),
                error: Some(fault.to_string()),
                stats: fault.report().map(ToString::to_string),
                ..finish
            },
            Ended::Cancelled(by) => {
                Finish { attempt_state: cancelled, state: cancelled, reason: Some(format!("cancelled {by}")), ..finish }
            }
            Ended::CutOff => Finish {
                attempt_state: cancelled,
                state: RunState::Queued,
                next_attempt_at: Some(now),
                reason: Some("the daemon was stopped during the run".to_owned()),
                ..finish
            },
        }
    }

    /// Ends an attempt whose process is gone: its run waits for another one until `deadline`, or is over.
    pub(super) async fn abandon(
        &self,
        run: &JobRun,
        state: RunState,
        deadline: Option<DateTime<Utc>>,
        reason: String,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let finish = Finish {
            run: run.id,
            attempt: run.attempt,
            fence: run.fence,
            owner: run.owner.clone(),
            started_at: run.started_at,
            finished_at: now,
            attempt_state: if state == RunState::Cancelled { state } else { RunState::Lost },
            state,
            next_attempt_at: (state == RunState::Queued).then_some(now),
            deadline,
            error: None,
            stats: None,
            reason: Some(reason),
        };
        Ok(!self.store.finish_runs(&[finish]).await?.is_empty())
    }
}

/// One line for each end; a failure is an error where nobody will try again.
fn tell(ticket: &Ticket, ended: &Ended, duration_ms: i64) {
    let slot = ticket.context.slot;
    let job = ticket.job;
    match ended {
        Ended::Ok(report) => info!(%slot, duration_ms, report = %report, "{job} done"),
        Ended::Failed(fault) => error!(%slot, duration_ms, error = %fault, "{job} failed"),
        Ended::Again(fault, pause) => {
            let pause_ms = pause.as_millis();
            warn!(%slot, attempt = ticket.attempt, pause_ms, error = %fault, "{job} will try again");
        }
        Ended::Cancelled(by) => warn!(%slot, duration_ms, by, "{job} was cancelled"),
        Ended::CutOff => warn!(%slot, duration_ms, "{job} was cut off; the next start takes it up again"),
    }
}

pub(super) fn ticket_of(spec: &JobSpec, row: &NewRun, fence: i64) -> Ticket {
    let deadline = row.deadline.unwrap_or(row.claimed_at + spec.deadline);
    let stop = CancellationToken::new();
    let context = RunContext { id: row.id, slot: row.scheduled_for, deadline, origin: row.origin, stop };
    let trace_id = row.trace_id.clone();
    Ticket { job: spec.name, context, attempt: 1, fence, started_at: row.claimed_at, trace_id }
}
