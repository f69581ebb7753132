//! Letters: what waits and what became of each, how each looks, and which reminders are due.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::web::{Data, Path};
use poem::{Response, Result, handler};
use serde_json::{Value, json};

use super::{ROWS, Visit};
use crate::api::Problem;
use crate::console::act::{Deed, perform};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::{database_away, redirect};
use crate::jobs::dunning::{MOST_RESULTS, Reminded};
use crate::jobs::outbox::{RetryRefusal, RetryRequest, retry};
use crate::mail::{Letter, STEPS, example};
use crate::store::{LetterRow, LetterState};

/// A letter is somebody's words in HTML: it may load nothing, run nothing, send nothing, and be shown only in our own frame.
const LETTER_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'";

/// Letters of a state (`state`), newest first; what each letter says; and what reminders are due.
#[handler]
pub async fn list(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let state = visit.fields.parsed::<LetterState>("state", "a state such as failed")?;
    let letters = app.store.newest_letters(state, ROWS).await.map_err(|fault| database_away(&fault))?;
    let backlog = app.store.letter_backlog().await.map_err(|fault| database_away(&fault))?;
    let row = |letter: &LetterRow| {
        vec![
            Cell::Link { href: format!("/admin/letters/{}", letter.id), text: letter.step.clone() },
            Cell::link("accounts", &letter.account),
            Cell::State(letter.state.name().to_owned()),
            Cell::maybe(letter.recipient.as_deref()),
            visit.time(letter.created_at),
            Cell::text(letter.attempts.to_string()),
            Cell::maybe(letter.error.as_deref()),
        ]
    };
    let each = STEPS.iter().map(|step| {
        let subject = Letter::of(step, &example(), &app.site.frontend_url).map(|letter| letter.subject);
        vec![
            Cell::Link { href: format!("/admin/letters/words/{step}"), text: (*step).to_owned() },
            Cell::maybe(subject),
        ]
    });
    let blocks = [
        Block::Facts(vec![
            ("Wait", Cell::text(backlog.waiting.to_string())),
            ("Of these, tried before", Cell::text(backlog.failed.to_string())),
            ("For an address of their account", Cell::text(backlog.without_address.to_string())),
            ("Given up", Cell::text(backlog.dead.to_string())),
            ("The oldest never tried", visit.maybe_time(backlog.oldest)),
        ]),
        rehearsal(),
        Block::Form(Form {
            action: "/admin/letters".to_owned(),
            method: "get",
            title: "Which",
            fields: vec![Field::wanted(
                "state",
                "State: waiting, sending, failed, sent, dead, dropped",
                state.map(LetterState::name),
            )],
            button: "Show".to_owned(),
            danger: false,
            command: "bellwether outbox ls".to_owned(),
        }),
        Block::Table {
            caption: format!("Letters, newest first ({ROWS} at most)"),
            header: vec!["Letter", "Account", "State", "To", "Written", "Tries", "Detail"],
            rows: letters.iter().map(row).collect(),
            none: "There is none.",
        },
        Block::Table {
            caption: "What each letter says".to_owned(),
            header: vec!["Letter", "Subject"],
            rows: each.collect(),
            none: "",
        },
    ];
    Ok(shown(&visit, "Letters", &blocks))
}

fn rehearsal() -> Block {
    Block::Form(Form {
        action: "/admin/letters/rehearse".to_owned(),
        method: "post",
        title: "Which reminders are due?",
        fields: Vec::new(),
        button: "Show them".to_owned(),
        danger: false,
        command: "bellwether renewals remind --dry-run".to_owned(),
    })
}

