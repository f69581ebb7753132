//! The dead man's switch: how long each job has been without the success it owes.

use chrono::{DateTime, TimeDelta, Utc};

use super::planner::{Line, Planner};
use crate::calendar::Calendar;
use crate::metrics;
use crate::schedule::Trigger;

impl Planner {
    /// Reports it for every job. Only the instance that plans knows.
    pub(super) fn report_overdue(&self, now: DateTime<Utc>) {
        let calendar = self.ledger.calendar.load();
        for line in &self.lines {
            let since = self.status.last_success(line.entry.spec.name).unwrap_or(line.owed_since);
            metrics::job_overdue(line.entry.spec.name, line.overdue(&calendar, since, now));
        }
    }
}

impl Line {
    /// Counted from the first slot after the last success that is past its grace. A job that goes by the market is overdue in
    /// market time only: a weekend is silent. A paused job owes nothing.
    fn overdue(&self, calendar: &Calendar, last_success: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
        if self.pause.as_ref().is_some_and(|pause| pause.covers(now)) {
            return TimeDelta::zero();
        }
        let spec = &self.entry.spec;
        let resumed = self.pause.as_ref().and_then(|pause| pause.until).unwrap_or(last_success);
        let due = spec.trigger.next_after(calendar, last_success.max(resumed));
        let Some(late) = due.checked_add_signed(spec.grace).filter(|late| *late < now) else {
            return TimeDelta::zero();
        };
        match spec.trigger {
            Trigger::EveryWhile { .. } | Trigger::While { .. } => calendar.open_time_between(late, now),
            _ => now - late,
        }
    }
}
