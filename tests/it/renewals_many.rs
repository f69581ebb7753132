//! Many subscribers at once: a dry run says exactly what the runs then do, two of them at once included, each period once. Ten thousand
//! on each database; `BELLWETHER_TEST_LONG=1`: a hundred thousand.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::faketime::is_long;
use crate::harness::{Engine, Running, World, instant};

const SECRET: &str = "canary-cron-secret";

on_both_engines!(
    d13_d15_a_dry_run_of_many_is_what_two_runs_at_once_do,
    d31_what_stays_unpaid_keeps_nobody_from_being_reached,
);

/// Adds `count` subscriptions of every kind, and three or four paid invites to each seventh.
async fn crowd(world: &World, count: usize) {
    let at = instant("2027-06-01T05:00:00Z").to_rfc3339();
    let kinds = [("active", true), ("canceled", false), ("active", false), ("past_due", true), ("suspended", true)];
    for first in (0..count).step_by(500) {
        let ids = first..(first + 500).min(count);
        let rows: Vec<String> = ids
            .clone()
            .map(|n| {
                let (status, auto_renew) = kinds[n % kinds.len()];
                format!("('s{n:06}', 'u{n:06}', 'gold', 'annual', '{status}', {auto_renew}, '{at}', '{at}', '{at}')")
            })
            .collect();
        let insert = "INSERT INTO subscriptions (id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, \
             next_action_at, updated_at) VALUES ";
        world.database.execute(format!("{insert}{}", rows.join(","))).await;
        let credits: Vec<String> = ids
            .filter(|n| n % 7 == 0)
            .flat_map(|n| (0..3 + n % 2).map(move |k| (n, k)))
            .map(|(n, k)| format!("('c{n}-{k}', 'u{n:06}', 1, 'invite_paid', 'i{n}-{k}', '{at}')"))
            .collect();
        let insert = "INSERT INTO credits (id, user_id, delta, reason, source, at) VALUES ";
        world.database.execute(format!("{insert}{}", credits.join(","))).await;
    }
}

async fn renew(running: &Running, body: Value) -> (u16, Value) {
    let url = format!("http://{}/api/billing/process-renewals", running.daemon.api);
    let request = running.http.post(url).header("X-Cron-Secret", SECRET).body(body.to_string());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// The counts of a summary, without what was left.
fn counts(summary: &Value) -> BTreeMap<String, i64> {
    let all = summary.as_object().unwrap().iter().filter(|(name, _)| *name != "remaining");
    all.map(|(name, count)| (name.clone(), count.as_i64().unwrap())).collect()
}

async fn d13_d15_a_dry_run_of_many_is_what_two_runs_at_once_do(engine: Engine) {
    let many = if is_long() { 100_000 } else { 10_000 };
    let settings = [("CRON_SECRET", SECRET), ("BELLWETHER_RENEWALS__LIMIT", "1000000")];
    let world = World::at("2027-06-01T12:00:00Z", engine, &settings).await;
    let one = world.start().await;
    one.stats().await;
    crowd(&world, many).await;
    let (status, dry) = renew(&one, json!({ "dry_run": true })).await;
    assert_eq!((status, &dry["summary"]["processed"], &dry["summary"]["remaining"]), (200, &json!(many), &json!(0)));
    assert!(dry["summary"]["credits_applied"].as_u64().unwrap() > 0, "D13: a dry run counts credits as such");
    let rows = async |table: &str| {
        world.database.query(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}")).await[0].parse::<usize>().unwrap()
    };
    assert_eq!(rows("renewals").await, 0, "it has changed nothing");
    // Two at once: on the shared database two daemons, on the other two calls.
    let two = if engine == Engine::Postgres { Some(world.start().await) } else { None };
    let run = async |running: &Running| {
        // Two runs are two slots, and a simulated clock stands still between them.
        loop {
            let (status, body) = renew(running, json!({})).await;
            if status == 200 {
                return body;
            }
            assert_eq!((status, &body["code"]), (409, &json!("already_running")), "{body}");
            world.clock.advance(TimeDelta::milliseconds(1));
        }
    };
    let (first, second) = tokio::join!(run(&one), run(two.as_ref().unwrap_or(&one)));
    let mut both = counts(&first["summary"]);
    for (name, count) in counts(&second["summary"]) {
        *both.entry(name).or_default() += count;
    }
    assert_eq!(both, counts(&dry["summary"]), "each was decided about by one of them, as the dry run had said");
    // A suspended or expired one has no outcome of its own; every other period has one.
    let decided =
        usize::try_from(both["credits_applied"] + both["past_due"] + both["suspended"] + both["expired"]).unwrap();
    assert_eq!(rows("renewals").await, decided);
    assert_eq!(
        rows("(SELECT subscription_id FROM renewals GROUP BY subscription_id HAVING COUNT(*) > 1) twice").await,
        0
    );
    assert_eq!(rows("free_months").await, usize::try_from(both["credits_applied"]).unwrap());
    assert_eq!(rows("(SELECT user_id FROM credits GROUP BY user_id HAVING SUM(delta) < 0) overdrawn").await, 0);
    assert_eq!(rows("credits WHERE reason = 'redeemed'").await, usize::try_from(both["credits_applied"]).unwrap());
    let actions = |answer: &Value| -> BTreeMap<String, String> {
        let results = answer["results"].as_array().unwrap().iter();
        results.map(|one| (one["user_id"].as_str().unwrap().into(), one["action"].as_str().unwrap().into())).collect()
    };
    let said = actions(&dry);
    for (user, action) in actions(&first).into_iter().chain(actions(&second)) {
        assert!(said.get(&user).is_none_or(|said| *said == action), "{user}: {action}");
    }
    world.clock.advance(TimeDelta::milliseconds(1));
    let (_, third) = renew(&one, json!({})).await;
    assert_eq!(third["summary"]["processed"], json!(0), "nothing is due any more");
    if let Some(two) = two {
        two.stop().await;
    }
    one.stop().await;
}

/// D31: what stays unpaid leaves the queue; however many there are, what came due later has its turn.
async fn d31_what_stays_unpaid_keeps_nobody_from_being_reached(engine: Engine) {
    let settings = [("CRON_SECRET", SECRET), ("BELLWETHER_RENEWALS__LIMIT", "3")];
    let world = World::at("2027-06-01T12:00:00Z", engine, &settings).await;
    let running = world.start().await;
    running.stats().await;
    for n in 0..7 {
        let end = instant("2027-06-01T05:00:00Z") + TimeDelta::minutes(n);
        let sql = crate::renewals::subscription(&format!("u{n}"), "active", true, end);
        world.database.execute(sql).await;
    }
    let mut reached = Vec::new();
    for _ in 0..3 {
        let (_, answer) = renew(&running, json!({})).await;
        reached.extend(
            answer["results"].as_array().unwrap().iter().map(|one| one["user_id"].as_str().unwrap().to_owned()),
        );
        world.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(reached, ["u0", "u1", "u2", "u3", "u4", "u5", "u6"]);
    running.stop().await;
}
