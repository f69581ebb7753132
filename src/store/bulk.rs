//! Many rows of the ledger in one statement: arrays on PostgreSQL, where one text serves any number of rows;
//! lists of values on SQLite, which has no arrays and no round trips.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, QueryBuilder, Sqlite};

use super::dialect::{Connection, Handle, Tx, on, within};
use super::instances::PLANNER;
use super::{Finish, NewRun, RunState, StoreError, Term};

/// Rows of one statement on SQLite: well below its 32,766 variables.
const ROWS_AT_ONCE: usize = 500;

/// Columns of one row there.
const COLUMNS: usize = 20;

/// What the row is called that says that the term holds; no run has this id.
const OFFICE: &str = "office";

/// What a claim writes on PostgreSQL, as far as `office` says that its writer may. Arrays are taken apart beside each other in a list
/// of columns, not in FROM, where each of them would be written into a table of its own first; what follows from the state is no array.
macro_rules! rows {
    () => {
        "INSERT INTO job_runs (id, job, scheduled_for, origin, state, reason, attempt, owner, claimed_at, \
         started_at, next_attempt_at, finished_at, late_us, deadline, session_date, phase, calendar_version, \
         tzdb_version, trace_id, fence) \
         SELECT id, job, scheduled_for, origin, state, reason, CASE WHEN state = 'running' THEN 1 ELSE 0 END, owner, \
         claimed_at, CASE WHEN state = 'running' THEN claimed_at END, next_attempt_at, \
         CASE WHEN state NOT IN ('running', 'queued') THEN claimed_at END, late_us, deadline, session_date, phase, \
         calendar_version, $14::TEXT, trace_id, epoch FROM (SELECT UNNEST($1::TEXT[]) AS id, UNNEST($2::TEXT[]) AS job, \
         UNNEST($3::TIMESTAMPTZ[]) AS scheduled_for, UNNEST($4::TEXT[]) AS origin, UNNEST($5::TEXT[]) AS state, \
         UNNEST($6::TEXT[]) AS reason, UNNEST($7::TEXT[]) AS owner, UNNEST($8::TIMESTAMPTZ[]) AS claimed_at, \
         UNNEST($9::TIMESTAMPTZ[]) AS next_attempt_at, UNNEST($10::BIGINT[]) AS late_us, \
         UNNEST($11::TIMESTAMPTZ[]) AS deadline, UNNEST($12::DATE[]) AS session_date, UNNEST($13::TEXT[]) AS phase, \
         UNNEST($15::TEXT[]) AS calendar_version, UNNEST($16::TEXT[]) AS trace_id, epoch FROM office) AS slots "
    };
}

/// A planner may write while it holds the lease.
macro_rules! as_planner {
    () => {
        "WITH office AS (SELECT epoch FROM leases WHERE name = $18 AND owner = $19 AND epoch = $17 \
         AND expires_at > clock_timestamp() FOR SHARE)"
    };
}

/// Leaves slots alone that have a row.
macro_rules! where_new {
    ($office:expr) => {
        concat!(
            $office,
            ", claimed AS (",
            rows!(),
            "ON CONFLICT (job, scheduled_for) DO NOTHING RETURNING id) \
             SELECT id FROM claimed UNION ALL SELECT 'office' FROM office"
        )
    };
}

/// The statements that insert rows, on SQLite.
pub(super) fn inserts_sqlite(rows: &[NewRun], fence: i64) -> Vec<QueryBuilder<Sqlite>> {
    rows.chunks(ROWS_AT_ONCE).map(|rows| insert_runs(rows, fence)).collect()
}

/// Inserts rows and gives the ids of those whose slots had none, in the transaction at hand.
pub(super) async fn insert_sqlite(
    tx: &mut Tx,
    inserts: Vec<QueryBuilder<Sqlite>>,
) -> Result<Vec<(String,)>, StoreError> {
    let Handle::Sqlite(connection, deadline) = tx.handle() else { return Ok(Vec::new()) };
    let mut written = Vec::new();
    for mut insert in inserts {
        let query = insert.build_query_as::<(String,)>();
        written.extend(within(deadline, query.fetch_all(&mut *connection)).await?);
    }
    Ok(written)
}

