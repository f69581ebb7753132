//! `/api/v1/calendar/{mic}/exceptions`: what was decided about single dates. Everybody may read; operators add and withdraw.

use std::sync::Arc;

use chrono::NaiveDate;
use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Body, Request, Response, Result, handler};
use serde::Serialize;
use uuid::Uuid;

use super::App;
use super::cached::respond_now;
use super::calendar;
use super::error::Problem;
use super::guard::{check_operator, read_body};
use super::query::{Query, bad_parameter};
use crate::calendar::{Calendars, Change, ExceptionKind, Origin, Written};
use crate::ops::calendars::{CalendarFault, Changed};
use crate::store::ExceptionRow;

/// How soon an operator may try again when the database is away.
const RETRY_DATABASE_SECONDS: u64 = 10;

#[derive(Serialize)]
struct Row {
    /// Only rows that came over HTTP have one, and only those can be withdrawn here.
    id: Option<Uuid>,
    origin: Origin,
    /// Why the row has no effect, where it has none: it does not fit the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
    #[serde(flatten)]
    written: Written,
}

#[derive(Serialize)]
struct List {
    exchange: String,
    exceptions: Vec<Row>,
    /// Whether everything an operator wants is in force.
    in_order: bool,
    /// Why not, for operators: it may quote their file.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    calendar_version: String,
    calendar_hash: String,
}

#[derive(Serialize)]
struct Answer {
    success: bool,
    dry_run: bool,
    id: Option<Uuid>,
    exception: Written,
    changes: Vec<Change>,
    calendar_version: String,
    calendar_hash: String,
}

/// Every exception of a venue, built in, of the file and sent over HTTP, in order of date; `from` and `to` cut the list.
#[handler]
pub async fn list(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    let query = Query::of(request.uri(), &["from", "to", "origin"])?;
    let venue = venue(&app, &mic)?;
    let from = query.parsed("from", "a date such as 2027-03-15")?.unwrap_or(NaiveDate::MIN);
    let to = query.parsed("to", "a date such as 2027-03-15")?.unwrap_or(NaiveDate::MAX);
    let origin: Option<Origin> = query.parsed("origin", "built_in, file or api")?;
    let (rows, left_out, all) = (app.calendars.rows().await, app.calendars.left_out(), app.calendar.all());
    let exceptions = all.exceptions_of(&venue).into_iter();
    let exceptions = exceptions.filter(|exception| (from..=to).contains(&exception.date));
    let exceptions =
        exceptions.filter(|exception| origin.is_none_or(|origin| exception.origin == origin)).map(|exception| {
            let written = exception.written();
            let stored = rows.iter().find(|row| exception.origin == Origin::Api && row.written == written);
            Row { id: stored.map(|row| row.id), origin: exception.origin, left_out: None, written }
        });
    // What does not fit is in no calendar, and must be found to be withdrawn.
    let unfit = left_out.iter().filter_map(|left| {
        let row = rows.iter().find(|row| row.id == left.id && is_about(&all, row, &venue))?;
        let (id, why) = (Some(row.id), Some(left.mistake.message.clone()));
        Some(Row { id, origin: Origin::Api, left_out: why, written: row.written.clone() })
    });
    let calendar = all.of(&venue).unwrap_or_else(|| app.calendar.load());
    let fault = app.calendars.fault();
    let list = List {
        exceptions: exceptions.chain(unfit).collect(),
        exchange: venue,
        in_order: fault.is_none(),
        fault: fault.filter(|_| check_operator(&app, request).is_ok()),
        calendar_version: calendar.version().to_owned(),
        calendar_hash: calendar.hash().to_owned(),
    };
    Ok(respond_now(&list))
}

/// Whether a row is told of the venue itself, or of the market it belongs to.
fn is_about(all: &Calendars, row: &ExceptionRow, venue: &str) -> bool {
    row.written.venue == venue || all.is_of_market(venue, &row.written.venue)
}

/// Adds an exception; 201, or 200 when the same words are in force already. `dry_run=true` only says what it would change.
#[handler]
pub async fn add(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request, body: Body) -> Result<Response> {
    check_operator(&app, request)?;
    let dry_run = dry_run(request, &["dry_run"])?;
    let venue = venue(&app, &mic)?;
    let bytes = read_body(&app, body).await?;
    // A list would be read as the members in order.
    let object = bytes.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice::<Written>(&bytes));
    let written = match object {
        Some(Ok(written)) => written,
        Some(Err(fault)) => return Err(bad_body(&fault.to_string()).into()),
        None => return Err(bad_body("it is not an object").into()),
    };
    if !written.venue.is_empty() && !written.venue.eq_ignore_ascii_case(&venue) {
        return Err(bad_body(&format!("venue is {:?}, the path names {venue}", written.venue)).into());
    }
    let now = app.clock.now();
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let declared_at = or(written.declared_at, &now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    let author = or(written.author, "operator");
    let written = Written { venue, declared_at, author, ..written };
    let changed = app.calendars.add(written, dry_run).await.map_err(problem)?;
    let status = if changed.repeated || dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok(answer(&app, &mic, changed, status, dry_run))
}

