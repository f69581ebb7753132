//! The market as the daemon knows it: one straight path from a provider to the board, and the reason when it is not fresh.
//!
//! A cycle goes fetch -> gate -> statistics and bodies, with the journal beside them -> swap -> database. It replaces the board whole
//! or not at all, and not before it is on the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use scopeguard::ScopeGuard;
use serde::Serialize;
use tokio_util::task::TaskTracker;
use tracing::warn;
use uuid::Uuid;

use super::dormancy::Dormancy;
use super::history::History;
use super::session::closes_after;
use super::why::{FailedCycle, cause_of};
use super::write_behind::{StoreLag, WriteBehind};
use crate::calendar::{Phase, SharedCalendars};
use crate::clock::SharedClock;
use crate::config::IngestConfig;
use crate::ingest::gate::Gated;
use crate::ingest::providers::{Description, Provider};
use crate::ingest::{
    Board, FetchOptions, FetchPlan, Fetcher, Progress, Published, RequestPlan, SharedUniverse, fetch_and_gate,
};
use crate::market::codec::{CycleHead, KeptCycle};
use crate::market::{
    Bodies, Columns, Cycle, DelayClass, MarketDay, Meta, Point, Quote, QuoteFlags, Snapshot, Statistics, Universe,
};
use crate::metrics;
use crate::ops::explain::{Attempts, FaultKind, Verdict, is_complete};
use crate::schedule::{JobSpec, fires};
use crate::scheduler::JobError;
use crate::store::Store;

/// What a source that says `DELAYED` lags behind, when its contract names less.
const DELAYED_BY: TimeDelta = TimeDelta::minutes(15);

/// How long the first cycle of a new installation waits for the first list of symbols.
const FIRST_LIST: Duration = Duration::from_secs(90);

/// What gating and storing a cycle may take.
const STORING: TimeDelta = TimeDelta::seconds(5);

/// Ingestion and what came of it.
pub struct MarketData {
    pub(super) store: Store,
    pub(super) clock: SharedClock,
    /// Since when the daemon runs; `None` where a command only looks.
    pub(super) running_since: Option<DateTime<Utc>>,
    pub(super) calendar: Arc<SharedCalendars>,
    pub(super) universe: Arc<SharedUniverse>,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) fetcher: Fetcher,
    pub(super) dormancy: Dormancy,
    pub(super) config: IngestConfig,
    /// The jobs that run cycles: they say when readers may expect news.
    pub(super) cycles: Vec<JobSpec>,
    pub(super) board: Arc<Board>,
    pub(super) behind: Arc<WriteBehind>,
    pub(super) history: Arc<History>,
    pub(super) attempts: Mutex<Attempts>,
    /// Cycles, each until it has let go of what it holds.
    pub(super) under_way: TaskTracker,
    pub(super) delayed: Mutex<bool>,
}

/// How a cycle went: its report in the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct CycleSummary {
    /// Where the quotes came from.
    pub source: &'static str,
    /// Symbols asked for.
    pub expected: u32,
    /// Symbols with a valid quote of the session.
    pub fresh: u32,
    /// How many of them have another time than in the cycle before.
    pub moved: u32,
    /// Symbols that were not answered for.
    pub missing: u32,
    /// Symbols whose answer was no quote.
    pub invalid: u32,
    /// Symbols whose quote is older than the session.
    pub outdated: u32,
    /// Symbols that are asked for less often, because nothing has been heard of them for cycles in a row. Those that were
    /// silent before this session are not among the expected.
    pub dormant: u32,
    /// fresh / expected.
    pub completeness: f64,
    /// Calls made.
    pub requests: u32,
    /// Second copies of slow calls among them.
    pub hedged: u32,
    /// Symbols that the provider refuses.
    pub refused: Vec<String>,
    /// Why it did not fit the quota, and which cadence would; known before the first call.
    pub does_not_fit: Option<String>,
    /// From start to published.
    pub duration_ms: i64,
    /// It is in the database. Otherwise it is in the journal, and will be.
    pub stored: bool,
    /// Why it is not complete.
    pub cause: Option<String>,
}

