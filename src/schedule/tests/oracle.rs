//! Triggers on the wall against a clock that is looked at minute by minute, on every night the clocks change.

use std::collections::BTreeMap;

use chrono::{NaiveDate, NaiveDateTime, TimeZone};
use chrono_tz::Tz;

use super::*;

const ZONES: [Tz; 3] = [chrono_tz::America::New_York, chrono_tz::Europe::London, chrono_tz::Australia::Lord_Howe];

/// The local dates of 2000-2040 on which the clocks of a zone change.
fn changes_of_clocks(zone: Tz) -> Vec<NaiveDate> {
    let first = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
    let offset = |date: NaiveDate| *zone.from_utc_datetime(&date.and_time(NaiveTime::MIN)).offset();
    let dates = first.iter_days().take(41 * 366);
    dates
        .filter(|date| offset(*date) != offset(date.succ_opt().unwrap()))
        .flat_map(|date| [date, date.succ_opt().unwrap()])
        .collect()
}

/// What a clock on the wall of `zone` shows from a day before `date` to two days after: each minute's instants in order, and
/// for each minute that is left out the instant the clock jumps over it.
struct Wall {
    shown: BTreeMap<NaiveDateTime, Vec<DateTime<Utc>>>,
    jumped: BTreeMap<NaiveDateTime, DateTime<Utc>>,
    span: (DateTime<Utc>, DateTime<Utc>),
}

impl Wall {
    fn watch(zone: Tz, date: NaiveDate) -> Self {
        let start = (date - chrono::Days::new(1)).and_time(NaiveTime::MIN).and_utc();
        let (mut shown, mut jumped) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::new());
        let mut last: Option<NaiveDateTime> = None;
        for minute in 0..4 * 24 * 60 {
            let instant = start + TimeDelta::minutes(minute);
            let local = instant.with_timezone(&zone).naive_local();
            let mut missing = last.map(|last| last + TimeDelta::minutes(1)).filter(|next| *next < local);
            while let Some(wall) = missing {
                jumped.insert(wall, instant);
                missing = Some(wall + TimeDelta::minutes(1)).filter(|next| *next < local);
            }
            shown.entry(local).or_default().push(instant);
            last = Some(local);
        }
        // The ends are cut: what is compared lies a day within.
        Self { shown, jumped, span: (start + TimeDelta::days(1), start + TimeDelta::days(3)) }
    }

    /// The slots that wall-clock times give under a policy.
    fn slots(&self, due: impl Fn(NaiveDateTime) -> bool, change: ClockChange) -> Vec<DateTime<Utc>> {
        let mut slots: Vec<DateTime<Utc>> = Vec::new();
        for (_, instants) in self.shown.iter().filter(|(wall, _)| due(**wall)) {
            match change.overlap {
                Repeat::First => slots.extend(instants.first()),
                Repeat::Last => slots.extend(instants.last()),
                Repeat::Both => slots.extend(instants),
            }
        }
        if change.gap == Gap::Shift {
            slots.extend(self.jumped.iter().filter(|(wall, _)| due(**wall)).map(|(_, instant)| *instant));
        }
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.span.0 < *slot && *slot <= self.span.1);
        slots
    }
}

fn every_policy() -> impl Iterator<Item = ClockChange> {
    [Gap::Shift, Gap::Skip]
        .into_iter()
        .flat_map(|gap| [Repeat::First, Repeat::Last, Repeat::Both].map(|overlap| ClockChange { gap, overlap }))
}

fn check(trigger: &Trigger, wall: &Wall, due: impl Fn(NaiveDateTime) -> bool, change: ClockChange) {
    let calendar = xnys();
    let slots: Vec<_> = trigger.slots(&calendar, wall.span.0, wall.span.1).collect();
    assert_eq!(slots, wall.slots(due, change), "{trigger} {change:?}");
}

#[test]
fn a_daily_time_on_every_night_the_clocks_change_from_2000_to_2040() {
    for zone in ZONES {
        let nights = changes_of_clocks(zone);
        assert!(nights.len() >= 164, "{zone}: {}", nights.len());
        for night in nights {
            let wall = Wall::watch(zone, night);
            for change in every_policy() {
                for minute in [0, 60, 89, 90, 105, 120, 121, 135, 149, 150, 179, 180, 720] {
                    let at = NaiveTime::from_num_seconds_from_midnight_opt(minute * 60, 0).unwrap();
                    check(&Trigger::Daily { at, zone, change }, &wall, |wall| wall.time() == at, change);
                }
            }
        }
    }
}

#[test]
fn cron_patterns_on_every_night_the_clocks_change() {
    type Due = fn(NaiveDateTime) -> bool;
    let patterns: [(&str, Due); 4] = [
        ("30 1 * * *", |wall| (wall.hour(), wall.minute()) == (1, 30)),
        ("0 0 3 * * *", |wall| (wall.hour(), wall.minute()) == (3, 0)),
        ("*/20 * * * *", |wall| wall.minute() % 20 == 0),
        ("15,45 1-2 * * 0", |wall| {
            wall.weekday() == chrono::Weekday::Sun && (1..=2).contains(&wall.hour()) && wall.minute() % 30 == 15
        }),
    ];
    for zone in ZONES {
        for (night, n) in changes_of_clocks(zone).into_iter().zip(0..) {
            let wall = Wall::watch(zone, night);
            // Every policy in some years before and after the rules of New York changed, one after another in the others.
            let whole = [2006, 2007, 2027].contains(&night.year());
            for (change, _) in every_policy().zip(0..).filter(|(_, policy)| whole || *policy == n % 6) {
                for (pattern, due) in patterns {
                    let pattern = CronPattern::parse(pattern).unwrap();
                    check(&Trigger::Cron { pattern, zone, change }, &wall, due, change);
                }
            }
        }
    }
}

