//! The market at a glance, and the event that carries it to those who wait for the next cycle.

use bytes::Bytes;
use serde::Serialize;

use super::super::bodies::DEFAULT_RANKING_ROWS;
use super::super::{
    Body, Listing, MarketPast, Meta, Price, Quote, Ranking, SectorStatistics, Snapshot, Statistics, rows,
};

#[derive(Serialize)]
struct Stats<'a> {
    market: Market,
    top_gainers: Vec<Mover<'a>>,
    top_losers: Vec<Mover<'a>>,
    most_active: Vec<Mover<'a>>,
    sectors: &'a [SectorStatistics],
    #[serde(flatten)]
    past: &'a MarketPast,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct Market {
    total: usize,
    nyse: usize,
    nasdaq: usize,
    gainers: usize,
    losers: usize,
    unchanged: usize,
}

#[derive(Serialize)]
struct Mover<'a> {
    symbol: &'a str,
    name: Option<&'a str>,
    price: Price,
    change: Option<Price>,
    change_percent: Option<f64>,
    volume: Option<i64>,
}

impl<'a> Mover<'a> {
    fn of(listing: &'a Listing, quote: &Quote) -> Self {
        Self {
            symbol: &listing.symbol,
            name: rows::known(&listing.name),
            price: quote.price,
            change: quote.change(),
            change_percent: quote.change_percent(),
            volume: quote.volume,
        }
    }
}

/// `GET /api/v1/stats`.
pub fn stats(snapshot: &Snapshot, statistics: &Statistics, meta: &Meta) -> Body {
    let top = |which| {
        let ranked = statistics.ranked(which);
        rows::rows(snapshot, &ranked[..ranked.len().min(DEFAULT_RANKING_ROWS)], Mover::of)
    };
    Body::render(&Stats {
        market: Market {
            total: statistics.total_stocks,
            nyse: statistics.nyse_stocks,
            nasdaq: statistics.nasdaq_stocks,
            gainers: statistics.gainers,
            losers: statistics.losers,
            unchanged: statistics.unchanged,
        },
        top_gainers: top(Ranking::TopGainers),
        top_losers: top(Ranking::TopLosers),
        most_active: top(Ranking::MostActive),
        sectors: &statistics.sectors,
        past: &statistics.past,
        meta,
    })
}

/// The event that tells of a published state: `stats` is what `GET /api/v1/stats` answers, on one line as JSON is here.
pub fn event(id: &str, stats: &Body) -> Bytes {
    let head = format!("id: {id}\nevent: stats\ndata: ");
    [head.as_bytes(), &stats.plain().bytes, b"\n\n"].concat().into()
}
