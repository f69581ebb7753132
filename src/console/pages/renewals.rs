//! Renewals: what is due, what a run would do, the run itself, and what was decided.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use poem::http::StatusCode;
use poem::web::Data;
use poem::{Response, Result, handler};
use sha2::{Digest, Sha256};

use super::runs::table;
use super::{ROWS, Visit};
use crate::api::Problem;
use crate::console::act::{Deed, perform};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::{database_away, redirect};
use crate::jobs::renewals::{MOST_RESULTS, Renewed};
use crate::jobs::{OnDemandFault, RENEWALS};
use crate::store::{DuePage, RunFilter, Store};

/// A rehearsal is acted upon within so long.
const FRESH: TimeDelta = TimeDelta::minutes(15);

/// What is due, the last runs, the last decisions.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let (store, away) = (&app.store, |fault: &crate::store::StoreError| database_away(fault));
    let count = store.count_due_subscriptions(visit.now).await.map_err(|fault| away(&fault))?;
    let page = DuePage { at: visit.now, after: None, limit: ROWS };
    let due = store.due_subscriptions(page).await.map_err(|fault| away(&fault))?;
    let filter = RunFilter { job: Some(RENEWALS.to_owned()), limit: 10, ..RunFilter::default() };
    let runs = store.list_runs(&filter).await.map_err(|fault| away(&fault))?;
    let decisions = store.decisions(ROWS).await.map_err(|fault| away(&fault))?;
    let calendar = app.calendar.load();
    let next = app.operations.spec(RENEWALS).ok().map(|spec| spec.trigger.next_after(&calendar, visit.now));
    let due = due.iter().map(|due| {
        let account = Cell::link("accounts", &due.user_id);
        vec![account, Cell::text(due.plan()), Cell::text(due.billing_cycle()), visit.maybe_time(due.next_action_at)]
    });
    let decisions = decisions.iter().map(|decision| {
        vec![
            visit.time(decision.decided_at),
            Cell::link("accounts", &decision.user_id),
            visit.time(decision.period_end),
            Cell::text(decision.action.replace('_', " ")),
            Cell::text(format!("{} → {}", decision.status_before, decision.status_after)),
            Cell::link("runs", &decision.run_id),
        ]
    });
    let blocks = [
        Block::Facts(vec![
            ("Due now", Cell::text(count.to_string())),
            ("The next run", visit.maybe_time(next)),
            ("At most in one night", Cell::text(app.renewals.limit.to_string())),
            (
                "Who renews",
                Cell::text(if app.renewals.site.is_some() {
                    "the site, which is called at 03:00"
                } else {
                    "this daemon"
                }),
            ),
        ]),
        rehearsal(&visit, most(&visit)),
        Block::Table {
            caption: format!("Due now, oldest first ({ROWS} at most)"),
            header: vec!["Account", "Plan", "Cycle", "Due since"],
            rows: due.collect(),
            none: "Nothing is due.",
        },
        table(&visit, "The last runs", &runs),
        Block::Table {
            caption: "What was decided last, once for each period".to_owned(),
            header: vec!["When", "Account", "Period that ended", "Decision", "Status", "Run"],
            rows: decisions.collect(),
            none: "Nothing was decided yet.",
        },
    ];
    Ok(shown(&visit, "Renewals", &blocks))
}

/// The form that asks what a run would do.
fn rehearsal(visit: &Visit, limit: u32) -> Block {
    if visit.console.app.renewals.site.is_some() {
        return Block::Words("The site renews by itself, so that nothing is decided here.".to_owned());
    }
    Block::Form(Form {
        action: "/admin/renewals/rehearse".to_owned(),
        method: "post",
        title: "What would a run do?",
        fields: vec![Field::number("limit", "At most so many, up to 1,000", limit)],
        button: "Rehearse".to_owned(),
        danger: false,
        command: format!("bellwether renewals run --limit {limit} --dry-run"),
    })
}

/// What a run would do; nothing is changed.
#[handler]
pub async fn rehearse(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let limit = limit_of(&visit)?;
    let (app, now) = (&visit.console.app, visit.now);
    let (due, digest) = due_at(&app.store, now, limit).await?;
    let renewed = app.renewals_on_demand.rehearse(limit, Some(now)).await.map_err(|fault| database_away(&fault))?;
    let mut blocks = vec![Block::Words("Nothing was changed. A run would do this:".to_owned())];
    blocks.extend(told(&renewed));
    if due > 0 {
        blocks.push(Block::Form(Form {
            action: "/admin/renewals/run".to_owned(),
            method: "post",
            title: "Do it",
            fields: vec![
                Field::hidden("limit", limit.to_string()),
                Field::hidden("at", now.to_rfc3339()),
                Field::hidden("digest", digest),
                Field::reason(),
            ],
            button: format!("Decide about these {due} now"),
            danger: true,
            command: format!("bellwether renewals run --limit {limit}"),
        }));
    }
    blocks.push(rehearsal(&visit, limit));
    Ok(shown(&visit, "Renewals: a rehearsal", &blocks))
}

