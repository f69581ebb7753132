//! A day of the whole daemon on a clock that is moved: what it has in memory at the close, and what is left on the disk.

use std::sync::Arc;
use std::time::Duration;

use bellwether::clock::{Clock, SharedClock, SimClock};
use bellwether::config::{Config, Environment};
use bellwether::daemon::Daemon;
use bellwether::store::{RunFilter, RunState};
use chrono::{DateTime, TimeDelta, Utc};

/// The longest one cycle, or the roll-up, is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the session of 2027-03-15 with `symbols` of the simulated exchange.
pub async fn measure(symbols: usize) {
    let scratch = tempfile::tempdir().unwrap();
    let (universe, database) = (scratch.path().join("universe.csv"), scratch.path().join("day.db"));
    super::write_universe(&universe, symbols);
    let settings = [
        ("DATABASE_URL", format!("sqlite:{}", database.display())),
        ("BELLWETHER_LISTEN", "127.0.0.1:0".to_owned()),
        ("BELLWETHER_METRICS_LISTEN", "127.0.0.1:0".to_owned()),
        ("BELLWETHER_SCHEDULE__CRON_WAKER", "false".to_owned()),
        ("BELLWETHER_INGEST__UNIVERSE__FILE", universe.display().to_string()),
    ];
    let environment: Environment = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let config = Config::load(None, &environment).unwrap_or_else(|problems| panic!("{:#?}", problems.0));
    let instant = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let (open, close) = (instant("2027-03-15T13:30:00Z"), instant("2027-03-15T20:00:00Z"));
    let clock = SimClock::at(open - TimeDelta::minutes(5));
    let daemon = Daemon::start(config, Arc::clone(&clock) as SharedClock).await.unwrap();
    let board = daemon.market.board();
    let mut slot = open;
    while slot < close {
        clock.advance_to(slot);
        until(|| board.current().is_some_and(|published| published.snapshot.cycle.slot == slot)).await;
        until(|| daemon.scheduler.running() == 0).await;
        slot += TimeDelta::seconds(180);
    }
    println!(
        "resident at the close, with the points of the day: {} MB, at most {} MB",
        status("VmRSS"),
        status("VmHWM")
    );
    for at in [close + TimeDelta::minutes(5), close + TimeDelta::minutes(30)] {
        clock.advance_to(at);
        let monotonic = clock.monotonic();
        until(|| daemon.scheduler.last_look() == Some(monotonic) && daemon.scheduler.running() == 0).await;
    }
    let filter = RunFilter { job: Some("history".to_owned()), limit: 1, ..RunFilter::default() };
    let rolled_up = daemon.store.list_runs(&filter).await.unwrap();
    assert_eq!(rolled_up.first().map(|run| run.state), Some(RunState::Ok), "{rolled_up:?}");
    daemon.stop().await;
    on_disk(&database);
}

/// What the points of the day take after the close, pages and keys included.
fn on_disk(database: &std::path::Path) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let points = number("SELECT COALESCE(SUM(fresh), 0) FROM cycles");
    for table in ["symbol_days", "bars_15m", "bars_1d", "cycle_points"] {
        let bytes = number(&format!("SELECT COALESCE(SUM(pgsize), 0) FROM dbstat WHERE name = '{table}'"));
        println!("{table:<14} {bytes:>10} bytes, {:.2} a point of {points}", bytes as f64 / points as f64);
    }
}

/// In MB, as the kernel counts it for this process.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024 / 1_000_000
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}
