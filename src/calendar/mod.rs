//! PURE: when a venue trades, to the second, and why it does not.
//!
//! Three layers make one immutable table: rules and hours (`config/calendar/*.toml`), dated exceptions (`*.csv` beside them,
//! and an operator's own), compiled (`table.rs`). There is no `now` in here: whoever asks brings the instant. This folder
//! knows nothing of the rest of the program.

mod answers;
mod calendars;
mod decided;
mod difference;
mod exceptions;
mod icalendar;
mod layers;
mod market;
mod reading;
mod rules;
mod table;
mod types;
mod zone;

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

pub use answers::{About, At, SessionRow, Why, utc};
pub use calendars::{Calendars, Operator, SharedCalendars};
pub use difference::{Change, differences};
pub use exceptions::{COLUMNS, Declared, Exception, ExceptionKind, MOST_ROWS, Mistake, Mistakes, Origin, Written};
pub use icalendar::icalendar;
use layers::Layers;
pub use reading::{read, read_csv};
use table::Table;
pub use types::{Confidence, Day, DayKind, Moment, Pause, Phase, Session, Span};

/// Years in the table where no others are asked for. Others are answered by the same layers, compiled for the question alone
/// and so ten thousand times slower.
const TABLE_YEARS: (i32, i32) = (1989, 2060);

/// A rehearsal asks about the years around it: so many before and after are in its table.
const REHEARSED_YEARS: (i32, i32) = (2, 3);

/// Beyond these years no session is known.
const KNOWABLE_YEARS: (i32, i32) = (1700, 9000);

/// The calendar of one venue. Cheap to ask, never changes.
#[derive(Debug)]
pub struct Calendar {
    layers: Layers,
    table: Table,
    /// The seconds for which the table has every answer.
    known: Range<i64>,
    /// The seconds for which the exchange has spoken itself.
    official: Range<i64>,
    version: Arc<str>,
    hash: Arc<str>,
}

impl Calendar {
    fn compile(layers: Layers, hash: Arc<str>, years: (i32, i32)) -> Self {
        let table = Table::compile(&layers, years);
        let (first, last) = layers.official();
        let midnight = |date: NaiveDate| zone::utc_seconds(layers.market.zone, date, 0);
        let official = midnight(first)..last.succ_opt().map_or(i64::MAX, midnight);
        Self { known: table.seconds(), table, official, version: calendars::version_of(&hash), hash, layers }
    }

    /// The market identifier code (ISO 10383).
    pub fn mic(&self) -> &str {
        &self.layers.venue().mic
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.layers.venue().name
    }

    /// The market it belongs to: venues of one market share their days.
    pub fn market(&self) -> &str {
        &self.layers.market.name
    }

    /// The zone its hours are in.
    pub fn zone(&self) -> Tz {
        self.layers.market.zone
    }

    /// Revision of the rules and the beginning of the hash: two calendars with one version give the same answers.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// SHA-256 of everything the answers follow from, in hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What the venue is and how far it is published, without its sessions.
    pub fn about(&self) -> About {
        About::of(&self.layers.market, self.layers.venue, self.layers.known_at, &self.hash)
    }

    /// The last date the exchange has published, and where.
    pub fn horizon(&self) -> (NaiveDate, Option<&str>) {
        self.layers.market.horizon(self.layers.known_at)
    }

    /// Whether the exchange should have published more by `now`: less than thirteen months are left.
    pub fn is_horizon_near(&self, now: DateTime<Utc>) -> bool {
        let needed = now.date_naive().checked_add_months(chrono::Months::new(13));
        needed.is_none_or(|needed| self.horizon().0 < needed)
    }

    /// What the clock on the wall of the market shows at an instant.
    pub fn wall(&self, at: DateTime<Utc>) -> NaiveDateTime {
        zone::wall_of(self.zone(), at)
    }

    /// The date on the wall of the market at an instant.
    pub fn local_date(&self, at: DateTime<Utc>) -> NaiveDate {
        self.wall(at).date()
    }

    /// What sort of date `date` is, and why.
    pub fn why(&self, date: NaiveDate) -> Day {
        self.layers.day(date, (KNOWABLE_YEARS.0..=KNOWABLE_YEARS.1).contains(&date.year()))
    }

    /// The hours of the session of `date`; `None` where the market does not trade.
    pub fn session(&self, date: NaiveDate) -> Option<Session> {
        if self.table.knows(date) {
            return self.table.session(date, &self.layers);
        }
        self.compiled_for(date.year(), date.year()).session(date, &self.layers)
    }

    /// Everything about the instant `at`. Before the first and after the last knowable session the market is closed.
    #[inline]
    pub fn at(&self, at: DateTime<Utc>) -> Moment {
        // Markets change their phase on whole seconds, so the second an instant lies in decides.
        let second = at.timestamp();
        let confidence = |operator| match operator {
            true => Confidence::Operator,
            false if self.official.contains(&second) => Confidence::Official,
            false => Confidence::Rule,
        };
        if self.known.contains(&second) {
            return self.table.at(second, confidence);
        }
        self.around(at).at(second, confidence)
    }

    /// The session under way at an instant, or the next one; `None` after the last knowable one.
    pub fn session_at(&self, at: DateTime<Utc>) -> Option<Session> {
        self.ask(at, |table| table.session_at(at.timestamp(), &self.layers))
    }

