//! Reminders of payments that are late: once each, on both databases.

use bellwether::store::{LetterState, Reminder};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Database, Engine, World, instant};
use crate::renewals::subscription;

on_both_engines!(
    a_reminder_is_written_once_and_a_dry_run_writes_none,
    whoever_is_past_due_is_reminded_by_day,
    a_dry_run_says_what_the_real_one_then_does,
);

async fn a_reminder_is_written_once_and_a_dry_run_writes_none(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant("2027-03-14T12:00:00Z"));
    for user in ["a", "b", "c"] {
        database.execute(subscription(user, "past_due", true, instant("2027-03-10T05:00:00Z"))).await;
    }
    let page = store.past_due("", 2).await.unwrap();
    let rest = store.past_due(&page[1].id, 2).await.unwrap();
    let all: Vec<_> = page.into_iter().chain(rest).map(|of| Reminder { of, number: 1 }).collect();
    assert_eq!(all.len(), 3);
    assert_eq!(store.remind(all.clone(), 2, now, true).await.unwrap().len(), 2);
    assert_eq!(store.remind(all.clone(), 2, now, false).await.unwrap().len(), 2, "a dry run left nothing");
    assert_eq!(store.remind(all.clone(), 2, now, false).await.unwrap(), all[2..], "the others are reached");
    let letters = store.letters(Some(LetterState::Waiting), 10).await.unwrap();
    let of: Vec<_> = letters.iter().map(|letter| (letter.account.as_str(), letter.step.as_str())).collect();
    assert_eq!(of, [("a", "dunning_1"), ("b", "dunning_1"), ("c", "dunning_1")]);
}

/// D20: each reminder once, however often it is asked for; after a pause only the newest.
async fn whoever_is_past_due_is_reminded_by_day(engine: Engine) {
    let settings = [("CRON_SECRET", "canary-cron-secret")];
    let world = World::at("2027-03-14T06:00:00Z", engine, &settings).await;
    let running = world.start().await;
    running.stats().await;
    for user in ["a", "b"] {
        world.database.execute(subscription(user, "past_due", true, instant("2027-03-13T05:00:00Z"))).await;
    }
    let dun = async |secret: &str, body: Value| -> (u16, Value) {
        let url = format!("http://{}/api/billing/process-dunning", running.daemon.api);
        let request = running.http.post(url).header("X-Cron-Secret", secret);
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    };
    assert_eq!(dun("wrong", json!({})).await.0, 403);
    assert_eq!(dun("canary-cron-secret", json!({"limit": 0})).await.0, 400);
    let (_, dry) = dun("canary-cron-secret", json!({"dry_run": true})).await;
    assert_eq!((&dry["processed"], &dry["notified"]), (&json!(2), &json!(2)));
    assert_eq!(
        dry["results"][0],
        json!({"user_id": "a", "plan": "gold", "billing_cycle": "monthly", "action": "dunning_0"})
    );
    let (_, one) = dun("canary-cron-secret", json!({"limit": 1})).await;
    let (_, other) = dun("canary-cron-secret", json!({"limit": 1})).await;
    assert_eq!(json!([one["results"][0], other["results"][0]]), dry["results"], "a dry run says what is then done");
    assert_eq!(dun("canary-cron-secret", json!({})).await.1["notified"], json!(0));
    // The job of 09:00 New York, seven days past due: day 3 was missed and is not made up for.
    world.clock.advance(TimeDelta::days(6));
    world.advance_to(&running, instant("2027-03-20T13:00:00Z")).await;
    let steps = "SELECT step FROM outbox WHERE account = 'a' AND step LIKE 'dunning%' ORDER BY step";
    assert_eq!(world.database.query(steps).await, ["dunning_0", "dunning_2"]);
    running.stop().await;
}

/// Over several pages, by days of one's own, on the command line.
async fn a_dry_run_says_what_the_real_one_then_does(engine: Engine) {
    let settings = [("CRON_SECRET", "canary-cron-secret"), ("BELLWETHER_DUNNING__DAYS", "1,5")];
    let world = World::at("2027-03-14T06:00:00Z", engine, &settings).await;
    let running = world.start().await;
    running.stats().await;
    // Of 450, those of today are not due yet by these days.
    let users = (0..450).map(|n| {
        let end = instant("2027-03-14T05:00:00Z") - TimeDelta::days(n % 9);
        subscription(&format!("u{n:03}"), "past_due", true, end)
    });
    world.database.execute(users.collect()).await;
    let at = running.daemon.api.to_string();
    let remind = async |arguments: &'static [&'static str]| -> Value {
        let at = at.clone();
        let output = tokio::task::spawn_blocking(move || {
            let directory = tempfile::tempdir().unwrap();
            let environment = [("BELLWETHER_LISTEN", at.as_str()), ("CRON_SECRET", "canary-cron-secret")];
            let arguments = [&["renewals", "remind", "--json"], arguments].concat();
            crate::commands::bellwether(directory.path(), &arguments, &environment)
        });
        let output = output.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let dry = remind(&["--dry-run"]).await;
    assert_eq!((&dry["processed"], &dry["notified"], &dry["dry_run"]), (&json!(450), &json!(400), &json!(true)));
    assert!(world.database.query("SELECT id FROM outbox").await.is_empty());
    let done = remind(&[]).await;
    assert_eq!((&done["results"], &done["notified"]), (&dry["results"], &dry["notified"]));
    let steps = "SELECT step || ' ' || CAST(COUNT(*) AS TEXT) FROM outbox GROUP BY step ORDER BY step";
    assert_eq!(world.database.query(steps).await, ["dunning_0 200", "dunning_1 200"]);
    let again = remind(&["--dry-run"]).await;
    assert_eq!((&again["processed"], &again["notified"]), (&json!(450), &json!(0)), "each once");
    running.stop().await;
}
