//! The default provider: deterministic, alive, and honest about its troubles.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether::calendar::{Calendars, SharedCalendars};
use bellwether::clock::{SharedClock, SimClock};
use bellwether::ingest::providers::{Provider, RawQuote, SimulatedExchange};
use bellwether::ingest::{Budget, FetchPlan, Quota, fetch};
use bellwether::market::Universe;
use chrono::TimeDelta;

use crate::harness::instant;

const UNIVERSE: &str = include_str!("../../config/universe.csv");

async fn quotes(seed: u64, at: &str) -> (Universe, Vec<Option<RawQuote>>) {
    let universe = Universe::parse_csv(UNIVERSE, "config/universe.csv").unwrap();
    let clock = SimClock::at(instant(at)) as SharedClock;
    let exchange = SimulatedExchange::new(
        seed,
        Arc::new(SharedCalendars::new(Calendars::built_in().unwrap(), "XNYS").unwrap()),
        Arc::clone(&clock),
    );
    let quota = Quota { requests: 1_000, per: Duration::from_secs(1), burst: 1_000 };
    let budget = Budget::new(quota, Arc::clone(&clock));
    let deadline = instant(at) + TimeDelta::minutes(1);
    let plan = FetchPlan { concurrency: 4, attempts: 1, deadline };
    let fetched = fetch(&exchange as &dyn Provider, &budget, &clock, &universe, plan).await;
    assert_eq!(fetched.requests, 4, "607 symbols in batches of 200");
    (universe, fetched.quotes)
}

#[tokio::test]
async fn the_same_seed_and_instant_give_the_same_quotes() {
    let (_, one) = quotes(7, "2027-03-15T15:00:00Z").await;
    let (_, two) = quotes(7, "2027-03-15T15:00:00Z").await;
    let (_, other) = quotes(8, "2027-03-15T15:00:00Z").await;
    assert_eq!(one, two);
    assert_ne!(one, other);
}

#[tokio::test]
async fn prices_walk_and_volumes_grow_through_the_session() {
    let (universe, morning) = quotes(1, "2027-03-15T14:00:00Z").await;
    let (_, noon) = quotes(1, "2027-03-15T16:00:00Z").await;
    let (_, evening) = quotes(1, "2027-03-15T23:00:00Z").await;
    let mut moved = 0;
    let mut seen = 0;
    for (index, listing) in universe.listings().iter().enumerate() {
        let (Some(a), Some(b), Some(c)) = (morning[index], noon[index], evening[index]) else { continue };
        if c.halted || a.at < Some(instant("2027-03-15T13:30:00Z")) {
            continue;
        }
        seen += 1;
        assert!(a.volume <= b.volume && b.volume <= c.volume, "{}: {a:?} {b:?} {c:?}", listing.symbol);
        assert!(a.high <= b.high && b.high <= c.high && a.low >= b.low && b.low >= c.low, "{}", listing.symbol);
        assert!(c.low <= c.price && c.price <= c.high && c.bid < c.ask, "{}: {c:?}", listing.symbol);
        assert_eq!((a.previous_close, a.open), (c.previous_close, c.open), "{}", listing.symbol);
        moved += usize::from(a.price != b.price);
    }
    assert!(seen > 570 && moved * 10 > seen * 9, "{moved} of {seen} moved");
    // The day after, the close of today is the close before.
    let (_, next_day) = quotes(1, "2027-03-16T14:00:00Z").await;
    for (today, tomorrow) in evening.iter().zip(&next_day) {
        if let (Some(today), Some(tomorrow)) = (today, tomorrow)
            && !today.halted
            && today.at == Some(instant("2027-03-15T20:00:00Z"))
            && tomorrow.at > Some(instant("2027-03-16T13:30:00Z"))
        {
            assert_eq!(tomorrow.previous_close, today.price);
        }
    }
}

#[tokio::test]
async fn a_few_symbols_fail_halt_and_go_stale_on_purpose() {
    let (mut failed, mut halted, mut stale) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for at in ["2027-03-15T16:00:00Z", "2027-03-15T16:03:00Z"] {
        let (_, quotes) = quotes(20_260_102, at).await;
        for (index, quote) in quotes.iter().enumerate() {
            match quote {
                None => _ = failed.insert(index),
                Some(quote) if quote.halted => _ = halted.insert(index),
                Some(quote) if quote.at < Some(instant("2027-03-15T13:30:00Z")) => _ = stale.insert(index),
                Some(_) => {}
            }
        }
    }
    for (what, indices) in [("failed", &failed), ("halted", &halted), ("stale", &stale)] {
        assert!((1..=20).contains(&indices.len()), "{what}: {}", indices.len());
    }
}
