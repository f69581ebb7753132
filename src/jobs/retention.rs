//! The `history` job: rows past their retention are forgotten, so that a daemon that runs for years stays the same size.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;

use crate::clock::SharedClock;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};
use crate::store::{Store, StoreError};

/// Forgets what is older than the retention.
#[derive(Debug)]
pub struct Retention {
    /// Where the rows are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// How long rows are kept.
    pub keep: Duration,
}

impl Job for Retention {
    fn run(self: Arc<Self>, _context: RunContext) -> RunFuture {
        Box::pin(async move {
            let before = self.clock.now() - TimeDelta::from_std(self.keep).unwrap_or(TimeDelta::MAX);
            let runs = self.store.prune_runs(before).await.map_err(retry)?;
            let cycles = self.store.prune_cycles(before).await.map_err(retry)?;
            Ok(json!({ "runs_forgotten": runs, "cycles_forgotten": cycles }))
        })
    }
}

/// A database that fails now may not fail in a moment.
pub(super) fn retry(fault: StoreError) -> JobError {
    JobError::Retry { after: None, message: fault.to_string() }
}
