//! The compiled calendar: every change of phase in a range of years, in order, and indices into it.
//!
//! It holds phases and instants, not rules, so whatever a session has (a break, a halt, a night) is more boundaries and no
//! other code. A lookup allocates nothing.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike, Utc};

use super::layers::Layers;
use super::types::{Confidence, DayKind, Moment, Pause, Phase, Session, Span};
use super::zone::{Offsets, SECONDS_OF_A_DAY};

/// One change of phase.
#[derive(Debug, Clone, Copy)]
struct Boundary {
    /// Seconds since 1970 UTC; markets change their phase on whole seconds.
    start: i64,
    /// The same as a date and a second of it, because an answer must not pay for the division.
    day: NaiveDate,
    second: u32,
    /// Index of the session the phase belongs to; while closed, of the next session.
    session: u32,
    phase: Phase,
    /// Whether an operator's word lies behind the phase or, while closed, behind its length.
    operator: bool,
}

impl Boundary {
    fn new(start: i64, session: u32, phase: Phase, operator: bool) -> Self {
        let at = instant(start);
        Self { start, day: at.date_naive(), second: at.num_seconds_from_midnight(), session, phase, operator }
    }

    #[inline]
    fn instant(&self) -> DateTime<Utc> {
        let time = NaiveTime::from_num_seconds_from_midnight_opt(self.second, 0);
        self.day.and_time(time.unwrap_or(NaiveTime::MIN)).and_utc()
    }
}

/// One session.
#[derive(Debug, Clone, Copy)]
struct Record {
    date: NaiveDate,
    /// Index of its first boundary.
    first: u32,
    open: DateTime<Utc>,
    close: DateTime<Utc>,
    /// Index into `reasons`.
    reason: Option<u32>,
    kind: DayKind,
    closes_early: bool,
    operator: bool,
}

/// Boundaries and sessions of a range of years.
#[derive(Debug, Default)]
pub(super) struct Table {
    records: Vec<Record>,
    /// The first one stands for all time before.
    boundaries: Vec<Boundary>,
    /// For each UTC day from `first_day` on, the index of the boundary in force as it begins.
    days: Vec<u32>,
    first_day: i64,
    /// For each date from `first_date` on, how many sessions there are before it.
    dates: Vec<u32>,
    first_date: i32,
    reasons: Vec<Arc<str>>,
}

impl Table {
    /// Compiles the years from the first to the last, both included.
    pub(super) fn compile(layers: &Layers, (first_year, last_year): (i32, i32)) -> Self {
        let first = NaiveDate::from_ymd_opt(first_year, 1, 1).unwrap_or_default();
        let last = NaiveDate::from_ymd_opt(last_year, 12, 31).unwrap_or_default();
        let almanac = layers.almanac((first_year, last_year));
        let offsets = Offsets::of(layers.market.zone, first, last);
        let mut table = Self { first_date: first.num_days_from_ce(), ..Self::default() };
        table.boundaries.push(Boundary::new(i64::MIN, 0, Phase::Closed, false));
        let mut phases = Vec::with_capacity(8);
        for date in first.iter_days().take_while(|date| *date <= last) {
            let session = u32::try_from(table.records.len()).unwrap_or(u32::MAX);
            table.dates.push(session);
            let plan = layers.plan(date, &almanac);
            let Some(hours) = plan.hours else {
                if plan.operator
                    && let Some(closed) = table.boundaries.last_mut()
                {
                    closed.operator = true;
                }
                continue;
            };
            hours.phases(&mut phases);
            let utc = offsets.on(date);
            let reason = plan.why.map(|why| {
                table.reasons.push(Arc::clone(&why.reason));
                u32::try_from(table.reasons.len() - 1).unwrap_or(u32::MAX)
            });
            if hours.begun_by_operator
                && let Some(closed) = table.boundaries.last_mut()
            {
                closed.operator = true;
            }
            let boundaries = phases.iter().map(|(local, phase)| (utc(*local), *phase));
            let record = Record {
                date,
                first: u32::try_from(table.boundaries.len()).unwrap_or(u32::MAX),
                open: instant(utc(hours.open)),
                close: instant(utc(hours.close)),
                reason,
                kind: plan.kind,
                closes_early: hours.close < hours.usual.close,
                operator: plan.operator,
            };
            table.push(record, session, boundaries);
        }
        table.index();
        table
    }

