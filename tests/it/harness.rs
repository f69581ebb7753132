//! A daemon in the test's own process, on a clock the test moves, against either database.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bellwether::clock::{Clock, SharedClock, SimClock};
use bellwether::config::{Config, DatabaseTarget, Environment};
use bellwether::daemon::Daemon;
use bellwether::store::{Access, JobRun, RunFilter, RunState, Store};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{ConnectOptions, Connection, Executor};
use tempfile::TempDir;

/// The operators' token of a world that sets it.
pub const OPERATOR: &str = "an-operator-of-the-test";

/// The longest any state is waited for, in real time: far more than it takes, so that a slow machine is no failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A database of the test's own, gone with it.
pub struct Database {
    pub url: String,
    _directory: TempDir,
}

impl Database {
    /// A new, empty one.
    pub async fn create(engine: Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = match engine {
            Engine::Sqlite => format!("sqlite:{}", directory.path().join("bellwether.db").display()),
            Engine::Postgres => create_postgres_database().await,
        };
        Self { url, _directory: directory }
    }

    /// Another way to one that exists.
    pub fn at(url: String) -> Self {
        Self { url, _directory: tempfile::tempdir().unwrap() }
    }

    /// Opened and migrated.
    pub async fn store(&self) -> Store {
        let config = Config::load(None, &[("DATABASE_URL", self.url.as_str())].into_iter().collect()).unwrap();
        let store = Store::open(&config.database, Access::Writer, 4, Duration::from_secs(10)).await.unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// Runs SQL beside the daemon, as an operator would with `sqlite3` or `psql`.
    pub async fn execute(&self, sql: String) {
        match self.target() {
            DatabaseTarget::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
                options.connect().await.unwrap().execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
            }
            DatabaseTarget::Postgres(_) => {
                let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
                connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
            }
        }
    }

    /// The rows of a query, each as its columns' texts joined by `|`.
    pub async fn query(&self, sql: &str) -> Vec<String> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let rows: Vec<(String,)> = match self.target() {
            DatabaseTarget::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
                sqlx::query_as(sql).fetch_all(&mut options.connect().await.unwrap()).await.unwrap()
            }
            DatabaseTarget::Postgres(_) => {
                let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
            }
        };
        rows.into_iter().map(|(text,)| text).collect()
    }

    pub fn target(&self) -> DatabaseTarget {
        Config::load(None, &[("DATABASE_URL", self.url.as_str())].into_iter().collect()).unwrap().database
    }
}

#[expect(clippy::disallowed_methods, reason = "the test command names its throw-away cluster in the environment")]
pub fn postgres_url() -> String {
    std::env::var("BELLWETHER_TEST_POSTGRES").unwrap_or_else(|_| {
        panic!("no PostgreSQL to test against: run ./scripts/test, which starts one, or set BELLWETHER_TEST_POSTGRES")
    })
}

async fn create_postgres_database() -> String {
    let server = postgres_url();
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    url.to_string()
}

/// A daemon and the world it lives in.
pub struct World {
    pub clock: Arc<SimClock>,
    pub database: Database,
    settings: Vec<(String, String)>,
    /// What stands in the file of `--config`.
    pub file: TempDir,
}

impl World {
    /// A world at `at`, with settings by their environment names.
    pub async fn at(at: &str, engine: Engine, settings: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Shown with a test that fails.
        bellwether::ops::telemetry::install("info", false, false);
        let database = Database::create(engine).await;
        let file = tempfile::tempdir().unwrap();
        let mut all: Vec<(String, String)> = vec![
            ("BELLWETHER_LISTEN".into(), "127.0.0.1:0".into()),
            ("BELLWETHER_METRICS_LISTEN".into(), "127.0.0.1:0".into()),
            // Stories run without the second waker: the schedule must be right when it never fires.
            ("BELLWETHER_SCHEDULE__CRON_WAKER".into(), "false".into()),
            ("DATABASE_URL".into(), database.url.clone()),
        ];
        let journal = file.path().join("cycles").display().to_string();
        all.push(("BELLWETHER_INGEST__JOURNAL__DIRECTORY".into(), journal));
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        std::fs::write(file.path().join("bellwether.toml"), "").unwrap();
        Self { clock: SimClock::at(instant(at)), database, settings: all, file }
    }

    /// Gives the daemons started later a file of configuration.
    pub fn write_file(&self, toml: &str) {
        std::fs::write(self.file.path().join("bellwether.toml"), toml).unwrap();
    }

    /// What time it is here.
    pub fn clock_now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Changes a setting, by its environment name, for daemons started later.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The configuration of a daemon here.
    pub fn config(&self) -> Config {
        let environment: Environment = self.settings.iter().cloned().collect();
        let file = self.file.path().join("bellwether.toml");
        Config::load(Some(&file), &environment).unwrap_or_else(|problems| panic!("{:#?}", problems.0))
    }

    /// Starts a daemon here.
    pub async fn start(&self) -> Running {
        let daemon = Daemon::start(self.config(), Arc::clone(&self.clock) as SharedClock).await.unwrap();
        Running { http: client(), daemon }
    }

    /// Starts a daemon on threads of its own, so that it can be killed like a process.
    pub fn start_to_kill(&self) -> Doomed {
        self.start_to_kill_with_api().0
    }

