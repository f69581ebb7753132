//! One run of a command, from its start until nothing of it is left.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use chrono::SecondsFormat;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use tokio::process::Child;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::output::Output;
use super::platform::{self, Handle};
use super::sweep::{Swept, sweep, sweep_at_once};
use super::{Command, ComponentError, Ended, Exit, JOB, Mark, PARENT, RUN_ID, SLOT};
use crate::clock::SystemClock;

/// How long the pipes are still read once the process has ended: somebody who is not ours any more may hold them open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs `command` to its end, or until `stop`: then SIGTERM to its process group, and after the grace SIGKILL. Returns when
/// everything it had started is gone too. Dropped before that, it kills the same at once.
///
/// # Errors
/// When it could not be started, or the system would not tell its end.
pub async fn run(command: &Command, mark: &Mark, stop: &CancellationToken) -> Result<Ended, ComponentError> {
    // A process lives in real time, whatever time the daemon rehearses: its limits and graces are the host's.
    let clock = SystemClock::start();
    let mut child = spawn(command, mark)?;
    let mut group = Group::of(&child, mark.run_id)?;
    let output = Output::new(command, mark.run_id, &clock);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut reading = pin!(async { tokio::join!(output.read("stdout", stdout), output.read("stderr", stderr)) });
    let mut is_read = false;
    let end = {
        let mut ending = pin!(end(&mut child, &mut group, command, stop));
        loop {
            tokio::select! {
                end = &mut ending => break end,
                _ = &mut reading, if !is_read => is_read = true,
            }
        }
    };
    if !is_read && tokio::time::timeout(LAST_WORDS, &mut reading).await.is_err() {
        info!(component = command.name, run_id = %mark.run_id, "somebody still holds its pipes open; not waited for");
    }
    let (end, taken) = (end.map_err(ComponentError::Lost)?, output.finish());
    Ok(Ended {
        exit: end.exit,
        stopped: end.why == Some(Why::Stopped),
        timed_out: end.why == Some(Why::TimeLimit),
        killed: end.killed,
        last_lines: taken.last_lines(),
        lines: taken.lines,
        bytes: taken.bytes,
        left_out: taken.left_out,
        took: clock.monotonic(),
    })
}

fn spawn(command: &Command, mark: &Mark) -> Result<Child, ComponentError> {
    let (program, arguments) = command.argv.split_first().ok_or(ComponentError::Empty)?;
    let mut building = tokio::process::Command::new(program);
    building.args(arguments).env_clear();
    building.envs(command.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    building
        .env(RUN_ID, mark.run_id.to_string())
        .env(SLOT, mark.slot.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        .env(JOB, command.name)
        .env(PARENT, platform::own_mark());
    if let Some(directory) = &command.directory {
        building.current_dir(directory);
    }
    building.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    building.spawn().map_err(|fault| ComponentError::NotStarted { program: program.clone(), fault })
}

/// Why a process was ended that had not ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Stopped,
    TimeLimit,
}

struct End {
    exit: Exit,
    why: Option<Why>,
    killed: bool,
}

/// Waits for the end of the first process, or brings it about, and ends what it leaves.
async fn end(child: &mut Child, group: &mut Group, command: &Command, stop: &CancellationToken) -> io::Result<End> {
    let handle = Handle::open(group.id);
    let limit = command.time_limit.unwrap_or(Duration::MAX);
    let why = tokio::select! {
        ended = tokio::time::timeout(limit, leader_ended(handle.as_ref(), child)) => match ended {
            Ok(ended) => ended.map(|()| None)?,
            Err(_) => Some(Why::TimeLimit),
        },
        () = stop.cancelled() => Some(Why::Stopped),
    };
    let mut killed = false;
    if why.is_some() {
        group.signal(Signal::TERM);
        if tokio::time::timeout(command.stop_grace, leader_ended(handle.as_ref(), child)).await.is_err() {
            killed = true;
            group.signal(Signal::KILL);
            leader_ended(handle.as_ref(), child).await?;
        }
    }
    // The first process is not reaped yet, so the number of the group cannot have come to mean another one.
    group.signal(Signal::KILL);
    let status = child.wait().await?;
    group.is_reaped = true;
    group.sweep(command.name).await;
    Ok(End { exit: exit_of(status), why, killed })
}

/// Returns once the first process has ended. Without a hold on it, waiting is reaping.
async fn leader_ended(handle: Option<&Handle>, child: &mut Child) -> io::Result<()> {
    match handle {
        Some(handle) => {
            handle.ended().await;
            Ok(())
        }
        None => child.wait().await.map(drop),
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    // A status without a code has a signal; the other way about it would be a stopped process, which is not waited for.
    status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code)
}

/// The processes of one run. Dropped before they are gone, it ends them.
struct Group {
    id: Pid,
    run_id: Uuid,
    is_reaped: bool,
    is_swept: bool,
}

impl Group {
    fn of(child: &Child, run_id: Uuid) -> Result<Self, ComponentError> {
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| ComponentError::Lost(io::ErrorKind::NotFound.into()))?;
        Ok(Self { id, run_id, is_reaped: false, is_swept: false })
    }

    /// An empty group is nobody to signal: that is what we want, not a fault.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.id, signal);
    }

    async fn sweep(&mut self, name: &'static str) {
        let Some(Swept { killed, is_clean }) = sweep(self.run_id).await else { return };
        self.is_swept = true;
        if !is_clean {
            warn!(component = name, run_id = %self.run_id, killed, "not everything it started could be killed");
        } else if killed > 0 {
            info!(component = name, run_id = %self.run_id, killed, "killed what it had left behind");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
        }
        if !self.is_swept {
            sweep_at_once(self.run_id);
        }
    }
}
