//! The way to a provider: within its quota, behind its breaker, at a pace it can bear.
//!
//! A cycle is in `cycle.rs`; what is the same for every call, those for past sessions too, is here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{info, warn};

use super::breaker::{Breaker, BreakerView, NotYet};
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

/// What a cycle asks for, as indices of the universe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// In batches of the provider's size.
    pub symbols: Vec<usize>,
    /// Groups that are asked for apart, as little is to be expected of them, so that they spoil no batch.
    pub apart: Vec<Vec<usize>>,
}

impl Wanted {
    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.symbols.len() + self.apart.iter().map(Vec::len).sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Vec<usize>> for Wanted {
    fn from(symbols: Vec<usize>) -> Self {
        Self { symbols, apart: Vec::new() }
    }
}

/// Where the worst of what went wrong lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// With the provider: its host failed, is left alone for that, or none of its answers was one.
    Provider,
    /// Its quota left too few calls.
    Quota,
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
    /// Indices of symbols that the provider refused, each alone: they spoil any call they are part of.
    pub refused: Vec<usize>,
    /// Groups that were asked for apart and refused.
    pub spoilt: Vec<Vec<usize>>,
    /// What went wrong: what the provider said before what it could not be asked, the most frequent first. Empty when each
    /// call was answered as documented.
    pub faults: Vec<String>,
    /// Where the worst of it lies.
    pub trouble: Option<Trouble>,
    /// The first symbol that could not be asked for.
    pub held_back: Option<usize>,
    /// How it was planned.
    pub plan: Option<RequestPlan>,
}

impl Fetched {
    /// Whether the quota, and nothing of the provider's, is the worst of what went wrong.
    pub fn is_short_of_quota(&self) -> bool {
        self.trouble == Some(Trouble::Quota)
    }

    /// The worst of what went wrong, in words: that it did not fit the quota, and the first fault. That the quota is small is no
    /// news when the provider fails.
    pub fn worst(&self) -> Vec<String> {
        let too_much = self.plan.as_ref().and_then(|plan| plan.warning.clone());
        let mut worst: Vec<String> = too_much.into_iter().chain(self.faults.first().cloned()).collect();
        if self.trouble == Some(Trouble::Provider) {
            worst.reverse();
        }
        worst
    }
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
    /// Not in an answer of the last cycles, although asked for twice: not asked for a second time again until they come back.
    /// By their names, as the universe may change.
    pub(super) absent: Mutex<BTreeSet<String>>,
    /// Who waits for a permit waits in a row, so that what is asked for first is the first of the list.
    row: tokio::sync::Mutex<()>,
    /// Where a cycle that does not fit the quota begins: after the last symbol that the one before could ask for.
    pub(super) begin_at: AtomicUsize,
    /// The last call of a cycle was not one that this client may not make. Until then one call goes ahead alone.
    pub(super) let_in: AtomicBool,
}

