//! Lists of stocks: filtered, sorted, paged. All from memory; ten thousand symbols take a fraction of a millisecond.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::rows::{Stock, volume_ratio};
use super::{Body, Column, Columns, Listing, Meta, Range, Snapshot};

/// Rows of a page where the client names no number that can be read, as it always was.
const USUAL_ROWS: usize = 50;

/// The most rows of a page.
const MOST_ROWS: usize = 100;

/// The largest offset.
const LARGEST_OFFSET: usize = 1_000_000;

/// What clients of the older paths bound, and where that is found. A bound is written `min_price` or `price_min`.
const BOUNDED: [(&str, Bounded); 18] = [
    ("price", Bounded::By(Column::Price)),
    ("volume", Bounded::By(Column::Volume)),
    ("change", Bounded::By(Column::ChangePercent)),
    ("change_percent", Bounded::By(Column::ChangePercent)),
    ("bid_price", Bounded::By(Column::Bid)),
    ("ask_price", Bounded::By(Column::Ask)),
    ("week_52_low", Bounded::By(Column::YearLow)),
    ("week_52_high", Bounded::By(Column::YearHigh)),
    ("avg_volume_3mon", Bounded::By(Column::AverageVolume)),
    ("dvav", Bounded::ByVolumeRatio),
    ("market_cap", Bounded::ByNothing),
    ("pe", Bounded::ByNothing),
    ("pe_ratio", Bounded::ByNothing),
    ("dividend_yield", Bounded::ByNothing),
    ("earnings_per_share", Bounded::ByNothing),
    ("book_value", Bounded::ByNothing),
    ("price_to_book", Bounded::ByNothing),
    ("one_year_target", Bounded::ByNothing),
];

/// What a list can be sorted by, under all the names that clients know.
#[rustfmt::skip]
const SORTED: [(&str, SortBy); 30] = [
    ("ticker", SortBy::Symbol),
    ("symbol", SortBy::Symbol),
    ("price", SortBy::Column(Column::Price)),
    ("current_price", SortBy::Column(Column::Price)),
    ("volume", SortBy::Column(Column::Volume)),
    ("volume_today", SortBy::Column(Column::Volume)),
    ("change", SortBy::Column(Column::Change)),
    ("price_change", SortBy::Column(Column::Change)),
    ("price_change_today", SortBy::Column(Column::Change)),
    ("change_percent", SortBy::Column(Column::ChangePercent)),
    ("price_change_percent", SortBy::Column(Column::ChangePercent)),
    ("price_change_week", SortBy::Column(Column::ChangeWeek)),
    ("price_change_month", SortBy::Column(Column::ChangeMonth)),
    ("price_change_year", SortBy::Column(Column::ChangeYear)),
    ("days_low", SortBy::Column(Column::Low)),
    ("days_high", SortBy::Column(Column::High)),
    ("bid_price", SortBy::Column(Column::Bid)),
    ("ask_price", SortBy::Column(Column::Ask)),
    ("week_52_low", SortBy::Column(Column::YearLow)),
    ("week_52_high", SortBy::Column(Column::YearHigh)),
    ("avg_volume_3mon", SortBy::Column(Column::AverageVolume)),
    ("dvav", SortBy::VolumeRatio),
    ("last_updated", SortBy::LastUpdated),
    ("market_cap", SortBy::Nothing),
    ("pe_ratio", SortBy::Nothing),
    ("dividend_yield", SortBy::Nothing),
    ("earnings_per_share", SortBy::Nothing),
    ("book_value", SortBy::Nothing),
    ("price_to_book", SortBy::Nothing),
    ("one_year_target", SortBy::Nothing),
];

/// The names of what can be bounded.
pub const BOUNDED_NAMES: [&str; BOUNDED.len()] = names(&BOUNDED);

/// The names of what a list can be sorted by.
pub const SORTED_NAMES: [&str; SORTED.len()] = names(&SORTED);

const fn names<T, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut place = 0;
    while place < N {
        names[place] = table[place].0;
        place += 1;
    }
    names
}

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
    /// Of the volume, in shares of the usual one.
    volume_ratio: Bounds,
    /// Of what no source tells.
    unknown: Bounds,
    sort_by: SortBy,
    descending: bool,
    /// What is heeded, as the client wrote it.
    applied: BTreeMap<String, String>,
}

