//! PURE: symbols that nothing is heard of again and again are asked for less and less often.
//!
//! A symbol that was asked for, in a call that was answered, and of which nothing came, is *silent* in that cycle. After
//! [`SilentSymbol::DORMANT_AFTER`] cycles in a row it is *dormant*: it is asked for after 2, 4, 8, .. cycles, at least once a day, and once at the
//! first cycle of each session. One usable word wakes it. A cycle in which nobody was heard says nothing of anybody. A symbol
//! that is named without a price is untraded, not silent: that counts once a session.
//!
//! A symbol that the provider refuses, alone, is dormant at once. Dormant ones are asked for apart from the others, and a group of
//! them that is refused is asked for as a whole no more: it is halved, and the parts take turns in one of [`CALLS_FOR_A_PART`] calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::fetch::{Fetched, Wanted};
use super::providers::RawQuote;
use crate::market::{SilentSymbol, Universe};

/// The longest a dormant symbol is not asked for.
const LONGEST: TimeDelta = TimeDelta::days(1);

/// One call in so many is for a part of the dormant symbols that are refused: less than a hundredth of them.
const CALLS_FOR_A_PART: usize = 128;

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
    /// Dormant ones that are refused, in the parts that they are asked for in; the first is the next.
    refused: VecDeque<Vec<String>>,
    /// Calls made that no part has been asked for in return yet.
    calls: usize,
}

