//! What is quoted: lists that come, change, break off and stay away; and the symbols that come and go with them.

use std::sync::Arc;

use bellwether::clock::{SharedClock, SimClock};
use bellwether::config::{ListingKind, Place};
use bellwether::ingest::{Documents, Loaded};
use bellwether::market::{Directory, DirectoryKind, Universe, choose};
use bellwether::store::RunState;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Engine, Running, World, eventually, instant};
use crate::sim_directory::{Manner, SimDirectory, nasdaq_text, other_text};
use crate::sim_host::{Answer, SimHost};

const NASDAQ: [&str; 4] =
    ["AAPL|Apple Inc.", "MSFT|Microsoft", "ZVZZT|A test|G|Y|N|100|N|N", "QQQ|A fund|G|N|N|100|Y|N"];
const OTHER: [&str; 4] =
    ["BRK.B|Berkshire Hathaway", "BAC$K|Bank of America, preferred", "NOW|ServiceNow", "UBER|Uber"];

async fn world(at: &str, engine: Engine, server: &SimDirectory) -> World {
    let mut world = World::at(at, engine, &[]).await;
    for (name, value) in server.settings() {
        world.set(name, &value);
    }
    world
}

async fn last_report(world: &World, running: &Running) -> Value {
    let last = async || world.ledger(running, "universe").await.pop();
    eventually("the last run went well", async || last().await.is_some_and(|run| run.state == RunState::Ok)).await;
    let run = last().await.unwrap();
    serde_json::from_str(run.stats.as_deref().unwrap()).unwrap()
}

/// The symbols that were ever listed, each with its status.
async fn symbols(world: &World) -> String {
    world.database.query("SELECT symbol || ' ' || status FROM symbols ORDER BY symbol").await.join(", ")
}

async fn is_quoted(running: &Running, symbol: &str) -> bool {
    running.get(&format!("/api/stocks/{symbol}/")).await.0 == 200
}

/// A refresh in the night and a cycle in the morning after it.
async fn night_and_morning(world: &World, running: &Running, date: &str) {
    world.advance_to(running, instant(&format!("{date}T07:30:00Z"))).await;
    world.advance_to(running, instant(&format!("{date}T13:30:00Z"))).await;
}

async fn symbols_come_and_go(engine: Engine) {
    let server = SimDirectory::start(&NASDAQ, &OTHER).await;
    server.companies(&[("AAPL", 320_193, "Apple Inc."), ("BRK-B", 1_067_983, "BERKSHIRE HATHAWAY INC")]);
    let mut world = world("2027-03-15T12:00:00Z", engine, &server).await;
    // Of four symbols one is a quarter.
    world.set("BELLWETHER_INGEST__UNIVERSE__MAX_SHRINK_PERCENT", "50");
    let running = world.start().await;
    // The first cycle waits for the first list: nothing of the built-in one is ever quoted.
    let stats = running.stats().await;
    assert_eq!(stats["market_overview"]["total_stocks"], 6, "{stats}");
    let report = last_report(&world, &running).await;
    assert_eq!(
        (&report["symbols"], &report["listed"], &report["left_out"]),
        (&json!(6), &json!(8), &json!(2)),
        "{report}"
    );
    assert_eq!(
        world.database.query("SELECT symbol || ' ' || cik FROM symbols WHERE cik > 0 ORDER BY symbol").await,
        ["AAPL 320193", "BRK.B 1067983"]
    );
    let agents = server.calls();
    assert!(
        agents.iter().all(|(_, status, agent)| *status == 200 && agent.contains("(ops@example.com)")),
        "{agents:?}"
    );

    // A night in which nothing changed costs a question, not a list.
    night_and_morning(&world, &running, "2027-03-16").await;
    let statuses: Vec<u16> = server.calls().iter().map(|(_, status, _)| *status).collect();
    assert_eq!(statuses, [304; 3]);
    let report = last_report(&world, &running).await;
    assert!(report["lists"].as_array().unwrap().iter().all(|list| list["unchanged"] == true), "{report}");

    // One leaves, one comes, one has another name. The daemon goes on.
    let before = running.get("/api/stocks/NOW/").await.1;
    server.list(&["AAPL|Apple Inc.", "MSFT|Microsoft Corporation", "NEWS|News Corp"], &[OTHER[0], OTHER[1], OTHER[3]]);
    world.advance_to(&running, instant("2027-03-17T07:30:00Z")).await;
    let report = last_report(&world, &running).await;
    assert_eq!(report["delisted"], json!({ "count": 1, "first": ["NOW"] }), "{report}");
    assert_eq!(report["added"], json!({ "count": 1, "first": ["NEWS"] }), "{report}");
    assert_eq!(
        report["renamed"],
        json!({ "count": 1, "first": ["MSFT: Microsoft -> Microsoft Corporation"] }),
        "{report}"
    );
    // The snapshot keeps the universe it was made with; the next cycle has the new one.
    assert!(is_quoted(&running, "NOW").await && !is_quoted(&running, "NEWS").await);
    world.advance_to(&running, instant("2027-03-17T13:30:00Z")).await;
    eventually("the new universe is quoted", async || is_quoted(&running, "NEWS").await).await;
    assert!(!is_quoted(&running, "NOW").await && is_quoted(&running, "AAPL").await);
    let known = "AAPL active, BAC$K active, BRK.B active, MSFT active, NEWS active, NOW delisted, UBER active";
    assert_eq!(symbols(&world).await, known);

    // It comes back, with what was known of it.
    server.list(&NASDAQ, &OTHER);
    night_and_morning(&world, &running, "2027-03-18").await;
    let report = last_report(&world, &running).await;
    assert_eq!(
        (&report["returned"]["first"], &report["delisted"]["first"]),
        (&json!(["NOW"]), &json!(["NEWS"])),
        "{report}"
    );
    eventually("it is quoted again", async || is_quoted(&running, "NOW").await).await;
    assert_eq!(before["data"]["company_name"], running.get("/api/stocks/NOW/").await.1["data"]["company_name"]);
    let first_seen = world
        .database
        .query("SELECT CAST(COUNT(*) AS TEXT) FROM symbols WHERE first_seen < last_seen AND symbol = 'NOW'");
    assert_eq!(first_seen.await, ["1"]);
    running.stop().await;
}

