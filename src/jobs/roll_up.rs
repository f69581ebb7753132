//! The `history` job's first part: the points of a session that is over become a compact row of points, one of quarter-hour bars and a
//! daily bar for each symbol.

use std::collections::{BTreeMap, HashMap};

use chrono::{NaiveDate, TimeDelta};
use serde::Serialize;

use super::history::History;
use crate::market::codec::{Track, encode_bars, encode_track};
use crate::market::{Bar, Hours, Point, QUARTER_HOUR, Quote, daily, quarter_hours};
use crate::store::{StoreError, SymbolSession};

/// So long the rows of cycles stay after their session: what comes late is rolled up again together with the rest.
pub(super) const CYCLES_STAY: TimeDelta = TimeDelta::days(3);

/// What was rolled up: the report of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RolledUp {
    /// The sessions.
    pub sessions: Vec<NaiveDate>,
    /// Rows of symbols.
    pub symbols: usize,
    /// Points in them.
    pub points: usize,
    /// Bytes of the points.
    pub bytes: usize,
}

impl History {
    /// Rolls up every session that is over and was not yet, those that were missed too. Again and again the same comes of it.
    ///
    /// # Errors
    /// When the database fails; sessions that were done stay done.
    pub async fn roll_up(&self) -> Result<RolledUp, StoreError> {
        let mut report = RolledUp::default();
        let Some(last) = self.last_ended() else { return Ok(report) };
        for session in self.store.sessions_to_roll_up(last).await? {
            self.roll_up_session(session, &mut report).await?;
            report.sessions.push(session);
        }
        Ok(report)
    }

    /// The newest session whose regular hours are over.
    fn last_ended(&self) -> Option<NaiveDate> {
        let (calendar, now) = (self.calendar.load(), self.clock.now());
        let latest = calendar.latest_session(now)?;
        if latest.close <= now {
            Some(latest.date)
        } else {
            calendar.previous_session(latest.date).map(|before| before.date)
        }
    }

    async fn roll_up_session(&self, session: NaiveDate, report: &mut RolledUp) -> Result<(), StoreError> {
        // Of a session that was rolled up long ago the rows of cycles are gone: what has come late is added to its points.
        let recent = session + CYCLES_STAY >= self.clock.now().date_naive();
        let whole = recent || !self.store.has_bars(session).await?;
        let mut tracks = self.tracks_of(session).await?;
        if !whole {
            for (symbol_id, track) in &mut tracks {
                let before = self.store.points_of(*symbol_id, session, session, 1).await?;
                *track = merged(before.into_iter().flat_map(|(_, points)| points), track.points());
            }
        }
        let calendar = self.calendar.load();
        let hours = calendar.session(session).map_or(Hours::UNKNOWN, |session| Hours::new(session.open, session.close));
        let (mut last, mut before) = (HashMap::new(), HashMap::new());
        if whole {
            let next = session.succ_opt().unwrap_or(session);
            let kept = self.store.daily_bars_of(0..=i64::MAX, session..next).await?;
            before = kept.into_iter().map(|(symbol_id, _, bar)| (symbol_id, bar)).collect();
            let symbols = self.store.symbols_by_id().await?;
            let ids: HashMap<Box<str>, i64> = symbols.into_iter().map(|(id, symbol)| (symbol, id)).collect();
            let quotes = self.store.quotes().await?.into_iter();
            last = quotes.filter_map(|stored| Some((*ids.get(&*stored.symbol)?, stored.quote))).collect();
        }
        let rows = tokio::task::spawn_blocking(move || rows_of(&tracks, hours, &last, &before, whole)).await;
        let rows = rows.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        report.symbols += rows.len();
        report.points += rows.iter().map(|(_, points)| points).sum::<usize>();
        let rows: Vec<SymbolSession> = rows.into_iter().map(|(row, _)| row).collect();
        report.bytes += rows.iter().map(|row| row.points.len()).sum::<usize>();
        self.store.save_session(session, &rows, whole, self.clock.now()).await
    }

    /// What the cycles of a session have brought, by symbol.
    async fn tracks_of(&self, session: NaiveDate) -> Result<BTreeMap<i64, Track>, StoreError> {
        let mut tracks: BTreeMap<i64, Track> = BTreeMap::new();
        let mut after = None;
        loop {
            let cycles = self.store.cycle_points(session, after).await?;
            let Some(last) = cycles.last() else { return Ok(tracks) };
            after = Some((last.slot, last.finished_at));
            for point in cycles.iter().flat_map(|cycle| &cycle.points) {
                tracks.entry(point.symbol_id).or_default().push(point.point);
            }
        }
    }
}

/// Both, in order of their times; of two at the same time the first.
fn merged(before: impl Iterator<Item = Point>, after: Vec<Point>) -> Track {
    let mut points: Vec<Point> = before.chain(after).collect();
    points.sort_by_key(|point| point.at);
    let mut track = Track::default();
    for point in points {
        track.push(point);
    }
    track
}

/// The row of each symbol, and how many points are in it. Daily bars only of all points: a part of them would be another bar.
fn rows_of(
    tracks: &BTreeMap<i64, Track>,
    hours: Hours,
    last: &HashMap<i64, Quote>,
    before: &HashMap<i64, Bar>,
    whole: bool,
) -> Vec<(SymbolSession, usize)> {
    let row = |(symbol_id, track): (&i64, &Track)| {
        let points = track.points();
        let row = SymbolSession {
            symbol_id: *symbol_id,
            points: encode_track(&points),
            bars: encode_bars(QUARTER_HOUR, &quarter_hours(&points, hours)),
            daily: if whole { daily(&points, hours, last.get(symbol_id), before.get(symbol_id)) } else { None },
        };
        (row, points.len())
    };
    tracks.iter().map(row).collect()
}
