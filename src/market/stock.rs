//! Everything known of one stock.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::rows::{Stock, Unknown, known, quoted};
use super::{Body, Listing, Meta, Price, Quote, Snapshot};
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
    is_gaining: Option<bool>,
    is_losing: Option<bool>,
    volume_above_average: Unknown,
    price_near_52_week_high: Unknown,
    price_near_52_week_low: Unknown,
    price_position_52_week: Unknown,
    /// Points of the past; none are kept yet.
    price_history: [(); 0],
    price_history_count: usize,
    data_quality: Quality,
}

#[derive(Serialize)]
struct Quality {
    has_price: bool,
    has_volume: bool,
    has_market_cap: bool,
    has_pe_ratio: bool,
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

/// `GET /api/stocks/{ticker}/`; `None` where the symbol is unknown or was never quoted.
pub fn stock(snapshot: &Snapshot, meta: &Meta, symbol: &str) -> Option<Body> {
    let (listing, quote) = find(snapshot, symbol)?;
    let change = quote.change().map(Price::units);
    let data = Data {
        stock: Stock::of(listing, &quote),
        is_gaining: change.map(|change| change > 0),
        is_losing: change.map(|change| change < 0),
        volume_above_average: Unknown::default(),
        price_near_52_week_high: Unknown::default(),
        price_near_52_week_low: Unknown::default(),
        price_position_52_week: Unknown::default(),
        price_history: [],
        price_history_count: 0,
        data_quality: Quality {
            has_price: true,
            has_volume: quote.volume.is_some(),
            has_market_cap: false,
            has_pe_ratio: false,
            last_update_age_minutes: (meta.rendered_at - quote.at).num_minutes().max(0),
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

fn find<'a>(snapshot: &'a Snapshot, symbol: &str) -> Option<(&'a Listing, Quote)> {
    quoted(snapshot, snapshot.universe.position_ignoring_case(symbol)?)
}