/// The reminders that are due, each with its words; nothing is written.
#[handler]
pub async fn rehearse(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let dunned = app.dunning.process(MOST_RESULTS, true).await.map_err(|fault| database_away(&fault))?;
    let row = |reminded: &Reminded| {
        let letter = Letter::of(&reminded.action, &reminded.details, &app.site.frontend_url);
        let summary = letter.as_ref().map_or("", |letter| letter.subject).to_owned();
        let text = letter.and_then(|letter| letter.plain().ok()).unwrap_or_default();
        vec![
            Cell::link("accounts", &reminded.user_id),
            Cell::text(reminded.plan.as_str()),
            Cell::text(reminded.action.as_str()),
            Cell::More { summary, text },
        ]
    };
    let mut blocks = vec![
        Block::Words(format!(
            "Nothing was written. {} subscriptions are past due; {} reminders are due.",
            dunned.processed, dunned.notified
        )),
        Block::Table {
            caption: "One by one".to_owned(),
            header: vec!["Account", "Plan", "Reminder", "Its words"],
            rows: dunned.results.iter().map(row).collect(),
            none: "None is due.",
        },
    ];
    if dunned.notified > 0 {
        blocks.push(Block::Form(Form {
            action: "/admin/letters/remind".to_owned(),
            method: "post",
            title: "Write them",
            fields: vec![Field::hidden("seen", dunned.notified.to_string()), Field::reason()],
            button: format!("Write {} reminders now", dunned.notified),
            danger: true,
            command: format!("bellwether renewals remind --limit {}", dunned.notified),
        }));
    }
    Ok(shown(&visit, "Letters: reminders that are due", &blocks))
}

/// Writes reminders into the outbox: as many as were shown. Each is written once for its period, whoever writes it, so that the same
/// form sent twice writes what has come due in between at most.
#[handler]
pub async fn remind(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let seen: usize = visit.fields.parsed("seen", "a whole number")?.unwrap_or_default();
    let dunning = Arc::clone(&visit.console.app.dunning);
    let deed = Deed { act: "renewals remind", target: format!("at most {seen}") };
    let written = perform(&visit, deed, async move {
        let dunned = dunning.process(seen.min(MOST_RESULTS), false).await.map_err(|fault| {
            tracing::error!(error = %fault, "reminders could not all be written");
            let detail = "the database failed on the way; reminders that were written stay written, each once";
            Problem::unavailable("database_unavailable", detail, 10)
        })?;
        Ok((dunned.notified, format!("{} reminders written", dunned.notified)))
    })
    .await?;
    let blocks = [
        Block::Words(format!(
            "{written} reminders are written; they are sent at once where a mail server is configured."
        )),
        Block::Facts(vec![(
            "Letters",
            Cell::Link { href: "/admin/letters?state=waiting".to_owned(), text: "those that wait".to_owned() },
        )]),
    ];
    Ok(shown(&visit, "Letters: written", &blocks))
}

/// One letter: what became of it, and its words.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let row = letter_row(&visit, &id).await?;
    let letter = letter_of(&visit, &row);
    let text = letter.as_ref().and_then(|letter| letter.plain().ok());
    let mut blocks = vec![Block::Facts(vec![
        ("Letter", Cell::text(format!("{} ({})", row.step, row.period))),
        ("Account", Cell::link("accounts", &row.account)),
        ("To", Cell::maybe(row.recipient.as_deref())),
        ("State", Cell::State(row.state.name().to_owned())),
        ("Written", visit.time(row.created_at)),
        ("Tries", Cell::text(row.attempts.to_string())),
        ("Next try", visit.maybe_time(row.next_attempt_at)),
        ("Sent", visit.maybe_time(row.sent_at)),
        ("Detail", Cell::maybe(row.error.as_deref())),
        ("Subject", Cell::maybe(letter.as_ref().map(|letter| letter.subject))),
    ])];
    blocks.extend(as_it_looks(text, format!("/admin/letters/{id}/html")));
    if !matches!(row.state, LetterState::Sent | LetterState::Sending) {
        blocks.push(Block::Form(Form {
            action: format!("/admin/letters/{id}/retry"),
            method: "post",
            title: "Send it",
            fields: vec![Field::reason()],
            button: "Let it wait for its turn again".to_owned(),
            danger: true,
            command: format!("bellwether outbox retry {id}"),
        }));
    }
    Ok(shown(&visit, &format!("Letter {}", row.step), &blocks))
}

