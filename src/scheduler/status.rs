//! What the planner is doing, for health, metrics and the operator.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

/// The planner's own account; cheap to read, never waits for it.
#[derive(Debug, Default)]
pub struct Status(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    looked: Option<Duration>,
    ledger_fault: Option<String>,
    jobs: BTreeMap<&'static str, JobStatus>,
}

/// One job as the planner sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobStatus {
    /// The next slot.
    pub next: Option<DateTime<Utc>>,
    /// Runs under way.
    pub running: usize,
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

    /// Each job by name.
    pub fn jobs(&self) -> BTreeMap<&'static str, JobStatus> {
        self.lock().jobs.clone()
    }

    /// Runs under way, of all jobs.
    pub fn running(&self) -> usize {
        self.lock().jobs.values().map(|job| job.running).sum()
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
        self.lock().jobs.entry(job).or_default().next = Some(next);
    }

    pub(super) fn started(&self, job: &'static str) {
        self.lock().jobs.entry(job).or_default().running += 1;
    }

    pub(super) fn ended(&self, job: &'static str) {
        let mut inner = self.lock();
        let running = &mut inner.jobs.entry(job).or_default().running;
        *running = running.saturating_sub(1);
    }

    pub(super) fn is_running(&self, job: &'static str) -> bool {
        self.lock().jobs.get(job).is_some_and(|job| job.running > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
