//! The circuit breaker of a provider's host: after failures in a row nobody calls for a while, then one call tries.
//!
//! Only what lies with the host counts: no connection, no answer in time, a broken answer, HTTP 5xx. A refusal (a wrong key, a
//! spent quota, an unknown symbol) is an answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

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
        };
        metrics::breaker_state(provider, false);
        Self { provider, inner: Mutex::new(inner) }
    }

    /// Whether a call may leave now. When it is time to try, the first who asks may.
    ///
    /// # Errors
    /// When it may not: the time to ask again.
    pub fn admit(&self, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let mut inner = self.lock();
        match inner.state {
            BreakerState::Closed => Ok(()),
            BreakerState::Open => match inner.until {
                Some(until) if now < until => Err(until),
                _ => {
                    inner.state = BreakerState::HalfOpen;
                    inner.trying = Some(now);
                    Ok(())
                }
            },
            // Whoever tries tells how it went; a call that was cut off never does.
            BreakerState::HalfOpen => match inner.trying {
                Some(left) if now < left + TimeDelta::minutes(1) => Err(now + TimeDelta::seconds(1)),
                _ => {
                    inner.trying = Some(now);
                    Ok(())
                }
            },
        }
    }

    /// The host answered.
    pub fn answered(&self) {
        let mut inner = self.lock();
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
        };
    }

    /// The host failed. Says whether that has opened it.
    pub fn failed(&self, reason: &str, now: DateTime<Utc>) -> bool {
        let mut inner = self.lock();
        inner.failures = inner.failures.saturating_add(1);
        inner.reason = Some(reason.to_owned());
        inner.trying = None;
        let opens = match inner.state {
            BreakerState::Closed => {
                inner.since = inner.since.or(Some(now));
                inner.failures >= FAILURES
            }
            // Calls that left before it opened may still come home.
            BreakerState::Open => false,
            BreakerState::HalfOpen => {
                inner.pause = (inner.pause * 2).min(LONGEST_PAUSE);
                true
            }
        };
        if opens {
            inner.state = BreakerState::Open;
            inner.until = Some(now + TimeDelta::from_std(inner.pause).unwrap_or_default());
            metrics::breaker_state(self.provider, true);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_tries_with_one_call_and_closes() {
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let breaker = Breaker::new("test");
        for second in 0..4 {
            assert!(!breaker.failed("no connection", at(second)));
        }
        breaker.answered();
        for second in 0..4 {
            assert!(!breaker.failed("no connection", at(second)));
            assert_eq!(breaker.admit(at(second)), Ok(()));
        }
        assert!(breaker.failed("HTTP 503", at(4)));
        assert_eq!(breaker.admit(at(5)), Err(at(19)));
        let view = breaker.view();
        assert_eq!((view.state, view.since, view.until), (BreakerState::Open, Some(at(0)), Some(at(19))));
        assert_eq!((view.failures, view.reason.as_deref()), (5, Some("HTTP 503")));
        // One tries, the others wait; it fails, and the next trial is later.
        assert_eq!(breaker.admit(at(19)), Ok(()));
        assert_eq!(breaker.admit(at(19)), Err(at(20)));
        assert!(breaker.failed("HTTP 503", at(21)));
        assert_eq!(breaker.admit(at(22)), Err(at(51)));
        // The one that tries is never heard of again.
        assert_eq!(breaker.admit(at(51)), Ok(()));
        assert_eq!(breaker.admit(at(110)), Err(at(111)));
        assert_eq!(breaker.admit(at(111)), Ok(()));
        breaker.answered();
        assert_eq!(breaker.view().state, BreakerState::Closed);
        assert_eq!(breaker.view().since, None);
    }
}
