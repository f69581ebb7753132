//! The inbox: what was told, by whom, what was thought of it, what came of it; and applying it again.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Response, Result, handler};

use super::{ROWS, Visit, pretty};
use crate::api::Problem;
use crate::console::act::{Deed, perform};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::{database_away, redirect};
use crate::jobs::replay::{Refusal, Request, replay};
use crate::store::{EventFilter, EventRow, EventStatus};

/// Events, newest first: `status`, `event_id`.
#[handler]
pub async fn list(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let status = visit.fields.parsed::<EventStatus>("status", "a state such as failed")?;
    let event_id = visit.fields.text("event_id");
    let filter = EventFilter { status, event_id: event_id.map(str::to_owned), limit: ROWS, ..EventFilter::default() };
    let events = app.store.list_events(&filter).await.map_err(|fault| database_away(&fault))?;
    let backlog = app.store.events_backlog().await.map_err(|fault| database_away(&fault))?;
    let row = |event: &EventRow| {
        vec![
            visit.time(event.received_at),
            Cell::text(event.source.as_str()),
            Cell::text(event.event_type.as_str()),
            Cell::State(event.status.name().to_owned()),
            match event.status {
                // It was not believed: only that it came is kept.
                EventStatus::Rejected => Cell::Code(event.id.to_string()),
                _ => Cell::link("webhooks", &event.id.to_string()),
            },
            Cell::text(event.attempts.to_string()),
            Cell::maybe(event.error.as_deref()),
        ]
    };
    let mut blocks = vec![
        Block::Facts(vec![
            ("Wait", Cell::text(backlog.waiting.to_string())),
            ("Of these, tried before", Cell::text(backlog.failed.to_string())),
            ("Given up", Cell::text(backlog.dead.to_string())),
            ("Under a known id with another body", Cell::text(backlog.conflicts.to_string())),
            ("The oldest that waits", visit.maybe_time(backlog.oldest)),
        ]),
        Block::Form(Form {
            action: "/admin/webhooks".to_owned(),
            method: "get",
            title: "Which",
            fields: vec![
                Field::wanted(
                    "status",
                    "State: verified, processed, ignored, failed, dead, conflict, rejected",
                    status.map(EventStatus::name),
                ),
                Field::wanted("event_id", "The sender's id", event_id),
            ],
            button: "Show".to_owned(),
            danger: false,
            command: "bellwether webhooks ls".to_owned(),
        }),
        Block::Table {
            caption: format!("Events, newest first ({ROWS} at most)"),
            header: vec!["Came", "From", "Kind", "State", "Event", "Tries", "Error"],
            rows: events.iter().map(row).collect(),
            none: "There is none.",
        },
    ];
    blocks.extend(all_again(status, &events));
    Ok(shown(&visit, "Webhooks", &blocks))
}

/// Whoever has looked at what failed can have it applied again: what is shown, and nothing else.
fn all_again(status: Option<EventStatus>, events: &[EventRow]) -> Option<Block> {
    let status = status.filter(|status| matches!(status, EventStatus::Failed | EventStatus::Dead))?;
    let since = events.last()?.received_at.to_rfc3339();
    let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    Some(Block::Form(Form {
        action: "/admin/webhooks/replay".to_owned(),
        method: "post",
        title: "Apply them again",
        fields: vec![Field::hidden("ids", ids.join(" ")), Field::reason()],
        button: format!("Apply these {} again", events.len()),
        danger: true,
        command: format!("bellwether webhooks replay --status {status} --since {since}"),
    }))
}

/// One event, with what was sent.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let found = visit.console.app.store.event(&id).await.map_err(|fault| database_away(&fault))?;
    let whole = found.ok_or_else(|| Problem::not_found("there is no such event"))?;
    let event = &whole.row;
    let mut blocks = vec![
        Block::Facts(vec![
            ("From", Cell::text(event.source.as_str())),
            ("Its id there", Cell::Code(event.event_id.clone())),
            ("Kind", Cell::text(event.event_type.as_str())),
            ("State", Cell::State(event.status.name().to_owned())),
            ("Found genuine by", Cell::text(event.verdict.as_str())),
            ("Made", visit.maybe_time(event.created_at)),
            ("Came", visit.time(event.received_at)),
            ("Tries", Cell::text(event.attempts.to_string())),
            ("Next try", visit.maybe_time(event.next_attempt_at)),
            ("Came to its end", visit.maybe_time(event.processed_at)),
            ("Error", Cell::maybe(event.error.as_deref())),
            ("SHA-256 of the body", Cell::Code(event.payload_hash.clone())),
        ]),
        Block::Heading("What it did".to_owned()),
        Block::Raw(pretty(event.effect.as_deref())),
        Block::Heading("What was verified beside the body".to_owned()),
        Block::Raw(pretty(whole.headers.as_deref())),
        Block::Heading("The body, as it came".to_owned()),
        Block::Raw(
            whole.body.clone().unwrap_or_else(|| "It was forgotten, by its retention, or never kept.".to_owned()),
        ),
    ];
    if whole.body.is_some() && event.status != EventStatus::Conflict {
        blocks.push(Block::Form(Form {
            action: format!("/admin/webhooks/{}/replay", event.id),
            method: "post",
            title: "Apply it again",
            fields: vec![Field::reason()],
            button: "Apply this event again".to_owned(),
            danger: true,
            command: format!("bellwether webhooks replay {}", event.id),
        }));
    }
    Ok(shown(&visit, &format!("Event {}", event.id), &blocks))
}

/// Applies one event again.
#[handler]
pub async fn replay_one(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    again(&visit, vec![id.clone()]).await?;
    Ok(redirect(&format!("/admin/webhooks/{id}")))
}

/// Applies the events that were shown again.
#[handler]
pub async fn replay_all(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let ids: Vec<String> = visit.fields.text("ids").unwrap_or_default().split(' ').map(str::to_owned).collect();
    if ids.len() > ROWS as usize {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", format!("ids: at most {ROWS}")).into());
    }
    again(&visit, ids).await?;
    Ok(redirect("/admin/webhooks"))
}

/// Each of them; the first that cannot be is told, and those before it wait for their turn again.
async fn again(visit: &Arc<Visit>, ids: Vec<String>) -> Result<(), Problem> {
    let (store, now, nudge) = (visit.console.app.store.clone(), visit.now, visit.console.app.inbox.nudge());
    perform(visit, Deed { act: "webhooks replay", target: ids.join(" ") }, async move {
        let mut done = 0;
        for id in ids {
            let request = Request { id: Some(id), ..Request::default() };
            let replayed = replay(&store, &request, now).await.map_err(|fault| match fault {
                Refusal::Misuse(detail) => conflict(&detail, done),
                Refusal::NotFound(detail) => conflict(&detail, done),
                Refusal::Store(fault) => database_away(&fault),
            })?;
            done += replayed.replayed;
            nudge.notify_one();
        }
        Ok(((), format!("{done} events wait for their turn again")))
    })
    .await
}

fn conflict(detail: &str, done: u64) -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "conflict",
        format!("{detail}; {done} events before it wait for their turn again"),
    )
}
