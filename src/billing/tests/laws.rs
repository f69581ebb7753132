//! Random histories, against a model that is told in a few lines: what was paid and not taken back is what counts.

use proptest::prelude::*;

use super::links::{change_of, sale_of};
use super::*;

/// Any few things that can happen to one account within some months.
fn history() -> impl Strategy<Value = Vec<Event>> {
    let start = at("2027-01-01T12:00:00Z");
    let thing = (0_i64..400 * 24, 0_usize..15, 0_usize..6).prop_map(move |(hours, kind, number)| {
        let id = format!("M{number}");
        let what = match kind {
            0 => change(Change::Activated),
            1 => change(Change::Canceled),
            2 => change(Change::Suspended),
            3 => change(Change::PaymentFailed),
            4 => change(Change::Created),
            5 | 6 => sale(&format!("S{number}"), ["79.99", "159.98", "0.01"][number % 3]),
            7 | 8 => capture(&format!("C{number}"), ["79.99", "24.99"][number % 2], "gold_monthly_1_7"),
            9 => reversal(&format!("R{number}"), &format!("C{number}"), ReversalKind::Refunded, Some("79.99")),
            // Another subscription, and one that nobody ever approved.
            12 => change_of("I-2", start + TimeDelta::days(40), [Change::Activated, Change::Canceled][number % 2]),
            13 => sale_of("I-2", &format!("T{number}"), ["79.99", "159.98"][number % 2]),
            14 => change_of("I-3", start + TimeDelta::days(80), [Change::Created, Change::Updated][number % 2]),
            10 => reversal(&format!("S{number}"), &format!("S{number}"), ReversalKind::Reversed, None),
            _ => What::Dispute { id, payments: vec![format!("C{number}")], state: "OPEN".to_owned() },
        };
        Event {
            source: "paypal".to_owned(),
            id: format!("WH-{hours}-{kind}"),
            at: start + TimeDelta::hours(hours),
            what,
        }
    });
    prop::collection::vec(thing, 0..14)
}

fn applied(events: &[Event], now: DateTime<Utc>) -> Account {
    let rules = rules();
    let told = events.iter().filter(|event| event.at <= now);
    told.fold(Account::default(), |account, event| apply(&account, event, &rules, now).0)
}

/// What counts of an account: facts as sets, and where it stands.
fn essence(account: &Account) -> (Vec<String>, Option<Subscription>) {
    let Facts { links, payments, reversals, .. } = &account.facts;
    let all = links.iter().map(|fact| format!("{fact:?}"));
    let all = all.chain(payments.iter().map(|fact| format!("{fact:?}")));
    let mut all: Vec<String> =
        all.chain(reversals.iter().map(|fact| format!("{} {} {:?}", fact.id, fact.of, fact.amount))).collect();
    all.sort();
    (all, account.subscription.clone())
}