/// Runs over exactly what was shown: what has come due since, or is another list by now, is rehearsed and seen before it is done.
/// Sent twice, the second finds that the list is done.
#[handler]
pub async fn run(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let limit = limit_of(&visit)?;
    let at = visit.fields.parsed::<DateTime<Utc>>("at", "an instant")?.unwrap_or_default();
    let seen = visit.fields.text("digest").unwrap_or_default().to_owned();
    let (on_demand, store, now) =
        (visit.console.app.renewals_on_demand.clone(), visit.console.app.store.clone(), visit.now);
    let deed = Deed { act: "renewals run", target: format!("at most {limit}, due by {}", at.to_rfc3339()) };
    let run_id = perform(&visit, deed, async move {
        let (due, digest) = due_at(&store, at, limit).await?;
        if !(now - FRESH..=now).contains(&at) || digest != seen {
            let detail = "what is due is not what was shown; rehearse again and look. Nothing was done";
            return Err(Problem::new(StatusCode::CONFLICT, "not_what_was_shown", detail));
        }
        let (run_id, renewed) = on_demand.run(due, Some(at)).await.map_err(|fault| match fault {
            OnDemandFault::NotBegun(fault) => database_away(&fault),
            OnDemandFault::Twice => Problem::new(StatusCode::CONFLICT, "already_running", fault.to_string()),
            fault => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "run_failed", fault.to_string()),
        })?;
        Ok((run_id, format!("run {run_id}: {}", renewed.report())))
    })
    .await?;
    Ok(redirect(&format!("/admin/runs/{run_id}")))
}

/// How many are due by `at`, at most `limit`, and which: the same digest is the same list.
async fn due_at(store: &Store, at: DateTime<Utc>, limit: u32) -> Result<(u32, String), Problem> {
    let due =
        store.due_subscriptions(DuePage { at, after: None, limit }).await.map_err(|fault| database_away(&fault))?;
    let mut hasher = Sha256::new();
    for due in &due {
        let instant = due.next_action_at.map(|at| at.timestamp_micros()).unwrap_or_default();
        hasher.update(format!("{} {instant} {}\n", due.id, due.credits));
    }
    Ok((u32::try_from(due.len()).unwrap_or(u32::MAX), HEXLOWER.encode(&hasher.finalize())))
}

/// Counts, and each decision.
fn told(renewed: &Renewed) -> [Block; 2] {
    let report = renewed.report();
    let counts = report.as_object().into_iter().flatten().filter(|(name, count)| *name == "processed" || **count != 0);
    let counts: Vec<String> = counts.map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
    let rows = renewed.results.iter().map(|outcome| {
        vec![
            Cell::link("accounts", &outcome.user_id),
            Cell::text(outcome.plan.as_str()),
            Cell::text(outcome.billing_cycle.as_str()),
            Cell::text(outcome.action.replace('_', " ")),
            Cell::maybe(outcome.reason),
        ]
    });
    [
        Block::Words(format!("{}.", counts.join(", "))),
        Block::Table {
            caption: "One by one".to_owned(),
            header: vec!["Account", "Plan", "Cycle", "Decision", "Why"],
            rows: rows.collect(),
            none: "Nothing is due.",
        },
    ]
}

fn limit_of(visit: &Visit) -> Result<u32, Problem> {
    let app = &visit.console.app;
    if app.renewals.site.is_some() {
        let detail = "the site renews by itself (renewals.mode = \"http\"); nothing is decided here";
        return Err(Problem::new(StatusCode::CONFLICT, "site_renews", detail));
    }
    let most = most(visit);
    let limit = visit.fields.parsed("limit", "a whole number")?.unwrap_or(most);
    let refused = || Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", format!("limit must be from 1 to {most}"));
    (1..=most).contains(&limit).then_some(limit).ok_or_else(refused)
}

/// As many as are listed one by one: nothing is done here that was not shown.
fn most(visit: &Visit) -> u32 {
    visit.console.app.renewals.limit.min(u32::try_from(MOST_RESULTS).unwrap_or(u32::MAX))
}
