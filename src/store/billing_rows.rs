//! The rows of an account's money.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::billing::Cause;
use super::dialect::{Handle, Tx, by_engine, on};
use super::outbox::write_letters;
use super::{StoreError, cancellations, referrals};
use crate::billing::{
    Account, BillingCycle, Change, Choice, Effect, Event, Facts, FreeMonth, Lapse, Link, Money, Opening, Payment,
    Reversal, Subscription, Terms, What,
};

/// A subscription as it is stored, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct StoredSubscription {
    pub(super) plan: String,
    pub(super) billing_cycle: String,
    status: String,
    auto_renew: bool,
    current_period_end: DateTime<Utc>,
    anchor_at: Option<DateTime<Utc>>,
    anchor_months: Option<i64>,
    next_terms_at: Option<DateTime<Utc>>,
    next_plan: Option<String>,
    next_cycle: Option<String>,
    lapsed: bool,
    lapse_end: Option<DateTime<Utc>>,
    lapse_status: Option<String>,
    link_id: Option<String>,
    opening_end: Option<DateTime<Utc>>,
    opening_plan: Option<String>,
    opening_cycle: Option<String>,
    opening_auto_renew: Option<bool>,
    choice_at: Option<DateTime<Utc>>,
    choice_auto_renew: Option<bool>,
}

impl StoredSubscription {
    /// A row that an earlier version wrote has no anchor and no opening: what it was paid for is the opening.
    fn is_of_before(&self) -> bool {
        self.anchor_at.is_none() && self.anchor_months.is_none()
    }

    pub(super) fn subscription(&self) -> Result<Subscription, StoreError> {
        let next_terms = match (self.next_terms_at, terms(self.next_plan.as_deref(), self.next_cycle.as_deref())?) {
            (Some(at), Some(terms)) => Some((at, terms)),
            _ => None,
        };
        let months = u32::try_from(self.anchor_months.unwrap_or_default()).unwrap_or_default();
        let of_before = self.is_of_before().then_some((self.current_period_end, 0));
        Ok(Subscription {
            status: self.status.parse().map_err(StoreError::Unreadable)?,
            terms: Terms { plan: self.plan.clone(), cycle: cycle(&self.billing_cycle)? },
            auto_renew: self.auto_renew,
            current_period_end: self.current_period_end,
            anchor: self.anchor_at.map(|at| (at, months)).or(of_before),
            next_terms,
            lapsed: self.lapsed,
            link: self.link_id.clone(),
        })
    }

    fn opening(&self) -> Result<Option<Opening>, StoreError> {
        if self.is_of_before() {
            let terms = Terms { plan: self.plan.clone(), cycle: cycle(&self.billing_cycle)? };
            return Ok(Some(Opening { end: self.current_period_end, terms, auto_renew: self.auto_renew }));
        }
        let terms = terms(self.opening_plan.as_deref(), self.opening_cycle.as_deref())?;
        let opening = self.opening_end.zip(terms);
        let auto_renew = self.opening_auto_renew.unwrap_or(true);
        Ok(opening.map(|(end, terms)| Opening { end, terms, auto_renew }))
    }

    fn lapse(&self) -> Result<Option<Lapse>, StoreError> {
        let Some((period_end, status)) = self.lapse_end.zip(self.lapse_status.as_ref()) else { return Ok(None) };
        Ok(Some(Lapse { period_end, status: status.parse().map_err(StoreError::Unreadable)? }))
    }

    fn choice(&self) -> Option<Choice> {
        self.choice_at.zip(self.choice_auto_renew).map(|(at, auto_renew)| Choice { at, auto_renew })
    }
}

fn cycle(text: &str) -> Result<BillingCycle, StoreError> {
    text.parse().map_err(StoreError::Unreadable)
}

