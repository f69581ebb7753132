//! `/api/v1/ingest/status` and `/api/v1/ingest/why`: the state of ingestion, and why the data is as it is. For everybody, as the
//! cause in each answer is: nothing in it is secret.

use std::sync::Arc;

use poem::web::Data;
use poem::{Request, Response, Result, handler};

use super::App;
use super::cached::respond_now;
use super::query::Query;

/// The whole state.
#[handler]
pub fn status(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    Ok(respond_now(&app.market.status(app.clock.now())))
}

/// One sentence and its evidence.
#[handler]
pub fn why(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    Ok(respond_now(&app.market.why(app.clock.now())))
}
