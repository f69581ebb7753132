//! A disk that fails under PostgreSQL: the server may end itself over it. What it could not make durable is answered 503, never 200,
//! and once the server is back the same daemon goes on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::disk::{Ballast, Failing, each_took_effect_once, fill_until_refused, post, refused, take_again};
use crate::harness::{Database, eventually, postgres_url};
use crate::killed::Site;

/// A sender is told soon that nothing was stored; the start of the daemon must be done in this time as well.
const SOON: (&str, &str) = ("BELLWETHER_DATABASE__TIMEOUT_SECONDS", "3");

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
        let mut server = Self { programs, directory, port, process };
        // If somebody else has its port by then it ends, and another port is tried.
        for _ in 0..PORTS_TRIED {
            eventually("it answers, or has ended", async || server.has_ended() || server.is_there().await).await;
            if !server.has_ended() {
                return server;
            }
            server.process.wait().unwrap();
            server.port = free_port();
            server.process = begin(&server.programs, &server.directory, server.port);
        }
        panic!("it ends by itself: {}", std::fs::read_to_string(server.directory.path().join("log")).unwrap());
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    async fn is_there(&self) -> bool {
        is_at(&self.url(), self.directory.path()).await
    }

    fn has_ended(&self) -> bool {
        has_ended(&self.process)
    }

    /// Makes calls of it, and of all who work for it, fail.
    async fn failing(&self, calls: &str, error: &str) -> Failing {
        // It stands still from before the others are listed until it is traced itself: whoever it began in between would not be, and
        // would write as if the disk were well.
        signal(&self.process, "STOP");
        eventually("it stands still", async || state_of(&self.process) == Some('T')).await;
        let failing = Failing::calls(&self.processes(), calls, error);
        signal(&self.process, "CONT");
        failing
    }

    /// It, and whoever works for it.
    fn processes(&self) -> Vec<u32> {
        let first = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        std::iter::once(first).chain(children.split_whitespace().map(|child| child.parse().unwrap())).collect()
    }

    /// As a service manager would: begun again where it has ended.
    async fn see_to(&mut self) {
        eventually("it is back, or has ended", async || self.has_ended() || self.is_there().await).await;
        if self.process.try_wait().unwrap().is_some() {
            self.process = begin(&self.programs, &self.directory, self.port);
        }
        eventually("the server answers", async || self.is_there().await).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once: nothing of it is kept. Where the test broke off while it stood still, it must go on to hear that.
        signal(&self.process, "QUIT");
        signal(&self.process, "CONT");
        let _ = self.process.wait();
    }
}

/// Where the programs of the shared server are.
async fn programs() -> String {
    Database::at(postgres_url()).query("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await.remove(0)
}

/// So often a server is given another port where somebody was quicker to take the one that it was given.
pub const PORTS_TRIED: usize = 10;

/// Below the kernel's range for outgoing connections and for those who ask for any port: they never take it between the choice and its
/// use, nor while a server that has ended is not back yet.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Whether a child has ended; it is not waited for.
pub fn has_ended(child: &Child) -> bool {
    state_of(child).is_none_or(|state| state == 'Z')
}

/// What the kernel says that it does.
fn state_of(child: &Child) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
}

/// Whether a server answers that has its data there: on its port somebody else might.
async fn is_at(url: &str, directory: &Path) -> bool {
    const SQL: &str = "SELECT setting FROM pg_settings WHERE name = 'data_directory'";
    let Ok(mut connection) = PgConnection::connect(url).await else { return false };
    let found = sqlx::query_as::<sqlx::Postgres, (String,)>(SQL).fetch_one(&mut connection).await;
    found.is_ok_and(|(found,)| Path::new(&found) == directory.join("data"))
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
    let process = site.start(&[SOON]);
    let (mut n, mut yes) = (0, Vec::new());
    for (calls, error) in [("fdatasync,fsync", "EIO"), ("pwrite64", "EROFS"), ("pwrite64", "ENOSPC")] {
        n += 1;
        eventually("it is well before", async || post(&site, &process, n, 0).await.0 == 200).await;
        yes.push(n);
        let failing = server.failing(calls, error).await;
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
    /// Waits until it answers. If somebody else has its port by then it is given up, and another one is begun.
    async fn start() -> Self {
        const NO_PORT: &str = "could not create any TCP/IP sockets";
        for _ in 0..PORTS_TRIED {
            let server = Self::start_at(free_port()).await;
            let has_no_port = || server.log().contains(NO_PORT);
            eventually("it answers, or has no port", async || server.is_there().await || has_no_port()).await;
            if server.is_there().await {
                return server;
            }
        }
        panic!("it gets no port");
    }

    /// In namespaces of its own, twice: to mount a disk it must be root there, and to run a server it must not.
    async fn start_at(port: u16) -> Self {
        const MOUNT: &str = "mount -t tmpfs -o size=80m tmpfs \"$1\" && exec unshare -U --map-user=1000 --map-group=1000 \
             sh -c \"$4\" sh \"$1\" \"$2\" \"$3\"";
        const SERVE: &str = "\"$2\"/initdb -U postgres -A trust -E UTF8 --no-locale --wal-segsize=1 -D \"$1\"/data && \
             while :; do \"$2\"/postgres -D \"$1\"/data -k \"$1\" -h 127.0.0.1 -p \"$3\" -c min_wal_size=2MB \
             -c max_wal_size=8MB -c shared_buffers=8MB; sleep 0.2; done";
        let (programs, directory) = (programs().await, tempfile::tempdir().unwrap());
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
        Self { process, port, disk, directory }
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// What it has said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    async fn is_there(&self) -> bool {
        is_at(&self.url(), self.directory.path()).await
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
    let process = site.start(&[SOON]);
    let mut n = 0;
    eventually("it is well before", async || post(&site, &process, n, 0).await.0 == 200).await;
    let mut yes = vec![n];
    let ballast = Ballast::fill(&server.disk.join("ballast"));
    let refused = fill_until_refused(&site, &process, &mut n, &mut yes).await;
    // The server ends itself when it cannot write its log, and cannot come back before there is room.
    assert!(server.log().contains("No space left on device"), "{}", server.log());
    drop(ballast);
    eventually("the server answers", async || server.is_there().await).await;
    take_again(&site, &process, &refused).await;
    yes.extend(refused);
    each_took_effect_once(&site, yes.len()).await;
}
