//! `/api/v1/jobs` and `/api/v1/runs`: the schedule and the ledger, for operators; the same verbs as on the command line.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Result, handler};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use super::App;
use super::cached::respond_now;
use super::error::Problem;
use super::guard::{check_operator, read_body};
use super::query::{Query, bad_parameter};
use crate::schedule::fires;
use crate::scheduler::{Operations, Refusal, Verb};
use crate::store::{RunFilter, RunState};

/// The most rows of one answer.
const MOST_ROWS: u32 = 1_000;

/// How soon an operator may try again when the database is away.
const RETRY_DATABASE_SECONDS: u64 = 10;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Pause {
    until: Option<DateTime<Utc>>,
    reason: Option<String>,
    dry_run: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Plain {
    dry_run: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Run {
    slot: Option<DateTime<Utc>>,
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backfill {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    max: Option<usize>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Retry {
    force: bool,
    dry_run: bool,
}

/// Every job: trigger, policies, pause, last success, next slot.
#[handler]
pub async fn jobs(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    Query::of(request.uri(), &[])?;
    let jobs = app.operations.jobs().await.map_err(problem)?;
    Ok(respond_now(&json!({ "jobs": jobs })))
}

/// The next fires of all jobs or of one: `limit`, `after`, `job`.
#[handler]
pub async fn next(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    let query = Query::of(request.uri(), &["limit", "after", "job"])?;
    let limit = query.limit(10, MOST_ROWS)?;
    let after = query.parsed("after", INSTANT)?.unwrap_or(app.clock.now());
    let mut table = app.operations.table.clone();
    if let Some(job) = query.text("job") {
        app.operations.spec(job).map_err(problem)?;
        table.retain(|spec| spec.name == job);
    }
    let calendar = app.calendar.load();
    let fires = fires(&table, &calendar, after, DateTime::<Utc>::MAX_UTC).take(limit as usize);
    let fires: Vec<_> = fires.map(|fire| json!({ "at": fire.slot, "job": fire.job })).collect();
    Ok(respond_now(&json!({ "next": fires, "calendar_version": calendar.version() })))
}

/// The slots of `[from, to)` that have no row in the ledger.
#[handler]
pub async fn verify(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    let query = Query::of(request.uri(), &["from", "to"])?;
    let (from, to) = (query.needed("from", INSTANT)?, query.needed("to", INSTANT)?);
    let (expected, missing) = app.operations.verify(from, to).await.map_err(problem)?;
    Ok(respond_now(&json!({ "expected": expected, "missing": missing })))
}

/// Leaves the slots of a job out.
#[handler]
pub async fn pause(app: Data<&Arc<App>>, Path(job): Path<String>, request: &Request, body: Body) -> Result<Response> {
    let Pause { until, reason, dry_run } = read(&app, request, body).await?;
    act(&app, &Verb::Pause { job, until, reason }, dry_run).await
}

/// Ends a pause.
#[handler]
pub async fn resume(app: Data<&Arc<App>>, Path(job): Path<String>, request: &Request, body: Body) -> Result<Response> {
    let Plain { dry_run } = read(&app, request, body).await?;
    act(&app, &Verb::Resume { job }, dry_run).await
}

/// Runs a job beside its schedule.
#[handler]
pub async fn run(app: Data<&Arc<App>>, Path(job): Path<String>, request: &Request, body: Body) -> Result<Response> {
    let Run { slot, dry_run } = read(&app, request, body).await?;
    act(&app, &Verb::Run { job, slot }, dry_run).await
}

/// Runs slots of the past.
#[handler]
pub async fn backfill(
    app: Data<&Arc<App>>,
    Path(job): Path<String>,
    request: &Request,
    body: Body,
) -> Result<Response> {
    let Backfill { from, to, max, force, dry_run } = read_needed(&app, request, body).await?;
    act(&app, &Verb::Backfill { job, from, to, max, force }, dry_run).await
}

/// Rows of the ledger, newest slot first: `job`, `state`, `from`, `to`, `limit`.
#[handler]
pub async fn runs(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    let query = Query::of(request.uri(), &["job", "state", "from", "to", "limit"])?;
    let filter = RunFilter {
        job: query.text("job").map(str::to_owned),
        state: query.parsed::<RunState>("state", "a state such as failed")?,
        from: query.parsed("from", INSTANT)?,
        to: query.parsed("to", INSTANT)?,
        limit: query.limit(100, MOST_ROWS)?,
    };
    let runs = app.store.list_runs(&filter).await.map_err(Refusal::from).map_err(problem)?;
    Ok(respond_now(&json!({ "runs": runs })))
}

/// One row and its attempts.
#[handler]
pub async fn show(app: Data<&Arc<App>>, Path(id): Path<String>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    Query::of(request.uri(), &[])?;
    let id = run_id(&id)?;
    let found = app.store.run(id).await.map_err(Refusal::from).map_err(problem)?;
    let (row, attempts) = found.ok_or_else(|| problem(Refusal::NoSuchRun(id)))?;
    Ok(respond_now(&json!({ "run": row, "attempts": attempts })))
}

/// Tries a run again.
#[handler]
pub async fn retry(app: Data<&Arc<App>>, Path(id): Path<String>, request: &Request, body: Body) -> Result<Response> {
    let Retry { force, dry_run } = read(&app, request, body).await?;
    act(&app, &Verb::Retry { id: run_id(&id)?, force }, dry_run).await
}

/// Ends a run.
#[handler]
pub async fn cancel(app: Data<&Arc<App>>, Path(id): Path<String>, request: &Request, body: Body) -> Result<Response> {
    let Plain { dry_run } = read(&app, request, body).await?;
    act(&app, &Verb::Cancel { id: run_id(&id)? }, dry_run).await
}

const INSTANT: &str = "an instant such as 2027-03-15T14:00:00Z";

fn run_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found("there is no such run"))
}

/// Does it in a task of its own: a caller that hangs up must not leave it half done.
async fn act(app: &Arc<App>, verb: &Verb, dry_run: bool) -> Result<Response> {
    let (operations, verb): (Operations, Verb) = (app.operations.clone(), verb.clone());
    let work = app.runs.spawn(async move {
        let answer = operations.perform(&verb, dry_run).await;
        if answer.is_ok() && !dry_run {
            tracing::info!(verb = ?verb, "an operator has changed the schedule over HTTP");
        }
        answer
    });
    let answer = work.await.map_err(|fault| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("the call broke off: {fault}"))
    })?;
    let answer = answer.map_err(problem)?;
    if !dry_run {
        app.planner.notify_one();
    }
    Ok(respond_now(&answer))
}

