//! What differs between SQLite and PostgreSQL, and the macro that runs one SQL text on either.
//!
//! SQL is written once, with `$1` placeholders, as a `const` beside its method. [`on!`] runs it on whichever engine the
//! handle belongs to, always under the statement deadline. No `AnyPool`: it fails on TIMESTAMPTZ and BOOLEAN.

use std::time::Duration;

use scopeguard::ScopeGuard;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

use super::StoreError;
use super::transaction::Owned;

/// A connection on loan from the pool.
pub(super) enum Connection {
    Sqlite(PoolConnection<Sqlite>, Duration),
    Postgres(PoolConnection<Postgres>, Route),
}

/// A transaction; it is rolled back when it is dropped without [`Tx::commit`].
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>, Duration),
    Postgres(Owned, Route),
}

/// What [`on!`] runs statements on, with the longest one may take.
pub(super) enum Handle<'a> {
    Sqlite(&'a mut SqliteConnection, Duration),
    Postgres(Session<'a>, Route),
}

/// A connection to a PostgreSQL server.
pub(super) enum Session<'a> {
    /// On loan from the pool, and in no transaction.
    Lent(&'a mut PoolConnection<Postgres>),
    /// Of a transaction, which keeps it to itself.
    Held(&'a mut PgConnection),
}

impl Session<'_> {
    /// The same, so that several statements can be run one after the other.
    pub(super) fn again(&mut self) -> Session<'_> {
        match self {
            Self::Lent(connection) => Session::Lent(connection),
            Self::Held(connection) => Session::Held(connection),
        }
    }
}

/// How statements get to a PostgreSQL server.
///
/// Behind a pooler in transaction mode (pgbouncer) two statements outside of a transaction may meet two server connections, so
/// nothing may be kept on one: neither prepared statements nor settings. There each statement is a transaction of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// The longest a statement may take.
    pub(super) deadline: Duration,
    /// Whether a pooler is in between.
    pub(super) pooled: bool,
    /// Whether commits there are not synced unless a transaction asks for it.
    pub(super) lax: bool,
}

impl Route {
    /// Begins a transaction whose statements the server itself ends at the deadline.
    pub(super) fn begin(self) -> AssertSqlSafe<String> {
        if !self.pooled {
            return AssertSqlSafe("BEGIN".to_owned());
        }
        // What is acknowledged must survive a power cut.
        let synced = if self.lax { "; SET LOCAL synchronous_commit = on" } else { "" };
        AssertSqlSafe(format!("BEGIN; SET LOCAL statement_timeout = {}{synced}", self.deadline.as_millis()))
    }
}

impl Handle<'_> {
    /// The same for one statement, so that several can be run one after the other.
    pub(super) fn again(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection, deadline) => Handle::Sqlite(connection, *deadline),
            Self::Postgres(session, route) => Handle::Postgres(session.again(), *route),
        }
    }
}

impl Connection {
    pub(super) fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection, deadline) => Handle::Sqlite(connection, *deadline),
            Self::Postgres(connection, route) => Handle::Postgres(Session::Lent(connection), *route),
        }
    }
}

impl Tx {
    pub(super) fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(tx, deadline) => Handle::Sqlite(tx, *deadline),
            Self::Postgres(tx, route) => Handle::Postgres(Session::Held(tx.connection()), *route),
        }
    }

    /// Makes the transaction durable. An error leaves it unknown whether it took effect: the caller repeats by key.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx, deadline) => within(deadline, tx.commit()).await,
            Self::Postgres(tx, route) => within(route.deadline, ScopeGuard::into_inner(tx).commit()).await,
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

/// The text for the engine at hand, where the two differ: row locks (a SQLite transaction that writes has the whole file
/// already) and the clock of the database.
pub(super) fn by_engine(handle: &Handle<'_>, sqlite: &'static str, postgres: &'static str) -> &'static str {
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
            $crate::store::dialect::Handle::Postgres(session, route) => {
                let query = sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.persistent(!route.pooled);
                $crate::store::dialect::on!(@postgres session, route, query, $fetch)
            }
        }
    };
    ($handle:expr, $sql:expr, [$($bind:expr),* $(,)?]) => {
        match $handle {
            $crate::store::dialect::Handle::Sqlite(connection, deadline) => {
                let query = sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*;
                $crate::store::dialect::within(deadline, query.execute(connection)).await.map(|done| done.rows_affected())
            }
            $crate::store::dialect::Handle::Postgres(session, route) => {
                let query = sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*.persistent(!route.pooled);
                $crate::store::dialect::on!(@postgres session, route, query, execute).map(|done| done.rows_affected())
            }
        }
    };
    (@postgres $session:ident, $route:ident, $query:ident, $fetch:ident) => {
        match $session {
            // Behind a pooler each statement is a transaction of its own.
            $crate::store::dialect::Session::Lent(connection) if $route.pooled => {
                let whole = async {
                    let mut open = $crate::store::transaction::Open::begin(connection, $route.begin()).await?;
                    match $query.$fetch(open.connection()).await {
                        Ok(fetched) => open.commit().await.map(|()| fetched),
                        Err(fault) => Err(open.undone_after(fault).await),
                    }
                };
                $crate::store::dialect::within($route.deadline, whole).await
            }
            $crate::store::dialect::Session::Lent(connection) => {
                let whole = async {
                    let mut open = $crate::store::transaction::Open::none(connection);
                    let fetched = $query.$fetch(open.connection()).await;
                    open.answered();
                    fetched
                };
                $crate::store::dialect::within($route.deadline, whole).await
            }
            $crate::store::dialect::Session::Held(connection) => {
                $crate::store::dialect::within($route.deadline, $query.$fetch(connection)).await
            }
        }
    };
}
pub(super) use on;

/// One statement with many rows, on either engine.
macro_rules! write_rows {
    ($tx:expr, $head:expr, $rows:expr, |$row:ident, $item:ident| $binds:block, $tail:expr) => {
        match $tx.handle() {
            $crate::store::dialect::Handle::Sqlite(connection, deadline) => {
                let mut builder = sqlx::QueryBuilder::<sqlx::Sqlite>::new($head);
                builder.push_values($rows, |mut $row, $item| $binds);
                builder.push($tail);
                $crate::store::dialect::within(deadline, builder.build().execute(connection))
                    .await
                    .map(|done| done.rows_affected())
            }
            $crate::store::dialect::Handle::Postgres(session, route) => {
                let mut columns = $crate::store::columns::Columns::default();
                for $item in $rows {
                    let mut $row = columns.row();
                    $binds
                }
                let text = columns.text($head, $tail);
                // Planned for the rows at hand: a plan for any number of them is a bad one for a table without statistics.
                let query = columns.bind(text).persistent(false);
                $crate::store::dialect::on!(@postgres session, route, query, execute).map(|done| done.rows_affected())
            }
        }
    };
}
pub(super) use write_rows;
