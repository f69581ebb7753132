//! What differs between SQLite and PostgreSQL, and the macro that runs one SQL text on either.
//!
//! SQL is written once, with `$1` placeholders, as a `const` beside its method. [`on!`] runs it on whichever engine the
//! handle belongs to, always under the statement deadline. No `AnyPool`: it fails on TIMESTAMPTZ and BOOLEAN.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

use super::StoreError;

/// A connection on loan from the pool.
pub(super) enum Connection {
    Sqlite(PoolConnection<Sqlite>, Duration),
    Postgres(PoolConnection<Postgres>, Duration),
}

/// A transaction; it is rolled back when it is dropped without [`Tx::commit`].
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>, Duration),
    Postgres(Transaction<'static, Postgres>, Duration),
}

/// What [`on!`] runs statements on, with the longest one may take.
pub(super) enum Handle<'a> {
    Sqlite(&'a mut SqliteConnection, Duration),
    Postgres(&'a mut PgConnection, Duration),
}

impl Connection {
    pub(super) fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection, deadline) => Handle::Sqlite(connection, *deadline),
            Self::Postgres(connection, deadline) => Handle::Postgres(connection, *deadline),
        }
    }
}

impl Tx {
    pub(super) fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(tx, deadline) => Handle::Sqlite(tx, *deadline),
            Self::Postgres(tx, deadline) => Handle::Postgres(tx, *deadline),
        }
    }

    /// Makes the transaction durable. An error leaves it unknown whether it took effect: the caller repeats by key.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx, deadline) => within(deadline, tx.commit()).await,
            Self::Postgres(tx, deadline) => within(deadline, tx.commit()).await,
        }
    }
}

/// Runs a database call under the deadline: a server that went silent must not hold its caller.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(StoreError::from),
        Err(_) => Err(StoreError::Deadline(deadline)),
    }
}

/// Locks the rows a transaction has read until its end. A SQLite transaction that writes has the whole file already.
pub(super) fn for_update(handle: &Handle<'_>, sqlite: &'static str, postgres: &'static str) -> &'static str {
    match handle {
        Handle::Sqlite(..) => sqlite,
        Handle::Postgres(..) => postgres,
    }
}

/// Runs one SQL text on either engine.
///
/// `on!(handle, Row, SQL, [binds], fetch_all)` gives rows; `on!(handle, SQL, [binds])` gives the count of rows changed.
/// Binds are evaluated in one arm only, so they may be moved in.
macro_rules! on {
    ($handle:expr, $row:ty, $sql:expr, [$($bind:expr),* $(,)?], $fetch:ident) => {
        match $handle {
            $crate::store::dialect::Handle::Sqlite(connection, deadline) => {
                let query = sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*;
                $crate::store::dialect::within(deadline, query.$fetch(connection)).await
            }
            $crate::store::dialect::Handle::Postgres(connection, deadline) => {
                let query = sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*;
                $crate::store::dialect::within(deadline, query.$fetch(connection)).await
            }
        }
    };
    ($handle:expr, $sql:expr, [$($bind:expr),* $(,)?]) => {
        match $handle {
            $crate::store::dialect::Handle::Sqlite(connection, deadline) => {
                let query = sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*;
                $crate::store::dialect::within(deadline, query.execute(connection)).await.map(|done| done.rows_affected())
            }
            $crate::store::dialect::Handle::Postgres(connection, deadline) => {
                let query = sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*;
                $crate::store::dialect::within(deadline, query.execute(connection)).await.map(|done| done.rows_affected())
            }
        }
    };
}
pub(super) use on;
