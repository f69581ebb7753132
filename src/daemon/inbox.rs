//! The parts of the inbox, put together.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Parts, StartError};
use crate::config::Config;
use crate::jobs::cancellations::Cancellations;
use crate::jobs::events::Events;
use crate::jobs::{Inbox, Reconcile};
use crate::webhooks::{PayPalClient, Verifier};

/// What takes webhooks in.
pub(super) struct InboxParts {
    pub(super) inbox: Inbox,
    pub(super) verifier: Arc<Verifier>,
    /// Asks PayPal, where there are credentials.
    pub(super) client: Option<Arc<PayPalClient>>,
    /// The nightly comparison, where there is somebody to ask.
    pub(super) reconcile: Option<Arc<Reconcile>>,
    /// Told when a subscription is to end at PayPal.
    pub(super) cancellations: Arc<Notify>,
}

impl InboxParts {
    /// Makes them. What is handed in is stored by tasks on `tasks` until `stop`, or until nobody is left to hand anything in.
    ///
    /// # Errors
    /// When there is no HTTP client to be had.
    pub(super) fn assemble(
        config: &Config,
        parts: &Parts,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let client = PayPalClient::new(&config.paypal, Arc::clone(&parts.clock))?.map(Arc::new);
        let verifier = Arc::new(Verifier::new(&config.paypal, client.clone(), Arc::clone(&parts.clock))?);
        let inbox = Inbox::start(&parts.store, &parts.clock, tasks, stop);
        let reconcile = client.clone().map(|client| {
            let (store, clock) = (parts.store.clone(), Arc::clone(&parts.clock));
            Arc::new(Reconcile { store, clock, client, inbox: Some(inbox.clone()) })
        });
        Ok(Self { inbox, verifier, client, reconcile, cancellations: Arc::default() })
    }

    /// What ends subscriptions at PayPal.
    pub(super) fn cancellations(&self, config: &Config, parts: &Parts) -> Cancellations {
        Cancellations {
            store: parts.store.clone(),
            clock: Arc::clone(&parts.clock),
            rules: config.billing.clone(),
            client: self.client.clone(),
            nudge: Arc::clone(&self.cancellations),
        }
    }

    /// What lets the stored events take effect.
    pub(super) fn events(&self, config: &Config, parts: &Parts) -> Events {
        Events {
            store: parts.store.clone(),
            clock: Arc::clone(&parts.clock),
            rules: config.billing.clone(),
            nudge: self.inbox.nudge(),
        }
    }
}
