//! What a payment was found to be worth, whose it is, and what is told of one that is not in the books: the same on both engines.

use bellwether::billing::{Choice, Currency, Event, Money, ReversalKind, Rules, Status, What};
use bellwether::store::{Cause, Chosen, Store};
use chrono::{DateTime, TimeDelta, Utc};

use crate::harness::{Database, Engine, instant};
use crate::store_billing::{activated, paid, rules, sale};

on_both_engines!(
    a_price_that_is_sold_no_more_takes_nothing_away,
    money_is_one_accounts_however_it_is_told_again,
    what_was_not_found_good_is_judged_anew,
    money_that_goes_back_of_nothing_that_is_known_is_seen,
);

const NOW: &str = "2027-03-14T07:00:00Z";

fn said(cause: &str) -> Cause {
    Cause { actor: "site".to_owned(), cause: cause.to_owned(), request_id: None }
}

/// The price list without what gold costs by the month, and with another price instead.
fn dearer() -> Rules {
    let mut rules = rules();
    let price = Money::parse("99.99", Currency::USD).unwrap();
    rules.plans.get_mut("gold").unwrap().monthly = vec![price];
    rules
}

fn back(of: &str, kind: ReversalKind, time: &str) -> Event {
    let what = What::Reversal { id: format!("R-{of}"), of: of.to_owned(), kind, amount: None };
    Event { source: "paypal".to_owned(), id: format!("WH-R-{of}"), at: instant(time), what }
}

async fn stands(store: &Store, user: &str) -> (Status, bool, DateTime<Utc>) {
    let subscription = store.account_money(user).await.unwrap().subscription.unwrap();
    (subscription.status, subscription.auto_renew, subscription.current_period_end)
}

