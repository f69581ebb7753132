//! Slots against a brute-force oracle, and what becomes of late ones.

use chrono::{NaiveDate, NaiveTime, Timelike};
use chrono_tz::Tz;

use super::*;
use crate::calendar::{Calendars, Phase};

fn xnys() -> std::sync::Arc<Calendar> {
    Calendars::built_in().unwrap().of("XNYS").unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn time(text: &str) -> NaiveTime {
    text.parse().unwrap()
}

const WALL_TIMES: [&str; 7] = ["03:00:00", "02:30:00", "02:00:00", "01:30:00", "01:00:00", "01:45:00", "00:00:00"];

/// Minute by minute, for each wall-clock time: the first instant of each local date at which the clock shows it, or has
/// jumped past it.
fn daily_by_looking(zone: Tz, year: i32) -> [Vec<DateTime<Utc>>; 7] {
    let start = NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(NaiveTime::MIN).and_utc();
    let times = WALL_TIMES.map(time);
    let mut found: [Vec<(NaiveDate, DateTime<Utc>)>; 7] = Default::default();
    for minute in 0..366 * 24 * 60 {
        let instant = start + TimeDelta::minutes(minute);
        let local = instant.with_timezone(&zone);
        for (at, found) in times.iter().zip(&mut found) {
            if local.time() >= *at && found.last().is_none_or(|(last, _)| *last < local.date_naive()) {
                found.push((local.date_naive(), instant));
            }
        }
    }
    // The first and the last date are cut by the year in UTC.
    found.map(|found| found[1..found.len() - 1].iter().map(|(_, instant)| *instant).collect())
}

#[test]
fn a_daily_slot_comes_once_a_date_over_every_switch() {
    let calendar = xnys();
    for zone in [chrono_tz::America::New_York, chrono_tz::Europe::London, chrono_tz::Australia::Lord_Howe] {
        for year in [2000, 2007, 2026, 2027, 2039] {
            for (wall, expected) in WALL_TIMES.iter().zip(daily_by_looking(zone, year)) {
                let trigger = Trigger::Daily { at: time(wall), zone };
                let (first, last) = (expected[0] - TimeDelta::minutes(1), *expected.last().unwrap());
                let slots: Vec<_> = trigger.slots(&calendar, first, last).collect();
                assert_eq!(slots, expected, "{zone} {wall} {year}");
            }
        }
    }
}

#[test]
fn three_in_new_york_is_eight_or_seven_in_utc() {
    let calendar = xnys();
    let trigger = Trigger::Daily { at: time("03:00:00"), zone: chrono_tz::America::New_York };
    let slots = trigger.slots(&calendar, at("2027-03-13T00:00:00Z"), at("2027-03-15T23:00:00Z"));
    let hours: Vec<u32> = slots.map(|slot| slot.hour()).collect();
    assert_eq!(hours, [8, 7, 7]);
}

#[test]
fn cycles_are_counted_from_the_start_of_the_phase_and_end_with_it() {
    let calendar = xnys();
    let every =
        |seconds, phases: &[Phase]| Trigger::EveryWhile { every: TimeDelta::seconds(seconds), phases: phases.to_vec() };
    let day = |trigger: &Trigger, date: &str| -> Vec<DateTime<Utc>> {
        let start = at(&format!("{date}T00:00:00Z"));
        trigger.slots(&calendar, start, start + TimeDelta::days(1)).collect()
    };
    let regular = day(&every(180, &[Phase::Regular]), "2027-03-15");
    assert_eq!((regular.len(), regular[0]), (130, at("2027-03-15T13:30:00Z")));
    assert_eq!(regular[129], at("2027-03-15T19:57:00Z"), "a slot at the close would be after the phase");
    let half = day(&every(180, &[Phase::Regular]), "2026-11-27");
    assert_eq!((half.len(), half[69]), (70, at("2026-11-27T17:57:00Z")));
    assert!(day(&every(180, &[Phase::Regular]), "2026-11-26").is_empty());
    let odd = day(&every(7_000, &[Phase::Regular]), "2027-03-15");
    assert_eq!(odd, ["13:30:00", "15:26:40", "17:23:20", "19:20:00"].map(|t| at(&format!("2027-03-15T{t}Z"))));
    let both = day(&every(3_600, &[Phase::Pre, Phase::Regular]), "2027-03-15");
    assert_eq!(both.len(), 6 + 7, "each phase begins anew");
}

#[test]
fn the_close_is_the_real_one() {
    let calendar = xnys();
    let trigger = Trigger::AfterClose(TimeDelta::minutes(5));
    let slots: Vec<_> = trigger.slots(&calendar, at("2026-11-25T00:00:00Z"), at("2026-11-30T23:00:00Z")).collect();
    assert_eq!(slots, ["2026-11-25T21:05:00Z", "2026-11-27T18:05:00Z", "2026-11-30T21:05:00Z"].map(at));
    assert_eq!(trigger.next_after(&calendar, at("2026-11-27T18:05:00Z")), at("2026-11-30T21:05:00Z"), "strictly after");
}

fn spec(misfire: Misfire) -> JobSpec {
    let trigger = Trigger::EveryWhile { every: TimeDelta::seconds(180), phases: vec![Phase::Regular] };
    let (grace, deadline) = (TimeDelta::seconds(10), TimeDelta::hours(2));
    JobSpec { name: "test", purpose: "", trigger, misfire, grace, deadline, attempts: 1 }
}

fn judged(misfire: Misfire, slots: &[&str], now: &str, running: bool) -> String {
    let slots: Vec<_> = slots.iter().map(|slot| at(&format!("2027-03-15T{slot}Z"))).collect();
    let now = at(&format!("2027-03-15T{now}Z"));
    let verdicts = judge(&spec(misfire), &xnys(), &slots, now, running);
    let lines = verdicts.iter().map(|(slot, verdict)| match verdict {
        Verdict::Run { late } => format!("{} run {}", slot.time(), late.as_deref().unwrap_or("on time")),
        Verdict::Skipped(reason) => format!("{} skipped: {reason}", slot.time()),
        Verdict::Missed(reason) => format!("{} missed: {reason}", slot.time()),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn at_most_the_newest_slot_is_run() {
    assert_eq!(judged(Misfire::RunOnce, &[], "14:00:00", false), "");
    assert_eq!(judged(Misfire::RunOnce, &["14:00:00"], "14:00:10", false), "14:00:00 run on time");
    insta::assert_snapshot!(judged(Misfire::RunOnce, &["13:57:00", "14:00:00"], "14:00:11", false), @"
    13:57:00 missed: the newer slot 2027-03-15T14:00:00Z was due as well
    14:00:00 run noticed 11 s after it came due
    ");
    assert_eq!(
        judged(Misfire::RunOnce, &["14:00:00"], "14:00:01", true),
        "14:00:00 skipped: the run before it was still under way"
    );
    assert_eq!(
        judged(Misfire::RunOnce, &["14:00:00"], "16:00:00", false),
        "14:00:00 missed: noticed 7200 s after it came due; its deadline was 120 min after the slot"
    );
}

#[test]
fn a_cycle_is_not_made_up_for_after_the_close() {
    let last = &["19:57:00"];
    assert_eq!(
        judged(Misfire::WhilePhaseOpen, last, "19:59:59", false),
        "19:57:00 run noticed 179 s after it came due"
    );
    assert_eq!(
        judged(Misfire::WhilePhaseOpen, last, "20:00:00", false),
        "19:57:00 missed: noticed 180 s after it came due; the phase it belonged to was over"
    );
}

#[test]
fn fires_of_all_jobs_come_in_order_of_time_then_of_the_table() {
    let calendar = xnys();
    let mut jobs = vec![spec(Misfire::RunOnce), spec(Misfire::RunOnce)];
    jobs[0].name = "first";
    jobs[0].trigger = Trigger::Daily { at: time("09:33:00"), zone: chrono_tz::America::New_York };
    jobs[1].name = "second";
    let found: Vec<String> = fires(&jobs, &calendar, at("2027-03-15T13:00:00Z"), at("2027-03-15T13:36:00Z"))
        .map(|fire| format!("{} {}", fire.slot.time(), fire.job))
        .collect();
    assert_eq!(found, ["13:30:00 second", "13:33:00 first", "13:33:00 second", "13:36:00 second"]);
}
