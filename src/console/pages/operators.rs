//! Who may sign in: for admins. Operators are made and taken away on the command line.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Path};
use poem::{Response, Result, handler};

use super::Visit;
use crate::api::Problem;
use crate::console::SESSIONS;
use crate::console::act::{Deed, perform};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::{database_away, redirect};
use crate::store::Role;

/// Every operator.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    for_admins(&visit)?;
    let operators =
        visit.console.app.store.operators(SESSIONS, visit.now).await.map_err(|fault| database_away(&fault))?;
    let rows = operators.iter().map(|operator| {
        vec![
            Cell::text(operator.name.as_str()),
            Cell::text(operator.role.name()),
            visit.maybe_time(operator.signed_in_at),
            Cell::text(operator.sessions.to_string()),
            visit.time(operator.changed_at),
        ]
    });
    let mut blocks = vec![Block::Table {
        caption: "Who may sign in".to_owned(),
        header: vec!["Name", "Role", "Signed in", "Sessions", "Password set"],
        rows: rows.collect(),
        none: "",
    }];
    blocks.extend(operators.iter().filter(|operator| operator.sessions > 0).map(|operator| {
        Block::Form(Form {
            action: format!("/admin/operators/{}/end-sessions", operator.name),
            method: "post",
            title: "Sign somebody out everywhere",
            fields: vec![Field::reason()],
            button: format!("End the sessions of {}", operator.name),
            danger: true,
            command: String::new(),
        })
    }));
    Ok(shown(&visit, "Operators", &blocks))
}

/// Ends every session of somebody.
#[handler]
pub async fn end_sessions(visit: Data<&Arc<Visit>>, Path(name): Path<String>) -> Result<Response> {
    for_admins(&visit)?;
    let store = visit.console.app.store.clone();
    perform(&visit, Deed { act: "operators end-sessions", target: name.clone() }, async move {
        let ended = store.close_sessions_of(&name).await.map_err(|fault| database_away(&fault))?;
        Ok(((), format!("{ended} sessions ended")))
    })
    .await?;
    Ok(redirect("/admin/operators"))
}

fn for_admins(visit: &Visit) -> Result<(), Problem> {
    let refused = || Problem::new(StatusCode::FORBIDDEN, "forbidden", "this page is for admins");
    (visit.role == Role::Admin).then_some(()).ok_or_else(refused)
}
