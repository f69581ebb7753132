//! Lists of stocks: filtered, sorted, paged, searched. All from memory; ten thousand symbols take a fraction of a millisecond.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::rows::{Stock, known, quoted};
use super::{Body, Column, Columns, Listing, Meta, Price, Range, Snapshot};

/// The most results of a search.
const MOST_RESULTS: usize = 50;

/// What a client wants listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    limit: usize,
    offset: usize,
    search: Option<String>,
    exchange: Option<String>,
    sector: Option<String>,
    category: Option<Category>,
    ranges: Vec<Range>,
    /// By the symbol where no column is named.
    sort_by: Option<Column>,
    descending: bool,
}

/// A listing that the filters admit: its index, and what it is sorted by.
struct Candidate {
    key: Option<i64>,
    index: usize,
}

/// The older word for a filter: a direction, or a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Category {
    Gainers,
    Losers,
    Sector(String),
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

impl ListQuery {
    /// Reads query parameters: `limit` (1 to 100, 20 if not given), `offset`, `search`, `exchange`, `sector`, `category`
    /// (`gainers`, `losers` or a sector), `min_price`, `max_price`, `min_volume`, `max_volume`, `min_change` and `max_change`
    /// in percent, `sort_by` and `sort_order`. Unknown ones are ignored, as these paths always did, and so are empty ones,
    /// which a form sends for what was left blank; one given twice counts the last time.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, QueryError> {
        let mut query = Self {
            limit: 20,
            offset: 0,
            search: None,
            exchange: None,
            sector: None,
            category: None,
            ranges: Vec::new(),
            sort_by: None,
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
            "sector" => self.sector = Some(value.to_lowercase()),
            "category" => self.category = Some(category(value)?),
            "min_price" => self.range(Column::Price).set_least(number(value)?),
            "max_price" => self.range(Column::Price).set_most(number(value)?),
            "min_volume" => self.range(Column::Volume).set_least(number(value)?),
            "max_volume" => self.range(Column::Volume).set_most(number(value)?),
            "min_change" => self.range(Column::ChangePercent).set_least(number(value)?),
            "max_change" => self.range(Column::ChangePercent).set_most(number(value)?),
            "sort_by" => self.sort_by = sort_by(value)?,
            "sort_order" => {
                self.descending = match value {
                    "asc" => false,
                    "desc" => true,
                    _ => return Err(format!("{value:?} is no order; write asc or desc")),
                };
            }
            _ => {}
        }
        Ok(())
    }

    /// The range of a column, all of it where none was given yet.
    fn range(&mut self, column: Column) -> &mut Range {
        let place = self.ranges.iter().position(|range| range.column() == column).unwrap_or(self.ranges.len());
        if place == self.ranges.len() {
            self.ranges.push(Range::of(column));
        }
        &mut self.ranges[place]
    }

    fn admits(&self, listing: &Listing, quotes: &Columns, index: usize) -> bool {
        let same =
            |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| has.to_lowercase() == *wanted);
        let found = self.search.as_ref().is_none_or(|text| {
            listing.symbol.to_lowercase().contains(text) || listing.name.to_lowercase().contains(text)
        });
        // By the change itself, as the statistics count: its percentage may be rounded to nothing.
        let direction = quotes.value(Column::Change, index);
        let category = match &self.category {
            None => true,
            Some(Category::Gainers) => direction.is_some_and(|change| change > 0),
            Some(Category::Losers) => direction.is_some_and(|change| change < 0),
            Some(Category::Sector(sector)) => listing.sector.to_lowercase() == *sector,
        };
        found && category && same(&self.sector, &listing.sector) && same(&self.exchange, &listing.exchange)
    }

    /// What is not known sorts last in either direction; what is alike stays in order of the symbols.
    fn compare(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let symbols = a.index.cmp(&b.index);
        match (a.key, b.key) {
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) if self.descending => b.cmp(&a).then(symbols),
            (Some(a), Some(b)) => a.cmp(&b).then(symbols),
            (None, None) if self.descending && self.sort_by.is_none() => symbols.reverse(),
            (None, None) => symbols,
        }
    }

    /// The indices of the page. Only what comes up to its end is sorted.
    fn page(&self, mut found: Vec<Candidate>) -> Vec<usize> {
        let end = self.offset.saturating_add(self.limit);
        if end < found.len() {
            found.select_nth_unstable_by(end, |a, b| self.compare(a, b));
            found.truncate(end);
        }
        found.sort_unstable_by(|a, b| self.compare(a, b));
        found.iter().skip(self.offset).map(|candidate| candidate.index).collect()
    }
}

