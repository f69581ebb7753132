//! Orphans: processes of components whose daemon is gone, by kill -9 or a crash of the host's making.
//!
//! What is proved: the process belongs to our user, lives in our namespace of process numbers, bears the marks of a run that
//! is in our ledger, and the daemon that the marks name (by number, start and boot) does not live. What has cleared its own
//! environment, changed its user, or runs on another system than Linux cannot be proved and is left alone.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal};
use uuid::Uuid;

use super::platform::{self, Handle, Marked};

/// How long the system is given to carry out a SIGKILL; a process that waits for a dead disk takes it only after that.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A process of a component whose daemon does not live any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its number.
    pub pid: i32,
    /// The run it belongs to.
    pub run_id: Uuid,
    /// The component.
    pub job: String,
    /// The daemon that started it: PID:START:BOOT.
    pub parent: String,
}

/// How an orphan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It heeded SIGTERM.
    Terminated,
    /// It was killed.
    Killed,
    /// It was gone, or not provably ours, when we had hold of it; nothing was done.
    LeftAlone,
    /// It was sent SIGKILL and is still there.
    Remains,
}

/// An orphan and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedOrphan {
    /// The process.
    pub orphan: Orphan,
    /// Its end.
    pub outcome: Outcome,
}

impl From<Marked> for Orphan {
    fn from(process: Marked) -> Self {
        let Marked { pid, run_id, job, parent } = process;
        Self { pid, run_id, job, parent }
    }
}

/// Looks for orphans, of our own runs or not. Reads a file of every process of the host.
pub fn find() -> Vec<Orphan> {
    platform::marked().into_iter().filter(is_orphan).map(Orphan::from).collect()
}

/// A mark that names no process proves nothing.
fn is_orphan(process: &Marked) -> bool {
    platform::lives(&process.parent) == Some(false)
}

/// Ends those of `orphans` whose run is one of `ours` (the runs of our ledger): SIGTERM, after `grace` SIGKILL. Those of a
/// foreign run are not touched and not in the answer.
pub async fn end(orphans: Vec<Orphan>, ours: &HashSet<Uuid>, grace: Duration) -> Vec<EndedOrphan> {
    let proved = orphans.into_iter().filter(|orphan| ours.contains(&orphan.run_id));
    join_all(proved.map(|orphan| end_one(orphan, grace))).await
}

async fn end_one(orphan: Orphan, grace: Duration) -> EndedOrphan {
    let outcome = match hold(&orphan) {
        None => Outcome::LeftAlone,
        Some(handle) if !handle.signal(Signal::TERM) => Outcome::LeftAlone,
        Some(handle) if tokio::time::timeout(grace, handle.ended()).await.is_ok() => Outcome::Terminated,
        Some(handle) => {
            handle.signal(Signal::KILL);
            match tokio::time::timeout(KILL_PATIENCE, handle.ended()).await {
                Ok(()) => Outcome::Killed,
                Err(_) => Outcome::Remains,
            }
        }
    };
    EndedOrphan { orphan, outcome }
}

/// First the hold, then the proof: what is read afterwards is of the process that is held, or that one is gone and the
/// signal reaches nobody.
fn hold(orphan: &Orphan) -> Option<Handle> {
    let handle = Handle::open(Pid::from_raw(orphan.pid)?)?;
    let found = platform::inspect(orphan.pid).filter(is_orphan).map(Orphan::from)?;
    (found == *orphan).then_some(handle)
}
