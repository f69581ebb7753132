//! The renewal run, put together: at 03:00, and when it is asked for.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::inbox::InboxParts;
use super::{Parts, StartError};
use crate::config::Config;
use crate::jobs::{self, Confirmer, Renewals, RenewalsOnDemand};
use crate::schedule::JobSpec;
use crate::scheduler::Status;
use crate::webhooks::SiteClient;

/// Makes the renewal run.
///
/// # Errors
/// When the site that renews by itself cannot be called.
pub(super) fn of(config: &Config, parts: &Parts, inbox: &InboxParts) -> Result<Arc<Renewals>, StartError> {
    Ok(Arc::new(Renewals {
        confirmer: inbox.client.clone().map(Confirmer),
        site: site_of(config)?,
        store: parts.store.clone(),
        clock: Arc::clone(&parts.clock),
        rules: config.billing.clone(),
        limit: config.renewals_limit,
        batch: config.renewals_batch,
    }))
}

/// Who renews, where that is the site.
fn site_of(config: &Config) -> Result<Option<SiteClient>, StartError> {
    let Some((url, secret)) = config.site.renews_at.as_ref().zip(config.cron_secrets.first()) else { return Ok(None) };
    Ok(Some(SiteClient::new(url, secret.clone())?))
}

/// The same, beside its schedule.
pub(super) fn on_demand(
    table: &[JobSpec],
    parts: &Parts,
    renewals: &Arc<Renewals>,
    status: Arc<Status>,
    (runs, cut_off): (TaskTracker, CancellationToken),
) -> RenewalsOnDemand {
    let spec = table.iter().find(|spec| spec.name == jobs::RENEWALS).cloned();
    let spec = spec.unwrap_or_else(|| unreachable!("the table has a line for renewals"));
    RenewalsOnDemand { renewals: Arc::clone(renewals), spec, ledger: parts.ledger.clone(), status, runs, cut_off }
}
