//! The board: what readers see, swapped whole.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};

use crate::market::{Bodies, Meta, Snapshot, Statistics};

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

/// Holds the newest [`Published`]. Readers take a reference and never wait; a state is never changed in place, and never
/// replaced by one of an older cycle.
#[derive(Debug, Default)]
pub struct Board {
    current: ArcSwapOption<Published>,
    /// Publishers take turns, so that looking at the current cycle and replacing it are one step.
    turn: Mutex<()>,
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

    /// Shows `published`, unless something newer is shown already; says whether it did.
    pub fn publish(&self, published: Published) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = |state: &Published| (state.snapshot.cycle.slot, state.meta.rendered_at);
        if self.current.load().as_ref().is_some_and(|current| rank(current) > rank(&published)) {
            return false;
        }
        self.current.store(Some(Arc::new(published)));
        true
    }
}
