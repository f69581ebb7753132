//! Conformance: every method of the store does the same on both engines, and the two schemas are one.

use std::collections::BTreeMap;

use bellwether::billing::{Decision, Status, decide};
use bellwether::calendar::Written;
use bellwether::market::{Cycle, Price, Quote, QuoteFlags};
use bellwether::store::{
    Access, CycleRecord, ExceptionRow, Finish, NewRun, Origin, RenewalRow, RunFilter, RunState, Store, StoreError,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::harness::{Database, Engine, instant};

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

on_both_engines!(
    a_slot_is_claimed_once,
    many_slots_are_claimed_in_one_go,
    instants_come_back_to_the_microsecond,
    only_the_newest_attempt_ends_a_run,
    an_abandoned_run_is_taken_over_by_one,
    a_job_is_owed_from_its_first_day,
    the_ledger_is_listed_and_forgotten,
    a_cycle_is_kept_whole_and_a_quote_never_goes_back,
    a_period_is_decided_once,
    what_is_due_is_paged_in_order,
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
        store.claim_runs(&[run("one", *slot, state), run("other", *slot, state)]).await.unwrap();
    }
    let found = store.slots_with_rows("one", slots[1], slots[3]).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), slots[1..3], "the first counts, the last does not");
    assert!(store.slots_with_rows("none", slots[0], slots[3]).await.unwrap().is_empty());
    store.register_job("one", slots[2]).await.unwrap();
    store.register_job("one", slots[3]).await.unwrap();
    assert_eq!(store.jobs_since().await.unwrap(), [("one".to_owned(), slots[2])].into_iter().collect());
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
    }
}

