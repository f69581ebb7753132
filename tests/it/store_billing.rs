//! Conformance of what is kept of money: the same on both engines.

use bellwether::billing::{
    Change, Confirmation, Currency, Decision, Event, Money, Payer, ReversalKind, Rules, Status, What,
};
use bellwether::config::{Config, Environment};
use bellwether::store::{AuditRow, DuePage, RenewalRow, Store};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::harness::{Database, Engine, instant};

on_both_engines!(
    an_event_takes_effect_once_and_is_audited,
    a_sale_waits_for_its_subscription_and_a_refund_for_its_capture,
    racing_events_of_one_account_lose_nothing,
    a_paid_invite_is_one_credit_and_a_refund_takes_it_back,
    d7_a_payment_is_kept_and_uses_no_credit,
    a_period_is_decided_once,
    many_are_decided_in_one_go_and_as_each_would_be,
    a_credit_is_used_once_under_concurrency,
    what_is_due_is_paged_in_order,
    a_plan_that_was_paid_for_next_begins_in_its_night,
    two_subscriptions_of_one_account_are_seen,
    what_an_earlier_version_wrote_goes_on,
    what_of_a_list_is_in_the_books,
);

const NOW: &str = "2027-03-14T07:00:00Z";

pub fn rules() -> Rules {
    Config::load(None, &Environment::default()).unwrap().billing
}

pub fn paid(id: &str, time: &str, amount: &str, custom: &str) -> Event {
    let what = What::Payment {
        id: id.to_owned(),
        completed: true,
        amount: Money::parse(amount, Currency::USD).unwrap(),
        subscription: None,
        custom: Some(custom.parse().unwrap()),
        payer: Payer { id: None, email: Some("Someone@Example.com ".to_owned()) },
    };
    Event { source: "paypal".to_owned(), id: format!("WH-{id}"), at: instant(time), what }
}

fn refund(of: &str, time: &str) -> Event {
    let what = What::Reversal { id: format!("R-{of}"), of: of.to_owned(), kind: ReversalKind::Refunded, amount: None };
    Event { source: "paypal".to_owned(), id: format!("WH-R-{of}"), at: instant(time), what }
}

pub fn activated(link: &str, time: &str, custom: &str) -> Event {
    let what = What::Subscription {
        id: link.to_owned(),
        change: Change::Activated,
        created_at: Some(instant(time)),
        plan_id: None,
        custom: Some(custom.parse().unwrap()),
        payer: Payer::default(),
    };
    Event { source: "paypal".to_owned(), id: format!("WH-A-{link}"), at: instant(time), what }
}

pub fn sale(id: &str, link: &str, time: &str, amount: &str) -> Event {
    let what = What::Payment {
        id: id.to_owned(),
        completed: true,
        amount: Money::parse(amount, Currency::USD).unwrap(),
        subscription: Some(link.to_owned()),
        custom: None,
        payer: Payer::default(),
    };
    Event { source: "paypal".to_owned(), id: format!("WH-{id}"), at: instant(time), what }
}

fn record(at: DateTime<Utc>) -> RenewalRow {
    RenewalRow { run_id: Uuid::now_v7(), decided_at: at }
}

async fn subscribe(database: &Database, id: &str, status: Status, due: DateTime<Utc>) {
    let at = due.to_rfc3339();
    database
        .execute(format!(
            "INSERT INTO subscriptions (id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, \
             next_action_at, updated_at) VALUES ('{id}', 'u-{id}', 'gold', 'annual', '{status}', true, '{at}', '{at}', '{at}')"
        ))
        .await;
}

async fn give_credit(database: &Database, user: &str, n: i64) {
    let at = instant(NOW).to_rfc3339();
    for k in 0..n {
        database
            .execute(format!(
                "INSERT INTO credits (id, user_id, delta, reason, source, at) \
                 VALUES ('{user}-{k}', '{user}', 1, 'invite_paid', '{user}-{k}', '{at}')"
            ))
            .await;
    }
}

async fn whole_chain(store: &Store, account: &str) -> Vec<AuditRow> {
    let chain = store.audit_of(account).await.unwrap();
    assert_eq!(AuditRow::first_broken(&chain), None);
    chain
}