fn terms(plan: Option<&str>, text: Option<&str>) -> Result<Option<Terms>, StoreError> {
    let Some((plan, text)) = plan.zip(text) else { return Ok(None) };
    Ok(Some(Terms { plan: plan.to_owned(), cycle: cycle(text)? }))
}

type LinkRow = (String, DateTime<Utc>, String, DateTime<Utc>, Option<String>, Option<String>);
/// A payment as it is stored.
#[derive(sqlx::FromRow)]
struct PaymentRow {
    id: String,
    link_id: Option<String>,
    paid_at: DateTime<Utc>,
    amount_minor: i64,
    currency: String,
    completed: bool,
    plan: Option<String>,
    billing_cycle: Option<String>,
    good_for_plan: Option<String>,
    good_for_cycle: Option<String>,
    good_for_cycles: Option<i64>,
}

type ReversalRow = (String, String, String, Option<i64>, Option<String>, DateTime<Utc>);

fn link((id, at, change, created_at, plan, cycle): LinkRow) -> Result<Link, StoreError> {
    let change = change.parse::<Change>().map_err(StoreError::Unreadable)?;
    Ok(Link { id, at, change, created_at, terms: terms(plan.as_deref(), cycle.as_deref())? })
}

fn payment(row: PaymentRow) -> Result<Payment, StoreError> {
    let currency = row.currency.parse().map_err(StoreError::Unreadable)?;
    let good_for = terms(row.good_for_plan.as_deref(), row.good_for_cycle.as_deref())?;
    let cycles = row.good_for_cycles.and_then(|cycles| u32::try_from(cycles).ok());
    Ok(Payment {
        id: row.id,
        paid_at: row.paid_at,
        amount: Money { minor: row.amount_minor, currency },
        completed: row.completed,
        link: row.link_id,
        terms: terms(row.plan.as_deref(), row.billing_cycle.as_deref())?,
        good_for: good_for.zip(cycles),
    })
}

fn reversal((id, kind, of, minor, currency, at): ReversalRow) -> Result<Reversal, StoreError> {
    let kind = kind.parse().map_err(StoreError::Unreadable)?;
    let amount = match minor.zip(currency) {
        Some((minor, currency)) => Some(Money { minor, currency: currency.parse().map_err(StoreError::Unreadable)? }),
        None => None,
    };
    Ok(Reversal { id, of, kind, amount, at })
}

macro_rules! payment_columns {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, link_id, paid_at, amount_minor, currency, completed, plan, billing_cycle, good_for_plan, good_for_cycle, \
             good_for_cycles ",
            $after
        )
    };
}

macro_rules! subscription_of {
    ($suffix:literal) => {
        concat!(
            "SELECT plan, billing_cycle, status, auto_renew, current_period_end, anchor_at, anchor_months, next_terms_at, \
             next_plan, next_cycle, lapsed, lapse_end, lapse_status, link_id, opening_end, opening_plan, opening_cycle, opening_auto_renew, \
             choice_at, choice_auto_renew FROM subscriptions WHERE user_id = $1",
            $suffix
        )
    };
}

