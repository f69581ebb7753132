//! The command line: a file per command. Data on stdout, talk on stderr.

mod admin;
mod arguments;
mod ask;
mod backfill;
mod calendar;
mod configuration;
mod doctor;
mod healthcheck;
mod import;
mod ingest;
mod jobs;
mod migrate;
mod openapi;
mod operate;
mod outbox;
mod output;
mod renewals;
mod runs;
mod serve;
mod simulate;
mod status;
mod version;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::clock::SystemClock;
use crate::config::{Config, Environment, Problems};
use crate::daemon::StartError;
use crate::jobs::UniverseFault;
use crate::ops::calendars::CalendarFault;
use crate::scheduler::Refusal;
use crate::store::{Access, Store, StoreError};

/// Exit codes (sysexits.h where it has one).
const FAILED: u8 = 1;
const MISUSED: u8 = 2;
const FINDINGS: u8 = 3;
const UNAVAILABLE: u8 = 69;
const TRY_LATER: u8 = 75;
const CONFIGURATION: u8 = 78;

/// Knows when the stock market is open, runs what must run then, and serves the result.
#[derive(Parser, Debug)]
#[command(name = "bellwether", version, max_term_width = 110)]
#[command(
    after_help = "With no command it serves. With no configuration it runs: SQLite in ./data, simulated prices.\n\
    Exit codes: 0 ok, 1 failed, 2 usage, 3 findings, 69 a dependency is unavailable, 75 try later, 78 configuration."
)]
pub struct Arguments {
    /// A TOML file; `bellwether config default` prints one with every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log filter, stronger than the configuration: error, warn, info, debug, trace, or target=level pairs.
    #[arg(long, global = true, value_name = "LEVEL", value_parser = log_filter)]
    log: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Arguments that make no sense together (exit code 2).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the daemon (the default)
    Serve,
    /// Name every mistake in the configuration at once
    CheckConfig(configuration::Check),
    /// Show the configuration
    #[command(subcommand)]
    Config(configuration::Command),
    /// Bring the database schema up to date
    Migrate(migrate::Arguments),
    /// Phase and countdown, next fires, last cycle, ages
    Status(status::Arguments),
    /// Ask the market calendar
    Calendar(calendar::Arguments),
    /// The schedule
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// The ledger
    #[command(subcommand)]
    Runs(runs::Command),
    /// Replay calendar and schedule without effects, one line a fire
    Simulate(simulate::Arguments),
    /// Ingestion
    #[command(subcommand)]
    Ingest(ingest::Command),
    /// Renewals of subscriptions
    #[command(subcommand)]
    Renewals(renewals::Command),
    /// The inbox: what PayPal told, and what became of it
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Letters to account holders
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Who may use the console
    #[command(subcommand)]
    Admin(admin::Command),
    /// What was done in the console
    #[command(subcommand)]
    Audit(admin::Audit),
    /// Take over what another system knew
    #[command(subcommand)]
    Import(import::Command),
    /// Check what can be wrong, and say how to mend it
    Doctor(doctor::Arguments),
    /// Ask a running daemon whether it is ready
    Healthcheck(healthcheck::Arguments),
    /// The OpenAPI document of the HTTP API, as JSON
    Openapi,
    /// Version and revision
    Version(version::Arguments),
}

fn log_filter(text: &str) -> Result<String, String> {
    crate::config::check_log_filter(text).map(|()| text.to_owned())
}

/// Reads the command line. A refusal, or an answered `--help`, comes back as the exit code.
///
/// # Errors
/// The exit code to end with: 0 after help, 2 for a misuse.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|refusal| {
        // Nowhere to tell it to when even this fails.
        let _ = refusal.print();
        ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(FAILED))
    })
}

/// Does what was asked for and gives the exit code.
pub async fn run(arguments: Arguments, environment: Environment) -> ExitCode {
    // One TLS provider for every client; a second call is refused and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match dispatch(arguments, &environment).await {
        Ok(code) => code,
        Err(fault) => {
            tell(&fault);
            ExitCode::from(code_of(&fault))
        }
    }
}

