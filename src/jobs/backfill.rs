//! Daily bars of the past from the provider: planned against its quota first, taken unit by unit, gone on with where it was left.
//!
//! A unit is what one request answers for: a session of the whole market, or some symbols over some dates. It is kept with its bars
//! in one transaction, so that a backfill that was killed goes on with the next one.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::market_data::MarketData;
use crate::ingest::past::{DailyRequest, PastForm};
use crate::ingest::providers::FetchError;
use crate::market::{DailyBar, Universe};
use crate::store::StoreError;

/// The longest span of one backfill.
const MOST_DAYS: i64 = 366 * 30;

/// What is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillRequest {
    /// The first date.
    pub from: NaiveDate,
    /// The last date.
    pub to: NaiveDate,
    /// Only these symbols; every one of the universe if empty.
    pub symbols: Vec<String>,
}

/// What it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillPlan {
    /// Where the bars come from.
    pub source: String,
    /// Sessions in the span that are over.
    pub sessions: usize,
    /// Symbols that are wanted.
    pub symbols: usize,
    /// Requests it is cut into.
    pub units: usize,
    /// Of them made already, by this or an earlier backfill.
    pub done: usize,
    /// How long the others take within the quota at least, in seconds.
    pub at_least_seconds: u64,
    /// The next of them.
    pub next: Option<String>,
}

