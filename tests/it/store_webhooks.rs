//! Conformance of the inbox's tables: the same on both engines.

use bellwether::store::{Backlog, Claimed, EventFilter, EventStatus, Intake, Mark, NewEvent, NewRefusal, Store};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::harness::{Database, instant};

const NOW: &str = "2027-06-01T12:00:00.123456Z";

fn now() -> DateTime<Utc> {
    instant(NOW)
}

fn new(event_id: &str, body: &str) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        source: "paypal".to_owned(),
        event_id: event_id.to_owned(),
        event_type: "PAYMENT.SALE.COMPLETED".to_owned(),
        verdict: "offline",
        payload_hash: format!("hash of {body}"),
        body: body.to_owned(),
        headers: "{}".to_owned(),
        created_at: Some(now() - TimeDelta::seconds(3)),
        received_at: now(),
    }
}

async fn statuses(store: &Store) -> Vec<(String, EventStatus)> {
    let filter = EventFilter { limit: 100, ..EventFilter::default() };
    let mut rows: Vec<_> =
        store.list_events(&filter).await.unwrap().into_iter().map(|row| (row.event_id, row.status)).collect();
    rows.sort_by(|a, b| (&a.0, a.1.name()).cmp(&(&b.0, b.1.name())));
    rows
}

async fn claim(store: &Store, at: DateTime<Utc>) -> Vec<Claimed> {
    store.claim_events(at, at + TimeDelta::minutes(1), 100).await.unwrap()
}

async fn many_are_taken_in_at_once_and_each_counts_once(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    assert!(store.take_in(&[]).await.unwrap().is_empty());
    let first = [new("WH-2", "b"), new("WH-1", "a"), new("WH-2", "b"), new("WH-2", "other")];
    let taken = store.take_in(&first).await.unwrap();
    // Of several under one id in one transaction the oldest row is the first.
    assert_eq!(taken, [Intake::Stored, Intake::Stored, Intake::Duplicate, Intake::Conflict]);
    let again = [new("WH-1", "a"), new("WH-1", "x"), new("WH-3", "c é \u{1F600}"), new("WH-2", "other")];
    let taken = store.take_in(&again).await.unwrap();
    assert_eq!(taken, [Intake::Duplicate, Intake::Conflict, Intake::Stored, Intake::Conflict]);
    let mut elsewhere = new("WH-1", "a");
    elsewhere.source = "site".to_owned();
    assert_eq!(store.take_in(&[elsewhere]).await.unwrap(), [Intake::Stored], "ids are each source's own");
    let rows = statuses(&store).await;
    let of = |status| rows.iter().filter(|row| row.1 == status).map(|row| row.0.as_str()).collect::<Vec<_>>();
    assert_eq!(of(EventStatus::Verified), ["WH-1", "WH-1", "WH-2", "WH-3"]);
    assert_eq!(of(EventStatus::Conflict), ["WH-1", "WH-2"], "the same rival twice is one row");
    let whole = store.event("WH-3").await.unwrap().unwrap();
    assert_eq!(whole.body.as_deref(), Some("c é \u{1F600}"));
    assert_eq!((whole.row.received_at, whole.row.created_at), (now(), Some(now() - TimeDelta::seconds(3))));
    assert_eq!(store.event(&whole.row.id.to_string()).await.unwrap().unwrap(), whole);
    assert!(store.event("WH-9").await.unwrap().is_none());
    let mut known = store.known_event_ids("paypal", &["WH-1".into(), "WH-9".into(), "WH-3".into()]).await.unwrap();
    known.sort();
    assert_eq!(known, ["WH-1", "WH-3"]);
}

async fn a_thousand_are_taken_in_by_one_transaction(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let events: Vec<_> = (0..1_200).map(|n| new(&format!("WH-{n}"), "body")).collect();
    assert!(store.take_in(&events).await.unwrap().iter().all(|taken| *taken == Intake::Stored));
    assert_eq!(store.events_backlog().await.unwrap().waiting, 1_200);
}

