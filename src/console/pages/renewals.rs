//! Renewals: what is due, what a run would do, the run itself, and what was decided.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem::{Response, Result, handler};

use super::runs::table;
use super::{ROWS, Visit};
use crate::api::Problem;
use crate::console::act::{Deed, perform};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::database_away;
use crate::jobs::renewals::Renewed;
use crate::jobs::{OnDemandFault, RENEWALS};
use crate::store::{DuePage, RunFilter};

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
            ("At most in one run", Cell::text(app.renewals.limit.to_string())),
            (
                "Who renews",
                Cell::text(if app.renewals.site.is_some() {
                    "the site, which is called at 03:00"
                } else {
                    "this daemon"
                }),
            ),
        ]),
        rehearsal(app.renewals.limit),
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
fn rehearsal(limit: u32) -> Block {
    Block::Form(Form {
        action: "/admin/renewals/rehearse".to_owned(),
        method: "post",
        title: "What would a run do?",
        fields: vec![Field::number("limit", "At most so many", limit)],
        button: "Rehearse".to_owned(),
        danger: false,
        command: format!("bellwether renewals run --limit {limit} --dry-run"),
    })
}

/// What a run would do; nothing is changed.
#[handler]
pub async fn rehearse(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let limit = limit_of(&visit)?;
    let renewed = visit.console.app.renewals_on_demand.rehearse(limit).await.map_err(|fault| database_away(&fault))?;
    let mut blocks = vec![Block::Words("Nothing was changed. A run would do this:".to_owned())];
    blocks.extend(told(&renewed));
    if renewed.summary.processed > 0 {
        blocks.push(Block::Form(Form {
            action: "/admin/renewals/run".to_owned(),
            method: "post",
            title: "Do it",
            fields: vec![
                Field::hidden("limit", limit.to_string()),
                Field::hidden("seen", renewed.summary.processed.to_string()),
                Field::reason(),
            ],
            button: format!("Renew {} now", renewed.summary.processed),
            danger: true,
            command: format!("bellwether renewals run --limit {limit}"),
        }));
    }
    blocks.push(rehearsal(limit));
    Ok(shown(&visit, "Renewals: a rehearsal", &blocks))
}

/// Runs. What has come due since the rehearsal was looked at is seen before it is done.
#[handler]
pub async fn run(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let limit = limit_of(&visit)?;
    let seen: i64 = visit.fields.parsed("seen", "a whole number")?.unwrap_or_default();
    let on_demand = visit.console.app.renewals_on_demand.clone();
    let (store, now) = (visit.console.app.store.clone(), visit.now);
    let deed = Deed { act: "renewals run", target: format!("at most {limit}") };
    let (run_id, renewed) = perform(&visit, deed, async move {
        let due = store.count_due_subscriptions(now).await.map_err(|fault| database_away(&fault))?;
        if due.min(i64::from(limit)) > seen {
            let detail = format!(
                "{due} subscriptions are due by now, and {seen} were shown; rehearse again and look. Nothing was done"
            );
            return Err(Problem::new(StatusCode::CONFLICT, "more_is_due", detail));
        }
        let (run_id, renewed) = on_demand.run(limit).await.map_err(|fault| match fault {
            OnDemandFault::Store(fault) => database_away(&fault),
            fault => Problem::new(StatusCode::CONFLICT, "run_failed", fault.to_string()),
        })?;
        let outcome = format!("run {run_id}: {}", renewed.report());
        Ok(((run_id, renewed), outcome))
    })
    .await?;
    let mut blocks = vec![Block::Facts(vec![("Run", Cell::link("runs", &run_id.to_string()))])];
    blocks.extend(told(&renewed));
    Ok(shown(&visit, "Renewals: done", &blocks))
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
    let most = visit.console.app.renewals.limit;
    let limit = visit.fields.parsed("limit", "a whole number")?.unwrap_or(most);
    let refused = || Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", format!("limit must be from 1 to {most}"));
    (1..=most).contains(&limit).then_some(limit).ok_or_else(refused)
}