/// A cycle that brought nothing.
struct Failed {
    kind: FaultKind,
    fault: JobError,
}

impl std::fmt::Debug for MarketData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarketData").field("provider", &self.provider.description().name).finish_non_exhaustive()
    }
}

impl MarketData {
    /// A market of which nothing is known yet. `jobs` are those of the table that run cycles.
    pub fn new(
        store: Store,
        clock: SharedClock,
        calendar: Arc<SharedCalendars>,
        universe: Arc<SharedUniverse>,
        provider: Arc<dyn Provider>,
        config: &IngestConfig,
        jobs: Vec<JobSpec>,
    ) -> Self {
        let options = FetchOptions {
            concurrency: config.concurrency,
            attempts: config.attempts,
            hedge_percent: config.hedge_percent,
        };
        let fetcher = Fetcher::new(Arc::clone(&provider), SharedClock::clone(&clock), options);
        let cadence = TimeDelta::from_std(config.cadence).unwrap_or(TimeDelta::MAX);
        let dormancy = Dormancy::new(store.clone(), cadence, provider.description().whole_market);
        let journal = &config.journal;
        let behind = WriteBehind::new(store.clone(), Arc::clone(&clock), &journal.directory, journal.most_bytes);
        let lag = closes_after(&provider.description());
        let history = History::new(store.clone(), Arc::clone(&clock), Arc::clone(&calendar), lag);
        Self {
            store,
            running_since: Some(clock.now()),
            clock,
            calendar,
            universe,
            provider,
            fetcher,
            dormancy,
            config: config.clone(),
            cycles: jobs,
            board: Arc::default(),
            behind: Arc::new(behind),
            history: Arc::new(history),
            attempts: Mutex::default(),
            under_way: TaskTracker::new(),
            delayed: Mutex::default(),
        }
    }

    /// The market of a command that looks at what a daemon left in the database.
    pub fn looked_at(mut self) -> Self {
        self.running_since = None;
        self
    }

    /// What readers see.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// The provider, as data.
    pub fn provider(&self) -> Description {
        self.provider.description()
    }

    /// The way to the provider, within its quota: what else is to be asked of it goes through here too.
    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// How far the cycle under way is.
    pub fn progress(&self) -> Arc<Progress> {
        self.fetcher.progress()
    }

    /// Whether a cycle that began now would fit the quota, and which cadence would.
    pub fn plan(&self) -> RequestPlan {
        self.fetcher.plan(self.universe_size(), self.config.cadence)
    }

    /// What is on its way to the database.
    pub fn write_behind(&self) -> Arc<WriteBehind> {
        Arc::clone(&self.behind)
    }

    /// How far the database is behind what readers see.
    pub fn store_lag(&self) -> StoreLag {
        self.behind.lag()
    }

    /// The past.
    pub fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// How many symbols there are to quote.
    pub fn universe_size(&self) -> usize {
        self.universe.load().universe.len()
    }

    /// Whether the list of symbols has never been read and should be now.
    pub fn wants_universe(&self) -> bool {
        !self.universe.is_settled()
    }

    /// Whether a cycle is wanted now, outside the schedule: there is nothing to show, or the market has traded since and is
    /// closed, so that no slot would mend it soon.
    pub fn wants_cycle(&self) -> bool {
        let now = self.clock.now();
        match self.board.current() {
            None => true,
            Some(_) => self.verdict(now).stale && self.calendar.load().at(now).phase != Phase::Regular,
        }
    }

