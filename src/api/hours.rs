//! `GET /api/market-hours/`: the phase, the session, what comes next, and why.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use poem::http::header;
use poem::web::Data;
use poem::{Response, Result, handler};
use serde::Serialize;

use super::App;
use crate::calendar::{At, Calendar, DayKind, Phase};

#[derive(Serialize)]
struct Hours<'a> {
    #[serde(flatten)]
    at: At,
    local: String,
    is_open: bool,
    today: Today<'a>,
    calendar_hash: &'a str,
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
    let calendar = app.calendar.load();
    let body = render(&calendar, now);
    let next = calendar.at(now).next_transition;
    // The answer names the present instant, so it is kept for a moment only, and never past the next transition.
    let max_age = (next - now).min(TimeDelta::seconds(5)).num_seconds().max(0);
    let response = Response::builder().header(header::CACHE_CONTROL, format!("public, max-age={max_age}"));
    Ok(response.content_type("application/json").body(body))
}

fn render(calendar: &Calendar, now: DateTime<Utc>) -> Vec<u8> {
    let at = At::ask(calendar, now);
    let local = now.with_timezone(&calendar.zone());
    let day = calendar.why(local.date_naive());
    let session = calendar.session(day.date);
    let hours = Hours {
        is_open: at.phase == Phase::Regular,
        at,
        local: local.to_rfc3339(),
        today: Today {
            date: day.date,
            is_session: day.is_session,
            kind: day.kind,
            reason: day.reason.as_deref(),
            open: session.as_ref().map(|session| session.open),
            close: session.as_ref().map(|session| session.close),
        },
        calendar_hash: calendar.hash(),
    };
    serde_json::to_vec(&hours).unwrap_or_default()
}
