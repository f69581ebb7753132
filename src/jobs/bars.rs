//! Bars and points of one symbol: the sessions of the past from the database, the one under way from memory.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::history::History;
use crate::market::{Bar, Hours, Point, Quote, SplitFactor, adjusted_bar, daily, quarter_hours};
use crate::store::StoreError;

/// Sessions that are read for one answer: more than fill it, unless a symbol is hardly traded.
const SESSIONS_AT_ONCE: u32 = 64;

/// What a bar spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// Nothing: what a cycle has brought.
    Point,
    /// A quarter of an hour.
    QuarterHour,
    /// A session.
    Day,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarsQuery {
    /// What a bar spans.
    pub interval: Interval,
    /// The first session.
    pub from: NaiveDate,
    /// Nothing that begins before; not for daily bars.
    pub since: Option<DateTime<Utc>>,
    /// The last session.
    pub to: NaiveDate,
    /// The most bars.
    pub limit: usize,
    /// Prices before a split are those of the shares of today.
    pub adjusted: bool,
}

/// One bar, or one point, which is the bar of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its session.
    pub session: NaiveDate,
    /// The prices.
    pub bar: Bar,
}

/// Where the answer goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextBars {
    /// With this session.
    Session(NaiveDate),
    /// With the bar that begins then.
    At(DateTime<Utc>),
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bars {
    /// Oldest first.
    pub rows: Vec<Row>,
    /// Where to go on; none at the end.
    pub next: Option<NextBars>,
}

impl Interval {
    /// From its name in queries.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "point" => Self::Point,
            "15m" => Self::QuarterHour,
            "1d" => Self::Day,
            _ => return None,
        })
    }

    /// Its name in queries.
    pub fn name(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::QuarterHour => "15m",
            Self::Day => "1d",
        }
    }

    /// What is answered when no first session is asked for, counted back from the last.
    pub fn usual_span(self) -> TimeDelta {
        match self {
            Self::Point => TimeDelta::zero(),
            Self::QuarterHour => TimeDelta::days(10),
            Self::Day => TimeDelta::days(365),
        }
    }
}

impl History {
    /// Answers a query about `symbol`, whose last quote is `last`. `None`: nothing was ever kept of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn bars(
        &self,
        symbol: &str,
        query: &BarsQuery,
        last: Option<&Quote>,
    ) -> Result<Option<Bars>, StoreError> {
        let (today, points) = self.today(symbol);
        let symbol_id = self.store.symbol_id(symbol).await?;
        if symbol_id.is_none() && points.is_empty() {
            return Ok(None);
        }
        let in_memory = !points.is_empty() && (query.from..=query.to).contains(&today);
        // What is in memory knows better than what the database has of the same session, but for a provider's own bar.
        let to = if in_memory { query.to.min(today - TimeDelta::days(1)) } else { query.to };
        let mut splits = Vec::new();
        let (mut rows, mut next) = (Vec::new(), None);
        if let Some(symbol_id) = symbol_id {
            if query.adjusted {
                splits = self.store.splits_of(symbol_id).await?;
                // One that is announced has not made other shares yet.
                let latest = self.session_of(self.clock.now());
                splits.retain(|split| latest.is_none_or(|latest| split.session <= latest));
            }
            if query.from <= to {
                (rows, next) = self.stored(symbol_id, query, to).await?;
            }
        }
        if in_memory && next.is_none() {
            let now = match symbol_id {
                Some(symbol_id) if query.interval == Interval::Day && self.is_over(today) => {
                    self.store.provider_bar(symbol_id, today).await?
                }
                _ => None,
            };
            let now = now.map_or_else(|| self.of_points(query.interval, today, &points, last), |bar| vec![bar]);
            rows.extend(now.into_iter().map(|bar| Row { session: today, bar }));
        }
        rows.retain(|row| query.since.is_none_or(|since| row.bar.at >= since.timestamp()));
        if rows.len() > query.limit {
            next = Some(match query.interval {
                Interval::Day => NextBars::Session(rows[query.limit].session),
                _ => NextBars::At(DateTime::from_timestamp(rows[query.limit].bar.at, 0).unwrap_or_default()),
            });
            rows.truncate(query.limit);
        }
        adjust(&mut rows, &splits);
        Ok(Some(Bars { rows, next }))
    }

    /// What the database has, and the session to go on with where it was too much to read at once.
    async fn stored(
        &self,
        symbol_id: i64,
        query: &BarsQuery,
        last: NaiveDate,
    ) -> Result<(Vec<Row>, Option<NextBars>), StoreError> {
        let rows = |session: NaiveDate, bars: Vec<Bar>| bars.into_iter().map(move |bar| Row { session, bar });
        let sessions: Vec<(NaiveDate, Vec<Bar>)> = match query.interval {
            Interval::Day => {
                let limit = u32::try_from(query.limit + 1).unwrap_or(u32::MAX);
                let bars = self.store.daily_bars(symbol_id, query.from, last, limit).await?;
                return Ok((bars.into_iter().map(|(session, bar)| Row { session, bar }).collect(), None));
            }
            Interval::QuarterHour => self.store.quarter_hours_of(symbol_id, query.from, last, SESSIONS_AT_ONCE).await?,
            Interval::Point => {
                let read = self.store.points_of(symbol_id, query.from, last, SESSIONS_AT_ONCE).await?;
                read.into_iter()
                    .map(|(session, points)| (session, points.into_iter().map(of_point).collect()))
                    .collect()
            }
        };
        let full = sessions.len() == SESSIONS_AT_ONCE as usize;
        let next =
            sessions.last().filter(|_| full).map(|(session, _)| NextBars::Session(*session + TimeDelta::days(1)));
        Ok((sessions.into_iter().flat_map(|(session, bars)| rows(session, bars)).collect(), next))
    }

    fn is_over(&self, session: NaiveDate) -> bool {
        self.calendar.load().session(session).is_none_or(|session| session.close <= self.clock.now())
    }

    /// The bars of a session that is not in the database yet.
    fn of_points(&self, interval: Interval, session: NaiveDate, points: &[Point], last: Option<&Quote>) -> Vec<Bar> {
        let calendar = self.calendar.load();
        let hours = calendar.session(session).map_or(Hours::UNKNOWN, |session| Hours::new(session.open, session.close));
        match interval {
            Interval::Point => points.iter().copied().map(of_point).collect(),
            Interval::QuarterHour => quarter_hours(points, hours),
            Interval::Day => daily(points, hours, last, None).into_iter().collect(),
        }
    }
}

fn of_point(point: Point) -> Bar {
    let Point { at, price, volume } = point;
    Bar { at, open: price, high: price, low: price, close: price, volume }
}

/// A bar and the point of an instant alike.
fn adjust(rows: &mut [Row], splits: &[SplitFactor]) {
    for row in rows {
        row.bar = adjusted_bar(row.bar, row.session, splits);
    }
}
