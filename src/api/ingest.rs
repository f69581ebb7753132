//! `/api/v1/ingest/status` and `/api/v1/ingest/why`: the state of ingestion, and why the data is as it is. For everybody, as the
//! cause in each answer is: nothing in it is secret.

use std::sync::Arc;

use poem::http::header;
use poem::web::Data;
use poem::{Request, Response, Result, handler};
use serde::Serialize;

use super::App;
use super::query::Query;

/// The whole state.
#[handler]
pub fn status(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    Ok(respond(&app.market.status(app.clock.now())))
}

/// One sentence and its evidence.
#[handler]
pub fn why(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    Ok(respond(&app.market.why(app.clock.now())))
}

/// It tells of this very moment.
fn respond(value: &impl Serialize) -> Response {
    let response = Response::builder().header(header::CACHE_CONTROL, "no-store");
    response.content_type("application/json").body(serde_json::to_vec(value).unwrap_or_default())
}
