//! PURE: how many calls may be under way at once, learned from how the provider answers, and when a call is slow.

use std::time::Duration;

/// Answers of a cycle before its latencies say anything.
const ENOUGH: usize = 20;

/// The latencies that are looked at: the newest so many of the cycle.
const REMEMBERED: usize = 512;

/// The usual latency is the least of so many answers, and of those before them.
const WINDOW: u32 = 256;

/// Additive increase, multiplicative decrease, between 1 and a most. One step down for each flight of calls, however many of
/// them fail: they all left before the step.
#[derive(Debug, Clone)]
pub struct Pace {
    most: f64,
    limit: f64,
    usual: Usual,
    /// Answers still to come from calls that left before the last step down.
    of_old_flight: u32,
}

impl Pace {
    /// Begins at the most: a provider within its quota is not pressed until it shows it.
    pub fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { most, limit: most, usual: Usual::default(), of_old_flight: 0 }
    }

    /// Calls that may be under way.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A cycle begins: what is left of the one before it, whose calls were given up, excuses no fault of this one.
    pub fn cycle_begins(&mut self) {
        self.of_old_flight = 0;
    }

    /// A call was answered: a little more, or less where it took many times the usual. `latency` is that of a call like most;
    /// others have none: a call for two symbols is quick and one for the past is slow, and neither says how long a batch takes.
    pub fn answered(&mut self, latency: Option<Duration>) {
        const TOLERANCE: Duration = Duration::from_millis(100);
        if latency.is_some_and(|latency| latency > self.usual.with(latency) * 3 + TOLERANCE) {
            self.step_down(0.9);
        } else {
            self.of_old_flight = self.of_old_flight.saturating_sub(1);
            // One more for each full flight of good answers.
            self.limit = (self.limit + 1.0 / self.limit).min(self.most);
        }
    }

    /// A call failed for a reason that lies with the provider or the way to it.
    pub fn failed(&mut self) {
        self.step_down(0.5);
    }

    fn step_down(&mut self, factor: f64) {
        if self.of_old_flight > 0 {
            self.of_old_flight -= 1;
            return;
        }
        self.of_old_flight = (self.limit as u32).saturating_sub(1);
        self.limit = (self.limit * factor).max(1.0);
    }
}

/// The latency of a provider that is not pressed, as far as the newest answers know it.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    /// The least of the last full window.
    before: Option<Duration>,
    /// The least of the window under way.
    least: Option<Duration>,
    answers: u32,
}

impl Usual {
    /// Takes in an answer, and says what is usual with it.
    fn with(&mut self, latency: Duration) -> Duration {
        let least = self.least.map_or(latency, |least| least.min(latency));
        let usual = self.before.map_or(least, |before| before.min(least));
        self.least = Some(least);
        self.answers += 1;
        if self.answers == WINDOW {
            *self = Self { before: self.least, least: None, answers: 0 };
        }
        usual
    }
}

/// The latencies of one cycle.
#[derive(Debug, Default)]
pub struct Latencies {
    newest: Vec<Duration>,
    count: usize,
}

impl Latencies {
    /// A call was answered.
    pub fn add(&mut self, latency: Duration) {
        let place = self.count % REMEMBERED;
        match self.newest.get_mut(place) {
            Some(slot) => *slot = latency,
            None => self.newest.push(latency),
        }
        self.count += 1;
    }

    /// What 95 of 100 calls stay below; `None` while there are too few to say.
    pub fn p95(&self) -> Option<Duration> {
        if self.newest.len() < ENOUGH {
            return None;
        }
        let mut sorted = self.newest.clone();
        let place = (sorted.len() * 95).div_ceil(100) - 1;
        let (_, p95, _) = sorted.select_nth_unstable(place);
        Some(*p95)
    }
}

