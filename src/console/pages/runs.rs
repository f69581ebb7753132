//! The ledger: what became of each slot, and another try.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Response, Result, handler};
use uuid::Uuid;

use super::{ROWS, Visit, pretty};
use crate::api::Problem;
use crate::console::act::{Deed, perform};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::{database_away, redirect};
use crate::jobs::RENEWALS;
use crate::scheduler::{Refusal, Verb};
use crate::store::{JobRun, RunFilter, RunState};

/// Rows, newest slot first: `job`, `state`.
#[handler]
pub async fn list(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let (job, state) = (visit.fields.text("job"), visit.fields.parsed::<RunState>("state", "a state such as failed")?);
    let filter = RunFilter { job: job.map(str::to_owned), state, limit: ROWS, ..RunFilter::default() };
    let runs = visit.console.app.store.list_runs(&filter).await.map_err(|fault| database_away(&fault))?;
    let blocks = [
        Block::Form(Form {
            action: "/admin/runs".to_owned(),
            method: "get",
            title: "Which",
            fields: vec![
                Field::wanted("job", "Job", job),
                Field::wanted(
                    "state",
                    "State: ok, failed, skipped, missed, lost, cancelled, running, queued",
                    visit.fields.text("state"),
                ),
            ],
            button: "Show".to_owned(),
            danger: false,
            command: String::new(),
        }),
        table(&visit, "Runs, newest slot first", &runs),
    ];
    Ok(shown(&visit, "Runs", &blocks))
}

/// Rows of the ledger as a table.
pub fn table(visit: &Visit, caption: &str, runs: &[JobRun]) -> Block {
    let row = |run: &JobRun| {
        vec![
            visit.time(run.scheduled_for),
            Cell::text(run.job.as_str()),
            Cell::State(run.state.name().to_owned()),
            Cell::text(run.origin.name()),
            Cell::text(format!("{} ms", run.late_us / 1_000)),
            Cell::link("runs", &run.id.to_string()),
            Cell::maybe(run.error.as_deref().or(run.reason.as_deref())),
        ]
    };
    Block::Table {
        caption: caption.to_owned(),
        header: vec!["Slot", "Job", "State", "Because", "Late", "Run", "Detail"],
        rows: runs.iter().map(row).collect(),
        none: "There is none.",
    }
}

/// One row, its attempts, and what can be done.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let id = run_id(&id)?;
    let found = visit.console.app.store.run(id).await.map_err(|fault| database_away(&fault))?;
    let (run, attempts) = found.ok_or_else(|| Problem::not_found("there is no such run"))?;
    let form = |verb: &str, title, button: &str, command| {
        Block::Form(Form {
            action: format!("/admin/runs/{id}/{verb}"),
            method: "post",
            title,
            fields: vec![Field::reason()],
            button: button.to_owned(),
            danger: true,
            command,
        })
    };
    let action = match run.state {
        RunState::Running | RunState::Queued => {
            form("cancel", "End it", "Cancel this run", format!("bellwether runs cancel {id}"))
        }
        RunState::Ok => Block::Words("It went well, so there is nothing to do again.".to_owned()),
        _ if run.job == RENEWALS => {
            Block::Words("Renewals are rehearsed and then run on their own page; what is due stays due.".to_owned())
        }
        _ => form("retry", "Try it again", "Run this slot again", format!("bellwether runs retry {id}")),
    };
    let rows = attempts.iter().map(|attempt| {
        vec![
            Cell::text(attempt.n.to_string()),
            Cell::State(attempt.state.name().to_owned()),
            visit.maybe_time(attempt.started_at),
            visit.time(attempt.finished_at),
            Cell::text(attempt.owner.as_str()),
            Cell::maybe(attempt.error.as_deref()),
        ]
    });
    let blocks = [
        Block::Facts(vec![
            ("Job", Cell::text(run.job.as_str())),
            ("Slot", visit.time(run.scheduled_for)),
            ("State", Cell::State(run.state.name().to_owned())),
            ("Detail", Cell::maybe(run.error.as_deref().or(run.reason.as_deref()))),
            ("Because", Cell::text(run.origin.name())),
            ("Began", visit.maybe_time(run.started_at)),
            ("Ended", visit.maybe_time(run.finished_at)),
            ("Next try", visit.maybe_time(run.next_attempt_at)),
            ("Must be done by", visit.maybe_time(run.deadline)),
            ("Market", Cell::text(run.phase.as_str())),
            ("On", Cell::text(format!("{} (epoch {})", run.owner, run.fence))),
            ("Trace", Cell::Code(run.trace_id.clone().unwrap_or_default())),
        ]),
        Block::Table {
            caption: "Attempts".to_owned(),
            header: vec!["No.", "State", "Began", "Ended", "On", "Error"],
            rows: rows.collect(),
            none: "None has ended.",
        },
        Block::Heading("What it reported".to_owned()),
        Block::Raw(pretty(run.stats.as_deref())),
        action,
    ];
    Ok(shown(&visit, &format!("Run {id}"), &blocks))
}

/// Tries a run again.
#[handler]
pub async fn retry(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let id = run_id(&id)?;
    operate(&visit, id, "runs retry", Verb::Retry { id, force: false }).await
}

/// Ends a run.
#[handler]
pub async fn cancel(visit: Data<&Arc<Visit>>, Path(id): Path<String>) -> Result<Response> {
    let id = run_id(&id)?;
    operate(&visit, id, "runs cancel", Verb::Cancel { id }).await
}

async fn operate(visit: &Arc<Visit>, id: Uuid, act: &'static str, verb: Verb) -> Result<Response> {
    let (operations, planner) = (visit.console.app.operations.clone(), Arc::clone(&visit.console.app.planner));
    perform(visit, Deed { act, target: id.to_string() }, async move {
        let answer = operations.perform(&verb, false).await.map_err(|fault| problem(&fault))?;
        planner.notify_one();
        Ok(((), answer.to_string()))
    })
    .await?;
    Ok(redirect(&format!("/admin/runs/{id}")))
}

fn run_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found("there is no such run"))
}

fn problem(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::NoSuchJob { .. } | Refusal::NoSuchRun(_) => Problem::not_found(refusal.to_string()),
        Refusal::Conflict(_) => Problem::new(StatusCode::CONFLICT, "conflict", refusal.to_string()),
        Refusal::Misuse(_) => Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", refusal.to_string()),
        Refusal::Store(fault) => database_away(fault),
    }
}
