//! `GET /api/market-hours/`: the phase, the session, what comes next, and why.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use poem::http::header;
use poem::web::Data;
use poem::{Response, Result, handler};
use serde::Serialize;

use super::App;
use crate::calendar::{Calendar, Confidence, DayKind, Phase};

#[derive(Serialize)]
struct Hours<'a> {
    exchange: &'a str,
    at: DateTime<Utc>,
    local: String,
    phase: Phase,
    is_open: bool,
    session: Option<NaiveDate>,
    next_transition: DateTime<Utc>,
    next_phase: Phase,
    next_open: DateTime<Utc>,
    next_close: DateTime<Utc>,
    is_early_close: bool,
    today: Today<'a>,
    confidence: Confidence,
    reason: Option<&'a str>,
    calendar_version: &'a str,
}

#[derive(Serialize)]
struct Today<'a> {
    date: NaiveDate,
    is_session: bool,
    kind: DayKind,
    reason: Option<&'a str>,
    open: Option<DateTime<Utc>>,
    close: Option<DateTime<Utc>>,
}

/// The market's hours as of now.
#[handler]
pub fn market_hours(app: Data<&Arc<App>>) -> Result<Response> {
    let now = app.clock.now();
    let body = render(&app.calendar, now);
    let next = app.calendar.at(now).next_transition;
    // The answer names the present instant, so it is kept for a moment only, and never past the next transition.
    let max_age = (next - now).min(TimeDelta::seconds(5)).num_seconds().max(0);
    let response = Response::builder().header(header::CACHE_CONTROL, format!("public, max-age={max_age}"));
    Ok(response.content_type("application/json").body(body))
}

fn render(calendar: &Calendar, now: DateTime<Utc>) -> Vec<u8> {
    let moment = calendar.at(now);
    let local = now.with_timezone(&calendar.zone());
    let day = calendar.day(local.date_naive());
    let session = calendar.session(day.date);
    let hours = Hours {
        exchange: calendar.mic(),
        at: now,
        local: local.to_rfc3339(),
        phase: moment.phase,
        is_open: moment.phase == Phase::Regular,
        session: moment.session,
        next_transition: moment.next_transition,
        next_phase: moment.next_phase,
        next_open: moment.next_open,
        next_close: moment.next_close,
        is_early_close: moment.is_early_close,
        today: Today {
            date: day.date,
            is_session: day.is_session,
            kind: day.kind,
            reason: day.reason.as_deref(),
            open: session.as_ref().map(|session| session.open),
            close: session.as_ref().map(|session| session.close),
        },
        confidence: moment.confidence,
        reason: moment.reason.as_deref().or(day.reason.as_deref()),
        calendar_version: calendar.version(),
    };
    serde_json::to_vec(&hours).unwrap_or_default()
}