/// Whether one more second copy of a call is within `percent` of the calls made.
pub fn may_hedge(calls: u32, hedged: u32, percent: u32) -> bool {
    (u64::from(hedged) + 1) * 100 <= u64::from(calls) * u64::from(percent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: Duration = Duration::from_millis(20);

    #[test]
    fn a_whole_flight_that_fails_is_one_step_down() {
        let mut pace = Pace::new(64);
        for _ in 0..64 {
            pace.failed();
        }
        assert_eq!(pace.limit(), 32);
        pace.failed();
        assert_eq!(pace.limit(), 16);
    }

    #[test]
    fn calls_that_were_given_up_excuse_nothing_of_the_next_cycle() {
        let mut pace = Pace::new(64);
        pace.failed();
        pace.cycle_begins();
        pace.failed();
        assert_eq!(pace.limit(), 16);
    }

    #[test]
    fn it_comes_back_by_one_a_flight() {
        let mut pace = Pace::new(8);
        pace.failed();
        assert_eq!(pace.limit(), 4);
        for _ in 0..5 {
            pace.answered(Some(QUICK));
        }
        assert_eq!(pace.limit(), 5);
        for _ in 0..100 {
            pace.answered(Some(QUICK));
        }
        assert_eq!(pace.limit(), 8);
    }

    #[test]
    fn slow_answers_take_it_down_and_quick_ones_do_not() {
        let mut pace = Pace::new(32);
        for _ in 0..200 {
            pace.answered(Some(QUICK));
        }
        assert_eq!(pace.limit(), 32);
        for _ in 0..200 {
            pace.answered(Some(Duration::from_secs(2)));
        }
        assert!(pace.limit() < 32, "{}", pace.limit());
    }

    #[test]
    fn calls_of_another_size_do_not_make_the_usual_ones_look_slow() {
        let mut pace = Pace::new(8);
        for _ in 0..50 {
            // A second question for a mover, between batches that always take so long.
            pace.answered(None);
            for milliseconds in [900, 870, 1_100, 940] {
                pace.answered(Some(Duration::from_millis(milliseconds)));
            }
        }
        assert_eq!(pace.limit(), 8);
        // The least of long ago is no measure for ever.
        pace.answered(Some(QUICK));
        for _ in 0..2_000 {
            pace.answered(Some(Duration::from_millis(900)));
        }
        assert_eq!(pace.limit(), 8, "one quick answer is forgotten");
    }

    #[test]
    fn hedges_are_five_in_a_hundred_at_most() {
        assert!(!may_hedge(19, 0, 5));
        assert!(may_hedge(20, 0, 5));
        assert!(!may_hedge(39, 1, 5));
        assert!(!may_hedge(1_000, 0, 0));
    }

    proptest! {
        #[test]
        fn the_limit_stays_in_bounds_and_errors_never_raise_it(
            most in 1_usize..256, events in prop::collection::vec(prop::option::of(0_u64..5_000), 0..400)
        ) {
            let mut pace = Pace::new(most);
            for event in events {
                let before = pace.limit();
                match event {
                    Some(milliseconds) => pace.answered(Some(Duration::from_millis(milliseconds))),
                    None => pace.failed(),
                }
                prop_assert!((1..=most).contains(&pace.limit()));
                prop_assert!(pace.limit() <= before + 1);
                prop_assert!(event.is_some() || pace.limit() <= before);
            }
            for _ in 0..300 * most {
                pace.answered(Some(QUICK));
            }
            prop_assert_eq!(pace.limit(), most, "it always comes back");
        }

        #[test]
        fn p95_is_what_a_sort_says(latencies in prop::collection::vec(0_u64..10_000, 20..400)) {
            let mut seen = Latencies::default();
            for latency in &latencies {
                seen.add(Duration::from_millis(*latency));
            }
            let mut sorted = latencies;
            sorted.sort_unstable();
            let above = sorted[(sorted.len() * 95).div_ceil(100) - 1];
            prop_assert_eq!(seen.p95(), Some(Duration::from_millis(above)));
        }
    }
}
