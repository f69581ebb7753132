//! What the planner is doing, for health, metrics and the operator.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The planner's own account; cheap to read, never waits for it.
#[derive(Debug, Default)]
pub struct Status(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    looked: Option<Duration>,
    ledger_fault: Option<String>,
    next: BTreeMap<&'static str, DateTime<Utc>>,
    /// Runs that live in this process: those of the planner hold back the next slot of their job.
    live: HashMap<Uuid, (&'static str, Place)>,
}

/// Who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The planner, for a slot.
    Planner,
    /// Somebody who asked for it beside the schedule.
    Beside,
}

/// Counts a run as living in this process for as long as this is held, whatever ends it.
#[derive(Debug)]
pub struct Living {
    status: Arc<Status>,
    id: Uuid,
}

impl Living {
    /// The run `id` of `job` lives here from now on.
    pub fn begin(status: &Arc<Status>, job: &'static str, id: Uuid, place: Place) -> Self {
        status.lock().live.insert(id, (job, place));
        Self { status: Arc::clone(status), id }
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.status.lock().live.remove(&self.id);
    }
}

impl Status {
    /// Monotonic time at which the last finished look at the schedule began, whether or not the database answered; `None`
    /// before the first.
    pub fn last_look(&self) -> Option<Duration> {
        self.lock().looked
    }

    /// Why the ledger cannot be written at the moment, if so.
    pub fn ledger_fault(&self) -> Option<String> {
        self.lock().ledger_fault.clone()
    }

    /// Runs under way in this process.
    pub fn running(&self) -> usize {
        self.lock().live.len()
    }

    pub(super) fn live_runs(&self) -> Vec<Uuid> {
        self.lock().live.keys().copied().collect()
    }

    pub(super) fn next_slot(&self) -> Option<DateTime<Utc>> {
        self.lock().next.values().min().copied()
    }

    pub(super) fn looked(&self, at: Duration) {
        self.lock().looked = Some(at);
    }

    /// Keeps the fault and says whether it is news.
    pub(super) fn set_ledger_fault(&self, fault: Option<String>) -> bool {
        let mut inner = self.lock();
        let news = inner.ledger_fault.is_some() != fault.is_some();
        inner.ledger_fault = fault;
        news
    }

    pub(super) fn set_next(&self, job: &'static str, next: DateTime<Utc>) {
        self.lock().next.insert(job, next);
    }

    pub(super) fn is_running(&self, job: &'static str) -> bool {
        self.lock().live.values().any(|live| *live == (job, Place::Planner))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
