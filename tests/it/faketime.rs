//! The real binary on a clock that is set, and on one that runs a thousand times as fast (libfaketime). The time since boot and the
//! monotonic clock stay true, as they do on a real host.

use std::path::{Path, PathBuf};

use bellwether::store::{RunFilter, RunState};
use chrono::{DateTime, Datelike, Months, NaiveDate, TimeDelta, Utc, Weekday};

use crate::commands::bellwether;
use crate::harness::{Database, Engine, World, eventually, instant, write_universe};
use crate::process::Process;

/// The library that lies about the time; the test command names it.
#[expect(clippy::disallowed_methods, reason = "the test command names what it has found in the environment")]
pub fn libfaketime() -> PathBuf {
    let found = std::env::var_os("BELLWETHER_TEST_LIBFAKETIME").map(PathBuf::from);
    found.unwrap_or_else(|| {
        panic!("no libfaketime: run ./scripts/test, which gets it, or set BELLWETHER_TEST_LIBFAKETIME")
    })
}

/// Whether the long forms of the stories are wanted: every point at which a process can be killed, more nights.
#[expect(clippy::disallowed_methods, reason = "whoever wants the long form says so in the environment")]
pub fn is_long() -> bool {
    std::env::var_os("BELLWETHER_TEST_LONG").is_some()
}

#[expect(clippy::disallowed_methods, reason = "what the library is told is relative to the real clock")]
fn real_now() -> DateTime<Utc> {
    Utc::now()
}

/// A host whose clock can be set.
struct Host {
    directory: tempfile::TempDir,
    database: Database,
    /// What its clock is ahead of the real one.
    ahead: TimeDelta,
}