/// An oracle of its own: walks through the money that counts, month by month.
fn model_end(account: &Account) -> Option<DateTime<Utc>> {
    let rules = rules();
    let facts = &account.facts;
    let mut good: Vec<_> = facts
        .payments
        .iter()
        .filter(|payment| facts.reversals.iter().all(|reversal| reversal.of != payment.id))
        .filter(|payment| {
            payment.link.is_none() || facts.links.iter().any(|link| payment.link.as_ref() == Some(&link.id))
        })
        .filter_map(|payment| match payment.amount.minor {
            7_999 => Some((payment.paid_at, payment.id.clone(), 1_u32)),
            15_998 if payment.link.is_some() => Some((payment.paid_at, payment.id.clone(), 2)),
            _ => None,
        })
        .collect();
    good.sort();
    let mut state: Option<(DateTime<Utc>, u32, DateTime<Utc>)> = None;
    for (paid_at, _, months) in good {
        let begin = period::before_months(paid_at, months - 1);
        let (anchor, n) = match state {
            Some((anchor, n, end)) if begin <= end + rules.grace => (anchor, n),
            _ => (begin, 0),
        };
        state = Some((anchor, n + months, period::after_months(anchor, n + months)));
    }
    state.map(|(.., end)| end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3_000), ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_events_and_their_repetition_do_not_matter(
        events in history(), seed in any::<u64>(), days in 0_i64..500,
    ) {
        let now = at("2027-01-01T12:00:00Z") + TimeDelta::days(days);
        let mut mixed = [events.clone(), events.iter().rev().cloned().collect()].concat();
        let mut random = seed;
        for n in (1..mixed.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            mixed.swap(n, usize::try_from(random >> 33).unwrap() % (n + 1));
        }
        let (straight, mixed) = (applied(&events, now), applied(&mixed, now));
        prop_assert_eq!(essence(&straight), essence(&mixed));
        if let Some(end) = model_end(&straight) {
            prop_assert_eq!(straight.subscription.unwrap().current_period_end, end);
        }
    }

    #[test]
    fn the_same_events_again_have_no_effect(events in history()) {
        let (rules, now) = (rules(), at("2029-01-01T00:00:00Z"));
        let account = applied(&events, now);
        for event in events.iter().filter(|event| !matches!(event.what, What::Dispute { .. })) {
            let (again, effects) = apply(&account, event, &rules, now);
            prop_assert_eq!(&again, &account);
            prop_assert_eq!(effects, vec![]);
        }
    }

    #[test]
    fn other_prices_change_nothing_about_what_was_paid(events in history(), days in 0_i64..500) {
        let now = at("2027-01-01T12:00:00Z") + TimeDelta::days(days);
        let account = applied(&events, now);
        let mut others = rules();
        for plan in others.plans.values_mut() {
            (plan.monthly, plan.annual) = (vec![usd("39.99")], Vec::new());
        }
        let (again, effects) = settle(&account, account.facts.clone(), Vec::new(), &others, now);
        prop_assert_eq!(&again, &account);
        prop_assert_eq!(effects, vec![]);
    }

    #[test]
    fn money_is_conserved(events in history()) {
        let account = applied(&events, at("2029-01-01T00:00:00Z"));
        let mut paid = BTreeMap::new();
        for event in &events {
            if let What::Payment { id, amount, .. } = &event.what {
                paid.insert(id.clone(), amount.minor);
            }
        }
        let told: i64 = paid.values().sum();
        prop_assert_eq!(account.facts.totals().get("USD").map_or(0, |(came, _)| *came), told);
        for (came, back) in account.facts.totals().values() {
            prop_assert!(*back >= 0 && back <= came);
        }
    }

    #[test]
    fn what_the_night_writes_is_what_the_facts_say(events in history(), days in 0_i64..500, credits in 0_i64..9) {
        let (rules, now) = (rules(), at("2027-01-01T12:00:00Z") + TimeDelta::days(days));
        let account = applied(&events, now);
        let Some(before) = account.subscription else { return Ok(()) };
        let decision = decide(&before, credits, Confirmation::Unpaid, &rules, now);
        let after = decision.after(&before, &rules, now);
        let mut facts = account.facts;
        if decision == Decision::UseCredit {
            let period_end = before.current_period_end;
            facts.free_months.push(FreeMonth { period_end, at: now, terms: before.terms.clone() });
        }
        facts.lapse = decision.lapse(&before, &rules, now);
        let derived = derive(&facts, &rules, now).unwrap();
        if !matches!(decision, Decision::Switch) {
            prop_assert_eq!(derived, after.clone());
        }
        prop_assert!(decision.next_action_at(&after, &rules, now).is_none_or(|at| at > now), "D31: it leaves the queue");
    }
}

/// What may happen next to an account that lives on invites.
#[derive(Debug, Clone)]
enum Step {
    Hours(i64),
    Earn(i64),
    ClawBack,
    Pay,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_usize..8, 1_i64..400).prop_map(|(kind, size)| match kind {
        0..4 => Step::Hours(size * 3),
        4 | 5 => Step::Earn(size % 4),
        6 => Step::ClawBack,
        _ => Step::Pay,
    });
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3_000), ..ProptestConfig::default() })]

    /// A night after each step: three paid invites are used for one month of one period, never twice, and never when there are fewer.
    #[test]
    fn no_credit_is_used_twice(steps in steps()) {
        let rules = rules();
        let mut now = at("2027-01-01T12:00:00Z");
        let first = event("2027-01-01T12:00:00Z", capture("C0", "79.99", "gold_monthly_1_7"));
        let (mut account, _) = apply(&Account::default(), &first, &rules, now);
        let (mut balance, mut earned, mut months) = (0_i64, 0_i64, BTreeMap::new());
        for (n, step) in steps.iter().enumerate() {
            match step {
                Step::Hours(hours) => now += TimeDelta::hours(*hours),
                Step::Earn(invites) => (balance, earned) = (balance + invites, earned + invites),
                Step::ClawBack => (balance, earned) = (balance - 1, earned - 1),
                Step::Pay => {
                    let paid = Event { at: now, ..event("2027-01-01T12:00:00Z", capture(&format!("C{}", n + 1), "79.99", "gold_monthly_1_7")) };
                    account = apply(&account, &paid, &rules, now).0;
                }
            }
            // Two looks of one night: the second finds nothing to use.
            for look in 0..2 {
                let before = account.subscription.clone().unwrap();
                let decision = decide(&before, balance, Confirmation::Unpaid, &rules, now);
                if decision == Decision::UseCredit {
                    prop_assert!(balance >= rules.invites_per_month && look == 0);
                    balance -= rules.invites_per_month;
                    let period_end = before.current_period_end;
                    prop_assert!(months.insert(period_end, now).is_none(), "one period, one month");
                    account.facts.free_months.push(FreeMonth { period_end, at: now, terms: before.terms.clone() });
                }
                account.facts.lapse = decision.lapse(&before, &rules, now).or(account.facts.lapse);
                account.subscription = derive(&account.facts, &rules, now);
                let after = account.subscription.clone().unwrap();
                if decision == Decision::UseCredit {
                    prop_assert!(after.current_period_end > now && after.status == Status::Active);
                }
            }
        }
        let used = i64::try_from(months.len()).unwrap() * rules.invites_per_month;
        prop_assert_eq!(earned - used, balance, "the ledger adds up");
    }
}
