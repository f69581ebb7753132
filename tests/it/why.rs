//! Why the data is as it is: an outage, a holiday, a half day, a restart, symbols that nothing is heard of; told by the API, by health
//! and by the command line in the same words.

use std::sync::Arc;

use bellwether::clock::SharedClock;
use bellwether::ops::explain::Code;
use bellwether::store::RunState;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Database, Engine, Running, World, eventually, instant, write_universe};
use crate::ingestion::{market, slot};
use crate::process::Process;
use crate::sim_massive::{Manner, SimMassive, Trouble};

async fn why(running: &Running) -> Value {
    let (status, why) = running.get("/api/v1/ingest/why").await;
    assert_eq!(status, 200, "{why}");
    why
}

async fn component(running: &Running, name: &str) -> Value {
    let (_, health) = running.get("/api/health/detailed/").await;
    health["components"].as_array().unwrap().iter().find(|part| part["name"] == name).unwrap().clone()
}

/// The codes of all findings, in order.
fn codes(why: &Value) -> Vec<String> {
    let mut codes: Vec<String> = why["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect();
    codes.sort();
    codes
}

/// The codes for which the metric is 1, in order; it is there for every code.
async fn metered(running: &Running) -> Vec<String> {
    let page = running.http.get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap();
    let page = page.text().await.unwrap();
    let lines: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("bellwether_ingest_finding{code=\"")?.split_once("\"} "))
        .collect();
    assert_eq!(lines.len(), Code::FINDINGS.len(), "{lines:?}");
    let mut codes: Vec<String> =
        lines.iter().filter(|(_, value)| *value == "1").map(|(code, _)| (*code).to_owned()).collect();
    codes.sort();
    codes
}

/// Waits until the state is told, and gives it.
async fn is_told(running: &Running, code: &str) -> Value {
    eventually(&format!("{code} is told"), async || why(running).await["code"] == code).await;
    why(running).await
}

#[tokio::test]
async fn an_hour_without_the_provider_is_no_closed_market_and_a_restart_does_not_forget_it() {
    let mut market = market("2027-03-15T13:29:00Z", &["AAPL", "MSFT"], |_, _| Manner::Traded).await;
    market.world.set("BELLWETHER_INGEST__ATTEMPTS", "1");
    let running = market.world.start().await;
    running.stats().await;
    slot(&market, &running, "2027-03-15T13:30:00Z").await;
    let good = why(&running).await;
    assert_eq!((&good["code"], &good["healthy"], &good["findings"]), (&json!("fresh"), &json!(true), &json!([])));

    let (first, mut at) = (instant("2027-03-15T13:33:00Z"), instant("2027-03-15T13:33:00Z"));
    while at < first + TimeDelta::hours(1) {
        market.massive.trouble([Trouble::Refusal(503, None)]);
        slot(&market, &running, &at.to_rfc3339()).await;
        at += TimeDelta::minutes(3);
    }
    let told = why(&running).await;
    assert_eq!(
        (&told["code"], &told["stale"], &told["healthy"]),
        (&json!("provider_down"), &json!(true), &json!(false))
    );
    assert_eq!(told["since"], json!("2027-03-15T13:33:00Z"));
    assert_eq!((&told["evidence"]["failing"]["cycles"], &told["evidence"]["phase"]), (&json!(20), &json!("regular")));
    let sentence = told["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("HTTP 503") && sentence.contains("20 in a row, since Mon 2027-03-15 09:33:00 EDT"),
        "{sentence}"
    );
    // Readers and health have the same words.
    let stats = running.get("/api/market-stats/").await.1;
    assert!(
        stats["meta"]["cause"].as_str().unwrap().contains("the cycle of Mon 2027-03-15 10:30:00 EDT failed"),
        "{stats}"
    );
    assert_eq!(component(&running, "freshness").await["detail"], told["sentence"]);
    assert_eq!(component(&running, "freshness").await["look"], "bellwether ingest why");
    // And so has what the alerts go by: each finding is 1, and nothing else is.
    assert_eq!(metered(&running).await, codes(&told));
    assert!(codes(&told).contains(&"provider_down".to_owned()));
    // While its breaker was open nobody called, so some refusals are left over.
    market.massive.forgive();
    running.stop().await;

    let running = market.world.start().await;
    let told = why(&running).await;
    assert_eq!((&told["code"], &told["since"]), (&json!("provider_down"), &json!("2027-03-15T13:33:00Z")));
    slot(&market, &running, "2027-03-15T14:33:00Z").await;
    assert_eq!(is_told(&running, "fresh").await["evidence"]["failing"], Value::Null);
    running.stop().await;
}

