//! What is kept of a job itself: since when its slots are owed, and its pause.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::dialect::on;
use super::{Store, StoreError};

/// A job that the ledger knows.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct KnownJob {
    /// Its name.
    pub name: String,
    /// Its slots are owed from this instant on.
    pub since: DateTime<Utc>,
    /// The first instant of its last pause.
    pub pause_from: Option<DateTime<Utc>>,
    /// The end of that pause; `None` while nobody has said.
    pub pause_until: Option<DateTime<Utc>>,
    /// Who paused it, and why.
    pub pause_reason: Option<String>,
}

impl Store {
    /// Says that these jobs exist; the slots of a new one are owed from `now` on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register_jobs(&self, jobs: &[&str], now: DateTime<Utc>) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO jobs (name, since) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        let known = self.jobs().await?;
        let mut tx = self.begin().await?;
        for job in jobs.iter().filter(|job| !known.contains_key(**job)) {
            on!(tx.handle(), SQL, [*job, now])?;
        }
        tx.commit().await
    }

    /// Every job that was ever known, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs(&self) -> Result<HashMap<String, KnownJob>, StoreError> {
        const SQL: &str = "SELECT name, since, pause_from, pause_until, pause_reason FROM jobs";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), KnownJob, SQL, [], fetch_all)?;
        Ok(rows.into_iter().map(|job| (job.name.clone(), job)).collect())
    }

    /// The jobs of which some slot is or was left out by a pause, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn paused_jobs(&self) -> Result<HashMap<String, KnownJob>, StoreError> {
        const SQL: &str =
            "SELECT name, since, pause_from, pause_until, pause_reason FROM jobs WHERE pause_from IS NOT NULL";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), KnownJob, SQL, [], fetch_all)?;
        Ok(rows.into_iter().map(|job| (job.name.clone(), job)).collect())
    }

    /// Leaves the slots of `job` out from `from` on, until `until` if that is given. A job that is paused keeps the start of
    /// its pause. `false`: there is no such job.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pause_job(
        &self,
        job: &str,
        from: DateTime<Utc>,
        until: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE jobs SET pause_until = $3, pause_reason = $4, pause_from = CASE \
             WHEN pause_from <= $2 AND (pause_until IS NULL OR pause_until > $2) THEN pause_from ELSE $2 END \
             WHERE name = $1";
        let mut connection = self.writer().await?;
        Ok(on!(connection.handle(), SQL, [job, from, until, reason])? == 1)
    }

    /// Ends the pause of `job` at `now`: slots before that stay left out. `false`: it was not paused.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resume_job(&self, job: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE jobs SET pause_until = $2 WHERE name = $1 AND pause_from <= $2 \
             AND (pause_until IS NULL OR pause_until > $2)";
        let mut connection = self.writer().await?;
        Ok(on!(connection.handle(), SQL, [job, now])? == 1)
    }
}
