//! The word that an invited account pays: by an event or by a call, however often it is told it pays the one invite that it was about.
//! On both databases.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether::store::{Claimed, EventStatus, Invited, MarkedPaid, NewEvent};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Database, Engine, OPERATOR, Running, World, eventually, instant};
use crate::store_billing::{paid, rules};

const NOW: &str = "2027-06-01T12:00:00Z";
const TOKEN: &str = "a-token-of-the-site";
const SECRET: &str = "the-secret-of-the-site-for-this";
const MARK_PAID: &str = "/api/referrals/webhook/mark-paid/";

on_both_engines!(
    an_event_by_code_alone_is_about_one_invite_whenever_it_is_applied,
    the_effect_of_a_word_and_its_mark_are_one,
    an_event_is_about_what_was_open_when_it_came,
    whoever_lost_the_claim_pays_nobody,
    a_call_with_a_key_has_one_answer,
    racing_calls_with_one_key_have_one_effect,
    a_call_by_code_alone_is_not_taken_for_another_one,
    a_signed_call_goes_through_the_inbox,
);

async fn world(engine: Engine) -> World {
    let world = World::at(NOW, engine, &[("SITE_TOKEN", TOKEN), ("OPERATOR_TOKEN", OPERATOR)]).await;
    world.write_file(&format!("[[webhook_source]]\nname = \"site\"\nsecret = \"{SECRET}\"\n"));
    world
}

/// Sends what the site signs.
async fn signed(world: &World, running: &Running, path: &str, id: &str, secret: &str, body: &Value) -> (u16, Value) {
    let (body, timestamp) = (body.to_string(), world.clock_now().timestamp().to_string());
    let signature = bellwether::webhooks::standard::sign(&secret.to_owned().into(), id, &timestamp, body.as_bytes());
    let request = running.http.post(format!("http://{}{path}", running.daemon.api)).body(body);
    let request = request.header("content-type", "application/json").header("webhook-id", id);
    let request = request.header("webhook-timestamp", timestamp);
    let request = request.header("webhook-signature", format!("v1,{}", STANDARD.encode(signature)));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn event(world: &World, running: &Running, id: &str, code: &str) {
    let body = json!({"type": "referral.paid", "data": {"referral_code": code}});
    assert_eq!(signed(world, running, "/api/webhooks/site/", id, SECRET, &body).await.0, 200);
}

/// Sends a call with the site's token.
async fn call(running: &Running, key: Option<&str>, body: &Value) -> (u16, Value) {
    let request = running.http.post(format!("http://{}{MARK_PAID}", running.daemon.api)).bearer_auth(TOKEN);
    let request =
        key.into_iter().fold(request.body(body.to_string()), |request, key| request.header("Idempotency-Key", key));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn become_(running: &Running, id: &str, status: EventStatus) -> String {
    let found = async || running.daemon.store.event(id).await.unwrap().unwrap().row;
    eventually(&format!("{id} is {status}"), async || found().await.status == status).await;
    found().await.effect.unwrap_or_default()
}

async fn replay(running: &Running, id: &str) {
    assert_eq!(running.operate("/api/v1/webhooks/replay", Some(json!({ "id": id }))).await.0, 200);
}

async fn code_of(running: &Running) -> String {
    running.daemon.store.referral_code("u1", None, instant(NOW)).await.unwrap()
}

async fn invite(world: &World, running: &Running, email: &str) -> String {
    let invited = running.daemon.store.invite("u1", email, 9, world.clock_now()).await.unwrap();
    let Invited::New(id) = invited else { panic!("{invited:?}") };
    id
}

/// Whose invites are paid, and what credit there is.
async fn credit(world: &World, running: &Running) -> (Vec<String>, i64) {
    let paid = world.database.query("SELECT email FROM invites WHERE state = 'paid' ORDER BY email").await;
    (paid, running.daemon.store.referral_summary("u1").await.unwrap().balance)
}

fn of(emails: &[&str], balance: i64) -> (Vec<String>, i64) {
    (emails.iter().map(|email| (*email).to_owned()).collect(), balance)
}

async fn an_event_by_code_alone_is_about_one_invite_whenever_it_is_applied(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    let code = code_of(&running).await;
    let first = invite(&world, &running, "a@example.com").await;
    event(&world, &running, "msg_1", &code).await;
    let effect = become_(&running, "msg_1", EventStatus::Processed).await;
    assert!(effect.contains(&first), "{effect}");
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    // Somebody else's invite is the open one now; the event is not about that.
    world.clock.advance(TimeDelta::minutes(1));
    invite(&world, &running, "b@example.com").await;
    replay(&running, "msg_1").await;
    become_(&running, "msg_1", EventStatus::Processed).await;
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    // Another event is.
    event(&world, &running, "msg_2", &code).await;
    become_(&running, "msg_2", EventStatus::Processed).await;
    assert_eq!(credit(&world, &running).await, of(&["a@example.com", "b@example.com"], 2));
    // With none open it is still what it was.
    replay(&running, "msg_1").await;
    become_(&running, "msg_1", EventStatus::Processed).await;
    // Nor does the same word give back what a refund has taken.
    world.database.execute(format!("UPDATE invites SET state = 'accepted', paid_at = NULL WHERE id = '{first}'")).await;
    replay(&running, "msg_1").await;
    become_(&running, "msg_1", EventStatus::Processed).await;
    assert_eq!(credit(&world, &running).await, of(&["b@example.com"], 2));
    running.stop().await;
}

async fn the_effect_of_a_word_and_its_mark_are_one(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    let code = code_of(&running).await;
    invite(&world, &running, "a@example.com").await;
    world.database.execute("ALTER TABLE webhook_events RENAME COLUMN processed_at TO away".to_owned()).await;
    event(&world, &running, "msg_1", &code).await;
    let status = "SELECT status FROM webhook_events";
    eventually("it is begun", async || world.database.query(status).await == ["processing"]).await;
    for _ in 0..3 {
        world.clock.advance(TimeDelta::seconds(2));
        tokio::task::yield_now().await;
        assert_eq!(credit(&world, &running).await, of(&[], 0), "what cannot be marked has no effect");
    }
    invite(&world, &running, "b@example.com").await;
    world.database.execute("ALTER TABLE webhook_events RENAME COLUMN away TO processed_at".to_owned()).await;
    eventually("it is applied", async || {
        world.clock.advance(TimeDelta::seconds(1));
        world.database.query(status).await == ["processed"]
    })
    .await;
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1), "whoever was invited later is not meant");
    running.stop().await;
}

