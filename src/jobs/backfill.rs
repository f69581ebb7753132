//! Daily bars of the past from the provider: planned against its quota first, taken unit by unit, gone on with where it was left.
//!
//! A unit is what one request answers for: a session of the whole market, or some symbols over some dates. It is kept with its bars
//! in one transaction, so that a backfill that was killed goes on with the next one. A unit is known by its dates and symbols, and what is
//! left is worked out of them: a session more, or a symbol more, is asked for by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::market_data::MarketData;
use crate::ingest::past::{DailyRequest, PastForm, SplitPage};
use crate::ingest::providers::FetchError;
use crate::market::{DailyBar, Split, Universe};
use crate::store::StoreError;

/// The years that may be asked about: no exchange has kept prices for longer, and no calendar is known beyond.
pub const YEARS: std::ops::RangeInclusive<i32> = 1900..=2200;

/// The most symbols without bars that are named.
const NAMED: usize = 20;

/// The most pages of splits: more are a provider that goes round in circles.
const MOST_PAGES: usize = 10_000;

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
    /// Sessions in the span that are over, and not of today: what is said of a session on its own day is corrected in the night.
    pub sessions: usize,
    /// The session of today, where it is in the span: it can be taken from the next date on.
    #[serde(default)]
    pub not_yet: Option<NaiveDate>,
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
    /// Once nothing is left: of so many of the symbols the span has no bar. They came to the universe later, or were not traded.
    #[serde(default)]
    pub without_bars: usize,
    /// The first of them.
    #[serde(default)]
    pub without_bars_first: Vec<String>,
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
    /// days without a cycle are counted (not where only some symbols were asked for).
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
            self.take_splits_of_past(request.from, deadline).await?;
            if request.symbols.is_empty() {
                // The session after the span may have had no close before it until now.
                let next = self.calendar.load().next_session(request.to).map_or(request.to, |session| session.date);
                self.store.count_market_days(request.from, next, self.clock.now()).await?;
            }
            self.history.load().await?;
            self.history.has_changed();
            self.tell_past_anew();
            self.tell_without_bars(&current.universe, request, &mut plan).await?;
        }
        Ok(plan)
    }

    /// Takes in the splits since a date, all at once; `None` where the provider knows no past. What the provider does not tell any more
    /// was withdrawn.
    ///
    /// # Errors
    /// When the provider or the database fails.
    pub async fn take_splits(&self, since: NaiveDate, deadline: DateTime<Utc>) -> Result<Option<usize>, BackfillError> {
        /// Sources go by other dates of a split too (of record, of payment), which are a few days from its session: near the beginning
        /// of the list one may be missing from it for that.
        const OTHER_DATES: TimeDelta = TimeDelta::days(10);
        if self.fetcher.past().is_none() {
            return Ok(None);
        }
        let (splits, _) = self.fetcher.splits(since, deadline).await?;
        let nothing = splits.is_empty();
        let splits = self.known(splits).await?;
        if nothing {
            // A market without a split in weeks is rather a source that forgot them.
            self.store.save_splits(&splits).await?;
        } else {
            self.store.replace_splits(since + OTHER_DATES, &splits).await?;
        }
        Ok(Some(splits.len()))
    }

    /// The same since long ago: kept page by page, and gone on with where it was left.
    async fn take_splits_of_past(&self, since: NaiveDate, deadline: DateTime<Utc>) -> Result<(), BackfillError> {
        let source = self.provider().source;
        let begin = self.store.splits_reached(source, since).await?.unwrap_or(since);
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let (page, _) = self.fetcher.splits_page(begin, next.as_deref(), deadline).await?;
            let SplitPage { splits, next: following, reached } = page;
            self.store.save_splits(&self.known(splits).await?).await?;
            next = following;
            if next.is_none() {
                return Ok(self.store.note_splits(source, since, None, self.clock.now()).await?);
            }
            if reached.is_some() {
                self.store.note_splits(source, since, reached, self.clock.now()).await?;
            }
        }
        Err(FetchError::Fail(format!("{source}: the list of splits has more than {MOST_PAGES} pages")).into())
    }

    /// Those of symbols that were ever quoted.
    async fn known(&self, mut splits: Vec<Split>) -> Result<Vec<Split>, StoreError> {
        let symbols = self.store.symbols_by_id().await?;
        let known: HashSet<&str> = symbols.values().map(|symbol| &**symbol).collect();
        splits.retain(|split| known.contains(&*split.symbol));
        Ok(splits)
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
        let calendar = self.calendar.load();
        let today = calendar.local_date(self.clock.now());
        let over = calendar.sessions(request.from, request.to).filter(|session| session.date < today);
        let sessions: Vec<NaiveDate> = over.map(|session| session.date).collect();
        let source = self.provider().source;
        let done = self.store.backfilled(source).await?;
        let (whole, left) = match past.form() {
            PastForm::WholeMarket if request.symbols.is_empty() => {
                let left = sessions.iter().filter(|date| !done.contains(&date.to_string()));
                (sessions.len(), left.map(|date| Unit::of_session(*date)).collect())
            }
            PastForm::WholeMarket => {
                let asked = Asked::of(&done);
                let left = sessions.iter().filter_map(|date| Unit::of_some(universe, *date, &wanted, &asked));
                (sessions.len(), left.collect())
            }
            PastForm::Symbols { max_symbols } => {
                let most = max_symbols.max(1);
                let left = Unit::of_symbols(universe, &sessions, &wanted, most, &Asked::of(&done));
                (if sessions.is_empty() { 0 } else { wanted.len().div_ceil(most) }, left)
            }
        };
        let left: Vec<Unit> = left;
        // What is left over in pieces may be more requests than it once was.
        let units = whole.max(left.len());
        let mut plan = BackfillPlan {
            source: source.to_owned(),
            sessions: sessions.len(),
            not_yet: calendar
                .session(today)
                .map(|session| session.date)
                .filter(|date| (request.from..=request.to).contains(date)),
            symbols: wanted.len(),
            units,
            done: units - left.len(),
            at_least_seconds: self.at_least(left.len()),
            next: left.first().map(|unit| unit.name.clone()),
            without_bars: 0,
            without_bars_first: Vec::new(),
        };
        if left.is_empty() && !sessions.is_empty() {
            self.tell_without_bars(universe, request, &mut plan).await?;
        }
        Ok((plan, left))
    }

    /// Says of which symbols there is nothing in the span.
    async fn tell_without_bars(
        &self,
        universe: &Universe,
        request: &BackfillRequest,
        plan: &mut BackfillPlan,
    ) -> Result<(), BackfillError> {
        let with_bars = self.store.symbols_with_provider_bars(request.from, request.to).await?;
        let symbols = wanted(universe, request)?.into_iter().map(|index| &universe.listings()[index].symbol);
        let without: Vec<&String> = symbols.filter(|symbol| !with_bars.contains(*symbol)).collect();
        plan.without_bars = without.len();
        plan.without_bars_first = without.into_iter().take(NAMED).cloned().collect();
        Ok(())
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
        let mut bars = match self.fetcher.daily(universe, request, deadline).await {
            Ok((bars, _)) => bars,
            // Others were answered, so it is a fault of these symbols: they must not stand in the way of the rest for ever.
            Err(FetchError::Refused(reason)) if plan.done > 0 => {
                warn!(unit = unit.name, reason, "the provider refuses these symbols; they have no bars");
                Vec::new()
            }
            Err(fault) => return Err(fault.into()),
        };
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
    for (name, date) in [("from", request.from), ("to", request.to)] {
        if !YEARS.contains(&date.year()) {
            return misuse(format!("{name} {date} is not between the years {} and {}", YEARS.start(), YEARS.end()));
        }
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

/// The dates that were asked for of each symbol by its name.
struct Asked<'a>(HashMap<&'a str, Vec<(NaiveDate, NaiveDate)>>);

impl<'a> Asked<'a> {
    /// From the names of units: `DATE SYMBOLS` and `DATE..DATE SYMBOLS`. A date alone is the whole market's.
    fn of(units: &'a HashSet<String>) -> Self {
        let mut asked: HashMap<&str, Vec<_>> = HashMap::new();
        for unit in units {
            let Some((dates, symbols)) = unit.split_once(' ') else { continue };
            let (from, to) = dates.split_once("..").unwrap_or((dates, dates));
            let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else { continue };
            for symbol in symbols.split(',') {
                asked.entry(symbol).or_default().push((from, to));
            }
        }
        Self(asked)
    }

    fn has(&self, symbol: &str, date: NaiveDate) -> bool {
        self.0.get(symbol).is_some_and(|spans| spans.iter().any(|(from, to)| (*from..=*to).contains(&date)))
    }
}

impl Unit {
    /// A session of the whole market.
    fn of_session(date: NaiveDate) -> Self {
        Self { name: date.to_string(), from: date, to: date, wanted: Vec::new() }
    }

    /// A session of those symbols that it was not asked for yet.
    fn of_some(universe: &Universe, date: NaiveDate, wanted: &[usize], asked: &Asked<'_>) -> Option<Self> {
        let left = wanted.iter().copied().filter(|index| !asked.has(&universe.listings()[*index].symbol, date));
        let left: Vec<usize> = left.collect();
        let name = format!("{date} {}", names(universe, &left));
        (!left.is_empty()).then_some(Self { name, from: date, to: date, wanted: left })
    }

    /// What was not asked for yet: as many symbols as one call takes that lack the same dates.
    fn of_symbols(
        universe: &Universe,
        sessions: &[NaiveDate],
        wanted: &[usize],
        most: usize,
        asked: &Asked<'_>,
    ) -> Vec<Self> {
        let mut lacking: BTreeMap<(NaiveDate, NaiveDate), Vec<usize>> = BTreeMap::new();
        for index in wanted {
            let symbol = &universe.listings()[*index].symbol;
            let mut left = sessions.iter().copied().filter(|date| !asked.has(symbol, *date));
            if let Some(first) = left.next() {
                lacking.entry((first, left.next_back().unwrap_or(first))).or_default().push(*index);
            }
        }
        let unit = |(from, to): (NaiveDate, NaiveDate), wanted: &[usize]| {
            let name = format!("{from}..{to} {}", names(universe, wanted));
            Self { name, from, to, wanted: wanted.to_vec() }
        };
        let units = lacking.iter().flat_map(|(span, wanted)| wanted.chunks(most).map(|wanted| unit(*span, wanted)));
        units.collect()
    }
}

fn names(universe: &Universe, wanted: &[usize]) -> String {
    let names: Vec<&str> = wanted.iter().map(|index| universe.listings()[*index].symbol.as_str()).collect();
    names.join(",")
}
