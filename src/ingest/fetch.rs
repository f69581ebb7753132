//! Asking a provider for the whole universe: batches, bounded concurrency, retries with jitter, within quota and deadline.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream;
use tracing::{debug, warn};

use super::budget::Budget;
use super::providers::{Answer, FetchError, Provider, RawQuote};
use crate::clock::SharedClock;
use crate::market::Universe;
use crate::metrics;

/// The first pause before a retry; doubled each time up to [`LONGEST_PAUSE`] and drawn at random below that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How to fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchPlan {
    /// Calls under way at once.
    pub concurrency: usize,
    /// Tries of one batch.
    pub attempts: u32,
    /// Nothing is begun or waited for past this.
    pub deadline: DateTime<Utc>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// By index of the universe; `None` where the provider said nothing of a symbol.
    pub quotes: Vec<Option<RawQuote>>,
    /// The provider said that its data is delayed.
    pub delayed: bool,
    /// Calls made.
    pub requests: u32,
    /// What went wrong with whole batches, most frequent first; empty when each was answered.
    pub faults: Vec<String>,
}

struct Batch {
    result: Result<Answer, String>,
    requests: u32,
}

/// Asks `provider` for every symbol of `universe`. Never fails as a whole: what could not be had is missing, with the reason.
pub async fn fetch(
    provider: &dyn Provider,
    budget: &Budget,
    clock: &SharedClock,
    universe: &Universe,
    plan: FetchPlan,
) -> Fetched {
    let size = provider.description().max_batch.max(1);
    let batches = (0..universe.len()).step_by(size).map(|start| start..(start + size).min(universe.len()));
    let mut answers = stream::iter(batches)
        .map(|batch| fetch_batch(provider, budget, clock, universe, batch, plan))
        .buffer_unordered(plan.concurrency);
    let mut fetched = Fetched { quotes: vec![None; universe.len()], ..Fetched::default() };
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(batch) = answers.next().await {
        fetched.requests += batch.requests;
        match batch.result {
            Ok(answer) => {
                fetched.delayed |= answer.delayed;
                for (index, quote) in answer.quotes {
                    fetched.quotes[index] = Some(quote);
                }
            }
            Err(fault) => *faults.entry(fault).or_default() += 1,
        }
    }
    let mut faults: Vec<_> = faults.into_iter().collect();
    faults.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    fetched.faults = faults.into_iter().map(|(fault, _)| fault).collect();
    fetched
}

async fn fetch_batch(
    provider: &dyn Provider,
    budget: &Budget,
    clock: &SharedClock,
    universe: &Universe,
    batch: Range<usize>,
    plan: FetchPlan,
) -> Batch {
    let name = provider.description().name;
    let mut requests = 0;
    loop {
        let permit = match budget.permit(plan.deadline).await {
            Ok(permit) => permit,
            Err(exhausted) => return Batch { result: Err(exhausted.to_string()), requests },
        };
        requests += 1;
        // Whatever a call's own limit is, what the others brought must not be lost with it.
        let called = tokio::select! {
            called = provider.fetch(universe, batch.clone(), permit) => called,
            () = clock.sleep_until(plan.deadline) => Err(FetchError::Fail(format!("{name}: no answer before the cycle's end"))),
        };
        let (after, message) = match called {
            Ok(answer) => {
                metrics::provider_called(name, "ok");
                debug!(provider = name, symbols = batch.len(), quotes = answer.quotes.len(), "a batch was answered");
                return Batch { result: Ok(answer), requests };
            }
            Err(FetchError::Fail(message)) => {
                metrics::provider_called(name, "failed");
                return Batch { result: Err(message), requests };
            }
            Err(FetchError::Retry { after, message }) => (after, message),
        };
        metrics::provider_called(name, "retry");
        let pause = pause(requests, after);
        let too_late = clock.later(pause) >= plan.deadline;
        if requests >= plan.attempts || too_late {
            return Batch { result: Err(format!("{message} (tried {requests} times)")), requests };
        }
        warn!(
            provider = name,
            attempt = requests,
            pause_ms = pause.as_millis(),
            reason = message,
            "a call will be tried again"
        );
        clock.sleep(pause).await;
    }
}

/// What the provider asks for holds; below that the pause is random, so that instances do not come back in step.
fn pause(tried: u32, after: Option<Duration>) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << (tried - 1).min(16)).min(LONGEST_PAUSE);
    after.unwrap_or_default().max(ceiling.mul_f64(fastrand::f64()))
}