/// Why a call may not leave before its deadline.
#[derive(Debug, thiserror::Error)]
pub(super) enum Held {
    /// The host has failed, and is left alone.
    #[error("{0}")]
    Failed(String),
    /// The quota leaves none.
    #[error("{0}")]
    Unpaid(String),
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
            absent: Mutex::default(),
            row: tokio::sync::Mutex::default(),
            begin_at: AtomicUsize::new(0),
            let_in: AtomicBool::new(false),
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
        self.solve(symbols, self.provider.description().requests_for(symbols), cadence)
    }

    fn solve(&self, symbols: usize, requests: usize, cadence: Duration) -> RequestPlan {
        let now = self.clock.now();
        let quota = self.provider.description().quota;
        plan(&Wish { symbols, requests, quota, headroom: self.budget.headroom(now), cadence, now })
    }

    /// Asks for what is `wanted` of `universe`. Never fails as a whole: what could not be had is missing, with the reason. What
    /// does not fit the quota is said before the first call; then the cycle begins where the one before had to end, so that
    /// each symbol has its turn.
    pub async fn fetch(&self, universe: &Universe, wanted: &Wanted, plan: FetchPlan) -> Fetched {
        let description = self.provider.description();
        let in_batches = description.requests_for(wanted.symbols.len());
        let apart: usize = wanted.apart.iter().map(|group| description.requests_for(group.len())).sum();
        let solved = self.solve(wanted.len(), in_batches + apart, plan.cadence);
        metrics::cycle_planned(solved.fits);
        if let Some(warning) = &solved.warning {
            warn!(slot = %plan.slot, requests = solved.requests, "{warning}");
        }
        self.progress.begin(plan.slot, wanted.len(), self.clock.now(), plan.deadline);
        // Also where the run is cut off: nothing is fetched any more.
        let fetching = scopeguard::guard((), |()| self.progress.end());
        lock(&self.pace).cycle_begins();
        let fetched = tokio::select! {
            fetched = cycle::run(self, universe, wanted, &solved, plan.deadline) => fetched,
            () = self.say_progress() => unreachable!("it speaks for ever"),
        };
        drop(fetching);
        self.begin_at.store(fetched.held_back.unwrap_or(0), Ordering::Relaxed);
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
        let again = cycle::run(self, universe, &Wanted::from(wanted.to_vec()), &solved, deadline).await;
        fetched.requests += again.requests;
        fetched.hedged += again.hedged;
        let mut answered = 0;
        for index in wanted {
            let (Some(second), Some(place)) = (again.quotes[*index], fetched.quotes.get_mut(*index)) else { continue };
            answered += 1;
            // Zeros are no second opinion.
            if second.is_usable() && place.is_none_or(|first| second.at >= first.at) {
                *place = Some(second);
            }
        }
        answered
    }

    /// Waits until a call may leave: the breaker admits it, and it is paid.
    ///
    /// # Errors
    /// When that will not be before `deadline`.
    pub(super) async fn leave(&self, deadline: DateTime<Utc>) -> Result<Permit, Held> {
        // Who has to wait too long for what everybody waits for does not wait in the row for it.
        if let Some((not_yet, _)) = self.closed_now().filter(|(_, until)| *until >= deadline) {
            return Err(self.held(not_yet));
        }
        let in_row = tokio::select! {
            biased;
            in_row = self.row.lock() => Some(in_row),
            () = self.clock.sleep_until(deadline) => None,
        };
        let Some(_in_row) = in_row else {
            let not_yet = self.closed_now().map_or(NotYet::Unpaid(Duration::ZERO), |(not_yet, _)| not_yet);
            return Err(self.held(not_yet));
        };
        loop {
            let not_yet = match self.leave_now() {
                Ok(permit) => return Ok(permit),
                Err(not_yet) => not_yet,
            };
            let until = match not_yet {
                NotYet::Failed(until) => until,
                // A microsecond more, because the clock of dates is coarser than the limiter's.
                NotYet::Unpaid(wait) => self.clock.later(wait + Duration::from_micros(1)),
            };
            if until >= deadline {
                return Err(self.held(not_yet));
            }
            self.clock.sleep_until(until).await;
        }
    }

    /// A permit, if a call may leave at this moment: for calls that are not worth waiting for.
    pub(super) fn leave_now(&self) -> Result<Permit, NotYet> {
        self.breaker.admit(self.clock.now(), || self.budget.permit_now())
    }

    /// Why nobody may call at this moment, and until when.
    fn closed_now(&self) -> Option<(NotYet, DateTime<Utc>)> {
        let failed = self.breaker.shut_until(self.clock.now()).map(|until| (NotYet::Failed(until), until));
        failed.or_else(|| {
            let wait = self.budget.wait_for_provider()?;
            Some((NotYet::Unpaid(wait), self.clock.later(wait)))
        })
    }

    fn held(&self, not_yet: NotYet) -> Held {
        let name = self.provider.description().name;
        match not_yet {
            NotYet::Failed(_) => {
                let BreakerView { since, reason, .. } = self.breaker.view();
                let since = since.map(|at| at.format(" since %Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default();
                let reason = reason.unwrap_or_default();
                Held::Failed(format!("{name}: nobody calls, it has failed{since}: {reason}"))
            }
            NotYet::Unpaid(wait) => {
                let next = match wait.as_secs() {
                    0 => "others wait for the next".to_owned(),
                    seconds => format!("the next is allowed in {seconds} s"),
                };
                Held::Unpaid(format!("{name}: the provider's quota leaves no call before the deadline; {next}"))
            }
        }
    }

    /// Makes a call and learns from how it ends. Its latency teaches the pace where the call is one `like_most`. One that is
    /// dropped before it ends was a call too, and teaches nothing: it is not the provider that has ended it.
    pub(super) async fn call<T>(&self, like_most: bool, call: Call<'_, T>) -> (Result<T, FetchError>, Duration) {
        let mut under_way = UnderWay { fetcher: self, began: self.clock.monotonic(), outcome: "dropped" };
        let result = call.await;
        let latency = under_way.taken();
        under_way.outcome = self.learn(&result, latency, like_most);
        (result, latency)
    }

    /// Learns from a call that has ended, and says in a word how.
    fn learn<T>(&self, result: &Result<T, FetchError>, latency: Duration, like_most: bool) -> &'static str {
        match result {
            Ok(_) => {
                lock(&self.pace).answered(like_most.then_some(latency));
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
                if self.breaker.failed(message, *after, self.clock.now()) {
                    let until = self.breaker.view().until.map(|until| until.to_string());
                    let provider = self.provider.description().name;
                    warn!(provider, until, reason = message, "the provider fails: nobody calls it for a while");
                }
                "retry"
            }
            Err(FetchError::Refused(_) | FetchError::Fail(_)) => {
                self.breaker.answered();
                "failed"
            }
        }
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
                Err(held) => return Tries { result: Err(FetchError::Fail(held.to_string())), requests },
            };
            requests += 1;
            let called = tokio::select! {
                (called, _) = self.call(false, call(permit)) => called,
                () = self.clock.sleep_until(deadline) => Err(FetchError::Retry { after: None, message: too_late(name) }),
            };
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

/// A call between leaving and its end.
struct UnderWay<'a> {
    fetcher: &'a Fetcher,
    began: Duration,
    outcome: &'static str,
}

impl UnderWay<'_> {
    fn taken(&self) -> Duration {
        self.fetcher.clock.monotonic().saturating_sub(self.began)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        metrics::provider_called(self.fetcher.provider.description().name, self.outcome, self.taken());
    }
}

/// The call was still under way when whoever made it had to end: that says nothing of the host.
pub(super) fn too_late(name: &str) -> String {
    format!("{name}: no answer before the cycle's end")
}

/// What the provider asks for holds; below that the pause is random, so that instances do not come back in step.
fn pause(tried: u32, after: Option<Duration>) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    after.unwrap_or_default().max(ceiling.mul_f64(fastrand::f64()))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
