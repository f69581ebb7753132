//! Letters to be sent: each once for an account, a period and a step.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use super::dialect::{Tx, by_engine, on, write_rows};
use super::{Store, StoreError};
use crate::billing::{Letter, Subscription};

/// Where a letter is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum LetterState {
    /// Written, not tried yet.
    Waiting,
    /// Somebody is bringing it to the server.
    Sending,
    /// Was not taken; tried again.
    Failed,
    /// The server has it.
    Sent,
    /// Given up: an operator must look at it.
    Dead,
    /// Not sent, because what it tells was true no longer, or too long ago.
    Dropped,
}

named!(LetterState {
    Waiting => "waiting", Sending => "sending", Failed => "failed", Sent => "sent", Dead => "dead", Dropped => "dropped",
});

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct LetterRow {
    /// Key of the row.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// What it is about: a period, or an invite.
    pub period: String,
    /// Which letter, e.g. `dunning_1`.
    pub step: String,
    /// Where it goes, where that is known.
    pub recipient: Option<String>,
    /// What is written in it, in JSON.
    #[serde(skip)]
    pub details: String,
    /// Where it is on its way.
    #[sqlx(try_from = "String")]
    pub state: LetterState,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it was not sent; of one that was, the server's last words.
    pub error: Option<String>,
    /// When it is tried next.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When an operator let it wait anew.
    pub retried_at: Option<DateTime<Utc>>,
    /// When the server took it.
    pub sent_at: Option<DateTime<Utc>>,
}

impl LetterRow {
    /// Since when it has waited.
    pub fn since(&self) -> DateTime<Utc> {
        self.retried_at.unwrap_or(self.created_at)
    }
}

/// A letter that was taken to be sent. Only who has the claim can write what became of it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LetterClaim {
    /// Key of the row.
    pub id: String,
    /// This claim, of all there were.
    pub claims: i64,
    /// This try.
    pub attempts: i64,
}

/// What became of a claimed letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterEnd {
    /// `sent`, `failed`, `dead` or `dropped`.
    pub state: LetterState,
    /// Why, or the server's last words.
    pub words: Option<String>,
    /// For a failed one, when it is tried again.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Now.
    pub at: DateTime<Utc>,
}

/// What waits and what needs an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct LetterBacklog {
    /// Letters that are not sent yet.
    pub waiting: i64,
    /// Since when the oldest of them has waited that was never tried, and knows where to go.
    pub oldest: Option<DateTime<Utc>>,
    /// Of them, for accounts of which no address is known.
    pub without_address: i64,
    /// Of them, tried before.
    pub failed: i64,
    /// Given up.
    pub dead: i64,
}

/// A subscription that is past due.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PastDue {
    /// Key of the row.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// Its plan.
    pub plan: String,
    /// How often it is paid.
    pub billing_cycle: String,
    /// The end of the period that is not paid.
    pub current_period_end: DateTime<Utc>,
    /// The subscription at PayPal that should pay it, while that one runs.
    pub link_id: Option<String>,
}

/// A reminder of a payment that is late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminder {
    /// Of what.
    pub of: PastDue,
    /// Its number, from 0.
    pub number: usize,
}

impl Reminder {
    /// The letter that it is, e.g. `dunning_1`.
    pub fn step(&self) -> String {
        format!("dunning_{}", self.number)
    }

    /// What is written in it.
    pub fn details(&self) -> serde_json::Value {
        let PastDue { plan, billing_cycle, current_period_end, link_id, .. } = &self.of;
        serde_json::json!({
            "plan": plan, "billing_cycle": billing_cycle, "current_period_end": current_period_end,
            "paypal_subscription": link_id,
        })
    }
}

