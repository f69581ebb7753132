//! Conformance: every method of the store does the same on both engines, and the two schemas are one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether::calendar::Written;
use bellwether::market::codec::CycleHead;
use bellwether::market::{Cycle, Price, Quote, QuoteFlags};
use bellwether::store::{
    Access, ClockEvent, CycleRecord, ExceptionRow, Finish, JobRun, KnownJob, NewRun, Origin, RunFilter, RunState,
    Store, StoreError, Term,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::harness::{Database, Engine, eventually, instant};

/// Makes a test of each engine out of one body.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::harness::Engine::Sqlite).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(crate::harness::Engine::Postgres).await; })+
        }
    };
}

pub(crate) use on_both_engines;

on_both_engines!(
    a_slot_is_claimed_once,
    many_slots_are_claimed_in_one_go,
    instants_come_back_to_the_microsecond,
    only_the_newest_attempt_ends_a_run,
    many_ends_are_written_in_one_go,
    who_was_deposed_cannot_plan,
    an_abandoned_run_is_found_when_its_process_is_silent,
    a_run_waits_is_cancelled_and_tried_again,
    a_pause_is_kept_and_ends,
    events_of_the_clock_are_kept,
    the_ledger_is_listed_and_forgotten,
    a_cycle_is_kept_whole_and_a_quote_never_goes_back,
    racing_claims_have_one_winner,
    migrating_twice_changes_nothing,
    exceptions_of_the_calendar_are_kept_and_withdrawn,
    the_slots_with_rows_and_since_when_they_are_owed,
);

async fn the_slots_with_rows_and_since_when_they_are_owed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let first = instant(SLOT);
    let slots: Vec<_> = (0..4).map(|n| first + TimeDelta::minutes(n)).collect();
    for (slot, state) in slots.iter().zip([RunState::Running, RunState::Missed, RunState::Skipped, RunState::Missed]) {
        store.claim_runs(&[run("one", *slot, state), run("other", *slot, state)], None).await.unwrap();
    }
    let found = store.slots_with_rows("one", slots[1], slots[3]).await.unwrap();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), slots[1..3], "the first counts, the last does not");
    assert!(store.slots_with_rows("none", slots[0], slots[3]).await.unwrap().is_empty());
    store.register_jobs(&["one"], slots[2]).await.unwrap();
    store.register_jobs(&["one", "two"], slots[3]).await.unwrap();
    let jobs = store.jobs().await.unwrap();
    assert_eq!((jobs.len(), jobs["one"].since, jobs["two"].since), (2, slots[2], slots[3]));
}

async fn exceptions_of_the_calendar_are_kept_and_withdrawn(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant("2027-03-15T12:00:00.123456Z");
    let row = |kind: &str, reason: &str| ExceptionRow {
        id: Uuid::now_v7(),
        written: Written {
            date: "2027-03-16".to_owned(),
            venue: "XNYS".to_owned(),
            kind: kind.to_owned(),
            close: "11:00".to_owned(),
            reason: reason.to_owned(),
            author: "O'Neill, \"ops\" é".to_owned(),
            ..Written::default()
        },
        created_at: now,
    };
    assert_eq!(
        (store.calendar_exceptions().await.unwrap(), store.calendar_exceptions_revision().await.unwrap()),
        (vec![], 0)
    );
    let (first, second, rival) = (row("early_close", "Flood"), row("halt", "Drill"), row("early_close", "Fire"));
    assert!(store.add_calendar_exception(&first).await.unwrap());
    assert!(store.add_calendar_exception(&second).await.unwrap());
    assert!(!store.add_calendar_exception(&rival).await.unwrap(), "one of a kind for a date and venue");
    assert_eq!(store.calendar_exceptions().await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.calendar_exceptions_revision().await.unwrap(), 2);
    assert!(store.withdraw_calendar_exception(first.id, now + TimeDelta::hours(1)).await.unwrap());
    assert!(!store.withdraw_calendar_exception(first.id, now).await.unwrap(), "withdrawn once");
    assert!(!store.withdraw_calendar_exception(rival.id, now).await.unwrap(), "never kept");
    assert_eq!(store.calendar_exceptions().await.unwrap(), [second]);
    assert_eq!(store.calendar_exceptions_revision().await.unwrap(), 3);
    assert!(store.add_calendar_exception(&rival).await.unwrap(), "its place is free again");
}