#[tokio::test]
async fn an_outage_with_a_time_to_come_back_is_no_spent_quota() {
    let mut market = market("2027-03-15T13:29:00Z", &["AAPL", "MSFT"], |_, _| Manner::Traded).await;
    market.world.set("BELLWETHER_INGEST__ATTEMPTS", "1");
    let running = market.world.start().await;
    running.stats().await;
    slot(&market, &running, "2027-03-15T13:30:00Z").await;
    let calls = market.massive.calls();
    market.massive.trouble(std::iter::repeat_n(Trouble::Refusal(503, Some(540)), 30));
    for cycle in 1..=20 {
        slot(&market, &running, &(instant("2027-03-15T13:30:00Z") + TimeDelta::minutes(3) * cycle).to_rfc3339()).await;
        let told = why(&running).await;
        let code = if cycle == 1 { "cycle_failed" } else { "provider_down" };
        assert_eq!((&told["code"], &told["evidence"]["failing"]["kind"]), (&json!(code), &json!("provider")), "{told}");
        assert!(told["sentence"].as_str().unwrap().contains("massive: HTTP 503"), "{told}");
        let codes = told["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap());
        assert!(codes.into_iter().all(|code| !code.starts_with("quota")), "{told}");
    }
    assert_eq!(market.massive.calls() - calls, 7, "one call each time it said it would be back");
    market.massive.forgive();
    slot(&market, &running, "2027-03-15T14:33:00Z").await;
    slot(&market, &running, "2027-03-15T14:36:00Z").await;
    is_told(&running, "fresh").await;
    running.stop().await;
}

#[tokio::test]
async fn a_half_day_a_weekend_and_a_holiday_are_told_with_their_reason() {
    // The Friday after Thanksgiving: the market closes at 13:00.
    let world = World::at("2026-11-27T17:50:30Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    world.advance_to(&running, instant("2026-11-27T17:57:00Z")).await;
    let open = is_told(&running, "fresh").await;
    assert!(open["sentence"].as_str().unwrap().contains("it closes early, at Fri 2026-11-27 13:00 EST"), "{open}");
    // Stories move in the steps of the schedule: the cycle after the close is at 13:05.
    world.advance_to(&running, instant("2026-11-27T18:05:00Z")).await;
    world.advance_to(&running, instant("2026-11-27T18:10:00Z")).await;
    let closed = is_told(&running, "early_close").await;
    assert_eq!((&closed["stale"], &closed["healthy"]), (&json!(false), &json!(true)), "{closed}");
    assert!(closed["sentence"].as_str().unwrap().ends_with("the quotes are those of the close"), "{closed}");
    world.advance_to(&running, instant("2026-11-28T15:00:00Z")).await;
    let weekend = is_told(&running, "weekend").await;
    assert_eq!(
        (&weekend["stale"], &weekend["evidence"]["age_seconds_market"]),
        (&json!(false), &json!(0)),
        "{weekend}"
    );
    assert_eq!(running.get("/api/health/detailed/").await.0, 200);
    running.stop().await;

    let world = World::at("2026-11-26T15:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let holiday = is_told(&running, "holiday").await;
    assert!(holiday["sentence"].as_str().unwrap().contains("(Thanksgiving Day); it opens on Fri 2026-11-27 09:30 EST"));
    world.advance_to(&running, instant("2026-11-27T14:29:00Z")).await;
    world.clock.advance_to(instant("2026-11-27T14:30:00Z"));
    is_told(&running, "fresh").await;
    running.stop().await;
}

/// The simulated exchange never answers for KR.
async fn silent_symbols_are_asked_for_less_often(engine: Engine) {
    let file = tempfile::NamedTempFile::new().unwrap();
    write_universe(file.path(), ["AAPL", "KR", "MSFT", "UBER"].map(str::to_owned).into_iter());
    let mut world = World::at("2027-03-15T13:29:00Z", engine, &[]).await;
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &file.path().display().to_string());
    let running = world.start().await;
    running.stats().await;
    let (open, cadence) = (instant("2027-03-15T13:30:00Z"), TimeDelta::minutes(3));
    for cycle in 0..8 {
        world.advance_to(&running, open + cadence * cycle).await;
    }
    let reports: Vec<Value> = world
        .ledger(&running, "ingest")
        .await
        .iter()
        .filter(|run| run.state == RunState::Ok)
        .map(|run| serde_json::from_str(run.stats.as_deref().unwrap()).unwrap())
        .collect();
    // In this session it is owed: it counts among the expected, asked for or not.
    let told: Vec<_> =
        reports.iter().map(|report| [&report["expected"], &report["missing"], &report["dormant"]]).collect();
    assert_eq!(told[0], [4, 1, 0]);
    assert!(told.contains(&[&json!(4), &json!(0), &json!(1)]), "not asked for, and not called missing: {told:?}");
    let (_, status) = running.get("/api/v1/ingest/status").await;
    assert_eq!(status["universe"]["dormant_symbols"], json!(["KR"]), "{status}");
    assert_eq!(status["why"]["code"], "incomplete_twice");
    running.stop().await;

    // Kept over a restart; from the next session on it is not expected any more.
    let running = world.start().await;
    assert_eq!(running.get("/api/v1/ingest/status").await.1["universe"]["dormant"], 1);
    for at in ["2027-03-15T20:05:00Z", "2027-03-16T13:30:00Z", "2027-03-16T13:33:00Z"] {
        world.advance_to(&running, instant(at)).await;
    }
    eventually("the rest is the whole market", async || {
        let (_, status) = running.get("/api/v1/ingest/status").await;
        status["last_cycle"]["expected"] == 3 && status["last_cycle"]["completeness"] == 1.0
    })
    .await;
    let many = is_told(&running, "many_dormant").await;
    assert!(many["sentence"].as_str().unwrap().contains("1 of 4 symbols"), "{many}");
    let part = component(&running, "ingestion").await;
    assert_eq!((&part["ok"], &part["look"]), (&json!(false), &json!("bellwether doctor ingestion")), "{part}");
    assert_eq!(running.get("/readyz").await.0, 200);
    running.stop().await;
}

#[tokio::test]
async fn silent_symbols_are_asked_for_less_often_sqlite() {
    silent_symbols_are_asked_for_less_often(Engine::Sqlite).await;
}

#[tokio::test]
async fn silent_symbols_are_asked_for_less_often_postgres() {
    silent_symbols_are_asked_for_less_often(Engine::Postgres).await;
}

#[tokio::test]
async fn production_does_not_quote_the_built_in_list_in_silence() {
    let mut world = World::at("2027-03-15T14:00:00Z", Engine::Sqlite, &[]).await;
    let symbols = vec!["AAPL".to_owned(), "MSFT".to_owned()];
    let massive = SimMassive::start(Arc::clone(&world.clock) as SharedClock, symbols, |_, _| Manner::Traded).await;
    let secret = "0123456789abcdefghijklmnopqrstuvwxyz";
    let production = [("ENVIRONMENT", "production"), ("ALLOWED_HOSTS", "127.0.0.1"), ("SECRET_KEY", secret)];
    for (name, value) in production.into_iter().chain([("CRON_SECRET", secret)]) {
        world.set(name, value);
    }
    for (name, value) in massive.settings() {
        world.set(name, &value);
    }
    let running = world.start().await;
    running.stats().await;
    let told = why(&running).await;
    let codes: Vec<&str> =
        told["findings"].as_array().unwrap().iter().filter_map(|finding| finding["code"].as_str()).collect();
    assert!(codes.contains(&"universe_built_in"), "{codes:?}");
    let part = component(&running, "ingestion").await;
    assert_eq!(part["detail"], "the built-in list of 607 symbols is quoted, in production", "{part}");
    // Readers are told what is the matter with the numbers, and not what is on whose list.
    let (_, stats) = running.get("/api/market-stats/").await;
    assert!(!stats["meta"]["cause"].to_string().contains("built-in"), "{stats}");
    running.stop().await;
}

#[tokio::test]
async fn unknown_parameters_are_refused_and_nothing_is_kept_by_a_cache() {
    let world = World::at("2027-03-15T14:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    for path in ["/api/v1/ingest/why", "/api/v1/ingest/status/"] {
        assert_eq!(running.get(&format!("{path}?verbose=1")).await.1["code"], "unknown_parameter");
        let response = running.http.get(format!("http://{}{path}", running.daemon.api)).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_the_daemon_and_the_database_when_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::create(Engine::Sqlite).await;
    let base = [("DATABASE_URL", database.url.as_str()), ("PATH", "/usr/bin:/bin")];
    let before = bellwether(directory.path(), &["ingest", "why"], &base);
    assert_eq!(before.status.code(), Some(69), "there is nothing to ask yet");
    let mut daemon = Process::start(directory.path(), &base);
    eventually("it is ready", async || daemon.get("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
    let address = daemon.api.to_string();
    let environment = [&base[..], &[("BELLWETHER_LISTEN", &address)]].concat();
    let json = |arguments: &[&str]| -> Value {
        let output = bellwether(directory.path(), arguments, &environment);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let text = |arguments: &[&str]| {
        let output = bellwether(directory.path(), arguments, &environment);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let why = json(&["ingest", "why", "--json"]);
    assert_eq!((&why["healthy"], &why["evidence"]["daemon"]), (&json!(true), &json!(true)), "{why}");
    let status = json(&["ingest", "status", "--json"]);
    assert_eq!(
        (&status["provider"]["name"], &status["universe"]["source"]),
        (&json!("sim"), &json!("built-in")),
        "{status}"
    );
    let (_, picture) = text(&["ingest", "status"]);
    for line in [
        "state      ",
        "cycle      none under way",
        "provider   sim: ",
        "quota      4 call(s) a cycle",
        "universe   607 symbols from built-in",
    ] {
        assert!(picture.contains(line), "{picture}");
    }
    assert!(text(&["ingest", "universe"]).1.starts_with("607 symbols from built-in"));
    assert_eq!(text(&["ingest", "universe", "--list", "active", "--json"]).1.lines().count(), 607);
    let (code, told) = text(&["doctor", "ingestion"]);
    assert_eq!(code, Some(0), "{told}");

    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    let why = json(&["ingest", "why", "--json"]);
    assert_eq!((&why["code"], &why["evidence"]["daemon"]), (&json!("no_daemon"), &json!(false)), "{why}");
    assert_eq!(why["evidence"]["expected"], 607, "what the database knows is told");
    let (code, told) = text(&["doctor", "ingestion"]);
    assert!(code == Some(3) && told.contains("FINDING  ingestion: daemon: no daemon answers here"), "{told}");
}
