//! A transaction on a PostgreSQL connection of the pool, from which no connection comes back that the server still holds in one.
//!
//! The one of sqlx 0.9.0 does not keep to that: it counts a transaction when the answer to `BEGIN` has been read, so that one which
//! is given up before (a deadline, a call whose client has gone, a run that is cut off) goes back to the pool as if nothing had
//! begun (transact-rs/sqlx#4393, mended after 0.9.0). Whatever is written on that connection afterwards looks committed and is not.

use std::borrow::BorrowMut;
use std::time::Duration;

use scopeguard::ScopeGuard;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, raw_sql};

/// How long it may take to undo one; then its connection is closed, which does the same.
const LONGEST_UNDOING: Duration = Duration::from_secs(5);

/// A transaction that is under way. Dropped before its end is confirmed it closes the connection, which ends it on the server.
pub(super) struct Open<C: BorrowMut<PoolConnection<Postgres>>> {
    connection: C,
    ended: bool,
}

impl<C: BorrowMut<PoolConnection<Postgres>>> Open<C> {
    /// Begins one, with the words it begins with.
    pub(super) async fn begin(connection: C, words: AssertSqlSafe<String>) -> Result<Self, sqlx::Error> {
        let mut open = Self { connection, ended: false };
        raw_sql(words).execute(open.connection()).await?;
        Ok(open)
    }

    /// None yet: for a statement by itself, whose connection is closed too if it is given up before [`Self::answered`]. Waiting for that
    /// answer in the pool has no deadline.
    pub(super) fn none(connection: C) -> Self {
        Self { connection, ended: false }
    }

    /// The statement was answered, whether well or not.
    pub(super) fn answered(mut self) {
        self.ended = true;
    }

    /// What its statements are run on.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.borrow_mut()
    }

    /// Makes it durable. An error leaves it unknown whether it took effect.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Undoes it, because of this fault.
    pub(super) async fn undone_after(self, fault: sqlx::Error) -> sqlx::Error {
        // Where that is not confirmed the connection is closed, which does the same.
        let _ = self.end("ROLLBACK").await;
        fault
    }

    async fn end(mut self, words: &'static str) -> Result<(), sqlx::Error> {
        raw_sql(words).execute(self.connection()).await?;
        self.ended = true;
        Ok(())
    }
}

impl<C: BorrowMut<PoolConnection<Postgres>>> Drop for Open<C> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.borrow_mut().close_on_drop();
        }
    }
}

/// The same that has its connection; dropped before its end it is rolled back, and the connection kept where that is confirmed in time.
pub(super) type Owned = ScopeGuard<Open<PoolConnection<Postgres>>, fn(Open<PoolConnection<Postgres>>)>;

/// Begins one with the connection.
pub(super) async fn begin(
    connection: PoolConnection<Postgres>,
    words: AssertSqlSafe<String>,
) -> Result<Owned, sqlx::Error> {
    Ok(scopeguard::guard(Open::begin(connection, words).await?, undo))
}

fn undo(open: Open<PoolConnection<Postgres>>) {
    // Where it is not confirmed in time the connection is closed.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _ = tokio::time::timeout(LONGEST_UNDOING, open.end("ROLLBACK")).await;
        });
    }
}
