//! The ledger looks itself over: a slot of the last day without a row is an alarm, because somebody relies on every one of them.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::metrics;
use crate::scheduler::{Operations, Status};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(600);

/// How far back.
const SPAN: TimeDelta = TimeDelta::hours(25);

/// A slot that came due so lately may not have been decided yet, or waits for another instance to take over.
const UNDECIDED: TimeDelta = TimeDelta::minutes(2);

/// The most slots that are named.
const NAMED: usize = 10;

/// Looks until `stop`, on the instance that plans.
pub async fn keep(operations: Operations, status: Arc<Status>, stop: CancellationToken) {
    let clock = Arc::clone(&operations.ledger.clock);
    loop {
        tokio::select! {
            () = clock.pause(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        if status.plans() {
            look(&operations).await;
        }
    }
}

async fn look(operations: &Operations) {
    let to = operations.ledger.clock.now() - UNDECIDED;
    match operations.verify(to - SPAN, to).await {
        Ok((_, missing)) => {
            metrics::ledger_gaps(missing.len());
            for slot in missing.iter().take(NAMED) {
                error!(job_name = slot.job, slot = %slot.slot, "a slot has no row in the ledger: bellwether jobs verify");
            }
        }
        Err(fault) => warn!(error = %fault, "the ledger could not be looked over"),
    }
}
