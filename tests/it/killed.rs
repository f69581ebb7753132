//! The real binary, killed again and again at random moments while webhooks pour in, on both databases: whatever was acknowledged is
//! there afterwards, and has its one effect. `BELLWETHER_TEST_LONG=1`: 500 times on each.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bellwether::clock::SystemClock;
use serde_json::Value;
use tempfile::TempDir;

use crate::faketime::{is_long, libfaketime};
use crate::harness::{Database, Engine, client, eventually, write_universe};
use crate::inbox::capture;
use crate::process::Process;
use crate::sim_paypal::SimPayPal;

/// Who sends at once.
const SENDERS: usize = 6;

/// A host with its database, and PayPal, in real time.
pub struct Site {
    pub directory: TempDir,
    pub database: Database,
    pub paypal: SimPayPal,
}

impl Site {
    pub async fn new(engine: Engine) -> Self {
        Self::on(Database::create(engine).await).await
    }

    pub async fn on(database: Database) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_universe(&directory.path().join("universe.csv"), ["AAA", "BBB"].map(str::to_owned).into_iter());
        Self { directory, database, paypal: SimPayPal::start(SystemClock::start()).await }
    }

    /// What a daemon here is told.
    pub fn environment(&self) -> Vec<(String, String)> {
        let universe: PathBuf = self.directory.path().join("universe.csv");
        let mut all = self.paypal.settings();
        all.extend(
            [
                ("DATABASE_URL", self.database.url.as_str()),
                ("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string()),
                ("BELLWETHER_DATABASE__MAX_CONNECTIONS", "4"),
                ("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2"),
                ("OPERATOR_TOKEN", crate::harness::OPERATOR),
                ("LOG_LEVEL", "info"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        all
    }

    pub fn start(&self, more: &[(&str, &str)]) -> Process {
        let environment = self.environment();
        let mut all: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        all.extend(more);
        Process::start(self.directory.path(), &all)
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.database.query(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {sql}")).await[0].parse().unwrap()
    }
}

/// What PayPal has sent, and what it was told.
#[derive(Default)]
struct Sent {
    next: AtomicUsize,
    acknowledged: Mutex<BTreeSet<usize>>,
    /// To be sent again: nobody said that it was stored.
    unsure: Mutex<Vec<usize>>,
}

impl Sent {
    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// What comes next: something that was not acknowledged, now and then something that was, else something new.
    fn choose(&self, turn: usize) -> usize {
        if let Some(again) = self.unsure.lock().unwrap().pop() {
            return again;
        }
        let known = self.acknowledged.lock().unwrap().iter().nth_back(3).copied();
        known.filter(|_| turn.is_multiple_of(5)).unwrap_or_else(|| self.next.fetch_add(1, Ordering::SeqCst))
    }

    /// Sends until the daemon is dead.
    async fn send(self: Arc<Self>, paypal: SimPayPal, api: std::net::SocketAddr) {
        let http = client();
        for turn in 1.. {
            let n = self.choose(turn);
            let body = capture(&format!("WH-{n}"), &format!("CAP-{n}"), &format!("u{n}"), "79.99");
            let signed = paypal.sign(body.to_string().as_bytes());
            let mut request = http.post(format!("http://{api}/paypal/webhook/")).body(signed.body);
            for (name, value) in &signed.headers {
                request = request.header(name, value);
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    self.acknowledged.lock().unwrap().insert(n);
                }
                Ok(_) => self.unsure.lock().unwrap().push(n),
                Err(_) => {
                    self.unsure.lock().unwrap().push(n);
                    return;
                }
            }
        }
    }
}

async fn killed_while_webhooks_pour_in(engine: Engine) {
    let kills = if is_long() { 500 } else { 10 };
    let site = Site::new(engine).await;
    let sent = Arc::new(Sent::default());
    let mut random = 20_261_125_u64;
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let more = usize::try_from(random >> 33).unwrap() % 40 + 1;
        let wanted = sent.count() + more;
        let process = site.start(&[]);
        let senders: Vec<_> =
            (0..SENDERS).map(|_| tokio::spawn(Arc::clone(&sent).send(site.paypal.clone(), process.api))).collect();
        eventually("so many more were acknowledged", async || sent.count() >= wanted).await;
        // SIGKILL, and then it is waited for.
        drop(process);
        futures_util::future::join_all(senders).await;
    }
    // What the dead had claimed on a shared database is theirs for some minutes: the last one lives later.
    let library = libfaketime().display().to_string();
    let later = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", "+20m"),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let last = site.start(&later);
    // After many kills there is much to do: it must become less, however long it takes.
    let waiting = async || site.count("webhook_events WHERE status <> 'processed'").await;
    let mut left = waiting().await;
    while left > 0 {
        eventually("fewer wait for their end", async || waiting().await < left).await;
        left = waiting().await;
    }
    let acknowledged = sent.acknowledged.lock().unwrap().clone();
    let of = async |sql: &str| site.database.query(sql).await.into_iter().collect::<HashSet<String>>();
    let (stored, paid) = (of("SELECT event_id FROM webhook_events").await, of("SELECT id FROM payments").await);
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|n| !stored.contains(&format!("WH-{n}")) || !paid.contains(&format!("CAP-{n}")))
        .collect();
    eprintln!("{engine:?}: {kills} kills, {} acknowledged, {} stored", acknowledged.len(), stored.len());
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(stored.len(), paid.len(), "each that is stored is paid once");
    // One effect each: one change of the account, one letter, one month.
    let accounts = i64::try_from(paid.len()).unwrap();
    assert_eq!(site.count("subscriptions WHERE status = 'active'").await, accounts);
    assert_eq!(site.count("(SELECT DISTINCT current_period_end FROM subscriptions) ends").await, 1);
    assert_eq!(site.count("audit").await, accounts);
    assert_eq!(site.count("(SELECT account FROM audit GROUP BY account HAVING COUNT(*) > 1) twice").await, 0);
    assert_eq!(site.count("outbox WHERE step = 'welcome'").await, accounts);
    let health = last.get("/api/health/detailed").await.unwrap().1;
    assert_ne!(health, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_webhooks_pour_in_sqlite() {
    killed_while_webhooks_pour_in(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_webhooks_pour_in_postgres() {
    killed_while_webhooks_pour_in(Engine::Postgres).await;
}
