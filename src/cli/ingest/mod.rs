//! `ingest once`: one cycle now, with a row in the ledger like any other; and what is known of ingestion.

pub mod state;
mod universe;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde::Serialize;
use tracing::warn;

use super::operate::{COMMAND_LINE, Closed, daemon_beside};
use super::{FAILED, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::daemon::Parts;
use crate::ingest::RequestPlan;
use crate::jobs::{self, CycleSummary};
use crate::ops::telemetry;
use crate::scheduler::JobError;
use crate::store::Origin;

/// How often the ledger is told that the cycle goes on.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Ingestion.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run one cycle now and store it
    Once {
        /// Only say what would be asked
        #[arg(long)]
        dry_run: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The last cycle, the one under way, the provider, the universe
    Status {
        /// Look again every second
        #[arg(long)]
        watch: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Why the data is as it is: one sentence, and what it follows from
    Why {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// What is quoted: where the list comes from, what changed last
    Universe {
        /// The symbols themselves, one a line
        #[arg(long, value_enum, value_name = "WHICH")]
        list: Option<universe::Which>,
        /// JSON: one object, or one a line with --list
        #[arg(long)]
        json: bool,
    },
    /// Take daily bars of past sessions from the provider; run again, it goes on
    Backfill(super::backfill::Arguments),
}

#[derive(Serialize)]
struct Planned {
    provider: &'static str,
    simulated: bool,
    symbols: usize,
    requests: usize,
    plan: RequestPlan,
}

/// Runs the cycle. The daemon must not be running: it has the SQLite file, and everywhere the quota of the provider.
pub async fn run(
    command: &Command,
    config: &Config,
    log: Option<&str>,
    clock: SharedClock,
) -> anyhow::Result<ExitCode> {
    let (dry_run, json) = match command {
        Command::Once { dry_run, json } => (dry_run, json),
        Command::Status { watch, json } => return state::status(config, &clock, *watch, *json).await,
        Command::Why { json } => return state::why(config, &clock, *json).await,
        Command::Universe { list, json } => return universe::run(config, *list, *json).await,
        Command::Backfill(arguments) => {
            telemetry::install(log.unwrap_or("warn"), config.log_json, false);
            return super::backfill::run(arguments, config, clock).await.map(|()| ExitCode::SUCCESS);
        }
    };
    telemetry::install(log.unwrap_or("warn"), config.log_json, false);
    let parts = Parts::assemble(config, clock).await?;
    if !*dry_run && let Some(daemon) = daemon_beside(&parts.store, parts.clock.now()).await? {
        parts.store.close().await;
        let host = daemon.host;
        let told = format!(
            "a daemon runs on {host}, which has the provider's quota; `bellwether jobs run ingest` has it run a cycle"
        );
        return Err(Closed::new(told).into());
    }
    let code = if *dry_run { plan(&parts, *json) } else { once(config, &parts, *json).await };
    parts.store.close().await;
    code
}

fn plan(parts: &Parts, json: bool) -> anyhow::Result<ExitCode> {
    let provider = parts.market.provider();
    let symbols = parts.market.universe_size();
    let planned = Planned {
        provider: provider.name,
        simulated: provider.simulated,
        symbols,
        requests: provider.requests_for(symbols),
        plan: parts.market.plan(),
    };
    if json {
        output::print_json(&planned)?;
    } else {
        let Planned { provider, symbols, requests, plan, .. } = planned;
        let fit = plan.warning.clone().unwrap_or_else(|| {
            let RequestPlan { quota_seconds, available_seconds, shortest_cadence_seconds, .. } = plan;
            format!(
                "it fits: the quota needs {quota_seconds} s of the {available_seconds} s a cycle has; the shortest cadence would be \
                 {shortest_cadence_seconds} s"
            )
        });
        output::print(&format!(
            "{symbols} symbols from {provider} in {requests} request(s); nothing was asked\n{fit}\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn once(config: &Config, parts: &Parts, json: bool) -> anyhow::Result<ExitCode> {
    let spec = jobs::spec_of(config, jobs::INGEST).context("the table has no ingest job")?;
    parts.store.beat(&parts.ledger.owner, COMMAND_LINE, parts.clock.now()).await?;
    if parts.market.wants_universe()
        && let Err(fault) = parts.universe.refresh().await
    {
        warn!(error = %fault, "the list of symbols could not be read; the built-in one stands in");
    }
    // What is known of symbols that fail now stays known.
    parts.market.recover().await?;
    let Some(ticket) = parts.ledger.claim_now(&spec, Origin::Manual).await? else {
        bail!("another cycle began in the same microsecond; try again");
    };
    let context = &ticket.context;
    let result = tokio::select! {
        result = parts.market.cycle(context.id, context.slot, context.deadline) => result,
        () = keep_heard_of(parts) => unreachable!("it beats for ever"),
    };
    let report = match &result {
        Ok(summary) => Ok(serde_json::to_value(summary)?),
        Err(fault) => Err(JobError::Fail(fault.to_string())),
    };
    parts.ledger.finish(&ticket, report).await;
    parts.store.retire(&parts.ledger.owner).await?;
    match result {
        Ok(summary) => show(&summary, json).map(|()| ExitCode::SUCCESS),
        Err(fault) => {
            eprintln!("bellwether: the cycle failed: {fault}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// Another process on the same database must not take a long call for a dead one.
async fn keep_heard_of(parts: &Parts) {
    let started_at = parts.clock.now();
    loop {
        if let Err(fault) = parts.store.beat(&parts.ledger.owner, COMMAND_LINE, started_at).await {
            warn!(error = %fault, "the ledger could not be told that the cycle goes on");
        }
        parts.clock.pause(HEARTBEAT).await;
    }
}

fn show(summary: &CycleSummary, json: bool) -> anyhow::Result<()> {
    if json {
        return output::print_json(summary);
    }
    let CycleSummary { source, expected, fresh, completeness, requests, duration_ms, .. } = summary;
    let cause = summary.cause.as_deref().map(|cause| format!("\nnot complete: {cause}")).unwrap_or_default();
    let pending = if summary.stored {
        ""
    } else {
        "\nthe database has not taken it yet; the next start stores it from the journal"
    };
    output::print(&format!(
        "{fresh} of {expected} symbols from {source} in {duration_ms} ms and {requests} request(s), completeness {completeness}{cause}{pending}\n"
    ))
}
