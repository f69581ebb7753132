//! Behind a pooler in transaction mode: pgbouncer hands each transaction to another server connection, so whatever is kept on one
//! is lost or in the way. The daemon finds that out by itself.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::disk_postgres::{PORTS_TRIED, free_port, has_ended};
use crate::harness::{Database, Engine, World, eventually};
use crate::leadership::{goes_on, instance, is_exact, leader, process_of, succession};
use crate::ledger::they_run_each_slot_once;

/// A pgbouncer of the test's own before the test's PostgreSQL; ended when dropped.
pub struct Pooler {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Pooler {
    /// Starts one and waits until it listens. If somebody else has its port by then it ends, and another port is tried.
    pub async fn start() -> Self {
        for _ in 0..PORTS_TRIED {
            let pooler = Self::start_at(free_port());
            eventually("the pooler listens, or has ended", async || pooler.is_up() || has_ended(&pooler.child)).await;
            if pooler.is_up() {
                return pooler;
            }
        }
        panic!("pgbouncer ends by itself");
    }

    fn start_at(port: u16) -> Self {
        let server = url::Url::parse(&crate::harness::postgres_url()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let settings = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 10\nmax_client_conn = 500\nunix_socket_dir =\n\
             logfile =\npidfile =\n",
            server.host_str().unwrap(),
            server.port().unwrap_or(5432),
            server.username(),
        );
        std::fs::write(&settings, text).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = command(&settings, directory.path()).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, port, directory }
    }

    /// By its own word, said once it listens: on its port somebody else might answer.
    fn is_up(&self) -> bool {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap().contains("process up")
    }

    /// The way to a database through it.
    pub fn url(&self, database: &Database) -> String {
        let mut url = url::Url::parse(&database.url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It refuses to run as root; if the test is killed outright, the kernel ends it.
fn command(settings: &std::path::Path, directory: &std::path::Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    let id =
        |kind: &str| String::from_utf8(Command::new("id").args([kind, "nobody"]).output().unwrap().stdout).unwrap();
    if String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0" {
        let open = Command::new("chmod").args(["-R", "a+rX"]).arg(directory).status().unwrap();
        assert!(open.success());
        command.args(["--reuid", id("-u").trim(), "--regid", id("-g").trim(), "--clear-groups"]);
    }
    command.arg(pgbouncer()).arg(settings);
    command
}

#[expect(clippy::disallowed_methods, reason = "the test command names what it has found in the environment")]
fn pgbouncer() -> PathBuf {
    let found = std::env::var_os("BELLWETHER_TEST_PGBOUNCER").map(PathBuf::from);
    found.unwrap_or_else(|| panic!("no pgbouncer: run ./scripts/test, which gets it, or set BELLWETHER_TEST_PGBOUNCER"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_behind_a_pooler_run_each_slot_once() {
    let pooler = Pooler::start().await;
    let mut world = World::at("2027-03-15T13:29:50Z", Engine::Postgres, &[]).await;
    let through = pooler.url(&world.database);
    world.set("DATABASE_URL", &through);
    // Both bring the schema up at once.
    let (one, two) = tokio::join!(world.start(), world.start());
    they_run_each_slot_once(&world, &one, &two).await;
    // Another program behind the same pooler meets nothing that was left prepared on a server connection.
    let left = "SELECT COUNT(*)::text FROM pg_prepared_statements";
    let options = through.parse::<sqlx::postgres::PgConnectOptions>().unwrap().extra_float_digits(None);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let count: String =
        sqlx::Row::get(&sqlx::Executor::fetch_one(&mut connection, sqlx::raw_sql(left)).await.unwrap(), 0);
    assert_eq!(count, "0");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_a_leader_is_followed_too() {
    let pooler = Pooler::start().await;
    let database = Database::create(Engine::Postgres).await;
    let through = Database::at(pooler.url(&database));
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut instances = directories.each_ref().map(|directory| instance(directory.path(), &through, "2"));
    goes_on(&database, 2).await;
    let before = leader(&database).await;
    let first = instances.iter_mut().find(|process| process.id() == process_of(&before.owner)).unwrap();
    first.signal("STOP");
    succession(&database, &before).await;
    first.signal("CONT");
    goes_on(&database, 2).await;
    let before = leader(&database).await;
    let last = instances.iter_mut().find(|process| process.id() == process_of(&before.owner)).unwrap();
    last.signal("TERM");
    succession(&database, &before).await;
    assert_eq!(last.exit_code(), Some(0));
    goes_on(&database, 2).await;
    is_exact(&database).await;
}

/// What is acknowledged is on the disk, whatever a database is set to: directly, and through a pooler.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_wait_for_its_disk_is_made_to() {
    let pooler = Pooler::start().await;
    let database = Database::create(Engine::Postgres).await;
    database.store().await.close().await;
    let name = url::Url::parse(&database.url).unwrap().path().trim_start_matches('/').to_owned();
    // Whoever writes an event without waiting is refused.
    let law = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF current_setting('synchronous_commit') = 'off' THEN RAISE EXCEPTION 'it does not wait'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER waits BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION waits();";
    database.execute(format!("{law} ALTER DATABASE {name} SET synchronous_commit = off;")).await;
    let event = |id: &str| bellwether::store::NewEvent {
        id: uuid::Uuid::now_v7(),
        source: "paypal".to_owned(),
        event_id: id.to_owned(),
        event_type: "PAYMENT.SALE.COMPLETED".to_owned(),
        verdict: "offline",
        payload_hash: "00".to_owned(),
        body: "{}".to_owned(),
        headers: "{}".to_owned(),
        created_at: None,
        received_at: crate::harness::instant("2027-06-01T12:00:00Z"),
    };
    for (url, id) in [(database.url.clone(), "WH-1"), (pooler.url(&database), "WH-2")] {
        let store = Database::at(url).store().await;
        assert_eq!(store.take_in(&[event(id)]).await.unwrap(), [bellwether::store::Intake::Stored], "{id}");
        store.close().await;
    }
}