async fn an_event_is_about_what_was_open_when_it_came(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    let (code, store) = (code_of(&running).await, &running.daemon.store);
    invite(&world, &running, "a@example.com").await;
    invite(&world, &running, "b@example.com").await;
    event(&world, &running, "msg_1", &code).await;
    become_(&running, "msg_1", EventStatus::Dead).await;
    // One of the two pays by itself. Which of them the event was about is still not known, though only one is open.
    world.clock.advance(TimeDelta::minutes(1));
    let email = json!({"invitee_email": "a@example.com"});
    assert_eq!(call(&running, None, &email).await.0, 200);
    replay(&running, "msg_1").await;
    become_(&running, "msg_1", EventStatus::Dead).await;
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    // Nobody of that code was invited when it came; who was invited afterwards is not meant.
    let other = store.referral_code("u2", None, world.clock_now()).await.unwrap();
    event(&world, &running, "msg_2", &other).await;
    become_(&running, "msg_2", EventStatus::Ignored).await;
    world.clock.advance(TimeDelta::minutes(1));
    store.invite("u2", "c@example.com", 9, world.clock_now()).await.unwrap();
    replay(&running, "msg_2").await;
    become_(&running, "msg_2", EventStatus::Ignored).await;
    assert_eq!(store.referral_summary("u2").await.unwrap().paid, 0);
    running.stop().await;
}

