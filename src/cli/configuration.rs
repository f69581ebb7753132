//! `check-config`, `config show`, `config default`.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output;
use crate::config::{Config, DEFAULT_TOML, Problems};
use crate::daemon::StartError;
use crate::jobs;

/// What to show of the configuration.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// What holds, with secrets left out
    Show {
        /// Where each value came from
        #[arg(long)]
        origin: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The default with every key and what it is for
    Default,
}

/// Name every mistake.
#[derive(Args, Debug)]
pub struct Check {
    /// One JSON object, mistakes included
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    problems: Vec<Mistake<'a>>,
}

#[derive(Serialize)]
struct Mistake<'a> {
    key: &'a str,
    origin: String,
    message: &'a str,
    fix: &'a str,
}

/// Says that there is no mistake; the mistakes themselves are told by whoever ends the program.
pub fn check(arguments: &Check, loaded: Result<Config, Problems>) -> anyhow::Result<()> {
    if arguments.json {
        let problems = loaded.as_ref().err().map_or(&[][..], |problems| &problems.0);
        let mistakes = problems.iter().map(|problem| Mistake {
            key: &problem.key,
            origin: problem.origin.to_string(),
            message: &problem.message,
            fix: &problem.fix,
        });
        output::print_json(&Checked { ok: loaded.is_ok(), problems: mistakes.collect() })?;
    }
    let config = loaded?;
    jobs::universe::local(&config.ingest.universe, &[]).map_err(StartError::Universe)?;
    if !arguments.json {
        output::print(&format!("ok: {} settings, no mistake\n", config.settings.len()))?;
    }
    Ok(())
}

/// Shows.
pub fn run(command: &Command, load: impl Fn() -> Result<Config, Problems>) -> anyhow::Result<()> {
    match command {
        Command::Default => output::print(DEFAULT_TOML),
        Command::Show { origin, json: true } => show_json(&load()?, *origin),
        Command::Show { origin, json: false } => show(&load()?, *origin),
    }
}

fn show(config: &Config, origin: bool) -> anyhow::Result<()> {
    let rows = config.settings.iter().map(|setting| {
        let value = setting.shown.clone().unwrap_or_else(|| "(not set)".to_owned());
        let cells = [setting.key.clone(), value, setting.origin.to_string()];
        cells.into_iter().take(if origin { 3 } else { 2 }).collect()
    });
    let header = if origin { &["KEY", "VALUE", "ORIGIN"][..] } else { &["KEY", "VALUE"] };
    output::print(&output::table(header, &rows.collect::<Vec<_>>()))
}

#[derive(Serialize)]
struct Shown<'a> {
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

fn show_json(config: &Config, origin: bool) -> anyhow::Result<()> {
    let shown = config.settings.iter().map(|setting| {
        let origin = origin.then(|| setting.origin.to_string());
        (setting.key.as_str(), Shown { value: setting.shown.as_deref(), origin })
    });
    output::print_json(&shown.collect::<std::collections::BTreeMap<_, _>>())
}
