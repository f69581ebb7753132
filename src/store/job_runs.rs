//! The ledger: one row for each slot of each job.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::dialect::{Handle, on, within};
use super::{Store, StoreError};

/// Why a row exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The slot came due while the daemon ran.
    Scheduled,
    /// The slot came due while it did not, or was handled late.
    Catchup,
    /// There was no market data at start.
    ColdStart,
    /// A person asked on the command line.
    Manual,
    /// A caller asked over HTTP.
    Api,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Under way, or its process ended and nobody has noticed yet.
    Running,
    /// Done.
    Ok,
    /// Tried and not done.
    Failed,
    /// Left out on purpose: the job was still running.
    Skipped,
    /// Left out because it came too late.
    Missed,
    /// Its process ended during the run, or its end could not be written, and it was too late to do it again.
    Lost,
}

named!(Origin {
    Scheduled => "scheduled", Catchup => "catchup", ColdStart => "cold_start", Manual => "manual", Api => "api",
});
named!(RunState {
    Running => "running", Ok => "ok", Failed => "failed", Skipped => "skipped", Missed => "missed",
    Lost => "lost",
});

/// A row as it is first written.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Chosen by the caller (UUIDv7).
    pub id: Uuid,
    /// Name in the job table.
    pub job: &'static str,
    /// The slot.
    pub scheduled_for: DateTime<Utc>,
    /// Why it is written.
    pub origin: Origin,
    /// `Running` for one that starts now; otherwise the final state.
    pub state: RunState,
    /// Why it was skipped or missed, or why it runs late.
    pub reason: Option<String>,
    /// The process that writes it.
    pub owner: String,
    /// When it was decided.
    pub claimed_at: DateTime<Utc>,
    /// When it must be done by.
    pub deadline: Option<DateTime<Utc>>,
    /// The session the slot belongs to.
    pub session_date: Option<NaiveDate>,
    /// The phase of the market at the slot.
    pub phase: String,
    /// The calendar it was decided with.
    pub calendar_version: String,
}

/// A row of the ledger.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct JobRun {
    /// UUIDv7.
    #[sqlx(try_from = "String")]
    pub id: Uuid,
    /// Name in the job table.
    pub job: String,
    /// The slot.
    pub scheduled_for: DateTime<Utc>,
    /// Why the row exists.
    #[sqlx(try_from = "String")]
    pub origin: Origin,
    /// What became of it.
    #[sqlx(try_from = "String")]
    pub state: RunState,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// 1 for the first try; also the fence: only the newest attempt can finish the row.
    pub attempt: i32,
    /// The process that decided or runs it.
    pub owner: String,
    /// When it was decided.
    pub claimed_at: DateTime<Utc>,
    /// When its process last said that it runs.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// From the slot to the decision, in microseconds.
    pub late_us: i64,
    /// When it must be done by.
    pub deadline: Option<DateTime<Utc>>,
    /// The last error.
    pub error: Option<String>,
    /// What the job reports of itself, as JSON text.
    #[serde(serialize_with = "raw_json")]
    pub stats: Option<String>,
    /// The session the slot belongs to.
    pub session_date: Option<NaiveDate>,
    /// The phase of the market at the slot.
    pub phase: String,
    /// The calendar it was decided with.
    pub calendar_version: String,
    /// The time zone data it was decided with.
    pub tzdb_version: String,
}

fn raw_json<S: serde::Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = text.as_deref().map(serde_json::from_str::<&serde_json::value::RawValue>);
    raw.transpose().map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Finish {
    /// Not `Running`.
    pub state: RunState,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// The error of a failed run.
    pub error: Option<String>,
    /// JSON text of what was done.
    pub stats: Option<String>,
    /// When.
    pub finished_at: DateTime<Utc>,
}

/// Which rows to list, newest slot first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only this job.
    pub job: Option<String>,
    /// Only this state.
    pub state: Option<RunState>,
    /// At most so many.
    pub limit: u32,
}

const COLUMNS: usize = 17;

