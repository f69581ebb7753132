//! What its holder has given up ends at PayPal too: once, whatever fails or is killed, and it is seen where it does not.

use std::time::Duration;

use bellwether::billing::{Change, Choice, Event, Payer, What};
use bellwether::store::{Cause, Chosen};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Database, Engine, Running, World, client, eventually, instant};
use crate::sim_paypal::{SimPayPal, Trouble, event};
use crate::store_billing::{activated, rules, sale};
use crate::webhooks::world_with_paypal;

const TOKEN: &str = "a-token-of-the-site";

on_both_engines!(
    an_intent_is_written_with_the_word_and_asked_for_once,
    whatever_runs_is_to_end_and_what_nobody_approved_changes_nothing,
    a_canceled_subscription_ends_at_paypal_once_whatever_fails,
    killed_while_it_is_ended_it_ends_once,
);

fn said(cause: &str) -> Cause {
    Cause { actor: "site".to_owned(), cause: cause.to_owned(), request_id: None }
}

async fn an_intent_is_written_with_the_word_and_asked_for_once(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant("2027-06-01T12:00:00Z"));
    let word = async |user: &str, auto_renew: bool, seconds: i64| {
        let choice = Choice { at: now + TimeDelta::seconds(seconds), auto_renew };
        store.choose(user, choice, &rules, &said("cancel")).await.unwrap()
    };
    assert_eq!(word("u1", false, 0).await, Chosen::Nobody);
    for (link, user) in [("I-1", "u1"), ("I-2", "u2")] {
        let custom = format!("gold_monthly_1_{user}");
        store.apply_event(&activated(link, "2027-05-20T11:59:00Z", &custom), &rules, now).await.unwrap();
        let first = sale(&format!("S-{link}"), link, "2027-05-20T12:00:00Z", "79.99");
        store.apply_event(&first, &rules, now).await.unwrap();
    }
    // Taken back before anybody asked PayPal: nothing happens there.
    assert!(matches!(word("u1", false, 1).await, Chosen::Done(_)));
    assert_eq!(store.paypal_backlog().await.unwrap().unended, 1);
    assert!(matches!(word("u1", true, 2).await, Chosen::Done(_)));
    assert_eq!(store.cancellations_of("u1").await.unwrap()[0].state, "withdrawn");
    assert!(matches!(word("u1", false, 3).await, Chosen::Done(_)));
    assert!(matches!(word("u1", false, 4).await, Chosen::Done(_)), "said twice, it is one intent");
    let (later, until) = (now + TimeDelta::minutes(1), now + TimeDelta::minutes(3));
    let claimed = store.claim_cancellations(later, until, 8).await.unwrap();
    assert_eq!(claimed.iter().map(|one| (one.link_id.as_str(), one.attempts)).collect::<Vec<_>>(), [("I-1", 1)]);
    assert!(store.claim_cancellations(later, until, 8).await.unwrap().is_empty(), "nobody else has it");
    assert_eq!(word("u1", true, 90).await, Chosen::NeedsApproval, "PayPal may have ended it already");
    assert_eq!(store.release_cancellations(later).await.unwrap(), 1);
    assert_eq!(store.claim_cancellations(later, until, 8).await.unwrap()[0].attempts, 2);
    store.postpone_cancellation("I-1", "no answer", until).await.unwrap();
    let health = store.billing_health(now + TimeDelta::hours(2)).await.unwrap();
    assert_eq!(
        (health.unended, store.cancellations_of("u1").await.unwrap()[0].error.as_deref()),
        (1, Some("no answer"))
    );
    assert_eq!(store.claim_cancellations(until, until + TimeDelta::minutes(2), 8).await.unwrap().len(), 1);
    let audit = store.audit_of("u1").await.unwrap().len();
    let racers = (0..6).map(|_| {
        let (store, rules, one) = (store.clone(), rules.clone(), claimed[0].clone());
        tokio::spawn(async move { store.confirm_cancellation(&one, &rules, until).await.unwrap() })
    });
    let mut confirmed = 0;
    for racer in racers.collect::<Vec<_>>() {
        confirmed += usize::from(racer.await.unwrap());
    }
    assert_eq!(confirmed, 1);
    let row = store.cancellations_of("u1").await.unwrap().remove(0);
    assert_eq!((row.state.as_str(), row.confirmed_at, row.error), ("confirmed", Some(until), None));
    assert_eq!(store.audit_of("u1").await.unwrap().len(), audit + 1);
    let account = store.account_money("u1").await.unwrap();
    assert_eq!(account.subscription.unwrap().link, None, "it is known to have ended");
    assert_eq!(store.paypal_backlog().await.unwrap().unended, 0);
    // PayPal's own word is as good, and no intent is made of it.
    word("u2", false, 5).await;
    let what = What::Subscription {
        id: "I-2".to_owned(),
        change: Change::Canceled,
        created_at: None,
        plan_id: None,
        custom: None,
        payer: Payer::default(),
    };
    let own = Event { source: "paypal".to_owned(), id: "WH-9".to_owned(), at: later, what };
    store.apply_event(&own, &rules, later).await.unwrap();
    assert_eq!(store.cancellations_of("u2").await.unwrap()[0].state, "confirmed");
    assert!(matches!(word("u2", false, 200).await, Chosen::Done(_)));
    assert_eq!(store.cancellations_of("u2").await.unwrap().len(), 1);
}

