//! `POST /api/billing/process-renewals`: the renewal run, asked for over HTTP by whoever has the cron secret.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::App;
use super::cached::respond_now;
use super::error::Problem;
use super::guard::{check_cron_secret, read_body};
use super::query::bad_parameter;
use crate::jobs::OnDemandFault;
use crate::jobs::dunning::{Dunned, Reminded};
use crate::jobs::renewals::{Outcome, Renewed, Summary};
use crate::store::StoreError;

/// How soon a caller may try again when the database is away.
const RETRY_DATABASE_SECONDS: u64 = 10;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    limit: Option<u32>,
    dry_run: bool,
}

#[derive(Serialize)]
struct Answer {
    success: bool,
    dry_run: bool,
    run_id: Option<Uuid>,
    summary: Summary,
    count: usize,
    results: Vec<Outcome>,
}

/// Decides about due subscriptions, or says what would be decided (`dry_run`).
#[handler]
pub async fn process_renewals(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_cron_secret(&app, request)?;
    let (asked, limit) = read(&app, body).await?;
    let (run_id, renewed) = if asked.dry_run {
        (None, app.renewals_on_demand.rehearse(limit, None).await.map_err(|fault| database_away(&fault))?)
    } else {
        let (run_id, renewed) = run(&app, limit).await?;
        (Some(run_id), renewed)
    };
    // What could not be decided about, or was not reached, stays due, and whoever looks at nothing else is told.
    let success = renewed.fault().is_none();
    let Renewed { summary, results, .. } = renewed;
    let answer = Answer { success, dry_run: asked.dry_run, run_id, summary, count: results.len(), results };
    Ok(respond_now(&answer))
}

#[derive(Serialize)]
struct DunningAnswer {
    success: bool,
    dry_run: bool,
    processed: usize,
    notified: usize,
    summary: DunningSummary,
    count: usize,
    results: Vec<Reminded>,
}

#[derive(Serialize)]
struct DunningSummary {
    processed: usize,
    notified: usize,
}

/// Puts reminders that are due into the outbox, or says which (`dry_run`).
#[handler]
pub async fn process_dunning(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_cron_secret(&app, request)?;
    let (asked, limit) = read(&app, body).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let Dunned { processed, notified, results } =
        app.dunning.process(limit, asked.dry_run).await.map_err(|fault| database_away(&fault))?;
    let (dry_run, summary, count) = (asked.dry_run, DunningSummary { processed, notified }, results.len());
    let answer = DunningAnswer { success: true, dry_run, processed, notified, summary, count, results };
    Ok(respond_now(&answer))
}

async fn run(app: &App, limit: u32) -> Result<(Uuid, Renewed), Problem> {
    app.renewals_on_demand.run(limit, None).await.map_err(|fault| match fault {
        OnDemandFault::Twice => Problem::new(StatusCode::CONFLICT, "already_running", fault.to_string()),
        OnDemandFault::BrokeOff(..) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", fault.to_string()),
        OnDemandFault::NotBegun(fault) | OnDemandFault::Failed(_, fault) => database_away(&fault),
    })
}

/// What is asked for, and how many at most.
async fn read(app: &App, body: Body) -> Result<(Asked, u32), Problem> {
    let (asked, most) = (read_asked(app, body).await?, app.renewals.limit);
    let limit = asked.limit.unwrap_or(most);
    if !(1..=most).contains(&limit) {
        return Err(bad_parameter(&format!("limit must be a whole number from 1 to {most}")));
    }
    Ok((asked, limit))
}

async fn read_asked(app: &App, body: Body) -> Result<Asked, Problem> {
    let bytes = read_body(app, body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Asked::default());
    }
    let refused = |fault: &str| {
        let shape = "{\"limit\": number, \"dry_run\": true or false}";
        let detail = format!("the body must be {shape}, both optional: {fault}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_body", detail)
    };
    // A list would be read as the members in order, and an empty one as a real run that nobody asked for.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(refused("it is not an object"));
    }
    serde_json::from_slice(&bytes).map_err(|fault| refused(&fault.to_string()))
}

fn database_away(fault: &StoreError) -> Problem {
    tracing::error!(error = %fault, "renewals over HTTP failed");
    Problem::unavailable(
        "database_unavailable",
        "the database does not answer; nothing is half-done",
        RETRY_DATABASE_SECONDS,
    )
}
