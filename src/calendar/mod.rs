//! PURE: when the exchange trades, to the second, and why it does not.
//!
//! Three layers make one immutable table: rules (`rules.rs`), the hours of a venue (a template), dated exceptions
//! (`config/calendar/xnys.csv`). There is no `now` in here: whoever asks brings the instant. This folder knows nothing of
//! the rest of the program.

mod exceptions;
mod rules;
mod types;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};

use exceptions::Exception;
pub use types::{Confidence, Day, DayKind, Moment, Phase, Session, Span};

const XNYS_EXCEPTIONS: &str = include_str!("../../config/calendar/xnys.csv");

/// Counted up with every change of the rules or the hours, so that the version of the calendar tells it.
const RULES_REVISION: &str = "1";

/// What the exchange has published: holidays and early closes up to the end of 2028.
const OFFICIAL: (i32, i32) = (1990, 2028);

/// Years in the table. Others are answered by the same rules, compiled for the question alone and so a thousand times slower.
const TABLE_YEARS: (i32, i32) = (1985, 2060);

/// Beyond these years no session is known: the first or the last one of them is the answer.
const KNOWABLE_YEARS: (i32, i32) = (1700, 9000);

/// Hours of a venue, in its local time.
#[derive(Debug, Clone, Copy)]
struct Template {
    pre_open: NaiveTime,
    open: NaiveTime,
    close: NaiveTime,
    post_close: NaiveTime,
    /// End of the late session on a day that closes early.
    early_post_close: NaiveTime,
}

const fn hour(hour: u32, minute: u32) -> NaiveTime {
    match NaiveTime::from_hms_opt(hour, minute, 0) {
        Some(time) => time,
        None => NaiveTime::MIN,
    }
}

/// NYSE core session 09:30-16:00 (Rule 7.34); pre and post as the consolidated tape runs, the late session of a half day to
/// 17:00 (the exchange's announcements since 2019-12-09).
const XNYS: Template = Template {
    pre_open: hour(4, 0),
    open: hour(9, 30),
    close: hour(16, 0),
    post_close: hour(20, 0),
    early_post_close: hour(17, 0),
};

/// The calendar of one exchange. Cheap to ask, never changes.
#[derive(Debug)]
pub struct Calendar {
    mic: &'static str,
    zone: Tz,
    template: Template,
    exceptions: BTreeMap<NaiveDate, Exception>,
    version: String,
    /// Sessions of the table's years in order.
    table: Vec<Session>,
}

impl Calendar {
    /// The New York Stock Exchange.
    ///
    /// # Panics
    /// Never: the built-in file is read by a test of every build.
    pub fn xnys() -> Self {
        let exceptions = exceptions::parse(XNYS_EXCEPTIONS).unwrap_or_default();
        let mut calendar = Self {
            mic: "XNYS",
            zone: chrono_tz::America::New_York,
            template: XNYS,
            exceptions,
            version: version_of(XNYS_EXCEPTIONS),
            table: Vec::new(),
        };
        calendar.table = calendar.compile(TABLE_YEARS.0, TABLE_YEARS.1);
        calendar
    }

    /// The market identifier code (ISO 10383).
    pub fn mic(&self) -> &str {
        self.mic
    }

    /// The zone its hours are in.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Revision of the rules and hash of the exceptions: two calendars with one version give the same answers.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What sort of date `date` is, and why.
    pub fn day(&self, date: NaiveDate) -> Day {
        let official = (OFFICIAL.0..=OFFICIAL.1).contains(&date.year());
        let confidence = if official { Confidence::Official } else { Confidence::Rule };
        let day = |kind: DayKind, reason: Option<&str>| Day {
            date,
            kind,
            is_session: kind.is_session(),
            reason: reason.map(Arc::from),
            source: reason.map(|_| Arc::from("NYSE Rule 7.2 and yearly announcements")),
            declared_at: None,
            confidence,
        };
        if let Some(exception) = self.exceptions.get(&date) {
            return Day {
                reason: Some(Arc::clone(&exception.reason)),
                source: Some(Arc::clone(&exception.source)),
                declared_at: exception.declared_at,
                ..day(exception.kind, None)
            };
        }
        if matches!(date.weekday(), Weekday::Sat | Weekday::Sun) {
            return day(DayKind::Weekend, None);
        }
        if let Some(holiday) = rules::holiday_on(date) {
            return day(DayKind::Holiday, Some(holiday));
        }
        match rules::early_close_on(date) {
            Some((_, reason)) => day(DayKind::EarlyClose, Some(reason)),
            None => day(DayKind::Full, None),
        }
    }

