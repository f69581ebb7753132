//! Subscriptions that their holders have given up are ended at PayPal too.
//!
//! The intent is written with the holder's word, and PayPal is asked between two transactions, under one request id for the
//! subscription: killed anywhere, the next attempt asks for the same, and what has ended already counts as done. This goes on beside the
//! schedule, on every instance, and is never given up: as long as it does not get through somebody may be charged against their word.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::billing::Rules;
use crate::clock::SharedClock;
use crate::metrics;
use crate::store::{Cancellation, Store, StoreError};
use crate::webhooks::{PayPalClient, PayPalError};

/// How often is looked without being told.
const EVERY: Duration = Duration::from_secs(15);

/// Subscriptions that are ended at once.
const BATCH: u32 = 8;

/// For so long what was taken is nobody else's: longer than three calls may take.
const CLAIM: TimeDelta = TimeDelta::minutes(2);

/// The pause after the first, second .. failure, in seconds; the last is kept to.
const PAUSES: [i64; 5] = [15, 60, 300, 1_800, 3_600];

/// What PayPal shows its own people and the holder.
const REASON: &str = "The account holder has canceled the subscription.";

/// Ends them.
#[derive(Debug)]
pub struct Cancellations {
    /// Where the intents are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// What is sold, and the rules of time around it.
    pub rules: Rules,
    /// Who is asked; `None`: there are no credentials.
    pub client: Option<Arc<PayPalClient>>,
    /// Told when there is something.
    pub nudge: Arc<Notify>,
}

impl Cancellations {
    /// Asks for what is wanted until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        if self.store.is_exclusive()
            && let Err(fault) = self.store.release_cancellations(self.clock.now()).await
        {
            warn!(error = %fault, "what a process before this one was asking PayPal for waits for its time");
        }
        while !stop.is_cancelled() {
            if let Err(fault) = self.pass(&stop).await {
                warn!(error = %fault, "which subscriptions are to end at PayPal cannot be read now");
            }
            self.show().await;
            tokio::select! {
                () = self.nudge.notified() => {}
                () = self.clock.beat(EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn pass(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        while !stop.is_cancelled() {
            let now = self.clock.now();
            let claimed = self.store.claim_cancellations(now, now + CLAIM, BATCH).await?;
            if claimed.is_empty() {
                break;
            }
            join_all(claimed.iter().map(|one| self.settle(one))).await;
        }
        Ok(())
    }

    /// One attempt.
    async fn settle(&self, one: &Cancellation) {
        let (link, user_id, attempt) = (&one.link_id, &one.user_id, one.attempts);
        let written = match self.end(link).await {
            Ok(()) => match self.store.confirm_cancellation(one, &self.rules, self.clock.now()).await {
                Ok(true) => {
                    info!(paypal_subscription = link, user_id, "a subscription has ended at PayPal too");
                    metrics::cancellation("confirmed");
                    Ok(())
                }
                other => other.map(|_| ()),
            },
            Err(fault) => {
                metrics::cancellation("failed");
                warn!(paypal_subscription = link, user_id, attempt, error = %fault, "a subscription could not be ended at PayPal; it is tried again");
                let next = self.clock.now() + pause_after(attempt, &fault);
                self.store.postpone_cancellation(link, &fault.to_string(), next).await
            }
        };
        if let Err(fault) = written {
            warn!(paypal_subscription = link, error = %fault, "what PayPal said could not be written down; it is asked again");
        }
    }

    /// Has PayPal end it; well also when it had ended before.
    async fn end(&self, link: &str) -> Result<(), PayPalError> {
        let Some(client) = &self.client else {
            let fix = "there are no credentials to ask PayPal with: set PAYPAL_CLIENT_ID and PAYPAL_SECRET, or end it on PayPal's own page";
            return Err(PayPalError::Fail(fix.to_owned()));
        };
        let refused = match client.cancel_subscription(link, REASON, &request_id(link)).await {
            Err(PayPalError::Fail(refused)) => refused,
            other => return other,
        };
        // It refuses what has ended before, and for other reasons too: how it stands there decides.
        let found = client.subscription(link).await?;
        match found["status"].as_str() {
            Some("CANCELLED" | "EXPIRED") => Ok(()),
            status => Err(PayPalError::Fail(format!("{refused}; there it is {}", status.unwrap_or("in no state")))),
        }
    }

    async fn show(&self) {
        if let Ok(backlog) = self.store.paypal_backlog().await {
            let oldest = backlog.oldest.map_or(TimeDelta::zero(), |at: DateTime<Utc>| self.clock.now() - at);
            metrics::cancellations_waiting(backlog.unended, oldest);
            metrics::renewals_in_doubt(backlog.in_doubt);
        }
    }
}

/// The same for each attempt at one subscription: PayPal carries it out once.
fn request_id(link: &str) -> String {
    let digest = Sha256::digest(format!("{link}/cancel"));
    HEXLOWER.encode(digest.get(..16).unwrap_or_default())
}

/// How long to wait after the failure of this attempt: as long as PayPal says, where it says so.
fn pause_after(attempt: i64, fault: &PayPalError) -> TimeDelta {
    let index = usize::try_from(attempt - 1).unwrap_or_default().min(PAUSES.len() - 1);
    let own = TimeDelta::seconds(PAUSES.get(index).copied().unwrap_or(3_600));
    match fault {
        PayPalError::Retry { after: Some(after), .. } => own.max(TimeDelta::from_std(*after).unwrap_or(own)),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_again_ever_more_slowly_and_never_given_up() {
        let fault = PayPalError::Fail("x".to_owned());
        let pauses = [1, 2, 3, 4, 5, 6, 1_000].map(|attempt| pause_after(attempt, &fault).num_seconds());
        assert_eq!(pauses, [15, 60, 300, 1_800, 3_600, 3_600, 3_600]);
        let asked = PayPalError::Retry { after: Some(Duration::from_secs(90)), message: "x".to_owned() };
        assert_eq!(pause_after(1, &asked).num_seconds(), 90);
        assert_eq!(request_id("I-1"), request_id("I-1"));
        assert_ne!(request_id("I-1"), request_id("I-2"));
    }
}
