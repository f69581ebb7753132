//! Subscriptions of PayPal's that are to end there too, each until PayPal says that it has.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::billing::{apply_in, lock_family};
use super::dialect::{Tx, on};
use super::{Store, StoreError};
use crate::billing::{Change, Event, Payer, Rules, What};

/// The intent to end a subscription at PayPal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Cancellation {
    /// PayPal's id of the subscription.
    pub link_id: String,
    /// Whose it is.
    pub user_id: String,
    /// `wanted` until PayPal says that it has ended, then `confirmed`; `withdrawn` where the holder wanted it back before PayPal was
    /// asked.
    pub state: String,
    /// When the holder said so.
    pub requested_at: DateTime<Utc>,
    /// How often PayPal was asked.
    pub attempts: i64,
    /// When it is asked next.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was found ended.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Why it did not get through the last time.
    pub error: Option<String>,
}

/// What waits for PayPal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, sqlx::FromRow)]
pub struct PayPalBacklog {
    /// Subscriptions that are to end there and have not.
    pub unended: i64,
    /// When the first of them was canceled.
    pub oldest: Option<DateTime<Utc>>,
    /// Periods of which PayPal has not said whether they were paid.
    pub in_doubt: i64,
}

impl Store {
    /// Takes what is due, at most `limit`, for whoever asks PayPal: nobody else has it until `until`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_cancellations(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Cancellation>, StoreError> {
        // Of two at once the second finds the row changed, and leaves it.
        const SQL: &str = "UPDATE cancellations SET attempts = attempts + 1, next_attempt_at = $2 WHERE state = 'wanted' \
             AND next_attempt_at <= $1 AND link_id IN (SELECT link_id FROM cancellations WHERE state = 'wanted' \
             AND next_attempt_at <= $1 ORDER BY next_attempt_at, link_id LIMIT $3) RETURNING link_id, user_id, state, \
             requested_at, attempts, next_attempt_at, confirmed_at, error";
        let mut connection = self.writer().await?;
        on!(connection.handle(), Cancellation, SQL, [now, until, i64::from(limit)], fetch_all)
    }

    /// Gives back what a process that is gone had taken: on a database that nobody else writes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_cancellations(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE cancellations SET next_attempt_at = $1 WHERE state = 'wanted' AND error IS NULL AND next_attempt_at > $1";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [now])
    }

    /// PayPal could not be told; it is tried again at `next`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn postpone_cancellation(&self, link: &str, error: &str, next: DateTime<Utc>) -> Result<(), StoreError> {
        const SQL: &str =
            "UPDATE cancellations SET error = $2, next_attempt_at = $3 WHERE link_id = $1 AND state = 'wanted'";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [link, error, next]).map(|_| ())
    }

    /// PayPal says that it has ended: that is written down, and known of the account from now on, in one transaction. `false`: it was
    /// known already; nothing changed.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn confirm_cancellation(
        &self,
        one: &Cancellation,
        rules: &Rules,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let event = Event {
            source: "paypal".to_owned(),
            id: format!("cancel-{}", one.link_id),
            at: now,
            what: What::Subscription {
                id: one.link_id.clone(),
                change: Change::Canceled,
                created_at: link_made_at(&mut tx, &one.link_id).await?,
                plan_id: None,
                custom: None,
                payer: Payer::default(),
            },
        };
        lock_family(&mut tx, &event).await?;
        // What follows marks the row too, as it does when PayPal's own message comes first.
        if !is_wanted(&mut tx, &one.link_id).await? {
            return Ok(false);
        }
        apply_in(&mut tx, &event, rules, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The intents of an account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cancellations_of(&self, user_id: &str) -> Result<Vec<Cancellation>, StoreError> {
        const SQL: &str = "SELECT link_id, user_id, state, requested_at, attempts, next_attempt_at, confirmed_at, error \
             FROM cancellations WHERE user_id = $1 ORDER BY requested_at, link_id";
        let mut connection = self.reader().await?;
        on!(connection.handle(), Cancellation, SQL, [user_id], fetch_all)
    }

    /// What waits for PayPal.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn paypal_backlog(&self) -> Result<PayPalBacklog, StoreError> {
        const SQL: &str = "SELECT COUNT(*) AS unended, MIN(requested_at) AS oldest, (SELECT COUNT(*) FROM renewals \
             WHERE action IN ('confirming', 'uncertain')) AS in_doubt FROM cancellations WHERE state = 'wanted'";
        let mut connection = self.reader().await?;
        on!(connection.handle(), PayPalBacklog, SQL, [], fetch_one)
    }
}

/// The subscription is to end at PayPal too.
pub(super) async fn want(tx: &mut Tx, user_id: &str, link: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO cancellations (link_id, user_id, state, requested_at, attempts, next_attempt_at) \
         VALUES ($1, $2, 'wanted', $3, 0, $3) ON CONFLICT (link_id) DO UPDATE SET state = 'wanted', \
         requested_at = excluded.requested_at, next_attempt_at = excluded.next_attempt_at \
         WHERE cancellations.state = 'withdrawn'";
    on!(tx.handle(), SQL, [link, user_id, now]).map(|_| ())
}

/// The holder wants it back: the first of these of which PayPal was not asked yet goes on, and the others end all the same, so that
/// nobody pays twice. `false`: PayPal was asked about each, and what has ended there cannot be begun again.
pub(super) async fn withdraw_one(tx: &mut Tx, links: &[&str]) -> Result<bool, StoreError> {
    const SQL: &str =
        "UPDATE cancellations SET state = 'withdrawn' WHERE link_id = $1 AND state = 'wanted' AND attempts = 0";
    const LEFT: &str = "SELECT link_id FROM cancellations WHERE link_id = $1 AND state <> 'withdrawn'";
    for link in links {
        on!(tx.handle(), SQL, [*link])?;
        if on!(tx.handle(), (String,), LEFT, [*link], fetch_optional)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// PayPal has said that the subscription is over.
pub(super) async fn ended(tx: &mut Tx, link: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE cancellations SET state = 'confirmed', confirmed_at = $2, next_attempt_at = NULL, error = NULL \
         WHERE link_id = $1 AND state = 'wanted'";
    on!(tx.handle(), SQL, [link, now]).map(|_| ())
}

async fn is_wanted(tx: &mut Tx, link: &str) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT state FROM cancellations WHERE link_id = $1 AND state = 'wanted'";
    Ok(on!(tx.handle(), (String,), SQL, [link], fetch_optional)?.is_some())
}

/// When a subscription was made, as it was told: of several of an account the newest counts.
async fn link_made_at(tx: &mut Tx, link: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    const SQL: &str = "SELECT MIN(created_at) FROM billing_links WHERE link_id = $1";
    Ok(on!(tx.handle(), (Option<DateTime<Utc>>,), SQL, [link], fetch_one)?.0)
}
