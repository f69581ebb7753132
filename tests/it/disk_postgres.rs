//! A disk that fails under PostgreSQL: the server may end itself over it. What it could not make durable is answered 503, never 200,
//! and once the server is back the same daemon goes on.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::disk::{Ballast, Failing, each_took_effect_once, fill_until_refused, post, refused, take_again};
use crate::harness::{Database, eventually, postgres_url};
use crate::killed::Site;

/// A server of the test's own: the one that all tests share must not be hurt.
struct Server {
    programs: String,
    directory: TempDir,
    port: u16,
    process: Child,
}

impl Server {
    async fn start() -> Self {
        let programs = programs().await;
        let directory = tempfile::tempdir().unwrap();
        if is_root() {
            let given = Command::new("chown").arg("postgres:").arg(directory.path()).status().unwrap();
            assert!(given.success(), "there is no user postgres to run the server as");
        }
        let mut make = as_its_user(&format!("{programs}/initdb"));
        make.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions", "-D"]);
        let made = make.arg(directory.path().join("data")).stdout(Stdio::null()).status().unwrap();
        assert!(made.success());
        let port = free_port();
        let process = begin(&programs, &directory, port);
        let server = Self { programs, directory, port, process };
        server.answers().await;
        server
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    async fn answers(&self) {
        eventually("the server answers", async || PgConnection::connect(&self.url()).await.is_ok()).await;
    }

    /// It, and whoever works for it.
    fn processes(&self) -> Vec<u32> {
        let first = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        std::iter::once(first).chain(children.split_whitespace().map(|child| child.parse().unwrap())).collect()
    }

    /// As a service manager would: begun again where it has ended.
    async fn see_to(&mut self) {
        eventually("it is back, or has ended", async || {
            let ended = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))
                .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")));
            ended || PgConnection::connect(&self.url()).await.is_ok()
        })
        .await;
        if self.process.try_wait().unwrap().is_some() {
            self.process = begin(&self.programs, &self.directory, self.port);
        }
        self.answers().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once: nothing of it is kept.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

/// Where the programs of the shared server are.
async fn programs() -> String {
    Database::at(postgres_url()).query("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await.remove(0)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn begin(programs: &str, directory: &TempDir, port: u16) -> Child {
    let mut command = as_its_user(&format!("{programs}/postgres"));
    command.arg("-D").arg(directory.path().join("data")).arg("-k").arg(directory.path());
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).stdin(Stdio::null());
    let log = File::options().create(true).append(true).open(directory.path().join("log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}

/// PostgreSQL refuses to run as root. It ends with this test, however that ends.
fn as_its_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_fails_is_never_a_yes_and_the_same_daemon_goes_on() {
    let mut server = Server::start().await;
    let site = Site::on(Database::at(server.url())).await;
    // A sender is told soon.
    let process = site.start(&[("BELLWETHER_DATABASE__TIMEOUT_SECONDS", "1")]);
    let (mut n, mut yes) = (0, Vec::new());
    for (calls, error) in [("fdatasync,fsync", "EIO"), ("pwrite64", "EROFS"), ("pwrite64", "ENOSPC")] {
        n += 1;
        eventually("it is well before", async || post(&site, &process, n, 0).await.0 == 200).await;
        yes.push(n);
        let failing = Failing::calls(&server.processes(), calls, error);
        let refused = refused(&site, &process, &mut n, &format!("{calls} {error}")).await;
        failing.end();
        server.see_to().await;
        take_again(&site, &process, &refused).await;
        yes.extend(refused);
    }
    each_took_effect_once(&site, yes.len()).await;
}

/// A server on a disk of its own, of some megabytes, seen by nobody else and gone with it; begun again as often as it ends.
struct SmallDisk {
    process: Child,
    port: u16,
    disk: PathBuf,
    directory: TempDir,
}

impl SmallDisk {
    /// In namespaces of its own, twice: to mount a disk it must be root there, and to run a server it must not.
    async fn start() -> Self {
        const MOUNT: &str = "mount -t tmpfs -o size=80m tmpfs \"$1\" && exec unshare -U --map-user=1000 --map-group=1000 \
             sh -c \"$4\" sh \"$1\" \"$2\" \"$3\"";
        const SERVE: &str = "\"$2\"/initdb -U postgres -A trust -E UTF8 --no-locale --wal-segsize=1 -D \"$1\"/data && \
             while :; do \"$2\"/postgres -D \"$1\"/data -k \"$1\" -h 127.0.0.1 -p \"$3\" -c min_wal_size=2MB \
             -c max_wal_size=8MB -c shared_buffers=8MB; sleep 0.2; done";
        let (programs, port, directory) = (programs().await, free_port(), tempfile::tempdir().unwrap());
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "-rmpf", "--kill-child", "sh", "-c", MOUNT, "sh"]);
        command.arg(directory.path()).args([&programs, &port.to_string(), SERVE]).current_dir("/");
        let process = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let inside = || {
            let children = format!("/proc/{0}/task/{0}/children", process.id());
            let children = std::fs::read_to_string(children).unwrap_or_default();
            children.split_whitespace().next().map(str::to_owned)
        };
        eventually("it is in its namespaces", async || inside().is_some()).await;
        let disk = PathBuf::from(format!("/proc/{}/root{}", inside().unwrap(), directory.path().display()));
        let server = Self { process, port, disk, directory };
        server.answers().await;
        server
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// What it has said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    async fn answers(&self) {
        eventually("the server answers", async || PgConnection::connect(&self.url()).await.is_ok()).await;
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_server_is_never_a_yes_and_with_room_again_the_same_daemon_goes_on() {
    let server = SmallDisk::start().await;
    let site = Site::on(Database::at(server.url())).await;
    let process = site.start(&[("BELLWETHER_DATABASE__TIMEOUT_SECONDS", "1")]);
    let mut n = 0;
    eventually("it is well before", async || post(&site, &process, n, 0).await.0 == 200).await;
    let mut yes = vec![n];
    let ballast = Ballast::fill(&server.disk.join("ballast"));
    let refused = fill_until_refused(&site, &process, &mut n, &mut yes).await;
    // The server ends itself when it cannot write its log, and cannot come back before there is room.
    assert!(server.log().contains("No space left on device"), "{}", server.log());
    drop(ballast);
    server.answers().await;
    take_again(&site, &process, &refused).await;
    yes.extend(refused);
    each_took_effect_once(&site, yes.len()).await;
}
