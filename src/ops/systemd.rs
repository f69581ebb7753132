//! Talking to the service manager: ready, stopping, and a watchdog ping that proves work.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::SharedClock;
use crate::scheduler::Status;
use crate::store::Store;

/// The planner must have looked at the schedule, and written the ledger, within this time for the daemon to count as alive.
const OLDEST_TICK: Duration = Duration::from_secs(10);

/// How often liveness is looked at where no watchdog asks for it.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// Sends a state; without a service manager nothing happens.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(fault) = sd_notify::notify(states) {
        debug!(error = %fault, "the service manager could not be told");
    }
}

/// The service is up.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is going down.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing runs and answers under way")]);
}

/// Whether the daemon does its work: the planner looks at the schedule and the database answers.
///
/// # Errors
/// The reason why not.
pub async fn prove_work(status: &Status, store: &Store, clock: &SharedClock) -> Result<(), String> {
    match status.last_tick() {
        None => return Err("the planner has not looked at the schedule yet".to_owned()),
        Some(tick) if clock.monotonic().saturating_sub(tick) > OLDEST_TICK => {
            let age = clock.monotonic().saturating_sub(tick).as_secs();
            return Err(format!("the planner last looked at the schedule {age} s ago"));
        }
        Some(_) => {}
    }
    store.ping().await.map_err(|fault| fault.to_string())
}

/// Pings the watchdog, at half the interval it asks for, as long as work is proved, until `stop`.
pub async fn keep_alive(status: Arc<Status>, store: Store, clock: SharedClock, stop: CancellationToken) {
    let interval = sd_notify::watchdog_enabled().map_or(DEFAULT_INTERVAL, |watchdog| watchdog / 2);
    loop {
        tokio::select! {
            () = clock.sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        match prove_work(&status, &store, &clock).await {
            Ok(()) => notify(&[NotifyState::Watchdog]),
            Err(reason) => warn!(reason, "the watchdog is not pinged"),
        }
    }
}
