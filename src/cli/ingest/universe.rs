//! `ingest universe`: what is quoted, from the database.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{open_to_read, output};
use crate::config::Config;
use crate::jobs;
use crate::market::{KnownSymbol, SilentSymbol, SymbolStatus};
use crate::store::{JobRun, RunFilter, Store};

/// Which symbols are listed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that are quoted
    Active,
    /// Those that were
    Delisted,
    /// Those that nothing is heard of
    Dormant,
    /// Every one that ever was on the list
    All,
}

#[derive(Serialize)]
struct Summary {
    source: Option<String>,
    revision: i64,
    refreshed_at: Option<DateTime<Utc>>,
    active: usize,
    delisted: usize,
    dormant: usize,
    lists: Vec<List>,
    last_run: Option<LastRun>,
}

#[derive(Serialize)]
struct List {
    name: String,
    place: String,
    lines: i64,
    fetched_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct LastRun {
    slot: DateTime<Utc>,
    state: String,
    error: Option<String>,
    report: Option<Value>,
}

#[derive(Serialize)]
struct Line<'a> {
    symbol: &'a str,
    name: &'a str,
    exchange: &'a str,
    sector: &'a str,
    etf: bool,
    cik: Option<u32>,
    status: &'static str,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
    dormant_since: Option<DateTime<Utc>>,
    ask_after: Option<DateTime<Utc>>,
}

/// Shows, beside a daemon that may be running.
pub async fn run(config: &Config, list: Option<Which>, json: bool) -> anyhow::Result<ExitCode> {
    let store = open_to_read(config).await?;
    let (known, dormant) = (store.symbols().await?, store.dormant_symbols().await?);
    match list {
        Some(which) => print_list(&known, &dormant, which, json)?,
        None => print_summary(&store, &known, &dormant, json).await?,
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

fn print_list(known: &[KnownSymbol], dormant: &[SilentSymbol], which: Which, json: bool) -> anyhow::Result<()> {
    let mut lines = output::Lines::new();
    for known in known {
        let silent = dormant.iter().find(|silent| silent.symbol == known.listing.symbol);
        let active = known.status == SymbolStatus::Active;
        let wanted = match which {
            Which::Active => active,
            Which::Delisted => !active,
            Which::Dormant => silent.is_some(),
            Which::All => true,
        };
        if !wanted {
            continue;
        }
        let listing = &known.listing;
        if json {
            lines.json(&Line {
                symbol: &listing.symbol,
                name: &listing.name,
                exchange: &listing.exchange,
                sector: &listing.sector,
                etf: listing.etf,
                cik: listing.cik,
                status: known.status.name(),
                first_seen: known.first_seen,
                last_seen: known.last_seen,
                dormant_since: silent.map(|silent| silent.since),
                ask_after: silent.map(|silent| silent.ask_after),
            })?;
        } else {
            let silent =
                silent.map(|silent| format!("  dormant since {}", output::utc(silent.since))).unwrap_or_default();
            lines.text(&format!(
                "{:<16} {:<8} {:<13} {}{silent}\n",
                listing.symbol,
                known.status.name(),
                listing.exchange,
                listing.name
            ))?;
        }
    }
    lines.end()
}

async fn print_summary(
    store: &Store,
    known: &[KnownSymbol],
    dormant: &[SilentSymbol],
    json: bool,
) -> anyhow::Result<()> {
    let state = store.universe_state().await?;
    let documents = store.universe_documents().await?.into_iter();
    let filter = RunFilter { job: Some(jobs::UNIVERSE.to_owned()), limit: 1, ..RunFilter::default() };
    let active = known.iter().filter(|known| known.status == SymbolStatus::Active).count();
    let summary = Summary {
        source: state.as_ref().map(|state| state.source.clone()),
        revision: state.as_ref().map_or(0, |state| state.revision),
        refreshed_at: state.map(|state| state.refreshed_at),
        active,
        delisted: known.len() - active,
        dormant: dormant.len(),
        lists: documents
            .map(|list| List { name: list.name, place: list.place, lines: list.lines, fetched_at: list.fetched_at })
            .collect(),
        last_run: store.list_runs(&filter).await?.into_iter().next().map(last_run),
    };
    if json { output::print_json(&summary) } else { output::print(&picture(&summary)) }
}

fn last_run(run: JobRun) -> LastRun {
    let report = run.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
    LastRun { slot: run.scheduled_for, state: run.state.to_string(), error: run.error.or(run.reason), report }
}

fn picture(summary: &Summary) -> String {
    let Summary { source, active, delisted, dormant, .. } = summary;
    let read = summary.refreshed_at.map_or("never".to_owned(), output::utc);
    let mut text = format!(
        "{active} symbols from {}, read {read}; {delisted} delisted, {dormant} dormant\n",
        source.as_deref().unwrap_or("no list yet")
    );
    for List { name, place, lines, fetched_at } in &summary.lists {
        text += &format!("  {name:<14} {lines} lines, {}  {place}\n", output::utc(*fetched_at));
    }
    if let Some(LastRun { slot, state, error, report }) = &summary.last_run {
        text += &format!("last refresh of {}: {state}\n", output::utc(*slot));
        text.extend(error.iter().map(|error| format!("  {error}\n")));
        for change in ["added", "returned", "delisted", "renamed"] {
            let Some(named) = report.as_ref().map(|report| &report[change]) else { continue };
            let first = named["first"].as_array().map(Vec::as_slice).unwrap_or_default();
            let first: Vec<&str> = first.iter().filter_map(Value::as_str).collect();
            text += &format!("  {change:<9} {} {}\n", named["count"], first.join(" "));
        }
    }
    text
}