async fn an_event_takes_effect_once_and_is_audited(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    let event = paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u7");
    let applied = store.apply_event(&event, &rules, now).await.unwrap();
    assert_eq!(applied.user_id.as_deref(), Some("u7"));
    let account = store.account_money("u7").await.unwrap();
    assert_eq!(account, applied.account, "what is read is what was written");
    let subscription = account.subscription.clone().unwrap();
    assert_eq!(
        (subscription.status, subscription.current_period_end),
        (Status::Active, instant("2027-04-01T11:00:00Z"))
    );
    let again = store.apply_event(&event, &rules, now).await.unwrap();
    assert_eq!((again.effects, again.account), (vec![], account));
    let chain = whole_chain(&store, "u7").await;
    assert_eq!((chain.len(), chain[0].actor.as_str(), chain[0].cause.as_str()), (1, "paypal", "WH-C1"));
    let mut forged = chain.clone();
    forged[0].after = Some("{}".to_owned());
    assert_eq!(AuditRow::first_broken(&forged), Some(1));
    assert_eq!(database.query("SELECT step || ' ' || recipient FROM outbox").await, ["welcome Someone@Example.com"]);
    assert_eq!(database.query("SELECT email_key FROM accounts").await, ["someone@example.com"]);
    let rehearsed = store.rehearse_events(&[refund("C1", "2027-03-02T00:00:00Z")], &rules, now).await.unwrap();
    assert_eq!(rehearsed[0].account.clone().subscription.unwrap().status, Status::Expired);
    assert_eq!(store.account_money("u7").await.unwrap().subscription, Some(subscription), "nothing was done");
    assert_eq!(store.subscription_of("u7").await.unwrap().unwrap().credits, 0);
}

async fn a_sale_waits_for_its_subscription_and_a_refund_for_its_capture(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    let early = store.apply_event(&sale("S1", "I-1", "2027-03-01T12:00:00Z", "79.99"), &rules, now).await.unwrap();
    assert_eq!(early.user_id, None);
    assert_eq!(store.billing_health(now + TimeDelta::hours(26)).await.unwrap().ownerless, 1);
    store.apply_event(&refund("C9", "2027-03-03T12:00:00Z"), &rules, now).await.unwrap();
    store.apply_event(&activated("I-1", "2027-03-01T11:59:00Z", "gold_monthly_1_u7"), &rules, now).await.unwrap();
    let account = store.account_money("u7").await.unwrap();
    assert_eq!(account.facts.payments.len(), 1);
    assert_eq!(account.subscription.unwrap().current_period_end, instant("2027-04-01T11:00:00Z"));
    let next = store.apply_event(&sale("S2", "I-1", "2027-03-02T12:00:00Z", "79.99"), &rules, now).await.unwrap();
    assert_eq!(next.user_id.as_deref(), Some("u7"), "the subscription says whose it is");
    let a_day_later = now + TimeDelta::hours(26);
    assert_eq!(store.billing_health(a_day_later).await.unwrap().ownerless, 0);
    let late = store
        .apply_event(&paid("C9", "2027-03-01T12:00:00Z", "24.99", "bronze_monthly_1_u9"), &rules, now)
        .await
        .unwrap();
    assert_eq!(late.account.facts.totals()["USD"], (2_499, 2_499));
    assert_eq!(late.account.subscription.unwrap().status, Status::Expired);
    let flags = database.query("SELECT code FROM billing_flags").await;
    assert_eq!(flags, ["taken_back"], "what waited is no fault");
    let health = store.billing_health(now + TimeDelta::hours(26)).await.unwrap();
    assert_eq!((health.flags, health.in_doubt, health.overdue), (1, 0, 0));
}

