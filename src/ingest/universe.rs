//! The universe of the running daemon: swapped whole, so that a cycle has one from its first request to its last.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::clock::SharedClock;
use crate::market::Universe;

/// A universe, and what is known of it.
#[derive(Debug, Clone)]
pub struct CurrentUniverse {
    /// What is quoted.
    pub universe: Arc<Universe>,
    /// Where it comes from: `built-in`, `file` or `directories`.
    pub source: &'static str,
    /// When its source was last read; `None` for one that was never.
    pub refreshed_at: Option<DateTime<Utc>>,
    /// When the oldest of the lists it comes from was made, by its own word; `None` where none says so.
    pub made_at: Option<DateTime<Utc>>,
    /// Which version of the stored list it is; 0 before the first.
    pub revision: i64,
}

/// Holds the newest [`CurrentUniverse`]. A snapshot keeps the one it was made with.
#[derive(Debug)]
pub struct SharedUniverse {
    current: ArcSwap<CurrentUniverse>,
    settled: watch::Sender<bool>,
}

impl SharedUniverse {
    /// Begins with `current`. One that is not `settled` stands in for a list that is being fetched for the first time.
    pub fn new(current: CurrentUniverse, settled: bool) -> Self {
        Self { current: ArcSwap::from_pointee(current), settled: watch::Sender::new(settled) }
    }

    /// What is quoted now.
    pub fn load(&self) -> Arc<CurrentUniverse> {
        self.current.load_full()
    }

    /// Goes on with another one.
    pub fn swap(&self, next: CurrentUniverse) {
        self.current.store(Arc::new(next));
        self.settle();
    }

    /// Nothing better is to be had for now.
    pub fn settle(&self) {
        self.settled.send_replace(true);
    }

    /// Whether the list has been looked for.
    pub fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Waits until the list has been looked for, `longest` at most: the first cycle of a new installation should not quote the
    /// stand-in.
    pub async fn settled(&self, clock: &SharedClock, longest: Duration) {
        let mut settled = self.settled.subscribe();
        tokio::select! {
            _ = settled.wait_for(|settled| *settled) => {}
            // Once is enough: whoever comes later goes on with what there is.
            () = clock.sleep(longest) => self.settle(),
        }
    }
}
