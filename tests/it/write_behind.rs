//! What readers see is on the disk before they see it, and in the database as soon as it takes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwether::market::codec::CycleHead;
use bellwether::market::{Cycle, Quote};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::bellwether;
use crate::faketime::is_long;
use crate::harness::{Doomed, Engine, Running, World, client, eventually, instant, pause, write_universe};

/// The database goes on, and takes no cycle.
const REFUSE: &str = "ALTER TABLE cycle_points RENAME TO cycle_points_away";
const ACCEPT: &str = "ALTER TABLE cycle_points_away RENAME TO cycle_points";

async fn world(engine: Engine, settings: &[(&str, &str)]) -> World {
    let mut world = World::at("2027-03-15T13:29:00Z", engine, settings).await;
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, (0..40).map(|n| format!("S{n:02}")));
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string());
    world
}

async fn stats(doomed: &Doomed) -> Option<Value> {
    let url = format!("http://{}/api/market-stats/", doomed.api);
    let response = client().get(url).send().await.ok()?;
    serde_json::from_str(&response.text().await.ok()?).ok()
}

/// Moves on to `at` and waits until its cycle is shown.
async fn shown_at(world: &World, running: &Running, at: &str) -> Value {
    let before = running.stats().await;
    world.advance_to(running, instant(at)).await;
    eventually("another cycle is shown", async || {
        running.stats().await["meta"]["cycle_id"] != before["meta"]["cycle_id"]
    })
    .await;
    running.stats().await
}

fn journals(world: &World) -> usize {
    std::fs::read_dir(world.file.path().join("cycles")).map_or(0, Iterator::count)
}

