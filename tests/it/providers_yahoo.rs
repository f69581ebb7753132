//! Yahoo's protocol, as its users have found it: a cookie, a crumb, 99 symbols a call, and answers that are none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bellwether::clock::SharedClock;
use bellwether::config::{Config, Environment};
use bellwether::store::RunState;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Engine, World, eventually, instant, write_universe};
use crate::process::Process;
use crate::sim_host::{Answer, Asked, SimHost, Trouble};

const COOKIE: &str = "A3=canary-cookie";

/// What the host knows of its visitors.
#[derive(Default)]
struct Door {
    /// How many crumbs were given out; only the last one opens.
    crumbs: usize,
    /// Left out of every answer.
    unknown: BTreeSet<String>,
    /// Last traded years ago.
    gone: BTreeSet<String>,
    /// Instead of the next crumbs.
    instead: Vec<Answer>,
    /// What whoever asks for `S0000` gets.
    spoilt: Option<&'static str>,
}

type Shared = Arc<Mutex<Door>>;

struct Market {
    world: World,
    host: SimHost,
    door: Shared,
    _universe: tempfile::NamedTempFile,
}

async fn market(symbols: &[String], door: Door) -> Market {
    let universe = tempfile::NamedTempFile::new().unwrap();
    write_universe(universe.path(), symbols.iter().cloned());
    let mut world = World::at("2027-03-15T13:29:00Z", Engine::Sqlite, &[]).await;
    let door: Shared = Arc::new(Mutex::new(door));
    let seen = Arc::clone(&door);
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, None, move |asked| {
        answer(asked, &mut seen.lock().unwrap())
    })
    .await;
    for (name, value) in [
        ("PROVIDER", "yahoo".to_owned()),
        ("YAHOO__ACCEPT_TERMS", "true".to_owned()),
        ("YAHOO__BASE_URL", host.url()),
        ("YAHOO__COOKIE_URL", format!("{}/cookie", host.url())),
        ("UNIVERSE__FILE", universe.path().display().to_string()),
        ("HEDGE_PERCENT", "0".to_owned()),
    ] {
        world.set(&format!("BELLWETHER_INGEST__{name}"), &value);
    }
    Market { world, host, door, _universe: universe }
}

fn answer(asked: &Asked, door: &mut Door) -> Answer {
    match asked.path.as_str() {
        "/cookie" => {
            Answer::refused(404, "<html>").with("set-cookie", format!("{COOKIE}; Domain=.yahoo.com; Path=/; Secure"))
        }
        "/v1/test/getcrumb" if asked.header("cookie") != COOKIE => Answer::refused(401, "{}"),
        "/v1/test/getcrumb" if !door.instead.is_empty() => door.instead.remove(0),
        "/v1/test/getcrumb" => {
            door.crumbs += 1;
            Answer::ok(format!("canary./crumb{}", door.crumbs))
        }
        "/v7/finance/quote" => quotes(asked, door),
        _ => Answer::refused(404, "<html>"),
    }
}

fn quotes(asked: &Asked, door: &Door) -> Answer {
    if asked.header("cookie") != COOKIE || asked.parameter("crumb") != format!("canary./crumb{}", door.crumbs) {
        let fault =
            json!({"finance": {"result": null, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}});
        return Answer::refused(401, fault);
    }
    let symbols = asked.list("symbols");
    if symbols.len() > 99 {
        return Answer::refused(
            400,
            json!({"finance": {"result": null, "error": {"code": "Bad Request", "description": "too many symbols"}}}),
        );
    }
    if let Some(body) = door.spoilt.filter(|_| symbols.iter().any(|symbol| symbol == "S0000")) {
        return Answer::ok(body);
    }
    let known = symbols.iter().filter(|symbol| !door.unknown.contains(*symbol));
    let rows = known.map(|symbol| {
        let age = if door.gone.contains(symbol) { TimeDelta::days(800) } else { TimeDelta::seconds(3) };
        json!({"symbol": symbol, "quoteType": "EQUITY", "currency": "USD", "marketState": "REGULAR", "exchangeDataDelayedBy": 0,
            "regularMarketPrice": 40.125, "regularMarketTime": (asked.now - age).timestamp(), "regularMarketPreviousClose": 40.0,
            "regularMarketOpen": 40.0, "regularMarketDayHigh": 41.0, "regularMarketDayLow": 39.5, "regularMarketVolume": 1000,
            "bid": 0.0, "ask": 40.2, "fiftyTwoWeekHigh": 60.0})
    });
    Answer::ok(json!({"quoteResponse": {"result": rows.collect::<Vec<_>>(), "error": null}}))
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("S{n:04}")).collect()
}

