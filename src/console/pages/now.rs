//! The first page: what an operator wants to know before anything else.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use poem::web::Data;
use poem::{Response, Result, handler};

use super::Visit;
use crate::console::page::{Block, Cell, show as shown};
use crate::console::visit::database_away;
use crate::schedule::fires;
use crate::store::{RunFilter, RunState};

/// How far back failed runs are looked for.
const LATELY: TimeDelta = TimeDelta::days(7);

/// Fires that are shown.
const FIRES: usize = 10;

/// The market, the data, who plans, what comes next, what went wrong last.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let calendar = app.calendar.load();
    let moment = calendar.at(visit.now);
    let why = app.market.why(visit.now);
    let away = |fault: &crate::store::StoreError| database_away(fault);
    let lease = app.store.lease().await.map_err(|fault| away(&fault))?;
    let due = app.store.count_due_subscriptions(visit.now).await.map_err(|fault| away(&fault))?;
    let events = app.store.events_backlog().await.map_err(|fault| away(&fault))?;
    let letters = app.store.letter_backlog().await.map_err(|fault| away(&fault))?;
    // Within a week: the whole ledger would be walked through where little fails.
    let from = Some(visit.now - LATELY);
    let failed = RunFilter { state: Some(RunState::Failed), from, limit: 5, ..RunFilter::default() };
    let failed = app.store.list_runs(&failed).await.map_err(|fault| away(&fault))?;
    let mut blocks: Vec<Block> = why
        .findings
        .iter()
        .map(|finding| Block::Alarm(format!("{} Look: {}", finding.sentence, finding.look)))
        .collect();
    let leader = lease.map_or_else(String::new, |lease| {
        let word = if lease.held { "plans" } else { "planned last; nobody does now" };
        format!("{} {word} (epoch {})", lease.owner, lease.epoch)
    });
    let backlog =
        |waiting: i64, failed: i64, dead: i64| format!("{waiting} wait, {failed} tried before, {dead} given up");
    blocks.extend([
        Block::Facts(vec![
            ("Market", Cell::text(moment.phase.to_string())),
            ("Next", Cell::text(moment.next_phase.to_string())),
            ("Then", visit.time(moment.next_transition)),
            ("Data", Cell::text(why.sentence)),
            ("Plans", Cell::text(leader)),
            ("Subscriptions due", Cell::Link { href: "/admin/renewals".to_owned(), text: due.to_string() }),
            ("Webhooks", Cell::text(backlog(events.waiting, events.failed, events.dead))),
            ("Letters", Cell::text(backlog(letters.waiting, letters.failed, letters.dead))),
        ]),
        Block::Table {
            caption: "What comes next".to_owned(),
            header: vec!["When", "Job"],
            rows: fires(&app.operations.table, &calendar, visit.now, DateTime::<Utc>::MAX_UTC)
                .take(FIRES)
                .map(|fire| vec![visit.time(fire.slot), Cell::text(fire.job)])
                .collect(),
            none: "Nothing is due ever again.",
        },
        Block::Table {
            caption: "The last runs that failed".to_owned(),
            header: vec!["Slot", "Job", "Run", "Error"],
            rows: failed
                .iter()
                .map(|run| {
                    let id = Cell::link("runs", &run.id.to_string());
                    vec![
                        visit.time(run.scheduled_for),
                        Cell::text(run.job.as_str()),
                        id,
                        Cell::maybe(run.error.as_deref()),
                    ]
                })
                .collect(),
            none: "None within a week.",
        },
    ]);
    Ok(shown(&visit, "Now", &blocks))
}