/// Inserts rows and gives the ids of those whose slots had none: one statement, in which `term` holds where it is given.
///
/// A planner's slots are new to the ledger but for a twin or a restart, and looking first whether they are takes the server a third of
/// the time of a claim. So they are written as new ones, and looked for only where one of them was not.
///
/// # Errors
/// When the database fails, and [`StoreError::Deposed`]; then nothing was written.
pub(super) async fn insert_postgres(
    connection: &mut Connection,
    rows: &[NewRun],
    term: Option<&Term>,
) -> Result<Vec<(String,)>, StoreError> {
    const NEW: &str = concat!(as_planner!(), " ", rows!());
    const AS_PLANNER: &str = where_new!(as_planner!());
    const AS_ANYBODY: &str =
        where_new!("WITH office AS (SELECT $17::BIGINT AS epoch WHERE $18::TEXT || $19::TEXT <> '')");
    let Handle::Postgres(mut session, route) = connection.handle() else { return Ok(Vec::new()) };
    if term.is_some() {
        let query = sqlx::query_with(NEW, arguments(rows, term)?).persistent(!route.pooled);
        let first = session.again();
        match on!(@postgres first, route, query, execute) {
            Ok(done) if done.rows_affected() == 0 => return Err(StoreError::Deposed),
            Ok(_) => return Ok(rows.iter().map(|run| (run.id.to_string(),)).collect()),
            Err(StoreError::Database(fault)) if is_known_slot(&fault) => {}
            Err(fault) => return Err(fault),
        }
    }
    let sql = if term.is_some() { AS_PLANNER } else { AS_ANYBODY };
    let query = sqlx::query_as_with::<_, (String,), _>(sql, arguments(rows, term)?).persistent(!route.pooled);
    let mut written = on!(@postgres session, route, query, fetch_all)?;
    let before = written.len();
    written.retain(|(id,)| id != OFFICE);
    if written.len() == before { Err(StoreError::Deposed) } else { Ok(written) }
}

/// A slot of them has a row.
fn is_known_slot(fault: &sqlx::Error) -> bool {
    fault.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// What is bound, in the order of its numbers.
fn arguments(rows: &[NewRun], term: Option<&Term>) -> Result<PgArguments, StoreError> {
    let (owner, epoch) = term.map_or(("nobody", 0), |term| (term.owner.as_str(), term.epoch));
    let mut all = PgArguments::default();
    let bound = (|| {
        all.add(rows.iter().map(|run| run.id.to_string()).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.job).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.scheduled_for).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.origin.name()).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.state.name()).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.reason.as_deref()).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.owner.as_str()).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.claimed_at).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.next_attempt_at).collect::<Vec<_>>())?;
        all.add(rows.iter().map(late_us).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.deadline).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.session_date).collect::<Vec<Option<NaiveDate>>>())?;
        all.add(rows.iter().map(|run| run.phase.as_str()).collect::<Vec<_>>())?;
        all.add(chrono_tz::IANA_TZDB_VERSION)?;
        all.add(rows.iter().map(|run| run.calendar_version.as_str()).collect::<Vec<_>>())?;
        all.add(rows.iter().map(|run| run.trace_id.as_str()).collect::<Vec<_>>())?;
        all.add(epoch)?;
        all.add(PLANNER)?;
        all.add(owner)
    })();
    bound.map_err(|fault| StoreError::Database(sqlx::Error::Encode(fault)))?;
    Ok(all)
}

