//! What the planner is doing, for health, metrics and the operator.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// In place of a count of ticks.
const ENDED: u64 = u64::MAX;

/// The planner's own account; cheap to read, never waits for it.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Inner>,
    /// Grows as long as the planner's task is run at all, also while it waits for the database.
    ticks: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    looked: Option<Duration>,
    ledger_fault: Option<String>,
    plans: bool,
    waiting: bool,
    live: HashMap<Uuid, Live>,
    /// When each job last ended well, as far as this process knows.
    successes: HashMap<String, DateTime<Utc>>,
}

/// A run that lives in this process.
#[derive(Debug)]
struct Live {
    job: &'static str,
    place: Place,
    stop: CancellationToken,
    /// Who asked for its end, where somebody did.
    cancelled_by: Option<String>,
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
    /// The run `id` of `job` lives here from now on, and ends when `stop` is cancelled.
    pub fn begin(status: &Arc<Status>, job: &'static str, id: Uuid, place: Place, stop: CancellationToken) -> Self {
        status.lock().live.insert(id, Live { job, place, stop, cancelled_by: None });
        Self { status: Arc::clone(status), id }
    }

    /// Who asked for the end of the run, if anybody has.
    pub fn cancelled_by(&self) -> Option<String> {
        self.status.lock().live.get(&self.id).and_then(|live| live.cancelled_by.clone())
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

    /// Whether this instance planned at its last look.
    pub fn plans(&self) -> bool {
        self.lock().plans
    }

    /// Runs under way in this process.
    pub fn running(&self) -> usize {
        self.lock().live.len()
    }

    pub(super) fn succeeded(&self, job: &str, at: DateTime<Utc>) {
        let mut inner = self.lock();
        match inner.successes.get_mut(job) {
            Some(last) => *last = at.max(*last),
            None => {
                inner.successes.insert(job.to_owned(), at);
            }
        }
    }

    pub(super) fn last_success(&self, job: &str) -> Option<DateTime<Utc>> {
        self.lock().successes.get(job).copied()
    }

    /// A number that grows at least each second while the planner's task is alive; `None` once it was ended on purpose.
    pub fn ticks(&self) -> Option<u64> {
        Some(self.ticks.load(Ordering::Relaxed)).filter(|ticks| *ticks != ENDED)
    }

    pub(super) fn ended(&self) {
        self.ticks.store(ENDED, Ordering::Relaxed);
    }

    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_live(&self, id: Uuid) -> bool {
        self.lock().live.contains_key(&id)
    }

    /// Tells a run that lives here to end. `false`: it does not, or was told before.
    pub(super) fn cancel(&self, id: Uuid, by: &str) -> bool {
        let mut inner = self.lock();
        let Some(live) = inner.live.get_mut(&id).filter(|live| live.cancelled_by.is_none()) else { return false };
        live.cancelled_by = Some(by.to_owned());
        live.stop.cancel();
        true
    }

    pub(super) fn looked(&self, at: Duration, plans: bool) {
        let mut inner = self.lock();
        inner.looked = Some(at);
        inner.plans = plans;
    }

    /// Whether runs wait for their turn, so that the end of another is worth a look.
    pub(super) fn set_waiting(&self, waiting: bool) {
        self.lock().waiting = waiting;
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.lock().waiting
    }

    /// Keeps the fault and says whether it is news.
    pub(super) fn set_ledger_fault(&self, fault: Option<String>) -> bool {
        let mut inner = self.lock();
        let news = inner.ledger_fault.is_some() != fault.is_some();
        inner.ledger_fault = fault;
        news
    }

    /// Whether the planner has a run of `job` under way here.
    pub fn is_running(&self, job: &str) -> bool {
        self.lock().live.values().any(|live| live.job == job && live.place == Place::Planner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
