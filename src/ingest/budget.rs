//! What a provider allows, kept by governor, in a form that cannot be skipped: a call takes a [`Permit`], and only the
//! budget makes those.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::clock::Reference;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as GovernorQuota, RateLimiter};
use serde::Serialize;

use crate::clock::{GovernorClock, SharedClock};

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

impl Quota {
    /// `requests` in any window of `per`, wherever it begins, half of them at once if need be: what is saved up and what comes
    /// back in the meantime are together the whole.
    pub fn in_any_window(requests: u32, per: Duration) -> Self {
        let burst = (requests / 2).max(1);
        Self { requests: requests.saturating_sub(burst).max(1), per, burst }
    }

    /// From one permit to the next once nothing is saved up.
    pub fn spacing(&self) -> Duration {
        (self.per / self.requests.max(1)).max(Duration::from_nanos(1))
    }
}

/// The right to make one call. Not cloned, not made elsewhere. Who makes the call also tells by it what the provider's answer
/// said of the quota.
#[derive(Debug)]
#[must_use = "a permit was paid for"]
pub struct Permit {
    told: Arc<Told>,
    clock: SharedClock,
}

/// What the provider itself said last.
#[derive(Debug, Default)]
struct Told(Mutex<Words>);

#[derive(Debug, Default, Clone, Copy)]
struct Words {
    /// Calls left until `resets_at`.
    left: Option<(u32, DateTime<Utc>)>,
    /// No call is wanted before this.
    held_until: Option<DateTime<Utc>>,
}

/// What may be asked for now, for planning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Headroom {
    /// Calls that are left by the provider's own count, until `resets_at`; `None` where it has not said.
    pub left: Option<u32>,
    /// When that count begins anew.
    pub resets_at: Option<DateTime<Utc>>,
    /// The provider wants no call before this.
    pub held_until: Option<DateTime<Utc>>,
}

/// Longer than this nobody waits for a provider, whatever it asks for.
pub(super) const LONGEST_HOLD: Duration = Duration::from_hours(24);

/// Hands out permits no faster than the quota, and none while the provider has said that it wants no calls.
#[derive(Debug)]
pub struct Budget {
    limiter: RateLimiter<NotKeyed, InMemoryState, GovernorClock, NoOpMiddleware<Nanos>>,
    told: Arc<Told>,
    clock: SharedClock,
}

impl Told {
    fn lock(&self) -> std::sync::MutexGuard<'_, Words> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The provider counts `left` more calls until `resets_at`.
    pub fn provider_said(&self, left: u32, resets_at: DateTime<Utc>) {
        let now = self.clock.now();
        // A date further away than that is in other units than it should be.
        let within = resets_at > now && (resets_at - now).to_std().is_ok_and(|wait| wait <= LONGEST_HOLD);
        let mut words = self.told.lock();
        if within && left == 0 {
            // Whatever other answers say that are under way: it wants no call before that.
            words.held_until = words.held_until.max(Some(resets_at));
        }
        // Answers come out of order: of one window the smallest count is the newest.
        words.left = match words.left {
            _ if !within => None,
            Some((known, until)) if until == resets_at => Some((known.min(left), until)),
            _ => Some((left, resets_at)),
        };
    }

    /// The present, for headers that count from it.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}

impl Budget {
    /// A full budget of `quota`.
    pub fn new(quota: Quota, clock: SharedClock) -> Self {
        let spread = GovernorQuota::with_period(quota.spacing());
        let burst = NonZeroU32::new(quota.burst).unwrap_or(NonZeroU32::MIN);
        let quota = spread.unwrap_or_else(|| GovernorQuota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(quota, GovernorClock::new(SharedClock::clone(&clock)));
        Self { limiter, told: Arc::default(), clock }
    }

    /// The provider wants no call before `until`; a day is the longest that is kept.
    pub fn hold_until(&self, until: DateTime<Utc>) {
        let until = until.min(self.clock.later(LONGEST_HOLD));
        let mut words = self.told.lock();
        words.held_until = words.held_until.max(Some(until));
    }

    /// What the provider's own words leave at `now`.
    pub fn headroom(&self, now: DateTime<Utc>) -> Headroom {
        let words = *self.told.lock();
        let left = words.left.filter(|(_, resets_at)| *resets_at > now);
        Headroom {
            left: left.map(|(left, _)| left),
            resets_at: left.map(|(_, resets_at)| resets_at),
            held_until: words.held_until.filter(|until| *until > now),
        }
    }

    /// A permit, if there is one at this moment.
    ///
    /// # Errors
    /// When there is none: how long it is at least until there may be one.
    pub fn permit_now(&self) -> Result<Permit, Duration> {
        if let Some(wait) = self.wait_for_provider() {
            return Err(wait);
        }
        let denied = match self.limiter.check() {
            Ok(()) => return Ok(self.pay()),
            Err(denied) => denied,
        };
        Err(denied.wait_time_from(GovernorClock::new(SharedClock::clone(&self.clock)).instant()))
    }

    /// One call less of what the provider counts.
    fn pay(&self) -> Permit {
        if let Some((left, _)) = &mut self.told.lock().left {
            *left = left.saturating_sub(1);
        }
        Permit { told: Arc::clone(&self.told), clock: SharedClock::clone(&self.clock) }
    }

    /// How long the provider's own words forbid a call.
    pub(super) fn wait_for_provider(&self) -> Option<Duration> {
        let now = self.clock.now();
        let Headroom { left, resets_at, held_until } = self.headroom(now);
        let until = held_until.max(resets_at.filter(|_| left == Some(0)))?;
        (until - now).to_std().ok().filter(|wait| !wait.is_zero())
    }
}

// The limiter measures spans between these instants; this keeps the bound visible where the type is chosen.
const _: fn() = || {
    fn spans<T: Reference>() {}
    spans::<Nanos>();
};

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::clock::{Clock, SimClock};

