//! The schedule as the ledger shows it: each slot once, none lost, whatever was killed.

use std::sync::Arc;
use std::time::Duration;

use bellwether::clock::SharedClock;
use bellwether::daemon::{Daemon, StartError};
use bellwether::store::{Access, RunState, Store};
use chrono::TimeDelta;

use crate::commands::bellwether;
use crate::harness::{Engine, Running, World, eventually, instant};

#[tokio::test]
async fn a_session_has_its_cycles_its_closing_cycle_and_nothing_else() {
    let world = World::at("2027-03-15T13:29:50Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let (open, close) = (instant("2027-03-15T13:30:00Z"), instant("2027-03-15T20:00:00Z"));
    let mut at = open;
    while at <= close + TimeDelta::hours(1) {
        world.advance_to(&running, at).await;
        at += TimeDelta::seconds(180);
    }
    let ingest = world.ledger(&running, "ingest").await;
    let slots: Vec<_> = ingest.iter().filter(|run| run.origin.name() == "scheduled").collect();
    assert_eq!(slots.len(), 130);
    for (slot, n) in slots.iter().zip(0..) {
        assert_eq!(slot.scheduled_for, open + TimeDelta::seconds(180) * n);
        assert_eq!((slot.state, slot.phase.as_str(), slot.attempt), (RunState::Ok, "regular", 1));
    }
    let closing = world.ledger(&running, "ingest-close").await;
    assert_eq!(
        closing.iter().map(|run| (run.scheduled_for, run.state)).collect::<Vec<_>>(),
        [(instant("2027-03-15T20:05:00Z"), RunState::Ok)]
    );
    running.stop().await;
}

#[tokio::test]
async fn a_half_day_ends_at_one_and_a_holiday_has_no_slot() {
    // Thanksgiving 2027 is the 25th; the day after closes at 13:00 New York, 18:00 UTC.
    let world = World::at("2027-11-25T12:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    world.advance_to(&running, instant("2027-11-25T23:00:00Z")).await;
    world.advance_to(&running, instant("2027-11-26T17:57:00Z")).await;
    world.advance_to(&running, instant("2027-11-26T18:05:00Z")).await;
    let scheduled = world.ledger(&running, "ingest").await.into_iter().filter(|run| run.origin.name() != "cold_start");
    let slots: Vec<_> = scheduled.map(|run| run.scheduled_for).collect();
    assert_eq!(slots.first(), Some(&instant("2027-11-26T14:30:00Z")));
    assert_eq!(slots.last(), Some(&instant("2027-11-26T17:57:00Z")));
    assert_eq!(slots.len(), 70, "three and a half hours of slots, left out ones too");
    let closing = world.ledger(&running, "ingest-close").await;
    assert_eq!(closing.last().map(|run| run.scheduled_for), Some(instant("2027-11-26T18:05:00Z")));
    running.stop().await;
}

async fn the_schedule_is_right_on_both_nights(engine: Engine) {
    for (eve, spring_or_fall) in [
        ("2027-03-12T23:00:00Z", ["2027-03-13T08:00:00Z", "2027-03-14T07:00:00Z", "2027-03-15T07:00:00Z"]),
        ("2027-11-05T23:00:00Z", ["2027-11-06T07:00:00Z", "2027-11-07T08:00:00Z", "2027-11-08T08:00:00Z"]),
    ] {
        let world = World::at(eve, engine, &[]).await;
        let running = world.start().await;
        running.stats().await;
        for slot in spring_or_fall {
            world.advance_to(&running, instant(slot) - TimeDelta::microseconds(1)).await;
            let before = world.ledger(&running, "renewals").await.len();
            world.advance_to(&running, instant(slot)).await;
            let runs = world.ledger(&running, "renewals").await;
            assert_eq!(runs.len(), before + 1, "one run at {slot}");
            let run = runs.last().unwrap();
            assert_eq!((run.scheduled_for, run.state, run.late_us), (instant(slot), RunState::Ok, 0));
            world.advance_to(&running, instant(slot) + TimeDelta::hours(1)).await;
            assert_eq!(world.ledger(&running, "renewals").await.len(), before + 1, "and none an hour later");
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn three_in_new_york_comes_once_a_date_on_both_nights_sqlite() {
    the_schedule_is_right_on_both_nights(Engine::Sqlite).await;
}

#[tokio::test]
async fn three_in_new_york_comes_once_a_date_on_both_nights_postgres() {
    the_schedule_is_right_on_both_nights(Engine::Postgres).await;
}

/// The clock is set on by a year, or a host starts with a wrong one: for a session everything is still there.
async fn a_leap_of_the_clock_does_not_empty_the_ledger(engine: Engine) {
    let settings = [("BELLWETHER_INGEST__CADENCE_SECONDS", "3600"), ("BELLWETHER_SCHEDULE__RETENTION_DAYS", "30")];
    let world = World::at("2027-06-01T06:00:00Z", engine, &settings).await;
    let running = world.start().await;
    running.stats().await;
    let night = instant("2027-06-01T07:00:00Z");
    let is_there = async || world.ledger(&running, "renewals").await.iter().any(|run| run.scheduled_for == night);
    for (to, kept) in [
        ("2027-06-01T07:00:00Z", true),
        ("2027-06-01T20:30:00Z", true),
        // A year on, when the job that forgets is late by it.
        ("2028-06-01T12:00:00Z", true),
        ("2028-06-01T20:30:00Z", false),
    ] {
        world.advance_to(&running, instant(to)).await;
        assert_eq!(is_there().await, kept, "at {to}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_leap_of_the_clock_does_not_empty_the_ledger_sqlite() {
    a_leap_of_the_clock_does_not_empty_the_ledger(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_leap_of_the_clock_does_not_empty_the_ledger_postgres() {
    a_leap_of_the_clock_does_not_empty_the_ledger(Engine::Postgres).await;
}

#[tokio::test]
async fn after_three_days_down_the_newest_night_is_run_once_and_the_others_are_written_down() {
    let world = World::at("2027-06-01T12:00:00Z", Engine::Sqlite, &[]).await;
    let first = world.start().await;
    first.stats().await;
    first.stop().await;
    world.clock.advance_to(instant("2027-06-04T12:00:00Z"));
    let second = world.start().await;
    eventually("the late run is done", async || {
        world.ledger(&second, "renewals").await.iter().any(|run| run.state == RunState::Ok)
    })
    .await;
    let runs = world.ledger(&second, "renewals").await;
    let told: Vec<String> = runs
        .iter()
        .map(|run| {
            format!("{} {} {} - {}", run.scheduled_for, run.state, run.origin, run.reason.as_deref().unwrap_or(""))
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    2027-06-02 07:00:00 UTC missed scheduled - the newer slot 2027-06-04T07:00:00Z was due as well
    2027-06-03 07:00:00 UTC missed scheduled - the newer slot 2027-06-04T07:00:00Z was due as well
    2027-06-04 07:00:00 UTC ok catchup - noticed 18000 s after it came due
    ");
    // Sessions that nobody watched are in the ledger slot by slot.
    let ingest = world.ledger(&second, "ingest").await;
    let left_out = ingest.iter().filter(|run| [RunState::Missed, RunState::Skipped].contains(&run.state)).count();
    assert_eq!(left_out, 3 * 130, "the sessions of the 1st (from its start), 2nd and 3rd");
    second.stop().await;
}

/// Ten cycles of two daemons on one database, whichever of them plans.
pub async fn they_run_each_slot_once(world: &World, one: &Running, two: &Running) {
    eventually("there is market data", async || {
        world.ledger(one, "ingest").await.iter().any(|run| run.state == RunState::Ok)
    })
    .await;
    for n in 0..10 {
        let slot = instant("2027-03-15T13:30:00Z") + TimeDelta::seconds(180) * n;
        world.clock.advance_to(slot);
        world.advance_to(one, slot).await;
        world.advance_to(two, slot).await;
    }
    let runs = world.ledger(one, "ingest").await;
    let scheduled: Vec<_> = runs.iter().filter(|run| run.origin.name() == "scheduled").collect();
    assert_eq!(scheduled.len(), 10);
    assert!(scheduled.iter().all(|run| run.state == RunState::Ok && run.attempt == 1));
    // Whichever of them planned, both serve what came of it.
    one.stats().await;
    two.stats().await;
}

#[tokio::test]
async fn two_daemons_on_one_database_run_each_slot_once() {
    let world = World::at("2027-03-15T13:29:50Z", Engine::Postgres, &[]).await;
    let (one, two) = (world.start().await, world.start().await);
    they_run_each_slot_once(&world, &one, &two).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_run_whose_end_could_not_be_written_is_found_and_done_again() {
    let world = World::at("2027-03-14T06:59:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let trigger =
        "CREATE TRIGGER no_end BEFORE UPDATE ON job_runs WHEN NEW.state = 'ok' BEGIN SELECT RAISE(ABORT, 'no'); END";
    world.database.execute(trigger.to_owned()).await;
    world.advance_to(&running, instant("2027-03-14T07:00:00Z")).await;
    let state = async || world.ledger(&running, "renewals").await.last().map(|run| (run.state, run.attempt));
    assert_eq!(state().await, Some((RunState::Running, 1)));
    world.database.execute("DROP TRIGGER no_end".to_owned()).await;
    eventually("the slot is done", async || {
        world.clock.advance(TimeDelta::seconds(1));
        state().await == Some((RunState::Ok, 2))
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn ordinary_retries_are_not_taken_for_crashes() {
    let world = World::at("2027-03-14T07:00:30Z", Engine::Sqlite, &[]).await;
    drop(world.database.store().await);
    let row = "INSERT INTO job_runs (id, job, scheduled_for, origin, state, attempt, owner, claimed_at, started_at, late_us, \
         phase, calendar_version, tzdb_version) VALUES ('01a207d8-f62e-7248-bef2-7b36ceb69bc8', 'renewals', \
         '2027-03-14T07:00:00+00:00', 'scheduled', 'running', 6, 'another', '2027-03-14T07:00:00+00:00', \
         '2027-03-14T07:00:00+00:00', 0, 'closed', '1', '1')";
    world.database.execute(row.to_owned()).await;
    let running = world.start().await;
    eventually("it is resumed", async || {
        world.ledger(&running, "renewals").await.last().map(|run| (run.state, run.attempt)) == Some((RunState::Ok, 7))
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_ledger_from_the_future_does_not_silence_the_schedule() {
    let world = World::at("2027-03-15T13:29:50Z", Engine::Sqlite, &[]).await;
    drop(world.database.store().await);
    for job in ["ingest", "renewals"] {
        let row = format!("INSERT INTO jobs (name, since) VALUES ('{job}', '2031-01-01T00:00:00+00:00')");
        world.database.execute(row).await;
    }
    let cycle = "INSERT INTO cycles (id, slot, source, simulated, delayed, as_of, finished_at, expected, fresh, failed) VALUES \
         ('01a207d8-f62e-7248-bef2-7b36ceb69bc8', '2031-01-01T00:00:00+00:00', 'simulated', true, false, \
         '2031-01-01T00:00:00+00:00', '2031-01-01T00:00:00+00:00', 607, 0, 607)";
    world.database.execute(cycle.to_owned()).await;
    let running = world.start().await;
    world.advance_to(&running, instant("2027-03-15T13:30:00Z")).await;
    let runs = world.ledger(&running, "ingest").await;
    assert_eq!(
        runs.last().map(|run| (run.scheduled_for, run.state)),
        Some((instant("2027-03-15T13:30:00Z"), RunState::Ok))
    );
    assert!(running.stats().await["market_overview"]["total_stocks"].as_u64().unwrap() > 500);
    running.stop().await;
}

#[tokio::test]
async fn a_start_long_before_the_last_entry_is_refused_unless_the_clock_is_trusted() {
    let mut world = World::at("2027-03-15T13:29:50Z", Engine::Sqlite, &[]).await;
    let first = world.start().await;
    first.stats().await;
    first.stop().await;
    world.database.execute("UPDATE job_runs SET claimed_at = '2027-03-15T13:36:00+00:00'".to_owned()).await;
    let refused = Daemon::start(world.config(), Arc::clone(&world.clock) as SharedClock).await.err().unwrap();
    assert!(matches!(refused, StartError::Clock(_)));
    insta::assert_snapshot!(refused, @"the clock says 2027-03-15 13:29:50 UTC and the ledger was last written at 2027-03-15 13:36:00 UTC: set the clock of this host; if it is right now and was wrong then, start once with schedule.trust_clock = true");
    world.set("BELLWETHER_SCHEDULE__TRUST_CLOCK", "true");
    let target = world.config().database;
    eventually("what was started has let go of the file", async || {
        Store::open(&target, Access::Writer, 1, Duration::from_secs(5)).await.is_ok()
    })
    .await;
    let running = world.start().await;
    world.advance_to(&running, instant("2027-03-15T13:30:00Z")).await;
    assert_eq!(world.ledger(&running, "ingest").await.last().map(|run| run.state), Some(RunState::Ok));
    running.stop().await;
}

async fn a_slot_without_a_row_is_found(engine: Engine) {
    // In the past of the command's own clock.
    let world = World::at("2025-03-17T13:29:50Z", engine, &[]).await;
    let running = world.start().await;
    running.stats().await;
    for at in ["2025-03-17T13:30:00Z", "2025-03-17T13:33:00Z", "2025-03-17T13:45:00Z"] {
        world.advance_to(&running, instant(at)).await;
    }
    running.stop().await;
    let directory = tempfile::tempdir().unwrap();
    let verify = || {
        let span = ["jobs", "verify", "--from", "2025-03-17T00:00:00Z", "--to", "2025-03-17T13:45:01Z", "--json"];
        let output = bellwether(directory.path(), &span, &[("DATABASE_URL", world.database.url.as_str())]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // Six slots: two in time, three covered by a newer one, and the newest.
    let (code, missing, told) = verify();
    assert_eq!((code, missing.as_str()), (Some(0), ""), "{told}");
    assert!(told.starts_with("6 slots by the calendar as it is known now, 0 without a row"), "{told}");
    world.database.execute("DELETE FROM job_runs WHERE state = 'missed' AND late_us < 400000000".to_owned()).await;
    let diff = ["simulate", "--diff", "--from", "2025-03-17T13:00:00Z", "--to", "2025-03-17T13:45:01Z"];
    let output = bellwether(directory.path(), &diff, &[("DATABASE_URL", world.database.url.as_str())]);
    insta::allow_duplicates! {
        insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @"
        2025-03-17T13:36:00Z  ingest         missed     the newer slot 2025-03-17T13:45:00Z was due as well
        2025-03-17T13:39:00Z  ingest         missing    
        2025-03-17T13:42:00Z  ingest         missing    
        ");
    }
    assert_eq!(output.status.code(), Some(3));
    let (code, missing, told) = verify();
    assert_eq!(
        (code, missing.as_str()),
        (
            Some(3),
            "{\"slot\":\"2025-03-17T13:39:00Z\",\"job\":\"ingest\"}\n{\"slot\":\"2025-03-17T13:42:00Z\",\"job\":\"ingest\"}\n"
        ),
        "{told}"
    );
}

#[tokio::test]
async fn a_slot_without_a_row_is_found_sqlite() {
    a_slot_without_a_row_is_found(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_slot_without_a_row_is_found_postgres() {
    a_slot_without_a_row_is_found(Engine::Postgres).await;
}

#[tokio::test]
async fn the_run_at_the_start_outlives_a_database_that_fails_at_first() {
    let world = World::at("2027-03-15T21:00:00Z", Engine::Sqlite, &[]).await;
    world.database.store().await.close().await;
    let refuse = "CREATE TRIGGER refused BEFORE INSERT ON job_runs BEGIN SELECT RAISE(ABORT, 'not now'); END";
    world.database.execute(refuse.to_owned()).await;
    let running = world.start().await;
    eventually("it says so", async || running.daemon.scheduler.ledger_fault().is_some()).await;
    world.database.execute("DROP TRIGGER refused".to_owned()).await;
    // No slot is due before the next morning.
    eventually("there is data", async || {
        world.clock.advance(TimeDelta::milliseconds(100));
        running.get("/api/market-stats/").await.0 == 200
    })
    .await;
    assert!(world.clock_now() < instant("2027-03-16T01:00:00Z"));
    running.stop().await;
}

#[tokio::test]
async fn told_to_stop_in_the_middle_of_a_look_it_ends_what_the_look_began() {
    let world = World::at("2027-03-15T21:00:00Z", Engine::Sqlite, &[]).await;
    for steps in (0..40).step_by(4) {
        let running = world.start().await;
        running.stats().await;
        world.clock.advance(TimeDelta::days(1));
        // So far has the planner come when it is told.
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        running.daemon.stop().await;
        let begun = world.database.query("SELECT job FROM job_runs WHERE state = 'running'").await;
        assert!(begun.is_empty(), "{begun:?} was begun and nobody waited for it, told to stop after {steps} steps");
    }
}
