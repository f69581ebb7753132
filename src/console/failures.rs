//! Passwords that were wrong: too many of them, and nobody may try that name for a while.
//!
//! A try counts before its password is looked at, so that many at once are no way around; one that was right takes it back. Names
//! are counted by a hash of them that only this process can make, whether anybody has them or not: nothing is told about who there
//! is, and strangers cannot fill the memory.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

/// Tries of one name within [`WINDOW`]; the next one waits until the oldest of them is older than that.
const MOST: usize = 10;

/// How long a wrong password counts.
const WINDOW: TimeDelta = TimeDelta::minutes(15);

/// What went wrong lately, by a hash of the name: 4,096 lines at most.
#[derive(Debug)]
pub struct Failures {
    secret: [u8; 32],
    tries: BTreeMap<u16, VecDeque<DateTime<Utc>>>,
}

impl Failures {
    /// None yet. `secret`: random.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret, tries: BTreeMap::new() }
    }

    /// Somebody is about to try `name`. Gives since when they may, where that is later than `now`; then it is no try.
    pub fn begin(&mut self, name: &str, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let tries = self.tries.entry(self.line(name)).or_default();
        while tries.front().is_some_and(|oldest| *oldest + WINDOW <= now) {
            tries.pop_front();
        }
        match tries.front() {
            Some(oldest) if tries.len() >= MOST => Err(*oldest + WINDOW),
            _ => {
                tries.push_back(now);
                Ok(())
            }
        }
    }

    /// It was right: what was wrong before is forgotten.
    pub fn succeeded(&mut self, name: &str) {
        self.tries.remove(&self.line(name));
    }

    /// It was not looked at: it does not count.
    pub fn not_looked_at(&mut self, name: &str) {
        if let Some(tries) = self.tries.get_mut(&self.line(name)) {
            tries.pop_back();
        }
    }

    fn line(&self, name: &str) -> u16 {
        let hash = Sha256::new().chain_update(self.secret).chain_update(name).finalize();
        u16::from_be_bytes([hash[0], hash[1]]) % 4_096
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_close_a_name_until_the_first_is_a_quarter_of_an_hour_old() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut failures = Failures::new([7; 32]);
        for n in 0..10 {
            assert_eq!(failures.begin("ada", start + TimeDelta::seconds(n)), Ok(()));
        }
        let now = start + TimeDelta::seconds(10);
        assert_eq!(failures.begin("ada", now), Err(start + WINDOW));
        assert_eq!(failures.begin("ada", now), Err(start + WINDOW), "what was refused is no try");
        assert_eq!(failures.begin("bob", now), Ok(()), "another name is open");
        assert_eq!(failures.begin("ada", start + WINDOW), Ok(()), "it opens again");
        assert_eq!(failures.begin("ada", start + WINDOW), Err(start + TimeDelta::seconds(1) + WINDOW));
        failures.succeeded("ada");
        assert_eq!(failures.begin("ada", now), Ok(()));
    }

    #[test]
    fn what_was_not_looked_at_does_not_count() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut failures = Failures::new([7; 32]);
        for _ in 0..100 {
            assert_eq!(failures.begin("ada", start), Ok(()));
            failures.not_looked_at("ada");
        }
    }

    #[test]
    fn names_that_nobody_has_do_not_fill_the_memory() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut failures = Failures::new([7; 32]);
        for n in 0..100_000 {
            let _ = failures.begin(&format!("nobody {n}"), start);
        }
        assert!(failures.tries.len() <= 4_096 && failures.tries.values().all(|tries| tries.len() <= MOST));
    }
}
