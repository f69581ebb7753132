//! The past as the daemon holds it: the points of the session under way in memory, and how the market ended in the sessions before.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::references::Kept;
use crate::calendar::SharedCalendars;
use crate::clock::SharedClock;
use crate::market::codec::CycleHead;
use crate::market::{MarketDay, MarketPast, Point, SessionPoints, Statistics};
use crate::store::{Store, StoreError};

/// What is known of the past without asking the database.
pub struct History {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    pub(super) calendar: Arc<SharedCalendars>,
    /// So long after a close the source does not have the closing prices yet.
    lag: TimeDelta,
    today: Mutex<Today>,
    /// In order of their dates, the newest last.
    days: Mutex<Vec<MarketDay>>,
    /// What quotes are compared with.
    pub(super) references: Kept,
}

#[derive(Default)]
struct Today {
    points: SessionPoints,
    /// Slot and end of the last cycle that is in it.
    until: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("session", &lock(&self.today).points.session()).finish_non_exhaustive()
    }
}

impl History {
    /// Nothing is known yet. `lag` is how long after a close the source has the closing prices.
    pub fn new(store: Store, clock: SharedClock, calendar: Arc<SharedCalendars>, lag: TimeDelta) -> Self {
        let (today, days, references) = (Mutex::default(), Mutex::default(), Kept::default());
        Self { store, clock, calendar, lag, today, days, references }
    }

    /// The session at `at`: the one under way, or the last one.
    pub fn session_of(&self, at: DateTime<Utc>) -> Option<NaiveDate> {
        self.calendar.load().latest_session(at).map(|session| session.date)
    }

    /// The session that a cycle which ended at `at` belongs to: the one under way, or the last one. Once the hours before the next
    /// opening have begun it is none: what is quoted then is no more of the session before, and not yet of the next.
    pub fn session_of_cycle(&self, at: DateTime<Utc>) -> Option<NaiveDate> {
        let calendar = self.calendar.load();
        let session = calendar.session_at(at)?;
        if session.open <= at {
            return Some(session.date);
        }
        if session.start() <= at { None } else { calendar.previous_session(session.date).map(|before| before.date) }
    }

    /// What a cycle says of its session: how the market stands or, where the closing prices are in already, how it has ended. What is
    /// traded after that does not change it.
    pub fn day_of(&self, session: NaiveDate, statistics: &Statistics) -> MarketDay {
        self.ended(session).unwrap_or_else(|| MarketDay::of(session, statistics))
    }

    fn ended(&self, session: NaiveDate) -> Option<MarketDay> {
        let close = self.calendar.load().session(session)?.close + self.lag;
        let closed = {
            let today = lock(&self.today);
            today.points.session() == session && today.until.is_some_and(|(slot, _)| slot >= close)
        };
        lock(&self.days).iter().find(|day| closed && day.session == session).copied()
    }

    /// Reads what the database has and this process has not seen yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(&self) -> Result<(), StoreError> {
        let days = self.store.market_days(MarketPast::LONGEST as u32).await?;
        *lock(&self.days) = days;
        let Some(session) = self.session_of(self.clock.now()) else { return Ok(()) };
        let mut until = lock(&self.today).of(session).until;
        let symbols = self.store.symbols_by_id().await?;
        loop {
            let cycles = self.store.cycle_points(session, until).await?;
            let Some(last) = cycles.last() else { return Ok(()) };
            until = Some((last.slot, last.finished_at));
            let mut today = lock(&self.today);
            let today = today.of(session);
            for point in cycles.iter().flat_map(|cycle| &cycle.points) {
                if let Some(symbol) = symbols.get(&point.symbol_id) {
                    today.points.push(symbol, point.point);
                }
            }
            today.until = today.until.max(until);
        }
    }

    /// Takes in a cycle that is about to be shown.
    pub fn add<'a>(&self, head: &CycleHead, points: impl Iterator<Item = (&'a str, Point)>) {
        let Some(day) = head.day else { return };
        *lock(&self.days) = self.days_with(day);
        let mut today = lock(&self.today);
        if day.session < today.points.session() {
            return;
        }
        let today = today.of(day.session);
        for (symbol, point) in points {
            today.points.push(symbol, point);
        }
        today.until = today.until.max(Some((head.cycle.slot, head.cycle.finished_at)));
    }

    /// The last sessions, `day` the newest of them.
    pub fn past_with(&self, day: Option<MarketDay>) -> MarketPast {
        let days = day.map_or_else(|| lock(&self.days).clone(), |day| self.days_with(day));
        MarketPast::of(&days)
    }

    fn days_with(&self, day: MarketDay) -> Vec<MarketDay> {
        let mut days = lock(&self.days).clone();
        days.retain(|known| known.session < day.session);
        days.push(day);
        let surplus = days.len().saturating_sub(MarketPast::LONGEST);
        days.drain(..surplus);
        days
    }

    /// The session in memory, and the points of one symbol in it.
    pub fn today(&self, symbol: &str) -> (NaiveDate, Vec<Point>) {
        let today = lock(&self.today);
        (today.points.session(), today.points.points(symbol))
    }

    /// Points in memory, and the bytes they take.
    pub fn in_memory(&self) -> (usize, usize) {
        let today = lock(&self.today);
        (today.points.len(), today.points.allocated())
    }
}

impl Today {
    /// The same session goes on; another begins anew.
    fn of(&mut self, session: NaiveDate) -> &mut Self {
        if self.points.session() != session {
            *self = Self { points: SessionPoints::of(session), until: None };
        }
        self
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