    /// The session that was last opened at or before an instant: the one under way, halted or not, or the last one.
    pub fn latest_session(&self, at: DateTime<Utc>) -> Option<Session> {
        let session = self.session_at(at)?;
        if session.open <= at { Some(session) } else { self.previous_session(session.date) }
    }

    /// The next opening of a regular session, strictly after `at`; the end of time where there is none.
    pub fn next_open(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.ask(at, |table| table.next_open(at)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The next close of a regular session, strictly after `at`; the end of time where there is none.
    pub fn next_close(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.ask(at, |table| table.next_close(at)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The last close of a regular session at or before `at`; the beginning of time where there is none.
    pub fn previous_close(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.ask(at, |table| table.previous_close(at)).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// The sessions from `from` to `to`, both included.
    pub fn sessions(&self, from: NaiveDate, to: NaiveDate) -> impl Iterator<Item = Session> + '_ {
        let years = from.year().max(KNOWABLE_YEARS.0)..=to.year().min(KNOWABLE_YEARS.1);
        years.flat_map(move |year| {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or(from).max(from);
            let last = NaiveDate::from_ymd_opt(year, 12, 31).unwrap_or(to).min(to);
            let dates = first.iter_days().take_while(|date| *date <= last);
            if self.table.knows(first) && self.table.knows(last) {
                return dates.filter_map(|date| self.table.session(date, &self.layers)).collect::<Vec<_>>();
            }
            let table = self.compiled_for(year, year);
            dates.filter_map(|date| table.session(date, &self.layers)).collect()
        })
    }

    /// The date of the session so many sessions after `date`, or before it where `n` is negative; for zero `date` itself if it
    /// is one. `None` where there is none such, or it lies beyond what is knowable.
    pub fn nth_session(&self, date: NaiveDate, n: i32) -> Option<NaiveDate> {
        let Some(position) = self.table.position(date) else { return self.nth_session_far(date, n) };
        let is_session = self.table.date(position) == Some(date);
        if n == 0 {
            return is_session.then_some(date);
        }
        let to_next = usize::from(!is_session && n > 0);
        let target = position.checked_add_signed(n as isize).and_then(|target| target.checked_sub(to_next));
        target.and_then(|target| self.table.date(target)).or_else(|| self.nth_session_far(date, n))
    }

    /// The same, year by year, for what lies outside of the table.
    fn nth_session_far(&self, date: NaiveDate, n: i32) -> Option<NaiveDate> {
        let count = usize::try_from(n.unsigned_abs()).ok()?;
        match n {
            0 => self.session(date).map(|session| session.date),
            1.. => self.sessions(date.succ_opt()?, NaiveDate::MAX).nth(count - 1).map(|session| session.date),
            ..0 => {
                let last = date.pred_opt()?;
                let years = (KNOWABLE_YEARS.0..=last.year().min(KNOWABLE_YEARS.1)).rev();
                let mut dates = years.flat_map(|year| {
                    let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or(last);
                    let end = NaiveDate::from_ymd_opt(year, 12, 31).unwrap_or(last).min(last);
                    let mut dates: Vec<_> = self.sessions(first, end).map(|session| session.date).collect();
                    dates.reverse();
                    dates
                });
                dates.nth(count - 1)
            }
        }
    }

    /// The first session after `date`.
    pub fn next_session(&self, date: NaiveDate) -> Option<Session> {
        self.session(self.nth_session(date, 1)?)
    }

    /// The last session before `date`.
    pub fn previous_session(&self, date: NaiveDate) -> Option<Session> {
        self.session(self.nth_session(date, -1)?)
    }

    /// The starts of the minutes of the session of `date` that lie in one of `phases`, in order.
    pub fn minutes<'a>(&'a self, date: NaiveDate, phases: &'a [Phase]) -> impl Iterator<Item = DateTime<Utc>> + 'a {
        let session = self.session(date);
        let spans = session.into_iter().flat_map(|session| self.spans(session.start(), session.end()));
        spans.filter(move |span| span.session == Some(date) && phases.contains(&span.phase)).flat_map(|span| {
            std::iter::successors(Some(span.start), |minute| minute.checked_add_signed(TimeDelta::minutes(1)))
                .take_while(move |minute| *minute < span.end)
        })
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

    /// The phase at `at`, from its start to its end.
    pub fn span_at(&self, at: DateTime<Utc>) -> Span {
        self.ask(at, |table| table.span(at.timestamp()))
    }

    fn ask<T>(&self, at: DateTime<Utc>, question: impl FnOnce(&Table) -> T) -> T {
        if self.known.contains(&at.timestamp()) { question(&self.table) } else { question(&self.around(at)) }
    }

    /// The years around an instant that the table does not hold: the answer may lie in the year before or after.
    #[cold]
    fn around(&self, at: DateTime<Utc>) -> Table {
        let year = at.year().clamp(KNOWABLE_YEARS.0, KNOWABLE_YEARS.1);
        self.compiled_for(year - 1, year + 1)
    }

    fn compiled_for(&self, first: i32, last: i32) -> Table {
        let within = |year: i32| year.clamp(KNOWABLE_YEARS.0, KNOWABLE_YEARS.1);
        Table::compile(&self.layers, (within(first), within(last)))
    }
}

#[cfg(test)]
mod tests;
