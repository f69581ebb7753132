//! `outbox ls | preview`.

use clap::Subcommand;
use serde_json::json;

use super::{Usage, open_to_read, output};
use crate::config::Config;
use crate::mail::Letter;

/// Letters to account holders.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Letters of a state, oldest first
    Ls {
        /// The state; what waits is queued
        #[arg(long, default_value = "queued")]
        state: String,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line
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
}

/// Lists, or shows.
pub async fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    match command {
        Command::Ls { state, limit, json } => list(config, state, *limit, *json).await,
        Command::Preview { step, html } => {
            let example = json!({
                "plan": "gold", "current_period_end": "2027-03-13T05:00:00Z", "referral_code": "ABCDEFGHJK",
            });
            let letter = Letter::of(step, &example, &config.site.frontend_url).ok_or_else(|| {
                Usage(format!("there is no letter {step:?}; `bellwether outbox preview --help` names them"))
            })?;
            let words = if *html { letter.html() } else { letter.plain() };
            output::print(&format!("Subject: {}\n\n{words}", letter.subject))
        }
    }
}

async fn list(config: &Config, state: &str, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let letters = store.letters(state, limit).await;
    store.close().await;
    let letters = letters?;
    if as_json {
        return letters.iter().try_for_each(|letter| {
            output::print_json(&json!({
                "id": letter.id, "account": letter.account, "period": letter.period, "step": letter.step,
                "recipient": letter.recipient, "state": letter.state, "attempts": letter.attempts, "error": letter.error,
            }))
        });
    }
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|letter| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (account, step) = (letter.account.clone(), letter.step.clone());
            vec![
                account,
                step,
                letter.period.clone(),
                text(&letter.recipient),
                letter.attempts.to_string(),
                text(&letter.error),
            ]
        })
        .collect();
    output::print(&output::table(&["ACCOUNT", "STEP", "ABOUT", "TO", "TRIES", "ERROR"], &rows))
}
