//! Invites, and what they earned.

use std::sync::Arc;

use poem::web::Data;
use poem::{Response, Result, handler};

use super::{ROWS, Visit};
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::database_away;

/// The newest invites; of one account (`account`) with how its credit stands.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let account = visit.fields.text("account");
    let invites = app.store.invites(account, ROWS).await.map_err(|fault| database_away(&fault))?;
    let mut blocks = vec![Block::Form(Form {
        action: "/admin/referrals".to_owned(),
        method: "get",
        title: "Whose",
        fields: vec![Field::wanted("account", "Account that invited", account)],
        button: "Show".to_owned(),
        danger: false,
        command: String::new(),
    })];
    if let Some(account) = account {
        let summary = app.store.referral_summary(account).await.map_err(|fault| database_away(&fault))?;
        let number = |n: i64| Cell::text(n.to_string());
        blocks.push(Block::Facts(vec![
            ("Account", Cell::link("accounts", account)),
            ("Invited", number(summary.invited)),
            ("Came", number(summary.accepted)),
            ("Pay", number(summary.paid)),
            ("Earned, less what was clawed back", number(summary.earned)),
            ("Months redeemed", number(summary.redeemed_months)),
            ("Paid invites left", number(summary.balance)),
        ]));
    }
    blocks.push(Block::Table {
        caption: "Invites, newest first".to_owned(),
        header: vec!["When", "Who", "Whom", "State", "Came as", "Paid"],
        rows: invites
            .iter()
            .map(|invite| {
                vec![
                    visit.time(invite.created_at),
                    Cell::link("accounts", &invite.inviter),
                    Cell::text(invite.email.as_str()),
                    Cell::State(invite.state.clone()),
                    invite.invitee.as_deref().map_or_else(|| Cell::text(""), |account| Cell::link("accounts", account)),
                    visit.maybe_time(invite.paid_at),
                ]
            })
            .collect(),
        none: "There is none.",
    });
    Ok(shown(&visit, "Referrals", &blocks))
}
