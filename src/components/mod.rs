//! Components: commands of the site itself (its news scraper, its mailer) that the daemon starts, listens to and ends.
//!
//! Each run is a process group of its own, marked by its environment, so that nothing it started is left behind: not at
//! its end, not when it is dropped, and not after a kill -9 of the daemon, whose next start finds the marks
//! ([`orphans`]). It knows no scheduler, no ledger and no market.

#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod platform;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;

pub mod orphans;
mod output;
mod process;
mod sweep;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use crate::config::{COMPONENT_MARKS, ComponentConfig, ComponentRuns};
pub use process::run;

/// The variable that says which run of the ledger a process belongs to.
pub const RUN_ID: &str = COMPONENT_MARKS[0];
/// The variable that says which slot it was started for.
pub const SLOT: &str = COMPONENT_MARKS[1];
/// The variable that says which component it is.
pub const JOB: &str = COMPONENT_MARKS[2];
/// The variable that says which daemon started it: PID:START:BOOT.
pub const PARENT: &str = COMPONENT_MARKS[3];

/// A command, and how it is run.
#[derive(Debug, Clone)]
pub struct Command {
    /// The component's name.
    pub name: &'static str,
    /// The program, absolute or found through the `PATH` in `environment`, and its arguments.
    pub argv: Vec<String>,
    /// Where it runs; `None` for where the daemon does.
    pub directory: Option<PathBuf>,
    /// Its whole environment, our marks aside. The values are the configuration's to choose and nobody's to print.
    pub environment: BTreeMap<String, SecretString>,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// The longest it may run; `None` for as long as nobody stops it.
    pub time_limit: Option<Duration>,
    /// What becomes of its output.
    pub limits: Limits,
}

impl Command {
    /// As the configuration says.
    pub fn of(config: &ComponentConfig) -> Self {
        let time_limit = match &config.runs {
            ComponentRuns::AtSlots { time_limit, .. } => Some(*time_limit),
            ComponentRuns::WhilePhases { .. } => None,
        };
        Self {
            name: config.name,
            argv: config.command.clone(),
            directory: config.directory.clone(),
            environment: config.environment.clone(),
            stop_grace: config.stop_grace,
            time_limit,
            limits: Limits::default(),
        }
    }
}

/// How much of a component's output is taken.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a line; the rest of it is counted and left out.
    pub line_bytes: usize,
    /// Lines a run may log a second, on average; the rest is counted and left out.
    pub lines_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 4_096, lines_per_second: 50 }
    }
}

/// Which run a process belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Id of the ledger row.
    pub run_id: Uuid,
    /// The instant it was due.
    pub slot: DateTime<Utc>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with a code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A run that is over, with everything it had started.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How its first process ended.
    pub exit: Exit,
    /// Whether we had asked it to end.
    pub stopped: bool,
    /// Whether it had to be ended because its time was over.
    pub timed_out: bool,
    /// Whether it did not heed SIGTERM and was killed.
    pub killed: bool,
    /// The last lines it wrote, as they may be shown.
    pub last_lines: Vec<String>,
    /// Lines it wrote.
    pub lines: u64,
    /// Bytes it wrote.
    pub bytes: u64,
    /// Lines that were not logged, because they were too many.
    pub left_out: u64,
    /// How long it ran.
    pub took: Duration,
}

impl Ended {
    /// Whether it did what it was there for.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Code(0) && !self.timed_out
    }

    /// For the ledger.
    pub fn report(&self) -> serde_json::Value {
        let (code, signal) = match self.exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        json!({
            "exit_code": code,
            "signal": signal,
            "stopped": self.stopped,
            "timed_out": self.timed_out,
            "killed": self.killed,
            "duration_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "lines": self.lines,
            "bytes": self.bytes,
            "left_out": self.left_out,
            "last_lines": self.last_lines,
        })
    }

    /// How it ended, and the last thing it said.
    pub fn summary(&self) -> String {
        let how = match (self.timed_out, self.killed) {
            (true, _) => format!("not done within its time limit, ended with {}", self.exit),
            (false, true) => format!("did not heed SIGTERM, ended with {}", self.exit),
            (false, false) => format!("ended with {}", self.exit),
        };
        match self.last_lines.last() {
            Some(line) => format!("{how}: {line}"),
            None => how,
        }
    }
}

/// Why there is no end to tell of.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// There is nothing to start.
    #[error("the command is empty")]
    Empty,
    /// The program could not be started.
    #[error("{program} could not be started: {fault}")]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        fault: std::io::Error,
    },
    /// It was started, and the system would not say what became of it. Its process group was killed.
    #[error("the system lost track of it: {0}")]
    Lost(std::io::Error),
}

#[cfg(test)]
mod tests;
