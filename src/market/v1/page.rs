//! One page of the quotes: filtered, sorted, and cut where the page before it ended.

use super::super::Snapshot;
use super::Cursor;
use super::query::{MOST_KEYS, Order, QuotesQuery};

/// What is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Indices of the universe, in order.
    pub rows: Vec<usize>,
    /// How many there are on all pages together.
    pub total: usize,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
    /// Of the symbols that were named: those that are not in the universe.
    pub unknown: Vec<String>,
    /// Of the symbols that were named: those that are in it and were never quoted.
    pub unquoted: Vec<String>,
}

/// What a row is sorted by, smallest first, and its index in the direction of the symbols. What is not known is largest,
/// whatever the direction.
type Place = ([i64; MOST_KEYS], i64);

/// The page of `query` in `snapshot`.
pub fn page(snapshot: &Snapshot, query: &QuotesQuery) -> Page {
    let (candidates, unknown, unquoted) = candidates(snapshot, query);
    let admitted = candidates.into_iter().filter(|index| {
        let listing = snapshot.universe.listings().get(*index);
        listing.is_some_and(|listing| query.admits(listing, &snapshot.quotes, *index))
    });
    let mut found: Vec<(Place, usize)> = admitted.map(|index| (place(snapshot, &query.order, index), index)).collect();
    let total = found.len();
    if let Some(cursor) = query.cursor() {
        let end = end_of(snapshot, &query.order, cursor);
        found.retain(|(place, _)| *place >= end);
    }
    let more = found.len() > query.limit;
    if more {
        found.select_nth_unstable(query.limit);
        found.truncate(query.limit);
    }
    found.sort_unstable();
    let last = found.last().filter(|_| more);
    let next = last.and_then(|((keys, _), index)| {
        let symbol = snapshot.universe.listings().get(*index)?.symbol.clone();
        Some(Cursor { cycle: snapshot.cycle.id, query: query.digest(), keys: *keys, symbol })
    });
    Page { rows: found.into_iter().map(|(_, index)| index).collect(), total, next, unknown, unquoted }
}

/// The indices to look at, and of the symbols that were named those that cannot be found.
fn candidates(snapshot: &Snapshot, query: &QuotesQuery) -> (Vec<usize>, Vec<String>, Vec<String>) {
    let Some(symbols) = &query.symbols else { return (snapshot.quotes.quoted().collect(), Vec::new(), Vec::new()) };
    let (mut found, mut unknown, mut unquoted) = (Vec::new(), Vec::new(), Vec::new());
    for symbol in symbols {
        match snapshot.universe.position_ignoring_case(symbol) {
            None => unknown.push(symbol.clone()),
            Some(index) if snapshot.quotes.is_quoted(index) => found.push(index),
            Some(_) => unquoted.push(symbol.clone()),
        }
    }
    (found, unknown, unquoted)
}

fn place(snapshot: &Snapshot, order: &Order, index: usize) -> Place {
    let mut keys = [0; MOST_KEYS];
    for (key, (column, descending)) in keys.iter_mut().zip(&order.columns) {
        let value = snapshot.quotes.value(*column, index);
        *key = value.map_or(i64::MAX, |value| if *descending { value.saturating_neg() } else { value });
    }
    (keys, if order.symbols_descend { -signed(index) } else { signed(index) })
}

/// The smallest place after the page that `cursor` ended. The universe may have changed since, so the place of a symbol in it
/// is looked up anew; the numbers are those that the client has seen.
fn end_of(snapshot: &Snapshot, order: &Order, cursor: &Cursor) -> Place {
    let listings = snapshot.universe.listings();
    let next = match order.symbols_descend {
        true => 1 - signed(listings.partition_point(|listing| listing.symbol < cursor.symbol)),
        false => signed(listings.partition_point(|listing| listing.symbol <= cursor.symbol)),
    };
    (cursor.keys, next)
}

fn signed(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
