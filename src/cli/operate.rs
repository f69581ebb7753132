//! What changes something in the schedule or the ledger. On PostgreSQL, and on a SQLite file that no daemon has, a command does
//! it by itself; a daemon that has the file is asked.

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::{Usage, ask, open_to_read, output};
use crate::calendar::SharedCalendars;
use crate::clock::SharedClock;
use crate::config::{Config, DatabaseTarget};
use crate::jobs;
use crate::scheduler::{Ledger, Operations, Verb};
use crate::store::{Access, Instance, Store, StoreError};

const BY: &str = "by an operator on the command line";

/// How a change is made and told.
#[derive(Args, Debug)]
pub struct How {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// The daemon that has the file would not do it (exit code 75 where it cannot be asked).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Closed(String);

impl Closed {
    /// With the reason.
    pub fn new(message: String) -> Self {
        Self(message)
    }
}

/// How long a daemon may be silent and still count as one that runs; each says so every few seconds.
const SILENCE: TimeDelta = TimeDelta::minutes(1);

/// The host under which a command of its own stands among the processes on a database.
pub const COMMAND_LINE: &str = "command line";

/// A daemon that works on the same database, where several processes may (PostgreSQL): the provider's quota is in its hands.
///
/// # Errors
/// When the database fails.
pub async fn daemon_beside(store: &Store, now: DateTime<Utc>) -> Result<Option<Instance>, StoreError> {
    if store.is_exclusive() {
        return Ok(None);
    }
    let instances = store.instances().await?;
    Ok(instances.into_iter().find(|instance| instance.host != COMMAND_LINE && instance.beat_at >= now - SILENCE))
}

/// Whether there is a database to look at.
pub fn is_there(config: &Config) -> bool {
    !matches!(&config.database, DatabaseTarget::Sqlite(path) if !path.exists())
}

/// The verbs that only read, beside a daemon that may be running.
pub async fn to_read(config: &Config, clock: SharedClock) -> anyhow::Result<Operations> {
    let store = open_to_read(config).await?;
    operations(config, store, clock).await
}

async fn operations(config: &Config, store: Store, clock: SharedClock) -> anyhow::Result<Operations> {
    let calendars = super::calendar::load(config).await?;
    let calendar = SharedCalendars::new(calendars, &config.calendar.exchange);
    let calendar = calendar.ok_or_else(|| anyhow::anyhow!("there is no calendar of {:?}", config.calendar.exchange))?;
    let ledger = Ledger::new(store, clock, calendar.into());
    Ok(Operations { ledger, table: jobs::table(config), by: BY })
}

/// Does it, here or through the daemon, and tells what was done.
pub async fn act(config: &Config, clock: SharedClock, verb: &Verb, how: &How) -> anyhow::Result<()> {
    let opened =
        Store::open(&config.database, Access::Writer, config.database_connections, config.database_timeout).await;
    let answer = match opened {
        Ok(store) => {
            store.migrate().await?;
            let operations = operations(config, store, clock).await?;
            let answer = operations.perform(verb, how.dry_run).await;
            operations.ledger.store.close().await;
            answer?
        }
        Err(StoreError::InUse(_)) => {
            let (path, mut body) = request(verb);
            body["dry_run"] = Value::Bool(how.dry_run);
            through_daemon(config, &path, &body).await?
        }
        Err(fault) => return Err(fault.into()),
    };
    if how.json {
        return output::print_json(&answer);
    }
    output::print(&told(verb, &answer))
}

/// Asks the daemon that has the file. What it finds wrong with what was asked is no reason to try later.
pub async fn through_daemon(config: &Config, path: &str, body: &Value) -> anyhow::Result<Value> {
    let closed = |why: String| Closed(format!("{} is in use by a daemon, which was asked: {why}", config.database));
    let Some(token) = config.operator_tokens.first() else {
        let why = "this command has no OPERATOR_TOKEN to ask with; set the daemon's, or stop the daemon first";
        return Err(closed(why.to_owned()).into());
    };
    let asked = ask::post(ask::address_of(config), config, path, token, &body.to_string()).await;
    let (status, answer) = asked.map_err(|fault| closed(format!("{fault:#}")))?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
    let detail = || answer["detail"].as_str().unwrap_or("it gave no reason").to_owned();
    match status {
        0..300 => Ok(answer),
        400 => Err(Usage(detail()).into()),
        404 | 409 | 422 => Err(anyhow::Error::msg(detail())),
        _ => Err(closed(detail()).into()),
    }
}

/// The call of the HTTP API that does the same.
fn request(verb: &Verb) -> (String, Value) {
    match verb {
        Verb::Pause { job, until, reason } => {
            (format!("/api/v1/jobs/{job}/pause"), json!({ "until": until, "reason": reason }))
        }
        Verb::Resume { job } => (format!("/api/v1/jobs/{job}/resume"), json!({})),
        Verb::Run { job, slot } => (format!("/api/v1/jobs/{job}/run"), json!({ "slot": slot })),
        Verb::Backfill { job, from, to, max, force } => {
            let body = json!({ "from": from, "to": to, "max": max, "force": force });
            (format!("/api/v1/jobs/{job}/backfill"), body)
        }
        Verb::Retry { id, force } => (format!("/api/v1/runs/{id}/retry"), json!({ "force": force })),
        Verb::Cancel { id } => (format!("/api/v1/runs/{id}/cancel"), json!({})),
    }
}

/// In a line or a few what was done.
fn told(verb: &Verb, answer: &Value) -> String {
    let would = if answer["dry_run"] == true { "nothing was changed; it would be so:\n" } else { "" };
    let of = |key: &str| answer[key].as_str().unwrap_or("-").to_owned();
    let said = match verb {
        Verb::Pause { job, until, .. } => {
            let until =
                until.map_or_else(|| "until it is resumed".to_owned(), |until| format!("until {}", output::utc(until)));
            format!("{job} is paused {until}; its slots are left out, each with its row")
        }
        Verb::Resume { job } => format!("{job} goes on; next slot {}", of("next")),
        Verb::Run { job, .. } => format!("{job} waits for its turn: run {} for the slot {}", of("run"), of("slot")),
        Verb::Backfill { job, .. } => {
            let slots = answer["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
            let line = |slot: &Value| {
                let of = |key: &str| slot[key].as_str().unwrap_or("-");
                format!("{}  {:<6} {}\n", of("slot"), of("action"), of("state"))
            };
            let lines: String = slots.iter().map(line).collect();
            format!("{lines}{job}: {} of {} slots are run", answer["begun"], slots.len())
        }
        Verb::Retry { .. } => format!("run {} of {} waits for attempt {}", of("run"), of("job"), answer["attempt"]),
        Verb::Cancel { .. } => format!("run {} of {} is told to end; it was {}", of("run"), of("job"), of("was")),
    };
    format!("{would}{said}\n")
}
