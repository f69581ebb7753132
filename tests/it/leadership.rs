//! Several instances on one PostgreSQL: one plans, and whatever is done to it, each slot runs once.

use std::time::Duration;

use bellwether::store::{RunFilter, RunState};
use chrono::{DateTime, TimeDelta, Utc};

use crate::faketime::is_long;
use crate::harness::{Database, Engine, World, eventually, instant};
use crate::process::Process;

/// The lease of the instances, in seconds: short, where only the order of things matters; whoever wants it long gets the one of
/// the house.
fn lease(short: u64) -> u64 {
    if is_long() { 15 } else { short }
}

/// A job each second, so that every moment has a slot; the lease is short where only the order of things matters.
fn each_second(directory: &std::path::Path) -> String {
    let file = directory.join("bellwether.toml");
    std::fs::write(&file, "[[component]]\nname = \"tick\"\ncommand = [\"true\"]\ntrigger = \"every 1s\"\n").unwrap();
    file.display().to_string()
}

/// An instance as a process of its own, on a database.
pub fn instance(directory: &std::path::Path, database: &Database, lease: &str) -> Process {
    let file = each_second(directory);
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("BELLWETHER_SCHEDULE__LEASE_SECONDS", lease),
        ("PATH", "/usr/bin:/bin"),
    ];
    Process::start_with(directory, &["--config", &file], &environment)
}

/// Epoch and owner of who plans, if anybody does.
pub async fn leader(database: &Database) -> Option<(i64, String)> {
    let rows = database.query("SELECT epoch || ' ' || owner FROM leases WHERE expires_at > clock_timestamp()").await;
    let (epoch, owner) = rows.first()?.split_once(' ')?;
    Some((epoch.parse().unwrap(), owner.to_owned()))
}

/// Waits until another than `before` plans; gives how long that took, and who.
pub async fn succession(database: &Database, before: i64) -> (Duration, String) {
    let began = now();
    let mut who = String::new();
    eventually("another instance plans", async || leader(database).await.is_some_and(|(epoch, _)| epoch > before))
        .await;
    if let Some((_, owner)) = leader(database).await {
        who = owner;
    }
    ((now() - began).to_std().unwrap(), who)
}

#[expect(clippy::disallowed_methods, reason = "real processes, real time")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

pub fn process_of(owner: &str) -> u32 {
    owner.split('-').next().unwrap().parse().unwrap()
}

async fn successes(database: &Database) -> usize {
    let rows = database.query("SELECT COUNT(*)::text FROM job_runs WHERE job = 'tick' AND state = 'ok'").await;
    rows[0].parse().unwrap()
}

/// Waits for so many more runs that went well.
pub async fn goes_on(database: &Database, more: usize) {
    let before = successes(database).await;
    eventually("the schedule goes on", async || successes(database).await >= before + more).await;
}

