//! tokio-cron-scheduler as a second waker, and nothing else (docs/decisions/001-the-planner-decides.md).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::status::Status;
use crate::clock::SharedClock;

/// A planner that has looked within so long is awake: two looks a second would see what one sees.
const OVERSLEPT: Duration = Duration::from_millis(1_500);

/// Looks each five seconds, in UTC, until `stop`, whether the planner has done so by its own clock, and wakes it if it has not. The
/// crate's schedule is never asked what is due: it fires an hour off after a switch of summer time and goes silent when the clock
/// steps back.
///
/// # Errors
/// When the crate refuses to start; the planner goes on by its own clock.
pub async fn spawn_cron_waker(
    planner: Arc<Notify>,
    status: Arc<Status>,
    clock: SharedClock,
    stop: CancellationToken,
) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let each_five_seconds = Job::new_async("*/5 * * * * *", move |_, _| {
        if status.last_look().is_none_or(|looked| clock.monotonic() > looked + OVERSLEPT) {
            planner.notify_one();
        }
        Box::pin(std::future::ready(()))
    })?;
    scheduler.add(each_five_seconds).await?;
    scheduler.start().await?;
    tokio::spawn(async move {
        stop.cancelled().await;
        // It only ever held a wake-up, so there is nothing to lose.
        let _ = scheduler.shutdown().await;
    });
    Ok(())
}
