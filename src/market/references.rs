//! What the sessions before say of a symbol: the closes that a price is compared with, the range of a year, the usual volume. They change
//! once a session, so that a reader's question looks at nothing but columns of them.

use std::collections::HashMap;
use std::ops::Range;

use chrono::{DateTime, Months, NaiveDate, TimeDelta, Utc};

use super::splits::adjusted_price;
use super::{Bar, SplitFactor, Universe, adjusted_bar};

/// What is not known. No price, volume or time is ever this.
pub(super) const UNSET: i64 = i64::MIN;

/// How long before its date a close may be: a symbol is not traded in every session, and a close of long ago is another one's.
const OLDEST_CLOSE: TimeDelta = TimeDelta::days(7);

/// Of a hundred sessions so many must be known: a range or an average of a part of them would be another number.
const ENOUGH_OF_100: usize = 95;

/// The dates that are looked back to from a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    /// The session under way or, when there is none, the last one. It is not looked at itself: its numbers are those of the quotes.
    pub session: NaiveDate,
    week: NaiveDate,
    month: NaiveDate,
    quarter: NaiveDate,
    year: NaiveDate,
    sessions_of_quarter: usize,
    sessions_of_year: usize,
}

impl Spans {
    /// From `session` back; `count` gives the number of sessions in a range of dates.
    pub fn of(session: NaiveDate, count: impl Fn(Range<NaiveDate>) -> usize) -> Self {
        // Dates of the calendar: the 31st of a shorter month is its last day. Before the first date there is nothing anyway.
        let months = |months| session.checked_sub_months(Months::new(months)).unwrap_or(NaiveDate::MIN);
        let (quarter, year) = (months(3), months(12));
        let after = |date: NaiveDate| date.succ_opt().unwrap_or(session)..session;
        Self {
            session,
            week: session.checked_sub_signed(TimeDelta::days(7)).unwrap_or(NaiveDate::MIN),
            month: months(1),
            quarter,
            year,
            sessions_of_quarter: count(after(quarter)),
            sessions_of_year: count(after(year)),
        }
    }

    /// The dates of which bars are needed.
    pub fn dates(&self) -> Range<NaiveDate> {
        self.year.checked_sub_signed(OLDEST_CLOSE).unwrap_or(NaiveDate::MIN)..self.session
    }
}

/// What is known of one symbol, in the shares of the session. Prices are in units of 0.0001.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reference {
    /// The last close on or before the date a week before the session, a week older at most.
    pub week: Option<i64>,
    /// The same of a month.
    pub month: Option<i64>,
    /// The same of a year.
    pub year: Option<i64>,
    /// Lowest price of the sessions after the date a year before.
    pub low: Option<i64>,
    /// Highest price of them.
    pub high: Option<i64>,
    /// Shares traded in a session, on the average of those after the date three months before, to the nearest.
    pub volume: Option<i64>,
    /// The session of the last split in the span: quotes that are older are of other shares.
    pub split: Option<NaiveDate>,
    /// The session of the next split, where one is announced: so are quotes from then on.
    pub next_split: Option<NaiveDate>,
    /// The split of the session itself, with the close before it.
    pub split_close: Option<SplitClose>,
}

/// The close of the session before a split, in the shares of then. A provider may name it, or what the split has made of it, as the
/// previous close of the first session of the new shares; one look at it tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitClose {
    /// In units of 0.0001.
    pub raw: i64,
    /// The split.
    pub split: SplitFactor,
}

impl SplitClose {
    /// A previous close of the session of the split, in the new shares, whichever of the two the provider has named.
    pub fn in_new_shares(&self, named: i64) -> i64 {
        let adjusted = |units| adjusted_price(units, NaiveDate::MIN, &[self.split]);
        let is_raw = named.abs_diff(self.raw) < named.abs_diff(adjusted(self.raw));
        if is_raw { adjusted(named) } else { named }
    }
}

