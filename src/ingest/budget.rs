//! What a provider allows, kept by governor, in a form that cannot be skipped: a call takes a [`Permit`], and only the
//! budget makes those.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::clock::Reference;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as GovernorQuota, RateLimiter};

use crate::clock::SharedClock;

/// So many calls in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls.
    pub requests: u32,
    /// In this time.
    pub per: Duration,
    /// Calls that may be saved up and made at once. With 1 they are spread evenly, so that no window of any position ever
    /// holds more than the quota, however the provider counts.
    pub burst: u32,
}

/// The right to make one call. Not cloned, not made elsewhere.
#[derive(Debug)]
#[must_use = "a permit was paid for"]
pub struct Permit(());

/// Hands out permits no faster than the quota.
#[derive(Debug)]
pub struct Budget {
    limiter: RateLimiter<NotKeyed, InMemoryState, GovernorClock, NoOpMiddleware<Nanos>>,
    clock: SharedClock,
}

/// The budget had no permit before the deadline.
#[derive(Debug, thiserror::Error)]
#[error("the provider's quota leaves no call before the deadline; the next is allowed in {} s", .wait.as_secs())]
pub struct Exhausted {
    /// How long a call would have to wait.
    pub wait: Duration,
}

impl Budget {
    /// A full budget of `quota`.
    pub fn new(quota: Quota, clock: SharedClock) -> Self {
        let spacing = quota.per / quota.requests.max(1);
        let spread = GovernorQuota::with_period(spacing.max(Duration::from_nanos(1)));
        let burst = NonZeroU32::new(quota.burst).unwrap_or(NonZeroU32::MIN);
        let quota = spread.unwrap_or_else(|| GovernorQuota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(quota, GovernorClock(SharedClock::clone(&clock)));
        Self { limiter, clock }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// At once, when none will be free before `deadline`.
    pub async fn permit(&self, deadline: DateTime<Utc>) -> Result<Permit, Exhausted> {
        loop {
            let Err(denied) = self.limiter.check() else { return Ok(Permit(())) };
            let wait = denied.wait_time_from(GovernorClock(SharedClock::clone(&self.clock)).instant());
            if self.clock.later(wait) >= deadline {
                return Err(Exhausted { wait });
            }
            // A microsecond more, because the clock of dates is coarser than the limiter's.
            self.clock.sleep(wait + Duration::from_micros(1)).await;
        }
    }
}

/// Governor on our clock, so that quotas hold in simulated time as well.
#[derive(Debug, Clone)]
struct GovernorClock(SharedClock);

impl GovernorClock {
    fn instant(&self) -> Nanos {
        Nanos::from(self.0.monotonic())
    }
}

impl governor::clock::Clock for GovernorClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.instant()
    }
}

// The limiter measures spans between these instants; this keeps the bound visible where the type is chosen.
const _: fn() = || {
    fn spans<T: Reference>() {}
    spans::<Nanos>();
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeDelta;

    use futures_util::FutureExt;

    use super::*;
    use crate::clock::{Clock, SimClock};

    #[tokio::test]
    async fn no_window_of_a_minute_holds_more_calls_than_the_quota() {
        let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
        let budget = Budget::new(
            Quota { requests: 5, per: Duration::from_mins(1), burst: 1 },
            Arc::clone(&clock) as SharedClock,
        );
        let end = clock.now() + TimeDelta::minutes(10);
        let mut granted = Vec::new();
        while clock.now() < end {
            let mut waiting = Box::pin(budget.permit(end));
            match waiting.as_mut().now_or_never() {
                Some(Ok(_)) => granted.push(clock.now()),
                Some(Err(_)) => break,
                None => clock.advance(TimeDelta::seconds(1)),
            }
        }
        for start in &granted {
            let window = granted.iter().filter(|at| *at >= start && **at < *start + TimeDelta::minutes(1)).count();
            assert!(window <= 5, "{window} calls in the minute from {start}");
        }
        assert!(granted.len() >= 45, "{} calls in ten minutes", granted.len());
    }

    #[tokio::test]
    async fn a_permit_that_would_come_too_late_is_refused_at_once() {
        let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
        let budget = Budget::new(
            Quota { requests: 1, per: Duration::from_mins(1), burst: 1 },
            Arc::clone(&clock) as SharedClock,
        );
        let deadline = clock.now() + TimeDelta::seconds(30);
        budget.permit(deadline).await.map(drop).unwrap();
        assert!(budget.permit(deadline).now_or_never().unwrap().is_err());
    }
}
