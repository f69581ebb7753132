//! The `reconcile-paypal` job: what PayPal has told and been paid, beside what is here. An event that never came is fetched and
//! enters the inbox as if it had; money that is nowhere in the books is reported.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::warn;
use uuid::Uuid;

use super::inbox::{Inbox, NotStored};
use crate::clock::SharedClock;
use crate::metrics;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};
use crate::store::{Intake, NewEvent, Store, StoreError};
use crate::webhooks::{Envelope, PayPalClient, PayPalError, Verdict, paypal};

/// How far back a run looks: longer than PayPal tries to deliver, so that a night that was missed is made up for.
pub const LOOKS_BACK: TimeDelta = TimeDelta::days(7);

/// PayPal's list of transactions is so late.
const LISTED_AFTER: TimeDelta = TimeDelta::hours(3);

/// What was made within this time may still be on its way.
const ON_ITS_WAY: TimeDelta = TimeDelta::minutes(10);

/// Pages of events that are followed, of 300 each.
const MOST_PAGES: usize = 400;

/// Differences that are named one by one; all are counted.
const MOST_NAMED: usize = 100;

/// Compares PayPal's lists with ours.
#[derive(Debug)]
pub struct Reconcile {
    /// What is here.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// Who is asked.
    pub client: Arc<PayPalClient>,
    /// Where what was missing goes; `None`: it is only reported.
    pub inbox: Option<Inbox>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Events in PayPal's list.
    pub events: usize,
    /// Of them, those that were not here.
    pub missing: usize,
    /// Of those, what was stored now.
    pub stored: usize,
    /// Their ids, the first hundred.
    pub missing_ids: Vec<String>,
    /// Payments in PayPal's list.
    pub transactions: usize,
    /// Of them, those that are nowhere in the books.
    pub unknown_transactions: usize,
    /// Their ids, the first hundred.
    pub unknown_transaction_ids: Vec<String>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// PayPal.
    #[error(transparent)]
    PayPal(#[from] PayPalError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The inbox.
    #[error("what was missing could not be stored: {0}")]
    NotStored(#[from] NotStored),
}

impl Reconcile {
    /// Compares what PayPal has of `[from, now]`.
    ///
    /// # Errors
    /// When PayPal or the database does not answer; what was stored by then stays.
    pub async fn compare(&self, from: DateTime<Utc>) -> Result<Found, Fault> {
        let now = self.clock.now();
        let mut found = Found::default();
        self.compare_events(from, now - ON_ITS_WAY, &mut found).await?;
        self.compare_transactions(from, now - LISTED_AFTER, &mut found).await?;
        metrics::paypal_differences("missing", found.missing);
        metrics::paypal_differences("unknown_transaction", found.unknown_transactions);
        if found.missing > 0 || found.unknown_transactions > 0 {
            let (missing, unknown) = (found.missing, found.unknown_transactions);
            warn!(missing, stored = found.stored, unknown_transactions = unknown, "PayPal's lists and ours differ");
        }
        Ok(found)
    }

    async fn compare_events(&self, from: DateTime<Utc>, to: DateTime<Utc>, found: &mut Found) -> Result<(), Fault> {
        let listed = self.client.events(from, to, MOST_PAGES).await?;
        found.events = listed.len();
        let ids: Vec<String> = listed.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
        let known = self.store.known_event_ids(paypal::SOURCE, &ids).await?;
        let known: std::collections::HashSet<&str> = known.iter().map(String::as_str).collect();
        for event in listed.iter().filter(|event| event["id"].as_str().is_some_and(|id| !known.contains(id))) {
            found.missing += 1;
            if found.missing_ids.len() < MOST_NAMED {
                found.missing_ids.extend(event["id"].as_str().map(str::to_owned));
            }
            let Some(inbox) = &self.inbox else { continue };
            let Some(new) = self.event_of(event) else { continue };
            if inbox.accept(new).await? == Intake::Stored {
                found.stored += 1;
            }
        }
        Ok(())
    }

    /// It came from PayPal itself, over a connection that proved who answers; that is what a signature would say.
    fn event_of(&self, event: &Value) -> Option<NewEvent> {
        let body = event.to_string();
        match Envelope::read(body.as_bytes()) {
            Ok(envelope) => Some(NewEvent {
                id: Uuid::now_v7(),
                source: paypal::SOURCE.to_owned(),
                event_id: envelope.id,
                event_type: envelope.event_type,
                verdict: Verdict::Fetched.name(),
                payload_hash: HEXLOWER.encode(&Sha256::digest(body.as_bytes())),
                body,
                headers: "{}".to_owned(),
                created_at: envelope.created_at,
                received_at: self.clock.now(),
            }),
            Err(fault) => {
                warn!(error = %fault, "an event in PayPal's list cannot be read");
                None
            }
        }
    }

    async fn compare_transactions(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        found: &mut Found,
    ) -> Result<(), Fault> {
        if from >= to {
            return Ok(());
        }
        let listed = self.client.transactions(from, to).await?;
        let ids: Vec<String> = listed.iter().filter_map(payment_id).collect();
        found.transactions = ids.len();
        let known = self.store.known_payment_ids(&ids).await?;
        let known: std::collections::HashSet<&str> = known.iter().map(String::as_str).collect();
        for id in ids.iter().filter(|id| !known.contains(id.as_str())) {
            found.unknown_transactions += 1;
            if found.unknown_transaction_ids.len() < MOST_NAMED {
                found.unknown_transaction_ids.push(id.clone());
            }
        }
        Ok(())
    }
}

/// The id of a transaction by which money came and stayed (`T00..`: payments; status `S`: done).
fn payment_id(transaction: &Value) -> Option<String> {
    let info = &transaction["transaction_info"];
    let is_payment = info["transaction_event_code"].as_str().is_some_and(|code| code.starts_with("T00"));
    let came = info["transaction_amount"]["value"].as_str().is_some_and(|value| !value.starts_with('-'));
    let done = info["transaction_status"] == "S";
    (is_payment && came && done).then(|| info["transaction_id"].as_str().map(str::to_owned)).flatten()
}

impl Job for Reconcile {
    fn run(self: Arc<Self>, _context: RunContext) -> RunFuture {
        Box::pin(async move {
            let found = self.compare(self.clock.now() - LOOKS_BACK).await.map_err(|fault| match fault {
                Fault::PayPal(PayPalError::Retry { after, message }) => JobError::Retry { after, message },
                Fault::PayPal(fault) => JobError::Fail(fault.to_string()),
                fault => JobError::Retry { after: None, message: fault.to_string() },
            })?;
            serde_json::to_value(found).map_err(|fault| JobError::Fail(fault.to_string()))
        })
    }
}
