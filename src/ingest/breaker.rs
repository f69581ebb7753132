//! The circuit breaker of a provider's host: after failures in a row nobody calls for a while, then one call tries.
//!
//! Only what lies with the host counts: no connection, no answer in time, a broken answer, HTTP 5xx. A refusal (a wrong key, a
//! spent quota, an unknown symbol) is an answer. A host that fails and says when it will be back is not called before.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::budget::LONGEST_HOLD;
use crate::metrics;

/// Failures in a row that open it.
const FAILURES: u32 = 5;

/// How long it stays open the first time; doubled each time the trial fails.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Whether calls go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// They do.
    Closed,
    /// They do not, until a time.
    Open,
    /// One does, to see.
    HalfOpen,
}

/// The breaker as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerView {
    /// Whether calls go out.
    pub state: BreakerState,
    /// When it opened; while it is closed, when the failures in a row began.
    pub since: Option<DateTime<Utc>>,
    /// When the next call may try.
    pub until: Option<DateTime<Utc>>,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub reason: Option<String>,
}

/// Why a call may not leave at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotYet {
    /// The host has failed: the time to ask again.
    Failed(DateTime<Utc>),
    /// It could not be paid: how long to wait at least.
    Unpaid(Duration),
}

/// One host's breaker.
#[derive(Debug)]
pub struct Breaker {
    provider: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: BreakerState,
    failures: u32,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    pause: Duration,
    reason: Option<String>,
    /// The call that tries has left, at this time; it is given up for lost when it is silent for long.
    trying: Option<DateTime<Utc>>,
    /// The host itself wants no call before `until`.
    asked_for: bool,
}

impl Breaker {
    /// A closed one.
    pub fn new(provider: &'static str) -> Self {
        let inner = Inner {
            state: BreakerState::Closed,
            failures: 0,
            since: None,
            until: None,
            pause: FIRST_PAUSE,
            reason: None,
            trying: None,
            asked_for: false,
        };
        metrics::breaker_state(provider, false);
        Self { provider, inner: Mutex::new(inner) }
    }

    /// Lets a call leave, if it may now and `pay` can be had for it; where it may not, nothing is paid. When it is time to try,
    /// the first who can pay does.
    ///
    /// # Errors
    /// When it may not leave.
    pub fn admit<T>(&self, now: DateTime<Utc>, pay: impl FnOnce() -> Result<T, Duration>) -> Result<T, NotYet> {
        let mut inner = self.lock();
        if let Some(until) = inner.shut_until(now) {
            return Err(NotYet::Failed(until));
        }
        let paid = pay().map_err(NotYet::Unpaid)?;
        if inner.state != BreakerState::Closed {
            inner.state = BreakerState::HalfOpen;
            inner.trying = Some(now);
        }
        Ok(paid)
    }

