//! Invites, and the credit that they earn: a ledger, so that nothing is counted twice and everything can be traced.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::billing::{ensure_account, lock_account};
use super::dialect::{Tx, on};
use super::{Store, StoreError, email_key};

/// The window of the limit on invites.
const LIMIT_WINDOW: TimeDelta = TimeDelta::hours(1);

/// What came of an invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invited {
    /// It is new; its id.
    New(String),
    /// The same account had invited that address before.
    Exists(String),
    /// Another account had, or the address has an account already.
    Taken,
    /// The account's own address.
    Own,
    /// So many within an hour are enough; the next may be sent then.
    TooMany(DateTime<Utc>),
}

/// How an account's referrals stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferralSummary {
    /// Addresses invited.
    pub invited: i64,
    /// Of these, accounts made.
    pub accepted: i64,
    /// Of these, paying.
    pub paid: i64,
    /// Paid invites that were earned, without what was clawed back.
    pub earned: i64,
    /// Months redeemed.
    pub redeemed_months: i64,
    /// Paid invites that are left.
    pub balance: i64,
}

impl Store {
    /// The account of a name of the site's, made if there is none: its referral code.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn referral_code(
        &self,
        user_id: &str,
        email: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<String, StoreError> {
        const SQL: &str = "SELECT referral_code FROM accounts WHERE user_id = $1";
        let mut tx = self.begin().await?;
        ensure_account(&mut tx, user_id, email, "site", now).await?;
        let (code,) = on!(tx.handle(), (String,), SQL, [user_id], fetch_one)?;
        tx.commit().await?;
        Ok(code)
    }

    /// Invites an address, at most `limit` within an hour, and puts the letter to it into the outbox.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn invite(
        &self,
        inviter: &str,
        email: &str,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Invited, StoreError> {
        const LATELY: &str = "SELECT COUNT(*), MIN(created_at) FROM invites WHERE inviter = $1 AND created_at > $2";
        const INSERT: &str = "INSERT INTO invites (id, inviter, email, email_key, state, created_at) \
             VALUES ($1, $2, $3, $4, 'invited', $5) ON CONFLICT (email_key) DO NOTHING";
        const KNOWN: &str = "SELECT id, inviter FROM invites WHERE email_key = $1";
        const ACCOUNT: &str = "SELECT user_id FROM accounts WHERE email_key = $1 LIMIT 1";
        let (email, key, id) = (email.trim(), email_key(email), Uuid::now_v7().to_string());
        let mut tx = self.begin().await?;
        ensure_account(&mut tx, inviter, None, "site", now).await?;
        // The account is locked before invites are counted: two at once cannot both be the last.
        lock_account(&mut tx, inviter).await?;
        if let Some((known, by)) = on!(tx.handle(), (String, String), KNOWN, [&key], fetch_optional)? {
            return Ok(if by == inviter { Invited::Exists(known) } else { Invited::Taken });
        }
        if let Some((owner,)) = on!(tx.handle(), (String,), ACCOUNT, [&key], fetch_optional)? {
            return Ok(if owner == inviter { Invited::Own } else { Invited::Taken });
        }
        let since = now - LIMIT_WINDOW;
        let (lately, first) = on!(tx.handle(), (i64, Option<DateTime<Utc>>), LATELY, [inviter, since], fetch_one)?;
        if lately >= i64::from(limit) {
            return Ok(Invited::TooMany(first.unwrap_or(now) + LIMIT_WINDOW));
        }
        if on!(tx.handle(), INSERT, [&id, inviter, email, &key, now])? == 0 {
            return Ok(Invited::Taken);
        }
        write_invitation(&mut tx, &id, inviter, email, now).await?;
        tx.commit().await?;
        self.letters.notify_one();
        Ok(Invited::New(id))
    }

    /// How an account's referrals stand.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn referral_summary(&self, user_id: &str) -> Result<ReferralSummary, StoreError> {
        const INVITES: &str = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN state <> 'invited' THEN 1 ELSE 0 END), 0), \
             COALESCE(SUM(CASE WHEN state = 'paid' THEN 1 ELSE 0 END), 0) FROM invites WHERE inviter = $1";
        const CREDITS: &str = "SELECT CAST(COALESCE(SUM(CASE WHEN reason <> 'redeemed' THEN delta ELSE 0 END), 0) AS BIGINT), \
             CAST(COALESCE(SUM(delta), 0) AS BIGINT) FROM credits WHERE user_id = $1";
        const MONTHS: &str = "SELECT COUNT(*) FROM free_months WHERE user_id = $1";
        let mut connection = self.reader().await?;
        let (invited, accepted, paid) = on!(connection.handle(), (i64, i64, i64), INVITES, [user_id], fetch_one)?;
        let (earned, balance) = on!(connection.handle(), (i64, i64), CREDITS, [user_id], fetch_one)?;
        let (redeemed_months,) = on!(connection.handle(), (i64,), MONTHS, [user_id], fetch_one)?;
        Ok(ReferralSummary { invited, accepted, paid, earned, redeemed_months, balance })
    }
}

