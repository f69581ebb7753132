//! Everything known of one stock.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::rows::{Stock, Unknown, known, quoted};
use super::{Body, Column, Listing, Meta, Point, Price, Quote, Snapshot};
use crate::calendar::Phase;

#[derive(Serialize)]
struct Detail<'a> {
    success: bool,
    data: Data<'a>,
    timestamp: DateTime<Utc>,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    stock: Stock<'a>,
    volume_above_average: Option<bool>,
    /// At most 5 % below it.
    price_near_52_week_high: Option<bool>,
    /// At most 5 % above it.
    price_near_52_week_low: Option<bool>,
    /// From 0 at the low to 100 at the high; to four places.
    price_position_52_week: Option<f64>,
    /// The last points of the session, newest first.
    price_history: Vec<Moment>,
    price_history_count: usize,
    data_quality: Quality,
}

/// What it cost, and when.
#[derive(Serialize)]
struct Moment {
    price: Price,
    timestamp: DateTime<Utc>,
}

#[derive(Serialize)]
struct Quality {
    has_price: bool,
    has_volume: bool,
    has_market_cap: bool,
    has_pe_ratio: bool,
    /// Of regular trading, when the state that is shown was rendered: as `age_seconds_market` is.
    last_update_age_minutes: i64,
}

#[derive(Serialize)]
struct Realtime<'a> {
    ticker: &'a str,
    company_name: Option<&'a str>,
    current_price: Price,
    open_price: Option<Price>,
    high_price: Option<Price>,
    low_price: Option<Price>,
    volume: Option<i64>,
    market_cap: Unknown,
    pe_ratio: Unknown,
    dividend_yield: Unknown,
    last_updated: DateTime<Utc>,
    market_status: &'static str,
    meta: &'a Meta,
}

/// The most points of one stock.
const MOST_POINTS: usize = 10;

/// `GET /api/stocks/{ticker}/`; `None` where the symbol is unknown or was never quoted. `age` says how much regular trading had passed since
/// an instant when `meta` was rendered; `points` gives those of a symbol in the session, in order of their times.
pub fn stock(
    snapshot: &Snapshot,
    meta: &Meta,
    symbol: &str,
    age: impl FnOnce(DateTime<Utc>) -> TimeDelta,
    points: impl FnOnce(&str) -> Vec<Point>,
) -> Option<Body> {
    let index = snapshot.universe.position_ignoring_case(symbol)?;
    let (listing, quote) = quoted(snapshot, index)?;
    let value = |column| snapshot.quotes.value(column, index);
    let range = value(Column::YearLow).zip(value(Column::YearHigh));
    let price_history = history(&points(&listing.symbol), &quote);
    let data = Data {
        stock: Stock::at(snapshot, index)?,
        volume_above_average: quote.volume.zip(value(Column::AverageVolume)).map(|(now, usual)| now > usual),
        price_near_52_week_high: range.map(|(_, high)| in_hundredths(quote.price) >= i128::from(high) * 95),
        price_near_52_week_low: range.map(|(low, _)| in_hundredths(quote.price) <= i128::from(low) * 105),
        price_position_52_week: range.and_then(|range| position(quote.price.units(), range)),
        price_history_count: price_history.len(),
        price_history,
        data_quality: Quality {
            has_price: true,
            has_volume: quote.volume.is_some(),
            has_market_cap: false,
            has_pe_ratio: false,
            last_update_age_minutes: age(quote.at).num_minutes().max(0),
        },
    };
    Some(Body::render(&Detail { success: true, data, timestamp: meta.as_of, meta }))
}

/// `GET /api/realtime/{ticker}/`; `None` where the symbol is unknown or was never quoted.
pub fn realtime(snapshot: &Snapshot, meta: &Meta, symbol: &str) -> Option<Body> {
    let (listing, quote) = find(snapshot, symbol)?;
    Some(Body::render(&Realtime {
        ticker: &listing.symbol,
        company_name: known(&listing.name),
        current_price: quote.price,
        open_price: quote.open,
        high_price: quote.high,
        low_price: quote.low,
        volume: quote.volume,
        market_cap: Unknown::default(),
        pe_ratio: Unknown::default(),
        dividend_yield: Unknown::default(),
        last_updated: quote.at,
        market_status: if meta.phase == Phase::Regular { "open" } else { "closed" },
        meta,
    }))
}

fn in_hundredths(price: Price) -> i128 {
    i128::from(price.units()) * 100
}

/// Where a price is between low and high, in percent; `None` where they are one.
fn position(price: i64, (low, high): (i64, i64)) -> Option<f64> {
    let share = (price - low) as f64 / (high - low) as f64;
    (high > low).then(|| (share * 1e6).round() / 1e4)
}

/// Newest first. A point of a cycle that is not shown yet is not told.
fn history(points: &[Point], quote: &Quote) -> Vec<Moment> {
    let shown = points.iter().rev().filter(|point| point.at <= quote.at.timestamp());
    let moments = shown.filter_map(|point| {
        Some(Moment { price: Price::from_units(point.price), timestamp: DateTime::from_timestamp(point.at, 0)? })
    });
    moments.take(MOST_POINTS).collect()
}

fn find<'a>(snapshot: &'a Snapshot, symbol: &str) -> Option<(&'a Listing, Quote)> {
    quoted(snapshot, snapshot.universe.position_ignoring_case(symbol)?)
}
