//! The real provider's protocol, and what readers see when it goes wrong.

use std::sync::Arc;
use std::time::Duration;

use bellwether::clock::SharedClock;
use bellwether::store::RunState;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant, write_universe};
use crate::sim_massive::{Manner, SimMassive, Trouble};

pub struct Market {
    pub world: World,
    pub massive: SimMassive,
    _universe: tempfile::NamedTempFile,
}

/// A market whose provider quotes `symbols`, spelt as the provider does; the universe spells them as the site does.
pub async fn market(
    at: &str,
    symbols: &[&str],
    manner: impl Fn(usize, &str) -> Manner + Send + Sync + 'static,
) -> Market {
    let universe = tempfile::NamedTempFile::new().unwrap();
    let ours = |symbol: &str| symbol.replace(".WS", ".W").replace('p', "$");
    write_universe(universe.path(), symbols.iter().map(|symbol| ours(symbol)));
    let mut world = World::at(at, Engine::Sqlite, &[]).await;
    let clock = Arc::clone(&world.clock) as SharedClock;
    let massive = SimMassive::start(clock, symbols.iter().map(|s| (*s).to_owned()).collect(), manner).await;
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.path().display().to_string());
    for (name, value) in massive.settings() {
        world.set(name, &value);
    }
    Market { world, massive, _universe: universe }
}

/// Moves the clock on in small steps until `holds`: lets retries wait their time.
async fn advance_until(market: &Market, what: &str, holds: impl AsyncFn() -> bool) {
    eventually(what, async || {
        market.world.clock.advance(TimeDelta::milliseconds(100));
        holds().await
    })
    .await;
}

/// Lets the cycle of one slot run to its end, however it ends, and gives what is served then.
pub async fn slot(market: &Market, running: &Running, at: &str) -> Value {
    market.world.nothing_is_under_way(running).await;
    market.world.clock.advance_to(instant(at));
    eventually("the slot has ended", async || {
        market.world.clock.advance(TimeDelta::milliseconds(100));
        let runs = market.world.ledger(running, "ingest").await;
        runs.last().is_some_and(|run| run.scheduled_for == instant(at) && run.state != RunState::Running)
    })
    .await;
    running.get("/api/market-stats/").await.1
}

/// The same of a cycle that is to go well and waits for nothing: the clock stands still, so that no deadline can cut it off.
async fn good_slot(market: &Market, running: &Running, at: &str) -> Value {
    market.world.advance_to(running, instant(at)).await;
    let run = market.world.ledger(running, "ingest").await.pop().unwrap();
    assert_eq!((run.scheduled_for, run.state), (instant(at), RunState::Ok), "{:?} {:?}", run.reason, run.error);
    running.get("/api/market-stats/").await.1
}

