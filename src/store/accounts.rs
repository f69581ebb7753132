//! Accounts and invites as operators look them up.

use chrono::{DateTime, Utc};

use super::dialect::on;
use super::{Store, StoreError, email_key};

/// An account, and how its subscription stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AccountRow {
    /// The site's name for it.
    pub user_id: String,
    /// Where its holder is written to.
    pub email: Option<String>,
    /// Who made it: a webhook, the site, an import.
    pub origin: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// How its subscription stands, where there is one.
    pub status: Option<String>,
    /// What of.
    pub plan: Option<String>,
    /// Until when.
    pub current_period_end: Option<DateTime<Utc>>,
}

/// An invite.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct InviteRow {
    /// Who invited.
    pub inviter: String,
    /// Whom.
    pub email: String,
    /// `invited`, `accepted` or `paid`.
    pub state: String,
    /// The account that came of it.
    pub invitee: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When the account paid.
    pub paid_at: Option<DateTime<Utc>>,
}

impl Store {
    /// The accounts of this name or address; without one, the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_accounts(&self, wanted: Option<&str>, limit: u32) -> Result<Vec<AccountRow>, StoreError> {
        macro_rules! select {
            ($suffix:literal) => {
                concat!(
                    "SELECT a.user_id, a.email, a.origin, a.created_at, s.status, s.plan, s.current_period_end \
                     FROM accounts a LEFT JOIN subscriptions s ON s.user_id = a.user_id ",
                    $suffix
                )
            };
        }
        const NEWEST: &str = select!("ORDER BY a.created_at DESC, a.user_id DESC LIMIT $1");
        const OF_NAME: &str = select!("WHERE a.user_id = $1");
        const OF_ADDRESS: &str = select!("WHERE a.email_key = $1 AND a.user_id <> $2 ORDER BY a.user_id LIMIT $3");
        let (mut connection, limit) = (self.reader().await?, i64::from(limit));
        let Some(wanted) = wanted else { return on!(connection.handle(), AccountRow, NEWEST, [limit], fetch_all) };
        let mut found = on!(connection.handle(), AccountRow, OF_NAME, [wanted], fetch_all)?;
        found.extend(on!(connection.handle(), AccountRow, OF_ADDRESS, [email_key(wanted), wanted, limit], fetch_all)?);
        Ok(found)
    }

    /// The newest invites; of one account, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn invites(&self, inviter: Option<&str>, limit: u32) -> Result<Vec<InviteRow>, StoreError> {
        const ALL: &str =
            "SELECT inviter, email, state, invitee, created_at, paid_at FROM invites ORDER BY id DESC LIMIT $1";
        const OF_ONE: &str = "SELECT inviter, email, state, invitee, created_at, paid_at FROM invites WHERE inviter = $1 \
             ORDER BY created_at DESC, id DESC LIMIT $2";
        let (mut connection, limit) = (self.reader().await?, i64::from(limit));
        match inviter {
            None => on!(connection.handle(), InviteRow, ALL, [limit], fetch_all),
            Some(inviter) => on!(connection.handle(), InviteRow, OF_ONE, [inviter, limit], fetch_all),
        }
    }
}
