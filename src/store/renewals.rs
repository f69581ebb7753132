//! What the nightly run decided, made so: once for each period of each subscription.
//!
//! Many subscriptions are written with a few statements in one transaction. When one of them cannot be, that transaction is given
//! up and each has one of its own, so that the one that cannot fails alone.

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::audit::{AuditRow, Entry};
use super::billing::{Cause, settle_in};
use super::dialect::{Tx, by_engine, on, write_rows};
use super::outbox::write_letters;
use super::subscriptions::{lock_due, lock_one};
use super::{DuePage, DueSubscription, Store, StoreError};
use crate::billing::{Confirmation, Decision, Letter, Rules, Subscription, decide};

/// Rows of one statement: well below the 32,766 variables that SQLite takes.
const ROWS_AT_ONCE: usize = 500;

/// What is written of decisions.
#[derive(Debug, Clone)]
pub struct RenewalRow {
    /// The run they were made in.
    pub run_id: Uuid,
    /// When.
    pub decided_at: DateTime<Utc>,
}

impl RenewalRow {
    /// The run, for the audit.
    pub fn cause(&self) -> Cause {
        Cause { actor: "renewals".to_owned(), cause: format!("run {}", self.run_id), request_id: None }
    }
}

/// A decision as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DecisionRow {
    /// Whose subscription.
    pub user_id: String,
    /// The end of the period that it was about.
    pub period_end: DateTime<Utc>,
    /// What was decided.
    pub action: String,
    /// How the subscription stood.
    pub status_before: String,
    /// How it stands by it.
    pub status_after: String,
    /// When.
    pub decided_at: DateTime<Utc>,
    /// In which run.
    pub run_id: String,
}

/// One decision on its way into the tables.
struct Decided {
    due: DueSubscription,
    before: Subscription,
    after: Subscription,
    decision: Decision,
}

impl Store {
    /// The newest decisions, each of one period of one subscription.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decisions(&self, limit: u32) -> Result<Vec<DecisionRow>, StoreError> {
        const SQL: &str = "SELECT s.user_id, r.period_end, r.action, r.status_before, r.status_after, r.decided_at, r.run_id \
             FROM renewals r JOIN subscriptions s ON s.id = r.subscription_id ORDER BY r.id DESC LIMIT $1";
        let mut connection = self.reader().await?;
        on!(connection.handle(), DecisionRow, SQL, [i64::from(limit)], fetch_all)
    }

    /// Decides about a page of what is due, and makes it so in one transaction. Gives the decision on each that nobody else was at;
    /// an empty page is the end. What is to be confirmed or changes its plan is decided about, and nothing of it is written.
    ///
    /// # Errors
    /// When the database fails or a row cannot be read or written; then nothing changed, or (when the commit itself failed) a
    /// repeat finds out.
    pub async fn renew_many(
        &self,
        page: DuePage<'_>,
        row: &RenewalRow,
        rules: &Rules,
        asked: Confirmation,
    ) -> Result<Vec<(DueSubscription, Decision)>, StoreError> {
        let mut tx = self.begin().await?;
        let now = row.decided_at;
        let mut decided = Vec::new();
        for due in lock_due(&mut tx, page).await? {
            let before = due.subscription()?;
            let decision = decide(&before, due.credits, asked, rules, now);
            let after = decision.after(&before, rules, now);
            decided.push(Decided { due, before, after, decision });
        }
        for some in decided.chunks(ROWS_AT_ONCE) {
            let written: Vec<&Decided> = some.iter().filter(|decided| decided.is_written_here()).collect();
            write_decisions(&mut tx, &written, row, rules).await?;
        }
        tx.commit().await?;
        Ok(decided.into_iter().map(|decided| (decided.due, decided.decision)).collect())
    }

    /// Decides about one subscription and makes it so, in one transaction. `None`: nothing was due any more; then nothing changed.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn renew(
        &self,
        id: &str,
        row: &RenewalRow,
        rules: &Rules,
        asked: Confirmation,
    ) -> Result<Option<(DueSubscription, Decision)>, StoreError> {
        let mut tx = self.begin().await?;
        let now = row.decided_at;
        let Some(due) = lock_one(&mut tx, id).await? else { return Ok(None) };
        if due.next_action_at.is_none_or(|at| at > now) {
            return Ok(None);
        }
        let before = due.subscription()?;
        let decision = decide(&before, due.credits, asked, rules, now);
        let after = decision.after(&before, rules, now);
        match &decision {
            Decision::Switch => {
                settle_in(&mut tx, &due.user_id, rules, &row.cause(), now).await?;
            }
            Decision::Confirm(_) => write_outcome(&mut tx, &due, &before, &decision, row).await?,
            _ => {
                let decided = Decided { due: due.clone(), before, after, decision: decision.clone() };
                write_decisions(&mut tx, &[&decided], row, rules).await?;
            }
        }
        tx.commit().await?;
        Ok(Some((due, decision)))
    }

    /// Periods whose payment was in doubt, and that were paid in the meantime, are recorded as paid.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_doubts(&self) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE renewals SET action = 'paid', status_after = 'active' WHERE action IN ('confirming', 'uncertain') \
             AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.id = renewals.subscription_id \
             AND s.current_period_end > renewals.period_end)";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [])
    }
}

