//! Stocks that hold a text in their symbol or name.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::rows::{Unknown, in_path, known, quoted};
use super::{Body, Listing, Meta, Price, Snapshot};

/// The most results of a search.
const MOST_RESULTS: usize = 50;

#[derive(Serialize)]
struct Found<'a> {
    success: bool,
    query: &'a str,
    count: usize,
    results: Vec<Hit<'a>>,
    timestamp: DateTime<Utc>,
    meta: &'a Meta,
}

#[derive(Serialize)]
struct Hit<'a> {
    ticker: &'a str,
    company_name: Option<&'a str>,
    current_price: Price,
    change_percent: Option<f64>,
    market_cap: Unknown,
    exchange: Option<&'a str>,
    /// `ticker` or `company`.
    match_type: &'static str,
    /// The same, more exactly.
    match_kind: Match,
    url: String,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Match {
    ExactTicker,
    TickerPrefix,
    Ticker,
    Name,
}

impl Match {
    /// As the older clients know it.
    const fn older(self) -> &'static str {
        match self {
            Self::ExactTicker | Self::TickerPrefix | Self::Ticker => "ticker",
            Self::Name => "company",
        }
    }
}

/// `GET /api/stocks/search/?q=`: symbols that have a quote and hold `text` in their symbol or name, however its letters are
/// written; the best matches first, at most fifty. Empty text finds nothing.
pub fn search(snapshot: &Snapshot, meta: &Meta, text: &str) -> Body {
    let text = text.trim();
    let wanted = text.to_uppercase();
    let matches = |listing: &Listing| match listing.symbol.find(&wanted) {
        _ if wanted.is_empty() => None,
        Some(0) if listing.symbol.len() == wanted.len() => Some(Match::ExactTicker),
        Some(0) => Some(Match::TickerPrefix),
        Some(_) => Some(Match::Ticker),
        None => listing.name.to_uppercase().contains(&wanted).then_some(Match::Name),
    };
    let quotes = (0..snapshot.quotes.len()).filter_map(|index| quoted(snapshot, index));
    let mut hits: Vec<_> = quotes.filter_map(|(listing, quote)| Some((matches(listing)?, listing, quote))).collect();
    // Stable: within a kind of match the order of the symbols stays.
    hits.sort_by_key(|(kind, ..)| *kind);
    hits.truncate(MOST_RESULTS);
    let results: Vec<Hit<'_>> = hits
        .into_iter()
        .map(|(match_kind, listing, quote)| Hit {
            ticker: &listing.symbol,
            company_name: known(&listing.name),
            current_price: quote.price,
            change_percent: quote.change_percent(),
            market_cap: Unknown::default(),
            exchange: known(&listing.exchange),
            match_type: match_kind.older(),
            match_kind,
            url: format!("/api/stocks/{}/", in_path(&listing.symbol)),
        })
        .collect();
    Body::render(&Found { success: true, query: text, count: results.len(), results, timestamp: meta.as_of, meta })
}