fn run(job: &'static str, slot: DateTime<Utc>, state: RunState) -> NewRun {
    NewRun {
        id: Uuid::now_v7(),
        job,
        scheduled_for: slot,
        origin: Origin::Scheduled,
        state,
        reason: (state != RunState::Running).then(|| "a reason".to_owned()),
        owner: "me".to_owned(),
        claimed_at: slot + TimeDelta::microseconds(1_234),
        deadline: Some(slot + TimeDelta::hours(1)),
        session_date: Some(slot.date_naive()),
        phase: "regular".to_owned(),
        calendar_version: "1-test".to_owned(),
        next_attempt_at: (state == RunState::Queued).then_some(slot),
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
    }
}

/// The end of attempt number `attempt` of a run in the process `owner`.
fn ended(run: &NewRun, attempt: i32, owner: &str, at: DateTime<Utc>, state: RunState) -> Finish {
    Finish {
        run: run.id,
        attempt,
        fence: 0,
        owner: owner.to_owned(),
        started_at: Some(run.claimed_at),
        finished_at: at,
        attempt_state: if state == RunState::Queued { RunState::Failed } else { state },
        state,
        next_attempt_at: (state == RunState::Queued).then_some(at),
        deadline: None,
        reason: None,
        error: (state != RunState::Ok).then(|| "an error".to_owned()),
        stats: Some(r#"{"n":1}"#.to_owned()),
    }
}

/// The right to plan, for `owner`.
async fn term(store: &Store, owner: &str) -> Term {
    store.take_lease(owner, Duration::from_secs(60)).await.unwrap().unwrap()
}

const SLOT: &str = "2027-03-14T07:00:00Z";

async fn a_slot_is_claimed_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (first, second) = (run("a", instant(SLOT), RunState::Running), run("a", instant(SLOT), RunState::Running));
    let other = run("b", instant(SLOT), RunState::Running);
    assert_eq!(store.claim_runs(std::slice::from_ref(&first), None).await.unwrap(), [first.id].into());
    assert_eq!(store.claim_runs(&[second, other.clone()], None).await.unwrap(), [other.id].into());
    let decided = store.decided_slots().await.unwrap();
    assert_eq!((decided.get("a"), decided.get("c")), (Some(&instant(SLOT)), None));
    assert_eq!(store.last_written().await.unwrap(), Some(first.claimed_at));
    assert!(store.claim_runs(&[], None).await.unwrap().is_empty());
}

async fn many_slots_are_claimed_in_one_go(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let slots = (0..1_234).map(|n| run("a", instant(SLOT) + TimeDelta::seconds(180) * n, RunState::Missed));
    let slots: Vec<_> = slots.collect();
    assert_eq!(store.claim_runs(&slots, None).await.unwrap().len(), 1_234);
    assert_eq!(store.claim_runs(&slots, None).await.unwrap().len(), 0);
    assert_eq!(store.decided_slots().await.unwrap()["a"], slots.last().unwrap().scheduled_for);
}