async fn what_is_claimed_is_marked_by_its_claim_only(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    store.take_in(&[new("WH-1", "a"), new("WH-2", "b"), new("WH-1", "rival")]).await.unwrap();
    let claimed = claim(&store, now()).await;
    assert_eq!(claimed.iter().map(|one| one.event_id.as_str()).collect::<Vec<_>>(), ["WH-1", "WH-2"]);
    assert_eq!((claimed[0].attempts, claimed[0].body.as_deref()), (1, Some("a")));
    assert!(claim(&store, now()).await.is_empty(), "they are somebody's, and a rival is nobody's");
    let end = |claim, status, next_attempt_at| Mark {
        claim,
        status,
        effect: Some("{\"done\":1}".to_owned()),
        error: None,
        next_attempt_at,
        at: now(),
    };
    assert!(store.mark_event(&end(&claimed[0], EventStatus::Processed, None)).await.unwrap());
    assert!(!store.mark_event(&end(&claimed[0], EventStatus::Dead, None)).await.unwrap(), "it was ended before");
    let later = now() + TimeDelta::seconds(5);
    assert!(store.mark_event(&end(&claimed[1], EventStatus::Failed, Some(later))).await.unwrap());
    assert!(claim(&store, now()).await.is_empty());
    assert_eq!(claim(&store, later).await[0].attempts, 2);
    // Whoever had it is silent for its whole time: it is somebody else's, and the first cannot end it any more.
    let third = claim(&store, later + TimeDelta::minutes(1)).await;
    assert_eq!(third[0].attempts, 3);
    // Neither by its number nor by its end alone.
    let second = Claimed { attempts: 2, ..third[0].clone() };
    assert!(!store.mark_event(&end(&second, EventStatus::Processed, None)).await.unwrap());
    assert_eq!(store.release_events(later).await.unwrap(), 1, "what a process that is gone had");
    let fourth = claim(&store, later).await;
    assert!(store.mark_event(&end(&fourth[0], EventStatus::Dead, None)).await.unwrap());
    let backlog = store.events_backlog().await.unwrap();
    assert_eq!(backlog, Backlog { waiting: 0, oldest: None, failed: 0, dead: 1, conflicts: 1 });
    let filter = EventFilter { status: Some(EventStatus::Dead), limit: 10, ..EventFilter::default() };
    let dead = store.list_events(&filter).await.unwrap();
    assert_eq!((dead.len(), dead[0].processed_at, dead[0].effect.as_deref()), (1, Some(now()), Some("{\"done\":1}")));

    let all: Vec<Uuid> = store
        .list_events(&EventFilter { limit: 10, ..EventFilter::default() })
        .await
        .unwrap()
        .iter()
        .map(|row| row.id)
        .collect();
    assert_eq!(store.replay_events(&all, later).await.unwrap(), 2, "a rival never has its turn");
    assert_eq!(claim(&store, later).await.iter().map(|one| one.attempts).collect::<Vec<_>>(), [1, 1]);
}

async fn a_claim_whose_answer_was_lost_is_taken_back_by_its_end(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    store.take_in(&[new("WH-1", "a"), new("WH-2", "b"), new("WH-3", "c")]).await.unwrap();
    let (mine, other) = (now() + TimeDelta::minutes(5), now() + TimeDelta::minutes(6));
    let lost = store.claim_events(now(), mine, 2).await.unwrap();
    let others = store.claim_events(now(), other, 9).await.unwrap();
    assert_eq!((lost.len(), others.len()), (2, 1));
    assert_eq!(store.take_back_events(mine, now()).await.unwrap(), 2);
    assert_eq!(store.take_back_events(mine, now()).await.unwrap(), 0);
    let again = claim(&store, now()).await;
    assert_eq!(
        again.iter().map(|one| (&one.id, one.attempts)).collect::<Vec<_>>(),
        [(&lost[0].id, 1), (&lost[1].id, 1)]
    );
    let mark = async |claim| {
        let (status, at) = (EventStatus::Dead, now());
        store.mark_event(&Mark { claim, status, effect: None, error: None, next_attempt_at: None, at }).await.unwrap()
    };
    assert!(!mark(&lost[0]).await, "a claim that was taken back says nothing any more");
    assert!(mark(&others[0]).await);
}

