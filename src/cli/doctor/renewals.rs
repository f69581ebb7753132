//! `doctor renewals`.

use chrono::{DateTime, Utc};

use super::{Check, check};
use crate::cli::open_to_read;
use crate::config::Config;

/// What of billing should not be as it is, each with its fix.
pub(super) async fn checks(config: &Config, now: DateTime<Utc>) -> anyhow::Result<Vec<Check>> {
    let store = open_to_read(config).await?;
    let health = store.billing_health(now).await;
    store.close().await;
    let health = health?;
    let is_none = |name, count: i64, good: &str, bad: &str, fix: &str| {
        let result = if count == 0 { Ok(good.to_owned()) } else { Err((format!("{count} {bad}"), fix.to_owned())) };
        check("renewals", name, result)
    };
    let checks = vec![
        is_none(
            "due",
            health.overdue,
            "nothing has been due for more than a day",
            "subscriptions have been due for more than a day",
            "`bellwether runs ls --job renewals` has the errors; then `bellwether jobs run renewals`",
        ),
        is_none(
            "in doubt",
            health.in_doubt,
            "no period waits for PayPal's word",
            "periods wait for PayPal's word",
            "check PAYPAL_CLIENT_ID, PAYPAL_SECRET and PAYPAL_ENV; the next run asks again",
        ),
        is_none(
            "ends at PayPal",
            health.unended,
            "whatever was canceled has ended there too",
            "subscriptions were canceled more than an hour ago and have not ended at PayPal: their holders may be charged",
            "`bellwether renewals show ACCOUNT` has PayPal's words; docs/runbooks/billing.md, CancellationStuck",
        ),
        is_none(
            "one each",
            health.doubled,
            "nobody has two subscriptions at PayPal",
            "accounts have more than one subscription that runs at PayPal: their holders pay for each",
            "`bellwether renewals show ACCOUNT` names the one that counts; end the other at PayPal, and give back what it took (docs/runbooks/billing.md)",
        ),
        is_none(
            "given up",
            health.running_on,
            "nothing runs at PayPal for an account that is given up",
            "subscriptions run at PayPal for accounts that are given up: their holders are charged against their word",
            "end them at PayPal, and give back what they took (docs/runbooks/billing.md, Two subscriptions, has the query)",
        ),
        is_none(
            "flags",
            health.flags,
            "nothing waits for an operator",
            "payments or disputes wait for an operator",
            "read them in billing_flags (docs/runbooks/billing.md), settle them, set resolved_at",
        ),
        is_none(
            "owners",
            health.ownerless,
            "each payment has its account",
            "payments have no account, a day after they came",
            "find the subscription or order at PayPal; when its event comes, they find their account by themselves",
        ),
        is_none(
            "refunds",
            health.unbooked,
            "whatever went back had been in the books",
            "refunds or chargebacks are of payments that are not in the books: what they had paid for is had still",
            "`bellwether webhooks reconcile --days 3 --dry-run` finds a payment that was never told; for one of before an import see docs/runbooks/billing.md, Refunds of what is not in the books",
        ),
    ];
    Ok(checks)
}
