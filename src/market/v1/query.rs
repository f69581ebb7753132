//! What a client wants of the quotes: which, in what order, which fields, how many.

use sha2::{Digest, Sha256};

use super::super::{Column, Columns, Listing, Range};
use super::{Cursor, Field};

/// Rows of a page at most, and symbols that can be named at once.
pub const MOST_ROWS: usize = 500;

/// Rows of a page where the client names neither a number nor symbols.
const DEFAULT_ROWS: usize = 100;

/// The most columns to sort by.
pub(super) const MOST_KEYS: usize = 3;

/// A parameter that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {message}")]
pub struct QueryError {
    /// Its name.
    pub parameter: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Every parameter.
pub const PARAMETERS: &[&str] = &[
    "symbols",
    "fields",
    "search",
    "exchange",
    "sector",
    "min_price",
    "max_price",
    "min_previous_close",
    "max_previous_close",
    "min_change",
    "max_change",
    "min_change_percent",
    "max_change_percent",
    "min_open",
    "max_open",
    "min_high",
    "max_high",
    "min_low",
    "max_low",
    "min_bid",
    "max_bid",
    "min_ask",
    "max_ask",
    "min_volume",
    "max_volume",
    "min_change_week",
    "max_change_week",
    "min_change_month",
    "max_change_month",
    "min_change_year",
    "max_change_year",
    "min_change_week_percent",
    "max_change_week_percent",
    "min_change_month_percent",
    "max_change_month_percent",
    "min_change_year_percent",
    "max_change_year_percent",
    "min_week_52_low",
    "max_week_52_low",
    "min_week_52_high",
    "max_week_52_high",
    "min_avg_volume_3mon",
    "max_avg_volume_3mon",
    "sort",
    "limit",
    "cursor",
];

/// What to sort by; rows that are alike stay in order of their symbols.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Order {
    /// Columns, each with whether its largest come first.
    pub columns: Vec<(Column, bool)>,
    /// Whether the symbols go from Z to A.
    pub symbols_descend: bool,
}

/// A query of `/api/v1/quotes`.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotesQuery {
    /// As they were written, each once.
    pub(super) symbols: Option<Vec<String>>,
    search: Option<String>,
    exchange: Option<String>,
    sector: Option<String>,
    ranges: Vec<Range>,
    pub(super) order: Order,
    fields: Vec<Field>,
    pub(super) limit: usize,
    cursor: Option<Cursor>,
}

impl QuotesQuery {
    /// Reads parameters, each given once; an empty one counts as not given, but for `symbols`: whoever names none of them by mistake
    /// does not want the whole market.
    ///
    /// # Errors
    /// The first value that cannot be used, with what would be right.
    pub fn parse<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, QueryError> {
        let mut query = Self {
            symbols: None,
            search: None,
            exchange: None,
            sector: None,
            ranges: Vec::new(),
            order: Order::default(),
            fields: Field::ALL[..Field::USUAL].to_vec(),
            limit: 0,
            cursor: None,
        };
        let mut limit = None;
        let pairs = pairs.map(|(name, value)| (name, value.trim()));
        for (parameter, value) in pairs.filter(|(name, value)| !value.is_empty() || *name == "symbols") {
            let outcome = match parameter {
                "limit" => whole(value, 1, MOST_ROWS).map(|rows| limit = Some(rows)),
                _ => query.set(parameter, value),
            };
            outcome.map_err(|message| QueryError { parameter: parameter.to_owned(), message })?;
        }
        // Who names symbols wants all of them.
        query.limit = limit.unwrap_or(if query.symbols.is_some() { MOST_ROWS } else { DEFAULT_ROWS });
        if query.cursor.as_ref().is_some_and(|cursor| cursor.query != query.digest()) {
            let message =
                "it is of another query; go on with the same filters and order, or begin without it".to_owned();
            return Err(QueryError { parameter: "cursor".to_owned(), message });
        }
        Ok(query)
    }

    fn set(&mut self, parameter: &str, value: &str) -> Result<(), String> {
        match parameter {
            "symbols" => self.symbols = Some(symbols(value)?),
            "fields" => self.fields = parse_fields(value)?,
            "search" => self.search = Some(value.to_lowercase()),
            "exchange" => self.exchange = Some(value.to_lowercase()),
            "sector" => self.sector = Some(value.to_lowercase()),
            "sort" => self.order = order(value)?,
            "cursor" => {
                let cursor = Cursor::of_text(value);
                self.cursor =
                    Some(cursor.ok_or("it is none of ours; pass back what `next_cursor` held, or begin without it")?);
            }
            _ => self.bound(parameter, value)?,
        }
        Ok(())
    }

