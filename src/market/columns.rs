//! The quotes of a whole market, column by column: counting, ranking, filtering and sorting run over plain integers.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::quote::percent_units;
use super::references::{ReferenceColumns, SplitClose, UNSET};
use super::{Price, Quote, QuoteFlags, SUSPICIOUS_MOVE_PERCENT};

/// A column of numbers. Prices and changes are in units of 0.0001 of the currency, percentages in units of 0.0001 %, the
/// volume in shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Last price.
    Price,
    /// Close of the session before.
    PreviousClose,
    /// Since the close of the session before.
    Change,
    /// The same in percent of it.
    ChangePercent,
    /// First price of the session.
    Open,
    /// Highest price of the session.
    High,
    /// Lowest price of the session.
    Low,
    /// Best bid.
    Bid,
    /// Best offer.
    Ask,
    /// Shares traded in the session.
    Volume,
    /// Since the last close a week ago.
    ChangeWeek,
    /// Since the last close a month ago.
    ChangeMonth,
    /// Since the last close a year ago.
    ChangeYear,
    /// The same in percent of it.
    ChangeWeekPercent,
    /// The same in percent of it.
    ChangeMonthPercent,
    /// The same in percent of it.
    ChangeYearPercent,
    /// Lowest price of a year, the session under way included.
    YearLow,
    /// Highest price of it.
    YearHigh,
    /// Shares traded in a session, on the average of the three months before.
    AverageVolume,
}

impl Column {
    /// Each of them.
    pub const ALL: [Self; 19] = [
        Self::Price,
        Self::PreviousClose,
        Self::Change,
        Self::ChangePercent,
        Self::Open,
        Self::High,
        Self::Low,
        Self::Bid,
        Self::Ask,
        Self::Volume,
        Self::ChangeWeek,
        Self::ChangeMonth,
        Self::ChangeYear,
        Self::ChangeWeekPercent,
        Self::ChangeMonthPercent,
        Self::ChangeYearPercent,
        Self::YearLow,
        Self::YearHigh,
        Self::AverageVolume,
    ];

    /// How many of them, from the first on, are said of a quote alone; the others need the sessions before.
    pub const OF_QUOTES: usize = 10;

    /// Its name in `/api/v1`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::PreviousClose => "previous_close",
            Self::Change => "change",
            Self::ChangePercent => "change_percent",
            Self::Open => "open",
            Self::High => "high",
            Self::Low => "low",
            Self::Bid => "bid",
            Self::Ask => "ask",
            Self::Volume => "volume",
            Self::ChangeWeek => "change_week",
            Self::ChangeMonth => "change_month",
            Self::ChangeYear => "change_year",
            Self::ChangeWeekPercent => "change_week_percent",
            Self::ChangeMonthPercent => "change_month_percent",
            Self::ChangeYearPercent => "change_year_percent",
            Self::YearLow => "week_52_low",
            Self::YearHigh => "week_52_high",
            Self::AverageVolume => "avg_volume_3mon",
        }
    }

    /// How many of its units are one of what clients read.
    pub const fn units(self) -> f64 {
        if self.is_whole() { 1.0 } else { 1e4 }
    }

    /// Whether its numbers are whole.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Volume | Self::AverageVolume)
    }
}

/// Quotes by index of the universe: 84 bytes a symbol, and what the sessions before say of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns {
    /// Microseconds of Unix time.
    at: Vec<i64>,
    price: Vec<i64>,
    previous_close: Vec<i64>,
    change_percent: Vec<i64>,
    open: Vec<i64>,
    high: Vec<i64>,
    low: Vec<i64>,
    bid: Vec<i64>,
    ask: Vec<i64>,
    volume: Vec<i64>,
    flags: Vec<i32>,
    references: Arc<ReferenceColumns>,
}

impl Columns {
    /// Takes rows apart; `None` is a symbol that was never quoted. Times are cut to microseconds.
    pub fn of(quotes: &[Option<Quote>]) -> Self {
        let column = |value: fn(&Quote) -> Option<i64>| -> Vec<i64> {
            quotes.iter().map(|quote| quote.as_ref().and_then(value).unwrap_or(UNSET)).collect()
        };
        Self {
            at: column(|quote| Some(quote.at.timestamp_micros())),
            price: column(|quote| Some(quote.price.units())),
            previous_close: column(|quote| quote.previous_close.map(Price::units)),
            change_percent: column(|quote| percent_units(quote.price, quote.previous_close?)),
            open: column(|quote| quote.open.map(Price::units)),
            high: column(|quote| quote.high.map(Price::units)),
            low: column(|quote| quote.low.map(Price::units)),
            bid: column(|quote| quote.bid.map(Price::units)),
            ask: column(|quote| quote.ask.map(Price::units)),
            volume: column(|quote| quote.volume),
            flags: quotes.iter().map(|quote| quote.as_ref().map_or(0, |quote| quote.flags.0)).collect(),
            references: Arc::default(),
        }
    }

