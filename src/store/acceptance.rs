//! An invited person has become an account: the invite is accepted, or made where they came by the link of a code.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::accounts::keep_address;
use super::billing::{Cause, ensure_account, lock_account};
use super::billing_rows::load_account;
use super::dialect::{Tx, on};
use super::referrals::set_paid;
use super::{Store, StoreError, audit, email_key};
use crate::billing::Rules;

/// Who accepts what.
#[derive(Debug, Clone, Copy)]
pub struct Acceptance<'a> {
    /// The new account.
    pub user_id: &'a str,
    /// Its address.
    pub email: &'a str,
    /// The code that it came by, if it came by one.
    pub code: Option<&'a str>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// Accepted now; paid at once where the account had paid since it was invited.
    Now {
        /// The invite.
        id: String,
        /// `accepted` or `paid`.
        state: &'static str,
    },
    /// This account had accepted it before.
    Before {
        /// The invite.
        id: String,
        /// `accepted` or `paid`.
        state: String,
    },
    /// Nobody invited that address, or nobody has that code.
    Unknown,
    /// The inviter is the account itself, or has the same address.
    Own,
    /// The address was invited by somebody else, another account has accepted the invite, or this one another invite.
    Taken,
    /// The account had paid before anybody invited it.
    Customer,
}

#[derive(Debug, Clone, sqlx::FromRow)]
struct Invite {
    id: String,
    inviter: String,
    state: String,
    invitee: Option<String>,
    created_at: DateTime<Utc>,
}

impl Store {
    /// The address of an account, where it is known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account_email(&self, user_id: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT email FROM accounts WHERE user_id = $1";
        let mut connection = self.reader().await?;
        let found = on!(connection.handle(), (Option<String>,), SQL, [user_id], fetch_optional)?;
        Ok(found.and_then(|(email,)| email))
    }

    /// An invited address has become an account. With a code and no invite of that address, one is made: they came by the link.
    /// Nobody gets credit for themselves, for somebody else's invite, or for an account that had paid before.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn accept_invite(
        &self,
        acceptance: Acceptance<'_>,
        rules: &Rules,
        cause: &Cause,
        now: DateTime<Utc>,
    ) -> Result<Accepted, StoreError> {
        const KNOWN: &str = "SELECT email FROM accounts WHERE user_id = $1 AND email IS NOT NULL";
        let Acceptance { user_id, email, code } = acceptance;
        let (email, key) = (email.trim(), email_key(email));
        let mut tx = self.begin().await?;
        let is_known = on!(tx.handle(), (String,), KNOWN, [user_id], fetch_optional)?.is_some();
        ensure_account(&mut tx, user_id, Some(email), "site", now).await?;
        let inviter = match (code, invite_of(&mut tx, &key).await?) {
            (Some(code), invite) => match (owner_of_code(&mut tx, code).await?, invite) {
                (None, _) => return Ok(Accepted::Unknown),
                (Some(owner), Some(invite)) if invite.inviter != owner => return Ok(Accepted::Taken),
                (Some(owner), _) => owner,
            },
            (None, Some(invite)) => invite.inviter,
            (None, None) => return Ok(Accepted::Unknown),
        };
        // Both are locked, always in one order: two calls at once cannot accept two invites, or one twice.
        for account in std::collections::BTreeSet::from([user_id, inviter.as_str()]) {
            lock_account(&mut tx, account).await?;
        }
        if is_own(&mut tx, user_id, &inviter, &key).await? {
            return Ok(Accepted::Own);
        }
        let accepted = accept_in(&mut tx, &acceptance, &inviter, rules, now).await?;
        if let Accepted::Now { id, state } = &accepted {
            let after = serde_json::json!({ "invite": id, "state": state, "invitee": user_id }).to_string();
            let entry = audit::Entry { cause: cause.clone(), before: None, after: Some(after) };
            audit::write(&mut tx, &inviter, &entry, now).await?;
        }
        if matches!(accepted, Accepted::Now { .. } | Accepted::Before { .. }) {
            if !is_known {
                keep_address(&mut tx, user_id, None, email, cause, now).await?;
            }
            tx.commit().await?;
            self.letters.notify_one();
        }
        Ok(accepted)
    }
}

