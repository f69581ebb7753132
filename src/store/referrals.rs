//! Invites, and the credit that they earn: a ledger, so that nothing is counted twice and everything can be traced.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::StoreError;
use super::dialect::{Tx, on};

/// The account of an invited address pays for the first time, or its money went back. Whoever invited it earns, or loses, one credit.
pub(super) async fn invitee_pays(tx: &mut Tx, user_id: &str, pays: bool, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "SELECT i.id, i.inviter FROM invites i JOIN accounts a ON a.email_key = i.email_key \
         WHERE a.user_id = $1 AND i.inviter <> $1";
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
