//! The `renewals` job: every subscription that is due is decided about, each in a transaction of its own.
//!
//! The nightly run, `POST /api/billing/process-renewals` and a dry run are this one function; a dry run stops before the
//! transaction. One subscription that fails does not stop the others.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::confirm::Confirmer;
use super::retention::retry;
use crate::billing::{Confirmation, Decision, Event, Rules, decide};
use crate::clock::SharedClock;
use crate::metrics;
use crate::scheduler::{Job, JobError, Report, RunContext, RunFuture};
use crate::store::{DuePage, DueSubscription, RenewalRow, Store, StoreError};
use crate::webhooks::{SiteClient, SiteFault};

/// The most results that are listed one by one; all are counted.
pub const MOST_RESULTS: usize = 1_000;

/// Subscriptions whose provider is asked at once.
const ASKED_AT_ONCE: usize = 8;

/// Where a subscription is among what is due: when, and its key.
type Place = (DateTime<Utc>, String);

/// Action and reason.
type Decided = (&'static str, Option<&'static str>);

/// Decides about due subscriptions.
#[derive(Debug)]
pub struct Renewals {
    /// Where they are.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// What is sold, and the rules of time around it.
    pub rules: Rules,
    /// Who knows whether a period was paid; `None`: nobody can be asked.
    pub confirmer: Option<Confirmer>,
    /// A site that renews by itself (`renewals.mode = "http"`).
    pub site: Option<SiteClient>,
    /// The most that one run handles.
    pub limit: u32,
    /// How many are read at a time.
    pub batch: u32,
}

/// What one call is to do.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The run it belongs to.
    pub run_id: Uuid,
    /// Handle so many at most.
    pub limit: u32,
    /// Only what was due by then; `None`: by now.
    pub due_by: Option<DateTime<Utc>>,
    /// Decide, and change nothing.
    pub dry_run: bool,
}

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Subscriptions looked at.
    pub processed: u32,
    /// Months paid with three paid invites.
    pub credits_applied: u32,
    /// Found paid when the payment provider was asked.
    pub paid: u32,
    /// Marked past due.
    pub past_due: u32,
    /// Unpaid for as long as a payment may be late: access is withheld.
    pub suspended: u32,
    /// Ended.
    pub expired: u32,
    /// The payment provider gave no answer; asked again later.
    pub uncertain: u32,
    /// Left as they are.
    pub skipped: u32,
    /// Not decided because of an error; due again in the next run.
    pub failed: u32,
    /// Due and not looked at, because of the limit.
    pub remaining: i64,
}

/// What was decided about one subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The account.
    pub user_id: String,
    /// Its plan.
    pub plan: String,
    /// How often it is paid.
    pub billing_cycle: String,
    /// `applied_referral_credit`, `paid`, `marked_past_due`, `suspended`, `expired`, `plan_changed`, `uncertain`, `skipped` or
    /// `failed`.
    pub action: &'static str,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Its place among what was due.
    #[serde(skip)]
    due: Place,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Default)]
pub struct Renewed {
    /// Counts of all.
    pub summary: Summary,
    /// The first thousand, one by one.
    pub results: Vec<Outcome>,
    /// Keys of those that could not be decided about.
    failed: HashSet<String>,
    /// It was told to stop, and did with some left.
    stopped: bool,
}

