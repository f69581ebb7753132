//! The word of the site, or of one of its senders, that an invited account pays. Each word is about one invite, found once and kept in
//! the transaction of its effect: told again, it is about the same one, whichever is open by then.

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::billing::{Cause, lock_account};
use super::dialect::{Handle, Tx, on};
use super::referrals::set_paid;
use super::{Store, StoreError, audit, email_key};

/// Under which source calls keep their words. No source of the inbox can have that name.
const CALLS: &str = "/api/referrals/webhook/mark-paid";

/// For so long a call by code alone, without a key, may be the repetition of an earlier one.
const LATELY: TimeDelta = TimeDelta::hours(24);

/// A word that an invited account pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaidWord<'w> {
    /// The code of whoever invited.
    pub code: Option<&'w str>,
    /// The invited address.
    pub email: Option<&'w str>,
    /// When it was told: by code alone it is about what was open then.
    pub told_at: DateTime<Utc>,
    /// How it was told.
    pub told_by: ToldBy<'w>,
}

/// What tells a word from its repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldBy<'w> {
    /// An event of the inbox, by its source and its id there.
    Event(&'w str, &'w str),
    /// A call with a key of the caller's: each answer to it is kept, also a no.
    Keyed(&'w str),
    /// A call without one.
    Call,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkedPaid {
    /// It is paid now.
    Paid(String),
    /// It was before.
    Already(String),
    /// Nobody invited that address, or another account did.
    Unknown,
    /// More than one invite of that code was open, or it may be the repetition of an earlier call: the address must be said.
    Ambiguous,
    /// Something else was said under this key before.
    KeyReused,
}

impl MarkedPaid {
    /// As it is kept: its name, and the invite.
    fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Paid(invite) => ("paid", Some(invite)),
            Self::Already(invite) => ("already", Some(invite)),
            Self::Unknown => ("unknown", None),
            Self::Ambiguous => ("ambiguous", None),
            Self::KeyReused => ("reused", None),
        }
    }

    fn of_parts(outcome: &str, invite: Option<String>) -> Result<Self, StoreError> {
        match (outcome, invite) {
            ("paid", Some(invite)) => Ok(Self::Paid(invite)),
            ("already", Some(invite)) => Ok(Self::Already(invite)),
            ("unknown", None) => Ok(Self::Unknown),
            ("ambiguous", None) => Ok(Self::Ambiguous),
            _ => Err(StoreError::Unreadable(format!("no word ends as {outcome:?}"))),
        }
    }
}

impl Store {
    /// The site says that an invited account pays. By its address; by the code alone only while one invite of that code is open, because
    /// otherwise somebody else's would be paid.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat under the same key finds out.
    pub async fn mark_invite_paid(
        &self,
        word: &PaidWord<'_>,
        cause: &Cause,
        now: DateTime<Utc>,
    ) -> Result<MarkedPaid, StoreError> {
        let mut tx = self.begin().await?;
        let marked = mark_paid_in(&mut tx, word, cause, now).await?;
        tx.commit().await?;
        Ok(marked)
    }

    /// Forgets the keys of calls from before `before`; what events were about is kept for ever, as their ids are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_paid_words(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM paid_words WHERE source = $1 AND at < $2";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [CALLS, before])
    }
}

/// Lets a word take effect in the transaction at hand, and keeps in it what the word was about.
pub(super) async fn mark_paid_in(
    tx: &mut Tx,
    word: &PaidWord<'_>,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<MarkedPaid, StoreError> {
    let name = match word.told_by {
        ToldBy::Event(source, id) => Some((source, id)),
        ToldBy::Keyed(key) => Some((CALLS, key)),
        ToldBy::Call => None,
    };
    if let Some(name) = name
        && let Some(known) = known(tx, name, word).await?
    {
        return Ok(known);
    }
    let marked = match find(tx, word).await? {
        Found::One { invite, inviter } => pay(tx, invite, &inviter, cause, now).await?,
        Found::Before(invite) => MarkedPaid::Already(invite),
        Found::None => MarkedPaid::Unknown,
        Found::Several => MarkedPaid::Ambiguous,
    };
    let is_about_one = marked.parts().1.is_some();
    let by_code = word.code.filter(|_| word.email.is_none());
    match (name, word.told_by) {
        // An event that found nobody may find them when an operator has it applied again.
        (Some(name), ToldBy::Event(..)) if is_about_one => keep(tx, name, word, by_code, &marked, now).await?,
        (Some(name), ToldBy::Keyed(_)) => keep(tx, name, word, by_code, &marked, now).await?,
        (None, ToldBy::Call) if by_code.is_some() && matches!(marked, MarkedPaid::Paid(_)) => {
            keep(tx, (CALLS, &format!("no key {}", Uuid::now_v7())), word, by_code, &marked, now).await?;
        }
        _ => {}
    }
    Ok(marked)
}