    /// Runs one cycle for `slot`.
    ///
    /// # Errors
    /// When nothing at all could be had or stored; then readers keep what they have and are told why.
    pub async fn cycle(
        &self,
        id: Uuid,
        slot: DateTime<Utc>,
        deadline: DateTime<Utc>,
    ) -> Result<CycleSummary, JobError> {
        let started = self.clock.now();
        let before = self.attempts();
        let under_way = scopeguard::guard(before, |before| self.was_cut_off(id, slot, started, before));
        let result = self.try_cycle(id, slot, deadline, started).await;
        ScopeGuard::into_inner(under_way);
        let outcome = match &result {
            Ok(summary) if is_complete(summary.expected, summary.fresh) => "complete",
            Ok(_) => "incomplete",
            Err(_) => "failed",
        };
        metrics::cycle_ended(outcome, self.clock.now() - started);
        result.map_err(|Failed { kind, fault }| {
            lock(&self.attempts).failed(slot, kind, fault.to_string());
            self.refresh(true);
            // After a restart the ledger is asked where the fault lay.
            fault.with(serde_json::to_value(FailedCycle { kind }).unwrap_or_default())
        })
    }

    async fn try_cycle(
        &self,
        id: Uuid,
        slot: DateTime<Utc>,
        deadline: DateTime<Utc>,
        started: DateTime<Utc>,
    ) -> Result<CycleSummary, Failed> {
        self.universe.settled(&self.clock, FIRST_LIST.min(self.config.cadence / 2)).await;
        let universe = Arc::clone(&self.universe.load().universe);
        let fair_share = started + TimeDelta::from_std(self.config.cadence * 9 / 10).unwrap_or(TimeDelta::MAX);
        let plan = FetchPlan {
            slot,
            cadence: self.config.cadence,
            // What was answered must still be gated and stored before the run itself is ended.
            deadline: (deadline - STORING).min(fair_share),
        };
        let wanted = self.dormancy.wanted(&universe, slot, self.session_start(started));
        let previous = self.board.current();
        let previous = previous.as_ref().map(|published| &*published.snapshot);
        let starts = |now| self.quotes_count_from(now);
        let (fetched, mut gated) = fetch_and_gate(&self.fetcher, &universe, &wanted, plan, previous, starts).await;
        let now = self.clock.now();
        let session_start = self.session_start(now);
        let learned = self.dormancy.learn(&universe, &fetched, slot, session_start);
        let expected = universe.len() - self.dormancy.not_expected(&universe, session_start);
        let dormant = self.dormancy.count(&universe);
        // Who was not asked is not missing from an answer.
        gated.missing = gated.missing.saturating_sub(count(universe.len() - wanted.len()));
        let cause = cause_of(&fetched, &gated, expected, dormant);
        if gated.fresh.is_empty() {
            self.dormancy.keep(&learned).await;
            let message = cause.unwrap_or_else(|| "the universe is empty".to_owned());
            let kind = if fetched.is_short_of_quota() { FaultKind::Quota } else { FaultKind::Provider };
            return Err(Failed { kind, fault: JobError::Retry { after: None, message } });
        }
        let cycle = self.describe(id, slot, now, &gated, count(expected));
        *lock(&self.delayed) = fetched.delayed;
        let mut summary = CycleSummary {
            source: self.provider.description().source,
            expected: cycle.expected,
            fresh: cycle.fresh,
            moved: gated.moved,
            missing: gated.missing,
            invalid: gated.invalid,
            outdated: gated.outdated,
            dormant: count(dormant),
            completeness: cycle.completeness(),
            requests: fetched.requests,
            hedged: fetched.hedged,
            refused: fetched.refused.iter().map(|index| universe.listings()[*index].symbol.clone()).collect(),
            does_not_fit: fetched.plan.and_then(|plan| plan.warning),
            duration_ms: 0,
            stored: false,
            cause: cause.clone(),
        };
        let quotes = self.history.beside(Columns::of(&gated.quotes), &universe);
        let snapshot = Snapshot { universe: Arc::clone(&universe), quotes, cycle };
        let published = self.publish(snapshot, &learned_quotes(&universe, &gated), fetched.delayed, cause).await;
        published.map_err(|fault| Failed { kind: FaultKind::Store, fault })?;
        metrics::quotes_moved(summary.moved, summary.fresh);
        summary.duration_ms = (self.clock.now() - started).num_milliseconds();
        // It is shown and on the disk, so that the run is done; the database may take its time, and not that of the run.
        let behind = self.write_behind();
        let storing = tokio::spawn(async move { behind.drain().await });
        let stored = tokio::time::timeout(STORING.to_std().unwrap_or_default() / 2, storing).await;
        summary.stored = matches!(stored, Ok(Ok(Ok(_))));
        self.dormancy.keep(&learned).await;
        Ok(summary)
    }