async fn dispatch(arguments: Arguments, environment: &Environment) -> anyhow::Result<ExitCode> {
    let load = || Config::load(arguments.config.as_deref(), environment);
    let done = |(): ()| ExitCode::SUCCESS;
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            let colour = output::wants_colour(environment);
            serve::run(load()?, arguments.log.as_deref(), colour).await
        }
        Command::CheckConfig(command) => configuration::check(&command, load()).map(done),
        Command::Config(command) => configuration::run(&command, load).map(done),
        Command::Migrate(command) => migrate::run(&command, &load()?).await.map(done),
        Command::Status(command) => status::run(&command, &load()?, SystemClock::start()).await.map(done),
        Command::Calendar(command) => {
            let colour = output::wants_colour_on_stdout(environment);
            calendar::run(&command, &load()?, &*SystemClock::start(), colour).await
        }
        Command::Jobs(command) => jobs::run(&command, &load()?, SystemClock::start()).await,
        Command::Runs(command) => runs::run(&command, &load()?, SystemClock::start()).await.map(done),
        Command::Simulate(command) => simulate::run(&command, &load()?, SystemClock::start()).await,
        Command::Ingest(command) => {
            ingest::run(&command, &load()?, arguments.log.as_deref(), SystemClock::start()).await
        }
        Command::Renewals(command) => renewals::run(&command, &load()?, SystemClock::start()).await,
        Command::Webhooks(command) => webhooks::run(&command, &load()?, SystemClock::start()).await,
        Command::Outbox(command) => outbox::run(&command, &load()?, SystemClock::start()).await.map(done),
        Command::Admin(command) => admin::run(&command, &load()?, SystemClock::start()).await.map(done),
        Command::Audit(command) => admin::audit(&command, &load()?).await.map(done),
        Command::Import(command) => import::run(&command, &load()?, SystemClock::start()).await,
        Command::Doctor(command) => doctor::run(&command, &load()?, SystemClock::start()).await,
        Command::Healthcheck(command) => healthcheck::run(&command, &load()?).await,
        Command::Openapi => openapi::run().map(done),
        Command::Version(command) => version::run(&command).map(done),
    }
}

/// Every mistake of a configuration has a line of its own.
fn tell(fault: &anyhow::Error) {
    match fault.downcast_ref::<Problems>() {
        Some(problems) => {
            eprintln!("bellwether: {problems}");
            for problem in &problems.0 {
                eprintln!("  {problem}");
            }
        }
        None => eprintln!("bellwether: {fault:#}"),
    }
}

fn code_of(fault: &anyhow::Error) -> u8 {
    let of_store = |fault: &StoreError| match fault {
        StoreError::InUse(_) => TRY_LATER,
        StoreError::Unavailable { .. } | StoreError::Deadline(_) => UNAVAILABLE,
        _ => FAILED,
    };
    if fault.is::<Problems>() {
        return CONFIGURATION;
    }
    if let Some(fault) = fault.downcast_ref::<StoreError>() {
        return of_store(fault);
    }
    if fault.is::<Usage>() {
        return MISUSED;
    }
    match fault.downcast_ref::<Refusal>() {
        Some(Refusal::Store(fault)) => return of_store(fault),
        Some(Refusal::Misuse(_) | Refusal::NoSuchJob { .. }) => return MISUSED,
        Some(Refusal::NoSuchRun(_) | Refusal::Conflict(_)) => return FAILED,
        None => {}
    }
    if fault.is::<operate::Closed>() {
        return TRY_LATER;
    }
    let of_calendar = |fault: &CalendarFault| match fault {
        CalendarFault::Store(fault) => of_store(fault),
        _ => CONFIGURATION,
    };
    if let Some(fault) = fault.downcast_ref::<CalendarFault>() {
        return of_calendar(fault);
    }
    match fault.downcast_ref::<StartError>() {
        Some(StartError::Calendar(fault)) => of_calendar(fault),
        Some(StartError::Store(fault)) => of_store(fault),
        Some(StartError::Listen { .. } | StartError::Clock(_)) => UNAVAILABLE,
        Some(StartError::PayPal(_)) => CONFIGURATION,
        Some(StartError::Universe(UniverseFault::Store(fault))) => of_store(fault),
        Some(StartError::Universe(_)) => CONFIGURATION,
        _ => FAILED,
    }
}

/// Opens the database to read, beside a daemon that may be running.
async fn open_to_read(config: &Config) -> anyhow::Result<Store> {
    if let crate::config::DatabaseTarget::Sqlite(path) = &config.database
        && !path.exists()
    {
        let target = config.database.to_string();
        let cause = "there is no such file yet; `bellwether serve` or `bellwether migrate` makes it".to_owned();
        return Err(StoreError::Unavailable { target, cause }.into());
    }
    Ok(Store::open(&config.database, Access::Reader, 1, config.database_timeout).await?)
}
