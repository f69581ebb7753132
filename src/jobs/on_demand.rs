//! The renewal run, asked for beside its schedule: over HTTP, on the command line, in the console.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::renewals::{Renewals, Renewed, Request};
use crate::schedule::JobSpec;
use crate::scheduler::{JobError, Ledger, Living, Place, Status};
use crate::store::{Origin, StoreError};

/// The same run as at 03:00, with a row of its own in the ledger.
#[derive(Debug, Clone)]
pub struct RenewalsOnDemand {
    /// What is run.
    pub renewals: Arc<Renewals>,
    /// Its line of the job table.
    pub spec: JobSpec,
    /// Where the row is.
    pub ledger: Ledger,
    /// Who knows what is under way.
    pub status: Arc<Status>,
    /// What the end of the daemon waits for.
    pub runs: TaskTracker,
    /// Comes when it waits no longer.
    pub cut_off: CancellationToken,
}

/// Why a run that was asked for did not end well.
#[derive(Debug, thiserror::Error)]
pub enum OnDemandFault {
    /// Two were asked for at once.
    #[error("another renewal run began in the same microsecond")]
    Twice,
    /// It could not begin; nothing was decided.
    #[error(transparent)]
    NotBegun(#[from] StoreError),
    /// The database failed on the way; what was decided before stays decided.
    #[error("run {0} broke off, and what it had decided stays decided: {1}")]
    Failed(Uuid, StoreError),
    /// It broke off; its row tells.
    #[error("run {0} broke off, and what it had decided stays decided: {1}")]
    BrokeOff(Uuid, String),
}

impl RenewalsOnDemand {
    /// What a run would do; nothing is changed, and there is no row. `due_by`: of what was due by then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rehearse(&self, limit: u32, due_by: Option<DateTime<Utc>>) -> Result<Renewed, StoreError> {
        let request = Request { run_id: Uuid::nil(), limit, due_by, dry_run: true };
        self.renewals.process(request, &CancellationToken::new()).await
    }

    /// Runs, in a task of its own: a caller that hangs up must not leave it half done. Gives the row of the run as well.
    ///
    /// # Errors
    /// [`OnDemandFault`]; what was decided before it stays decided.
    pub async fn run(&self, limit: u32, due_by: Option<DateTime<Utc>>) -> Result<(Uuid, Renewed), OnDemandFault> {
        let ticket = self.ledger.claim_now(&self.spec, Origin::Api).await?.ok_or(OnDemandFault::Twice)?;
        // It ends after the page it is at, as one by the schedule does.
        let (run_id, stop) = (ticket.context.id, self.cut_off.child_token());
        let living = Living::begin(&self.status, ticket.job, run_id, Place::Beside, stop.clone());
        let (renewals, ledger) = (Arc::clone(&self.renewals), self.ledger.clone());
        let work = self.runs.spawn(async move {
            let renewed = renewals.process(Request { run_id, limit, due_by, dry_run: false }, &stop).await;
            let result = match &renewed {
                Ok(renewed) => match renewed.fault() {
                    Some(message) => Err(JobError::Fail(message).with(renewed.report())),
                    None => Ok(renewed.report()),
                },
                Err(fault) => Err(JobError::Fail(fault.to_string())),
            };
            let stopped = renewed.as_ref().is_ok_and(Renewed::is_stopped);
            match living.cancelled_by().filter(|_| stopped) {
                Some(by) => ledger.finish_cancelled(&ticket, by).await,
                None => ledger.finish(&ticket, result).await,
            }
            renewed
        });
        let ended = work.await.map_err(|fault| OnDemandFault::BrokeOff(run_id, fault.to_string()))?;
        Ok((run_id, ended.map_err(|fault| OnDemandFault::Failed(run_id, fault))?))
    }
}
