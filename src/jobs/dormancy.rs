//! The negative cache of the running daemon, kept in the database.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{info, warn};

use crate::ingest::{Fetched, Learned, NegativeCache, Wanted};
use crate::market::Universe;
use crate::metrics;
use crate::store::{Store, StoreError};

/// The most symbols that a line of the log names.
const NAMED: usize = 20;

/// Which symbols are asked for, and what is learned from the answers.
#[derive(Debug)]
pub struct Dormancy {
    store: Store,
    cadence: TimeDelta,
    /// A provider that answers for the whole market at once is asked for all of it: that costs nothing.
    whole_market: bool,
    cache: Mutex<NegativeCache>,
}

impl Dormancy {
    /// Nothing is known yet.
    pub fn new(store: Store, cadence: TimeDelta, whole_market: bool) -> Self {
        Self { store, cadence, whole_market, cache: Mutex::default() }
    }

    /// Takes over what was kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn restore(&self) -> Result<(), StoreError> {
        let kept = self.store.dormant_symbols().await?;
        *self.cache() = NegativeCache::of(kept);
        Ok(())
    }

    /// What is asked for in the cycle of `slot`.
    pub fn wanted(&self, universe: &Universe, slot: DateTime<Utc>, session_start: DateTime<Utc>) -> Wanted {
        if self.whole_market {
            return Wanted::from((0..universe.len()).collect::<Vec<_>>());
        }
        self.cache().wanted(universe, slot, session_start)
    }

    /// Takes in what a cycle brought in the session that began at `session_start`, and gives what is to be kept of it once the
    /// cycle is shown.
    pub fn learn(
        &self,
        universe: &Universe,
        fetched: &Fetched,
        slot: DateTime<Utc>,
        session_start: DateTime<Utc>,
    ) -> Learned {
        let mut learned = self.cache().learn(universe, fetched, slot, session_start, self.cadence);
        metrics::symbols_dormant(self.count(universe));
        for (what, symbols) in [("fell silent", &learned.fell_asleep), ("are no more dormant", &learned.awake)] {
            if !symbols.is_empty() {
                let first = symbols.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
                info!(symbols = symbols.len(), first, "symbols {what}");
            }
        }
        if self.whole_market {
            // Each of them is asked for in each cycle: only that it fell silent is worth a row.
            learned.dormant.retain(|silent| learned.fell_asleep.contains(&silent.symbol));
        }
        learned
    }

    /// Keeps what was learned. What cannot be kept is known until the next start.
    pub async fn keep(&self, learned: &Learned) {
        if (!learned.dormant.is_empty() || !learned.awake.is_empty())
            && let Err(fault) = self.store.save_dormant_symbols(&learned.dormant, &learned.awake).await
        {
            warn!(error = %fault, "dormant symbols could not be kept; a restart would ask for each of them again");
        }
    }

    /// How many are dormant.
    pub fn count(&self, universe: &Universe) -> usize {
        self.cache().dormant(universe).count()
    }

    /// The first of them, by name.
    pub fn first(&self, universe: &Universe, most: usize) -> Vec<String> {
        self.cache().dormant(universe).take(most).map(|silent| silent.symbol.clone()).collect()
    }

    /// How many are not expected in the session that began at `session_start`.
    pub fn not_expected(&self, universe: &Universe, session_start: DateTime<Utc>) -> usize {
        self.cache().not_expected(universe, session_start)
    }

    fn cache(&self) -> MutexGuard<'_, NegativeCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