    /// Adds a session. The last of its boundaries begins the time until the next one.
    fn push(&mut self, mut record: Record, session: u32, boundaries: impl Iterator<Item = (i64, Phase)>) {
        // A session that begins as the one before ends leaves no closed time between them.
        let mut begin = boundaries.peekable();
        if let Some((start, _)) = begin.peek()
            && self.boundaries.last().is_some_and(|last| last.start >= *start)
        {
            self.boundaries.pop();
            record.first -= 1;
        }
        while let Some((start, phase)) = begin.next() {
            let session = if begin.peek().is_some() { session } else { session + 1 };
            self.boundaries.push(Boundary::new(start, session, phase, record.operator));
        }
        self.records.push(record);
    }

    fn index(&mut self) {
        self.records.shrink_to_fit();
        self.boundaries.shrink_to_fit();
        let day_of = |boundary: &Boundary| boundary.start.div_euclid(SECONDS_OF_A_DAY);
        let [_, first, .., last] = self.boundaries.as_slice() else { return };
        let (first_day, mut index) = (day_of(first), 0_u32);
        let mut later = self.boundaries.iter().skip(1).peekable();
        let days = (first_day..=day_of(last)).map(|day| {
            while later.next_if(|boundary| boundary.start <= day * SECONDS_OF_A_DAY).is_some() {
                index += 1;
            }
            index
        });
        self.days = days.collect();
        self.first_day = first_day;
    }

    /// The seconds about which the table knows everything: with a session that has ended before, and a whole one to come after
    /// the one at hand.
    pub(super) fn seconds(&self) -> Range<i64> {
        match self.records.as_slice() {
            [_, second, .., last_but_one, _] => {
                self.boundaries[second.first as usize].start..last_but_one.open.timestamp()
            }
            _ => 0..0,
        }
    }

    /// The dates about which it knows whether they are sessions.
    pub(super) fn knows(&self, date: NaiveDate) -> bool {
        usize::try_from(date.num_days_from_ce() - self.first_date).is_ok_and(|index| index < self.dates.len())
    }

    /// Index of the boundary in force.
    #[inline]
    fn find(&self, second: i64) -> usize {
        let day = usize::try_from(second.div_euclid(SECONDS_OF_A_DAY) - self.first_day);
        let mut index = match day {
            Ok(day) => self.days.get(day).or(self.days.last()).map_or(0, |index| *index as usize),
            Err(_) => 0,
        };
        // A day has few boundaries: counting those that have passed costs less than asking one after the other.
        if let Some(next) = self.boundaries.get(index + 1..index + 5) {
            index += next.iter().map(|next| usize::from(next.start <= second)).sum::<usize>();
        }
        while self.boundaries.get(index + 1).is_some_and(|next| next.start <= second) {
            index += 1;
        }
        index
    }

    /// What is so at a second that the table knows. `confidence` is told whether an operator had a say.
    #[inline]
    pub(super) fn at(&self, second: i64, confidence: impl Fn(bool) -> Confidence) -> Moment {
        let index = self.find(second);
        let here = self.boundaries[index];
        let then = self.boundaries.get(index + 1);
        Moment {
            phase: here.phase,
            session: self.session_of(here),
            next_transition: then.map_or(DateTime::<Utc>::MAX_UTC, |then| then.instant()),
            next_phase: then.map_or(Phase::Closed, |then| then.phase),
            confidence: confidence(here.operator),
        }
    }

    /// The session of a phase; between two there is none.
    fn session_of(&self, boundary: Boundary) -> Option<NaiveDate> {
        let record = self.records.get(boundary.session as usize)?;
        (boundary.phase != Phase::Closed).then_some(record.date)
    }

