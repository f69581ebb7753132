//! What becomes of events once they are stored: each takes effect once, whatever fails, is killed, or comes twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether::store::{EventFilter, EventStatus, RunFilter, RunState};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant};
use crate::sim_paypal::{SimPayPal, event};
use crate::webhooks::world_with_paypal;

const AT: &str = "2027-06-01T11:59:00Z";

/// A month of gold, bought once by `user`.
pub fn capture(event_id: &str, capture: &str, user: &str, amount: &str) -> Value {
    let resource = json!({
        "id": capture, "status": "COMPLETED", "amount": {"value": amount, "currency_code": "USD"},
        "custom_id": format!("gold_monthly_1811851140_{user}"), "create_time": AT,
    });
    event(event_id, "PAYMENT.CAPTURE.COMPLETED", instant(AT), resource)
}

async fn post(paypal: &SimPayPal, running: &Running, event: &Value) -> u16 {
    paypal.sign(event.to_string().as_bytes()).post(&running.http, running.daemon.api).await.0
}

async fn statuses(running: &Running) -> Vec<(String, EventStatus)> {
    let filter = EventFilter { limit: 10_000, ..EventFilter::default() };
    let rows = running.daemon.store.list_events(&filter).await.unwrap();
    let mut rows: Vec<_> = rows.into_iter().map(|row| (row.event_id, row.status)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

async fn become_(running: &Running, id: &str, status: EventStatus) {
    eventually(&format!("{id} is {status}"), async || {
        statuses(running).await.iter().any(|row| row.0 == id && row.1 == status)
    })
    .await;
}

async fn subscriptions(world: &World) -> Vec<String> {
    world.database.query("SELECT user_id || ' ' || plan || ' ' || status FROM subscriptions ORDER BY user_id").await
}

async fn payments(world: &World) -> Vec<String> {
    world.database.query("SELECT id FROM payments ORDER BY id").await
}

async fn what_paypal_tells_takes_effect_once(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    assert_eq!(post(&paypal, &running, &capture("WH-1", "CAP-1", "u1", "79.99")).await, 200);
    become_(&running, "WH-1", EventStatus::Processed).await;
    assert_eq!(subscriptions(&world).await, ["u1 gold active"]);
    // The same money under another event id is the same money.
    assert_eq!(post(&paypal, &running, &capture("WH-2", "CAP-1", "u1", "79.99")).await, 200);
    become_(&running, "WH-2", EventStatus::Processed).await;
    assert_eq!(payments(&world).await, ["CAP-1"]);
    // What nothing follows from is kept and counted.
    let plan = event("WH-3", "BILLING.PLAN.CREATED", instant(AT), json!({"id": "P-1"}));
    assert_eq!(post(&paypal, &running, &plan).await, 200);
    become_(&running, "WH-3", EventStatus::Ignored).await;
    // D5: a refund of the payment takes it back.
    let refund = json!({
        "id": "REF-1", "amount": {"value": "79.99", "currency_code": "USD"}, "create_time": AT,
        "links": [{"rel": "self", "href": "https://x/v2/payments/refunds/REF-1"}, {"rel": "up", "href": "https://x/v2/payments/captures/CAP-1"}],
    });
    let refund = event("WH-4", "PAYMENT.CAPTURE.REFUNDED", instant(AT), refund);
    assert_eq!(post(&paypal, &running, &refund).await, 200);
    become_(&running, "WH-4", EventStatus::Processed).await;
    assert_ne!(subscriptions(&world).await, ["u1 gold active"], "what was given back buys nothing");
    running.stop().await;
}

#[tokio::test]
async fn what_paypal_tells_takes_effect_once_sqlite() {
    what_paypal_tells_takes_effect_once(Engine::Sqlite).await;
}

#[tokio::test]
async fn what_paypal_tells_takes_effect_once_postgres() {
    what_paypal_tells_takes_effect_once(Engine::Postgres).await;
}

/// D1: an event that could not be applied is not lost: it is tried again, and PayPal's own repetition changes nothing.
async fn d1_an_event_that_failed_is_applied_later(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    world.database.execute("ALTER TABLE payments RENAME TO payments_away".to_owned()).await;
    assert_eq!(post(&paypal, &running, &capture("WH-1", "CAP-1", "u1", "79.99")).await, 200);
    become_(&running, "WH-1", EventStatus::Failed).await;
    assert_eq!(post(&paypal, &running, &capture("WH-1", "CAP-1", "u1", "79.99")).await, 200);
    let failed = running.daemon.store.event("WH-1").await.unwrap().unwrap().row;
    assert_eq!((failed.attempts, failed.error.is_some()), (1, true));
    assert_eq!(failed.next_attempt_at, Some(world.clock_now() + TimeDelta::seconds(5)));
    world.database.execute("ALTER TABLE payments_away RENAME TO payments".to_owned()).await;
    eventually("it is tried again", async || {
        world.clock.advance(TimeDelta::seconds(1));
        statuses(&running).await[0].1 == EventStatus::Processed
    })
    .await;
    assert_eq!((payments(&world).await.len(), subscriptions(&world).await.len()), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn d1_an_event_that_failed_is_applied_later_sqlite() {
    d1_an_event_that_failed_is_applied_later(Engine::Sqlite).await;
}

#[tokio::test]
async fn d1_an_event_that_failed_is_applied_later_postgres() {
    d1_an_event_that_failed_is_applied_later(Engine::Postgres).await;
}

/// The database takes the claim, then neither the effect nor the word that it failed.
async fn an_end_that_could_not_be_written_is_written_soon(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    world.database.execute("ALTER TABLE webhook_events RENAME COLUMN processed_at TO away".to_owned()).await;
    assert_eq!(post(&paypal, &running, &capture("WH-1", "CAP-1", "u1", "79.99")).await, 200);
    let status = "SELECT status FROM webhook_events";
    eventually("it is begun", async || world.database.query(status).await == ["processing"]).await;
    world.database.execute("ALTER TABLE webhook_events RENAME COLUMN away TO processed_at".to_owned()).await;
    let (since, looks) = (world.clock_now(), AtomicUsize::new(0));
    eventually("it is tried again", async || {
        // A beat, and time for what it begins.
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
            world.clock.advance(TimeDelta::seconds(5));
        }
        world.database.query(status).await == ["processed"]
    })
    .await;
    assert!(world.clock_now() - since < TimeDelta::minutes(4), "it did not wait until its claim was old");
    assert_eq!((payments(&world).await.len(), subscriptions(&world).await.len()), (1, 1));
    running.stop().await;
}

#[tokio::test]
async fn an_end_that_could_not_be_written_is_written_soon_sqlite() {
    an_end_that_could_not_be_written_is_written_soon(Engine::Sqlite).await;
}

#[tokio::test]
async fn an_end_that_could_not_be_written_is_written_soon_postgres() {
    an_end_that_could_not_be_written_is_written_soon(Engine::Postgres).await;
}

#[tokio::test]
async fn poison_ends_dead_takes_nobody_along_and_is_replayed_with_its_verdict() {
    let (mut world, paypal) = world_with_paypal(Engine::Sqlite, &[]).await;
    world.set("OPERATOR_TOKEN", OPERATOR);
    let running = world.start().await;
    let poison =
        event("WH-1", "PAYMENT.CAPTURE.COMPLETED", instant(AT), json!({"id": "CAP-0", "amount": {"value": "1,50"}}));
    assert_eq!(post(&paypal, &running, &poison).await, 200);
    assert_eq!(post(&paypal, &running, &capture("WH-2", "CAP-2", "u2", "79.99")).await, 200);
    become_(&running, "WH-1", EventStatus::Dead).await;
    become_(&running, "WH-2", EventStatus::Processed).await;
    let backlog = running.daemon.store.events_backlog().await.unwrap();
    assert_eq!((backlog.dead, backlog.waiting), (1, 0));
    // Years later the certificate has ended; the verdict holds.
    world.clock.advance(TimeDelta::days(30 * 365));
    let since = json!({"status": "dead", "since": "2027-01-01T00:00:00Z"});
    let (status, replayed) = running.operate("/api/v1/webhooks/replay", Some(since)).await;
    assert_eq!((status, &replayed["replayed"]), (200, &json!(1)));
    become_(&running, "WH-1", EventStatus::Dead).await;
    assert_eq!(running.daemon.store.event("WH-1").await.unwrap().unwrap().row.verdict, "offline");
    let (_, replayed) = running.operate("/api/v1/webhooks/replay", Some(json!({"id": "WH-2"}))).await;
    assert_eq!(replayed["replayed"], json!(1));
    eventually("it was applied again", async || statuses(&running).await[1].1 == EventStatus::Processed).await;
    assert_eq!(payments(&world).await, ["CAP-2"], "and counts once");
    running.stop().await;
}

/// Killed again and again under load: whatever was acknowledged is there afterwards, and has its one effect.
async fn killed_under_load_what_was_acknowledged_has_its_one_effect(engine: Engine) {
    // On the shared database whoever was killed must fall silent first, in real time.
    let (world, paypal) = world_with_paypal(engine, &[("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2")]).await;
    let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sent = Arc::new(AtomicUsize::new(0));
    for round in 0..4 {
        let (daemon, api) = world.start_to_kill_with_api();
        let senders: Vec<_> = (0..8)
            .map(|_| {
                let (paypal, acknowledged, sent) = (paypal.clone(), Arc::clone(&acknowledged), Arc::clone(&sent));
                tokio::spawn(async move {
                    let http = crate::harness::client();
                    loop {
                        let n = sent.fetch_add(1, Ordering::SeqCst);
                        let body = capture(&format!("WH-{n}"), &format!("CAP-{n}"), &format!("u{n}"), "79.99");
                        let signed = paypal.sign(body.to_string().as_bytes());
                        let mut request = http.post(format!("http://{api}/paypal/webhook/")).body(signed.body);
                        for (name, value) in &signed.headers {
                            request = request.header(name, value);
                        }
                        match request.send().await {
                            Ok(answer) if answer.status().is_success() => acknowledged.lock().unwrap().push(n),
                            Ok(_) => {}
                            // The daemon is dead.
                            Err(_) => return,
                        }
                    }
                })
            })
            .collect();
        eventually("some were acknowledged", async || acknowledged.lock().unwrap().len() > (round + 1) * 20).await;
        daemon.kill();
        futures_util::future::join_all(senders).await;
    }
    let running = world.start().await;
    eventually("everything has its end", async || {
        // On a shared database a claim of whoever was killed ends with its time.
        world.clock.advance(TimeDelta::minutes(1));
        let rows = statuses(&running).await;
        rows.iter().all(|row| row.1 == EventStatus::Processed)
    })
    .await;
    let stored: std::collections::HashSet<String> = statuses(&running).await.into_iter().map(|row| row.0).collect();
    let paid: std::collections::HashSet<String> = payments(&world).await.into_iter().collect();
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 80);
    for n in acknowledged {
        assert!(stored.contains(&format!("WH-{n}")), "WH-{n} was acknowledged and is lost");
        assert!(paid.contains(&format!("CAP-{n}")), "CAP-{n} is not in the books");
    }
    let twice = "SELECT user_id FROM payments GROUP BY user_id HAVING COUNT(*) > 1";
    assert!(world.database.query(twice).await.is_empty());
    // Runs that the killed ones had are taken over, or written off, by a planner that looks.
    eventually("no run is left under way", async || {
        world.clock.advance(TimeDelta::seconds(1));
        let filter = RunFilter { state: Some(RunState::Running), limit: 10, ..RunFilter::default() };
        running.daemon.store.list_runs(&filter).await.unwrap().is_empty()
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_what_was_acknowledged_has_its_one_effect_sqlite() {
    killed_under_load_what_was_acknowledged_has_its_one_effect(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_what_was_acknowledged_has_its_one_effect_postgres() {
    killed_under_load_what_was_acknowledged_has_its_one_effect(Engine::Postgres).await;
}

/// What never came is fetched at night and takes effect; money that is nowhere in the books is named.
#[tokio::test]
async fn the_nightly_comparison_fetches_what_never_came_and_names_unknown_money() {
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let came = capture("WH-1", "CAP-1", "u1", "79.99");
    let never = capture("WH-2", "CAP-2", "u2", "79.99");
    assert_eq!(post(&paypal, &running, &came).await, 200);
    become_(&running, "WH-1", EventStatus::Processed).await;
    let paid = |id: &str, code: &str, value: &str| {
        json!({"transaction_info": {"transaction_id": id, "transaction_event_code": code, "transaction_status": "S",
            "transaction_initiation_date": AT, "transaction_amount": {"currency_code": "USD", "value": value}}})
    };
    paypal.state().events = vec![came, never.clone()];
    paypal.state().transactions =
        vec![paid("CAP-1", "T0006", "79.99"), paid("CAP-9", "T0002", "5.00"), paid("FEE-1", "T0100", "-1.00")];
    paypal.state().transactions.push(paid("REF-9", "T1107", "-79.99"));
    // 02:00 in New York.
    world.advance_to(&running, instant("2027-06-02T06:00:00Z")).await;
    let runs = world.ledger(&running, "reconcile-paypal").await;
    let report: Value = serde_json::from_str(runs[0].stats.as_deref().unwrap()).unwrap();
    assert_eq!(
        report,
        json!({"events": 2, "missing": 1, "stored": 1, "missing_ids": ["WH-2"], "transactions": 2,
            "unknown_transactions": {"count": 1, "ids": ["CAP-9"]}, "different_amounts": {"count": 0, "ids": []},
            "unknown_refunds": {"count": 1, "ids": ["REF-9"]}})
    );
    become_(&running, "WH-2", EventStatus::Processed).await;
    assert_eq!(subscriptions(&world).await, ["u1 gold active", "u2 gold active"]);
    // It comes after all, in PayPal's own bytes: the same event, and no conflict.
    let late = format!(" {never}");
    let answer = paypal.sign(late.as_bytes()).post(&running.http, running.daemon.api).await;
    assert_eq!(answer, (200, json!({"success": true, "idempotent": true})));
    // Three weeks without a run that goes well: what PayPal has told meanwhile is still found, and an amount that differs is named.
    let mut long_ago = capture("WH-4", "CAP-4", "u4", "79.99");
    long_ago["create_time"] = json!("2027-06-03T12:00:00.000Z");
    paypal.state().events.push(long_ago);
    let mut other = paid("CAP-1", "T0006", "69.99");
    other["transaction_info"]["transaction_initiation_date"] = json!("2027-06-20T12:00:00Z");
    paypal.state().transactions = vec![other];
    world.clock.advance_to(instant("2027-06-24T05:59:59Z"));
    world.advance_to(&running, instant("2027-06-24T06:00:00Z")).await;
    let run = world.ledger(&running, "reconcile-paypal").await.pop().unwrap();
    let report: Value = serde_json::from_str(run.stats.as_deref().unwrap()).unwrap();
    assert_eq!((&report["missing_ids"], &report["different_amounts"]["ids"]), (&json!(["WH-4"]), &json!(["CAP-1"])));
    become_(&running, "WH-4", EventStatus::Processed).await;
    running.stop().await;
}

/// The site's own events come under a shared secret; an invite is paid once, however often that is told.
#[tokio::test]
async fn the_site_tells_that_an_invite_is_paid_under_either_of_two_secrets() {
    let (mut world, _paypal) = world_with_paypal(Engine::Sqlite, &[]).await;
    world.write_file(
        "[[webhook_source]]\nname = \"site\"\nsecret = \"the-new-secret-of-the-site-1,the-old-secret-of-the-site-1\"\n",
    );
    world.set("SITE_TOKEN", "a-token-of-the-site-for-this-test");
    let running = world.start().await;
    let post = async |id: &str, secret: &str, body: &str| {
        let timestamp = world.clock_now().timestamp().to_string();
        let signature =
            bellwether::webhooks::standard::sign(&secret.to_owned().into(), id, &timestamp, body.as_bytes());
        let request =
            running.http.post(format!("http://{}/api/webhooks/site/", running.daemon.api)).body(body.to_owned());
        let request = request.header("content-type", "application/json").header("webhook-id", id);
        let signature = format!("v1,{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature));
        let request = request.header("webhook-timestamp", timestamp).header("webhook-signature", signature);
        request.send().await.unwrap().status().as_u16()
    };
    let other = r#"{"type":"page.viewed","data":{}}"#;
    assert_eq!(post("msg_1", "the-new-secret-of-the-site-1", other).await, 200);
    become_(&running, "msg_1", EventStatus::Ignored).await;
    let nobody = r#"{"type":"referral.paid","data":{"invitee_email":"nobody@site.example"}}"#;
    assert_eq!(post("msg_2", "the-old-secret-of-the-site-1", nobody).await, 200);
    become_(&running, "msg_2", EventStatus::Ignored).await;
    assert_eq!(post("msg_3", "the-secret-of-somebody-else-1", nobody).await, 400);
    assert_eq!(post("msg_4", "the-new-secret-of-the-site-1", "{}").await, 400);
    assert_eq!(post("msg_5", "the-new-secret-of-the-site-1", r#"{"type":"referral.paid","data":{}}"#).await, 200);
    become_(&running, "msg_5", EventStatus::Dead).await;
    // An invite of somebody: paid by the first word, and once, however often and under however many ids it is told.
    let (store, now) = (&running.daemon.store, world.clock_now());
    let code = store.referral_code("u1", None, now).await.unwrap();
    store.invite("u1", "friend@site.example", 9, now).await.unwrap();
    let data =
        json!({"type": "referral.paid", "data": {"invitee_email": "Friend@site.example", "referral_code": code}});
    for (id, secret) in [
        ("msg_6", "the-new-secret-of-the-site-1"),
        ("msg_6", "the-old-secret-of-the-site-1"),
        ("msg_7", "the-new-secret-of-the-site-1"),
    ] {
        assert_eq!(post(id, secret, &data.to_string()).await, 200);
        become_(&running, id, EventStatus::Processed).await;
    }
    let summary = store.referral_summary("u1").await.unwrap();
    assert_eq!((summary.paid, summary.balance), (1, 1));
    let audit = store.audit_of("u1").await.unwrap();
    assert_eq!((audit.len(), audit[0].actor.as_str(), audit[0].cause.as_str()), (1, "site", "msg_6"));
    let unknown =
        running.http.post(format!("http://{}/api/webhooks/elsewhere/", running.daemon.api)).send().await.unwrap();
    assert_eq!(unknown.status().as_u16(), 404);
    running.stop().await;
}