/// Paths that were asked for since `before`.
fn paths(market: &Market, before: usize) -> Vec<String> {
    market.host.asked()[before..].iter().map(|asked| asked.path.clone()).collect()
}

#[tokio::test]
async fn quotes_come_under_a_cookie_and_a_crumb_ninety_nine_at_a_time() {
    let mut symbols = numbered(200);
    symbols.extend(["ACHR.W", "BAC$K", "BRK.B", "OLD", "NONE"].map(str::to_owned));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let door = Door { unknown: names(&["NONE"]), gone: names(&["OLD"]), ..Door::default() };
    let market = market(&symbols, door).await;
    let running = market.world.start().await;
    let stats = running.stats().await;
    let meta = &stats["meta"];
    assert_eq!(
        (&meta["source"], &meta["delay_class"], &meta["licence_class"]),
        (&json!("yahoo"), &json!("real_time"), &json!("none"))
    );
    let before = market.host.calls();
    let asked: Vec<Vec<String>> = market.host.asked().iter().map(|asked| asked.list("symbols")).collect();
    assert!(asked.iter().all(|symbols| symbols.len() <= 99));
    let theirs: BTreeSet<&str> = asked.iter().flatten().map(String::as_str).collect();
    assert!(["BRK-B", "BAC-PK", "ACHR-WT"].iter().all(|name| theirs.contains(name)), "{theirs:?}");
    assert_eq!(paths(&market, 0).iter().filter(|path| *path == "/v1/test/getcrumb").count(), 1, "one session for all");
    let report = market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(
        (&report["fresh"], &report["missing"], &report["outdated"]),
        (&json!(203), &json!(1), &json!(1)),
        "{report}"
    );
    assert!(paths(&market, before).iter().all(|path| path == "/v7/finance/quote"), "the session is kept");
    let (_, quote) = running.get("/api/v1/quotes/BRK.B").await;
    let quote = &quote["quote"];
    assert_eq!(
        (&quote["price"], &quote["previous_close"], &quote["bid"], &quote["ask"]),
        (&json!(40.125), &json!(40.0), &Value::Null, &json!(40.2))
    );
    assert_eq!(running.get("/api/v1/quotes/NONE").await.0, 404, "never made up");
    running.stop().await;
}

