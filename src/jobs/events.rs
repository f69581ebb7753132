//! Events of the inbox take effect: each in one transaction with the mark that says so.
//!
//! This goes on beside the schedule, on every instance: at once when something was stored, and every five seconds, which finds
//! what is tried again and what a process that is gone had taken. Each event is its own row of a ledger, with its attempts and its
//! error, so that it needs none among the runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::billing::Rules;
use crate::clock::SharedClock;
use crate::metrics;
use crate::store::{Applied, Claimed, EventStatus, Mark, MarkedPaid, Store, StoreError};
use crate::webhooks::{Envelope, paypal};

use super::unanswered::Unanswered;

/// How often is looked without being told.
const EVERY: Duration = Duration::from_secs(5);

/// Events that are taken at a time.
const BATCH: u32 = 50;

/// For so long what was taken is nobody else's.
const CLAIM: TimeDelta = TimeDelta::minutes(5);

/// The pause after the first, second .. failure, in seconds; after one more it is given up.
const PAUSES: [i64; 6] = [5, 30, 300, 1_800, 7_200, 21_600];

/// The site's event that an invited account pays.
pub const REFERRAL_PAID: &str = "referral.paid";

/// What lets events take effect.
#[derive(Debug)]
pub struct Events {
    /// Where they are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// What is sold, and the rules of time around it.
    pub rules: Rules,
    /// Told when there is something.
    pub nudge: Arc<Notify>,
}

/// What this process has claimed and the database did not take the end of, so that it need not wait for its claim to grow old.
#[derive(Debug, Default)]
struct Unended {
    /// Those of a batch at most.
    claims: Vec<Claimed>,
    /// The ends of claims of which it is not known whether they were made.
    unanswered: Unanswered,
}