    #[test]
    fn no_window_of_a_minute_holds_more_calls_than_the_quota() {
        let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
        let budget = Budget::new(
            Quota { requests: 5, per: Duration::from_mins(1), burst: 1 },
            Arc::clone(&clock) as SharedClock,
        );
        let end = clock.now() + TimeDelta::minutes(10);
        let mut granted = Vec::new();
        while clock.now() < end {
            match budget.permit_now() {
                Ok(_) => granted.push(clock.now()),
                Err(_) => clock.advance(TimeDelta::seconds(1)),
            }
        }
        for start in &granted {
            let window = granted.iter().filter(|at| *at >= start && **at < *start + TimeDelta::minutes(1)).count();
            assert!(window <= 5, "{window} calls in the minute from {start}");
        }
        assert!(granted.len() >= 45, "{} calls in ten minutes", granted.len());
    }

    #[test]
    fn who_gets_no_permit_is_told_how_long_it_takes() {
        let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
        let budget = Budget::new(
            Quota { requests: 1, per: Duration::from_mins(1), burst: 1 },
            Arc::clone(&clock) as SharedClock,
        );
        budget.permit_now().map(drop).unwrap();
        clock.advance(TimeDelta::seconds(20));
        assert_eq!(budget.permit_now().unwrap_err(), Duration::from_secs(40));
        budget.hold_until(clock.now() + TimeDelta::seconds(90));
        assert_eq!(budget.permit_now().unwrap_err(), Duration::from_secs(90));
    }

    #[test]
    fn what_the_provider_counts_holds_beside_the_quota() {
        let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
        let quota = Quota::in_any_window(200, Duration::from_mins(1));
        let budget = Budget::new(quota, Arc::clone(&clock) as SharedClock);
        let resets_at = clock.now() + TimeDelta::seconds(40);
        let permit = budget.permit_now().unwrap();
        permit.provider_said(2, resets_at);
        permit.provider_said(5, resets_at);
        assert_eq!(budget.headroom(clock.now()).left, Some(2), "an older answer that comes later changes nothing");
        assert!(budget.permit_now().is_ok() && budget.permit_now().is_ok());
        let wait = budget.permit_now().unwrap_err();
        assert_eq!(wait, Duration::from_secs(40), "the provider counts none any more");
        clock.advance_to(resets_at);
        assert!(budget.permit_now().is_ok());
        // A count in other units than it should be is nonsense.
        permit.provider_said(0, clock.now() + TimeDelta::days(30));
        assert!(budget.permit_now().is_ok());
        budget.hold_until(clock.now() + TimeDelta::hours(2));
        clock.advance(TimeDelta::minutes(119));
        assert!(budget.permit_now().is_err());
        clock.advance(TimeDelta::minutes(1));
        assert!(budget.permit_now().is_ok());
    }

    #[test]
    fn a_wait_of_more_than_a_day_is_kept_for_a_day() {
        let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
        let quota = Quota::in_any_window(200, Duration::from_mins(1));
        let budget = Budget::new(quota, Arc::clone(&clock) as SharedClock);
        budget.hold_until(clock.now() + TimeDelta::hours(25));
        clock.advance(TimeDelta::hours(24) - TimeDelta::seconds(1));
        assert_eq!(budget.permit_now().unwrap_err(), Duration::from_secs(1));
        clock.advance(TimeDelta::seconds(1));
        assert!(budget.permit_now().is_ok());
    }

    #[test]
    fn no_window_holds_more_than_the_quota_although_half_of_it_comes_at_once() {
        for requests in [1_u32, 2, 3, 5, 50, 200] {
            let clock = SimClock::at("2027-03-15T14:00:00Z".parse().unwrap());
            let quota = Quota::in_any_window(requests, Duration::from_mins(1));
            let budget = Budget::new(quota, Arc::clone(&clock) as SharedClock);
            let mut granted = Vec::new();
            for _ in 0..1_800 {
                while budget.permit_now().is_ok() {
                    granted.push(clock.now());
                }
                clock.advance(TimeDelta::milliseconds(100));
            }
            for start in &granted {
                let end = *start + TimeDelta::minutes(1);
                let window = granted.iter().filter(|at| *at >= start && **at < end).count();
                assert!(window <= requests as usize, "{window} of {requests} in the minute from {start}");
            }
        }
    }
}