/// Whatever was done to the instances: no slot has two rows or two successes, and none that came due is without a row.
pub async fn is_exact(database: &Database) {
    let twice = "SELECT job || ' ' || scheduled_for FROM job_runs GROUP BY job, scheduled_for HAVING COUNT(*) > 1";
    assert!(database.query(twice).await.is_empty());
    let successes = "SELECT run_id FROM job_attempts WHERE state = 'ok' GROUP BY run_id HAVING COUNT(*) > 1";
    assert!(database.query(successes).await.is_empty(), "a run went well twice");
    let gaps = "SELECT job || ' ' || scheduled_for FROM (SELECT job, scheduled_for, lag(scheduled_for) OVER (ORDER BY \
         scheduled_for) AS before FROM job_runs WHERE job = 'tick' AND origin IN ('scheduled', 'catchup')) slots \
         WHERE scheduled_for <> before + interval '1 second'";
    assert_eq!(database.query(gaps).await, [""; 0], "a slot has no row");
    let stale = "SELECT r.id FROM job_runs r JOIN job_runs earlier ON earlier.job = r.job AND earlier.claimed_at < r.claimed_at \
         AND earlier.fence > r.fence AND r.fence > 0 AND r.origin IN ('scheduled', 'catchup') AND r.attempt <= 1 \
         AND r.claimed_at > earlier.claimed_at + interval '1 second'";
    assert_eq!(database.query(stale).await, [""; 0], "a planner of an older epoch has written after a newer one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_is_followed_within_a_second() {
    let database = Database::create(Engine::Postgres).await;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut instances = directories.each_ref().map(|directory| instance(directory.path(), &database, "15"));
    goes_on(&database, 2).await;
    let (epoch, owner) = leader(&database).await.unwrap();
    let first = instances.iter_mut().find(|process| process.id() == process_of(&owner)).unwrap();
    first.signal("TERM");
    let (took, follower) = succession(&database, epoch).await;
    assert_ne!(follower, owner);
    // Told by a notification: it does not wait for its next question. The bound leaves room for a machine that is busy.
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(first.exit_code(), Some(0));
    goes_on(&database, 3).await;
    is_exact(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_when_its_lease_ends_and_its_run_is_taken_over_once() {
    let database = Database::create(Engine::Postgres).await;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let lease = lease(3);
    let instances = directories.each_ref().map(|directory| instance(directory.path(), &database, &lease.to_string()));
    goes_on(&database, 2).await;
    let (epoch, owner) = leader(&database).await.unwrap();
    // A run of its own that it will never end.
    let run = format!(
        "INSERT INTO job_runs (id, job, scheduled_for, origin, state, attempt, owner, claimed_at, started_at, late_us, phase, \
         calendar_version, tzdb_version, deadline) VALUES ('01a207d8-f62e-7248-bef2-7b36ceb69bc8', 'tick', \
         clock_timestamp() - interval '1 hour', 'manual', 'running', 1, '{owner}', clock_timestamp(), clock_timestamp(), 0, \
         'closed', '1', '1', clock_timestamp() + interval '1 hour')"
    );
    database.execute(run).await;
    let first = instances.iter().find(|process| process.id() == process_of(&owner)).unwrap();
    first.signal("KILL");
    let (took, _) = succession(&database, epoch).await;
    eprintln!("followed after {took:?}, with a lease of {lease} s");
    assert!(took < Duration::from_secs(lease + 1), "{took:?}");
    let taken_over = "SELECT state || ' ' || attempt FROM job_runs WHERE id = '01a207d8-f62e-7248-bef2-7b36ceb69bc8'";
    eventually("its run is done by the other", async || database.query(taken_over).await == ["ok 2"]).await;
    goes_on(&database, 3).await;
    is_exact(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_lease_writes_nothing_when_it_wakes() {
    let database = Database::create(Engine::Postgres).await;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let lease = lease(2);
    let mut instances =
        directories.each_ref().map(|directory| instance(directory.path(), &database, &lease.to_string()));
    goes_on(&database, 2).await;
    let (epoch, owner) = leader(&database).await.unwrap();
    let first = instances.iter_mut().find(|process| process.id() == process_of(&owner)).unwrap();
    first.signal("STOP");
    let three = now() + Duration::from_secs(3 * lease);
    succession(&database, epoch).await;
    let stopped = now();
    eventually("three leases have passed", async || now() > three).await;
    let (epoch, follower) = leader(&database).await.unwrap();
    first.signal("CONT");
    goes_on(&database, 3).await;
    assert_eq!(leader(&database).await, Some((epoch, follower)), "it stands by");
    let late = format!("SELECT COUNT(*)::text FROM job_runs WHERE owner = '{owner}' AND claimed_at > '{stopped}'");
    assert_eq!(database.query(&late).await, ["0"], "rows that the stale leader wrote");
    is_exact(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_each_second_cost_no_slot() {
    let database = Database::create(Engine::Postgres).await;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let _instances = directories.each_ref().map(|directory| instance(directory.path(), &database, "15"));
    goes_on(&database, 2).await;
    for _ in 0..if is_long() { 60 } else { 10 } {
        let end = "SELECT COUNT(pg_terminate_backend(pid))::text FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.query(end).await;
        let ended = now();
        eventually("a second has passed", async || now() - ended > TimeDelta::seconds(1)).await;
    }
    goes_on(&database, 3).await;
    is_exact(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_agree_on_every_slot() {
    let world = World::at("2027-03-15T06:59:00Z", Engine::Postgres, &[]).await;
    drop(world.database.store().await);
    let first = world.start().await;
    first.stats().await;
    first.stop().await;
    // Mornings with two instances each: the 03:00 slot of every one of them is owed at both starts.
    let mornings: i64 = if is_long() { 200 } else { 100 };
    for day in 0..mornings {
        world.clock.advance_to(instant("2027-03-15T07:30:00Z") + TimeDelta::days(day));
        let (one, two) = tokio::join!(world.start(), world.start());
        eventually("the night is done", async || {
            world.ledger(&one, "renewals").await.last().is_some_and(|run| {
                run.state == RunState::Ok && run.scheduled_for > world.clock_now() - TimeDelta::hours(2)
            })
        })
        .await;
        tokio::join!(one.daemon.stop(), two.daemon.stop());
    }
    let store = world.database.store().await;
    let filter = RunFilter { job: Some("renewals".to_owned()), limit: 1_000, ..RunFilter::default() };
    let runs = store.list_runs(&filter).await.unwrap();
    assert_eq!(runs.len(), usize::try_from(mornings).unwrap());
    assert!(runs.iter().all(|run| run.state == RunState::Ok && run.attempt == 1));
    let unfinished = RunFilter { state: Some(RunState::Running), limit: 10, ..RunFilter::default() };
    assert!(store.list_runs(&unfinished).await.unwrap().is_empty());
}