impl Renewals {
    /// Decides about what is due, oldest first. Told to `stop`, it ends after the page that it is at.
    ///
    /// # Errors
    /// When the list of what is due cannot be read; what was decided before that stays decided.
    pub async fn process(&self, request: Request, stop: &CancellationToken) -> Result<Renewed, StoreError> {
        let now = request.due_by.unwrap_or_else(|| self.clock.now());
        if !request.dry_run {
            self.judge_anew(request, stop).await?;
        }
        let mut renewed = Renewed::default();
        let mut last: Option<Place> = None;
        // What fails stays due and does not count: however many there are, the others are reached.
        while renewed.decided() < request.limit && !stop.is_cancelled() {
            let after = last.as_ref().map(|(at, id)| (*at, id.as_str()));
            let limit = self.batch.min(request.limit - renewed.decided());
            let page = self.process_page(DuePage { at: now, after, limit }, request).await?;
            let Some((outcomes, newest)) = page else { break };
            for outcome in outcomes {
                renewed.count(outcome, request.dry_run);
            }
            last = Some(newest);
        }
        if !request.dry_run {
            self.store.settle_doubts().await?;
        }
        let mut due = self.store.count_due_subscriptions(now).await?;
        if !request.dry_run && due > i64::from(renewed.summary.failed) && !stop.is_cancelled() {
            self.process_passed_over(now, request, &mut renewed).await?;
            due = self.store.count_due_subscriptions(now).await?;
        }
        let looked_at = if request.dry_run { renewed.summary.processed } else { renewed.summary.failed };
        renewed.summary.remaining = (due - i64::from(looked_at)).max(0);
        renewed.stopped = stop.is_cancelled() && renewed.summary.remaining > 0;
        if !request.dry_run {
            if let Ok(health) = self.store.billing_health(self.clock.now()).await {
                metrics::strays(health.ownerless, health.unbooked);
            }
            metrics::renewals_due(due);
        }
        Ok(renewed)
    }

    /// Payments that were not found good are looked at again: a price may be sold again, or have been left out. One account that cannot
    /// be written does not stop the others, and is looked at the next time.
    async fn judge_anew(&self, request: Request, stop: &CancellationToken) -> Result<(), StoreError> {
        let cause = self.record(request).cause();
        let mut last = String::new();
        while !stop.is_cancelled() {
            let accounts = self.store.accounts_to_judge(&last, self.batch).await?;
            let Some(newest) = accounts.last() else { break };
            for user_id in &accounts {
                if let Err(fault) = self.store.settle(user_id, &self.rules, &cause, self.clock.now()).await {
                    error!(user_id, error = %fault, "an account's payments could not be looked at again; the next run tries");
                }
            }
            last.clone_from(newest);
        }
        Ok(())
    }

    /// What an event, or somebody else, was at when its page came is waited for, one by one; what failed is not tried again.
    async fn process_passed_over(
        &self,
        at: DateTime<Utc>,
        request: Request,
        renewed: &mut Renewed,
    ) -> Result<(), StoreError> {
        let left = request.limit.saturating_sub(renewed.decided()).min(self.batch);
        if left == 0 {
            return Ok(());
        }
        let limit = left.saturating_add(renewed.summary.failed);
        for due in self.store.due_subscriptions(DuePage { at, after: None, limit }).await? {
            if !renewed.failed.contains(&due.id)
                && let Some(outcome) = self.process_one(&due, request).await
            {
                renewed.count(outcome, false);
            }
        }
        Ok(())
    }

    /// Together in one transaction; where that fails, each in its own, so that the one that cannot be written fails alone. Gives
    /// the place of the last; `None`: nothing more is due.
    async fn process_page(
        &self,
        page: DuePage<'_>,
        request: Request,
    ) -> Result<Option<(Vec<Outcome>, Place)>, StoreError> {
        let (mut outcomes, mut left) = (Vec::new(), Vec::new());
        let newest = match self.renew_together(page, request).await {
            Some(decided) => {
                let newest = decided.last().map(|(due, _)| place(due));
                for (due, decision) in decided {
                    match decision {
                        Decision::Switch | Decision::Confirm(_) => left.push(due),
                        decision => outcomes.push(outcome_of(&due, decision.action(), decision.reason())),
                    }
                }
                newest
            }
            None => {
                left = self.store.due_subscriptions(page).await?;
                left.last().map(place)
            }
        };
        // A provider that is asked takes its time: a few are asked at once.
        for some in left.chunks(ASKED_AT_ONCE) {
            let under_way = some.iter().map(|due| self.process_one(due, request));
            outcomes.extend(join_all(under_way).await.into_iter().flatten());
        }
        outcomes.sort_by(|one, other| one.due.cmp(&other.due));
        Ok(newest.map(|newest| (outcomes, newest)))
    }