/// The same subscription, otherwise: what was said of it then.
fn told(of: &Event, change: Change, time: &str) -> Event {
    let mut event = Event { id: format!("WH-{time}"), at: instant(time), ..of.clone() };
    if let What::Subscription { change: said, .. } = &mut event.what {
        *said = change;
    }
    event
}

async fn whatever_runs_is_to_end_and_what_nobody_approved_changes_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, rules, now) = (database.store().await, rules(), instant("2027-06-01T12:00:00Z"));
    let word = async |user: &str, auto_renew: bool, seconds: i64| {
        let choice = Choice { at: now + TimeDelta::seconds(seconds), auto_renew };
        store.choose(user, choice, &rules, &said("cancel")).await.unwrap()
    };
    let apply = async |event: Event| store.apply_event(&event, &rules, now).await.unwrap();
    let intents = async |user: &str| {
        let rows = store.cancellations_of(user).await.unwrap();
        let mut rows: Vec<_> = rows.iter().map(|one| format!("{} {}", one.link_id, one.state)).collect();
        rows.sort();
        rows
    };
    for (link, time, user) in [
        ("I-1", "2027-05-20T11:59:00Z", "u1"),
        ("I-2", "2027-05-20T11:59:00Z", "u2"),
        ("I-3", "2027-05-25T12:00:00Z", "u2"),
        ("I-4", "2027-05-20T11:59:00Z", "u3"),
    ] {
        apply(activated(link, time, &format!("gold_monthly_1_{user}"))).await;
        apply(sale(&format!("S-{link}"), link, time, "79.99")).await;
    }
    // A checkout that was begun, and left.
    let left = activated("I-9", "2027-05-28T12:00:00Z", "gold_monthly_1_u1");
    apply(told(&left, Change::Created, "2027-05-28T12:00:00Z")).await;
    let stands = store.account_money("u1").await.unwrap().subscription.unwrap();
    assert_eq!(stands.link.as_deref(), Some("I-1"));
    assert!(matches!(word("u1", false, 0).await, Chosen::Done(_)));
    assert_eq!(intents("u1").await, ["I-1 wanted"]);
    // Whoever pays twice wants both to end; taken back, the one that counts goes on and the other ends all the same.
    assert!(matches!(word("u2", false, 0).await, Chosen::Done(_)));
    assert_eq!(intents("u2").await, ["I-2 wanted", "I-3 wanted"]);
    assert!(matches!(word("u2", true, 1).await, Chosen::Done(_)));
    assert_eq!(intents("u2").await, ["I-2 wanted", "I-3 withdrawn"]);
    assert!(matches!(word("u2", false, 2).await, Chosen::Done(_)));
    assert_eq!(intents("u2").await, ["I-2 wanted", "I-3 wanted"]);
    // One that is told of after the word, and had run before it.
    assert!(matches!(word("u3", false, 0).await, Chosen::Done(_)));
    apply(activated("I-5", "2027-05-29T12:00:00Z", "gold_monthly_1_u3")).await;
    assert_eq!(intents("u3").await, ["I-4 wanted", "I-5 wanted"]);
    // What is bought after it is wanted.
    apply(activated("I-6", "2027-06-01T12:30:00Z", "gold_monthly_1_u3")).await;
    assert_eq!(intents("u3").await, ["I-4 wanted", "I-5 wanted"]);
    let stands = store.account_money("u3").await.unwrap().subscription.unwrap();
    assert_eq!((stands.auto_renew, stands.link.as_deref()), (true, Some("I-6")));
    // What runs on for whoever has given up, and is asked of nobody, is seen.
    let running_on = async || store.billing_health(now + TimeDelta::hours(26)).await.unwrap().running_on;
    assert_eq!(running_on().await, 0);
    database.execute("DELETE FROM cancellations WHERE link_id IN ('I-1', 'I-2', 'I-4')".to_owned()).await;
    assert_eq!(running_on().await, 2);
}

