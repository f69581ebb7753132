//! `GET /api/v1/bars/{symbol}`: points, quarter-hour bars and daily bars of one symbol.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use poem::web::{Data, Path};
use poem::{Request, Response, Result, handler};
use serde::Serialize;

use super::App;
use super::cached;
use super::error::Problem;
use super::query::{Query, bad_parameter};
use crate::jobs::{Bars, BarsQuery, Interval, NextBars, Row};
use crate::market::Price;

/// Bars of an answer when no limit is asked for, and the most there can be.
const USUAL_LIMIT: usize = 500;
const MOST: usize = 1_000;

/// How soon to ask again while the database does not answer.
const RETRY_SECONDS: u64 = 5;

#[derive(Serialize)]
struct Answer<'a> {
    symbol: &'a str,
    interval: &'static str,
    adjusted: bool,
    count: usize,
    bars: Vec<Shown>,
    next_from: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Day { date: NaiveDate, open: Price, high: Price, low: Price, close: Price, volume: Option<i64> },
    QuarterHour { at: String, open: Price, high: Price, low: Price, close: Price, volume: Option<i64> },
    Point { at: String, price: Price, volume: Option<i64> },
}

/// `interval` (`1d`, `15m` or `point`), `from` and `to` (dates of sessions; `from` may be an instant), `limit`, `adjusted`.
#[handler]
pub async fn of_symbol(app: Data<&Arc<App>>, Path(symbol): Path<String>, request: &Request) -> Result<Response> {
    let now = app.clock.now();
    let today = app.calendar.load().local_date(now);
    let query = read(request, today)?;
    let universe_symbol = symbol.to_ascii_uppercase();
    let published = app.board.current();
    let index = published.as_ref().and_then(|published| published.snapshot.universe.position(&universe_symbol));
    let quote = published.as_ref().zip(index).and_then(|(published, index)| published.snapshot.quotes.get(index));
    let found = app.market.history().bars(&universe_symbol, &query, quote.as_ref()).await;
    let found = found.map_err(|fault| {
        tracing::warn!(error = %fault, "bars could not be read");
        Problem::unavailable("store_unavailable", "the database does not answer; try again", RETRY_SECONDS)
    })?;
    let bars = match found {
        Some(bars) => bars,
        None if index.is_some() => Bars::default(),
        None => return Err(no_such_symbol(&symbol).into()),
    };
    let next_cycle = published.map_or(now, |published| published.next_cycle);
    let max_age = (next_cycle - now).num_seconds().max(1);
    let body = render(&universe_symbol, &query, &bars);
    Ok(cached::respond_hashed(request.headers(), "application/json", body, max_age))
}

fn read(request: &Request, today: NaiveDate) -> Result<BarsQuery, Problem> {
    let query = Query::of(request.uri(), &["interval", "from", "to", "limit", "adjusted"])?;
    let interval = query.text("interval").unwrap_or("1d");
    let interval = Interval::of_name(interval)
        .ok_or_else(|| bad_parameter(&format!("interval={interval:?} is none; write 1d, 15m or point")))?;
    let to = query.parsed::<NaiveDate>("to", "a date such as 2027-03-15")?.unwrap_or(today);
    let (from, since) = match query.text("from") {
        None => (to - interval.usual_span(), None),
        Some(text) => read_from(text)?,
    };
    if from > to {
        return Err(bad_parameter("from is after to; give them the other way round"));
    }
    let limit = query.parsed::<usize>("limit", "a whole number from 1 to 1000")?.unwrap_or(USUAL_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(bad_parameter(&format!("limit={limit} is not a whole number from 1 to {MOST}")));
    }
    let adjusted = query.parsed::<bool>("adjusted", "true or false")?.unwrap_or(true);
    Ok(BarsQuery { interval, from, since, to, limit, adjusted })
}

/// A session, or an instant of one.
fn read_from(text: &str) -> Result<(NaiveDate, Option<DateTime<Utc>>), Problem> {
    if let Ok(date) = text.parse() {
        return Ok((date, None));
    }
    let at: DateTime<Utc> = text.parse().map_err(|_| {
        bad_parameter(&format!(
            "from={text:?} is neither a date such as 2027-03-15 nor an instant such as 2027-03-15T14:00:00Z"
        ))
    })?;
    // Sessions of the east begin on the date before in UTC, and those of the west end on the next.
    Ok((at.date_naive() - chrono::TimeDelta::days(1), Some(at)))
}

fn render(symbol: &str, query: &BarsQuery, bars: &Bars) -> Vec<u8> {
    let next_from = bars.next.map(|next| match next {
        NextBars::Session(date) => date.to_string(),
        NextBars::At(at) => utc(at),
    });
    let answer = Answer {
        symbol,
        interval: query.interval.name(),
        adjusted: query.adjusted,
        count: bars.rows.len(),
        bars: bars.rows.iter().map(|row| shown(query.interval, row)).collect(),
        next_from,
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}

fn shown(interval: Interval, row: &Row) -> Shown {
    let Row { session: date, bar } = *row;
    let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(Price::from_units);
    let (volume, at) = (bar.volume, DateTime::from_timestamp(bar.at, 0).unwrap_or_default());
    match interval {
        Interval::Day => Shown::Day { date, open, high, low, close, volume },
        Interval::QuarterHour => Shown::QuarterHour { at: utc(at), open, high, low, close, volume },
        Interval::Point => Shown::Point { at: utc(at), price: close, volume },
    }
}

fn utc(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn no_such_symbol(symbol: &str) -> Problem {
    let shown: String = symbol.chars().filter(|c| c.is_ascii_graphic()).take(16).collect();
    Problem::not_found(format!("{shown:?} is not in the universe and has no history"))
}
