//! PURE: why the market data is as it is: one sentence, and the facts it follows from.
//!
//! Readers, health, alerts, the command line and the API get their answer from this one function, so they cannot disagree.

mod attempts;
mod findings;
mod market;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

pub use attempts::{Attempts, Failing, FaultKind};
pub use findings::Finding;
pub use market::MarketNow;

/// A cycle below this share of fresh symbols is called incomplete.
pub const COMPLETE: f64 = 0.97;

/// A universe whose lists are older than so much trading is called old: two sessions.
pub const UNIVERSE_OLD: TimeDelta = TimeDelta::hours(13);

/// More dormant symbols than this share of the universe are too many to be dead ones.
pub const DORMANT_SHARE: f64 = 0.05;

/// What is known when the question is asked.
#[derive(Debug, Clone)]
pub struct Facts {
    /// When it is asked.
    pub now: DateTime<Utc>,
    /// The zone of the market: hours are told in it.
    pub zone: Tz,
    /// What the market is doing.
    pub market: MarketNow,
    /// Since when the daemon runs; `None` where none answered and the database was asked instead.
    pub running_since: Option<DateTime<Utc>>,
    /// The published cycle, if there is one.
    pub published: Option<Published>,
    /// How the cycles went.
    pub attempts: Attempts,
    /// The next slot of a cycle.
    pub next_slot: Option<DateTime<Utc>>,
    /// What is quoted.
    pub universe: UniverseFacts,
    /// The breaker of the provider, while it is open.
    pub breaker: Option<BreakerOpen>,
    /// Why what is to be asked for does not fit the provider's quota, and what would; while it does not.
    pub does_not_fit: Option<DoesNotFit>,
    /// What is published and not stored yet, while that is late.
    pub store: Option<StoreBehind>,
}

/// What is published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The slot of its cycle.
    pub slot: DateTime<Utc>,
    /// The newest quote in it.
    pub as_of: DateTime<Utc>,
    /// How much regular trading has passed since.
    pub age_in_market_time: TimeDelta,
    /// How much may pass before the data is called stale.
    pub tolerated: TimeDelta,
    /// Its source has closing prices only.
    pub closes_only: bool,
    /// How long after the close it has those of the close.
    pub lag: TimeDelta,
    /// Symbols that were to be quoted.
    pub expected: u32,
    /// Symbols that were.
    pub fresh: u32,
}

/// What is quoted, and how well that is known.
#[derive(Debug, Clone, Serialize)]
pub struct UniverseFacts {
    /// `built-in`, `file` or `directories`.
    pub source: String,
    /// What the configuration names.
    pub configured: String,
    /// How many symbols.
    pub symbols: usize,
    /// Of them those that are asked for less often.
    pub dormant: usize,
    /// When the lists were last read.
    pub refreshed_at: Option<DateTime<Utc>>,
    /// When the oldest of them was made, by its own word; not after it was read.
    pub made_at: Option<DateTime<Utc>>,
    /// How much regular trading has passed since they were made or, where they do not say when that was, read.
    pub age_seconds_market: Option<i64>,
    /// Whether the built-in list is one to be quoted here.
    #[serde(skip)]
    pub built_in_will_do: bool,
}

/// A circuit breaker that lets no call out.
#[derive(Debug, Clone, Serialize)]
pub struct BreakerOpen {
    /// Since when.
    pub since: DateTime<Utc>,
    /// When a call may try again.
    pub until: Option<DateTime<Utc>>,
    /// What opened it.
    pub reason: Option<String>,
}

/// A plan that the quota does not allow.
#[derive(Debug, Clone, Serialize)]
pub struct DoesNotFit {
    /// The plan in words, and what would fit.
    pub words: String,
    /// The shortest cadence that would.
    pub shortest_cadence_seconds: u64,
}

/// Cycles that readers see and the database does not have.
#[derive(Debug, Clone, Serialize)]
pub struct StoreBehind {
    /// How many.
    pub cycles: u64,
    /// Since when the oldest of them waits.
    pub since: DateTime<Utc>,
    /// The last error of the database.
    pub fault: Option<String>,
}

/// Every state there is a word for; the names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The market is open and the quotes are current.
    Fresh,
    /// The market is open, and its first cycle is yet to come.
    WaitingForFirstCycle,
    /// Trading pauses: lunch, or a halt that was ordered.
    Paused,
    /// Between two sessions.
    Closed,
    /// The session of today has ended before its usual time.
    EarlyClose,
    /// Saturday or Sunday.
    Weekend,
    /// Closed by rule.
    Holiday,
    /// Closed by decision.
    Closure,
    /// Nothing was ever published.
    NoData,
    /// The last cycles failed, each of them.
    ProviderDown,
    /// The last cycle failed.
    CycleFailed,
    /// The last cycle could be kept nowhere and was not shown.
    CycleNotKept,
    /// Nobody is called for a while.
    BreakerOpen,
    /// The provider's quota left no call.
    QuotaSpent,
    /// The quota does not allow the cadence.
    QuotaDoesNotFit,
    /// The newest quote is too old, and no cycle has failed.
    Stale,
    /// Too few symbols, in two cycles or more.
    IncompleteTwice,
    /// Too few symbols in the last cycle.
    Incomplete,
    /// The database does not have what readers see.
    StoreBehind,
    /// The built-in list stands in for another one.
    UniverseStandsIn,
    /// The built-in list is quoted, in production.
    UniverseBuiltIn,
    /// The lists are older than two sessions, although they may be read each night.
    UniverseOld,
    /// More symbols are silent than can be dead.
    ManyDormant,
    /// No daemon answered.
    NoDaemon,
}

