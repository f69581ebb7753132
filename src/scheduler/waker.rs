//! tokio-cron-scheduler as a second waker, and nothing else (docs/decisions/001-the-planner-decides.md).

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

/// Wakes the planner each second, in UTC, until `stop`. The crate's schedule is never asked what is due: it fires an hour
/// off after a switch of summer time and goes silent when the clock steps back.
///
/// # Errors
/// When the crate refuses to start; the planner goes on by its own clock.
pub async fn spawn_cron_waker(planner: Arc<Notify>, stop: CancellationToken) -> Result<(), JobSchedulerError> {
    let mut scheduler = JobScheduler::new().await?;
    let each_second = Job::new_async("* * * * * *", move |_, _| {
        let planner = Arc::clone(&planner);
        Box::pin(async move { planner.notify_one() })
    })?;
    scheduler.add(each_second).await?;
    scheduler.start().await?;
    tokio::spawn(async move {
        stop.cancelled().await;
        // It only ever held a wake-up, so there is nothing to lose.
        let _ = scheduler.shutdown().await;
    });
    Ok(())
}
