//! `POST /api/v1/ingest/backfill`: daily bars of the past from the provider, a unit a call.

use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use serde::Deserialize;

use super::App;
use super::cached::respond_now;
use super::error::Problem;
use super::schedule::read_needed;
use crate::jobs::{BackfillError, BackfillRequest};

/// The longest one unit may take, the waiting for the quota included; then the caller asks again.
const WITHIN: TimeDelta = TimeDelta::seconds(60);

/// How soon to ask again when the database or the provider fails.
const RETRY_SECONDS: u64 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    from: NaiveDate,
    to: NaiveDate,
    #[serde(default)]
    symbols: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

/// Takes the next unit of a backfill and says how far it is; called again until `done` is `units`. With `dry_run` only the plan.
#[handler]
pub async fn backfill(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    let Asked { from, to, symbols, dry_run } = read_needed(&app, request, body).await?;
    let asked = BackfillRequest { from, to, symbols };
    let plan = if dry_run {
        app.market.plan_backfill(&asked).await
    } else {
        app.market.backfill_next(&asked, app.clock.now() + WITHIN).await
    };
    let plan = plan.map_err(|fault| problem(&fault))?;
    Ok(respond_now(&plan))
}

fn problem(fault: &BackfillError) -> Problem {
    match fault {
        BackfillError::Misuse(detail) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "misuse", detail),
        BackfillError::Provider(_) => Problem::unavailable("provider_unavailable", fault.to_string(), RETRY_SECONDS),
        BackfillError::Store(_) => Problem::unavailable("store_unavailable", fault.to_string(), RETRY_SECONDS),
    }
}