/// What goes by the market, and by elapsed time, against the phase of every single minute.
#[test]
fn intervals_and_sessions_around_every_change_of_clocks() {
    for (mic, zone) in [("XNYS", chrono_tz::America::New_York), ("XLON", chrono_tz::Europe::London)] {
        let calendar = Calendars::built_in().unwrap().of(mic).unwrap();
        let minute = TimeDelta::minutes(1);
        // Who looks once a minute does not see the halt of 2020-03-09, which began at 13 seconds past one.
        let halted = |night: &NaiveDate| {
            calendar.sessions(*night, *night + chrono::Days::new(2)).any(|session| !session.pauses.is_empty())
        };
        for night in changes_of_clocks(zone).into_iter().filter(|night| !halted(night)) {
            let wall = Wall::watch(zone, night);
            let (after, until) = wall.span;
            let (mut every, mut regular, mut opens, mut closes) = (vec![], vec![], vec![], vec![]);
            // How many minutes of elapsed time the phase has lasted, if it is the regular one and has begun before our eyes.
            let mut lasted = None;
            let mut now = after - TimeDelta::days(1);
            while now <= until + TimeDelta::hours(1) {
                let (before, phase) = (calendar.at(now - minute).phase, calendar.at(now).phase);
                lasted = match phase {
                    Phase::Regular if before != Phase::Regular => Some(0),
                    Phase::Regular => lasted.map(|lasted| lasted + 1),
                    _ => None,
                };
                every.extend((now.timestamp() / 60 % 7 == 0).then_some(now));
                regular.extend(lasted.filter(|lasted| lasted % 7 == 0).map(|_| now));
                opens.extend((lasted == Some(0)).then_some(now - TimeDelta::minutes(15)));
                closes.extend(
                    (before == Phase::Regular && phase != Phase::Regular).then_some(now + TimeDelta::minutes(5)),
                );
                now += minute;
            }
            for (trigger, mut expected) in
                [("every 7m", every), ("every 7m while regular", regular), ("open-15m", opens), ("close+5m", closes)]
            {
                let parsed: Trigger = trigger.parse().unwrap();
                expected.retain(|slot| after < *slot && *slot <= until);
                let slots: Vec<_> = parsed.slots(&calendar, after, until).collect();
                assert_eq!(slots, expected, "{mic} {night} {trigger}");
            }
            let at = time("01:30:00");
            let due = |wall: NaiveDateTime| wall.time() == at && calendar.session(wall.date()).is_some();
            let change = ClockChange::default();
            let slots: Vec<_> = Trigger::SessionDay { at, change }.slots(&calendar, after, until).collect();
            assert_eq!(slots, wall.slots(due, change), "{mic} {night} session-day");
        }
    }
}

/// What users of other schedulers see on those nights, and must not see here.
#[test]
fn the_nights_that_others_get_wrong() {
    let calendar = xnys();
    let slots = |trigger: &str, from: &str, to: &str| -> Vec<String> {
        let trigger: Trigger = trigger.parse().unwrap();
        trigger.slots(&calendar, at(from), at(to)).map(|slot| slot.format("%d %H:%M").to_string()).collect()
    };
    // No spurious second fire when summer time begins.
    assert_eq!(slots("cron 30 1 * * * America/New_York", "2027-03-14T00:00:00Z", "2027-03-15T00:00:00Z"), ["14 06:30"]);
    // No silent hour when it ends: an hour that comes twice is two hours to a pattern that is due hour by hour.
    let autumn = slots("cron */30 * * * * America/New_York", "2027-11-07T04:59:00Z", "2027-11-07T08:00:00Z");
    assert_eq!(autumn, ["07 05:00", "07 05:30", "07 06:00", "07 06:30", "07 07:00", "07 07:30", "07 08:00"]);
    // And once for a time that is meant once.
    let night = ("2027-11-07T00:00:00Z", "2027-11-08T00:00:00Z");
    assert_eq!(slots("daily 01:30 America/New_York", night.0, night.1), ["07 05:30"]);
    assert_eq!(slots("daily 01:30 America/New_York overlap last", night.0, night.1), ["07 06:30"]);
    assert_eq!(slots("daily 01:30 America/New_York overlap both", night.0, night.1), ["07 05:30", "07 06:30"]);
    let spring = ("2027-03-14T00:00:00Z", "2027-03-15T00:00:00Z");
    assert_eq!(slots("daily 02:30 America/New_York", spring.0, spring.1), ["14 07:00"]);
    assert_eq!(slots("daily 02:30 America/New_York gap skip", spring.0, spring.1), [""; 0]);
    assert_eq!(slots("cron 30 2 * * * America/New_York", spring.0, spring.1), ["14 07:00"]);
    assert_eq!(slots("daily 02:15 Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z"), ["03 15:30"]);
}
