//! `admin create | reset-password | remove | ls`, and `audit ls`: who may use the console, and what they did there.

use std::io::Read;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::operate::{How, through_daemon};
use super::{Usage, open_to_read, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::jobs::operators::{Change, ChangeRefusal, change};
use crate::ops::password;
use crate::store::{Access, Role, SESSIONS, Store, StoreError};

/// Operators of the console.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Let somebody sign in to the console
    Create {
        /// What they sign in with: letters, digits, and . _ - @
        name: String,
        /// viewer (looks), operator (looks and acts), admin (and sees who may)
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        how: How,
    },
    /// Give somebody another password, and end their sessions
    ResetPassword {
        /// Whose
        name: String,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        how: How,
    },
    /// Let somebody sign in no longer, and end their sessions; what they did is kept
    Remove {
        /// Who
        name: String,
        /// Yes, do it
        #[arg(long, required_unless_present = "dry_run")]
        yes: bool,
        #[command(flatten)]
        how: How,
    },
    /// Who may sign in
    Ls {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// What was done in the console.
#[derive(Subcommand, Debug)]
pub enum Audit {
    /// What operators did, newest first; what was changed about an account: renewals show ACCOUNT
    Ls {
        /// Of this operator only
        #[arg(long)]
        operator: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Where the password comes from.
#[derive(Args, Debug)]
pub struct Password {
    /// Read the password from standard input, to the end of its first line: an argument would show in the list of processes
    #[arg(long, required = true)]
    password_stdin: bool,
}

/// Changes, or lists.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<()> {
    let (change, how) = match command {
        Command::Create { name, role, how, .. } => {
            let password_hash = read_hash(name)?;
            (Change::Create { name: name.clone(), role: *role, password_hash }, how)
        }
        Command::ResetPassword { name, how, .. } => {
            let password_hash = read_hash(name)?;
            (Change::ResetPassword { name: name.clone(), password_hash }, how)
        }
        Command::Remove { name, how, .. } => (Change::Remove { name: name.clone() }, how),
        Command::Ls { json } => return list(config, clock.now(), *json).await,
    };
    make(config, change, how, clock.now()).await
}

/// What operators did.
pub async fn audit(command: &Audit, config: &Config) -> anyhow::Result<()> {
    let Audit::Ls { operator, limit, json } = command;
    let store = open_to_read(config).await?;
    let acts = store.acts(operator.as_deref(), *limit).await;
    store.close().await;
    let acts = acts?;
    if *json {
        return acts.iter().try_for_each(output::print_json);
    }
    let row = |act: &crate::store::OperatorAct| {
        let outcome = act.outcome.clone().unwrap_or_else(|| "not known".to_owned());
        vec![
            output::utc(act.at),
            act.operator.clone(),
            act.act.clone(),
            act.target.clone(),
            act.reason.clone(),
            outcome,
        ]
    };
    let header = ["AT", "OPERATOR", "ACT", "WITH", "WHY", "OUTCOME"];
    output::print(&output::table(&header, &acts.iter().map(row).collect::<Vec<_>>()))
}

async fn list(config: &Config, now: DateTime<Utc>, as_json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let operators = store.operators(SESSIONS, now).await;
    store.close().await;
    let operators = operators?;
    if as_json {
        return operators.iter().try_for_each(output::print_json);
    }
    let at = |at: Option<DateTime<Utc>>| at.map_or_else(|| "never".to_owned(), output::utc);
    let row = |one: &crate::store::OperatorRow| {
        vec![
            one.name.clone(),
            one.role.to_string(),
            at(one.signed_in_at),
            one.sessions.to_string(),
            output::utc(one.changed_at),
        ]
    };
    let header = ["NAME", "ROLE", "SIGNED IN", "SESSIONS", "PASSWORD SET"];
    output::print(&output::table(&header, &operators.iter().map(row).collect::<Vec<_>>()))
}

/// Here, or through the daemon that has the file.
async fn make(config: &Config, wanted: Change, how: &How, now: DateTime<Utc>) -> anyhow::Result<()> {
    let opened =
        Store::open(&config.database, Access::Writer, config.database_connections, config.database_timeout).await;
    let answer = match opened {
        Ok(store) => {
            store.migrate().await?;
            let done = change(&store, wanted, how.dry_run, now).await;
            store.close().await;
            serde_json::to_value(done.map_err(|fault| match fault {
                ChangeRefusal::Misuse(fault) => anyhow::Error::new(Usage(fault.to_string())),
                ChangeRefusal::Store(fault) => fault.into(),
                fault => anyhow::Error::msg(fault.to_string()),
            })?)?
        }
        Err(StoreError::InUse(_)) => {
            let (path, body) = request(wanted, how.dry_run);
            through_daemon(config, &path, &body).await?
        }
        Err(fault) => return Err(fault.into()),
    };
    if how.json {
        return output::print_json(&answer);
    }
    let would = if how.dry_run { "nothing was changed; it would be so: " } else { "" };
    let action = answer["action"].as_str().unwrap_or_default().replace('_', " ");
    output::print(&format!("{would}{}: {action}\n", answer["name"].as_str().unwrap_or_default()))
}

/// The call of the HTTP API that does the same.
fn request(change: Change, dry_run: bool) -> (String, Value) {
    match change {
        Change::Create { name, role, password_hash } => {
            let body = json!({ "name": name, "role": role, "password_hash": password_hash, "dry_run": dry_run });
            ("/api/v1/operators".to_owned(), body)
        }
        Change::ResetPassword { name, password_hash } => {
            let body = json!({ "password_hash": password_hash, "dry_run": dry_run });
            (format!("/api/v1/operators/{name}/password"), body)
        }
        Change::Remove { name } => (format!("/api/v1/operators/{name}/remove"), json!({ "dry_run": dry_run })),
    }
}

/// Reads a password and makes of it what is kept.
fn read_hash(name: &str) -> anyhow::Result<String> {
    let unfit = |fault: password::Unfit| Usage(fault.to_string());
    password::check_name(name).map_err(unfit)?;
    let mut text = String::new();
    // One byte more than fits, so that too long a one is seen to be.
    std::io::stdin().take(password::LONGEST as u64 + 2).read_to_string(&mut text)?;
    let line = text.split('\n').next().unwrap_or_default();
    let given = SecretString::from(line.strip_suffix('\r').unwrap_or(line).to_owned());
    Ok(password::hash(name, &given).map_err(unfit)?)
}
