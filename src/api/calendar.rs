//! `/api/v1/calendar/{mic}/...`: what the calendar of a venue says. Any of the parameters `as_of` asks what was known then.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use poem::http::header;
use poem::web::{Data, Path};
use poem::{Request, Response, Result, handler};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::App;
use super::cached::respond_hashed;
use super::error::Problem;
use super::query::{Query, bad_parameter};
use crate::calendar::{About, At, Calendar, SessionRow, Why, icalendar};

const INSTANT: &str = "an RFC 3339 instant such as 2027-03-15T14:00:00Z";
const DATE: &str = "a date such as 2027-03-15";

/// How long an answer may be kept: an operator can change the calendar at any moment.
const MAX_AGE_SECONDS: i64 = 5;

/// How long a subscriber's feed may be kept.
const FEED_MAX_AGE_SECONDS: i64 = 3_600;

/// Sessions in one answer, where no fewer are asked for, and at most.
const PAGE: usize = 366;

/// The feed begins so many days back and goes so far ahead.
const FEED_DAYS: (i64, i64) = (31, 400);

/// The calendar of the venue in the path.
pub fn of(app: &App, mic: &str) -> Result<Arc<Calendar>, Problem> {
    let all = app.calendar.all();
    all.of(mic).ok_or_else(|| {
        let known = all.mics().collect::<Vec<_>>().join(", ");
        Problem::not_found(format!("there is no calendar of {mic:?}; there are {known}"))
    })
}

fn json(request: &Request, value: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    respond_hashed(request.headers(), "application/json", bytes, MAX_AGE_SECONDS)
}

#[derive(Serialize)]
struct Venues {
    venues: Vec<About>,
}

/// Every venue there is a calendar of.
#[handler]
pub fn venues(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    Ok(json(request, &Venues { venues: app.calendar.all().about().collect() }))
}

/// One venue: its zone, how far its holidays are published, and the version that answers.
#[handler]
pub fn venue(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    Ok(json(request, &of(&app, &mic)?.about()))
}

/// So many rehearsals are put together at a time: each compiles a few years anew.
static REHEARSALS: Semaphore = Semaphore::const_new(2);

/// The calendar a question is put to: the present one, or what was known at `as_of`.
async fn asked(app: &App, mic: &str, query: &Query) -> Result<Arc<Calendar>, Problem> {
    let present = of(app, mic)?;
    let Some(known_at) = query.parsed::<DateTime<Utc>>("as_of", INSTANT)? else { return Ok(present) };
    let (all, mic) = (app.calendar.all(), present.mic().to_owned());
    let _permit = REHEARSALS.acquire().await;
    let rehearsed = tokio::task::spawn_blocking(move || all.as_of(known_at).of(&mic)).await.ok().flatten();
    rehearsed.ok_or_else(|| bad_parameter("as_of: what was known by then does not fit together"))
}

/// Everything about an instant: `at` (or `t`, `instant`), now if not given.
#[handler]
pub async fn at(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    let query = Query::of(request.uri(), &["at", "t", "instant", "as_of"])?;
    let mut instant = None;
    for name in ["at", "t", "instant"] {
        instant = instant.or(query.parsed(name, INSTANT)?);
    }
    let calendar = asked(&app, &mic, &query).await?;
    Ok(json(request, &At::ask(&calendar, instant.unwrap_or_else(|| app.clock.now()))))
}

/// The next transition, opening and close after now, or after `after`.
#[handler]
pub async fn next(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    let query = Query::of(request.uri(), &["after", "as_of"])?;
    let after = query.parsed("after", INSTANT)?.unwrap_or_else(|| app.clock.now());
    Ok(json(request, &At::ask(&*asked(&app, &mic, &query).await?, after)))
}

/// Why a date is as it is.
#[handler]
pub async fn why(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    let query = Query::of(request.uri(), &["date", "as_of"])?;
    let calendar = asked(&app, &mic, &query).await?;
    let today = calendar.local_date(app.clock.now());
    let date = query.parsed("date", DATE)?.unwrap_or(today);
    Ok(json(request, &Why::from(calendar.why(date))))
}

#[derive(Serialize)]
struct Sessions {
    exchange: String,
    sessions: Vec<SessionRow>,
    /// The `from` of the next page; `null` on the last one.
    next_from: Option<NaiveDate>,
    calendar_version: String,
}

/// The sessions from `from` to `to`, both included; `limit` of them at most, and then where to go on.
#[handler]
pub async fn sessions(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    let query = Query::of(request.uri(), &["from", "to", "limit", "as_of"])?;
    let calendar = asked(&app, &mic, &query).await?;
    let (from, to): (NaiveDate, NaiveDate) = (query.needed("from", DATE)?, query.needed("to", DATE)?);
    if from > to {
        return Err(bad_parameter(&format!("from={from} is after to={to}")).into());
    }
    let limit = query.parsed("limit", "a whole number")?.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(bad_parameter(&format!("limit must be from 1 to {PAGE}")).into());
    }
    let mut found: Vec<_> = calendar.sessions(from, to).take(limit + 1).collect();
    let next_from = (found.len() > limit).then(|| found.pop()).flatten().map(|session| session.date);
    let sessions = found.into_iter().map(SessionRow::from).collect();
    let (exchange, calendar_version) = (calendar.mic().to_owned(), calendar.version().to_owned());
    Ok(json(request, &Sessions { exchange, sessions, next_from, calendar_version }))
}

/// An iCalendar of the sessions around now, to subscribe to.
#[handler]
pub fn feed(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    let calendar = of(&app, &mic)?;
    let today = calendar.local_date(app.clock.now());
    let (from, to) = (today - chrono::TimeDelta::days(FEED_DAYS.0), today + chrono::TimeDelta::days(FEED_DAYS.1));
    let text = icalendar(&calendar, calendar.sessions(from, to)).into_bytes();
    let mut response = respond_hashed(request.headers(), "text/calendar; charset=utf-8", text, FEED_MAX_AGE_SECONDS);
    let name = format!("inline; filename=\"{}.ics\"", calendar.mic().to_lowercase());
    if let Ok(name) = name.parse() {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}
