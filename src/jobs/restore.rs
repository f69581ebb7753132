//! What the market data of this process begins with: what the one before it has shown, and what others on the same database show.

use std::sync::Arc;

use tracing::{info, warn};

use super::market_data::{MarketData, lock};
use super::write_behind::KeepError;
use crate::ingest::gate::not_refreshed;
use crate::market::{Columns, Quote, Snapshot, Universe};
use crate::store::{CycleRecord, StoreError, StoredQuote};

impl MarketData {
    /// Stores what the daemon before this one had shown and not stored, and shows what was last stored.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub async fn recover(&self) -> Result<bool, KeepError> {
        self.behind.recover().await?;
        Ok(self.restore().await?)
    }

    /// Shows what was last stored, with its age. `false`: there is nothing, or nothing of this source.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn restore(&self) -> Result<bool, StoreError> {
        let stored = self.stored_cycle().await?;
        self.take_over(stored).await
    }

    async fn take_over(&self, stored: Option<(CycleRecord, Vec<StoredQuote>)>) -> Result<bool, StoreError> {
        self.dormancy.restore().await?;
        *lock(&self.attempts) = super::why::recall(&self.store).await?;
        self.history.load().await?;
        let Some((mut record, stored)) = stored else { return Ok(false) };
        // What a wrong clock dated into the future must not outrank every cycle until then.
        let now = self.clock.now();
        record.cycle.slot = record.cycle.slot.min(now);
        record.cycle.as_of = record.cycle.as_of.min(now);
        if record.cycle.source != self.provider.description().source {
            // Simulated prices must not be shown beside real ones, nor one provider's as another's.
            let (stored, chosen) = (record.cycle.source, self.provider.description().source);
            warn!(stored, chosen, "the stored quotes are of another source and are not shown");
            return Ok(false);
        }
        let universe = Arc::clone(&self.universe.load().universe);
        let mut quotes = vec![None; universe.len()];
        let last = record.cycle.id.to_string();
        // A quote of an earlier session is not fresh, whichever cycle brought it.
        let session_start = self.quotes_count_from(record.cycle.finished_at);
        for StoredQuote { symbol, quote, cycle_id } in stored {
            if let Some(index) = universe.position(&symbol) {
                let fresh = cycle_id == last && quote.at >= session_start;
                quotes[index] = Some(if fresh { quote } else { not_refreshed(quote) });
            }
        }
        self.keep_newer(&universe, &mut quotes);
        *lock(&self.delayed) = record.delayed;
        let shown = quotes.iter().flatten().count();
        let quotes = self.history.beside(Columns::of(&quotes), &universe);
        let snapshot = Snapshot { universe, quotes, cycle: record.cycle };
        let as_of = snapshot.cycle.as_of;
        let (statistics, _) = self.count(&snapshot);
        self.show(self.prepare(Arc::new(snapshot), Arc::new(statistics)));
        info!(%as_of, symbols = shown, "the last stored quotes are served");
        Ok(true)
    }

    /// The newest cycle with the quotes that there are. `None`: there is none, or it is not whole yet.
    ///
    /// Another instance may be storing cycles at this moment: one may come between the two questions, and what it stores late leaves
    /// out what a later one, which is yet to be stored, knows better.
    async fn stored_cycle(&self) -> Result<Option<(CycleRecord, Vec<StoredQuote>)>, StoreError> {
        let Some(record) = self.store.last_cycle().await? else { return Ok(None) };
        let quotes = self.store.quotes().await?;
        let brought = || {
            let id = record.cycle.id.to_string();
            quotes.iter().filter(|stored| stored.cycle_id == id).count()
        };
        let is_whole = self.store.is_exclusive() || brought() >= record.cycle.fresh as usize;
        Ok(is_whole.then_some((record, quotes)))
    }

    /// What this process shows and the database does not have yet is not taken back.
    fn keep_newer(&self, universe: &Universe, quotes: &mut [Option<Quote>]) {
        let Some(published) = self.board.current() else { return };
        let snapshot = &published.snapshot;
        for (listing, stored) in universe.listings().iter().zip(quotes) {
            let shown = snapshot.universe.position(&listing.symbol).and_then(|index| snapshot.quotes.get(index));
            if let Some(shown) = shown.filter(|shown| stored.is_none_or(|stored| stored.at < shown.at)) {
                *stored = Some(not_refreshed(shown));
            }
        }
    }

    /// Shows a cycle that another instance on the same database has stored, so that every instance serves the newest one.
    ///
    /// # Errors
    /// When the database fails; readers keep what they have.
    pub async fn adopt_newer(&self) -> Result<(), StoreError> {
        if self.store.is_exclusive() {
            return Ok(());
        }
        let Some(stored) = self.store.last_cycle().await?.map(|record| record.cycle) else { return Ok(()) };
        let newer = self.board.current().is_none_or(|published| {
            let shown = &published.snapshot.cycle;
            stored.id != shown.id && stored.slot > shown.slot
        });
        if newer && stored.source == self.provider.description().source {
            // It is looked at each second: nothing else is read anew as long as the cycle is not whole.
            let whole = self.stored_cycle().await?;
            if whole.is_some() {
                self.take_over(whole).await?;
            }
        }
        Ok(())
    }
}