    /// `None`: it was not tried, or nothing came of it.
    async fn renew_together(&self, page: DuePage<'_>, request: Request) -> Option<Vec<(DueSubscription, Decision)>> {
        if request.dry_run {
            return None;
        }
        let decided = self.store.renew_many(page, &self.record(request), &self.rules, self.first_word()).await;
        decided
            .inspect_err(
                |fault| warn!(error = %fault, "subscriptions could not be decided together; each is tried alone"),
            )
            .ok()
    }

    /// `None`: somebody else decided about it in the meantime.
    async fn process_one(&self, due: &DueSubscription, request: Request) -> Option<Outcome> {
        let decided = if request.dry_run { self.rehearse(due).await } else { self.renew(due, request).await };
        match decided {
            Ok(decided) => decided.map(|(action, reason)| outcome_of(due, action, reason)),
            Err(fault) => {
                error!(subscription_id = due.id, error = %fault, "a subscription could not be decided about; it stays due");
                Some(outcome_of(due, "failed", Some("it could not be decided about and stays due; the log says why")))
            }
        }
    }

    /// What is known of the provider's side before it is asked.
    fn first_word(&self) -> Confirmation {
        if self.confirmer.is_some() { Confirmation::Possible } else { Confirmation::Unpaid }
    }

    /// The doubt is written down, the provider is asked, and what it says is written down: two transactions with the call between
    /// them. Killed anywhere, the next run asks again, under the same request id, and money counts by its own id.
    async fn renew(&self, due: &DueSubscription, request: Request) -> Result<Option<Decided>, StoreError> {
        let record = self.record(request);
        let renewed = self.store.renew(&due.id, &record, &self.rules, self.first_word()).await?;
        let Some((row, decision)) = renewed else { return Ok(None) };
        let Decision::Confirm(link) = &decision else { return Ok(Some((decision.action(), decision.reason()))) };
        let period_end = row.subscription()?.current_period_end;
        let (asked, payments) = self.ask(link, period_end).await;
        for payment in &payments {
            self.store.apply_event(payment, &self.rules, self.clock.now()).await?;
        }
        let renewed = self.store.renew(&due.id, &record, &self.rules, asked).await?;
        if let Some((_, decision)) = renewed {
            return Ok(Some((decision.action(), decision.reason())));
        }
        // Nothing is due any more: by what was found just now, or because somebody else has decided meanwhile.
        let now = self.store.subscription_of(&row.user_id).await?;
        let now = now.map(|now| now.subscription()).transpose()?;
        let is_paid = now.is_some_and(|now| now.current_period_end > period_end);
        Ok(is_paid.then_some(("paid", None)))
    }

    /// What [`Renewals::renew`] would do.
    async fn rehearse(&self, due: &DueSubscription) -> Result<Option<Decided>, StoreError> {
        let (now, subscription) = (self.clock.now(), due.subscription()?);
        let decision = decide(&subscription, due.credits, self.first_word(), &self.rules, now);
        let Decision::Confirm(link) = &decision else { return Ok(Some((decision.action(), decision.reason()))) };
        let (asked, payments) = self.ask(link, subscription.current_period_end).await;
        let applied = self.store.rehearse_events(&payments, &self.rules, now).await?;
        let after = applied.last().and_then(|applied| applied.account.subscription.clone()).unwrap_or(subscription);
        if after.current_period_end > now {
            return Ok(Some(("paid", None)));
        }
        let decision = decide(&after, due.credits, asked, &self.rules, now);
        Ok(Some((decision.action(), decision.reason())))
    }

