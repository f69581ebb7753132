//! How the cycles went, one after the other.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::is_complete;

/// Where a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The provider did not answer, or not with quotes.
    Provider,
    /// Its quota left no call.
    Quota,
    /// The database.
    Store,
}

/// Cycles that failed, up to the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The slot of the first of them.
    pub since: DateTime<Utc>,
    /// The slot of the last of them.
    pub slot: DateTime<Utc>,
    /// How many in a row.
    pub cycles: u32,
    /// Where the last fault lies.
    pub kind: FaultKind,
    /// What it was.
    pub fault: String,
}

/// How the last cycles went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// Those that failed since the last good one.
    pub failing: Option<Failing>,
    /// Published cycles in a row with too few symbols.
    pub incomplete_cycles: u32,
    /// The slot of the first of them.
    pub incomplete_since: Option<DateTime<Utc>>,
    /// Why the last published cycle lacks symbols.
    pub missing: Option<String>,
}

impl Attempts {
    /// A cycle was published, with `missing` as the reason for what it lacks.
    pub fn published(&mut self, slot: DateTime<Utc>, expected: u32, fresh: u32, missing: Option<String>) {
        self.failing = None;
        self.missing = missing;
        if is_complete(expected, fresh) {
            self.incomplete_cycles = 0;
            self.incomplete_since = None;
        } else {
            self.incomplete_cycles = self.incomplete_cycles.saturating_add(1);
            self.incomplete_since = self.incomplete_since.or(Some(slot));
        }
    }

    /// A cycle failed.
    pub fn failed(&mut self, slot: DateTime<Utc>, kind: FaultKind, fault: String) {
        let (since, cycles) = self.failing.as_ref().map_or((slot, 0), |failing| (failing.since, failing.cycles));
        // Another try of the same slot is no other cycle.
        let again = self.failing.as_ref().is_some_and(|failing| failing.slot == slot);
        self.failing = Some(Failing { since, slot, cycles: cycles + u32::from(!again), kind, fault });
    }
}
