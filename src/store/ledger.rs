//! Writing the ledger. Every write is fenced: what plans carries the term of its planner, what ends an attempt its number.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::bulk;
use super::dialect::{by_engine, on};
use super::{Db, Finish, JobRun, NewRun, RunState, Store, StoreError, Term};

impl Store {
    /// Writes rows for slots that have none yet and gives the ids that were written; a slot somebody else has written stays
    /// theirs. All in one transaction, in which `term` holds where it is given.
    ///
    /// # Errors
    /// When the database fails, and [`StoreError::Deposed`]; then nothing was written.
    pub async fn claim_runs(&self, rows: &[NewRun], term: Option<&Term>) -> Result<BTreeSet<Uuid>, StoreError> {
        let written = match &self.db {
            Db::Sqlite(_) => {
                // Made ready before the writer is waited for.
                let inserts = bulk::inserts_sqlite(rows, term.map_or(0, |term| term.epoch));
                let mut tx = match term {
                    Some(term) => self.begin_as(term).await?,
                    None => self.begin().await?,
                };
                let written = bulk::insert_sqlite(&mut tx, inserts).await?;
                tx.commit().await?;
                written
            }
            Db::Postgres(_) => bulk::insert_postgres(&mut self.writer().await?, rows, term).await?,
        };
        Ok(written.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
    }

    /// Begins the next attempt of a run that waits. `false`: it no longer waits, or somebody else was faster.
    ///
    /// # Errors
    /// When the database fails, and [`StoreError::Deposed`]; then nothing was begun.
    pub async fn begin_attempt(
        &self,
        id: Uuid,
        attempt: i32,
        term: &Term,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE job_runs SET state = 'running', attempt = attempt + 1, owner = $3, fence = $4, \
             started_at = $5, next_attempt_at = NULL \
             WHERE id = $1 AND attempt = $2 AND state IN ('queued', 'running') AND state = 'queued'";
        let mut tx = self.begin_as(term).await?;
        let changed = on!(tx.handle(), SQL, [id.to_string(), attempt, &term.owner, term.epoch, now])?;
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Ends attempts and says what becomes of their runs, all in one transaction. Gives the runs that were changed: the
    /// others are no longer their attempt's to end, and nothing of them was written.
    ///
    /// # Errors
    /// When the database fails; then nothing was written, or (when the commit itself failed) a repeat finds out.
    pub async fn finish_runs(&self, ends: &[Finish]) -> Result<BTreeSet<Uuid>, StoreError> {
        let changed = match &self.db {
            Db::Sqlite(_) => {
                let mut tx = self.begin().await?;
                let changed = bulk::finish_sqlite(&mut tx, ends).await?;
                tx.commit().await?;
                changed
            }
            Db::Postgres(_) => bulk::finish_postgres(&mut self.writer().await?, ends).await?,
        };
        Ok(changed.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
    }

    /// The runs that are under way by the ledger, in processes other than `owner` that have been silent for `silence`, oldest
    /// slot first. On SQLite every other process is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn abandoned_runs(&self, owner: &str, silence: Duration) -> Result<Vec<JobRun>, StoreError> {
        const SQLITE: &str = "SELECT * FROM job_runs WHERE state IN ('queued', 'running') AND state = 'running' \
             AND owner <> $1 AND $2 >= 0 ORDER BY scheduled_for LIMIT 1000";
        const POSTGRES: &str = "SELECT * FROM job_runs WHERE state IN ('queued', 'running') AND state = 'running' \
             AND owner <> $1 AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.owner = job_runs.owner \
             AND beat_at > clock_timestamp() - make_interval(secs => $2)) ORDER BY scheduled_for LIMIT 1000";
        let mut connection = self.reader().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        on!(connection.handle(), JobRun, sql, [owner, silence.as_secs_f64()], fetch_all)
    }

    /// The runs under way by the ledger that `owner` began before `since`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn runs_of(&self, owner: &str, since: DateTime<Utc>) -> Result<Vec<JobRun>, StoreError> {
        const SQL: &str = "SELECT * FROM job_runs WHERE state IN ('queued', 'running') AND state = 'running' \
             AND owner = $1 AND started_at < $2 ORDER BY scheduled_for LIMIT 20000";
        let mut connection = self.reader().await?;
        on!(connection.handle(), JobRun, SQL, [owner, since], fetch_all)
    }

    /// The runs that wait, oldest slot first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        const SQL: &str = "SELECT * FROM job_runs WHERE state IN ('queued', 'running') AND state = 'queued' \
             ORDER BY scheduled_for, id LIMIT 10000";
        let mut connection = self.reader().await?;
        on!(connection.handle(), JobRun, SQL, [], fetch_all)
    }