/// With both accounts locked.
async fn accept_in(
    tx: &mut Tx,
    acceptance: &Acceptance<'_>,
    inviter: &str,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Result<Accepted, StoreError> {
    const OTHER: &str = "SELECT id FROM invites WHERE invitee = $1 AND email_key <> $2 LIMIT 1";
    const ACCEPT: &str = "UPDATE invites SET state = CASE WHEN state = 'paid' THEN state ELSE 'accepted' END, invitee = $2, \
         accepted_at = COALESCE(accepted_at, $3) WHERE id = $1 AND invitee IS NULL";
    let Acceptance { user_id, email, .. } = *acceptance;
    let key = email_key(email);
    if on!(tx.handle(), (String,), OTHER, [user_id, &key], fetch_optional)?.is_some() {
        return Ok(Accepted::Taken);
    }
    let known = invite_of(tx, &key).await?;
    match &known {
        Some(Invite { id, invitee: Some(invitee), state, .. }) if invitee == user_id => {
            return Ok(Accepted::Before { id: id.clone(), state: state.clone() });
        }
        Some(Invite { invitee: Some(_), .. }) => return Ok(Accepted::Taken),
        _ => {}
    }
    let facts = load_account(&mut tx.handle(), user_id, false).await?.facts;
    let invited_at = known.as_ref().map_or(now, |invite| invite.created_at);
    if facts.payments.iter().any(|payment| payment.completed && payment.paid_at < invited_at) {
        return Ok(Accepted::Customer);
    }
    let id = match &known {
        Some(invite) if on!(tx.handle(), ACCEPT, [&invite.id, user_id, now])? > 0 => invite.id.clone(),
        None => match add_invite(tx, inviter, email, user_id, now).await? {
            Some(id) => id,
            None => return Ok(Accepted::Taken),
        },
        Some(_) => return Ok(Accepted::Taken),
    };
    let was_paid = known.is_some_and(|invite| invite.state == "paid");
    let pays = facts.has_paid(rules);
    if pays {
        set_paid(tx, &id, inviter, Some(user_id), true, now).await?;
    }
    Ok(Accepted::Now { id, state: if pays || was_paid { "paid" } else { "accepted" } })
}

/// The invite of somebody who came by a link; `None`: the address was invited in the same moment.
async fn add_invite(
    tx: &mut Tx,
    inviter: &str,
    email: &str,
    invitee: &str,
    now: DateTime<Utc>,
) -> Result<Option<String>, StoreError> {
    const SQL: &str = "INSERT INTO invites (id, inviter, email, email_key, state, invitee, created_at, accepted_at) \
         VALUES ($1, $2, $3, $4, 'accepted', $5, $6, $6) ON CONFLICT (email_key) DO NOTHING";
    let id = Uuid::now_v7().to_string();
    let made = on!(tx.handle(), SQL, [&id, inviter, email, email_key(email), invitee, now])?;
    Ok((made > 0).then_some(id))
}

async fn invite_of(tx: &mut Tx, key: &str) -> Result<Option<Invite>, StoreError> {
    const SQL: &str = "SELECT id, inviter, state, invitee, created_at FROM invites WHERE email_key = $1";
    on!(tx.handle(), Invite, SQL, [key], fetch_optional)
}

async fn owner_of_code(tx: &mut Tx, code: &str) -> Result<Option<String>, StoreError> {
    const SQL: &str = "SELECT user_id FROM accounts WHERE referral_code = $1";
    Ok(on!(tx.handle(), (String,), SQL, [code], fetch_optional)?.map(|(owner,)| owner))
}

/// Whether somebody invites themselves: by account, or by an address that is the same however it is written.
async fn is_own(tx: &mut Tx, user_id: &str, inviter: &str, key: &str) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT email_key FROM accounts WHERE user_id = $1";
    if user_id == inviter {
        return Ok(true);
    }
    let keys = async |tx: &mut Tx, user: &str| {
        let found = on!(tx.handle(), (Option<String>,), SQL, [user], fetch_optional)?;
        Ok::<_, StoreError>(found.and_then(|(key,)| key))
    };
    let (of_inviter, of_user) = (keys(tx, inviter).await?, keys(tx, user_id).await?);
    Ok(of_inviter.is_some_and(|own| own == key || Some(&own) == of_user.as_ref()))
}
