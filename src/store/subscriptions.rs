//! Subscriptions that something is due for.

use chrono::{DateTime, Utc};

use super::billing_rows::StoredSubscription;
use super::dialect::{Handle, Tx, by_engine, on, within};
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
        const SQL: &str = select_due!(
            "s.next_action_at <= $1 AND (s.next_action_at > $2 OR (s.next_action_at = $2 AND s.id > $3)) \
             ORDER BY s.next_action_at, s.id LIMIT $4"
        );
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

/// Those of some subscriptions that are due at `now` and that nobody else is at, locked, in the order of their keys so that two
/// never wait for each other.
pub(super) async fn lock_due(
    tx: &mut Tx,
    ids: &[String],
    now: DateTime<Utc>,
) -> Result<Vec<DueSubscription>, StoreError> {
    const SQLITE: &str =
        select_due!("s.next_action_at <= $2 AND s.id IN (SELECT value FROM json_each($1)) ORDER BY s.id");
    const POSTGRES: &str =
        select_due!("s.next_action_at <= $2 AND s.id = ANY($1) ORDER BY s.id FOR UPDATE OF s SKIP LOCKED");
    match tx.handle() {
        Handle::Sqlite(connection, deadline) => {
            let ids = serde_json::to_string(ids).unwrap_or_default();
            let query = sqlx::query_as::<sqlx::Sqlite, DueSubscription>(SQLITE).bind(ids).bind(now);
            within(deadline, query.fetch_all(connection)).await
        }
        Handle::Postgres(connection, route) => {
            let query = sqlx::query_as::<sqlx::Postgres, DueSubscription>(POSTGRES).bind(ids).bind(now);
            within(route.deadline, query.persistent(!route.pooled).fetch_all(connection)).await
        }
    }
}
