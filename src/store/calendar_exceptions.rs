//! Exceptions of the calendar that operators sent over HTTP.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::dialect::on;
use super::{Store, StoreError};
use crate::calendar::Written;

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionRow {
    /// UUIDv7.
    pub id: Uuid,
    /// What was written.
    pub written: Written,
    /// When it came.
    pub created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Stored {
    #[sqlx(try_from = "String")]
    id: Uuid,
    date: String,
    venue: String,
    kind: String,
    open: String,
    close: String,
    halt_start: String,
    halt_end: String,
    reason: String,
    source: String,
    declared_at: String,
    author: String,
    created_at: DateTime<Utc>,
}

impl From<Stored> for ExceptionRow {
    fn from(stored: Stored) -> Self {
        let Stored { id, date, venue, kind, open, close, halt_start, halt_end, reason, .. } = stored;
        let Stored { source, declared_at, author, created_at, .. } = stored;
        let written =
            Written { date, venue, kind, open, close, halt_start, halt_end, reason, source, declared_at, author };
        Self { id, written, created_at }
    }
}

const IN_FORCE: &str = "SELECT id, date, venue, kind, open, close, halt_start, halt_end, reason, source, declared_at, \
    author, created_at FROM calendar_exceptions WHERE withdrawn_at IS NULL ORDER BY created_at, id";

/// Each row counts when it comes and once more when it is withdrawn, so the number only grows.
const REVISION: &str = "SELECT count(*) + count(withdrawn_at) FROM calendar_exceptions";

const INSERT: &str = "INSERT INTO calendar_exceptions (id, date, venue, kind, open, close, halt_start, halt_end, reason, \
    source, declared_at, author, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
    ON CONFLICT DO NOTHING";

const WITHDRAW: &str = "UPDATE calendar_exceptions SET withdrawn_at = $2 WHERE id = $1 AND withdrawn_at IS NULL";

impl Store {
    /// The exceptions in force, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calendar_exceptions(&self) -> Result<Vec<ExceptionRow>, StoreError> {
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), Stored, IN_FORCE, [], fetch_all)?;
        Ok(rows.into_iter().map(ExceptionRow::from).collect())
    }

    /// A number that is another one whenever the exceptions in force are others.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calendar_exceptions_revision(&self) -> Result<i64, StoreError> {
        let mut connection = self.reader().await?;
        let (revision,): (i64,) = on!(connection.handle(), (i64,), REVISION, [], fetch_one)?;
        Ok(revision)
    }

    /// Keeps an exception. `false`: one of that kind is in force for the date and venue already; nothing was changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_calendar_exception(&self, row: &ExceptionRow) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let written = row.written.clone();
        let Written { date, venue, kind, open, close, halt_start, halt_end, reason, source, declared_at, author } =
            written;
        let added = on!(
            tx.handle(),
            INSERT,
            [
                row.id.to_string(),
                date,
                venue,
                kind,
                open,
                close,
                halt_start,
                halt_end,
                reason,
                source,
                declared_at,
                author,
                row.created_at
            ]
        )?;
        tx.commit().await?;
        Ok(added == 1)
    }

    /// Withdraws an exception at `now`. `false`: there is none of that id in force.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn withdraw_calendar_exception(&self, id: Uuid, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let withdrawn = on!(tx.handle(), WITHDRAW, [id.to_string(), now])?;
        tx.commit().await?;
        Ok(withdrawn == 1)
    }
}