    /// The runs of `owner` under way whose end somebody has asked for, and who.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cancelled_runs(&self, owner: &str) -> Result<Vec<(Uuid, String)>, StoreError> {
        const SQL: &str = "SELECT id, cancel_by FROM job_runs WHERE state IN ('queued', 'running') \
             AND cancel_by IS NOT NULL AND owner = $1";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String, String), SQL, [owner], fetch_all)?;
        Ok(rows.into_iter().filter_map(|(id, by)| Some((id.parse().ok()?, by))).collect())
    }

    /// The runs of `job` under way, wherever they are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn running_of(&self, job: &str) -> Result<Vec<Uuid>, StoreError> {
        const SQL: &str =
            "SELECT id FROM job_runs WHERE state IN ('queued', 'running') AND state = 'running' AND job = $1";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String,), SQL, [job], fetch_all)?;
        Ok(rows.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
    }

    /// How many runs of each job are under way, and how many wait. Those beside the schedule do not count.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn busy_jobs(&self) -> Result<HashMap<String, (usize, usize)>, StoreError> {
        const SQL: &str = "SELECT job, COUNT(CASE WHEN state = 'running' THEN 1 END), \
             COUNT(CASE WHEN state = 'queued' THEN 1 END) FROM job_runs WHERE state IN ('queued', 'running') \
             AND origin <> 'api' GROUP BY job";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String, i64, i64), SQL, [], fetch_all)?;
        let count = |number: i64| usize::try_from(number).unwrap_or_default();
        Ok(rows.into_iter().map(|(job, running, queued)| (job, (count(running), count(queued)))).collect())
    }

    /// Ends a run that waits. `false`: it no longer does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_waiting(
        &self,
        id: Uuid,
        attempt: i32,
        state: RunState,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE job_runs SET state = $3, reason = $4, finished_at = $5, next_attempt_at = NULL \
             WHERE id = $1 AND attempt = $2 AND state = 'queued'";
        let mut connection = self.writer().await?;
        let changed = on!(connection.handle(), SQL, [id.to_string(), attempt, state.name(), reason, now])?;
        Ok(changed == 1)
    }

    /// Asks for the end of runs: one that waits is ended here and now, one under way by the process it runs in. Gives how many
    /// of them had not ended by themselves.
    ///
    /// # Errors
    /// When the database fails; then nothing was asked.
    pub async fn cancel_runs(&self, runs: &[Uuid], by: &str, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const WAITING: &str = "UPDATE job_runs SET state = 'cancelled', reason = $2, finished_at = $3, \
             next_attempt_at = NULL WHERE id = $1 AND state = 'queued'";
        const RUNNING: &str =
            "UPDATE job_runs SET cancel_by = COALESCE(cancel_by, $2) WHERE id = $1 AND state = 'running'";
        let mut tx = self.begin().await?;
        let mut found = 0;
        for run in runs {
            let waiting = on!(tx.handle(), WAITING, [run.to_string(), format!("cancelled {by}"), now])?;
            let running = on!(tx.handle(), RUNNING, [run.to_string(), by])?;
            found += waiting + running;
        }
        tx.commit().await?;
        Ok(found)
    }

    /// Lets a run that has ended wait for another attempt. `false`: it has not ended in one of the states `from`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn requeue_run(
        &self,
        id: Uuid,
        from: &[RunState],
        deadline: DateTime<Utc>,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE job_runs SET state = 'queued', next_attempt_at = $3, deadline = $4, reason = $5, \
             error = NULL, finished_at = NULL, cancel_by = NULL WHERE id = $1 AND state = $2";
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for state in from {
            changed += on!(tx.handle(), SQL, [id.to_string(), state.name(), now, deadline, reason])?;
            if changed > 0 {
                break;
            }
        }
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Forgets rows whose slot is older than `before`, the newest row of each job excepted. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_runs(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const ATTEMPTS: &str = "DELETE FROM job_attempts WHERE finished_at < $1 AND NOT EXISTS \
             (SELECT 1 FROM job_runs WHERE job_runs.id = job_attempts.run_id)";
        const CLOCK: &str = "DELETE FROM clock_events WHERE at < $1";
        const RUNS: &str = "DELETE FROM job_runs WHERE scheduled_for < $1 AND state NOT IN ('queued', 'running') \
             AND EXISTS (SELECT 1 FROM job_runs newer WHERE newer.job = job_runs.job \
             AND newer.scheduled_for > job_runs.scheduled_for)";
        let mut tx = self.begin().await?;
        let forgotten = on!(tx.handle(), RUNS, [before])?;
        on!(tx.handle(), ATTEMPTS, [before])?;
        on!(tx.handle(), CLOCK, [before])?;
        tx.commit().await?;
        Ok(forgotten)
    }
}
