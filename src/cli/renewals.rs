//! `renewals run | remind | show`.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{FINDINGS, ask, open_to_read, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::jobs::account_picture::picture;

/// Renewals.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Decide now about every subscription that is due, as the nightly run does (the daemon is asked)
    Run {
        /// At most so many
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: Option<u32>,
        /// Only say what would be decided
        #[arg(long)]
        dry_run: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write the reminders that are due now, as the `dunning` job does (the daemon is asked)
    Remind {
        /// At most so many
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: Option<u32>,
        /// Only say whom, and of what
        #[arg(long)]
        dry_run: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// What is known of one account's money, and every change of it
    Show {
        /// The site's name for the account
        account: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Runs, or shows.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { limit, dry_run, json } => {
            process(config, "/api/billing/process-renewals", *limit, *dry_run, *json).await
        }
        Command::Remind { limit, dry_run, json } => {
            process(config, "/api/billing/process-dunning", *limit, *dry_run, *json).await
        }
        Command::Show { account, json } => show(config, account, clock.now(), *json).await.map(|()| ExitCode::SUCCESS),
    }
}

/// The daemon does it: it has the ledger, the row of the run, and PayPal's token.
async fn process(
    config: &Config,
    path: &str,
    limit: Option<u32>,
    dry_run: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let Some(secret) = config.cron_secrets.first() else {
        bail!("the daemon is asked over HTTP, and there is no CRON_SECRET to ask with; set the daemon's");
    };
    let mut body = json!({ "dry_run": dry_run });
    if let Some(limit) = limit {
        body["limit"] = limit.into();
    }
    let (status, answer) = ask::post_cron(ask::address_of(config), config, path, secret, &body.to_string()).await?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
    if status >= 300 {
        bail!("the daemon would not: {}", answer["detail"].as_str().unwrap_or("it gave no reason"));
    }
    let failed = answer["success"] == false;
    let code = ExitCode::from(if failed { FINDINGS } else { 0 });
    if json {
        return output::print_json(&answer).map(|()| code);
    }
    let rows: Vec<Vec<String>> = answer["results"].as_array().into_iter().flatten().map(row).collect();
    output::print(&output::table(&["ACCOUNT", "PLAN", "CYCLE", "ACTION", "REASON"], &rows))?;
    let summary = answer["summary"].as_object().cloned().unwrap_or_default();
    let counts: Vec<String> = summary.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let would = if dry_run { "nothing was changed; it would be: " } else { "" };
    output::print(&format!("{would}{}\n", counts.join(", ")))?;
    Ok(code)
}

fn row(result: &Value) -> Vec<String> {
    ["user_id", "plan", "billing_cycle", "action", "reason"]
        .map(|name| result[name].as_str().unwrap_or_default().to_owned())
        .to_vec()
}

async fn show(config: &Config, account: &str, now: DateTime<Utc>, as_json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let found = picture(&store, &config.billing, account, now).await;
    store.close().await;
    let Some(whole) = found? else { bail!("there is no account {account:?} with any money or subscription") };
    if as_json {
        return output::print_json(&whole);
    }
    output::print(&told(&whole))
}

fn told(whole: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut said = format!("account    {}\n", text(&whole["account"]));
    for (name, value) in whole["subscription"].as_object().into_iter().flatten() {
        said += &format!("{name:<20} {}\n", text(value));
    }
    for name in ["next_action_at", "credits", "free_months", "wishes"] {
        said += &format!("{name:<20} {}\n", text(&whole[name]));
    }
    let list = |name: &str, columns: &[&str]| {
        let rows = whole[name].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> =
            rows.map(|row| columns.iter().map(|column| text(&row[column])).collect()).collect();
        let header: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
        output::table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
    };
    said += &format!("\n{}", list("payments", &["paid_at", "id", "amount", "verdict"]));
    if whole["cancellations"].as_array().is_some_and(|rows| !rows.is_empty()) {
        let columns = ["requested_at", "link_id", "state", "attempts", "confirmed_at", "error"];
        said += &format!("\nto end at PayPal\n{}", list("cancellations", &columns));
    }
    if whole["flags"].as_array().is_some_and(|rows| !rows.is_empty()) {
        said += &format!("\nfor an operator\n{}", list("flags", &["at", "code", "detail", "resolved_at"]));
    }
    said += &format!("\n{}", list("audit", &["n", "at", "actor", "cause", "after"]));
    if let Some(n) = whole["audit_broken_at"].as_i64() {
        said += &format!("\nTHE AUDIT WAS CHANGED: entry {n} does not follow from the one before it\n");
    }
    said
}