    /// The hours of the session of `date`; `None` where the market does not trade.
    pub fn session(&self, date: NaiveDate) -> Option<Session> {
        let day = self.day(date);
        if !day.is_session {
            return None;
        }
        let exception = self.exceptions.get(&date);
        let open = exception.and_then(|exception| exception.open).unwrap_or(self.template.open);
        let close = exception.and_then(|exception| exception.close);
        let close =
            close.or_else(|| rules::early_close_on(date).map(|(close, _)| close)).unwrap_or(self.template.close);
        let early = close < self.template.close;
        let post_close = if early { self.template.early_post_close } else { self.template.post_close };
        Some(Session {
            date,
            kind: day.kind,
            pre_open: self.instant(date, self.template.pre_open)?,
            open: self.instant(date, open)?,
            close: self.instant(date, close)?,
            // A close in the last minutes of the day leaves the late session as it always is.
            post_close: self.instant(date, post_close.max(close))?,
            reason: day.reason,
        })
    }

    /// Everything about the instant `at`. Before the first and after the last knowable session the market is closed, and the
    /// next transition is the end of time.
    pub fn at(&self, at: DateTime<Utc>) -> Moment {
        let sessions = self.around(at);
        let index = sessions.partition_point(|session| session.post_close <= at);
        let Some(session) = sessions.get(index) else { return end_of_time() };
        let next = sessions.get(index + 1);
        let (phase, next_transition, next_phase) = phase_in(session, at);
        let never = DateTime::<Utc>::MAX_UTC;
        let upcoming = |instant: fn(&Session) -> DateTime<Utc>| {
            if at < instant(session) { instant(session) } else { next.map_or(never, instant) }
        };
        let inside = phase != Phase::Closed;
        Moment {
            phase,
            session: inside.then_some(session.date),
            next_transition,
            next_phase,
            next_open: upcoming(|session| session.open),
            next_close: upcoming(|session| session.close),
            is_early_close: session.kind == DayKind::EarlyClose,
            confidence: self.confidence(at),
            reason: if inside { session.reason.clone() } else { None },
        }
    }