/// Everything that is known of an account, its subscription locked where that is asked for.
pub(super) async fn load_account(handle: &mut Handle<'_>, user_id: &str, lock: bool) -> Result<Account, StoreError> {
    const LINKS: &str = "SELECT link_id, at, change, created_at, plan, billing_cycle FROM billing_links \
         WHERE user_id = $1 ORDER BY at, link_id, change";
    const PAYMENTS: &str = payment_columns!("SELECT", "FROM payments WHERE user_id = $1 ORDER BY paid_at, id");
    const REVERSALS: &str = "SELECT r.id, r.kind, r.payment_id, r.amount_minor, r.currency, r.at FROM reversals r \
         JOIN payments p ON p.id = r.payment_id WHERE p.user_id = $1 ORDER BY r.at, r.id";
    const MONTHS: &str =
        "SELECT period_end, at, plan, billing_cycle FROM free_months WHERE user_id = $1 ORDER BY period_end";
    let plain = subscription_of!("");
    let sql = if lock { by_engine(handle, plain, subscription_of!(" FOR UPDATE")) } else { plain };
    let stored = on!(handle.again(), StoredSubscription, sql, [user_id], fetch_optional)?;
    let links = on!(handle.again(), LinkRow, LINKS, [user_id], fetch_all)?;
    let payments = on!(handle.again(), PaymentRow, PAYMENTS, [user_id], fetch_all)?;
    let reversals = on!(handle.again(), ReversalRow, REVERSALS, [user_id], fetch_all)?;
    let months = on!(handle.again(), (DateTime<Utc>, DateTime<Utc>, String, String), MONTHS, [user_id], fetch_all)?;
    let free_month = |(period_end, at, plan, text): (DateTime<Utc>, DateTime<Utc>, String, String)| {
        Ok::<_, StoreError>(FreeMonth { period_end, at, terms: Terms { plan, cycle: cycle(&text)? } })
    };
    let facts = Facts {
        opening: stored.as_ref().map(StoredSubscription::opening).transpose()?.flatten(),
        choice: stored.as_ref().and_then(StoredSubscription::choice),
        links: links.into_iter().map(link).collect::<Result<_, _>>()?,
        payments: payments.into_iter().map(payment).collect::<Result<_, _>>()?,
        reversals: reversals.into_iter().map(reversal).collect::<Result<_, _>>()?,
        free_months: months.into_iter().map(free_month).collect::<Result<_, _>>()?,
        lapse: stored.as_ref().map(StoredSubscription::lapse).transpose()?.flatten(),
    };
    Ok(Account { facts, subscription: stored.as_ref().map(StoredSubscription::subscription).transpose()? })
}

/// What was kept before it was known whose it is, and turns out to be this account's; from now on it is.
pub(super) async fn load_adopted(tx: &mut Tx, user_id: &str, event: &Event) -> Result<Facts, StoreError> {
    const LINKS: &str = "UPDATE billing_links SET user_id = $2 WHERE link_id = $1 AND user_id IS NULL \
         RETURNING link_id, at, change, created_at, plan, billing_cycle";
    const PAYMENTS: &str =
        payment_columns!("UPDATE payments SET user_id = $2 WHERE link_id = $1 AND user_id IS NULL RETURNING", "");
    const PAYMENT: &str =
        payment_columns!("UPDATE payments SET user_id = $2 WHERE id = $1 AND user_id IS NULL RETURNING", "");
    const REVERSALS: &str =
        "SELECT id, kind, payment_id, amount_minor, currency, at FROM reversals WHERE payment_id = $1";
    let (of_link, of_payment) = match &event.what {
        What::Subscription { id, .. } => (Some(id), None),
        What::Payment { id, subscription, .. } => (subscription.as_ref(), Some(id)),
        What::Reversal { .. } | What::Dispute { .. } => (None, None),
    };
    let mut facts = Facts::default();
    if let Some(id) = of_link {
        let links = on!(tx.handle(), LinkRow, LINKS, [id, user_id], fetch_all)?;
        facts.links = links.into_iter().map(link).collect::<Result<_, _>>()?;
        let payments = on!(tx.handle(), PaymentRow, PAYMENTS, [id, user_id], fetch_all)?;
        facts.payments = payments.into_iter().map(payment).collect::<Result<_, _>>()?;
    }
    if let Some(id) = of_payment {
        let payments = on!(tx.handle(), PaymentRow, PAYMENT, [id, user_id], fetch_all)?;
        facts.payments.extend(payments.into_iter().map(payment).collect::<Result<Vec<_>, _>>()?);
    }
    let new: Vec<&String> = facts.payments.iter().map(|payment| &payment.id).chain(of_payment).collect();
    let mut seen = Vec::new();
    for id in new {
        if !seen.contains(&id) {
            let found = on!(tx.handle(), ReversalRow, REVERSALS, [id], fetch_all)?;
            facts.reversals.extend(found.into_iter().map(reversal).collect::<Result<Vec<_>, _>>()?);
            seen.push(id);
        }
    }
    Ok(facts)
}

