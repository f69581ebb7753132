//! Laws of money: each numbered defect of what this replaces (D..) is a test named after what it shows.

mod laws;
mod links;
mod payments;
mod periods;
mod renewals;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(super) fn usd(text: &str) -> Money {
    Money::parse(text, Currency::USD).unwrap()
}

pub(super) fn terms(plan: &str, cycle: BillingCycle) -> Terms {
    Terms { plan: plan.to_owned(), cycle }
}

/// The plans of the default configuration.
pub(super) fn rules() -> Rules {
    let plan = |monthly: &[&str], annual: &[&str], aliases: &[&str]| Plan {
        monthly: monthly.iter().map(|price| usd(price)).collect(),
        annual: annual.iter().map(|price| usd(price)).collect(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        ..Plan::default()
    };
    let mut gold = plan(&["79.99"], &["815.99", "959.99"], &["premium"]);
    gold.paypal_monthly.push("P-GOLD".to_owned());
    let plans = BTreeMap::from([
        ("free".to_owned(), plan(&[], &[], &[])),
        ("bronze".to_owned(), plan(&["24.99"], &["254.99", "299.99"], &[])),
        ("silver".to_owned(), plan(&["49.99"], &["509.99", "599.99"], &["pro"])),
        ("gold".to_owned(), gold),
        ("enterprise".to_owned(), plan(&[], &[], &[])),
    ]);
    Rules {
        plans,
        grace: TimeDelta::days(14),
        give_up: TimeDelta::days(30),
        first_payment: TimeDelta::days(3),
        ask_again: TimeDelta::hours(1),
        invites_per_month: 3,
    }
}

pub(super) fn event(time: &str, what: What) -> Event {
    Event { source: "paypal".to_owned(), id: format!("WH-{time}"), at: at(time), what }
}

/// A single purchase.
pub(super) fn capture(id: &str, amount: &str, custom: &str) -> What {
    What::Payment {
        id: id.to_owned(),
        completed: true,
        amount: usd(amount),
        subscription: None,
        custom: Some(custom.parse().unwrap()),
        payer: Payer::default(),
    }
}

/// A charge of the subscription I-1.
pub(super) fn sale(id: &str, amount: &str) -> What {
    What::Payment {
        id: id.to_owned(),
        completed: true,
        amount: usd(amount),
        subscription: Some("I-1".to_owned()),
        custom: None,
        payer: Payer::default(),
    }
}

/// A change of the subscription I-1, which is gold by the month.
pub(super) fn change(change: Change) -> What {
    What::Subscription {
        id: "I-1".to_owned(),
        change,
        created_at: Some(at("2027-01-01T00:00:00Z")),
        plan_id: None,
        custom: Some("gold_monthly_1798761600_7".parse().unwrap()),
        payer: Payer::default(),
    }
}

pub(super) fn reversal(id: &str, of: &str, kind: ReversalKind, amount: Option<&str>) -> What {
    What::Reversal { id: id.to_owned(), of: of.to_owned(), kind, amount: amount.map(usd) }
}

/// What has come of events by the time of the last.
pub(super) fn after(events: &[Event]) -> Account {
    let rules = rules();
    events.iter().fold(Account::default(), |account, event| apply(&account, event, &rules, event.at).0)
}

/// One line about where an account stands.
pub(super) fn line(account: &Account) -> String {
    account.subscription.as_ref().map_or_else(
        || "nothing".to_owned(),
        |subscription| {
            let Terms { plan, cycle } = &subscription.terms;
            let end = subscription.current_period_end.format("%F %H:%M");
            format!("{} {plan} {cycle} to {end}", subscription.status)
        },
    )
}
