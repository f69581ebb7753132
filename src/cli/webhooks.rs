//! `webhooks ls | show | replay | verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::operate::{Closed, through_daemon};
use super::{FINDINGS, UNAVAILABLE, Usage, open_to_read, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::jobs::{self, Inbox, replay};
use crate::store::{Access, EventFilter, EventRow, EventStatus, Store, StoreError, WholeEvent};
use crate::webhooks::{Delivery, Envelope, Fault, PayPalClient, Verifier};

/// The inbox.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Events, newest first
    Ls {
        /// Only in this state: verified, processing, processed, ignored, failed, dead, conflict; rejected: what was not believed
        #[arg(long)]
        status: Option<EventStatus>,
        /// Only of this source
        #[arg(long)]
        source: Option<String>,
        /// Only what came from this instant on, RFC 3339
        #[arg(long)]
        since: Option<DateTime<Utc>>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// One event with its body, what became of it, and why
    Show {
        /// The id of the row, or the sender's id of the event
        id: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Apply events again; what was found genuine then is not judged anew
    Replay(Replay),
    /// Compare PayPal's events and payments with ours; what never came is fetched and stored
    Reconcile(Reconcile),
    /// Check a delivery that was written down: {"headers": {..}, "body": ".." or "body_base64": ".."}
    Verify(Verify),
}

/// Which events, and how that is told.
#[derive(Args, Debug)]
pub struct Replay {
    /// The id of the row, or the sender's id of the event
    #[arg(required_unless_present = "status", conflicts_with = "status")]
    id: Option<String>,
    /// All in this state: failed, dead, ignored or processed
    #[arg(long, requires = "since")]
    status: Option<EventStatus>,
    /// With --status: only what came from this instant on, RFC 3339
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// How far back, and how that is told.
#[derive(Args, Debug)]
pub struct Reconcile {
    /// Days to look back, 1 to 30; 7 if not given
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=30))]
    days: Option<i64>,
    /// Only say what differs
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What is checked, and as of when.
#[derive(Args, Debug)]
pub struct Verify {
    /// The delivery
    file: PathBuf,
    /// As of this instant, RFC 3339; now, where it is left out
    #[arg(long)]
    at: Option<DateTime<Utc>>,
    /// The signing certificate (PEM or DER), instead of the one at the delivery's address; nothing is fetched from there then
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The webhook it was for; paypal.webhook_id, or `webhook_id` of the file, where it is left out
    #[arg(long)]
    webhook_id: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Shows, checks or does.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<ExitCode> {
    let done = |(): ()| ExitCode::SUCCESS;
    match command {
        Command::Ls { status, source, since, limit, json } => {
            let filter =
                EventFilter { source: source.clone(), status: *status, event_id: None, since: *since, limit: *limit };
            list(config, &filter, *json).await.map(done)
        }
        Command::Show { id, json } => show(config, id, *json).await.map(done),
        Command::Replay(command) => again(config, clock, command).await.map(done),
        Command::Reconcile(command) => reconcile(config, clock, command).await,
        Command::Verify(command) => verify(config, clock, command).await,
    }
}

async fn list(config: &Config, filter: &EventFilter, json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let events = store.list_events(filter).await;
    store.close().await;
    let events = events?;
    if json {
        return events.iter().try_for_each(output::print_json);
    }
    let row = |event: &EventRow| {
        let detail = event.error.as_ref().or(event.effect.as_ref()).map(String::as_str).unwrap_or_default();
        vec![
            output::utc(event.received_at),
            event.source.clone(),
            event.status.to_string(),
            event.event_type.clone(),
            event.event_id.clone(),
            event.attempts.to_string(),
            detail.chars().take(100).collect(),
        ]
    };
    let header = ["RECEIVED", "SOURCE", "STATUS", "TYPE", "EVENT", "TRIES", "DETAIL"];
    output::print(&output::table(&header, &events.iter().map(row).collect::<Vec<_>>()))
}

async fn show(config: &Config, id: &str, json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let found = store.event(id).await;
    store.close().await;
    let Some(WholeEvent { row, body, headers }) = found? else {
        bail!("there is no event {id}; bellwether webhooks ls names the newest");
    };
    let parsed = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if json {
        let mut whole = serde_json::to_value(&row)?;
        whole["body"] = json!(body);
        whole["headers"] = json!(parsed(&headers));
        whole["effect"] = json!(parsed(&row.effect));
        return output::print_json(&whole);
    }
    let at = |instant: Option<DateTime<Utc>>| instant.map_or_else(|| "-".to_owned(), output::utc);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("row", row.id.to_string()),
        ("event", format!("{} of {}", row.event_id, row.source)),
        ("type", row.event_type.clone()),
        ("status", row.status.to_string()),
        ("verdict", row.verdict.clone()),
        ("made", at(row.created_at)),
        ("received", output::utc(row.received_at)),
        ("attempts", row.attempts.to_string()),
        ("next try", at(row.next_attempt_at)),
        ("ended", at(row.processed_at)),
        ("error", text(&row.error)),
        ("effect", text(&row.effect)),
        ("hash", row.payload_hash.clone()),
        ("headers", text(&headers)),
        ("body", body.unwrap_or_else(|| "forgotten, by its retention".to_owned())),
    ];
    output::print(&lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect::<String>())
}

async fn again(config: &Config, clock: SharedClock, command: &Replay) -> anyhow::Result<()> {
    let request = replay::Request {
        id: command.id.clone(),
        status: command.status,
        since: command.since,
        dry_run: command.dry_run,
    };
    let opened =
        Store::open(&config.database, Access::Writer, config.database_connections, config.database_timeout).await;
    let answer = match opened {
        Ok(store) => {
            store.migrate().await?;
            let answer = replay::replay(&store, &request, clock.now()).await;
            store.close().await;
            serde_json::to_value(answer.map_err(|fault| match fault {
                replay::Refusal::Misuse(_) => anyhow::Error::new(Usage(fault.to_string())),
                replay::Refusal::NotFound(_) => anyhow::Error::msg(fault.to_string()),
                replay::Refusal::Store(fault) => fault.into(),
            })?)?
        }
        Err(StoreError::InUse(_)) => {
            through_daemon(config, "/api/v1/webhooks/replay", &serde_json::to_value(&request)?).await?
        }
        Err(fault) => return Err(fault.into()),
    };
    if command.json {
        return output::print_json(&answer);
    }
    let would = if command.dry_run { "nothing was changed; it would be so: " } else { "" };
    let more = match answer["more"].as_bool() {
        Some(true) => format!(
            "there are more: these are the newest {}, the most of one call; what is mended leaves the state, so call again\n",
            replay::MOST
        ),
        _ => String::new(),
    };
    output::print(&format!("{would}{} events wait for their turn again\n{more}", answer["replayed"]))
}

async fn reconcile(config: &Config, clock: SharedClock, command: &Reconcile) -> anyhow::Result<ExitCode> {
    let Some(client) = PayPalClient::new(&config.paypal, Arc::clone(&clock))?.map(Arc::new) else {
        bail!(Usage("PayPal cannot be asked: set PAYPAL_CLIENT_ID and PAYPAL_SECRET".to_owned()));
    };
    let access = if command.dry_run { Access::Reader } else { Access::Writer };
    let opened = Store::open(&config.database, access, config.database_connections, config.database_timeout).await;
    let store = match opened {
        Ok(store) => store,
        Err(StoreError::InUse(_)) => {
            if command.days.is_some() {
                let why = "the daemon that has the file looks back to its last run that went well, up to 30 days, by itself; leave \
                           --days out, look with --dry-run, or stop the daemon first";
                return Err(Closed::new(why.to_owned()).into());
            }
            let answer = through_daemon(config, "/api/v1/jobs/reconcile-paypal/run", &json!({})).await?;
            let told = format!("the daemon does it: bellwether runs show {}\n", answer["run"].as_str().unwrap_or("-"));
            if command.json {
                output::print_json(&answer)?
            } else {
                output::print(&told)?
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(fault) => return Err(fault.into()),
    };
    if !command.dry_run {
        store.migrate().await?;
    }
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let inbox = (!command.dry_run).then(|| Inbox::start(&store, &clock, &tasks, &stop));
    let days = command.days.map_or(jobs::reconcile::LOOKS_BACK, TimeDelta::days);
    let from = clock.now() - days;
    let found = jobs::Reconcile { store: store.clone(), clock, client, inbox }.compare(from).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    store.close().await;
    let found = found?;
    if command.json {
        output::print_json(&found)?;
    } else {
        let named = |name: &str, ids: &[String]| ids.iter().map(|id| format!("  {name} {id}\n")).collect::<String>();
        output::print(&format!(
            "{} events, {} were missing, {} of them stored now\n{}{} payments, {} are nowhere in the books, {} have another \
             amount there; {} refunds are nowhere in the books\n{}{}{}",
            found.events,
            found.missing,
            found.stored,
            named("missing", &found.missing_ids),
            found.transactions,
            found.unknown_transactions.count,
            found.different_amounts.count,
            found.unknown_refunds.count,
            named("unknown", &found.unknown_transactions.ids),
            named("different", &found.different_amounts.ids),
            named("unknown refund", &found.unknown_refunds.ids)
        ))?;
    }
    let left = found.missing > found.stored || found.money_differs();
    Ok(ExitCode::from(if left { FINDINGS } else { 0 }))
}

#[derive(Serialize)]
struct Answer<'a> {
    genuine: Option<bool>,
    verdict: Option<&'static str>,
    code: Option<&'a str>,
    detail: Option<String>,
    at: DateTime<Utc>,
    event_id: Option<String>,
    event_type: Option<String>,
}

async fn verify(config: &Config, clock: SharedClock, command: &Verify) -> anyhow::Result<ExitCode> {
    let name = command.file.display();
    let text = std::fs::read_to_string(&command.file).with_context(|| format!("{name} cannot be read"))?;
    let file: Value = serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
    let body = body_of(&file).with_context(|| format!("{name} is not a delivery"))?;
    let mut paypal = config.paypal.clone();
    let own = command.webhook_id.clone().or(paypal.webhook_id.take());
    paypal.webhook_id = own.or_else(|| file["webhook_id"].as_str().map(str::to_owned));
    let at = command.at.unwrap_or_else(|| clock.now());
    let client = PayPalClient::new(&paypal, Arc::clone(&clock))?.map(Arc::new);
    let verifier = Verifier::new(&paypal, client, clock)?;
    let checked = async {
        let delivery = Delivery::read(|header| values_of(&file, header))?;
        match &command.certificate {
            None => verifier.verify(&delivery, &body, at).await,
            Some(path) => {
                let unreadable = |fault: std::io::Error| Fault::Undecided {
                    code: "certificate_unavailable",
                    detail: format!("{}: {fault}", path.display()),
                };
                let certificate = std::fs::read(path).map_err(unreadable)?;
                verifier.verify_with(&delivery, &body, &certificate, at).await
            }
        }
    };
    let result = checked.await;
    let envelope = Envelope::read(&body);
    let answer = Answer {
        genuine: match &result {
            Ok(_) => Some(true),
            Err(Fault::Refused(_)) => Some(false),
            Err(Fault::Undecided { .. }) => None,
        },
        verdict: result.as_ref().ok().map(|verdict| verdict.name()),
        code: result.as_ref().err().map(Fault::code),
        detail: result.as_ref().err().map(ToString::to_string),
        at,
        event_id: envelope.as_ref().ok().map(|envelope| envelope.id.clone()),
        event_type: envelope.as_ref().ok().map(|envelope| envelope.event_type.clone()),
    };
    if command.json {
        output::print_json(&answer)?;
    } else {
        let event = answer.event_id.as_deref().unwrap_or("an event without an id");
        let said = match &result {
            Ok(verdict) => format!("genuine ({verdict}): {event} as of {}\n", output::utc(at)),
            Err(Fault::Refused(refusal)) => format!("refused: {event} as of {}: {refusal}\n", output::utc(at)),
            Err(fault) => format!("undecided: {event} as of {}: {fault}\n", output::utc(at)),
        };
        output::print(&said)?;
    }
    Ok(ExitCode::from(match result {
        Ok(_) => 0,
        Err(Fault::Refused(_)) => FINDINGS,
        Err(Fault::Undecided { .. }) => UNAVAILABLE,
    }))
}

/// The raw body: base64, or a text as it stands. A nested object would have to be written anew, which breaks every signature.
fn body_of(file: &Value) -> anyhow::Result<Vec<u8>> {
    if let Some(text) = file["body_base64"].as_str() {
        return STANDARD.decode(text).context("`body_base64` is not base64");
    }
    match file["body"].as_str() {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => bail!("it needs `body_base64`, or the raw body as text in `body`"),
    }
}

fn values_of<'f>(file: &'f Value, header: &str) -> Vec<&'f [u8]> {
    let headers = file["headers"].as_object().into_iter().flatten();
    let found = headers.filter(|(name, _)| name.eq_ignore_ascii_case(header));
    found.filter_map(|(_, value)| value.as_str().map(str::as_bytes)).collect()
}
