//! Subscriptions that something is due for.

use chrono::{DateTime, Utc};

use super::billing_rows::StoredSubscription;
use super::dialect::{Tx, by_engine, on};
use super::{Store, StoreError};
use crate::billing::Subscription;

/// A due subscription as it is stored, not yet understood: one that cannot be must not hide the others.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DueSubscription {
    /// Key of the row.
    pub id: String,
    /// The site's name for the account.
    pub user_id: String,
    /// When something is due of itself.
    pub next_action_at: Option<DateTime<Utc>>,
    /// The account's balance of paid invites.
    pub credits: i64,
    #[sqlx(flatten)]
    pub(super) stored: StoredSubscription,
}

impl DueSubscription {
    /// Where it stands.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] for a status or a cycle this version does not know.
    pub fn subscription(&self) -> Result<Subscription, StoreError> {
        self.stored.subscription().map_err(|fault| match fault {
            StoreError::Unreadable(fault) => StoreError::Unreadable(format!("subscription {}: {fault}", self.id)),
            fault => fault,
        })
    }

    /// Plan, e.g. `gold`.
    pub fn plan(&self) -> &str {
        &self.stored.plan
    }

    /// How often it is paid, as stored.
    pub fn billing_cycle(&self) -> &str {
        &self.stored.billing_cycle
    }
}

/// A page of what is due, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct DuePage<'a> {
    /// Due by then.
    pub at: DateTime<Utc>,
    /// The key of the last row of the page before.
    pub after: Option<(DateTime<Utc>, &'a str)>,
    /// Rows at most.
    pub limit: u32,
}

macro_rules! select_due {
    ($suffix:literal) => {
        concat!(
            "SELECT s.id, s.user_id, s.next_action_at, CAST((SELECT COALESCE(SUM(c.delta), 0) FROM credits c \
             WHERE c.user_id = s.user_id) AS BIGINT) AS credits, s.plan, s.billing_cycle, s.status, s.auto_renew, \
             s.current_period_end, s.anchor_at, s.anchor_months, s.next_terms_at, s.next_plan, s.next_cycle, s.lapsed, \
             s.lapse_end, s.lapse_status, s.link_id, s.opening_end, s.opening_plan, s.opening_cycle, s.opening_auto_renew, s.choice_at, \
             s.choice_auto_renew FROM subscriptions s WHERE ",
            $suffix
        )
    };
}

macro_rules! select_page {
    ($lock:literal) => {
        concat!(
            select_due!(
                "s.next_action_at <= $1 AND (s.next_action_at > $2 OR (s.next_action_at = $2 AND s.id > $3)) \
                 ORDER BY s.next_action_at, s.id LIMIT $4"
            ),
            $lock
        )
    };
}

impl Store {
    /// A page of subscriptions that are due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_subscriptions(&self, page: DuePage<'_>) -> Result<Vec<DueSubscription>, StoreError> {
        let (instant, id) = page.after.unwrap_or((DateTime::UNIX_EPOCH, ""));
        let (sql, limit) = (select_page!(""), i64::from(page.limit));
        let mut connection = self.reader().await?;
        on!(connection.handle(), DueSubscription, sql, [page.at, instant, id, limit], fetch_all)
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

    /// The subscription of an account, with its balance.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn subscription_of(&self, user_id: &str) -> Result<Option<DueSubscription>, StoreError> {
        const SQL: &str = select_due!("s.user_id = $1");
        let mut connection = self.reader().await?;
        on!(connection.handle(), DueSubscription, SQL, [user_id], fetch_optional)
    }
}

/// One subscription, locked.
pub(super) async fn lock_one(tx: &mut Tx, id: &str) -> Result<Option<DueSubscription>, StoreError> {
    let sql = by_engine(&tx.handle(), select_due!("s.id = $1"), select_due!("s.id = $1 FOR UPDATE OF s"));
    on!(tx.handle(), DueSubscription, sql, [id], fetch_optional)
}

/// A page of what is due, locked; without those that somebody else is at, so that two never wait for each other.
pub(super) async fn lock_due(tx: &mut Tx, page: DuePage<'_>) -> Result<Vec<DueSubscription>, StoreError> {
    let (instant, id) = page.after.unwrap_or((DateTime::UNIX_EPOCH, ""));
    let sql = by_engine(&tx.handle(), select_page!(""), select_page!(" FOR UPDATE OF s SKIP LOCKED"));
    on!(tx.handle(), DueSubscription, sql, [page.at, instant, id, i64::from(page.limit)], fetch_all)
}
