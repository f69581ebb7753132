//! `status`: what an operator wants to know first.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;

use super::{open_to_read, output};
use crate::calendar::{Calendar, Phase};
use crate::clock::{SharedClock, span_in_words};
use crate::config::Config;
use crate::jobs;
use crate::schedule::fires;
use crate::store::{CycleRecord, Instance, Lease, LetterBacklog, RunFilter, RunState, Store};

/// How often `--watch` looks again.
const WATCH: Duration = Duration::from_secs(2);

/// How many fires are shown.
const FIRES: usize = 5;

/// Phase and countdown, next fires, last cycle, ages.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Look again every two seconds
    #[arg(long)]
    watch: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status {
    at: DateTime<Utc>,
    phase: Phase,
    next_phase: Phase,
    next_transition: DateTime<Utc>,
    seconds_to_next_transition: i64,
    calendar_version: String,
    last_cycle: Option<LastCycle>,
    universe: UniverseLine,
    jobs: Vec<JobStatus>,
    next_fires: Vec<NextFire>,
    renewals_due: i64,
    letters: LetterBacklog,
    sends_letters: bool,
    leader: Option<Lease>,
    instances: Vec<Instance>,
}

#[derive(Serialize)]
struct LastCycle {
    cycle_id: uuid::Uuid,
    source: String,
    simulated: bool,
    as_of: DateTime<Utc>,
    age_seconds_market: i64,
    expected: u32,
    fresh: u32,
    completeness: f64,
    cause: Option<String>,
}

#[derive(Serialize)]
struct UniverseLine {
    source: Option<String>,
    refreshed_at: Option<DateTime<Utc>>,
    symbols: i64,
    delisted: i64,
    dormant: usize,
}

#[derive(Serialize)]
struct JobStatus {
    job: &'static str,
    last_state: Option<RunState>,
    last_slot: Option<DateTime<Utc>>,
    last_success: Option<DateTime<Utc>>,
    detail: Option<String>,
}

#[derive(Serialize)]
struct NextFire {
    at: DateTime<Utc>,
    job: &'static str,
}

/// Shows, from the database and the calendar: it works while the daemon runs and while it does not.
pub async fn run(arguments: &Arguments, config: &Config, clock: SharedClock) -> anyhow::Result<()> {
    let calendar = super::calendar::chosen(config).await?;
    let store = open_to_read(config).await?;
    loop {
        let status = gather(config, &calendar, &store, clock.now()).await?;
        if arguments.json {
            output::print_json(&status)?;
        } else {
            // Clears the screen and goes home, so that the picture stands still.
            let clear = if arguments.watch { "\x1b[2J\x1b[H" } else { "" };
            output::print(&format!("{clear}{}", picture(&status, &calendar)))?;
        }
        if !arguments.watch {
            store.close().await;
            return Ok(());
        }
        clock.sleep(WATCH).await;
    }
}

async fn gather(config: &Config, calendar: &Calendar, store: &Store, now: DateTime<Utc>) -> anyhow::Result<Status> {
    let moment = calendar.at(now);
    let table = jobs::table(config);
    let last_runs = store.last_runs().await?;
    let mut job_statuses = Vec::new();
    for spec in &table {
        job_statuses.push(job_status(store, spec.name, &last_runs).await?);
    }
    let next_fires = fires(&table, calendar, now, DateTime::<Utc>::MAX_UTC).take(FIRES);
    let name_of = |job: &str| table.iter().find(|spec| spec.name == job).map_or("", |spec| spec.name);
    Ok(Status {
        at: now,
        phase: moment.phase,
        next_phase: moment.next_phase,
        next_transition: moment.next_transition,
        seconds_to_next_transition: (moment.next_transition - now).num_seconds(),
        calendar_version: calendar.version().to_owned(),
        last_cycle: store.last_cycle().await?.map(|record| last_cycle(record, calendar, now)),
        universe: universe_line(store).await?,
        jobs: job_statuses,
        next_fires: next_fires.map(|fire| NextFire { at: fire.slot, job: name_of(fire.job) }).collect(),
        renewals_due: store.count_due_subscriptions(now).await?,
        letters: store.letter_backlog().await?,
        sends_letters: config.mail.server.is_some(),
        leader: store.lease().await?,
        instances: store.instances().await?,
    })
}

async fn universe_line(store: &Store) -> anyhow::Result<UniverseLine> {
    let state = store.universe_state().await?;
    let (symbols, delisted) = store.count_symbols().await?;
    Ok(UniverseLine {
        source: state.as_ref().map(|state| state.source.clone()),
        refreshed_at: state.map(|state| state.refreshed_at),
        symbols,
        delisted,
        dormant: store.dormant_symbols().await?.len(),
    })
}

