//! Whether the daemon lives, is ready, has started; and each part of it, with the reason where it is not well.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{Response, handler};
use serde::Serialize;

use super::App;
use crate::ops::systemd::prove_work;

#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component<'a>>,
}

/// A part of the daemon.
#[derive(Debug, Serialize)]
pub struct Component<'a> {
    /// Which.
    pub name: &'a str,
    /// Whether it is well.
    pub ok: bool,
    /// If not, why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What an operator runs to look closer.
    pub look: &'static str,
}

/// The process answers; restarting it would not help whatever else is wrong.
#[handler]
pub fn livez() -> Response {
    respond(StatusCode::OK, "ok", Vec::new())
}

/// The start is over.
#[handler]
pub fn startupz(app: Data<&Arc<App>>) -> Response {
    match app.lifecycle.is_started() {
        true => respond(StatusCode::OK, "started", Vec::new()),
        false => respond(StatusCode::SERVICE_UNAVAILABLE, "starting", Vec::new()),
    }
}

/// Requests can be sent here: the planner works, the database answers, there is data to serve, and the end has not begun.
#[handler]
pub async fn readyz(app: Data<&Arc<App>>) -> Response {
    let components = components(&app).await;
    let blocking: Vec<_> = components
        .into_iter()
        .filter(|part| !part.ok && ![FRESHNESS, INGESTION, CALENDAR].contains(&part.name))
        .collect();
    match blocking.is_empty() {
        true => respond(StatusCode::OK, "ready", Vec::new()),
        false => respond(StatusCode::SERVICE_UNAVAILABLE, "not ready", blocking),
    }
}

/// Every part, well or not.
#[handler]
pub async fn detailed(app: Data<&Arc<App>>) -> Response {
    let components = components(&app).await;
    let well = components.iter().all(|part| part.ok);
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(status, if well { "healthy" } else { "degraded" }, components)
}

/// Stale data is told to readers in every answer; it is no reason to send them elsewhere.
const FRESHNESS: &str = "freshness";

/// What operators should look after while the numbers are right.
const INGESTION: &str = "ingestion";

/// An operator's file with a mistake in it leaves the calendar as it was: somebody must mend it, and everything goes on.
const CALENDAR: &str = "calendar";

/// The fault itself may quote the file, which is not for everybody.
const CALENDAR_FAULT: &str = "an operator's file or exception is not in force; the log says why";

/// Each part, well or not.
pub async fn components(app: &App) -> Vec<Component<'static>> {
    let part = |name, fault: Option<String>, look| Component { name, ok: fault.is_none(), detail: fault, look };
    let life = if app.lifecycle.is_draining() {
        Some("shutting down".to_owned())
    } else {
        (!app.lifecycle.is_started()).then(|| "starting".to_owned())
    };
    let work = prove_work(&app.scheduler, &app.store, &app.clock).await.err();
    let why = app.market.why(app.clock.now());
    let verdict = why.verdict();
    let no_data = app.board.current().is_none().then(|| verdict.cause.clone().unwrap_or_default());
    // What is for operators alone: a breaker, the quota, the store, the universe.
    let others = why.findings.iter().filter(|finding| !finding.code.concerns_readers());
    let others: Vec<&str> = others.map(|finding| finding.sentence.as_str()).collect();
    let others = (!others.is_empty()).then(|| others.join("; "));
    vec![
        part("lifecycle", life, "bellwether status"),
        part("scheduler_and_database", work, "bellwether runs ls"),
        part("market_data", no_data, "bellwether ingest why"),
        part(CALENDAR, app.calendars.fault().map(|_| CALENDAR_FAULT.to_owned()), "bellwether doctor calendar"),
        part(FRESHNESS, verdict.stale.then_some(verdict.cause.unwrap_or_default()), "bellwether ingest why"),
        part(INGESTION, others, "bellwether doctor ingestion"),
    ]
}

fn respond(code: StatusCode, status: &'static str, components: Vec<Component<'_>>) -> Response {
    let health = Health { status, version: env!("CARGO_PKG_VERSION"), components };
    let body = serde_json::to_vec(&health).unwrap_or_default();
    let response = Response::builder().status(code).header(header::CACHE_CONTROL, "no-store");
    response.content_type("application/json").body(body)
}
