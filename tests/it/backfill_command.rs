//! `ingest backfill` on the command line, against a simulated provider: its plan, a kill in the middle, again, and beside a daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bellwether::clock::{SharedClock, SimClock};
use chrono::NaiveDate;
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Database, Engine, OPERATOR, eventually, instant, write_universe};
use crate::process::Process;
use crate::sim_host::{Answer, Asked, SimHost, Trouble};

const GROUPED: &str = "/v2/aggs/grouped/locale/us/market/stocks/";
const SPAN: [&str; 6] = ["ingest", "backfill", "--from", "2026-03-02", "--to", "2026-03-13"];

/// The bars of a date are made of it; there is one split.
fn answer(asked: &Asked) -> Answer {
    if asked.header("authorization") != "Bearer canary-key" {
        return Answer::refused(401, r#"{"status":"ERROR","error":"Unknown API Key"}"#);
    }
    if let Some(date) = asked.path.strip_prefix(GROUPED) {
        let date: NaiveDate = date.parse().unwrap();
        let close = 100.0 + f64::from(chrono::Datelike::day(&date));
        let row =
            |symbol: &str| json!({"T": symbol, "o": close, "h": close + 1.0, "l": close - 1.0, "c": close, "v": 1_000});
        return Answer::ok(json!({"status": "OK", "results": [row("AAPL"), row("MSFT"), row("NOTOURS")]}));
    }
    match asked.path.as_str() {
        "/v3/reference/splits" => Answer::ok(json!({"status": "OK", "results": []})),
        _ => Answer::ok(json!({"status": "OK", "count": 0, "tickers": []})),
    }
}

struct Place {
    host: SimHost,
    _database: Option<Database>,
    directory: tempfile::TempDir,
    environment: BTreeMap<&'static str, String>,
}

impl Place {
    async fn new() -> Self {
        Self::on(Engine::Sqlite).await
    }

    async fn on(engine: Engine) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (database, url) = match engine {
            Engine::Sqlite => (None, format!("sqlite:{}", directory.path().join("b.db").display())),
            Engine::Postgres => {
                let database = Database::create(engine).await;
                let url = database.url.clone();
                (Some(database), url)
            }
        };
        let universe = directory.path().join("universe.csv");
        write_universe(&universe, ["AAPL", "MSFT"].into_iter().map(str::to_owned));
        let clock = SimClock::at(instant("2026-11-23T14:00:00Z"));
        let host = SimHost::start(clock as SharedClock, None, answer).await;
        let environment = BTreeMap::from([
            ("DATABASE_URL", url),
            ("BELLWETHER_INGEST__PROVIDER", "massive".to_owned()),
            ("BELLWETHER_INGEST__MASSIVE__BASE_URL", host.url()),
            ("BELLWETHER_INGEST__MASSIVE__API_KEY", "canary-key".to_owned()),
            ("BELLWETHER_INGEST__MASSIVE__REQUESTS_PER_MINUTE", "60000".to_owned()),
            ("BELLWETHER_INGEST__UNIVERSE__FILE", universe.display().to_string()),
            ("OPERATOR_TOKEN", OPERATOR.to_owned()),
        ]);
        Self { host, _database: database, directory, environment }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Runs the command: exit code, stdout, stderr.
    async fn run(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let arguments: Vec<String> = SPAN.iter().chain(more).map(|argument| (*argument).to_owned()).collect();
        let environment = self.environment.clone();
        let directory = self.path().to_owned();
        // The host answers on this thread's runtime.
        let output = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let environment: Vec<(&str, &str)> =
                environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            bellwether(&directory, &arguments, &environment)
        })
        .await
        .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The dates that were asked for, in order.
    fn dates(&self) -> Vec<String> {
        self.host.asked().iter().filter_map(|asked| Some(asked.path.strip_prefix(GROUPED)?.to_owned())).collect()
    }

    async fn rows(&self) -> Vec<String> {
        let database = Database::at(self.environment["DATABASE_URL"].clone());
        database
            .query("SELECT CAST(symbol_id AS TEXT) || ' ' || session || ' ' || CAST(close AS TEXT) FROM bars_1d ORDER BY symbol_id, session")
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_killed_goes_on_and_done_again_changes_nothing() {
    let place = Place::new().await;
    let (code, said, _) = place.run(&["--dry-run", "--json"]).await;
    let plan: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &plan["units"], &plan["done"], &plan["symbols"]), (Some(0), &json!(10), &json!(0), &json!(2)));
    assert_eq!(place.dates(), [""; 0], "nothing was asked");

    // The fifth date is not answered, and the process is killed while it waits.
    let answered = 4;
    let fine = |date: &str| Trouble::Instead(answer_of(date));
    let troubles = ["2026-03-02", "2026-03-03", "2026-03-04", "2026-03-05"].map(fine);
    place.host.trouble(troubles.into_iter().chain([Trouble::Silence(Duration::from_mins(2))]));
    let mut child = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .args(SPAN)
        .current_dir(place.path())
        .env_clear()
        .envs(place.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it waits for the fifth", async || place.dates().len() == answered + 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(place.rows().await.len(), answered * 2, "what was taken is kept");

    // The provider fails for good: it says how far it is, and what to do.
    place.host.trouble([Trouble::Instead(answer_of("2026-03-06")), Trouble::Instead(Answer::refused(403, "{}"))]);
    let (code, _, told) = place.run(&[]).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("10 sessions of 2 symbols from massive: 10 requests, 4 made already"), "{told}");
    assert!(told.contains("5 of 10 requests are made; the same command goes on"), "{told}");
    assert!(!told.contains("canary-key"), "{told}");

    let (code, said, told) = place.run(&[]).await;
    assert_eq!((code, &*said), (Some(0), "10 of 10 requests are made; nothing is missing\n"), "{told}");
    // Each date was answered once: the fifth and the sixth were asked for twice, because nothing came the first time.
    let dates = place.dates();
    assert_eq!(dates.len(), 12, "{dates:?}");
    let rows = place.rows().await;
    assert_eq!((rows.len(), &*rows[0]), (20, "1 2026-03-02 1020000"));

    let (code, said, told) = place.run(&["--json"]).await;
    let plan: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &plan["done"], &plan["next"]), (Some(0), &json!(10), &Value::Null), "{told}");
    assert_eq!((place.dates().len(), place.rows().await), (12, rows), "no date is asked for, and nothing has changed");
    let (code, _, told) = place.run(&["--symbols", "NONE"]).await;
    assert!(code == Some(2) && told.contains("NONE"), "{told}");
}

