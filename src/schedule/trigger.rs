//! When a job is due.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::wall::{self, ClockChange, Gap, NEVER, Repeat};
use crate::calendar::{Calendar, Phase};

/// A rule that gives instants. Pure: the same calendar and the same `after` give the same slot. Written and read as
/// docs/schedule.md says.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// Once each calendar date at a wall-clock time of a zone.
    Daily {
        /// Wall-clock time.
        at: NaiveTime,
        /// Where the clock hangs.
        zone: Tz,
        /// What on the nights the clocks change.
        change: ClockChange,
    },
    /// Once each session date of the calendar, at a wall-clock time of its zone.
    SessionDay {
        /// Wall-clock time.
        at: NaiveTime,
        /// What on the nights the clocks change.
        change: ClockChange,
    },
    /// Whenever the wall clock of a zone shows what a cron pattern says.
    Cron {
        /// Five fields, or six with seconds first.
        pattern: CronPattern,
        /// Where the clock hangs.
        zone: Tz,
        /// What on the nights the clocks change.
        change: ClockChange,
    },
    /// Every so long while the market is in one of the phases, counted from the start of the phase, in elapsed time.
    EveryWhile {
        /// The spacing; more than zero.
        every: TimeDelta,
        /// The phases.
        phases: Vec<Phase>,
    },
    /// Once at the start of each stretch of time that the market spends in these phases: for what is to run all through it.
    While {
        /// The phases; neighbouring ones are one stretch.
        phases: Vec<Phase>,
    },
    /// Every so long, counted from 1970-01-01T00:00:00Z, in elapsed time.
    Every(TimeDelta),
    /// So long before (negative) or after the real opening of each session.
    Open(TimeDelta),
    /// The same of the real close: 13:05 on a half day for five minutes after it.
    Close(TimeDelta),
    /// Once.
    At(DateTime<Utc>),
}

/// A cron pattern that was understood.
#[derive(Debug, Clone)]
pub struct CronPattern(Arc<croner::Cron>);

impl PartialEq for CronPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl CronPattern {
    /// Reads five fields, or six with seconds first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional).build();
        parser
            .parse(text)
            .map(|cron| Self(Arc::new(cron)))
            .map_err(|fault| format!("{text:?} is no cron pattern: {fault}"))
    }

    /// Whether it is due hour by hour, so that an hour that comes twice is two hours to it and one that is left out is none.
    pub(super) fn is_hourly(&self) -> bool {
        let fields: Vec<&str> = self.0.as_str().split_whitespace().collect();
        let hours = fields.get(fields.len().saturating_sub(4)).copied().unwrap_or_default();
        hours.starts_with('*')
    }

    /// The first wall-clock time at or after `from` that it names. The crate is asked in UTC, where no clock ever changes: what
    /// becomes of a wall-clock time on those nights is decided here (`wall.rs`).
    fn next(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        self.0.find_next_occurrence(&from.and_utc(), true).ok().map(|found| found.naive_utc())
    }
}

impl fmt::Display for CronPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// How far ahead a phase is looked for: far longer than any market was ever closed.
const PHASE_HORIZON: TimeDelta = TimeDelta::days(400);

