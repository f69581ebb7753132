//! The processes on this database, and which of them plans. Time here is the database's own, the one clock that all share.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::dialect::{Tx, by_engine, on};
use super::{Store, StoreError};

/// The right to plan: who has it, and the number that makes the writes of those before fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The process.
    pub owner: String,
    /// Higher with every new holder.
    pub epoch: i64,
}

/// The lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Lease {
    /// The process that holds it, or held it last.
    pub owner: String,
    /// Higher with every new holder.
    pub epoch: i64,
    /// When it ends unless it is renewed, by the clock of the database.
    pub expires_at: DateTime<Utc>,
    /// Whether it has not ended.
    pub held: bool,
}

/// A process on this database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Instance {
    /// Its name in the ledger, unlike any other and any before it.
    pub owner: String,
    /// Name of its host.
    pub host: String,
    /// Its process id there.
    pub process_id: i64,
    /// Version of the program.
    pub version: String,
    /// When it came.
    pub started_at: DateTime<Utc>,
    /// When it was last heard of, by the clock of the database.
    pub beat_at: DateTime<Utc>,
}

pub(super) const PLANNER: &str = "planner";

/// Processes that were silent for so long are forgotten.
const FORGOTTEN_AFTER_SECONDS: f64 = 86_400.0;

impl Store {
    /// Takes the lease for `span` if nobody else holds it. `None`: somebody does. On SQLite nobody else can be alive. One's own is taken
    /// under a new epoch: it may be had by a call whose answer was lost.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_lease(&self, owner: &str, span: Duration) -> Result<Option<Term>, StoreError> {
        const SQLITE: &str = "INSERT INTO leases (name, owner, epoch, expires_at) \
             VALUES ($1, $2, 1, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', $3 || ' seconds')) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = leases.epoch + 1, \
             expires_at = excluded.expires_at RETURNING epoch";
        const POSTGRES: &str = "INSERT INTO leases (name, owner, epoch, expires_at) \
             VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3)) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = leases.epoch + 1, \
             expires_at = clock_timestamp() + make_interval(secs => $3) \
             WHERE leases.expires_at <= clock_timestamp() OR leases.owner = excluded.owner RETURNING epoch";
        let mut connection = self.writer().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        let taken = on!(connection.handle(), (i64,), sql, [PLANNER, owner, span.as_secs_f64()], fetch_optional)?;
        Ok(taken.map(|(epoch,)| Term { owner: owner.to_owned(), epoch }))
    }

    /// Makes the lease last for another `span`. `false`: it belongs to somebody else now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn renew_lease(&self, term: &Term, span: Duration) -> Result<bool, StoreError> {
        const SQLITE: &str = "UPDATE leases SET \
             expires_at = strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', $4 || ' seconds') \
             WHERE name = $1 AND owner = $2 AND epoch = $3";
        const POSTGRES: &str = "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $4) \
             WHERE name = $1 AND owner = $2 AND epoch = $3";
        let mut connection = self.writer().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        let changed = on!(connection.handle(), sql, [PLANNER, &term.owner, term.epoch, span.as_secs_f64()])?;
        Ok(changed == 1)
    }

    /// Gives the lease back, so that another instance can have it at once, and tells the others.
    ///
    /// # Errors
    /// When the database fails; then it ends by itself.
    pub async fn resign_lease(&self, term: &Term) -> Result<(), StoreError> {
        const SQLITE: &str = "UPDATE leases SET expires_at = strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') \
             WHERE name = $1 AND owner = $2 AND epoch = $3";
        const POSTGRES: &str =
            "UPDATE leases SET expires_at = clock_timestamp() WHERE name = $1 AND owner = $2 AND epoch = $3";
        let mut connection = self.writer().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        on!(connection.handle(), sql, [PLANNER, &term.owner, term.epoch])?;
        drop(connection);
        self.wake_others().await;
        Ok(())
    }

    /// What time it is by the clock of the database; `None` for a file, which has none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn database_clock(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        if self.is_exclusive() {
            return Ok(None);
        }
        let mut connection = self.reader().await?;
        let (now,) = on!(connection.handle(), (DateTime<Utc>,), "SELECT clock_timestamp()", [], fetch_one)?;
        Ok(Some(now))
    }

    /// Who plans, or planned last; `None` before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lease(&self) -> Result<Option<Lease>, StoreError> {
        const SQLITE: &str = "SELECT owner, epoch, expires_at, \
             expires_at > strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') AS held FROM leases WHERE name = $1";
        const POSTGRES: &str =
            "SELECT owner, epoch, expires_at, expires_at > clock_timestamp() AS held FROM leases WHERE name = $1";
        let mut connection = self.reader().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        on!(connection.handle(), Lease, sql, [PLANNER], fetch_optional)
    }

    /// A transaction in which `term` holds to its end: whoever takes over waits for it.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] when it does not hold.
    pub(super) async fn begin_as(&self, term: &Term) -> Result<Tx, StoreError> {
        const SQLITE: &str = "SELECT epoch FROM leases WHERE name = $1 AND owner = $2 AND epoch = $3";
        const POSTGRES: &str = "SELECT epoch FROM leases WHERE name = $1 AND owner = $2 AND epoch = $3 \
             AND expires_at > clock_timestamp() FOR SHARE";
        let mut tx = self.begin().await?;
        let sql = by_engine(&tx.handle(), SQLITE, POSTGRES);
        let held = on!(tx.handle(), (i64,), sql, [PLANNER, &term.owner, term.epoch], fetch_optional)?;
        held.map(|_| tx).ok_or(StoreError::Deposed)
    }

    /// Says that the process lives. Those that have been silent for a day are forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn beat(&self, owner: &str, host: &str, started_at: DateTime<Utc>) -> Result<(), StoreError> {
        const SQLITE: &str = "INSERT INTO instances (owner, host, process_id, version, started_at, beat_at) \
             VALUES ($1, $2, $3, $4, $5, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')) \
             ON CONFLICT (owner) DO UPDATE SET beat_at = excluded.beat_at";
        const POSTGRES: &str = "INSERT INTO instances (owner, host, process_id, version, started_at, beat_at) \
             VALUES ($1, $2, $3, $4, $5, clock_timestamp()) \
             ON CONFLICT (owner) DO UPDATE SET beat_at = excluded.beat_at";
        let mut connection = self.writer().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        let process_id = i64::from(std::process::id());
        on!(connection.handle(), sql, [owner, host, process_id, env!("CARGO_PKG_VERSION"), started_at])?;
        Ok(())
    }

    /// Says that the process has ended: what it left under way need not go silent first.
    ///
    /// # Errors
    /// When the database fails; then its silence says the same.
    pub async fn retire(&self, owner: &str) -> Result<(), StoreError> {
        const OWN: &str = "DELETE FROM instances WHERE owner = $1";
        const SQLITE: &str = "DELETE FROM instances WHERE beat_at < \
             strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '-' || $1 || ' seconds')";
        const POSTGRES: &str = "DELETE FROM instances WHERE beat_at < clock_timestamp() - make_interval(secs => $1)";
        let mut connection = self.writer().await?;
        on!(connection.handle(), OWN, [owner])?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        on!(connection.handle(), sql, [FORGOTTEN_AFTER_SECONDS])?;
        Ok(())
    }

    /// The processes on this database, the one heard of last first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn instances(&self) -> Result<Vec<Instance>, StoreError> {
        const SQL: &str = "SELECT owner, host, process_id, version, started_at, beat_at FROM instances \
             ORDER BY beat_at DESC, owner";
        let mut connection = self.reader().await?;
        on!(connection.handle(), Instance, SQL, [], fetch_all)
    }
}
