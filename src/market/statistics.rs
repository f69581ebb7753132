//! Counts and rankings over a snapshot, computed once a cycle.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Column, Listing, MarketPast, Snapshot};

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

/// What is said about a market as a whole. A symbol without a quote is not counted; one without a known change in the session is
/// counted in the totals only, and one that has not traded in it is in no ranking: what it did yesterday is no news of today.
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
    /// How it was in the sessions before, and is in this one. Not computed here: a snapshot does not know its past.
    pub past: MarketPast,
}

/// One sector.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SectorStatistics {
    /// Its name, as the universe spells it.
    pub name: String,
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
}

/// A sector while it is being counted.
#[derive(Default)]
struct SectorTally {
    counts: SectorStatistics,
    /// In units of 0.0001 %.
    sum_of_percents: i128,
    known_percents: usize,
}

impl Statistics {
    /// Counts and ranks. `since` is where the session begins that changes and volumes must belong to.
    pub fn compute(snapshot: &Snapshot, since: DateTime<Utc>) -> Self {
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
            past: MarketPast::default(),
        };
        let mut sectors: BTreeMap<&str, SectorTally> = BTreeMap::new();
        let (mut rises, mut falls, mut volumes) = (Vec::new(), Vec::new(), Vec::new());
        let quotes = &snapshot.quotes;
        for (index, listing) in snapshot.universe.listings().iter().enumerate().filter(|(at, _)| quotes.is_quoted(*at))
        {
            let of_session = |column| quotes.value(column, index).filter(|_| quotes.at(index) >= Some(since));
            // The change itself says which way: a fall of less than the last place of the percentage is still a fall.
            let direction = of_session(Column::Change).map(|change| change.cmp(&0));
            let percent = of_session(Column::ChangePercent);
            statistics.count(listing, direction);
            if !listing.sector.is_empty() {
                sectors.entry(&listing.sector).or_default().count(direction, percent);
            }
            match direction.zip(percent) {
                Some((Ordering::Greater, percent)) => rises.push((percent, index)),
                Some((Ordering::Less, percent)) => falls.push((-percent, index)),
                _ => {}
            }
            if let Some(volume) = of_session(Column::Volume).filter(|volume| *volume > 0) {
                volumes.push((volume, index));
            }
        }
        statistics.sectors = sectors.into_iter().map(|(name, sector)| sector.named(name)).collect();
        statistics.top_gainers = best(rises);
        statistics.top_losers = best(falls);
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

    fn count(&mut self, listing: &Listing, direction: Option<Ordering>) {
        self.total_stocks += 1;
        self.nyse_stocks += usize::from(listing.exchange.eq_ignore_ascii_case("NYSE"));
        self.nasdaq_stocks += usize::from(listing.exchange.eq_ignore_ascii_case("NASDAQ"));
        match direction {
            Some(Ordering::Greater) => self.gainers += 1,
            Some(Ordering::Less) => self.losers += 1,
            Some(Ordering::Equal) => self.unchanged += 1,
            None => {}
        }
    }
}

impl SectorTally {
    fn count(&mut self, direction: Option<Ordering>, percent: Option<i64>) {
        self.counts.total += 1;
        match direction {
            Some(Ordering::Greater) => self.counts.gainers += 1,
            Some(Ordering::Less) => self.counts.losers += 1,
            Some(Ordering::Equal) => self.counts.unchanged += 1,
            None => {}
        }
        if let Some(percent) = percent {
            self.sum_of_percents += i128::from(percent);
            self.known_percents += 1;
        }
    }

    fn named(self, name: &str) -> SectorStatistics {
        let Self { counts, sum_of_percents, known_percents } = self;
        // Adding zero: a mean of almost nothing is not minus zero.
        let mean = || (sum_of_percents as f64 / known_percents as f64).round() / 1e4 + 0.0;
        let average_change_percent = (known_percents > 0).then(mean);
        SectorStatistics { name: name.to_owned(), average_change_percent, ..counts }
    }
}

/// The indices of the largest values, largest first, ties in order of the symbols. Only what is kept is sorted.
fn best(mut candidates: Vec<(i64, usize)>) -> Vec<usize> {
    let order = |(value, index): &(i64, usize)| (Reverse(*value), *index);
    if candidates.len() > LONGEST_RANKING {
        candidates.select_nth_unstable_by_key(LONGEST_RANKING, order);
        candidates.truncate(LONGEST_RANKING);
    }
    candidates.sort_unstable_by_key(order);
    candidates.into_iter().map(|(_, index)| index).collect()
}
