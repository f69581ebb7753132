//! The way to a provider: within its quota, behind its breaker, at a pace it can bear.
//!
//! A cycle is in `cycle.rs`; what is the same for every call, those for past sessions too, is here.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{info, warn};

use super::breaker::{Breaker, BreakerView};
use super::budget::{Budget, Headroom, Permit};
use super::cycle;
use super::pace::Pace;
use super::plan::{RequestPlan, Wish, plan};
use super::progress::{Progress, ProgressView};
use super::providers::{Call, FetchError, Provider, RawQuote};
use crate::clock::SharedClock;
use crate::market::Universe;
use crate::metrics;

/// The first pause before a retry; doubled each time up to [`LONGEST_PAUSE`] and drawn at random below that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a cycle that takes long says how far it is.
const SAY_PROGRESS: Duration = Duration::from_secs(15);

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub struct FetchOptions {
    /// The most calls under way at once.
    pub concurrency: usize,
    /// Tries of one call, the first one included.
    pub attempts: u32,
    /// Second copies of slow calls, in percent of the calls.
    pub hedge_percent: u32,
}

/// One cycle.
#[derive(Debug, Clone, Copy)]
pub struct FetchPlan {
    /// The slot it is for: what comes too late is never shown for another.
    pub slot: DateTime<Utc>,
    /// One cycle every so long.
    pub cadence: Duration,
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
    /// Calls made, second copies included.
    pub requests: u32,
    /// Second copies of slow calls among them.
    pub hedged: u32,
    /// Indices of symbols that the provider refuses: each spoils any call it is part of.
    pub refused: Vec<usize>,
    /// What went wrong, most frequent first; empty when each call was answered as documented.
    pub faults: Vec<String>,
    /// How it was planned.
    pub plan: Option<RequestPlan>,
}

/// A provider with its quota: whatever is asked of it goes through here.
pub struct Fetcher {
    provider: Arc<dyn Provider>,
    pub(super) budget: Budget,
    pub(super) breaker: Breaker,
    pub(super) clock: SharedClock,
    pub(super) options: FetchOptions,
    pub(super) progress: Arc<Progress>,
    pub(super) pace: Mutex<Pace>,
    pub(super) memory: Mutex<Memory>,
    /// Who waits for a permit waits in a row, so that what is asked for first is the first of the list.
    row: tokio::sync::Mutex<()>,
    /// Where a cycle that does not fit the quota begins: after the last symbol that the one before could ask for.
    pub(super) begin_at: AtomicUsize,
}