async fn refusals_and_bodies_are_forgotten_ids_never(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let refusal = |n: i64| NewRefusal {
        id: Uuid::now_v7(),
        source: "paypal".to_owned(),
        code: "signature".to_owned(),
        detail: "it is not PayPal's".to_owned(),
        payload_hash: "hash".to_owned(),
        headers: "{}".to_owned(),
        received_at: now() + TimeDelta::seconds(n),
    };
    store.keep_refusals(&(0..5).map(refusal).collect::<Vec<_>>()).await.unwrap();
    let rejected = EventFilter { status: Some(EventStatus::Rejected), limit: 10, ..EventFilter::default() };
    let found = store.list_events(&rejected).await.unwrap();
    assert_eq!((found.len(), found[0].event_type.as_str(), found[0].status), (5, "signature", EventStatus::Rejected));
    assert_eq!(store.prune_refusals(now() + TimeDelta::seconds(1), 10).await.unwrap(), 1, "by age");
    assert_eq!(store.prune_refusals(now(), 3).await.unwrap(), 1, "by number");
    let left = store.list_events(&rejected).await.unwrap();
    assert_eq!(left.iter().map(|row| row.received_at).min(), Some(now() + TimeDelta::seconds(2)), "the newest stay");

    store.take_in(&[new("WH-1", "a"), new("WH-2", "b")]).await.unwrap();
    let claimed = claim(&store, now()).await;
    let mark = Mark {
        claim: &claimed[0],
        status: EventStatus::Ignored,
        effect: None,
        error: None,
        next_attempt_at: None,
        at: now(),
    };
    assert!(store.mark_event(&mark).await.unwrap());
    assert_eq!(store.prune_event_bodies(now() + TimeDelta::seconds(1)).await.unwrap(), 1, "what waits keeps its body");
    assert_eq!(store.event("WH-1").await.unwrap().unwrap().body, None);
    assert_eq!(store.take_in(&[new("WH-1", "a")]).await.unwrap(), [Intake::Duplicate]);
    let id = store.event("WH-1").await.unwrap().unwrap().row.id;
    assert_eq!(store.replay_events(&[id], now()).await.unwrap(), 0, "there is nothing left to apply");
}

/// D2: two deliveries of one event at the same moment are one event and no error.
async fn d2_racing_deliveries_have_one_winner(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let racing = (0..8).map(|n| {
        let store = store.clone();
        // In another order each, as they come.
        let mut batch: Vec<_> = (0..40).map(|id| new(&format!("WH-{id}"), "body")).collect();
        batch.rotate_left(n * 5);
        tokio::spawn(async move { store.take_in(&batch).await.unwrap() })
    });
    let mut stored = 0;
    for taken in futures_util::future::join_all(racing).await {
        stored += taken.unwrap().iter().filter(|taken| **taken == Intake::Stored).count();
    }
    assert_eq!(stored, 40);
    assert_eq!(statuses(&store).await.len(), 40);
}

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
    many_are_taken_in_at_once_and_each_counts_once,
    a_thousand_are_taken_in_by_one_transaction,
    what_one_call_does_not_take_is_told,
    what_is_claimed_is_marked_by_its_claim_only,
    a_claim_whose_answer_was_lost_is_taken_back_by_its_end,
    refusals_and_bodies_are_forgotten_ids_never,
    d2_racing_deliveries_have_one_winner,
);

/// A call takes the newest ten thousand, and says that there are others.
async fn what_one_call_does_not_take_is_told(engine: crate::harness::Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let events: Vec<_> = (0..10_001).map(|n| new(&format!("WH-{n}"), "body")).collect();
    for some in events.chunks(2_000) {
        store.take_in(some).await.unwrap();
    }
    database.execute("UPDATE webhook_events SET status = 'dead', next_attempt_at = NULL".to_owned()).await;
    store.close().await;
    // With it goes the lock on the file.
    drop(store);
    let directory = tempfile::tempdir().unwrap();
    let (folder, url) = (directory.path().to_owned(), database.url.clone());
    let replay = async |more: &'static [&'static str]| {
        let (folder, url) = (folder.clone(), url.clone());
        let said = tokio::task::spawn_blocking(move || {
            let arguments =
                [&["webhooks", "replay", "--status", "dead", "--since", "2027-01-01T00:00:00Z"], more].concat();
            crate::commands::bellwether(&folder, &arguments, &[("DATABASE_URL", &url)])
        });
        String::from_utf8(said.await.unwrap().stdout).unwrap()
    };
    let said: serde_json::Value = serde_json::from_str(&replay(&["--dry-run", "--json"]).await).unwrap();
    assert_eq!((&said["replayed"], &said["more"]), (&10_000.into(), &true.into()));
    let said = replay(&[]).await;
    assert!(said.contains("10000 events wait") && said.contains("there are more"), "{said}");
    let said = replay(&[]).await;
    assert!(said.contains("1 events wait") && !said.contains("there are more"), "{said}");
}
