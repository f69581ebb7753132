//! The default provider: deterministic, alive, and honest about its troubles.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether::calendar::{Calendars, SharedCalendars};
use bellwether::clock::{SharedClock, SimClock};
use bellwether::ingest::past::{DailyRequest, PastForm};
use bellwether::ingest::providers::{RawQuote, SimulatedExchange};
use bellwether::ingest::{FetchOptions, FetchPlan, Fetcher, Wanted};
use bellwether::market::Universe;
use chrono::TimeDelta;

use crate::harness::instant;

const UNIVERSE: &str = include_str!("../../config/universe.csv");

fn exchange(seed: u64, at: &str) -> (Universe, Fetcher) {
    let universe = Universe::parse_csv(UNIVERSE, "config/universe.csv").unwrap();
    let clock = SimClock::at(instant(at)) as SharedClock;
    let exchange = SimulatedExchange::new(
        seed,
        Arc::new(SharedCalendars::new(Calendars::built_in().unwrap(), "XNYS").unwrap()),
        Arc::clone(&clock),
    );
    (universe, Fetcher::new(Arc::new(exchange), clock, FetchOptions { concurrency: 4, attempts: 1, hedge_percent: 0 }))
}

fn plan_of(at: &str) -> FetchPlan {
    let slot = instant(at);
    FetchPlan { slot, cadence: Duration::from_mins(3), deadline: slot + TimeDelta::minutes(1) }
}

async fn quotes(seed: u64, at: &str) -> (Universe, Vec<Option<RawQuote>>) {
    let (universe, fetcher) = exchange(seed, at);
    let wanted = Wanted::from((0..universe.len()).collect::<Vec<_>>());
    let plan = plan_of(at);
    let fetched = fetcher.fetch(&universe, &wanted, plan).await;
    assert_eq!(fetched.requests, 5, "607 symbols in batches of 200, and once more what was not answered for");
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

#[tokio::test]
async fn only_what_is_wanted_is_asked_for() {
    let (universe, fetcher) = exchange(1, "2027-03-15T15:00:00Z");
    let slot = instant("2027-03-15T15:00:00Z");
    let wanted: Vec<usize> = (0..universe.len()).step_by(10).collect();
    let plan = plan_of("2027-03-15T15:00:00Z");
    let fetched = fetcher.fetch(&universe, &Wanted::from(wanted.clone()), plan).await;
    assert_eq!((fetched.requests, fetched.quotes.len()), (1, universe.len()));
    assert!(fetched.quotes.iter().enumerate().all(|(index, quote)| quote.is_none() || wanted.contains(&index)));
    assert!(fetched.quotes.iter().flatten().count() > 55);
    assert_eq!(fetcher.progress().view(slot), None, "it is over");
}

#[tokio::test]
async fn daily_bars_are_what_the_quotes_of_the_day_said_at_its_end() {
    let (universe, fetcher) = exchange(1, "2027-03-16T14:00:00Z");
    let deadline = instant("2027-03-16T14:01:00Z");
    assert_eq!(fetcher.past().map(bellwether::ingest::past::Past::form), Some(PastForm::WholeMarket));
    let monday = DailyRequest::WholeMarket("2027-03-15".parse().unwrap());
    let (bars, requests) = fetcher.daily(&universe, monday, deadline).await.unwrap();
    assert_eq!((bars.len(), requests), (universe.len(), 1));
    let (_, evening) = quotes(1, "2027-03-15T23:00:00Z").await;
    let mut compared = 0;
    for bar in &bars {
        let Some(quote) = evening[universe.position(&bar.symbol).unwrap()] else { continue };
        if quote.halted || quote.at != Some(instant("2027-03-15T20:00:00Z")) {
            continue;
        }
        compared += 1;
        let ohlc = [bar.open, bar.high, bar.low, bar.close].map(|price| Some(price.to_f64()));
        assert_eq!(ohlc, [quote.open, quote.high, quote.low, quote.price], "{}", bar.symbol);
        assert_eq!(Some(bar.volume as f64), quote.volume, "{}", bar.symbol);
    }
    assert!(compared > 570, "{compared}");
    // Neither a Sunday nor the session under way has bars; the other form gives the same ones.
    for date in ["2027-03-14", "2027-03-16"] {
        let request = DailyRequest::WholeMarket(date.parse().unwrap());
        assert_eq!(fetcher.daily(&universe, request, deadline).await.unwrap(), (vec![], 1), "{date}");
    }
    let (from, to) = ("2027-03-11".parse().unwrap(), "2027-03-16".parse().unwrap());
    let range = DailyRequest::Symbols { wanted: &[0, 5], from, to, page: None };
    let (some, _) = fetcher.daily(&universe, range, deadline).await.unwrap();
    assert_eq!(some.len(), 6, "Thursday, Friday and Monday of two symbols");
    assert!(some.iter().filter(|bar| bar.date.to_string() == "2027-03-15").all(|bar| bars.contains(bar)));
    assert_eq!(fetcher.splits(from, deadline).await.unwrap().0, vec![], "nothing splits here");
}