/// Writes down one effect. `account`: whose it is and how it stands afterwards, where that is known.
pub(super) async fn write_effect(
    tx: &mut Tx,
    account: Option<(&str, &Account)>,
    effect: &Effect,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let user_id = account.map(|(user_id, _)| user_id);
    match effect {
        Effect::KeepLink(link) => write_link(tx, user_id, link, cause, now).await,
        Effect::KeepPayment(payment) => write_payment(tx, user_id, payment, cause, now).await,
        Effect::KeepWorth(payment) => write_worth(tx, payment).await,
        Effect::KeepReversal(reversal) => write_reversal(tx, reversal, cause).await,
        Effect::Operator { code, detail } => write_flag(tx, user_id, code, detail, cause, now).await,
        Effect::Changed => Ok(()),
        Effect::Pays(pays) => match user_id {
            Some(user_id) => referrals::invitee_pays(tx, user_id, *pays, now).await,
            None => Ok(()),
        },
        Effect::Mail(letter) => match account {
            Some((user_id, Account { subscription: Some(subscription), .. })) => {
                write_letters(tx, &[(user_id, subscription, *letter)], now).await
            }
            _ => Ok(()),
        },
    }
}

async fn write_link(
    tx: &mut Tx,
    user_id: Option<&str>,
    link: &Link,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO billing_links (link_id, at, change, user_id, created_at, plan, billing_cycle, event_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (link_id, at, change) DO UPDATE SET \
         user_id = COALESCE(billing_links.user_id, excluded.user_id), plan = COALESCE(billing_links.plan, excluded.plan), \
         billing_cycle = COALESCE(billing_links.billing_cycle, excluded.billing_cycle)";
    let (plan, cycle) = columns(link.terms.as_ref());
    on!(
        tx.handle(),
        SQL,
        [&link.id, link.at, link.change.name(), user_id, link.created_at, plan, cycle, &cause.cause]
    )?;
    match link.change {
        Change::Canceled | Change::Expired => cancellations::ended(tx, &link.id, now).await,
        _ => Ok(()),
    }
}

async fn write_payment(
    tx: &mut Tx,
    user_id: Option<&str>,
    payment: &Payment,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    // One that is not known whose it is may come again: what is here stays here, and the earlier time counts.
    const SQL: &str = "INSERT INTO payments (id, user_id, link_id, paid_at, amount_minor, currency, completed, plan, \
         billing_cycle, event_id, received_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (id) DO UPDATE SET paid_at = excluded.paid_at, amount_minor = excluded.amount_minor, \
         currency = excluded.currency, completed = excluded.completed, plan = excluded.plan, \
         billing_cycle = excluded.billing_cycle WHERE excluded.completed AND (NOT payments.completed \
         OR excluded.paid_at < payments.paid_at)";
    let (plan, cycle) = columns(payment.terms.as_ref());
    let (minor, currency) = (payment.amount.minor, payment.amount.currency.code());
    on!(
        tx.handle(),
        SQL,
        [
            &payment.id,
            user_id,
            payment.link.as_deref(),
            payment.paid_at,
            minor,
            currency,
            payment.completed,
            plan,
            cycle,
            &cause.cause,
            now
        ]
    )
    .map(|_| ())
}

async fn write_worth(tx: &mut Tx, payment: &Payment) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE payments SET good_for_plan = $2, good_for_cycle = $3, good_for_cycles = $4 WHERE id = $1";
    let (plan, cycle) = columns(payment.good_for.as_ref().map(|(terms, _)| terms));
    let cycles = payment.good_for.as_ref().map(|(_, cycles)| i64::from(*cycles));
    on!(tx.handle(), SQL, [&payment.id, plan, cycle, cycles]).map(|_| ())
}