    async fn ask(&self, link: &str, period_end: DateTime<Utc>) -> (Confirmation, Vec<Event>) {
        let Some(confirmer) = &self.confirmer else { return (Confirmation::Unpaid, Vec::new()) };
        match confirmer.payments(link, period_end, self.clock.now()).await {
            Ok(payments) => (Confirmation::Unpaid, payments),
            Err(fault) => {
                warn!(paypal_subscription = link, error = %fault, "whether a period was paid is not known; it is asked again later");
                (Confirmation::Unreachable, Vec::new())
            }
        }
    }

    /// The site renews by itself: it is called.
    async fn call_site(&self, site: &SiteClient, run: Uuid) -> Result<Report, JobError> {
        match site.process_renewals(self.limit, run).await {
            Ok(summary) => Ok(json!({ "mode": "http", "summary": summary })),
            Err(SiteFault::Later(message)) => Err(JobError::Retry { after: None, message }),
            Err(SiteFault::Never(message)) => Err(JobError::Fail(message)),
        }
    }

    fn record(&self, request: Request) -> RenewalRow {
        RenewalRow { run_id: request.run_id, decided_at: self.clock.now() }
    }
}

impl Renewed {
    fn decided(&self) -> u32 {
        self.summary.processed - self.summary.failed
    }

    fn count(&mut self, outcome: Outcome, dry_run: bool) {
        self.summary.processed += 1;
        let counter = match outcome.action {
            "applied_referral_credit" => &mut self.summary.credits_applied,
            "paid" => &mut self.summary.paid,
            "suspended" => &mut self.summary.suspended,
            "uncertain" => &mut self.summary.uncertain,
            "marked_past_due" => &mut self.summary.past_due,
            "expired" => &mut self.summary.expired,
            "failed" => &mut self.summary.failed,
            _ => &mut self.summary.skipped,
        };
        *counter += 1;
        if outcome.action == "failed" {
            self.failed.insert(outcome.due.1.clone());
        }
        if !dry_run {
            metrics::renewal_decided(outcome.action);
        }
        if self.results.len() < MOST_RESULTS {
            self.results.push(outcome);
        }
    }

    /// Why it did not go well, where it did not.
    pub fn fault(&self) -> Option<String> {
        let Summary { failed, remaining, .. } = self.summary;
        match (self.stopped, failed) {
            (true, _) => Some(format!("it was told to stop, and {remaining} subscriptions are left")),
            (false, 1..) => Some(format!("{failed} subscriptions could not be decided about")),
            (false, 0) => None,
        }
    }

    /// Whether it was told to stop, and did with some left.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The report of the run in the ledger.
    pub fn report(&self) -> Report {
        json!(self.summary)
    }
}

fn outcome_of(due: &DueSubscription, action: &'static str, reason: Option<&'static str>) -> Outcome {
    let (plan, billing_cycle) = (due.plan().to_owned(), due.billing_cycle().to_owned());
    Outcome { user_id: due.user_id.clone(), plan, billing_cycle, action, reason, due: place(due) }
}

fn place(due: &DueSubscription) -> Place {
    (due.next_action_at.unwrap_or_default(), due.id.clone())
}

impl Job for Renewals {
    fn run(self: Arc<Self>, context: RunContext) -> RunFuture {
        Box::pin(async move {
            if let Some(site) = &self.site {
                return self.call_site(site, context.id).await;
            }
            let request = Request { run_id: context.id, limit: self.limit, due_by: None, dry_run: false };
            let renewed = self.process(request, &context.stop).await.map_err(retry)?;
            if let Some(message) = renewed.fault() {
                return Err(JobError::Retry { after: None, message }.with(renewed.report()));
            }
            let remaining = renewed.summary.remaining;
            if remaining > 0 && renewed.decided() >= self.limit {
                warn!(remaining, limit = self.limit, "subscriptions are left for the next run; raise renewals.limit");
            } else if remaining > 0 {
                warn!(
                    remaining,
                    "subscriptions are left for the next run: others were at them, or they came due meanwhile"
                );
            }
            Ok(renewed.report())
        })
    }
}
