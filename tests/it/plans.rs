//! What an account wants to have next: nothing is given before it is paid for.

use serde_json::{Value, json};

use crate::harness::{Database, Engine, Running, instant};
use crate::sim_paypal::SimPayPal;
use crate::store_billing::{activated, paid, rules, sale};
use crate::webhooks::world_with_paypal;

use bellwether::billing::{BillingCycle, Terms};
use bellwether::store::Cause;

const TOKEN: &str = "a-token-of-the-site";
const NOW: &str = "2027-06-01T12:00:00Z";

on_both_engines!(
    a_wish_is_kept_and_given_up,
    d54_looking_writes_nothing_and_what_was_paid_is_there_to_be_seen,
    d34_d53_another_plan_comes_with_its_payment_and_a_word_is_a_word
);

async fn a_wish_is_kept_and_given_up(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    store.referral_code("u1", None, now).await.unwrap();
    let cause = Cause { actor: "site".to_owned(), cause: "change-plan".to_owned(), request_id: None };
    let silver = Terms { plan: "silver".to_owned(), cycle: BillingCycle::Annual };
    assert_eq!(store.plan_wish("u1").await.unwrap(), None);
    for _ in 0..2 {
        store.wish_plan("u1", Some(&silver), &cause, now).await.unwrap();
        assert_eq!(store.plan_wish("u1").await.unwrap().as_ref(), Some(&silver));
    }
    for _ in 0..2 {
        store.wish_plan("u1", None, &cause, now).await.unwrap();
        assert_eq!(store.plan_wish("u1").await.unwrap(), None);
    }
    assert_eq!(store.audit_of("u1").await.unwrap().len(), 2, "the same again is no change");
}

/// D54: asking for the plan of somebody makes nobody, and payments are a history.
async fn d54_looking_writes_nothing_and_what_was_paid_is_there_to_be_seen(engine: Engine) {
    let (world, _paypal) = world_with_paypal(engine, &[("SITE_TOKEN", TOKEN)]).await;
    let running = world.start().await;
    for (id, amount) in [("C1", "24.99"), ("C2", "0.01")] {
        let payment = paid(id, "2027-05-20T12:00:00Z", amount, "bronze_monthly_1_u1");
        running.daemon.store.apply_event(&payment, &rules(), instant(NOW)).await.unwrap();
    }
    let written = async || {
        let tables = ["accounts", "subscriptions", "audit", "payments", "outbox"];
        let counts = tables.map(|table| format!("(SELECT COUNT(*) FROM {table})")).join(" || ' ' || ");
        world
            .database
            .query(&format!("SELECT CAST(MAX(updated_at) AS TEXT) || ' ' || {counts} FROM subscriptions"))
            .await
    };
    let before = written().await;
    world.clock.advance(chrono::TimeDelta::hours(1));
    for user in ["u1", "nobody"] {
        let url = format!("http://{}/api/billing/current-plan?user_id={user}", running.daemon.api);
        assert_eq!(running.http.get(url).bearer_auth(TOKEN).send().await.unwrap().status().as_u16(), 200);
    }
    assert_eq!(written().await, before);
    let shown = crate::commands::bellwether(
        world.file.path(),
        &["renewals", "show", "u1", "--json"],
        &[("DATABASE_URL", &world.database.url)],
    );
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["payments"][0]["id"], &shown["payments"][0]["verdict"]), (&json!("C1"), &json!("paid")));
    assert_eq!(shown["flags"][0]["code"], json!("wrong_amount"));
    running.stop().await;
}

