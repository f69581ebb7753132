//! Renewals with others in them: PayPal, asked whether a period was paid, and a site that renews by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bellwether::clock::Clock;
use bellwether::store::RunState;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant};
use crate::renewals::subscription;
use crate::sim_paypal::{Trouble, subscription_payment};
use crate::store_billing::{activated, rules, sale};
use crate::webhooks::world_with_paypal;

const SECRET: &str = "canary-cron-secret";

on_both_engines!(
    a_payment_whose_message_is_late_is_found_and_silence_costs_nothing,
    in_whatever_trouble_paypal_is_nobody_loses_what_was_paid,
);

/// A path, and what it is answered, one after the other.
type Answers = (&'static str, VecDeque<(u16, String)>);

/// Answers each path with what it is told next; the last one stays. Keeps what it was asked.
#[derive(Clone)]
struct Stub {
    url: String,
    answers: Arc<Mutex<Vec<Answers>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub = Self { url, answers: Arc::default(), asked: Arc::default() };
        let served = stub.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(served.clone().serve(stream));
            }
        });
        stub
    }

    /// What a path is answered from now on, one after the other.
    fn answer(&self, path: &'static str, answers: &[(u16, Value)]) {
        let mut all = self.answers.lock().unwrap();
        all.retain(|(known, _)| *known != path);
        all.push((path, answers.iter().map(|(status, body)| (*status, body.to_string())).collect()));
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok());
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(n) => request.extend_from_slice(&buffer[..n]),
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let path = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(text);
        let (status, body) = {
            let mut all = self.answers.lock().unwrap();
            let fitting = all.iter_mut().filter(|(known, _)| path.starts_with(known));
            let found = fitting.max_by_key(|(known, _)| known.len());
            found.map_or((404, "{}".to_owned()), |(_, answers)| match answers.len() {
                1 => answers[0].clone(),
                _ => answers.pop_front().unwrap(),
            })
        };
        let location = if status == 302 { "Location: /elsewhere\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 {status} X\r\n{location}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(part)).count()
    }
}

async fn renew(running: &Running, dry_run: bool) -> Value {
    let url = format!("http://{}/api/billing/process-renewals", running.daemon.api);
    let request =
        running.http.post(url).header("X-Cron-Secret", SECRET).body(json!({ "dry_run": dry_run }).to_string());
    serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
}

