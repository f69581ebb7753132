//! Whole cycles of the daemon's own parts, against the stub.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether::clock::SystemClock;
use bellwether::config::{Config, Environment};
use bellwether::daemon::Parts;
use bellwether::ingest::{Board, FetchPlan, Wanted};
use bellwether::market::Universe;
use chrono::{TimeDelta, Utc};
use uuid::Uuid;

/// How often the board is looked at: what a measured instant may be late by.
const LOOK: Duration = Duration::from_micros(100);

/// Runs cycles of `symbols` at `stub` and prints what one took from its trigger to published and to committed.
pub async fn measure(url: &str, stub: &str, symbols: usize, rounds: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let parts = assemble(url, "massive", stub, symbols, scratch.path()).await;
    let (mut published, mut committed, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let id = Uuid::now_v7();
        let now = Utc::now();
        let watched = watch(parts.market.board(), id);
        let began = Instant::now();
        let summary = parts.market.cycle(id, now, now + TimeDelta::minutes(2)).await.unwrap();
        let took = began.elapsed();
        assert_eq!((summary.fresh as usize, summary.stored), (symbols, true), "{summary:?}");
        let shown = watched.await.unwrap().unwrap();
        // The first fills an empty table and opens the connection to the provider, which no later one does.
        if round > 0 {
            published.push(shown - began);
            committed.push(took);
            stored.push(took.saturating_sub(shown - began));
        }
    }
    println!("published {}; committed {}", super::show(published), super::show(committed));
    println!("  what the database takes, from published to committed: {}", super::show(stored));
    parts.store.close().await;
}

/// Fetches `symbols` `rounds` times, as `provider` would be asked, and prints how many came in a second: what the fetch takes
/// alone, parsed quotes in hand, and the whole cycle around it until it is committed.
pub async fn fetch(provider: &str, stub: &str, symbols: usize, rounds: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", scratch.path().join("fetch.db").display());
    let parts = assemble(&url, provider, stub, symbols, scratch.path()).await;
    let list = std::fs::read_to_string(scratch.path().join("universe.csv")).unwrap();
    let universe = Universe::parse_csv(&list, "universe.csv").unwrap();
    let wanted = Wanted::from((0..universe.len()).collect::<Vec<_>>());
    let (mut alone, mut whole) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let slot = Utc::now();
        let deadline = slot + TimeDelta::minutes(2);
        let plan = FetchPlan { slot, cadence: Duration::from_secs(180), deadline };
        let began = Instant::now();
        let fetched = parts.market.fetcher().fetch(&universe, &wanted, plan).await;
        let took = began.elapsed();
        assert_eq!(fetched.quotes.iter().flatten().count(), symbols, "{:?}", fetched.faults);
        drop(fetched);
        let began = Instant::now();
        let summary = parts.market.cycle(Uuid::now_v7(), slot, deadline).await.unwrap();
        assert_eq!(summary.fresh as usize, symbols, "{summary:?}");
        // The first opens the connections, which no later one does.
        if round > 0 {
            alone.push(took);
            whole.push(began.elapsed());
        }
    }
    let rate = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        symbols as f64 / times[times.len() / 2].as_secs_f64()
    };
    let (alone_rate, whole_rate) = (rate(&mut alone), rate(&mut whole));
    println!("fetch alone {alone_rate:.0} symbols/s ({})", super::show(alone));
    println!("  the whole cycle, until it is committed: {whole_rate:.0} symbols/s ({})", super::show(whole));
    parts.store.close().await;
}

/// The parts of a daemon that asks `stub` as it would ask `provider`, without a quota that would make it wait.
async fn assemble(url: &str, provider: &str, stub: &str, symbols: usize, scratch: &Path) -> Parts {
    let universe = scratch.join("universe.csv");
    super::write_universe(&universe, symbols);
    let name = |key: &str| format!("BELLWETHER_INGEST__{}__{key}", provider.to_uppercase());
    let mut settings = vec![
        ("DATABASE_URL".to_owned(), url.to_owned()),
        ("BELLWETHER_INGEST__PROVIDER".to_owned(), provider.to_owned()),
        ("BELLWETHER_INGEST__CONCURRENCY".to_owned(), "128".to_owned()),
        ("BELLWETHER_INGEST__JOURNAL__DIRECTORY".to_owned(), scratch.join("journal").display().to_string()),
        ("BELLWETHER_INGEST__UNIVERSE__FILE".to_owned(), universe.display().to_string()),
        (name("BASE_URL"), stub.to_owned()),
        (name("API_KEY"), "a-key-of-the-bench".to_owned()),
        (name("REQUESTS_PER_MINUTE"), "100000".to_owned()),
    ];
    if provider == "alpaca" {
        settings.push((name("API_SECRET"), "a-secret-of-the-bench".to_owned()));
    }
    let environment: Environment = settings.into_iter().collect();
    let config = Config::load(None, &environment).unwrap_or_else(|problems| panic!("{:#?}", problems.0));
    Parts::assemble(&config, SystemClock::start()).await.unwrap()
}

/// The instant at which the board shows the cycle `id`; `None` after half a minute. On a thread of its own: what is measured must not
/// have to make way.
fn watch(board: Arc<Board>, id: Uuid) -> tokio::task::JoinHandle<Option<Instant>> {
    tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            if board.current().is_some_and(|published| published.snapshot.cycle.id == id) {
                return Some(Instant::now());
            }
            std::thread::sleep(LOOK);
        }
        None
    })
}
