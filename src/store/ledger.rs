//! Writing the ledger. Every write is fenced: what plans carries the term of its planner, what ends an attempt its number.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::dialect::{Handle, Tx, by_engine, on, within};
use super::{Finish, JobRun, NewRun, RunState, Store, StoreError, Term};

/// Columns of one INSERT into the ledger, and of one end.
const COLUMNS: usize = 20;

/// Rows of one statement: well below the 32,766 variables of SQLite.
const ROWS_AT_ONCE: usize = 500;

impl Store {
    /// Writes rows for slots that have none yet and gives the ids that were written; a slot somebody else has written stays
    /// theirs. All in one transaction, in which `term` holds where it is given.
    ///
    /// # Errors
    /// When the database fails, and [`StoreError::Deposed`]; then nothing was written.
    pub async fn claim_runs(&self, rows: &[NewRun], term: Option<&Term>) -> Result<BTreeSet<Uuid>, StoreError> {
        let mut tx = match term {
            Some(term) => self.begin_as(term).await?,
            None => self.begin().await?,
        };
        let fence = term.map_or(0, |term| term.epoch);
        let mut written = BTreeSet::new();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let ids: Vec<(String,)> = match tx.handle() {
                Handle::Sqlite(connection, deadline) => {
                    let mut insert = insert_runs::<sqlx::Sqlite>(rows, fence);
                    within(deadline, insert.build_query_as::<(String,)>().fetch_all(connection)).await?
                }
                Handle::Postgres(connection, route) => {
                    let mut insert = insert_runs::<sqlx::Postgres>(rows, fence);
                    let query = insert.build_query_as::<(String,)>().persistent(rows.len() == 1 && !route.pooled);
                    within(route.deadline, query.fetch_all(connection)).await?
                }
            };
            written.extend(ids.into_iter().filter_map(|(id,)| id.parse::<Uuid>().ok()));
        }
        tx.commit().await?;
        Ok(written)
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
        let mut tx = self.begin().await?;
        let mut changed = BTreeSet::new();
        for ends in ends.chunks(ROWS_AT_ONCE) {
            let ids: Vec<(String,)> = match tx.handle() {
                Handle::Sqlite(connection, deadline) => {
                    let mut update = update_runs::<sqlx::Sqlite>(ends);
                    within(deadline, update.build_query_as::<(String,)>().fetch_all(connection)).await?
                }
                Handle::Postgres(connection, route) => {
                    let mut update = update_runs::<sqlx::Postgres>(ends);
                    let query = update.build_query_as::<(String,)>().persistent(ends.len() == 1 && !route.pooled);
                    within(route.deadline, query.fetch_all(connection)).await?
                }
            };
            let ids: BTreeSet<Uuid> = ids.into_iter().filter_map(|(id,)| id.parse().ok()).collect();
            let ended: Vec<_> = ends.iter().filter(|end| ids.contains(&end.run)).collect();
            save_attempts(&mut tx, &ended).await?;
            changed.extend(ids);
        }
        tx.commit().await?;
        Ok(changed)
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

async fn save_attempts(tx: &mut Tx, ended: &[&Finish]) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    match tx.handle() {
        Handle::Sqlite(connection, deadline) => {
            let mut insert = insert_attempts::<sqlx::Sqlite>(ended);
            within(deadline, insert.build().execute(connection)).await?;
        }
        Handle::Postgres(connection, route) => {
            let mut insert = insert_attempts::<sqlx::Postgres>(ended);
            let query = insert.build().persistent(ended.len() == 1 && !route.pooled);
            within(route.deadline, query.execute(connection)).await?;
        }
    }
    Ok(())
}

/// A function that puts a statement together for either engine, with all that may be bound in it.
macro_rules! builder {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) $body:block) => {
        $(#[$doc])*
        fn $name<'a, DB>($($argument: $type),*) -> sqlx::QueryBuilder<DB>
        where
            DB: sqlx::Database,
            String: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            &'a str: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            Option<&'a str>: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            i32: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            i64: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            DateTime<Utc>: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            Option<DateTime<Utc>>: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
            Option<NaiveDate>: sqlx::Encode<'a, DB> + sqlx::Type<DB>,
        $body
    };
}