/// Why there is no backfill.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Misuse(String),
    /// The provider.
    #[error(transparent)]
    Provider(#[from] FetchError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One request.
struct Unit {
    name: String,
    from: NaiveDate,
    to: NaiveDate,
    /// Indices of the universe; empty for all.
    wanted: Vec<usize>,
}

impl MarketData {
    /// What a backfill would take. Asks nothing of the provider.
    ///
    /// # Errors
    /// When it makes no sense, the provider knows no past, or the database fails.
    pub async fn plan_backfill(&self, request: &BackfillRequest) -> Result<BackfillPlan, BackfillError> {
        let current = self.universe.load();
        self.plan_of(&current.universe, request).await.map(|(plan, _)| plan)
    }

    /// Takes the next unit and gives the plan as it is then; its `done` reaches `units` at the end, when splits of the span are taken in and the
    /// days without a cycle are counted.
    ///
    /// # Errors
    /// As [`Self::plan_backfill`]; and when the provider does not answer before `deadline`. What was taken stays.
    pub async fn backfill_next(
        &self,
        request: &BackfillRequest,
        deadline: DateTime<Utc>,
    ) -> Result<BackfillPlan, BackfillError> {
        // One list for the whole unit: it may be exchanged meanwhile.
        let current = self.universe.load();
        let (mut plan, units) = self.plan_of(&current.universe, request).await?;
        let mut units = units.into_iter();
        if let Some(unit) = units.next() {
            self.take(&current.universe, &plan, &unit, deadline).await?;
            plan.done += 1;
        }
        plan.next = units.next().map(|unit| unit.name);
        plan.at_least_seconds = self.at_least(plan.units - plan.done);
        if plan.next.is_none() {
            self.take_splits(request.from, deadline).await?;
            self.store.count_market_days(request.from, request.to, self.clock.now()).await?;
            self.history.load().await?;
            self.history.has_changed();
            self.tell_past_anew();
        }
        Ok(plan)
    }

    /// Takes in the splits since a date; `None` where the provider knows no past.
    ///
    /// # Errors
    /// When the provider or the database fails.
    pub async fn take_splits(&self, since: NaiveDate, deadline: DateTime<Utc>) -> Result<Option<usize>, BackfillError> {
        if self.fetcher.past().is_none() {
            return Ok(None);
        }
        let (mut splits, _) = self.fetcher.splits(since, deadline).await?;
        let symbols = self.store.symbols_by_id().await?;
        let known: BTreeSet<&str> = symbols.values().map(|symbol| &**symbol).collect();
        splits.retain(|split| known.contains(&*split.symbol));
        self.store.save_splits(&splits).await?;
        Ok(Some(splits.len()))
    }

    /// The plan, and the units that are left.
    async fn plan_of(
        &self,
        universe: &Universe,
        request: &BackfillRequest,
    ) -> Result<(BackfillPlan, Vec<Unit>), BackfillError> {
        let wanted = wanted(universe, request)?;
        let past = self.fetcher.past().ok_or_else(|| {
            BackfillError::Misuse(format!(
                "{} knows nothing of past sessions; choose another provider",
                self.provider().name
            ))
        })?;
        let now = self.clock.now();
        let calendar = self.calendar.load();
        let over = calendar.sessions(request.from, request.to).filter(|session| session.close <= now);
        let sessions: Vec<NaiveDate> = over.map(|session| session.date).collect();
        let all = match past.form() {
            PastForm::WholeMarket => {
                sessions.iter().map(|date| Unit::of_session(universe, request, *date, &wanted)).collect()
            }
            PastForm::Symbols { max_symbols } => match (sessions.first(), sessions.last()) {
                (Some(from), Some(to)) => Unit::of_symbols(universe, (*from, *to), &wanted, max_symbols),
                _ => Vec::new(),
            },
        };
        let source = self.provider().source;
        let done = self.store.backfilled(source).await?;
        let units = all.len();
        let left: Vec<Unit> = all.into_iter().filter(|unit| !done.contains(&unit.name)).collect();
        let plan = BackfillPlan {
            source: source.to_owned(),
            sessions: sessions.len(),
            symbols: wanted.len(),
            units,
            done: units - left.len(),
            at_least_seconds: self.at_least(left.len()),
            next: left.first().map(|unit| unit.name.clone()),
        };
        Ok((plan, left))
    }

    async fn take(
        &self,
        universe: &Universe,
        plan: &BackfillPlan,
        unit: &Unit,
        deadline: DateTime<Utc>,
    ) -> Result<(), BackfillError> {
        let whole = self.fetcher.past().is_some_and(|past| past.form() == PastForm::WholeMarket);
        let (from, to) = (unit.from, unit.to);
        let request = if whole {
            DailyRequest::WholeMarket(from)
        } else {
            DailyRequest::Symbols { wanted: &unit.wanted, from, to, page: None }
        };
        let (mut bars, _) = self.fetcher.daily(universe, request, deadline).await?;
        if !unit.wanted.is_empty() {
            let listings = universe.listings();
            let names: BTreeSet<&str> = unit.wanted.iter().map(|index| listings[*index].symbol.as_str()).collect();
            bars.retain(|bar: &DailyBar| names.contains(&*bar.symbol));
        }
        bars.retain(|bar| (from..=to).contains(&bar.date));
        self.store.save_backfill(&plan.source, &unit.name, &bars, self.clock.now()).await?;
        Ok(())
    }

    /// So many calls at the pace of the quota.
    fn at_least(&self, calls: usize) -> u64 {
        let quota = self.provider().quota;
        let each: Duration = quota.per / quota.requests.max(1);
        let beyond_burst = calls.saturating_sub(quota.burst.max(1) as usize);
        each.saturating_mul(u32::try_from(beyond_burst).unwrap_or(u32::MAX)).as_secs()
    }
}

/// Indices of what is wanted.
fn wanted(universe: &Universe, request: &BackfillRequest) -> Result<Vec<usize>, BackfillError> {
    let misuse = |message: String| Err(BackfillError::Misuse(message));
    if request.from > request.to {
        return misuse(format!("from {} is after to {}; give them the other way round", request.from, request.to));
    }
    if request.to - request.from > TimeDelta::days(MOST_DAYS) {
        return misuse("the span is longer than thirty years; do it in parts".to_owned());
    }
    if request.symbols.is_empty() {
        return Ok((0..universe.len()).collect());
    }
    let mut indices = BTreeSet::new();
    for symbol in &request.symbols {
        match universe.position_ignoring_case(symbol) {
            Some(index) => indices.insert(index),
            None => return misuse(format!("{symbol:?} is not in the universe; add it there first")),
        };
    }
    Ok(indices.into_iter().collect())
}

impl Unit {
    /// A session of the whole market, or of the symbols that were named.
    fn of_session(universe: &Universe, request: &BackfillRequest, date: NaiveDate, wanted: &[usize]) -> Self {
        if request.symbols.is_empty() {
            return Self { name: date.to_string(), from: date, to: date, wanted: Vec::new() };
        }
        let name = format!("{date} {}", names(universe, wanted));
        Self { name, from: date, to: date, wanted: wanted.to_vec() }
    }

    /// All dates of as many symbols as one call takes.
    fn of_symbols(universe: &Universe, (from, to): (NaiveDate, NaiveDate), wanted: &[usize], most: usize) -> Vec<Self> {
        let unit = |wanted: &[usize]| {
            let name = format!("{from}..{to} {}", names(universe, wanted));
            Self { name, from, to, wanted: wanted.to_vec() }
        };
        wanted.chunks(most.max(1)).map(unit).collect()
    }
}

fn names(universe: &Universe, wanted: &[usize]) -> String {
    let names: Vec<&str> = wanted.iter().map(|index| universe.listings()[*index].symbol.as_str()).collect();
    names.join(",")
}
