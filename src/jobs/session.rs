//! Which session the quotes of a cycle belong to.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::market_data::MarketData;
use crate::calendar::Session;
use crate::ingest::providers::Description;
use crate::market::{Cycle, DelayClass};

/// How long after a close a source that has closing prices only may take to have them.
pub(super) const CLOSES_ARE_IN: TimeDelta = TimeDelta::hours(6);

/// How long after a close a source has the closing prices by contract.
pub(super) fn closes_after(source: &Description) -> TimeDelta {
    match source.delay_class {
        DelayClass::EndOfDay => CLOSES_ARE_IN,
        DelayClass::RealTime | DelayClass::Delayed15 => TimeDelta::from_std(source.delay).unwrap_or_default(),
    }
}

impl MarketData {
    /// Where the session begins that is under way at `now`, or the last one.
    pub(super) fn session_start(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.calendar.load().latest_session(now).map_or(now, |session| session.start())
    }

    /// From when on a quote counts as fresh at `now`: the start of the session under way, or of the last one. Where the source has
    /// closing prices only, those of the session before count until [`CLOSES_ARE_IN`] after the close.
    pub(super) fn quotes_count_from(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if !self.has_closes_only() {
            return self.session_start(now);
        }
        let calendar = self.calendar.load();
        let is_due = |session: &Session| session.close + CLOSES_ARE_IN <= now;
        let latest = calendar.latest_session(now);
        let last = latest.and_then(|latest| match is_due(&latest) {
            true => Some(latest),
            false => calendar.previous_session(latest.date),
        });
        last.map_or(now, |session| session.start())
    }

    /// The session that a cycle tells of: the one under way when it ended, or the last one; none in the hours before an opening. A
    /// cycle of closing prices is of the session whose they are: yesterday's must not become a point of today.
    pub(super) fn session_of(&self, cycle: &Cycle) -> Option<NaiveDate> {
        if self.has_closes_only() {
            self.history.session_of(cycle.as_of)
        } else {
            self.history.session_of_cycle(cycle.finished_at)
        }
    }

    /// How long after a close the quotes are those of the close: by contract, or by the source's own word.
    pub(super) fn closes_after(&self) -> TimeDelta {
        if self.has_closes_only() { CLOSES_ARE_IN } else { self.behind() }
    }

    /// Whether its source has closing prices only.
    pub(super) fn has_closes_only(&self) -> bool {
        self.provider().delay_class == DelayClass::EndOfDay
    }
}
