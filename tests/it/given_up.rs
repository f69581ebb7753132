//! A call of the store that is given up, wherever it was, leaves nothing behind: its connection is as good as a new one to the next.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bellwether::store::{Access, Store};

use crate::harness::{Database, Engine, eventually, instant};
use crate::pooler::Pooler;
use crate::store::on_both_engines;

const NOW: &str = "2027-03-15T13:30:00Z";

/// So often a call is looked at before it must have come to its end.
const MOST_LOOKS: usize = 2_000_000;

on_both_engines!(a_call_that_is_given_up_leaves_no_transaction_open);

async fn a_call_that_is_given_up_leaves_no_transaction_open(engine: Engine) {
    let database = Database::create(engine).await;
    given_up_everywhere(&database, &with_one_connection(&database).await).await;
}

#[tokio::test]
async fn behind_a_pooler_a_call_that_is_given_up_leaves_no_transaction_open() {
    let pooler = Pooler::start().await;
    let database = Database::create(Engine::Postgres).await;
    let through = Database::at(pooler.url(&database));
    given_up_everywhere(&database, &with_one_connection(&through).await).await;
}

/// So that the next call has the connection of the one before.
async fn with_one_connection(database: &Database) -> Store {
    database.store().await.close().await;
    Store::open(&database.target(), Access::Writer, 1, Duration::from_secs(10)).await.unwrap()
}

/// Gives up a call in a transaction, and one of a single statement, after one look at them, after two, and so on until they come to
/// their end. What is acknowledged after each of them is there for others.
async fn given_up_everywhere(database: &Database, store: &Store) {
    let now = instant(NOW);
    store.register_jobs(&["kept"], now).await.unwrap();
    let (mut looks, mut ends) = (0, 0);
    while ends < 5 {
        looks += 1 + looks / 30;
        assert!(looks < MOST_LOOKS, "it never came to its end");
        let name = format!("job{looks}");
        let begun = looked_at(store.register_jobs(&[&name], now), looks).await;
        let word = format!("after {looks} looks");
        store.pause_job("kept", now, None, &word).await.unwrap();
        assert_eq!(database.query("SELECT pause_reason FROM jobs WHERE name = 'kept'").await, [word]);
        let paused = looked_at(store.pause_job("kept", now, None, "given up"), looks).await;
        ends += usize::from(begun.is_some() && paused.is_some());
    }
    if !store.is_exclusive() {
        let open = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'";
        eventually("no transaction is left open", async || database.query(open).await.is_empty()).await;
    }
    store.close().await;
}

/// What came of it, if it came to its end within so many looks; else it is dropped.
async fn looked_at<F: Future>(call: F, looks: usize) -> Option<F::Output> {
    let mut call = pin!(call);
    for _ in 0..looks {
        if let Poll::Ready(done) = futures_util::poll!(&mut call) {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}