fn ended(at: DateTime<Utc>, state: RunState) -> Finish {
    Finish { state, reason: None, error: None, stats: Some(r#"{"n":1}"#.to_owned()), finished_at: at }
}

const SLOT: &str = "2027-03-14T07:00:00Z";

async fn a_slot_is_claimed_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (first, second) = (run("a", instant(SLOT), RunState::Running), run("a", instant(SLOT), RunState::Running));
    let other = run("b", instant(SLOT), RunState::Running);
    assert_eq!(store.claim_runs(std::slice::from_ref(&first)).await.unwrap(), [first.id]);
    assert_eq!(store.claim_runs(&[second, other.clone()]).await.unwrap(), [other.id]);
    assert_eq!(store.last_decided_slot("a").await.unwrap(), Some(instant(SLOT)));
    assert_eq!(store.last_decided_slot("c").await.unwrap(), None);
    assert!(store.claim_runs(&[]).await.unwrap().is_empty());
}

async fn many_slots_are_claimed_in_one_go(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let slots = (0..1_234).map(|n| run("a", instant(SLOT) + TimeDelta::seconds(180) * n, RunState::Missed));
    let slots: Vec<_> = slots.collect();
    assert_eq!(store.claim_runs(&slots).await.unwrap().len(), 1_234);
    assert_eq!(store.claim_runs(&slots).await.unwrap().len(), 0);
    assert_eq!(store.last_decided_slot("a").await.unwrap(), slots.last().map(|run| run.scheduled_for));
}

async fn instants_come_back_to_the_microsecond(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    // Whole seconds, one, three and six places: the text form of SQLite has a length for each.
    for (n, at) in ["07:00:00Z", "07:00:00.1Z", "07:00:00.123Z", "07:00:00.123456Z"].iter().enumerate() {
        let at = instant(&format!("2027-03-14T{at}"));
        let new = run("a", at, RunState::Running);
        store.claim_runs(std::slice::from_ref(&new)).await.unwrap();
        let rows = store.list_runs(&RunFilter { job: None, state: None, limit: 10 }).await.unwrap();
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
    store.claim_runs(std::slice::from_ref(&new)).await.unwrap();
    let now = instant(SLOT) + TimeDelta::minutes(1);
    assert!(store.begin_attempt(new.id, 1, "other", now).await.unwrap());
    assert!(!store.begin_attempt(new.id, 1, "third", now).await.unwrap());
    assert!(!store.finish_run(new.id, 1, &ended(now, RunState::Ok)).await.unwrap(), "the first attempt lost its right");
    assert!(store.finish_run(new.id, 2, &ended(now, RunState::Ok)).await.unwrap());
    assert!(!store.finish_run(new.id, 2, &ended(now, RunState::Failed)).await.unwrap(), "an end is final");
    let row = store.list_runs(&RunFilter { job: None, state: Some(RunState::Ok), limit: 10 }).await.unwrap().remove(0);
    assert_eq!((row.attempt, row.owner.as_str(), row.stats.as_deref()), (2, "other", Some(r#"{"n":1}"#)));
    assert_eq!(store.last_runs().await.unwrap().get(&("a".to_owned(), RunState::Ok)), Some(&now));
}

async fn an_abandoned_run_is_taken_over_by_one(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let new = run("a", instant(SLOT), RunState::Running);
    store.claim_runs(&[new.clone(), run("b", instant(SLOT), RunState::Missed)]).await.unwrap();
    let heard = new.claimed_at + TimeDelta::seconds(5);
    let ended = Uuid::now_v7();
    assert_eq!(store.heartbeat(&[new.id, ended], heard).await.unwrap(), 1);
    assert_eq!(store.heartbeat(&[], heard).await.unwrap(), 0);
    assert!(store.abandoned_runs(heard).await.unwrap().is_empty(), "heard of just now");
    let found = store.abandoned_runs(heard + TimeDelta::microseconds(1)).await.unwrap();
    assert_eq!(found.iter().map(|run| run.id).collect::<Vec<_>>(), [new.id]);
}

async fn a_job_is_owed_from_its_first_day(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let first = instant(SLOT);
    assert_eq!(store.register_job("a", first).await.unwrap(), first);
    assert_eq!(store.register_job("a", first + TimeDelta::days(3)).await.unwrap(), first);
}

async fn the_ledger_is_listed_and_forgotten(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let day = |n: i32| instant(SLOT) + TimeDelta::days(1) * n;
    let rows =
        [run("a", day(0), RunState::Missed), run("a", day(1), RunState::Missed), run("b", day(0), RunState::Missed)];
    store.claim_runs(&rows).await.unwrap();
    let listed = store.list_runs(&RunFilter { job: Some("a".to_owned()), state: None, limit: 1 }).await.unwrap();
    assert_eq!(listed.iter().map(|run| run.scheduled_for).collect::<Vec<_>>(), [day(1)]);
    assert_eq!(store.prune_runs(day(5)).await.unwrap(), 1, "the newest of each job stays");
    let left = store.list_runs(&RunFilter { job: None, state: None, limit: 10 }).await.unwrap();
    assert_eq!(left.iter().map(|run| run.job.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

fn cycle(slot: DateTime<Utc>) -> CycleRecord {
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
    CycleRecord { cycle, delayed: true, cause: Some("one is missing".to_owned()) }
}

fn quote(at: DateTime<Utc>, units: i64) -> Quote {
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
    store.save_cycle(&second, &[("AAPL", &new), ("BRK.A", &new)]).await.unwrap();
    store.save_cycle(&first, &[("AAPL", &old), ("MSFT", &old)]).await.unwrap();
    store.save_cycle(&first, &[]).await.unwrap();
    assert_eq!(store.last_cycle().await.unwrap(), Some(second.clone()));
    let stored = store.quotes().await.unwrap().into_iter();
    let quotes: BTreeMap<_, _> = stored.map(|stored| (stored.symbol, (stored.quote, stored.cycle_id))).collect();
    let (first_id, second_id) = (first.cycle.id.to_string(), second.cycle.id.to_string());
    let expected = [("AAPL", new, &second_id), ("BRK.A", new, &second_id), ("MSFT", old, &first_id)];
    let expected = expected.map(|(symbol, quote, cycle)| (symbol.to_owned(), (quote, cycle.clone())));
    assert_eq!(quotes, BTreeMap::from(expected));
    let many: Vec<String> = (0..7_019).map(|n| format!("S{n}")).collect();
    let many: Vec<_> = many.iter().map(|symbol| (symbol.as_str(), &new)).collect();
    store.save_cycle(&cycle(late + TimeDelta::seconds(180)), &many).await.unwrap();
    assert_eq!(store.quotes().await.unwrap().len(), 7_022);
    assert_eq!(store.prune_cycles(late + TimeDelta::days(1)).await.unwrap(), 2, "the newest cycle stays");
}

async fn subscribe(database: &Database, id: &str, status: Status, due: DateTime<Utc>) {
    let at = due.to_rfc3339();
    database
        .execute(format!(
            "INSERT INTO subscriptions (id, user_id, plan, billing_cycle, status, auto_renew, current_period_end, \
             next_action_at, updated_at) VALUES ('{id}', 'u-{id}', 'gold', 'annual', '{status}', true, '{at}', '{at}', '{at}')"
        ))
        .await;
}

async fn a_period_is_decided_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (due, now) = (instant(SLOT), instant(SLOT) + TimeDelta::hours(1));
    subscribe(&database, "s1", Status::Active, due).await;
    let record = |at| RenewalRow { id: Uuid::now_v7(), run_id: Uuid::now_v7(), decided_at: at };
    let early = store.renew("s1", &record(due - TimeDelta::seconds(1)), |_| Decision::Expire).await.unwrap();
    assert_eq!(early, None, "it is not due yet");
    let (before, decision) =
        store.renew("s1", &record(now), |row| decide(&row.subscription, now)).await.unwrap().unwrap();
    assert_eq!(
        (before.user_id.as_str(), before.subscription.status, decision),
        ("u-s1", Status::Active, Decision::MarkPastDue)
    );
    assert_eq!(store.renew("s1", &record(now), |_| Decision::Expire).await.unwrap(), None, "nothing is due any more");
    assert_eq!(store.renew("nobody", &record(now), |_| Decision::Expire).await.unwrap(), None);
    // Somebody puts it back into the queue for the same period: the record stays one.
    database.execute(format!("UPDATE subscriptions SET next_action_at = '{}'", due.to_rfc3339())).await;
    store.renew("s1", &record(now), |_| Decision::Expire).await.unwrap().unwrap();
    assert_eq!(database.query("SELECT action FROM renewals").await, ["marked_past_due"]);
    assert_eq!(store.count_due_subscriptions(now).await.unwrap(), 0);
}

async fn what_is_due_is_paged_in_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant(SLOT);
    for (id, minutes) in [("c", 2), ("a", 5), ("b", 5), ("later", -5)] {
        subscribe(&database, id, Status::Active, now - TimeDelta::minutes(minutes)).await;
    }
    assert_eq!(store.count_due_subscriptions(now).await.unwrap(), 3);
    let mut seen = Vec::new();
    let mut after: Option<(DateTime<Utc>, String)> = None;
    loop {
        let key = after.as_ref().map(|(at, id)| (*at, id.as_str()));
        let page = store.due_subscriptions(now, key, 1).await.unwrap();
        let Some(row) = page.last() else { break };
        after = Some((row.next_action_at.unwrap(), row.id.clone()));
        seen.push(row.id.clone());
    }
    assert_eq!(seen, ["a", "b", "c"]);
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
                won += store.claim_runs(&[run("race", slot, RunState::Running)]).await.unwrap().len();
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
    writer.claim_runs(&[run("a", instant(SLOT), RunState::Running)]).await.unwrap();
    assert_eq!(reader.last_decided_slot("a").await.unwrap(), Some(instant(SLOT)));
    assert!(reader.claim_runs(&[run("b", instant(SLOT), RunState::Running)]).await.is_err(), "a reader cannot write");
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
             ELSE data_type END || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END FROM information_schema.columns \
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
