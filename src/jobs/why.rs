//! Why the market data is as it is, and the whole state of ingestion: the facts of the running daemon, gathered once for readers,
//! health, metrics, the API and the command line.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::market_data::{MarketData, count, lock};
use super::write_behind::StoreLag;
use crate::ingest::gate::Gated;
use crate::ingest::{BreakerState, BreakerView, CurrentUniverse, Fetched, ProgressView, RequestPlan};
use crate::market::{Cycle, DelayClass, LicenceClass};
use crate::metrics;
use crate::ops::explain::{
    self, Attempts, BreakerOpen, Code, DoesNotFit, Facts, FaultKind, MarketNow, UniverseFacts, Why, explain,
};
use crate::schedule::fires;
use crate::store::{RunFilter, RunState, Store, StoreError};

/// The most symbols that are named one by one.
const NAMED: usize = 100;

/// How many rows of the ledger are looked at for how the last cycles went: more than a session has.
const RECALLED: u32 = 200;

/// The state of ingestion.
#[derive(Debug, Clone, Serialize)]
pub struct IngestStatus {
    /// When it was asked for.
    pub at: DateTime<Utc>,
    /// Why the data is as it is.
    pub why: Why,
    /// Where quotes come from.
    pub provider: ProviderStatus,
    /// The published cycle.
    pub last_cycle: Option<CycleStatus>,
    /// The cycle under way.
    pub under_way: Option<ProgressView>,
    /// When the next one is due.
    pub next_cycle: Option<DateTime<Utc>>,
    /// What is quoted.
    pub universe: UniverseStatus,
}

/// A provider as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct ProviderStatus {
    /// In logs and metrics.
    pub name: &'static str,
    /// In answers.
    pub source: &'static str,
    /// Its prices are made up.
    pub simulated: bool,
    /// How far behind the market its data is.
    pub delay_class: DelayClass,
    /// Who may be shown its numbers.
    pub licence_class: LicenceClass,
    /// One call answers for every symbol.
    pub whole_market: bool,
    /// Calls that the contract allows in `quota_seconds`.
    pub quota_requests: u32,
    /// The time of the quota.
    pub quota_seconds: u64,
    /// Whether it is called.
    pub breaker: BreakerView,
    /// What a cycle over the whole universe takes, and whether the quota allows it.
    pub plan: RequestPlan,
}

/// A cycle as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct CycleStatus {
    /// Id of its run.
    pub cycle_id: uuid::Uuid,
    /// The slot it was for.
    pub slot: DateTime<Utc>,
    /// When it had its last answer.
    pub finished_at: DateTime<Utc>,
    /// Time of the newest quote.
    pub as_of: DateTime<Utc>,
    /// How much regular trading has passed since.
    pub age_seconds_market: i64,
    /// Symbols that were to be quoted.
    pub expected: u32,
    /// Symbols that were.
    pub fresh: u32,
    /// The share.
    pub completeness: f64,
    /// Why some lack.
    pub missing: Option<String>,
}

/// The universe as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct UniverseStatus {
    /// Where it comes from and how old it is.
    #[serde(flatten)]
    pub facts: UniverseFacts,
    /// Which version of the stored list it is.
    pub revision: i64,
    /// The first of the dormant symbols.
    pub dormant_symbols: Vec<String>,
}

/// How the last cycles went, as the ledger has it: a restart is no reason to forget since when a provider is down.
///
/// # Errors
/// When the database fails.
pub(super) async fn recall(store: &Store) -> Result<Attempts, StoreError> {
    let mut runs = Vec::new();
    for job in [super::INGEST, super::INGEST_CLOSE] {
        let filter = RunFilter { job: Some(job.to_owned()), limit: RECALLED, ..RunFilter::default() };
        runs.extend(store.list_runs(&filter).await?);
    }
    runs.sort_by_key(|run| run.scheduled_for);
    let mut attempts = Attempts::default();
    for run in runs {
        let report = run.stats.as_deref().unwrap_or_default();
        match (run.state, run.error) {
            (RunState::Ok, _) => {
                let Ok(Recalled { expected, fresh, cause }) = serde_json::from_str(report) else { continue };
                attempts.published(run.scheduled_for, expected, fresh, cause);
            }
            (RunState::Failed, Some(fault)) => {
                // A run that was cut off, or failed before its cycle had begun, has no report.
                let kind = serde_json::from_str(report).map_or(FaultKind::Provider, |FailedCycle { kind }| kind);
                attempts.failed(run.scheduled_for, kind, fault);
            }
            _ => {}
        }
    }
    Ok(attempts)
}

/// What the ledger keeps of a cycle that failed, beside its words.
#[derive(Serialize, Deserialize)]
pub(super) struct FailedCycle {
    /// Where the fault lies.
    pub(super) kind: FaultKind,
}

/// What of the report of a cycle is looked at again.
#[derive(Deserialize)]
struct Recalled {
    expected: u32,
    fresh: u32,
    cause: Option<String>,
}

