//! `POST /paypal/webhook/`: what PayPal tells. It is checked, stored and only then acknowledged; it takes effect afterwards.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use poem::http::{HeaderMap, StatusCode, header};
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Result, handler};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::App;
use super::cached::respond_now;
use super::error::Problem;
use super::guard::{check_operator, read_body, read_object};
use super::query::{Query, bad_parameter};
use crate::config::WebhookSource;
use crate::jobs::events::REFERRAL_PAID;
use crate::jobs::{NotStored, replay};
use crate::metrics;
use crate::store::{EventFilter, Intake, NewEvent, NewRefusal, StoreError};
use crate::webhooks::{Delivery, Envelope, Fault, Refusal, Verdict, standard};

/// How soon a sender may try again what could not be stored or decided.
const RETRY_SECONDS: u64 = 30;

/// Headers that are kept with a delivery.
const KEPT_HEADERS: &[&str] = &[
    "paypal-transmission-id",
    "paypal-transmission-time",
    "paypal-transmission-sig",
    "paypal-cert-url",
    "paypal-auth-algo",
    "paypal-auth-version",
    "correlation-id",
    "webhook-id",
    "webhook-timestamp",
    "content-type",
    "user-agent",
];

/// The longest value of a header that is kept, in characters.
const LONGEST_KEPT: usize = 1_024;

/// A delivery of PayPal.
#[handler]
pub async fn paypal(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_type(request.headers())?;
    let bytes = read_body(&app, body).await?;
    let headers = request.headers();
    let now = app.clock.now();
    let checked = async {
        let delivery = Delivery::read(|name| headers.get_all(name).iter().map(|value| value.as_bytes()).collect())?;
        let verdict = app.verifier.verify(&delivery, &bytes, now).await?;
        Ok((verdict, Envelope::read(&bytes)?))
    };
    let (verdict, envelope) = match checked.await {
        Ok(checked) => checked,
        Err(fault) => return Err(turn_away(&app, "paypal", &fault, headers, &bytes).into()),
    };
    let event = event_of("paypal", verdict, envelope, headers, &bytes, now);
    Ok(take_in(&app, "paypal", event).await?)
}

/// An event of one of the site's own senders.
#[handler]
pub async fn site(app: Data<&Arc<App>>, Path(name): Path<String>, request: &Request, body: Body) -> Result<Response> {
    let Some(source) = app.webhook_sources.iter().find(|source| source.name == name) else {
        return Err(Problem::not_found("there is no such source; name it in a [[webhook_source]]").into());
    };
    Ok(take_signed(&app, std::slice::from_ref(source), request, body, Envelope::read_of_site).await?)
}

/// The word that an invited account pays, signed by any of the site's own senders: an event like those at their own paths.
pub(super) async fn referral_paid(app: &App, request: &Request, body: Body) -> Result<Response, Problem> {
    let read = |bytes: &[u8]| Envelope::read_of_kind(bytes, REFERRAL_PAID);
    take_signed(app, &app.webhook_sources, request, body, read).await
}

/// Stores what one of these sources has signed.
async fn take_signed(
    app: &App,
    sources: &[WebhookSource],
    request: &Request,
    body: Body,
    read: impl Fn(&[u8]) -> Result<Envelope, Refusal>,
) -> Result<Response, Problem> {
    let headers = request.headers();
    check_type(headers)?;
    let bytes = read_body(app, body).await?;
    let now = app.clock.now();
    let checked =
        signer(sources, headers, &bytes, now).and_then(|(name, id)| Ok((name, Envelope { id, ..read(&bytes)? })));
    let (name, envelope) = match checked {
        Ok(checked) => checked,
        Err(refusal) => return Err(turn_away(app, "site", &refusal.into(), headers, &bytes)),
    };
    let event = event_of(name, Verdict::Hmac, envelope, headers, &bytes, now);
    take_in(app, "site", event).await
}

/// Which of these sources has signed a delivery, and the id that it gave it.
fn signer<'s>(
    sources: &'s [WebhookSource],
    headers: &HeaderMap,
    bytes: &[u8],
    now: DateTime<Utc>,
) -> Result<(&'s str, String), Refusal> {
    let values = |name| headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    let mut refusal = Refusal::new("signature", "there is no [[webhook_source]] whose signature it could be");
    for source in sources {
        match standard::check(values, bytes, &source.secrets, now) {
            Ok(id) => return Ok((&source.name, id)),
            Err(fault) => refusal = fault,
        }
    }
    Err(refusal)
}

fn event_of(
    source: &str,
    verdict: Verdict,
    envelope: Envelope,
    headers: &HeaderMap,
    bytes: &[u8],
    now: DateTime<Utc>,
) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        source: source.to_owned(),
        event_id: envelope.id,
        event_type: envelope.event_type,
        verdict: verdict.name(),
        payload_hash: hash_of(bytes),
        // It was read as JSON, so it is UTF-8.
        body: String::from_utf8_lossy(bytes).into_owned(),
        headers: kept(headers),
        created_at: envelope.created_at,
        received_at: now,
    }
}

