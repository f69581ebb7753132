//! A disk that fails: what cannot be made durable is answered 503, never 200, and once the disk is well the same daemon goes on.
//!
//! Errors are put into the running binary's own calls (strace), or its disk is a small one that is filled. A file system that becomes
//! read-only under open files is one that answers EROFS; remounting by hand is refused while they are open.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Engine, OPERATOR, client, eventually};
use crate::inbox::capture;
use crate::killed::Site;
use crate::process::Process;

/// Makes calls of processes fail for as long as it lives.
pub struct Failing(Child);

impl Failing {
    /// `calls` of some processes, and of those they begin, give `error`.
    pub fn calls(processes: &[u32], calls: &str, error: &str) -> Self {
        let inject = format!("inject={calls}:error={error}");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject]);
        for process in processes {
            command.args(["-p", &process.to_string()]);
        }
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|fault| panic!("no strace ({fault}): run ./scripts/test, which gets it"));
        // It says nothing more (-q) when it has hold of every thread, so the processes themselves are asked.
        for _ in 0..200_000 {
            if processes.iter().all(|process| is_traced(*process)) {
                return Self(child);
            }
            if child.try_wait().unwrap().is_some() {
                let words: Vec<_> =
                    BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok).collect();
                panic!("strace may not trace here: {words:?}");
            }
            std::thread::yield_now();
        }
        panic!("strace never had hold of it");
    }

    pub fn end(mut self) {
        let told = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.0.wait().unwrap();
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether every thread of a process is; one that has ended counts.
fn is_traced(process: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return true };
    threads.flatten().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status"));
        status
            .map_or(true, |status| status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")))
    })
}

/// Posts one event; the status and whether it says when to come again.
pub async fn post(site: &Site, process: &Process, n: usize, padding: usize) -> (u16, bool) {
    let mut body = capture(&format!("WH-{n}"), &format!("CAP-{n}"), &format!("u{n}"), "79.99");
    body["summary"] = "x".repeat(padding).into();
    let signed = site.paypal.sign(body.to_string().as_bytes());
    let mut request = client().post(format!("http://{}/paypal/webhook/", process.api)).body(signed.body);
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let after =
        answer.headers().get("retry-after").is_some_and(|seconds| seconds.to_str().unwrap().parse::<u32>().is_ok());
    (answer.status().as_u16(), after)
}

/// Posts six events that cannot be made durable.
pub async fn refused(site: &Site, process: &Process, n: &mut usize, why: &str) -> Vec<usize> {
    let mut refused = Vec::new();
    for _ in 0..6 {
        *n += 1;
        assert_eq!(post(site, process, *n, 0).await, (503, true), "{why}");
        refused.push(*n);
    }
    refused
}

/// So many events have come, and each did what it says once.
pub async fn each_took_effect_once(site: &Site, events: usize) {
    let all = i64::try_from(events).unwrap();
    let done = "webhook_events WHERE status = 'processed'";
    eventually("each has its effect", async || site.count(done).await == all).await;
    assert_eq!(site.count("payments").await, all);
    assert_eq!(site.count("(SELECT account FROM audit GROUP BY account HAVING COUNT(*) > 1) twice").await, 0);
}

/// Posts them again until each is stored.
pub async fn take_again(site: &Site, process: &Process, refused: &[usize]) {
    for n in refused {
        eventually("it is taken again", async || post(site, process, *n, 0).await.0 == 200).await;
    }
}

/// What fills a disk, for as long as it lives.
pub struct Ballast(PathBuf);

impl Ballast {
    /// Until nothing more fits.
    pub fn fill(path: &Path) -> Self {
        let mut file = std::fs::File::create(path).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        Self(path.to_owned())
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Posts large events to a daemon whose disk is full until five were refused: there may be some room left from before.
pub async fn fill_until_refused(site: &Site, process: &Process, n: &mut usize, yes: &mut Vec<usize>) -> Vec<usize> {
    let mut refused = Vec::new();
    while refused.len() < 5 {
        *n += 1;
        match post(site, process, *n, 50_000).await {
            (200, _) => yes.push(*n),
            answer => {
                assert_eq!(answer, (503, true));
                refused.push(*n);
            }
        }
        assert!(*n < 500, "the disk is full and everything is taken");
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_never_a_yes_and_the_same_daemon_goes_on() {
    let site = Site::new(Engine::Sqlite).await;
    let process = site.start(&[]);
    let (mut n, mut yes) = (0, Vec::new());
    let faults = [("fdatasync,fsync", "EIO"), ("pwrite64", "EROFS"), ("pwrite64", "ENOSPC")];
    for (calls, error) in faults {
        n += 1;
        assert_eq!(post(&site, &process, n, 0).await.0, 200, "it is well before {calls} {error}");
        yes.push(n);
        let failing = Failing::calls(&[process.id()], calls, error);
        let refused = refused(&site, &process, &mut n, &format!("{calls} {error}")).await;
        failing.end();
        // No restart: PayPal sends again what was refused, and it counts once.
        take_again(&site, &process, &refused).await;
        yes.extend(refused);
    }
    drop(process);
    let _again = site.start(&[]);
    each_took_effect_once(&site, yes.len()).await;
}

/// The binary with a disk of its own, of some megabytes, at `disk`: seen by nobody else, and gone with it.
fn start_on_a_small_disk(site: &Site, disk: &Path) -> Process {
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", "mount -t tmpfs -o size=12m tmpfs \"$1\" && exec \"$2\"", "sh"]);
    command.arg(disk).arg(env!("CARGO_BIN_EXE_bellwether"));
    let url = format!("sqlite:{}", disk.join("bellwether.db").display());
    let environment = site.environment();
    let mut all: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    all.extend([("DATABASE_URL", url.as_str()), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")]);
    Process::start_command(command, site.directory.path(), &all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_never_a_yes_and_with_room_again_the_same_daemon_goes_on() {
    let site = Site::new(Engine::Sqlite).await;
    let disk = site.directory.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let process = start_on_a_small_disk(&site, &disk);
    // Its disk, as it sees it.
    let seen = PathBuf::from(format!("/proc/{}/root{}", process.id(), disk.display()));
    let ballast = seen.join("ballast");
    assert!(seen.join("bellwether.db").exists(), "the disk of the process is not to be seen from here");
    let (mut n, mut yes) = (0, Vec::new());
    assert_eq!(post(&site, &process, n, 0).await.0, 200);
    yes.push(n);
    let ballast = Ballast::fill(&ballast);
    let refused = fill_until_refused(&site, &process, &mut n, &mut yes).await;
    drop(ballast);
    for n in refused {
        eventually("it is taken again", async || post(&site, &process, n, 50_000).await.0 == 200).await;
        yes.push(n);
    }
    let http = client();
    for n in yes {
        eventually(&format!("WH-{n} has its effect"), async || {
            let url = format!("http://{}/api/v1/webhooks/WH-{n}", process.api);
            let answer = http.get(url).bearer_auth(OPERATOR).send().await.unwrap().text().await.unwrap();
            answer.contains("\"status\":\"processed\"")
        })
        .await;
    }
}
