//! The points of a session: what each symbol was quoted at, cycle by cycle, and the bars that follow from them.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::codec::Track;
use super::{Quote, Statistics};

/// Seconds of a quarter-hour bar.
pub const QUARTER_HOUR: i64 = 15 * 60;

/// The closing auction prints a little after the close; what is quoted up to so many seconds later is of the session.
const AFTER_CLOSE: i64 = 60;

/// What a symbol was quoted at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Point {
    /// The quote's own time, in Unix seconds.
    pub at: i64,
    /// The price, in units of 0.0001.
    pub price: i64,
    /// Shares traded in the session up to then, where it is known.
    pub volume: Option<i64>,
}

impl Point {
    /// The point that a quote is.
    pub fn of(quote: &Quote) -> Self {
        Self { at: quote.at.timestamp(), price: quote.price.units(), volume: quote.volume }
    }
}

/// Prices of a span of time, raw, in units of 0.0001.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Where the span begins, in Unix seconds.
    pub at: i64,
    /// First price.
    pub open: i64,
    /// Highest price.
    pub high: i64,
    /// Lowest price.
    pub low: i64,
    /// Last price.
    pub close: i64,
    /// Shares traded, where it is known.
    pub volume: Option<i64>,
}

/// The market as a whole at the end of a session, or as it is now in the session under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketDay {
    /// The session.
    pub session: NaiveDate,
    /// Symbols with a quote.
    pub total: i64,
    /// Above the previous close.
    pub gainers: i64,
    /// Below it.
    pub losers: i64,
    /// At it.
    pub unchanged: i64,
}

impl MarketDay {
    /// What the statistics say of `session`.
    pub fn of(session: NaiveDate, statistics: &Statistics) -> Self {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            session,
            total: count(statistics.total_stocks),
            gainers: count(statistics.gainers),
            losers: count(statistics.losers),
            unchanged: count(statistics.unchanged),
        }
    }
}

/// The sessions up to the one under way, oldest first: what the site draws a line of for each list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MarketPast {
    /// Their dates.
    pub historical_dates: Vec<NaiveDate>,
    /// Symbols above the previous close at the end of each.
    pub historical_gainers: Vec<i64>,
    /// Symbols below it.
    pub historical_losers: Vec<i64>,
    /// Symbols with a quote.
    pub historical_total: Vec<i64>,
}

impl MarketPast {
    /// The longest that is told.
    pub const LONGEST: usize = 30;

    /// The newest of `days`, which are in order of their dates.
    pub fn of(days: &[MarketDay]) -> Self {
        let days = &days[days.len().saturating_sub(Self::LONGEST)..];
        let each = |of: fn(&MarketDay) -> i64| days.iter().map(of).collect();
        Self {
            historical_dates: days.iter().map(|day| day.session).collect(),
            historical_gainers: each(|day| day.gainers),
            historical_losers: each(|day| day.losers),
            historical_total: each(|day| day.total),
        }
    }
}

/// The points of every symbol in one session. About six bytes a point.
#[derive(Debug, Clone, Default)]
pub struct SessionPoints {
    session: NaiveDate,
    tracks: HashMap<Box<str>, Track>,
}

impl SessionPoints {
    /// None yet, of `session`.
    pub fn of(session: NaiveDate) -> Self {
        Self { session, tracks: HashMap::new() }
    }

    /// Which session.
    pub fn session(&self) -> NaiveDate {
        self.session
    }

    /// Adds a point, unless there is a newer one.
    pub fn push(&mut self, symbol: &str, point: Point) {
        match self.tracks.get_mut(symbol) {
            Some(track) => track.push(point),
            None => self.tracks.entry(symbol.into()).or_default().push(point),
        };
    }

    /// The points of one symbol, oldest first.
    pub fn points(&self, symbol: &str) -> Vec<Point> {
        self.tracks.get(symbol).map(Track::points).unwrap_or_default()
    }

