//! Claims whose answer was lost: the database may have made them, and then nobody works on what they took until they grow old.

use chrono::{DateTime, TimeDelta, Utc};

/// As many are looked for; the oldest is forgotten for the next one, and ends by itself.
const MOST: usize = 20;

/// They are looked for so often at most: work may be done many times a second, and the commit of one takes longer than that.
const LOOKED_FOR_EVERY: TimeDelta = TimeDelta::seconds(1);

/// The ends of such claims, by which they are known.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    ends: Vec<DateTime<Utc>>,
    looked_at: Option<DateTime<Utc>>,
}

impl Unanswered {
    /// A claim until then is asked for; unless [`Self::answered`] follows it is one of these.
    pub(super) fn asked(&mut self, until: DateTime<Utc>) {
        if self.ends.len() == MOST {
            self.ends.remove(0);
        }
        self.ends.push(until);
    }

    /// What was asked for last was answered.
    pub(super) fn answered(&mut self) {
        self.ends.pop();
    }

    /// So many were taken back of the claim until then. Where there were none it may still be on its way to the disk.
    pub(super) fn looked(&mut self, until: DateTime<Utc>, taken_back: u64, now: DateTime<Utc>) {
        if taken_back > 0 || until <= now {
            self.ends.retain(|other| *other != until);
        }
    }

    /// Those to be looked for now.
    pub(super) fn due(&mut self, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        if self.ends.is_empty() || self.looked_at.is_some_and(|at| (at..at + LOOKED_FOR_EVERY).contains(&now)) {
            return Vec::new();
        }
        self.looked_at = Some(now);
        self.ends.clone()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_claim_is_looked_for_until_it_was_found_or_has_ended() {
        let mut lost = Unanswered::default();
        lost.asked(at(1));
        lost.answered();
        assert!(lost.is_empty());
        (2..5).for_each(|until| lost.asked(at(until)));
        lost.looked(at(2), 0, at(1));
        lost.looked(at(3), 2, at(1));
        assert_eq!(lost.ends, [at(2), at(4)]);
        lost.looked(at(2), 0, at(2));
        assert_eq!(lost.due(at(2)), [at(4)]);
        assert!(lost.due(at(2)).is_empty(), "it was looked for in this second");
        assert_eq!(lost.due(at(3)), [at(4)]);
        (10..40).for_each(|until| lost.asked(at(until)));
        assert_eq!((lost.ends.len(), lost.ends[0]), (MOST, at(20)));
    }
}
