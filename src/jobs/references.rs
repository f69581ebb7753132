//! Keeps what quotes are compared with: the closes of a week, a month and a year ago, the range of a year, the usual volume. They are worked
//! out of the daily bars once a session, and again when the past has changed (a session was rolled up, a backfill or a split came), beside
//! everything else; readers are told as soon as they are there. Until then, and without a past, they are not known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::history::History;
use super::market_data::MarketData;
use crate::market::{Bar, Columns, Reference, ReferenceColumns, References, Snapshot, Spans, SplitFactor, Universe};
use crate::store::{PastVersion, StoreError};

/// How often it is looked whether another session has begun.
const BEAT: Duration = Duration::from_secs(1);

/// How often it is looked whether another process has changed the past.
const LOOK: Duration = Duration::from_mins(1);

/// How far ahead a split is looked for: the next session is never further.
const ANNOUNCED: TimeDelta = TimeDelta::days(30);

/// Symbols whose bars are read at a time: about 50,000 rows.
const SYMBOLS_AT_ONCE: usize = 200;

/// The newest references, and what follows from them for the universe that was last asked about.
#[derive(Default)]
pub(super) struct Kept {
    newest: Mutex<Arc<References>>,
    columns: Mutex<Option<OfUniverse>>,
    changed: Notify,
}

struct OfUniverse {
    universe: Arc<Universe>,
    references: Arc<References>,
    columns: Arc<ReferenceColumns>,
}

/// What the keeper has seen.
#[derive(Default)]
struct Seen {
    /// When the past was last looked at, since the start.
    at: Option<Duration>,
    /// What it was known by then.
    version: Option<PastVersion>,
    /// What the newest references are made of.
    made_of: Option<PastVersion>,
    /// This process has changed the past.
    nudged: bool,
}

impl History {
    /// The past has changed in this process: references are worked out anew.
    pub fn has_changed(&self) {
        self.references.changed.notify_one();
    }

    /// Quotes of `universe` beside the newest references.
    pub(super) fn beside(&self, quotes: Columns, universe: &Arc<Universe>) -> Columns {
        quotes.beside(self.reference_columns(universe))
    }

    fn reference_columns(&self, universe: &Arc<Universe>) -> Arc<ReferenceColumns> {
        let references = Arc::clone(&lock(&self.references.newest));
        let mut kept = lock(&self.references.columns);
        let known = kept.as_ref().filter(|kept| Arc::ptr_eq(&kept.universe, universe));
        if let Some(known) = known.filter(|kept| Arc::ptr_eq(&kept.references, &references)) {
            return Arc::clone(&known.columns);
        }
        let calendar = self.calendar.load();
        let start = |session| calendar.session(session).map(|session| session.start());
        let columns = Arc::new(references.columns(universe, start));
        *kept = Some(OfUniverse { universe: Arc::clone(universe), references, columns: Arc::clone(&columns) });
        columns
    }

    /// Works references out anew where they are of another session than `session`, or of another past.
    async fn renew_references(&self, session: NaiveDate, seen: &mut Seen) -> Result<(), StoreError> {
        let another_session = lock(&self.references.newest).session != Some(session);
        let now = self.clock.monotonic();
        let due = seen.at.is_none_or(|at| now.saturating_sub(at) >= LOOK);
        if !(another_session || seen.nudged || due) {
            return Ok(());
        }
        let version = self.store.past_version().await?;
        // A backfill of another process changes the past all the time: once it rests is early enough.
        let rests = seen.nudged || seen.version.as_ref() == Some(&version);
        seen.at = Some(now);
        seen.version = Some(version.clone());
        if another_session || rests && seen.made_of.as_ref() != Some(&version) {
            let references = self.work_out(session).await?;
            let took = self.clock.monotonic().saturating_sub(now);
            info!(%session, symbols = references.len(), duration_ms = took.as_millis() as u64, "quotes are compared with the sessions before");
            *lock(&self.references.newest) = Arc::new(references);
            seen.made_of = Some(version);
        }
        seen.nudged = false;
        Ok(())
    }

    async fn work_out(&self, session: NaiveDate) -> Result<References, StoreError> {
        let calendar = self.calendar.load();
        let spans = Spans::of(session, |dates| {
            dates.end.pred_opt().map_or(0, |last| calendar.sessions(dates.start, last).count())
        });
        let dates = spans.dates();
        let mut splits: HashMap<i64, Vec<SplitFactor>> = HashMap::new();
        for (symbol_id, split) in self.store.splits_between(dates.start, session + ANNOUNCED).await? {
            splits.entry(symbol_id).or_default().push(split);
        }
        let symbols = self.store.symbols_by_id().await?;
        let mut symbol_ids: Vec<i64> = symbols.keys().copied().collect();
        symbol_ids.sort_unstable();
        let mut references = References::of(session);
        for symbol_ids in symbol_ids.chunks(SYMBOLS_AT_ONCE) {
            let (first, last) = (symbol_ids[0], symbol_ids[symbol_ids.len() - 1]);
            let bars = self.store.daily_bars_of(first..=last, dates.clone()).await?;
            for bars in bars.chunk_by(|(a, ..), (b, ..)| a == b) {
                let symbol_id = bars[0].0;
                let bars: Vec<(NaiveDate, Bar)> = bars.iter().map(|(_, session, bar)| (*session, *bar)).collect();
                let splits = splits.get(&symbol_id).map_or(&[][..], Vec::as_slice);
                if let Some(symbol) = symbols.get(&symbol_id) {
                    references.insert(symbol, Reference::of(&spans, &bars, splits));
                }
            }
        }
        Ok(references)
    }
}

impl MarketData {
    /// Keeps the references and tells readers of them, until `stop`.
    pub async fn keep_references(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = Seen::default();
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.look_at_references(&mut seen) => {}
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = self.history.references.changed.notified() => seen.nudged = true,
                () = self.clock.beat(BEAT) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn look_at_references(&self, seen: &mut Seen) {
        let Some(session) = self.history.session_of(self.clock.now()) else { return };
        if let Err(fault) = self.history.renew_references(session, seen).await {
            debug!(error = %fault, "what quotes are compared with could not be worked out; it is tried again");
        }
        // A cycle that was made while they were worked out does not have them yet.
        let told = self.board.current().is_none_or(|published| {
            let snapshot = &published.snapshot;
            *snapshot.quotes.references() == self.history.reference_columns(&snapshot.universe)
        });
        if !told {
            self.tell_past_anew();
        }
    }

    /// The sessions before have changed: readers are told.
    pub(super) fn tell_past_anew(&self) {
        let Some(published) = self.board.current() else { return };
        let Snapshot { universe, quotes, cycle } = &*published.snapshot;
        let quotes = self.history.beside(quotes.clone(), universe);
        let snapshot = Snapshot { universe: Arc::clone(universe), quotes, cycle: cycle.clone() };
        let (statistics, _) = self.count(&snapshot);
        self.swap(self.prepare(Arc::new(snapshot), Arc::new(statistics)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
