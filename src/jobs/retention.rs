//! The `history` job: the session that is over is rolled up, the provider's daily bars and splits are taken in, and rows past their retention are forgotten, so that a
//! daemon that runs for years stays the same size.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tracing::warn;

use crate::clock::SharedClock;
use crate::config::HistoryConfig;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};
use crate::store::{RunState, Store, StoreError};

use super::roll_up::CYCLES_STAY;
use super::{HISTORY, MarketData, inbox};

/// The longest that two sessions, and so two runs of this job, are apart without anything being wrong. What became too old in a longer
/// gap is forgotten a run later: a clock that was set on by a year makes the whole ledger too old at once, and somebody may still
/// notice.
const LONGEST_GAP: TimeDelta = TimeDelta::days(7);

/// The bodies of webhooks are kept for so long at least; their ids for ever.
const BODIES_KEPT: TimeDelta = TimeDelta::days(400);

/// How far back splits are asked for: sources correct what they have said.
const SPLITS_SINCE: TimeDelta = TimeDelta::days(30);

/// How long the answer to a call with an `Idempotency-Key` is kept: no caller tries again for longer.
const KEYS_KEPT: TimeDelta = TimeDelta::days(7);

/// The longest that splits may be asked for.
const SPLITS_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// The longest that daily bars may be asked for: a universe in hundreds at a call a second.
const BARS_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// Rolls up, and forgets what is older than the retention.
#[derive(Debug)]
pub struct Retention {
    /// Where the rows are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// How long rows of the ledger and of cycles are kept.
    pub keep: Duration,
    /// How long the past is kept.
    pub history: HistoryConfig,
    /// The past, and where it comes from.
    pub market: Arc<MarketData>,
}

impl Job for Retention {
    fn run(self: Arc<Self>, _context: RunContext) -> RunFuture {
        Box::pin(async move {
            // What is shown and not stored yet belongs to the session too.
            self.market.write_behind().drain().await.map_err(|fault| retry_later(&fault))?;
            let rolled_up = self.market.history().roll_up().await.map_err(retry)?;
            let bars = self.take_last_bars().await;
            let splits = self.take_splits().await;
            self.market.history().has_changed();
            let (runs, cycles, bodies) = match self.horizon().await.map_err(retry)? {
                // The first time.
                None => (0, 0, 0),
                Some(before) => {
                    let runs = self.store.prune_runs(before).await.map_err(retry)?;
                    let cycles = self.store.prune_cycles(before).await.map_err(retry)?;
                    let bodies = before.min(self.clock.now() - BODIES_KEPT);
                    let bodies = self.store.prune_event_bodies(bodies).await.map_err(retry)?;
                    let refusals = self.clock.now() - inbox::REFUSALS_KEPT;
                    self.store.prune_refusals(refusals, inbox::MOST_REFUSALS).await.map_err(retry)?;
                    self.store.prune_letters(before).await.map_err(retry)?;
                    self.store.prune_paid_words(self.clock.now() - KEYS_KEPT).await.map_err(retry)?;
                    (runs, cycles, bodies)
                }
            };
            let history = self.forget_history().await.map_err(retry)?;
            Ok(json!({
                "rolled_up": rolled_up, "daily_bars": bars, "splits": splits, "runs_forgotten": runs, "cycles_forgotten": cycles,
                "history_forgotten": history, "webhook_bodies_forgotten": bodies,
            }))
        })
    }
}

impl Retention {
    /// Takes in the splits of late, where the provider knows any. Without them the session is rolled up all the same.
    async fn take_splits(&self) -> Option<usize> {
        let now = self.clock.now();
        match self.market.take_splits((now - SPLITS_SINCE).date_naive(), now + SPLITS_WITHIN).await {
            Ok(taken) => taken,
            Err(fault) => {
                warn!(error = %fault, "splits could not be taken in; the next run asks again");
                None
            }
        }
    }

    /// Takes the provider's own bars of the last sessions. Without them the bars of the cycles stand.
    async fn take_last_bars(&self) -> Option<usize> {
        match self.market.take_last_bars(self.clock.now() + BARS_WITHIN).await {
            Ok(taken) => taken,
            Err(fault) => {
                warn!(error = %fault, "daily bars could not be taken from the provider; the next run asks again");
                None
            }
        }
    }

    async fn forget_history(&self) -> Result<u64, StoreError> {
        let Some(last) = self.market.history().session_of(self.clock.now()) else { return Ok(0) };
        let before = |days: u16| last - TimeDelta::days(i64::from(days));
        let HistoryConfig { points_days, bars_15m_days } = self.history;
        self.store.prune_history(before(points_days), before(bars_15m_days), last - CYCLES_STAY).await
    }

    /// What is older is forgotten; nothing until the job went well for the first time.
    async fn horizon(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let last = self.store.last_runs().await?.get(&(HISTORY.to_owned(), RunState::Ok)).copied();
        let keep = TimeDelta::from_std(self.keep).unwrap_or(TimeDelta::MAX);
        Ok(last.map(|last| self.clock.now().min(last + LONGEST_GAP) - keep))
    }
}

/// A database that fails now may not fail in a moment.
pub(super) fn retry(fault: StoreError) -> JobError {
    retry_later(&fault)
}

fn retry_later(fault: &impl std::fmt::Display) -> JobError {
    JobError::Retry { after: None, message: fault.to_string() }
}
