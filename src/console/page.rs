//! What a page is made of: facts, tables, forms, words. One template shows them all, and escapes whatever is in them.

use askama::Template;
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::America::New_York;
use poem::Response;
use poem::http::{StatusCode, header};

use super::Visit;
use crate::clock::span_in_words;

/// Where else one can go: path, name.
const PLACES: &[(&str, &str)] = &[
    ("/admin", "Now"),
    ("/admin/calendar", "Calendar"),
    ("/admin/runs", "Runs"),
    ("/admin/ingest", "Ingestion"),
    ("/admin/renewals", "Renewals"),
    ("/admin/letters", "Letters"),
    ("/admin/webhooks", "Webhooks"),
    ("/admin/accounts", "Accounts"),
    ("/admin/referrals", "Referrals"),
    ("/admin/audit", "Audit"),
    ("/admin/health", "Health"),
];

/// What browsers may do with a page: show it with our style, and send its forms back here. There is no script.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; frame-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";

/// An instant as it is shown: both clocks that matter here, and how far away it is.
#[derive(Debug, Clone)]
pub struct Moment {
    machine: String,
    new_york: String,
    utc: String,
    away: String,
}

impl Moment {
    /// As seen from `now`.
    pub fn of(at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let span = span_in_words(at - now);
        Self {
            machine: at.to_rfc3339_opts(SecondsFormat::Secs, true),
            new_york: at.with_timezone(&New_York).format("%a %-d %b %Y %H:%M:%S %Z").to_string(),
            utc: at.format("%H:%M:%S UTC").to_string(),
            away: if at > now { format!("in {span}") } else { format!("{span} ago") },
        }
    }
}

/// What stands in one place of a table.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Words.
    Text(String),
    /// What is to be copied: a command, an id.
    Code(String),
    /// The name of a state, which has its own colour.
    State(String),
    /// Somewhere else.
    Link { href: String, text: String },
    /// An instant.
    Time(Moment),
    /// Something longer that opens.
    More { summary: String, text: String },
}

impl Cell {
    /// Words; none are a dash.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Text(if text.is_empty() { "–".to_owned() } else { text })
    }

    /// Words that may not be there.
    pub fn maybe(text: Option<impl Into<String>>) -> Self {
        Self::text(text.map(Into::into).unwrap_or_default())
    }

    /// Somewhere else in the console: `/admin`, a room, and the rest of the path, which is escaped.
    pub fn link(room: &str, name: &str) -> Self {
        let mut path = url::Url::parse("http://console/admin").unwrap_or_else(|_| unreachable!("it is one"));
        if let Ok(mut parts) = path.path_segments_mut() {
            parts.push(room).push(name);
        }
        Self::Link { href: path.path().to_owned(), text: name.to_owned() }
    }
}

/// A field of a form.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name when it is sent.
    pub name: &'static str,
    /// What it is, for people.
    pub label: &'static str,
    /// `text`, `number`, `hidden` ..
    pub kind: &'static str,
    /// What is in it.
    pub value: String,
    /// Whether it must be filled in.
    pub required: bool,
}

impl Field {
    /// Why something is done: every action asks.
    pub fn reason() -> Self {
        Self { name: "reason", label: "Why (kept in the audit)", kind: "text", value: String::new(), required: true }
    }

    /// Something that the page knows.
    pub fn hidden(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, label: "", kind: "hidden", value: value.into(), required: false }
    }

    /// A number.
    pub fn number(name: &'static str, label: &'static str, value: impl ToString) -> Self {
        Self { name, label, kind: "number", value: value.to_string(), required: true }
    }

    /// Words that are looked for.
    pub fn wanted(name: &'static str, label: &'static str, value: Option<&str>) -> Self {
        Self { name, label, kind: "text", value: value.unwrap_or_default().to_owned(), required: false }
    }
}

/// A form.
#[derive(Debug, Clone)]
pub struct Form {
    /// Where it is sent.
    pub action: String,
    /// `post` changes something (or asks others), `get` only looks.
    pub method: &'static str,
    /// What it is for.
    pub title: &'static str,
    /// What is in it.
    pub fields: Vec<Field>,
    /// The word on its button.
    pub button: String,
    /// Whether it changes something for good.
    pub danger: bool,
    /// The command that does the same.
    pub command: String,
}

/// A part of a page.
#[derive(Debug, Clone)]
pub enum Block {
    /// A heading.
    Heading(String),
    /// A sentence.
    Words(String),
    /// Something that must be seen.
    Alarm(String),
    /// Names and what they are.
    Facts(Vec<(&'static str, Cell)>),
    /// Rows.
    Table { caption: String, header: Vec<&'static str>, rows: Vec<Vec<Cell>>, none: &'static str },
    /// What is shown as it is.
    Raw(String),
    /// A page within the page, with no rights.
    Frame { src: String, title: &'static str },
    /// Something to do.
    Form(Form),
}

#[derive(Template)]
#[template(path = "console/page.html")]
struct Whole<'p> {
    title: &'p str,
    style: &'p str,
    places: Vec<(&'static str, &'static str, bool)>,
    operator: &'p str,
    role: &'p str,
    csrf: &'p str,
    may_act: bool,
    posted: bool,
    now: Moment,
    blocks: &'p [Block],
}

/// A page, ready to be sent.
pub fn show(visit: &Visit, title: &str, blocks: &[Block]) -> Response {
    show_with(visit, StatusCode::OK, title, blocks)
}

/// The same with another status than 200.
pub fn show_with(visit: &Visit, status: StatusCode, title: &str, blocks: &[Block]) -> Response {
    let here = |path: &str| visit.path == path || path != "/admin" && visit.path.starts_with(&format!("{path}/"));
    let mut places: Vec<_> = PLACES.iter().map(|(path, name)| (*path, *name, here(path))).collect();
    if visit.role == crate::store::Role::Admin {
        places.push(("/admin/operators", "Operators", here("/admin/operators")));
    }
    let whole = Whole {
        title,
        style: super::assets::style_path(),
        places,
        operator: &visit.operator,
        role: visit.role.name(),
        csrf: &visit.csrf,
        may_act: visit.may_act(),
        posted: visit.posted,
        now: Moment::of(visit.now, visit.now),
        blocks,
    };
    html(status, whole.render())
}

/// HTML with what browsers are told about it.
pub fn html(status: StatusCode, rendered: Result<String, askama::Error>) -> Response {
    let body = rendered.unwrap_or_else(|fault| {
        tracing::error!(error = %fault, "a page could not be put together");
        "<!doctype html><title>bellwether</title><p>This page could not be put together.</p>".to_owned()
    });
    guarded(Response::builder().status(status).content_type("text/html; charset=utf-8"), POLICY).body(body)
}

/// What every answer of the console says to browsers.
pub fn guarded(response: poem::ResponseBuilder, policy: &str) -> poem::ResponseBuilder {
    response
        .header(header::CONTENT_SECURITY_POLICY, policy)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "same-origin")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
}