/// Ends attempts and gives the ids of the runs that were theirs to end, in the transaction at hand.
pub(super) async fn finish_sqlite(tx: &mut Tx, ends: &[Finish]) -> Result<Vec<(String,)>, StoreError> {
    let Handle::Sqlite(connection, deadline) = tx.handle() else { return Ok(Vec::new()) };
    let mut changed = Vec::new();
    for ends in ends.chunks(ROWS_AT_ONCE) {
        let mut update = update_runs(ends);
        let ids: Vec<(String,)> = within(deadline, update.build_query_as().fetch_all(&mut *connection)).await?;
        let theirs: HashSet<&str> = ids.iter().map(|(id,)| id.as_str()).collect();
        let ended: Vec<_> = ends.iter().filter(|end| theirs.contains(end.run.to_string().as_str())).collect();
        if !ended.is_empty() {
            within(deadline, insert_attempts(&ended).build().execute(&mut *connection)).await?;
        }
        changed.extend(ids);
    }
    Ok(changed)
}

/// Ends attempts and gives the ids of the runs that were theirs to end: one statement. The state is asked for in a way that no index
/// answers: in a ledger without statistics the server would look for each of a thousand ids among all that is under way.
pub(super) async fn finish_postgres(
    connection: &mut Connection,
    ends: &[Finish],
) -> Result<Vec<(String,)>, StoreError> {
    const SQL: &str = "WITH ends AS (SELECT UNNEST($1::TEXT[]) AS run, UNNEST($2::INTEGER[]) AS attempt, \
         UNNEST($3::BIGINT[]) AS fence, UNNEST($4::TEXT[]) AS owner, UNNEST($5::TIMESTAMPTZ[]) AS started_at, \
         UNNEST($6::TIMESTAMPTZ[]) AS finished_at, UNNEST($7::TEXT[]) AS attempt_state, UNNEST($8::TEXT[]) AS state, \
         UNNEST($9::TIMESTAMPTZ[]) AS next_attempt_at, UNNEST($10::TIMESTAMPTZ[]) AS deadline, UNNEST($11::TEXT[]) AS reason, \
         UNNEST($12::TEXT[]) AS error, UNNEST($13::TEXT[]) AS stats), \
         changed AS (UPDATE job_runs SET state = ends.state, reason = COALESCE(ends.reason, job_runs.reason), \
         error = ends.error, stats = COALESCE(ends.stats, job_runs.stats), \
         finished_at = CASE WHEN ends.state <> 'queued' THEN ends.finished_at END, next_attempt_at = ends.next_attempt_at, \
         deadline = COALESCE(ends.deadline, job_runs.deadline), cancel_by = NULL \
         FROM ends WHERE job_runs.id = ends.run AND job_runs.attempt = ends.attempt AND job_runs.owner = ends.owner \
         AND COALESCE(job_runs.state, '') = 'running' RETURNING job_runs.id), \
         attempts AS (INSERT INTO job_attempts (run_id, n, fence, owner, started_at, finished_at, state, error) \
         SELECT run, attempt, fence, owner, started_at, finished_at, attempt_state, error FROM ends \
         WHERE run IN (SELECT id FROM changed) ON CONFLICT (run_id, n) DO NOTHING) \
         SELECT id FROM changed";
    let Handle::Postgres(session, route) = connection.handle() else { return Ok(Vec::new()) };
    let query = sqlx::query_as::<sqlx::Postgres, (String,)>(SQL)
        .bind(ends.iter().map(|end| end.run.to_string()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.attempt).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.fence).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.owner.as_str()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.started_at).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.finished_at).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.attempt_state.name()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.state.name()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.next_attempt_at).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.deadline).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.reason.as_deref()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.error.as_deref()).collect::<Vec<_>>())
        .bind(ends.iter().map(|end| end.stats.as_deref()).collect::<Vec<_>>())
        // The plan of many is made for how large the ledger is now, not for how large it was when the statement was new.
        .persistent(ends.len() == 1 && !route.pooled);
    on!(@postgres session, route, query, fetch_all)
}

fn attempt(run: &NewRun) -> i32 {
    i32::from(run.state == RunState::Running)
}

fn started_at(run: &NewRun) -> Option<DateTime<Utc>> {
    (run.state == RunState::Running).then_some(run.claimed_at)
}