builder! {
    fn insert_runs(rows: &'a [NewRun], fence: i64) {
        const { assert!(COLUMNS * ROWS_AT_ONCE < 32_766) };
        let mut insert = sqlx::QueryBuilder::new(
            "INSERT INTO job_runs (id, job, scheduled_for, origin, state, reason, attempt, owner, claimed_at, started_at, \
             next_attempt_at, finished_at, late_us, deadline, session_date, phase, calendar_version, tzdb_version, fence, \
             trace_id) ",
        );
        insert.push_values(rows, |mut row, run| {
            let (runs_now, waits) = (run.state == RunState::Running, run.state == RunState::Queued);
            let late = run.claimed_at - run.scheduled_for;
            row.push_bind(run.id.to_string())
                .push_bind(run.job)
                .push_bind(run.scheduled_for)
                .push_bind(run.origin.name())
                .push_bind(run.state.name())
                .push_bind(run.reason.as_deref())
                .push_bind(i32::from(runs_now))
                .push_bind(run.owner.as_str())
                .push_bind(run.claimed_at)
                .push_bind(runs_now.then_some(run.claimed_at))
                .push_bind(run.next_attempt_at)
                .push_bind((!runs_now && !waits).then_some(run.claimed_at))
                .push_bind(late.num_microseconds().unwrap_or(i64::MAX))
                .push_bind(run.deadline)
                .push_bind(run.session_date)
                .push_bind(run.phase.as_str())
                .push_bind(run.calendar_version.as_str())
                .push_bind(chrono_tz::IANA_TZDB_VERSION)
                .push_bind(fence)
                .push_bind(run.trace_id.as_str());
        });
        insert.push(" ON CONFLICT (job, scheduled_for) DO NOTHING RETURNING id");
        insert
    }
}

builder! {
    fn update_runs(ends: &'a [Finish]) {
        let mut update = sqlx::QueryBuilder::new(
            "WITH ends (run, attempt, owner, state, reason, error, stats, finished_at, next_attempt_at, deadline) AS (",
        );
        update.push_values(ends, |mut row, end| {
            row.push_bind(end.run.to_string())
                .push_bind(end.attempt)
                .push_bind(end.owner.as_str())
                .push_bind(end.state.name())
                .push_bind(end.reason.as_deref())
                .push_bind(end.error.as_deref())
                .push_bind(end.stats.as_deref())
                .push_bind((end.state != RunState::Queued).then_some(end.finished_at))
                .push_bind(end.next_attempt_at)
                .push_bind(end.deadline);
        });
        update.push(
            ") UPDATE job_runs SET state = ends.state, reason = COALESCE(ends.reason, job_runs.reason), \
             error = ends.error, stats = COALESCE(ends.stats, job_runs.stats), finished_at = ends.finished_at, \
             next_attempt_at = ends.next_attempt_at, deadline = COALESCE(ends.deadline, job_runs.deadline), \
             cancel_by = NULL FROM ends WHERE job_runs.id = ends.run AND job_runs.attempt = ends.attempt \
             AND job_runs.owner = ends.owner AND job_runs.state = 'running' RETURNING job_runs.id",
        );
        update
    }
}

builder! {
    fn insert_attempts(ended: &[&'a Finish]) {
        let mut insert = sqlx::QueryBuilder::new(
            "INSERT INTO job_attempts (run_id, n, fence, owner, started_at, finished_at, state, error) ",
        );
        insert.push_values(ended, |mut row, end| {
            row.push_bind(end.run.to_string())
                .push_bind(end.attempt)
                .push_bind(end.fence)
                .push_bind(end.owner.as_str())
                .push_bind(end.started_at)
                .push_bind(end.finished_at)
                .push_bind(end.attempt_state.name())
                .push_bind(end.error.as_deref());
        });
        insert.push(" ON CONFLICT (run_id, n) DO NOTHING");
        insert
    }
}
