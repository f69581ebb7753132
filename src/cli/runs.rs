//! `runs ls`.

use clap::Subcommand;

use super::{open_to_read, output};
use crate::config::Config;
use crate::store::{JobRun, RunFilter, RunState};

/// The ledger.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Rows of the ledger, newest slot first
    Ls {
        /// Only this job
        #[arg(long)]
        job: Option<String>,
        /// Only this state: running, ok, failed, skipped, missed, lost
        #[arg(long)]
        state: Option<RunState>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Shows.
pub async fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    let Command::Ls { job, state, limit, json } = command;
    let store = open_to_read(config).await?;
    let runs = store.list_runs(&RunFilter { job: job.clone(), state: *state, limit: *limit }).await;
    store.close().await;
    let runs = runs?;
    if *json {
        return runs.iter().try_for_each(output::print_json);
    }
    let header = ["SLOT", "JOB", "STATE", "ORIGIN", "TRY", "LATE", "TOOK", "DETAIL"];
    output::print(&output::table(&header, &runs.iter().map(row).collect::<Vec<_>>()))
}

fn row(run: &JobRun) -> Vec<String> {
    let took = run.finished_at.filter(|_| run.attempt > 0);
    let took = took.map_or_else(String::new, |at| format!("{} ms", (at - run.claimed_at).num_milliseconds()));
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