    /// Shows a cycle once it is on the disk. The bodies are rendered while it is written there.
    async fn publish(
        &self,
        snapshot: Snapshot,
        learned: &[(&str, &Quote)],
        delayed: bool,
        cause: Option<String>,
    ) -> Result<(), JobError> {
        let (statistics, day) = self.count(&snapshot);
        let head = CycleHead { cycle: snapshot.cycle.clone(), delayed, cause, day };
        let snapshot = Arc::new(snapshot);
        let content = Bytes::from(KeptCycle::encode(&head, learned.iter().copied()));
        // What is said beside the numbers counts this cycle, which counts for nothing if it cannot be shown.
        let before = self.attempts();
        let Cycle { slot, expected, fresh, .. } = snapshot.cycle;
        lock(&self.attempts).published(slot, expected, fresh, head.cause.clone());
        let (kept, prepared) = tokio::join!(self.behind.keep(&head, content), async {
            self.prepare(Arc::clone(&snapshot), Arc::new(statistics))
        });
        kept.map_err(|message| {
            *lock(&self.attempts) = before;
            JobError::Retry { after: None, message }
        })?;
        let fresh = learned.iter().filter(|(_, quote)| !quote.flags.contains(QuoteFlags::NOT_REFRESHED));
        self.history.add(&head, fresh.map(|(symbol, quote)| (*symbol, Point::of(quote))));
        self.show(prepared);
        Ok(())
    }

    /// The statistics of a snapshot with the sessions before it, and what they say of its own session.
    pub(super) fn count(&self, snapshot: &Snapshot) -> (Statistics, Option<MarketDay>) {
        let since = self.quotes_count_from(snapshot.cycle.finished_at);
        let mut statistics = Statistics::compute(snapshot, since);
        let session = self.session_of(&snapshot.cycle);
        let day = session.map(|session| self.history.day_of(session, &statistics));
        statistics.past = self.history.past_with(day);
        (statistics, day)
    }

    fn describe(&self, id: Uuid, slot: DateTime<Utc>, now: DateTime<Utc>, gated: &Gated, expected: u32) -> Cycle {
        let provider = self.provider.description();
        let fresh = count(gated.fresh.len());
        Cycle {
            id,
            slot,
            source: provider.source.to_owned(),
            simulated: provider.simulated,
            as_of: gated.newest.unwrap_or(now).min(now),
            finished_at: now,
            expected,
            fresh,
            failed: expected.saturating_sub(fresh),
        }
    }

    /// Shows a new state.
    pub(super) fn show(&self, published: Published) {
        let cycle = &published.snapshot.cycle;
        metrics::cycle_published(cycle.expected, cycle.fresh, cycle.completeness());
        self.swap(published);
    }

    pub(super) fn swap(&self, published: Published) {
        if !self.board.publish(published) {
            warn!("a newer cycle is shown already; this one is not");
        }
    }