impl Trigger {
    /// The first slot strictly after `after`; [`DateTime::MAX_UTC`] where there is none.
    pub fn next_after(&self, calendar: &Calendar, after: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Daily { at, zone, change } => wall::next_after(|from| next_daily(*at, from), *zone, *change, after),
            Self::Cron { pattern, zone, change } => wall::next_after(|from| pattern.next(from), *zone, *change, after),
            Self::SessionDay { at, change } => {
                let next = |from| next_session_day(calendar, *at, from);
                wall::next_after(next, calendar.zone(), *change, after)
            }
            Self::EveryWhile { every, phases } => next_while(calendar, *every, phases, after),
            Self::While { phases } => next_stretch(calendar, phases, after),
            Self::Every(every) => next_multiple(DateTime::UNIX_EPOCH, *every, after),
            Self::Open(offset) => shifted(after, *offset, |after| calendar.next_open(after)),
            Self::Close(offset) => shifted(after, *offset, |after| calendar.next_close(after)),
            Self::At(at) if after < *at => *at,
            Self::At(_) => NEVER,
        }
    }

    /// When what began at `slot` has lost its sense: the end of the phase, or of the stretch of phases, that it belongs to.
    pub fn window_end(&self, calendar: &Calendar, slot: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::While { phases } => calendar
                .spans(slot, slot.checked_add_signed(PHASE_HORIZON).unwrap_or(NEVER))
                .find(|span| !phases.contains(&span.phase))
                .map_or(slot, |span| span.start.max(slot)),
            _ => calendar.at(slot).next_transition,
        }
    }

    /// Whether it only comes on days on which the market trades.
    pub fn follows_sessions(&self) -> bool {
        match self {
            Self::SessionDay { .. } | Self::EveryWhile { .. } | Self::While { .. } | Self::Open(_) | Self::Close(_) => {
                true
            }
            Self::Daily { .. } | Self::Cron { .. } | Self::Every(_) | Self::At(_) => false,
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

fn next_daily(at: NaiveTime, from: NaiveDateTime) -> Option<NaiveDateTime> {
    let date = if from.time() <= at { from.date() } else { from.date().succ_opt()? };
    Some(date.and_time(at))
}

fn next_session_day(calendar: &Calendar, at: NaiveTime, from: NaiveDateTime) -> Option<NaiveDateTime> {
    let today = if from.time() <= at { calendar.nth_session(from.date(), 0) } else { None };
    Some(today.or_else(|| calendar.nth_session(from.date(), 1))?.and_time(at))
}

/// The first of the instants that `next` gives, each moved by `offset`, that is after `after`.
fn shifted(after: DateTime<Utc>, offset: TimeDelta, next: impl Fn(DateTime<Utc>) -> DateTime<Utc>) -> DateTime<Utc> {
    let Some(before) = after.checked_sub_signed(offset) else { return NEVER };
    next(before).checked_add_signed(offset).unwrap_or(NEVER)
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

fn next_stretch(calendar: &Calendar, phases: &[Phase], after: DateTime<Utc>) -> DateTime<Utc> {
    let Some(horizon) = after.checked_add_signed(PHASE_HORIZON) else { return NEVER };
    let mut within = false;
    for span in calendar.spans(after, horizon) {
        let begins = !within && phases.contains(&span.phase);
        if begins && span.start > after {
            return span.start;
        }
        within = phases.contains(&span.phase);
    }
    NEVER
}

/// The first of `start`, `start + every`, ... that is after `after`.
fn next_multiple(start: DateTime<Utc>, every: TimeDelta, after: DateTime<Utc>) -> DateTime<Utc> {
    if after < start {
        return start;
    }
    let period = every.num_milliseconds().max(1);
    let passed = (after - start).num_milliseconds() / period + 1;
    start.checked_add_signed(TimeDelta::milliseconds(passed.saturating_mul(period))).unwrap_or(NEVER)
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daily { at, zone, change } => write!(f, "daily {} {zone}{}", wall_time(*at), changes(*change, false)),
            Self::SessionDay { at, change } => write!(f, "session-day {}{}", wall_time(*at), changes(*change, false)),
            Self::Cron { pattern, zone, change } => {
                write!(f, "cron {pattern} {zone}{}", changes(*change, pattern.is_hourly()))
            }
            Self::EveryWhile { every, phases } => {
                let names: Vec<String> = phases.iter().map(ToString::to_string).collect();
                write!(f, "every {} while {}", span(*every), names.join(","))
            }
            Self::While { phases } => {
                let names: Vec<String> = phases.iter().map(ToString::to_string).collect();
                write!(f, "while {}", names.join(","))
            }
            Self::Every(every) => write!(f, "every {}", span(*every)),
            Self::Open(offset) => write!(f, "open{}", signed(*offset)),
            Self::Close(offset) => write!(f, "close{}", signed(*offset)),
            Self::At(at) => write!(f, "at {}", at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
        }
    }
}

fn wall_time(at: NaiveTime) -> String {
    let text = at.format("%H:%M:%S").to_string();
    text.strip_suffix(":00").map(str::to_owned).unwrap_or(text)
}

/// Only what is not so by itself is written.
fn changes(change: ClockChange, hourly: bool) -> String {
    let usual = usual_change(hourly);
    let gap = (change.gap != usual.gap).then(|| format!(" gap {}", change.gap));
    let overlap = (change.overlap != usual.overlap).then(|| format!(" overlap {}", change.overlap));
    [gap, overlap].into_iter().flatten().collect()
}

/// What a trigger does on the nights the clocks change where nothing is said.
pub(super) fn usual_change(hourly: bool) -> ClockChange {
    if hourly { ClockChange { gap: Gap::Skip, overlap: Repeat::Both } } else { ClockChange::default() }
}

/// A span in its largest whole unit.
fn span(span: TimeDelta) -> String {
    let seconds = span.num_seconds();
    match () {
        () if seconds != 0 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        () if seconds != 0 && seconds % 60 == 0 && seconds >= 300 => format!("{}m", seconds / 60),
        () => format!("{seconds}s"),
    }
}

fn signed(offset: TimeDelta) -> String {
    match offset.num_seconds() {
        0 => String::new(),
        1.. => format!("+{}", span(offset)),
        ..0 => format!("-{}", span(-offset)),
    }
}