    /// Each symbol that has points, in no order.
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.tracks.keys().map(|symbol| &**symbol)
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.tracks.values().map(Track::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// Bytes of the points in memory.
    pub fn allocated(&self) -> usize {
        self.tracks.values().map(Track::allocated).sum()
    }
}

/// The hours of a session, in Unix seconds: what is quoted outside of them is no part of its daily bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// The opening.
    pub open: i64,
    /// The close.
    pub close: i64,
}

impl Hours {
    /// Of a date that the calendar does not call a session any more: everything is inside.
    pub const UNKNOWN: Self = Self { open: 0, close: i64::MAX / 2 };

    /// From instants.
    pub fn new(open: DateTime<Utc>, close: DateTime<Utc>) -> Self {
        Self { open: open.timestamp(), close: close.timestamp() }
    }

    fn hold(&self, at: i64) -> bool {
        (self.open..=self.close + AFTER_CLOSE).contains(&at)
    }
}

/// The bars of a quarter of an hour, by the clock, of the regular session. What is quoted within the minute after the close is of the
/// last one.
///
/// Volumes of points count from the start of the session. A bar has what was added since the point before it. The first one of
/// points that do not begin with the opening has only what was added within it: when the rest was traded, nobody saw. What was added
/// after the close (the closing auction, told with the first quote after hours) is of the last bar.
pub fn quarter_hours(points: &[Point], hours: Hours) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    let Some(first) = points.first() else { return bars };
    let begins_at_open = (hours.open..hours.open + QUARTER_HOUR).contains(&first.at);
    let mut traded = if begins_at_open { Some(0) } else { first.volume };
    for point in points {
        let start = point.at.min(hours.close - 1).div_euclid(QUARTER_HOUR) * QUARTER_HOUR;
        let added = point.volume.zip(traded).map(|(now, before)| now.saturating_sub(before).max(0));
        traded = point.volume.or(traded);
        let inside = hours.hold(point.at);
        match bars.last_mut().filter(|bar| bar.at >= start || !inside) {
            Some(bar) => {
                bar.volume = bar.volume.map_or(added, |volume| Some(volume.saturating_add(added.unwrap_or(0))));
                if inside {
                    bar.high = bar.high.max(point.price);
                    bar.low = bar.low.min(point.price);
                    bar.close = point.price;
                }
            }
            None if inside => {
                let Point { price, .. } = *point;
                bars.push(Bar { at: start, open: price, high: price, low: price, close: price, volume: added });
            }
            None => {}
        }
    }
    bars
}

/// The bar of a whole session; `None` where nothing was quoted in its hours. `last` is the last quote of the symbol: where it is of
/// this session it knows better than the points what the first, highest and lowest prices were. `before` is the bar that was made of the
/// session already: what it was told by such a quote then is not lost now that the quote is of a later session.
pub fn daily(points: &[Point], hours: Hours, last: Option<&Quote>, before: Option<&Bar>) -> Option<Bar> {
    let inside: Vec<&Point> = points.iter().filter(|point| hours.hold(point.at)).collect();
    let (first, end) = (inside.first()?, inside.last()?);
    let (mut high, mut low) = inside
        .iter()
        .fold((first.price, first.price), |(high, low), point| (high.max(point.price), low.min(point.price)));
    let mut open = first.price;
    let mut volume = points.iter().filter_map(|point| point.volume).max();
    if let Some(before) = before {
        (open, high, low) = (before.open, high.max(before.high), low.min(before.low));
        volume = volume.max(before.volume);
    }
    let newest = points.last().map_or(end.at, |point| point.at);
    if let Some(last) = last.filter(|last| (first.at..=newest).contains(&last.at.timestamp())) {
        open = last.open.map_or(open, |price| price.units());
        high = last.high.map_or(high, |price| price.units().max(high));
        low = last.low.map_or(low, |price| price.units().min(low));
    }
    Some(Bar { at: hours.open, open, high: high.max(open), low: low.min(open), close: end.price, volume })
}
