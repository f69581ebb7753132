//! Passwords that were wrong: too many of them, and nobody may try that name for a while.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

/// Wrong passwords of one name within [`WINDOW`]; the next try waits until the oldest of them is older than that.
const MOST: usize = 10;

/// How long a wrong password counts.
const WINDOW: TimeDelta = TimeDelta::minutes(15);

/// What went wrong lately, by name. Names that nobody has share one line, so that strangers cannot fill the memory.
#[derive(Debug, Default)]
pub struct Failures(BTreeMap<String, VecDeque<DateTime<Utc>>>);

impl Failures {
    /// Since when `name` may be tried again, where that is later than `now`.
    pub fn until(&self, name: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let failed = self.0.get(name).filter(|failed| failed.len() >= MOST)?;
        failed.front().map(|oldest| *oldest + WINDOW).filter(|until| *until > now)
    }

    /// It was wrong.
    pub fn failed(&mut self, name: &str, now: DateTime<Utc>) {
        let failed = self.0.entry(name.to_owned()).or_default();
        failed.push_back(now);
        if failed.len() > MOST {
            failed.pop_front();
        }
    }

    /// It was right.
    pub fn succeeded(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_ones_close_a_name_until_the_first_is_a_quarter_of_an_hour_old() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut failures = Failures::default();
        for n in 0..9 {
            failures.failed("ada", start + TimeDelta::seconds(n));
        }
        let now = start + TimeDelta::seconds(9);
        assert_eq!(failures.until("ada", now), None);
        failures.failed("ada", now);
        assert_eq!(failures.until("ada", now), Some(start + WINDOW));
        assert_eq!(failures.until("bob", now), None, "another name is open");
        assert_eq!(failures.until("ada", start + WINDOW), None, "it opens again");
        failures.failed("ada", start + WINDOW);
        assert_eq!(failures.until("ada", start + WINDOW), Some(start + TimeDelta::seconds(1) + WINDOW));
        failures.succeeded("ada");
        assert_eq!(failures.until("ada", now), None);
    }
}
