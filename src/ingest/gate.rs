//! PURE: which of a provider's words become quotes.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::providers::RawQuote;
use crate::market::{Price, Quote, QuoteFlags, SUSPICIOUS_MOVE_PERCENT, Snapshot, Universe};

/// A quote from further in the future than this has a wrong clock, not news.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What a cycle brought, laid over what was known.
#[derive(Debug, Clone, PartialEq)]
pub struct Gated {
    /// By index of the universe: the new quote, or the last known one marked as not refreshed.
    pub quotes: Vec<Option<Quote>>,
    /// Indices that have a valid quote of the session from this cycle.
    pub fresh: Vec<usize>,
    /// How many of those have another time than the cycle before knew: a source that stands still for a part of the market has fewer.
    pub moved: u32,
    /// Indices whose quote is news, fresh or not: what is to be stored.
    pub learned: Vec<usize>,
    /// Symbols the provider said nothing of.
    pub missing: u32,
    /// Symbols whose quote was unset or invalid.
    pub invalid: u32,
    /// Symbols whose quote is older than the session.
    pub outdated: u32,
    /// The newest time of a fresh quote.
    pub newest: Option<DateTime<Utc>>,
}

/// Lets a cycle's words through. `session_start` is where the session begins that quotes must belong to.
pub fn gate(
    universe: &Universe,
    raw: &[Option<RawQuote>],
    previous: Option<&Snapshot>,
    session_start: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Gated {
    let mut gated = Gated {
        quotes: Vec::with_capacity(raw.len()),
        fresh: Vec::new(),
        moved: 0,
        learned: Vec::new(),
        missing: 0,
        invalid: 0,
        outdated: 0,
        newest: None,
    };
    for (index, listing) in universe.listings().iter().enumerate() {
        let known = previous.and_then(|snapshot| known_quote(snapshot, universe, index, &listing.symbol));
        let quote = match raw.get(index).and_then(Option::as_ref) {
            None => {
                gated.missing += 1;
                None
            }
            Some(words) => admit(words, now).or_else(|| {
                gated.invalid += 1;
                None
            }),
        };
        let quote = match quote {
            Some(quote) if quote.at >= session_start => {
                // A node of the provider that lags takes nothing back.
                let quote = known.filter(|known| known.at > quote.at).map_or(quote, refreshed);
                gated.fresh.push(index);
                gated.moved += u32::from(known.is_none_or(|known| known.at != quote.at));
                gated.learned.push(index);
                gated.newest = gated.newest.max(Some(quote.at));
                Some(quote)
            }
            Some(outdated) => {
                gated.outdated += 1;
                let known = known.filter(|known| known.at >= outdated.at);
                if known.is_none() {
                    gated.learned.push(index);
                }
                Some(not_refreshed(known.unwrap_or(outdated)))
            }
            None => known.map(not_refreshed),
        };
        gated.quotes.push(quote);
    }
    gated
}

/// Which quotes of a cycle are to be asked for once more: those that moved over 25 % from the previous close for the first
/// time. What the last cycle has confirmed already is believed.
pub fn to_confirm(
    universe: &Universe,
    raw: &[Option<RawQuote>],
    previous: Option<&Snapshot>,
    session_start: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<usize> {
    let moved = |quote: &Quote| quote.at >= session_start && quote.flags.contains(QuoteFlags::MOVED_OVER_25_PERCENT);
    let listings = universe.listings().iter().enumerate();
    let first_time = listings.filter(|(index, listing)| {
        let quote = raw.get(*index).and_then(Option::as_ref).and_then(|words| admit(words, now));
        let known = || previous.and_then(|snapshot| known_quote(snapshot, universe, *index, &listing.symbol));
        quote.is_some_and(|quote| moved(&quote)) && !known().is_some_and(|known| moved(&known))
    });
    first_time.map(|(index, _)| index).collect()
}

/// The same universe has the same indices; another one is searched.
fn known_quote(snapshot: &Snapshot, universe: &Universe, index: usize, symbol: &str) -> Option<Quote> {
    let same = std::ptr::eq(Arc::as_ptr(&snapshot.universe), universe);
    let position = if same { Some(index) } else { snapshot.universe.position(symbol) };
    snapshot.quotes.get(position?)
}

/// The same quote, marked as kept from an earlier cycle.
pub fn not_refreshed(mut quote: Quote) -> Quote {
    quote.flags.insert(QuoteFlags::NOT_REFRESHED);
    quote
}

/// The same quote, which the provider has answered for again.
fn refreshed(mut quote: Quote) -> Quote {
    quote.flags.0 &= !QuoteFlags::NOT_REFRESHED.0;
    quote
}

/// A price above zero and a time of its own make a quote; everything else may be unknown.
fn admit(words: &RawQuote, now: DateTime<Utc>) -> Option<Quote> {
    let price = words.price.and_then(Price::from_decimal)?;
    let at = words.at.filter(|at| *at <= now + CLOCK_TOLERANCE)?;
    let known = |value: Option<f64>| value.and_then(Price::from_decimal);
    let mut quote = Quote {
        at,
        price,
        previous_close: known(words.previous_close),
        open: known(words.open),
        high: known(words.high),
        low: known(words.low),
        bid: known(words.bid),
        ask: known(words.ask),
        volume: words.volume.filter(|volume| *volume >= 0.0 && *volume < 9e15).map(|volume| volume.round() as i64),
        flags: QuoteFlags::default(),
    };
    if words.halted {
        quote.flags.insert(QuoteFlags::HALTED);
    }
    if quote.change_percent().is_some_and(|percent| percent.abs() > SUSPICIOUS_MOVE_PERCENT) {
        quote.flags.insert(QuoteFlags::MOVED_OVER_25_PERCENT);
    }
    Some(quote)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::market::{Columns, Cycle};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn said(second: i64, price: f64) -> RawQuote {
        RawQuote { at: Some(at(second)), price: Some(price), ..RawQuote::default() }
    }

    /// The state after a cycle that brought `raw` for the only symbol.
    fn after(universe: &Arc<Universe>, raw: RawQuote, previous: Option<&Snapshot>) -> (Gated, Snapshot) {
        let gated = gate(universe, &[Some(raw)], previous, at(0), at(1_000));
        let cycle = Cycle {
            id: Uuid::nil(),
            slot: at(0),
            source: "test".to_owned(),
            simulated: true,
            as_of: at(0),
            finished_at: at(0),
            expected: 1,
            fresh: 1,
            failed: 0,
        };
        let quotes = Columns::of(&gated.quotes);
        (gated, Snapshot { universe: Arc::clone(universe), quotes, cycle })
    }

    #[test]
    fn a_provider_that_lags_takes_nothing_back() {
        let universe = Arc::new(Universe::parse_csv("symbol\nAAPL\n", "test.csv").unwrap());
        let (_, first) = after(&universe, said(100, 20.0), None);
        let (lagging, second) = after(&universe, said(40, 19.0), Some(&first));
        assert_eq!((lagging.fresh.as_slice(), lagging.newest), (&[0][..], Some(at(100))));
        assert_eq!(lagging.moved, 0, "it counts as fresh, and has not moved");
        assert_eq!(
            second.quotes.get(0),
            first.quotes.get(0),
            "with its price and its time, and as an answer of this cycle"
        );
        let (newer, third) = after(&universe, said(101, 21.0), Some(&second));
        assert_eq!(newer.moved, 1);
        assert_eq!(third.quotes.get(0).map(|quote| quote.price), Price::from_decimal(21.0));
    }
}
