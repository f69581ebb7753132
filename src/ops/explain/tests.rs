//! Each state, on the real calendar: what is said, and what readers are told of it.

use super::*;
use crate::calendar::{Calendar, Calendars};

/// The fourth Thursday of November 2026 is a holiday, and the Friday after it a half day.
const THURSDAY: &str = "2026-11-26";
const FRIDAY: &str = "2026-11-27";

struct Case {
    facts: Facts,
    calendar: std::sync::Arc<Calendar>,
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A market that was quoted whole, the newest quote of `as_of`.
fn case(now: &str, as_of: &str) -> Case {
    let calendar = Calendars::built_in().unwrap().of("XNYS").unwrap();
    let (now, as_of) = (instant(now), instant(as_of));
    let published = Published {
        slot: as_of,
        as_of,
        age_in_market_time: calendar.open_time_between(as_of, now),
        tolerated: TimeDelta::seconds(360),
        closes_only: false,
        lag: TimeDelta::zero(),
        expected: 600,
        fresh: 600,
    };
    let universe = UniverseFacts {
        source: "file".to_owned(),
        configured: "file".to_owned(),
        symbols: 600,
        dormant: 0,
        refreshed_at: Some(now),
        made_at: None,
        age_seconds_market: Some(0),
        built_in_will_do: false,
    };
    let facts = Facts {
        now,
        zone: calendar.zone(),
        market: MarketNow::of(&calendar, now),
        running_since: Some(instant("2026-11-20T12:00:00Z")),
        published: Some(published),
        attempts: Attempts::default(),
        next_slot: None,
        universe,
        breaker: None,
        does_not_fit: None,
        store: None,
    };
    Case { facts, calendar }
}

/// The same after a close at a full hour, with the cycle five minutes later.
fn closed(now: &str, as_of: &str) -> Case {
    case(now, as_of).with(|facts| {
        let published = facts.published.as_mut().unwrap();
        published.slot = published.as_of + TimeDelta::seconds(310);
    })
}

impl Case {
    fn with(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut self.facts);
        self
    }

    /// Cycles failed in each slot from `from`, three minutes apart.
    fn failing(self, from: &str, cycles: i32, kind: FaultKind, fault: &str) -> Self {
        let from = instant(from);
        self.with(|facts| {
            for cycle in 0..cycles {
                facts.attempts.failed(from + TimeDelta::minutes(3) * cycle, kind, fault.to_owned());
            }
        })
    }

    fn incomplete(self, cycles: u32, fresh: u32) -> Self {
        self.with(|facts| {
            for cycle in 0..cycles {
                let slot = facts.now - TimeDelta::minutes(3) * i32::try_from(cycles - cycle).unwrap();
                facts.attempts.published(slot, 600, fresh, Some("90 not in the answer".to_owned()));
            }
            facts.published.as_mut().unwrap().fresh = fresh;
        })
    }

    /// `STATE fresh|stale, since ..: what is said`, then what readers are told if it is something else, then the other findings.
    fn told(self) -> String {
        let why = explain(&self.facts);
        let stale = if why.stale { "stale" } else { "fresh" };
        let since = why.since.map(|since| format!(", since {}", since.format("%d %H:%M"))).unwrap_or_default();
        let Verdict { cause, stale: told_stale } = why.verdict();
        assert_eq!(told_stale, why.stale);
        let readers = match cause {
            Some(cause) if cause == why.sentence => "\n  readers: the same".to_owned(),
            Some(cause) => format!("\n  readers: {cause}"),
            None => String::new(),
        };
        let listed = |finding: &Finding| Code::FINDINGS.contains(&finding.code) || finding.code == Code::NoDaemon;
        assert!(why.findings.iter().all(listed), "an alert cannot ask for what is not in the list");
        let others = why.findings.iter().skip(1).map(|finding| format!("\n  also {}", finding.code.name()));
        assert_eq!(why.healthy, why.findings.is_empty());
        assert_eq!(serde_json::to_value(why.code).unwrap(), why.code.name(), "the word is the same everywhere");
        format!("{} {stale}{since}: {}{readers}{}\n", why.code.name(), why.sentence, others.collect::<String>())
    }
}

