//! Asking a provider for symbols: batches, bounded concurrency, retries with jitter, within quota and deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream;
use tracing::{debug, info, warn};

use super::budget::{Budget, Permit};
use super::progress::{Progress, ProgressView};
use super::providers::{Answer, Call, FetchError, Provider, RawQuote};
use crate::clock::SharedClock;
use crate::market::Universe;
use crate::metrics;

/// The first pause before a retry; doubled each time up to [`LONGEST_PAUSE`] and drawn at random below that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a cycle that takes long says how far it is.
const SAY_PROGRESS: Duration = Duration::from_secs(15);

/// How to fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchPlan {
    /// The slot it is for: what comes too late is never shown for another.
    pub slot: DateTime<Utc>,
    /// Calls under way at once.
    pub concurrency: usize,
    /// Nothing is begun or waited for past this.
    pub deadline: DateTime<Utc>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// By index of the universe; `None` where the provider said nothing of a symbol.
    pub quotes: Vec<Option<RawQuote>>,
    /// By index of the universe: whether a call for the symbol was answered, whatever it said.
    pub answered: Vec<bool>,
    /// The provider said that its data is delayed.
    pub delayed: bool,
    /// Calls made.
    pub requests: u32,
    /// What went wrong with whole batches, most frequent first; empty when each was answered.
    pub faults: Vec<String>,
}

/// A provider with its quota: whatever is asked of it goes through here.
pub struct Fetcher {
    provider: Arc<dyn Provider>,
    budget: Budget,
    clock: SharedClock,
    attempts: u32,
    progress: Arc<Progress>,
}

/// What became of one call and its repetitions.
pub(super) struct Tries<T> {
    pub(super) result: Result<T, FetchError>,
    pub(super) requests: u32,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("provider", &self.provider.description().name).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher with a full budget; `attempts` is how often one call is tried, the first time included.
    pub fn new(provider: Arc<dyn Provider>, clock: SharedClock, attempts: u32) -> Self {
        let budget = Budget::new(provider.description().quota, SharedClock::clone(&clock));
        Self { provider, budget, clock, attempts, progress: Arc::default() }
    }

    /// Whom it asks.
    pub fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// How far the cycle under way is.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Asks for the listings of `universe` whose indices are in `wanted`. Never fails as a whole: what could not be had is
    /// missing, with the reason.
    pub async fn fetch(&self, universe: &Universe, wanted: &[usize], plan: FetchPlan) -> Fetched {
        self.progress.begin(plan.slot, wanted.len(), self.clock.now(), plan.deadline);
        let fetched = tokio::select! {
            fetched = self.fetch_batches(universe, wanted, plan) => fetched,
            () = self.say_progress() => unreachable!("it speaks for ever"),
        };
        self.progress.end();
        fetched
    }

    async fn fetch_batches(&self, universe: &Universe, wanted: &[usize], plan: FetchPlan) -> Fetched {
        let size = self.provider.description().batch_size(wanted.len());
        let calls: Vec<_> = wanted.chunks(size).map(|batch| self.fetch_batch(universe, batch, plan.deadline)).collect();
        let mut answers = stream::iter(calls).buffer_unordered(plan.concurrency);
        let (quotes, answered) = (vec![None; universe.len()], vec![false; universe.len()]);
        let mut fetched = Fetched { quotes, answered, ..Fetched::default() };
        let mut faults: BTreeMap<String, usize> = BTreeMap::new();
        while let Some((batch, tries)) = answers.next().await {
            fetched.requests += tries.requests;
            match tries.result {
                Ok(answer) => {
                    self.progress.call_ended(batch.len(), answer.quotes.len());
                    fetched.delayed |= answer.delayed;
                    batch.iter().for_each(|index| fetched.answered[*index] = true);
                    for (index, quote) in answer.quotes {
                        fetched.quotes[index] = Some(quote);
                    }
                }
                Err(fault) => {
                    self.progress.call_ended(batch.len(), 0);
                    *faults.entry(fault.to_string()).or_default() += 1;
                }
            }
        }
        let mut faults: Vec<_> = faults.into_iter().collect();
        faults.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        fetched.faults = faults.into_iter().map(|(fault, _)| fault).collect();
        fetched
    }

    async fn fetch_batch<'a>(
        &'a self,
        universe: &'a Universe,
        batch: &'a [usize],
        deadline: DateTime<Utc>,
    ) -> (&'a [usize], Tries<Answer>) {
        let tries = self.with_tries(deadline, |permit| self.provider.fetch(universe, batch, permit)).await;
        if let Ok(answer) = &tries.result {
            let provider = self.provider.description().name;
            debug!(provider, symbols = batch.len(), quotes = answer.quotes.len(), "a batch was answered");
        }
        (batch, tries)
    }

    /// Makes a call until it is answered, refused for good, tried often enough, or too late.
    pub(super) async fn with_tries<'a, T>(
        &'a self,
        deadline: DateTime<Utc>,
        call: impl Fn(Permit) -> Call<'a, T>,
    ) -> Tries<T> {
        let name = self.provider.description().name;
        let mut requests = 0;
        loop {
            let permit = match self.budget.permit(deadline).await {
                Ok(permit) => permit,
                Err(exhausted) => return Tries { result: Err(FetchError::Fail(exhausted.to_string())), requests },
            };
            requests += 1;
            self.progress.called();
            // Whatever a call's own limit is, what the others brought must not be lost with it.
            let called = tokio::select! {
                called = call(permit) => called,
                () = self.clock.sleep_until(deadline) => Err(FetchError::Fail(format!("{name}: no answer in time"))),
            };
            let (after, message) = match called {
                Ok(answer) => {
                    metrics::provider_called(name, "ok");
                    return Tries { result: Ok(answer), requests };
                }
                Err(FetchError::Fail(message)) => {
                    metrics::provider_called(name, "failed");
                    return Tries { result: Err(FetchError::Fail(message)), requests };
                }
                Err(FetchError::Retry { after, message }) => (after, message),
            };
            metrics::provider_called(name, "retry");
            let pause = pause(requests, after);
            let too_late = self.clock.later(pause) >= deadline;
            if requests >= self.attempts || too_late {
                let message = format!("{message} (tried {requests} times)");
                return Tries { result: Err(FetchError::Retry { after, message }), requests };
            }
            let pause_ms = pause.as_millis();
            warn!(provider = name, attempt = requests, pause_ms, reason = message, "a call will be tried again");
            self.clock.sleep(pause).await;
        }
    }

    /// Says now and then how far a long cycle is.
    async fn say_progress(&self) {
        loop {
            self.clock.pause(SAY_PROGRESS).await;
            if let Some(view) = self.progress.view(self.clock.now()) {
                let ProgressView { wanted, asked, answered, requests, symbols_per_second, eta, .. } = view;
                let eta = eta.map(|eta| eta.to_string());
                info!(wanted, asked, answered, requests, symbols_per_second, eta, "the cycle goes on");
            }
        }
    }
}

/// What the provider asks for holds; below that the pause is random, so that instances do not come back in step.
fn pause(tried: u32, after: Option<Duration>) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << (tried - 1).min(16)).min(LONGEST_PAUSE);
    after.unwrap_or_default().max(ceiling.mul_f64(fastrand::f64()))
}
