//! kill -9 at every point between claim and finish, on both databases: no effect twice, none lost.
//!
//! The points are the calls through which the process makes anything durable or visible: writes and syncs of the SQLite file and
//! its log, messages to the PostgreSQL server. A library loaded into the real binary (kill_at.c) ends it at the N-th of them,
//! before or after the call was carried out. Then the binary is started again, as a supervisor would.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bellwether::clock::SimClock;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::faketime::{is_long, libfaketime};
use crate::harness::{Database, Engine, eventually, instant, postgres_url, write_universe};
use crate::process::Process;
use crate::renewals::subscription;
use crate::sim_paypal::{SimPayPal, subscription_payment};
use crate::store_billing::{activated, rules, sale};

/// Subscriptions whose period has ended: some that nothing pays, one that a credit pays, one that PayPal was paid for and has not
/// told, one that PayPal was not paid for.
const SUBSCRIBERS: usize = 5;
const LINKED: usize = 2;

/// Points tried at once: they wait for the lease of the dead more than they work.
const AT_ONCE: usize = 8;

/// More than there are.
const MOST_POINTS: usize = 5_000;

/// What a point is made of.
struct Scene {
    engine: Engine,
    directory: TempDir,
    shim: PathBuf,
    faketime: PathBuf,
    prepared: Database,
    paypal: SimPayPal,
}