async fn killed_between_showing_and_storing(engine: Engine) {
    let world = world(engine, &[("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2")]).await;
    let doomed = world.start_to_kill();
    eventually("it serves", async || stats(&doomed).await.is_some_and(|stats| stats["meta"]["cycle_id"].is_string()))
        .await;
    let first = stats(&doomed).await.unwrap();
    let stored = "SELECT CAST(COUNT(*) AS TEXT) FROM cycles";
    // A slot that meets a run is left out, and its row is in the database before the run has ended.
    let ended = "SELECT id FROM job_runs WHERE job = 'ingest' AND state = 'ok'";
    eventually("the first cycle has ended", async || world.database.query(ended).await.len() == 1).await;
    assert_eq!(world.database.query(stored).await, ["1"]);
    world.database.execute(REFUSE.to_owned()).await;
    world.clock.advance_to(instant("2027-03-15T13:30:00Z"));
    eventually("the next cycle is shown", async || {
        stats(&doomed).await.unwrap()["meta"]["cycle_id"] != first["meta"]["cycle_id"]
    })
    .await;
    let shown = stats(&doomed).await.unwrap();
    doomed.kill();
    assert_eq!((world.database.query(stored).await, journals(&world)), (vec!["1".to_owned()], 1));
    world.database.execute(ACCEPT.to_owned()).await;
    let running = world.start().await;
    let after = running.get("/api/market-stats/").await.1;
    assert_eq!(
        (&after["meta"]["cycle_id"], &after["top_gainers"]),
        (&shown["meta"]["cycle_id"], &shown["top_gainers"])
    );
    assert_eq!(after["market_overview"], shown["market_overview"]);
    let points = "SELECT CAST(COUNT(*) AS TEXT) FROM cycle_points";
    assert!(world.database.query(points).await[0].parse::<u32>().unwrap() >= 1);
    assert_eq!(journals(&world), 0, "the database has everything");
    // On PostgreSQL the run that was cut off is taken over when its process has been silent for long enough, which is another story.
    running.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_showing_and_storing_readers_do_not_go_back_sqlite() {
    killed_between_showing_and_storing(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_showing_and_storing_readers_do_not_go_back_postgres() {
    killed_between_showing_and_storing(Engine::Postgres).await;
}

async fn the_database_takes_no_cycles_for_a_while(engine: Engine) {
    let world = world(engine, &[]).await;
    let running = world.start().await;
    running.stats().await;
    eventually("the first cycle is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    world.database.execute(REFUSE.to_owned()).await;
    let slots = ["13:30", "13:33", "13:36", "13:39", "13:42"].map(|at| format!("2027-03-15T{at}:00Z"));
    for (n, slot) in slots.iter().enumerate() {
        shown_at(&world, &running, slot).await;
        let lag = running.daemon.market.store_lag();
        assert_eq!((lag.cycles, lag.since), (n + 1, Some(instant(&slots[0]))));
        assert!(lag.journal_bytes > 500 * (n as u64 + 1), "{lag:?}");
        assert!(lag.fault.unwrap().0.contains("cycle_points"));
    }
    let report = world.ledger(&running, "ingest").await.pop().unwrap();
    assert!(report.stats.unwrap().contains("\"stored\":false"), "the run says so");
    world.database.execute(ACCEPT.to_owned()).await;
    eventually("the database has caught up", async || {
        world.creep(TimeDelta::seconds(1), instant("2027-03-15T13:45:00Z"));
        running.daemon.market.store_lag() == bellwether::jobs::StoreLag::default()
    })
    .await;
    let count = async |sql: &str| world.database.query(sql).await.join(" ");
    assert_eq!(
        count("SELECT CAST(COUNT(*) AS TEXT) FROM cycle_points").await,
        "5",
        "no points are lost; before the opening there are none"
    );
    assert_eq!(count("SELECT CAST(COUNT(*) AS TEXT) FROM cycles").await, "6");
    let newest = running.stats().await["meta"]["cycle_id"].as_str().unwrap().to_owned();
    assert_eq!(count("SELECT DISTINCT cycle_id FROM quotes").await, newest, "each quote is of the newest cycle");
    running.stop().await;
    assert_eq!(journals(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_takes_no_cycles_for_a_while_and_nothing_is_lost_sqlite() {
    the_database_takes_no_cycles_for_a_while(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_takes_no_cycles_for_a_while_and_nothing_is_lost_postgres() {
    the_database_takes_no_cycles_for_a_while(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_cycles_are_stored_first_and_without_both_refused() {
    let world = world(Engine::Sqlite, &[]).await;
    // The directory of the journal is a file.
    std::fs::write(world.file.path().join("cycles"), "").unwrap();
    let error = bellwether::daemon::Daemon::start(world.config(), Arc::clone(&world.clock) as _).await.err().unwrap();
    assert!(error.to_string().contains("the journal"), "{error}");
    std::fs::remove_file(world.file.path().join("cycles")).unwrap();
    // What writes ends of runs lets go a moment after the start has failed.
    let database = world.database.url.strip_prefix("sqlite:").unwrap();
    eventually("the database is free", async || {
        std::fs::File::open(format!("{database}.lock")).unwrap().try_lock().is_ok()
    })
    .await;
    let running = world.start().await;
    running.stats().await;
    eventually("the first cycle is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    let good = shown_at(&world, &running, "2027-03-15T13:30:00Z").await;
    running.stop().await;
    // It is taken away while the daemon runs, before its first cycle.
    let running = world.start().await;
    std::fs::remove_dir_all(world.file.path().join("cycles")).unwrap();
    std::fs::write(world.file.path().join("cycles"), "").unwrap();
    let shown = shown_at(&world, &running, "2027-03-15T13:33:00Z").await;
    assert_ne!(shown["meta"]["as_of"], good["meta"]["as_of"]);
    assert_eq!(world.database.query("SELECT CAST(COUNT(*) AS TEXT) FROM cycle_points").await, ["2"]);
    world.database.execute(REFUSE.to_owned()).await;
    world.advance_to(&running, instant("2027-03-15T13:36:00Z")).await;
    eventually("readers are told why", async || {
        running.stats().await["meta"]["cause"].as_str().is_some_and(|cause| {
            cause.contains("09:36:00 EDT failed: neither the journal nor the database takes the cycle")
        })
    })
    .await;
    assert_eq!(running.stats().await["meta"]["cycle_id"], shown["meta"]["cycle_id"]);
    running.stop().await;
}

/// `doctor ingestion` beside the daemon: exit code and what it says.
async fn doctor(world: &World, running: &Running) -> (Option<i32>, String) {
    let (directory, listen) = (world.file.path().to_owned(), running.daemon.api.to_string());
    let (database, universe) = (world.database.url.clone(), directory.join("universe.csv").display().to_string());
    let output = tokio::task::spawn_blocking(move || {
        let environment = [
            ("DATABASE_URL", &*database),
            ("BELLWETHER_LISTEN", &*listen),
            ("BELLWETHER_INGEST__UNIVERSE__FILE", &*universe),
        ];
        bellwether(&directory, &["doctor", "ingestion", "--json"], &environment)
    });
    let output = output.await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_without_room_refuses_cycles_and_says_so_until_the_database_takes_them() {
    let world = world(Engine::Sqlite, &[]).await;
    let mut config = world.config();
    // Room for some cycles of forty symbols.
    config.ingest.journal.most_bytes = 5_000;
    let daemon = bellwether::daemon::Daemon::start(config, Arc::clone(&world.clock) as _).await.unwrap();
    let running = Running { daemon, http: client() };
    running.stats().await;
    eventually("the first cycle is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    world.database.execute(REFUSE.to_owned()).await;
    let (mut shown, mut slot) = (1, instant("2027-03-15T13:30:00Z"));
    let mut last = running.stats().await;
    loop {
        world.advance_to(&running, slot).await;
        let now = running.stats().await;
        slot += TimeDelta::minutes(3);
        if now["meta"]["cycle_id"] == last["meta"]["cycle_id"] {
            break;
        }
        (shown, last) = (shown + 1, now);
        assert!(shown < 12, "it is never full");
    }
    assert!(shown >= 3, "as long as there is room, cycles are shown: {shown}");
    let lag = running.daemon.market.store_lag();
    assert!(lag.cycles == shown - 1 && lag.journal_bytes <= 5_000, "{lag:?}");
    // Readers keep the last one that is safe, and are told why.
    let refused = running.stats().await;
    let cause = refused["meta"]["cause"].as_str().unwrap();
    for word in [
        "neither the journal nor the database takes the cycle",
        "is full",
        "ingest.journal.max_megabytes",
        "cycle_points",
    ] {
        assert!(cause.contains(word), "{cause}");
    }
    assert_eq!(refused["market_overview"], last["market_overview"]);
    // Each is counted, not shown and forgotten.
    world.advance_to(&running, slot).await;
    slot += TimeDelta::minutes(3);
    let (_, why) = running.get("/api/v1/ingest/why").await;
    assert!(why["sentence"].as_str().unwrap().contains("(2 in a row, since"), "{why}");
    let (_, why) = running.get("/api/v1/ingest/why").await;
    let codes: Vec<&str> = why["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
    assert_eq!((&why["code"], codes.contains(&"store_behind")), (&"cycle_not_kept".into(), true), "{why}");
    let (code, told) = doctor(&world, &running).await;
    assert!(code == Some(3) && told.contains("ingest.journal.max_megabytes gives it more room"), "{code:?} {told}");
    // The database is mended: everything that was shown is stored, and the next cycle is shown.
    world.database.execute(ACCEPT.to_owned()).await;
    eventually("the database has caught up", async || {
        world.creep(TimeDelta::seconds(1), slot);
        running.daemon.market.store_lag() == bellwether::jobs::StoreLag::default()
    })
    .await;
    let stored = world.database.query("SELECT CAST(COUNT(*) AS TEXT) FROM cycle_points").await;
    assert_eq!(stored, [(shown - 1).to_string()], "what was shown since the opening, and nothing else");
    let mended = shown_at(&world, &running, &slot.to_rfc3339()).await;
    assert_eq!(mended["meta"]["stale"], false, "{}", mended["meta"]);
    assert!(!mended["meta"]["cause"].to_string().contains("journal"), "{}", mended["meta"]);
    let (_, why) = running.get("/api/v1/ingest/why").await;
    assert_ne!(why["code"], "cycle_not_kept", "{why}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_instance_stores_late_is_shown_once_it_is_whole() {
    let world = world(Engine::Postgres, &[]).await;
    let running = world.start().await;
    let before = shown_at(&world, &running, "2027-03-15T13:30:00Z").await;
    eventually("it is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    let store = &running.daemon.store;
    let stored = store.last_cycle().await.unwrap().unwrap();
    // A cycle that has waited leaves out what the newest one, which waits too, knows better.
    let head = |minutes| {
        let late = TimeDelta::minutes(minutes);
        let cycle = &stored.cycle;
        let (slot, as_of, finished_at) = (cycle.slot + late, cycle.as_of + late, cycle.finished_at + late);
        let cycle = Cycle { id: Uuid::now_v7(), slot, as_of, finished_at, ..cycle.clone() };
        CycleHead { cycle, delayed: false, cause: None, day: None }
    };
    world.clock.advance(TimeDelta::minutes(2));
    let (half, whole) = (head(1), head(2));
    let quotes: Vec<(Arc<str>, Quote)> = store
        .quotes()
        .await
        .unwrap()
        .into_iter()
        .map(|stored| (stored.symbol.into(), Quote { at: stored.quote.at + TimeDelta::minutes(2), ..stored.quote }))
        .collect();
    let quotes: Vec<_> = quotes.iter().map(|(symbol, quote)| (symbol, quote)).collect();
    store.save_cycle(&half, &[], &quotes[..3]).await.unwrap();
    running.daemon.market.adopt_newer().await.unwrap();
    assert_eq!(running.stats().await["meta"]["cycle_id"], before["meta"]["cycle_id"], "half of a cycle is not shown");
    store.save_cycle(&whole, &[], &quotes).await.unwrap();
    running.daemon.market.adopt_newer().await.unwrap();
    assert_eq!(running.stats().await["meta"]["cycle_id"], whole.cycle.id.to_string());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_learned_of_silent_symbols_keeps_no_cycle_from_its_readers() {
    let mut world = world(Engine::Sqlite, &[]).await;
    let universe = world.file.path().join("universe.csv");
    // The simulated exchange never answers for KR.
    write_universe(&universe, ["AAPL", "KR", "MSFT"].map(str::to_owned).into_iter());
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string());
    let running = world.start().await;
    running.stats().await;
    eventually("the first cycle is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    // Nobody writes: neither cycles nor what is learned.
    world.database.execute(REFUSE.to_owned()).await;
    world.database.execute("ALTER TABLE dormant_symbols RENAME TO dormant_symbols_away".to_owned()).await;
    for n in 0..7 {
        let slot = instant("2027-03-15T13:30:00Z") + TimeDelta::minutes(3) * n;
        shown_at(&world, &running, &slot.to_rfc3339()).await;
    }
    assert_eq!(running.get("/api/v1/ingest/status").await.1["universe"]["dormant_symbols"], json!(["KR"]));
    running.stop().await;
}

/// What a reader looks at, in turn: the market as a whole and every quote of it.
const LOOKED_AT: [&str; 2] = ["/api/market-stats/", "/api/v1/quotes?limit=100"];

/// The numbers that were seen, by where and of which cycle.
type Seen = Arc<std::sync::Mutex<HashMap<String, Value>>>;

/// What a reader has seen, in its order: the numbers of each cycle, and when the last answer was made.
struct Reader {
    seen: Seen,
    /// The newest quote's time and when it was told, whichever answer said it.
    last: Option<(DateTime<Utc>, DateTime<Utc>)>,
    answers: usize,
}

impl Reader {
    /// The same cycle has the same numbers, and no cycle comes after a newer one: neither within an answer's kind nor across them.
    fn look(&mut self, path: &str, body: &Value) {
        let Some(cycle) = body["meta"]["cycle_id"].as_str() else { return };
        let time = |name: &str| body["meta"][name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        let (as_of, rendered_at) = (time("as_of"), time("rendered_at"));
        let numbers: Vec<Value> =
            ["market_overview", "top_gainers", "most_active", "quotes"].map(|name| body[name].clone()).into();
        // A slot that is tried again after a kill has the same cycle, with newer quotes.
        let mut seen = self.seen.lock().unwrap();
        let first = seen.entry(format!("{path} {cycle} of {as_of}")).or_insert_with(|| numbers.clone().into());
        assert_eq!(*first, Value::from(numbers), "half of a cycle");
        drop(seen);
        if let Some(last) = self.last {
            assert!(last <= (as_of, rendered_at), "{cycle} of {as_of}, made at {rendered_at}, after {last:?}");
        }
        self.last = Some((as_of, rendered_at));
        self.answers += 1;
    }
}

/// Reads again and again, whatever happens to the daemon, until it is told to stop.
async fn keep_reading(
    api: Arc<std::sync::Mutex<Option<std::net::SocketAddr>>>,
    seen: Seen,
    stop: Arc<AtomicBool>,
) -> Reader {
    let http = client();
    let mut reader = Reader { seen, last: None, answers: 0 };
    for path in LOOKED_AT.into_iter().cycle() {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let address = *api.lock().unwrap();
        // A daemon that is being killed does not answer, or not whole.
        let answer = async {
            let response = http.get(format!("http://{}{path}", address?)).send().await.ok()?;
            serde_json::from_str(&response.text().await.ok()?).ok()
        };
        if let Some(body) = answer.await {
            reader.look(path, &body);
        }
        pause().await;
    }
    reader
}

async fn a_reader_sees_no_half_cycle_and_none_again(engine: Engine) {
    // On the shared database whoever was killed must fall silent first, in real time.
    let settings = [("BELLWETHER_INGEST__CADENCE_SECONDS", "20"), ("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2")];
    let world = world(engine, &settings).await;
    let (cycles, lives) = if is_long() { (1_000, 50) } else { (40, 4) };
    let (api, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let seen = Seen::default();
    let reading = tokio::spawn(keep_reading(Arc::clone(&api), Arc::clone(&seen), Arc::clone(&stop)));
    world.clock.advance_to(instant("2027-03-15T13:30:00Z"));
    for life in 0..lives {
        let doomed = world.start_to_kill();
        *api.lock().unwrap() = Some(doomed.api);
        eventually("it serves", async || stats(&doomed).await.is_some_and(|stats| stats["meta"]["as_of"].is_string()))
            .await;
        for n in 0..cycles / lives {
            let before = stats(&doomed).await.unwrap();
            world.clock.advance(TimeDelta::seconds(20));
            // The last one is not waited for: it may be anywhere when the daemon is killed.
            if n + 1 < cycles / lives || life % 2 == 0 {
                eventually("another cycle is shown", async || {
                    world.clock.advance(TimeDelta::milliseconds(50));
                    stats(&doomed).await.unwrap()["meta"]["cycle_id"] != before["meta"]["cycle_id"]
                })
                .await;
                let newest = stats(&doomed).await.unwrap()["meta"]["cycle_id"].as_str().unwrap().to_owned();
                eventually("the reader has looked at it", async || {
                    let seen = seen.lock().unwrap();
                    let is_seen = |path| seen.keys().any(|key| key.starts_with(&format!("{path} {newest} ")));
                    LOOKED_AT.into_iter().all(is_seen)
                })
                .await;
            }
        }
        doomed.kill();
    }
    stop.store(true, Ordering::Release);
    let reader = reading.await.unwrap();
    let seen = LOOKED_AT.map(|path| seen.lock().unwrap().keys().filter(|key| key.starts_with(path)).count());
    eprintln!("{engine:?}: {lives} kills, {seen:?} cycles seen in {} answers", reader.answers);
    assert!(seen.iter().all(|seen| seen * 10 >= cycles * 8) && reader.answers >= cycles, "{seen:?} of {cycles} cycles");
    // And nothing of what was seen is lost: each cycle that was shown is in the history.
    let running = world.start().await;
    let stored = world.database.query("SELECT COUNT(*) || '' FROM cycle_points").await[0].parse::<usize>().unwrap();
    assert!(stored >= seen[0], "{stored} cycles are kept of {seen:?}");
    // What the killed one had begun is taken up when that has been silent for long enough, and somebody looks.
    eventually("nothing is under way any more", async || {
        world.clock.advance(TimeDelta::milliseconds(50));
        world.database.query("SELECT job FROM job_runs WHERE state = 'running'").await.is_empty()
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_no_half_cycle_and_none_again_through_kills_and_restarts_sqlite() {
    a_reader_sees_no_half_cycle_and_none_again(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_no_half_cycle_and_none_again_through_kills_and_restarts_postgres() {
    a_reader_sees_no_half_cycle_and_none_again(Engine::Postgres).await;
}
