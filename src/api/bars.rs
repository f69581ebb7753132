//! `GET /api/v1/bars/{symbol}`: points, quarter-hour bars and daily bars of one symbol.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use poem::http::{HeaderValue, header};
use poem::web::{Data, Path};
use poem::{Request, Response, Result, handler};
use serde::Serialize;

use super::App;
use super::cached;
use super::error::Problem;
use super::query::{Query, bad_parameter};
use super::quotes::format_of;
use crate::calendar::Calendar;
use crate::jobs::{Bars, BarsQuery, Interval, NextBars, Row, YEARS};
use crate::market::v1::Format;
use crate::market::{Body, Price};

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

/// `interval` (`1d`, `15m` or `point`), `from` and `to` (dates of sessions; `from` may be an instant), `limit`, `adjusted`. JSON, CSV or
/// NDJSON, as `Accept` says.
#[handler]
pub async fn of_symbol(app: Data<&Arc<App>>, Path(symbol): Path<String>, request: &Request) -> Result<Response> {
    let now = app.clock.now();
    let query = read(request, &app.calendar.load(), now)?;
    let format = format_of(request)?;
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
    let body = Body::of(render(&universe_symbol, &query, &bars, format));
    let mut response = cached::respond_as(request.headers(), format.content_type(), &body, max_age);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, origin"));
    if let Some(link) = next_link(request, &symbol, &bars) {
        headers.insert(header::LINK, link);
    }
    Ok(response)
}

const PARAMETERS: &[&str] = &["interval", "from", "to", "limit", "adjusted"];

fn read(request: &Request, calendar: &Calendar, now: DateTime<Utc>) -> Result<BarsQuery, Problem> {
    let query = Query::of(request.uri(), PARAMETERS)?;
    let interval = query.text("interval").unwrap_or("1d");
    let interval = Interval::of_name(interval)
        .ok_or_else(|| bad_parameter(&format!("interval={interval:?} is none; write 1d, 15m or point")))?;
    let to = query.parsed::<NaiveDate>("to", "a date such as 2027-03-15")?.unwrap_or_else(|| calendar.local_date(now));
    within_years("to", to.year())?;
    let (from, since) = match query.text("from") {
        None => (to - interval.usual_span(), None),
        Some(text) => read_from(text, interval, calendar)?,
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

fn within_years(name: &str, year: i32) -> Result<(), Problem> {
    let (first, last) = YEARS.into_inner();
    let wrong = || bad_parameter(&format!("{name} is of the year {year}; give one from {first} to {last}"));
    YEARS.contains(&year).then_some(()).ok_or_else(wrong)
}

/// A session, or an instant of one.
fn read_from(
    text: &str,
    interval: Interval,
    calendar: &Calendar,
) -> Result<(NaiveDate, Option<DateTime<Utc>>), Problem> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        within_years("from", date.year())?;
        return Ok((date, None));
    }
    let at: DateTime<Utc> = text.parse().map_err(|_| {
        bad_parameter(&format!(
            "from={text:?} is neither a date such as 2027-03-15 nor an instant such as 2027-03-15T14:00:00Z"
        ))
    })?;
    within_years("from", at.year())?;
    if interval == Interval::Day {
        return Ok((calendar.local_date(at), None));
    }
    // Sessions of the east begin on the date before in UTC, and those of the west end on the next.
    Ok((at.date_naive() - chrono::TimeDelta::days(1), Some(at)))
}

fn render(symbol: &str, query: &BarsQuery, bars: &Bars, format: Format) -> Vec<u8> {
    let rows = bars.rows.iter().map(|row| shown(query.interval, row));
    match format {
        Format::Json => {
            let answer = Answer {
                symbol,
                interval: query.interval.name(),
                adjusted: query.adjusted,
                count: bars.rows.len(),
                bars: rows.collect(),
                next_from: next_from(bars),
            };
            serde_json::to_vec(&answer).unwrap_or_default()
        }
        Format::Ndjson => {
            rows.flat_map(|row| [serde_json::to_vec(&row).unwrap_or_default(), b"\n".to_vec()]).flatten().collect()
        }
        Format::Csv => {
            let names = match query.interval {
                Interval::Day => "date,open,high,low,close,volume",
                Interval::QuarterHour => "at,open,high,low,close,volume",
                Interval::Point => "at,price,volume",
            };
            let lines = std::iter::once(names.to_owned()).chain(rows.map(|row| row.as_line()));
            lines.map(|line| line + "\r\n").collect::<String>().into_bytes()
        }
    }
}

/// Where to go on: a session or an instant.
fn next_from(bars: &Bars) -> Option<String> {
    bars.next.map(|next| match next {
        NextBars::Session(date) => date.to_string(),
        NextBars::At(at) => utc(at),
    })
}

/// The same question from there on (RFC 8288): a table has no other place to say it.
fn next_link(request: &Request, symbol: &str, bars: &Bars) -> Option<HeaderValue> {
    let next = next_from(bars)?;
    let asked = Query::of(request.uri(), PARAMETERS).ok()?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(asked.pairs().filter(|(name, _)| *name != "from"));
    query.append_pair("from", &next);
    let symbol: String = url::form_urlencoded::byte_serialize(symbol.as_bytes()).collect();
    HeaderValue::from_str(&format!("</api/v1/bars/{symbol}?{}>; rel=\"next\"", query.finish())).ok()
}

impl Shown {
    /// Numbers and dates, which need no quotation marks.
    fn as_line(&self) -> String {
        let count = |volume: &Option<i64>| volume.map(|volume| volume.to_string()).unwrap_or_default();
        match self {
            Self::Day { date, open, high, low, close, volume } => {
                format!("{date},{open},{high},{low},{close},{}", count(volume))
            }
            Self::QuarterHour { at, open, high, low, close, volume } => {
                format!("{at},{open},{high},{low},{close},{}", count(volume))
            }
            Self::Point { at, price, volume } => format!("{at},{price},{}", count(volume)),
        }
    }
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