/// Rows of one INSERT: 17 columns each, well below the 32,766 variables of SQLite.
const ROWS_AT_ONCE: usize = 500;

impl Store {
    /// Says that `job` exists; gives the instant since which its slots are owed: `now` at the very first call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn register_job(&self, job: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, StoreError> {
        const INSERT: &str = "INSERT INTO jobs (name, since) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        const SELECT: &str = "SELECT since FROM jobs WHERE name = $1";
        let mut connection = self.writer().await?;
        on!(connection.handle(), INSERT, [job, now])?;
        let (since,) = on!(connection.handle(), (DateTime<Utc>,), SELECT, [job], fetch_one)?;
        Ok(since)
    }

    /// Since when each job's slots are owed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs_since(&self) -> Result<HashMap<String, DateTime<Utc>>, StoreError> {
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String, DateTime<Utc>), "SELECT name, since FROM jobs", [], fetch_all)?;
        Ok(rows.into_iter().collect())
    }

    /// The slots of `job` in `[from, to)` that have a row, whatever became of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn slots_with_rows(
        &self,
        job: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<BTreeSet<DateTime<Utc>>, StoreError> {
        const SQL: &str =
            "SELECT scheduled_for FROM job_runs WHERE job = $1 AND scheduled_for >= $2 AND scheduled_for < $3";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (DateTime<Utc>,), SQL, [job, from, to], fetch_all)?;
        Ok(rows.into_iter().map(|(slot,)| slot).collect())
    }

    /// The newest slot of `job` that the schedule has decided, or `None` for a job that never had one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_decided_slot(&self, job: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
        const SQL: &str =
            "SELECT MAX(scheduled_for) FROM job_runs WHERE job = $1 AND origin IN ('scheduled', 'catchup')";
        let mut connection = self.reader().await?;
        let (slot,) = on!(connection.handle(), (Option<DateTime<Utc>>,), SQL, [job], fetch_one)?;
        Ok(slot)
    }

    /// Writes rows for slots that have none yet, all or none, and gives the ids of those that were written: a slot that
    /// somebody else has decided is left as it is.
    ///
    /// # Errors
    /// When the database fails; then no row was written, or (when the commit itself failed) it is unknown.
    pub async fn claim_runs(&self, runs: &[NewRun]) -> Result<Vec<Uuid>, StoreError> {
        let mut written = Vec::with_capacity(runs.len());
        let mut tx = self.begin().await?;
        for rows in runs.chunks(ROWS_AT_ONCE) {
            let ids = match tx.handle() {
                Handle::Sqlite(connection, deadline) => {
                    let mut insert = insert_runs::<sqlx::Sqlite>(rows);
                    within(deadline, insert.build_query_as::<(String,)>().fetch_all(connection)).await?
                }
                Handle::Postgres(connection, deadline) => {
                    let mut insert = insert_runs::<sqlx::Postgres>(rows);
                    within(deadline, insert.build_query_as::<(String,)>().fetch_all(connection)).await?
                }
            };
            written.extend(ids.into_iter().filter_map(|(id,)| id.parse::<Uuid>().ok()));
        }
        tx.commit().await?;
        Ok(written)
    }

    /// Says that these runs go on. Gives how many of them are still under way.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn heartbeat(&self, runs: &[Uuid], now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE job_runs SET heartbeat_at = $2 WHERE state = 'running' AND id = $1";
        if runs.is_empty() {
            return Ok(0);
        }
        let mut connection = self.writer().await?;
        let mut heard = 0;
        for id in runs {
            heard += on!(connection.handle(), SQL, [id.to_string(), now])?;
        }
        Ok(heard)
    }

    /// The runs under way of which nothing was heard since before `silent_since`, oldest slot first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn abandoned_runs(&self, silent_since: DateTime<Utc>) -> Result<Vec<JobRun>, StoreError> {
        const SQL: &str = "SELECT * FROM job_runs WHERE state = 'running' AND heartbeat_at < $1 \
             ORDER BY scheduled_for LIMIT 1000";
        let mut connection = self.reader().await?;
        on!(connection.handle(), JobRun, SQL, [silent_since], fetch_all)
    }

    /// Begins the attempt after `attempt`: of an abandoned run, or another of one's own. `false`: somebody else was faster.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_attempt(
        &self,
        id: Uuid,
        attempt: i32,
        owner: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE job_runs SET attempt = attempt + 1, owner = $3, heartbeat_at = $4 \
             WHERE id = $1 AND attempt = $2 AND state = 'running'";
        let mut connection = self.writer().await?;
        let changed = on!(connection.handle(), SQL, [id.to_string(), attempt, owner, now])?;
        Ok(changed == 1)
    }

    /// Ends an attempt. `false`: the run is no longer this attempt's to end, and nothing was changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_run(&self, id: Uuid, attempt: i32, finish: &Finish) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE job_runs SET state = $3, reason = COALESCE($4, reason), error = $5, stats = $6, \
             finished_at = $7 WHERE id = $1 AND attempt = $2 AND state = 'running'";
        let mut connection = self.writer().await?;
        let Finish { state, reason, error, stats, finished_at } = finish;
        let binds = (id.to_string(), state.name());
        let changed = on!(connection.handle(), SQL, [binds.0, attempt, binds.1, reason, error, stats, finished_at])?;
        Ok(changed == 1)
    }

    /// Rows of the ledger, newest slot first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Vec<JobRun>, StoreError> {
        const SQL: &str = "SELECT * FROM job_runs WHERE ($1 = '' OR job = $1) AND ($2 = '' OR state = $2) \
             ORDER BY scheduled_for DESC, id DESC LIMIT $3";
        let mut connection = self.reader().await?;
        let job = filter.job.as_deref().unwrap_or_default();
        let state = filter.state.map_or("", RunState::name);
        on!(connection.handle(), JobRun, SQL, [job, state, i64::from(filter.limit)], fetch_all)
    }

    /// The newest finished slot of each job that has one, by state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_runs(&self) -> Result<HashMap<(String, RunState), DateTime<Utc>>, StoreError> {
        const SQL: &str = "SELECT job, state, MAX(finished_at) FROM job_runs WHERE finished_at IS NOT NULL \
             GROUP BY job, state";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String, String, DateTime<Utc>), SQL, [], fetch_all)?;
        let parsed = rows.into_iter().map(|(job, state, at)| match state.parse() {
            Ok(state) => Ok(((job, state), at)),
            Err(fault) => Err(StoreError::Unreadable(fault)),
        });
        parsed.collect()
    }

    /// Forgets rows whose slot is older than `before`, the newest row of each job excepted. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_runs(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM job_runs WHERE scheduled_for < $1 AND state <> 'running' AND EXISTS \
             (SELECT 1 FROM job_runs newer WHERE newer.job = job_runs.job AND newer.scheduled_for > job_runs.scheduled_for)";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [before])
    }
}

fn insert_runs<'a, DB>(rows: &'a [NewRun]) -> sqlx::QueryBuilder<DB>
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
{
    const { assert!(COLUMNS * ROWS_AT_ONCE < 32_766) };
    let mut insert = sqlx::QueryBuilder::new(
        "INSERT INTO job_runs (id, job, scheduled_for, origin, state, reason, attempt, owner, claimed_at, heartbeat_at, \
         finished_at, late_us, deadline, session_date, phase, calendar_version, tzdb_version) ",
    );
    insert.push_values(rows, |mut row, run| {
        let runs_now = run.state == RunState::Running;
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
            .push_bind((!runs_now).then_some(run.claimed_at))
            .push_bind(late.num_microseconds().unwrap_or(i64::MAX))
            .push_bind(run.deadline)
            .push_bind(run.session_date)
            .push_bind(run.phase.as_str())
            .push_bind(run.calendar_version.as_str())
            .push_bind(chrono_tz::IANA_TZDB_VERSION);
    });
    insert.push(" ON CONFLICT (job, scheduled_for) DO NOTHING RETURNING id");
    insert
}