    /// The same quotes beside other references, which are of the same universe. A previous close that is of the shares before a split
    /// is told in those of the session; done again it changes nothing.
    pub fn beside(self, references: Arc<ReferenceColumns>) -> Self {
        let mut columns = Self { references: Arc::clone(&references), ..self };
        for (index, close) in &references.splits {
            columns.split_previous_close(*index, close);
        }
        columns
    }

    fn split_previous_close(&mut self, index: usize, close: &SplitClose) {
        // A quote of before is of the old shares, as its previous close is.
        let Some(named) = self.reference(&self.previous_close, index) else { return };
        let (before, price) = (close.in_new_shares(named), self.price[index]);
        let percent = percent_units(Price::from_units(price), Price::from_units(before));
        self.previous_close[index] = before;
        self.change_percent[index] = percent.unwrap_or(UNSET);
        if percent.is_none_or(|percent| percent.abs() as f64 <= SUSPICIOUS_MOVE_PERCENT * 1e4) {
            self.flags[index] &= !QuoteFlags::MOVED_OVER_25_PERCENT.0;
        }
    }

    /// What the sessions before say.
    pub fn references(&self) -> &Arc<ReferenceColumns> {
        &self.references
    }

    /// Symbols, quoted or not.
    pub fn len(&self) -> usize {
        self.price.len()
    }

    /// Whether there is no symbol at all.
    pub fn is_empty(&self) -> bool {
        self.price.is_empty()
    }

    /// Whether the symbol at `index` was ever quoted.
    pub fn is_quoted(&self, index: usize) -> bool {
        known(&self.price, index).is_some()
    }

    /// The indices of what was ever quoted, in their order.
    pub fn quoted(&self) -> impl Iterator<Item = usize> {
        self.price.iter().enumerate().filter(|(_, price)| **price != UNSET).map(|(index, _)| index)
    }

    /// The time of the quote at `index`.
    pub fn at(&self, index: usize) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(known(&self.at, index)?)
    }

    /// What is to be said about the quote at `index`; nothing where there is none.
    pub fn flags(&self, index: usize) -> QuoteFlags {
        QuoteFlags(self.flags.get(index).copied().unwrap_or_default())
    }

    /// One number of the quote at `index`, in the units of its column; `None` where it is not known.
    pub fn value(&self, column: Column, index: usize) -> Option<i64> {
        match column {
            Column::Price => known(&self.price, index),
            Column::PreviousClose => known(&self.previous_close, index),
            Column::Change => Some(known(&self.price, index)? - known(&self.previous_close, index)?),
            Column::ChangePercent => known(&self.change_percent, index),
            Column::Open => known(&self.open, index),
            Column::High => known(&self.high, index),
            Column::Low => known(&self.low, index),
            Column::Bid => known(&self.bid, index),
            Column::Ask => known(&self.ask, index),
            Column::Volume => known(&self.volume, index),
            Column::ChangeWeek => self.change_since(&self.references.week, index),
            Column::ChangeMonth => self.change_since(&self.references.month, index),
            Column::ChangeYear => self.change_since(&self.references.year, index),
            Column::ChangeWeekPercent => self.percent_since(&self.references.week, index),
            Column::ChangeMonthPercent => self.percent_since(&self.references.month, index),
            Column::ChangeYearPercent => self.percent_since(&self.references.year, index),
            Column::YearLow => {
                let now = known(&self.low, index).into_iter().chain(known(&self.price, index));
                now.chain([self.reference(&self.references.low, index)?]).min()
            }
            Column::YearHigh => {
                let now = known(&self.high, index).into_iter().chain(known(&self.price, index));
                now.chain([self.reference(&self.references.high, index)?]).max()
            }
            Column::AverageVolume => self.reference(&self.references.volume, index),
        }
    }

    /// A number of the sessions before; not beside a quote of other shares.
    fn reference(&self, column: &[i64], index: usize) -> Option<i64> {
        let ReferenceColumns { from, until, .. } = &*self.references;
        let comparable = *from.get(index)?..*until.get(index)?;
        let at = known(&self.at, index)?;
        known(column, index).filter(|_| comparable.contains(&at))
    }

    fn change_since(&self, closes: &[i64], index: usize) -> Option<i64> {
        Some(known(&self.price, index)? - self.reference(closes, index)?)
    }

    fn percent_since(&self, closes: &[i64], index: usize) -> Option<i64> {
        let (price, before) = (known(&self.price, index)?, self.reference(closes, index)?);
        percent_units(Price::from_units(price), Price::from_units(before))
    }

    /// The quote at `index` as one row; `None` where the symbol was never quoted, or there is no such index.
    pub fn get(&self, index: usize) -> Option<Quote> {
        let price = |column: &[i64]| known(column, index).map(Price::from_units);
        Some(Quote {
            price: price(&self.price)?,
            at: self.at(index)?,
            previous_close: price(&self.previous_close),
            open: price(&self.open),
            high: price(&self.high),
            low: price(&self.low),
            bid: price(&self.bid),
            ask: price(&self.ask),
            volume: known(&self.volume, index),
            flags: self.flags(index),
        })
    }
}

fn known(column: &[i64], index: usize) -> Option<i64> {
    column.get(index).copied().filter(|value| *value != UNSET)
}
