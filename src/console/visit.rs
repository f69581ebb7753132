//! Who is it, may they, and is the form one of ours: looked at before any page.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, Request, Response, Result};

use super::page::{Block, guarded, show_with};
use super::sign_in::{csrf_of, hash_of, is_same, session_of};
use super::{Console, SESSIONS};
use crate::api::{Problem, REQUEST_ID, read_body};
use crate::metrics;
use crate::store::{Role, StoreError};

/// A session that was used is written down so often at most.
const NOTED: TimeDelta = TimeDelta::minutes(1);

/// How soon somebody may try again when the database is away.
const RETRY_SECONDS: u64 = 10;

/// One request of somebody who is signed in.
#[derive(Debug)]
pub struct Visit {
    /// What the pages work with.
    pub console: Arc<Console>,
    /// Who.
    pub operator: String,
    /// What they may do.
    pub role: Role,
    /// What their forms carry.
    pub csrf: String,
    /// How the database knows their session.
    pub secret_hash: String,
    /// When.
    pub now: DateTime<Utc>,
    /// The path, without a slash at its end.
    pub path: String,
    /// The HTTP request.
    pub request_id: String,
    /// Whether a form was sent.
    pub posted: bool,
    /// What was asked for after the `?`, or what the form had.
    pub fields: FormFields,
}

impl Visit {
    /// Whether they may change something.
    pub fn may_act(&self) -> bool {
        self.role >= Role::Operator
    }
}

/// Names and values of a form, or of a query.
#[derive(Debug, Default)]
pub struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Takes them apart.
    pub fn of(bytes: &[u8]) -> Self {
        // PostgreSQL keeps no zero in a text, and nothing that is looked for has one.
        let clean = |text: String| if text.contains('\0') { text.replace('\0', "") } else { text };
        let pairs = url::form_urlencoded::parse(bytes).into_owned();
        Self(pairs.map(|(name, value)| (name, clean(value))).collect())
    }

    /// As it was sent, if it is there.
    pub fn exact(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Without spaces around it; an empty one counts as not there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.exact(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Something of another kind. `form` says what it must be.
    ///
    /// # Errors
    /// 400 `bad_parameter`.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str, form: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let refused =
            |_| Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", format!("{name}: {text:?} is not {form}"));
        text.parse().map(Some).map_err(refused)
    }

    /// Whether the form is one that we gave to this session.
    pub fn has_csrf(&self, csrf: &str) -> bool {
        self.exact("csrf").is_some_and(|given| is_same(given, csrf))
    }
}

/// Lets nobody through who is not signed in, and nothing be done by a form that is not ours. Errors become pages.
pub struct Guarded<E> {
    /// What the pages work with.
    pub console: Arc<Console>,
    /// The page.
    pub inner: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let app = &self.console.app;
        if request.uri().path().contains("%00") {
            return Err(Problem::not_found("there is nothing at this path").into());
        }
        let visit = match visit_of(&self.console, &mut request).await {
            Ok(Some(visit)) => visit,
            Ok(None) => return Ok(to_the_door(&request)),
            Err(problem) => return Err(problem.into()),
        };
        let seen = (request.method() == Method::POST).then(|| request.take_body());
        let visit = match seen {
            None => visit,
            Some(body) => {
                let fields = FormFields::of(&read_body(app, body).await?);
                let visit = Visit { fields, posted: true, ..visit };
                if let Err(problem) = admit(&visit) {
                    return Ok(told(&visit, &problem));
                }
                visit
            }
        };
        let visit = Arc::new(visit);
        request.set_data(Arc::clone(&visit));
        match self.inner.call(request).await {
            Ok(response) => Ok(response),
            Err(fault) => Ok(told(&visit, &Problem::of(fault))),
        }
    }
}

/// Whoever may look may sign out; the rest is for those who may act.
fn admit(visit: &Visit) -> Result<(), Problem> {
    if !visit.fields.has_csrf(&visit.csrf) {
        metrics::http_rejected("csrf");
        let detail =
            "the form was not one of this session; nothing was done. Go back, load the page again, and send it again";
        return Err(Problem::new(StatusCode::FORBIDDEN, "csrf", detail));
    }
    if !visit.may_act() && visit.path != "/admin/logout" {
        metrics::http_rejected("role");
        let detail = "a viewer looks, an operator acts; nothing was done";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    Ok(())
}

/// `None`: nobody is signed in there.
async fn visit_of(console: &Arc<Console>, request: &mut Request) -> Result<Option<Visit>, Problem> {
    let (app, now) = (&console.app, console.app.clock.now());
    let Some(secret) = session_of(request) else { return Ok(None) };
    let (secret_hash, csrf) = (hash_of(secret), csrf_of(secret));
    let found = app.store.session(&secret_hash, SESSIONS, now).await.map_err(|fault| database_away(&fault))?;
    let Some(session) = found else { return Ok(None) };
    if now - session.seen_at >= NOTED {
        // Looking needs no disk that can be written: it is when that one is full that somebody looks.
        if let Err(fault) = app.store.touch_session(&secret_hash, now).await {
            tracing::warn!(error = %fault, "that a session is used could not be written down");
        }
    }
    let request_id = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    Ok(Some(Visit {
        console: Arc::clone(console),
        operator: session.operator,
        role: session.role,
        csrf,
        secret_hash,
        now,
        path: request.uri().path().to_owned(),
        request_id: request_id.to_owned(),
        posted: false,
        fields: FormFields::of(request.uri().query().unwrap_or_default().as_bytes()),
    }))
}

/// To the page with the form, and back afterwards.
fn to_the_door(request: &Request) -> Response {
    let path = request.uri().path_and_query().map_or("/admin", |path| path.as_str());
    let next: String = match *request.method() {
        Method::GET => url::form_urlencoded::Serializer::new(String::new()).append_pair("next", path).finish(),
        _ => String::new(),
    };
    redirect(&format!("/admin/login?{next}"))
}

/// The browser goes there with a GET.
pub fn redirect(to: &str) -> Response {
    guarded(Response::builder().status(StatusCode::SEE_OTHER).header(header::LOCATION, to), "default-src 'none'")
        .finish()
}

/// An error as a page.
fn told(visit: &Visit, problem: &Problem) -> Response {
    let words = format!("{} ({})", problem.detail(), problem.code());
    let mut page = show_with(
        visit,
        problem.status(),
        "That did not work",
        &[Block::Alarm(words), Block::Words(format!("In the log it is request {}.", visit.request_id))],
    );
    if let Some(seconds) = problem.retry_after_seconds() {
        page.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    page
}

/// 503 `database_unavailable`.
pub fn database_away(fault: &StoreError) -> Problem {
    tracing::error!(error = %fault, "a page of the console could not be made");
    let detail = "the database does not answer; nothing is half-done";
    Problem::unavailable("database_unavailable", detail, RETRY_SECONDS)
}
