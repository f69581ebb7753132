//! After a run: whatever still bears its marks is killed, in its process group or not.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal};
use uuid::Uuid;

use super::platform::{self, Handle, Marked};

/// How long the system is given to carry out a SIGKILL; a process that waits for a dead disk takes it only after that.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A process can start another while it is being looked for, so the search is repeated until it finds nothing new.
const MOST_ROUNDS: usize = 20;

/// The processes that this daemon started for `run_id`, or that were started by such a one. Looks through all processes of
/// the host: some milliseconds.
fn left_of(run_id: Uuid) -> Vec<Marked> {
    let mut found = platform::marked();
    found.retain(|process| process.run_id == run_id && process.parent == platform::own_mark());
    found
}

/// What a sweep met.
pub(super) struct Swept {
    /// Processes that it ended.
    pub killed: usize,
    /// Whether nothing is left.
    pub is_clean: bool,
}

/// Kills what is left of a run and waits until it is gone. `None` when the runtime is going away.
pub(super) async fn sweep(run_id: Uuid) -> Option<Swept> {
    let mut seen = BTreeSet::new();
    let sweeping = async {
        loop {
            // Not on the threads that serve: it reads a file of every process.
            let found = tokio::task::spawn_blocking(move || left_of(run_id)).await.ok()?;
            if found.is_empty() {
                return Some(());
            }
            seen.extend(found.iter().map(|process| process.pid));
            join_all(found.into_iter().map(kill)).await;
        }
    };
    let is_clean = match tokio::time::timeout(KILL_PATIENCE, sweeping).await {
        Ok(done) => done.map(|()| true)?,
        Err(_) => false,
    };
    Some(Swept { killed: seen.len(), is_clean })
}

async fn kill(process: Marked) {
    let Some(handle) = Pid::from_raw(process.pid).and_then(Handle::open) else { return };
    // First the hold, then the proof: what is read now is of the process that is held, or that one is gone.
    if platform::inspect(process.pid).as_ref() == Some(&process) && handle.signal(Signal::KILL) {
        handle.ended().await;
    }
}

/// The same where nothing can be waited for: the signals are sent, the system carries them out.
pub(super) fn sweep_at_once(run_id: Uuid) {
    let mut seen = BTreeSet::new();
    for _ in 0..MOST_ROUNDS {
        let before = seen.len();
        for process in left_of(run_id) {
            platform::kill(&process);
            seen.insert(process.pid);
        }
        if seen.len() == before {
            break;
        }
    }
}
