//! The planner: wakes, asks the pure schedule what came due, claims it in the ledger, and runs it.
//!
//! It knows what a job is, and no job. Whatever wakes it (the clock, a nudge, tokio-cron-scheduler) only makes it look; what
//! is due follows from the schedule, the ledger and the time alone. Of the instances on one database one plans at a time
//! (`leadership.rs`); what it writes carries its epoch, so that one that was deposed cannot write.

mod clock_watch;
mod dispatch;
mod finisher;
mod leadership;
mod ledger;
mod operations;
mod overdue;
mod plan;
mod planner;
mod planning;
mod runner;
mod status;
mod waker;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::schedule::JobSpec;
use crate::store::Origin;
pub use leadership::Leadership;
pub use ledger::{Ledger, Ticket};
pub use operations::{Backfilled, JobState, Operations, Paused, Refusal, Verb};
pub use plan::{Difference, Expected, compare, expected};
pub use planner::{Planner, PlannerOptions, PrepareError};
pub use status::{Living, Place, Status};
pub use waker::spawn_cron_waker;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// Id of the ledger row.
    pub id: Uuid,
    /// The instant it was due.
    pub slot: DateTime<Utc>,
    /// When it must be done.
    pub deadline: DateTime<Utc>,
    /// Why it runs.
    pub origin: Origin,
    /// Cancelled when it should end: past its deadline, on somebody's word, or because the daemon stops. What has not ended
    /// within its grace after that is cut off.
    pub stop: CancellationToken,
}

/// What a job says of a run that went well: goes into the ledger as JSON.
pub type Report = serde_json::Value;

/// Why a run did not go well; the kind is the decision.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Trying again may help, not before `after`.
    #[error("{message}")]
    Retry {
        /// Wait at least so long, where the other side said so.
        after: Option<Duration>,
        /// What happened.
        message: String,
    },
    /// Trying again will not help.
    #[error("{0}")]
    Fail(String),
    /// One of the others, with what the job reports of the attempt.
    #[error("{fault}")]
    Reported {
        /// Which.
        fault: Box<JobError>,
        /// For the ledger.
        report: Report,
    },
}

impl JobError {
    /// The same with what the job reports of the attempt.
    #[must_use]
    pub fn with(self, report: Report) -> Self {
        Self::Reported { fault: Box::new(self), report }
    }

    /// What the job reports, where it does.
    fn report(&self) -> Option<&Report> {
        match self {
            Self::Reported { report, .. } => Some(report),
            Self::Retry { .. } | Self::Fail(_) => None,
        }
    }

    /// Whether trying again may help, and how long to wait at least.
    fn retry(&self) -> Option<Duration> {
        match self {
            Self::Retry { after, .. } => Some(after.unwrap_or_default()),
            Self::Fail(_) => None,
            Self::Reported { fault, .. } => fault.retry(),
        }
    }
}

/// The future of a run.
pub type RunFuture = Pin<Box<dyn Future<Output = Result<Report, JobError>> + Send>>;

/// The work of a job. It must be idempotent: a run that a crash cut off is run again.
pub trait Job: Send + Sync {
    /// Does it.
    fn run(self: Arc<Self>, context: RunContext) -> RunFuture;
}

/// A line of the job table: when, and what.
#[derive(Clone)]
pub struct Entry {
    /// When.
    pub spec: JobSpec,
    /// What.
    pub job: Arc<dyn Job>,
}