/// What the host says of a date.
fn answer_of(date: &str) -> Answer {
    let headers = [("authorization", "Bearer canary-key")];
    let headers = headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    answer(&Asked {
        path: format!("{GROUPED}{date}"),
        query: Vec::new(),
        headers,
        now: instant("2026-11-23T14:00:00Z"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_daemon_the_daemon_is_asked_to_do_it_sqlite() {
    beside_a_daemon_the_daemon_is_asked_to_do_it(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_daemon_the_daemon_is_asked_to_do_it_postgres() {
    beside_a_daemon_the_daemon_is_asked_to_do_it(Engine::Postgres).await;
}

async fn beside_a_daemon_the_daemon_is_asked_to_do_it(engine: Engine) {
    let mut place = Place::on(engine).await;
    let mut daemon = Process::start(place.path(), &place.environment());
    place.environment.insert("BELLWETHER_LISTEN", daemon.api.to_string());
    let token = place.environment.remove("OPERATOR_TOKEN").unwrap();
    let database = Database::at(place.environment["DATABASE_URL"].clone());
    eventually("the daemon has said that it is there", async || {
        database.query("SELECT host FROM instances").await.len() == 1
    })
    .await;
    let (code, _, told) = place.run(&[]).await;
    assert!(code == Some(75) && told.contains("OPERATOR_TOKEN"), "{code:?} {told}");
    assert_eq!(place.dates(), [""; 0]);
    place.environment.insert("OPERATOR_TOKEN", token);
    let (code, said, told) = place.run(&[]).await;
    assert_eq!((code, &*said), (Some(0), "10 of 10 requests are made; nothing is missing\n"), "{told}");
    assert_eq!((place.dates().len(), place.rows().await.len()), (10, 20));
    // A cycle of the command line would spend the daemon's quota, too.
    let (environment, directory) = (place.environment.clone(), place.path().to_owned());
    let once = tokio::task::spawn_blocking(move || {
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        bellwether(&directory, &["ingest", "once"], &environment).status.code()
    });
    assert_eq!(once.await.unwrap(), Some(75));
    // It is served at once.
    let (_, bars) = daemon.get("/api/v1/bars/MSFT?from=2026-03-01&to=2026-03-31").await.unwrap();
    assert_eq!((&bars["count"], &bars["bars"][9]["close"]), (&json!(10), &json!(113.0)), "{bars}");
    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
}
