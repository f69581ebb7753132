//! What is let in at the door, what is not, and what is answered: with the real daemon and a simulated PayPal.

use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant};
use crate::sim_paypal::{Signed, SimPayPal, Trouble, WEBHOOK_ID, event};

const NOW: &str = "2027-06-01T12:00:00Z";

/// A world whose daemons believe this PayPal.
pub async fn world_with_paypal(engine: Engine, more: &[(&str, &str)]) -> (World, SimPayPal) {
    let mut world = World::at(NOW, engine, more).await;
    let paypal = SimPayPal::start(std::sync::Arc::clone(&world.clock) as _).await;
    for (name, value) in paypal.settings() {
        // What the test says itself counts.
        if !more.iter().any(|(said, _)| *said == name) {
            world.set(&name, &value);
        }
    }
    (world, paypal)
}

fn sale(id: &str) -> Vec<u8> {
    let resource =
        json!({"id": format!("SALE-{id}"), "state": "completed", "amount": {"total": "24.99", "currency": "USD"}});
    event(id, "PAYMENT.SALE.COMPLETED", instant(NOW), resource).to_string().into_bytes()
}

async fn post(running: &Running, signed: &Signed) -> (u16, Value) {
    signed.post(&running.http, running.daemon.api).await
}

/// The ids, statuses and hashes of the rows, a line each.
async fn rows(world: &World) -> Vec<String> {
    world.database.query("SELECT event_id || ' ' || status FROM webhook_events ORDER BY event_id, rival").await
}

async fn code_of(running: &Running, signed: &Signed) -> String {
    let (status, body) = post(running, signed).await;
    format!("{status} {}", body["code"].as_str().unwrap_or("-"))
}