    /// `min_` and `max_` of a column.
    fn bound(&mut self, parameter: &str, value: &str) -> Result<(), String> {
        let Some((end, name)) = parameter.split_once('_') else { return Ok(()) };
        let Some(column) = Column::ALL.into_iter().find(|column| column.name() == name) else { return Ok(()) };
        let bound = number(value)?;
        let place = self.ranges.iter().position(|range| range.column() == column).unwrap_or(self.ranges.len());
        if place == self.ranges.len() {
            self.ranges.push(Range::of(column));
        }
        match end {
            "min" => self.ranges[place].set_least(bound),
            _ => self.ranges[place].set_most(bound),
        }
        Ok(())
    }

    /// What each row holds.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where to go on.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Names all that decides which rows there are and in which order: a cursor is good for that alone.
    pub(super) fn digest(&self) -> [u8; 8] {
        let mut symbols = self.symbols.clone();
        if let Some(symbols) = &mut symbols {
            symbols.iter_mut().for_each(|symbol| symbol.make_ascii_uppercase());
            symbols.sort();
        }
        let mut ranges = self.ranges.clone();
        ranges.sort_by_key(|range| range.column().name());
        let said =
            format!("{symbols:?}{:?}{:?}{:?}{ranges:?}{:?}", self.search, self.exchange, self.sector, self.order);
        let hash = Sha256::digest(said.as_bytes());
        std::array::from_fn(|place| hash[place])
    }

    /// Whether what was ever quoted is wanted; symbols that are named were looked up already.
    pub(super) fn admits(&self, listing: &Listing, quotes: &Columns, index: usize) -> bool {
        let same =
            |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| has.to_lowercase() == *wanted);
        self.ranges.iter().all(|range| range.holds(quotes, index))
            && same(&self.exchange, &listing.exchange)
            && same(&self.sector, &listing.sector)
            && self.search.as_ref().is_none_or(|text| {
                listing.symbol.to_lowercase().contains(text) || listing.name.to_lowercase().contains(text)
            })
    }
}

fn symbols(value: &str) -> Result<Vec<String>, String> {
    let mut symbols: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for symbol in value.split(',').map(str::trim).filter(|symbol| !symbol.is_empty()) {
        if seen.insert(symbol.to_ascii_uppercase()) {
            symbols.push(symbol.to_owned());
        }
    }
    match symbols.len() {
        0 => Err("no symbol is named; write some such as AAPL,BRK.B".to_owned()),
        1..=MOST_ROWS => Ok(symbols),
        count => Err(format!("{count} symbols are too many; name at most {MOST_ROWS} at a time")),
    }
}

/// The fields in a comma-separated text, in its order.
///
/// # Errors
/// One that there is not, or that is named twice.
pub fn parse_fields(value: &str) -> Result<Vec<Field>, String> {
    let mut fields: Vec<Field> = Vec::new();
    for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let field = Field::named(name).ok_or_else(|| {
            let known: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
            format!("{name:?} is no field; choose from {}", known.join(", "))
        })?;
        if fields.contains(&field) {
            return Err(format!("{name} is named twice; once is enough"));
        }
        fields.push(field);
    }
    match fields.is_empty() {
        true => Err("no field is named; write some such as symbol,price".to_owned()),
        false => Ok(fields),
    }
}

fn order(value: &str) -> Result<Order, String> {
    let (mut order, mut symbols) = (Order::default(), None);
    for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
        let column = Column::ALL.into_iter().find(|column| column.name() == name);
        if symbols.is_some() {
            return Err(format!("{text:?} comes after symbol, and no two symbols are alike; leave it out"));
        }
        match column {
            Some(column) if order.columns.iter().any(|(other, _)| *other == column) => {
                return Err(format!("{name} is named twice; once is enough"));
            }
            Some(column) => order.columns.push((column, descending)),
            None if name == "symbol" => symbols = Some(descending),
            None => {
                let known: Vec<_> = Column::ALL.iter().map(|column| column.name()).collect();
                return Err(format!("{name:?} is nothing to sort by; choose from symbol, {}", known.join(", ")));
            }
        }
    }
    if order.columns.len() > MOST_KEYS {
        return Err(format!("{} columns are too many to sort by; name at most {MOST_KEYS}", order.columns.len()));
    }
    order.symbols_descend = symbols.unwrap_or(false);
    Ok(order)
}

fn whole(value: &str, least: usize, most: usize) -> Result<usize, String> {
    let parsed = value.parse().ok().filter(|number| (least..=most).contains(number));
    parsed.ok_or_else(|| format!("{value:?} is not a whole number from {least} to {most}; write one, or leave it out"))
}

fn number(value: &str) -> Result<f64, String> {
    let parsed = value.parse().ok().filter(|number: &f64| number.is_finite());
    parsed.ok_or_else(|| format!("{value:?} is not a number; write one such as 12.5, or leave it out"))
}
