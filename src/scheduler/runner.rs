//! Running one attempt of a claimed slot to its end: the deadline, being told to stop, and a panic that is only this run's.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use super::ledger::{Ended, Ledger, Ticket};
use super::status::Living;
use super::{Entry, JobError, Report};
use crate::metrics;
use crate::store::{Origin, RunState};

/// Runs the attempt until it is done, cannot be, or is told to end, and writes that into the ledger. `cut_off` comes when the
/// daemon will wait no longer. Gives whether it went well and that is written.
pub(super) async fn run(
    ledger: Ledger,
    entry: Arc<Entry>,
    mut ticket: Ticket,
    living: Living,
    cut_off: CancellationToken,
) -> bool {
    let span = info_span!("run", job_name = ticket.job, run_id = %ticket.context.id, trace_id = ticket.trace_id);
    async {
        ticket.started_at = ledger.clock.now();
        let result = attempt(&ledger, &entry, &ticket, &cut_off).await;
        let ended = match result {
            Ok(report) => Ended::Ok(report),
            Err(_) if living.cancelled_by().is_some() => Ended::Cancelled(living.cancelled_by().unwrap_or_default()),
            Err(_) if cut_off.is_cancelled() => Ended::CutOff,
            Err(fault) => match pause_before_next(&ledger, &entry, &ticket, &fault) {
                Some(pause) => Ended::Again(fault, pause),
                None => Ended::Failed(fault),
            },
        };
        let (well, failed) = (matches!(ended, Ended::Ok(_)), matches!(ended, Ended::Failed(_)));
        let written = ledger.end(&ticket, ended).await;
        if written && failed {
            // On the heap: it is rare, and large, and every run would carry its room.
            Box::pin(break_circuit(&ledger, &entry)).await;
        }
        written && well
    }
    .instrument(span)
    .await
}

/// One attempt, whose panic ends it and not the daemon. Whatever tells it to stop, it has its grace to do so.
async fn attempt(
    ledger: &Ledger,
    entry: &Entry,
    ticket: &Ticket,
    cut_off: &CancellationToken,
) -> Result<Report, JobError> {
    let work = Arc::clone(&entry.job).run(ticket.context.clone());
    // Nobody sees what a panic left half-done: the work is dropped with it.
    let mut task = AssertUnwindSafe(work).catch_unwind();
    let stop = &ticket.context.stop;
    // By elapsed time: a clock that is set forward is no reason to end what has just begun.
    let left = (ticket.context.deadline - ticket.started_at).to_std().unwrap_or(Duration::ZERO);
    let late = tokio::select! {
        ended = &mut task => return ended.unwrap_or_else(|panic| Err(JobError::Fail(panic_message(&*panic)))),
        () = ledger.clock.pause(left) => true,
        () = stop.cancelled() => false,
        () = cut_off.cancelled() => false,
    };
    stop.cancel();
    let ended = tokio::select! {
        ended = &mut task => ended.unwrap_or_else(|panic| Err(JobError::Fail(panic_message(&*panic)))),
        () = ledger.clock.pause(entry.spec.stop_grace) => {
            Err(JobError::Fail(format!("told to stop and cut off {} s later", entry.spec.stop_grace.as_secs())))
        }
    };
    match ended {
        Err(fault) if late => Err(JobError::Fail(format!("not done by its deadline, {}: {fault}", span_of(left)))),
        ended => ended,
    }
}

fn span_of(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..300 => format!("{seconds} s after it began"),
        seconds => format!("{} min after it began", seconds / 60),
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("without a message"))
}

/// The pause before another attempt; `None` where there is none: past the last try, the deadline or the next slot.
fn pause_before_next(ledger: &Ledger, entry: &Entry, ticket: &Ticket, fault: &JobError) -> Option<Duration> {
    let asked = fault.retry()?;
    // Without data nothing can be served, so the run at start goes on trying until its deadline.
    let last = ticket.context.origin != Origin::ColdStart && ticket.attempt >= entry.spec.retry.attempts;
    let pause = entry.spec.retry.pause(ticket.attempt, Some(asked), fastrand::f64());
    let next_slot = entry.spec.trigger.next_after(&ledger.calendar.load(), ledger.clock.now());
    let too_late = ledger.clock.later(pause) >= ticket.context.deadline.min(next_slot);
    (!last && !too_late).then_some(pause)
}

/// A job that keeps failing is paused, where it wants that, until an operator has looked.
async fn break_circuit(ledger: &Ledger, entry: &Entry) {
    let (job, most) = (entry.spec.name, entry.spec.breaker);
    if most == 0 {
        return;
    }
    let failing = match ledger.store.last_ends(job, most).await {
        Ok(ends) => ends.len() == most as usize && !ends.contains(&RunState::Ok),
        Err(fault) => {
            warn!(error = %fault, "it could not be seen whether {job} keeps failing");
            return;
        }
    };
    if !failing {
        return;
    }
    let reason = format!("by itself: {most} runs in a row failed");
    match ledger.store.pause_job(job, ledger.clock.now(), None, &reason).await {
        Ok(_) => {
            metrics::job_paused(job, true);
            error!(
                "{job} is paused after {most} failed runs in a row; when it is mended: bellwether jobs resume {job}"
            );
        }
        Err(fault) => warn!(error = %fault, "{job} keeps failing and could not be paused"),
    }
}