/// What is neither begun nor waits is over.
fn finished_at(run: &NewRun) -> Option<DateTime<Utc>> {
    (!matches!(run.state, RunState::Running | RunState::Queued)).then_some(run.claimed_at)
}

fn late_us(run: &NewRun) -> i64 {
    (run.claimed_at - run.scheduled_for).num_microseconds().unwrap_or(i64::MAX)
}

fn insert_runs(rows: &[NewRun], fence: i64) -> QueryBuilder<Sqlite> {
    const { assert!(COLUMNS * ROWS_AT_ONCE < 32_766) };
    let mut insert = QueryBuilder::new(
        "INSERT INTO job_runs (id, job, scheduled_for, origin, state, reason, attempt, owner, claimed_at, started_at, \
         next_attempt_at, finished_at, late_us, deadline, session_date, phase, calendar_version, tzdb_version, fence, trace_id) ",
    );
    insert.push_values(rows, |mut row, run| {
        row.push_bind(run.id.to_string())
            .push_bind(run.job)
            .push_bind(run.scheduled_for)
            .push_bind(run.origin.name())
            .push_bind(run.state.name())
            .push_bind(run.reason.clone())
            .push_bind(attempt(run))
            .push_bind(run.owner.clone())
            .push_bind(run.claimed_at)
            .push_bind(started_at(run))
            .push_bind(run.next_attempt_at)
            .push_bind(finished_at(run))
            .push_bind(late_us(run))
            .push_bind(run.deadline)
            .push_bind(run.session_date)
            .push_bind(run.phase.clone())
            .push_bind(run.calendar_version.clone())
            .push_bind(chrono_tz::IANA_TZDB_VERSION)
            .push_bind(fence)
            .push_bind(run.trace_id.clone());
    });
    insert.push(" ON CONFLICT (job, scheduled_for) DO NOTHING RETURNING id");
    insert
}

fn update_runs(ends: &[Finish]) -> QueryBuilder<Sqlite> {
    let mut update = QueryBuilder::new(
        "WITH ends (run, attempt, owner, state, reason, error, stats, finished_at, next_attempt_at, deadline) AS (",
    );
    update.push_values(ends, |mut row, end| {
        row.push_bind(end.run.to_string())
            .push_bind(end.attempt)
            .push_bind(end.owner.clone())
            .push_bind(end.state.name())
            .push_bind(end.reason.clone())
            .push_bind(end.error.clone())
            .push_bind(end.stats.clone())
            .push_bind((end.state != RunState::Queued).then_some(end.finished_at))
            .push_bind(end.next_attempt_at)
            .push_bind(end.deadline);
    });
    update.push(
        ") UPDATE job_runs SET state = ends.state, reason = COALESCE(ends.reason, job_runs.reason), error = ends.error, \
         stats = COALESCE(ends.stats, job_runs.stats), finished_at = ends.finished_at, \
         next_attempt_at = ends.next_attempt_at, deadline = COALESCE(ends.deadline, job_runs.deadline), \
         cancel_by = NULL FROM ends WHERE job_runs.id = ends.run AND job_runs.attempt = ends.attempt \
         AND job_runs.owner = ends.owner AND job_runs.state = 'running' RETURNING job_runs.id",
    );
    update
}

fn insert_attempts(ended: &[&Finish]) -> QueryBuilder<Sqlite> {
    let mut insert =
        QueryBuilder::new("INSERT INTO job_attempts (run_id, n, fence, owner, started_at, finished_at, state, error) ");
    insert.push_values(ended, |mut row, end| {
        row.push_bind(end.run.to_string())
            .push_bind(end.attempt)
            .push_bind(end.fence)
            .push_bind(end.owner.clone())
            .push_bind(end.started_at)
            .push_bind(end.finished_at)
            .push_bind(end.attempt_state.name())
            .push_bind(end.error.clone());
    });
    insert.push(" ON CONFLICT (run_id, n) DO NOTHING");
    insert
}
