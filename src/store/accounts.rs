//! Accounts and invites as operators look them up.

use chrono::{DateTime, Utc};

use super::billing::{Cause, ensure_account, lock_account};
use super::dialect::{Tx, on};
use super::{Store, StoreError, audit, email_key};

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

/// What came of the word where an account holder is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressed {
    /// The account was made with it.
    Created,
    /// It is another one than before, or the first.
    Updated,
    /// It was known.
    Unchanged,
    /// There is no such account, and none was to be made.
    Nobody,
}

impl Store {
    /// The site says where an account holder is written to. The audit has it, and letters that are not sent yet go there; those that
    /// waited for an address are due at once.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn tell_address(
        &self,
        user_id: &str,
        email: &str,
        makes_account: bool,
        cause: &Cause,
        now: DateTime<Utc>,
    ) -> Result<Addressed, StoreError> {
        const KNOWN: &str = "SELECT email FROM accounts WHERE user_id = $1";
        let email = email.trim();
        let mut tx = self.begin().await?;
        lock_account(&mut tx, user_id).await?;
        let mut known = on!(tx.handle(), (Option<String>,), KNOWN, [user_id], fetch_optional)?;
        let is_new = known.is_none();
        if is_new {
            if !makes_account {
                return Ok(Addressed::Nobody);
            }
            ensure_account(&mut tx, user_id, None, "site", now).await?;
            // Somebody else may have made it meanwhile.
            lock_account(&mut tx, user_id).await?;
            known = on!(tx.handle(), (Option<String>,), KNOWN, [user_id], fetch_optional)?;
        }
        let before = known.as_ref().and_then(|(before,)| before.as_deref());
        if before == Some(email) {
            return Ok(Addressed::Unchanged);
        }
        keep_address(&mut tx, user_id, before, email, cause, now).await?;
        tx.commit().await?;
        self.letters.notify_one();
        Ok(if is_new && before.is_none() { Addressed::Created } else { Addressed::Updated })
    }

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

/// Writes where the holder of a locked account is written to, with the audit. Letters that nobody has taken yet go there, and those that
/// had no address now.
pub(super) async fn keep_address(
    tx: &mut Tx,
    user_id: &str,
    before: Option<&str>,
    email: &str,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const UPDATE: &str = "UPDATE accounts SET email = $2, email_key = $3 WHERE user_id = $1";
    const LETTERS: &str = "UPDATE outbox SET recipient = $2, \
         next_attempt_at = CASE WHEN recipient IS NULL AND next_attempt_at > $3 THEN $3 ELSE next_attempt_at END \
         WHERE account = $1 AND step <> 'invitation' AND state IN ('waiting', 'failed', 'dead')";
    on!(tx.handle(), UPDATE, [user_id, email, email_key(email)])?;
    let picture = |email: &str| serde_json::json!({ "email": email }).to_string();
    let entry = audit::Entry { cause: cause.clone(), before: before.map(picture), after: Some(picture(email)) };
    audit::write(tx, user_id, &entry, now).await?;
    on!(tx.handle(), LETTERS, [user_id, email, now]).map(|_| ())
}
