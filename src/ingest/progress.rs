//! How far the cycle under way is: written by the fetch, read by whoever shows it.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// The cycle under way, if there is one. Written once a call, so a lock costs nothing.
#[derive(Debug, Default)]
pub struct Progress {
    current: Mutex<Option<Counts>>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    slot: DateTime<Utc>,
    started: DateTime<Utc>,
    deadline: DateTime<Utc>,
    wanted: usize,
    asked: usize,
    answered: usize,
    requests: u32,
}

/// What is known of a cycle while it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProgressView {
    /// The slot it is for.
    pub slot: DateTime<Utc>,
    /// When it began to fetch.
    pub started: DateTime<Utc>,
    /// When it gives up what it has not got.
    pub deadline: DateTime<Utc>,
    /// Symbols it asks for.
    pub wanted: usize,
    /// Symbols whose call has ended, one way or the other.
    pub asked: usize,
    /// Symbols the provider said something of.
    pub answered: usize,
    /// Calls made.
    pub requests: u32,
    /// Symbols a second whose call has ended; 0 before the first.
    pub symbols_per_second: f64,
    /// When it will be done at this rate; `None` before the first answer.
    pub eta: Option<DateTime<Utc>>,
}

impl Progress {
    /// A cycle begins to fetch.
    pub fn begin(&self, slot: DateTime<Utc>, wanted: usize, now: DateTime<Utc>, deadline: DateTime<Utc>) {
        *self.lock() = Some(Counts { slot, started: now, deadline, wanted, asked: 0, answered: 0, requests: 0 });
    }

    /// A call for `asked` symbols has ended with words on `answered` of them.
    pub fn call_ended(&self, asked: usize, answered: usize) {
        if let Some(counts) = &mut *self.lock() {
            counts.asked = (counts.asked + asked).min(counts.wanted);
            counts.answered = (counts.answered + answered).min(counts.wanted);
        }
    }

    /// A call is made.
    pub fn called(&self) {
        if let Some(counts) = &mut *self.lock() {
            counts.requests += 1;
        }
    }

    /// The cycle has all it will get.
    pub fn end(&self) {
        *self.lock() = None;
    }

    /// How far it is at `now`; `None` when no cycle is fetching.
    pub fn view(&self, now: DateTime<Utc>) -> Option<ProgressView> {
        let counts = (*self.lock())?;
        let Counts { slot, started, deadline, wanted, asked, answered, requests } = counts;
        let elapsed = (now - started).as_seconds_f64().max(0.001);
        let rate = asked as f64 / elapsed;
        let left = wanted.saturating_sub(asked) as f64;
        // Ten years is as good as never, and a date that exists.
        let eta = (asked > 0).then(|| now + TimeDelta::seconds((left / rate).ceil().min(3e8) as i64));
        let symbols_per_second = (rate * 10.0).round() / 10.0;
        Some(ProgressView { slot, started, deadline, wanted, asked, answered, requests, symbols_per_second, eta })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Counts>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_eta_follow_from_what_was_asked() {
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let progress = Progress::default();
        assert_eq!(progress.view(at(0)), None);
        progress.begin(at(0), 1_000, at(0), at(162));
        let view = progress.view(at(1)).unwrap();
        assert_eq!((view.symbols_per_second, view.eta), (0.0, None));
        progress.called();
        progress.call_ended(250, 240);
        let view = progress.view(at(10)).unwrap();
        assert_eq!((view.asked, view.answered, view.requests), (250, 240, 1));
        assert_eq!((view.symbols_per_second, view.eta), (25.0, Some(at(40))));
        progress.end();
        assert_eq!(progress.view(at(11)), None);
    }
}
