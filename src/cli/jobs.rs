//! `jobs ls | next | pause | resume | run | backfill | verify`.

use std::ops::Range;
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Subcommand;
use serde::Serialize;

use super::operate::{self, act};
use super::{FINDINGS, output};
use crate::calendar::Calendar;
use crate::clock::{SharedClock, span_in_words};
use crate::config::Config;
use crate::jobs;
use crate::schedule::{Trigger, fires};
use crate::scheduler::{JobState, Verb};

/// A slot that came due so lately may not have been decided yet.
const UNDECIDED: TimeDelta = TimeDelta::seconds(10);

/// The schedule.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Every job: trigger, policies, last success, next slot
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
        #[arg(long, value_parser = super::arguments::instant)]
        from: DateTime<Utc>,
        /// Last instant, which does not count; now if not given
        #[arg(long, value_parser = super::arguments::instant)]
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
        #[arg(long, value_name = "INSTANT", value_parser = super::arguments::instant)]
        after: Option<DateTime<Utc>>,
        /// Only this job
        #[arg(long, value_name = "NAME", conflicts_with = "trigger")]
        job: Option<String>,
        /// The fires of this trigger instead of the table's, e.g. "close+5m" or "cron */5 9-16 * * 1-5 America/New_York"
        #[arg(long, value_name = "TRIGGER")]
        trigger: Option<Trigger>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Leave the slots of a job out, each with its row, until it is resumed
    Pause {
        /// The job
        name: String,
        /// Only until this instant, RFC 3339
        #[arg(long, value_name = "INSTANT", value_parser = super::arguments::instant)]
        until: Option<DateTime<Utc>>,
        /// Why, for whoever looks later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        how: operate::How,
    },
    /// End a pause; the slots that came due in it stay left out
    Resume {
        /// The job
        name: String,
        #[command(flatten)]
        how: operate::How,
    },
    /// Run a job beside its schedule, as soon as no other run of it is under way
    Run {
        /// The job
        name: String,
        /// For this slot, RFC 3339, instead of now
        #[arg(long, value_name = "INSTANT", value_parser = super::arguments::instant)]
        slot: Option<DateTime<Utc>>,
        #[command(flatten)]
        how: operate::How,
    },
    /// Run the slots of the past that have no successful run, one after another
    Backfill {
        /// The job
        name: String,
        /// First instant, RFC 3339
        #[arg(long, value_parser = super::arguments::instant)]
        from: DateTime<Utc>,
        /// Last instant, which does not count
        #[arg(long, value_parser = super::arguments::instant)]
        to: DateTime<Utc>,
        /// Refuse when more than so many slots would be run
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        max: usize,
        /// Also the slots that went well
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        how: operate::How,
    },
}

#[derive(Serialize)]
struct Missing<'a> {
    slot: String,
    job: &'a str,
}

#[derive(Serialize)]
struct Next<'a> {
    at: String,
    local: String,
    job: &'a str,
}

