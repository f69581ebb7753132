//! What Linux tells of processes: who they are, for certain, and what marks they bear.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{JOB, PARENT, RUN_ID};

/// The most of an environment that is read; the kernel lets no single value be longer than 128 KiB.
const MAX_ENVIRONMENT: u64 = 4 << 20;

/// A process that a component's run started, or that inherited its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marked {
    pub pid: i32,
    pub run_id: uuid::Uuid,
    pub job: String,
    pub parent: String,
}

/// A hold on one process: whatever becomes of its number, nobody else is ever meant.
pub(super) struct Handle(AsyncFd<OwnedFd>);

impl Handle {
    /// `None` when there is no such process, or the kernel is older than 5.3.
    #[expect(
        deprecated,
        reason = "what took its place is unsafe; the fault is of types whose descriptor can change under them"
    )]
    pub(super) fn open(pid: Pid) -> Option<Self> {
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        AsyncFd::with_interest(descriptor, Interest::READABLE).ok().map(Self)
    }

    /// Whether it could be sent.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(self.0.get_ref(), signal).is_ok()
    }

    /// Returns once it has ended; whoever its parent is may still have to reap it.
    pub(super) async fn ended(&self) {
        // The error can only be that the runtime is shutting down, which drops this future.
        if self.0.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Kills one process, if it still bears `expected` once we hold it.
pub(super) fn kill(expected: &Marked) {
    let Some(pid) = Pid::from_raw(expected.pid) else { return };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if inspect(expected.pid).as_ref() == Some(expected) {
        let _ = pidfd_send_signal(descriptor, Signal::KILL);
    }
}

/// This process, as its children bear it: PID:START:BOOT. A number is used again and again; with the tick it was started
/// at, and the boot that ticks are counted from, it means one process for ever.
pub(super) fn own_mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        let pid = std::process::id().cast_signed();
        identity(pid).unwrap_or_else(|| format!("{pid}::"))
    })
}

/// The PID:START:BOOT of a process that lives.
pub(super) fn identity(pid: i32) -> Option<String> {
    Some(format!("{pid}:{}:{}", started(pid)?, boot()))
}

/// The tick a process that lives was started at. One that has ended and was not reaped yet does not live.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, in which anything can stand.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // Field 22; the state is field 3.
    fields.nth(18)?.parse().ok()
}

/// What stands for a boot that a sandbox does not show (`ProcSubset=pid` in systemd).
const HIDDEN: &str = "hidden";

fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        if id.trim().is_empty() { HIDDEN.to_owned() } else { id.trim().to_owned() }
    })
}

/// Whether the process of a [`PARENT`] mark still lives; `None` for a mark that names no process.
pub(super) fn lives(mark: &str) -> Option<bool> {
    let [pid, start, boot_then] = mark.split(':').collect::<Vec<_>>().try_into().ok()?;
    let pid: i32 = pid.parse().ok().filter(|pid| *pid > 0)?;
    let start: u64 = start.parse().ok()?;
    if boot_then.is_empty() {
        return None;
    }
    // No process outlives its boot, so nothing is lost where one of the two could not be seen; to take a living daemon for a
    // dead one would lose its components.
    let same_boot = boot_then == boot() || boot_then == HIDDEN || boot() == HIDDEN;
    Some(same_boot && started(pid) == Some(start))
}

/// Every marked process that this one may judge. What cannot be read belongs to somebody else.
pub(super) fn marked() -> Vec<Marked> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(inspect).collect()
}

/// The marks of a process of the same user in the same namespace of process numbers; never of this one itself. In another
/// namespace (a container on this host) the numbers in the marks mean other processes.
pub(super) fn inspect(pid: i32) -> Option<Marked> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let ours = pid != std::process::id().cast_signed()
        && fs::metadata(&folder).ok()?.uid() == geteuid().as_raw()
        && namespace(&pid.to_string()) == namespace("self");
    if !ours {
        return None;
    }
    let mut environment = Vec::new();
    fs::File::open(folder.join("environ")).ok()?.take(MAX_ENVIRONMENT).read_to_end(&mut environment).ok()?;
    let value = |name: &str| {
        let entry = |entry: &[u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
        String::from_utf8(environment.split(|byte| *byte == 0).find_map(entry)?).ok()
    };
    let run_id = value(RUN_ID)?.parse().ok()?;
    Some(Marked { pid, run_id, job: value(JOB)?, parent: value(PARENT)? })
}

fn namespace(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}
