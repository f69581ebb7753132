//! A cycle's fetch and gate, and between them a second question for what moved so far that it might be a mistake.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use super::fetch::{FetchPlan, Fetched, Fetcher, Wanted};
use super::gate::{Gated, gate, to_confirm};
use crate::market::{Snapshot, Universe};
use crate::metrics;

/// Asks for `wanted` and lets through what is valid. What moved over 25 % for the first time is asked for once more, within a
/// tenth of the cadence; it is published as it stands then, with its flag, and never left out. `previous` is what readers see
/// now; `session_start` says for a time where the session begins that quotes must belong to.
pub async fn fetch_and_gate(
    fetcher: &Fetcher,
    universe: &Arc<Universe>,
    wanted: &Wanted,
    plan: FetchPlan,
    previous: Option<&Snapshot>,
    session_start: impl Fn(DateTime<Utc>) -> DateTime<Utc> + Send,
) -> (Fetched, Gated) {
    let mut fetched = fetcher.fetch(universe, wanted, plan).await;
    let now = fetcher.clock.now();
    let moved = to_confirm(universe, &fetched.quotes, previous, session_start(now), now);
    if !moved.is_empty() {
        let patience = TimeDelta::from_std(plan.cadence / 10).unwrap_or(TimeDelta::MAX);
        let deadline = plan.deadline.min(now + patience);
        let answered = fetcher.ask_again(universe, &moved, &mut fetched, deadline).await;
        let now = fetcher.clock.now();
        let stood = to_confirm(universe, &fetched.quotes, previous, session_start(now), now).len();
        let unanswered = moved.len() - answered.min(moved.len());
        let confirmed = stood.saturating_sub(unanswered);
        let gone = moved.len() - stood.min(moved.len());
        for (outcome, count) in [("stood", confirmed), ("gone", gone), ("unanswered", unanswered)] {
            metrics::moves_confirmed(outcome, count);
        }
        info!(moved = moved.len(), stood = confirmed, gone, unanswered, "moves over 25 % were asked for once more");
    }
    let now = fetcher.clock.now();
    let gated = gate(universe, &fetched.quotes, previous, session_start(now), now);
    (fetched, gated)
}
