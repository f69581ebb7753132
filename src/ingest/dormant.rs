//! PURE: symbols that nothing is heard of again and again are asked for less and less often.
//!
//! A symbol that was asked for, in a call that was answered, and of which nothing usable came, is *silent* in that cycle. After
//! [`SilentSymbol::DORMANT_AFTER`] cycles in a row it is *dormant*: it is asked for after 2, 4, 8, .. cycles, at least once a day, and once at the
//! first cycle of each session. One usable word wakes it. A cycle in which nobody was heard says nothing of anybody.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::providers::RawQuote;
use crate::market::{SilentSymbol, Universe};

/// The longest a dormant symbol is not asked for.
const LONGEST: TimeDelta = TimeDelta::days(1);

/// What a cycle changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Dormant ones with a new row to keep.
    pub dormant: Vec<SilentSymbol>,
    /// Of them those that were not dormant before.
    pub fell_asleep: Vec<String>,
    /// No more dormant, or no more listed: their rows go.
    pub awake: Vec<String>,
}

/// What is remembered of silent symbols.
#[derive(Debug, Clone, Default)]
pub struct NegativeCache {
    silent: BTreeMap<String, SilentSymbol>,
}

impl NegativeCache {
    /// Goes on from what was kept.
    pub fn of(kept: Vec<SilentSymbol>) -> Self {
        Self { silent: kept.into_iter().map(|silent| (silent.symbol.clone(), silent)).collect() }
    }

    /// The dormant symbols of `universe`, in order.
    pub fn dormant<'a>(&'a self, universe: &'a Universe) -> impl Iterator<Item = &'a SilentSymbol> {
        self.silent.values().filter(|silent| silent.is_dormant() && universe.position(&silent.symbol).is_some())
    }

    /// How many are not to be expected in the session that began at `session_start`: dormant, and silent since before it. One that
    /// fell silent in this session is still owed.
    pub fn not_expected(&self, universe: &Universe, session_start: DateTime<Utc>) -> usize {
        self.dormant(universe).filter(|silent| silent.since < session_start).count()
    }

    /// Indices of the symbols that are asked for in the cycle of `slot`.
    pub fn wanted(&self, universe: &Universe, slot: DateTime<Utc>, session_start: DateTime<Utc>) -> Vec<usize> {
        let sleeps = |symbol: &str| {
            self.silent.get(symbol).is_some_and(|silent| {
                silent.is_dormant() && slot < silent.ask_after && silent.last_asked >= session_start
            })
        };
        let listings = universe.listings().iter().enumerate();
        listings.filter(|(_, listing)| !sleeps(&listing.symbol)).map(|(index, _)| index).collect()
    }

    /// Takes in what a cycle brought: `answered` says, by index of `universe`, whose call was answered, `quotes` what was said.
    pub fn learn(
        &mut self,
        universe: &Universe,
        answered: &[bool],
        quotes: &[Option<RawQuote>],
        slot: DateTime<Utc>,
        cadence: TimeDelta,
    ) -> Learned {
        let mut learned = Learned::default();
        let spoke = |index: usize| quotes.get(index).and_then(Option::as_ref).is_some_and(is_usable);
        if !(0..universe.len()).any(spoke) {
            return learned;
        }
        let gone = |symbol: &String| universe.position(symbol).is_none();
        learned.awake.extend(self.silent.keys().filter(|symbol| gone(symbol)).cloned());
        for (index, listing) in universe.listings().iter().enumerate() {
            if spoke(index) {
                if self.silent.get(&listing.symbol).is_some_and(SilentSymbol::is_dormant) {
                    learned.awake.push(listing.symbol.clone());
                }
                self.silent.remove(&listing.symbol);
            } else if answered.get(index).copied().unwrap_or(false) {
                let silent = self.count(&listing.symbol, slot, cadence);
                if silent.is_dormant() {
                    learned
                        .fell_asleep
                        .extend((silent.failures == SilentSymbol::DORMANT_AFTER).then(|| listing.symbol.clone()));
                    learned.dormant.push(silent.clone());
                }
            }
        }
        self.silent.retain(|symbol, _| universe.position(symbol).is_some());
        learned
    }

    fn count(&mut self, symbol: &str, slot: DateTime<Utc>, cadence: TimeDelta) -> &SilentSymbol {
        let first =
            || SilentSymbol { symbol: symbol.to_owned(), failures: 0, since: slot, last_asked: slot, ask_after: slot };
        let silent = self.silent.entry(symbol.to_owned()).or_insert_with(first);
        silent.failures = silent.failures.saturating_add(1);
        silent.last_asked = slot;
        let doublings = (silent.failures + 1).saturating_sub(SilentSymbol::DORMANT_AFTER).min(16);
        silent.ask_after = slot + (cadence * (1 << doublings)).min(LONGEST);
        silent
    }
}