    /// When to ask again, if no call may leave now.
    pub fn shut_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.lock().shut_until(now)
    }

    /// The host answered. What it has asked for holds all the same, when the call had left before.
    pub fn answered(&self) {
        let mut inner = self.lock();
        if inner.state == BreakerState::Open && inner.asked_for {
            return;
        }
        if inner.state != BreakerState::Closed {
            metrics::breaker_state(self.provider, false);
        }
        *inner = Inner {
            state: BreakerState::Closed,
            failures: 0,
            since: None,
            until: None,
            pause: FIRST_PAUSE,
            reason: None,
            trying: None,
            asked_for: false,
        };
    }

    /// The host failed, and wants no call for so long where it said so. Says whether that has opened it.
    pub fn failed(&self, reason: &str, after: Option<Duration>, now: DateTime<Utc>) -> bool {
        let mut inner = self.lock();
        inner.failures = inner.failures.saturating_add(1);
        inner.reason = Some(reason.to_owned());
        inner.trying = None;
        inner.since = inner.since.or(Some(now));
        let asked_for = after.unwrap_or_default().min(LONGEST_HOLD);
        let pause = match inner.state {
            BreakerState::Closed if inner.failures >= FAILURES => inner.pause,
            // Calls that left before it opened may still come home.
            BreakerState::Closed | BreakerState::Open => Duration::ZERO,
            BreakerState::HalfOpen => {
                inner.pause = (inner.pause * 2).min(LONGEST_PAUSE);
                inner.pause
            }
        };
        let pause = pause.max(asked_for);
        if pause.is_zero() {
            return false;
        }
        let opens = inner.state != BreakerState::Open;
        inner.asked_for |= !asked_for.is_zero();
        inner.state = BreakerState::Open;
        inner.until = inner.until.max(Some(now + TimeDelta::from_std(pause).unwrap_or_default()));
        metrics::breaker_state(self.provider, true);
        opens
    }

    /// How it stands.
    pub fn view(&self) -> BreakerView {
        let inner = self.lock();
        BreakerView {
            state: inner.state,
            since: inner.since,
            until: inner.until.filter(|_| inner.state == BreakerState::Open),
            failures: inner.failures,
            reason: inner.reason.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn shut_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.state {
            BreakerState::Closed => None,
            BreakerState::Open => self.until.filter(|until| now < *until),
            // Whoever tries tells how it went; a call that was cut off never does.
            BreakerState::HalfOpen => {
                let tries = self.trying.is_some_and(|left| now < left + TimeDelta::minutes(1));
                tries.then(|| now + TimeDelta::seconds(1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    /// Of a call that costs nothing.
    fn admitted(breaker: &Breaker, second: i64) -> Result<(), NotYet> {
        breaker.admit(at(second), || Ok(()))
    }

    #[test]
    fn it_opens_tries_with_one_call_and_closes() {
        let breaker = Breaker::new("test");
        let until = |second| Err(NotYet::Failed(at(second)));
        for second in 0..4 {
            assert!(!breaker.failed("no connection", None, at(second)));
        }
        breaker.answered();
        for second in 0..4 {
            assert!(!breaker.failed("no connection", None, at(second)));
            assert_eq!(admitted(&breaker, second), Ok(()));
        }
        assert!(breaker.failed("HTTP 503", None, at(4)));
        assert_eq!(admitted(&breaker, 5), until(19));
        let view = breaker.view();
        assert_eq!((view.state, view.since, view.until), (BreakerState::Open, Some(at(0)), Some(at(19))));
        assert_eq!((view.failures, view.reason.as_deref()), (5, Some("HTTP 503")));
        // One tries, the others wait; it fails, and the next trial is later.
        assert_eq!(admitted(&breaker, 19), Ok(()));
        assert_eq!(admitted(&breaker, 19), until(20));
        assert!(breaker.failed("HTTP 503", None, at(21)));
        assert_eq!(admitted(&breaker, 22), until(51));
        // The one that tries is never heard of again.
        assert_eq!(admitted(&breaker, 51), Ok(()));
        assert_eq!(admitted(&breaker, 110), until(111));
        assert_eq!(admitted(&breaker, 111), Ok(()));
        breaker.answered();
        assert_eq!(breaker.view().state, BreakerState::Closed);
        assert_eq!(breaker.view().since, None);
    }

    #[test]
    fn nothing_is_paid_for_a_call_that_may_not_leave_and_who_cannot_pay_does_not_try() {
        let breaker = Breaker::new("test");
        for second in 0..5 {
            breaker.failed("no connection", None, at(second));
        }
        let paid = breaker.admit(at(5), || -> Result<(), Duration> { panic!("nobody is asked to pay") });
        assert_eq!(paid, Err(NotYet::Failed(at(19))));
        let wait = Duration::from_secs(12);
        assert_eq!(breaker.admit(at(19), || Err::<(), _>(wait)), Err(NotYet::Unpaid(wait)));
        assert_eq!(admitted(&breaker, 19), Ok(()), "the next one tries");
    }

    #[test]
    fn a_host_that_says_when_it_will_be_back_is_not_called_before() {
        let breaker = Breaker::new("test");
        assert!(breaker.failed("HTTP 503", Some(Duration::from_mins(10)), at(0)));
        assert!(!breaker.failed("HTTP 503", None, at(1)), "it left before");
        breaker.answered();
        assert_eq!(admitted(&breaker, 2), Err(NotYet::Failed(at(600))));
        assert_eq!((breaker.view().since, breaker.view().until), (Some(at(0)), Some(at(600))));
        assert_eq!(admitted(&breaker, 600), Ok(()));
        assert!(breaker.failed("HTTP 503", Some(Duration::from_hours(1_000)), at(601)));
        assert_eq!(breaker.shut_until(at(602)), Some(at(601 + 86_400)), "a day is the longest");
    }
}