/// Why not every symbol is fresh; `None` when each is.
pub(super) fn cause_of(fetched: &Fetched, gated: &Gated, expected: usize, dormant: usize) -> Option<String> {
    if gated.fresh.len() == expected && expected > 0 {
        return None;
    }
    let counts = [
        (gated.missing, "not in the answer"),
        (gated.invalid, "without a usable price and time"),
        (gated.outdated, "older than the session"),
        (count(dormant), "dormant"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    Some(fetched.worst().into_iter().chain(counts).collect::<Vec<_>>().join(", "))
}

impl MarketData {
    /// A cycle that was given up before it was shown has failed, whatever was said of it before.
    pub(super) fn was_cut_off(&self, id: Uuid, slot: DateTime<Utc>, started: DateTime<Utc>, mut before: Attempts) {
        if self.board.current().is_some_and(|published| published.snapshot.cycle.id == id) {
            return;
        }
        let fault = "it was cut off before it was shown".to_owned();
        before.failed(slot, FaultKind::Provider, fault);
        *lock(&self.attempts) = before;
        metrics::cycle_ended("failed", self.clock.now() - started);
    }

    /// Why the data is as it is at `now`.
    pub fn why(&self, now: DateTime<Utc>) -> Why {
        let published = self.board.current();
        self.why_of(published.as_ref().map(|published| &published.snapshot.cycle), now)
    }

    /// The same, as if `cycle` were the published one.
    pub(super) fn why_of(&self, cycle: Option<&Cycle>, now: DateTime<Utc>) -> Why {
        let calendar = self.calendar.load();
        let published = cycle.map(|cycle| explain::Published {
            slot: cycle.slot,
            as_of: cycle.as_of,
            age_in_market_time: self.age(cycle.as_of, now),
            tolerated: self.tolerated(),
            closes_only: self.has_closes_only(),
            lag: self.closes_after(),
            expected: cycle.expected,
            fresh: cycle.fresh,
        });
        explain(&Facts {
            now,
            zone: calendar.zone(),
            market: MarketNow::of(&calendar, now),
            running_since: self.running_since,
            published,
            attempts: self.attempts(),
            next_slot: self.next_slot(now),
            universe: self.universe_facts(now),
            breaker: self.breaker_open(),
            does_not_fit: self.does_not_fit(),
            store: self.behind_of_store(),
        })
    }

    fn breaker_open(&self) -> Option<BreakerOpen> {
        let BreakerView { state, since, until, reason, .. } = self.fetcher().breaker();
        let since = since.filter(|_| state != BreakerState::Closed)?;
        Some(BreakerOpen { since, until, reason })
    }

    fn does_not_fit(&self) -> Option<DoesNotFit> {
        let RequestPlan { warning, shortest_cadence_seconds, .. } = self.plan();
        Some(DoesNotFit { words: warning?, shortest_cadence_seconds })
    }

    /// Only what the database has refused: each cycle waits for a moment.
    fn behind_of_store(&self) -> Option<explain::StoreBehind> {
        let StoreLag { cycles, since, fault, .. } = self.store_lag();
        let (fault, _) = fault?;
        Some(explain::StoreBehind { cycles: cycles as u64, since: since?, fault: Some(fault) })
    }

    /// The whole state of ingestion at `now`.
    pub fn status(&self, now: DateTime<Utc>) -> IngestStatus {
        let current = self.universe.load();
        let provider = self.provider();
        let published = self.board.current();
        let Attempts { missing, .. } = self.attempts();
        IngestStatus {
            at: now,
            why: self.why(now),
            provider: ProviderStatus {
                name: provider.name,
                source: provider.source,
                simulated: provider.simulated,
                delay_class: provider.delay_class,
                licence_class: provider.licence_class,
                whole_market: provider.whole_market,
                quota_requests: provider.quota.requests,
                quota_seconds: provider.quota.per.as_secs(),
                breaker: self.fetcher().breaker(),
                plan: self.plan(),
            },
            last_cycle: published.map(|published| {
                let cycle = &published.snapshot.cycle;
                CycleStatus {
                    cycle_id: cycle.id,
                    slot: cycle.slot,
                    finished_at: cycle.finished_at,
                    as_of: cycle.as_of,
                    age_seconds_market: self.age(cycle.as_of, now).num_seconds(),
                    expected: cycle.expected,
                    fresh: cycle.fresh,
                    completeness: cycle.completeness(),
                    missing,
                }
            }),
            under_way: self.progress().view(now),
            next_cycle: self.next_slot(now),
            universe: UniverseStatus {
                facts: self.universe_facts(now),
                revision: current.revision,
                dormant_symbols: self.dormancy.first(&current.universe, NAMED),
            },
        }
    }

    pub(super) fn universe_facts(&self, now: DateTime<Utc>) -> UniverseFacts {
        let current = self.universe.load();
        let CurrentUniverse { universe, source, refreshed_at, made_at, .. } = &*current;
        // A list from the future says nothing of its age.
        let made_at = made_at.zip(*refreshed_at).map(|(made, read)| made.min(read));
        let age = made_at.or(*refreshed_at).map(|at| self.age(at, now).num_seconds());
        UniverseFacts {
            source: (*source).to_owned(),
            configured: self.config.universe.source.name().to_owned(),
            symbols: universe.len(),
            dormant: self.dormancy.count(universe),
            refreshed_at: *refreshed_at,
            made_at,
            age_seconds_market: age,
            built_in_will_do: self.config.universe.built_in_will_do,
        }
    }

    fn next_slot(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let calendar = self.calendar.load();
        fires(&self.cycles, &calendar, now, DateTime::<Utc>::MAX_UTC).next().map(|fire| fire.slot)
    }

    /// What an alert goes by: what is to be mended, how old the universe is, and how many cycles in a row failed or lacked symbols.
    pub(super) fn measure(&self, why: &Why, now: DateTime<Utc>) {
        for code in Code::FINDINGS {
            metrics::finding(code.name(), why.findings.iter().any(|finding| finding.code == code));
        }
        let universe = self.universe_facts(now);
        let age = universe.age_seconds_market.filter(|_| universe.source != "built-in").unwrap_or(0);
        metrics::universe(universe.symbols, TimeDelta::seconds(age));
        let attempts = self.attempts();
        let failing = attempts.failing.map_or(0, |failing| failing.cycles);
        metrics::cycles_in_a_row(failing, attempts.incomplete_cycles);
    }
}
