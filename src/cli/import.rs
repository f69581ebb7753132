//! `import django`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FINDINGS, Usage, output};
use crate::clock::SharedClock;
use crate::config::{Config, DatabaseTarget};
use crate::jobs::import::{Report, import};
use crate::store::{Access, OldSite, Store, Taken};

/// What another system knew.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Accounts, subscriptions and referrals of the old site's Django database; run again, it changes nothing
    Django(Django),
}

/// From where, and how that is told.
#[derive(Args, Debug)]
pub struct Django {
    /// The old database, which is only read: sqlite:PATH or postgres://USER@HOST/NAME
    #[arg(long, value_name = "URL")]
    database_url: String,
    /// Take over plans for which no payment is on record too
    #[arg(long)]
    accept_unproved: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Takes it over. Exit code 3 where something was refused, or should be looked at.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<ExitCode> {
    let Command::Django(command) = command;
    let source: DatabaseTarget =
        command.database_url.parse().map_err(|fault| Usage(format!("--database-url: {fault}")))?;
    if source.to_string() == config.database.to_string() {
        anyhow::bail!(Usage("--database-url names the database that would be written to".to_owned()));
    }
    let old = OldSite::read(&source).await?;
    let store =
        Store::open(&config.database, Access::Writer, config.database_connections, config.database_timeout).await?;
    store.migrate().await?;
    let report = import(&store, &old, &config.billing, command.accept_unproved, clock.now(), command.dry_run).await;
    store.close().await;
    let report = report?;
    if command.json {
        output::print_json(&report)?;
    } else {
        output::print(&told(&report))?;
    }
    Ok(if report.findings_count == 0 { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

fn told(report: &Report) -> String {
    let would = if report.dry_run { "nothing was changed; it would be so:\n" } else { "" };
    let line = |name: &str, taken: Taken| format!("{name:<14} {} new, {} here already\n", taken.new, taken.already);
    let mut text = would.to_owned()
        + &line("accounts", report.accounts)
        + &line("subscriptions", report.subscriptions)
        + &line("invites", report.invites)
        + &line("redemptions", report.redemptions)
        + &format!("{:<14} {} have nothing paid for, {} are disabled there\n", "of them", report.free, report.disabled);
    for table in &report.missing_tables {
        text += &format!("missing        {table}: nothing of it was looked at\n");
    }
    for left in &report.not_portable {
        text += &format!("not portable   {} ({} rows): {}\n", left.table, left.rows, left.why);
    }
    for finding in &report.findings {
        text += &format!("FINDING        {}: {}: {}\n", finding.kind, finding.row, finding.detail);
    }
    if report.findings.len() < report.findings_count {
        text += &format!("               and {} more\n", report.findings_count - report.findings.len());
    }
    text
}
