//! `runs ls | show | retry | cancel`.

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde::Serialize;
use uuid::Uuid;

use super::operate::{self, act};
use super::{open_to_read, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::scheduler::Verb;
use crate::store::{Attempt, JobRun, RunFilter, RunState};

/// The ledger.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Rows of the ledger, newest slot first
    Ls {
        /// Only this job
        #[arg(long)]
        job: Option<String>,
        /// Only this state: queued, running, ok, failed, skipped, missed, cancelled, lost
        #[arg(long)]
        state: Option<RunState>,
        /// Only slots from this instant on, RFC 3339
        #[arg(long, value_parser = super::arguments::instant)]
        from: Option<DateTime<Utc>>,
        /// Only slots before this instant, RFC 3339
        #[arg(long, value_parser = super::arguments::instant)]
        to: Option<DateTime<Utc>>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// One row with all that is known of it, and how each of its attempts ended
    Show {
        /// The run
        id: Uuid,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Try a run again that did not go well
    Retry {
        /// The run
        id: Uuid,
        /// Also one that went well
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        how: operate::How,
    },
    /// End a run that waits or is under way
    Cancel {
        /// The run
        id: Uuid,
        #[command(flatten)]
        how: operate::How,
    },
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    run: &'a JobRun,
    attempts: &'a [Attempt],
}

/// Shows, or does.
pub async fn run(command: &Command, config: &Config, clock: SharedClock) -> anyhow::Result<()> {
    match command {
        Command::Ls { job, state, from, to, limit, json } => {
            let filter = RunFilter { job: job.clone(), state: *state, from: *from, to: *to, limit: *limit };
            list(config, &filter, *json).await
        }
        Command::Show { id, json } => show(config, *id, *json).await,
        Command::Retry { id, force, how } => act(config, clock, &Verb::Retry { id: *id, force: *force }, how).await,
        Command::Cancel { id, how } => act(config, clock, &Verb::Cancel { id: *id }, how).await,
    }
}

async fn list(config: &Config, filter: &RunFilter, json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let runs = store.list_runs(filter).await;
    store.close().await;
    let runs = runs?;
    if json {
        return runs.iter().try_for_each(output::print_json);
    }
    let header = ["SLOT", "JOB", "STATE", "ORIGIN", "TRY", "LATE", "TOOK", "DETAIL"];
    output::print(&output::table(&header, &runs.iter().map(row).collect::<Vec<_>>()))
}

async fn show(config: &Config, id: Uuid, json: bool) -> anyhow::Result<()> {
    let store = open_to_read(config).await?;
    let found = store.run(id).await;
    store.close().await;
    let Some((run, attempts)) = found? else {
        bail!("there is no run {id}; bellwether runs ls --json names the newest");
    };
    if json {
        return output::print_json(&Whole { run: &run, attempts: &attempts });
    }
    let at = |instant: Option<DateTime<Utc>>| instant.map_or_else(|| "-".to_owned(), output::utc);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let session = run.session_date.map_or_else(|| "-".to_owned(), |date| date.to_string());
    let lines = [
        ("run", run.id.to_string()),
        ("job", run.job.clone()),
        ("slot", output::utc(run.scheduled_for)),
        ("state", run.state.to_string()),
        ("origin", run.origin.to_string()),
        ("reason", text(&run.reason)),
        ("error", text(&run.error)),
        ("report", text(&run.stats)),
        ("decided", format!("{}, {} ms after the slot", output::utc(run.claimed_at), run.late_us / 1_000)),
        ("began", at(run.started_at)),
        ("ended", at(run.finished_at)),
        ("deadline", at(run.deadline)),
        ("next try", at(run.next_attempt_at)),
        ("owner", format!("{} (epoch {})", run.owner, run.fence)),
        ("session", format!("{session}, {}", run.phase)),
        ("calendar", format!("{}, zone data {}", run.calendar_version, run.tzdb_version)),
        ("trace", text(&run.trace_id)),
    ];
    let whole: String = lines.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect();
    output::print(&format!("{whole}\n"))?;
    let rows = attempts.iter().map(|attempt| {
        let took = attempt.started_at.map(|began| format!("{} ms", (attempt.finished_at - began).num_milliseconds()));
        vec![
            attempt.n.to_string(),
            attempt.state.to_string(),
            at(attempt.started_at),
            took.unwrap_or_default(),
            attempt.owner.clone(),
            text(&attempt.error),
        ]
    });
    let header = ["TRY", "STATE", "BEGAN", "TOOK", "OWNER", "ERROR"];
    output::print(&output::table(&header, &rows.collect::<Vec<_>>()))
}

fn row(run: &JobRun) -> Vec<String> {
    let took = run.finished_at.zip(run.started_at);
    let took = took.map_or_else(String::new, |(end, began)| format!("{} ms", (end - began).num_milliseconds()));
    let detail = run.error.as_ref().or(run.reason.as_ref()).or(run.stats.as_ref());
    let detail: String = detail.map(String::as_str).unwrap_or_default().chars().take(120).collect();
    vec![
        output::utc(run.scheduled_for),
        run.job.clone(),
        run.state.to_string(),
        run.origin.to_string(),
        run.attempt.to_string(),
        format!("{} ms", run.late_us / 1_000),
        took,
        detail,
    ]
}
