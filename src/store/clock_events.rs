//! When the host's clock was set, or the host slept: written down, because the schedule was judged by that clock.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::dialect::on;
use super::{Store, StoreError};

/// One such event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct ClockEvent {
    /// When it was noticed, by the clock as it was then.
    pub at: DateTime<Utc>,
    /// `step` or `suspend`.
    pub kind: String,
    /// How far the clock was set (negative: back), or how long the host slept, in microseconds.
    pub by_us: i64,
    /// The process that noticed.
    pub owner: String,
}

impl Store {
    /// Writes an event down.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_clock_event(&self, event: &ClockEvent) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO clock_events (id, at, kind, by_us, owner) VALUES ($1, $2, $3, $4, $5)";
        let mut connection = self.writer().await?;
        let ClockEvent { at, kind, by_us, owner } = event;
        on!(connection.handle(), SQL, [Uuid::now_v7().to_string(), at, kind, by_us, owner])?;
        Ok(())
    }

    /// The newest events, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn clock_events(&self, limit: u32) -> Result<Vec<ClockEvent>, StoreError> {
        const SQL: &str = "SELECT at, kind, by_us, owner FROM clock_events ORDER BY at DESC, id DESC LIMIT $1";
        let mut connection = self.reader().await?;
        on!(connection.handle(), ClockEvent, SQL, [i64::from(limit)], fetch_all)
    }
}
