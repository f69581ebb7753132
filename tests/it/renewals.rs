//! What becomes of subscribers, on the night and over HTTP, on both databases, whatever is killed.

use std::sync::Arc;

use bellwether::store::RunState;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::harness::{Engine, Running, World, eventually, instant};
use crate::sim_paypal::{SimPayPal, Trouble};
use crate::store_billing::{activated, rules, sale};

const SECRET: &str = "canary-cron-secret";

/// Adds a subscription whose period ended before the night of the stories.
async fn subscribe(world: &World, user: &str, status: &str, auto_renew: bool, period_end: DateTime<Utc>) {
    world.database.execute(subscription(user, status, auto_renew, period_end)).await;
}

pub fn subscription(user: &str, status: &str, auto_renew: bool, period_end: DateTime<Utc>) -> String {
    // The text form is the one both engines read back as the same instant.
    let at = period_end.to_rfc3339();
    format!(
        "INSERT INTO subscriptions (id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, \
         next_action_at, updated_at) VALUES ('s-{user}', '{user}', 'gold', 'monthly', '{status}', {auto_renew}, '{at}', \
         '{at}', '{at}');"
    )
}

async fn states(world: &World) -> String {
    let sql = "SELECT user_id || ' ' || status || CASE WHEN next_action_at IS NULL THEN '' ELSE ' due' END \
               FROM subscriptions ORDER BY user_id";
    world.database.query(sql).await.join("\n")
}