#[tokio::test]
async fn symbols_come_and_go_sqlite() {
    symbols_come_and_go(Engine::Sqlite).await;
}

#[tokio::test]
async fn symbols_come_and_go_postgres() {
    symbols_come_and_go(Engine::Postgres).await;
}

#[tokio::test]
async fn a_list_that_breaks_off_or_shrinks_delists_nobody() {
    let many: Vec<String> = (0..200).map(|n| format!("S{n:03}|Company {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let server = SimDirectory::start(&many, &OTHER).await;
    let world = world("2027-03-15T12:00:00Z", Engine::Sqlite, &server).await;
    let running = world.start().await;
    running.stats().await;
    assert_eq!(last_report(&world, &running).await["symbols"], 204);

    let fault = async |why: &str, at: &str| {
        world.clock.advance_to(instant(at));
        eventually(why, async || {
            let runs = world.ledger(&running, "universe").await;
            runs.last().is_some_and(|run| run.scheduled_for == instant(at) && run.error.is_some())
        })
        .await;
        world.ledger(&running, "universe").await.pop().unwrap().error.unwrap()
    };
    let is_given_up = async || {
        eventually("the night is given up", async || {
            world.clock.advance(TimeDelta::seconds(10));
            world.ledger(&running, "universe").await.last().is_some_and(|run| run.state == RunState::Failed)
        })
        .await;
    };
    server.list(&many[1..], &OTHER);
    server.answer(Manner::Half);
    let told = fault("half a list is refused", "2027-03-16T07:30:00Z").await;
    assert!(told.contains("fields for 8 columns") || told.contains("is not whole"), "{told}");
    is_given_up().await;
    server.answer(Manner::Down);
    let told = fault("a server that is down is waited for", "2027-03-17T07:30:00Z").await;
    assert!(told.contains("HTTP 503"), "{told}");
    is_given_up().await;
    // Whole by its looks, and a quarter of its symbols gone.
    server.list(&many[..150], &OTHER);
    server.answer(Manner::Well);
    let told = fault("a list that shrank is refused", "2027-03-18T07:30:00Z").await;
    assert!(told.contains("has 150 symbols and had 200, which is more than 20 % less"), "{told}");
    assert!(told.contains("set ingest.universe.max_shrink_percent to 100"), "{told}");
    assert_eq!(
        world.database.query("SELECT CAST(COUNT(*) AS TEXT) FROM symbols WHERE status = 'active'").await,
        ["204"]
    );

    // A fifth less, and no more, is a market that lost a few.
    server.list(&many[..160], &OTHER);
    eventually("the next attempt takes it", async || {
        world.clock.advance(TimeDelta::seconds(1));
        let runs = world.ledger(&running, "universe").await;
        runs.last().is_some_and(|run| run.scheduled_for == instant("2027-03-18T07:30:00Z") && run.state == RunState::Ok)
    })
    .await;
    assert_eq!(last_report(&world, &running).await["delisted"]["count"], 40);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_without_a_network_has_the_last_universe() {
    let server = SimDirectory::start(&NASDAQ, &OTHER).await;
    let mut world = world("2027-03-15T14:00:00Z", Engine::Sqlite, &server).await;
    let running = world.start().await;
    assert_eq!(running.stats().await["market_overview"]["total_stocks"], 6);
    running.stop().await;
    server.calls();
    server.answer(Manner::Down);
    world.set("BELLWETHER_INGEST__UNIVERSE__EXCLUDE", "MSFT");
    let running = world.start().await;
    assert_eq!(running.stats().await["market_overview"]["total_stocks"], 5, "the operator's word counts at once");
    assert_eq!(server.calls(), [], "nobody was asked");
    world.advance_to(&running, instant("2027-03-15T14:06:00Z")).await;
    assert_eq!(running.stats().await["meta"]["completeness"], 1.0);
    running.stop().await;
    // So does a word that is taken back, of either kind, and another choice of kinds.
    for (exclude, include, leave_out, symbols, why) in [
        ("", "SPY", "test-issue,etf", 7, "MSFT is back, SPY is new"),
        ("", "", "test-issue,etf", 6, "SPY is gone again"),
        ("", "", "test-issue", 7, "the fund on the list counts"),
    ] {
        world.set("BELLWETHER_INGEST__UNIVERSE__EXCLUDE", exclude);
        world.set("BELLWETHER_INGEST__UNIVERSE__INCLUDE", include);
        world.set("BELLWETHER_INGEST__UNIVERSE__LEAVE_OUT", leave_out);
        let running = world.start().await;
        running.stats().await;
        assert_eq!(running.get("/api/v1/ingest/status").await.1["universe"]["symbols"], symbols, "{why}");
        running.stop().await;
    }
    assert_eq!(server.calls(), [], "nobody was asked");
}

#[tokio::test]
async fn a_mirror_that_stands_still_is_told_although_it_answers() {
    let server = SimDirectory::start(&NASDAQ, &OTHER).await;
    server.made("0215202717:03");
    let world = world("2027-03-15T14:00:00Z", Engine::Sqlite, &server).await;
    let running = world.start().await;
    running.stats().await;
    let old = async |running: &Running| {
        let (_, why) = running.get("/api/v1/ingest/why").await;
        let findings = why["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["code"] == "universe_old").cloned()
    };
    let told = old(&running).await.expect("it is a month old");
    let sentence = told["sentence"].as_str().unwrap();
    assert!(sentence.contains("are of Mon 2027-02-15 17:03 EST by their own word"), "{sentence}");
    assert!(sentence.contains("last read on Mon 2027-03-15 10:00 EDT"), "{sentence}");
    running.stop().await;
    let running = world.start().await;
    assert_eq!(old(&running).await, Some(told), "a restart does not forget it");
    running.stats().await;
    server.made("0315202717:03");
    night_and_morning(&world, &running, "2027-03-16").await;
    eventually("the new list is told", async || old(&running).await.is_none()).await;
    running.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_told_where_it_came_from() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z")) as SharedClock;
    let elsewhere = SimHost::start(Arc::clone(&clock), None, |_| Answer::ok("symbol\nAAPL\n")).await;
    let target = elsewhere.url();
    let host = SimHost::start(clock, None, move |_| Answer::refused(302, "").with("location", &target)).await;
    let documents = Documents::new(None, std::time::Duration::from_secs(10)).unwrap();
    let place: Place = format!("{}/list.csv?token=canary", host.url()).parse().unwrap();
    let loaded = documents.load(&place, None).await.unwrap();
    assert!(matches!(loaded, Loaded::New { text, .. } if text.contains("AAPL")));
    let asked = format!("{:?}", elsewhere.asked());
    assert!(elsewhere.calls() == 1 && !asked.contains("canary"), "{asked}");
}

#[tokio::test]
async fn a_new_installation_without_a_network_stands_by_the_built_in_list_and_says_so() {
    let server = SimDirectory::start(&NASDAQ, &OTHER).await;
    server.answer(Manner::Down);
    let world = world("2027-03-15T14:00:30Z", Engine::Sqlite, &server).await;
    let running = world.start().await;
    let stats = running.stats().await;
    assert!(stats["market_overview"]["total_stocks"].as_i64().unwrap() > 500, "{stats}");
    server.answer(Manner::Well);
    eventually("the next attempt has the list", async || {
        world.clock.advance(TimeDelta::seconds(1));
        world.ledger(&running, "universe").await.last().is_some_and(|run| run.state == RunState::Ok)
    })
    .await;
    world.clock.advance(TimeDelta::minutes(3));
    eventually("the list is quoted", async || running.stats().await["market_overview"]["total_stocks"] == 6).await;
    running.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_taken_in_the_night() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "symbol,name\nAAPL,Apple\nMSFT,Microsoft\n").unwrap();
    let mut world = World::at("2027-03-15T14:00:00Z", Engine::Sqlite, &[]).await;
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &file.path().display().to_string());
    world.set("BELLWETHER_INGEST__UNIVERSE__INCLUDE", "spy, brk.b");
    let running = world.start().await;
    running.stats().await;
    assert_eq!(symbols(&world).await, "AAPL active, BRK.B active, MSFT active, SPY active");
    std::fs::write(file.path(), "symbol,name\nAAPL,Apple\nMSFT,Microsoft\nNEWS,News Corp\n").unwrap();
    night_and_morning(&world, &running, "2027-03-16").await;
    eventually("the new symbol is quoted", async || is_quoted(&running, "NEWS").await).await;
    assert_eq!(last_report(&world, &running).await["included"], 2);
    running.stop().await;
}

#[tokio::test]
async fn an_instance_that_stands_by_has_the_universe_of_the_one_that_plans() {
    let server = SimDirectory::start(&NASDAQ, &OTHER).await;
    let one = world("2027-03-15T12:00:00Z", Engine::Postgres, &server).await;
    let mut two = world("2027-03-15T12:00:00Z", Engine::Postgres, &server).await;
    two.set("DATABASE_URL", &one.database.url);
    let plans = one.start().await;
    plans.stats().await;
    let stands_by = two.start().await;
    let universe = async || {
        // Each has a clock of its own, by which it looks.
        two.clock.advance(TimeDelta::seconds(1));
        stands_by.get("/api/v1/ingest/status").await.1["universe"].clone()
    };
    assert_eq!((&universe().await["symbols"], &universe().await["source"]), (&json!(6), &json!("directories")));
    server.list(&["AAPL|Apple Inc.", "MSFT|Microsoft", "NEWS|News Corp", "MORE|More Corp"], &OTHER);
    one.advance_to(&plans, instant("2027-03-16T07:30:00Z")).await;
    assert_eq!(last_report(&one, &plans).await["symbols"], 8);
    eventually("the new list is taken over", async || universe().await["symbols"] == 8).await;
    assert_eq!(universe().await["revision"], plans.get("/api/v1/ingest/status").await.1["universe"]["revision"]);
    stands_by.stop().await;
    plans.stop().await;
}

/// 7,019 real symbols of the site, as the two directories would have them.
#[test]
fn none_of_the_sites_symbols_is_lost() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/universe.csv");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("the site's own list is not beside this checkout: only the short list of the unit tests was tried");
        return;
    };
    let site = Universe::parse_csv(&text, "universe.csv").unwrap();
    let of = |exchange: &str, tail: &str| -> String {
        let listed = site.listings().iter().filter(|listing| listing.exchange == exchange);
        listed.map(|listing| format!("{}|A company|{tail}\n", listing.symbol)).collect()
    };
    let texts = [
        (DirectoryKind::NasdaqListed, nasdaq_text(&of("NASDAQ", "Q|N|N|100|N|N"))),
        (DirectoryKind::OtherListed, other_text(&of("NYSE", "N|X|N|100|N|X"))),
    ];
    let directories = texts.iter().map(|(kind, text)| Directory::parse(*kind, text, "list.txt").unwrap());
    let leave_out = [ListingKind::TestIssue, ListingKind::Etf, ListingKind::NextShares];
    let (chosen, counts) = choose(directories.collect(), &leave_out);
    let universe = Universe::of(chosen, "both").unwrap();
    assert_eq!((universe.len(), counts.unreadable), (site.len(), vec![]));
    assert!(universe.listings().iter().zip(site.listings()).all(|(a, b)| a.symbol == b.symbol));
}
