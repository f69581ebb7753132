//! Writing the ledger: how a slot becomes a row, and a row a result.

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{JobError, Report, RunContext};
use crate::calendar::{Calendar, SharedCalendars};
use crate::clock::SharedClock;
use crate::metrics;
use crate::schedule::JobSpec;
use crate::store::{Finish, JobRun, NewRun, Origin, RunState, Store, StoreError};

use std::sync::Arc;

/// A start just before a slot still gets its chance.
const SHORTEST_COLD_START: TimeDelta = TimeDelta::seconds(30);

/// The right to run one attempt of one slot.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Name of the job.
    pub job: &'static str,
    /// What the run is told.
    pub context: RunContext,
    /// The fence: only the newest attempt can finish the row.
    pub attempt: i32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
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
}

impl Ledger {
    /// A ledger for this process.
    pub fn new(store: Store, clock: SharedClock, calendar: Arc<SharedCalendars>) -> Self {
        let owner = format!("{}-{}", std::process::id(), Uuid::now_v7().simple());
        Self { store, clock, calendar, owner }
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
        NewRun {
            id: Uuid::now_v7(),
            job: spec.name,
            scheduled_for: slot,
            origin,
            state,
            reason,
            owner: self.owner.clone(),
            claimed_at: self.clock.now(),
            deadline: (state == RunState::Running).then(|| self.deadline(spec, calendar, slot, origin)),
            session_date: moment.session,
            phase: moment.phase.to_string(),
            calendar_version: calendar.version().to_owned(),
        }
    }

    /// A slot that is on time must be done by its own deadline; one that is run late keeps a fair share of time; the run at
    /// start may go on trying until the schedule takes over.
    fn deadline(&self, spec: &JobSpec, calendar: &Calendar, slot: DateTime<Utc>, origin: Origin) -> DateTime<Utc> {
        let now = self.clock.now();
        match origin {
            Origin::Scheduled => slot + spec.deadline,
            Origin::ColdStart => spec.trigger.next_after(calendar, now).max(now + SHORTEST_COLD_START),
            Origin::Catchup | Origin::Manual | Origin::Api => now + spec.deadline,
        }
    }

    /// Claims a run outside the schedule, due now: asked for by a person or a caller, or needed at start.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_now(&self, spec: &JobSpec, origin: Origin) -> Result<Option<Ticket>, StoreError> {
        let row = self.row(spec, &self.calendar.load(), self.clock.now(), origin, RunState::Running, None);
        let ticket = ticket_of(spec, &row);
        let claimed = self.store.claim_runs(&[row]).await?;
        Ok((!claimed.is_empty()).then_some(ticket))
    }

    /// Writes down how an attempt ended. A loser of the fence changes nothing and says so.
    pub async fn finish(&self, ticket: &Ticket, result: &Result<Report, JobError>) {
        let finished_at = self.clock.now();
        let (state, error, stats) = match result {
            Ok(report) => (RunState::Ok, None, Some(report.to_string())),
            Err(fault) => (RunState::Failed, Some(fault.to_string()), None),
        };
        let finish = Finish { state, reason: None, error, stats, finished_at };
        let duration_ms = (finished_at - ticket.started_at).num_milliseconds();
        metrics::job_finished(ticket.job, state.name(), finished_at, finished_at - ticket.started_at);
        match self.store.finish_run(ticket.context.id, ticket.attempt, &finish).await {
            Ok(true) => match result {
                Ok(report) => info!(slot = %ticket.context.slot, duration_ms, report = %report, "{} done", ticket.job),
                Err(fault) => error!(slot = %ticket.context.slot, duration_ms, error = %fault, "{} failed", ticket.job),
            },
            Ok(false) => {
                warn!(attempt = ticket.attempt, "the run was taken over by another attempt; its end is theirs to write")
            }
            Err(fault) => error!(
                error = %fault,
                "the end of the run could not be written; it will be found abandoned and done again, which changes nothing twice"
            ),
        }
    }

    /// Gives up a run whose process ended.
    pub(super) async fn give_up(&self, run: &JobRun, reason: String) -> Result<(), StoreError> {
        let finished_at = self.clock.now();
        let finish = Finish { state: RunState::Lost, reason: Some(reason), error: None, stats: None, finished_at };
        self.store.finish_run(run.id, run.attempt, &finish).await.map(|_| ())
    }
}

pub(super) fn ticket_of(spec: &JobSpec, row: &NewRun) -> Ticket {
    let deadline = row.deadline.unwrap_or(row.claimed_at + spec.deadline);
    let context = RunContext {
        id: row.id,
        slot: row.scheduled_for,
        deadline,
        origin: row.origin,
        stop: CancellationToken::new(),
    };
    Ticket { job: spec.name, context, attempt: 1, started_at: row.claimed_at }
}
