//! PURE: which slots a job has, and what is to be done about those that came due.

mod judge;
mod policy;
mod reading;
mod rehearsal;
mod trigger;
mod wall;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::calendar::Calendar;
pub use judge::{Busy, Pause, Verdict, judge, judge_flood, may_run_late};
pub use policy::{Misfire, Overlap, Retry};
pub use rehearsal::{Rehearsed, rehearse};
pub use trigger::{CronPattern, Trigger};
pub use wall::{ClockChange, Gap, Repeat};

/// The schedule of one job: one line of the table in `src/jobs/mod.rs`.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Its name everywhere.
    pub name: &'static str,
    /// What it does, for people.
    pub purpose: &'static str,
    /// When.
    pub trigger: Trigger,
    /// What about a late slot.
    pub misfire: Misfire,
    /// A slot noticed within this time of coming due is on time.
    pub grace: TimeDelta,
    /// From the slot to when it must be done; a run is ended then, and nothing begins after it.
    pub deadline: TimeDelta,
    /// What about a slot that comes while the job is under way.
    pub overlap: Overlap,
    /// How often a run is tried when the job says that trying again may help.
    pub retry: Retry,
    /// After so many failed runs in a row the job is paused until an operator resumes it; zero: never.
    pub breaker: u32,
    /// How long a run that is told to stop may take to end before it is cut off.
    pub stop_grace: Duration,
}

/// One slot of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire<'a> {
    /// The instant.
    pub slot: DateTime<Utc>,
    /// The job's name.
    pub job: &'a str,
}

/// The slots of all `jobs` in `(after, until]` in order of time, then in the order of the table. Lazy: a year costs no
/// more memory than a day.
pub fn fires<'a>(
    jobs: &'a [JobSpec],
    calendar: &'a Calendar,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> impl Iterator<Item = Fire<'a>> {
    let mut next: Vec<_> = jobs.iter().map(|job| job.trigger.next_after(calendar, after)).collect();
    std::iter::from_fn(move || {
        let (index, slot) = next.iter().copied().enumerate().min_by_key(|(index, slot)| (*slot, *index))?;
        if slot > until {
            return None;
        }
        next[index] = jobs[index].trigger.next_after(calendar, slot);
        Some(Fire { slot, job: jobs[index].name })
    })
}

#[cfg(test)]
mod tests;