/// What was learned of symbols in the last cycle, by their names, as the universe may change.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Not in an answer, although asked for twice: not asked for a second time again until they come back.
    pub(super) absent: BTreeSet<String>,
    /// Refused: asked for alone, so that they spoil nothing.
    pub(super) refused: BTreeSet<String>,
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
    /// A fetcher with a full budget and a closed breaker.
    pub fn new(provider: Arc<dyn Provider>, clock: SharedClock, options: FetchOptions) -> Self {
        let description = provider.description();
        Self {
            budget: Budget::new(description.quota, SharedClock::clone(&clock)),
            breaker: Breaker::new(description.name),
            provider,
            clock,
            options,
            progress: Arc::default(),
            pace: Mutex::new(Pace::new(options.concurrency)),
            memory: Mutex::default(),
            row: tokio::sync::Mutex::default(),
            begin_at: AtomicUsize::new(0),
        }
    }

    /// Whom it asks.
    pub fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// How far the cycle under way is.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Whether calls go out to the provider's host, and why not.
    pub fn breaker(&self) -> BreakerView {
        self.breaker.view()
    }

    /// What the provider's own words leave now.
    pub fn headroom(&self) -> Headroom {
        self.budget.headroom(self.clock.now())
    }

    /// Calls that may be under way at once, as the provider's answers have taught.
    pub fn concurrency(&self) -> usize {
        lock(&self.pace).limit()
    }

    /// Whether a cycle over `symbols` fits the quota at a cadence, if it began now.
    pub fn plan(&self, symbols: usize, cadence: Duration) -> RequestPlan {
        let description = self.provider.description();
        let now = self.clock.now();
        plan(&Wish {
            symbols,
            requests: description.requests_for(symbols),
            quota: description.quota,
            headroom: self.budget.headroom(now),
            cadence,
            now,
        })
    }

    /// Asks for the listings of `universe` whose indices are in `wanted`. Never fails as a whole: what could not be had is
    /// missing, with the reason. What does not fit the quota is said before the first call; then the cycle begins where the
    /// one before had to end, so that each symbol has its turn.
    pub async fn fetch(&self, universe: &Universe, wanted: &[usize], plan: FetchPlan) -> Fetched {
        let solved = self.plan(wanted.len(), plan.cadence);
        metrics::cycle_planned(solved.fits);
        if let Some(warning) = &solved.warning {
            warn!(slot = %plan.slot, requests = solved.requests, "{warning}");
        }
        self.progress.begin(plan.slot, wanted.len(), self.clock.now(), plan.deadline);
        let fetched = tokio::select! {
            fetched = cycle::run(self, universe, wanted, &solved, plan.deadline) => fetched,
            () = self.say_progress() => unreachable!("it speaks for ever"),
        };
        self.progress.end();
        metrics::fetched(self.provider.description().name, self.concurrency(), fetched.refused.len());
        Fetched { plan: Some(solved), ..fetched }
    }

    /// Asks once more for a few symbols of a cycle and puts what is newer, or as new, in the place of the first answer. Says
    /// how many were answered.
    pub async fn ask_again(
        &self,
        universe: &Universe,
        wanted: &[usize],
        fetched: &mut Fetched,
        deadline: DateTime<Utc>,
    ) -> usize {
        let solved = self.plan(wanted.len(), Duration::from_hours(24));
        let again = cycle::run(self, universe, wanted, &solved, deadline).await;
        fetched.requests += again.requests;
        fetched.hedged += again.hedged;
        let mut answered = 0;
        for index in wanted {
            let (Some(second), Some(place)) = (again.quotes[*index], fetched.quotes.get_mut(*index)) else { continue };
            answered += 1;
            // Zeros are no second opinion.
            let says_something = second.at.is_some() && second.price.is_some_and(|price| price > 0.0);
            if says_something && place.is_none_or(|first| second.at >= first.at) {
                *place = Some(second);
            }
        }
        answered
    }

    /// Waits until a call may leave: the breaker admits it and it is paid.
    ///
    /// # Errors
    /// When that will not be before `deadline`.
    pub(super) async fn leave(&self, deadline: DateTime<Utc>) -> Result<Permit, FetchError> {
        let name = self.provider.description().name;
        let permit = {
            let _first = self.row.lock().await;
            self.budget.permit(deadline).await
        };
        let permit = permit.map_err(|exhausted| FetchError::Fail(format!("{name}: {exhausted}")))?;
        while let Err(until) = self.breaker.admit(self.clock.now()) {
            if until >= deadline {
                let BreakerView { since, reason, .. } = self.breaker.view();
                let since = since.map(|at| at.format(" since %Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default();
                let reason = reason.unwrap_or_default();
                return Err(FetchError::Fail(format!("{name}: nobody calls, it has failed{since}: {reason}")));
            }
            self.clock.sleep_until(until).await;
        }
        Ok(permit)
    }

    /// Learns from a call that has ended.
    pub(super) fn learn<T>(&self, result: &Result<T, FetchError>, latency: Duration) {
        let name = self.provider.description().name;
        let outcome = match result {
            Ok(_) => {
                lock(&self.pace).answered(latency);
                self.breaker.answered();
                "ok"
            }
            Err(FetchError::Retry { after, .. }) => {
                lock(&self.pace).failed();
                self.breaker.answered();
                self.hold(*after);
                "retry"
            }
            Err(FetchError::Down { after, message }) => {
                lock(&self.pace).failed();
                if self.breaker.failed(message, self.clock.now()) {
                    let until = self.breaker.view().until.map(|until| until.to_string());
                    warn!(provider = name, until, reason = message, "the provider fails: nobody calls it for a while");
                }
                self.hold(*after);
                "retry"
            }
            Err(FetchError::Refused(_) | FetchError::Fail(_)) => {
                self.breaker.answered();
                "failed"
            }
        };
        metrics::provider_called(name, outcome, latency);
    }

    /// `Retry-After` is for everybody who would call, not for one call.
    fn hold(&self, after: Option<Duration>) {
        if let Some(after) = after {
            self.budget.hold_until(self.clock.later(after));
        }
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
            let permit = match self.leave(deadline).await {
                Ok(permit) => permit,
                Err(fault) => return Tries { result: Err(fault), requests },
            };
            requests += 1;
            let began = self.clock.monotonic();
            let called = tokio::select! {
                called = call(permit) => called,
                () = self.clock.sleep_until(deadline) => Err(too_late(name)),
            };
            self.learn(&called, self.clock.monotonic().saturating_sub(began));
            let (after, message) = match called {
                Err(FetchError::Retry { after, message } | FetchError::Down { after, message }) => (after, message),
                result => return Tries { result, requests },
            };
            let Some(pause) = self.pause_before(requests, after, deadline) else {
                let message = format!("{message} (tried {requests} times)");
                return Tries { result: Err(FetchError::Retry { after, message }), requests };
            };
            let pause_ms = pause.as_millis();
            warn!(provider = name, attempt = requests, pause_ms, reason = message, "a call will be tried again");
            self.clock.sleep(pause).await;
        }
    }

    /// The pause before the next try; `None` when there is none.
    pub(super) fn pause_before(
        &self,
        tried: u32,
        after: Option<Duration>,
        deadline: DateTime<Utc>,
    ) -> Option<Duration> {
        let pause = pause(tried, after);
        (tried < self.options.attempts && self.clock.later(pause) < deadline).then_some(pause)
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

/// The call was still under way when the cycle had to end.
pub(super) fn too_late(name: &str) -> FetchError {
    FetchError::Down { after: None, message: format!("{name}: no answer before the cycle's end") }
}

/// What the provider asks for holds; below that the pause is random, so that instances do not come back in step.
fn pause(tried: u32, after: Option<Duration>) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    after.unwrap_or_default().max(ceiling.mul_f64(fastrand::f64()))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
