//! A span of time gone through without effects: what is run, and what is not and why.

use chrono::{DateTime, NaiveDate, TimeZone, Utc};

use super::trigger::Trigger;
use super::wall::instants_of;
use super::{Gap, JobSpec, fires};
use crate::calendar::{Calendar, DayKind};

/// One line of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsed<'a> {
    /// The slot; of one that is left out, the time that it has no slot at, or the start of the date that has none.
    pub slot: DateTime<Utc>,
    /// The job's name.
    pub job: &'a str,
    /// Why it is left out; `None` for one that is run.
    pub left_out: Option<String>,
}

/// What the schedule does in `(after, until]`, in order of time: the slots of all `jobs`, and for the dates on which a job that
/// usually runs has none, one line that says why. Lazy: a year costs no more memory than a day.
pub fn rehearse<'a>(
    jobs: &'a [JobSpec],
    calendar: &'a Calendar,
    after: DateTime<Utc>,
    until: DateTime<Utc>,
) -> impl Iterator<Item = Rehearsed<'a>> {
    let date = |at: DateTime<Utc>| at.with_timezone(&calendar.zone()).date_naive();
    let dates = date(after).iter_days().take_while(move |day| *day <= date(until));
    let mut left_out = dates.flat_map(move |day| left_out_on(jobs, calendar, day)).peekable();
    let mut run = fires(jobs, calendar, after, until)
        .map(|fire| Rehearsed { slot: fire.slot, job: fire.job, left_out: None })
        .peekable();
    std::iter::from_fn(move || {
        while left_out.next_if(|line| line.slot <= after || line.slot > until).is_some() {}
        match (left_out.peek(), run.peek()) {
            (Some(left), Some(fire)) if left.slot > fire.slot => run.next(),
            (None, _) => run.next(),
            (Some(_), _) => left_out.next(),
        }
    })
}

/// What has no slot on a date, in order of time.
fn left_out_on<'a>(jobs: &'a [JobSpec], calendar: &Calendar, day: NaiveDate) -> Vec<Rehearsed<'a>> {
    let about = calendar.why(day);
    let closed = matches!(about.kind, DayKind::Holiday | DayKind::Closure);
    let why = about.reason.as_deref().unwrap_or("the market does not open");
    let midnight = calendar.zone().from_local_datetime(&day.and_time(chrono::NaiveTime::MIN)).earliest();
    let mut lines: Vec<_> = jobs
        .iter()
        .filter_map(|job| match (&job.trigger, midnight) {
            (trigger, Some(midnight)) if closed && trigger.follows_sessions() => {
                let left_out = Some(format!("no session: {why}"));
                Some(Rehearsed { slot: midnight.to_utc(), job: job.name, left_out })
            }
            (trigger, _) => {
                let (slot, reason) = left_out_by_the_clock(trigger, calendar, day, about.is_session)?;
                Some(Rehearsed { slot, job: job.name, left_out: Some(reason) })
            }
        })
        .collect();
    lines.sort_by_key(|line| line.slot);
    lines
}

/// A wall-clock time that the switch to summer time leaves out on this date, for a job that does not want another one.
fn left_out_by_the_clock(
    trigger: &Trigger,
    calendar: &Calendar,
    day: NaiveDate,
    is_session: bool,
) -> Option<(DateTime<Utc>, String)> {
    let (at, zone, change) = match trigger {
        Trigger::Daily { at, zone, change } => (*at, *zone, *change),
        Trigger::SessionDay { at, change } if is_session => (*at, calendar.zone(), *change),
        _ => return None,
    };
    if change.gap != Gap::Skip || instants_of(day.and_time(at), zone, change).next().is_some() {
        return None;
    }
    let hour_before = day.and_time(at) - chrono::TimeDelta::hours(1);
    let slot = zone.from_local_datetime(&hour_before).earliest()?.to_utc();
    Some((slot, format!("the clocks of {zone} leave {at} out on {day}")))
}
