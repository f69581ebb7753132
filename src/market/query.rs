//! Lists of stocks: filtered, sorted, paged, searched. All from memory; ten thousand symbols take a fraction of a millisecond.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::rows::{Stock, quoted, rows};
use super::{Body, Listing, Meta, Price, Quote, Snapshot};

/// The most results of a search.
const MOST_RESULTS: usize = 50;

/// What a client wants listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    limit: usize,
    offset: usize,
    search: Option<String>,
    exchange: Option<String>,
    category: Option<String>,
    price: Range,
    volume: Range,
    change_percent: Range,
    sort_by: SortBy,
    descending: bool,
}

/// A bound at either end, where one is given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Range {
    least: Option<f64>,
    most: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SortBy {
    Ticker,
    Price,
    Volume,
    Change,
    ChangePercent,
}

/// A parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct QueryError {
    /// Its name.
    pub parameter: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Range {
    fn holds(self, value: Option<f64>) -> bool {
        match (self.least, self.most, value) {
            (None, None, _) => true,
            (_, _, None) => false,
            (least, most, Some(value)) => least.is_none_or(|l| value >= l) && most.is_none_or(|m| value <= m),
        }
    }
}

impl ListQuery {
    /// Reads query parameters. Unknown ones are ignored, as these paths always did; one given twice counts the last time.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, QueryError> {
        let mut query = Self {
            limit: 20,
            offset: 0,
            search: None,
            exchange: None,
            category: None,
            price: Range::default(),
            volume: Range::default(),
            change_percent: Range::default(),
            sort_by: SortBy::Ticker,
            descending: false,
        };
        for (parameter, value) in pairs.filter(|(_, value)| !value.trim().is_empty()) {
            query
                .set(parameter, value.trim())
                .map_err(|message| QueryError { parameter: parameter.to_owned(), message })?;
        }
        Ok(query)
    }

    fn set(&mut self, parameter: &str, value: &str) -> Result<(), String> {
        match parameter {
            "limit" => self.limit = whole(value, 1, 100)?,
            "offset" => self.offset = whole(value, 0, 1_000_000)?,
            "search" => self.search = Some(value.to_lowercase()),
            "exchange" => self.exchange = Some(value.to_lowercase()),
            "category" | "sector" => self.category = Some(value.to_lowercase()),
            "min_price" => self.price.least = Some(number(value)?),
            "max_price" => self.price.most = Some(number(value)?),
            "min_volume" => self.volume.least = Some(number(value)?),
            "max_volume" => self.volume.most = Some(number(value)?),
            "min_change" => self.change_percent.least = Some(number(value)?),
            "max_change" => self.change_percent.most = Some(number(value)?),
            "sort_by" => self.sort_by = sort_by(value)?,
            "sort_order" => {
                self.descending = match value {
                    "asc" => false,
                    "desc" => true,
                    _ => return Err(format!("{value:?} is neither asc nor desc")),
                };
            }
            _ => {}
        }
        Ok(())
    }

    fn admits(&self, listing: &Listing, quote: &Quote) -> bool {
        let same =
            |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| has.to_lowercase() == *wanted);
        let found = self.search.as_ref().is_none_or(|text| {
            listing.symbol.to_lowercase().contains(text) || listing.name.to_lowercase().contains(text)
        });
        let change = quote.change_percent();
        let category = match self.category.as_deref() {
            Some("gainers") => change.is_some_and(|change| change > 0.0),
            Some("losers") => change.is_some_and(|change| change < 0.0),
            _ => same(&self.category, &listing.sector),
        };
        found
            && category
            && same(&self.exchange, &listing.exchange)
            && self.price.holds(Some(quote.price.to_f64()))
            && self.volume.holds(quote.volume.map(|volume| volume as f64))
            && self.change_percent.holds(change)
    }

    /// What is not known sorts last in either direction; what is alike stays in order of the symbols.
    fn compare(&self, a: &Quote, b: &Quote) -> Ordering {
        let key = |quote: &Quote| match self.sort_by {
            SortBy::Ticker => None,
            SortBy::Price => Some(quote.price.to_f64()),
            SortBy::Volume => quote.volume.map(|volume| volume as f64),
            SortBy::Change => quote.change().map(Price::to_f64),
            SortBy::ChangePercent => quote.change_percent(),
        };
        match (key(a), key(b)) {
            (Some(a), Some(b)) if self.descending => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    }
}

fn whole(value: &str, least: usize, most: usize) -> Result<usize, String> {
    let parsed = value.parse().ok().filter(|number| (least..=most).contains(number));
    parsed.ok_or_else(|| format!("{value:?} is not a whole number from {least} to {most}"))
}

fn number(value: &str) -> Result<f64, String> {
    let parsed = value.parse().ok().filter(|number: &f64| number.is_finite());
    parsed.ok_or_else(|| format!("{value:?} is not a number"))
}

fn sort_by(value: &str) -> Result<SortBy, String> {
    match value {
        "ticker" | "symbol" => Ok(SortBy::Ticker),
        "price" | "current_price" => Ok(SortBy::Price),
        "volume" => Ok(SortBy::Volume),
        "change" | "price_change" | "price_change_today" => Ok(SortBy::Change),
        "change_percent" | "price_change_percent" => Ok(SortBy::ChangePercent),
        _ => Err(format!("{value:?} is none of ticker, price, volume, change, change_percent")),
    }
}

#[derive(Serialize)]
struct List<'a> {
    success: bool,
    count: usize,
    total: usize,
    limit: usize,
    offset: usize,
    results: Vec<Stock<'a>>,
    timestamp: DateTime<Utc>,
    meta: &'a Meta,
}

/// `GET /api/stocks/`.
pub fn list(snapshot: &Snapshot, meta: &Meta, query: &ListQuery) -> Body {
    let quotes = (0..snapshot.quotes.len()).filter_map(|index| Some((index, quoted(snapshot, index)?)));
    let mut found: Vec<(usize, &Quote)> = quotes
        .filter(|(_, (listing, quote))| query.admits(listing, quote))
        .map(|(index, (_, quote))| (index, quote))
        .collect();
    match query.sort_by {
        SortBy::Ticker if query.descending => found.reverse(),
        SortBy::Ticker => {}
        _ => found.sort_by(|(_, a), (_, b)| query.compare(a, b)),
    }
    let page: Vec<usize> = found.iter().skip(query.offset).take(query.limit).map(|(index, _)| *index).collect();
    let results = rows(snapshot, &page, Stock::of);
    Body::render(&List {
        success: true,
        count: results.len(),
        total: found.len(),
        limit: query.limit,
        offset: query.offset,
        results,
        timestamp: meta.as_of,
        meta,
    })
}

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
    company_name: &'a str,
    current_price: Price,
    change_percent: Option<f64>,
    market_cap: Option<()>,
    exchange: &'a str,
    match_type: Match,
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

/// `GET /api/stocks/search/?q=`: the best matches first.
pub fn search(snapshot: &Snapshot, meta: &Meta, text: &str) -> Body {
    let wanted = text.to_uppercase();
    let matches = |listing: &Listing| match listing.symbol.find(&wanted) {
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
        .map(|(match_type, listing, quote)| Hit {
            ticker: &listing.symbol,
            company_name: &listing.name,
            current_price: quote.price,
            change_percent: quote.change_percent(),
            market_cap: None,
            exchange: &listing.exchange,
            match_type,
            url: format!("/api/stocks/{}/", listing.symbol),
        })
        .collect();
    Body::render(&Found { success: true, query: text, count: results.len(), results, timestamp: meta.as_of, meta })
}