impl NegativeCache {
    /// Goes on from what was kept.
    pub fn of(kept: Vec<SilentSymbol>) -> Self {
        let silent = kept.into_iter().map(|silent| (silent.symbol.clone(), silent)).collect();
        Self { silent, ..Self::default() }
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

    /// What is asked for in the cycle of `slot`.
    pub fn wanted(&self, universe: &Universe, slot: DateTime<Utc>, session_start: DateTime<Utc>) -> Wanted {
        let refused: BTreeSet<&str> = self.refused.iter().flatten().map(String::as_str).collect();
        let mut wanted = Wanted::default();
        let mut dormant = Vec::new();
        for (index, listing) in universe.listings().iter().enumerate() {
            match self.silent.get(&listing.symbol).filter(|silent| silent.is_dormant()) {
                None => wanted.symbols.push(index),
                Some(silent) if slot < silent.ask_after && silent.last_asked >= session_start => {}
                Some(_) if refused.contains(listing.symbol.as_str()) => {}
                Some(_) => dormant.push(index),
            }
        }
        let parts = self.refused.iter().take(self.calls / CALLS_FOR_A_PART).map(|part| indices(universe, part));
        wanted.apart = std::iter::once(dormant).chain(parts).filter(|part| !part.is_empty()).collect();
        wanted
    }

    /// Takes in what a cycle brought.
    pub fn learn(
        &mut self,
        universe: &Universe,
        fetched: &Fetched,
        slot: DateTime<Utc>,
        session_start: DateTime<Utc>,
        cadence: TimeDelta,
    ) -> Learned {
        let mut learned = Learned::default();
        let said = |index: usize| fetched.quotes.get(index).and_then(Option::as_ref);
        let heard = (0..universe.len()).filter(|index| said(*index).is_some_and(RawQuote::is_usable)).count();
        if heard == 0 {
            return learned;
        }
        self.take_turns(universe, fetched);
        // Where more are refused than heard of it is not their fault.
        let are_to_blame = fetched.refused.len() < heard;
        let refused: BTreeSet<&usize> = fetched.refused.iter().filter(|_| are_to_blame).collect();
        let gone = |symbol: &String| universe.position(symbol).is_none();
        learned.awake.extend(self.silent.keys().filter(|symbol| gone(symbol)).cloned());
        for (index, listing) in universe.listings().iter().enumerate() {
            let known = self.silent.get(&listing.symbol);
            let is_dormant = known.is_some_and(SilentSymbol::is_dormant);
            if said(index).is_some_and(RawQuote::is_usable) {
                learned.awake.extend(is_dormant.then(|| listing.symbol.clone()));
                self.silent.remove(&listing.symbol);
                continue;
            }
            let counted = known.is_some_and(|silent| silent.last_asked >= session_start);
            let untraded = said(index).is_some() && counted && !is_dormant;
            if untraded || !fetched.answered.get(index).copied().unwrap_or(false) {
                continue;
            }
            let least = if refused.contains(&index) { SilentSymbol::DORMANT_AFTER } else { 0 };
            let silent = self.count(&listing.symbol, least, slot, cadence);
            if silent.is_dormant() {
                learned.fell_asleep.extend((!is_dormant).then(|| listing.symbol.clone()));
                learned.dormant.push(silent.clone());
            }
        }
        self.silent.retain(|symbol, _| universe.position(symbol).is_some());
        for part in &mut self.refused {
            part.retain(|symbol| self.silent.get(symbol).is_some_and(SilentSymbol::is_dormant));
        }
        self.refused.retain(|part| !part.is_empty());
        learned
    }

    /// What becomes of the parts that were asked for: one that was answered is no part any more, one that was refused is halved.
    fn take_turns(&mut self, universe: &Universe, fetched: &Fetched) {
        for _ in 0..(self.calls / CALLS_FOR_A_PART).min(self.refused.len()) {
            let Some(part) = self.refused.pop_front() else { break };
            let asked = indices(universe, &part);
            if !asked.iter().all(|index| fetched.answered.get(*index).copied().unwrap_or(false)) {
                // The call failed: the next one that there is.
                self.refused.push_back(part);
                continue;
            }
            self.calls -= CALLS_FOR_A_PART;
        }
        for spoilt in &fetched.spoilt {
            let listings = spoilt.iter().filter_map(|index| universe.listings().get(*index));
            let mut part: Vec<String> = listings.map(|listing| listing.symbol.clone()).collect();
            let second = part.split_off(part.len() / 2);
            self.refused.extend([part, second].into_iter().filter(|part| !part.is_empty()));
        }
        // Nothing is saved up while there is nothing to ask for.
        self.calls = if self.refused.is_empty() { 0 } else { self.calls + fetched.requests as usize };
    }

    /// One more silent cycle, and at `least` so many.
    fn count(&mut self, symbol: &str, least: u32, slot: DateTime<Utc>, cadence: TimeDelta) -> &SilentSymbol {
        let first =
            || SilentSymbol { symbol: symbol.to_owned(), failures: 0, since: slot, last_asked: slot, ask_after: slot };
        let silent = self.silent.entry(symbol.to_owned()).or_insert_with(first);
        silent.failures = silent.failures.saturating_add(1).max(least);
        silent.last_asked = slot;
        let doublings = (silent.failures + 1).saturating_sub(SilentSymbol::DORMANT_AFTER).min(16);
        silent.ask_after = slot + (cadence * (1 << doublings)).min(LONGEST);
        silent
    }
}

/// Of the symbols that are listed.
fn indices(universe: &Universe, symbols: &[String]) -> Vec<usize> {
    symbols.iter().filter_map(|symbol| universe.position(symbol)).collect()
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

    /// A cycle with these answers and quotes, and nothing else of note.
    fn fetched(answered: &[bool], quotes: &[Option<RawQuote>]) -> Fetched {
        Fetched { answered: answered.to_vec(), quotes: quotes.to_vec(), requests: 16, ..Fetched::default() }
    }

    fn is_asked(wanted: &Wanted, index: usize) -> bool {
        wanted.symbols.iter().chain(wanted.apart.iter().flatten()).any(|asked| *asked == index)
    }

    /// The cycles of a day in which DEAD was asked for, as their numbers.
    fn asked(cache: &mut NegativeCache, start: &str, cycles: i32, answers: impl Fn(i32) -> (bool, bool)) -> Vec<i32> {
        let (universe, cadence) = (universe(), TimeDelta::minutes(3));
        let open: DateTime<Utc> = start.parse().unwrap();
        let mut asked = Vec::new();
        for cycle in 0..cycles {
            let slot = open + cadence * cycle;
            let wanted = cache.wanted(&universe, slot, open);
            asked.extend(is_asked(&wanted, 0).then_some(cycle));
            let (call_answered, dead_speaks) = answers(cycle);
            let answered: Vec<bool> = (0..3).map(|index| call_answered && is_asked(&wanted, index)).collect();
            let quotes = [quote().filter(|_| dead_speaks), quote(), quote()];
            cache.learn(&universe, &fetched(&answered, &quotes), slot, open, cadence);
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
        let wanted = cache.wanted(&universe(), sunday, OPEN.parse().unwrap());
        assert_eq!(
            (wanted.symbols, wanted.apart),
            (vec![1, 2], vec![vec![0]]),
            "a day is the longest; it spoils no batch"
        );
    }

    /// A provider that is asked for 1,536 symbols in batches of a hundred: the first 34 are dead, and it leaves them out of its
    /// answer or refuses every call they are part of.
    struct Provider {
        universe: Universe,
        refuses: bool,
        dead: usize,
    }

    impl Provider {
        fn new(refuses: bool) -> Self {
            let symbols: String = (0..1_536).map(|n| format!("S{n:04}\n")).collect();
            Self {
                universe: Universe::parse_csv(&format!("symbol\n{symbols}"), "test.csv").unwrap(),
                refuses,
                dead: 34,
            }
        }

        /// The calls of a day of 130 cycles, and of them those for groups apart.
        fn day(&self, cache: &mut NegativeCache, open: DateTime<Utc>) -> (usize, usize) {
            let cadence = TimeDelta::minutes(3);
            let (mut calls, mut apart) = (0, 0);
            for cycle in 0..130 {
                let slot = open + cadence * cycle;
                let wanted = cache.wanted(&self.universe, slot, open);
                let mut fetched = self.answer(&wanted);
                fetched.requests = u32::try_from(wanted.symbols.len().div_ceil(100) + wanted.apart.len()).unwrap();
                calls += fetched.requests as usize;
                apart += wanted.apart.len();
                cache.learn(&self.universe, &fetched, slot, open, cadence);
            }
            (calls, apart)
        }

        fn answer(&self, wanted: &Wanted) -> Fetched {
            let nothing = || vec![None; self.universe.len()];
            let mut fetched =
                Fetched { quotes: nothing(), answered: vec![false; self.universe.len()], ..Fetched::default() };
            let groups = wanted.apart.iter().map(|group| (group, true)).chain([(&wanted.symbols, false)]);
            for (group, is_apart) in groups {
                let bad: Vec<usize> = group.iter().copied().filter(|index| *index < self.dead).collect();
                group.iter().for_each(|index| fetched.answered[*index] = true);
                if self.refuses && is_apart && !bad.is_empty() {
                    fetched.spoilt.push(group.clone());
                    continue;
                }
                let good = group.iter().filter(|index| **index >= self.dead);
                good.for_each(|index| fetched.quotes[*index] = quote());
                if self.refuses {
                    fetched.refused.extend(bad);
                }
            }
            fetched
        }
    }

    #[test]
    fn thirty_four_dead_ones_of_1536_cost_less_than_one_percent() {
        for refuses in [false, true] {
            let (mut provider, mut cache) = (Provider::new(refuses), NegativeCache::default());
            let mut open = OPEN.parse::<DateTime<Utc>>().unwrap();
            for day in 0..4 {
                let (calls, apart) = provider.day(&mut cache, open);
                assert!(apart * 100 < calls, "{apart} of {calls} calls of day {day}, refused: {refuses}");
                assert_eq!(cache.dormant(&provider.universe).count(), 34, "day {day}");
                // A restart knows of each what the database has: that it is dormant.
                if day == 1 {
                    cache = NegativeCache::of(cache.silent.into_values().collect());
                }
                open += TimeDelta::days(1);
            }
            // One among the others that is put right is found, as are those that were never to blame.
            provider.dead = 33;
            for _ in 0..8 {
                provider.day(&mut cache, open);
                open += TimeDelta::days(1);
            }
            assert_eq!(cache.dormant(&provider.universe).count(), 33, "refused: {refuses}");
        }
    }

    #[test]
    fn where_everything_is_refused_no_symbol_is_to_blame() {
        let (mut provider, mut cache) = (Provider::new(true), NegativeCache::default());
        let open = OPEN.parse().unwrap();
        let all = cache.wanted(&provider.universe, open, open);
        provider.dead = 1_000;
        cache.learn(&provider.universe, &provider.answer(&all), open, open, TimeDelta::minutes(3));
        assert_eq!(cache.dormant(&provider.universe).count(), 0);
    }

    #[test]
    fn a_symbol_that_is_named_without_a_price_is_untraded_and_not_silent() {
        let (universe, cadence, mut cache) = (universe(), TimeDelta::minutes(3), NegativeCache::default());
        let mut open = OPEN.parse::<DateTime<Utc>>().unwrap();
        // As after a provider's daily clear: zeros, until the first trade.
        let cleared = Some(RawQuote { previous_close: Some(25.0), ..RawQuote::default() });
        for session in 0..5 {
            assert_eq!(cache.dormant(&universe).count(), 0, "session {session}");
            for cycle in 0..130 {
                let quotes = [cleared, if cycle < 100 { cleared } else { quote() }, quote()];
                cache.learn(&universe, &fetched(&[true; 3], &quotes), open + cadence * cycle, open, cadence);
            }
            open += TimeDelta::days(1);
        }
        let dormant: Vec<_> = cache.dormant(&universe).map(|silent| silent.symbol.as_str()).collect();
        assert_eq!(dormant, ["DEAD"], "five sessions without a trade");
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
            let nothing = fetched(&[true; 3], &[None; 3]);
            assert_eq!(cache.learn(&universe, &nothing, slot, slot, TimeDelta::minutes(3)), Learned::default());
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
        let both = fetched(&[true; 2], &[quote(), quote()]);
        let learned = cache.learn(&without, &both, second, second, TimeDelta::minutes(3));
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
                if is_asked(&wanted, 0) {
                    last_asked = slot;
                }
                prop_assert!(slot - last_asked < LONGEST);
                let heard = is_asked(&wanted, 0) && *answered;
                let quotes = [quote().filter(|_| heard && *speaks), quote(), None];
                cache.learn(&universe, &fetched(&[heard, true, *answered], &quotes), slot, open, cadence);
                let next_open = slot + TimeDelta::hours(18);
                prop_assert_eq!(cache.wanted(&universe, next_open, next_open).len(), 3);
            }
        }
    }
}
