//! The answers of the calendar as the command line and HTTP give them: one shape for both.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde::Serialize;

use super::calendars::version_of;
use super::market::Market;
use super::{Calendar, Confidence, Day, DayKind, Phase, Session};

/// RFC 3339 in UTC with `Z`, as short as it is exact. The ends of time, which stand for "never", are `None`.
pub fn utc(at: DateTime<Utc>) -> Option<String> {
    let never = at == DateTime::<Utc>::MAX_UTC || at == DateTime::<Utc>::MIN_UTC;
    (!never).then(|| at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Everything about one instant at one venue.
#[derive(Debug, Clone, Serialize)]
pub struct At {
    /// MIC of the venue.
    pub exchange: String,
    /// The instant that was asked for.
    pub at: Option<String>,
    /// What the market is doing.
    pub phase: Phase,
    /// The session the phase belongs to.
    pub session: Option<NaiveDate>,
    /// When the phase ends.
    pub next_transition: Option<String>,
    /// What comes then.
    pub next_phase: Phase,
    /// The next opening, strictly later.
    pub next_open: Option<String>,
    /// The next close, strictly later.
    pub next_close: Option<String>,
    /// Whether the session under way, or the next one, closes early.
    pub is_early_close: bool,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why the session, or the date, is not as usual.
    pub reason: Option<Arc<str>>,
    /// The calendar that answered.
    pub calendar_version: String,
}

impl At {
    /// Asks `calendar` about `at`.
    pub fn ask(calendar: &Calendar, at: DateTime<Utc>) -> Self {
        let moment = calendar.at(at);
        let session = calendar.session_at(at);
        let under_way = session.as_ref().filter(|session| Some(session.date) == moment.session);
        let reason = match under_way {
            Some(session) => session.reason.clone(),
            None => calendar.why(calendar.local_date(at)).reason,
        };
        Self {
            exchange: calendar.mic().to_owned(),
            at: utc(at),
            phase: moment.phase,
            session: moment.session,
            next_transition: utc(moment.next_transition),
            next_phase: moment.next_phase,
            next_open: utc(calendar.next_open(at)),
            next_close: utc(calendar.next_close(at)),
            is_early_close: session.is_some_and(|session| session.closes_early),
            confidence: moment.confidence,
            reason,
            calendar_version: calendar.version().to_owned(),
        }
    }
}

/// What a venue is, and how far its holidays are published.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// MIC of the venue.
    pub exchange: String,
    /// Its name for people.
    pub name: String,
    /// The market whose days it shares.
    pub market: String,
    /// The zone its hours are in.
    pub zone: &'static str,
    /// The last date the exchange has published.
    pub published_until: NaiveDate,
    /// Where.
    pub published_in: Option<String>,
    /// Whether its hours have night sessions, held or not.
    pub has_overnight: bool,
    /// The version that answers for it.
    pub calendar_version: String,
    /// SHA-256 of everything its answers follow from.
    pub calendar_hash: String,
    /// The embedded zone data.
    pub tzdb_version: &'static str,
}

impl About {
    pub(super) fn of(market: &Market, venue: usize, known_at: Option<DateTime<Utc>>, hash: &str) -> Self {
        let (published_until, source) = market.horizon(known_at);
        let venue = &market.venues[venue];
        Self {
            exchange: venue.mic.to_string(),
            name: venue.name.to_string(),
            market: market.name.to_string(),
            zone: market.zone.name(),
            published_until,
            published_in: source.map(str::to_owned),
            has_overnight: venue.hours.iter().any(|hours| hours.overnight.is_some()),
            calendar_version: version_of(hash).to_string(),
            calendar_hash: hash.to_owned(),
            tzdb_version: chrono_tz::IANA_TZDB_VERSION,
        }
    }
}

/// Why a date is as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// The date.
    pub date: NaiveDate,
    /// Whether the market trades.
    pub is_session: bool,
    /// What sort of date it is.
    pub kind: DayKind,
    /// Why it is not an ordinary one.
    pub reason: Option<Arc<str>>,
    /// Who says so.
    pub source: Option<Arc<str>>,
    /// When it was announced, where that is known.
    pub declared_at: Option<Arc<str>>,
    /// How sure it is.
    pub confidence: Confidence,
}

impl From<Day> for Why {
    fn from(day: Day) -> Self {
        let Day { date, is_session, kind, reason, source, declared_at, confidence, .. } = day;
        Self { date, is_session, kind, reason, source, declared_at, confidence }
    }
}

/// One session, as `export` and the list of sessions give it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionRow {
    /// Its date.
    pub session: NaiveDate,
    /// Start of the phase before the opening.
    pub pre_open: Option<String>,
    /// The opening.
    pub open: Option<String>,
    /// Start of the break it always has.
    pub break_start: Option<String>,
    /// End of that break.
    pub break_end: Option<String>,
    /// The close.
    pub close: Option<String>,
    /// End of the phase after the close.
    pub post_close: Option<String>,
    /// Full or not.
    pub kind: DayKind,
    /// Why not.
    pub reason: Option<Arc<str>>,
}

impl SessionRow {
    /// The names of its members, in order.
    pub const COLUMNS: [&str; 9] =
        ["session", "pre_open", "open", "break_start", "break_end", "close", "post_close", "kind", "reason"];
}

impl From<Session> for SessionRow {
    fn from(session: Session) -> Self {
        let pause = session.first_break();
        Self {
            session: session.date,
            pre_open: session.pre_open.and_then(utc),
            open: utc(session.open),
            break_start: pause.and_then(|pause| utc(pause.start)),
            break_end: pause.and_then(|pause| utc(pause.end)),
            close: utc(session.close),
            post_close: session.post_close.and_then(utc),
            kind: session.kind,
            reason: session.reason,
        }
    }
}