/// The same as HTML, for the frame.
#[handler]
pub async fn html(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let row = letter_row(&visit, &id).await?;
    framed(letter_of(&visit, &row).as_ref())
}

/// What a letter says, with an example in it.
#[handler]
pub async fn words(visit: Data<&Arc<Visit>>, Path(step): Path<String>) -> Result<Response> {
    let letter = example_of(&visit, &step)?;
    let mut blocks = vec![
        Block::Words("With an example in it; nobody is written to.".to_owned()),
        Block::Facts(vec![
            ("Subject", Cell::text(letter.subject)),
            ("The same on the command line", Cell::Code(format!("bellwether outbox preview {step}"))),
        ]),
    ];
    blocks.extend(as_it_looks(letter.plain().ok(), format!("/admin/letters/words/{step}/html")));
    Ok(shown(&visit, &format!("Letter {step}"), &blocks))
}

/// The same as HTML, for the frame.
#[handler]
pub async fn words_html(visit: Data<&Arc<Visit>>, Path(step): Path<String>) -> Result<Response> {
    framed(Some(&example_of(&visit, &step)?))
}

/// Lets one letter wait for its turn again.
#[handler]
pub async fn retry_one(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let (store, now) = (visit.console.app.store.clone(), visit.now);
    let request = RetryRequest { id: Some(id.clone()), ..RetryRequest::default() };
    perform(&visit, Deed { act: "outbox retry", target: id.clone() }, async move {
        let retried = retry(&store, &request, now).await.map_err(|fault| match fault {
            RetryRefusal::Misuse(detail) => Problem::new(StatusCode::CONFLICT, "conflict", detail),
            RetryRefusal::NotFound(_) => Problem::not_found("there is no such letter"),
            RetryRefusal::Store(fault) => database_away(&fault),
        })?;
        Ok(((), format!("{} letters wait again", retried.retried)))
    })
    .await?;
    Ok(redirect(&format!("/admin/letters/{id}")))
}

fn as_it_looks(text: Option<String>, src: String) -> [Block; 4] {
    [
        Block::Heading("As text".to_owned()),
        Block::Raw(text.unwrap_or_default()),
        Block::Heading("As HTML".to_owned()),
        Block::Frame { src, title: "The letter as HTML" },
    ]
}

async fn letter_row(visit: &Visit, id: &str) -> Result<LetterRow, Problem> {
    let found = visit.console.app.store.letter(id).await.map_err(|fault| database_away(&fault))?;
    found.ok_or_else(|| Problem::not_found("there is no such letter"))
}

fn letter_of(visit: &Visit, row: &LetterRow) -> Option<Letter> {
    let details: Value = serde_json::from_str(&row.details).unwrap_or_else(|_| json!({}));
    Letter::of(&row.step, &details, &visit.console.app.site.frontend_url)
}

fn example_of(visit: &Visit, step: &str) -> Result<Letter, Problem> {
    let letter = Letter::of(step, &example(), &visit.console.app.site.frontend_url);
    letter.ok_or_else(|| Problem::not_found("there is no such letter"))
}

fn framed(letter: Option<&Letter>) -> Result<Response> {
    let body = letter.and_then(|letter| letter.html().ok());
    let body = body.ok_or_else(|| Problem::not_found("there is no such letter"))?;
    let response = Response::builder().content_type("text/html; charset=utf-8");
    let response =
        response.header(header::CONTENT_SECURITY_POLICY, LETTER_POLICY).header(header::CACHE_CONTROL, "no-store");
    Ok(response.header(header::X_CONTENT_TYPE_OPTIONS, "nosniff").body(body))
}
