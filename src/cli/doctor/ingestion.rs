//! `doctor ingestion`: the same findings that health and `ingest why` have, each with its fix.

use serde_json::Value;

use super::{Check, check};
use crate::cli::ingest::state;
use crate::cli::{open_to_read, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::jobs;
use crate::store::{RunFilter, RunState};

/// Checks in the order of their table: the name, and the findings that belong to it.
const CHECKS: [(&str, &[&str]); 5] = [
    ("daemon", &["no_daemon"]),
    ("data", &["no_data", "provider_down", "cycle_failed", "stale", "incomplete", "incomplete_twice", "many_dormant"]),
    ("provider", &["breaker_open", "quota_spent", "quota_does_not_fit"]),
    ("store", &["cycle_not_kept", "store_behind"]),
    ("universe", &["universe_stands_in", "universe_built_in", "universe_old"]),
];

pub(super) async fn checks(config: &Config, clock: &SharedClock) -> anyhow::Result<Vec<Check>> {
    let status = state::gather(config, clock).await?;
    let findings = status["why"]["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut checks: Vec<Check> = CHECKS
        .iter()
        .map(|(name, codes)| {
            let found = findings.iter().find(|finding| codes.iter().any(|code| finding["code"] == *code));
            let result = match found {
                None => Ok(well(name, &status)),
                Some(finding) => {
                    let code = finding["code"].as_str().unwrap_or_default();
                    Err((finding["sentence"].as_str().unwrap_or_default().to_owned(), fix(code).to_owned()))
                }
            };
            check("ingestion", name, result)
        })
        .collect();
    checks.push(check("ingestion", "last refresh", last_refresh(config).await?));
    Ok(checks)
}

/// What is so where nothing is wrong.
fn well(name: &str, status: &Value) -> String {
    let (provider, universe, cycle) = (&status["provider"], &status["universe"], &status["last_cycle"]);
    match name {
        "daemon" => "answers".to_owned(),
        "data" => status["why"]["sentence"].as_str().unwrap_or_default().to_owned(),
        "provider" => format!(
            "{}: {} call(s) a cycle, {} allowed in {} s",
            provider["name"].as_str().unwrap_or("-"),
            provider["plan"]["requests"],
            provider["quota_requests"],
            provider["quota_seconds"]
        ),
        "store" => format!("has the cycle of {}", cycle["slot"].as_str().unwrap_or("-")),
        _ => format!(
            "{} symbols from {}, read {}; {} dormant",
            universe["symbols"],
            universe["source"].as_str().unwrap_or("-"),
            universe["refreshed_at"].as_str().unwrap_or("never"),
            universe["dormant"]
        ),
    }
}

fn fix(code: &str) -> &'static str {
    match code {
        "no_daemon" => "start the daemon (systemctl start bellwether) and read its log; `listen` must be the daemon's",
        "no_data" => {
            "bellwether runs ls --job ingest says what became of the cycles; bellwether jobs run ingest begins one now"
        }
        "provider_down" | "cycle_failed" => {
            "the words after `failed` are the provider's: a key or a plan is changed in the configuration (bellwether config show \
             --origin), an outage is waited for; bellwether jobs run ingest tries at once"
        }
        "stale" => {
            "bellwether runs ls --job ingest: skipped and missed rows have the reason; bellwether jobs ls shows a pause"
        }
        "incomplete" | "incomplete_twice" => {
            "bellwether ingest universe --list dormant names symbols that are never answered for; the provider may not know how they \
             are spelt, or its plan does not cover them"
        }
        "many_dormant" => {
            "bellwether ingest universe --list dormant: when they are one exchange or one kind, the provider's plan lacks it; leave \
             them out (ingest.universe.exclude_file)"
        }
        "breaker_open" => {
            "wait for the provider; its breaker tries again by itself. bellwether ingest status shows until when"
        }
        "quota_spent" | "quota_does_not_fit" => {
            "raise ingest.cadence_seconds to what is said, quote fewer symbols, or take a larger plan"
        }
        "cycle_not_kept" => {
            "bellwether migrate status says what the database answers; look for free space and at the words above: what the journal holds is written as \
             soon as the database takes it, and the next cycle is shown then; ingest.journal.max_megabytes gives it more room"
        }
        "store_behind" => {
            "bellwether migrate status says what the database answers; look for free space. What waits is kept and written later"
        }
        "universe_stands_in" => {
            "bellwether runs ls --job universe has the error; bellwether jobs run universe tries at once"
        }
        "universe_built_in" => {
            "set ingest.universe.source = \"directories\", or name your own list in ingest.universe.file (docs/ingestion.md)"
        }
        _ => "bellwether runs ls --job universe has the errors; bellwether jobs run universe tries at once",
    }
}

async fn last_refresh(config: &Config) -> anyhow::Result<Result<String, (String, String)>> {
    let store = open_to_read(config).await?;
    let filter = RunFilter { job: Some(jobs::UNIVERSE.to_owned()), limit: 1, ..RunFilter::default() };
    let run = store.list_runs(&filter).await?.into_iter().next();
    store.close().await;
    Ok(match run {
        None => Ok("not due yet since the first start; a list of the configuration is taken at once".to_owned()),
        Some(run) if run.state == RunState::Failed || run.error.is_some() && run.state != RunState::Ok => {
            let error = run.error.unwrap_or_default();
            let found = format!("the refresh of {} did not go well: {error}", output::utc(run.scheduled_for));
            Err((found, "mend what is named; bellwether jobs run universe tries at once".to_owned()))
        }
        Some(run) => Ok(format!("{} {}", output::utc(run.scheduled_for), run.state)),
    })
}