impl Scene {
    /// A database in which the 03:00 slot of last night is owed, and five decisions with it.
    async fn prepare(engine: Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shim = directory.path().join("kill_at.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/kill_at.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).arg("-ldl").status();
        assert!(compiled.unwrap().success());
        write_universe(&directory.path().join("universe.csv"), ["AAA", "BBB"].map(str::to_owned).into_iter());
        let prepared = Database::create(engine).await;
        prepared.store().await.close().await;
        prepared
            .execute("INSERT INTO jobs (name, since) VALUES ('renewals', '2027-03-15T12:00:00+00:00')".to_owned())
            .await;
        for n in 0..SUBSCRIBERS {
            let sql = subscription(&format!("u{n}"), "active", true, instant("2027-03-16T05:00:00Z"));
            prepared.execute(sql).await;
        }
        let credit = |n: usize| {
            format!("INSERT INTO credits VALUES ('c{n}', 'u0', 1, 'paid', 'i{n}', '2027-03-01T12:00:00+00:00')")
        };
        for n in 0..3 {
            prepared.execute(credit(n)).await;
        }
        let now = instant("2027-03-16T12:00:00Z");
        let paypal = SimPayPal::start(SimClock::at(now)).await;
        let store = prepared.store().await;
        for (link, user) in [("I-PAID", "linked"), ("I-LATE", "late")] {
            let custom = format!("gold_monthly_1_{user}");
            let first = sale(&format!("S1-{user}"), link, "2027-02-16T05:00:00Z", "79.99");
            for event in [activated(link, "2027-02-16T04:59:00Z", &custom), first] {
                store.apply_event(&event, &rules(), now).await.unwrap();
            }
        }
        store.close().await;
        let second = subscription_payment("S2-linked", "2027-03-16T05:00:05Z", "79.99");
        paypal.state().payments.insert("I-PAID".to_owned(), vec![second]);
        paypal.state().payments.insert("I-LATE".to_owned(), Vec::new());
        Self { engine, directory, shim, faketime: libfaketime(), prepared, paypal }
    }

    /// A copy of it, in a directory that is the point's own.
    async fn copy(&self, point: &Path) -> Database {
        match self.engine {
            Engine::Sqlite => {
                let to = point.join("data");
                std::fs::create_dir_all(&to).unwrap();
                let file = to.join("bellwether.db").display().to_string();
                self.prepared.execute(format!("VACUUM INTO '{file}'")).await;
                Database::at(format!("sqlite:{file}"))
            }
            Engine::Postgres => {
                let name = format!("k_{}", uuid::Uuid::now_v7().simple());
                let mut url = url::Url::parse(&self.prepared.url).unwrap();
                let template = url.path().trim_start_matches('/').to_owned();
                Database::at(postgres_url()).execute(format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
                url.set_path(&name);
                Database::at(url.to_string())
            }
        }
    }

    fn environment(&self, database: &Database) -> Vec<(String, String)> {
        let universe = self.directory.path().join("universe.csv").display().to_string();
        [
            ("DATABASE_URL", database.url.as_str()),
            ("BELLWETHER_INGEST__UNIVERSE__FILE", &universe),
            // A server that takes a hundred clients is enough.
            ("BELLWETHER_DATABASE__MAX_CONNECTIONS", "3"),
            // PostgreSQL: the dead must fall silent before others may go on.
            ("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2"),
            ("TZ", "UTC"),
            // The market is closed and the slot is five hours old, whenever the test is run.
            ("FAKETIME", "@2027-03-16 12:00:00"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into_iter()
        .chain(self.paypal.settings())
        .collect()
    }

    /// Kills it at point number `n`, starts it again, and looks at what came of it. `false`: the run was over before that.
    async fn kill_at(&self, n: usize, after: bool) -> bool {
        let point = self.directory.path().join(format!("{n}-{after}"));
        std::fs::create_dir(&point).unwrap();
        let database = self.copy(&point).await;
        let environment = self.environment(&database);
        let was_killed = {
            let (point, preload) = (point.clone(), format!("{} {}", self.faketime.display(), self.shim.display()));
            let mut environment = environment.clone();
            environment.push(("LD_PRELOAD".to_owned(), preload));
            environment.push(("BELLWETHER_TEST_KILL_AT".to_owned(), n.to_string()));
            environment.push(match self.engine {
                Engine::Sqlite => ("BELLWETHER_TEST_KILL_UNDER".to_owned(), point.join("data").display().to_string()),
                Engine::Postgres => {
                    let port = url::Url::parse(&database.url).unwrap().port().unwrap_or(5432);
                    ("BELLWETHER_TEST_KILL_PORT".to_owned(), port.to_string())
                }
            });
            environment.extend(after.then(|| ("BELLWETHER_TEST_KILL_AFTER".to_owned(), "1".to_owned())));
            tokio::task::spawn_blocking(move || is_killed(&point, &environment)).await.unwrap()
        };
        let mut again: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let faketime = self.faketime.display().to_string();
        again.push(("LD_PRELOAD", &faketime));
        let process = Process::start(&point, &again);
        let what = format!("point {n}, {}: the night is done", if after { "after" } else { "before" });
        let one_done = "SELECT CAST(COUNT(*) AS TEXT) FROM job_runs WHERE job = 'renewals' AND state = 'ok'";
        eventually(&what, async || database.query(one_done).await == ["1"]).await;
        self.is_exact(&database, &what).await;
        drop(process);
        if self.engine == Engine::Postgres {
            let name = url::Url::parse(&database.url).unwrap().path().trim_start_matches('/').to_owned();
            Database::at(postgres_url()).execute(format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
        was_killed
    }

    async fn is_exact(&self, database: &Database, what: &str) {
        let of = async |sql: &str| database.query(sql).await.join(" ");
        let rows = "SELECT state FROM job_runs WHERE job = 'renewals' ORDER BY scheduled_for";
        assert_eq!(of(rows).await, "ok", "{what}");
        let decided = "SELECT subscription_id FROM renewals";
        assert_eq!(database.query(decided).await.len(), SUBSCRIBERS + LINKED, "{what}");
        let statuses = "SELECT user_id || ' ' || status FROM subscriptions WHERE status <> 'past_due' ORDER BY user_id";
        assert_eq!(of(statuses).await, "linked active u0 active", "{what}");
        let actions = "SELECT action FROM renewals WHERE action <> 'marked_past_due' ORDER BY action";
        assert_eq!(of(actions).await, "applied_referral_credit paid", "{what}");
        let money = "SELECT CAST(COUNT(*) AS TEXT) FROM payments WHERE user_id = 'linked'";
        assert_eq!(of(money).await, "2", "{what}");
        let credits = "SELECT CAST(SUM(delta) AS TEXT) || ' ' || CAST(COUNT(*) AS TEXT) FROM credits";
        assert_eq!(of(credits).await, "0 4", "{what}: the credit is used once");
        let attempts = "SELECT CAST(COUNT(*) AS TEXT) FROM job_attempts a JOIN job_runs r ON r.id = a.run_id \
             WHERE r.job = 'renewals' AND a.state = 'ok'";
        assert_eq!(of(attempts).await, "1", "{what}");
    }
}

/// Starts the binary and waits until it is dead, or has done the night and is killed by hand.
fn is_killed(directory: &Path, environment: &[(String, String)]) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .current_dir(directory)
        .env_clear()
        .envs([
            ("BELLWETHER_LISTEN", "127.0.0.1:0"),
            ("BELLWETHER_METRICS_LISTEN", "127.0.0.1:0"),
            ("JSON_LOGS", "true"),
        ])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = String::new();
    let done = lines.inspect(|line| said += line).any(|line| line.contains("\"renewals done\""));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(std::os::unix::process::ExitStatusExt::signal(&status) == Some(9), "it ended by itself: {said}");
    !done
}

async fn killed_anywhere_the_night_is_done_once(engine: Engine, stride: usize) {
    let scene = Arc::new(Scene::prepare(engine).await);
    let stride = if is_long() { 1 } else { stride };
    let mut points = (1..MOST_POINTS).step_by(stride).flat_map(|n| [(n, false), (n, true)]);
    let (mut under_way, mut tried, mut survived) = (JoinSet::new(), 0, false);
    loop {
        while !survived && under_way.len() < AT_ONCE {
            let (n, after) = points.next().unwrap();
            let scene = Arc::clone(&scene);
            under_way.spawn(async move { scene.kill_at(n, after).await });
        }
        let Some(was_killed) = under_way.join_next().await else { break };
        tried += 1;
        survived |= !was_killed.unwrap();
    }
    eprintln!("{engine:?}: killed at {tried} points, every {stride} of them");
    assert!(tried > 10, "the points were not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_the_night_is_done_once_sqlite() {
    killed_anywhere_the_night_is_done_once(Engine::Sqlite, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_the_night_is_done_once_postgres() {
    killed_anywhere_the_night_is_done_once(Engine::Postgres, 11).await;
}