async fn ask(running: &Running, path: &str, body: Value) -> (u16, Value) {
    let request = running.http.post(format!("http://{}{path}", running.daemon.api)).bearer_auth(TOKEN);
    let answer = request.body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn change(running: &Running, user: &str, plan: &str) -> (u16, String, Value) {
    let (status, body) = ask(running, "/api/billing/change-plan", json!({ "user_id": user, "plan": plan })).await;
    let word = body["code"].as_str().or(body["status"].as_str()).unwrap_or_default().to_owned();
    (status, word, body)
}

async fn at_paypal(running: &Running, paypal: &SimPayPal) {
    let store = &running.daemon.store;
    let agreed = activated("I-1", "2027-05-31T11:59:00Z", "silver_monthly_1_u2");
    store.apply_event(&agreed, &rules(), instant(NOW)).await.unwrap();
    let first = sale("S-1", "I-1", "2027-05-31T12:00:00Z", "49.99");
    store.apply_event(&first, &rules(), instant(NOW)).await.unwrap();
    paypal.state().subscriptions.insert("I-1".to_owned(), json!({"id": "I-1", "status": "ACTIVE"}));
}

async fn d34_d53_another_plan_comes_with_its_payment_and_a_word_is_a_word(engine: Engine) {
    let settings = [("SITE_TOKEN", TOKEN), ("BELLWETHER_BILLING__PAYPAL_PLANS", "P-GOLD gold monthly")];
    let (world, paypal) = world_with_paypal(engine, &settings).await;
    let running = world.start().await;
    let store = &running.daemon.store;
    let word = |found: (u16, String, Value)| (found.0, found.1);
    let told = |status: u16, word: &str| (status, word.to_owned());
    // D34: who has paid nothing gets nothing by asking.
    assert_eq!(word(change(&running, "u1", "gold").await), told(409, "needs_payment"));
    assert_eq!(word(change(&running, "u1", "lunar").await), told(422, "unknown_plan"));
    store
        .apply_event(&paid("C1", "2027-05-20T12:00:00Z", "24.99", "bronze_monthly_1_u1"), &rules(), instant(NOW))
        .await
        .unwrap();
    assert_eq!(word(change(&running, "u1", "enterprise").await), told(422, "not_sold"), "an operator's to give");
    let (status, planned, body) = change(&running, "u1", "premium").await;
    assert_eq!((status, planned.as_str(), &body["data"]["plan_type"]), (200, "planned", &json!("bronze")));
    assert_eq!(
        body["data"]["next_plan"],
        json!({"plan": "gold", "billing_cycle": "monthly", "from": "2027-06-20T12:00:00Z", "paid": false})
    );
    assert_eq!(body["data"]["features"]["api_calls_per_month"], json!(1_500));
    assert_eq!(word(change(&running, "u1", "bronze").await), told(200, "unchanged"));
    let (_, _, body) = change(&running, "u1", "gold").await;
    assert_eq!(body["data"]["next_plan"]["paid"], json!(false));
    // Its payment is what gives it, when the period before it ends.
    store.apply_event(&paid("C2", NOW, "79.99", "gold_monthly_1_u1"), &rules(), instant(NOW)).await.unwrap();
    let (status, is_paid, body) = change(&running, "u1", "gold").await;
    assert_eq!((status, is_paid.as_str(), &body["data"]["plan_type"]), (200, "paid", &json!("bronze")));
    assert_eq!(body["data"]["next_plan"]["paid"], json!(true));
    world.clock.advance_to(instant("2027-06-20T12:00:01Z"));
    let (_, _, body) = change(&running, "u1", "gold").await;
    assert_eq!(body["data"]["plan_type"], json!("gold"));
    // PayPal charges nobody for another plan without their consent.
    at_paypal(&running, &paypal).await;
    let (status, needs, body) = change(&running, "u2", "gold").await;
    assert_eq!((status, needs.as_str()), (202, "needs_approval"));
    assert_eq!(body["approval"], json!({"paypal_subscription": "I-1", "paypal_plan": "P-GOLD"}));
    assert_eq!(body["data"]["next_plan"], json!(null));
    // D53: a text is no word, and the word taken back undoes canceled.
    let renew = async |user: &str, value: Value| {
        ask(&running, "/api/billing/auto-renew", json!({ "user_id": user, "auto_renew": value })).await
    };
    for odd in [json!("false"), json!("true"), json!(0), json!(null)] {
        let (status, body) = renew("u1", odd.clone()).await;
        assert_eq!((status, &body["code"]), (400, &json!("bad_body")), "{odd}");
    }
    let (status, body) = renew("u1", json!(false)).await;
    assert_eq!((status, &body["data"]["subscription_status"]), (200, &json!("canceled")));
    assert_eq!((&body["end_at_paypal"], &body["data"]["next_billing_date"]), (&json!(null), &json!(null)));
    assert_eq!(word(change(&running, "u1", "silver").await), told(409, "canceled"));
    world.clock.advance(chrono::TimeDelta::seconds(1));
    let (status, body) = renew("u1", json!(true)).await;
    assert_eq!((status, &body["data"]["subscription_status"]), (200, &json!("active")));
    // Free is the end; at PayPal too, and what has ended there is not begun again by a word.
    let (status, canceled, body) = change(&running, "u2", "free").await;
    assert_eq!((status, canceled.as_str(), &body["end_at_paypal"]), (200, "canceled", &json!("wanted")));
    crate::harness::eventually("it has ended there", async || !paypal.state().ended.is_empty()).await;
    world.clock.advance(chrono::TimeDelta::seconds(1));
    let (status, body) = renew("u2", json!(true)).await;
    assert_eq!((status, &body["code"]), (409, &json!("needs_approval")));
    assert_eq!(renew("nobody", json!(true)).await.0, 404);
    running.stop().await;
}
