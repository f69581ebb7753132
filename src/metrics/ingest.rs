//! What happens in ingestion: cycles, providers, the universe.

use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use chrono::TimeDelta;

use super::seconds;

/// A cycle was published, or restored at start.
pub fn cycle_published(expected: u32, fresh: u32, completeness: f64) {
    gauge!("bellwether_ingest_symbols_expected").set(f64::from(expected));
    gauge!("bellwether_ingest_symbols_fresh").set(f64::from(fresh));
    gauge!("bellwether_ingest_completeness_ratio").set(completeness);
}

/// Of the fresh quotes of a cycle, how many have another time than in the one before.
pub fn quotes_moved(moved: u32, fresh: u32) {
    gauge!("bellwether_ingest_moved_ratio").set(f64::from(moved) / f64::from(fresh.max(1)));
}

/// How many cycles in a row failed, and how many were published with too few symbols.
pub fn cycles_in_a_row(failed: u32, incomplete: u32) {
    gauge!("bellwether_ingest_failed_cycles").set(f64::from(failed));
    gauge!("bellwether_ingest_incomplete_cycles").set(f64::from(incomplete));
}

/// Whether something is to be mended, by the word that `ingest why` has for it.
pub fn finding(code: &'static str, holds: bool) {
    gauge!("bellwether_ingest_finding", "code" => code).set(f64::from(u8::from(holds)));
}

/// A cycle ended.
pub fn cycle_ended(outcome: &'static str, duration: TimeDelta) {
    counter!("bellwether_ingest_cycles_total", "outcome" => outcome).increment(1);
    histogram!("bellwether_ingest_cycle_duration_seconds").record(seconds(duration));
}

/// How old the data is in market time, and whether readers are told that it is stale.
pub fn data_age(age_seconds: i64, stale: bool) {
    gauge!("bellwether_ingest_data_age_seconds").set(age_seconds as f64);
    gauge!("bellwether_ingest_stale").set(f64::from(u8::from(stale)));
}

/// What is quoted, and how long ago that was looked up, in market time.
pub fn universe(symbols: usize, age: TimeDelta) {
    gauge!("bellwether_ingest_universe_symbols").set(symbols as f64);
    gauge!("bellwether_ingest_universe_age_seconds").set(seconds(age));
}

/// How many symbols are asked for less often, because nothing is heard of them.
pub fn symbols_dormant(count: usize) {
    gauge!("bellwether_ingest_symbols_dormant").set(count as f64);
}

/// Symbols came and went.
pub fn universe_changed(added: usize, returned: usize, delisted: usize, renamed: usize) {
    let changes = [("added", added), ("returned", returned), ("delisted", delisted), ("renamed", renamed)];
    for (change, count) in changes {
        counter!("bellwether_ingest_universe_changes_total", "change" => change).increment(count as u64);
    }
}

/// The lists were read, or could not be.
pub fn universe_refreshed(ok: bool) {
    let outcome = if ok { "ok" } else { "failed" };
    counter!("bellwether_ingest_universe_refreshes_total", "outcome" => outcome).increment(1);
}

/// A call to a provider has ended.
pub fn provider_called(provider: &'static str, outcome: &'static str, latency: Duration) {
    counter!("bellwether_provider_requests_total", "provider" => provider, "outcome" => outcome).increment(1);
    histogram!("bellwether_provider_request_duration_seconds", "provider" => provider).record(latency.as_secs_f64());
}

/// A slow call was made a second time.
pub fn provider_hedged(provider: &'static str) {
    counter!("bellwether_provider_hedged_total", "provider" => provider).increment(1);
}

/// Whether nobody calls a provider because it has failed.
pub fn breaker_state(provider: &'static str, open: bool) {
    counter!("bellwether_provider_hedged_total", "provider" => provider).increment(0);
    gauge!("bellwether_provider_breaker_open", "provider" => provider).set(f64::from(u8::from(open)));
}

/// A cycle is in the database.
pub fn cycle_stored(took: Duration) {
    histogram!("bellwether_ingest_store_duration_seconds").record(took.as_secs_f64());
}

/// The database did not take a cycle.
pub fn cycle_not_stored() {
    counter!("bellwether_ingest_store_failures_total").increment(1);
}

/// How far the database is behind what is shown.
pub fn store_lag(cycles: usize, seconds: i64, journal_bytes: u64) {
    gauge!("bellwether_ingest_store_behind_cycles").set(cycles as f64);
    gauge!("bellwether_ingest_store_behind_seconds").set(seconds as f64);
    gauge!("bellwether_ingest_journal_bytes").set(journal_bytes as f64);
}

/// A cycle was solved against the quota.
pub fn cycle_planned(fits: bool) {
    gauge!("bellwether_ingest_plan_fits").set(f64::from(u8::from(fits)));
}

/// A cycle has all it will get.
pub fn fetched(provider: &'static str, concurrency: usize, refused: usize) {
    gauge!("bellwether_provider_concurrency_limit", "provider" => provider).set(concurrency as f64);
    gauge!("bellwether_provider_symbols_refused", "provider" => provider).set(refused as f64);
}

/// Large moves were asked for once more.
pub fn moves_confirmed(outcome: &'static str, count: usize) {
    counter!("bellwether_ingest_moves_total", "outcome" => outcome).increment(count as u64);
}
