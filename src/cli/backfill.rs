//! `ingest backfill`: daily bars of the past from the provider. Done here, or by the daemon that runs: two would each spend the whole quota.

use std::io::IsTerminal;
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::operate::{Closed, daemon_beside};
use super::{Usage, ask, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::daemon::{Parts, StartError};
use crate::jobs::{BackfillError, BackfillPlan, BackfillRequest};
use crate::store::StoreError;

/// The longest one unit may take, the waiting for the quota included.
const WITHIN: TimeDelta = TimeDelta::minutes(5);

/// The longest a daemon may take for one.
const ASKED_WITHIN: Duration = Duration::from_secs(90);

/// What to take.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The first date
    #[arg(long)]
    from: NaiveDate,
    /// The last date
    #[arg(long)]
    to: NaiveDate,
    /// Only these symbols, parted by commas; every one of the universe if not given
    #[arg(long, value_delimiter = ',')]
    symbols: Vec<String>,
    /// Only say what would be asked
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Who does it.
enum Worker<'a> {
    Here(Box<Parts>),
    Daemon(&'a Config),
}

/// Says what it takes, then takes it unit by unit.
pub async fn run(arguments: &Arguments, config: &Config, clock: SharedClock) -> anyhow::Result<()> {
    let Arguments { from, to, symbols, dry_run, json } = arguments;
    let request = BackfillRequest { from: *from, to: *to, symbols: symbols.clone() };
    let worker = match Parts::assemble(config, clock).await {
        Ok(parts) if daemon_beside(&parts.store, parts.clock.now()).await?.is_some() => {
            parts.store.close().await;
            Worker::Daemon(config)
        }
        Ok(parts) => Worker::Here(Box::new(parts)),
        Err(StartError::Store(StoreError::InUse(_))) => Worker::Daemon(config),
        Err(fault) => return Err(fault.into()),
    };
    let mut plan = worker.ask(&request, true).await?;
    let BackfillPlan { source, sessions, symbols, units, done, at_least_seconds, .. } = &plan;
    let said = format!(
        "{sessions} sessions of {symbols} symbols from {source}: {units} requests, {done} made already; the others take {at_least_seconds} s at least within the quota"
    );
    if *dry_run {
        worker.close().await;
        return if *json { output::print_json(&plan) } else { output::print(&format!("{said}; nothing was asked\n")) };
    }
    eprintln!("{said}");
    let bar = progress(&plan);
    let taken = async {
        loop {
            plan = worker.ask(&request, false).await?;
            bar.set_position(plan.done as u64);
            if plan.next.is_none() {
                return anyhow::Ok(());
            }
        }
    };
    let taken = taken.await;
    bar.finish_and_clear();
    worker.close().await;
    taken.map_err(|fault| {
        fault.context(format!("{} of {} requests are made; the same command goes on", plan.done, plan.units))
    })?;
    if *json {
        return output::print_json(&plan);
    }
    output::print(&ended(&plan))
}

/// What came of it, and what did not.
fn ended(plan: &BackfillPlan) -> String {
    let BackfillPlan { units, done, not_yet, without_bars, without_bars_first, .. } = plan;
    let mut said = format!("{done} of {units} requests are made; ");
    match without_bars {
        0 => said += "nothing is missing\n",
        count => {
            let more = if *count > without_bars_first.len() { ", .." } else { "" };
            let names = without_bars_first.join(",");
            said += &format!(
                "there is no bar of {count} symbols: {names}{more}; those that came to the universe since are taken with --symbols\n"
            );
        }
    }
    said.extend(not_yet.map(|date| format!("the session of {date} can be taken from the next date on\n")));
    said
}

impl Worker<'_> {
    /// The plan, or the plan as it is after one more unit.
    async fn ask(&self, request: &BackfillRequest, dry_run: bool) -> anyhow::Result<BackfillPlan> {
        match self {
            Self::Here(parts) => {
                let market = &parts.market;
                let plan = if dry_run {
                    market.plan_backfill(request).await
                } else {
                    market.backfill_next(request, parts.clock.now() + WITHIN).await
                };
                plan.map_err(|fault| match fault {
                    BackfillError::Misuse(message) => Usage(message).into(),
                    BackfillError::Store(fault) => fault.into(),
                    fault => anyhow::Error::new(fault),
                })
            }
            Self::Daemon(config) => {
                let closed = |message: String| anyhow::Error::new(Closed::new(message));
                let token = config.operator_tokens.first().ok_or_else(|| {
                    closed("a daemon has the database, and this command has no OPERATOR_TOKEN to ask it with; set the daemon's, or stop it first".to_owned())
                })?;
                let body =
                    json!({ "from": request.from, "to": request.to, "symbols": request.symbols, "dry_run": dry_run })
                        .to_string();
                let path = "/api/v1/ingest/backfill";
                let answer = ask::post_within(ASKED_WITHIN, ask::address_of(config), config, path, token, &body);
                let (status, answer) = answer.await.map_err(|fault| {
                    closed(format!("a daemon runs, which has the provider's quota, and it could not be asked: {fault:#}; run this where it is, or stop it first"))
                })?;
                if status < 300 {
                    return Ok(serde_json::from_str(&answer)?);
                }
                let problem: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or("it gave no reason").to_owned();
                Err(if problem["code"] == "misuse" {
                    Usage(detail).into()
                } else {
                    closed(format!("the daemon was asked: {detail}"))
                })
            }
        }
    }

    async fn close(&self) {
        if let Self::Here(parts) = self {
            parts.store.close().await;
        }
    }
}

/// For people only: a file or a pipe gets no bar.
fn progress(plan: &BackfillPlan) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} requests, {eta} to go");
    let bar = ProgressBar::new(plan.units as u64).with_position(plan.done as u64);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
