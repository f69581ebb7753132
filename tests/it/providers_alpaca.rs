//! Alpaca's protocol: batches, spellings, quota headers, and the troubles of a provider that is asked in parts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether::clock::SharedClock;
use bellwether::store::RunState;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::harness::{Engine, Running, World, eventually, instant, write_universe};
use crate::sim_host::{Answer, Asked, SimHost, Trouble};

const KEY: &str = "canary-alpaca-id";
const SECRET: &str = "canary-alpaca-secret";

/// What the exchange has to say, in the provider's spelling.
#[derive(Default)]
struct Exchange {
    /// Listed nowhere: left out of every answer.
    unknown: BTreeSet<String>,
    /// Spoils every call it is part of.
    ill_formed: BTreeSet<String>,
    /// The last trade is months old.
    quiet: BTreeSet<String>,
    /// The next prices of a symbol, before the usual one.
    next_prices: Vec<(String, f64)>,
    /// Inside `snapshots`.
    wrapped: bool,
    /// Whoever asks for this one gets an error with HTTP 200.
    spoilt: Option<String>,
}

type Shared = Arc<Mutex<Exchange>>;

struct Market {
    world: World,
    host: SimHost,
    exchange: Shared,
    _universe: tempfile::NamedTempFile,
}

/// A daemon's world whose universe is `symbols` in our spelling.
async fn market(at: &str, symbols: &[String], exchange: Exchange) -> Market {
    let universe = tempfile::NamedTempFile::new().unwrap();
    write_universe(universe.path(), symbols.iter().cloned());
    let mut world = World::at(at, Engine::Sqlite, &[]).await;
    let exchange: Shared = Arc::new(Mutex::new(exchange));
    let seen = Arc::clone(&exchange);
    let quota = Some((200, Duration::from_mins(1)));
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, quota, move |asked| answer(asked, &seen)).await;
    let settings = [
        ("INGEST__PROVIDER", "alpaca".to_owned()),
        ("INGEST__UNIVERSE__FILE", universe.path().display().to_string()),
        ("INGEST__ALPACA__BASE_URL", host.url()),
        ("INGEST__ALPACA__API_KEY", KEY.to_owned()),
        ("INGEST__ALPACA__API_SECRET", SECRET.to_owned()),
        // Calls are counted here; when they are slow has a test of its own.
        ("INGEST__HEDGE_PERCENT", "0".to_owned()),
    ];
    for (name, value) in settings {
        world.set(&format!("BELLWETHER_{name}"), &value);
    }
    Market { world, host, exchange, _universe: universe }
}