    /// The sessions from `from` to `to`, both included.
    pub fn sessions(&self, from: NaiveDate, to: NaiveDate) -> impl Iterator<Item = Session> + '_ {
        from.iter_days().take_while(move |date| *date <= to).filter_map(|date| self.session(date))
    }

    /// The first session after `date`; the last knowable one where there is none.
    pub fn next_session(&self, date: NaiveDate) -> Session {
        let last = self.clamped(date, |year| year.min(KNOWABLE_YEARS.1));
        let found = last.iter_days().skip(1).take(400).find_map(|date| self.session(date));
        found.unwrap_or_else(|| self.edge(KNOWABLE_YEARS.1))
    }

    /// The last session before `date`; the first knowable one where there is none.
    pub fn previous_session(&self, date: NaiveDate) -> Session {
        let first = self.clamped(date, |year| year.max(KNOWABLE_YEARS.0));
        let days = std::iter::successors(first.pred_opt(), NaiveDate::pred_opt);
        days.take(400).find_map(|date| self.session(date)).unwrap_or_else(|| self.edge(KNOWABLE_YEARS.0))
    }

    /// The next opening of a regular session, strictly after `at`.
    pub fn next_open(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.at(at).next_open
    }

    /// The next close of a regular session, strictly after `at`.
    pub fn next_close(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.at(at).next_close
    }

    /// The last close of a regular session at or before `at`.
    pub fn previous_close(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let sessions = self.around(at);
        let index = sessions.partition_point(|session| session.close <= at);
        index
            .checked_sub(1)
            .and_then(|index| sessions.get(index))
            .map_or(DateTime::<Utc>::MIN_UTC, |session| session.close)
    }

    /// The phases that tile the time from `from` to `to`, in order; the first and the last are not cut.
    pub fn spans(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = Span> + '_ {
        let first = (from < to).then(|| self.span_at(from));
        std::iter::successors(first, move |span| (span.end < to).then(|| self.span_at(span.end)))
    }

    /// How much of the regular phase lies between two instants: time as the market counts it. Zero when `to` is not later.
    pub fn open_time_between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> TimeDelta {
        let regular = self.spans(from, to).filter(|span| span.phase == Phase::Regular);
        regular.map(|span| span.end.min(to) - span.start.max(from)).sum()
    }

    fn span_at(&self, at: DateTime<Utc>) -> Span {
        let sessions = self.around(at);
        let index = sessions.partition_point(|session| session.post_close <= at);
        let before = index.checked_sub(1).and_then(|index| sessions.get(index));
        let closed_since = before.map_or(DateTime::<Utc>::MIN_UTC, |session| session.post_close);
        let Some(session) = sessions.get(index) else {
            return Span { phase: Phase::Closed, start: closed_since, end: DateTime::<Utc>::MAX_UTC, session: None };
        };
        let (phase, end, _) = phase_in(session, at);
        let start = match phase {
            Phase::Pre => session.pre_open,
            Phase::Regular => session.open,
            Phase::Post => session.close,
            _ => closed_since,
        };
        Span { phase, start, end, session: (phase != Phase::Closed).then_some(session.date) }
    }

    fn confidence(&self, at: DateTime<Utc>) -> Confidence {
        let year = at.with_timezone(&self.zone).year();
        if (OFFICIAL.0..=OFFICIAL.1).contains(&year) { Confidence::Official } else { Confidence::Rule }
    }

    /// The sessions of the table, or of the years around an instant that it does not hold.
    fn around(&self, at: DateTime<Utc>) -> Cow<'_, [Session]> {
        let year = at.year();
        // A year of distance to the edges, because the answer may lie in the year before or after.
        if (TABLE_YEARS.0 + 1..TABLE_YEARS.1).contains(&year) {
            return Cow::Borrowed(&self.table);
        }
        let year = year.clamp(KNOWABLE_YEARS.0, KNOWABLE_YEARS.1);
        Cow::Owned(self.compile(year - 1, year + 1))
    }

    fn compile(&self, first_year: i32, last_year: i32) -> Vec<Session> {
        let first = NaiveDate::from_ymd_opt(first_year.max(KNOWABLE_YEARS.0), 1, 1).unwrap_or_default();
        let last = NaiveDate::from_ymd_opt(last_year.min(KNOWABLE_YEARS.1), 12, 31).unwrap_or_default();
        self.sessions(first, last).collect()
    }

    fn clamped(&self, date: NaiveDate, limit: impl Fn(i32) -> i32) -> NaiveDate {
        let year = limit(date.year());
        if year == date.year() { date } else { NaiveDate::from_ymd_opt(year, 7, 1).unwrap_or(date) }
    }

    fn edge(&self, year: i32) -> Session {
        let mid_year = NaiveDate::from_ymd_opt(year, 7, 1).unwrap_or_default();
        let found = mid_year.iter_days().take(30).find_map(|date| self.session(date));
        found.unwrap_or(Session {
            date: mid_year,
            kind: DayKind::Full,
            pre_open: DateTime::<Utc>::MAX_UTC,
            open: DateTime::<Utc>::MAX_UTC,
            close: DateTime::<Utc>::MAX_UTC,
            post_close: DateTime::<Utc>::MAX_UTC,
            reason: None,
        })
    }

    /// New York never changes its clocks while the market trades, so a session's times exist and are single.
    fn instant(&self, date: NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
        match self.zone.from_local_datetime(&date.and_time(time)) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => Some(instant.to_utc()),
            LocalResult::None => None,
        }
    }
}

/// The phase at `at` with respect to the first session that has not ended, the end of the phase, and the phase after it.
fn phase_in(session: &Session, at: DateTime<Utc>) -> (Phase, DateTime<Utc>, Phase) {
    if at < session.pre_open {
        (Phase::Closed, session.pre_open, Phase::Pre)
    } else if at < session.open {
        (Phase::Pre, session.open, Phase::Regular)
    } else if at < session.close {
        (Phase::Regular, session.close, Phase::Post)
    } else {
        (Phase::Post, session.post_close, Phase::Closed)
    }
}

fn end_of_time() -> Moment {
    let never = DateTime::<Utc>::MAX_UTC;
    Moment {
        phase: Phase::Closed,
        session: None,
        next_transition: never,
        next_phase: Phase::Closed,
        next_open: never,
        next_close: never,
        is_early_close: false,
        confidence: Confidence::Rule,
        reason: None,
    }
}

fn version_of(exceptions: &str) -> String {
    let digest = Sha256::digest(exceptions.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{RULES_REVISION}-{hash}")
}

#[cfg(test)]
mod tests;
