//! What is wrong, the worst first.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::market::{local, local_to_the_second};
use super::{Code, DORMANT_SHARE, Facts, Failing, FaultKind, UNIVERSE_OLD, is_complete};
use crate::calendar::Phase;

/// Something to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, as one word.
    pub code: Code,
    /// The same as a sentence.
    pub sentence: String,
    /// Since when, where that is known.
    pub since: Option<DateTime<Utc>>,
    /// What an operator runs to look closer.
    pub look: &'static str,
}

/// Everything that is wrong.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let found = [
        no_daemon(facts),
        data(facts),
        breaker(facts),
        does_not_fit(facts),
        incomplete(facts),
        store_behind(facts),
        stands_in(facts),
        universe_old(facts),
        many_dormant(facts),
    ];
    found.into_iter().flatten().collect()
}

fn finding(code: Code, sentence: String, since: Option<DateTime<Utc>>, look: &'static str) -> Option<Finding> {
    Some(Finding { code, sentence, since, look })
}

/// Whether there are numbers, whether they are current, and if not whose fault that is.
fn data(facts: &Facts) -> Option<Finding> {
    let failing = facts.attempts.failing.as_ref();
    let failure = failing.map(|failing| failure(failing, facts.zone));
    let (code, since) = match failing {
        Some(Failing { kind: FaultKind::Quota, since, .. }) => (Code::QuotaSpent, Some(*since)),
        Some(Failing { kind: FaultKind::Store, since, .. }) => (Code::CycleNotKept, Some(*since)),
        Some(Failing { kind: FaultKind::Provider, cycles: 2.., since, .. }) => (Code::ProviderDown, Some(*since)),
        Some(Failing { since, .. }) => (Code::CycleFailed, Some(*since)),
        None => (Code::Stale, facts.published.as_ref().map(|published| published.as_of)),
    };
    let sentence = match (&facts.published, failure) {
        (None, Some(failure)) => failure,
        (None, None) => {
            let sentence = "no cycle has been published yet".to_owned();
            return finding(Code::NoData, sentence, facts.running_since, "bellwether ingest status");
        }
        (Some(published), failure) if facts.is_stale() => {
            let missed = published.age_in_market_time.num_seconds();
            let now = match facts.market.phase {
                Phase::Regular => "the market is open and ".to_owned(),
                _ => String::new(),
            };
            let aged = format!(
                "{now}the newest quote is of {}, {missed} s of trading ago",
                local_to_the_second(published.as_of, facts.zone)
            );
            failure.map_or_else(|| aged.clone(), |failure| format!("{aged}; {failure}"))
        }
        (Some(_), Some(failure)) => failure,
        (Some(_), None) => return None,
    };
    finding(code, sentence, since, "bellwether doctor ingestion")
}

fn failure(failing: &Failing, zone: Tz) -> String {
    let Failing { since, slot, cycles, fault, .. } = failing;
    let (since, slot) = (local_to_the_second(*since, zone), local_to_the_second(*slot, zone));
    let row = if *cycles > 1 { format!(" ({cycles} in a row, since {since})") } else { String::new() };
    format!("the cycle of {slot} failed: {fault}{row}")
}

fn breaker(facts: &Facts) -> Option<Finding> {
    let open = facts.breaker.as_ref()?;
    let at = |at| local_to_the_second(at, facts.zone);
    let until = open.until.map(|until| format!(" until {}", at(until))).unwrap_or_default();
    let reason = open.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let sentence = format!("the provider is not called{until}, its breaker is open since {}{reason}", at(open.since));
    finding(Code::BreakerOpen, sentence, Some(open.since), "bellwether ingest status")
}

fn does_not_fit(facts: &Facts) -> Option<Finding> {
    let plan = facts.does_not_fit.as_ref()?;
    finding(Code::QuotaDoesNotFit, plan.words.clone(), None, "bellwether ingest once --dry-run")
}

fn incomplete(facts: &Facts) -> Option<Finding> {
    let published = facts.published.as_ref()?;
    if is_complete(published.expected, published.fresh) {
        return None;
    }
    let missing = published.expected.saturating_sub(published.fresh);
    let because = facts.attempts.missing.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
    let cycles = facts.attempts.incomplete_cycles;
    let row = if cycles > 1 { format!(" ({cycles} cycles in a row are incomplete)") } else { String::new() };
    let sentence = format!("{missing} of {} symbols have no quote of this cycle{because}{row}", published.expected);
    let code = if cycles > 1 { Code::IncompleteTwice } else { Code::Incomplete };
    finding(code, sentence, facts.attempts.incomplete_since, "bellwether runs ls --job ingest")
}

fn store_behind(facts: &Facts) -> Option<Finding> {
    let behind = facts.store.as_ref()?;
    let fault = behind.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
    let sentence = format!(
        "{} published cycle(s) are not in the database yet, the oldest since {}{fault}",
        behind.cycles,
        local_to_the_second(behind.since, facts.zone)
    );
    finding(Code::StoreBehind, sentence, Some(behind.since), "bellwether doctor ingestion")
}

fn stands_in(facts: &Facts) -> Option<Finding> {
    let universe = &facts.universe;
    let stands_in = universe.source != universe.configured;
    if !stands_in && (universe.source != "built-in" || universe.built_in_will_do) {
        return None;
    }
    let symbols = universe.symbols;
    let (code, sentence) = if stands_in {
        let sentence = format!("the built-in list of {symbols} symbols stands in until the directories have been read");
        (Code::UniverseStandsIn, sentence)
    } else {
        (Code::UniverseBuiltIn, format!("the built-in list of {symbols} symbols is quoted, in production"))
    };
    finding(code, sentence, None, "bellwether doctor ingestion")
}

fn universe_old(facts: &Facts) -> Option<Finding> {
    let universe = &facts.universe;
    let (refreshed_at, age) = universe.refreshed_at.zip(universe.age_seconds_market)?;
    if universe.source == "built-in" || age <= UNIVERSE_OLD.num_seconds() {
        return None;
    }
    let (read, hours) = (local(refreshed_at, facts.zone), age / 3_600);
    let sentence = match universe.made_at {
        Some(made_at) => {
            let made = local(made_at, facts.zone);
            format!(
                "the lists of symbols are of {made} by their own word, {hours} h of trading ago; last read on {read}"
            )
        }
        None => format!("the lists of symbols were last read on {read}, {hours} h of trading ago"),
    };
    let since = universe.made_at.unwrap_or(refreshed_at);
    finding(Code::UniverseOld, sentence, Some(since), "bellwether runs ls --job universe")
}

fn many_dormant(facts: &Facts) -> Option<Finding> {
    let universe = &facts.universe;
    if (universe.dormant as f64) <= universe.symbols as f64 * DORMANT_SHARE {
        return None;
    }
    let sentence = format!(
        "nothing has been heard of {} of {} symbols for cycles in a row: more than can be dead",
        universe.dormant, universe.symbols
    );
    finding(Code::ManyDormant, sentence, None, "bellwether ingest universe --list dormant")
}

fn no_daemon(facts: &Facts) -> Option<Finding> {
    if facts.running_since.is_some() {
        return None;
    }
    let sentence = "no daemon answers here: this is what the database knows".to_owned();
    finding(Code::NoDaemon, sentence, None, "systemctl status bellwether")
}
