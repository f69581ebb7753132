//! What the market is doing, and what that says of the data where nothing is wrong.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::{Code, Facts, Published};
use crate::calendar::{Calendar, DayKind, Phase};

/// What the calendar says of an instant.
#[derive(Debug, Clone, Serialize)]
pub struct MarketNow {
    /// What the market is doing.
    pub phase: Phase,
    /// When that ends.
    pub next_transition: DateTime<Utc>,
    /// The next opening.
    pub next_open: DateTime<Utc>,
    /// The date in the market's zone.
    pub date: NaiveDate,
    /// What sort of date it is.
    pub day: DayKind,
    /// Why it is not an ordinary one.
    pub reason: Option<String>,
    /// The opening of the session under way, or of the last one.
    pub session_open: Option<DateTime<Utc>>,
    /// Its close.
    pub session_close: Option<DateTime<Utc>>,
    /// Whether that is before its usual time.
    pub closes_early: bool,
    /// Why that session is not as usual.
    pub session_reason: Option<String>,
}

/// The closing auction prints a little after the close.
const AUCTION: TimeDelta = TimeDelta::minutes(1);

impl Published {
    /// Whether the quotes are those of the close: the source was asked when it had them, and what it said is of the end of the session
    /// and not of after hours.
    fn is_of_close(&self, close: DateTime<Utc>) -> bool {
        let asked = self.slot >= close + self.lag;
        asked && self.as_of <= close + AUCTION && self.as_of + (self.tolerated - self.lag) >= close
    }
}

impl MarketNow {
    /// Asks `calendar` about `now`.
    pub fn of(calendar: &Calendar, now: DateTime<Utc>) -> Self {
        let moment = calendar.at(now);
        let day = calendar.why(calendar.local_date(now));
        let session = calendar.latest_session(now);
        Self {
            phase: moment.phase,
            next_transition: moment.next_transition,
            next_open: calendar.next_open(now),
            date: day.date,
            day: day.kind,
            reason: day.reason.as_deref().map(str::to_owned),
            session_open: session.as_ref().map(|session| session.open),
            session_close: session.as_ref().map(|session| session.close),
            closes_early: session.as_ref().is_some_and(|session| session.closes_early),
            session_reason: session.and_then(|session| session.reason.as_deref().map(str::to_owned)),
        }
    }
}

/// An instant as it is told where the hour at the exchange counts.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M %Z").to_string()
}

/// The same where the second counts.
pub(super) fn local_to_the_second(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The state where nothing is wrong: what it is, in words, since when.
pub(super) fn state(facts: &Facts) -> (Code, String, Option<DateTime<Utc>>) {
    let market = &facts.market;
    let told = match market.phase {
        Phase::Regular => return open(facts),
        Phase::Break | Phase::Halt => {
            let reason = because(market.session_reason.as_ref());
            let until = local(market.next_transition, facts.zone);
            (Code::Paused, format!("trading pauses until {until}{reason}"), None)
        }
        _ => closed(facts),
    };
    let (code, sentence, since) = told;
    let quotes = facts.published.as_ref().map(|published| {
        if market.session_close.is_some_and(|close| published.is_of_close(close)) {
            "; the quotes are those of the close".to_owned()
        } else {
            format!("; the newest quote is of {}", local(published.as_of, facts.zone))
        }
    });
    (code, format!("{sentence}{}", quotes.unwrap_or_default()), since)
}

/// While the market is open.
fn open(facts: &Facts) -> (Code, String, Option<DateTime<Utc>>) {
    let (market, zone) = (&facts.market, facts.zone);
    let Some(published) = &facts.published else {
        return (Code::NoData, "no cycle has been published yet".to_owned(), facts.running_since);
    };
    let early = match (market.closes_early, market.session_close) {
        (true, Some(close)) => {
            format!("; it closes early, at {}{}", local(close, zone), because(market.session_reason.as_ref()))
        }
        _ => String::new(),
    };
    if let Some(opened) = market.session_open.filter(|opened| published.slot < *opened) {
        let due = facts.next_slot.map(|slot| format!(", due at {}", local(slot, zone))).unwrap_or_default();
        let sentence = format!(
            "the market has opened at {} and its first cycle is yet to be published{due}; the newest quote is of {}{early}",
            local(opened, zone),
            local(published.as_of, zone)
        );
        return (Code::WaitingForFirstCycle, sentence, Some(opened));
    }
    let (fresh, expected) = (published.fresh, published.expected);
    let newest = if published.closes_only {
        format!("its source has closing prices only, the newest of {}", local(published.as_of, zone))
    } else {
        format!("the newest quote is {} s old", published.age_in_market_time.num_seconds())
    };
    let sentence = format!("the market is open and {newest}; {fresh} of {expected} symbols are fresh{early}");
    (Code::Fresh, sentence, Some(published.slot))
}

/// While it is not.
fn closed(facts: &Facts) -> (Code, String, Option<DateTime<Utc>>) {
    let (market, zone) = (&facts.market, facts.zone);
    let opens = format!("it opens on {}", local(market.next_open, zone));
    let closed_at = market.session_close.filter(|close| *close <= facts.now);
    let early_today =
        market.closes_early && closed_at.is_some_and(|close| close.with_timezone(&zone).date_naive() == market.date);
    let reason = because(market.reason.as_ref());
    match (market.day, closed_at) {
        (DayKind::Holiday, _) => {
            (Code::Holiday, format!("the market is closed today for a holiday{reason}; {opens}"), closed_at)
        }
        (DayKind::Closure, _) => {
            (Code::Closure, format!("the market is closed today by decision{reason}; {opens}"), closed_at)
        }
        (DayKind::Weekend, _) => (Code::Weekend, format!("the market is closed for the weekend; {opens}"), closed_at),
        (_, Some(close)) if early_today => {
            let reason = because(market.session_reason.as_ref());
            (
                Code::EarlyClose,
                format!("the market closed early, at {}{reason}; {opens}", local(close, zone)),
                closed_at,
            )
        }
        (_, Some(close)) => {
            (Code::Closed, format!("the market has been closed since {}; {opens}", local(close, zone)), closed_at)
        }
        (_, None) => (Code::Closed, format!("the market is closed; {opens}"), None),
    }
}

fn because(reason: Option<&String>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}
