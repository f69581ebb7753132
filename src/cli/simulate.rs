//! `simulate`: what would fire, without effects.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;

use super::{FINDINGS, output};
use crate::calendar::Phase;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::jobs;
use crate::schedule::{JobSpec, rehearse};
use crate::scheduler::{Difference, Operations};

/// Replay calendar and schedule.
#[derive(Args, Debug)]
pub struct Arguments {
    /// First instant, RFC 3339; a slot at it counts
    #[arg(long, value_parser = super::arguments::instant)]
    from: DateTime<Utc>,
    /// Last instant; a slot at it does not count
    #[arg(long, value_parser = super::arguments::instant)]
    to: DateTime<Utc>,
    /// Rehearse with what was known at this instant (RFC 3339), or at the end of this date
    #[arg(long, value_name = "INSTANT", value_parser = super::calendar::parse_known_at)]
    as_of: Option<DateTime<Utc>>,
    /// Compare the plan of this span of time, which must be past, with the ledger: a line for each difference, exit code 3 if there
    /// are any
    #[arg(long, conflicts_with_all = ["as_of", "seed"])]
    diff: bool,
    /// Only this job
    #[arg(long)]
    job: Option<String>,
    /// Accepted for scripts: the schedule draws nothing at random yet, so every seed gives the same lines
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// At most so many fires
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    local: String,
    job: &'a str,
    action: &'static str,
    reason: Option<&'a str>,
    phase: Phase,
    session: Option<NaiveDate>,
    slot: String,
}

/// Prints one line a fire, and one for what is left out, as it goes: a year needs no more memory than a day.
pub async fn run(arguments: &Arguments, config: &Config, clock: SharedClock) -> anyhow::Result<ExitCode> {
    let Arguments { from, to, .. } = *arguments;
    if from > to {
        return Err(super::Usage(format!("--from {from} is after --to {to}")).into());
    }
    let table: Vec<_> = jobs::table(config)
        .into_iter()
        .filter(|spec| arguments.job.as_ref().is_none_or(|job| spec.name == job))
        .collect();
    if table.is_empty() {
        let names: Vec<_> = jobs::table(config).iter().map(|spec| spec.name).collect();
        bail!("there is no job {:?}; there are {}", arguments.job.as_deref().unwrap_or_default(), names.join(", "));
    }
    if arguments.diff {
        return diff(arguments, config, clock, table).await;
    }
    let calendars = super::calendar::load(config).await?;
    let calendars = match arguments.as_of {
        Some(known_at) => calendars.as_of(known_at),
        None => calendars,
    };
    let calendar = super::calendar::of(&calendars, &config.calendar.exchange)?;
    let instant = TimeDelta::nanoseconds(1);
    let mut out = output::Lines::new();
    for line in rehearse(&table, &calendar, from - instant, to - instant).take(arguments.limit) {
        let moment = calendar.at(line.slot);
        let local = line.slot.with_timezone(&calendar.zone());
        let action = if line.left_out.is_some() { "skip" } else { "run" };
        if arguments.json {
            out.json(&Line {
                at: output::utc(line.slot),
                local: local.to_rfc3339(),
                job: line.job,
                action,
                reason: line.left_out.as_deref(),
                phase: moment.phase,
                session: moment.session,
                slot: output::utc(line.slot),
            })?;
        } else {
            let (at, local) = (output::utc(line.slot), local.format("%a %Y-%m-%d %H:%M:%S %Z"));
            let why = line.left_out.map(|why| format!("  SKIP: {why}")).unwrap_or_default();
            out.text(&format!("{at}  {local}  {:<8} {}{why}\n", moment.phase, line.job))?;
        }
    }
    out.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Where the ledger is not what the schedule would have.
async fn diff(
    arguments: &Arguments,
    config: &Config,
    clock: SharedClock,
    table: Vec<JobSpec>,
) -> anyhow::Result<ExitCode> {
    let to = arguments.to.min(clock.now());
    let operations = Operations { table, ..super::operate::to_read(config, clock).await? };
    let differences = operations.differences(arguments.from, to).await;
    operations.ledger.store.close().await;
    let differences = differences?;
    for difference in differences.iter().take(arguments.limit) {
        if arguments.json {
            output::print_json(difference)?;
        } else {
            let Difference { slot, job, what, reason } = difference;
            let why = reason.as_deref().unwrap_or_default();
            output::print(&format!("{}  {job:<14} {what:<10} {why}\n", output::utc(*slot)))?;
        }
    }
    eprintln!("{} difference(s) between the plan and the ledger", differences.len());
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}