impl Code {
    /// What a running daemon can find to be mended.
    pub const FINDINGS: [Self; 15] = [
        Self::NoData,
        Self::ProviderDown,
        Self::CycleFailed,
        Self::CycleNotKept,
        Self::BreakerOpen,
        Self::QuotaSpent,
        Self::QuotaDoesNotFit,
        Self::Stale,
        Self::IncompleteTwice,
        Self::Incomplete,
        Self::StoreBehind,
        Self::UniverseStandsIn,
        Self::UniverseBuiltIn,
        Self::UniverseOld,
        Self::ManyDormant,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::WaitingForFirstCycle => "waiting_for_first_cycle",
            Self::Paused => "paused",
            Self::Closed => "closed",
            Self::EarlyClose => "early_close",
            Self::Weekend => "weekend",
            Self::Holiday => "holiday",
            Self::Closure => "closure",
            Self::NoData => "no_data",
            Self::ProviderDown => "provider_down",
            Self::CycleFailed => "cycle_failed",
            Self::CycleNotKept => "cycle_not_kept",
            Self::BreakerOpen => "breaker_open",
            Self::QuotaSpent => "quota_spent",
            Self::QuotaDoesNotFit => "quota_does_not_fit",
            Self::Stale => "stale",
            Self::IncompleteTwice => "incomplete_twice",
            Self::Incomplete => "incomplete",
            Self::StoreBehind => "store_behind",
            Self::UniverseStandsIn => "universe_stands_in",
            Self::UniverseBuiltIn => "universe_built_in",
            Self::UniverseOld => "universe_old",
            Self::ManyDormant => "many_dormant",
            Self::NoDaemon => "no_daemon",
        }
    }

    /// Whether it says something about the numbers themselves; the rest is for operators.
    pub fn concerns_readers(self) -> bool {
        matches!(
            self,
            Self::NoData
                | Self::ProviderDown
                | Self::CycleFailed
                | Self::CycleNotKept
                | Self::QuotaSpent
                | Self::Stale
                | Self::IncompleteTwice
                | Self::Incomplete
        )
    }
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// The state, as one word.
    pub code: Code,
    /// The same as a sentence.
    pub sentence: String,
    /// Since when it is so, where that is known.
    pub since: Option<DateTime<Utc>>,
    /// Readers must not take the data for current.
    pub stale: bool,
    /// There is nothing to mend.
    pub healthy: bool,
    /// Everything that is to be mended, the worst first.
    pub findings: Vec<Finding>,
    /// What it follows from.
    pub evidence: Evidence,
}

/// The facts behind the sentence, as a program reads them.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    at: DateTime<Utc>,
    daemon: bool,
    #[serde(flatten)]
    market: MarketNow,
    cycle: Option<DateTime<Utc>>,
    as_of: Option<DateTime<Utc>>,
    age_seconds_market: Option<i64>,
    tolerated_seconds_market: Option<i64>,
    expected: Option<u32>,
    fresh: Option<u32>,
    next_cycle: Option<DateTime<Utc>>,
    #[serde(flatten)]
    attempts: Attempts,
    universe: UniverseFacts,
    breaker: Option<BreakerOpen>,
    quota: Option<DoesNotFit>,
    store: Option<StoreBehind>,
}

/// What readers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Readers must not take the data for current.
    pub stale: bool,
    /// The reason, when there is something to say.
    pub cause: Option<String>,
}

impl Why {
    /// What of it is for readers: the worst that concerns the numbers, if anything does.
    pub fn verdict(&self) -> Verdict {
        let cause = self.findings.iter().find(|finding| finding.code.concerns_readers());
        Verdict { stale: self.stale, cause: cause.map(|finding| finding.sentence.clone()) }
    }
}

impl Facts {
    /// Whether the data is too old to be called current.
    fn is_stale(&self) -> bool {
        self.published.as_ref().is_none_or(|published| published.age_in_market_time > published.tolerated)
    }
}

/// Why the data is as it is.
pub fn explain(facts: &Facts) -> Why {
    let findings = findings::all(facts);
    let (code, sentence, since) = match findings.first() {
        Some(worst) => (worst.code, worst.sentence.clone(), worst.since),
        None => market::state(facts),
    };
    let published = facts.published.as_ref();
    let evidence = Evidence {
        at: facts.now,
        daemon: facts.running_since.is_some(),
        market: facts.market.clone(),
        cycle: published.map(|published| published.slot),
        as_of: published.map(|published| published.as_of),
        age_seconds_market: published.map(|published| published.age_in_market_time.num_seconds()),
        tolerated_seconds_market: published.map(|published| published.tolerated.num_seconds()),
        expected: published.map(|published| published.expected),
        fresh: published.map(|published| published.fresh),
        next_cycle: facts.next_slot,
        attempts: facts.attempts.clone(),
        universe: facts.universe.clone(),
        breaker: facts.breaker.clone(),
        quota: facts.does_not_fit.clone(),
        store: facts.store.clone(),
    };
    Why { code, sentence, since, stale: facts.is_stale(), healthy: findings.is_empty(), findings, evidence }
}

/// Whether a cycle counts as complete.
pub fn is_complete(expected: u32, fresh: u32) -> bool {
    f64::from(fresh) >= f64::from(expected) * COMPLETE
}