impl Events {
    /// Applies what is due until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        if self.store.is_exclusive() {
            // Nobody else can have what a process before this one had taken.
            match self.store.release_events(self.clock.now()).await {
                Ok(0) => {}
                Ok(events) => info!(events, "events that a process before this one had begun are taken up again"),
                Err(fault) => {
                    warn!(error = %fault, "events that were begun could not be given back; they wait for their time")
                }
            }
        }
        // At the start there may be what a process before this one has left.
        let (mut unended, mut told) = (Unended::default(), true);
        while !stop.is_cancelled() {
            // What nobody told of is looked for before it is claimed, which is a write; a database that cannot say is asked in the claim.
            if told || !unended.claims.is_empty() || !unended.unanswered.is_empty() || self.show().await != Some(0) {
                if let Err(fault) = self.pass(&mut unended, &stop).await {
                    warn!(error = %fault, "the inbox cannot be worked on now");
                }
                self.show().await;
            }
            told = tokio::select! {
                () = self.nudge.notified() => true,
                () = self.clock.beat(EVERY) => false,
                () = stop.cancelled() => false,
            };
        }
    }

    /// Everything that is due. Nothing more is claimed until the claims at hand have their end.
    async fn pass(&self, unended: &mut Unended, stop: &CancellationToken) -> Result<(), StoreError> {
        let now = self.clock.now();
        for until in unended.unanswered.due(now) {
            unended.unanswered.looked(until, self.store.take_back_events(until, now).await?, now);
        }
        while let Some(claim) = unended.claims.last() {
            self.fail(claim, "how it ended could not be written down".to_owned()).await?;
            unended.claims.pop();
        }
        while !stop.is_cancelled() {
            let now = self.clock.now();
            unended.unanswered.asked(now + CLAIM);
            let claimed = self.store.claim_events(now, now + CLAIM, BATCH).await?;
            unended.unanswered.answered();
            if claimed.is_empty() {
                break;
            }
            for claim in claimed {
                if !self.settle(&claim).await {
                    unended.claims.push(claim);
                }
            }
            if !unended.claims.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// One attempt at one event. Whatever goes wrong in it is its own trouble; `false`: its end is not written.
    async fn settle(&self, claim: &Claimed) -> bool {
        let applied = AssertUnwindSafe(self.apply(claim)).catch_unwind().await;
        let ended = match applied {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(Trouble::Poison(fault))) => self.mark(claim, EventStatus::Dead, Some(fault)).await,
            Ok(Err(Trouble::Store(fault))) => self.fail(claim, fault.to_string()).await,
            Err(_panic) => self.fail(claim, "applying it panicked; the log has the place".to_owned()).await,
        };
        match &ended {
            Ok(status) => metrics::webhook_processed(status.name()),
            Err(fault) => {
                warn!(event_id = claim.event_id, error = %fault, "how an event ended could not be written down; it is tried again");
            }
        }
        ended.is_ok()
    }

    async fn apply(&self, claim: &Claimed) -> Result<EventStatus, Trouble> {
        let Some(body) = claim.body.as_deref() else { return Err(Trouble::Poison("its body is gone".to_owned())) };
        if claim.source != paypal::SOURCE {
            return self.apply_of_site(claim, body).await;
        }
        let envelope = Envelope::read(body.as_bytes()).map_err(|fault| Trouble::Poison(fault.to_string()))?;
        let event = paypal::read(&envelope).map_err(Trouble::Poison)?;
        let Some(event) = event else { return Ok(self.mark(claim, EventStatus::Ignored, None).await?) };
        let now = self.clock.now();
        let applied = self.store.apply_claimed(claim, &event, &self.rules, now, describe).await?;
        match applied {
            Some(applied) => {
                let user_id = applied.user_id.as_deref().unwrap_or("not known yet");
                info!(event_id = claim.event_id, event_type = claim.event_type, user_id, "an event took effect");
            }
            None => debug!(event_id = claim.event_id, "an event was somebody else's meanwhile"),
        }
        Ok(EventStatus::Processed)
    }

    /// The site's own events: `referral.paid` with `invitee_email`, `referral_code` or both.
    async fn apply_of_site(&self, claim: &Claimed, body: &str) -> Result<EventStatus, Trouble> {
        if claim.event_type != REFERRAL_PAID {
            return Ok(self.mark(claim, EventStatus::Ignored, None).await?);
        }
        let read = Envelope::read_of_kind(body.as_bytes(), REFERRAL_PAID);
        let envelope = read.map_err(|fault| Trouble::Poison(fault.to_string()))?;
        let said = |name: &str| envelope.value["data"][name].as_str().map(str::trim).filter(|text| !text.is_empty());
        let (code, email) = (said("referral_code"), said("invitee_email").or_else(|| said("email")));
        if code.is_none() && email.is_none() {
            return Err(Trouble::Poison("data.invitee_email or data.referral_code is needed".to_owned()));
        }
        match self.store.apply_paid_word(claim, code, email, self.clock.now()).await? {
            Some(MarkedPaid::Paid(_) | MarkedPaid::Already(_)) => {}
            Some(MarkedPaid::Unknown) => {
                let reason = "nobody invited that address, or not by that code".to_owned();
                return Ok(self.mark(claim, EventStatus::Ignored, Some(reason)).await?);
            }
            Some(MarkedPaid::Ambiguous | MarkedPaid::KeyReused) => {
                let fault = "several invites of that code were open: say which in invitee_email";
                return Err(Trouble::Poison(fault.to_owned()));
            }
            None => debug!(event_id = claim.event_id, "an event was somebody else's meanwhile"),
        }
        Ok(EventStatus::Processed)
    }

    async fn fail(&self, claim: &Claimed, fault: String) -> Result<EventStatus, StoreError> {
        let status = if pause_after(claim.attempts).is_some() { EventStatus::Failed } else { EventStatus::Dead };
        self.mark(claim, status, Some(fault)).await
    }

    async fn mark(
        &self,
        claim: &Claimed,
        status: EventStatus,
        fault: Option<String>,
    ) -> Result<EventStatus, StoreError> {
        let at = self.clock.now();
        let (event_id, event_type) = (&claim.event_id, &claim.event_type);
        match (status, &fault) {
            (EventStatus::Dead, Some(fault)) => {
                error!(
                    event_id,
                    event_type,
                    error = fault,
                    "an event is given up: bellwether webhooks show {event_id}"
                );
            }
            (EventStatus::Failed, Some(fault)) => {
                warn!(event_id, event_type, error = fault, "an event is tried again later")
            }
            _ => debug!(event_id, event_type, "nothing follows from an event"),
        }
        let next_attempt_at = (status == EventStatus::Failed).then(|| pause_after(claim.attempts)).flatten();
        let mark = Mark {
            claim,
            status,
            effect: None,
            error: fault,
            next_attempt_at: next_attempt_at.map(|pause| at + pause),
            at,
        };
        self.store.mark_event(&mark).await.map(|_| status)
    }

    /// Tells the metrics what waits, and gives how much that is; `None`: it cannot be known.
    async fn show(&self) -> Option<i64> {
        let backlog = self.store.events_backlog().await.ok()?;
        let oldest = backlog.oldest.map_or(TimeDelta::zero(), |oldest| self.clock.now() - oldest);
        metrics::webhook_backlog(backlog.waiting, oldest, backlog.dead, backlog.conflicts);
        Some(backlog.waiting)
    }
}

enum Trouble {
    /// It can never be applied as it is.
    Poison(String),
    /// The database failed; it may not the next time.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
    }
}

/// How long to wait after the failure of this attempt; `None`: no more.
fn pause_after(attempt: i32) -> Option<TimeDelta> {
    let index = usize::try_from(attempt - 1).unwrap_or_default();
    PAUSES.get(index).copied().map(TimeDelta::seconds)
}

/// What an operator reads in `webhooks show`: whose, where the account stands now, and what was written.
fn describe(applied: &Applied) -> String {
    let changes: Vec<String> = applied
        .effects
        .iter()
        .map(|effect| format!("{effect:?}").chars().take_while(char::is_ascii_alphanumeric).collect())
        .collect();
    let status = applied.account.subscription.as_ref().map(|subscription| subscription.status.name());
    json!({ "user_id": applied.user_id, "status": status, "changes": changes }).to_string()
}