async fn a_delivery_is_durable_before_it_is_acknowledged_and_counts_once(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    let signed = paypal.sign(&sale("WH-1"));
    assert_eq!(post(&running, &signed).await, (200, json!({"success": true, "idempotent": false})));
    assert_eq!(rows(&world).await.len(), 1);
    // PayPal sends it again, the same bytes under another transmission.
    let again = paypal.sign(&sale("WH-1"));
    assert_eq!(post(&running, &again).await, (200, json!({"success": true, "idempotent": true})));
    // Another body under its id is kept and takes no effect.
    let mut other: Value = serde_json::from_slice(&sale("WH-1")).unwrap();
    other["resource"]["amount"]["total"] = json!("0.01");
    let rival = paypal.sign(other.to_string().as_bytes());
    for _ in 0..2 {
        let answer = json!({"success": true, "idempotent": true, "conflict": true});
        assert_eq!(post(&running, &rival).await, (200, answer));
    }
    let found = rows(&world).await;
    assert_eq!((found.len(), found[1].as_str()), (2, "WH-1 conflict"));
    assert_eq!(paypal.calls_of("/v1/notifications/certs/"), 1, "a certificate is fetched once");
    assert_eq!(paypal.calls_of("/v1/notifications/verify"), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_delivery_is_durable_before_it_is_acknowledged_and_counts_once_sqlite() {
    a_delivery_is_durable_before_it_is_acknowledged_and_counts_once(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_delivery_is_durable_before_it_is_acknowledged_and_counts_once_postgres() {
    a_delivery_is_durable_before_it_is_acknowledged_and_counts_once(Engine::Postgres).await;
}

/// D3, D4: whatever is not exactly what PayPal signed for us is refused, with the reason.
#[tokio::test]
async fn d3_what_is_not_genuine_is_refused_each_with_its_own_code() {
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &[("PAYPAL_CLIENT_ID", ""), ("PAYPAL_SECRET", "")]).await;
    let running = world.start().await;
    let (now, body) = (world.clock_now(), sale("WH-1"));
    let genuine = paypal.sign(&body);
    let cert = |name: &str| paypal.sign_as(&body, WEBHOOK_ID, name, now);
    let without = |name: &str| {
        let mut signed = genuine.clone();
        signed.headers.retain(|(known, _)| known != name);
        signed
    };
    let url = |url: String| genuine.clone().with("paypal-cert-url", &url);
    let own = paypal.base.trim_start_matches("https://");
    let path = "/v1/notifications/certs/CERT-full";
    let mut twice = genuine.clone();
    twice.headers.push(("paypal-transmission-id".to_owned(), "other".to_owned()));
    let mut changed = genuine.clone();
    changed.body[20] ^= 1;
    let mut reordered = genuine.clone();
    let value: Value = serde_json::from_slice(&body).unwrap();
    let members: Vec<String> =
        value.as_object().unwrap().iter().rev().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    reordered.body = format!("{{{}}}", members.join(",")).into_bytes();
    let minutes = chrono::TimeDelta::minutes;
    let repeated = br#"{"id":"WH-1","event_type":"A.B","id":"WH-2"}"#;
    let cases = [
        ("400 header_missing", without("paypal-transmission-sig")),
        ("400 header_missing", without("paypal-cert-url")),
        ("400 header_duplicate", twice),
        ("400 header_malformed", genuine.clone().with("paypal-transmission-id", &"x".repeat(51))),
        ("400 header_malformed", genuine.clone().with("paypal-transmission-time", "yesterday")),
        ("400 header_malformed", genuine.clone().with("paypal-transmission-sig", "%%%")),
        ("400 algorithm", genuine.clone().with("paypal-auth-algo", "SHA1withRSA")),
        ("400 algorithm", genuine.clone().with("paypal-auth-algo", "none")),
        ("400 too_old", paypal.sign_as(&body, WEBHOOK_ID, "CERT-full", now - minutes(4 * 24 * 60 + 1))),
        ("400 from_the_future", paypal.sign_as(&body, WEBHOOK_ID, "CERT-full", now + minutes(6))),
        ("400 signature", changed),
        ("400 signature", reordered),
        ("400 signature", paypal.sign_as(&body, "1AB23456CD789012E", "CERT-full", now)),
        ("400 signature", genuine.clone().with("paypal-transmission-id", "another")),
        ("400 signature", genuine.clone().with("paypal-transmission-time", "2027-06-01T11:59:59Z")),
        ("400 certificate_url", url(format!("http://{own}{path}"))),
        ("400 certificate_url", url(format!("https://localhost{path}"))),
        ("400 certificate_url", url(format!("https://evil.example{path}"))),
        ("400 certificate_url", url(format!("https://{own}@evil.example{path}"))),
        ("400 certificate_url", url(format!("https://user@{own}{path}"))),
        ("400 certificate_url", url(format!("https://{own}{path}?x=1"))),
        ("400 certificate_url", url(format!("https://{own}{path}#x"))),
        ("400 certificate_url", url(format!("https://{own}/v1/notifications/certs/../../x"))),
        ("400 certificate_url", url(format!("https://{own}/v1/other"))),
        ("400 certificate_url", url(format!("https://{own}.evil.example{path}"))),
        ("400 certificate_expired", cert("CERT-expired")),
        ("400 certificate_not_yet_valid", cert("CERT-early")),
        ("400 certificate_name", cert("CERT-other-name")),
        ("400 certificate_usage", cert("CERT-no-usage")),
        ("400 certificate_usage", cert("CERT-other-usage")),
        ("400 certificate_untrusted", cert("CERT-self-made")),
        ("400 certificate_untrusted", cert("CERT-own-root")),
        ("400 certificate_key", cert("CERT-weak")),
        ("400 certificate_key", cert("CERT-not-rsa")),
        ("400 not_json", paypal.sign(b"{")),
        ("400 not_json", paypal.sign(b"[]")),
        ("400 not_json", paypal.sign(repeated)),
        ("400 event_id", paypal.sign(br#"{"id":7,"event_type":"A.B"}"#)),
        ("400 event_id", paypal.sign(format!(r#"{{"id":"{}","event_type":"A.B"}}"#, "x".repeat(256)).as_bytes())),
        ("400 event_type", paypal.sign(br#"{"id":"WH-1"}"#)),
        ("415 unsupported_type", genuine.clone().with("content-type", "text/plain")),
        ("413 too_large", paypal.sign(&vec![b' '; 70_000])),
        // Nobody can tell: it should be sent again.
        ("503 chain_incomplete", cert("CERT-leaf")),
        ("503 chain_incomplete", cert("CERT-leaf-with-foreign-address")),
        ("503 certificate_unavailable", cert("CERT-nobody-knows")),
        ("503 certificate_unavailable", cert("CERT-no-certificate")),
        ("503 certificate_unavailable", cert("CERT-huge")),
        ("503 certificate_unavailable", cert("CERT-elsewhere")),
    ];
    for (expected, signed) in &cases {
        assert_eq!(code_of(&running, signed).await, *expected, "{signed:?}");
        // The budget of fetches is another story.
        world.clock.advance(chrono::TimeDelta::seconds(5));
    }
    assert!(rows(&world).await.is_empty(), "nothing that was refused is kept among the events");
    // D33: what was refused under an id leaves the id free.
    assert_eq!(post(&running, &paypal.sign(&body)).await.0, 200);
    assert!(rows(&world).await[0].starts_with("WH-1 "));
    running.stop().await;
}

/// The trap: the address may serve the certificate alone. Then its issuer is fetched from where that is allowed, and PayPal is asked
/// where it is not.
#[tokio::test]
async fn a_chain_that_cannot_be_built_is_decided_by_paypal() {
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let now = world.clock_now();
    let as_leaf = |body: &[u8]| paypal.sign_as(body, WEBHOOK_ID, "CERT-leaf", now);
    let verdicts =
        async || world.database.query("SELECT event_id || ' ' || verdict FROM webhook_events ORDER BY 1").await;

    let with_address = paypal.sign_as(&sale("WH-1"), WEBHOOK_ID, "CERT-leaf-with-address", now);
    assert_eq!(post(&running, &with_address).await.0, 200);
    assert_eq!((paypal.calls_of("/aia/"), paypal.calls_of("/v1/notifications/verify")), (1, 0));

    // D4: the bytes that came are what is asked about, down to blanks, 1.0 and {}.
    let odd = br#"{ "id":"WH-2",  "event_type": "A.B", "resource": {"n": 1.0, "o": {}, "e": "\u00e9"} }"#;
    assert_eq!(post(&running, &as_leaf(odd)).await.0, 200);
    let forged = Signed { body: sale("WH-3"), ..as_leaf(odd) };
    assert_eq!(code_of(&running, &forged).await, "400 signature");
    // What would not stay in its place in the question is not asked.
    let breaking_out = as_leaf(br#"{"id":"WH-4","event_type":"A.B"},"webhook_id":"MINE""#);
    assert_eq!(code_of(&running, &breaking_out).await, "400 not_json");
    assert_eq!(paypal.calls_of("/v1/oauth2/token"), 1, "a token is kept");
    paypal.forget_tokens();
    assert_eq!(post(&running, &as_leaf(&sale("WH-5"))).await.0, 200);
    assert_eq!(paypal.calls_of("/v1/oauth2/token"), 2, "and renewed when it is refused");
    world.clock.advance(chrono::TimeDelta::hours(9));
    let later = paypal.sign_as(&sale("WH-6"), WEBHOOK_ID, "CERT-leaf", world.clock_now());
    assert_eq!(post(&running, &later).await.0, 200);
    assert_eq!(paypal.calls_of("/v1/oauth2/token"), 3, "or has ended");

    let silence = Trouble::SilenceAfterSuccess(std::time::Duration::from_secs(30));
    for trouble in [Trouble::Refusal(500), Trouble::ErrorAfterSuccess, Trouble::Refusal(429), silence] {
        paypal.state().troubles.push_back(trouble);
        assert_eq!(code_of(&running, &later).await, "503 paypal_unavailable");
    }
    assert_eq!(verdicts().await, ["WH-1 offline", "WH-2 api", "WH-5 api", "WH-6 api"]);
    running.stop().await;
}

#[tokio::test]
async fn paypal_is_asked_about_each_where_that_is_chosen() {
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &[("BELLWETHER_PAYPAL__VERIFY", "api")]).await;
    let running = world.start().await;
    assert_eq!(post(&running, &paypal.sign(&sale("WH-1"))).await.0, 200);
    let foreign = paypal.sign(&sale("WH-2")).with("paypal-cert-url", "https://evil.example/v1/notifications/certs/x");
    assert_eq!(code_of(&running, &foreign).await, "400 certificate_url");
    let old = world.clock_now() - chrono::TimeDelta::days(5);
    assert_eq!(code_of(&running, &paypal.sign_as(&sale("WH-3"), WEBHOOK_ID, "CERT-full", old)).await, "400 too_old");
    assert_eq!((paypal.calls_of("/v1/notifications/verify"), paypal.calls_of("/v1/notifications/certs/")), (1, 0));
    running.stop().await;
}

#[tokio::test]
async fn without_a_webhook_id_nothing_is_believed() {
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &[("PAYPAL_WEBHOOK_ID", "")]).await;
    let running = world.start().await;
    assert_eq!(code_of(&running, &paypal.sign(&sale("WH-1"))).await, "503 not_configured");
    running.stop().await;
}

/// Strangers can name any file on PayPal's hosts; they get it fetched a few times a minute at most.
#[tokio::test]
async fn certificates_are_fetched_seldom_whatever_strangers_name() {
    let settings = [("PAYPAL_CLIENT_ID", ""), ("PAYPAL_SECRET", "")];
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &settings).await;
    let running = world.start().await;
    let body = sale("WH-1");
    for n in 0..60 {
        let made_up = paypal.sign_as(&body, WEBHOOK_ID, &format!("CERT-{}", n % 40), world.clock_now());
        assert_eq!(code_of(&running, &made_up).await, "503 certificate_unavailable");
    }
    assert_eq!(paypal.calls_of("/v1/notifications/certs/"), 20);
    world.clock.advance(chrono::TimeDelta::minutes(2));
    let signed = paypal.sign(&body);
    assert_eq!(post(&running, &signed).await.0, 200);
    running.stop().await;
}

async fn what_cannot_be_stored_is_never_acknowledged(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    let signed = paypal.sign(&sale("WH-1"));
    world.database.execute("ALTER TABLE webhook_events RENAME TO webhook_events_away".to_owned()).await;
    assert_eq!(code_of(&running, &signed).await, "503 database_unavailable");
    world.database.execute("ALTER TABLE webhook_events_away RENAME TO webhook_events".to_owned()).await;
    assert_eq!(
        post(&running, &signed).await,
        (200, json!({"success": true, "idempotent": false})),
        "it was not stored before"
    );
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_never_acknowledged_sqlite() {
    what_cannot_be_stored_is_never_acknowledged(Engine::Sqlite).await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_never_acknowledged_postgres() {
    what_cannot_be_stored_is_never_acknowledged(Engine::Postgres).await;
}

/// D32: every path that PayPal was ever given is the same door.
#[tokio::test]
async fn d32_every_path_is_the_same_door_and_operators_see_what_came() {
    let (mut world, paypal) = world_with_paypal(Engine::Sqlite, &[]).await;
    world.set("OPERATOR_TOKEN", OPERATOR);
    let running = world.start().await;
    let signed = paypal.sign(&sale("WH-1"));
    let mut answers = Vec::new();
    for path in ["/paypal/webhook", "/api/webhooks/paypal/", "/api/billing/paypal-webhook/"] {
        let mut request = running.http.post(format!("http://{}{path}", running.daemon.api)).body(signed.body.clone());
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answers.push(answer["idempotent"].clone());
    }
    assert_eq!(answers, [json!(false), json!(true), json!(true)]);
    assert_eq!(running.get("/paypal/webhook/").await.0, 405);
    assert_eq!(code_of(&running, &signed.clone().with("paypal-auth-algo", "none")).await, "400 algorithm");

    assert_eq!(running.get("/api/v1/webhooks").await.0, 401);
    let (_, listed) = running.operate("/api/v1/webhooks?limit=5", None).await;
    let first = &listed["webhooks"][0];
    assert_eq!(
        (&first["event_id"], &first["source"], &first["verdict"]),
        (&json!("WH-1"), &json!("paypal"), &json!("offline"))
    );
    for member in ["event_type", "status", "received_at", "attempts", "payload_hash", "error"] {
        assert!(first.get(member).is_some(), "{member} is missing: {first}");
    }
    let (_, shown) = running.operate("/api/v1/webhooks/WH-1", None).await;
    assert_eq!(shown["body"].as_str().unwrap().as_bytes(), signed.body, "the bytes that came");
    assert_eq!(running.operate("/api/v1/webhooks/WH-9", None).await.0, 404);
    eventually("the refusal is written down", async || {
        let (_, refused) = running.operate("/api/v1/webhooks?status=rejected", None).await;
        refused["webhooks"][0]["event_type"] == json!("algorithm")
    })
    .await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"id": "WH-9"}), 404),
        (json!({"status": "conflict", "since": NOW}), 400),
        (json!({"id": "WH-1", "dry_run": true}), 200),
    ] {
        assert_eq!(running.operate("/api/v1/webhooks/replay", Some(body.clone())).await.0, status, "{body}");
    }
    running.stop().await;
}

#[test]
fn the_real_delivery_is_verified_on_the_command_line() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/paypal");
    let directory = tempfile::tempdir().unwrap();
    let verify = |more: &[&str]| {
        let (file, certificate) = (format!("{data}/delivery.json"), format!("{data}/signing-certificate.pem"));
        let arguments = ["webhooks", "verify", &file, "--json", "--certificate", &certificate];
        let intermediate = format!("{data}/intermediate.pem");
        let environment = [
            ("BELLWETHER_PAYPAL__TRUST_ROOTS", intermediate.as_str()),
            ("BELLWETHER_PAYPAL__AIA_HOSTS", "nowhere.invalid"),
        ];
        let output = bellwether(directory.path(), &[&arguments[..], more].concat(), &environment);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), answer["genuine"].clone(), answer["code"].clone())
    };
    let day = ["--at", "2017-03-30T20:04:10Z"];
    assert_eq!(verify(&day), (0, json!(true), Value::Null));
    assert_eq!(verify(&[]), (3, json!(false), json!("too_old")), "today");
    let other = [&day[..], &["--webhook-id", "1AB23456CD789012E"]].concat();
    assert_eq!(verify(&other), (3, json!(false), json!("signature")));
}
