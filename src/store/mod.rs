//! Everything that is kept: one database, SQLite or PostgreSQL, behind one concrete type. The only folder with SQL.
//!
//! A file per noun; each adds its methods to [`Store`]. Every method runs on both engines and has a conformance test in
//! `tests/it/store.rs` that proves it on both.

mod acceptance;
mod accounts;
mod audit;
mod billing;
mod billing_health;
mod billing_rows;
mod bulk;
mod calendar_exceptions;
mod cancellations;
mod clock_events;
mod columns;
mod comparison;
mod cycles;
mod daily;
mod dialect;
mod django;
mod dormant_symbols;
mod history;
mod import;
mod instances;
mod intake;
mod job_runs;
mod jobs;
mod ledger;
mod operators;
mod outbox;
mod paid_words;
mod plan_wishes;
mod postgres;
mod references;
mod referrals;
mod renewals;
mod sqlite;
mod subscriptions;
mod symbols;
mod transaction;
mod webhook_effects;
mod webhook_events;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::{Migrate, Migrator};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::DatabaseTarget;
pub use acceptance::{Acceptance, Accepted};
pub use accounts::{AccountRow, Addressed, InviteRow};
pub use audit::{AuditRow, Entry};
pub use billing::{Applied, Cause, Chosen, email_key};
pub use billing_health::{BillingFlag, BillingHealth};
pub use calendar_exceptions::ExceptionRow;
pub use cancellations::{Cancellation, PayPalBacklog};
pub use clock_events::ClockEvent;
pub use comparison::KnownPayment;
pub use cycles::{CycleRecord, StoredQuote};
use dialect::{Connection, Tx, on, within};
pub use django::{OldInvite, OldRedemption, OldReferralAccount, OldSite, OldUser, old_instant};
pub use history::{CyclePoints, SymbolSession};
pub use import::{Finding, Import, Imported, ImportedAccount, ImportedInvite, ImportedRedemption, Taken};
pub use instances::{Instance, Lease, Term};
pub use job_runs::{Attempt, Finish, JobRun, NewRun, Origin, RunFilter, RunState};
pub use jobs::KnownJob;
pub use operators::{OperatorAct, OperatorRow, OperatorSession, Role, SESSIONS, SessionBounds};
pub use outbox::{LetterBacklog, LetterClaim, LetterEnd, LetterRow, LetterState, PastDue, Reminder};
pub use paid_words::{MarkedPaid, PaidWord, ToldBy};
use postgres::Server;
pub use references::PastVersion;
pub use referrals::{Invited, ReferralSummary};
pub use renewals::{DecisionRow, RenewalRow};
use sqlite::Database;
pub use subscriptions::{DuePage, DueSubscription};
pub use symbols::{UniverseDocument, UniverseState};
pub use webhook_events::{
    Backlog, Claimed, EventFilter, EventRow, EventStatus, Intake, Mark, NewEvent, NewRefusal, WholeEvent,
};

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// The longest a schema change may take before it is given up.
const MIGRATION_DEADLINE: Duration = Duration::from_mins(10);

/// The longest a sign of life may take.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// What can go wrong with the store; the message never holds a password or a row.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the SQLite file: try later (exit code 75).
    #[error("{} is in use by another bellwether process; stop that one first, or ask it over HTTP", .0.display())]
    InUse(PathBuf),
    /// The database cannot be reached or opened (exit code 69).
    #[error("cannot open {target}: {cause}")]
    Unavailable {
        /// The database, without its password.
        target: String,
        /// The reason.
        cause: String,
    },
    /// The schema is not the one this program knows.
    #[error("the schema cannot be brought up to date: {0}")]
    Migration(String),
    /// A statement took longer than `database.timeout_seconds`.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// A stored value that this program cannot read.
    #[error("the database holds a value this version cannot read: {0}")]
    Unreadable(String),
    /// Another instance plans now; nothing was written.
    #[error("another instance has taken over the planning")]
    Deposed,
    /// Anything else the database said.
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Unreadable(error.to_string()),
            other => Self::Database(other),
        }
    }
}

/// How the database is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The daemon, or a command that writes: on SQLite the only such process.
    Writer,
    /// A command that only reads; a daemon may be running.
    Reader,
}

#[derive(Debug, Clone)]
enum Db {
    Sqlite(Database),
    Postgres(Server),
}

/// The state of the program.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    deadline: Duration,
    symbols: history::SymbolIds,
    /// Told when letters were written here.
    letters: Arc<Notify>,
    /// Held for the life of the process that may write a SQLite file; released by the kernel however it ends.
    _lock: Option<Arc<File>>,
}

impl Store {
    /// Opens the database, creating the SQLite file and its directory when a writer asks.
    ///
    /// # Errors
    /// [`StoreError::InUse`] for a second SQLite writer, [`StoreError::Unavailable`] when there is no answer.
    pub async fn open(
        target: &DatabaseTarget,
        access: Access,
        connections: u32,
        deadline: Duration,
    ) -> Result<Self, StoreError> {
        match target {
            DatabaseTarget::Sqlite(path) => {
                let (database, lock) = Database::open(path, access, connections, deadline).await?;
                Ok(Self::on(Db::Sqlite(database), deadline, lock))
            }
            DatabaseTarget::Postgres(url) => {
                let server = Server::connect(target, url, connections, deadline).await?;
                Ok(Self::on(Db::Postgres(server), deadline, None))
            }
        }
    }