/// The address of the account is for letters to its holder; one that goes to somebody else has its own.
macro_rules! select_letters {
    ($suffix:literal) => {
        concat!(
            "SELECT o.id, o.account, o.period, o.step, CASE WHEN o.recipient IS NULL AND o.step <> 'invitation' \
             THEN (SELECT a.email FROM accounts a WHERE a.user_id = o.account) ELSE o.recipient END AS recipient, \
             o.details, o.state, o.attempts, o.error, o.next_attempt_at, o.created_at, o.retried_at, o.sent_at FROM outbox o ",
            $suffix
        )
    };
}

impl Store {
    /// What is told when letters were written here.
    pub fn letters_written(&self) -> Arc<Notify> {
        Arc::clone(&self.letters)
    }

    /// Letters of a state, or of all, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn letters(&self, state: Option<LetterState>, limit: u32) -> Result<Vec<LetterRow>, StoreError> {
        const ALL: &str = select_letters!("ORDER BY o.id LIMIT $1");
        const OF_STATE: &str = select_letters!("WHERE o.state = $1 ORDER BY o.id LIMIT $2");
        self.list_letters((ALL, OF_STATE), state, limit).await
    }

    /// The same, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_letters(&self, state: Option<LetterState>, limit: u32) -> Result<Vec<LetterRow>, StoreError> {
        const ALL: &str = select_letters!("ORDER BY o.id DESC LIMIT $1");
        const OF_STATE: &str = select_letters!("WHERE o.state = $1 ORDER BY o.id DESC LIMIT $2");
        self.list_letters((ALL, OF_STATE), state, limit).await
    }

    async fn list_letters(
        &self,
        (all, of_state): (&'static str, &'static str),
        state: Option<LetterState>,
        limit: u32,
    ) -> Result<Vec<LetterRow>, StoreError> {
        let (mut connection, limit) = (self.reader().await?, i64::from(limit));
        match state {
            None => on!(connection.handle(), LetterRow, all, [limit], fetch_all),
            Some(state) => on!(connection.handle(), LetterRow, of_state, [state.name(), limit], fetch_all),
        }
    }

    /// One letter.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn letter(&self, id: &str) -> Result<Option<LetterRow>, StoreError> {
        const SQL: &str = select_letters!("WHERE o.id = $1");
        let mut connection = self.reader().await?;
        on!(connection.handle(), LetterRow, SQL, [id], fetch_optional)
    }

    /// The status of an account's subscription and the end of its period, as letters speak of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn standing_of(&self, account: &str) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
        const SQL: &str = "SELECT status, current_period_end FROM subscriptions WHERE user_id = $1";
        let mut connection = self.reader().await?;
        on!(connection.handle(), (String, DateTime<Utc>), SQL, [account], fetch_optional)
    }

    /// Whether a letter is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_due_letters(&self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT id FROM outbox WHERE next_attempt_at <= $1 LIMIT 1";
        let mut connection = self.reader().await?;
        on!(connection.handle(), (String,), SQL, [now], fetch_optional).map(|found| found.is_some())
    }

    /// Takes up to `limit` letters that are due, the one that has been due longest first. Who takes them has until `until`; then
    /// somebody else may.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_letters(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<LetterClaim>, StoreError> {
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE outbox SET state = 'sending', attempts = attempts + 1, claims = claims + 1, next_attempt_at = $2 \
                     WHERE id IN (SELECT id FROM outbox WHERE next_attempt_at <= $1 ORDER BY next_attempt_at, id LIMIT $3",
                    $lock,
                    ") RETURNING id, claims, attempts"
                )
            };
        }
        let mut connection = self.writer().await?;
        let sql = by_engine(&connection.handle(), claim!(""), claim!(" FOR UPDATE SKIP LOCKED"));
        let mut claimed = on!(connection.handle(), LetterClaim, sql, [now, until, i64::from(limit)], fetch_all)?;
        claimed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(claimed)
    }

    /// Writes what became of a letter. `false`: the claim was somebody else's meanwhile; nothing was written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_letter(&self, claim: &LetterClaim, end: &LetterEnd) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE outbox SET state = $3, error = $4, next_attempt_at = $5, sent_at = $6 \
             WHERE id = $1 AND claims = $2 AND state = 'sending'";
        let sent_at = (end.state == LetterState::Sent).then_some(end.at);
        let (id, state, words) = (claim.id.as_str(), end.state.name(), end.words.as_deref());
        let mut connection = self.writer().await?;
        let changed = on!(connection.handle(), SQL, [id, claim.claims, state, words, end.next_attempt_at, sent_at])?;
        Ok(changed == 1)
    }

    /// Gives letters back that were taken and not begun with: that was no try. Gives how many.
    ///
    /// # Errors
    /// When the database fails; then their claims end by themselves.
    pub async fn give_letters_back(&self, claims: &[LetterClaim], due: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE outbox SET state = CASE WHEN attempts > 1 THEN 'failed' ELSE 'waiting' END, \
             attempts = attempts - 1, next_attempt_at = $3 WHERE id = $1 AND claims = $2 AND state = 'sending'";
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for claim in claims {
            changed += on!(tx.handle(), SQL, [&claim.id, claim.claims, due])?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// Gives back what was claimed until exactly `until`, where the answer to that claim was lost: nothing of it was begun with.
    ///
    /// # Errors
    /// When the database fails; then the claim ends by itself.
    pub async fn take_back_letters(&self, until: DateTime<Utc>, due: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE outbox SET state = CASE WHEN attempts > 1 THEN 'failed' ELSE 'waiting' END, \
             attempts = attempts - 1, next_attempt_at = $2 WHERE next_attempt_at = $1 AND state = 'sending'";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [until, due])
    }

    /// Lets a letter wait that cannot be sent yet, for the reason in `words`, to be looked at again at `due`: that was no try. `false`:
    /// the claim was somebody else's meanwhile; nothing was written.
    ///
    /// # Errors
    /// When the database fails; then its claim ends by itself.
    pub async fn let_letter_wait(
        &self,
        claim: &LetterClaim,
        words: &str,
        due: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE outbox SET state = CASE WHEN attempts > 1 THEN 'failed' ELSE 'waiting' END, \
             attempts = attempts - 1, error = $3, next_attempt_at = $4 WHERE id = $1 AND claims = $2 AND state = 'sending'";
        let mut connection = self.writer().await?;
        Ok(on!(connection.handle(), SQL, [&claim.id, claim.claims, words, due])? == 1)
    }

    /// Gives back what a process that is gone had taken: on a database that nobody else writes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_letters(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE outbox SET state = 'failed', next_attempt_at = $1, \
             error = 'the process that sent it ended; it may have arrived' WHERE state = 'sending'";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [now])
    }

    /// Lets letters wait anew, by their ids; what was sent, or is being sent, is left alone. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_letters(&self, ids: &[String], now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE outbox SET state = 'waiting', attempts = 0, next_attempt_at = $2, retried_at = $2, error = NULL \
             WHERE id = $1 AND state IN ('waiting', 'failed', 'dead', 'dropped')";
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for id in ids {
            changed += on!(tx.handle(), SQL, [id, now])?;
        }
        tx.commit().await?;
        self.letters.notify_one();
        Ok(changed)
    }

    /// What waits and what needs an operator.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn letter_backlog(&self) -> Result<LetterBacklog, StoreError> {
        const WAITING: &str = "SELECT COUNT(*), MIN(CASE WHEN attempts = 0 AND NOT has_none THEN since END), \
             COALESCE(SUM(CASE WHEN has_none THEN 1 ELSE 0 END), 0) FROM (SELECT o.attempts, \
             COALESCE(o.retried_at, o.created_at) AS since, o.recipient IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a \
             WHERE a.user_id = o.account AND a.email IS NOT NULL) AS has_none \
             FROM outbox o WHERE o.next_attempt_at IS NOT NULL) waiting";
        const TROUBLE: &str = "SELECT state, COUNT(*) FROM outbox WHERE state IN ('failed', 'dead') GROUP BY state";
        let mut connection = self.reader().await?;
        let (waiting, oldest, without_address) =
            on!(connection.handle(), (i64, Option<DateTime<Utc>>, i64), WAITING, [], fetch_one)?;
        let mut backlog = LetterBacklog { waiting, oldest, without_address, ..LetterBacklog::default() };
        for (state, count) in on!(connection.handle(), (String, i64), TROUBLE, [], fetch_all)? {
            match state.as_str() {
                "failed" => backlog.failed = count,
                _ => backlog.dead = count,
            }
        }
        Ok(backlog)
    }

    /// Forgets to whom letters went that came to their end before `before`, and what was in them. That they were written is kept for
    /// ever, so that none is written again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_letters(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE outbox SET recipient = NULL, details = '{}' WHERE created_at < $1 AND details <> '{}' \
             AND state IN ('sent', 'dropped')";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [before])
    }

    /// Subscriptions that are past due, in the order of their keys, from after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn past_due(&self, after: &str, limit: u32) -> Result<Vec<PastDue>, StoreError> {
        const SQL: &str = "SELECT id, user_id, plan, billing_cycle, current_period_end, link_id FROM subscriptions \
             WHERE status = 'past_due' AND id > $1 ORDER BY id LIMIT $2";
        let mut connection = self.reader().await?;
        on!(connection.handle(), PastDue, SQL, [after, i64::from(limit)], fetch_all)
    }

    /// Puts reminders into the outbox, until `most` are new, and gives those. A dry run does the same and undoes it.
    ///
    /// # Errors
    /// When the database fails; then none was written.
    pub async fn remind(
        &self,
        reminders: Vec<Reminder>,
        most: usize,
        now: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<Vec<Reminder>, StoreError> {
        const SQL: &str = "INSERT INTO outbox (id, account, period, step, recipient, details, state, attempts, \
             next_attempt_at, created_at) VALUES ($1, $2, $3, $4, NULL, $5, 'waiting', 0, $6, $6) \
             ON CONFLICT (account, period, step) DO NOTHING";
        let mut tx = self.begin().await?;
        let mut new = Vec::new();
        for reminder in reminders {
            if new.len() >= most {
                break;
            }
            let of = &reminder.of;
            let period = of.current_period_end.to_rfc3339_opts(SecondsFormat::Secs, true);
            let (id, step, details) = (Uuid::now_v7().to_string(), reminder.step(), reminder.details().to_string());
            if on!(tx.handle(), SQL, [id, &of.user_id, period, step, details, now])? > 0 {
                new.push(reminder);
            }
        }
        if !dry_run {
            tx.commit().await?;
            self.letters.notify_one();
        }
        Ok(new)
    }
}

/// Writes letters about periods, each once for its account, period and step, however often its cause is told; to be sent to whatever
/// address the account has. Many at once: in a night when many subscriptions end, most of what is written is letters.
pub(super) async fn write_letters(
    tx: &mut Tx,
    letters: &[(&str, &Subscription, Letter)],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    if letters.is_empty() {
        return Ok(());
    }
    write_rows!(
        tx,
        "INSERT INTO outbox (id, account, period, step, recipient, details, state, attempts, next_attempt_at, created_at) \
         WITH letters (id, account, period, step, details, at) AS (",
        letters,
        |values, letter| {
            let (user_id, of, letter) = letter;
            values
                .push_bind(Uuid::now_v7().to_string())
                .push_bind((*user_id).to_owned())
                .push_bind(of.current_period_end.to_rfc3339_opts(SecondsFormat::Secs, true))
                .push_bind(letter.name())
                .push_bind(super::audit::picture(of))
                .push_bind(now);
        },
        ") SELECT id, account, period, step, (SELECT email FROM accounts WHERE user_id = account), details, 'waiting', 0, at, at \
         FROM letters WHERE id IS NOT NULL ON CONFLICT (account, period, step) DO NOTHING"
    )
    .map(|_| ())
}
