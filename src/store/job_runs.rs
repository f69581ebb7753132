//! The ledger as it is read: one row for each slot of each job, and how each attempt ended. `ledger.rs` writes it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::dialect::on;
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
    /// An operator asked for a slot of the past.
    Backfill,
    /// The clock was set back, and an interval went on in the time that came twice.
    Repeat,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Waits: for its turn, or for its next attempt.
    Queued,
    /// Under way, or its process ended and nobody has noticed yet.
    Running,
    /// Done.
    Ok,
    /// Tried and not done.
    Failed,
    /// Left out on purpose: the job was still running, or is paused.
    Skipped,
    /// Left out because it came too late.
    Missed,
    /// Ended because somebody asked for that, or a newer slot took its place.
    Cancelled,
    /// Its process ended during the run, or its end could not be written, and it was too late to do it again.
    Lost,
}

named!(Origin {
    Scheduled => "scheduled", Catchup => "catchup", ColdStart => "cold_start", Manual => "manual", Api => "api",
    Backfill => "backfill", Repeat => "repeat",
});
named!(RunState {
    Queued => "queued", Running => "running", Ok => "ok", Failed => "failed", Skipped => "skipped", Missed => "missed",
    Cancelled => "cancelled", Lost => "lost",
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
    /// `Running` for one that starts now, `Queued` for one that waits; otherwise the final state.
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
    /// For one that waits: not before this instant.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// 32 hexadecimal digits that the log, and whoever asked for it, know it by.
    pub trace_id: String,
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
    /// When its last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// For one that waits: not before this instant.
    pub next_attempt_at: Option<DateTime<Utc>>,
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
    /// The epoch of the planner that began it; 0 for one that was begun beside the schedule.
    pub fence: i64,
    /// Who asked for its end, while it goes on.
    pub cancel_by: Option<String>,
    /// 32 hexadecimal digits that the log, and whoever asked for it, know it by.
    pub trace_id: Option<String>,
}

/// How one attempt of a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Attempt {
    /// 1 for the first.
    pub n: i32,
    /// The epoch of the planner that began it.
    pub fence: i64,
    /// The process it ran in.
    pub owner: String,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, or was found abandoned.
    pub finished_at: DateTime<Utc>,
    /// How it ended.
    #[sqlx(try_from = "String")]
    pub state: RunState,
    /// Why, where it did not go well.
    pub error: Option<String>,
}

fn raw_json<S: serde::Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = text.as_deref().map(serde_json::from_str::<&serde_json::value::RawValue>);
    raw.transpose().map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// How an attempt ended, and what becomes of its run.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The run.
    pub run: Uuid,
    /// Its attempt: only the newest can end it.
    pub attempt: i32,
    /// The epoch of the planner that began it.
    pub fence: i64,
    /// The process it ran in.
    pub owner: String,
    /// When the attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How the attempt ended; not `Running` and not `Queued`.
    pub attempt_state: RunState,
    /// What becomes of the run: `Queued` for another attempt, otherwise the final state.
    pub state: RunState,
    /// For `Queued`: not before this instant.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// A new deadline, where it changes.
    pub deadline: Option<DateTime<Utc>>,
    /// Why, where the state alone does not say.
    pub reason: Option<String>,
    /// The error of an attempt that did not go well.
    pub error: Option<String>,
    /// JSON text of what was done.
    pub stats: Option<String>,
}

/// Which rows to list, newest slot first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only this job.
    pub job: Option<String>,
    /// Only this state.
    pub state: Option<RunState>,
    /// Only slots from this instant on.
    pub from: Option<DateTime<Utc>>,
    /// Only slots before this instant.
    pub to: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: u32,
}

/// Far beyond every slot, and within what both engines can compare as text.
const END_OF_TIME: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).unwrap();

impl Store {
    /// What became of the slots of `job` in `[from, to)` that have a row.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn slots_with_rows(
        &self,
        job: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<BTreeMap<DateTime<Utc>, JobRun>, StoreError> {
        const SQL: &str = "SELECT * FROM job_runs WHERE job = $1 AND scheduled_for >= $2 AND scheduled_for < $3";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), JobRun, SQL, [job, from, to], fetch_all)?;
        Ok(rows.into_iter().map(|run| (run.scheduled_for, run)).collect())
    }

    /// The newest slot of each job that the schedule has decided.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decided_slots(&self) -> Result<HashMap<String, DateTime<Utc>>, StoreError> {
        const SQL: &str = "SELECT job, MAX(scheduled_for) FROM job_runs WHERE origin IN ('scheduled', 'catchup') \
             GROUP BY job";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String, DateTime<Utc>), SQL, [], fetch_all)?;
        Ok(rows.into_iter().collect())
    }

    /// When the ledger was last written, by the clock of whoever wrote it; `None` while it is empty.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_written(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        const SQL: &str = "SELECT MAX(claimed_at) FROM job_runs";
        let mut connection = self.reader().await?;
        let (at,) = on!(connection.handle(), (Option<DateTime<Utc>>,), SQL, [], fetch_one)?;
        Ok(at)
    }

    /// The runs that wait or are under way, oldest slot first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_runs(&self) -> Result<Vec<JobRun>, StoreError> {
        const SQL: &str =
            "SELECT * FROM job_runs WHERE state IN ('queued', 'running') ORDER BY scheduled_for, id LIMIT 20000";
        let mut connection = self.reader().await?;
        on!(connection.handle(), JobRun, SQL, [], fetch_all)
    }

    /// One row, and how its attempts ended, the first one first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run(&self, id: Uuid) -> Result<Option<(JobRun, Vec<Attempt>)>, StoreError> {
        const RUN: &str = "SELECT * FROM job_runs WHERE id = $1";
        const ATTEMPTS: &str = "SELECT n, fence, owner, started_at, finished_at, state, error FROM job_attempts WHERE run_id = $1 ORDER BY n";
        let mut connection = self.reader().await?;
        let Some(run) = on!(connection.handle(), JobRun, RUN, [id.to_string()], fetch_optional)? else {
            return Ok(None);
        };
        let attempts = on!(connection.handle(), Attempt, ATTEMPTS, [id.to_string()], fetch_all)?;
        Ok(Some((run, attempts)))
    }

    /// Rows of the ledger, newest slot first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Vec<JobRun>, StoreError> {
        const SQL: &str = "SELECT * FROM job_runs WHERE ($1 = '' OR job = $1) AND ($2 = '' OR state = $2) \
             AND scheduled_for >= $3 AND scheduled_for < $4 ORDER BY scheduled_for DESC, id DESC LIMIT $5";
        let mut connection = self.reader().await?;
        let job = filter.job.as_deref().unwrap_or_default();
        let state = filter.state.map_or("", RunState::name);
        let (from, to) = (filter.from.unwrap_or(DateTime::UNIX_EPOCH), filter.to.unwrap_or(END_OF_TIME));
        on!(connection.handle(), JobRun, SQL, [job, state, from, to, i64::from(filter.limit)], fetch_all)
    }

    /// How the newest runs of `job` that came to an end did so, newest end first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_ends(&self, job: &str, limit: u32) -> Result<Vec<RunState>, StoreError> {
        const SQL: &str = "SELECT state FROM job_runs WHERE job = $1 AND state IN ('ok', 'failed', 'lost') \
             ORDER BY scheduled_for DESC LIMIT $2";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String,), SQL, [job, i64::from(limit)], fetch_all)?;
        rows.into_iter().map(|(state,)| state.parse().map_err(StoreError::Unreadable)).collect()
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
}