    /// The span a second lies in.
    pub(super) fn span(&self, second: i64) -> Span {
        let index = self.find(second);
        let here = self.boundaries[index];
        Span {
            phase: here.phase,
            start: here.instant(),
            end: self.boundaries.get(index + 1).map_or(DateTime::<Utc>::MAX_UTC, |then| then.instant()),
            session: self.session_of(here),
        }
    }

    /// The first opening after an instant.
    #[inline]
    pub(super) fn next_open(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (here, next) = self.session_and_next(at);
        here.map(|record| record.open).filter(|open| at < *open).or_else(|| next.map(|record| record.open))
    }

    /// The first close after an instant.
    #[inline]
    pub(super) fn next_close(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (here, next) = self.session_and_next(at);
        here.map(|record| record.close).filter(|close| at < *close).or_else(|| next.map(|record| record.close))
    }

    /// The session under way or next, and the one after it.
    #[inline]
    fn session_and_next(&self, at: DateTime<Utc>) -> (Option<&Record>, Option<&Record>) {
        let session = self.boundaries[self.find(at.timestamp())].session as usize;
        (self.records.get(session), self.records.get(session + 1))
    }

    /// The session under way at a second, or the next one.
    pub(super) fn session_at(&self, second: i64, layers: &Layers) -> Option<Session> {
        let position = self.boundaries[self.find(second)].session as usize;
        self.records.get(position).map(|record| self.whole(position, record, layers))
    }

    /// The last close at or before an instant.
    #[inline]
    pub(super) fn previous_close(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let session = self.boundaries[self.find(at.timestamp())].session as usize;
        let here = self.records.get(session).map(|record| record.close).filter(|close| *close <= at);
        here.or_else(|| Some(self.records.get(session.checked_sub(1)?)?.close))
    }

    /// How many sessions there are before a date.
    #[inline]
    pub(super) fn position(&self, date: NaiveDate) -> Option<usize> {
        let index = usize::try_from(date.num_days_from_ce() - self.first_date).ok()?;
        self.dates.get(index).map(|position| *position as usize)
    }

    /// The date of a session by its place.
    #[inline]
    pub(super) fn date(&self, position: usize) -> Option<NaiveDate> {
        self.records.get(position).map(|record| record.date)
    }

    /// The session of a date.
    pub(super) fn session(&self, date: NaiveDate, layers: &Layers) -> Option<Session> {
        let position = self.position(date)?;
        self.records
            .get(position)
            .filter(|record| record.date == date)
            .map(|record| self.whole(position, record, layers))
    }

    fn whole(&self, position: usize, record: &Record, layers: &Layers) -> Session {
        let mut session = Session {
            date: record.date,
            kind: record.kind,
            closes_early: record.closes_early,
            overnight_open: None,
            pre_open: None,
            open: record.open,
            close: record.close,
            post_close: None,
            pauses: Vec::new(),
            reason: record.reason.and_then(|index| self.reasons.get(index as usize)).cloned(),
            confidence: layers.confidence(record.date, record.operator),
        };
        let own =
            self.boundaries[record.first as usize..].windows(2).take_while(|pair| pair[0].session as usize == position);
        for pair in own {
            let (start, end) = (pair[0].instant(), pair[1].instant());
            match pair[0].phase {
                Phase::Overnight => session.overnight_open = Some(start),
                Phase::Pre => session.pre_open = Some(start),
                Phase::Post => session.post_close = Some(end),
                phase @ (Phase::Break | Phase::Halt) => session.pauses.push(Pause { phase, start, end }),
                Phase::Regular | Phase::Closed => {}
            }
        }
        session
    }
}

/// Seconds beyond what can be written stand for the ends of time.
#[inline]
fn instant(seconds: i64) -> DateTime<Utc> {
    let end = if seconds < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp(seconds, 0).unwrap_or(end)
}
