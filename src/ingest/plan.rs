//! PURE: whether what a cycle wants to ask fits what the provider allows, before it begins.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::budget::{Headroom, Quota};

/// What is planned for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Symbols to ask for.
    pub symbols: usize,
    /// Calls that takes.
    pub requests: usize,
    /// What the contract allows.
    pub quota: Quota,
    /// What the provider's own words leave.
    pub headroom: Headroom,
    /// One cycle every so long.
    pub cadence: Duration,
    /// When it begins.
    pub now: DateTime<Utc>,
}

/// Whether it fits, and what would.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestPlan {
    /// Symbols to ask for.
    pub symbols: usize,
    /// Calls that takes.
    pub requests: usize,
    /// The least time the quota needs for them, in seconds. Waiting for answers comes on top.
    pub quota_seconds: u64,
    /// The time a cycle has: 0.9 of the cadence, in seconds.
    pub available_seconds: u64,
    /// Both this cycle and one like it every cadence fit.
    pub fits: bool,
    /// The shortest cadence that the quota allows for so many calls, in whole seconds.
    pub shortest_cadence_seconds: u64,
    /// What the provider's own words leave.
    pub headroom: Headroom,
    /// Why it does not fit, and what would; `None` when it does.
    pub warning: Option<String>,
}

/// Solves the cycle against the quota.
pub fn plan(wish: &Wish) -> RequestPlan {
    let Wish { symbols, requests, quota, headroom, cadence, now } = *wish;
    let calls = u32::try_from(requests).unwrap_or(u32::MAX);
    let spacing = quota.spacing();
    // What is saved up costs no time; the rest comes one by one. In the long run each has to come back.
    let by_contract = spacing.saturating_mul(calls.saturating_sub(quota.burst.max(1)));
    let in_the_long_run = spacing.saturating_mul(calls);
    let by_word = wait_of_words(headroom, calls, spacing, now);
    let needed = by_contract.max(by_word);
    let available = cadence * 9 / 10;
    let shortest = ceil(in_the_long_run.max(by_contract * 10 / 9)).max(1);
    let fits_contract = by_contract <= available && in_the_long_run <= cadence;
    let fits = fits_contract && by_word <= available;
    let warning = (!fits).then(|| {
        let seconds = cadence.as_secs();
        if fits_contract {
            let until = headroom.held_until.max(headroom.resets_at).unwrap_or(now);
            format!(
                "this cycle does not fit: {requests} calls for {symbols} symbols, and by the provider's own words {} until {}",
                headroom.left.filter(|_| headroom.held_until.is_none()).map_or_else(
                    || "none is wanted".to_owned(),
                    |left| format!("{left} are left")
                ),
                until.format("%Y-%m-%d %H:%M:%S UTC")
            )
        } else {
            format!(
                "{requests} calls for {symbols} symbols do not fit a cadence of {seconds} s: the quota needs {} s for them; \
                 set ingest.cadence_seconds to {shortest} or more, or ask for fewer symbols",
                ceil(needed.max(in_the_long_run))
            )
        }
    });
    RequestPlan {
        symbols,
        requests,
        quota_seconds: ceil(needed),
        available_seconds: available.as_secs(),
        fits,
        shortest_cadence_seconds: shortest,
        headroom,
        warning,
    }
}

/// How long the last call has to wait by what the provider said.
fn wait_of_words(headroom: Headroom, calls: u32, spacing: Duration, now: DateTime<Utc>) -> Duration {
    let until = |at: Option<DateTime<Utc>>| at.map_or(TimeDelta::zero(), |at| at - now).to_std().unwrap_or_default();
    let after_reset = match headroom.left {
        Some(left) if left < calls => {
            until(headroom.resets_at) + spacing.saturating_mul((calls - left).saturating_sub(1))
        }
        _ => Duration::ZERO,
    };
    after_reset.max(until(headroom.held_until))
}

fn ceil(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FREE: Headroom = Headroom { left: None, resets_at: None, held_until: None };

    fn noon() -> DateTime<Utc> {
        "2027-03-15T16:00:00Z".parse().unwrap()
    }

    fn solve(requests: usize, quota: Quota, headroom: Headroom, cadence: u64) -> RequestPlan {
        let cadence = Duration::from_secs(cadence);
        plan(&Wish { symbols: requests * 100, requests, quota, headroom, cadence, now: noon() })
    }

    #[test]
    fn what_fits_and_what_would() {
        let minute = Duration::from_mins(1);
        let alpaca = Quota::in_any_window(200, minute);
        assert_eq!(solve(96, alpaca, FREE, 180).warning, None);
        let twelve_hundred = solve(600, alpaca, FREE, 180);
        assert!(!twelve_hundred.fits);
        insta::assert_snapshot!(twelve_hundred.warning.unwrap(), @"600 calls for 60000 symbols do not fit a cadence of 180 s: the quota needs 360 s for them; set ingest.cadence_seconds to 360 or more, or ask for fewer symbols");
        let free = Quota { requests: 5, per: minute, burst: 1 };
        assert!(solve(1, free, FREE, 180).fits);
        assert_eq!(solve(1, free, FREE, 10).shortest_cadence_seconds, 12);
        let spent = Headroom { left: Some(3), resets_at: Some(noon() + TimeDelta::seconds(170)), held_until: None };
        insta::assert_snapshot!(solve(96, alpaca, spent, 180).warning.unwrap(), @"this cycle does not fit: 96 calls for 9600 symbols, and by the provider's own words 3 are left until 2027-03-15 16:02:50 UTC");
        let held = Headroom { held_until: Some(noon() + TimeDelta::hours(1)), ..FREE };
        insta::assert_snapshot!(solve(1, free, held, 180).warning.unwrap(), @"this cycle does not fit: 1 calls for 100 symbols, and by the provider's own words none is wanted until 2027-03-15 17:00:00 UTC");
    }

    proptest! {
        /// The advice is true: at the cadence that is named it fits, and a second less would not do.
        #[test]
        fn the_shortest_cadence_is_the_shortest(
            requests in 1_usize..5_000, allowed in 1_u32..2_000, burst in 1_u32..500, per in 1_u64..4_000, cadence in 10_u64..4_000
        ) {
            let quota = Quota { requests: allowed, per: Duration::from_secs(per), burst };
            let solved = solve(requests, quota, FREE, cadence);
            prop_assert_eq!(solved.fits, solved.warning.is_none());
            prop_assert_eq!(solved.fits, cadence >= solved.shortest_cadence_seconds);
            prop_assert!(solve(requests, quota, FREE, solved.shortest_cadence_seconds).fits);
        }

        /// More calls never need less, and fewer left never help.
        #[test]
        fn it_is_monotone(requests in 1_usize..5_000, left in 0_u32..6_000, reset in 1_i64..600) {
            let quota = Quota::in_any_window(200, Duration::from_mins(1));
            let said = |left| Headroom { left: Some(left), resets_at: Some(noon() + TimeDelta::seconds(reset)), held_until: None };
            let one = solve(requests, quota, said(left), 180);
            prop_assert!(solve(requests + 1, quota, said(left), 180).quota_seconds >= one.quota_seconds);
            prop_assert!(solve(requests, quota, said(left + 1), 180).quota_seconds <= one.quota_seconds);
        }
    }
}
