//! `jobs ls | next | verify`.

use std::collections::HashMap;
use std::ops::Range;
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Subcommand;
use serde::Serialize;

use super::{FINDINGS, open_to_read, output};
use crate::calendar::Calendar;
use crate::clock::Clock;
use crate::config::{Config, DatabaseTarget};
use crate::jobs;
use crate::schedule::{Trigger, fires};
use crate::store::RunState;

/// A slot that came due so lately may not have been decided yet.
const UNDECIDED: TimeDelta = TimeDelta::seconds(10);

/// The schedule.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Every job: trigger, policy, last success, next slot
    Ls {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Every slot of a span of time has its row in the ledger; exit code 3 and a line for each that has none
    Verify {
        /// First instant, RFC 3339
        #[arg(long)]
        from: DateTime<Utc>,
        /// Last instant, which does not count; now if not given
        #[arg(long)]
        to: Option<DateTime<Utc>>,
        /// One JSON object a missing slot
        #[arg(long)]
        json: bool,
    },
    /// The next fires of all jobs, in order of time
    Next {
        /// How many
        #[arg(short = 'n', long = "limit", default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
        /// After this instant (RFC 3339) instead of now
        #[arg(long, value_name = "INSTANT")]
        after: Option<DateTime<Utc>>,
        /// The fires of this trigger instead of the table's, e.g. "close+5m" or "cron */5 9-16 * * 1-5 America/New_York"
        #[arg(long, value_name = "TRIGGER")]
        trigger: Option<Trigger>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Missing<'a> {
    slot: String,
    job: &'a str,
}

#[derive(Serialize)]
struct Job {
    name: &'static str,
    purpose: &'static str,
    trigger: String,
    misfire: &'static str,
    overlap: &'static str,
    attempts: i32,
    last_success: Option<DateTime<Utc>>,
    next: DateTime<Utc>,
}

#[derive(Serialize)]
struct Next<'a> {
    at: String,
    local: String,
    job: &'a str,
}

/// Shows.
pub async fn run(command: &Command, config: &Config, clock: &dyn Clock) -> anyhow::Result<ExitCode> {
    let calendar = super::calendar::chosen(config).await?;
    match command {
        Command::Ls { limit, json } => list(config, &calendar, clock.now(), *limit, *json).await?,
        Command::Verify { from, to, json } => {
            let to = to.unwrap_or(clock.now()).min(clock.now() - UNDECIDED);
            return verify(config, &calendar, *from..to, *json).await;
        }
        Command::Next { count, after, trigger, json } => {
            let (now, count) = (clock.now(), *count as usize);
            let after = after.unwrap_or(now);
            let fires: Vec<_> = match trigger {
                Some(trigger) => {
                    let slots = trigger.slots(&calendar, after, DateTime::<Utc>::MAX_UTC).take(count);
                    slots.map(|slot| (slot, trigger.to_string())).collect()
                }
                None => {
                    let table = jobs::table(config);
                    let fires = fires(&table, &calendar, after, DateTime::<Utc>::MAX_UTC).take(count);
                    fires.map(|fire| (fire.slot, fire.job.to_owned())).collect()
                }
            };
            next(&fires, &calendar, now, *json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every slot that the schedule gives in a span of time must have a row in the ledger: run, skipped or missed.
async fn verify(
    config: &Config,
    calendar: &Calendar,
    span: Range<DateTime<Utc>>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let store = open_to_read(config).await?;
    let since = store.jobs_since().await?;
    let (mut expected, mut missing) = (0, 0);
    for spec in jobs::table(config) {
        // Before a job was first known nothing was owed.
        let Some(since) = since.get(spec.name) else { continue };
        let from = span.start.max(*since);
        let rows = store.slots_with_rows(spec.name, from, span.end).await?;
        // A slot at the very beginning counts, one at the end does not.
        let instant = TimeDelta::microseconds(1);
        let slots = spec.trigger.slots(calendar, from - instant, span.end - instant).filter(|slot| slot > since);
        for slot in slots {
            expected += 1;
            if rows.contains(&slot) {
                continue;
            }
            missing += 1;
            let line = Missing { slot: output::utc(slot), job: spec.name };
            if json {
                output::print_json(&line)?;
            } else {
                output::print(&format!("MISSING  {}  {}\n", line.slot, line.job))?;
            }
        }
    }
    store.close().await;
    eprintln!("{expected} slots by the calendar as it is known now, {missing} without a row in the ledger");
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

async fn list(
    config: &Config,
    calendar: &Calendar,
    now: DateTime<Utc>,
    limit: usize,
    json: bool,
) -> anyhow::Result<()> {
    let last = last_runs(config).await?;
    let jobs = jobs::table(config).into_iter().take(limit).map(|spec| Job {
        name: spec.name,
        purpose: spec.purpose,
        trigger: spec.trigger.to_string(),
        misfire: spec.misfire.name(),
        overlap: "skip",
        attempts: spec.attempts,
        last_success: last.get(&(spec.name.to_owned(), RunState::Ok)).copied(),
        next: spec.trigger.next_after(calendar, now),
    });
    if json {
        return jobs.into_iter().try_for_each(|job| output::print_json(&job));
    }
    let rows = jobs.map(|job| {
        let last = job.last_success.map_or_else(|| "never".to_owned(), |at| format!("{} ago", output::span(now - at)));
        let next = format!("{} (in {})", output::utc(job.next), output::span(job.next - now));
        vec![job.name.to_owned(), job.trigger, job.misfire.to_owned(), last, next]
    });
    let header = ["JOB", "TRIGGER", "MISFIRE", "LAST SUCCESS", "NEXT"];
    output::print(&output::table(&header, &rows.collect::<Vec<_>>()))
}

/// The schedule can be shown before there is a ledger.
async fn last_runs(config: &Config) -> anyhow::Result<HashMap<(String, RunState), DateTime<Utc>>> {
    if matches!(&config.database, DatabaseTarget::Sqlite(path) if !path.exists()) {
        return Ok(HashMap::new());
    }
    let store = open_to_read(config).await?;
    let last = store.last_runs().await;
    store.close().await;
    Ok(last?)
}

fn next(fires: &[(DateTime<Utc>, String)], calendar: &Calendar, now: DateTime<Utc>, json: bool) -> anyhow::Result<()> {
    let local = |at: DateTime<Utc>| at.with_timezone(&calendar.zone());
    if json {
        return fires.iter().try_for_each(|(slot, job)| {
            output::print_json(&Next { at: output::utc(*slot), local: local(*slot).to_rfc3339(), job })
        });
    }
    let rows = fires.iter().map(|(slot, job)| {
        let local = local(*slot).format("%a %Y-%m-%d %H:%M:%S %Z").to_string();
        let when = if *slot < now { "past".to_owned() } else { output::span(*slot - now) };
        vec![output::utc(*slot), local, when, job.clone()]
    });
    output::print(&output::table(&["UTC", "LOCAL", "IN", "JOB"], &rows.collect::<Vec<_>>()))
}
