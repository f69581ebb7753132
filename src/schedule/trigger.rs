//! When a job is due.

use std::fmt;

use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::calendar::{Calendar, Phase};

/// A rule that gives instants. Pure: the same calendar and the same `after` give the same slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Once each calendar date at a wall-clock time of a zone. A time that a switch to summer time leaves out is moved to
    /// the first instant after the gap; one that happens twice counts the first time.
    Daily {
        /// Wall-clock time.
        at: NaiveTime,
        /// Where the clock hangs.
        zone: Tz,
    },
    /// Every so long while the market is in one of the phases, counted from the start of the phase, in elapsed time.
    EveryWhile {
        /// The spacing; more than zero.
        every: TimeDelta,
        /// The phases.
        phases: Vec<Phase>,
    },
    /// So long after the real close of each session: 13:05 on a half day for five minutes.
    AfterClose(TimeDelta),
}

/// The last instant a schedule can name; nothing is due after it.
pub(super) const NEVER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// How far ahead a phase is looked for: far longer than any market was ever closed.
const PHASE_HORIZON: TimeDelta = TimeDelta::days(400);

impl Trigger {
    /// The first slot strictly after `after`; [`DateTime::MAX_UTC`] where there is none.
    pub fn next_after(&self, calendar: &Calendar, after: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Daily { at, zone } => next_daily(*at, *zone, after),
            Self::EveryWhile { every, phases } => next_while(calendar, *every, phases, after),
            Self::AfterClose(offset) => {
                let Some(shifted) = after.checked_sub_signed(*offset) else { return NEVER };
                calendar.next_close(shifted).checked_add_signed(*offset).unwrap_or(NEVER)
            }
        }
    }

    /// The slots in `(after, until]`.
    pub fn slots<'a>(
        &'a self,
        calendar: &'a Calendar,
        after: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> impl Iterator<Item = DateTime<Utc>> + 'a {
        let first = self.next_after(calendar, after);
        std::iter::successors(Some(first), |slot| Some(self.next_after(calendar, *slot)))
            .take_while(move |slot| *slot <= until && *slot < NEVER)
    }
}

fn next_daily(at: NaiveTime, zone: Tz, after: DateTime<Utc>) -> DateTime<Utc> {
    let today = after.with_timezone(&zone).date_naive();
    // A zone can be moved across the date line, so the search begins a day early and goes on past a date without the time.
    let first = today.checked_sub_days(Days::new(1)).unwrap_or(today);
    first.iter_days().take(5).map(|date| instant_of(date, at, zone)).find(|slot| *slot > after).unwrap_or(NEVER)
}

/// The instant of a wall-clock time: the first of two, or the first instant after the gap that swallowed it.
fn instant_of(date: NaiveDate, at: NaiveTime, zone: Tz) -> DateTime<Utc> {
    const MINUTES_OF_A_DAY: i64 = 24 * 60;
    let wall = date.and_time(at);
    // Gaps begin and end on whole minutes, so the first minute that exists again is cut to its start.
    let candidates = (0..=MINUTES_OF_A_DAY).filter_map(|minutes| {
        let shifted = wall.checked_add_signed(TimeDelta::minutes(minutes))?;
        match zone.from_local_datetime(&shifted) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => Some((minutes, instant.to_utc())),
            LocalResult::None => None,
        }
    });
    match candidates.into_iter().next() {
        Some((0, instant)) => instant,
        Some((_, instant)) => instant - TimeDelta::seconds(instant.timestamp().rem_euclid(60)),
        None => NEVER,
    }
}

fn next_while(calendar: &Calendar, every: TimeDelta, phases: &[Phase], after: DateTime<Utc>) -> DateTime<Utc> {
    let Some(horizon) = after.checked_add_signed(PHASE_HORIZON) else { return NEVER };
    calendar
        .spans(after, horizon)
        .filter(|span| phases.contains(&span.phase))
        .map(|span| (next_multiple(span.start, every, after), span.end))
        .find(|(slot, end)| slot < end)
        .map_or(NEVER, |(slot, _)| slot)
}

/// The first of `start`, `start + every`, ... that is after `after`.
fn next_multiple(start: DateTime<Utc>, every: TimeDelta, after: DateTime<Utc>) -> DateTime<Utc> {
    if after < start {
        return start;
    }
    let period = every.num_milliseconds().max(1);
    let passed = (after - start).num_milliseconds() / period + 1;
    start + TimeDelta::milliseconds(passed * period)
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daily { at, zone } => write!(f, "daily {} {zone}", at.format("%H:%M")),
            Self::EveryWhile { every, phases } => {
                let names: Vec<String> = phases.iter().map(ToString::to_string).collect();
                write!(f, "every {} s while {}", every.num_seconds(), names.join(", "))
            }
            Self::AfterClose(offset) => write!(f, "close + {} min", offset.num_minutes()),
        }
    }
}
