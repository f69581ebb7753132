//! How calls leave, and what is learned from them: deadlines, the breaker, the pace, refusals.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bellwether::clock::{Clock, SharedClock, SimClock, SystemClock};
use bellwether::ingest::past::DailyRequest;
use bellwether::ingest::{BreakerState, FetchOptions, FetchPlan, Fetched, Fetcher, Trouble, Wanted, fetch_and_gate};
use bellwether::market::Universe;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, json};

use crate::fetching::{a_price_for_each, all_of, alpaca, alpaca_of, universe};
use crate::harness::{eventually, instant};
use crate::sim_host::{self, Answer, Asked, SimHost};

const OPTIONS: FetchOptions = FetchOptions { concurrency: 8, attempts: 1, hedge_percent: 0 };

fn numbered(count: usize) -> Universe {
    universe((0..count).map(|n| format!("S{n:04}")))
}

fn silence(milliseconds: u64) -> sim_host::Trouble {
    sim_host::Trouble::Silence(Duration::from_millis(milliseconds))
}

async fn fetch(
    fetcher: &Fetcher,
    universe: &Universe,
    wanted: &Wanted,
    now: DateTime<Utc>,
    span: TimeDelta,
) -> Fetched {
    let plan = FetchPlan { slot: now, cadence: Duration::from_mins(3), deadline: now + span };
    fetcher.fetch(universe, wanted, plan).await
}

/// Lets the simulated time pass, a second for each moment in which nothing happens.
async fn while_seconds_pass<T>(clock: &SimClock, done: impl Future<Output = T>) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        match tokio::time::timeout(Duration::from_millis(20), &mut done).await {
            Ok(done) => return done,
            Err(_) => clock.advance(TimeDelta::seconds(1)),
        }
    }
}

/// The first symbol has fallen by half since yesterday.
fn with_a_mover(asked: &Asked) -> Answer {
    let day = asked.now.date_naive();
    let map: Map<_, _> = asked
        .list("symbols")
        .into_iter()
        .map(|symbol| {
            let before = if symbol == "S0000" { 21.0 } else { 10.0 };
            let bar = |close: f64, day: chrono::NaiveDate| json!({"t": format!("{day}T04:00:00Z"), "o": close, "h": close, "l": close, "c": close, "v": 9});
            let snapshot = json!({"latestTrade": {"t": asked.now.to_rfc3339(), "p": 10.5}, "dailyBar": bar(10.5, day),
                "prevDailyBar": bar(before, day - TimeDelta::days(3))});
            (symbol, snapshot)
        })
        .collect();
    Answer::ok(json!(map))
}

#[tokio::test]
async fn a_second_question_does_not_take_the_turn_of_those_who_wait() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, with_a_mover).await;
    let fetcher = Fetcher::new(alpaca_of(&host, 1), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = Arc::new(numbered(800));
    let wanted = all_of(&universe);
    let open = instant("2027-03-15T13:30:00Z");
    let mut second_questions = 0;
    for _ in 0..4 {
        let slot = clock.now();
        let plan = FetchPlan { slot, cadence: Duration::from_mins(3), deadline: slot + TimeDelta::seconds(162) };
        let (fetched, gated) =
            while_seconds_pass(&clock, fetch_and_gate(&fetcher, &universe, &wanted, plan, None, |_| open)).await;
        assert!(!gated.fresh.is_empty() && !fetched.plan.unwrap().fits);
        second_questions += usize::from(fetched.quotes[0].is_some());
        clock.advance_to(slot + TimeDelta::minutes(3));
    }
    assert!(second_questions > 0);
    let asked: std::collections::BTreeSet<String> =
        host.asked().iter().flat_map(|asked| asked.list("symbols")).collect();
    assert_eq!(asked.len(), 800, "the tail has its turn too");
}