/// Withdraws an exception that came over HTTP: by `id`, or by `date` and, where there are several, `kind`.
#[handler]
pub async fn withdraw(app: Data<&Arc<App>>, Path(mic): Path<String>, request: &Request) -> Result<Response> {
    check_operator(&app, request)?;
    let query = Query::of(request.uri(), &["id", "date", "kind", "dry_run"])?;
    let venue = venue(&app, &mic)?;
    let date: Option<NaiveDate> = query.parsed("date", "a date such as 2027-03-15")?;
    let kind: Option<ExceptionKind> = query.parsed("kind", "a kind of exception such as early_close")?;
    let id = match (query.parsed::<Uuid>("id", "the id of an exception")?, date) {
        (Some(id), None) => id,
        (None, Some(date)) => {
            let rows = app.calendars.rows().await;
            let named = |row: &&ExceptionRow| {
                let written = &row.written;
                written.venue == venue
                    && written.date == date.to_string()
                    && kind.is_none_or(|kind| written.kind == kind.name())
            };
            match rows.iter().filter(named).collect::<Vec<_>>().as_slice() {
                [row] => row.id,
                [] => return Err(problem(CalendarFault::Unknown).into()),
                several => {
                    let detail = format!("{} exceptions of {date} are in force; name one by kind or id", several.len());
                    return Err(bad_parameter(&detail).into());
                }
            }
        }
        _ => return Err(bad_parameter("name the exception by id, or by date and kind").into()),
    };
    withdraw_row(&app, &mic, &venue, id, dry_run(request, &["id", "date", "kind", "dry_run"])?).await
}

/// Withdraws the exception `id`.
#[handler]
pub async fn withdraw_by_id(
    app: Data<&Arc<App>>,
    Path((mic, id)): Path<(String, String)>,
    request: &Request,
) -> Result<Response> {
    check_operator(&app, request)?;
    let dry_run = dry_run(request, &["dry_run"])?;
    let venue = venue(&app, &mic)?;
    let id = id.parse().map_err(|_| bad_parameter(&format!("{id:?} is not the id of an exception")))?;
    withdraw_row(&app, &mic, &venue, id, dry_run).await
}

async fn withdraw_row(app: &Arc<App>, mic: &str, venue: &str, id: Uuid, dry_run: bool) -> Result<Response> {
    // An id of another venue's row is nothing that is to be found here.
    let (rows, all) = (app.calendars.rows().await, app.calendar.all());
    match rows.iter().find(|row| row.id == id && is_about(&all, row, venue)) {
        None => return Err(problem(CalendarFault::Unknown).into()),
        Some(row) if row.written.venue != venue => {
            let of = &row.written.venue;
            let detail = format!("it is told of all venues of {of}: DELETE /api/v1/calendar/{of}/exceptions/{id}");
            return Err(Problem::new(StatusCode::CONFLICT, "conflict", detail).into());
        }
        Some(_) => {}
    }
    let changed = app.calendars.withdraw(id, dry_run).await.map_err(problem)?;
    Ok(answer(app, mic, changed, StatusCode::OK, dry_run))
}

/// The venue, or the market, that the path names.
fn venue(app: &App, mic: &str) -> Result<String, Problem> {
    let venue = mic.to_uppercase();
    if app.calendar.all().knows(&venue) {
        return Ok(venue);
    }
    calendar::of(app, mic).map(|_| venue)
}

fn dry_run(request: &Request, known: &[&str]) -> Result<bool, Problem> {
    let query = Query::of(request.uri(), known)?;
    Ok(query.parsed("dry_run", "true or false")?.unwrap_or(false))
}

fn answer(app: &App, mic: &str, changed: Changed, status: StatusCode, dry_run: bool) -> Response {
    // A market stands for all its venues; the one that drives the schedule then tells the version.
    let calendar = app.calendar.all().of(mic).unwrap_or_else(|| app.calendar.load());
    let kept = !dry_run || changed.repeated;
    let answer = Answer {
        success: true,
        dry_run,
        id: kept.then_some(changed.row.id),
        exception: changed.row.written,
        changes: changed.changes,
        calendar_version: calendar.version().to_owned(),
        calendar_hash: calendar.hash().to_owned(),
    };
    let mut response = respond_now(&answer);
    response.set_status(status);
    response
}

fn bad_body(fault: &str) -> Problem {
    let shape = "{\"date\", \"kind\", \"reason\"} with open, close, halt_start, halt_end, source, declared_at, author as needed";
    Problem::new(StatusCode::BAD_REQUEST, "bad_body", format!("the body must be {shape}, all texts: {fault}"))
}

fn problem(fault: CalendarFault) -> Problem {
    match fault {
        CalendarFault::Refused(told) => {
            let detail = told.mistakes.first().map(|mistake| format!("{}; fix: {}", mistake.message, mistake.fix));
            Problem::refused(detail.unwrap_or_default(), told.mistakes)
        }
        CalendarFault::Conflict(detail) => Problem::new(StatusCode::CONFLICT, "conflict", detail),
        CalendarFault::Unknown => Problem::not_found(fault.to_string()),
        CalendarFault::File { .. } => Problem::new(StatusCode::CONFLICT, "conflict", fault.to_string()),
        CalendarFault::Store(fault) => {
            tracing::error!(error = %fault, "an exception of the calendar could not be written");
            let detail = "the database does not answer; send it again: the same call changes nothing twice";
            Problem::unavailable("database_unavailable", detail, RETRY_DATABASE_SECONDS)
        }
    }
}
