//! The `dunning` job: who is past due is reminded at the days that are configured, each reminder once.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::retention::retry;
use crate::billing::reminder_due;
use crate::clock::SharedClock;
use crate::scheduler::{Job, RunContext, RunFuture};
use crate::store::{PastDue, Reminder, Store, StoreError};

/// Subscriptions read at a time.
const BATCH: u32 = 200;

/// The most results that are listed one by one; all are counted.
pub const MOST_RESULTS: usize = 1_000;

/// Reminds.
#[derive(Debug)]
pub struct Dunning {
    /// Where subscriptions and the outbox are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// Days past due of each reminder, rising.
    pub days: Vec<i64>,
}

/// One reminder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reminded {
    /// Whom.
    pub user_id: String,
    /// Of which plan.
    pub plan: String,
    /// How often it is paid.
    pub billing_cycle: String,
    /// Which, e.g. `dunning_1`.
    pub action: String,
    /// What is written in it.
    #[serde(skip)]
    pub details: Value,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dunned {
    /// Subscriptions that are past due.
    pub processed: usize,
    /// Of these, reminded now.
    pub notified: usize,
    /// The first thousand of those, one by one.
    pub results: Vec<Reminded>,
}

impl Reminded {
    fn of(reminder: Reminder) -> Self {
        let (action, details) = (reminder.step(), reminder.details());
        let PastDue { user_id, plan, billing_cycle, .. } = reminder.of;
        Self { user_id, plan, billing_cycle, action, details }
    }
}

impl Dunning {
    /// Puts reminders that are due into the outbox, at most `limit`.
    ///
    /// # Errors
    /// When the database fails; what was put there before stays.
    pub async fn process(&self, limit: usize, dry_run: bool) -> Result<Dunned, StoreError> {
        let now = self.clock.now();
        let (mut dunned, mut after) = (Dunned::default(), String::new());
        while dunned.notified < limit {
            let page = self.store.past_due(&after, BATCH).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            dunned.processed += page.len();
            let due = page.into_iter().filter_map(|of| {
                let number = reminder_due(of.current_period_end, now, &self.days)?;
                Some(Reminder { of, number })
            });
            let new = self.store.remind(due.collect(), limit - dunned.notified, now, dry_run).await?;
            dunned.notified += new.len();
            let room = MOST_RESULTS - dunned.results.len();
            dunned.results.extend(new.into_iter().take(room).map(Reminded::of));
        }
        Ok(dunned)
    }
}

impl Job for Dunning {
    fn run(self: Arc<Self>, _context: RunContext) -> RunFuture {
        Box::pin(async move {
            let dunned = self.process(usize::MAX, false).await.map_err(retry)?;
            Ok(json!({ "past_due": dunned.processed, "notified": dunned.notified }))
        })
    }
}