/// What came of this word before. Of two at once the second waits for the first here. (SQLite has one writer.)
async fn known(tx: &mut Tx, (source, id): (&str, &str), word: &PaidWord<'_>) -> Result<Option<MarkedPaid>, StoreError> {
    const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    const SQL: &str = "SELECT said, outcome, invite FROM paid_words WHERE source = $1 AND word_id = $2";
    if matches!(tx.handle(), Handle::Postgres(..)) {
        on!(tx.handle(), LOCK, [format!("{source} {id}")])?;
    }
    let found = on!(tx.handle(), (String, String, Option<String>), SQL, [source, id], fetch_optional)?;
    let Some((before, outcome, invite)) = found else { return Ok(None) };
    // Of an event the inbox has compared the bodies.
    if matches!(word.told_by, ToldBy::Keyed(_)) && before != said(word) {
        return Ok(Some(MarkedPaid::KeyReused));
    }
    MarkedPaid::of_parts(&outcome, invite).map(Some)
}

/// What is said, so that two ways of writing it are one, and no address is kept in it.
fn said(word: &PaidWord<'_>) -> String {
    let said = json!([word.code, word.email.map(email_key)]).to_string();
    HEXLOWER.encode(&Sha256::digest(said.as_bytes()))
}

async fn keep(
    tx: &mut Tx,
    (source, id): (&str, &str),
    word: &PaidWord<'_>,
    by_code: Option<&str>,
    marked: &MarkedPaid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO paid_words (source, word_id, said, by_code, outcome, invite, at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let (outcome, invite) = marked.parts();
    on!(tx.handle(), SQL, [source, id, said(word), by_code, outcome, invite, now]).map(|_| ())
}

enum Found {
    /// This one; whoever invited is locked.
    One { invite: String, inviter: String },
    /// One that such a call has paid lately, of which this is the repetition.
    Before(String),
    /// None.
    None,
    /// It cannot be told which.
    Several,
}

/// Which invite a word is about. In the order of whoever accepts it: the account is locked, then the invite.
async fn find(tx: &mut Tx, word: &PaidWord<'_>) -> Result<Found, StoreError> {
    const BY_EMAIL: &str = "SELECT i.id, i.inviter FROM invites i JOIN accounts a ON a.user_id = i.inviter \
         WHERE i.email_key = $1 AND ($2 = '' OR a.referral_code = $2)";
    let code = word.code.unwrap_or_default();
    let Some(email) = word.email else { return find_by_code(tx, word, code).await };
    let found = on!(tx.handle(), (String, String), BY_EMAIL, [email_key(email), code], fetch_optional)?;
    let Some((invite, inviter)) = found else { return Ok(Found::None) };
    lock_account(tx, &inviter).await?;
    Ok(Found::One { invite, inviter })
}

/// By code alone it is about the one that was open when it was told, and not about one that is open since.
async fn find_by_code(tx: &mut Tx, word: &PaidWord<'_>, code: &str) -> Result<Found, StoreError> {
    const OWNER: &str = "SELECT user_id FROM accounts WHERE referral_code = $1";
    const OPEN: &str = "SELECT id FROM invites WHERE inviter = $1 AND created_at <= $2 \
         AND (state <> 'paid' OR paid_at > $2) ORDER BY id LIMIT 2";
    const BEFORE: &str = "SELECT invite FROM paid_words WHERE by_code = $1 AND at > $2 AND invite IS NOT NULL \
         ORDER BY at DESC LIMIT 1";
    let Some((inviter,)) = on!(tx.handle(), (String,), OWNER, [code], fetch_optional)? else { return Ok(Found::None) };
    lock_account(tx, &inviter).await?;
    let mut open = on!(tx.handle(), (String,), OPEN, [&inviter, word.told_at], fetch_all)?;
    if word.told_by == ToldBy::Call
        && let Some((before,)) = on!(tx.handle(), (String,), BEFORE, [code, word.told_at - LATELY], fetch_optional)?
    {
        // Nothing tells this call from that one said again. Where nothing is open it is that one, or without an effect.
        return Ok(if open.is_empty() { Found::Before(before) } else { Found::Several });
    }
    Ok(match (open.pop(), open.is_empty()) {
        (Some((invite,)), true) => Found::One { invite, inviter },
        (None, _) => Found::None,
        _ => Found::Several,
    })
}

async fn pay(
    tx: &mut Tx,
    invite: String,
    inviter: &str,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<MarkedPaid, StoreError> {
    if !set_paid(tx, &invite, inviter, None, true, now).await? {
        return Ok(MarkedPaid::Already(invite));
    }
    let after = json!({ "invite": invite, "state": "paid" }).to_string();
    let entry = audit::Entry { cause: cause.clone(), before: None, after: Some(after) };
    audit::write(tx, inviter, &entry, now).await?;
    Ok(MarkedPaid::Paid(invite))
}