#[tokio::test]
async fn what_the_breaker_holds_back_costs_no_permit() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, a_price_for_each).await;
    // Ten at once, and one each six seconds.
    let fetcher = Fetcher::new(alpaca_of(&host, 20), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = numbered(800);
    let down = || sim_host::Trouble::Instead(Answer::refused(502, "bad gateway"));
    host.trouble(std::iter::repeat_with(down).take(5));
    let first = Wanted::from(vec![0]);
    for _ in 0..5 {
        fetch(&fetcher, &universe, &first, clock.now(), TimeDelta::seconds(5)).await;
    }
    assert_eq!((fetcher.breaker().state, host.calls()), (BreakerState::Open, 5));
    let all = all_of(&universe);
    let held = fetch(&fetcher, &universe, &all, clock.now(), TimeDelta::seconds(5)).await;
    assert_eq!((held.requests, held.trouble), (0, Some(Trouble::Provider)));
    assert_eq!(held.faults, ["alpaca: nobody calls, it has failed since 2027-03-15 14:00:00 UTC: alpaca: HTTP 502"]);
    clock.advance(TimeDelta::seconds(15));
    let trial = fetch(&fetcher, &universe, &first, clock.now(), TimeDelta::seconds(1)).await;
    assert_eq!((trial.requests, fetcher.breaker().state), (1, BreakerState::Closed));
    let after = fetch(&fetcher, &universe, &all, clock.now(), TimeDelta::seconds(1)).await;
    assert_eq!(after.requests, 6, "the five that were left, and two of 15 s, but for the trial: {:?}", after.faults);
}

#[tokio::test]
async fn who_waits_in_the_row_waits_for_its_own_deadline() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, |asked| match asked.path.as_str() {
        "/v2/stocks/bars" => Answer::ok(json!({"bars": {}, "next_page_token": null})),
        _ => a_price_for_each(asked),
    })
    .await;
    let fetcher = Fetcher::new(alpaca_of(&host, 1), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = numbered(1);
    let one = Wanted::from(vec![0]);
    fetch(&fetcher, &universe, &one, clock.now(), TimeDelta::seconds(5)).await;
    // The next permit is a minute away. Whoever fills in the past has time, and is the first of the row.
    let (from, to) = ("2027-03-11".parse().unwrap(), "2027-03-12".parse().unwrap());
    let request = DailyRequest::Symbols { wanted: &[0], from, to, page: None };
    let past = fetcher.daily(&universe, request, clock.now() + TimeDelta::hours(1));
    let cycle = async {
        let fetched = fetch(&fetcher, &universe, &one, clock.now(), TimeDelta::seconds(30)).await;
        (fetched, clock.now())
    };
    let (past, (fetched, ended)) = while_seconds_pass(&clock, async { tokio::join!(past, cycle) }).await;
    assert_eq!(past.unwrap().1, 1);
    assert!(ended <= instant("2027-03-15T14:00:32Z"), "{ended}");
    assert_eq!((fetched.requests, fetched.trouble), (0, Some(Trouble::Quota)));
}

/// The second copy is refused while the first is still under way, which then answers.
#[tokio::test]
async fn what_a_copy_that_loses_has_said_is_kept() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let answered_at = clock.now() + TimeDelta::milliseconds(500);
    let (calls, itself) = (AtomicUsize::new(0), Arc::new(OnceLock::<SimHost>::new()));
    let seen = Arc::clone(&itself);
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, move |asked| {
        if calls.fetch_add(1, Ordering::Relaxed) == 29 {
            let busy = Answer::refused(429, "{}").with("retry-after", 30);
            let silent = sim_host::Trouble::SilenceUntil(answered_at);
            seen.get().unwrap().trouble([silent, sim_host::Trouble::Instead(busy)]);
        }
        a_price_for_each(asked)
    })
    .await;
    let _ = itself.set(host.clone());
    let options = FetchOptions { concurrency: 1, attempts: 3, hedge_percent: 5 };
    let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock) as SharedClock, options);
    let universe = numbered(3_100);
    let all = all_of(&universe);
    let copies = async {
        // The calls before it took no time, so that none of them was slow and used up the one copy that is allowed.
        eventually("the silent call has come", async || host.calls() == 31).await;
        clock.advance(TimeDelta::milliseconds(20));
        // Not when the copy has come: its refusal must be read before the other answer is.
        eventually("the copy is refused", async || fetcher.headroom().held_until.is_some()).await;
        clock.advance_to(answered_at);
    };
    let cycle = fetch(&fetcher, &universe, &all, clock.now(), TimeDelta::seconds(20));
    let (fetched, ()) = tokio::join!(cycle, copies);
    assert_eq!((fetched.quotes.iter().flatten().count(), fetched.hedged), (3_100, 1), "{:?}", fetched.faults);
    assert!(fetcher.headroom().held_until.is_some(), "nobody calls for half a minute");
}