async fn job_status(
    store: &Store,
    job: &'static str,
    last_runs: &HashMap<(String, RunState), DateTime<Utc>>,
) -> anyhow::Result<JobStatus> {
    let filter = RunFilter { job: Some(job.to_owned()), limit: 1, ..RunFilter::default() };
    let last = store.list_runs(&filter).await?.into_iter().next();
    Ok(JobStatus {
        job,
        last_state: last.as_ref().map(|run| run.state),
        last_slot: last.as_ref().map(|run| run.scheduled_for),
        last_success: last_runs.get(&(job.to_owned(), RunState::Ok)).copied(),
        detail: last.and_then(|run| run.error.or(run.reason)),
    })
}

fn letters_line(status: &Status) -> String {
    let LetterBacklog { waiting, without_address, dead, .. } = status.letters;
    let unsent = if status.sends_letters { "" } else { "; EMAIL_HOST is not set, nothing is sent" };
    let unknown = if without_address > 0 { format!(" ({without_address} for an address)") } else { String::new() };
    format!("letters    {waiting} wait{unknown}, {dead} given up{unsent}\n")
}

fn planner_line(status: &Status) -> String {
    let of = |owner: &str| status.instances.iter().find(|instance| instance.owner == owner);
    let leader = status.leader.as_ref().filter(|lease| lease.held).and_then(|lease| Some((lease, of(&lease.owner)?)));
    let count = status.instances.len();
    match leader {
        Some((lease, instance)) => {
            let Instance { host, process_id, .. } = instance;
            format!("planner    process {process_id} on {host}, epoch {}; {count} instance(s) known\n\n", lease.epoch)
        }
        None => "planner    nobody plans: is a daemon running?\n\n".to_owned(),
    }
}

fn last_cycle(record: CycleRecord, calendar: &Calendar, now: DateTime<Utc>) -> LastCycle {
    let CycleRecord { cycle, cause, .. } = record;
    LastCycle {
        cycle_id: cycle.id,
        as_of: cycle.as_of,
        age_seconds_market: calendar.open_time_between(cycle.as_of, now).num_seconds(),
        expected: cycle.expected,
        fresh: cycle.fresh,
        completeness: cycle.completeness(),
        source: cycle.source,
        simulated: cycle.simulated,
        cause,
    }
}

fn picture(status: &Status, calendar: &Calendar) -> String {
    let now = status.at;
    let local = |at: DateTime<Utc>| at.with_timezone(&calendar.zone()).format("%a %H:%M:%S %Z").to_string();
    let ago = |at: DateTime<Utc>| format!("{} ago", span_in_words(now - at));
    let mut text = format!(
        "market     {} - {} in {} ({})\n",
        status.phase,
        status.next_phase,
        span_in_words(status.next_transition - now),
        local(status.next_transition),
    );
    text += &match &status.last_cycle {
        None => "data       no cycle has been stored yet\n".to_owned(),
        Some(cycle) => format!(
            "data       {} of {} symbols, as of {} ({} s of trading ago), source {}{}\n",
            cycle.fresh,
            cycle.expected,
            local(cycle.as_of),
            cycle.age_seconds_market,
            cycle.source,
            cycle.cause.as_deref().map(|cause| format!("\n           {cause}")).unwrap_or_default(),
        ),
    };
    let UniverseLine { source, symbols, delisted, dormant, .. } = &status.universe;
    if let Some(source) = source {
        text += &format!("universe   {symbols} symbols from {source}, {delisted} delisted, {dormant} dormant\n");
    }
    text += &format!("renewals   {} due\n", status.renewals_due);
    text += &letters_line(status);
    text += &planner_line(status);
    let rows = status.jobs.iter().map(|job| {
        let state = job.last_state.map_or("-".to_owned(), |state| state.to_string());
        let slot = job.last_slot.map_or("-".to_owned(), output::utc);
        let success = job.last_success.map_or("never".to_owned(), ago);
        vec![job.job.to_owned(), state, slot, success, job.detail.clone().unwrap_or_default()]
    });
    text += &output::table(&["JOB", "LAST", "SLOT", "LAST SUCCESS", "DETAIL"], &rows.collect::<Vec<_>>());
    text.push('\n');
    let fires = status
        .next_fires
        .iter()
        .map(|fire| vec![output::utc(fire.at), local(fire.at), span_in_words(fire.at - now), fire.job.to_owned()]);
    text + &output::table(&["NEXT (UTC)", "LOCAL", "IN", "JOB"], &fires.collect::<Vec<_>>())
}