/// An account that PayPal charges each month.
async fn subscribed(running: &Running, paypal: &SimPayPal, link: &str, user: &str) {
    let (store, now) = (&running.daemon.store, instant("2027-06-01T12:00:00Z"));
    let custom = format!("gold_monthly_1_{user}");
    store.apply_event(&activated(link, "2027-05-20T11:59:00Z", &custom), &rules(), now).await.unwrap();
    let first = sale(&format!("S-{link}"), link, "2027-05-20T12:00:00Z", "79.99");
    store.apply_event(&first, &rules(), now).await.unwrap();
    paypal.state().subscriptions.insert(link.to_owned(), json!({"id": link, "status": "ACTIVE"}));
}

async fn cancel(api: std::net::SocketAddr, user: &str) -> (u16, Value) {
    let request = client().post(format!("http://{api}/api/billing/cancel")).bearer_auth(TOKEN);
    let answer = request.body(json!({ "user_id": user }).to_string()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn becomes(world: &World, running: &Running, user: &str, state: &str) {
    eventually(&format!("{user} is {state}"), async || {
        world.clock.advance(TimeDelta::seconds(20));
        running.daemon.store.cancellations_of(user).await.unwrap().iter().any(|one| one.state == state)
    })
    .await;
}

async fn a_canceled_subscription_ends_at_paypal_once_whatever_fails(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[("SITE_TOKEN", TOKEN)]).await;
    let running = world.start().await;
    for n in 1..=4 {
        subscribed(&running, &paypal, &format!("I-{n}"), &format!("u{n}")).await;
    }
    // Every way in which PayPal may fail, one after the other; it is done once.
    paypal.state().troubles =
        [Trouble::Refusal(503), Trouble::Refusal(429), Trouble::ErrorAfterSuccess, Trouble::Refusal(500)].into();
    let (status, body) = cancel(running.daemon.api, "u1").await;
    assert_eq!((status, &body["end_at_paypal"], &body["status"]), (200, &json!("wanted"), &json!("canceled")));
    becomes(&world, &running, "u1", "confirmed").await;
    assert_eq!(paypal.state().ended, ["I-1"]);
    let row = running.daemon.store.cancellations_of("u1").await.unwrap().remove(0);
    assert_eq!(row.attempts, 5);
    // Said again, it is known to have ended.
    let (_, body) = cancel(running.daemon.api, "u1").await;
    assert_eq!(body["end_at_paypal"], json!("confirmed"));
    // The holder was quicker, at PayPal itself.
    paypal.state().subscriptions.insert("I-2".to_owned(), json!({"id": "I-2", "status": "CANCELLED"}));
    assert_eq!(cancel(running.daemon.api, "u2").await.0, 200);
    becomes(&world, &running, "u2", "confirmed").await;
    // PayPal does not know it: that does not count as ended, and is seen by everybody who looks.
    paypal.state().subscriptions.remove("I-3");
    assert_eq!(cancel(running.daemon.api, "u3").await.0, 200);
    eventually("it was refused", async || {
        running.daemon.store.cancellations_of("u3").await.unwrap()[0].error.is_some()
    })
    .await;
    let shown = bellwether(world.file.path(), &["renewals", "show", "u3"], &[("DATABASE_URL", &world.database.url)]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("to end at PayPal") && shown.contains("wanted") && shown.contains("HTTP 404"), "{shown}");
    let examined =
        bellwether(world.file.path(), &["doctor", "renewals", "--json"], &[("DATABASE_URL", &world.database.url)]);
    let report: Value = serde_json::from_slice(&examined.stdout).unwrap();
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "ends at PayPal").unwrap();
    assert!(check["found"].is_string(), "{report}");
    world.clock.advance(TimeDelta::hours(1));
    let waiting = async || {
        let text = running.http.get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap();
        let text = text.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("bellwether_cancellations_total{outcome=\"failed\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default()
    };
    assert!(waiting().await >= 5.0);
    // PayPal's own message settles it.
    let told = event("WH-1", "BILLING.SUBSCRIPTION.CANCELLED", world.clock_now(), json!({"id": "I-3"}));
    paypal.sign(told.to_string().as_bytes()).post(&running.http, running.daemon.api).await;
    becomes(&world, &running, "u3", "confirmed").await;
    assert_eq!(paypal.state().ended, ["I-1"], "and nothing was done twice, or to somebody else");
    let (_, plan) = running.get("/livez").await;
    assert!(!plan.is_null());
    running.stop().await;
}

/// kill -9 between the word and PayPal, in the call, and between PayPal's answer and its record.
async fn killed_while_it_is_ended_it_ends_once(engine: Engine) {
    // On the shared database whoever was killed must fall silent first, in real time.
    let settings = [("SITE_TOKEN", TOKEN), ("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2")];
    let (world, paypal) = world_with_paypal(engine, &settings).await;
    let first = world.start().await;
    for n in 0..3 {
        subscribed(&first, &paypal, &format!("I-{n}"), &format!("u{n}")).await;
    }
    first.stop().await;
    let silence = || Trouble::SilenceAfterSuccess(Duration::from_secs(8));
    for (n, trouble) in [Trouble::Refusal(503), Trouble::ErrorAfterSuccess, silence()].into_iter().enumerate() {
        let (user, link) = (format!("u{n}"), format!("I-{n}"));
        let (doomed, api) = world.start_to_kill_with_api();
        let path = format!("/v1/billing/subscriptions/{link}/cancel");
        paypal.state().troubles = [trouble].into();
        let (status, body) = cancel(api, &user).await;
        assert_eq!((status, &body["end_at_paypal"]), (200, &json!("wanted")));
        eventually("PayPal was asked", async || paypal.calls_of(&path) > 0).await;
        doomed.kill();
        let running = world.start().await;
        eventually(&format!("{user} has ended there"), async || {
            world.clock.advance(TimeDelta::seconds(5));
            running.daemon.store.cancellations_of(&user).await.unwrap()[0].state == "confirmed"
        })
        .await;
        assert_eq!(paypal.state().ended.iter().filter(|ended| **ended == link).count(), 1);
        let causes = running.daemon.store.audit_of(&user).await.unwrap();
        let ended = causes.iter().filter(|entry| entry.cause == format!("cancel-{link}")).count();
        assert_eq!(ended, 1, "{causes:#?}");
        world.nothing_is_under_way(&running).await;
        running.daemon.stop().await;
    }
}
