//! `doctor clock` and `doctor schedule`: what is wrong is found, with its exact fix.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::commands::bellwether;
use crate::harness::{Database, Engine, eventually};
use crate::process::Process;

#[expect(clippy::disallowed_methods, reason = "a real process, real time")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A host with its database.
struct Patient {
    directory: tempfile::TempDir,
    database: Database,
}

impl Patient {
    fn environment(&self) -> [(&str, &str); 3] {
        [("DATABASE_URL", &self.database.url), ("OPERATOR_TOKEN", "a-token-for-the-doctor"), ("PATH", "/usr/bin:/bin")]
    }

    /// The exit code and what was found, by the name of the check: whether it is well, the finding and the fix.
    fn examine(&self, area: &str) -> (Option<i32>, Vec<(String, bool, String)>) {
        let output = bellwether(self.directory.path(), &["doctor", area, "--json"], &self.environment());
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let checks = report["checks"].as_array().unwrap().iter().map(|check| {
            let told = text(check, "found") + " -> " + &text(check, "fix");
            (text(check, "check"), check["ok"].as_bool().unwrap(), told)
        });
        (output.status.code(), checks.collect())
    }

    /// All is well there; gives what was told of one check.
    fn is_well(&self, area: &str, check: &str) -> String {
        let (code, checks) = self.examine(area);
        assert_eq!(code, Some(0), "{checks:?}");
        checks.into_iter().find(|(name, ..)| name == check).unwrap().2
    }

    /// One check finds something, the others nothing; gives what was told of it.
    fn is_ill(&self, area: &str, check: &str) -> String {
        let (code, checks) = self.examine(area);
        let found: Vec<_> = checks.iter().filter(|(_, well, _)| !well).collect();
        assert!(code == Some(3) && found.len() == 1 && found[0].0 == check, "{code:?} {checks:?}");
        found[0].2.clone()
    }

    async fn change(&self, sql: &str) {
        assert_ne!(self.database.query(sql).await, [""; 0], "nothing was changed by {sql}");
    }
}

fn literal(at: DateTime<Utc>) -> String {
    at.format("%F %T+00:00").to_string()
}

async fn the_doctor_finds_what_is_wrong(engine: Engine) {
    let patient = Patient { directory: tempfile::tempdir().unwrap(), database: Database::create(engine).await };
    let mut daemon = Process::start(patient.directory.path(), &patient.environment());
    eventually("it is ready", async || daemon.get("/readyz").await.is_some_and(|(status, _)| status == 200)).await;
    assert!(patient.is_well("schedule", "planner").starts_with(&format!("process {} on ", daemon.id())));
    assert!(patient.is_well("clock", "steps and sleeps").starts_with("not set, and the host did not sleep"));

    let at = daemon.api.to_string();
    let operate = |verb: &[&str]| {
        let environment = [&patient.environment()[..], &[("BELLWETHER_LISTEN", &at)]].concat();
        let output = bellwether(patient.directory.path(), verb, &environment);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    operate(&["jobs", "pause", "renewals", "--reason", "moving"]);
    let told = patient.is_ill("schedule", "pauses");
    assert!(told.contains("paused: renewals") && told.ends_with("bellwether jobs resume renewals"), "{told}");
    operate(&["jobs", "resume", "renewals"]);
    patient.is_well("schedule", "pauses");

    let (hour, day) = (now() - TimeDelta::hours(1), now() - TimeDelta::days(3));
    let event = format!(
        "INSERT INTO clock_events (id, at, kind, by_us, owner) VALUES ('one', '{}', 'step', -7200000000, 'me') RETURNING id",
        literal(hour)
    );
    patient.change(&event).await;
    let told = patient.is_ill("clock", "steps and sleeps");
    assert!(told.contains("1 event(s)") && told.contains("a step of back"), "{told}");
    patient.change(&format!("UPDATE clock_events SET at = '{}' RETURNING id", literal(day))).await;
    patient.is_well("clock", "steps and sleeps");

    daemon.signal("TERM");
    assert_eq!(daemon.exit_code(), Some(0));
    let told = patient.is_ill("schedule", "planner");
    assert!(told.starts_with("nobody plans") && told.contains("systemctl start bellwether"), "{told}");

    // As if the daemon had been here for three days, and had not looked at the night.
    patient.change(&format!("UPDATE jobs SET since = '{}' WHERE name = 'renewals' RETURNING name", literal(day))).await;
    let (code, checks) = patient.examine("schedule");
    let (_, well, told) = checks.iter().find(|(name, ..)| name == "slots").unwrap();
    assert!(code == Some(3) && !well, "{checks:?}");
    assert!(
        told.contains("slots of the last 25 hours have no row") && told.contains("jobs run renewals --slot 20"),
        "{told}"
    );

    patient.is_well("clock", "ledger");
    let ahead = literal(now() + TimeDelta::hours(1));
    let run =
        format!("UPDATE job_runs SET claimed_at = '{ahead}' WHERE id = (SELECT MAX(id) FROM job_runs) RETURNING id");
    patient.change(&run).await;
    let told = patient.is_ill("clock", "ledger");
    assert!(told.contains("which has not come yet") && told.contains("schedule.trust_clock = true"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_wrong_sqlite() {
    the_doctor_finds_what_is_wrong(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_wrong_postgres() {
    the_doctor_finds_what_is_wrong(Engine::Postgres).await;
}
