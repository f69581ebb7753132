//! Providers that answer for everything in one list: Tiingo, and a CSV text in a file or behind a URL.

use std::sync::Arc;

use bellwether::clock::SharedClock;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::{Engine, World, eventually, instant, write_universe};
use crate::sim_host::{Answer, Asked, SimHost, Trouble};

async fn world(symbols: &[&str], settings: &[(&str, String)]) -> (World, tempfile::NamedTempFile) {
    let universe = tempfile::NamedTempFile::new().unwrap();
    write_universe(universe.path(), symbols.iter().map(|symbol| (*symbol).to_owned()));
    let mut world = World::at("2027-03-15T13:29:00Z", Engine::Sqlite, &[]).await;
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.path().display().to_string());
    for (name, value) in settings {
        world.set(&format!("BELLWETHER_INGEST__{name}"), value);
    }
    (world, universe)
}

const SYMBOLS: [&str; 6] = ["AAPL", "ACHR.W", "BAC$K", "BRK.A", "BRK.B", "GONE"];

fn tiingo(asked: &Asked) -> Answer {
    if asked.header("authorization") != "Token canary-tiingo" {
        return Answer::refused(401, r#"{"detail":"Please supply a token"}"#);
    }
    if asked.path != "/iex" {
        return Answer::refused(404, r#"{"detail":"Not found."}"#);
    }
    let row = |ticker: &str, price: f64| {
        json!({"ticker": ticker, "timestamp": asked.now.to_rfc3339(), "quoteTimestamp": null, "lastSaleTimeStamp": null,
            "last": null, "lastSize": null, "tngoLast": price, "prevClose": price - 1.0, "open": price, "high": price,
            "low": price, "mid": null, "volume": 100, "bidSize": null, "bidPrice": null, "askSize": null, "askPrice": null})
    };
    let unset = json!({"ticker": "GONE", "timestamp": asked.now.to_rfc3339(), "last": null, "tngoLast": null});
    Answer::ok(json!([
        row("AAPL", 271.01),
        row("ACHR-WS", 1.5),
        row("BAC-P-K", 25.25),
        row("BRK-A", 712_345.5),
        row("BRK-B", 470.0),
        row("NOTOURS", 3.0),
        unset,
        "not a row",
    ]))
}

#[tokio::test]
async fn tiingos_list_is_read_without_the_raw_fields_of_the_exchange() {
    let (mut world, _universe) = world(&SYMBOLS, &[("PROVIDER", "tiingo".to_owned())]).await;
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, None, tiingo).await;
    world.set("BELLWETHER_INGEST__TIINGO__BASE_URL", &host.url());
    world.set("BELLWETHER_INGEST__TIINGO__API_KEY", "canary-tiingo");
    world.set("BELLWETHER_INGEST__TIINGO__LICENCE", "display");
    let running = world.start().await;
    let stats = running.stats().await;
    let meta = &stats["meta"];
    assert_eq!(
        (&meta["source"], &meta["delay_class"], &meta["licence_class"]),
        (&json!("tiingo"), &json!("real_time"), &json!("display"))
    );
    let report = world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!(
        (&report["fresh"], &report["invalid"], &report["requests"]),
        (&json!(5), &json!(1), &json!(1)),
        "{report}"
    );
    assert!(report["cause"].as_str().unwrap().contains("tiingo: 1 rows are not as documented"), "{report}");
    for (symbol, price) in [("BRK.A", 712_345.5), ("BAC$K", 25.25), ("ACHR.W", 1.5)] {
        let (_, stock) = running.get(&format!("/api/stocks/{symbol}/")).await;
        assert_eq!((&stock["data"]["current_price"], &stock["data"]["bid_price"]), (&json!(price), &Value::Null));
    }
    // A spent quota comes as a text with HTTP 200, and passes.
    host.trouble([Trouble::Instead(Answer::ok("Error: You have run over your hourly request allocation."))]);
    let report = world.cycle(&running, "2027-03-15T13:33:00Z").await;
    assert_eq!((&report["fresh"], &report["requests"]), (&json!(5), &json!(2)), "{report}");
    host.trouble([Trouble::CutOff]);
    let report = world.cycle(&running, "2027-03-15T13:36:00Z").await;
    assert_eq!((&report["fresh"], &report["requests"]), (&json!(5), &json!(2)), "{report}");
    running.stop().await;
}

fn prices(now: DateTime<Utc>, price: f64) -> String {
    format!("at,symbol,price,volume\n{0},AAPL,{price},10\n{0},BRK.A,712345.5,\n{0},BRK.B,x,1\n", now.to_rfc3339())
}

#[tokio::test]
async fn a_csv_file_is_read_anew_for_each_cycle() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = [
        ("PROVIDER", "csv".to_owned()),
        ("CSV__FILE", file.path().display().to_string()),
        ("CSV__DELAY", "delayed_15".to_owned()),
    ];
    let (world, _universe) = world(&["AAPL", "BRK.A", "BRK.B"], &settings).await;
    std::fs::write(file.path(), prices(instant("2027-03-15T13:28:00Z"), 10.5)).unwrap();
    let running = world.start().await;
    assert_eq!(running.stats().await["meta"]["delay_class"], "delayed_15");
    std::fs::write(file.path(), prices(instant("2027-03-15T13:29:59Z"), 11.5)).unwrap();
    let report = world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert!(report["cause"].as_str().unwrap().contains("csv: line 4: \"x\" is not a number"), "{report}");
    assert_eq!(running.get("/api/stocks/AAPL/").await.1["data"]["current_price"], 11.5);
    assert_eq!(running.get("/api/stocks/BRK.A/").await.1["data"]["current_price"], 712_345.5);
    // A file that is no table changes nothing, and is named.
    std::fs::write(file.path(), "<html>").unwrap();
    world.cycle(&running, "2027-03-15T13:33:00Z").await;
    let told = running.get("/api/market-stats/").await.1["meta"]["cause"].to_string();
    assert!(told.contains("csv: line 1 has no column `symbol`"), "{told}");
    assert_eq!(running.get("/api/stocks/AAPL/").await.1["data"]["current_price"], 11.5);
    running.stop().await;
}