async fn write_reversal(tx: &mut Tx, reversal: &Reversal, cause: &Cause) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO reversals (id, kind, payment_id, amount_minor, currency, at, event_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id, kind) DO NOTHING";
    let (minor, currency) =
        (reversal.amount.map(|amount| amount.minor), reversal.amount.map(|amount| amount.currency.code().to_owned()));
    on!(
        tx.handle(),
        SQL,
        [&reversal.id, reversal.kind.name(), &reversal.of, minor, currency, reversal.at, &cause.cause]
    )
    .map(|_| ())
}

async fn write_flag(
    tx: &mut Tx,
    user_id: Option<&str>,
    code: &str,
    detail: &str,
    cause: &Cause,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str =
        "INSERT INTO billing_flags (id, account, code, detail, cause, at) VALUES ($1, $2, $3, $4, $5, $6)";
    on!(tx.handle(), SQL, [Uuid::now_v7().to_string(), user_id, code, detail, &cause.cause, now]).map(|_| ())
}

/// Writes where a subscription stands; the first time, its row.
pub(super) async fn write_subscription(
    tx: &mut Tx,
    user_id: &str,
    facts: &Facts,
    subscription: &Subscription,
    next_action_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO subscriptions (id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, \
         next_action_at, updated_at, anchor_at, anchor_months, next_terms_at, next_plan, next_cycle, lapsed, link_id, \
         opening_end, opening_plan, opening_cycle, opening_auto_renew, choice_at, choice_auto_renew) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) \
         ON CONFLICT (user_id) DO UPDATE SET plan = excluded.plan, billing_cycle = excluded.billing_cycle, \
         status = excluded.status, auto_renew = excluded.auto_renew, current_period_end = excluded.current_period_end, \
         next_action_at = excluded.next_action_at, updated_at = excluded.updated_at, anchor_at = excluded.anchor_at, \
         anchor_months = excluded.anchor_months, next_terms_at = excluded.next_terms_at, next_plan = excluded.next_plan, \
         next_cycle = excluded.next_cycle, lapsed = excluded.lapsed, link_id = excluded.link_id, \
         opening_end = excluded.opening_end, opening_plan = excluded.opening_plan, \
         opening_cycle = excluded.opening_cycle, opening_auto_renew = excluded.opening_auto_renew, \
         choice_at = excluded.choice_at, choice_auto_renew = excluded.choice_auto_renew";
    let (opening, choice, next) = (facts.opening.as_ref(), facts.choice, subscription.next_terms.as_ref());
    let (next_plan, next_cycle) = columns(next.map(|(_, terms)| terms));
    let (opening_plan, opening_cycle) = columns(opening.map(|opening| &opening.terms));
    // Months are written in any case: a row without them is one of an earlier version.
    let (anchor_at, months) = (subscription.anchor.map(|(at, _)| at), subscription.anchor.map_or(0, |(_, n)| n));
    on!(
        tx.handle(),
        SQL,
        [
            Uuid::now_v7().to_string(),
            user_id,
            &subscription.terms.plan,
            subscription.terms.cycle.name(),
            subscription.status.name(),
            subscription.auto_renew,
            subscription.current_period_end,
            next_action_at,
            now,
            anchor_at,
            i64::from(months),
            next.map(|(at, _)| *at),
            next_plan,
            next_cycle,
            subscription.lapsed,
            subscription.link.as_deref(),
            opening.map(|opening| opening.end),
            opening_plan,
            opening_cycle,
            opening.map(|opening| opening.auto_renew),
            choice.map(|choice| choice.at),
            choice.map(|choice| choice.auto_renew)
        ]
    )
    .map(|_| ())
}

fn columns(terms: Option<&Terms>) -> (Option<&str>, Option<&'static str>) {
    (terms.map(|terms| terms.plan.as_str()), terms.map(|terms| terms.cycle.name()))
}
