//! The operators' commands about the inbox, beside a daemon that runs, on both databases.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Engine, client, eventually};
use crate::killed::Site;
use crate::process::Process;
use crate::sim_paypal::event;

#[expect(clippy::disallowed_methods, reason = "a real process, real time")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A month of gold, bought an hour ago.
fn bought(event_id: &str, capture: &str, user: &str, amount: &str) -> Value {
    let at = now() - TimeDelta::hours(1);
    let resource = json!({
        "id": capture, "status": "COMPLETED", "amount": {"value": amount, "currency_code": "USD"},
        "custom_id": format!("gold_monthly_1811851140_{user}"), "create_time": at.to_rfc3339_opts(SecondsFormat::Secs, true),
    });
    event(event_id, "PAYMENT.CAPTURE.COMPLETED", at, resource)
}

struct Operator<'s> {
    site: &'s Site,
    daemon: &'s Process,
}

impl Operator<'_> {
    /// The exit code and what was said, lines of JSON.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
        let mut environment = self.site.environment();
        environment.push(("BELLWETHER_LISTEN".to_owned(), self.daemon.api.to_string()));
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let output = bellwether(self.site.directory.path(), arguments, &environment);
        let said = String::from_utf8(output.stdout).unwrap();
        let lines = said.lines().map(serde_json::from_str);
        let lines: Result<Vec<Value>, _> = lines.collect();
        let lines = lines.unwrap_or_else(|_| vec![serde_json::from_str(&said).unwrap()]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!lines.is_empty() || told.contains("there is no event"), "{told}");
        (output.status.code(), lines)
    }

    /// The exit code, and why.
    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut environment = self.site.environment();
        environment.push(("BELLWETHER_LISTEN".to_owned(), self.daemon.api.to_string()));
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let output = bellwether(self.site.directory.path(), arguments, &environment);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    async fn post(&self, event: &Value) {
        let signed = self.site.paypal.sign(event.to_string().as_bytes());
        assert_eq!(signed.post(&client(), self.daemon.api).await.0, 200);
    }

    /// What the doctor says of one check: whether it is well, and what it found.
    fn doctor(&self, check: &str) -> (Option<i32>, bool, String) {
        let (code, report) = self.run(&["doctor", "webhooks", "--json"]);
        let found = report[0]["checks"].as_array().unwrap().iter().find(|one| one["check"] == check).unwrap().clone();
        (code, found["ok"].as_bool().unwrap(), found["found"].as_str().unwrap().to_owned())
    }
}

async fn an_operator_looks_replays_and_compares_beside_the_daemon(engine: Engine) {
    let site = Site::new(engine).await;
    let daemon = site.start(&[]);
    let operator = Operator { site: &site, daemon: &daemon };
    let status = async |id: &str, status: &str| {
        let sql = format!("webhook_events WHERE event_id = '{id}' AND status = '{status}'");
        eventually(&format!("{id} is {status}"), async || site.count(&sql).await == 1).await;
    };
    operator.post(&bought("WH-1", "CAP-1", "u1", "79.99")).await;
    operator.post(&bought("WH-2", "CAP-2", "u2", "1,50")).await;
    status("WH-1", "processed").await;
    status("WH-2", "dead").await;
    let (code, listed) = operator.run(&["webhooks", "ls", "--json", "--status", "dead"]);
    assert_eq!((code, listed.len(), &listed[0]["event_id"]), (Some(0), 1, &json!("WH-2")));
    let (_, shown) = operator.run(&["webhooks", "show", "WH-1", "--json"]);
    assert_eq!((&shown[0]["effect"]["user_id"], &shown[0]["attempts"]), (&json!("u1"), &json!(1)));
    let (code, well, found) = operator.doctor("given up");
    assert_eq!((code, well), (Some(3), false), "{found}");
    assert!(operator.doctor("PayPal").1 && operator.doctor("backlog").1);
    // Replays: said first, then done by whoever may write, each once.
    let since = (now() - TimeDelta::hours(1)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let (_, told) = operator.run(&["webhooks", "replay", "--status", "dead", "--since", &since, "--dry-run", "--json"]);
    assert_eq!((&told[0]["replayed"], &told[0]["dry_run"]), (&json!(1), &json!(true)));
    let ended = async |id: &str| {
        let sql =
            format!("SELECT COALESCE(CAST(processed_at AS TEXT), '') FROM webhook_events WHERE event_id = '{id}'");
        site.database.query(&sql).await.remove(0)
    };
    for id in ["WH-1", "WH-2"] {
        let before = ended(id).await;
        let (code, told) = operator.run(&["webhooks", "replay", id, "--json"]);
        assert_eq!((code, &told[0]["replayed"]), (Some(0), &json!(1)));
        eventually("it was tried again", async || {
            let now = ended(id).await;
            !now.is_empty() && now != before
        })
        .await;
    }
    status("WH-1", "processed").await;
    assert_eq!((site.count("payments").await, site.count("audit").await), (1, 1), "the same money counts once");
    assert_eq!(operator.run(&["webhooks", "replay", "WH-9", "--json"]).0, Some(1));
    // What PayPal has and never delivered: seen, fetched, and then nothing differs.
    let never = bought("WH-3", "CAP-3", "u3", "79.99");
    site.paypal.state().events = vec![bought("WH-1", "CAP-1", "u1", "79.99"), never];
    let (code, found) = operator.run(&["webhooks", "reconcile", "--dry-run", "--json"]);
    assert_eq!((code, &found[0]["missing"], &found[0]["stored"]), (Some(3), &json!(1), &json!(0)));
    assert_eq!(site.count("webhook_events WHERE event_id = 'WH-3'").await, 0);
    let (code, done) = operator.run(&["webhooks", "reconcile", "--json"]);
    assert_eq!(code, Some(0));
    if engine == Engine::Sqlite {
        let (code, told) = operator.refused(&["webhooks", "reconcile", "--days", "30", "--json"]);
        assert_eq!((code, told.contains("leave --days out")), (Some(75), true), "{told}");
    }
    // On SQLite the daemon does it, and says under which run; on a shared database the command does it by itself.
    assert_eq!(done[0]["run"].is_string(), engine == Engine::Sqlite, "{done:?}");
    status("WH-3", "processed").await;
    let (code, found) = operator.run(&["webhooks", "reconcile", "--dry-run", "--json"]);
    assert_eq!((code, &found[0]["missing"]), (Some(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_replays_and_compares_beside_the_daemon_sqlite() {
    an_operator_looks_replays_and_compares_beside_the_daemon(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_replays_and_compares_beside_the_daemon_postgres() {
    an_operator_looks_replays_and_compares_beside_the_daemon(Engine::Postgres).await;
}