async fn whoever_lost_the_claim_pays_nobody(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    store.referral_code("u1", None, now).await.unwrap();
    let Invited::New(invite) = store.invite("u1", "a@example.com", 9, now).await.unwrap() else { panic!("it is new") };
    let told = NewEvent {
        id: Uuid::now_v7(),
        source: "site".to_owned(),
        event_id: "msg_1".to_owned(),
        event_type: "referral.paid".to_owned(),
        verdict: "hmac",
        payload_hash: "of the body".to_owned(),
        body: "{}".to_owned(),
        headers: "{}".to_owned(),
        created_at: None,
        received_at: now,
    };
    store.take_in(&[told]).await.unwrap();
    let claim =
        async |at: DateTime<Utc>| store.claim_events(at, at + TimeDelta::minutes(1), 1).await.unwrap().remove(0);
    let lost = claim(now).await;
    let held = claim(now + TimeDelta::minutes(2)).await;
    assert_eq!((lost.received_at, held.attempts), (now, 2));
    let apply = async |claim: &Claimed| store.apply_paid_word(claim, None, Some("A@example.com"), now).await.unwrap();
    assert_eq!(apply(&lost).await, None);
    assert_eq!(store.referral_summary("u1").await.unwrap().balance, 0);
    assert_eq!(apply(&held).await, Some(MarkedPaid::Paid(invite)));
    assert_eq!(store.referral_summary("u1").await.unwrap().balance, 1);
    assert_eq!(store.event("msg_1").await.unwrap().unwrap().row.status, EventStatus::Processed);
    assert_eq!(database.query("SELECT source || ' ' || word_id FROM paid_words").await, ["site msg_1"]);
}