async fn a_payment_whose_message_is_late_is_found_and_silence_costs_nothing(engine: Engine) {
    let paypal = Stub::start().await;
    let settings = [
        ("CRON_SECRET", SECRET),
        ("PAYPAL_CLIENT_ID", "client"),
        ("PAYPAL_SECRET", "paypal-secret"),
        ("PAYPAL_API_BASE", &paypal.url),
    ];
    let world = World::at("2027-03-02T12:00:00Z", engine, &settings).await;
    let running = world.start().await;
    running.stats().await;
    for (link, user) in [("I-A", "a"), ("I-B", "b")] {
        let store = &running.daemon.store;
        let custom = format!("gold_monthly_1_{user}");
        store
            .apply_event(&activated(link, "2027-02-01T11:59:00Z", &custom), &rules(), world.clock_now())
            .await
            .unwrap();
        let first = sale(&format!("S1-{user}"), link, "2027-02-01T12:00:00Z", "79.99");
        store.apply_event(&first, &rules(), world.clock_now()).await.unwrap();
    }
    let actions = |answer: &Value| {
        let results = answer["results"].as_array().unwrap().iter();
        results
            .map(|one| format!("{} {}", one["user_id"].as_str().unwrap(), one["action"].as_str().unwrap()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    paypal.answer("/v1/oauth2/token", &[(200, json!({"access_token": "t", "expires_in": 3_600}))]);
    paypal.answer("/v1/billing/subscriptions/", &[(503, json!({}))]);
    assert_eq!(actions(&renew(&running, true).await), "a uncertain, b uncertain");
    assert_eq!(actions(&renew(&running, false).await), "a uncertain, b uncertain");
    let of = async |sql: &str| world.database.query(sql).await.join(", ");
    assert_eq!(of("SELECT user_id || ' ' || status FROM subscriptions ORDER BY 1").await, "a active, b active");
    assert_eq!(of("SELECT action FROM renewals").await, "uncertain, uncertain", "the doubt is written down");
    world.clock.advance(TimeDelta::hours(2));
    let paid = json!({"transactions": [{"id": "S2-a", "status": "COMPLETED", "time": "2027-03-01T12:00:05Z",
        "amount_with_breakdown": {"gross_amount": {"currency_code": "USD", "value": "79.99"}}}]});
    paypal.answer("/v1/billing/subscriptions/I-A/", &[(200, paid)]);
    paypal.answer("/v1/billing/subscriptions/I-B/", &[(200, json!({"transactions": []}))]);
    let dry = renew(&running, true).await;
    assert_eq!(actions(&dry), "a paid, b marked_past_due");
    assert_eq!(of("SELECT user_id || ' ' || status FROM subscriptions ORDER BY 1").await, "a active, b active");
    assert_eq!(renew(&running, false).await["results"], dry["results"]);
    assert_eq!(of("SELECT action FROM renewals ORDER BY action").await, "marked_past_due, paid");
    // The message comes at last, under an event of its own: the same money.
    let late = sale("S2-a", "I-A", "2027-03-01T12:00:05Z", "79.99");
    running.daemon.store.apply_event(&late, &rules(), world.clock_now()).await.unwrap();
    let due = running.daemon.store.subscription_of("a").await.unwrap().unwrap();
    assert_eq!(due.subscription().unwrap().current_period_end, instant("2027-04-01T11:00:00Z"));
    let asked = paypal.asked.lock().unwrap().clone();
    let ids = |part: &str| {
        let of_it = asked.iter().filter(|asked| asked.contains(part));
        let ids =
            of_it.filter_map(|asked| asked.lines().find(|line| line.to_lowercase().starts_with("paypal-request-id:")));
        ids.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(
        (ids("/I-A/").len(), ids("/I-B/").len()),
        (1, 1),
        "one request id for each period, however often it is asked"
    );
    running.stop().await;
}

/// The lookup, by the simulated PayPal: TLS, tokens that end, errors, errors after success, silence.
async fn in_whatever_trouble_paypal_is_nobody_loses_what_was_paid(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[("CRON_SECRET", SECRET)]).await;
    let running = world.start().await;
    running.stats().await;
    let store = &running.daemon.store;
    for (link, user) in [("I-A", "a"), ("I-B", "b")] {
        let custom = format!("gold_monthly_1_{user}");
        let events = [
            activated(link, "2027-05-01T10:59:00Z", &custom),
            sale(&format!("S1-{user}"), link, "2027-05-01T11:00:00Z", "79.99"),
        ];
        for event in events {
            store.apply_event(&event, &rules(), world.clock_now()).await.unwrap();
        }
    }
    let found = subscription_payment("S2-a", "2027-06-01T11:00:05Z", "79.99");
    paypal.state().payments.insert("I-A".to_owned(), vec![found]);
    paypal.state().payments.insert("I-B".to_owned(), Vec::new());
    let statuses = "SELECT user_id || ' ' || status FROM subscriptions ORDER BY 1";
    let troubles = [
        Trouble::Refusal(500),
        Trouble::Refusal(429),
        Trouble::ErrorAfterSuccess,
        Trouble::SilenceAfterSuccess(std::time::Duration::from_secs(3_600)),
    ];
    for trouble in troubles {
        // The clock stands still, so that silence ends by the client's own deadline.
        let calls = if matches!(trouble, Trouble::SilenceAfterSuccess(_)) { 2 } else { 8 };
        paypal.state().troubles = vec![trouble.clone(); calls].into();
        let answer = renew(&running, false).await;
        assert_eq!(answer["summary"]["uncertain"], json!(2), "{trouble:?}: {answer}");
        assert_eq!(world.database.query(statuses).await, ["a active", "b active"], "{trouble:?}");
        paypal.state().troubles.clear();
        // In doubt it is asked again some time later.
        world.clock.advance(TimeDelta::hours(2));
    }
    // A token that PayPal has forgotten is no answer to the question.
    paypal.forget_tokens();
    let dry = renew(&running, true).await;
    assert_eq!((&dry["summary"]["paid"], &dry["summary"]["past_due"]), (&json!(1), &json!(1)), "{dry}");
    paypal.forget_tokens();
    let done = renew(&running, false).await;
    assert_eq!(done["results"], dry["results"]);
    assert_eq!(world.database.query(statuses).await, ["a active", "b past_due"]);
    // A subscription that PayPal does not know has no payment.
    paypal.state().payments.remove("I-B");
    world.clock.advance(TimeDelta::days(1));
    assert_eq!(renew(&running, false).await["summary"]["uncertain"], json!(0));
    running.stop().await;
}

/// Two runs ask about the same subscription: what the slower one finds done is not its own, and not told as paid.
#[tokio::test]
async fn what_another_run_has_decided_meanwhile_is_not_told_as_paid() {
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &[("CRON_SECRET", SECRET)]).await;
    let running = world.start().await;
    running.stats().await;
    let store = &running.daemon.store;
    for event in [
        activated("I-A", "2027-05-01T10:59:00Z", "gold_monthly_1_a"),
        sale("S1-a", "I-A", "2027-05-01T11:00:00Z", "79.99"),
    ] {
        store.apply_event(&event, &rules(), world.clock_now()).await.unwrap();
    }
    paypal.state().payments.insert("I-A".to_owned(), Vec::new());
    paypal.state().troubles = vec![Trouble::HoldAnswer("/v1/billing/subscriptions/I-A")].into();
    let faster = async {
        eventually("the slower one has asked", async || paypal.state().troubles.is_empty()).await;
        // Two runs are two slots, and a simulated clock stands still between them.
        world.clock.advance(TimeDelta::seconds(1));
        let done = renew(&running, false).await;
        paypal.let_go();
        done
    };
    let (slower, faster) = tokio::join!(renew(&running, false), faster);
    assert_eq!((&faster["summary"]["past_due"], &faster["count"]), (&json!(1), &json!(1)), "{faster}");
    assert_eq!((&slower["summary"]["paid"], &slower["count"]), (&json!(0), &json!(0)), "{slower}");
    running.stop().await;
}

/// A run that is told to end stops after the page that it is at, at night and by hand; the ledger says that it was ended, and what is
/// left is due.
#[tokio::test]
async fn a_run_that_is_told_to_end_is_ended_and_not_well() {
    let settings = [("CRON_SECRET", SECRET), ("OPERATOR_TOKEN", OPERATOR), ("BELLWETHER_RENEWALS__BATCH", "1")];
    let (world, paypal) = world_with_paypal(Engine::Sqlite, &settings).await;
    let running = world.start().await;
    running.stats().await;
    let store = &running.daemon.store;
    for event in [
        activated("I-A", "2027-05-01T04:59:00Z", "gold_monthly_1_a"),
        sale("S1-a", "I-A", "2027-05-01T05:00:00Z", "79.99"),
    ] {
        store.apply_event(&event, &rules(), world.clock_now()).await.unwrap();
    }
    world.database.execute(subscription("b", "canceled", false, instant("2027-06-01T06:00:00Z"))).await;
    paypal.state().payments.insert("I-A".to_owned(), Vec::new());
    // Held until the run is told: what it does next it does as one that was told.
    let hold = |path: &'static str| paypal.state().troubles = vec![Trouble::HoldAnswer(path)].into();
    let cancelled_while_it_asks = async || {
        eventually("PayPal is asked", async || paypal.state().troubles.is_empty()).await;
        let run = world.ledger(&running, "renewals").await.pop().unwrap().id;
        let (status, answer) = running.operate(&format!("/api/v1/runs/{run}/cancel"), Some(json!({}))).await;
        assert_eq!(status, 200, "{answer}");
        // A look that began after that has told it.
        world.clock.advance(TimeDelta::seconds(1));
        let at = world.clock.monotonic();
        eventually("the planner has looked", async || running.daemon.scheduler.last_look() == Some(at)).await;
        paypal.let_go();
    };
    let left = "SELECT user_id || ' ' || status FROM subscriptions WHERE user_id = 'b'";
    hold("/v1/billing/subscriptions/I-A");
    let (answer, ()) = tokio::join!(renew(&running, false), cancelled_while_it_asks());
    assert_eq!((&answer["success"], &answer["summary"]["remaining"]), (&json!(false), &json!(1)), "{answer}");
    assert_eq!(world.database.query(left).await, ["b canceled"], "it is left");
    let run = world.ledger(&running, "renewals").await.pop().unwrap();
    assert_eq!((run.state, run.origin.name()), (RunState::Cancelled, "api"));
    // The night, in the same way.
    for event in [
        activated("I-C", "2027-05-02T04:59:00Z", "gold_monthly_1_c"),
        sale("S1-c", "I-C", "2027-05-02T05:00:00Z", "79.99"),
    ] {
        store.apply_event(&event, &rules(), world.clock_now()).await.unwrap();
    }
    paypal.state().payments.insert("I-C".to_owned(), Vec::new());
    let later = "UPDATE subscriptions SET next_action_at = '2027-06-02T06:00:00+00:00' WHERE user_id = 'b'";
    world.database.execute(later.to_owned()).await;
    hold("/v1/billing/subscriptions/I-C");
    world.clock.advance_to(instant("2027-06-02T07:00:00Z"));
    cancelled_while_it_asks().await;
    eventually("the night has ended", async || {
        world
            .ledger(&running, "renewals")
            .await
            .iter()
            .any(|run| run.origin.name() == "scheduled" && run.state == RunState::Cancelled)
    })
    .await;
    assert_eq!(world.database.query(left).await, ["b canceled"]);
    running.stop().await;
}

/// D19: only the site's own word that it went well counts.
#[tokio::test]
async fn a_site_that_renews_by_itself_is_called_until_it_says_that_it_went_well() {
    let site = Stub::start().await;
    let settings = [("CRON_SECRET", SECRET), ("BELLWETHER_RENEWALS__MODE", "http"), ("API_BASE_URL", &site.url)];
    let world = World::at("2027-03-14T06:59:59Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    running.stats().await;
    let summary = json!({"processed": 3, "credits_applied": 1, "past_due": 1, "skipped": 1});
    site.answer(
        "/api/billing/process-renewals",
        &[(500, json!({})), (200, json!({"success": false})), (200, json!({"success": true, "summary": summary}))],
    );
    world.clock.advance(TimeDelta::seconds(2));
    eventually("the site has done it", async || {
        world.clock.advance(TimeDelta::seconds(30));
        world.ledger(&running, "renewals").await.iter().any(|run| run.state == RunState::Ok)
    })
    .await;
    let run = world.ledger(&running, "renewals").await.remove(0);
    assert_eq!(run.attempt, 3);
    assert_eq!(
        serde_json::from_str::<Value>(run.stats.as_deref().unwrap()).unwrap(),
        json!({"mode": "http", "summary": summary})
    );
    assert_eq!(
        site.count(&format!("X-Cron-Secret: {SECRET}").to_lowercase())
            + site.count(&format!("X-Cron-Secret: {SECRET}")),
        3
    );
    // A redirect is not followed, and is no success.
    site.answer("/api/billing/process-renewals", &[(302, json!({"success": true}))]);
    world.clock.advance_to(instant("2027-03-15T07:00:01Z"));
    eventually("the next night has failed", async || {
        world.clock.advance(TimeDelta::seconds(1));
        world.ledger(&running, "renewals").await.iter().any(|run| run.state == RunState::Failed)
    })
    .await;
    assert_eq!(site.count("/elsewhere"), 0);
    running.stop().await;
}
