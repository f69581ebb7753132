//! Letters to be sent: each once for an account, a period and a step.

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::dialect::on;
use super::{Store, StoreError};

/// A letter that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LetterRow {
    /// Its key, which makes its Message-ID.
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
    pub details: String,
    /// How often it was tried.
    pub attempts: i64,
    /// `queued`, `sent`, `dead` or `dropped`.
    pub state: String,
    /// Why it was not sent.
    pub error: Option<String>,
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
}

/// A reminder of a payment that is late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminder {
    /// Of what.
    pub of: PastDue,
    /// Its number, from 0.
    pub number: usize,
}

macro_rules! select_letters {
    ($suffix:literal) => {
        concat!(
            "SELECT o.id, o.account, o.period, o.step, COALESCE(o.recipient, (SELECT a.email FROM accounts a \
             WHERE a.user_id = o.account)) AS recipient, o.details, o.attempts, o.state, o.error FROM outbox o ",
            $suffix
        )
    };
}

impl Store {
    /// Letters of a state, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn letters(&self, state: &str, limit: u32) -> Result<Vec<LetterRow>, StoreError> {
        const SQL: &str = select_letters!("WHERE o.state = $1 ORDER BY o.id LIMIT $2");
        let mut connection = self.reader().await?;
        on!(connection.handle(), LetterRow, SQL, [state, i64::from(limit)], fetch_all)
    }

    /// Subscriptions that are past due, in the order of their keys, from after `after`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn past_due(&self, after: &str, limit: u32) -> Result<Vec<PastDue>, StoreError> {
        const SQL: &str = "SELECT id, user_id, plan, billing_cycle, current_period_end FROM subscriptions \
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
             next_attempt_at, created_at) VALUES ($1, $2, $3, $4, NULL, $5, 'queued', 0, $6, $6) \
             ON CONFLICT (account, period, step) DO NOTHING";
        let mut tx = self.begin().await?;
        let mut new = Vec::new();
        for reminder in reminders {
            if new.len() >= most {
                break;
            }
            let of = &reminder.of;
            let period = of.current_period_end.to_rfc3339_opts(SecondsFormat::Secs, true);
            let details = serde_json::json!({
                "plan": of.plan, "billing_cycle": of.billing_cycle, "current_period_end": of.current_period_end,
            });
            let (id, step) = (Uuid::now_v7().to_string(), format!("dunning_{}", reminder.number));
            if on!(tx.handle(), SQL, [id, &of.user_id, period, step, details.to_string(), now])? > 0 {
                new.push(reminder);
            }
        }
        if !dry_run {
            tx.commit().await?;
        }
        Ok(new)
    }
}