    fn on(db: Db, deadline: Duration, lock: Option<File>) -> Self {
        let (symbols, letters) = (Arc::default(), Arc::default());
        Self { db, deadline, symbols, letters, _lock: lock.map(Arc::new) }
    }

    /// Whether no other process can have written since this one started (a SQLite file has one writer).
    pub fn is_exclusive(&self) -> bool {
        matches!(self.db, Db::Sqlite(_))
    }

    /// Brings the schema up to date; a schema that is newer than this program is refused.
    ///
    /// # Errors
    /// [`StoreError::Migration`], with the schema as it was (SQLite) or at the last whole step (PostgreSQL).
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let run = async {
            match &self.db {
                Db::Sqlite(database) => SQLITE_MIGRATIONS.run(&database.write).await,
                Db::Postgres(server) => server.migrate(&POSTGRES_MIGRATIONS).await,
            }
        };
        match tokio::time::timeout(MIGRATION_DEADLINE, run).await {
            Ok(done) => done.map_err(|error| StoreError::Migration(error.to_string())),
            Err(_) => Err(StoreError::Deadline(MIGRATION_DEADLINE)),
        }
    }

    /// Each migration this program knows: number, name, and whether the database has it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn migrations(&self) -> Result<Vec<(i64, String, bool)>, StoreError> {
        let (migrator, applied) = match &self.db {
            Db::Sqlite(database) => {
                let mut connection = within(self.deadline, database.read.acquire()).await?;
                (&SQLITE_MIGRATIONS, list_applied(&mut *connection).await)
            }
            Db::Postgres(Server { pool, .. }) => {
                let mut connection = within(self.deadline, pool.acquire()).await?.detach();
                let mut tx = within(self.deadline, connection.begin()).await?;
                (&POSTGRES_MIGRATIONS, list_applied(&mut *tx).await)
            }
        };
        let known = migrator.iter().map(|migration| {
            (migration.version, migration.description.to_string(), applied.contains(&migration.version))
        });
        Ok(known.collect())
    }

    /// Asks the database for a sign of life, through the connection that writes.
    ///
    /// # Errors
    /// When it does not answer within two seconds: a probe must not wait as long as work may.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ask = async {
            let mut connection = self.writer().await?;
            on!(connection.handle(), (i32,), "SELECT 1", [], fetch_one).map(|_| ())
        };
        tokio::time::timeout(PING_DEADLINE, ask).await.unwrap_or(Err(StoreError::Deadline(PING_DEADLINE)))
    }

    /// Lets the connections finish and closes them.
    pub async fn close(&self) {
        match &self.db {
            Db::Sqlite(database) => database.close().await,
            Db::Postgres(server) => server.pool.close().await,
        }
    }

    /// Calls `nudge` whenever another process on the same database says that there is something to look at, until `stop`.
    /// On SQLite there is no other process.
    ///
    /// # Errors
    /// When the server cannot be listened to; looking at intervals goes on being right.
    pub async fn listen(&self, nudge: &Notify, stop: &CancellationToken) -> Result<(), StoreError> {
        match &self.db {
            Db::Sqlite(_) => {
                stop.cancelled().await;
                Ok(())
            }
            Db::Postgres(server) => server.listen(nudge, stop).await,
        }
    }

    /// Tells the other processes on the same database that there is something to look at. Nothing depends on it.
    pub async fn wake_others(&self) {
        const SQL: &str = "SELECT 1 FROM pg_notify($1, '')";
        if let Db::Postgres(_) = &self.db
            && let Ok(mut connection) = self.writer().await
        {
            let _ = on!(connection.handle(), SQL, [postgres::CHANNEL]);
        }
    }

    async fn reader(&self) -> Result<Connection, StoreError> {
        match &self.db {
            Db::Sqlite(database) => {
                Ok(Connection::Sqlite(within(self.deadline, database.read.acquire()).await?, self.deadline))
            }
            Db::Postgres(server) => {
                let connection = within(self.deadline, server.pool.acquire()).await?;
                Ok(Connection::Postgres(connection, server.route(self.deadline)))
            }
        }
    }

    async fn writer(&self) -> Result<Connection, StoreError> {
        match &self.db {
            Db::Sqlite(database) => {
                Ok(Connection::Sqlite(within(self.deadline, database.writer().acquire()).await?, self.deadline))
            }
            Db::Postgres(_) => self.reader().await,
        }
    }

    /// A transaction that will write. On SQLite it takes the write lock at once, so it cannot fail half-way as busy.
    async fn begin(&self) -> Result<Tx, StoreError> {
        match &self.db {
            Db::Sqlite(database) => {
                let begun = database.writer().begin_with("BEGIN IMMEDIATE");
                Ok(Tx::Sqlite(within(self.deadline, begun).await?, self.deadline))
            }
            Db::Postgres(server) => {
                let route = server.route(self.deadline);
                let begun = async { transaction::begin(server.pool.acquire().await?, route.begin()).await };
                Ok(Tx::Postgres(within(self.deadline, begun).await?, route))
            }
        }
    }
}

/// No table of migrations means none was applied.
async fn list_applied<C: Migrate>(connection: &mut C) -> Vec<i64> {
    let table = &SQLITE_MIGRATIONS.table_name;
    let applied = connection.list_applied_migrations(table).await.unwrap_or_default();
    applied.iter().map(|migration| migration.version).collect()
}

fn unavailable(target: &DatabaseTarget, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable { target: target.to_string(), cause: cause.to_string() }
}