/// The body of an operator's call; an empty one is an object without members.
async fn read<T: DeserializeOwned + Default>(app: &App, request: &Request, body: Body) -> Result<T, Problem> {
    check_operator(app, request)?;
    let bytes = read_body(app, body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { parse(&bytes) }
}

pub(super) async fn read_needed<T: DeserializeOwned>(app: &App, request: &Request, body: Body) -> Result<T, Problem> {
    check_operator(app, request)?;
    parse(&read_body(app, body).await?)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let refused = |fault: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_body", format!("the body: {fault}"));
    // A list would be read as the members in order.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(refused("it is not an object"));
    }
    serde_json::from_slice(bytes).map_err(|fault| refused(&fault.to_string()))
}

fn problem(refusal: Refusal) -> Problem {
    match &refusal {
        Refusal::NoSuchJob { .. } | Refusal::NoSuchRun(_) => Problem::not_found(refusal.to_string()),
        Refusal::Conflict(_) => Problem::new(StatusCode::CONFLICT, "conflict", refusal.to_string()),
        Refusal::Misuse(_) => bad_parameter(&refusal.to_string()),
        Refusal::Store(fault) => {
            tracing::error!(error = %fault, "an operator's call failed");
            let detail = "the database does not answer; nothing is half-done";
            Problem::unavailable("database_unavailable", detail, RETRY_DATABASE_SECONDS)
        }
    }
}