impl Reference {
    /// From the raw daily bars of [`Spans::dates`], oldest first, and the splits of the symbol.
    pub fn of(spans: &Spans, bars: &[(NaiveDate, Bar)], splits: &[SplitFactor]) -> Self {
        let next_split = splits.iter().map(|split| split.session).filter(|date| *date > spans.session).min();
        let splits: Vec<SplitFactor> = splits
            .iter()
            .filter(|split| split.session > spans.dates().start && split.session <= spans.session)
            .copied()
            .collect();
        let bars: Vec<_> = bars.iter().filter(|(session, _)| spans.dates().contains(session)).collect();
        let split_close = splits.iter().find(|split| split.session == spans.session).and_then(|split| {
            let (session, bar) = bars.last()?;
            let before: Vec<SplitFactor> = splits.iter().filter(|other| other != &split).copied().collect();
            let raw = adjusted_price(bar.close, *session, &before);
            (spans.session - *session < OLDEST_CLOSE).then_some(SplitClose { raw, split: *split })
        });
        let bars = bars.into_iter();
        let bars: Vec<_> = bars.map(|(session, bar)| (*session, adjusted_bar(*bar, *session, &splits))).collect();
        let close = |date: NaiveDate| {
            let (session, bar) = bars.iter().rev().find(|(session, _)| *session <= date)?;
            (date - *session < OLDEST_CLOSE).then_some(bar.close)
        };
        let year = || bars.iter().filter(|(session, _)| *session > spans.year).map(|(_, bar)| bar);
        let is_year = is_enough(year().count(), spans.sessions_of_year);
        let volumes = bars.iter().filter(|(session, _)| *session > spans.quarter).filter_map(|(_, bar)| bar.volume);
        Self {
            week: close(spans.week),
            month: close(spans.month),
            year: close(spans.year),
            low: year().map(|bar| bar.low).min().filter(|_| is_year),
            high: year().map(|bar| bar.high).max().filter(|_| is_year),
            volume: average(volumes, spans.sessions_of_quarter),
            split: splits.iter().map(|split| split.session).max(),
            next_split,
            split_close,
        }
    }

    fn is_nothing(&self) -> bool {
        Self { split: None, next_split: None, ..*self } == Self::default()
    }
}

fn is_enough(known: usize, sessions: usize) -> bool {
    known > 0 && known * 100 >= sessions * ENOUGH_OF_100
}

/// To the nearest whole share.
fn average(volumes: impl Iterator<Item = i64>, sessions: usize) -> Option<i64> {
    let (mut sum, mut count) = (0_i128, 0_usize);
    for volume in volumes {
        (sum, count) = (sum + i128::from(volume), count + 1);
    }
    let divisor = i128::try_from(count).ok().filter(|_| is_enough(count, sessions))?;
    i64::try_from((sum + divisor / 2) / divisor).ok()
}

/// What is known of every symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// The session it is seen from; `None`: nothing is known yet.
    pub session: Option<NaiveDate>,
    symbols: HashMap<Box<str>, Reference>,
}

impl References {
    /// None yet, seen from `session`.
    pub fn of(session: NaiveDate) -> Self {
        Self { session: Some(session), symbols: HashMap::new() }
    }

    /// Takes in what is known of a symbol.
    pub fn insert(&mut self, symbol: &str, reference: Reference) {
        if !reference.is_nothing() {
            self.symbols.insert(symbol.into(), reference);
        }
    }

    /// Symbols of which anything is known.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether nothing is known of any.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// By index of a universe; `start` gives the instant at which a session begins.
    pub fn columns(&self, universe: &Universe, start: impl Fn(NaiveDate) -> Option<DateTime<Utc>>) -> ReferenceColumns {
        if self.is_empty() {
            return ReferenceColumns::default();
        }
        let of = |listing: &super::Listing| self.symbols.get(&*listing.symbol).copied().unwrap_or_default();
        let rows: Vec<Reference> = universe.listings().iter().map(of).collect();
        let column =
            |value: fn(&Reference) -> Option<i64>| rows.iter().map(|row| value(row).unwrap_or(UNSET)).collect();
        let until =
            |row: &Reference| row.next_split.and_then(&start).map_or(i64::MAX, |start| start.timestamp_micros());
        let from = |row: &Reference| row.split.and_then(&start).map_or(UNSET, |start| start.timestamp_micros());
        ReferenceColumns {
            from: rows.iter().map(from).collect(),
            until: rows.iter().map(until).collect(),
            week: column(|row| row.week),
            month: column(|row| row.month),
            year: column(|row| row.year),
            low: column(|row| row.low),
            high: column(|row| row.high),
            volume: column(|row| row.volume),
            splits: rows.iter().enumerate().filter_map(|(index, row)| Some((index, row.split_close?))).collect(),
        }
    }
}

/// References by index of a universe, beside its quotes: 64 bytes a symbol. Shorter than the universe: nothing is known of the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReferenceColumns {
    /// Quotes of before this time, in microseconds of Unix time, cannot be compared.
    pub(super) from: Vec<i64>,
    /// Nor those of this time or later.
    pub(super) until: Vec<i64>,
    pub(super) week: Vec<i64>,
    pub(super) month: Vec<i64>,
    pub(super) year: Vec<i64>,
    pub(super) low: Vec<i64>,
    pub(super) high: Vec<i64>,
    pub(super) volume: Vec<i64>,
    /// Those whose shares are new in the session, by index.
    pub(super) splits: Vec<(usize, SplitClose)>,
}
