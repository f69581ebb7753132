//! What was changed about an account, by whom and why: a chain, each entry with the hash of the one before it in its own.

use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::billing::Cause;
use super::dialect::{Tx, on};
use super::{Store, StoreError};
use crate::billing::{BillingCycle, Status, Subscription};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// By whom and why.
    pub cause: Cause,
    /// How it was; `None`: there was nothing.
    pub before: Option<String>,
    /// How it is.
    pub after: Option<String>,
}

impl Entry {
    /// A subscription that stands otherwise.
    pub fn of_change(before: Option<&Subscription>, after: Option<&Subscription>, cause: &Cause) -> Self {
        Self { cause: cause.clone(), before: before.map(picture), after: after.map(picture) }
    }
}

/// One entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Account.
    pub account: String,
    /// Its number, from 1.
    pub n: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// Why.
    pub cause: String,
    /// The HTTP request.
    pub request_id: Option<String>,
    /// How it was.
    pub before: Option<String>,
    /// How it is.
    pub after: Option<String>,
    /// Of all this and the hash before it.
    pub hash: String,
}

impl AuditRow {
    /// The entry that follows a chain whose last is number `n` with `hash`.
    pub(super) fn following(account: &str, (n, hash): (i64, &str), entry: &Entry, at: DateTime<Utc>) -> Self {
        let mut row = Self {
            account: account.to_owned(),
            n: n + 1,
            at,
            actor: entry.cause.actor.clone(),
            cause: entry.cause.cause.clone(),
            request_id: entry.cause.request_id.clone(),
            before: entry.before.clone(),
            after: entry.after.clone(),
            hash: String::new(),
        };
        row.hash = row.hash_after(hash);
        row
    }

    /// Each part with its length before it, so that no two entries look alike.
    fn hash_after(&self, before: &str) -> String {
        let (n, at) = (self.n.to_string(), self.at.to_rfc3339_opts(SecondsFormat::Micros, true));
        let optional = [&self.request_id, &self.before, &self.after];
        let parts = [before, &self.account, &n, &at, &self.actor, &self.cause].map(Some);
        let parts = parts.into_iter().chain(optional.map(Option::as_deref));
        let mut hasher = Sha256::new();
        for part in parts {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            hasher.update(length.to_be_bytes());
            hasher.update(part.unwrap_or_default());
        }
        HEXLOWER.encode(&hasher.finalize())
    }

    /// The number of the first entry of a whole chain that does not follow from the one before it.
    pub fn first_broken(chain: &[Self]) -> Option<i64> {
        let mut before = String::new();
        for (row, n) in chain.iter().zip(1..) {
            if row.n != n || row.hash != row.hash_after(&before) {
                return Some(n);
            }
            before.clone_from(&row.hash);
        }
        None
    }
}

impl Store {
    /// The chain of an account, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_of(&self, account: &str) -> Result<Vec<AuditRow>, StoreError> {
        const SQL: &str = "SELECT account, n, at, actor, cause, request_id, before, after, hash FROM audit \
             WHERE account = $1 ORDER BY n";
        let mut connection = self.reader().await?;
        on!(connection.handle(), AuditRow, SQL, [account], fetch_all)
    }
}

/// Adds an entry to the chain of an account whose row is locked.
pub(super) async fn write(tx: &mut Tx, account: &str, entry: &Entry, now: DateTime<Utc>) -> Result<(), StoreError> {
    const LAST: &str = "SELECT n, hash FROM audit WHERE account = $1 ORDER BY n DESC LIMIT 1";
    const INSERT: &str = "INSERT INTO audit (account, n, at, actor, cause, request_id, before, after, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let last = on!(tx.handle(), (i64, String), LAST, [account], fetch_optional)?.unwrap_or_default();
    let row = AuditRow::following(account, (last.0, &last.1), entry, now);
    on!(
        tx.handle(),
        INSERT,
        [row.account, row.n, row.at, row.actor, row.cause, row.request_id, row.before, row.after, row.hash]
    )
    .map(|_| ())
}

/// How a subscription stands, in JSON; by name, as entries of earlier versions are.
pub(super) fn picture(subscription: &Subscription) -> String {
    #[derive(serde::Serialize)]
    struct Picture<'a> {
        auto_renew: bool,
        billing_cycle: BillingCycle,
        current_period_end: DateTime<Utc>,
        lapsed: bool,
        paypal_subscription: Option<&'a str>,
        plan: &'a str,
        status: Status,
    }
    let picture = Picture {
        auto_renew: subscription.auto_renew,
        billing_cycle: subscription.terms.cycle,
        current_period_end: subscription.current_period_end,
        lapsed: subscription.lapsed,
        paypal_subscription: subscription.link.as_deref(),
        plan: &subscription.terms.plan,
        status: subscription.status,
    };
    serde_json::to_string(&picture).unwrap_or_default()
}