async fn racing_events_of_one_account_lose_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let mut events = vec![activated("I-1", "2027-01-01T11:59:00Z", "gold_monthly_1_u7")];
    for n in 0..12 {
        events.push(sale(&format!("S{n}"), "I-1", "2027-01-01T12:00:00Z", "79.99"));
        events.push(refund(&format!("S{n}"), "2027-01-02T12:00:00Z"));
    }
    events.pop();
    let tasks = events.into_iter().rev().map(|event| {
        let (store, rules) = (store.clone(), rules());
        tokio::spawn(async move { store.apply_event(&event, &rules, now).await.unwrap() })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let account = store.account_money("u7").await.unwrap();
    assert_eq!(account.facts.totals()["USD"], (12 * 7_999, 11 * 7_999));
    assert_eq!(account.subscription.unwrap().current_period_end, instant("2027-02-01T12:00:00Z"));
    whole_chain(&store, "u7").await;
}

async fn a_paid_invite_is_one_credit_and_a_refund_takes_it_back(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    let at = now.to_rfc3339();
    database
        .execute(format!(
            "INSERT INTO invites (id, inviter, email, email_key, state, created_at) \
             VALUES ('i1', 'u1', 'someone@example.com', 'someone@example.com', 'invited', '{at}')"
        ))
        .await;
    let balance = async || database.query("SELECT CAST(SUM(delta) AS TEXT) FROM credits WHERE user_id = 'u1'").await;
    store.apply_event(&paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u7"), &rules, now).await.unwrap();
    store.apply_event(&paid("C2", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u7"), &rules, now).await.unwrap();
    assert_eq!(balance().await, ["1"], "a second payment earns nothing more");
    assert_eq!(database.query("SELECT state || ' ' || invitee FROM invites").await, ["paid u7"]);
    store.apply_event(&refund("C1", "2027-03-02T12:00:00Z"), &rules, now).await.unwrap();
    assert_eq!(balance().await, ["1"], "the other payment stands");
    store.apply_event(&refund("C2", "2027-03-02T12:00:00Z"), &rules, now).await.unwrap();
    assert_eq!(balance().await, ["0"]);
    store.apply_event(&paid("C3", "2027-03-03T12:00:00Z", "79.99", "gold_monthly_1_u7"), &rules, now).await.unwrap();
    assert_eq!(balance().await, ["1"], "earned again");
    let rows = "SELECT reason || ' ' || source FROM credits ORDER BY id";
    assert_eq!(database.query(rows).await, ["invite_paid i1#1", "invite_unpaid i1#1", "invite_paid i1#2"]);
}

/// D7: money that comes is money; credit waits for a period that nobody paid.
async fn d7_a_payment_is_kept_and_uses_no_credit(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    give_credit(&database, "u7", 3).await;
    for (id, time) in [("C1", "2027-02-14T12:00:00Z"), ("C2", "2027-03-13T12:00:00Z")] {
        store.apply_event(&paid(id, time, "79.99", "gold_monthly_1_u7"), &rules, now).await.unwrap();
    }
    let due = store.subscription_of("u7").await.unwrap().unwrap();
    assert_eq!((due.credits, store.account_money("u7").await.unwrap().facts.totals()["USD"]), (3, (15_998, 0)));
    // The night of the first end: it was paid, so that nothing is due and no credit is used.
    store.renew(&due.id, &record(instant("2027-03-15T07:00:00Z")), &rules, Confirmation::Unpaid).await.unwrap();
    assert_eq!(store.subscription_of("u7").await.unwrap().unwrap().credits, 3);
    // The night of the second, which nobody paid: one month, once.
    let night = record(instant("2027-04-15T07:00:00Z"));
    let (_, decision) = store.renew(&due.id, &night, &rules, Confirmation::Unpaid).await.unwrap().unwrap();
    assert_eq!(decision, Decision::UseCredit);
    assert_eq!(store.renew(&due.id, &night, &rules, Confirmation::Unpaid).await.unwrap(), None);
    assert_eq!(store.subscription_of("u7").await.unwrap().unwrap().credits, 0);
}

async fn a_period_is_decided_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (due, now) = (instant(NOW), instant(NOW) + TimeDelta::hours(1));
    subscribe(&database, "s1", Status::Active, due).await;
    let (rules, asked) = (rules(), Confirmation::Unpaid);
    let early = record(due - TimeDelta::seconds(1));
    assert_eq!(store.renew("s1", &early, &rules, asked).await.unwrap(), None, "it is not due yet");
    let (before, decision) = store.renew("s1", &record(now), &rules, asked).await.unwrap().unwrap();
    assert_eq!((before.user_id.as_str(), decision), ("u-s1", Decision::MarkPastDue));
    assert_eq!(before.subscription().unwrap().status, Status::Active);
    assert_eq!(store.renew("s1", &record(now), &rules, asked).await.unwrap(), None, "nothing is due any more");
    assert_eq!(store.renew("nobody", &record(now), &rules, asked).await.unwrap(), None);
    let steps = [15, 31].map(TimeDelta::days);
    for (step, expected) in steps.iter().zip([Decision::Suspend, Decision::Expire]) {
        let (_, decision) = store.renew("s1", &record(due + *step), &rules, asked).await.unwrap().unwrap();
        assert_eq!(decision, expected);
    }
    // The later steps are of the same period: its record stays the first.
    assert_eq!(database.query("SELECT action FROM renewals").await, ["marked_past_due"]);
    assert_eq!(store.count_due_subscriptions(now + TimeDelta::days(400)).await.unwrap(), 0);
    assert_eq!(database.query("SELECT step FROM outbox ORDER BY step").await, ["expired", "suspended"]);
    let chain = whole_chain(&store, "u-s1").await;
    assert_eq!(chain.len(), 3);
    let account = store.account_money("u-s1").await.unwrap();
    let derived = bellwether::billing::derive(&account.facts, &rules, due + steps[1]);
    assert_eq!(derived, account.subscription, "what the night wrote is what the facts say");
}

fn due_by(at: DateTime<Utc>) -> DuePage<'static> {
    DuePage { at, after: None, limit: 1_000 }
}

async fn many_are_decided_in_one_go_and_as_each_would_be(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (rules, now) = (rules(), instant(NOW));
    let statuses = [Status::Active, Status::PastDue, Status::Canceled, Status::Suspended, Status::Expired];
    let mut ids = Vec::new();
    for (n, status) in (0..450).zip(statuses.iter().cycle()) {
        ids.push(format!("s{n:03}"));
        ids.push(format!("t{n:03}"));
        if n < 15 {
            for id in &ids[ids.len() - 2..] {
                subscribe(&database, id, *status, now - TimeDelta::days(1 + n)).await;
            }
        }
    }
    for n in [0, 5, 6] {
        give_credit(&database, &format!("u-s{n:03}"), 4).await;
        give_credit(&database, &format!("u-t{n:03}"), 4).await;
    }
    let one_by_one: Vec<String> = ids.iter().filter(|id| id.starts_with('s')).cloned().collect();
    for id in &one_by_one {
        store.renew(id, &record(now), &rules, Confirmation::Unpaid).await.unwrap();
    }
    let decided = store.renew_many(due_by(now), &record(now), &rules, Confirmation::Unpaid).await.unwrap();
    assert_eq!(decided.len(), 15);
    assert_eq!(store.renew_many(due_by(now), &record(now), &rules, Confirmation::Unpaid).await.unwrap(), vec![]);
    let rows = async |letter: char| {
        let of = |sql: &str| sql.replace("{}", &letter.to_string());
        let state =
            of("SELECT replace(id, '{}', '') || ' ' || status || ' ' || CAST(current_period_end AS TEXT) || ' ' \
            || COALESCE(CAST(next_action_at AS TEXT), '-') || ' ' || COALESCE(CAST(anchor_months AS TEXT), '-') || ' ' \
            || COALESCE(lapse_status, '-') FROM subscriptions WHERE id LIKE '{}%' ORDER BY id");
        let records = of("SELECT replace(subscription_id, '{}', '') || ' ' || action || status_after FROM renewals \
            WHERE subscription_id LIKE '{}%' ORDER BY 1");
        let credit = of("SELECT replace(user_id, 'u-{}', '') || ' ' || CAST(delta AS TEXT) || reason FROM credits \
            WHERE user_id LIKE 'u-{}%' ORDER BY 1");
        let audit = of(
            "SELECT replace(account, 'u-{}', '') || COALESCE(before, '') || after FROM audit WHERE account LIKE 'u-{}%' ORDER BY 1",
        );
        let mut all = Vec::new();
        for sql in [state, records, credit, audit] {
            all.extend(database.query(&sql).await);
        }
        all
    };
    let (one_by_one, together) = (rows('s').await, rows('t').await);
    assert!(one_by_one.len() > 40, "{one_by_one:#?}");
    assert_eq!(one_by_one, together);
    assert_eq!(store.count_due_subscriptions(now).await.unwrap(), 0);
}

async fn a_credit_is_used_once_under_concurrency(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    subscribe(&database, "s1", Status::Active, now - TimeDelta::days(1)).await;
    give_credit(&database, "u-s1", 5).await;
    let tasks = (0..8).map(|n| {
        let (store, rules) = (store.clone(), rules());
        tokio::spawn(async move {
            match n % 2 {
                0 => store.renew("s1", &record(now), &rules, Confirmation::Unpaid).await.unwrap().is_some(),
                _ => {
                    !store.renew_many(due_by(now), &record(now), &rules, Confirmation::Unpaid).await.unwrap().is_empty()
                }
            }
        })
    });
    let mut used = 0;
    for task in tasks.collect::<Vec<_>>() {
        used += usize::from(task.await.unwrap());
    }
    assert_eq!(used, 1);
    let due = store.subscription_of("u-s1").await.unwrap().unwrap();
    assert_eq!(due.credits, 2);
    assert_eq!(due.subscription().unwrap().current_period_end, instant("2027-04-13T06:00:00Z"));
    assert_eq!(database.query("SELECT action FROM renewals").await, ["applied_referral_credit"]);
    assert_eq!(store.settle_doubts().await.unwrap(), 0);
}

async fn what_is_due_is_paged_in_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant(NOW);
    for (id, minutes) in [("c", 2), ("a", 5), ("b", 5), ("later", -5)] {
        subscribe(&database, id, Status::Active, now - TimeDelta::minutes(minutes)).await;
    }
    assert_eq!(store.count_due_subscriptions(now).await.unwrap(), 3);
    let mut seen = Vec::new();
    let mut after: Option<(DateTime<Utc>, String)> = None;
    loop {
        let key = after.as_ref().map(|(at, id)| (*at, id.as_str()));
        let page = store.due_subscriptions(DuePage { at: now, after: key, limit: 1 }).await.unwrap();
        let Some(row) = page.last() else { break };
        after = Some((row.next_action_at.unwrap(), row.id.clone()));
        seen.push(row.id.clone());
    }
    assert_eq!(seen, ["a", "b", "c"]);
}

async fn two_subscriptions_of_one_account_are_seen(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    let doubled = async |at: DateTime<Utc>| store.billing_health(at).await.unwrap().doubled;
    for (link, user) in [("I-1", "u7"), ("I-2", "u7"), ("I-3", "u8")] {
        let event = activated(link, "2027-03-01T12:00:00Z", &format!("gold_monthly_1_{user}"));
        store.apply_event(&event, &rules, now).await.unwrap();
    }
    assert_eq!(doubled(instant("2027-03-02T11:00:00Z")).await, 0, "whoever changes over has a day for it");
    assert_eq!(doubled(now).await, 1);
    let mut ended = activated("I-1", "2027-03-05T12:00:00Z", "gold_monthly_1_u7");
    if let What::Subscription { change, .. } = &mut ended.what {
        *change = Change::Canceled;
    }
    store.apply_event(&Event { id: "WH-E".to_owned(), ..ended }, &rules, now).await.unwrap();
    assert_eq!(doubled(now).await, 0);
}

async fn a_plan_that_was_paid_for_next_begins_in_its_night(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    store.apply_event(&paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u7"), &rules, now).await.unwrap();
    store.apply_event(&paid("C2", "2027-03-02T12:00:00Z", "24.99", "bronze_monthly_1_u7"), &rules, now).await.unwrap();
    let night = instant("2027-04-02T07:00:00Z");
    let due = store.due_subscriptions(due_by(night)).await.unwrap();
    assert_eq!((due.len(), due[0].plan()), (1, "gold"));
    let together = store.renew_many(due_by(night), &record(night), &rules, Confirmation::Unpaid).await.unwrap();
    assert_eq!(together[0].1, Decision::Switch, "it is left to a transaction of its own");
    store.renew(&due[0].id, &record(night), &rules, Confirmation::Unpaid).await.unwrap().unwrap();
    let due = store.subscription_of("u7").await.unwrap().unwrap();
    assert_eq!((due.plan(), due.next_action_at), ("bronze", Some(instant("2027-05-01T11:00:00Z"))));
}

async fn what_an_earlier_version_wrote_goes_on(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    subscribe(&database, "s1", Status::Active, instant("2027-04-01T04:00:00Z")).await;
    let event = paid("C1", "2027-03-10T12:00:00Z", "79.99", "gold_monthly_1_u-s1");
    let account = store.apply_event(&event, &rules, now).await.unwrap().account;
    assert_eq!(account.subscription.as_ref().unwrap().current_period_end, instant("2027-05-01T04:00:00Z"));
    assert_eq!(store.account_money("u-s1").await.unwrap(), account);
    assert_eq!(database.query("SELECT id FROM subscriptions").await, ["s1"], "the row is the same");
}

async fn what_of_a_list_is_in_the_books(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for event in [
        paid("C1", NOW, "79.99", "gold_monthly_1_u1"),
        paid("C2", NOW, "24.99", "bronze_monthly_1_u2"),
        refund("C1", NOW),
    ] {
        store.apply_event(&event, &rules(), instant(NOW)).await.unwrap();
    }
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let mut known = store.known_payments(&ids(&["C1", "C2", "C9"])).await.unwrap();
    known.sort_by(|a, b| a.id.cmp(&b.id));
    let known: Vec<_> = known.iter().map(|one| (one.id.as_str(), one.amount_minor, one.currency.as_str())).collect();
    assert_eq!(known, [("C1", 7_999, "USD"), ("C2", 2_499, "USD")]);
    let mut reversed = store.known_reversals(&ids(&["R-C1", "C1", "C2", "R-C9"])).await.unwrap();
    reversed.sort();
    assert_eq!(reversed, ["C1", "R-C1"], "by itself, or by what it is about");
    assert!(
        store.known_payments(&[]).await.unwrap().is_empty() && store.known_reversals(&[]).await.unwrap().is_empty()
    );
}