impl Decided {
    fn is_written_here(&self) -> bool {
        !matches!(self.decision, Decision::Confirm(_) | Decision::Switch)
    }

    fn letter(&self) -> Option<Letter> {
        match self.decision {
            Decision::Suspend => Some(Letter::Suspended),
            Decision::Expire => Some(Letter::Expired),
            _ => None,
        }
    }
}

/// Before the provider is asked it is written down that the outcome of the period is in doubt.
async fn write_outcome(
    tx: &mut Tx,
    due: &DueSubscription,
    before: &Subscription,
    decision: &Decision,
    row: &RenewalRow,
) -> Result<(), StoreError> {
    let decided =
        Decided { due: due.clone(), before: before.clone(), after: before.clone(), decision: decision.clone() };
    write_renewals(tx, &[&decided], row).await
}

async fn write_decisions(tx: &mut Tx, decided: &[&Decided], row: &RenewalRow, rules: &Rules) -> Result<(), StoreError> {
    if decided.is_empty() {
        return Ok(());
    }
    let now = row.decided_at;
    write_rows!(
        tx,
        "WITH decided (id, status, next_action_at, current_period_end, anchor_at, anchor_months, lapsed, lapse_end, lapse_status, at) AS (",
        decided,
        |values, one| {
            let (anchor, months) = one.after.anchor.map_or((None, 0), |(anchor, months)| (Some(anchor), months));
            let lapse = one.decision.lapse(&one.before, rules, now);
            values
                .push_bind(one.due.id.clone())
                .push_bind(one.after.status.name())
                .push_bind(one.decision.next_action_at(&one.after, rules, now))
                .push_bind(one.after.current_period_end)
                .push_bind(anchor)
                .push_bind(i64::from(months))
                .push_bind(one.after.lapsed)
                .push_bind(lapse.map(|lapse| lapse.period_end))
                .push_bind(lapse.map(|lapse| lapse.status.name()))
                .push_bind(now);
        },
        // A row of an earlier version has its opening written down when it gets an anchor.
        ") UPDATE subscriptions SET status = decided.status, next_action_at = decided.next_action_at, \
         opening_end = CASE WHEN subscriptions.anchor_months IS NULL THEN subscriptions.current_period_end ELSE opening_end END, \
         opening_plan = CASE WHEN subscriptions.anchor_months IS NULL THEN plan ELSE opening_plan END, \
         opening_cycle = CASE WHEN subscriptions.anchor_months IS NULL THEN billing_cycle ELSE opening_cycle END, \
         opening_auto_renew = CASE WHEN subscriptions.anchor_months IS NULL THEN auto_renew ELSE opening_auto_renew END, \
         current_period_end = decided.current_period_end, anchor_at = decided.anchor_at, \
         anchor_months = decided.anchor_months, lapsed = decided.lapsed, \
         lapse_end = COALESCE(decided.lapse_end, subscriptions.lapse_end), \
         lapse_status = COALESCE(decided.lapse_status, subscriptions.lapse_status), updated_at = decided.at \
         FROM decided WHERE subscriptions.id = decided.id"
    )?;
    write_renewals(tx, decided, row).await?;
    write_credits(tx, decided, row, rules).await?;
    write_audit(tx, decided, row).await?;
    let letters: Vec<_> =
        decided.iter().filter_map(|one| Some((one.due.user_id.as_str(), &one.after, one.letter()?))).collect();
    write_letters(tx, &letters, now).await
}