/// Shows, or does.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<ExitCode> {
    match command {
        Command::Ls { limit, json } => list(config, clock, *limit, *json).await?,
        Command::Verify { from, to, json } => {
            let to = to.unwrap_or(clock.now()).min(clock.now() - UNDECIDED);
            return verify(config, clock, *from..to, *json).await;
        }
        Command::Next { count, after, job, trigger, json } => {
            let calendar = super::calendar::chosen(config).await?;
            let after = after.unwrap_or(clock.now());
            let fires = upcoming(config, &calendar, after, *count as usize, (job.as_deref(), trigger.as_ref()))?;
            next(&fires, &calendar, clock.now(), *json)?;
        }
        Command::Pause { name, until, reason, how } => {
            let verb = Verb::Pause { job: name.clone(), until: *until, reason: reason.clone() };
            act(config, clock, &verb, how).await?;
        }
        Command::Resume { name, how } => act(config, clock, &Verb::Resume { job: name.clone() }, how).await?,
        Command::Run { name, slot, how } => {
            act(config, clock, &Verb::Run { job: name.clone(), slot: *slot }, how).await?;
        }
        Command::Backfill { name, from, to, max, force, how } => {
            let (job, max) = (name.clone(), Some(*max));
            act(config, clock, &Verb::Backfill { job, from: *from, to: *to, max, force: *force }, how).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn upcoming(
    config: &Config,
    calendar: &Calendar,
    after: DateTime<Utc>,
    count: usize,
    (job, trigger): (Option<&str>, Option<&Trigger>),
) -> anyhow::Result<Vec<(DateTime<Utc>, String)>> {
    if let Some(trigger) = trigger {
        let slots = trigger.slots(calendar, after, DateTime::<Utc>::MAX_UTC).take(count);
        return Ok(slots.map(|slot| (slot, trigger.to_string())).collect());
    }
    let mut table = jobs::table(config);
    if let Some(job) = job {
        table.retain(|spec| spec.name == job);
        if table.is_empty() {
            return Err(super::Usage(format!("there is no job {job:?}; bellwether jobs ls names them")).into());
        }
    }
    let fires = fires(&table, calendar, after, DateTime::<Utc>::MAX_UTC).take(count);
    Ok(fires.map(|fire| (fire.slot, fire.job.to_owned())).collect())
}

/// Every slot that the schedule gives in a span of time must have a row in the ledger: run, skipped or missed.
async fn verify(
    config: &Config,
    clock: SharedClock,
    span: Range<DateTime<Utc>>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let operations = operate::to_read(config, clock).await?;
    let (expected, missing) = operations.verify(span.start, span.end).await?;
    operations.ledger.store.close().await;
    for slot in &missing {
        let line = Missing { slot: output::utc(slot.slot), job: slot.job };
        if json {
            output::print_json(&line)?;
        } else {
            output::print(&format!("MISSING  {}  {}\n", line.slot, line.job))?;
        }
    }
    let missing = missing.len();
    eprintln!("{expected} slots by the calendar as it is known now, {missing} without a row in the ledger");
    Ok(if missing == 0 { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

async fn list(config: &Config, clock: SharedClock, limit: usize, json: bool) -> anyhow::Result<()> {
    let now = clock.now();
    let jobs: Vec<JobState> = if operate::is_there(config) {
        let operations = operate::to_read(config, clock).await?;
        let jobs = operations.jobs().await?;
        operations.ledger.store.close().await;
        jobs
    } else {
        // The schedule can be shown before there is a ledger.
        let calendar = super::calendar::chosen(config).await?;
        jobs::table(config).iter().map(|spec| JobState::of(spec, &calendar, now)).collect()
    };
    let mut jobs = jobs.into_iter().take(limit);
    if json {
        return jobs.try_for_each(|job| output::print_json(&job));
    }
    let rows = jobs.map(|job| {
        let last = job.last_success.map_or_else(|| "never".to_owned(), |at| format!("{} ago", span_in_words(now - at)));
        let next = match (&job.paused, job.next) {
            (Some(pause), _) => format!("paused {}", pause.reason),
            (None, Some(next)) => format!("{} (in {})", output::utc(next), span_in_words(next - now)),
            (None, None) => "never".to_owned(),
        };
        vec![job.name.to_owned(), job.trigger, job.misfire, job.overlap, last, next]
    });
    let header = ["JOB", "TRIGGER", "MISFIRE", "OVERLAP", "LAST SUCCESS", "NEXT"];
    output::print(&output::table(&header, &rows.collect::<Vec<_>>()))
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
        let when = if *slot < now { "past".to_owned() } else { span_in_words(*slot - now) };
        vec![output::utc(*slot), local, when, job.clone()]
    });
    output::print(&output::table(&["UTC", "LOCAL", "IN", "JOB"], &rows.collect::<Vec<_>>()))
}