/// Where the number is that a client bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounded {
    By(Column),
    ByVolumeRatio,
    /// No source tells it: a bound of it holds for no stock.
    ByNothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SortBy {
    Symbol,
    Column(Column),
    VolumeRatio,
    LastUpdated,
    /// Known of no stock, so that all are alike.
    Nothing,
}

/// Both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Bounds {
    least: Option<f64>,
    most: Option<f64>,
}

/// A listing that the filters admit: its index, and what it is sorted by.
struct Candidate {
    key: Option<i64>,
    index: usize,
}

/// The older word for a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Category {
    Gainers,
    Losers,
    /// Traded at all.
    HighVolume,
    /// By what no source tells.
    Capitalisation,
    Sector(String),
}

impl Bounds {
    /// What is not known is within no bounds.
    fn hold(self, value: Option<f64>) -> bool {
        match self {
            Self { least: None, most: None } => true,
            Self { least, most } => value
                .is_some_and(|value| least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most)),
        }
    }

    fn set(&mut self, least: bool, bound: f64) {
        let end = if least { &mut self.least } else { &mut self.most };
        *end = Some(bound);
    }
}

impl Category {
    fn named(value: &str) -> Self {
        match value.to_lowercase().as_str() {
            "gainers" => Self::Gainers,
            "losers" => Self::Losers,
            "high_volume" => Self::HighVolume,
            "large_cap" | "small_cap" => Self::Capitalisation,
            sector => Self::Sector(sector.to_owned()),
        }
    }
}

impl ListQuery {
    /// Reads query parameters as these paths always did: `limit` (at most 100, 50 if not given), `offset`, `search`, `exchange`,
    /// `sector`, `category` (`gainers`, `losers`, `high_volume`, `large_cap`, `small_cap` or a sector), bounds (`min_price` or
    /// `price_min`), `sort_by`, and `sort_order` (`desc` if not given). A number that is too large or too small is the nearest that
    /// can be used; what cannot be read is left out, and so is what is not known and what is empty. One that is given twice counts
    /// the last time. The answer says in `filters_applied` what was heeded.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut query = Self {
            limit: USUAL_ROWS,
            offset: 0,
            search: None,
            exchange: None,
            sector: None,
            category: None,
            ranges: Vec::new(),
            volume_ratio: Bounds::default(),
            unknown: Bounds::default(),
            sort_by: SortBy::Symbol,
            descending: false,
            applied: BTreeMap::new(),
        };
        let mut order = None;
        for (parameter, value) in pairs.map(|(parameter, value)| (parameter, value.trim())) {
            match parameter {
                _ if value.is_empty() => {}
                "sort_order" => order = Some(value),
                _ => query.set(parameter, value),
            }
        }
        let is_sorted = query.applied.contains_key("sort_by");
        query.descending = order.map_or(is_sorted, |order| order == "desc");
        query.applied.entry("sort_by".to_owned()).or_insert_with(|| "ticker".to_owned());
        query.applied.insert("sort_order".to_owned(), if query.descending { "desc" } else { "asc" }.to_owned());
        query
    }

    fn set(&mut self, parameter: &str, value: &str) {
        match parameter {
            "limit" => return self.limit = nearest(value, 0..=MOST_ROWS).unwrap_or(USUAL_ROWS),
            "offset" => return self.offset = nearest(value, 0..=LARGEST_OFFSET).unwrap_or(0),
            "search" => self.search = Some(value.to_lowercase()),
            "exchange" => self.exchange = Some(value.to_lowercase()),
            "sector" => self.sector = Some(value.to_lowercase()),
            "category" => self.category = Some(Category::named(value)),
            "sort_by" => match SORTED.iter().find(|(name, _)| *name == value) {
                Some((_, by)) => self.sort_by = *by,
                None => return,
            },
            _ => return self.bound(parameter, value),
        }
        self.applied.insert(parameter.to_owned(), value.to_owned());
    }

    /// `min_price` or `price_min`.
    fn bound(&mut self, parameter: &str, value: &str) {
        let least = parameter.strip_prefix("min_").or_else(|| parameter.strip_suffix("_min"));
        let most = parameter.strip_prefix("max_").or_else(|| parameter.strip_suffix("_max"));
        let (least, name) = match (least, most) {
            (Some(name), _) => (true, name),
            (None, Some(name)) => (false, name),
            (None, None) => return,
        };
        let bounded = BOUNDED.iter().find(|(known, _)| *known == name);
        let bound = value.parse().ok().filter(|number: &f64| number.is_finite());
        let Some(((name, bounded), bound)) = bounded.zip(bound) else { return };
        match bounded {
            Bounded::By(column) if least => self.range(*column).set_least(bound),
            Bounded::By(column) => self.range(*column).set_most(bound),
            Bounded::ByVolumeRatio => self.volume_ratio.set(least, bound),
            Bounded::ByNothing => self.unknown.set(least, bound),
        }
        self.applied.insert(format!("{}_{name}", if least { "min" } else { "max" }), value.to_owned());
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
            Some(Category::HighVolume) => quotes.value(Column::Volume, index).is_some_and(|volume| volume > 0),
            Some(Category::Capitalisation) => false,
            Some(Category::Sector(sector)) => listing.sector.to_lowercase() == *sector,
        };
        found && category && same(&self.sector, &listing.sector) && same(&self.exchange, &listing.exchange)
    }

    fn within(&self, quotes: &Columns, index: usize) -> bool {
        self.ranges.iter().all(|range| range.holds(quotes, index))
            && self.volume_ratio.hold(volume_ratio(quotes, index))
            && self.unknown.hold(None)
    }

    fn key(&self, quotes: &Columns, index: usize) -> Option<i64> {
        match self.sort_by {
            SortBy::Symbol | SortBy::Nothing => None,
            SortBy::Column(column) => quotes.value(column, index),
            SortBy::VolumeRatio => volume_ratio(quotes, index).map(|ratio| (ratio * 1e4).round() as i64),
            SortBy::LastUpdated => quotes.at(index).map(|at| at.timestamp_micros()),
        }
    }

    /// What is not known sorts last in either direction; what is alike stays in order of the symbols.
    fn compare(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let symbols = a.index.cmp(&b.index);
        match (a.key, b.key) {
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) if self.descending => b.cmp(&a).then(symbols),
            (Some(a), Some(b)) => a.cmp(&b).then(symbols),
            (None, None) if self.descending && self.sort_by == SortBy::Symbol => symbols.reverse(),
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

    /// Those that were always told, and what else was heeded.
    fn filters(&self) -> BTreeMap<&str, Option<&str>> {
        const UNSET: [&str; 8] = [
            "min_price",
            "max_price",
            "min_volume",
            "min_market_cap",
            "max_market_cap",
            "min_pe",
            "max_pe",
            "exchange",
        ];
        let unset = UNSET.into_iter().map(|name| (name, None));
        let empty = ["search", "category"].into_iter().map(|name| (name, Some("")));
        let applied = self.applied.iter().map(|(name, value)| (name.as_str(), Some(value.as_str())));
        unset.chain(empty).chain(applied).collect()
    }
}

