//! `outbox ls | show | preview | retry`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::operate::through_daemon;
use super::{Usage, open_to_read, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::jobs::outbox::{RetryRefusal, RetryRequest, retry};
use crate::mail::{Letter, STEPS, example, message_id};
use crate::store::{Access, LetterRow, LetterState, Store, StoreError};

/// Letters to account holders.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Letters, oldest first
    Ls {
        /// Only in this state: waiting, sending, failed, sent, dead, dropped; without it, all
        #[arg(long)]
        state: Option<LetterState>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// One letter: what is in it, what became of it, and why
    Show {
        /// Its id
        id: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The words of a letter, with an example in it
    Preview {
        /// welcome, canceled, suspended, expired, taken_back, invitation, or dunning_0, dunning_1 ..
        step: String,
        /// As HTML
        #[arg(long)]
        html: bool,
    },
    /// Let letters that were not sent wait for their turn again
    Retry(Retry),
}

/// Which letters, and how that is told.
#[derive(Args, Debug)]
pub struct Retry {
    /// The id of the letter
    #[arg(required_unless_present = "state", conflicts_with = "state")]
    id: Option<String>,
    /// All in this state: failed, dead or dropped
    #[arg(long, requires = "since")]
    state: Option<LetterState>,
    /// With --state: only what was written from this instant on, RFC 3339
    #[arg(long)]
    since: Option<DateTime<Utc>>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Lists, shows, or lets wait again.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<()> {
    match command {
        Command::Ls { state, limit, json } => list(config, *state, *limit, *json).await,
        Command::Show { id, json } => show(config, id, *json).await,
        Command::Preview { step, html } => {
            let letter = Letter::of(step, &example(), &config.site.frontend_url)
                .ok_or_else(|| Usage(format!("there is no letter {step:?}; there are {} ..", STEPS.join(", "))))?;
            let words = if *html { letter.html()? } else { letter.plain()? };
            output::print(&format!("Subject: {}\n\n{words}", letter.subject))
        }
        Command::Retry(command) => again(config, clock, command).await,
    }
}

async fn list(config: &Config, state: Option<LetterState>, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let letters = store.letters(state, limit).await;
    store.close().await;
    let letters = letters?;
    if as_json {
        return letters.iter().try_for_each(output::print_json);
    }
    let row = |letter: &LetterRow| {
        vec![
            letter.id.clone(),
            output::utc(letter.created_at),
            letter.account.clone(),
            letter.step.clone(),
            letter.state.to_string(),
            letter.recipient.clone().unwrap_or_else(|| "-".to_owned()),
            letter.attempts.to_string(),
            letter.error.as_deref().unwrap_or_default().chars().take(100).collect(),
        ]
    };
    let header = ["LETTER", "WRITTEN", "ACCOUNT", "STEP", "STATE", "TO", "TRIES", "DETAIL"];
    output::print(&output::table(&header, &letters.iter().map(row).collect::<Vec<_>>()))
}

async fn show(config: &Config, id: &str, as_json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let found = store.letter(id).await;
    store.close().await;
    let Some(row) = found? else { anyhow::bail!("there is no letter {id}; bellwether outbox ls names them") };
    let details: Value = serde_json::from_str(&row.details).unwrap_or_default();
    let letter = Letter::of(&row.step, &details, &config.site.frontend_url);
    let words = letter.as_ref().map(Letter::plain).transpose()?;
    let subject = letter.as_ref().map(|letter| letter.subject);
    // By the sender of this configuration; the log of the server has the same.
    let sender = config.mail.server.as_ref().map(|server| server.from.email.domain());
    let message_id = sender.map(|domain| message_id([&row.account, &row.period, &row.step], domain));
    if as_json {
        let mut whole = serde_json::to_value(&row)?;
        whole["message_id"] = json!(message_id);
        whole["subject"] = json!(subject);
        whole["text"] = json!(words);
        return output::print_json(&whole);
    }
    let at = |instant: Option<DateTime<Utc>>| instant.map_or_else(|| "-".to_owned(), output::utc);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("letter", row.id.clone()),
        ("account", row.account.clone()),
        ("step", format!("{} ({})", row.step, row.period)),
        ("to", text(&row.recipient)),
        ("state", row.state.to_string()),
        ("written", output::utc(row.created_at)),
        ("tries", row.attempts.to_string()),
        ("next try", at(row.next_attempt_at)),
        ("sent", at(row.sent_at)),
        ("detail", text(&row.error)),
        ("id", text(&message_id)),
        ("subject", subject.unwrap_or("-").to_owned()),
    ];
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
    output::print(&format!("{lines}\n{}", words.unwrap_or_default()))
}

async fn again(config: &Config, clock: SharedClock, command: &Retry) -> anyhow::Result<()> {
    let request =
        RetryRequest { id: command.id.clone(), state: command.state, since: command.since, dry_run: command.dry_run };
    let opened =
        Store::open(&config.database, Access::Writer, config.database_connections, config.database_timeout).await;
    let answer = match opened {
        Ok(store) => {
            store.migrate().await?;
            let answer = retry(&store, &request, clock.now()).await;
            store.close().await;
            serde_json::to_value(answer.map_err(|fault| match fault {
                RetryRefusal::Misuse(_) => anyhow::Error::new(Usage(fault.to_string())),
                RetryRefusal::NotFound(_) => anyhow::Error::msg(fault.to_string()),
                RetryRefusal::Store(fault) => fault.into(),
            })?)?
        }
        Err(StoreError::InUse(_)) => {
            through_daemon(config, "/api/v1/outbox/retry", &serde_json::to_value(&request)?).await?
        }
        Err(fault) => return Err(fault.into()),
    };
    if command.json {
        return output::print_json(&answer);
    }
    let would = if command.dry_run { "nothing was changed; it would be so: " } else { "" };
    output::print(&format!("{would}{} letters wait for their turn again\n", answer["retried"]))
}