async fn a_call_with_a_key_has_one_answer(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    let by_code = json!({"referral_code": code_of(&running).await});
    let first = invite(&world, &running, "a@example.com").await;
    let answer = call(&running, Some("key-1"), &by_code).await;
    assert_eq!(answer, (200, json!({"success": true, "status": "ok", "id": first})));
    invite(&world, &running, "b@example.com").await;
    // Its answer was lost: it is the same again, as text of the new standard too.
    for key in ["key-1", "\"key-1\""] {
        assert_eq!(call(&running, Some(key), &by_code).await, answer);
    }
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    let other = json!({"referral_code": by_code["referral_code"], "invitee_email": "b@example.com"});
    let (status, body) = call(&running, Some("key-1"), &other).await;
    assert_eq!((status, &body["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(call(&running, Some("key-2"), &by_code).await.0, 200);
    assert_eq!(credit(&world, &running).await, of(&["a@example.com", "b@example.com"], 2));
    // A no is kept too: who is invited afterwards is not meant.
    assert_eq!(call(&running, Some("key-3"), &by_code).await.0, 404);
    invite(&world, &running, "c@example.com").await;
    invite(&world, &running, "d@example.com").await;
    assert_eq!(call(&running, Some("key-3"), &by_code).await.0, 404);
    assert_eq!(call(&running, Some("key-4"), &by_code).await.1["code"], "ambiguous");
    for bad in ["", "\"\"", &"k".repeat(256)] {
        let (status, body) = call(&running, Some(bad), &by_code).await;
        assert_eq!((status, &body["code"]), (400, &json!("idempotency_key")), "{bad}");
    }
    assert_eq!(credit(&world, &running).await.1, 2);
    // A week is enough; what an event was about is kept for ever.
    let store = &running.daemon.store;
    assert_eq!(store.prune_paid_words(world.clock_now()).await.unwrap(), 0);
    let later = world.clock_now() + TimeDelta::seconds(1);
    assert_eq!(store.prune_paid_words(later).await.unwrap(), 4);
    running.stop().await;
}

async fn racing_calls_with_one_key_have_one_effect(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    let by_code = json!({"referral_code": code_of(&running).await});
    invite(&world, &running, "a@example.com").await;
    let calls = (0..8).map(|_| call(&running, Some("key-1"), &by_code));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.1["status"] == "ok"), "{answers:?}");
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    running.stop().await;
}

async fn a_call_by_code_alone_is_not_taken_for_another_one(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    let by_code = json!({"referral_code": code_of(&running).await});
    let first = invite(&world, &running, "a@example.com").await;
    assert_eq!(call(&running, None, &by_code).await.1["status"], "ok");
    // Its answer was lost: nothing else is open, so it is the same again.
    world.clock.advance(TimeDelta::minutes(1));
    let (status, body) = call(&running, None, &by_code).await;
    assert_eq!((status, &body["status"], &body["id"]), (200, &json!("exists"), &json!(first)));
    // With another invite open it cannot be told from a new word: nobody is paid by mistake.
    invite(&world, &running, "b@example.com").await;
    let (status, body) = call(&running, None, &by_code).await;
    assert_eq!((status, &body["code"]), (409, &json!("ambiguous")));
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    // The address says which, and after a day it is a new word.
    let by_email = json!({"invitee_email": "b@example.com"});
    assert_eq!(call(&running, None, &by_email).await.1["status"], "ok");
    assert_eq!(call(&running, None, &by_email).await.1["status"], "exists");
    invite(&world, &running, "c@example.com").await;
    world.clock.advance(TimeDelta::hours(25));
    assert_eq!(call(&running, None, &by_code).await.1["status"], "ok");
    assert_eq!(credit(&world, &running).await, of(&["a@example.com", "b@example.com", "c@example.com"], 3));
    running.stop().await;
}

async fn a_signed_call_goes_through_the_inbox(engine: Engine) {
    let world = world(engine).await;
    let running = world.start().await;
    invite(&world, &running, "a@example.com").await;
    invite(&world, &running, "b@example.com").await;
    let stored = |idempotent: bool| (200, json!({"success": true, "idempotent": idempotent}));
    // As the older clients write it, and as an event; kept before it is answered, each id once.
    let flat = json!({"email": "a@example.com"});
    for again in [false, true] {
        assert_eq!(signed(&world, &running, MARK_PAID, "msg_1", SECRET, &flat).await, stored(again));
    }
    become_(&running, "msg_1", EventStatus::Processed).await;
    let row = running.daemon.store.event("msg_1").await.unwrap().unwrap().row;
    assert_eq!((row.source.as_str(), row.event_type.as_str(), row.verdict.as_str()), ("site", "referral.paid", "hmac"));
    assert_eq!(credit(&world, &running).await, of(&["a@example.com"], 1));
    let whole = json!({"type": "referral.paid", "data": {"invitee_email": "b@example.com"}});
    assert_eq!(signed(&world, &running, MARK_PAID, "msg_2", SECRET, &whole).await, stored(false));
    become_(&running, "msg_2", EventStatus::Processed).await;
    assert_eq!(signed(&world, &running, "/api/webhooks/site/", "msg_2", SECRET, &whole).await, stored(true));
    assert_eq!(signed(&world, &running, MARK_PAID, "msg_2", SECRET, &flat).await.1["conflict"], json!(true));
    // Not signed by any source; of another kind; and half of the headers, which the token does not make up for.
    let refused = async |id: &str, secret: &str, body: Value| {
        let (status, body) = signed(&world, &running, MARK_PAID, id, secret, &body).await;
        (status, body["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("msg_3", "the-secret-of-somebody-else", whole).await, (400, "signature".to_owned()));
    assert_eq!(refused("msg_4", SECRET, json!({"type": "page.viewed"})).await, (400, "event_type".to_owned()));
    let half = running.http.post(format!("http://{}{MARK_PAID}", running.daemon.api)).bearer_auth(TOKEN);
    let half = half.header("webhook-id", "msg_5").header("content-type", "application/json").body(flat.to_string());
    assert_eq!(half.send().await.unwrap().status().as_u16(), 400);
    // Without them the token is what counts.
    assert_eq!(call(&running, None, &flat).await.1["status"], "exists");
    assert_eq!(credit(&world, &running).await, of(&["a@example.com", "b@example.com"], 2));
    // The money itself earns nothing more.
    let money = paid("C1", NOW, "79.99", "gold_monthly_1_u7");
    running.daemon.store.apply_event(&money, &rules(), instant(NOW)).await.unwrap();
    assert_eq!(credit(&world, &running).await.1, 2);
    running.stop().await;
}