#[tokio::test]
async fn a_text_that_is_no_crumb_is_never_used_as_one() {
    let instead = [
        Answer::ok("Too Many Requests"),
        Answer::ok("<html><body>Consent</body></html>"),
        Answer::ok(""),
        Answer::refused(429, "Too Many Requests").with("retry-after", 600),
    ];
    for (answer, rest) in instead.into_iter().zip([300, 300, 300, 600]) {
        let market = market(&numbered(150), Door { instead: vec![answer.clone()], ..Door::default() }).await;
        let running = market.world.start().await;
        eventually("the cause is told", async || {
            let (_, body) = running.get("/api/market-stats/").await;
            body["detail"].as_str().unwrap_or_default().contains("yahoo: gives no crumb: HTTP ")
        })
        .await;
        assert_eq!(paths(&market, 0), ["/cookie", "/v1/test/getcrumb"], "{answer:?}: nobody else calls either");
        // It rests, and then it goes on.
        let began = instant("2027-03-15T13:29:00Z");
        eventually("there is data", async || {
            market.world.clock.advance(TimeDelta::seconds(1));
            running.get("/api/market-stats/").await.0 == 200
        })
        .await;
        let second = market.host.asked()[2].now;
        assert!((second - began).num_seconds() >= rest, "{answer:?}: {second}");
        assert_eq!(paths(&market, 2)[..2], ["/cookie", "/v1/test/getcrumb"]);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_is_refused_is_opened_anew_and_not_without_end() {
    let market = market(&numbered(50), Door::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    // Their side forgets the crumb.
    market.door.lock().unwrap().crumbs += 1;
    let before = market.host.calls();
    let report = market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(report["fresh"], 50, "{report}");
    assert_eq!(paths(&market, before), ["/v7/finance/quote", "/cookie", "/v1/test/getcrumb", "/v7/finance/quote"]);
    // The same inside of HTTP 200.
    let fault =
        json!({"quoteResponse": {"result": [], "error": {"code": "Unauthorized", "description": "Invalid Cookie"}}});
    market.host.trouble([Trouble::Instead(Answer::ok(fault.clone()))]);
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!(report["fresh"], 50, "{report}");
    // Whatever is done it refuses: five openings an hour are all there are.
    let opened = |market: &Market| paths(market, 0).iter().filter(|path| *path == "/cookie").count();
    assert_eq!(opened(&market), 3);
    for at in ["2027-03-15T13:36:00Z", "2027-03-15T13:39:00Z", "2027-03-15T13:42:00Z"] {
        market.host.trouble([Trouble::Instead(Answer::ok(fault.clone()))]);
        market.world.cycle(&running, at).await;
    }
    assert_eq!(opened(&market), 5);
    let (_, stats) = running.get("/api/market-stats/").await;
    assert!(stats["meta"]["cause"].to_string().contains("5 sessions were opened within an hour"), "{}", stats["meta"]);
    let calls = market.host.calls();
    market.world.cycle(&running, "2027-03-15T13:45:00Z").await;
    assert_eq!(market.host.calls(), calls, "nobody calls until the hour is over");
    assert!(!stats["meta"].to_string().contains("canary"));
    running.stop().await;
}

#[tokio::test]
async fn too_many_requests_let_everybody_rest_and_an_error_in_http_200_is_no_answer() {
    let market = market(&numbered(150), Door::default()).await;
    let running = market.world.start().await;
    running.stats().await;
    let error = |code: &str| {
        Answer::ok(json!({"quoteResponse": {"result": [], "error": {"code": code, "description": "said they"}}}))
    };
    // An error that is about what was asked: taken apart until it is not.
    market.host.trouble([Trouble::Instead(error("Not Found"))]);
    let report = market.world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(report["fresh"], 150, "{report}");
    // An empty list is an answer with every symbol missing, which is asked for once more.
    market.host.trouble([Trouble::Instead(Answer::ok(json!({"quoteResponse": {"result": [], "error": null}})))]);
    let report = market.world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!(report["fresh"], 150, "{report}");
    // A page is none.
    market.host.trouble([Trouble::Instead(Answer::ok("<html>"))]);
    let report = market.world.cycle(&running, "2027-03-15T13:36:00Z").await;
    assert_eq!(report["fresh"], 150, "{report}");
    for (at, next, said) in [
        ("2027-03-15T13:39:00Z", "2027-03-15T13:45:00Z", Answer::refused(429, "Too Many Requests")),
        ("2027-03-15T13:48:00Z", "2027-03-15T13:54:00Z", error("Too Many Requests")),
    ] {
        let calls = market.host.calls();
        market.host.trouble([Trouble::Instead(said.clone()), Trouble::Instead(said)]);
        market.world.advance_to(&running, instant(at)).await;
        assert!(market.host.calls() <= calls + 2, "those that were under way");
        let rested = market.host.calls();
        // The cycle in between waits for the end of the rest. A slot that met it would be left out.
        let between = instant(at) + TimeDelta::minutes(3);
        eventually("its rest is over", async || {
            market.world.creep(TimeDelta::seconds(1), instant(next));
            let runs = market.world.ledger(&running, "ingest").await;
            let under_way = [RunState::Running, RunState::Queued];
            runs.last().is_some_and(|run| run.scheduled_for == between && !under_way.contains(&run.state))
        })
        .await;
        // It goes on. The clock stands still meanwhile: no call seems slow, so that the two of the next round leave together.
        market.world.advance_to(&running, instant(next)).await;
        let report = market.world.cycle(&running, next).await;
        assert_eq!(report["fresh"], 150, "{report}");
        let first = market.host.asked()[rested].now;
        assert!(first >= instant(at) + TimeDelta::seconds(300), "{first}");
    }
    running.stop().await;
}

#[tokio::test]
async fn json_without_a_list_of_quotes_puts_nobody_to_sleep() {
    let mut market = market(&numbered(150), Door::default()).await;
    market.world.set("BELLWETHER_INGEST__ATTEMPTS", "1");
    let running = market.world.start().await;
    running.stats().await;
    let none = [
        "{}",
        r#"{"message":"away"}"#,
        r#"{"quoteResponse":{}}"#,
        r#"{"quoteResponse":{"result":null,"error":null}}"#,
        "{}",
        "{}",
        "{}",
    ];
    for (body, minute) in none.into_iter().zip(["30", "33", "36", "39", "42", "45", "48"]) {
        market.door.lock().unwrap().spoilt = Some(body);
        let report = market.world.cycle(&running, &format!("2027-03-15T13:{minute}:00Z")).await;
        assert_eq!((&report["fresh"], &report["dormant"], &report["refused"]), (&json!(51), &json!(0), &json!([])));
        let cause = report["cause"].as_str().unwrap();
        assert!(cause.starts_with(&format!("yahoo: HTTP 200 {body:?}")), "{cause}");
    }
    running.stop().await;
}

#[test]
fn nobody_gets_it_without_having_said_so() {
    let load = |accepts: &str| {
        let said = [("BELLWETHER_INGEST__PROVIDER", "yahoo"), ("BELLWETHER_INGEST__YAHOO__ACCEPT_TERMS", accepts)];
        Config::load(None, &said.into_iter().collect::<Environment>())
    };
    assert!(load("true").is_ok());
    let told = load("false").unwrap_err().0;
    assert_eq!((told.len(), &*told[0].key), (1, "ingest.yahoo.accept_terms"));
    assert!(told[0].fix.contains("docs/providers.md"), "{}", told[0]);
}

#[tokio::test]
async fn in_production_too_each_start_says_that_nobody_has_granted_it() {
    let directory = tempfile::tempdir().unwrap();
    let random = "0123456789abcdefghijklmnopqrstuv";
    let process = Process::start(
        directory.path(),
        &[
            ("ENVIRONMENT", "production"),
            ("CRON_SECRET", random),
            ("SECRET_KEY", random),
            ("ALLOWED_HOSTS", "api.example.com"),
            ("BELLWETHER_INGEST__PROVIDER", "yahoo"),
            ("BELLWETHER_INGEST__YAHOO__ACCEPT_TERMS", "true"),
            ("BELLWETHER_INGEST__YAHOO__BASE_URL", "http://127.0.0.1:9"),
            ("BELLWETHER_INGEST__YAHOO__COOKIE_URL", "http://127.0.0.1:9"),
        ],
    );
    let said = process.log.iter().find(|line| line["message"].to_string().contains("NOBODY HAS GRANTED"));
    let said = said.unwrap_or_else(|| panic!("not said: {:#?}", process.log));
    assert_eq!((&said["level"], &said["environment"]), (&json!("WARN"), &json!("production")));
}