    /// The same, with where its API listens.
    pub fn start_to_kill_with_api(&self) -> (Doomed, std::net::SocketAddr) {
        let (config, clock) = (self.config(), Arc::clone(&self.clock) as SharedClock);
        let (started, starts) = std::sync::mpsc::channel();
        let (kill, killed) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let daemon = Daemon::start(config, clock).await.unwrap();
                started.send(daemon.api).unwrap();
                let _ = killed.await;
            });
            // Every task ends at its next wait, whatever it was doing.
            runtime.shutdown_timeout(PATIENCE);
        });
        let api = starts.recv_timeout(PATIENCE).unwrap();
        (Doomed { api, kill, thread }, api)
    }

    /// Moves the clock on a little, and never as far as `before`: for a look at what the next slot must not change.
    pub fn creep(&self, step: TimeDelta, before: DateTime<Utc>) {
        if self.clock.now() + step < before {
            self.clock.advance(step);
        }
    }

    /// Waits until no run is under way: a cycle is shown before its run has ended, and a slot that meets a run is left out.
    pub async fn nothing_is_under_way(&self, running: &Running) {
        eventually("nothing is under way", async || running.daemon.scheduler.running() == 0).await;
    }

    /// Lets the cycle of one slot run to its end, and gives the ledger's report of it: where it failed, of what kind that was.
    pub async fn cycle(&self, running: &Running, at: &str) -> Value {
        self.nothing_is_under_way(running).await;
        self.clock.advance_to(instant(at));
        eventually("the slot has ended", async || {
            self.clock.advance(TimeDelta::milliseconds(100));
            let runs = self.ledger(running, "ingest").await;
            runs.last().is_some_and(|run| {
                run.scheduled_for == instant(at) && ![RunState::Running, RunState::Queued].contains(&run.state)
            })
        })
        .await;
        let run = self.ledger(running, "ingest").await.pop().unwrap();
        run.stats.map_or(Value::Null, |report| serde_json::from_str(&report).unwrap())
    }

    /// The ledger of one job, oldest slot first, a line a row.
    pub async fn ledger(&self, running: &Running, job: &str) -> Vec<JobRun> {
        let filter = RunFilter { job: Some(job.to_owned()), limit: 100_000, ..RunFilter::default() };
        let mut runs = running.daemon.store.list_runs(&filter).await.unwrap();
        runs.reverse();
        runs
    }

    /// Lets what is under way end, moves the clock to `to` and waits until the planner has looked at the schedule there and every run has ended.
    pub async fn advance_to(&self, running: &Running, to: DateTime<Utc>) {
        // A slot that meets a run is left out, which is another story.
        eventually("nothing is under way", async || running.daemon.scheduler.running() == 0).await;
        self.clock.advance_to(to);
        let monotonic = self.clock.monotonic();
        eventually("the planner is done at the new time", async || {
            let scheduler = &running.daemon.scheduler;
            // One that met a database which did not answer has seen nothing.
            scheduler.last_look() == Some(monotonic) && scheduler.running() == 0 && scheduler.ledger_fault().is_none()
        })
        .await;
    }
}

/// A daemon that runs in this process.
pub struct Running {
    pub daemon: Daemon,
    pub http: reqwest::Client,
}

impl Running {
    /// GET, as status and JSON.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(format!("http://{}{path}", self.daemon.api)).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A call of an operator, as status and JSON; a GET without a body, else a POST.
    pub async fn operate(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.daemon.api);
        let request = match body {
            None => self.http.get(url),
            Some(body) => self.http.post(url).body(body.to_string()),
        };
        let response = request.bearer_auth(OPERATOR).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
    }

    /// Waits until market data is served, and stored by a run that has ended, and gives the statistics.
    pub async fn stats(&self) -> Value {
        eventually("market data is served", async || {
            self.get("/api/market-stats/").await.0 == 200 && self.daemon.scheduler.running() == 0
        })
        .await;
        self.get("/api/market-stats/").await.1
    }

    /// Stops it; nothing may be left running in its ledger.
    pub async fn stop(self) {
        let filter = RunFilter { state: Some(RunState::Running), limit: 10, ..RunFilter::default() };
        eventually("no run is under way", async || self.daemon.store.list_runs(&filter).await.unwrap().is_empty())
            .await;
        self.daemon.stop().await;
    }
}

/// A daemon on threads of its own.
pub struct Doomed {
    /// Where it listens.
    pub api: std::net::SocketAddr,
    kill: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Doomed {
    /// Ends it wherever it is: no drain, no goodbye.
    pub fn kill(self) {
        drop(self.kill);
        self.thread.join().unwrap();
    }
}

/// Waits for a state, and fails by its name when it does not come.
pub async fn eventually<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let waiting = async {
        while !holds().await {
            pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// A little while between two looks.
#[expect(clippy::disallowed_methods, reason = "between two looks at a state; no outcome depends on its length")]
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// An HTTP client that gives up.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}

/// An instant from its RFC 3339 text.
pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Writes a universe of symbols to `path`.
pub fn write_universe(path: &Path, symbols: impl Iterator<Item = String>) {
    let lines: String = symbols.map(|symbol| format!("{symbol},NYSE\n")).collect();
    std::fs::write(path, format!("symbol,exchange\n{lines}")).unwrap();
}