/// A whole number, or the nearest to it that is within; `None` where it is no number.
pub fn nearest(value: &str, within: RangeInclusive<usize>) -> Option<usize> {
    let number: i128 = value.parse().ok()?;
    usize::try_from(number.clamp(*within.start() as i128, *within.end() as i128)).ok()
}

/// The rows stand there twice: clients of either generation look for them under another name.
#[derive(Serialize)]
struct List<'a> {
    success: bool,
    count: usize,
    total: usize,
    total_available: usize,
    limit: usize,
    offset: usize,
    filters_applied: BTreeMap<&'a str, Option<&'a str>>,
    data: &'a [Stock<'a>],
    results: &'a [Stock<'a>],
    timestamp: DateTime<Utc>,
    meta: &'a Meta,
}

/// `GET /api/stocks/`: one page of the symbols that have a quote; `total` counts those that the filters admit.
pub fn list(snapshot: &Snapshot, meta: &Meta, query: &ListQuery) -> Body {
    let quotes = &snapshot.quotes;
    let admitted = quotes.quoted().filter(|index| query.within(quotes, *index)).filter_map(|index| {
        let listing = snapshot.universe.listings().get(index)?;
        query.admits(listing, quotes, index).then(|| Candidate { key: query.key(quotes, index), index })
    });
    let found: Vec<Candidate> = admitted.collect();
    let total = found.len();
    let page = query.page(found);
    let rows: Vec<Stock<'_>> = page.iter().filter_map(|index| Stock::at(snapshot, *index)).collect();
    Body::render(&List {
        success: true,
        count: rows.len(),
        total,
        total_available: total,
        limit: query.limit,
        offset: query.offset,
        filters_applied: query.filters(),
        data: &rows,
        results: &rows,
        timestamp: meta.as_of,
        meta,
    })
}
