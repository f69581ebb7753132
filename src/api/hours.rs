//! `GET /api/market-hours/`: the phase, the session, what comes next, and why.

use std::sync::Arc;

use chrono::{DateTime, DurationRound, NaiveDate, TimeDelta, Utc};
use poem::web::Data;
use poem::{Request, Response, Result, handler};
use serde::Serialize;

use super::App;
use super::cached;
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

/// How long one answer is the answer to everybody.
const KEPT: TimeDelta = TimeDelta::minutes(1);

/// The market's hours. The answer names its instant: the beginning of the minute, or the present one where the market has gone
/// over to something else since. So it has one tag in a minute, is kept to its end, and never past the next transition.
#[handler]
pub fn market_hours(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    let now = app.clock.now();
    let calendar = app.calendar.load();
    let minute = now.duration_trunc(KEPT).unwrap_or(now);
    let at = if calendar.at(minute).next_transition > now { minute } else { now };
    let until = calendar.at(now).next_transition.min(minute + KEPT);
    let max_age = (until - now).num_seconds().max(0);
    Ok(cached::respond_hashed(request.headers(), cached::JSON, render(&calendar, at), max_age))
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