/// Stores it and answers; 200 means that it is durable.
async fn take_in(app: &App, source: &'static str, event: NewEvent) -> Result<Response, Problem> {
    let (event_id, event_type) = (event.event_id.clone(), event.event_type.clone());
    let answer = match app.inbox.accept(event).await {
        Ok(Intake::Stored) => {
            metrics::webhook_received(source, "stored");
            tracing::info!(source, event_id, event_type, "an event was stored");
            json!({ "success": true, "idempotent": false })
        }
        Ok(Intake::Duplicate) => {
            metrics::webhook_received(source, "duplicate");
            json!({ "success": true, "idempotent": true })
        }
        Ok(Intake::Conflict) => {
            metrics::webhook_received(source, "conflict");
            tracing::error!(
                source,
                event_id,
                event_type,
                "another body came under the id of an earlier event; it takes no effect"
            );
            json!({ "success": true, "idempotent": true, "conflict": true })
        }
        Err(fault) => {
            metrics::webhook_received(source, "unavailable");
            let code = match fault {
                NotStored::Full => "busy",
                NotStored::Unavailable(_) => "database_unavailable",
            };
            return Err(Problem::unavailable(code, "the event could not be stored; send it again", RETRY_SECONDS));
        }
    };
    let response = Response::builder().header(header::CACHE_CONTROL, "no-store").content_type("application/json");
    Ok(response.body(answer.to_string()))
}

/// Tells why it was not let in, and keeps that for an operator.
fn turn_away(app: &App, source: &'static str, fault: &Fault, headers: &HeaderMap, bytes: &[u8]) -> Problem {
    let (outcome, problem) = match fault {
        Fault::Refused(Refusal { code, detail }) => {
            ("refused", Problem::new(StatusCode::BAD_REQUEST, code, detail.clone()))
        }
        Fault::Undecided { code, detail } => ("undecided", Problem::unavailable(code, detail.clone(), RETRY_SECONDS)),
    };
    metrics::webhook_received(source, outcome);
    metrics::webhook_refused(fault.code());
    tracing::warn!(source, code = fault.code(), error = %fault, "a delivery was not let in");
    app.inbox.refuse(NewRefusal {
        id: Uuid::now_v7(),
        source: source.to_owned(),
        code: fault.code().to_owned(),
        detail: fault.to_string(),
        payload_hash: hash_of(bytes),
        headers: kept(headers),
        received_at: app.clock.now(),
    });
    problem
}

/// `application/json`, with parameters or without.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    metrics::http_rejected("type");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", "send Content-Type: application/json"))
}

fn hash_of(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

fn kept(headers: &HeaderMap) -> String {
    let mut kept = serde_json::Map::new();
    for name in KEPT_HEADERS {
        if let Some(value) = headers.get(*name) {
            let text: String = String::from_utf8_lossy(value.as_bytes()).chars().take(LONGEST_KEPT).collect();
            // Whoever sends it decides what is in it, and one database cannot keep a zero.
            kept.insert((*name).to_owned(), text.replace('\0', "").into());
        }
    }
    serde_json::Value::Object(kept).to_string()
}

/// Events, newest first: `status`, `source`, `event_id`, `since`, `limit`.
#[handler]
pub async fn list(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    let query = Query::of(request.uri(), &["status", "source", "event_id", "since", "limit"])?;
    let limit = query.limit(100, MOST_ROWS)?;
    let filter = EventFilter {
        source: query.text("source").map(str::to_owned),
        status: query.parsed("status", "a state such as failed")?,
        event_id: query.text("event_id").map(str::to_owned),
        since: query.parsed("since", "an instant such as 2027-03-15T14:00:00Z")?,
        limit,
    };
    let events = app.store.list_events(&filter).await.map_err(|fault| database_away(&fault))?;
    let backlog = app.store.events_backlog().await.map_err(|fault| database_away(&fault))?;
    Ok(respond_now(&json!({ "webhooks": events, "backlog": backlog })))
}

/// One event, with what was sent.
#[handler]
pub async fn show(app: Data<&Arc<App>>, Path(id): Path<String>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    Query::of(request.uri(), &[])?;
    let found = app.store.event(&id).await.map_err(|fault| database_away(&fault))?;
    let found = found.ok_or_else(|| Problem::not_found("there is no such event"))?;
    let mut whole = serde_json::to_value(&found.row).unwrap_or_default();
    let parsed = |text: Option<String>| text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    whole["effect"] = json!(parsed(found.row.effect));
    whole["headers"] = json!(parsed(found.headers));
    whole["body"] = json!(found.body);
    Ok(respond_now(&whole))
}

/// Applies events again.
#[handler]
pub async fn again(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_operator(&app, request)?;
    let asked: replay::Request = read_object(&app, body).await?;
    let (store, now) = (app.store.clone(), app.clock.now());
    let done = replay::replay(&store, &asked, now).await.map_err(|fault| match fault {
        replay::Refusal::Misuse(detail) => bad_parameter(&detail),
        replay::Refusal::NotFound(detail) => Problem::not_found(detail),
        replay::Refusal::Store(fault) => database_away(&fault),
    })?;
    if !done.dry_run {
        tracing::info!(events = done.replayed, "an operator has events applied again");
        app.inbox.nudge().notify_one();
    }
    Ok(respond_now(&done))
}

/// The most rows of one answer.
const MOST_ROWS: u32 = 1_000;

fn database_away(fault: &StoreError) -> Problem {
    tracing::error!(error = %fault, "an operator's call about the inbox failed");
    let detail = "the database does not answer; nothing is half-done";
    Problem::unavailable("database_unavailable", detail, RETRY_SECONDS)
}