/// A price and a time: whether they are of today is another question.
fn is_usable(words: &RawQuote) -> bool {
    words.price.is_some_and(|price| price > 0.0) && words.at.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN: &str = "2027-03-15T13:30:00Z";

    fn universe() -> Universe {
        Universe::parse_csv("symbol\nDEAD\nGOOD\nMUTE\n", "test.csv").unwrap()
    }

    fn quote() -> Option<RawQuote> {
        Some(RawQuote { at: Some(DateTime::UNIX_EPOCH), price: Some(1.0), ..RawQuote::default() })
    }

    /// The cycles of a day in which DEAD was asked for, as their numbers.
    fn asked(cache: &mut NegativeCache, start: &str, cycles: i32, answers: impl Fn(i32) -> (bool, bool)) -> Vec<i32> {
        let (universe, cadence) = (universe(), TimeDelta::minutes(3));
        let open: DateTime<Utc> = start.parse().unwrap();
        let mut asked = Vec::new();
        for cycle in 0..cycles {
            let slot = open + cadence * cycle;
            let wanted = cache.wanted(&universe, slot, open);
            asked.extend(wanted.contains(&0).then_some(cycle));
            let (call_answered, dead_speaks) = answers(cycle);
            let answered: Vec<bool> = (0..3).map(|index| call_answered && wanted.contains(&index)).collect();
            let quotes = [quote().filter(|_| dead_speaks), quote(), quote()];
            cache.learn(&universe, &answered, &quotes, slot, cadence);
        }
        asked
    }

    #[test]
    fn a_dead_symbol_is_asked_for_less_and_less_often_and_at_each_open() {
        let mut cache = NegativeCache::default();
        let first = asked(&mut cache, OPEN, 130, |_| (true, false));
        let second = asked(&mut cache, "2027-03-16T13:30:00Z", 130, |_| (true, false));
        insta::assert_snapshot!(format!("{first:?}\n{second:?}"), @"
        [0, 1, 2, 3, 4, 6, 10, 18, 34, 66]
        [0, 128]
        ");
        let sunday: DateTime<Utc> = "2027-03-21T13:30:00Z".parse().unwrap();
        assert!(cache.wanted(&universe(), sunday, OPEN.parse().unwrap()).contains(&0), "a day is the longest");
    }

    #[test]
    fn thirty_four_dead_ones_of_1536_cost_less_than_one_percent() {
        let symbols: String = (0..1_536).map(|n| format!("S{n:04}\n")).collect();
        let universe = Universe::parse_csv(&format!("symbol\n{symbols}"), "test.csv").unwrap();
        let quotes: Vec<_> = (0..1_536).map(|index| quote().filter(|_| index >= 34)).collect();
        let (open, cadence) = (OPEN.parse::<DateTime<Utc>>().unwrap(), TimeDelta::minutes(3));
        let mut cache = NegativeCache::default();
        let (mut dead, mut all) = (0, 0);
        for cycle in 0..130 {
            let slot = open + cadence * cycle;
            let wanted = cache.wanted(&universe, slot, open);
            dead += wanted.iter().filter(|index| **index < 34).count();
            all += wanted.len();
            let answered: Vec<bool> = (0..1_536).map(|index| wanted.binary_search(&index).is_ok()).collect();
            cache.learn(&universe, &answered, &quotes, slot, cadence);
        }
        assert!(dead * 100 < all, "{dead} of {all} questions of the first day");
    }

    #[test]
    fn a_word_wakes_it() {
        let mut cache = NegativeCache::default();
        let asked = asked(&mut cache, OPEN, 20, |cycle| (true, cycle == 6));
        assert_eq!(asked[..9], [0, 1, 2, 3, 4, 6, 7, 8, 9], "two cycles after the fifth, and each from then on");
    }

    #[test]
    fn a_call_that_failed_and_a_cycle_in_which_nobody_spoke_count_for_nobody() {
        let mut cache = NegativeCache::default();
        let each: Vec<i32> = (0..40).collect();
        assert_eq!(asked(&mut cache, OPEN, 40, |_| (false, false)), each);
        let (universe, slot) = (universe(), OPEN.parse().unwrap());
        for _ in 0..40 {
            assert_eq!(cache.learn(&universe, &[true; 3], &[None; 3], slot, TimeDelta::minutes(3)), Learned::default());
        }
        assert_eq!(cache.dormant(&universe).count(), 0);
    }

    #[test]
    fn who_fell_silent_in_this_session_is_still_owed() {
        let mut cache = NegativeCache::default();
        asked(&mut cache, OPEN, 30, |_| (true, false));
        let (universe, first, second) = (universe(), OPEN.parse().unwrap(), "2027-03-16T13:30:00Z".parse().unwrap());
        assert_eq!(cache.dormant(&universe).count(), 1);
        assert_eq!((cache.not_expected(&universe, first), cache.not_expected(&universe, second)), (0, 1));
        let without = Universe::parse_csv("symbol\nGOOD\nMUTE\n", "test.csv").unwrap();
        let learned = cache.learn(&without, &[true; 2], &[quote(), quote()], second, TimeDelta::minutes(3));
        assert_eq!((learned.awake, cache.dormant(&universe).count()), (vec!["DEAD".to_owned()], 0));
    }

    proptest! {
        /// Whatever is answered, everybody is asked for at the first cycle of a session, and nobody is left out for more than a day.
        #[test]
        fn nobody_is_forgotten(answers in prop::collection::vec((any::<bool>(), any::<bool>()), 1..200)) {
            let mut cache = NegativeCache::default();
            let (universe, cadence) = (universe(), TimeDelta::minutes(3));
            let open: DateTime<Utc> = OPEN.parse().unwrap();
            let mut last_asked = open;
            for (cycle, (answered, speaks)) in (0..).zip(&answers) {
                let slot = open + cadence * cycle;
                let wanted = cache.wanted(&universe, slot, open);
                if wanted.contains(&0) {
                    last_asked = slot;
                }
                prop_assert!(slot - last_asked < LONGEST);
                let heard = wanted.contains(&0) && *answered;
                let quotes = [quote().filter(|_| heard && *speaks), quote(), None];
                cache.learn(&universe, &[heard, true, *answered], &quotes, slot, cadence);
                let next_open = slot + TimeDelta::hours(18);
                prop_assert_eq!(cache.wanted(&universe, next_open, next_open).len(), 3);
            }
        }
    }
}