async fn a_price_that_is_sold_no_more_takes_nothing_away(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, dearer, now) = (database.store().await, rules(), dearer(), instant(NOW));
    let apply = async |event: Event, rules: &Rules| store.apply_event(&event, rules, now).await.unwrap();
    apply(activated("I-1", "2027-03-01T11:59:00Z", "gold_monthly_1_u1"), &rules).await;
    apply(sale("S1", "I-1", "2027-03-01T12:00:00Z", "79.99"), &rules).await;
    apply(paid("C2", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u2"), &rules).await;
    let end = instant("2027-04-01T11:00:00Z");
    assert_eq!(stands(&store, "u1").await, (Status::Active, true, end));
    // An event after the list has changed.
    let applied = apply(sale("S1", "I-1", "2027-03-01T12:00:00Z", "79.99"), &dearer).await;
    assert_eq!(applied.effects, vec![]);
    apply(activated("I-1", "2027-03-02T11:59:00Z", "gold_monthly_1_u1"), &dearer).await;
    assert_eq!(stands(&store, "u1").await, (Status::Active, true, end));
    // And the holder's word.
    for user in ["u1", "u2"] {
        let no = Choice { at: now, auto_renew: false };
        assert!(matches!(store.choose(user, no, &dearer, &said("cancel")).await.unwrap(), Chosen::Done(_)));
        assert_eq!(stands(&store, user).await, (Status::Canceled, false, end));
    }
    assert_eq!(
        database.query("SELECT step FROM outbox ORDER BY step").await,
        ["canceled", "canceled", "welcome", "welcome"]
    );
    // Money that goes back takes it away all the same.
    apply(back("C2", ReversalKind::Refunded, NOW), &dearer).await;
    assert_eq!(stands(&store, "u2").await.0, Status::Expired);
    // A new one is judged by the list of its day.
    apply(paid("C3", "2027-03-10T12:00:00Z", "79.99", "gold_monthly_1_u3"), &dearer).await;
    assert_eq!(store.account_money("u3").await.unwrap().subscription, None);
}

async fn money_is_one_accounts_however_it_is_told_again(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    store.apply_event(&paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u1"), &rules, now).await.unwrap();
    // The same capture, told with another name on it; then with none, from an address of somebody else's.
    let other = paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u2");
    let told = store.apply_event(&Event { id: "WH-2".to_owned(), ..other }, &rules, now).await.unwrap();
    assert_eq!((told.user_id.as_deref(), told.effects), (Some("u1"), vec![]));
    let mut nameless = paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1");
    if let What::Payment { payer, .. } = &mut nameless.what {
        payer.email = Some("another@example.com".to_owned());
    }
    let told = store.apply_event(&Event { id: "WH-3".to_owned(), ..nameless }, &rules, now).await.unwrap();
    assert_eq!(told.user_id.as_deref(), Some("u1"));
    assert_eq!(store.account_money("u2").await.unwrap().facts.payments, vec![]);
    assert_eq!(database.query("SELECT user_id FROM subscriptions").await, ["u1"]);
    let health = store.billing_health(now + TimeDelta::hours(26)).await.unwrap();
    assert_eq!((health.flags, health.ownerless), (0, 0));
}

async fn what_was_not_found_good_is_judged_anew(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, dearer, now) = (database.store().await, rules(), dearer(), instant(NOW));
    let at = now.to_rfc3339();
    database
        .execute(format!(
            "INSERT INTO invites (id, inviter, email, email_key, state, created_at) \
             VALUES ('i1', 'u9', 'someone@example.com', 'someone@example.com', 'invited', '{at}')"
        ))
        .await;
    for (id, user) in [("C1", "u1"), ("C2", "u2"), ("C3", "u3")] {
        let event = paid(id, "2027-03-01T12:00:00Z", "79.99", &format!("gold_monthly_1_{user}"));
        store.apply_event(&event, if user == "u3" { &rules } else { &dearer }, now).await.unwrap();
    }
    assert_eq!(database.query("SELECT code FROM billing_flags").await, ["wrong_amount", "wrong_amount"]);
    let flags = store.flags_of("u1").await.unwrap();
    assert_eq!((flags.len(), flags[0].code.as_str(), flags[0].resolved_at), (1, "wrong_amount", None));
    assert_eq!(store.flags_of("u3").await.unwrap(), vec![]);
    assert_eq!(database.query("SELECT id FROM credits WHERE user_id = 'u9'").await.len(), 1, "u3 has paid");
    database.execute("DELETE FROM credits".to_owned()).await;
    database.execute("UPDATE invites SET state = 'accepted', invitee = 'u1'".to_owned()).await;
    assert_eq!(store.accounts_to_judge("", 1).await.unwrap(), ["u1"]);
    assert_eq!(store.accounts_to_judge("u1", 9).await.unwrap(), ["u2"]);
    store.settle("u1", &dearer, &said("run"), now).await.unwrap();
    assert_eq!(store.account_money("u1").await.unwrap().subscription, None);
    let account = store.settle("u1", &rules, &said("run"), now).await.unwrap();
    assert_eq!(stands(&store, "u1").await, (Status::Active, true, instant("2027-04-01T11:00:00Z")));
    assert_eq!(store.account_money("u1").await.unwrap(), account, "what is read is what was written");
    assert_eq!(database.query("SELECT reason FROM credits WHERE user_id = 'u9'").await, ["invite_paid"]);
    assert_eq!(store.accounts_to_judge("", 9).await.unwrap(), ["u2"], "it is found good, and stays so");
    // What an earlier version wrote has no worth: it gets it when it is looked at first.
    database
        .execute("UPDATE payments SET good_for_plan = NULL, good_for_cycle = NULL, good_for_cycles = NULL".to_owned())
        .await;
    store.settle("u3", &rules, &said("run"), now).await.unwrap();
    store.settle("u3", &dearer, &said("run"), now).await.unwrap();
    assert_eq!(stands(&store, "u3").await.0, Status::Active);
    // Its price is gone before that: what there was stays, and so does the holder's word.
    let no = Choice { at: now, auto_renew: false };
    assert!(matches!(store.choose("u1", no, &dearer, &said("cancel")).await.unwrap(), Chosen::Done(_)));
    assert_eq!(stands(&store, "u1").await, (Status::Canceled, false, instant("2027-04-01T11:00:00Z")));
}

async fn money_that_goes_back_of_nothing_that_is_known_is_seen(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant(NOW));
    let unbooked = async |hours: i64| store.billing_health(now + TimeDelta::hours(hours)).await.unwrap().unbooked;
    for (of, kind) in [("C1", ReversalKind::Refunded), ("C2", ReversalKind::Reversed), ("C3", ReversalKind::Denied)] {
        let applied = store.apply_event(&back(of, kind, NOW), &rules, now).await.unwrap();
        assert_eq!(applied.user_id, None);
    }
    assert_eq!(
        (unbooked(24).await, unbooked(26).await),
        (0, 2),
        "the payment has a day to come, and a denial took nothing back"
    );
    let late = paid("C1", "2027-03-01T12:00:00Z", "79.99", "gold_monthly_1_u1");
    store.apply_event(&late, &rules, now).await.unwrap();
    assert_eq!(unbooked(26).await, 1);
    assert_eq!(stands(&store, "u1").await.0, Status::Expired);
    database.execute("UPDATE reversals SET settled_at = CURRENT_TIMESTAMP WHERE id = 'R-C2'".to_owned()).await;
    assert_eq!(unbooked(26).await, 0);
}
