//! Which of the instances on one database plans: a lease by the clock of the database, renewed long before it ends.
//!
//! It goes by real time whatever clock the schedule runs on, because the database does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock::{SharedClock, SystemClock};
use crate::metrics;
use crate::store::{Store, StoreError, Term};

/// How often an instance that does not plan asks for the lease.
const STANDBY_ASKS: Duration = Duration::from_secs(1);

/// The lease as one process has it.
#[derive(Debug)]
pub struct Leadership {
    store: Store,
    owner: String,
    span: Duration,
    clock: SharedClock,
    /// Our term, and the time since boot up to which it is trusted without asking.
    held: Mutex<Option<(Term, Duration)>>,
    /// Whether it was given back; held while the database is asked.
    resigned: AsyncMutex<bool>,
    /// Told by others on the database that there is something to look at.
    word: Notify,
}

impl Leadership {
    /// Does not hold it yet. A lease ends `span` after it was last renewed.
    pub fn new(store: Store, owner: String, span: Duration) -> Self {
        let clock = SystemClock::start();
        Self { store, owner, span, clock, held: Mutex::default(), resigned: AsyncMutex::default(), word: Notify::new() }
    }

    /// The term, as long as it may be trusted: two thirds of the lease from when its last renewal was *begun*, so that a
    /// process which slept, or whose database went silent, stops before anybody else may begin.
    pub fn term(&self) -> Option<Term> {
        let now = self.clock.boottime();
        self.lock().as_ref().filter(|(_, trusted)| now < *trusted).map(|(term, _)| term.clone())
    }

    /// Forgets the term: a write has shown that somebody else holds the lease.
    pub(super) fn deposed(&self) {
        if let Some((term, _)) = self.lock().take() {
            metrics::leader(false, term.epoch);
            warn!(epoch = term.epoch, "another instance has taken over the planning");
        }
    }

    /// Renews the lease if it is ours, else asks for it. Gives whether it is ours.
    ///
    /// # Errors
    /// When the database fails; the term ends by itself if that goes on.
    pub async fn contend(&self) -> Result<bool, StoreError> {
        // One word at a time: a renewal under way must not come after the lease was given back.
        let resigned = self.resigned.lock().await;
        if *resigned {
            return Ok(false);
        }
        let trusted = self.clock.boottime() + self.span * 2 / 3;
        let ours = self.lock().as_ref().map(|(term, _)| term.clone());
        if let Some(term) = ours {
            if self.store.renew_lease(&term, self.span).await? {
                *self.lock() = Some((term, trusted));
                return Ok(true);
            }
            self.deposed();
        }
        let Some(term) = self.store.take_lease(&self.owner, self.span).await? else { return Ok(false) };
        info!(epoch = term.epoch, "this instance plans");
        metrics::leader(true, term.epoch);
        *self.lock() = Some((term, trusted));
        Ok(true)
    }

    /// Contends until `stop`, and nudges the planner when something changed or somebody said so.
    pub async fn keep(self: Arc<Self>, planner: Arc<Notify>, stop: CancellationToken) {
        let listening = self.listen(&stop);
        let contending = async {
            loop {
                let ours = self.contend().await.unwrap_or_else(|fault| {
                    debug!(error = %fault, "the lease could not be asked for");
                    false
                });
                planner.notify_one();
                let pause = if ours { self.span / 3 } else { STANDBY_ASKS.min(self.span / 3) };
                tokio::select! {
                    () = self.clock.beat(pause) => {}
                    () = self.word.notified() => {}
                    () = stop.cancelled() => return,
                }
            }
        };
        tokio::join!(listening, contending);
    }

    /// Hears from the others until `stop`; begins again where the connection breaks.
    async fn listen(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(fault) = self.store.listen(&self.word, stop).await {
                debug!(error = %fault, "other instances cannot be heard; what they say is found within a second");
            }
            tokio::select! {
                () = self.clock.beat(self.span / 3) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Gives the lease back, so that another instance can plan at once; it is not asked for any more.
    pub async fn resign(&self) {
        let mut resigned = self.resigned.lock().await;
        *resigned = true;
        let Some((term, _)) = self.lock().take() else { return };
        metrics::leader(false, term.epoch);
        if let Err(fault) = self.store.resign_lease(&term).await {
            warn!(error = %fault, "the lease could not be given back; it ends by itself");
        }
    }

    /// How long a process must have been silent for its runs to count as abandoned.
    pub(super) fn silence(&self) -> Duration {
        self.span * 4 / 3
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Term, Duration)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