pub(super) fn whole(value: &str, least: usize, most: usize) -> Result<usize, String> {
    let parsed = value.parse().ok().filter(|number| (least..=most).contains(number));
    parsed.ok_or_else(|| format!("{value:?} is not a whole number from {least} to {most}; write one, or leave it out"))
}

pub(super) fn number(value: &str) -> Result<f64, String> {
    let parsed = value.parse().ok().filter(|number: &f64| number.is_finite());
    parsed.ok_or_else(|| format!("{value:?} is not a number; write one such as 12.5, or leave it out"))
}

/// A sector is any text, but the older categories that need what is not known would look like an empty market.
fn category(value: &str) -> Result<Category, String> {
    match value.to_lowercase().as_str() {
        "gainers" => Ok(Category::Gainers),
        "losers" => Ok(Category::Losers),
        "high_volume" => Err("\"high_volume\" is no filter here; write sort_by=volume&sort_order=desc".to_owned()),
        "large_cap" | "small_cap" => Err(format!(
            "{value:?} cannot be told, no market capitalisation is known; write gainers, losers or a sector"
        )),
        sector => Ok(Category::Sector(sector.to_owned())),
    }
}

fn sort_by(value: &str) -> Result<Option<Column>, String> {
    match value {
        "ticker" | "symbol" => Ok(None),
        "price" | "current_price" => Ok(Some(Column::Price)),
        "volume" => Ok(Some(Column::Volume)),
        "change" | "price_change" | "price_change_today" => Ok(Some(Column::Change)),
        "change_percent" | "price_change_percent" => Ok(Some(Column::ChangePercent)),
        "price_change_week" => Ok(Some(Column::ChangeWeek)),
        "price_change_month" => Ok(Some(Column::ChangeMonth)),
        "price_change_year" => Ok(Some(Column::ChangeYear)),
        "week_52_low" => Ok(Some(Column::YearLow)),
        "week_52_high" => Ok(Some(Column::YearHigh)),
        "avg_volume_3mon" => Ok(Some(Column::AverageVolume)),
        _ => Err(format!(
            "{value:?} is nothing to sort by; write ticker, price, volume, change, change_percent, price_change_week, \
             price_change_month, price_change_year, week_52_low, week_52_high or avg_volume_3mon"
        )),
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

/// `GET /api/stocks/`: one page of the symbols that have a quote; `total` counts those that the filters admit.
pub fn list(snapshot: &Snapshot, meta: &Meta, query: &ListQuery) -> Body {
    let quotes = &snapshot.quotes;
    let within = |index: &usize| query.ranges.iter().all(|range| range.holds(quotes, *index));
    let admitted = quotes.quoted().filter(within).filter_map(|index| {
        let listing = snapshot.universe.listings().get(index)?;
        let key = query.sort_by.and_then(|column| quotes.value(column, index));
        query.admits(listing, quotes, index).then_some(Candidate { key, index })
    });
    let found: Vec<Candidate> = admitted.collect();
    let total = found.len();
    let page = query.page(found);
    let results: Vec<Stock<'_>> = page.iter().filter_map(|index| Stock::at(snapshot, *index)).collect();
    Body::render(&List {
        success: true,
        count: results.len(),
        total,
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
    company_name: Option<&'a str>,
    current_price: Price,
    change_percent: Option<f64>,
    market_cap: Option<()>,
    exchange: Option<&'a str>,
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

/// Of what a symbol may hold, only these two mean something else in a path.
fn url_of(symbol: &str) -> String {
    format!("/api/stocks/{}/", symbol.replace('/', "%2F").replace('^', "%5E"))
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
        .map(|(match_type, listing, quote)| Hit {
            ticker: &listing.symbol,
            company_name: known(&listing.name),
            current_price: quote.price,
            change_percent: quote.change_percent(),
            market_cap: None,
            exchange: known(&listing.exchange),
            match_type,
            url: url_of(&listing.symbol),
        })
        .collect();
    Body::render(&Found { success: true, query: text, count: results.len(), results, timestamp: meta.as_of, meta })
}