fn answer(asked: &Asked, exchange: &Shared) -> Answer {
    if asked.header("apca-api-key-id") != KEY || asked.header("apca-api-secret-key") != SECRET {
        return Answer::refused(403, r#"{"message":"forbidden."}"#);
    }
    match asked.path.as_str() {
        "/v2/stocks/snapshots" => snapshots(asked, &mut exchange.lock().unwrap()),
        _ => Answer::refused(404, r#"{"message":"endpoint not found."}"#),
    }
}

fn snapshots(asked: &Asked, exchange: &mut Exchange) -> Answer {
    let symbols = asked.list("symbols");
    if symbols.is_empty() || symbols.len() > 100 || asked.parameter("feed") != "iex" {
        return Answer::refused(400, r#"{"code":40010000,"message":"bad parameters"}"#);
    }
    if let Some(bad) = symbols.iter().find(|symbol| exchange.ill_formed.contains(*symbol)) {
        return Answer::refused(400, json!({"code": 40_010_001, "message": format!("invalid symbol: {bad}")}));
    }
    if exchange.spoilt.as_ref().is_some_and(|spoilt| symbols.contains(spoilt)) {
        return Answer::ok(r#"{"error":"upstream is away","request":"r-1"}"#);
    }
    let known = symbols.iter().filter(|symbol| !exchange.unknown.contains(*symbol)).cloned().collect::<Vec<_>>();
    let mut map = Map::new();
    for symbol in known {
        let snapshot = snapshot(&symbol, exchange, asked.now);
        map.insert(symbol, snapshot);
    }
    let map = Value::Object(map);
    if exchange.wrapped { Answer::ok(json!({ "snapshots": map })) } else { Answer::ok(map) }
}

fn snapshot(symbol: &str, exchange: &mut Exchange, now: DateTime<Utc>) -> Value {
    let before = if symbol == "BRK.A" { 710_000.0 } else { 40.0 };
    let next = exchange.next_prices.iter().position(|(of, _)| of == symbol);
    let price = match next {
        Some(next) => exchange.next_prices.remove(next).1,
        None if symbol == "BRK.A" => 712_345.5,
        None => before + 0.125,
    };
    let at = if exchange.quiet.contains(symbol) { now - TimeDelta::days(92) } else { now - TimeDelta::seconds(2) };
    let midnight = now.date_naive();
    let bar = |close: f64, day: String| json!({"t": day, "o": close, "h": close, "l": close, "c": close, "v": 1_000, "n": 3, "vw": close});
    json!({
        "latestTrade": {"t": at.to_rfc3339(), "x": "V", "p": price, "s": 100, "c": ["@"], "i": 1, "z": "C"},
        "latestQuote": {"t": at.to_rfc3339(), "ax": "V", "ap": price + 0.01, "as": 5, "bx": "V", "bp": price - 0.01, "bs": 2},
        "minuteBar": bar(price, at.to_rfc3339()),
        "dailyBar": bar(price, format!("{midnight}T04:00:00Z")),
        "prevDailyBar": bar(before, format!("{}T04:00:00Z", midnight - TimeDelta::days(3))),
    })
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("S{n:04}")).collect()
}

fn names(symbols: &[&str]) -> BTreeSet<String> {
    symbols.iter().map(|symbol| (*symbol).to_owned()).collect()
}

#[tokio::test]
async fn a_universe_comes_in_batches_under_the_sites_spelling() {
    let mut symbols = numbered(250);
    symbols.extend(["AAPL", "ACHR.W", "BAC$K", "BRK.A", "BRK.B"].map(str::to_owned));
    for wrapped in [false, true] {
        let market = market("2027-03-15T14:00:00Z", &symbols, Exchange { wrapped, ..Exchange::default() }).await;
        let running = market.world.start().await;
        let stats = running.stats().await;
        assert_eq!(stats["meta"]["completeness"], 1.0, "{}", stats["meta"]);
        let meta = &stats["meta"];
        assert_eq!(
            (&meta["source"], &meta["delay_class"], &meta["licence_class"]),
            (&json!("alpaca"), &json!("real_time"), &json!("own_key"))
        );
        assert_eq!(market.host.calls(), 3);
        let asked: BTreeSet<String> = market.host.asked().iter().flat_map(|asked| asked.list("symbols")).collect();
        assert!(["BAC.PRK", "ACHR.WS", "BRK.B"].iter().all(|theirs| asked.contains(*theirs)), "{asked:?}");
        let (_, berkshire) = running.get("/api/stocks/BRK.A/").await;
        assert_eq!(berkshire["data"]["current_price"], 712_345.5);
        assert_eq!(running.get("/api/stocks/BAC$K/").await.1["data"]["price_change"], 0.125);
        running.stop().await;
    }
}

#[tokio::test]
async fn one_bad_symbol_spoils_no_batch_and_is_named() {
    let ill_formed = names(&["S0042", "S0043", "S0199"]);
    let market = market("2027-03-15T13:29:00Z", &numbered(250), Exchange { ill_formed, ..Exchange::default() }).await;
    let running = market.world.start().await;
    running.stats().await;
    let first = market.host.calls();
    assert!(first <= 3 + 3 * 14, "{first} calls");
    let report = market.world.ledger(&running, "ingest").await.pop().unwrap().stats.unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["fresh"], 247, "{report}");
    let mut refused: Vec<&str> = report["refused"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["S0042", "S0043", "S0199"]);
    let cause = report["cause"].as_str().unwrap();
    assert!(cause.contains("is refused: alpaca: HTTP 400 code 40010001 \"invalid symbol: S0"), "{cause}");
    running.stop().await;
}

#[tokio::test]
async fn refused_symbols_spoil_no_other_batch_and_cost_next_to_nothing() {
    let symbols = numbered(1_536);
    let ill_formed: BTreeSet<String> = symbols[..34].iter().cloned().collect();
    let market = market("2027-03-15T13:29:00Z", &symbols, Exchange { ill_formed, ..Exchange::default() }).await;
    let running = market.world.start().await;
    running.stats().await;
    let found = market.host.calls();
    assert!(found <= 16 + 4 * 34, "{found} calls to find them");
    let cycle = async |running: &Running, at: &str| {
        let report = market.world.cycle(running, at).await;
        let told = ["fresh", "requests", "dormant"].map(|name| report[name].as_i64().unwrap());
        assert_eq!((told[0], told[2], &report["refused"]), (1_502, 34, &json!([])), "{report}");
        told[1]
    };
    // Two cycles later they are asked for once more, in a call of their own; then there are only their parts, in turns.
    let mut requests = Vec::new();
    for minute in [30, 33, 36, 39, 42, 45, 48] {
        requests.push(cycle(&running, &format!("2027-03-15T13:{minute}:00Z")).await);
    }
    assert_eq!(requests, [16, 16, 17, 16, 16, 16, 16]);
    running.stop().await;
    // A restart forgets who refused them, and asks apart who is dormant.
    let running = market.world.start().await;
    assert_eq!(cycle(&running, "2027-03-15T13:51:00Z").await, 16 + 1);
    assert_eq!(cycle(&running, "2027-03-15T13:54:00Z").await, 16);
    running.stop().await;
    let running = market.world.start().await;
    assert_eq!(cycle(&running, "2027-03-16T13:30:00Z").await, 16 + 1);
    assert_eq!(cycle(&running, "2027-03-16T13:33:00Z").await, 16);
    running.stop().await;
}

#[tokio::test]
async fn a_refused_symbol_that_is_put_right_comes_back() {
    let ill_formed = names(&["S0042", "S0043", "S0199"]);
    let market = market("2027-03-15T13:29:00Z", &numbered(250), Exchange { ill_formed, ..Exchange::default() }).await;
    let running = market.world.start().await;
    running.stats().await;
    market.exchange.lock().unwrap().ill_formed.clear();
    for (at, fresh, requests) in [("30", 247, 3), ("33", 247, 3), ("36", 250, 3 + 1)] {
        let report = market.world.cycle(&running, &format!("2027-03-15T13:{at}:00Z")).await;
        assert_eq!((&report["fresh"], &report["requests"]), (&json!(fresh), &json!(requests)), "{report}");
    }
    let report = market.world.cycle(&running, "2027-03-15T13:39:00Z").await;
    assert_eq!((&report["requests"], &report["cause"]), (&json!(3), &Value::Null));
    running.stop().await;
}

#[tokio::test]
async fn a_provider_that_refuses_everything_is_not_taken_apart_without_end() {
    let symbols = numbered(1_000);
    let ill_formed = symbols.iter().cloned().collect();
    let market = market("2027-03-15T13:29:00Z", &symbols, Exchange { ill_formed, ..Exchange::default() }).await;
    let running = market.world.start().await;
    eventually("it was given up", async || {
        running.get("/api/market-stats/").await.1["detail"].to_string().contains("invalid symbol")
    })
    .await;
    assert!(market.host.calls() <= 10 + 2 * 8, "{} calls", market.host.calls());
    running.daemon.stop().await;
}

#[tokio::test]
async fn thirty_four_dead_symbols_cost_one_call_once() {
    let symbols = numbered(1_536);
    let unknown = symbols.iter().step_by(46).cloned().collect::<BTreeSet<_>>();
    assert_eq!(unknown.len(), 34);
    let market = market("2027-03-15T13:29:00Z", &symbols, Exchange { unknown, ..Exchange::default() }).await;
    let running = market.world.start().await;
    running.stats().await;
    assert_eq!(market.host.calls(), 16 + 1, "what was not answered for is asked for once more");
    for at in ["2027-03-15T13:30:00Z", "2027-03-15T13:33:00Z"] {
        let report = market.world.cycle(&running, at).await;
        assert_eq!((&report["requests"], &report["missing"]), (&json!(16), &json!(34)), "{report}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_symbol_that_drops_out_of_an_answer_is_asked_for_once_more() {
    let market = market("2027-03-15T13:29:00Z", &numbered(150), Exchange::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    // The first answer lacks everything, as it happens when a server of theirs is restarted.
    market.host.trouble([Trouble::Instead(Answer::ok("{}"))]);
    let calls = market.host.calls();
    let report = market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(report["fresh"], 150, "{report}");
    assert_eq!(market.host.calls() - calls, 3);
    running.stop().await;
}

#[tokio::test]
async fn only_the_batch_that_failed_is_tried_again() {
    let market = market("2027-03-15T13:29:00Z", &numbered(300), Exchange::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    let refused = |status, body: &str| Trouble::Instead(Answer::refused(status, body));
    let busy = || Answer::refused(429, r#"{"message":"too many requests."}"#).with("x-ratelimit-remaining", 5);
    for (at, trouble, fewest_seconds) in [
        ("2027-03-15T13:30:00Z", refused(500, "<html>"), 0),
        ("2027-03-15T13:33:00Z", Trouble::Instead(busy().with("retry-after", 20)), 20),
        (
            "2027-03-15T13:36:00Z",
            Trouble::Instead(
                busy()
                    .with("date", "Mon, 15 Mar 2027 13:36:00 GMT")
                    .with("retry-after", "Mon, 15 Mar 2027 13:36:25 GMT"),
            ),
            25,
        ),
        ("2027-03-15T13:39:00Z", Trouble::Instead(busy()), 0),
        ("2027-03-15T13:42:00Z", Trouble::CutOff, 0),
        ("2027-03-15T13:45:00Z", Trouble::BrokenGzip, 0),
        ("2027-03-15T13:48:00Z", Trouble::Instead(Answer::ok("Service is being updated")), 0),
        // The provider counts for itself, and says when it will answer again.
        (
            "2027-03-15T13:51:00Z",
            Trouble::Instead(
                Answer::refused(429, "{}")
                    .with("x-ratelimit-remaining", 0)
                    .with("x-ratelimit-reset", instant("2027-03-15T13:51:40Z").timestamp()),
            ),
            39,
        ),
    ] {
        market.host.trouble([trouble.clone()]);
        let calls = market.host.calls();
        let report = market.world.cycle(&running, at).await;
        assert_eq!((&report["fresh"], &report["cause"]), (&json!(300), &Value::Null), "{trouble:?}: {report}");
        assert_eq!(market.host.calls() - calls, 4, "{trouble:?}");
        let run = market.world.ledger(&running, "ingest").await.pop().unwrap();
        let took = (run.finished_at.unwrap() - run.scheduled_for).num_seconds();
        assert!(took >= fewest_seconds, "{trouble:?}: {took} s");
    }
    assert_eq!(market.host.over_quota(), 0);
    running.stop().await;
}

#[tokio::test]
async fn an_error_inside_of_http_200_and_words_that_are_no_numbers_cost_nobody_else() {
    let mut exchange = Exchange::default();
    exchange.quiet.insert("S0007".to_owned());
    let market = market("2027-03-15T13:29:00Z", &numbered(200), exchange).await;
    let running = market.world.start().await;
    running.stats().await;
    market.host.trouble([Trouble::Instead(Answer::ok(r#"{"code":50010000,"message":"internal server error"}"#))]);
    let report = market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(report["fresh"], 199, "{report}");
    assert_eq!(report["outdated"], 1, "a trade that is three months old is not fresh");
    // NaN stands where a price should be; a snapshot that is a text is none.
    let at = "2027-03-15T13:32:59Z";
    let good = |symbol: &str| format!(r#""{symbol}":{{"latestTrade":{{"t":"{at}","p":41.5}}}}"#);
    let bad = r#""S0000":{"latestTrade":{"t":"2027-03-15T13:32:59Z","p":NaN}},"S0001":"halted","S0002":null"#;
    let all: Vec<String> = (3..100).map(|n| good(&format!("S{n:04}"))).collect();
    let instead = |body: String| Trouble::Instead(Answer::ok(body));
    market.host.trouble([instead(format!("{{{bad},{}}}", all.join(",")))]);
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!((&report["requests"], &report["invalid"]), (&json!(3), &json!(1)), "{report}");
    let (_, kept) = running.get("/api/stocks/S0000/").await;
    assert_eq!((&kept["data"]["current_price"], &kept["data"]["refreshed"]), (&json!(40.125), &json!(false)));
    running.stop().await;
}

#[tokio::test]
async fn an_error_in_the_place_of_an_answer_puts_nobody_to_sleep() {
    let mut market = market("2027-03-15T13:29:00Z", &numbered(150), Exchange::default()).await;
    market.world.set("BELLWETHER_INGEST__ATTEMPTS", "1");
    let running = market.world.start().await;
    running.stats().await;
    market.exchange.lock().unwrap().spoilt = Some("S0000".to_owned());
    for minute in ["30", "33", "36", "39", "42", "45", "48"] {
        let report = market.world.cycle(&running, &format!("2027-03-15T13:{minute}:00Z")).await;
        assert_eq!((&report["fresh"], &report["dormant"], &report["refused"]), (&json!(50), &json!(0), &json!([])));
        let cause = report["cause"].as_str().unwrap();
        assert!(cause.contains("alpaca: HTTP 200 without any symbol that was asked for"), "{cause}");
        assert!(cause.contains("upstream is away"), "{cause}");
    }
    market.exchange.lock().unwrap().spoilt = None;
    let report = market.world.cycle(&running, "2027-03-15T13:51:00Z").await;
    assert_eq!(report["fresh"], 150, "each is asked for again at once: {report}");
    running.stop().await;
}

#[tokio::test]
async fn what_moved_over_a_quarter_is_asked_for_once_more_and_published_as_it_stands() {
    let market = market("2027-03-15T13:29:00Z", &numbered(300), Exchange::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    let spike = |symbol: &str, price| (symbol.to_owned(), price);
    // One is a mistake that is gone the next moment, one stands.
    market.exchange.lock().unwrap().next_prices = vec![spike("S0010", 4.0), spike("S0250", 60.0), spike("S0250", 60.5)];
    let calls = market.host.calls();
    let report = market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!((&report["fresh"], &report["requests"]), (&json!(300), &json!(4)), "{report}");
    let asked = market.host.asked();
    assert_eq!(asked.len() - calls, 4);
    assert_eq!(asked.last().unwrap().list("symbols"), ["S0010", "S0250"], "only these");
    let (_, mistake) = running.get("/api/stocks/S0010/").await;
    assert_eq!(mistake["data"]["current_price"], 40.125);
    let (_, real) = running.get("/api/stocks/S0250/").await;
    assert_eq!((&real["data"]["current_price"], &real["data"]["refreshed"]), (&json!(60.5), &json!(true)));
    // What has been confirmed is believed.
    market.exchange.lock().unwrap().next_prices = vec![spike("S0250", 61.0)];
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!(report["requests"], 3, "{report}");
    assert_eq!(running.get("/api/stocks/S0250/").await.1["data"]["current_price"], 61.0);
    // A second answer without a price is none: the first one stands.
    market.exchange.lock().unwrap().next_prices = vec![spike("S0020", 60.0), spike("S0020", 0.0)];
    market.world.cycle(&running, "2027-03-15T13:36:00Z").await;
    let (_, kept) = running.get("/api/stocks/S0020/").await;
    assert_eq!((&kept["data"]["current_price"], &kept["data"]["refreshed"]), (&json!(60.0), &json!(true)));
    running.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_the_quota_is_said_before_and_each_symbol_has_its_turn() {
    let mut market = market("2027-03-15T13:20:00Z", &numbered(800), Exchange::default()).await;
    market.world.set("BELLWETHER_INGEST__ALPACA__REQUESTS_PER_MINUTE", "1");
    let running = market.world.start().await;
    eventually("the first cycle has ended", async || {
        market.world.clock.advance(TimeDelta::seconds(1));
        running.get("/api/market-stats/").await.0 == 200
    })
    .await;
    let mut fresh = BTreeSet::new();
    for at in ["2027-03-15T13:30:00Z", "2027-03-15T13:33:00Z", "2027-03-15T13:36:00Z", "2027-03-15T13:39:00Z"] {
        let calls = market.host.calls();
        let report = market.world.cycle(&running, at).await;
        let told = report["does_not_fit"].as_str().unwrap_or_default();
        assert_eq!(
            told,
            "8 calls for 800 symbols do not fit a cadence of 180 s: the quota needs 480 s for them; \
             set ingest.cadence_seconds to 480 or more, or ask for fewer symbols",
            "{report}"
        );
        assert!(report["cause"].as_str().unwrap().starts_with(told));
        fresh.extend(market.host.asked()[calls..].iter().flat_map(|asked| asked.list("symbols")));
    }
    assert_eq!(fresh.len(), 800, "four cycles reach every symbol");
    assert_eq!(market.host.over_quota(), 0);
    running.stop().await;
}

#[tokio::test]
async fn an_outage_is_told_as_one_although_the_quota_is_small() {
    let mut market = market("2027-03-15T13:20:00Z", &numbered(800), Exchange::default()).await;
    market.world.set("BELLWETHER_INGEST__ALPACA__REQUESTS_PER_MINUTE", "2");
    market.world.set("BELLWETHER_INGEST__ATTEMPTS", "1");
    let running = market.world.start().await;
    eventually("the first cycle has ended", async || {
        market.world.clock.advance(TimeDelta::seconds(1));
        running.get("/api/market-stats/").await.0 == 200
    })
    .await;
    let down = || Trouble::Instead(Answer::refused(503, "<html>down</html>"));
    market.host.trouble(std::iter::repeat_with(down).take(100));
    for (at, code) in
        [("30", "cycle_failed"), ("33", "provider_down"), ("36", "provider_down"), ("39", "provider_down")]
    {
        market.world.cycle(&running, &format!("2027-03-15T13:{at}:00Z")).await;
        let (_, why) = running.get("/api/v1/ingest/why").await;
        assert_eq!(why["code"], code, "{why}");
        assert!(why["sentence"].as_str().unwrap().contains("EDT failed: alpaca: "), "{why}");
        assert!(why["sentence"].as_str().unwrap().contains("HTTP 503"), "{why}");
    }
    running.daemon.stop().await;
}

#[tokio::test]
async fn a_host_that_is_down_is_left_alone_for_a_while_and_comes_back() {
    let market = market("2027-03-15T13:29:00Z", &numbered(100), Exchange::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    let down = || Trouble::Instead(Answer::refused(503, "<html>down</html>"));
    market.host.trouble(std::iter::repeat_with(down).take(7));
    let calls = market.host.calls();
    market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(market.host.calls() - calls, 4, "tried as often as it is configured");
    assert!(running.get("/api/market-stats/").await.1["meta"]["cause"].to_string().contains("alpaca: HTTP 503"));
    // The fifth failure opens the breaker; after its pause one call tries, and again.
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!(report["fresh"], 100, "{report}");
    let run = market.world.ledger(&running, "ingest").await.pop().unwrap();
    assert!((run.finished_at.unwrap() - run.scheduled_for).num_seconds() >= 15 + 30 + 60, "the pauses were kept");
    assert_eq!(market.host.calls() - calls, 8);
    running.stop().await;
}

#[tokio::test]
async fn a_late_answer_belongs_to_its_own_slot() {
    let mut market = market("2027-03-15T13:29:00Z", &numbered(100), Exchange::default()).await;
    market.world.set("BELLWETHER_INGEST__ATTEMPTS", "1");
    let running = market.world.start().await;
    running.stats().await;
    market.host.trouble([Trouble::SlowDrip]);
    let calls = market.host.calls();
    market.world.clock.advance_to(instant("2027-03-15T13:30:00Z"));
    eventually("the call is under way", async || market.host.calls() == calls + 1).await;
    // The cycle ends, whatever the call does, five seconds before the run would be ended at 0.9 of the cadence.
    market.world.clock.advance_to(instant("2027-03-15T13:32:38Z"));
    eventually("the cycle has ended", async || {
        market.world.ledger(&running, "ingest").await.last().is_some_and(|run| run.state == RunState::Failed)
    })
    .await;
    let cause = running.get("/api/market-stats/").await.1["meta"]["cause"].to_string();
    assert!(cause.contains("09:30:00 EDT failed: alpaca: no answer before the cycle's end"), "{cause}");
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!((&report["fresh"], &report["requests"]), (&json!(100), &json!(1)));
    running.stop().await;
}

#[tokio::test]
async fn wrong_keys_end_the_cycle_with_one_call_and_are_never_repeated() {
    let mut market = market("2027-03-15T13:29:00Z", &numbered(3_000), Exchange::default()).await;
    market.world.set("BELLWETHER_INGEST__ALPACA__API_SECRET", "canary-wrong-secret");
    let running = market.world.start().await;
    eventually("the cause is told", async || {
        market.world.clock.advance(TimeDelta::milliseconds(100));
        let (_, body) = running.get("/api/market-stats/").await;
        let told = body["detail"].as_str().unwrap_or_default().to_owned();
        assert!(!told.contains("canary"), "{told}");
        told.contains("HTTP 403 \"forbidden.\"; check ingest.alpaca.api_key and ingest.alpaca.api_secret")
    })
    .await;
    assert_eq!(market.host.calls(), 1, "whoever may not ask for one batch may not ask for the next");
    running.daemon.stop().await;
}

#[tokio::test]
async fn a_quota_that_is_spent_is_no_provider_that_is_down_after_a_restart_either() {
    let market = market("2027-03-15T13:29:00Z", &numbered(300), Exchange::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    let code = async |running: &crate::harness::Running| running.get("/api/v1/ingest/why").await.1["code"].clone();
    // It says by itself that it will not answer for an hour.
    let spent = Answer::refused(429, "{}")
        .with("x-ratelimit-remaining", 0)
        .with("x-ratelimit-reset", instant("2027-03-15T14:40:00Z").timestamp());
    market.host.trouble([Trouble::Instead(spent.clone()), Trouble::Instead(spent.clone()), Trouble::Instead(spent)]);
    market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!(report, json!({"kind": "quota"}), "what the ledger keeps of it");
    assert_eq!(code(&running).await, "quota_spent");
    running.stop().await;
    let running = market.world.start().await;
    assert_eq!(code(&running).await, "quota_spent");
    running.stop().await;
}