#[tokio::test]
async fn a_csv_text_may_be_behind_a_url() {
    let (mut world, _universe) = world(&["AAPL", "BRK.A"], &[("PROVIDER", "csv".to_owned())]).await;
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, None, |asked| {
        match (asked.path.as_str(), asked.header("authorization")) {
            ("/prices.csv", "Bearer canary-csv") => Answer::ok(prices(asked.now, 10.5)),
            _ => Answer::refused(401, ""),
        }
    })
    .await;
    world.set("BELLWETHER_INGEST__CSV__BASE_URL", &format!("{}/prices.csv", host.url()));
    world.set("BELLWETHER_INGEST__CSV__API_KEY", "canary-csv");
    let running = world.start().await;
    running.stats().await;
    host.trouble([Trouble::Instead(Answer::ok("Exceeded the daily hits limit"))]);
    let report = world.cycle(&running, "2027-03-15T13:30:00Z").await;
    assert_eq!((&report["fresh"], &report["requests"]), (&json!(2), &json!(2)), "{report}");
    running.stop().await;
}

#[tokio::test]
async fn closing_prices_are_fresh_until_those_of_the_next_session_are_due() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let closes = |at: &str, price: f64| {
        let text = format!("symbol,price,at\nAAPL,{price},{at}\nBRK.A,712345.5,{at}\n");
        std::fs::write(file.path(), text).unwrap();
    };
    let settings = [
        ("PROVIDER", "csv".to_owned()),
        ("CSV__FILE", file.path().display().to_string()),
        ("CSV__DELAY", "end_of_day".to_owned()),
    ];
    let (mut world, _universe) = world(&["AAPL", "BRK.A"], &settings).await;
    world.set("BELLWETHER_INGEST__CADENCE_SECONDS", "3600");
    closes("2027-03-12T21:00:00Z", 10.5);
    let running = world.start().await;
    assert_eq!(running.stats().await["meta"]["delay_class"], "end_of_day");
    let why = async || running.get("/api/v1/ingest/why").await.1;
    // All Monday long the closes of Friday are what there is.
    for at in ["2027-03-15T13:30:00Z", "2027-03-15T14:30:00Z", "2027-03-15T19:30:00Z"] {
        let report = world.cycle(&running, at).await;
        assert_eq!((&report["fresh"], &report["outdated"]), (&json!(2), &json!(0)), "{report}");
        let why = why().await;
        assert_eq!((&why["code"], &why["stale"], &why["healthy"]), (&json!("fresh"), &json!(false), &json!(true)));
        let sentence = why["sentence"].as_str().unwrap();
        assert!(sentence.contains("closing prices only, the newest of Fri 2027-03-12 16:00 EST; 2 of 2"), "{sentence}");
    }
    // They are a point of Friday, not of Monday.
    let stats = running.stats().await;
    assert_eq!(stats["historical_dates"].as_array().unwrap().last(), Some(&json!("2027-03-12")), "{stats}");
    // Those of Monday are due six hours after its close; the file is late, and that is told.
    world.advance_to(&running, instant("2027-03-16T01:59:00Z")).await;
    assert_eq!(why().await["healthy"], true);
    world.clock.advance_to(instant("2027-03-16T02:00:00Z"));
    eventually("it is told", async || why().await["code"] == "cycle_failed").await;
    let told = why().await["sentence"].to_string();
    assert!(told.contains("2 older than the session"), "{told}");
    closes("2027-03-15T20:00:00Z", 11.5);
    eventually("the next try has them", async || {
        world.clock.advance(TimeDelta::seconds(1));
        running.get("/api/stocks/AAPL/").await.1["data"]["current_price"] == 11.5
    })
    .await;
    assert!(why().await["sentence"].as_str().unwrap().contains("the quotes are those of the close"));
    world.nothing_is_under_way(&running).await;
    // On Tuesday those of Friday would not do any more.
    closes("2027-03-12T21:00:00Z", 10.5);
    let failed = world.cycle(&running, "2027-03-16T13:30:00Z").await;
    assert_eq!((&failed["fresh"], &failed["kind"]), (&Value::Null, &json!("provider")), "{failed}");
    closes("2027-03-15T20:00:00Z", 11.5);
    assert_eq!(world.cycle(&running, "2027-03-16T14:30:00Z").await["fresh"], 2);
    running.stop().await;
}
