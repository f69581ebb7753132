//! What is known of one account's money, for operators: the same on the command line and in the console.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::billing::{Facts, Rules};
use crate::store::{AuditRow, Store, StoreError};

/// The whole picture. `None`: there is no money of it, no subscription, and nothing was ever changed about it.
///
/// # Errors
/// When the database fails.
pub async fn picture(
    store: &Store,
    rules: &Rules,
    account: &str,
    now: DateTime<Utc>,
) -> Result<Option<Value>, StoreError> {
    let money = store.account_money(account).await?;
    let due = store.subscription_of(account).await?;
    let chain = store.audit_of(account).await?;
    let referrals = store.referral_summary(account).await?;
    let (cancellations, wish) = (store.cancellations_of(account).await?, store.plan_wish(account).await?);
    let flags = store.flags_of(account).await?;
    if due.is_none() && money.facts == Facts::default() && chain.is_empty() {
        return Ok(None);
    }
    let payments = money.facts.payments.iter().map(|payment| {
        let verdict = money.facts.verdict(payment, rules);
        json!({ "id": payment.id, "paid_at": payment.paid_at, "amount": payment.amount.to_string(), "verdict": verdict.name(),
            "subscription": payment.link })
    });
    let subscription = money.subscription.as_ref().map(|one| {
        json!({ "status": one.status, "plan": one.terms.plan, "billing_cycle": one.terms.cycle, "auto_renew": one.auto_renew,
            "current_period_end": one.current_period_end, "paypal_subscription": one.link,
            "has_access": one.has_access(now, rules), "plan_now": one.plan_at(now, rules) })
    });
    Ok(Some(json!({
        "account": account,
        "subscription": subscription,
        "next_action_at": due.as_ref().and_then(|due| due.next_action_at),
        "credits": referrals.balance,
        "free_months": referrals.redeemed_months,
        "wishes": wish.map(|terms| json!({ "plan": terms.plan, "billing_cycle": terms.cycle })),
        "payments": payments.collect::<Vec<_>>(),
        "cancellations": cancellations,
        "flags": flags,
        "audit": chain.iter().map(entry).collect::<Vec<_>>(),
        "audit_broken_at": AuditRow::first_broken(&chain),
    })))
}

fn entry(row: &AuditRow) -> Value {
    json!({ "n": row.n, "at": row.at, "actor": row.actor, "cause": row.cause, "before": row.before, "after": row.after })
}
