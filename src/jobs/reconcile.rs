//! The `reconcile-paypal` job: what PayPal has told and been paid, beside what is here. An event that never came is fetched and
//! enters the inbox as if it had; money that is nowhere in the books is reported.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::warn;
use uuid::Uuid;

use super::inbox::{Inbox, NotStored};
use crate::billing::Money;
use crate::clock::SharedClock;
use crate::metrics;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};
use crate::store::{Intake, KnownPayment, NewEvent, RunState, Store, StoreError};
use crate::webhooks::{Envelope, PayPalClient, PayPalError, Verdict, paypal};

/// How far back a run looks: longer than PayPal tries to deliver, so that a night that was missed is made up for.
pub const LOOKS_BACK: TimeDelta = TimeDelta::days(7);

/// PayPal's list of events goes back so far.
pub const PAYPAL_REMEMBERS: TimeDelta = TimeDelta::days(30);

/// What was made shortly before a run may have been listed after it.
const ON_THE_SAFE_SIDE: TimeDelta = TimeDelta::days(1);

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
    pub unknown_transactions: Named,
    /// Of them, those that are in the books with another amount or currency.
    pub different_amounts: Named,
    /// Refunds, reversals and chargebacks in PayPal's list that are nowhere in the books.
    pub unknown_refunds: Named,
}

/// How many, and the ids of the first hundred.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// All of them.
    pub count: usize,
    /// The first.
    pub ids: Vec<String>,
}

impl Named {
    fn note(&mut self, id: &str) {
        self.count += 1;
        if self.ids.len() < MOST_NAMED {
            self.ids.push(id.to_owned());
        }
    }
}

impl Found {
    /// Whether the books and PayPal's list of money differ.
    pub fn money_differs(&self) -> bool {
        [&self.unknown_transactions, &self.different_amounts, &self.unknown_refunds].iter().any(|one| one.count > 0)
    }
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
    /// From when on there may be something that no run has seen: a week ago, or a day before the last run that went well, as far as
    /// PayPal remembers.
    async fn since(&self) -> Result<DateTime<Utc>, Fault> {
        let now = self.clock.now();
        let last = self.store.last_runs().await?.get(&(super::RECONCILE.to_owned(), RunState::Ok)).copied();
        let unseen = last.map_or(now - LOOKS_BACK, |last| last - ON_THE_SAFE_SIDE);
        Ok(unseen.min(now - LOOKS_BACK).max(now - PAYPAL_REMEMBERS))
    }

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
        metrics::paypal_differences("unknown_transaction", found.unknown_transactions.count);
        metrics::paypal_differences("different_amount", found.different_amounts.count);
        metrics::paypal_differences("unknown_refund", found.unknown_refunds.count);
        if found.missing > 0 || found.money_differs() {
            warn!(
                missing = found.missing,
                stored = found.stored,
                unknown_transactions = found.unknown_transactions.count,
                different_amounts = found.different_amounts.count,
                unknown_refunds = found.unknown_refunds.count,
                "PayPal's lists and ours differ"
            );
        }
        Ok(found)
    }

    async fn compare_events(&self, from: DateTime<Utc>, to: DateTime<Utc>, found: &mut Found) -> Result<(), Fault> {
        let listed = self.client.events(from, to, MOST_PAGES).await?;
        found.events = listed.len();
        let ids: Vec<String> = listed.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
        let known = self.store.known_event_ids(paypal::SOURCE, &ids).await?;
        let known: HashSet<&str> = known.iter().map(String::as_str).collect();
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
        let came: Vec<Transaction> = listed.iter().filter_map(|one| Transaction::read(one, &["T00"], false)).collect();
        found.transactions = came.len();
        let ids: Vec<String> = came.iter().map(|one| one.id.clone()).collect();
        let known = self.store.known_payments(&ids).await?;
        let known: HashMap<&str, &KnownPayment> = known.iter().map(|one| (one.id.as_str(), one)).collect();
        for one in &came {
            match known.get(one.id.as_str()) {
                None => found.unknown_transactions.note(&one.id),
                Some(ours) if !one.is_amount_of(ours) => found.different_amounts.note(&one.id),
                Some(_) => {}
            }
        }
        let went = listed.iter().filter_map(|one| Transaction::read(one, REVERSALS, true));
        let went: Vec<Transaction> = went.collect();
        let ids: Vec<String> = went.iter().flat_map(|one| [Some(one.id.clone()), one.of.clone()]).flatten().collect();
        let known: HashSet<String> = self.store.known_reversals(&ids).await?.into_iter().collect();
        let is_known =
            |one: &&Transaction| known.contains(&one.id) || one.of.as_ref().is_some_and(|of| known.contains(of));
        went.iter().filter(|one| !is_known(one)).for_each(|one| found.unknown_refunds.note(&one.id));
        Ok(())
    }
}

/// Money went back: a reversal by PayPal, a refund, a chargeback (PayPal's transaction event codes).
const REVERSALS: &[&str] = &["T1106", "T1107", "T1201"];

/// A line of PayPal's list.
struct Transaction {
    id: String,
    /// The transaction that it is about, where it is about one.
    of: Option<String>,
    amount: Option<Money>,
}

impl Transaction {
    /// One that is done (status `S`), whose code begins with one of these, by which money came, or (`went`) went.
    fn read(line: &Value, codes: &[&str], went: bool) -> Option<Self> {
        let info = &line["transaction_info"];
        let code = info["transaction_event_code"].as_str()?;
        let value = info["transaction_amount"]["value"].as_str()?;
        let fits = codes.iter().any(|known| code.starts_with(known)) && value.starts_with('-') == went;
        if !fits || info["transaction_status"] != "S" {
            return None;
        }
        let currency = info["transaction_amount"]["currency_code"].as_str().and_then(|code| code.parse().ok());
        let amount = currency.and_then(|currency| Money::parse(value.trim_start_matches('-'), currency).ok());
        let (id, of) = (info["transaction_id"].as_str()?, info["paypal_reference_id"].as_str());
        Some(Self { id: id.to_owned(), of: of.map(str::to_owned), amount })
    }

    /// An amount that cannot be read is no difference that anybody could mend.
    fn is_amount_of(&self, ours: &KnownPayment) -> bool {
        self.amount.is_none_or(|amount| amount.minor == ours.amount_minor && amount.currency.code() == ours.currency)
    }
}

impl Job for Reconcile {
    fn run(self: Arc<Self>, _context: RunContext) -> RunFuture {
        Box::pin(async move {
            let found = async { self.compare(self.since().await?).await };
            let found = found.await.map_err(|fault| match fault {
                Fault::PayPal(PayPalError::Retry { after, message }) => JobError::Retry { after, message },
                Fault::PayPal(fault) => JobError::Fail(fault.to_string()),
                fault => JobError::Retry { after: None, message: fault.to_string() },
            })?;
            serde_json::to_value(found).map_err(|fault| JobError::Fail(fault.to_string()))
        })
    }
}
