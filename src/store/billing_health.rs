//! What of billing an operator should look at.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::dialect::on;
use super::{Store, StoreError};

/// Counts of what should not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, sqlx::FromRow)]
pub struct BillingHealth {
    /// Subscriptions that were due more than a day ago.
    pub overdue: i64,
    /// Periods whose payment the provider did not confirm yet.
    pub in_doubt: i64,
    /// Flags that nobody has settled.
    pub flags: i64,
    /// Subscriptions that were to end at PayPal more than an hour ago, and have not.
    pub unended: i64,
    /// Payments of which it is not known, for more than a day, whose they are.
    pub ownerless: i64,
    /// Money that went back more than a day ago of payments that are not in the books, and that nobody has settled: whatever it had paid
    /// for is had still. What never came (a denial) is none.
    pub unbooked: i64,
    /// Accounts for which more than one subscription has run at PayPal for more than a day: their holders pay twice.
    pub doubled: i64,
    /// Subscriptions that have run at PayPal for more than a day although their accounts are given up, and that nobody asks PayPal to
    /// end: their holders pay against their word.
    pub running_on: i64,
}

/// What an operator must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct BillingFlag {
    /// When it was seen.
    pub at: DateTime<Utc>,
    /// `wrong_amount`, `unknown_plan`, `taken_back` or `dispute`.
    pub code: String,
    /// In words.
    pub detail: String,
    /// The event that made it.
    pub cause: String,
    /// When an operator has settled it.
    pub resolved_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The flags of an account, the oldest first, also those that are settled.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn flags_of(&self, user_id: &str) -> Result<Vec<BillingFlag>, StoreError> {
        const SQL: &str =
            "SELECT at, code, detail, cause, resolved_at FROM billing_flags WHERE account = $1 ORDER BY at, id";
        let mut connection = self.reader().await?;
        on!(connection.handle(), BillingFlag, SQL, [user_id], fetch_all)
    }

    /// Looks.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn billing_health(&self, now: DateTime<Utc>) -> Result<BillingHealth, StoreError> {
        const SQL: &str = "WITH running AS (SELECT DISTINCT runs.user_id, runs.link_id FROM billing_links runs \
             WHERE runs.user_id IS NOT NULL AND runs.change = 'activated' AND runs.at < $1 AND NOT EXISTS \
             (SELECT 1 FROM billing_links ended WHERE ended.link_id = runs.link_id AND ended.at >= runs.at \
             AND ended.change IN ('suspended', 'canceled', 'expired'))) \
             SELECT (SELECT COUNT(*) FROM subscriptions WHERE next_action_at < $1) AS overdue, \
             (SELECT COUNT(*) FROM renewals WHERE action IN ('confirming', 'uncertain')) AS in_doubt, \
             (SELECT COUNT(*) FROM billing_flags WHERE resolved_at IS NULL) AS flags, \
             (SELECT COUNT(*) FROM cancellations WHERE state = 'wanted' AND requested_at < $2) AS unended, \
             (SELECT COUNT(*) FROM payments WHERE user_id IS NULL AND received_at < $1) AS ownerless, \
             (SELECT COUNT(*) FROM reversals r WHERE r.kind <> 'denied' AND r.at < $1 AND r.settled_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = r.payment_id)) AS unbooked, \
             (SELECT COUNT(*) FROM (SELECT user_id FROM running GROUP BY user_id HAVING COUNT(*) > 1) accounts) AS doubled, \
             (SELECT COUNT(*) FROM running JOIN subscriptions s ON s.user_id = running.user_id WHERE NOT s.auto_renew \
             AND NOT EXISTS (SELECT 1 FROM cancellations c WHERE c.link_id = running.link_id AND c.state = 'wanted')) \
             AS running_on";
        let mut connection = self.reader().await?;
        let a_day_ago = now - TimeDelta::hours(25);
        on!(connection.handle(), BillingHealth, SQL, [a_day_ago, now - TimeDelta::hours(1)], fetch_one)
    }
}