async fn ask(running: &Running, secret: Option<&str>, body: Value) -> (u16, Value) {
    let url = format!("http://{}/api/billing/process-renewals", running.daemon.api);
    let mut request = running.http.post(url).body(body.to_string());
    if let Some(secret) = secret {
        request = request.header("X-Cron-Secret", secret);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn the_night_decides_about_everybody_who_is_due(engine: Engine) {
    let world = World::at("2027-03-14T06:00:00Z", engine, &[("BELLWETHER_RENEWALS__BATCH", "2")]).await;
    let running = world.start().await;
    running.stats().await;
    let ended = instant("2027-03-13T05:00:00Z");
    subscribe(&world, "a-renews", "active", true, ended).await;
    subscribe(&world, "b-leaves", "canceled", false, ended).await;
    subscribe(&world, "c-stops", "active", false, ended).await;
    subscribe(&world, "d-late", "past_due", true, ended).await;
    subscribe(&world, "e-later", "active", true, instant("2027-03-14T08:00:00Z")).await;
    world.advance_to(&running, instant("2027-03-14T07:00:00Z")).await;
    assert_eq!(
        states(&world).await,
        "a-renews past_due due\nb-leaves expired\nc-stops expired\nd-late past_due due\ne-later active due"
    );
    let runs = world.ledger(&running, "renewals").await;
    let stats: Value = serde_json::from_str(runs[0].stats.as_deref().unwrap()).unwrap();
    assert_eq!(
        stats,
        json!({"processed": 4, "credits_applied": 0, "paid": 0, "past_due": 2, "suspended": 0, "expired": 2, "uncertain": 0, "skipped": 0, "failed": 0, "remaining": 0})
    );
    let records = "SELECT subscription_id || ' ' || action || ' ' || status_before || ' > ' || status_after FROM renewals ORDER BY 1";
    assert_eq!(
        world.database.query(records).await,
        [
            "s-a-renews marked_past_due active > past_due",
            "s-b-leaves expired canceled > expired",
            "s-c-stops expired active > expired",
            "s-d-late marked_past_due past_due > past_due",
        ]
    );
    running.stop().await;
}

#[tokio::test]
async fn the_night_decides_about_everybody_who_is_due_sqlite() {
    the_night_decides_about_everybody_who_is_due(Engine::Sqlite).await;
}

#[tokio::test]
async fn the_night_decides_about_everybody_who_is_due_postgres() {
    the_night_decides_about_everybody_who_is_due(Engine::Postgres).await;
}

#[tokio::test]
async fn over_http_it_is_the_same_run_and_a_dry_run_changes_nothing() {
    let world =
        World::at("2027-06-01T12:00:00Z", Engine::Sqlite, &[("CRON_SECRET", &format!("{SECRET},old-one"))]).await;
    let running = world.start().await;
    running.stats().await;
    let ended = instant("2027-06-01T05:00:00Z");
    subscribe(&world, "a", "active", true, ended).await;
    subscribe(&world, "b", "canceled", false, ended).await;
    let before = states(&world).await;

    for secret in [None, Some(""), Some("wrong")] {
        let (status, body) = ask(&running, secret, json!({})).await;
        assert_eq!((status, &body["code"], &body["success"]), (403, &json!("forbidden"), &json!(false)));
    }
    let (status, body) = ask(&running, Some(SECRET), json!({"limit": 0})).await;
    assert_eq!((status, &body["code"]), (400, &json!("bad_parameter")));
    for odd in [json!({"dryrun": true}), json!([]), json!([5, true]), json!(null), json!("dry_run")] {
        let (status, body) = ask(&running, Some(SECRET), odd.clone()).await;
        assert_eq!((status, &body["code"]), (400, &json!("bad_body")), "{odd} must not become a real run");
    }

    let (status, dry) = ask(&running, Some("old-one"), json!({"dry_run": true})).await;
    assert_eq!(status, 200);
    assert_eq!(states(&world).await, before);
    assert!(world.ledger(&running, "renewals").await.is_empty());

    let (status, first) = ask(&running, Some(SECRET), json!({"limit": 1})).await;
    assert_eq!((status, &first["summary"]["processed"], &first["summary"]["remaining"]), (200, &json!(1), &json!(1)));
    // Two runs are two slots, and a simulated clock stands still between them.
    world.clock.advance(TimeDelta::seconds(1));
    let (_, second) = ask(&running, Some(SECRET), json!({})).await;
    let both = [first["results"][0].clone(), second["results"][0].clone()];
    assert_eq!(dry["results"], json!(both), "a dry run says what the run then does");
    assert_eq!(
        dry["results"][0],
        json!({"user_id": "a", "plan": "gold", "billing_cycle": "monthly", "action": "marked_past_due"})
    );
    let runs = world.ledger(&running, "renewals").await;
    assert_eq!(runs.iter().map(|run| (run.origin.name(), run.state)).collect::<Vec<_>>(), [("api", RunState::Ok); 2]);
    running.stop().await;
}

#[tokio::test]
async fn a_subscription_that_cannot_be_read_does_not_stop_the_others() {
    let settings = [("CRON_SECRET", SECRET), ("BELLWETHER_RENEWALS__BATCH", "1")];
    let world = World::at("2027-06-01T12:00:00Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    running.stats().await;
    for (user, status, day) in
        [("a", "trialing", "2027-05-01"), ("b", "lunar", "2027-05-02"), ("c", "active", "2027-05-03")]
    {
        subscribe(&world, user, status, true, instant(&format!("{day}T05:00:00Z"))).await;
    }
    for dry_run in [true, false] {
        let (status, body) = ask(&running, Some(SECRET), json!({"dry_run": dry_run, "limit": 1})).await;
        assert_eq!(status, 200);
        let summary = &body["summary"];
        assert_eq!([&summary["failed"], &summary["past_due"]], [&json!(2), &json!(1)], "{body}");
        assert_eq!(body["success"], json!(false), "whoever looks at nothing else is told");
    }
    let run = world.ledger(&running, "renewals").await.pop().unwrap();
    assert_eq!(
        (run.state, run.error.as_deref()),
        (RunState::Failed, Some("2 subscriptions could not be decided about"))
    );
    assert!(run.stats.unwrap().contains("\"past_due\":1"), "what it has done is told all the same");
    assert_eq!(states(&world).await, "a trialing due\nb lunar due\nc past_due due");
    running.stop().await;
}

/// Whose row an event is at when its page comes is waited for, and decided about in the same run.
#[tokio::test]
async fn who_is_held_by_somebody_else_is_decided_about_in_the_same_run() {
    let world = World::at("2027-06-01T12:00:00Z", Engine::Postgres, &[("CRON_SECRET", SECRET)]).await;
    let running = world.start().await;
    running.stats().await;
    for user in ["a", "b", "c"] {
        subscribe(&world, user, "canceled", false, instant("2027-06-01T05:00:00Z")).await;
    }
    let mut other = sqlx::PgConnection::connect(&world.database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT 1 FROM subscriptions WHERE user_id = 'b' FOR UPDATE")
        .execute(&mut other)
        .await
        .unwrap();
    let let_go = async {
        eventually("the others are done", async || states(&world).await == "a expired\nb canceled due\nc expired")
            .await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    };
    let ((_, body), ()) = tokio::join!(ask(&running, Some(SECRET), json!({})), let_go);
    assert_eq!([&body["summary"]["expired"], &body["summary"]["remaining"]], [&json!(3), &json!(0)], "{body}");
    assert_eq!(states(&world).await, "a expired\nb expired\nc expired");
    running.stop().await;
}

async fn killed_in_the_middle_everybody_is_decided_about_once(engine: Engine) {
    const SUBSCRIBERS: usize = 400;
    // The last of them all: PayPal is asked about it and does not answer, so that none of those who are killed comes to an end first.
    const HELD: &str = "I-HELD";
    // On the shared database whoever was killed must fall silent first, in real time.
    let settings = [("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2"), ("BELLWETHER_RENEWALS__BATCH", "90")];
    let mut world = World::at("2027-03-14T06:59:00Z", engine, &settings).await;
    let paypal = SimPayPal::start(Arc::clone(&world.clock) as _).await;
    for (name, value) in paypal.settings() {
        world.set(&name, &value);
    }
    let ended = instant("2027-03-13T05:00:00Z");
    let first = world.start().await;
    first.stats().await;
    let of_last_month = sale("S1-held", HELD, "2027-02-13T06:00:00Z", "79.99");
    for event in [activated(HELD, "2027-02-13T05:59:00Z", "gold_monthly_1_held"), of_last_month] {
        first.daemon.store.apply_event(&event, &rules(), world.clock_now()).await.unwrap();
    }
    // It asks PayPal too, at the same hour, which is another story.
    first.daemon.store.pause_job("reconcile-paypal", world.clock_now(), None, "not here").await.unwrap();
    first.stop().await;
    paypal.state().payments.insert(HELD.to_owned(), Vec::new());
    // More than they ask.
    paypal.state().troubles = vec![Trouble::HoldAnswer("/v1/billing/subscriptions/I-HELD"); 9].into();
    for n in 0..SUBSCRIBERS {
        subscribe(&world, &format!("u{n:04}"), "active", true, ended).await;
    }
    let decided =
        async || world.database.query("SELECT user_id FROM subscriptions WHERE status = 'past_due'").await.len();
    world.clock.advance_to(instant("2027-03-14T06:59:59Z"));
    let mut killed_at = Vec::new();
    for more in [1, 90, 200] {
        let doomed = world.start_to_kill();
        world.clock.advance(TimeDelta::seconds(30));
        eventually("the run has come so far", async || {
            world.clock.advance(TimeDelta::seconds(1));
            decided().await >= more
        })
        .await;
        doomed.kill();
        killed_at.push(decided().await);
    }
    paypal.state().troubles.clear();
    let last = world.start().await;
    world.clock.advance(TimeDelta::seconds(30));
    eventually("the night is done", async || {
        world.clock.advance(TimeDelta::seconds(1));
        world.ledger(&last, "renewals").await.iter().any(|run| run.state == RunState::Ok)
    })
    .await;
    let runs = world.ledger(&last, "renewals").await;
    assert_eq!(runs.len(), 1, "one row for the slot, however often it was begun: {runs:#?}");
    assert_eq!(runs[0].scheduled_for, instant("2027-03-14T07:00:00Z"));
    assert!(runs[0].attempt >= 2, "killed at {killed_at:?}, attempts {}", runs[0].attempt);
    assert_eq!(decided().await, SUBSCRIBERS + 1);
    let once = world.database.query("SELECT subscription_id FROM renewals").await;
    assert_eq!(once.len(), SUBSCRIBERS + 1);
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_everybody_is_decided_about_once_sqlite() {
    killed_in_the_middle_everybody_is_decided_about_once(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_everybody_is_decided_about_once_postgres() {
    killed_in_the_middle_everybody_is_decided_about_once(Engine::Postgres).await;
}