#[tokio::test]
async fn seven_thousand_symbols_come_in_one_call_within_the_quota() {
    let symbols: Vec<String> = (0..7_019).map(|n| format!("S{n:04}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    // One in a hundred is cleared, one in a hundred not listed.
    let manner = |n: usize, _: &str| match n % 100 {
        0 => Manner::Cleared,
        1 => Manner::Absent,
        _ => Manner::Traded,
    };
    let market = market("2027-03-15T13:29:00Z", &symbols, manner).await;
    let running = market.world.start().await;
    let stats = running.stats().await;
    let (fresh, expected) = (7_019 - 71 - 71, 7_019);
    assert_eq!(stats["market_overview"]["total_stocks"], fresh);
    assert_eq!(stats["meta"]["source"], "massive");
    assert_eq!(stats["meta"]["simulated"], false);
    let completeness = (f64::from(fresh) / f64::from(expected) * 1e4).floor() / 1e4;
    assert_eq!(stats["meta"]["completeness"], completeness);
    for at in ["2027-03-15T13:30:00Z", "2027-03-15T13:33:00Z", "2027-03-15T13:36:00Z"] {
        let stats = good_slot(&market, &running, at).await;
        assert_eq!(stats["meta"]["completeness"], completeness);
    }
    assert_eq!((market.massive.calls(), market.massive.refused_for_quota()), (4, 0));
    let (_, page) = running.get("/api/stocks/?limit=100&offset=6800").await;
    assert_eq!((&page["total"], page["results"].as_array().unwrap().len()), (&Value::from(fresh), 77));
    running.stop().await;
}

#[tokio::test]
async fn symbols_are_found_under_the_sites_spelling_and_prices_are_exact() {
    let symbols = ["AAPL", "BRK.A", "BRK.B", "BACpK", "ACHR.WS", "AAM.U"];
    let market = market("2027-03-15T14:00:00Z", &symbols, |_, _| Manner::Traded).await;
    let running = market.world.start().await;
    running.stats().await;
    for symbol in ["AAPL", "BRK.A", "BRK.B", "BAC$K", "ACHR.W", "AAM.U"] {
        let (status, body) = running.get(&format!("/api/stocks/{symbol}/")).await;
        assert_eq!((status, &body["data"]["ticker"]), (200, &Value::from(symbol)), "{body}");
    }
    let (_, berkshire) = running.get("/api/stocks/BRK.A/").await;
    assert_eq!(berkshire["data"]["current_price"], 712_345.5);
    assert_eq!(berkshire["data"]["formatted_price"], "$712345.50");
    running.stop().await;
}

#[tokio::test]
async fn zeros_are_not_prices_and_old_quotes_are_not_fresh() {
    let manner = |_: usize, symbol: &str| match symbol {
        "CLEARED" => Manner::Cleared,
        "ABSENT" => Manner::Garbled,
        "MONTHS" => Manner::Months,
        "BARONLY" => Manner::WithoutTrades,
        _ => Manner::Traded,
    };
    let market = market("2027-03-15T14:00:00Z", &["CLEARED", "ABSENT", "MONTHS", "BARONLY", "GOOD"], manner).await;
    let running = market.world.start().await;
    let stats = running.stats().await;
    assert_eq!(stats["market_overview"]["total_stocks"], 3, "an old quote is shown with its age: {stats}");
    assert_eq!(stats["meta"]["completeness"], 0.4);
    assert_eq!(
        stats["meta"]["cause"],
        "3 of 5 symbols have no quote of this cycle: massive: 1 tickers are not as documented, 1 not in the answer, 1 without a usable price and time, \
         1 older than the session"
    );
    assert_eq!(running.get("/api/stocks/CLEARED/").await.0, 404);
    let (_, old) = running.get("/api/stocks/MONTHS/").await;
    assert_eq!(
        (&old["data"]["refreshed"], old["data"]["last_updated"].as_str().unwrap().get(..7)),
        (&false.into(), Some("2026-12"))
    );
    let (_, bar) = running.get("/api/stocks/BARONLY/").await;
    assert_eq!((&bar["data"]["refreshed"], &bar["data"]["bid_price"]), (&true.into(), &Value::Null));
    running.stop().await;
}

#[tokio::test]
async fn passing_troubles_are_tried_again_within_the_cycle() {
    let market = market("2027-03-15T13:29:00Z", &["AAPL", "MSFT"], |_, _| Manner::Traded).await;
    let running = market.world.start().await;
    running.stats().await;
    for (at, trouble) in [
        ("2027-03-15T13:30:00Z", Trouble::Refusal(429, Some(20))),
        ("2027-03-15T13:33:00Z", Trouble::Refusal(429, None)),
        ("2027-03-15T13:36:00Z", Trouble::Refusal(503, None)),
        ("2027-03-15T13:39:00Z", Trouble::ErrorInside),
        ("2027-03-15T13:42:00Z", Trouble::CutOff),
        ("2027-03-15T13:45:00Z", Trouble::BrokenGzip),
    ] {
        market.massive.trouble([trouble.clone()]);
        let calls = market.massive.calls();
        let stats = slot(&market, &running, at).await;
        assert_eq!(stats["meta"]["completeness"], 1.0, "{trouble:?}: {stats}");
        assert_eq!(stats["meta"]["cause"], Value::Null, "{trouble:?}");
        assert_eq!(market.massive.calls(), calls + 2, "{trouble:?}");
        let run = market.world.ledger(&running, "ingest").await.pop().unwrap();
        assert_eq!(run.state, RunState::Ok);
        if trouble == Trouble::Refusal(429, Some(20)) {
            assert!((run.finished_at.unwrap() - run.scheduled_for).num_seconds() >= 20, "Retry-After is kept");
        }
    }
    assert_eq!(market.massive.refused_for_quota(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_cycle_that_fails_leaves_the_last_one_in_place_and_says_why() {
    let market = market("2027-03-15T13:29:00Z", &["AAPL", "MSFT"], |_, _| Manner::Traded).await;
    let running = market.world.start().await;
    running.stats().await;
    good_slot(&market, &running, "2027-03-15T13:30:00Z").await;
    let good = good_slot(&market, &running, "2027-03-15T13:39:00Z").await;
    market.massive.trouble([Trouble::Refusal(403, None)]);
    let failed = slot(&market, &running, "2027-03-15T13:42:00Z").await;
    assert_eq!(failed["top_gainers"], good["top_gainers"]);
    assert_eq!(failed["meta"]["cycle_id"], good["meta"]["cycle_id"]);
    assert_eq!(failed["meta"]["stale"], false, "one missed cycle is not stale yet");
    assert_eq!(
        failed["meta"]["cause"],
        "the cycle of Mon 2027-03-15 09:42:00 EDT failed: massive: HTTP 403 ERROR \"as the test wanted it\" (request \
         6a7e466379af0a71039d60cc78e72282); the plan of this key does not include this, 2 not in the answer"
    );
    for at in ["2027-03-15T13:45:00Z", "2027-03-15T13:48:00Z"] {
        market.massive.trouble([Trouble::Refusal(403, None)]);
        slot(&market, &running, at).await;
    }
    let stale = running.get("/api/market-stats/").await.1;
    assert_eq!(stale["meta"]["stale"], true, "{}", stale["meta"]);
    assert!(stale["meta"]["cause"].as_str().unwrap().starts_with("the market is open and the newest quote is of"));
    let response = running.http.get(format!("http://{}/api/market-stats/", running.daemon.api)).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "public, max-age=1", "news may come at any moment");
    let (status, health) = running.get("/api/health/detailed/").await;
    assert_eq!(status, 503);
    let freshness = health["components"].as_array().unwrap().iter().find(|part| part["name"] == "freshness").unwrap();
    assert!(freshness["detail"].as_str().unwrap().contains("09:48:00 EDT failed: massive: HTTP 403"), "{freshness}");
    eventually("stale data is told, not hidden behind a 503", async || running.get("/readyz").await.0 == 200).await;
    let runs = market.world.ledger(&running, "ingest").await;
    assert_eq!(runs.last().unwrap().state, RunState::Failed);
    // And it mends itself.
    let mended = good_slot(&market, &running, "2027-03-15T13:51:00Z").await;
    assert_eq!((&mended["meta"]["stale"], &mended["meta"]["cause"]), (&false.into(), &Value::Null));
    running.stop().await;
}

async fn world_cause(running: &Running) -> String {
    running.get("/api/market-stats/").await.1["meta"]["cause"].to_string()
}

#[tokio::test]
async fn a_wait_without_end_is_kept() {
    let market = market("2027-03-15T13:29:00Z", &["AAPL", "MSFT"], |_, _| Manner::Traded).await;
    let running = market.world.start().await;
    running.stats().await;
    market.massive.trouble([Trouble::Refusal(429, Some(10_000_000_000_000))]);
    slot(&market, &running, "2027-03-15T13:30:00Z").await;
    let endless = world_cause(&running).await;
    assert!(endless.contains("09:30:00 EDT failed: massive: HTTP 429"), "{endless}");
    let calls = market.massive.calls();
    slot(&market, &running, "2027-03-15T13:33:00Z").await;
    let (_, why) = running.get("/api/v1/ingest/why").await;
    assert_eq!((&why["code"], market.massive.calls()), (&Value::from("quota_spent"), calls), "{why}");
    let held = &running.get("/api/v1/ingest/status").await.1["provider"]["plan"]["headroom"]["held_until"];
    assert!(held.as_str().unwrap().starts_with("2027-03-16T13:30:00"), "a day is the longest: {held}");
    running.stop().await;
}

#[tokio::test]
async fn symbols_that_are_cleared_and_not_traded_yet_are_not_dormant() {
    let symbols: Vec<String> = (0..20).map(|n| format!("S{n:02}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let manner = |n: usize, _: &str| if n < 5 { Manner::Cleared } else { Manner::Traded };
    let market = market("2027-03-15T13:29:00Z", &symbols, manner).await;
    let running = market.world.start().await;
    running.stats().await;
    for cycle in 0..8 {
        let at = instant("2027-03-15T13:30:00Z") + TimeDelta::minutes(3) * cycle;
        good_slot(&market, &running, &at.to_rfc3339()).await;
    }
    let (_, status) = running.get("/api/v1/ingest/status").await;
    assert_eq!(status["universe"]["dormant"], 0, "{status}");
    running.stop().await;
}

#[tokio::test]
async fn a_symbol_that_drops_out_keeps_its_last_quote_with_its_age() {
    let absent_from = instant("2027-03-15T13:33:00Z");
    let clock: Arc<std::sync::OnceLock<SharedClock>> = Arc::default();
    let seen = Arc::clone(&clock);
    let manner = move |_: usize, symbol: &str| match seen.get() {
        Some(clock) if symbol == "MSFT" && clock.now() >= absent_from => Manner::Absent,
        _ => Manner::Traded,
    };
    let market = market("2027-03-15T13:29:00Z", &["AAPL", "MSFT"], manner).await;
    let _ = clock.set(Arc::clone(&market.world.clock) as SharedClock);
    let running = market.world.start().await;
    running.stats().await;
    good_slot(&market, &running, "2027-03-15T13:30:00Z").await;
    let (_, before) = running.get("/api/stocks/MSFT/").await;
    let stats = good_slot(&market, &running, "2027-03-15T13:33:00Z").await;
    assert_eq!(stats["meta"]["completeness"], 0.5);
    assert_eq!(stats["market_overview"]["total_stocks"], 2);
    let (_, after) = running.get("/api/stocks/MSFT/").await;
    assert_eq!(after["data"]["current_price"], before["data"]["current_price"]);
    assert_eq!(after["data"]["last_updated"], before["data"]["last_updated"]);
    assert_eq!(after["data"]["refreshed"], false);
    running.stop().await;
    // A restart tells it the same way.
    let again = market.world.start().await;
    let (_, restored) = again.get("/api/stocks/MSFT/").await;
    assert_eq!(restored["data"], after["data"]);
    again.stop().await;
}

#[tokio::test]
async fn a_wrong_key_fails_at_once_and_is_never_repeated_in_a_message() {
    let mut market = market("2027-03-15T13:29:00Z", &["AAPL"], |_, _| Manner::Traded).await;
    market.world.set("BELLWETHER_INGEST__MASSIVE__API_KEY", "canary-wrong-key");
    let running = market.world.start().await;
    eventually("the provider was asked", async || market.massive.calls() > 0).await;
    advance_until(&market, "the cause is told", async || {
        let (status, body) = running.get("/api/market-stats/").await;
        assert_eq!(status, 503);
        let told = body["detail"].as_str().unwrap();
        assert!(!told.contains("canary"), "{told}");
        told.contains("HTTP 401 ERROR \"Unknown API Key\"") && told.contains("check ingest.massive.api_key")
    })
    .await;
    assert_eq!(running.get("/readyz").await.0, 503, "there is nothing to serve");
    running.daemon.stop().await;
}

#[tokio::test]
async fn a_source_that_says_it_is_delayed_is_not_called_stale_for_that() {
    let market = market("2027-03-15T13:59:00Z", &["AAPL"], |_, _| Manner::Traded).await;
    market.massive.delay();
    let running = market.world.start().await;
    running.stats().await;
    let stats = good_slot(&market, &running, "2027-03-15T14:00:00Z").await;
    assert_eq!(stats["meta"]["stale"], false);
    market.world.clock.advance_to(instant("2027-03-15T14:12:00Z"));
    market.massive.trouble(std::iter::repeat_n(Trouble::Refusal(403, None), 10));
    advance_until(&market, "the missed slots are decided", async || {
        market.world.ledger(&running, "ingest").await.last().unwrap().state == RunState::Failed
    })
    .await;
    assert_eq!(
        running.get("/api/market-stats/").await.1["meta"]["stale"],
        false,
        "12 minutes are within 15 and two cycles"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_silent_is_given_up_in_time() {
    // Far from the first slot, by which the run at start must have ended: three real seconds are up to a minute here.
    let mut market = market("2027-03-15T13:20:00Z", &["AAPL"], |_, _| Manner::Traded).await;
    market.world.set("BELLWETHER_INGEST__MASSIVE__TIMEOUT_SECONDS", "3");
    market.massive.trouble([Trouble::Silence(Duration::from_secs(30))]);
    let running = market.world.start().await;
    advance_until(&market, "the second call is answered", async || running.get("/api/market-stats/").await.0 == 200)
        .await;
    assert_eq!(market.massive.calls(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_cycle_that_an_operator_ends_has_failed_and_is_not_under_way_any_more() {
    let mut market = market("2027-03-15T13:20:00Z", &["AAPL"], |_, _| Manner::Traded).await;
    market.world.set("OPERATOR_TOKEN", OPERATOR);
    market.world.set("BELLWETHER_INGEST__MASSIVE__TIMEOUT_SECONDS", "60");
    let running = market.world.start().await;
    running.stats().await;
    market.massive.trouble([Trouble::Silence(Duration::from_secs(600))]);
    market.world.clock.advance_to(instant("2027-03-15T13:30:00Z"));
    eventually("the provider is asked", async || market.massive.calls() == 2).await;
    let status = async || running.get("/api/v1/ingest/status").await.1;
    assert_eq!(status().await["under_way"]["slot"], "2027-03-15T13:30:00Z");
    let run = market.world.ledger(&running, "ingest").await.pop().unwrap();
    assert_eq!(running.operate(&format!("/api/v1/runs/{}/cancel", run.id), Some(json!({}))).await.0, 200);
    advance_until(&market, "the run has ended", async || {
        market.world.ledger(&running, "ingest").await.last().unwrap().state == RunState::Cancelled
    })
    .await;
    let status = status().await;
    assert_eq!(status["under_way"], Value::Null);
    assert!(status["why"]["sentence"].as_str().unwrap().contains("cut off before it was shown"), "{}", status["why"]);
    let stats = good_slot(&market, &running, "2027-03-15T13:33:00Z").await;
    assert_eq!(stats["meta"]["cause"], Value::Null);
    running.stop().await;
}
