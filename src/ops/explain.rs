//! PURE: why the market data is as it is, in one sentence.
//!
//! Readers, health and the operator get their answer from this one function, so they cannot disagree.

use chrono::{DateTime, TimeDelta, Utc};

use crate::calendar::Phase;

/// A cycle below this share of fresh symbols is called incomplete.
pub const COMPLETE: f64 = 0.97;

/// What is known when the question is asked.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The phase of the market.
    pub phase: Phase,
    /// When the phase ends.
    pub next_transition: DateTime<Utc>,
    /// The published cycle, if there is one.
    pub published: Option<Published>,
    /// The last attempt at a cycle that this process made, if any.
    pub last_attempt: Option<&'a Attempt>,
}

/// What is published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The newest quote in it.
    pub as_of: DateTime<Utc>,
    /// How much regular trading has passed since.
    pub age_in_market_time: TimeDelta,
    /// How much may pass before the data is called stale.
    pub tolerated: TimeDelta,
    /// Symbols that were to be quoted.
    pub expected: u32,
    /// Symbols that were.
    pub fresh: u32,
}

/// How the last attempt at a cycle ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The slot it was for.
    pub slot: DateTime<Utc>,
    /// What went wrong, or why some symbols are missing; `None` when nothing did.
    pub fault: Option<String>,
    /// Whether anything was published.
    pub published: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Readers must not take the data for current.
    pub stale: bool,
    /// The reason, when there is something to say.
    pub cause: Option<String>,
}

/// Why the data is as it is.
pub fn explain(facts: &Facts<'_>) -> Verdict {
    let failed = facts.last_attempt.filter(|attempt| !attempt.published);
    let failure = failed.map(|attempt| {
        let fault = attempt.fault.as_deref().unwrap_or("no reason was given");
        format!("the cycle of {} failed: {fault}", attempt.slot.format("%Y-%m-%d %H:%M:%S UTC"))
    });
    let Some(published) = &facts.published else {
        let cause = failure.unwrap_or_else(|| "no cycle has been published yet".to_owned());
        return Verdict { stale: true, cause: Some(cause) };
    };
    let stale = published.age_in_market_time > published.tolerated;
    let aged = || {
        let missed = published.age_in_market_time.num_seconds();
        let when = published.as_of.format("%Y-%m-%d %H:%M:%S UTC");
        let now = if facts.phase == Phase::Regular { "the market is open and " } else { "" };
        format!("{now}the newest quote is of {when}, {missed} s of trading ago")
    };
    let cause = match (stale, failure) {
        (true, Some(failure)) => Some(format!("{}; {failure}", aged())),
        (true, None) => Some(aged()),
        (false, Some(failure)) => Some(failure),
        (false, None) => incomplete(published, facts.last_attempt),
    };
    Verdict { stale, cause }
}

fn incomplete(published: &Published, last_attempt: Option<&Attempt>) -> Option<String> {
    let missing = published.expected.saturating_sub(published.fresh);
    if is_complete(published.expected, published.fresh) {
        return None;
    }
    let fault = last_attempt.and_then(|attempt| attempt.fault.as_deref());
    let because = fault.map(|fault| format!(": {fault}")).unwrap_or_default();
    Some(format!("{missing} of {} symbols have no quote of this cycle{because}", published.expected))
}

/// Whether a cycle counts as complete.
pub fn is_complete(expected: u32, fresh: u32) -> bool {
    f64::from(fresh) >= f64::from(expected) * COMPLETE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(phase: Phase, age_seconds: i64, fresh: u32, last_attempt: Option<(bool, Option<&str>)>) -> String {
        let slot: DateTime<Utc> = "2027-03-15T14:00:00Z".parse().unwrap();
        let attempt =
            last_attempt.map(|(published, fault)| Attempt { slot, fault: fault.map(str::to_owned), published });
        let published = Published {
            as_of: slot - TimeDelta::seconds(age_seconds),
            age_in_market_time: TimeDelta::seconds(age_seconds),
            tolerated: TimeDelta::seconds(360),
            expected: 100,
            fresh,
        };
        let facts = Facts { phase, next_transition: slot, published: Some(published), last_attempt: attempt.as_ref() };
        let Verdict { stale, cause } = explain(&facts);
        format!("{} - {}", if stale { "stale" } else { "fresh" }, cause.as_deref().unwrap_or("nothing to say"))
    }

    #[test]
    fn fresh_incomplete_failed_and_stale_are_told_apart() {
        let told = [
            said(Phase::Regular, 10, 100, Some((true, None))),
            said(Phase::Regular, 10, 80, Some((true, Some("20 symbols were not in the answer")))),
            said(Phase::Regular, 200, 100, Some((false, Some("429 from the provider")))),
            said(Phase::Regular, 400, 100, Some((false, Some("429 from the provider")))),
            said(Phase::Regular, 400, 100, Some((true, None))),
            said(Phase::Closed, 400, 100, None),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        fresh - nothing to say
        fresh - 20 of 100 symbols have no quote of this cycle: 20 symbols were not in the answer
        fresh - the cycle of 2027-03-15 14:00:00 UTC failed: 429 from the provider
        stale - the market is open and the newest quote is of 2027-03-15 13:53:20 UTC, 400 s of trading ago; the cycle of 2027-03-15 14:00:00 UTC failed: 429 from the provider
        stale - the market is open and the newest quote is of 2027-03-15 13:53:20 UTC, 400 s of trading ago
        stale - the newest quote is of 2027-03-15 13:53:20 UTC, 400 s of trading ago
        ");
    }

    #[test]
    fn without_a_cycle_the_data_is_stale_and_says_why() {
        let facts =
            Facts { phase: Phase::Closed, next_transition: DateTime::UNIX_EPOCH, published: None, last_attempt: None };
        assert_eq!(explain(&facts).cause.as_deref(), Some("no cycle has been published yet"));
    }
}
