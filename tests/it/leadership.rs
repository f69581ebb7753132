//! Several instances on one PostgreSQL: one plans, and whatever is done to it, each slot runs once.

use std::sync::Mutex;
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

/// A term of planning, as the database had it when it was looked at.
#[derive(Debug)]
pub struct Term {
    pub epoch: i64,
    pub owner: String,
    /// When it ends, or ended, by the clock of the database.
    ends: DateTime<Utc>,
    held: bool,
}

impl Term {
    /// When it was renewed last, or began, under a lease of so many seconds: not before it began.
    fn renewed(&self, lease: u64) -> DateTime<Utc> {
        self.ends - Duration::from_secs(lease)
    }
}

/// The term of who plans, or planned last.
async fn last_term(database: &Database) -> Option<Term> {
    let sql = "SELECT epoch || '|' || owner || '|' || \
         to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') || '|' || \
         CASE WHEN expires_at > clock_timestamp() THEN 'held' ELSE 'over' END FROM leases";
    let rows = database.query(sql).await;
    let parts: Vec<&str> = rows.first()?.split('|').collect();
    let [epoch, owner, ends, held] = parts[..] else { panic!("{rows:?}") };
    Some(Term { epoch: epoch.parse().unwrap(), owner: owner.to_owned(), ends: instant(ends), held: held == "held" })
}

/// Waits for a term that is as wanted, and gives it as it was when it was first seen.
async fn term(database: &Database, what: &str, wanted: impl Fn(&Term) -> bool) -> Term {
    let found = Mutex::new(None);
    eventually(what, async || {
        let term = last_term(database).await.filter(&wanted);
        let is_there = term.is_some();
        *found.lock().unwrap() = term;
        is_there
    })
    .await;
    found.into_inner().unwrap().unwrap()
}

/// Who plans. It is waited for: where a renewal comes late, nobody does for a moment.
pub async fn leader(database: &Database) -> Term {
    term(database, "somebody plans", |term| term.held).await
}

/// Waits until another than `before` plans; gives how long that took, and its term.
pub async fn succession(database: &Database, before: &Term) -> (Duration, Term) {
    let began = now();
    let is_another = |term: &Term| term.held && term.epoch > before.epoch && term.owner != before.owner;
    let after = term(database, "another instance plans", is_another).await;
    ((now() - began).to_std().unwrap(), after)
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
async fn a_leader_that_is_told_to_stop_is_followed_before_its_lease_would_have_ended() {
    // So long that at the least twenty seconds of it are left, however busy the machine is.
    const LEASE: u64 = 30;
    let database = Database::create(Engine::Postgres).await;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut instances =
        directories.each_ref().map(|directory| instance(directory.path(), &database, &LEASE.to_string()));
    goes_on(&database, 2).await;
    let before = leader(&database).await;
    let first = instances.iter_mut().find(|process| process.id() == process_of(&before.owner)).unwrap();
    first.signal("TERM");
    let (took, after) = succession(&database, &before).await;
    eprintln!("followed after {took:?}, with a lease of {LEASE} s");
    assert!(after.renewed(LEASE) < before.ends, "waited out and not given back: {before:?}, {after:?}");
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
    let before = leader(&database).await;
    let owner = &before.owner;
    // A run of its own that it will never end.
    let run = format!(
        "INSERT INTO job_runs (id, job, scheduled_for, origin, state, attempt, owner, claimed_at, started_at, late_us, phase, \
         calendar_version, tzdb_version, deadline) VALUES ('01a207d8-f62e-7248-bef2-7b36ceb69bc8', 'tick', \
         clock_timestamp() - interval '1 hour', 'manual', 'running', 1, '{owner}', clock_timestamp(), clock_timestamp(), 0, \
         'closed', '1', '1', clock_timestamp() + interval '1 hour')"
    );
    database.execute(run).await;
    let first = instances.iter().find(|process| process.id() == process_of(owner)).unwrap();
    first.signal("KILL");
    // It may have renewed its lease since it was looked at.
    let last = last_term(&database).await.filter(|last| last.epoch == before.epoch);
    let ends = last.map_or(before.ends, |last| last.ends);
    let (took, after) = succession(&database, &before).await;
    eprintln!("followed after {took:?}, with a lease of {lease} s");
    assert!(after.renewed(lease) >= ends, "two at a time: the one before to {ends}, {after:?}");
    // By the next question after the end; the rest is room for a machine that is busy.
    assert!(took < Duration::from_secs(lease + 15), "{took:?}");
    let taken_over = "SELECT state || ' ' || attempt FROM job_runs WHERE id = '01a207d8-f62e-7248-bef2-7b36ceb69bc8'";
    eventually("its run is done by the other", async || database.query(taken_over).await == ["ok 2"]).await;
    goes_on(&database, 3).await;
    is_exact(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_lease_writes_nothing_when_it_wakes() {
    let database = Database::create(Engine::Postgres).await;
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let lease = lease(5);
    let mut instances =
        directories.each_ref().map(|directory| instance(directory.path(), &database, &lease.to_string()));
    goes_on(&database, 2).await;
    let before = leader(&database).await;
    let (epoch, owner) = (before.epoch, &before.owner);
    let first = instances.iter_mut().find(|process| process.id() == process_of(owner)).unwrap();
    first.signal("STOP");
    let three = now() + Duration::from_secs(3 * lease);
    succession(&database, &before).await;
    let stopped = now();
    eventually("three leases have passed", async || now() > three).await;
    let after = leader(&database).await;
    first.signal("CONT");
    goes_on(&database, 3).await;
    // On a machine that is busy the follower may be the one that is late now; then there is a new term.
    let last = leader(&database).await;
    assert!(last.owner == after.owner || last.epoch > after.epoch, "it stands by: {after:?}, {last:?}");
    let late = format!(
        "SELECT COUNT(*)::text FROM job_runs WHERE owner = '{owner}' AND claimed_at > '{stopped}' AND fence <= {epoch}"
    );
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
