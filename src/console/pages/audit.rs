//! What operators did in the console, and why.

use std::sync::Arc;

use poem::web::Data;
use poem::{Response, Result, handler};

use super::{ROWS, Visit};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::database_away;

/// The newest first: `operator`.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let operator = visit.fields.text("operator");
    let acts = visit.console.app.store.acts(operator, ROWS).await.map_err(|fault| database_away(&fault))?;
    let rows = acts.iter().map(|act| {
        vec![
            visit.time(act.at),
            Cell::text(act.operator.as_str()),
            Cell::text(act.act.as_str()),
            Cell::text(act.target.as_str()),
            Cell::text(act.reason.as_str()),
            Cell::text(act.outcome.as_deref().unwrap_or("not known: under way, or the daemon ended in the middle")),
            Cell::Code(act.request_id.clone()),
        ]
    });
    let blocks = [
        Block::Words("What was changed about an account, by whomever, is on the page of that account.".to_owned()),
        Block::Form(Form {
            action: "/admin/audit".to_owned(),
            method: "get",
            title: "Whose",
            fields: vec![Field::wanted("operator", "Operator", operator)],
            button: "Show".to_owned(),
            danger: false,
            command: "bellwether audit ls".to_owned(),
        }),
        Block::Table {
            caption: "Acts, newest first".to_owned(),
            header: vec!["When", "Who", "What", "With what", "Why", "What came of it", "Request"],
            rows: rows.collect(),
            none: "Nobody has done anything here.",
        },
    ];
    Ok(shown(&visit, "Audit", &blocks))
}
