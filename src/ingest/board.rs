//! The board: what readers see, swapped whole.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use uuid::Uuid;

use crate::market::{Bodies, Meta, Snapshot, StateId, Statistics};

/// One published state: the numbers, what is said about them, and the bodies rendered from both.
#[derive(Debug)]
pub struct Published {
    /// Quotes and their cycle.
    pub snapshot: Arc<Snapshot>,
    /// Computed from them once.
    pub statistics: Arc<Statistics>,
    /// What readers are told beside the numbers.
    pub meta: Meta,
    /// The hot answers, ready.
    pub bodies: Bodies,
    /// When the next cycle is due: until then nothing will change.
    pub next_cycle: DateTime<Utc>,
}

impl Published {
    /// Names it, newer ones greater.
    pub fn id(&self) -> StateId {
        StateId { slot: self.snapshot.cycle.slot, rendered_at: self.meta.rendered_at }
    }
}

/// Cycles that are kept after they were replaced, for clients that are between two pages of one of them.
const KEPT_CYCLES: usize = 2;

/// Holds the newest [`Published`]. Readers take a reference and never wait; a state is never changed in place, and never
/// replaced by one of an older cycle.
#[derive(Debug, Default)]
pub struct Board {
    current: ArcSwapOption<Published>,
    /// Publishers take turns, so that looking at the current cycle and replacing it are one step.
    turn: Mutex<()>,
    /// The last states of the cycles before, newest first.
    before: Mutex<Vec<Arc<Published>>>,
    changed: watch::Sender<()>,
}

impl Board {
    /// The newest state, or `None` before the first.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.current.load_full()
    }

    /// The same, without taking a share of it: for an answer that is made at once.
    pub fn load(&self) -> arc_swap::Guard<Option<Arc<Published>>> {
        self.current.load()
    }

    /// The last state of `cycle`, if it is shown or was replaced not long ago.
    pub fn of_cycle(&self, cycle: Uuid) -> Option<Arc<Published>> {
        let shown = self.current().filter(|published| published.snapshot.cycle.id == cycle);
        shown.or_else(|| lock(&self.before).iter().find(|published| published.snapshot.cycle.id == cycle).cloned())
    }

    /// Tells of each state that is shown from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Shows `published`, unless something newer is shown already; says whether it did.
    pub fn publish(&self, published: Published) -> bool {
        let _turn = lock(&self.turn);
        let current = self.current();
        if current.as_ref().is_some_and(|current| current.id() > published.id()) {
            return false;
        }
        if let Some(replaced) = current.filter(|current| current.snapshot.cycle.id != published.snapshot.cycle.id) {
            let mut before = lock(&self.before);
            before.insert(0, replaced);
            before.truncate(KEPT_CYCLES);
        }
        self.current.store(Some(Arc::new(published)));
        self.changed.send_replace(());
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
