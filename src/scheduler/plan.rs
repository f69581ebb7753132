//! The plan beside the ledger: which slots the schedule gives for a span of time, and where the rows differ from it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::calendar::Calendar;
use crate::schedule::JobSpec;
use crate::store::{JobRun, KnownJob, Origin, RunState};

/// A slot that is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Expected {
    /// The instant.
    pub slot: DateTime<Utc>,
    /// The job.
    pub job: &'static str,
}

/// Where the ledger is not what the schedule would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The instant.
    pub slot: DateTime<Utc>,
    /// The job.
    pub job: String,
    /// `missing` (no row), `unplanned` (a row for a slot that the schedule does not give), or what became of it instead of `ok`.
    pub what: String,
    /// What the row says of it.
    pub reason: Option<String>,
}

/// The slots of one job in a span of time (its end does not count) that are owed since the job was first known.
pub fn expected(
    spec: &JobSpec,
    calendar: &Calendar,
    known: &HashMap<String, KnownJob>,
    span: Range<DateTime<Utc>>,
) -> Vec<Expected> {
    let Some(since) = known.get(spec.name).map(|job| job.since) else { return Vec::new() };
    let instant = TimeDelta::microseconds(1);
    let from = span.start.max(since);
    let slots = spec.trigger.slots(calendar, from - instant, span.end - instant);
    slots.filter(|slot| *slot > since).map(|slot| Expected { slot, job: spec.name }).collect()
}

/// The differences of one job, in order of time. Runs beside the schedule are none.
pub fn compare(job: &str, expected: &[Expected], rows: &BTreeMap<DateTime<Utc>, JobRun>) -> Vec<Difference> {
    let difference = |slot, what: &str, reason: Option<String>| Difference {
        slot,
        job: job.to_owned(),
        what: what.to_owned(),
        reason,
    };
    let mut found: Vec<Difference> = expected
        .iter()
        .filter_map(|Expected { slot, .. }| match rows.get(slot) {
            None => Some(difference(*slot, "missing", None)),
            Some(run) if run.state == RunState::Ok => None,
            Some(run) => Some(difference(*slot, run.state.name(), run.reason.clone().or_else(|| run.error.clone()))),
        })
        .collect();
    let planned = |slot: &DateTime<Utc>| expected.binary_search_by_key(slot, |expected| expected.slot).is_ok();
    let scheduled = rows.values().filter(|run| matches!(run.origin, Origin::Scheduled | Origin::Catchup));
    found.extend(scheduled.filter(|run| !planned(&run.scheduled_for)).map(|run| {
        let reason = format!("decided with calendar {}, {}", run.calendar_version, run.state);
        difference(run.scheduled_for, "unplanned", Some(reason))
    }));
    found.sort_by_key(|difference| difference.slot);
    found
}
