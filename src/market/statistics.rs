//! Counts and rankings over a snapshot, computed once a cycle.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Listing, Quote, Snapshot};

/// The longest ranking that is kept, and so the largest `limit`.
pub const LONGEST_RANKING: usize = 100;

/// Which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranking {
    /// Largest rise in percent first.
    TopGainers,
    /// Largest fall in percent first.
    TopLosers,
    /// Largest volume first.
    MostActive,
}

/// What is said about a market as a whole. A symbol without a quote is not counted; one without a known change is counted in
/// the totals only.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Symbols with a quote.
    pub total_stocks: usize,
    /// Of them on the New York Stock Exchange.
    pub nyse_stocks: usize,
    /// Of them on NASDAQ.
    pub nasdaq_stocks: usize,
    /// Above the previous close.
    pub gainers: usize,
    /// Below it.
    pub losers: usize,
    /// At it.
    pub unchanged: usize,
    /// The same by sector, in order of their names; symbols of no known sector are left out.
    pub sectors: Vec<SectorStatistics>,
    /// Indices of the universe, best first.
    pub top_gainers: Vec<usize>,
    /// Indices of the universe, best first.
    pub top_losers: Vec<usize>,
    /// Indices of the universe, best first.
    pub most_active: Vec<usize>,
}

/// One sector.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SectorStatistics {
    /// Its name.
    pub sector: String,
    /// Symbols with a quote.
    pub total: usize,
    /// Above the previous close.
    pub gainers: usize,
    /// Below it.
    pub losers: usize,
    /// At it.
    pub unchanged: usize,
    /// Mean change in percent, each symbol alike, to four places; `null` where no change is known.
    pub average_change_percent: Option<f64>,
    #[serde(skip)]
    changes: (f64, usize),
}

impl Statistics {
    /// Counts and ranks.
    pub fn compute(snapshot: &Snapshot) -> Self {
        let mut statistics = Self {
            total_stocks: 0,
            nyse_stocks: 0,
            nasdaq_stocks: 0,
            gainers: 0,
            losers: 0,
            unchanged: 0,
            sectors: Vec::new(),
            top_gainers: Vec::new(),
            top_losers: Vec::new(),
            most_active: Vec::new(),
        };
        let mut sectors: BTreeMap<&str, SectorStatistics> = BTreeMap::new();
        let mut changes = Vec::with_capacity(snapshot.quotes.len());
        let mut volumes = Vec::with_capacity(snapshot.quotes.len());
        for (index, (listing, quote)) in snapshot.universe.listings().iter().zip(&snapshot.quotes).enumerate() {
            let Some(quote) = quote else { continue };
            statistics.count(listing, quote);
            if !listing.sector.is_empty() {
                sectors.entry(&listing.sector).or_default().count(quote);
            }
            if let Some(percent) = quote.change_percent() {
                changes.push((percent, index));
            }
            if let Some(volume) = quote.volume.filter(|volume| *volume > 0) {
                volumes.push((volume as f64, index));
            }
        }
        statistics.sectors = sectors.into_iter().map(|(name, sector)| sector.named(name)).collect();
        let up: Vec<_> = changes.iter().copied().filter(|(percent, _)| *percent > 0.0).collect();
        let down: Vec<_> =
            changes.iter().filter(|(percent, _)| *percent < 0.0).map(|(p, index)| (-p, *index)).collect();
        statistics.top_gainers = best(up);
        statistics.top_losers = best(down);
        statistics.most_active = best(volumes);
        statistics
    }

    /// The indices of one ranking, best first.
    pub fn ranked(&self, ranking: Ranking) -> &[usize] {
        match ranking {
            Ranking::TopGainers => &self.top_gainers,
            Ranking::TopLosers => &self.top_losers,
            Ranking::MostActive => &self.most_active,
        }
    }

    fn count(&mut self, listing: &Listing, quote: &Quote) {
        self.total_stocks += 1;
        self.nyse_stocks += usize::from(listing.exchange == "NYSE");
        self.nasdaq_stocks += usize::from(listing.exchange == "NASDAQ");
        if let Some(change) = quote.change() {
            match change.units().cmp(&0) {
                Ordering::Greater => self.gainers += 1,
                Ordering::Less => self.losers += 1,
                Ordering::Equal => self.unchanged += 1,
            }
        }
    }
}

impl SectorStatistics {
    fn count(&mut self, quote: &Quote) {
        self.total += 1;
        let Some(change) = quote.change() else { return };
        match change.units().cmp(&0) {
            Ordering::Greater => self.gainers += 1,
            Ordering::Less => self.losers += 1,
            Ordering::Equal => self.unchanged += 1,
        }
        if let Some(percent) = quote.change_percent() {
            self.changes.0 += percent;
            self.changes.1 += 1;
        }
    }

    fn named(mut self, name: &str) -> Self {
        let (sum, count) = self.changes;
        name.clone_into(&mut self.sector);
        self.average_change_percent = (count > 0).then(|| (sum / count as f64 * 1e4).round() / 1e4);
        self
    }
}

/// The indices of the largest values, largest first, ties in order of the symbols. Only what is kept is sorted.
fn best(mut candidates: Vec<(f64, usize)>) -> Vec<usize> {
    let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if candidates.len() > LONGEST_RANKING {
        candidates.select_nth_unstable_by(LONGEST_RANKING, order);
        candidates.truncate(LONGEST_RANKING);
    }
    candidates.sort_unstable_by(order);
    candidates.into_iter().map(|(_, index)| index).collect()
}