    /// Looks whether what readers are told is still true (the phase, the staleness and its cause change without a cycle)
    /// and says it anew if not, or if `force`.
    pub fn refresh(&self, force: bool) {
        let now = self.clock.now();
        let moment = self.calendar.load().at(now);
        metrics::calendar_phase(moment.phase, moment.next_transition);
        let why = self.why(now);
        self.measure(&why, now);
        let Some(published) = self.board.current() else { return };
        let verdict = why.verdict();
        metrics::data_age(self.age(published.snapshot.cycle.as_of, now).num_seconds(), verdict.stale);
        let meta = &published.meta;
        // While data is stale its cause names a growing age, which alone is no reason to render again.
        let changed = meta.phase != moment.phase
            || meta.next_transition != moment.next_transition
            || meta.stale != verdict.stale
            || !verdict.stale && meta.cause != verdict.cause;
        if force || changed {
            self.swap(self.prepare(Arc::clone(&published.snapshot), Arc::clone(&published.statistics)));
        }
    }

    /// Everything that readers see of a snapshot at the moment.
    pub(super) fn prepare(&self, snapshot: Arc<Snapshot>, statistics: Arc<Statistics>) -> Published {
        let now = self.clock.now();
        let moment = self.calendar.load().at(now);
        let verdict = self.why_of(Some(&snapshot.cycle), now).verdict();
        let cycle = &snapshot.cycle;
        // Only cycles of this source are ever shown, so what it is holds for a restored one too.
        let provider = self.provider.description();
        let told_delayed = provider.delay_class == DelayClass::RealTime && *lock(&self.delayed);
        let meta = Meta {
            cycle_id: cycle.id,
            source: cycle.source.clone(),
            simulated: cycle.simulated,
            delay_class: if told_delayed { DelayClass::Delayed15 } else { provider.delay_class },
            licence_class: provider.licence_class,
            as_of: cycle.as_of,
            age_seconds_market: self.age(cycle.as_of, now).num_seconds(),
            stale: verdict.stale,
            completeness: cycle.completeness(),
            phase: moment.phase,
            next_transition: moment.next_transition,
            cause: verdict.cause,
            rendered_at: now,
        };
        let bodies = Bodies::render(&snapshot, &statistics, &meta);
        let next_cycle = self.next_cycle(&meta, now);
        Published { snapshot, statistics, meta, bodies, next_cycle }
    }

    /// When readers may expect news: the next slot, or any moment while something is being mended.
    fn next_cycle(&self, meta: &Meta, now: DateTime<Utc>) -> DateTime<Utc> {
        let failed = lock(&self.attempts).failing.is_some();
        if meta.stale || failed {
            return now;
        }
        let calendar = self.calendar.load();
        let next = fires(&self.cycles, &calendar, now, DateTime::<Utc>::MAX_UTC).next();
        next.map_or(meta.next_transition, |fire| fire.slot)
    }

    /// Why the data is as it is at `now`, as readers are told.
    pub fn verdict(&self, now: DateTime<Utc>) -> Verdict {
        self.why(now).verdict()
    }

    /// How the last cycles went.
    pub(super) fn attempts(&self) -> Attempts {
        lock(&self.attempts).clone()
    }

    pub(super) fn age(&self, as_of: DateTime<Utc>, now: DateTime<Utc>) -> TimeDelta {
        self.calendar.load().open_time_between(as_of, now)
    }

    /// Two cycles, and what the source lags behind.
    pub(super) fn tolerated(&self) -> TimeDelta {
        TimeDelta::from_std(self.config.cadence * 2).unwrap_or(TimeDelta::MAX) + self.behind()
    }

    /// What the source lags behind, by contract or by its own word.
    pub(super) fn behind(&self) -> TimeDelta {
        let contract = TimeDelta::from_std(self.provider.description().delay).unwrap_or_default();
        if *lock(&self.delayed) { contract.max(DELAYED_BY) } else { contract }
    }
}

/// The quotes that a cycle has brought, with their symbols.
fn learned_quotes<'a>(universe: &'a Universe, gated: &'a Gated) -> Vec<(&'a str, &'a Quote)> {
    let listings = universe.listings();
    let quotes = gated.learned.iter().map(|index| (listings.get(*index), gated.quotes.get(*index)));
    quotes.filter_map(|(listing, quote)| Some((listing?.symbol.as_str(), quote?.as_ref()?))).collect()
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
