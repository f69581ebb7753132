//! Running one claimed slot to its end: attempts, back-off, the deadline, and a panic that is only this run's.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::ledger::{Ledger, Ticket};
use super::{Entry, JobError, Report};
use crate::store::Origin;

/// The first pause between attempts; doubled each time, never more than [`LONGEST_PAUSE`], and drawn at random below that
/// so that instances do not come back in step.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Runs `ticket` until it is done, cannot be, or is out of time, and writes the end into the ledger. A run that only waits
/// for its next attempt when `stop` comes is left as it is: the next start, or another instance, takes it up.
pub(super) async fn run(ledger: Ledger, entry: Entry, mut ticket: Ticket, stop: CancellationToken) {
    let span = info_span!("run", job_name = ticket.job, run_id = %ticket.context.id);
    async {
        loop {
            ticket.started_at = ledger.clock.now();
            let result = attempt(&ledger, &entry, &ticket).await;
            let Some(pause) = pause_before_next(&ledger, &entry, &ticket, &result) else {
                ledger.finish(&ticket, &result).await;
                return;
            };
            if let Err(fault) = &result {
                warn!(attempt = ticket.attempt, pause_ms = pause.as_millis(), error = %fault, "{} will try again", ticket.job);
            }
            tokio::select! {
                () = ledger.clock.sleep(pause) => {}
                () = stop.cancelled() => {
                    info!("the next attempt is left to the next start");
                    return;
                }
            }
            if !next_attempt(&ledger, &mut ticket).await {
                return;
            }
        }
    }
    .instrument(span)
    .await;
}

/// One attempt in a task of its own, so that a panic ends the attempt and not the daemon.
async fn attempt(ledger: &Ledger, entry: &Entry, ticket: &Ticket) -> Result<Report, JobError> {
    let work = Arc::clone(&entry.job).run(ticket.context.clone());
    let mut task = AbortOnDrop(tokio::spawn(work.in_current_span()));
    let ended = tokio::select! {
        ended = &mut task.0 => ended,
        () = ledger.clock.sleep_until(ticket.context.deadline) => {
            let minutes = entry.spec.deadline.num_minutes();
            return Err(JobError::Fail(format!("not done by its deadline, {minutes} min after it was due")));
        }
    };
    ended.unwrap_or_else(|fault| Err(JobError::Fail(panic_message(fault))))
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<Report, JobError>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn panic_message(fault: tokio::task::JoinError) -> String {
    if !fault.is_panic() {
        return "ended from outside".to_owned();
    }
    let payload = fault.into_panic();
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("without a message"))
}

fn pause_before_next(
    ledger: &Ledger,
    entry: &Entry,
    ticket: &Ticket,
    result: &Result<Report, JobError>,
) -> Option<Duration> {
    let Err(JobError::Retry { after, .. }) = result else { return None };
    // Without data nothing can be served, so the run at start goes on trying until its deadline.
    let last = ticket.context.origin != Origin::ColdStart && ticket.attempt >= entry.spec.attempts;
    let exponent = u32::try_from(ticket.attempt.clamp(1, 16) - 1).unwrap_or(0);
    let ceiling = FIRST_PAUSE.saturating_mul(1 << exponent).min(LONGEST_PAUSE);
    let pause = after.unwrap_or_default().max(ceiling.mul_f64(fastrand::f64()));
    let too_late = ledger.clock.later(pause) >= ticket.context.deadline;
    (!last && !too_late).then_some(pause)
}

async fn next_attempt(ledger: &Ledger, ticket: &mut Ticket) -> bool {
    match ledger.store.begin_attempt(ticket.context.id, ticket.attempt, &ledger.owner, ledger.clock.now()).await {
        Ok(true) => {
            ticket.attempt += 1;
            true
        }
        Ok(false) => {
            warn!("the run was taken over by another process; this attempt ends here");
            false
        }
        Err(fault) => {
            warn!(error = %fault, "the next attempt could not be written; the run will be found abandoned and done again");
            false
        }
    }
}