/// Small calls take no time, and batches as long as they always do.
#[tokio::test]
async fn quick_small_calls_do_not_slow_the_batches_down() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, a_price_for_each).await;
    let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = numbered(800);
    let (one, all) = (Wanted::from(vec![0]), all_of(&universe));
    for _ in 0..3 {
        fetch(&fetcher, &universe, &one, clock.now(), TimeDelta::seconds(20)).await;
        let (answered_at, under_way) = (clock.now() + TimeDelta::milliseconds(250), host.calls() + 8);
        host.trouble(std::iter::repeat_n(sim_host::Trouble::SilenceUntil(answered_at), 8));
        let answers = async {
            eventually("all batches are under way", async || host.calls() == under_way).await;
            clock.advance_to(answered_at);
        };
        let batches = fetch(&fetcher, &universe, &all, clock.now(), TimeDelta::seconds(20));
        let (fetched, ()) = tokio::join!(batches, answers);
        assert_eq!(fetched.quotes.iter().flatten().count(), 800, "{:?}", fetched.faults);
        assert_eq!(fetcher.concurrency(), 8);
    }
}

/// The cycle ends long before the provider's own timeout.
#[tokio::test]
async fn a_call_that_our_own_deadline_cuts_off_is_not_the_hosts_fault() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, a_price_for_each).await;
    let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = numbered(800);
    fetch(&fetcher, &universe, &Wanted::from(vec![0]), clock.now(), TimeDelta::seconds(20)).await;
    host.trouble(std::iter::repeat_with(|| silence(600_000)).take(8));
    let (all, under_way, span) = (all_of(&universe), host.calls() + 8, TimeDelta::milliseconds(300));
    let deadline = async {
        eventually("all batches are under way", async || host.calls() == under_way).await;
        clock.advance(span);
    };
    let cycle = fetch(&fetcher, &universe, &all, clock.now(), span);
    let (fetched, ()) = tokio::join!(cycle, deadline);
    assert_eq!(
        (fetched.requests, &fetched.faults[..]),
        (8, &["alpaca: no answer before the cycle's end".to_owned()][..])
    );
    let breaker = fetcher.breaker();
    assert_eq!((breaker.state, breaker.failures, fetcher.concurrency()), (BreakerState::Closed, 0, 8));
}

/// In real time: sixteen batches are refused before the first half of one is answered.
#[tokio::test]
async fn a_bad_symbol_in_each_of_many_batches_costs_no_batch() {
    let clock = SystemClock::start();
    let is_bad = |symbol: &String| symbol.ends_with("50");
    let host =
        SimHost::start(Arc::clone(&clock), None, move |asked| match asked.list("symbols").iter().find(|s| is_bad(s)) {
            Some(bad) => Answer::refused(400, json!({"code": 40_010_001, "message": format!("invalid symbol: {bad}")})),
            None => a_price_for_each(asked),
        })
        .await;
    let options = FetchOptions { concurrency: 16, ..OPTIONS };
    let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock), options);
    let universe = numbered(1_600);
    fetch(&fetcher, &universe, &Wanted::from(vec![0]), clock.now(), TimeDelta::seconds(20)).await;
    host.trouble(std::iter::repeat_with(|| silence(100)).take(32));
    let fetched = fetch(&fetcher, &universe, &all_of(&universe), clock.now(), TimeDelta::seconds(60)).await;
    assert_eq!((fetched.refused.len(), fetched.quotes.iter().flatten().count()), (16, 1_584), "{:?}", fetched.faults);
    // Asked for apart, they spoil nothing and are not taken apart.
    let (apart, symbols) = (0..1_600).partition(|index| fetched.refused.contains(index));
    let again = Wanted { symbols, apart: vec![apart] };
    let fetched = fetch(&fetcher, &universe, &again, clock.now(), TimeDelta::seconds(60)).await;
    assert_eq!((fetched.requests, fetched.spoilt, fetched.faults), (17, again.apart, vec![]));
}
