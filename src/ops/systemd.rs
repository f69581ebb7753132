//! Talking to the service manager: ready, stopping, and a watchdog ping that proves work.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::SharedClock;
use crate::scheduler::Status;
use crate::store::Store;

/// The planner must have looked at the schedule within this time for the daemon to count as alive. It looks each second; one
/// look can wait for the database as long as a statement may take.
const OLDEST_LOOK: Duration = Duration::from_secs(60);

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

/// What can change while the service runs is being read again; [`ready`] ends it.
pub fn reloading() {
    let Ok(now) = NotifyState::monotonic_usec_now() else { return };
    notify(&[NotifyState::Reloading, now]);
}

/// The service is going down.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing runs and answers under way")]);
}

/// Whether the planner does its work: it goes on looking at the schedule.
///
/// # Errors
/// The reason why not.
pub fn prove_planning(status: &Status, clock: &SharedClock) -> Result<(), String> {
    let Some(look) = status.last_look() else {
        return Err("the planner has not looked at the schedule yet".to_owned());
    };
    match clock.monotonic().saturating_sub(look) {
        age if age > OLDEST_LOOK => Err(format!("the planner last looked at the schedule {} s ago", age.as_secs())),
        _ => Ok(()),
    }
}

/// Whether the daemon can do all of its work: the planner looks at the schedule and the database answers.
///
/// # Errors
/// The reason why not.
pub async fn prove_work(status: &Status, store: &Store, clock: &SharedClock) -> Result<(), String> {
    prove_planning(status, clock)?;
    status.ledger_fault().map_or(Ok(()), Err)?;
    store.ping().await.map_err(|fault| fault.to_string())
}

/// Pings the watchdog, at half the interval it asks for, as long as the planner works, until `stop`. A database that is away
/// is no reason to be killed: a restart does not bring it back, and readers are still served from memory.
pub async fn keep_alive(status: Arc<Status>, clock: SharedClock, stop: CancellationToken) {
    let interval = sd_notify::watchdog_enabled().map_or(DEFAULT_INTERVAL, |watchdog| watchdog / 2);
    loop {
        tokio::select! {
            () = clock.beat(interval) => {}
            () = stop.cancelled() => return,
        }
        match prove_planning(&status, &clock) {
            Ok(()) => notify(&[NotifyState::Watchdog]),
            Err(reason) => warn!(reason, "the watchdog is not pinged"),
        }
    }
}