#[test]
fn quotes_are_called_those_of_the_close_only_where_they_are() {
    let said = |as_of: &str, slot: &str, lag_minutes: i64| {
        let case = case("2026-11-25T22:00:00Z", as_of).with(|facts| {
            let published = facts.published.as_mut().unwrap();
            published.slot = instant(slot);
            published.lag = TimeDelta::minutes(lag_minutes);
            published.tolerated += published.lag;
        });
        let told = case.told();
        told.rsplit("; ").next().unwrap().trim().to_owned()
    };
    let of_close = "the quotes are those of the close";
    assert_eq!(said("2026-11-25T20:59:50Z", "2026-11-25T21:05:00Z", 0), of_close);
    assert_eq!(said("2026-11-25T21:00:04Z", "2026-11-25T21:05:00Z", 0), of_close, "the auction prints after the close");
    assert_eq!(said("2026-11-25T20:59:50Z", "2026-11-25T21:20:00Z", 15), of_close);
    let quoted = |at: &str| format!("the newest quote is of Wed 2026-11-25 {at} EST");
    // The cycle of the close is yet to come, or came too early for a source that lags; after hours it is another price.
    assert_eq!(said("2026-11-25T20:56:50Z", "2026-11-25T20:57:00Z", 0), quoted("15:56"));
    assert_eq!(said("2026-11-25T20:50:00Z", "2026-11-25T21:05:00Z", 15), quoted("15:50"));
    assert_eq!(said("2026-11-25T21:04:50Z", "2026-11-25T21:05:00Z", 0), quoted("16:04"));
}

