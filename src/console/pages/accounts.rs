//! Accounts: found by name or address, and what is known of the money of one.

use std::sync::Arc;

use poem::web::{Data, Path};
use poem::{Response, Result, handler};
use serde_json::Value;

use super::{ROWS, Visit};
use crate::api::Problem;
use crate::console::page::{Block, Cell, Field, Form, show as shown};
use crate::console::visit::database_away;
use crate::jobs::account_picture::picture;

/// Accounts of a name or an address (`q`); without one, the newest.
#[handler]
pub async fn find(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let wanted = visit.fields.text("q");
    let accounts = visit.console.app.store.find_accounts(wanted, ROWS).await.map_err(|fault| database_away(&fault))?;
    let rows = accounts.iter().map(|account| {
        let status = account.status.clone();
        vec![
            Cell::link("accounts", &account.user_id),
            Cell::maybe(account.email.as_deref()),
            status.map_or_else(|| Cell::text(""), Cell::State),
            Cell::maybe(account.plan.as_deref()),
            visit.maybe_time(account.current_period_end),
            Cell::text(account.origin.as_str()),
            visit.time(account.created_at),
        ]
    });
    let blocks = [
        Block::Form(Form {
            action: "/admin/accounts".to_owned(),
            method: "get",
            title: "Whose",
            fields: vec![Field::wanted("q", "The site's name for the account, or its e-mail address", wanted)],
            button: "Find".to_owned(),
            danger: false,
            command: "bellwether renewals show ACCOUNT".to_owned(),
        }),
        Block::Table {
            caption: if wanted.is_some() { "Found" } else { "The newest" }.to_owned(),
            header: vec!["Account", "Address", "Subscription", "Plan", "Until", "Made by", "Since"],
            rows: rows.collect(),
            none: "There is none.",
        },
    ];
    Ok(shown(&visit, "Accounts", &blocks))
}

/// The money of one account, and every change of it.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>, Path(account): Path<String>) -> Result<Response> {
    let app = &visit.console.app;
    let found = picture(&app.store, &app.renewals.rules, &account, visit.now).await;
    let found = found.map_err(|fault| database_away(&fault))?;
    let Some(whole) = found else { return without_money(&visit, &account).await };
    let facts = |value: &Value| -> Vec<Vec<Cell>> {
        let members = value.as_object().into_iter().flatten();
        members.map(|(name, value)| vec![Cell::text(name.replace('_', " ")), visit.value(value)]).collect()
    };
    let list = |name: &str, columns: &[&str]| -> Vec<Vec<Cell>> {
        let rows = whole[name].as_array().into_iter().flatten();
        rows.map(|row| columns.iter().map(|column| visit.value(&row[*column])).collect()).collect()
    };
    let mut blocks = Vec::new();
    if let Some(n) = whole["audit_broken_at"].as_i64() {
        blocks.push(Block::Alarm(format!("The audit was changed: entry {n} does not follow from the one before it.")));
    }
    blocks.extend([
        Block::Table {
            caption: "Subscription".to_owned(),
            header: vec!["Name", "Value"],
            rows: facts(&whole["subscription"]),
            none: "None.",
        },
        Block::Facts(vec![
            ("Looked at next", visit.value(&whole["next_action_at"])),
            ("Paid invites left", visit.value(&whole["credits"])),
            ("Months redeemed", visit.value(&whole["free_months"])),
            ("Wants next", visit.value(&whole["wishes"])),
            (
                "Invites",
                Cell::Link {
                    href: format!("/admin/referrals?{}", query("account", &account)),
                    text: "show".to_owned(),
                },
            ),
            ("The same on the command line", Cell::Code(format!("bellwether renewals show {account}"))),
        ]),
        Block::Table {
            caption: "Payments".to_owned(),
            header: vec!["When", "Id", "Amount", "Verdict", "PayPal's subscription"],
            rows: list("payments", &["paid_at", "id", "amount", "verdict", "subscription"]),
            none: "None.",
        },
        Block::Table {
            caption: "To end at PayPal".to_owned(),
            header: vec!["When", "PayPal's subscription", "State", "Attempts", "Confirmed", "Error"],
            rows: list("cancellations", &["requested_at", "link_id", "state", "attempts", "confirmed_at", "error"]),
            none: "None.",
        },
        Block::Table {
            caption: "For an operator".to_owned(),
            header: vec!["When", "What", "In words", "Settled"],
            rows: list("flags", &["at", "code", "detail", "resolved_at"]),
            none: "Nothing.",
        },
        Block::Table {
            caption: "Every change".to_owned(),
            header: vec!["No.", "When", "Who", "Why", "Before", "After"],
            rows: list("audit", &["n", "at", "actor", "cause", "before", "after"]),
            none: "None.",
        },
    ]);
    Ok(shown(&visit, &format!("Account {account}"), &blocks))
}

/// An account that has only come: made by an invite, or by the site.
async fn without_money(visit: &Visit, account: &str) -> Result<Response> {
    let found = visit.console.app.store.find_accounts(Some(account), 1).await.map_err(|fault| database_away(&fault))?;
    let found = found.into_iter().find(|found| found.user_id == account);
    let row = found.ok_or_else(|| Problem::not_found("there is no such account"))?;
    let invites =
        Cell::Link { href: format!("/admin/referrals?{}", query("account", account)), text: "show".to_owned() };
    let blocks = [
        Block::Words("It has no subscription and has paid nothing.".to_owned()),
        Block::Facts(vec![
            ("Address", Cell::maybe(row.email)),
            ("Made by", Cell::text(row.origin)),
            ("Since", visit.time(row.created_at)),
            ("Invites", invites),
        ]),
    ];
    Ok(shown(visit, &format!("Account {account}"), &blocks))
}

fn query(name: &str, value: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
}
