//! The door of the inbox: deliveries that wait at the same moment are stored by one transaction, and each is told once that is
//! durable.
//!
//! A commit that reaches the disk takes as long for one row as for a hundred, so whoever comes while one is under way goes into the
//! next. Nothing is acknowledged before, and what does not fit is refused, never dropped.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::clock::SharedClock;
use crate::metrics;
use crate::store::{Intake, NewEvent, NewRefusal, Store, StoreError};

/// Deliveries that may wait for a commit.
const MOST_WAITING: usize = 2_048;

/// Deliveries of one transaction.
const MOST_AT_ONCE: usize = 256;

/// Refusals that are written down in one go; what comes beside them within [`REFUSALS_EVERY`] is only counted.
const REFUSALS_AT_ONCE: usize = 100;

/// How often refusals are written down.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);

/// Refusals that are kept, and for how long.
pub const MOST_REFUSALS: u32 = 10_000;
/// See [`MOST_REFUSALS`].
pub const REFUSALS_KEPT: TimeDelta = TimeDelta::days(30);

/// The old ones are looked for after so many new ones.
const REFUSALS_BETWEEN_PRUNES: usize = 1_000;

/// Why a delivery was not stored; it should be sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// Too many wait already.
    #[error("too many deliveries wait to be stored")]
    Full,
    /// The database could not do it, or the daemon ends.
    #[error("{0}")]
    Unavailable(String),
}

struct Waiting {
    event: NewEvent,
    answer: oneshot::Sender<Result<Intake, NotStored>>,
}

/// Where deliveries are handed in.
#[derive(Debug, Clone)]
pub struct Inbox {
    events: mpsc::Sender<Waiting>,
    refusals: mpsc::Sender<NewRefusal>,
    nudge: Arc<Notify>,
}

impl Inbox {
    /// Starts the tasks that write, on `tasks`, until `stop`; what was handed in by then is still stored.
    pub fn start(store: &Store, clock: &SharedClock, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let (events, waiting) = mpsc::channel(MOST_WAITING);
        let (refusals, refused) = mpsc::channel(REFUSALS_AT_ONCE);
        let nudge = Arc::new(Notify::new());
        tasks.spawn(write(store.clone(), waiting, Arc::clone(&nudge), stop.clone()));
        tasks.spawn(write_refusals(store.clone(), Arc::clone(clock), refused, stop.clone()));
        Self { events, refusals, nudge }
    }

    /// Stores an event that was found genuine. Once this returns well it is durable.
    ///
    /// # Errors
    /// When it is not stored, as far as that can be told.
    pub async fn accept(&self, event: NewEvent) -> Result<Intake, NotStored> {
        let (answer, answered) = oneshot::channel();
        self.events.try_send(Waiting { event, answer }).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(_) => NotStored::Full,
            mpsc::error::TrySendError::Closed(_) => NotStored::Unavailable("the daemon ends".to_owned()),
        })?;
        answered.await.unwrap_or_else(|_| Err(NotStored::Unavailable("the daemon ends".to_owned())))
    }

    /// Keeps what was not believed, as far as there is room: strangers decide how many there are.
    pub fn refuse(&self, refusal: NewRefusal) {
        if self.refusals.try_send(refusal).is_err() {
            debug!("a refusal was only counted: many come at once");
        }
    }

    /// Says that something is there to be applied.
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.nudge)
    }
}

async fn write(store: Store, mut waiting: mpsc::Receiver<Waiting>, nudge: Arc<Notify>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(MOST_AT_ONCE);
    loop {
        tokio::select! {
            biased;
            count = waiting.recv_many(&mut batch, MOST_AT_ONCE) => if count == 0 { return },
            // What has been handed in is received first.
            () = stop.cancelled(), if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
        }
        store_batch(&store, std::mem::take(&mut batch)).await;
        nudge.notify_one();
    }
}

async fn store_batch(store: &Store, batch: Vec<Waiting>) {
    let (events, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.event, one.answer)).unzip();
    metrics::webhook_batch(events.len());
    match store.take_in(&events).await {
        Ok(results) => {
            for (answer, result) in answers.into_iter().zip(results) {
                let _ = answer.send(Ok(result));
            }
        }
        // The database spoke: one of them may be to blame, and must not take the others along.
        Err(StoreError::Database(fault)) if fault.as_database_error().is_some() && events.len() > 1 => {
            warn!(error = %fault, events = events.len(), "deliveries could not be stored together; each is tried alone");
            for (event, answer) in events.iter().zip(answers) {
                let stored = store.take_in(std::slice::from_ref(event)).await;
                let _ = answer.send(stored.map_err(|fault| unavailable(&fault)).and_then(|one| {
                    one.first().copied().ok_or_else(|| NotStored::Unavailable("nothing was stored".to_owned()))
                }));
            }
        }
        Err(fault) => {
            let not_stored = unavailable(&fault);
            warn!(error = %fault, events = events.len(), "deliveries could not be stored; their sender is told to send them again");
            for answer in answers {
                let _ = answer.send(Err(not_stored.clone()));
            }
        }
    }
}

fn unavailable(fault: &StoreError) -> NotStored {
    NotStored::Unavailable(fault.to_string())
}

async fn write_refusals(
    store: Store,
    clock: SharedClock,
    mut refused: mpsc::Receiver<NewRefusal>,
    stop: CancellationToken,
) {
    let (mut batch, mut since_prune) = (Vec::new(), 0);
    loop {
        tokio::select! {
            count = refused.recv_many(&mut batch, REFUSALS_AT_ONCE) => if count == 0 { return },
            () = stop.cancelled() => return,
        }
        since_prune += batch.len();
        if let Err(fault) = store.keep_refusals(&std::mem::take(&mut batch)).await {
            warn!(error = %fault, "refused deliveries could not be written down; they are counted");
        }
        if since_prune >= REFUSALS_BETWEEN_PRUNES {
            since_prune = 0;
            if let Err(fault) = store.prune_refusals(clock.now() - REFUSALS_KEPT, MOST_REFUSALS).await {
                warn!(error = %fault, "old refusals could not be forgotten");
            }
        }
        tokio::select! {
            () = clock.pause(REFUSALS_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}
