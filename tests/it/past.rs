//! What a provider knows of the past: the close of a session as it was, and a backfill over days on which something was amiss.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether::clock::SharedClock;
use bellwether::market::codec::CycleHead;
use bellwether::market::{Cycle, MarketDay, Point};
use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant, write_universe};
use crate::sim_host::{Answer, Asked, SimHost};
use crate::store::on_both_engines;

on_both_engines!(
    the_close_is_the_providers_whatever_is_traded_after_hours,
    a_session_that_is_rolled_up_again_keeps_its_prices
);

const GROUPED: &str = "/v2/aggs/grouped/locale/us/market/stocks/";
const CLOSE: &str = "2027-03-15T20:00:00Z";

/// What the provider does.
struct Massive {
    /// Days of which there are no bars in the plan.
    refused: Vec<&'static str>,
    /// The official close.
    close: f64,
    /// Pages of splits are refused from this one on.
    split_pages: usize,
}

type Shared = Arc<Mutex<Massive>>;

/// Until the close a share costs 100 and a cent more each minute; after hours 110.
fn massive(asked: &Asked, state: &Shared) -> Answer {
    let state = state.lock().unwrap();
    if let Some(date) = asked.path.strip_prefix(GROUPED) {
        if state.refused.contains(&date) {
            return Answer::refused(403, r#"{"status":"NOT_AUTHORIZED"}"#);
        }
        if date == "2027-03-04" {
            return Answer::ok(r#"{"status":"OK"}"#);
        }
        let bar = json!({"T": "AAPL", "o": 99, "h": 120, "l": 90, "c": state.close, "v": 9_000});
        return Answer::ok(json!({"status": "OK", "results": [bar]}));
    }
    if asked.path == "/v3/reference/splits" {
        let since = asked.parameter("execution_date.gte");
        let (page, date) = match (asked.parameter("cursor"), since) {
            ("", "2027-03-01") => (1, "2027-02-01"),
            ("two", _) | ("", "2027-02-01") => (2, "2027-03-01"),
            _ => return Answer::ok(json!({"status": "OK", "results": []})),
        };
        if page > state.split_pages {
            return Answer::refused(403, r#"{"status":"NOT_AUTHORIZED"}"#);
        }
        let split = json!({"ticker": "AAPL", "execution_date": date, "split_from": 1, "split_to": page + 1});
        let next = (page == 1).then_some("https://api/v3/reference/splits?cursor=two");
        return Answer::ok(json!({"status": "OK", "results": [split], "next_url": next}));
    }
    let now = asked.now;
    let close: DateTime<Utc> = CLOSE.parse().unwrap();
    let until_close = (now - close.with_day_of(now)).num_minutes();
    let (price, volume) = match until_close {
        ..=0 => {
            (100.0 + f64::from(i32::try_from(390 + until_close).unwrap()) / 100.0, ((390 + until_close) * 10).max(0))
        }
        _ => (110.0, 9_000),
    };
    let nanoseconds = (now - TimeDelta::seconds(2)).timestamp_nanos_opt().unwrap();
    Answer::ok(json!({"status": "OK", "tickers": [{
        "ticker": "AAPL", "updated": nanoseconds, "prevDay": {"c": 98.0},
        "day": {"o": 99, "h": 120, "l": 90, "c": 103.5, "v": volume}, "lastTrade": {"p": price, "t": nanoseconds},
    }]}))
}

trait OfDay {
    fn with_day_of(self, other: Self) -> Self;
}

impl OfDay for DateTime<Utc> {
    /// The same hour on another day.
    fn with_day_of(self, other: Self) -> Self {
        other.date_naive().and_time(self.time().with_nanosecond(0).unwrap()).and_utc()
    }
}

async fn world(at: &str, engine: Engine, state: Massive) -> (World, SimHost, Shared) {
    let mut world = World::at(at, engine, &[("OPERATOR_TOKEN", OPERATOR)]).await;
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, std::iter::once("AAPL".to_owned()));
    let state = Arc::new(Mutex::new(state));
    let seen = Arc::clone(&state);
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, None, move |asked| massive(asked, &seen)).await;
    for (name, value) in [
        ("PROVIDER", "massive".to_owned()),
        ("MASSIVE__BASE_URL", host.url()),
        ("MASSIVE__API_KEY", "key".to_owned()),
        ("MASSIVE__REQUESTS_PER_MINUTE", "60000".to_owned()),
        ("ATTEMPTS", "1".to_owned()),
        ("UNIVERSE__FILE", universe.display().to_string()),
    ] {
        world.set(&format!("BELLWETHER_INGEST__{name}"), &value);
    }
    (world, host, state)
}

async fn cycles(world: &World, running: &Running, day: &str, times: &[&str]) {
    for time in times {
        world.advance_to(running, instant(&format!("{day}T{time}:00Z"))).await;
        eventually("the cycle is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    }
}

/// The job waits for the quota, which takes a moment of the simulated time.
async fn roll_up(world: &World, running: &Running, at: &str) -> Value {
    world.nothing_is_under_way(running).await;
    world.clock.advance_to(instant(at));
    eventually("the history job has ended", async || {
        world.clock.advance(TimeDelta::milliseconds(100));
        let runs = world.ledger(running, "history").await;
        runs.last().is_some_and(|run| run.scheduled_for == instant(at) && run.stats.is_some())
    })
    .await;
    let run = world.ledger(running, "history").await.pop().unwrap();
    serde_json::from_str(&run.stats.unwrap()).unwrap()
}

async fn monday(running: &Running, interval: &str) -> Vec<Value> {
    let path = format!("/api/v1/bars/AAPL?interval={interval}&from=2027-03-15&to=2027-03-15");
    running.get(&path).await.1["bars"].as_array().unwrap().clone()
}

const REST: Massive = Massive { refused: Vec::new(), close: 103.5, split_pages: 2 };

async fn the_close_is_the_providers_whatever_is_traded_after_hours(engine: Engine) {
    let (world, host, state) = world("2027-03-15T13:29:00Z", engine, REST).await;
    let running = world.start().await;
    running.stats().await;
    cycles(&world, &running, "2027-03-15", &["13:30", "13:33", "17:00", "19:48", "19:57", "20:05"]).await;
    let (_, why) = running.get("/api/v1/ingest/why").await;
    assert!(why["sentence"].as_str().unwrap().ends_with("the newest quote is of Mon 2027-03-15 16:04 EDT"), "{why}");
    // Until the provider says so nobody knows what the auction came to.
    assert_eq!(monday(&running, "1d").await[0]["close"], 103.87);
    let report = roll_up(&world, &running, "2027-03-15T20:30:00Z").await;
    assert_eq!(report["daily_bars"], 1, "{report}");
    let official = |close: f64| json!([{"date": "2027-03-15", "open": 99.0, "high": 120.0, "low": 90.0, "close": close, "volume": 9_000}]);
    assert_eq!(json!(monday(&running, "1d").await), official(103.5), "what is in memory does not hide it");
    let quarters = monday(&running, "15m").await;
    let last = quarters.last().unwrap();
    assert_eq!(
        (&last["at"], &last["close"]),
        (&json!("2027-03-15T19:45:00Z"), &json!(103.87)),
        "no bar after the close"
    );
    let volumes: i64 = quarters.iter().map(|bar| bar["volume"].as_i64().unwrap()).sum();
    assert_eq!(volumes, 9_000, "the auction is of the last quarter: {quarters:?}");
    // On the next day it is corrected, and taken anew.
    state.lock().unwrap().close = 103.6;
    cycles(&world, &running, "2027-03-16", &["13:30", "13:33", "19:57", "20:05"]).await;
    roll_up(&world, &running, "2027-03-16T20:30:00Z").await;
    assert_eq!(json!(monday(&running, "1d").await), official(103.6));
    assert_eq!(monday(&running, "15m").await, quarters);
    running.stop().await;
    assert_eq!(host.over_quota(), 0);
}

async fn a_session_that_is_rolled_up_again_keeps_its_prices(engine: Engine) {
    let refused = vec!["2027-03-15", "2027-03-16"];
    let (world, _host, _) = world("2027-03-15T13:29:00Z", engine, Massive { refused, ..REST }).await;
    let running = world.start().await;
    running.stats().await;
    cycles(&world, &running, "2027-03-15", &["13:30", "13:33", "17:00", "19:57", "20:05"]).await;
    let report = roll_up(&world, &running, "2027-03-15T20:30:00Z").await;
    assert_eq!(report["daily_bars"], Value::Null, "{report}");
    cycles(&world, &running, "2027-03-16", &["13:30", "13:33"]).await;
    let first = monday(&running, "1d").await;
    assert_eq!((&first[0]["open"], &first[0]["high"], &first[0]["low"]), (&json!(99.0), &json!(120.0), &json!(90.0)));
    // From the journal of a daemon that was down a cycle of Monday comes late; the quotes are Tuesday's by now.
    let slot = instant("2027-03-15T18:00:00Z");
    let cycle = Cycle {
        id: Uuid::now_v7(),
        slot,
        source: "massive".to_owned(),
        simulated: false,
        as_of: slot,
        finished_at: slot,
        expected: 1,
        fresh: 1,
        failed: 0,
    };
    let session: NaiveDate = "2027-03-15".parse().unwrap();
    let day = MarketDay { session, total: 1, gainers: 1, losers: 0, unchanged: 0 };
    let head = CycleHead { cycle, delayed: false, cause: None, day: Some(day) };
    let point = Point { at: slot.timestamp(), price: 1_025_000, volume: Some(3_000) };
    running.daemon.store.save_cycle(&head, &[("AAPL", point)], &[]).await.unwrap();
    let report = roll_up(&world, &running, "2027-03-16T20:30:00Z").await;
    assert_eq!(report["rolled_up"]["sessions"], json!(["2027-03-15", "2027-03-16"]));
    assert_eq!(monday(&running, "1d").await, first);
    assert_eq!(monday(&running, "point").await.len(), 6, "the late point is in");
    running.stop().await;
}

#[tokio::test]
async fn a_source_that_lags_is_asked_for_the_close_when_it_has_it() {
    let (mut world, _host, _) = world("2027-03-15T13:29:00Z", Engine::Sqlite, REST).await;
    world.set("BELLWETHER_INGEST__MASSIVE__DELAY_SECONDS", "900");
    let running = world.start().await;
    running.stats().await;
    let (_, jobs) = running.operate("/api/v1/jobs", None).await;
    let trigger = |name: &str| {
        let job = jobs["jobs"].as_array().unwrap().iter().find(|job| job["name"] == name).unwrap();
        job["trigger"].as_str().unwrap().to_owned()
    };
    assert_eq!((&*trigger("ingest-close"), &*trigger("history")), ("close+20m", "close+45m"));
    running.stop().await;
}

async fn ask(running: &Running, world: &World, body: &Value) -> (u16, Value) {
    let answer = running.operate("/api/v1/ingest/backfill", Some(body.clone()));
    tokio::pin!(answer);
    loop {
        match tokio::time::timeout(Duration::from_millis(20), &mut answer).await {
            Ok(answer) => return answer,
            Err(_) => world.clock.advance(TimeDelta::milliseconds(10)),
        }
    }
}

#[tokio::test]
async fn a_session_without_bars_is_not_done_and_a_long_list_of_splits_goes_on() {
    let state = Massive { split_pages: 1, ..REST };
    let (world, host, state) = world("2027-03-15T21:00:00Z", Engine::Sqlite, state).await;
    let running = world.start().await;
    running.stats().await;
    let span = json!({"from": "2027-03-04", "to": "2027-03-05"});
    for _ in 0..2 {
        let (status, problem) = ask(&running, &world, &span).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 503 && detail.contains("no bars of 2027-03-04, which is a session"), "{problem}");
    }
    let span = json!({"from": "2027-03-01", "to": "2027-03-03"});
    for _ in 0..2 {
        assert_eq!(ask(&running, &world, &span).await.0, 200);
    }
    // The second page of splits is not answered: the first is kept.
    assert_eq!(ask(&running, &world, &span).await.0, 503);
    let splits = "SELECT CAST(session AS TEXT) || ' ' || CAST(numerator AS TEXT) FROM splits ORDER BY session";
    assert_eq!(world.database.query(splits).await, ["2027-02-01 2"]);
    state.lock().unwrap().split_pages = 2;
    let (_, plan) = ask(&running, &world, &span).await;
    assert_eq!((&plan["done"], &plan["units"], &plan["next"]), (&json!(3), &json!(3), &Value::Null));
    let asked = host.asked();
    let last = asked.iter().rfind(|asked| asked.path == "/v3/reference/splits").unwrap();
    assert_eq!(last.parameter("execution_date.gte"), "2027-02-01", "it went on where it was");
    assert_eq!(world.database.query(splits).await, ["2027-02-01 2", "2027-03-01 3"]);
    running.stop().await;
}

fn alpaca(asked: &Asked) -> Answer {
    let symbols = asked.list("symbols");
    match asked.path.as_str() {
        "/v2/stocks/bars" if symbols.iter().any(|symbol| symbol == "BAD") => {
            Answer::refused(400, r#"{"message":"invalid symbol: BAD"}"#)
        }
        "/v2/stocks/bars" => {
            let day = asked.parameter("start").to_owned();
            let bar = json!([{"t": format!("{day}T05:00:00Z"), "o": 10, "h": 11, "l": 9, "c": 10, "v": 5}]);
            let bars: serde_json::Map<String, Value> =
                symbols.into_iter().filter(|symbol| symbol != "NEW").map(|symbol| (symbol, bar.clone())).collect();
            Answer::ok(json!({"bars": bars, "next_page_token": null}))
        }
        "/v1/corporate-actions" => Answer::ok(json!({"corporate_actions": {}, "next_page_token": null})),
        _ => {
            let snapshot = json!({"latestTrade": {"t": asked.now.to_rfc3339(), "p": 10.5}});
            let map: serde_json::Map<String, Value> =
                symbols.into_iter().map(|symbol| (symbol, snapshot.clone())).collect();
            Answer::ok(Value::Object(map))
        }
    }
}

#[tokio::test]
async fn only_what_is_new_is_asked_for_again() {
    let mut world = World::at("2027-03-15T21:00:00Z", Engine::Sqlite, &[("OPERATOR_TOKEN", OPERATOR)]).await;
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, ["AAPL", "IBM"].map(str::to_owned).into_iter());
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, None, alpaca).await;
    for (name, value) in [
        ("PROVIDER", "alpaca".to_owned()),
        ("ALPACA__BASE_URL", host.url()),
        ("ALPACA__API_KEY", "id".to_owned()),
        ("ALPACA__API_SECRET", "secret".to_owned()),
        ("HEDGE_PERCENT", "0".to_owned()),
        ("UNIVERSE__FILE", universe.display().to_string()),
    ] {
        world.set(&format!("BELLWETHER_INGEST__{name}"), &value);
    }
    let asked = |host: &SimHost| -> Vec<String> {
        let bars = host.asked().into_iter().filter(|asked| asked.path == "/v2/stocks/bars");
        bars.map(|asked| {
            format!("{}..{} {}", asked.parameter("start"), asked.parameter("end"), asked.parameter("symbols"))
        })
        .collect()
    };
    let running = world.start().await;
    running.stats().await;
    let span = json!({"from": "2027-03-10", "to": "2027-03-31"});
    let (_, plan) = ask(&running, &world, &span).await;
    assert_eq!((&plan["done"], &plan["units"], &plan["next"]), (&json!(1), &json!(1), &Value::Null));
    assert_eq!(asked(&host), ["2027-03-10..2027-03-12 AAPL,IBM"], "today's session is not settled");
    ask(&running, &world, &span).await;
    assert_eq!(asked(&host).len(), 1);
    running.stop().await;

    // A day later, with two symbols more, one of which the provider does not want to hear of.
    world.clock.advance_to(instant("2027-03-16T12:00:00Z"));
    write_universe(&universe, ["AAPL", "BAD", "IBM", "NEW"].map(str::to_owned).into_iter());
    let running = world.start().await;
    running.stats().await;
    let before = asked(&host).len();
    let (_, plan) =
        ask(&running, &world, &json!({"from": "2027-03-10", "to": "2027-03-31", "symbols": ["BAD", "NEW"]})).await;
    assert_eq!((&plan["without_bars"], &plan["without_bars_first"]), (&json!(2), &json!(["BAD", "NEW"])), "{plan}");
    let (_, plan) = ask(&running, &world, &span).await;
    assert_eq!((&plan["done"], &plan["units"], &plan["next"]), (&json!(1), &json!(1), &Value::Null), "{plan}");
    let after = asked(&host).split_off(before);
    let expected = [
        "2027-03-10..2027-03-15 BAD,NEW",
        "2027-03-10..2027-03-15 BAD",
        "2027-03-10..2027-03-15 NEW",
        "2027-03-15..2027-03-15 AAPL,IBM",
    ];
    assert_eq!(after, expected);
    running.stop().await;
}
