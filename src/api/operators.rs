//! Who may use the console: for the command line, while this daemon has the file.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Result, handler};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::cached::respond_now;
use super::error::Problem;
use super::guard::{check_operator, read_object};
use super::query::{Query, bad_parameter};
use crate::jobs::operators::{Change, ChangeRefusal, change};
use crate::store::{Role, SESSIONS, StoreError};

/// How soon a caller may try again when the database is away.
const RETRY_SECONDS: u64 = 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    role: Role,
    password_hash: String,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reset {
    password_hash: String,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Remove {
    #[serde(default)]
    dry_run: bool,
}

/// Every operator, without the password.
#[handler]
pub async fn list(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    Query::of(request.uri(), &[])?;
    let operators = app.store.operators(SESSIONS, app.clock.now()).await.map_err(|fault| database_away(&fault))?;
    Ok(respond_now(&json!({ "operators": operators })))
}

/// Adds an operator.
#[handler]
pub async fn create(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_operator(&app, request)?;
    let Create { name, role, password_hash, dry_run } = read_object(&app, body).await?;
    act(&app, Change::Create { name, role, password_hash }, dry_run).await
}

/// Gives an operator another password.
#[handler]
pub async fn reset_password(
    app: Data<&Arc<App>>,
    Path(name): Path<String>,
    request: &Request,
    body: Body,
) -> Result<Response> {
    check_operator(&app, request)?;
    let Reset { password_hash, dry_run } = read_object(&app, body).await?;
    act(&app, Change::ResetPassword { name, password_hash }, dry_run).await
}

/// Takes an operator away.
#[handler]
pub async fn remove(app: Data<&Arc<App>>, Path(name): Path<String>, request: &Request, body: Body) -> Result<Response> {
    check_operator(&app, request)?;
    let Remove { dry_run } = read_object(&app, body).await?;
    act(&app, Change::Remove { name }, dry_run).await
}

async fn act(app: &App, wanted: Change, dry_run: bool) -> Result<Response> {
    let done = change(&app.store, wanted, dry_run, app.clock.now()).await.map_err(|fault| match fault {
        ChangeRefusal::Misuse(fault) => bad_parameter(&fault.to_string()),
        ChangeRefusal::NotFound(_) => Problem::not_found(fault.to_string()),
        ChangeRefusal::Exists(_) => Problem::new(StatusCode::CONFLICT, "conflict", fault.to_string()),
        ChangeRefusal::Store(fault) => database_away(&fault),
    })?;
    if !done.dry_run {
        tracing::info!(operator = done.name, action = done.action, "who may use the console was changed");
    }
    Ok(respond_now(&done))
}

fn database_away(fault: &StoreError) -> Problem {
    tracing::error!(error = %fault, "a call about operators failed");
    let detail = "the database does not answer; nothing is half-done";
    Problem::unavailable("database_unavailable", detail, RETRY_SECONDS)
}
