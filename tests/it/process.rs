//! The daemon as a process: signals, kill -9, the service manager, its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::commands::bellwether;
use crate::harness::{client, eventually};
use crate::sim_sentry::SimSentry;

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon in a process of its own, with JSON logs; ended when dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    pub log: Vec<Value>,
    pub api: SocketAddr,
    metrics: String,
}

impl Process {
    /// Starts it in `directory` and waits until it listens.
    pub fn start(directory: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_with(directory, &[], environment)
    }

    /// The same with arguments.
    pub fn start_with(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(arguments);
        Self::start_command(command, directory, environment)
    }

    /// The same for a command that becomes the binary.
    pub fn start_command(mut command: Command, directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = command
            .current_dir(directory)
            .env_clear()
            .envs([
                ("BELLWETHER_LISTEN", "127.0.0.1:0"),
                ("BELLWETHER_METRICS_LISTEN", "127.0.0.1:0"),
                ("JSON_LOGS", "true"),
                ("LOG_LEVEL", "debug"),
            ])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut process =
            Self { child, lines, log: Vec::new(), api: SocketAddr::from(([127, 0, 0, 1], 1)), metrics: String::new() };
        let listens = process.until(|line| line["api"].is_string());
        process.api = listens["api"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        listens["metrics"].as_str().unwrap().clone_into(&mut process.metrics);
        process
    }

    /// Reads the log up to a line; every line must be one JSON object.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not in the log: {:#?}", self.log));
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            self.log.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let killed = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end and gives the exit code; what is left of the log is read.
    pub fn exit_code(&mut self) -> Option<i32> {
        let (sender, ended) = channel();
        let pid = self.child.id();
        std::thread::spawn(move || {
            // A process that does not end would hold the test for ever.
            if ended.recv_timeout(PATIENCE).is_err() {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        });
        let status = self.child.wait().unwrap();
        let _ = sender.send(());
        for line in self.lines.iter() {
            self.log.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}")));
        }
        status.code()
    }

    pub async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let response = client().get(format!("http://{}{path}", self.api)).send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, serde_json::from_str(&response.text().await.ok()?).ok()?))
    }

    /// Waits until one request of the API is being answered.
    async fn answering(&self) {
        eventually("a request is being answered", async || {
            let text = client().get(&self.metrics).send().await.unwrap().text().await.unwrap();
            text.lines().any(|line| line == "bellwether_http_requests_in_flight 1")
        })
        .await;
    }

    async fn ready(&self) {
        eventually("it is ready", async || self.get("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_drains_on_sigterm_and_tells_the_service_manager() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let notify = socket.display().to_string();
    let mut process =
        Process::start(directory.path(), &[("NOTIFY_SOCKET", notify.as_str()), ("WATCHDOG_USEC", "400000")]);
    let told = |wanted: &str| {
        let mut buffer = [0; 4_096];
        loop {
            let length = manager.recv(&mut buffer).unwrap_or_else(|_| panic!("the manager was never told {wanted}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|line| line == wanted) {
                return message;
            }
        }
    };
    assert!(told("READY=1").contains("STATUS=market "));
    told("WATCHDOG=1");
    told("WATCHDOG=1");
    process.ready().await;
    process.signal("TERM");
    assert!(told("STOPPING=1").contains("STATUS=finishing"));
    assert_eq!(process.exit_code(), Some(0));
    assert!(process.log.iter().any(|line| line["message"] == "stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_way_is_finished_and_a_second_signal_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let environment = [("CRON_SECRET", "s"), ("BELLWETHER_HTTP__READ_TIMEOUT_SECONDS", "30")];
    let mut process = Process::start(directory.path(), &environment);
    process.ready().await;
    // A request whose body is not there yet holds the drain.
    let mut stream = TcpStream::connect(process.api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /api/billing/process-renewals HTTP/1.1\r\nHost: localhost\r\nX-Cron-Secret: s\r\nContent-Length: 17\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    process.answering().await;
    process.signal("TERM");
    process.until(|line| line["message"] == "stopping");
    stream.write_all(br#"{"dry_run": true}"#).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"success\":true"), "{answer}");
    assert_eq!(process.exit_code(), Some(0));

    let mut process = Process::start(directory.path(), &environment);
    process.ready().await;
    let mut stream = TcpStream::connect(process.api).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    process.answering().await;
    process.signal("TERM");
    process.until(|line| line["message"] == "stopping");
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_it_serves_the_last_snapshot_and_loses_no_row() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path(), &[]);
    process.ready().await;
    let (_, first) = process.get("/api/market-stats/").await.unwrap();
    process.signal("KILL");
    drop(process);
    for _ in 0..5 {
        let process = Process::start(directory.path(), &[]);
        let (status, again) = process.get("/api/market-stats/").await.unwrap();
        assert_eq!(status, 200, "served at once: {again}");
        assert!(again["meta"]["as_of"].as_str().unwrap() >= first["meta"]["as_of"].as_str().unwrap());
        assert!(again["market_overview"]["total_stocks"].as_u64().unwrap() >= 500);
        process.signal("KILL");
    }
    let runs = bellwether(directory.path(), &["runs", "ls", "--json", "--limit", "1000"], &[]);
    let runs: Vec<Value> =
        String::from_utf8(runs.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut slots: Vec<_> = runs.iter().map(|run| (run["job"].to_string(), run["scheduled_for"].to_string())).collect();
    slots.sort();
    let rows = slots.len();
    slots.dedup();
    assert_eq!(slots.len(), rows, "no slot has two rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_file_is_told_to_come_later() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::start(directory.path(), &[]);
    process.ready().await;
    for command in [&["serve"][..], &["ingest", "once"], &["migrate"]] {
        let second = bellwether(directory.path(), command, &[("BELLWETHER_LISTEN", "127.0.0.1:0")]);
        assert_eq!(second.status.code(), Some(75), "{command:?}");
        assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another bellwether process"));
    }
    let api = process.api.to_string();
    let healthy = bellwether(directory.path(), &["healthcheck"], &[("BELLWETHER_LISTEN", &api)]);
    assert_eq!((healthy.status.code(), healthy.stdout.as_slice()), (Some(0), &b"ready\n"[..]));
    drop(process);
    let gone = bellwether(directory.path(), &["healthcheck", "--address", &api], &[]);
    assert_eq!(gone.status.code(), Some(69));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = bellwether(directory.path(), &["serve"], &[("BELLWETHER_LISTEN", &address)]);
    assert_eq!(refused.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("choose another address for `listen`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_reported_and_no_secret_leaves_by_log_report_metric_or_answer() {
    let directory = tempfile::tempdir().unwrap();
    let sentry = SimSentry::start().await;
    let dsn = sentry.dsn().replace("public", "canary-dsn");
    let key_file: PathBuf = directory.path().join("key");
    std::fs::write(&key_file, "canary-api-key\n").unwrap();
    // Nothing listens there: the first cycle fails and is tried again.
    let environment = [
        ("SENTRY_DSN", dsn.as_str()),
        ("CRON_SECRET", "canary-cron-secret"),
        ("SECRET_KEY", "canary-secret-key"),
        ("BELLWETHER_INGEST__PROVIDER", "massive"),
        ("BELLWETHER_INGEST__MASSIVE__BASE_URL", "http://127.0.0.1:9"),
        ("BELLWETHER_INGEST__ATTEMPTS", "1"),
        ("BELLWETHER_INGEST__MASSIVE__REQUESTS_PER_MINUTE", "1000"),
        ("BELLWETHER_INGEST__MASSIVE__API_KEY_FILE", key_file.to_str().unwrap()),
    ];
    let mut process = Process::start(directory.path(), &environment);
    process.until(|line| line["message"].as_str().is_some_and(|message| message.ends_with("will try again")));
    // A table that is gone is an error of the daemon's own.
    let database = directory.path().join("data/bellwether.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database).busy_timeout(PATIENCE);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::Executor::execute(&mut connection, "ALTER TABLE subscriptions RENAME TO hidden").await.unwrap();
    let url = format!("http://{}/api/billing/process-renewals", process.api);
    let wrong = client().post(&url).header("X-Cron-Secret", "canary-guess").send().await.unwrap();
    assert_eq!(wrong.status(), 403);
    let failed = client().post(&url).header("X-Cron-Secret", "canary-cron-secret").send().await.unwrap();
    assert_eq!(failed.status(), 503);
    assert!(!failed.text().await.unwrap().contains("no such table"), "the inside stays inside");
    let event = || sentry.envelopes().into_iter().find(|envelope| envelope.contains("renewals over HTTP failed"));
    eventually("the error is reported", async || event().is_some()).await;
    process.signal("TERM");
    process.until(|line| line["message"] == "stopping");
    assert_eq!(process.exit_code(), Some(0));
    let log: String = process.log.iter().map(|line| format!("{line}\n")).collect();
    assert!(log.contains("\"request_id\"") && log.contains("\"run_id\"") && log.contains("duration_ms"), "{log}");
    let event = event().unwrap();
    assert!(event.contains("\"release\":\"bellwether@"), "{event}");
    for (place, text) in [("log", log), ("report", sentry.envelopes().join("\n"))] {
        // The DSN itself is how reports are addressed, and only there.
        let text = text.replace(&dsn, "");
        assert!(!text.contains("canary-"), "{place}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_daemon_leaves_of_its_components_is_ended_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bellwether.toml");
    let phases = r#"["pre", "regular", "post", "closed", "break", "halt", "overnight"]"#;
    let site = format!(
        "[[component]]\nname = \"feed\"\ncommand = [\"sh\", \"feed\"]\ndirectory = {:?}\nwhile = {phases}\n[[component]]\n\
         name = \"each\"\ncommand = [\"sh\", \"each\"]\ndirectory = {:?}\ntrigger = \"every 1s\"\n",
        directory.path(),
        directory.path()
    );
    std::fs::write(&file, site).unwrap();
    std::fs::write(directory.path().join("feed"), "exec sleep 1000").unwrap();
    // Its grandchild has left the process group, and it heeds no SIGTERM.
    std::fs::write(
        directory.path().join("each"),
        "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 1001; sleep 1002\" & sleep 1003",
    )
    .unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let environment = [("PATH", "/usr/bin:/bin")];
    let process = Process::start_with(directory.path(), &arguments, &environment);
    let marked = |pid: u32| {
        let parent = format!("BELLWETHER_PARENT={pid}:");
        let is_marked = |entry: &std::fs::DirEntry| {
            std::fs::read(entry.path().join("environ"))
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&parent))
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter(is_marked).count()
    };
    let first = process.id();
    eventually("the component and its grandchildren run", async || marked(first) >= 3).await;
    process.signal("KILL");
    drop(process);
    assert!(marked(first) >= 3, "they live on for the moment");
    let mut process = Process::start_with(directory.path(), &arguments, &environment);
    assert_eq!(marked(first), 0, "the start has ended them, before anything of its own began");
    let told =
        process.log.iter().filter(|line| line["message"] == "a component that outlived its daemon was ended").count();
    assert!(told >= 3, "{:#?}", process.log);
    let second = process.id();
    eventually("it is begun again", async || marked(second) >= 3).await;
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    assert_eq!(marked(second), 0, "nothing is left behind");
    let runs = bellwether(
        directory.path(),
        &[&arguments[..], &["runs", "ls", "--job", "each", "--json", "--limit", "1000"]].concat(),
        &environment,
    );
    let runs: Vec<Value> =
        String::from_utf8(runs.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let again: Vec<_> = runs.iter().filter(|run| run["attempt"].as_i64() > Some(1)).collect();
    assert_eq!(again.len(), 1, "the run that was cut off by the kill was taken up once: {again:#?}");
    assert_eq!(again[0]["state"], "queued", "the end came before it was done; the next start takes it up");
}
