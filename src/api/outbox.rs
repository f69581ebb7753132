//! Letters, for operators: what waits, what became of each, and another try.

use std::sync::Arc;

use poem::web::{Data, Path};
use poem::{Body, Request, Response, Result, handler};
use serde_json::{Value, json};

use super::App;
use super::cached::respond_now;
use super::error::Problem;
use super::guard::{check_operator, read_object};
use super::query::{Query, bad_parameter};
use crate::jobs::outbox::{RetryRefusal, RetryRequest, retry};
use crate::mail::Letter;
use crate::store::StoreError;

/// How soon a caller may try again when the database is away.
const RETRY_SECONDS: u64 = 30;

/// The most rows of one answer.
const MOST_ROWS: u32 = 1_000;

/// Letters, oldest first: `state`, `limit`.
#[handler]
pub async fn list(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    let query = Query::of(request.uri(), &["state", "limit"])?;
    let limit = query.limit(100, MOST_ROWS)?;
    let state = query.parsed("state", "a state such as failed")?;
    let letters = app.store.letters(state, limit).await.map_err(|fault| database_away(&fault))?;
    let backlog = app.store.letter_backlog().await.map_err(|fault| database_away(&fault))?;
    Ok(respond_now(&json!({ "letters": letters, "backlog": backlog })))
}

/// One letter, with its words.
#[handler]
pub async fn show(app: Data<&Arc<App>>, Path(id): Path<String>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    Query::of(request.uri(), &[])?;
    let found = app.store.letter(&id).await.map_err(|fault| database_away(&fault))?;
    let row = found.ok_or_else(|| Problem::not_found("there is no such letter"))?;
    let details: Value = serde_json::from_str(&row.details).unwrap_or_default();
    let letter = Letter::of(&row.step, &details, &app.site.frontend_url);
    let mut whole = serde_json::to_value(&row).unwrap_or_default();
    whole["subject"] = json!(letter.as_ref().map(|letter| letter.subject));
    whole["text"] = json!(letter.as_ref().and_then(|letter| letter.plain().ok()));
    whole["html"] = json!(letter.as_ref().and_then(|letter| letter.html().ok()));
    Ok(respond_now(&whole))
}

/// Lets letters wait for their turn again.
#[handler]
pub async fn again(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_operator(&app, request)?;
    let asked: RetryRequest = read_object(&app, body).await?;
    let done = retry(&app.store, &asked, app.clock.now()).await.map_err(|fault| match fault {
        RetryRefusal::Misuse(detail) => bad_parameter(&detail),
        RetryRefusal::NotFound(_) => Problem::not_found(fault.to_string()),
        RetryRefusal::Store(fault) => database_away(&fault),
    })?;
    if !done.dry_run {
        tracing::info!(letters = done.retried, "an operator lets letters wait for their turn again");
    }
    Ok(respond_now(&done))
}

fn database_away(fault: &StoreError) -> Problem {
    tracing::error!(error = %fault, "an operator's call about letters failed");
    let detail = "the database does not answer; nothing is half-done";
    Problem::unavailable("database_unavailable", detail, RETRY_SECONDS)
}
