//! The `history` job: rows past their retention are forgotten, so that a daemon that runs for years stays the same size.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::clock::SharedClock;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};
use crate::store::{RunState, Store, StoreError};

use super::{HISTORY, inbox};

/// The longest that two sessions, and so two runs of this job, are apart without anything being wrong. What became too old in a longer
/// gap is forgotten a run later: a clock that was set on by a year makes the whole ledger too old at once, and somebody may still
/// notice.
const LONGEST_GAP: TimeDelta = TimeDelta::days(7);

/// The bodies of webhooks are kept for so long at least; their ids for ever.
const BODIES_KEPT: TimeDelta = TimeDelta::days(400);

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
            let Some(before) = self.horizon().await.map_err(retry)? else {
                return Ok(json!({ "runs_forgotten": 0, "cycles_forgotten": 0, "reason": "the first time" }));
            };
            let runs = self.store.prune_runs(before).await.map_err(retry)?;
            let cycles = self.store.prune_cycles(before).await.map_err(retry)?;
            let bodies =
                self.store.prune_event_bodies(before.min(self.clock.now() - BODIES_KEPT)).await.map_err(retry)?;
            let refusals = self.clock.now() - inbox::REFUSALS_KEPT;
            self.store.prune_refusals(refusals, inbox::MOST_REFUSALS).await.map_err(retry)?;
            Ok(json!({ "runs_forgotten": runs, "cycles_forgotten": cycles, "webhook_bodies_forgotten": bodies }))
        })
    }
}

impl Retention {
    /// What is older is forgotten; nothing until the job went well for the first time.
    async fn horizon(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let last = self.store.last_runs().await?.get(&(HISTORY.to_owned(), RunState::Ok)).copied();
        let keep = TimeDelta::from_std(self.keep).unwrap_or(TimeDelta::MAX);
        Ok(last.map(|last| self.clock.now().min(last + LONGEST_GAP) - keep))
    }
}

/// A database that fails now may not fail in a moment.
pub(super) fn retry(fault: StoreError) -> JobError {
    JobError::Retry { after: None, message: fault.to_string() }
}
