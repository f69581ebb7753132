//! Sessions as an iCalendar (RFC 5545) that people can subscribe to.

use chrono::{DateTime, TimeDelta, Utc};
use icalendar::{Calendar as Feed, Component, Event, EventLike, Property};

use super::{Calendar, Confidence, DayKind, Session};

/// How often a subscriber should look again.
const REFRESH: &str = "PT6H";

/// One event a session, from open to close, with the reason where it is not full. The stamp of an event is its own start, so
/// that the same calendar always gives the same bytes.
pub fn icalendar(calendar: &Calendar, sessions: impl Iterator<Item = Session>) -> String {
    // Written out, because the crate's own beginning names the crate as the maker, and a feed has one maker only.
    let mut feed = Feed::empty();
    feed.append_property(Property::new("VERSION", "2.0"));
    feed.append_property(Property::new("PRODID", "-//bellwether//market sessions//EN"));
    feed.append_property(Property::new("CALSCALE", "GREGORIAN"));
    feed.name(&format!("{} sessions", calendar.name()));
    feed.append_property(Property::new("X-PUBLISHED-TTL", REFRESH));
    feed.append_property(Property::new("REFRESH-INTERVAL", REFRESH).add_parameter("VALUE", "DURATION").done());
    for session in sessions {
        feed.push(event(calendar, &session));
    }
    feed.done().to_string()
}

fn event(calendar: &Calendar, session: &Session) -> Event {
    let mic = calendar.mic();
    let length = session.close - session.open;
    let what = match session.kind {
        DayKind::Full => format!("{mic} open"),
        DayKind::EarlyClose => format!("{mic} closes early"),
        DayKind::LateOpen => format!("{mic} opens late"),
        _ => format!("{mic} has special hours"),
    };
    let local = |at: DateTime<Utc>| calendar.wall(at).format("%H:%M").to_string();
    let sure = if session.confidence == Confidence::Rule { ", not published by the exchange yet" } else { "" };
    let hours =
        format!("{} {}-{} ({}{sure})", calendar.name(), local(session.open), local(session.close), calendar.zone());
    let mut event = Event::new();
    event
        .uid(&format!("{}-{mic}@bellwether", session.date))
        .timestamp(session.open)
        .starts(session.open)
        .ends(session.open + length.max(TimeDelta::zero()))
        .summary(&session.reason.as_ref().map_or_else(|| what.clone(), |reason| format!("{what}: {reason}")))
        .description(&hours)
        .add_property("TRANSP", "TRANSPARENT");
    event.done()
}