async fn instants_come_back_to_the_microsecond(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    // Whole seconds, one, three and six places: the text form of SQLite has a length for each.
    for (n, at) in ["07:00:00Z", "07:00:00.1Z", "07:00:00.123Z", "07:00:00.123456Z"].iter().enumerate() {
        let at = instant(&format!("2027-03-14T{at}"));
        let new = run("a", at, RunState::Running);
        store.claim_runs(std::slice::from_ref(&new), None).await.unwrap();
        let rows = store.list_runs(&RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap();
        assert_eq!(rows.len(), n + 1);
        assert_eq!(
            (rows[0].scheduled_for, rows[0].claimed_at),
            (at, new.claimed_at),
            "newest first, by time and not by text"
        );
        assert_eq!((rows[0].late_us, rows[0].session_date), (1_234, new.session_date));
    }
}

async fn only_the_newest_attempt_ends_a_run(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let new = run("a", instant(SLOT), RunState::Running);
    store.claim_runs(std::slice::from_ref(&new), None).await.unwrap();
    let now = instant(SLOT) + TimeDelta::minutes(1);
    let term = term(&store, "other").await;
    assert!(!store.begin_attempt(new.id, 1, &term, now).await.unwrap(), "it does not wait");
    let again = ended(&new, 1, "me", now, RunState::Queued);
    assert_eq!(store.finish_runs(std::slice::from_ref(&again)).await.unwrap(), [new.id].into());
    assert!(store.begin_attempt(new.id, 1, &term, now).await.unwrap());
    assert!(!store.begin_attempt(new.id, 1, &term, now).await.unwrap());
    for stale in [ended(&new, 1, "me", now, RunState::Ok), ended(&new, 2, "me", now, RunState::Ok), again] {
        assert!(store.finish_runs(&[stale]).await.unwrap().is_empty(), "the first attempt lost its right");
    }
    let end = ended(&new, 2, "other", now, RunState::Ok);
    assert_eq!(store.finish_runs(&[end]).await.unwrap(), [new.id].into());
    let late = ended(&new, 2, "other", now, RunState::Failed);
    assert!(store.finish_runs(&[late]).await.unwrap().is_empty(), "an end is final");
    let (row, attempts) = store.run(new.id).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.owner.as_str(), row.fence), (RunState::Ok, 2, "other", term.epoch));
    assert_eq!((row.stats.as_deref(), row.error.as_deref()), (Some(r#"{"n":1}"#), None));
    let attempts: Vec<_> = attempts.iter().map(|a| (a.n, a.state, a.owner.as_str(), a.error.as_deref())).collect();
    assert_eq!(attempts, [(1, RunState::Failed, "me", Some("an error")), (2, RunState::Ok, "other", None)]);
    assert_eq!(store.last_runs().await.unwrap().get(&("a".to_owned(), RunState::Ok)), Some(&now));
    assert_eq!(store.last_ends("a", 5).await.unwrap(), [RunState::Ok]);
}

async fn many_ends_are_written_in_one_go(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let rows: Vec<_> = (0..1_234).map(|n| run("a", instant(SLOT) + TimeDelta::seconds(n), RunState::Running)).collect();
    store.claim_runs(&rows, None).await.unwrap();
    let now = instant(SLOT) + TimeDelta::hours(1);
    let owner = |n: usize| if n == 7 { "somebody else" } else { "me" };
    let ends: Vec<_> = rows.iter().enumerate().map(|(n, run)| ended(run, 1, owner(n), now, RunState::Ok)).collect();
    let written = store.finish_runs(&ends).await.unwrap();
    assert_eq!((written.len(), written.contains(&rows[7].id)), (1_233, false));
    assert!(store.finish_runs(&[]).await.unwrap().is_empty());
    assert_eq!(store.busy_jobs().await.unwrap()["a"], (1, 0));
}

async fn who_was_deposed_cannot_plan(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let first = store.take_lease("one", Duration::from_secs(60)).await.unwrap().unwrap();
    let waiting = run("a", instant(SLOT), RunState::Queued);
    assert_eq!(store.claim_runs(std::slice::from_ref(&waiting), Some(&first)).await.unwrap().len(), 1);
    // A slot that has a row keeps it, and the others of the same claim are written.
    let (known, new) = (run("a", instant(SLOT), RunState::Running), run("b", instant(SLOT), RunState::Missed));
    let some = [known.clone(), new.clone(), run("b", instant(SLOT), RunState::Missed)];
    let claimed = store.claim_runs(&some, Some(&first)).await.unwrap();
    assert_eq!(claimed.into_iter().collect::<Vec<_>>(), [new.id]);
    assert!(store.claim_runs(&[known], Some(&first)).await.unwrap().is_empty());
    assert!(store.renew_lease(&first, Duration::from_millis(50)).await.unwrap());
    // On PostgreSQL it has to end first; on SQLite whoever opens the file next is the only one alive.
    eventually("the lease has ended", async || !store.lease().await.unwrap().unwrap().held).await;
    let second = term(&store, "two").await;
    assert!(second.epoch > first.epoch);
    let late = [run("a", instant(SLOT) + TimeDelta::hours(1), RunState::Running)];
    assert!(matches!(store.claim_runs(&late, Some(&first)).await, Err(StoreError::Deposed)));
    assert!(matches!(store.begin_attempt(waiting.id, 0, &first, instant(SLOT)).await, Err(StoreError::Deposed)));
    assert!(!store.renew_lease(&first, Duration::from_secs(60)).await.unwrap());
    store.resign_lease(&first).await.unwrap();
    assert_eq!(
        store.list_runs(&RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap().len(),
        2,
        "0 rows changed"
    );
    let lease = store.lease().await.unwrap().unwrap();
    assert_eq!((lease.owner.as_str(), lease.epoch, lease.held), ("two", second.epoch, true));
    if engine == Engine::Postgres {
        assert_eq!(store.take_lease("three", Duration::from_secs(60)).await.unwrap(), None, "somebody has it");
    }
    assert!(store.begin_attempt(waiting.id, 0, &second, instant(SLOT)).await.unwrap());
    store.resign_lease(&second).await.unwrap();
    assert!(!store.lease().await.unwrap().unwrap().held);
    assert!(store.take_lease("three", Duration::from_secs(60)).await.unwrap().is_some(), "given back");
}

async fn an_abandoned_run_is_found_when_its_process_is_silent(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let new = run("a", instant(SLOT), RunState::Running);
    store.beat("me", "host", instant(SLOT)).await.unwrap();
    store.claim_runs(&[new.clone(), run("b", instant(SLOT), RunState::Missed)], None).await.unwrap();
    let ids = |runs: Vec<JobRun>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    let long = Duration::from_secs(60);
    assert!(store.abandoned_runs("me", long).await.unwrap().is_empty(), "its own are not");
    let found = ids(store.abandoned_runs("other", long).await.unwrap());
    // Who else can open a SQLite file is alone.
    let expected = if engine == Engine::Sqlite { vec![new.id] } else { vec![] };
    assert_eq!(found, expected);
    assert_eq!(store.instances().await.unwrap().len(), 1);
    assert_eq!(ids(store.runs_of("me", instant(SLOT) + TimeDelta::hours(1)).await.unwrap()), [new.id]);
    assert!(store.runs_of("me", instant(SLOT)).await.unwrap().is_empty(), "begun after that");
    store.retire("me").await.unwrap();
    assert_eq!(ids(store.abandoned_runs("other", long).await.unwrap()), [new.id]);
    assert!(store.instances().await.unwrap().is_empty());
}

async fn a_run_waits_is_cancelled_and_tried_again(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant(SLOT) + TimeDelta::minutes(1);
    let [waits, runs] = [RunState::Queued, RunState::Running].map(|state| run(state.name(), instant(SLOT), state));
    store.claim_runs(&[waits.clone(), runs.clone()], None).await.unwrap();
    assert_eq!(store.waiting_runs().await.unwrap().iter().map(|run| run.id).collect::<Vec<_>>(), [waits.id]);
    assert_eq!(store.running_of("running").await.unwrap(), [runs.id]);
    assert_eq!(store.open_runs().await.unwrap().len(), 2);
    assert_eq!(store.cancel_runs(&[waits.id, runs.id, Uuid::now_v7()], "by hand", now).await.unwrap(), 2);
    assert_eq!(store.cancelled_runs("me").await.unwrap(), [(runs.id, "by hand".to_owned())]);
    assert!(store.cancelled_runs("other").await.unwrap().is_empty());
    let row = store.run(waits.id).await.unwrap().unwrap().0;
    assert_eq!((row.state, row.reason.as_deref()), (RunState::Cancelled, Some("cancelled by hand")));
    let deadline = now + TimeDelta::hours(2);
    assert!(!store.requeue_run(waits.id, &[RunState::Ok], deadline, "why", now).await.unwrap());
    assert!(store.requeue_run(waits.id, &[RunState::Failed, RunState::Cancelled], deadline, "why", now).await.unwrap());
    let row = store.run(waits.id).await.unwrap().unwrap().0;
    assert_eq!((row.state, row.deadline, row.finished_at), (RunState::Queued, Some(deadline), None));
    assert!(store.settle_waiting(waits.id, 0, RunState::Missed, "too late", now).await.unwrap());
    assert!(!store.settle_waiting(waits.id, 0, RunState::Missed, "too late", now).await.unwrap(), "once");
    assert!(!store.settle_waiting(runs.id, 1, RunState::Missed, "too late", now).await.unwrap(), "it does not wait");
}

async fn a_pause_is_kept_and_ends(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant(SLOT);
    let hour = TimeDelta::hours(1);
    assert!(!store.pause_job("a", now, None, "why").await.unwrap(), "no such job");
    store.register_jobs(&["a"], now - hour).await.unwrap();
    assert!(!store.resume_job("a", now).await.unwrap(), "it is not paused");
    assert!(store.pause_job("a", now, None, "why").await.unwrap());
    assert!(store.pause_job("a", now + hour, Some(now + hour * 2), "longer").await.unwrap());
    let job = |jobs: std::collections::HashMap<String, KnownJob>| {
        let job = jobs["a"].clone();
        (job.pause_from, job.pause_until, job.pause_reason)
    };
    let longer = Some("longer".to_owned());
    assert_eq!(
        job(store.jobs().await.unwrap()),
        (Some(now), Some(now + hour * 2), longer.clone()),
        "it keeps its start"
    );
    assert!(!store.resume_job("a", now + hour * 2).await.unwrap(), "it has ended by itself");
    assert!(store.resume_job("a", now + hour).await.unwrap());
    assert_eq!(job(store.jobs().await.unwrap()), (Some(now), Some(now + hour), longer));
    assert!(store.pause_job("a", now + hour * 3, None, "again").await.unwrap());
    let again = Some("again".to_owned());
    assert_eq!(
        job(store.jobs().await.unwrap()),
        (Some(now + hour * 3), None, again),
        "a new one begins when it is made"
    );
}

async fn events_of_the_clock_are_kept(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let event = |minutes, kind: &str, by_us| ClockEvent {
        at: instant(SLOT) + TimeDelta::minutes(minutes),
        kind: kind.to_owned(),
        by_us,
        owner: "me".to_owned(),
    };
    let (back, slept) = (event(0, "step", -7_200_000_000), event(1, "suspend", i64::MAX));
    store.save_clock_event(&back).await.unwrap();
    store.save_clock_event(&slept).await.unwrap();
    assert_eq!(store.clock_events(10).await.unwrap(), [slept.clone(), back]);
    assert_eq!(store.clock_events(1).await.unwrap(), [slept]);
}

async fn the_ledger_is_listed_and_forgotten(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let day = |n: i32| instant(SLOT) + TimeDelta::days(1) * n;
    let rows =
        [run("a", day(0), RunState::Missed), run("a", day(1), RunState::Missed), run("b", day(0), RunState::Missed)];
    store.claim_runs(&rows, None).await.unwrap();
    let listed =
        store.list_runs(&RunFilter { job: Some("a".to_owned()), limit: 1, ..RunFilter::default() }).await.unwrap();
    assert_eq!(listed.iter().map(|run| run.scheduled_for).collect::<Vec<_>>(), [day(1)]);
    assert_eq!(store.prune_runs(day(5)).await.unwrap(), 1, "the newest of each job stays");
    let left = store.list_runs(&RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap();
    assert_eq!(left.iter().map(|run| run.job.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

pub fn cycle(slot: DateTime<Utc>) -> CycleHead {
    let cycle = Cycle {
        id: Uuid::now_v7(),
        slot,
        source: "test".to_owned(),
        simulated: true,
        as_of: slot + TimeDelta::microseconds(1),
        finished_at: slot + TimeDelta::seconds(2),
        expected: 3,
        fresh: 2,
        failed: 1,
    };
    CycleHead { cycle, delayed: true, cause: Some("one is missing".to_owned()), day: None }
}

pub fn quote(at: DateTime<Utc>, units: i64) -> Quote {
    Quote {
        at,
        price: Price::from_units(units),
        previous_close: Some(Price::from_units(7_123_455_000)),
        open: None,
        high: Some(Price::from_units(units + 1)),
        low: None,
        bid: None,
        ask: Some(Price::from_units(1)),
        volume: Some(i64::MAX),
        flags: QuoteFlags::HALTED,
    }
}

async fn a_cycle_is_kept_whole_and_a_quote_never_goes_back(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    assert_eq!(store.last_cycle().await.unwrap(), None);
    let (early, late) = (instant(SLOT), instant(SLOT) + TimeDelta::seconds(180));
    let (first, second) = (cycle(early), cycle(late));
    let (old, new) = (quote(early, 10_000), quote(late, 20_000));
    let [apple, berkshire, microsoft] = ["AAPL", "BRK.A", "MSFT"].map(Arc::<str>::from);
    store.save_cycle(&second, &[], &[(&apple, &new), (&berkshire, &new)]).await.unwrap();
    store.save_cycle(&first, &[], &[(&apple, &old), (&microsoft, &old)]).await.unwrap();
    store.save_cycle(&first, &[], &[]).await.unwrap();
    let record = |head: &CycleHead| {
        let CycleHead { cycle, delayed, cause, .. } = head.clone();
        Some(CycleRecord { cycle, delayed, cause })
    };
    assert_eq!(store.last_cycle().await.unwrap(), record(&second));
    // The slot is tried again, and then the first try comes once more.
    let mut again = second.clone();
    again.cycle.finished_at += TimeDelta::seconds(1);
    again.cycle.as_of += TimeDelta::seconds(1);
    store.save_cycle(&again, &[], &[]).await.unwrap();
    store.save_cycle(&second, &[], &[]).await.unwrap();
    assert_eq!(store.last_cycle().await.unwrap(), record(&again), "what the last try has brought holds");
    let stored = store.quotes().await.unwrap().into_iter();
    let quotes: BTreeMap<_, _> = stored.map(|stored| (stored.symbol, (stored.quote, stored.cycle_id))).collect();
    let (first_id, second_id) = (first.cycle.id.to_string(), second.cycle.id.to_string());
    let expected = [("AAPL", new, &second_id), ("BRK.A", new, &second_id), ("MSFT", old, &first_id)];
    let expected = expected.map(|(symbol, quote, cycle)| (symbol.to_owned(), (quote, cycle.clone())));
    assert_eq!(quotes, BTreeMap::from(expected));
    let many: Vec<Arc<str>> = (0..7_019).map(|n| format!("S{n}").into()).collect();
    let many: Vec<_> = many.iter().map(|symbol| (symbol, &new)).collect();
    store.save_cycle(&cycle(late + TimeDelta::seconds(180)), &[], &many).await.unwrap();
    assert_eq!(store.quotes().await.unwrap().len(), 7_022);
    assert_eq!(store.prune_cycles(late + TimeDelta::days(1)).await.unwrap(), 2, "the newest cycle stays");
}

async fn racing_claims_have_one_winner(engine: Engine) {
    const RACERS: usize = 8;
    let database = Database::create(engine).await;
    let store = database.store().await;
    let slots: Vec<_> = (0..50).map(|n| instant(SLOT) + TimeDelta::seconds(n)).collect();
    let racers = (0..RACERS).map(|_| {
        let (store, slots) = (store.clone(), slots.clone());
        tokio::spawn(async move {
            let mut won = 0;
            for slot in slots {
                won += store.claim_runs(&[run("race", slot, RunState::Running)], None).await.unwrap().len();
            }
            won
        })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += racer.await.unwrap();
    }
    assert_eq!(won, slots.len());
}

async fn migrating_twice_changes_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    store.migrate().await.unwrap();
    let migrations = store.migrations().await.unwrap();
    assert!(migrations.len() >= 3 && migrations.iter().all(|(.., applied)| *applied), "{migrations:?}");
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_file_has_one_writer_and_any_number_of_readers() {
    let database = Database::create(Engine::Sqlite).await;
    let writer = database.store().await;
    let config =
        bellwether::config::Config::load(None, &[("DATABASE_URL", database.url.as_str())].into_iter().collect());
    let target = config.unwrap().database;
    let deadline = std::time::Duration::from_secs(5);
    let second = Store::open(&target, Access::Writer, 1, deadline).await;
    assert!(matches!(second, Err(StoreError::InUse(_))));
    let reader = Store::open(&target, Access::Reader, 1, deadline).await.unwrap();
    writer.claim_runs(&[run("a", instant(SLOT), RunState::Running)], None).await.unwrap();
    assert_eq!(reader.decided_slots().await.unwrap()["a"], instant(SLOT));
    assert!(
        reader.claim_runs(&[run("b", instant(SLOT), RunState::Running)], None).await.is_err(),
        "a reader cannot write"
    );
}

#[tokio::test]
async fn the_two_schemas_are_one() {
    let sqlite = Database::create(Engine::Sqlite).await;
    let postgres = Database::create(Engine::Postgres).await;
    drop((sqlite.store().await, postgres.store().await));
    let of_sqlite = sqlite
        .query(
            "SELECT m.name || '.' || c.name || ' ' || lower(c.type) || CASE WHEN c.\"notnull\" THEN ' not null' ELSE '' END \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' \
             ESCAPE '\\' ORDER BY 1",
        )
        .await;
    let of_postgres = postgres
        .query(
            "SELECT table_name || '.' || column_name || ' ' || CASE data_type WHEN 'timestamp with time zone' THEN 'timestamp' \
             WHEN 'bytea' THEN 'blob' ELSE data_type END || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%' ORDER BY 1",
        )
        .await;
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines.join("\n")
    };
    assert_eq!(sorted(of_sqlite), sorted(of_postgres));
    let of_sqlite = sqlite.query("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").await;
    let of_postgres = postgres
        .query(
            "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%\\_pkey' \
             AND indexname NOT LIKE '%\\_key'",
        )
        .await;
    assert_eq!(sorted(of_sqlite), sorted(of_postgres));
}