impl Host {
    async fn at(now: &str, engine: Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_universe(&directory.path().join("universe.csv"), ["AAA", "BBB"].map(str::to_owned).into_iter());
        let mut host = Self { directory, database: Database::create(engine).await, ahead: TimeDelta::zero() };
        host.step(instant(now) - real_now());
        host
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Sets the clock on, or back.
    fn step(&mut self, by: TimeDelta) {
        self.ahead += by;
        std::fs::write(self.path("clock.new"), format!("{:+}\n", self.ahead.num_seconds())).unwrap();
        std::fs::rename(self.path("clock.new"), self.path("clock")).unwrap();
    }

    fn now(&self) -> DateTime<Utc> {
        real_now() + self.ahead
    }

    /// The environment of a process here, with a job that runs `every` so often beside those of the house.
    fn environment(&self, every: &str) -> Vec<(String, String)> {
        let component = format!("[[component]]\nname = \"tick\"\ncommand = [\"true\"]\ntrigger = \"every {every}\"\n");
        std::fs::write(self.path("bellwether.toml"), component).unwrap();
        let mut environment = faked(&self.database, self.directory.path());
        environment.push(("FAKETIME_TIMESTAMP_FILE".to_owned(), self.path("clock")));
        environment.push(("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()));
        environment
    }

    fn start(&self, every: &str) -> Process {
        let environment = self.environment(every);
        let environment: Vec<_> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        Process::start_with(self.directory.path(), &["--config", &self.path("bellwether.toml")], &environment)
    }

    async fn count(&self, of: &str) -> usize {
        let rows = self.database.query(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {of}")).await;
        rows[0].parse().unwrap()
    }

    /// Waits until so many steps are written down and the schedule has gone on after the last of them.
    async fn noticed(&self, steps: usize) {
        eventually("the step is written down", async || self.count("clock_events WHERE kind = 'step'").await == steps)
            .await;
        self.goes_on().await;
    }

    /// Waits for two more good runs of the job of the test.
    async fn goes_on(&self) {
        let good = "job_runs WHERE job = 'tick' AND state = 'ok'";
        let before = self.count(good).await;
        eventually("the schedule goes on", async || self.count(good).await >= before + 2).await;
    }

    /// The nights that went well, by their slots.
    async fn nights(&self) -> Vec<String> {
        self.database
            .query(
                "SELECT substr(CAST(scheduled_for AS TEXT), 1, 10) FROM job_runs WHERE job = 'renewals' AND state = 'ok' \
                 ORDER BY scheduled_for",
            )
            .await
    }

    async fn is_exact(&self) {
        let twice = "SELECT job FROM job_runs GROUP BY job, scheduled_for HAVING COUNT(*) > 1";
        assert_eq!(self.database.query(twice).await, [""; 0], "a slot has two rows");
        let succeeded = "SELECT run_id FROM job_attempts WHERE state = 'ok' GROUP BY run_id HAVING COUNT(*) > 1";
        assert_eq!(self.database.query(succeeded).await, [""; 0], "a run went well twice");
    }
}

fn faked(database: &Database, directory: &Path) -> Vec<(String, String)> {
    [
        ("DATABASE_URL", database.url.as_str()),
        ("BELLWETHER_INGEST__UNIVERSE__FILE", &directory.join("universe.csv").display().to_string()),
        ("BELLWETHER_DATABASE__MAX_CONNECTIONS", "3"),
        ("PATH", "/usr/bin:/bin"),
        ("TZ", "UTC"),
        ("LD_PRELOAD", &libfaketime().display().to_string()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

async fn the_clock_is_set_under_the_daemon(engine: Engine) {
    // Half past two of a Tuesday night in New York.
    let mut host = Host::at("2027-03-16T06:30:00Z", engine).await;
    let mut process = host.start("2s");
    host.goes_on().await;

    host.step(TimeDelta::hours(1));
    host.noticed(1).await;
    eventually("the night that was stepped over is done", async || host.nights().await == ["2027-03-16"]).await;
    let left_out = host.count("job_runs WHERE job = 'tick' AND state = 'missed'").await;
    assert!((1_780..=1_810).contains(&left_out), "of the hour that never was, each slot but the last: {left_out}");

    // Half past one: what was decided is not decided again, what goes by elapsed time goes on.
    host.step(TimeDelta::hours(-2));
    host.noticed(2).await;
    // A run by the schedule that was under way may have been the first to go on.
    let repeated = "job_runs WHERE job = 'tick' AND origin = 'repeat' AND state = 'ok'";
    eventually("what goes by elapsed time goes on", async || host.count(repeated).await >= 2).await;
    // And through the same night again.
    host.step(TimeDelta::minutes(100));
    host.noticed(3).await;
    assert_eq!(host.nights().await, ["2027-03-16"]);
    assert_eq!(host.count("renewals").await, 0, "nobody was owed anything");
    host.is_exact().await;
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));

    // By the time it should be.
    host.step(TimeDelta::minutes(20));
    let mut process = host.start("1h");
    eventually("it has looked", async || process.get("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
    host.step(TimeDelta::days(400));
    let newest = (host.now() - TimeDelta::hours(1)).date_naive().to_string();
    eventually("the newest night is done, late", async || host.nights().await == ["2027-03-16", newest.as_str()]).await;
    let missed = "job_runs WHERE job = 'renewals' AND state = 'missed'";
    assert_eq!(host.count(missed).await, 399, "each night between them has its row, and its reason");
    let reason = "SELECT DISTINCT substr(reason, 1, 14) FROM job_runs WHERE job = 'renewals' AND state = 'missed'";
    assert_eq!(host.database.query(reason).await, ["the newer slot"]);

    host.step(TimeDelta::days(-1));
    eventually("each step is written down", async || host.count("clock_events").await == 5).await;
    // The night of yesterday comes again, and that of today, which are decided.
    host.step(TimeDelta::hours(23));
    eventually("each step is written down", async || host.count("clock_events").await == 6).await;
    host.step(TimeDelta::hours(2));
    eventually("the schedule goes on", async || {
        let at = host.now().format("%FT%H:00").to_string();
        let last = "SELECT MAX(CAST(scheduled_for AS TEXT)) FROM job_runs WHERE job = 'tick'";
        host.database.query(last).await[0].replace(' ', "T").starts_with(&at)
    })
    .await;
    assert_eq!(host.nights().await, ["2027-03-16", newest.as_str()]);
    host.is_exact().await;
    let steps = host.database.query("SELECT CAST(by_us / 60000000 AS TEXT) FROM clock_events ORDER BY id").await;
    let minutes: Vec<i64> = steps.iter().map(|by| by.parse::<f64>().unwrap().round() as i64).collect();
    for (seen, set) in minutes.iter().zip([60, -120, 100, 400 * 1440, -1440, 23 * 60, 120]) {
        assert!((seen - set).abs() <= 1, "{minutes:?}");
    }
    process.signal("KILL");
    process.exit_code();

    // Told at the start: a ledger from the future is refused, until somebody says that the clock is right.
    host.step(TimeDelta::days(-1));
    let environment = host.environment("1h");
    let environment: Vec<_> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let arguments = ["serve", "--config", &host.path("bellwether.toml")];
    let any_port = [("BELLWETHER_LISTEN", "127.0.0.1:0"), ("BELLWETHER_METRICS_LISTEN", "127.0.0.1:0")];
    let refused = bellwether(host.directory.path(), &arguments, &[&environment[..], &any_port].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("trust_clock"), "{said}");
    let trusting = [&environment[..], &[("BELLWETHER_SCHEDULE__TRUST_CLOCK", "true")]].concat();
    let trusted = Process::start(host.directory.path(), &trusting);
    eventually("it plans", async || trusted.get("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_set_under_the_daemon_sqlite() {
    the_clock_is_set_under_the_daemon(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_set_under_the_daemon_postgres() {
    the_clock_is_set_under_the_daemon(Engine::Postgres).await;
}

#[test]
fn a_clock_before_the_build_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let library = libfaketime().display().to_string();
    let environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", "@2024-01-01 00:00:00"),
        ("TZ", "UTC"),
        ("BELLWETHER_LISTEN", "127.0.0.1:0"),
        ("BELLWETHER_METRICS_LISTEN", "127.0.0.1:0"),
    ];
    let refused = bellwether(directory.path(), &["serve"], &environment);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(69), "{said}");
    assert!(said.contains("the clock says 2024-01-01 ") && said.contains("set the clock of this host"), "{said}");
    assert!(!directory.path().join("data").exists(), "nothing was begun");
}

/// A day in a minute, from midnight of `first` to the morning of `last`: each date has its night, done once.
async fn a_thousand_times_as_fast(engine: Engine, first: NaiveDate, last: NaiveDate) {
    let new_york = |date: NaiveDate, hour: u32| {
        let local = date.and_hms_opt(hour, 0, 0).unwrap().and_local_timezone(chrono_tz::America::New_York);
        local.earliest().unwrap().to_utc()
    };
    let (start, end) = (new_york(first, 0), new_york(last, 5));
    let directory = tempfile::tempdir().unwrap();
    write_universe(&directory.path().join("universe.csv"), ["AAA", "BBB"].map(str::to_owned).into_iter());
    let database = Database::create(engine).await;
    let mut environment = faked(&database, directory.path());
    environment.push(("FAKETIME".to_owned(), format!("@{} x1440", start.format("%F %T"))));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let began = real_now();
    let _process = Process::start(directory.path(), &environment);
    let mut at = start;
    while at < end {
        at += TimeDelta::hours(1);
        eventually("the hours pass", async || (real_now() - began) * 1440 >= at - start).await;
    }
    let sql = "SELECT substr(CAST(scheduled_for AS TEXT), 1, 13) || ' ' || state || ' ' || attempt FROM job_runs \
         WHERE job = 'renewals' ORDER BY scheduled_for";
    let expected: Vec<String> = first
        .iter_days()
        .take_while(|date| *date <= last)
        .map(|date| new_york(date, 3).format("%F %H ok 1").to_string())
        .collect();
    let nights = async || database.query(sql).await.iter().map(|night| night.replace('T', " ")).collect::<Vec<_>>();
    // The last one is written down when it begins.
    let is_open = |night: &String| night.contains(" running ") || night.contains(" queued ");
    eventually("the last night is done", async || {
        nights().await.get(..expected.len()).is_some_and(|nights| !nights.iter().any(is_open))
    })
    .await;
    assert_eq!(nights().await[..expected.len()], expected);
}

/// The nights of a year when the clocks are changed. Whoever wants it long gets the whole year, a daemon for each month, all of them
/// at the same time: half an hour.
async fn a_year_a_thousand_times_as_fast(engine: Engine, year: i32, changes: [(u32, u32); 2]) {
    let on = |month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap();
    let spans: Vec<_> = if is_long() {
        let last = |month| on(month, 1) + Months::new(1) - TimeDelta::days(1);
        (1..=12).map(|month| (on(month, 1), last(month))).collect()
    } else {
        changes.iter().map(|(month, day)| (on(*month, *day), on(*month, *day))).collect()
    };
    let months = spans.into_iter().map(|(first, last)| a_thousand_times_as_fast(engine, first, last));
    futures_util::future::join_all(months).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_times_as_fast_each_date_has_its_night_sqlite() {
    a_year_a_thousand_times_as_fast(Engine::Sqlite, 2027, [(3, 14), (11, 7)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_times_as_fast_each_date_has_its_night_postgres() {
    a_year_a_thousand_times_as_fast(Engine::Postgres, 2028, [(3, 12), (11, 5)]).await;
}

/// Two years, day by day, in one daemon that is restarted each quarter.
#[tokio::test]
async fn two_years_have_one_night_a_date() {
    let (start, end) = (instant("2027-01-01T05:00:00Z"), instant("2029-01-01T05:00:00Z"));
    let settings = [("BELLWETHER_INGEST__CADENCE_SECONDS", "3600"), ("BELLWETHER_SCHEDULE__RETENTION_DAYS", "3650")];
    let mut world = World::at("2027-01-01T05:00:00Z", Engine::Sqlite, &settings).await;
    // It is about nights, not about the thousand closes of a whole list.
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, (0..3).map(|n| format!("S{n:02}")));
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string());
    let mut running = world.start().await;
    let mut at = start;
    while at < end {
        // At the slot of either offset, and when the market has closed.
        for span in [120, 180, 1_000] {
            world.advance_to(&running, at + TimeDelta::minutes(span)).await;
        }
        at += TimeDelta::days(1);
        if at.day() == 1 && at.month() % 3 == 1 {
            running.stop().await;
            running = world.start().await;
        }
    }
    let filter = RunFilter { job: Some("renewals".to_owned()), limit: 100_000, ..RunFilter::default() };
    let mut nights = running.daemon.store.list_runs(&filter).await.unwrap();
    nights.reverse();
    assert!(nights.iter().all(|night| (night.state, night.attempt) == (RunState::Ok, 1)));
    let local = |at: DateTime<Utc>| at.with_timezone(&chrono_tz::America::New_York).naive_local();
    let dates: Vec<_> = nights.iter().map(|night| local(night.scheduled_for).date()).collect();
    let expected: Vec<_> = local(start).date().iter_days().take(731).collect();
    assert_eq!(dates, expected);
    assert!(nights.iter().all(|night| local(night.scheduled_for).time().to_string() == "03:00:00"));
    let closes = world.ledger(&running, "ingest-close").await;
    assert!(closes.iter().all(|run| run.state == RunState::Ok && run.scheduled_for.weekday() != Weekday::Sun));
    assert_eq!(closes.len(), 251 + 251, "the sessions of the two years");
    running.stop().await;
}