/// A period has one outcome. What was in doubt, or unpaid until a credit or a payment came, gets it later.
async fn write_renewals(tx: &mut Tx, decided: &[&Decided], row: &RenewalRow) -> Result<(), StoreError> {
    let is_kept = |one: &&&Decided| {
        one.decision.is_outcome() || matches!(one.decision, Decision::Confirm(_) | Decision::Uncertain)
    };
    let outcomes: Vec<_> = decided.iter().filter(is_kept).collect();
    if outcomes.is_empty() {
        return Ok(());
    }
    write_rows!(
        tx,
        "INSERT INTO renewals (id, subscription_id, period_end, run_id, action, status_before, status_after, decided_at) ",
        outcomes,
        |values, one| {
            values
                .push_bind(Uuid::now_v7().to_string())
                .push_bind(one.due.id.clone())
                .push_bind(one.before.current_period_end)
                .push_bind(row.run_id.to_string())
                .push_bind(one.decision.action())
                .push_bind(one.before.status.name())
                .push_bind(one.after.status.name())
                .push_bind(row.decided_at);
        },
        " ON CONFLICT (subscription_id, period_end) DO UPDATE SET run_id = excluded.run_id, action = excluded.action, \
         status_after = excluded.status_after, decided_at = excluded.decided_at \
         WHERE renewals.action IN ('confirming', 'uncertain') \
         OR renewals.action = 'marked_past_due' AND excluded.action = 'applied_referral_credit'"
    )
    .map(|_| ())
}

/// A credit that is used is taken from the ledger and becomes a month, each under a key that has the period in it.
async fn write_credits(tx: &mut Tx, decided: &[&Decided], row: &RenewalRow, rules: &Rules) -> Result<(), StoreError> {
    let used: Vec<_> = decided.iter().filter(|one| one.decision == Decision::UseCredit).collect();
    if used.is_empty() {
        return Ok(());
    }
    write_rows!(
        tx,
        "INSERT INTO credits (id, user_id, delta, reason, source, at) ",
        used.iter(),
        |values, one| {
            let period = one.before.current_period_end.to_rfc3339_opts(SecondsFormat::Micros, true);
            values
                .push_bind(Uuid::now_v7().to_string())
                .push_bind(one.due.user_id.clone())
                .push_bind(-rules.invites_per_month)
                .push_bind("redeemed")
                .push_bind(format!("{}/{period}", one.due.id))
                .push_bind(row.decided_at);
        },
        ""
    )?;
    write_rows!(
        tx,
        "INSERT INTO free_months (subscription_id, period_end, user_id, at, plan, billing_cycle) ",
        used.iter(),
        |values, one| {
            values
                .push_bind(one.due.id.clone())
                .push_bind(one.before.current_period_end)
                .push_bind(one.due.user_id.clone())
                .push_bind(row.decided_at)
                .push_bind(one.before.terms.plan.clone())
                .push_bind(one.before.terms.cycle.name());
        },
        ""
    )
    .map(|_| ())
}

async fn write_audit(tx: &mut Tx, decided: &[&Decided], row: &RenewalRow) -> Result<(), StoreError> {
    const SQLITE: &str = "SELECT a.account, a.n, a.hash FROM json_each($1) ids JOIN audit a ON a.account = ids.value \
         AND a.n = (SELECT MAX(b.n) FROM audit b WHERE b.account = ids.value)";
    const POSTGRES: &str = "SELECT a.account, a.n, a.hash FROM json_array_elements_text($1::json) ids (value) \
         JOIN audit a ON a.account = ids.value AND a.n = (SELECT MAX(b.n) FROM audit b WHERE b.account = ids.value)";
    let changed: Vec<_> = decided.iter().filter(|one| one.before != one.after).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let accounts: Vec<&str> = changed.iter().map(|one| one.due.user_id.as_str()).collect();
    let accounts = serde_json::to_string(&accounts).unwrap_or_default();
    let sql = by_engine(&tx.handle(), SQLITE, POSTGRES);
    let last = on!(tx.handle(), (String, i64, String), sql, [accounts], fetch_all)?;
    let last: std::collections::HashMap<_, _> =
        last.into_iter().map(|(account, n, hash)| (account, (n, hash))).collect();
    let rows: Vec<AuditRow> = changed
        .iter()
        .map(|one| {
            let (n, hash) = last.get(&one.due.user_id).map_or((0, ""), |(n, hash)| (*n, hash));
            let entry = Entry::of_change(Some(&one.before), Some(&one.after), &row.cause());
            AuditRow::following(&one.due.user_id, (n, hash), &entry, row.decided_at)
        })
        .collect();
    write_rows!(
        tx,
        "INSERT INTO audit (account, n, at, actor, cause, before, after, hash) ",
        rows,
        |values, one| {
            values
                .push_bind(one.account)
                .push_bind(one.n)
                .push_bind(one.at)
                .push_bind(one.actor)
                .push_bind(one.cause)
                .push_bind(one.before)
                .push_bind(one.after)
                .push_bind(one.hash);
        },
        ""
    )
    .map(|_| ())
}