#[test]
fn what_the_market_does_is_told_in_its_own_time() {
    let wednesday_close = "2026-11-25T20:59:50Z";
    let friday_close = "2026-11-27T17:59:50Z";
    let told = [
        case("2026-11-25T15:00:00Z", "2026-11-25T14:59:30Z").told(),
        case("2026-11-25T14:31:00Z", "2026-11-24T20:59:50Z")
            .with(|facts| facts.next_slot = Some(instant("2026-11-25T14:33:00Z")))
            .told(),
        closed("2026-11-25T22:00:00Z", wednesday_close).told(),
        closed(&format!("{THURSDAY}T15:00:00Z"), wednesday_close).told(),
        closed(&format!("{FRIDAY}T13:00:00Z"), wednesday_close).told(),
        case(&format!("{FRIDAY}T17:00:00Z"), "2026-11-27T16:59:50Z").told(),
        // Ten minutes after a half day's close, and the whole weekend after it, nothing is stale.
        closed(&format!("{FRIDAY}T18:10:00Z"), friday_close).told(),
        closed("2026-11-28T15:00:00Z", friday_close).told(),
        closed("2026-11-30T14:00:00Z", friday_close).told(),
        closed("2025-01-09T15:00:00Z", "2025-01-08T20:59:50Z").told(),
    ];
    insta::assert_snapshot!(told.concat(), @"
    fresh fresh, since 25 14:59: the market is open and the newest quote is 30 s old; 600 of 600 symbols are fresh
    waiting_for_first_cycle fresh, since 25 14:30: the market has opened at Wed 2026-11-25 09:30 EST and its first cycle is yet to be published, due at Wed 2026-11-25 09:33 EST; the newest quote is of Tue 2026-11-24 15:59 EST
    closed fresh, since 25 21:00: the market has been closed since Wed 2026-11-25 16:00 EST; it opens on Fri 2026-11-27 09:30 EST; the quotes are those of the close
    holiday fresh, since 25 21:00: the market is closed today for a holiday (Thanksgiving Day); it opens on Fri 2026-11-27 09:30 EST; the quotes are those of the close
    closed fresh, since 25 21:00: the market has been closed since Wed 2026-11-25 16:00 EST; it opens on Fri 2026-11-27 09:30 EST; the quotes are those of the close
    fresh fresh, since 27 16:59: the market is open and the newest quote is 10 s old; 600 of 600 symbols are fresh; it closes early, at Fri 2026-11-27 13:00 EST (Day after Thanksgiving)
    early_close fresh, since 27 18:00: the market closed early, at Fri 2026-11-27 13:00 EST (Day after Thanksgiving); it opens on Mon 2026-11-30 09:30 EST; the quotes are those of the close
    weekend fresh, since 27 18:00: the market is closed for the weekend; it opens on Mon 2026-11-30 09:30 EST; the quotes are those of the close
    closed fresh, since 27 18:00: the market has been closed since Fri 2026-11-27 13:00 EST; it opens on Mon 2026-11-30 09:30 EST; the quotes are those of the close
    closure fresh, since 08 21:00: the market is closed today by decision (National day of mourning for former President Carter); it opens on Fri 2025-01-10 09:30 EST; the quotes are those of the close
    ");
}

#[test]
fn a_provider_that_is_down_is_told_apart_from_a_closed_market() {
    let good = "2026-11-25T14:59:30Z";
    let refused = "massive: HTTP 503";
    let told = [
        case("2026-11-25T15:03:30Z", good).failing("2026-11-25T15:03:00Z", 1, FaultKind::Provider, refused).told(),
        case("2026-11-25T15:06:30Z", good).failing("2026-11-25T15:03:00Z", 2, FaultKind::Provider, refused).told(),
        case("2026-11-25T16:00:00Z", good).failing("2026-11-25T15:03:00Z", 20, FaultKind::Provider, refused).told(),
        // Down until after the close: the market is closed, and the data is old all the same.
        case("2026-11-25T22:00:00Z", good).failing("2026-11-25T15:03:00Z", 120, FaultKind::Provider, refused).told(),
        case("2026-11-25T15:06:30Z", good)
            .failing("2026-11-25T15:03:00Z", 2, FaultKind::Quota, "no call is left")
            .told(),
        case("2026-11-25T15:06:30Z", good)
            .failing("2026-11-25T15:03:00Z", 1, FaultKind::Store, "the disk is full")
            .told(),
        case("2026-11-25T15:20:00Z", good).told(),
        case("2026-11-25T15:20:00Z", good).with(|facts| facts.running_since = None).told(),
        case("2026-11-25T15:20:00Z", good).with(|facts| facts.published = None).told(),
        case("2026-11-25T15:20:00Z", good)
            .failing("2026-11-25T15:03:00Z", 1, FaultKind::Provider, refused)
            .with(|facts| facts.published = None)
            .told(),
    ];
    insta::assert_snapshot!(told.concat(), @"
    cycle_failed fresh, since 25 15:03: the cycle of Wed 2026-11-25 10:03:00 EST failed: massive: HTTP 503
      readers: the same
    provider_down stale, since 25 15:03: the market is open and the newest quote is of Wed 2026-11-25 09:59:30 EST, 420 s of trading ago; the cycle of Wed 2026-11-25 10:06:00 EST failed: massive: HTTP 503 (2 in a row, since Wed 2026-11-25 10:03:00 EST)
      readers: the same
    provider_down stale, since 25 15:03: the market is open and the newest quote is of Wed 2026-11-25 09:59:30 EST, 3630 s of trading ago; the cycle of Wed 2026-11-25 11:00:00 EST failed: massive: HTTP 503 (20 in a row, since Wed 2026-11-25 10:03:00 EST)
      readers: the same
    provider_down stale, since 25 15:03: the newest quote is of Wed 2026-11-25 09:59:30 EST, 21630 s of trading ago; the cycle of Wed 2026-11-25 16:00:00 EST failed: massive: HTTP 503 (120 in a row, since Wed 2026-11-25 10:03:00 EST)
      readers: the same
    quota_spent stale, since 25 15:03: the market is open and the newest quote is of Wed 2026-11-25 09:59:30 EST, 420 s of trading ago; the cycle of Wed 2026-11-25 10:06:00 EST failed: no call is left (2 in a row, since Wed 2026-11-25 10:03:00 EST)
      readers: the same
    cycle_not_kept stale, since 25 15:03: the market is open and the newest quote is of Wed 2026-11-25 09:59:30 EST, 420 s of trading ago; the cycle of Wed 2026-11-25 10:03:00 EST failed: the disk is full
      readers: the same
    stale stale, since 25 14:59: the market is open and the newest quote is of Wed 2026-11-25 09:59:30 EST, 1230 s of trading ago
      readers: the same
    no_daemon stale: no daemon answers here: this is what the database knows
      readers: the market is open and the newest quote is of Wed 2026-11-25 09:59:30 EST, 1230 s of trading ago
      also stale
    no_data stale, since 20 12:00: no cycle has been published yet
      readers: the same
    cycle_failed stale, since 25 15:03: the cycle of Wed 2026-11-25 10:03:00 EST failed: massive: HTTP 503
      readers: the same
    ");
}

#[test]
fn what_lacks_and_what_is_for_operators_alone() {
    let (now, good) = ("2026-11-25T15:00:00Z", "2026-11-25T14:59:30Z");
    let since = instant("2026-11-25T14:48:00Z");
    let told = [
        case(now, good).incomplete(1, 510).told(),
        case(now, good).incomplete(3, 510).told(),
        case(now, good).incomplete(3, 590).told(),
        case(now, good)
            .with(|facts| {
                let (until, reason) = (Some(since + TimeDelta::minutes(20)), Some("no connection".to_owned()));
                facts.breaker = Some(BreakerOpen { since, until, reason });
            })
            .told(),
        case(now, good)
            .with(|facts| {
                let words = "96 calls do not fit a cadence of 180 s".to_owned();
                facts.does_not_fit = Some(DoesNotFit { words, shortest_cadence_seconds: 288 });
            })
            .told(),
        case(now, good)
            .with(|facts| {
                facts.store = Some(StoreBehind { cycles: 4, since, fault: Some("no answer within 5 s".to_owned()) })
            })
            .told(),
        case(now, good).with(|facts| facts.universe.source = "built-in".to_owned()).told(),
        case(now, good)
            .with(|facts| {
                facts.universe.source = "built-in".to_owned();
                facts.universe.configured = "built-in".to_owned();
            })
            .told(),
        case(now, good).with(|facts| facts.universe.dormant = 31).told(),
        case(now, good)
            .with(|facts| {
                facts.universe.refreshed_at = Some(instant("2026-11-20T08:30:00Z"));
                facts.universe.age_seconds_market = Some(20 * 3_600);
            })
            .told(),
    ];
    insta::assert_snapshot!(told.concat(), @"
    incomplete fresh, since 25 14:57: 90 of 600 symbols have no quote of this cycle: 90 not in the answer
      readers: the same
    incomplete_twice fresh, since 25 14:51: 90 of 600 symbols have no quote of this cycle: 90 not in the answer (3 cycles in a row are incomplete)
      readers: the same
    fresh fresh, since 25 14:59: the market is open and the newest quote is 30 s old; 590 of 600 symbols are fresh
    breaker_open fresh, since 25 14:48: the provider is not called until Wed 2026-11-25 10:08:00 EST, its breaker is open since Wed 2026-11-25 09:48:00 EST: no connection
    quota_does_not_fit fresh: 96 calls do not fit a cadence of 180 s
    store_behind fresh, since 25 14:48: 4 published cycle(s) are not in the database yet, the oldest since Wed 2026-11-25 09:48:00 EST: no answer within 5 s
    universe_stands_in fresh: the built-in list of 600 symbols stands in until the directories have been read
    universe_built_in fresh: the built-in list of 600 symbols is quoted, in production
    many_dormant fresh: nothing has been heard of 31 of 600 symbols for cycles in a row: more than can be dead
    universe_old fresh, since 20 08:30: the lists of symbols were last read on Fri 2026-11-20 03:30 EST, 20 h of trading ago
    ");
}

#[test]
fn a_holiday_is_no_reason_to_call_a_universe_old() {
    // Read before the half day; the next session is Monday.
    let read = instant("2026-11-27T08:30:00Z");
    let of = |now: &str| {
        let case = case(now, "2026-11-27T17:59:50Z");
        let age = case.calendar.open_time_between(read, instant(now)).num_seconds();
        let case = case.with(|facts| {
            facts.universe.refreshed_at = Some(read);
            facts.universe.age_seconds_market = Some(age);
        });
        explain(&case.facts).findings.iter().any(|finding| finding.code == Code::UniverseOld)
    };
    assert!(!of("2026-11-30T13:00:00Z"), "a weekend is no trading");
    assert!(!of("2026-12-01T15:00:00Z"), "one refresh was missed");
    assert!(of("2026-12-02T16:00:00Z"), "two were, and more");
}

#[test]
fn the_evidence_is_flat_enough_for_a_program() {
    let case = case("2026-11-25T15:06:30Z", "2026-11-25T14:59:30Z");
    let case = case.failing("2026-11-25T15:03:00Z", 2, FaultKind::Provider, "massive: HTTP 503");
    insta::assert_snapshot!(serde_json::to_string_pretty(&explain(&case.facts).evidence).unwrap(), @r#"
    {
      "at": "2026-11-25T15:06:30Z",
      "daemon": true,
      "phase": "regular",
      "next_transition": "2026-11-25T21:00:00Z",
      "next_open": "2026-11-27T14:30:00Z",
      "date": "2026-11-25",
      "day": "full",
      "reason": null,
      "session_open": "2026-11-25T14:30:00Z",
      "session_close": "2026-11-25T21:00:00Z",
      "closes_early": false,
      "session_reason": null,
      "cycle": "2026-11-25T14:59:30Z",
      "as_of": "2026-11-25T14:59:30Z",
      "age_seconds_market": 420,
      "tolerated_seconds_market": 360,
      "expected": 600,
      "fresh": 600,
      "next_cycle": null,
      "failing": {
        "since": "2026-11-25T15:03:00Z",
        "slot": "2026-11-25T15:06:00Z",
        "cycles": 2,
        "kind": "provider",
        "fault": "massive: HTTP 503"
      },
      "incomplete_cycles": 0,
      "incomplete_since": null,
      "missing": null,
      "universe": {
        "source": "file",
        "configured": "file",
        "symbols": 600,
        "dormant": 0,
        "refreshed_at": "2026-11-25T15:06:30Z",
        "made_at": null,
        "age_seconds_market": 0
      },
      "breaker": null,
      "quota": null,
      "store": null
    }
    "#);
}

#[test]
fn another_try_of_the_same_slot_is_no_other_cycle() {
    let mut attempts = Attempts::default();
    let slot = instant("2026-11-25T15:03:00Z");
    attempts.failed(slot, FaultKind::Provider, "one".to_owned());
    attempts.failed(slot, FaultKind::Provider, "two".to_owned());
    let failing = attempts.failing.clone().unwrap();
    assert_eq!((failing.cycles, failing.since, failing.fault.as_str()), (1, slot, "two"));
    attempts.published(slot, 100, 97, None);
    assert_eq!(attempts, Attempts::default(), "97 of 100 is complete");
    attempts.published(slot, 100, 96, None);
    attempts.published(slot + TimeDelta::minutes(3), 100, 96, None);
    assert_eq!((attempts.incomplete_cycles, attempts.incomplete_since), (2, Some(slot)));
}
