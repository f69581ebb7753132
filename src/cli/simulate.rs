//! `simulate`: what would fire, without effects.

use anyhow::bail;
use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use serde::Serialize;

use super::output;
use crate::calendar::Phase;
use crate::config::Config;
use crate::jobs;
use crate::schedule::fires;

/// Replay calendar and schedule.
#[derive(Args, Debug)]
pub struct Arguments {
    /// First instant, RFC 3339; a slot at it counts
    #[arg(long)]
    from: DateTime<Utc>,
    /// Last instant; a slot at it does not count
    #[arg(long)]
    to: DateTime<Utc>,
    /// Rehearse with what was known at this instant (RFC 3339), or at the end of this date
    #[arg(long, value_name = "INSTANT", value_parser = super::calendar::parse_known_at)]
    as_of: Option<DateTime<Utc>>,
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

/// Prints one line a fire, as it goes: a year needs no more memory than a day.
pub async fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let Arguments { from, to, .. } = *arguments;
    if from > to {
        return Err(super::Usage(format!("--from {from} is after --to {to}")).into());
    }
    let calendars = super::calendar::load(config).await?;
    let calendars = match arguments.as_of {
        Some(known_at) => calendars.as_of(known_at),
        None => calendars,
    };
    let calendar = super::calendar::of(&calendars, &config.calendar.exchange)?;
    let table: Vec<_> = jobs::table(config)
        .into_iter()
        .filter(|spec| arguments.job.as_ref().is_none_or(|job| spec.name == job))
        .collect();
    if table.is_empty() {
        let names: Vec<_> = jobs::table(config).iter().map(|spec| spec.name).collect();
        bail!("there is no job {:?}; there are {}", arguments.job.as_deref().unwrap_or_default(), names.join(", "));
    }
    let instant = chrono::TimeDelta::nanoseconds(1);
    for fire in fires(&table, &calendar, from - instant, to - instant).take(arguments.limit) {
        let moment = calendar.at(fire.slot);
        let local = fire.slot.with_timezone(&calendar.zone());
        let line = Line {
            at: output::utc(fire.slot),
            local: local.to_rfc3339(),
            job: fire.job,
            action: "run",
            reason: None,
            phase: moment.phase,
            session: moment.session,
            slot: output::utc(fire.slot),
        };
        if arguments.json {
            output::print_json(&line)?;
        } else {
            let local = local.format("%a %Y-%m-%d %H:%M:%S %Z");
            output::print(&format!("{}  {local}  {:<8} {}\n", line.at, moment.phase, fire.job))?;
        }
    }
    Ok(())
}