/// The letter to an invited address, once.
async fn write_invitation(
    tx: &mut Tx,
    id: &str,
    inviter: &str,
    email: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const CODE: &str = "SELECT referral_code FROM accounts WHERE user_id = $1";
    const SQL: &str = "INSERT INTO outbox (id, account, period, step, recipient, details, state, attempts, next_attempt_at, \
         created_at) VALUES ($1, $2, $3, 'invitation', $4, $5, 'waiting', 0, $6, $6) \
         ON CONFLICT (account, period, step) DO NOTHING";
    let (code,) = on!(tx.handle(), (String,), CODE, [inviter], fetch_one)?;
    let details = serde_json::json!({ "referral_code": code }).to_string();
    on!(tx.handle(), SQL, [Uuid::now_v7().to_string(), inviter, id, email, details, now]).map(|_| ())
}

/// The account of an invited address pays for the first time, or its money went back. Whoever invited it earns, or loses, one credit.
pub(super) async fn invitee_pays(tx: &mut Tx, user_id: &str, pays: bool, now: DateTime<Utc>) -> Result<(), StoreError> {
    // The one that it accepted counts, whatever address it pays from; else one of its address that nobody has accepted.
    const SQL: &str = "SELECT id, inviter FROM (SELECT id, inviter, 0 AS place FROM invites WHERE invitee = $1 \
         UNION ALL SELECT id, inviter, 1 AS place FROM invites WHERE invitee IS NULL \
         AND email_key = (SELECT email_key FROM accounts WHERE user_id = $1)) found \
         WHERE inviter <> $1 ORDER BY place, id LIMIT 1";
    let Some((invite, inviter)) = on!(tx.handle(), (String, String), SQL, [user_id], fetch_optional)? else {
        return Ok(());
    };
    set_paid(tx, &invite, &inviter, Some(user_id), pays, now).await.map(|_| ())
}

/// Makes an invite paid, or paid no longer, and writes the credit of it. Whether it was not so before.
pub(super) async fn set_paid(
    tx: &mut Tx,
    invite: &str,
    inviter: &str,
    invitee: Option<&str>,
    pays: bool,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const PAID: &str = "UPDATE invites SET state = 'paid', paid_at = $2, invitee = COALESCE($3, invitee) \
         WHERE id = $1 AND state <> 'paid'";
    const UNPAID: &str = "UPDATE invites SET state = 'accepted', paid_at = NULL, accepted_at = COALESCE(accepted_at, $2), \
         invitee = COALESCE($3, invitee) WHERE id = $1 AND state = 'paid'";
    const COUNT: &str = "SELECT COUNT(*) FROM credits WHERE reason = $1 AND source LIKE $2";
    const INSERT: &str = "INSERT INTO credits (id, user_id, delta, reason, source, at) VALUES ($1, $2, $3, $4, $5, $6)";
    let sql = if pays { PAID } else { UNPAID };
    if on!(tx.handle(), sql, [invite, now, invitee])? == 0 {
        return Ok(false);
    }
    let (reason, delta) = if pays { ("invite_paid", 1) } else { ("invite_unpaid", -1) };
    // The same invite may be paid, unpaid and paid again: each time is numbered. The row of the invite is locked by the update.
    let (times,) = on!(tx.handle(), (i64,), COUNT, [reason, format!("{invite}#%")], fetch_one)?;
    let (id, source) = (Uuid::now_v7().to_string(), format!("{invite}#{}", times + 1));
    on!(tx.handle(), INSERT, [id, inviter, i64::from(delta), reason, source, now])?;
    wake_inviter(tx, inviter, now).await?;
    Ok(true)
}

/// A credit may pay the next month of an inviter who is past due: the next run looks at it.
async fn wake_inviter(tx: &mut Tx, inviter: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE subscriptions SET next_action_at = $2 WHERE user_id = $1 AND status = 'past_due' \
         AND lapsed AND next_action_at > $2";
    on!(tx.handle(), SQL, [inviter, now]).map(|_| ())
}
