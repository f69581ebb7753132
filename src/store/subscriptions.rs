//! Subscriptions that something is due for, and what was decided about them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::dialect::{Tx, by_engine, on};
use super::{Store, StoreError};
use crate::billing::{BillingCycle, Decision, Status, Subscription};

/// A subscription with its key.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionRow {
    /// Key of the row.
    pub id: String,
    /// The site's name for the account.
    pub user_id: String,
    /// Plan, e.g. `gold`.
    pub plan: String,
    /// When something is due of itself.
    pub next_action_at: Option<DateTime<Utc>>,
    /// What the rules look at.
    pub subscription: Subscription,
}

/// What is written of a decision.
#[derive(Debug, Clone)]
pub struct RenewalRow {
    /// UUIDv7.
    pub id: Uuid,
    /// The run it was decided in.
    pub run_id: Uuid,
    /// When.
    pub decided_at: DateTime<Utc>,
}

/// A due subscription as it is stored, not yet understood: one that cannot be must not hide the others.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DueSubscription {
    /// Key of the row.
    pub id: String,
    /// The site's name for the account.
    pub user_id: String,
    /// Plan, e.g. `gold`.
    pub plan: String,
    /// How often it is paid, as stored.
    pub billing_cycle: String,
    status: String,
    auto_renew: bool,
    current_period_end: DateTime<Utc>,
    /// When something is due of itself.
    pub next_action_at: Option<DateTime<Utc>>,
}

impl DueSubscription {
    /// What the rules look at.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for a status or a cycle this version does not know.
    pub fn subscription(&self) -> Result<Subscription, StoreError> {
        let unreadable = |fault: String| StoreError::Unreadable(format!("subscription {}: {fault}", self.id));
        Ok(Subscription {
            status: self.status.parse::<Status>().map_err(unreadable)?,
            billing_cycle: self.billing_cycle.parse::<BillingCycle>().map_err(unreadable)?,
            auto_renew: self.auto_renew,
            current_period_end: self.current_period_end,
        })
    }
}

impl TryFrom<DueSubscription> for SubscriptionRow {
    type Error = StoreError;

    fn try_from(row: DueSubscription) -> Result<Self, StoreError> {
        let subscription = row.subscription()?;
        let DueSubscription { id, user_id, plan, next_action_at, .. } = row;
        Ok(Self { id, user_id, plan, next_action_at, subscription })
    }
}

macro_rules! select_one {
    ($suffix:literal) => {
        concat!(
            "SELECT id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, next_action_at \
             FROM subscriptions WHERE id = $1",
            $suffix
        )
    };
}

impl Store {
    /// Subscriptions due at `now`, oldest first, from after the key `after` (pass the last row of the page before).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_subscriptions(
        &self,
        now: DateTime<Utc>,
        after: Option<(DateTime<Utc>, &str)>,
        limit: u32,
    ) -> Result<Vec<DueSubscription>, StoreError> {
        const SQL: &str = "SELECT id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, next_action_at \
             FROM subscriptions WHERE next_action_at <= $1 \
             AND (next_action_at > $2 OR (next_action_at = $2 AND id > $3)) ORDER BY next_action_at, id LIMIT $4";
        let (instant, id) = after.unwrap_or((DateTime::UNIX_EPOCH, ""));
        let mut connection = self.reader().await?;
        on!(connection.handle(), DueSubscription, SQL, [now, instant, id, i64::from(limit)], fetch_all)
    }

    /// How many subscriptions are due at `now`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_due_subscriptions(&self, now: DateTime<Utc>) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT COUNT(*) FROM subscriptions WHERE next_action_at <= $1";
        let mut connection = self.reader().await?;
        let (count,) = on!(connection.handle(), (i64,), SQL, [now], fetch_one)?;
        Ok(count)
    }

    /// Decides about one subscription and makes it so, in one transaction: the row is locked, `decide` sees it as it is
    /// now, and the new state, the moved `next_action_at` and the record of it are written together. `None`: nothing was
    /// due any more, or this period was decided before; then nothing changed.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn renew(
        &self,
        id: &str,
        row: &RenewalRow,
        decide: impl FnOnce(&SubscriptionRow) -> Decision,
    ) -> Result<Option<(SubscriptionRow, Decision)>, StoreError> {
        let mut tx = self.begin().await?;
        let sql = by_engine(&tx.handle(), select_one!(""), select_one!(" FOR UPDATE"));
        let Some(found) = on!(tx.handle(), DueSubscription, sql, [id], fetch_optional)? else { return Ok(None) };
        let before = SubscriptionRow::try_from(found)?;
        if before.next_action_at.is_none_or(|due| due > row.decided_at) {
            return Ok(None);
        }
        let decision = decide(&before);
        write_decision(&mut tx, &before, &decision, row).await?;
        tx.commit().await?;
        Ok(Some((before, decision)))
    }
}

async fn write_decision(
    tx: &mut Tx,
    before: &SubscriptionRow,
    decision: &Decision,
    row: &RenewalRow,
) -> Result<(), StoreError> {
    const UPDATE: &str = "UPDATE subscriptions SET status = $2, next_action_at = $3, updated_at = $4 WHERE id = $1";
    // A period that was decided before keeps its first record; the row still leaves the queue.
    const INSERT: &str = "INSERT INTO renewals (id, subscription_id, period_end, run_id, action, status_before, \
         status_after, decided_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (subscription_id, period_end) DO NOTHING";
    let after = decision.status_after(before.subscription.status);
    on!(tx.handle(), UPDATE, [&before.id, after.name(), decision.next_action_at(), row.decided_at])?;
    if decision.takes_effect() {
        let (id, run_id) = (row.id.to_string(), row.run_id.to_string());
        let (action, status_before) = (decision.action(), before.subscription.status.name());
        let period_end = before.subscription.current_period_end;
        let status_after = after.name();
        on!(
            tx.handle(),
            INSERT,
            [id, &before.id, period_end, run_id, action, status_before, status_after, row.decided_at]
        )?;
    }
    Ok(())
}
