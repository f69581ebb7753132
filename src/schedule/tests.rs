//! Slots against a brute-force oracle, and what becomes of late ones.

mod oracle;

use chrono::{Datelike, NaiveTime, Timelike};

use super::*;
use crate::calendar::{Calendars, Phase};

fn xnys() -> std::sync::Arc<Calendar> {
    // Compiled once: some tests ask for it very often.
    static XNYS: std::sync::LazyLock<std::sync::Arc<Calendar>> =
        std::sync::LazyLock::new(|| Calendars::built_in().unwrap().of("XNYS").unwrap());
    std::sync::Arc::clone(&XNYS)
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn time(text: &str) -> NaiveTime {
    text.parse().unwrap()
}

#[test]
fn three_in_new_york_is_eight_or_seven_in_utc() {
    let calendar = xnys();
    let trigger =
        Trigger::Daily { at: time("03:00:00"), zone: chrono_tz::America::New_York, change: ClockChange::default() };
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
    let trigger = Trigger::Close(TimeDelta::minutes(5));
    let slots: Vec<_> = trigger.slots(&calendar, at("2026-11-25T00:00:00Z"), at("2026-11-30T23:00:00Z")).collect();
    assert_eq!(slots, ["2026-11-25T21:05:00Z", "2026-11-27T18:05:00Z", "2026-11-30T21:05:00Z"].map(at));
    assert_eq!(trigger.next_after(&calendar, at("2026-11-27T18:05:00Z")), at("2026-11-30T21:05:00Z"), "strictly after");
}

fn spec(misfire: Misfire) -> JobSpec {
    let trigger = Trigger::EveryWhile { every: TimeDelta::seconds(180), phases: vec![Phase::Regular] };
    let (grace, deadline) = (TimeDelta::seconds(10), TimeDelta::hours(2));
    let (overlap, retry, stop_grace) = (Overlap::Skip, Retry::times(1), Duration::ZERO);
    JobSpec { name: "test", purpose: "", trigger, misfire, grace, deadline, overlap, retry, breaker: 0, stop_grace }
}

fn judged(misfire: Misfire, slots: &[&str], now: &str, running: bool) -> String {
    let busy = Busy { running: usize::from(running), queued: 0 };
    judged_as(&spec(misfire), slots, now, busy, None)
}

fn judged_as(spec: &JobSpec, slots: &[&str], now: &str, busy: Busy, pause: Option<&Pause>) -> String {
    let slots: Vec<_> = slots.iter().map(|slot| at(&format!("2027-03-15T{slot}Z"))).collect();
    let now = at(&format!("2027-03-15T{now}Z"));
    let verdicts = judge(spec, &xnys(), &slots, now, busy, pause);
    let lines = verdicts.iter().map(|(slot, verdict)| match verdict {
        Verdict::Run { late } => format!("{} run {}", slot.time(), late.as_deref().unwrap_or("on time")),
        Verdict::Queue { from, reason, late } => {
            format!("{} waits until {}{}: {reason}", slot.time(), from.time(), if *late { ", late" } else { "" })
        }
        Verdict::Replace { reason } => format!("{} replaces: {reason}", slot.time()),
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
fn a_job_that_never_runs_late_does_not() {
    assert_eq!(judged(Misfire::Skip, &["14:00:00"], "14:00:10", false), "14:00:00 run on time");
    insta::assert_snapshot!(judged(Misfire::Skip, &["13:57:00", "14:00:00"], "14:00:11", false), @"
    13:57:00 missed: the newer slot 2027-03-15T14:00:00Z was due as well
    14:00:00 missed: noticed 11 s after it came due; late slots of this job are left out
    ");
}

#[test]
fn a_job_that_catches_up_runs_the_newest_slots_in_their_turn() {
    let slots = ["13:00:00", "15:51:00", "15:54:00", "15:57:00", "16:00:00"];
    let misfire =
        |newest_first, seconds| Misfire::CatchUp { max: 3, newest_first, spacing: TimeDelta::seconds(seconds) };
    insta::assert_snapshot!(judged(misfire(false, 5), &slots, "16:00:20", false), @"
    13:00:00 missed: its deadline was 120 min after the slot
    15:51:00 missed: only the newest 3 slots are made up for
    15:54:00 waits until 16:00:20, late: noticed 380 s after it came due; made up for in its turn
    15:57:00 waits until 16:00:25, late: noticed 200 s after it came due; made up for in its turn
    16:00:00 waits until 16:00:30, late: noticed 20 s after it came due; made up for in its turn
    ");
    insta::assert_snapshot!(judged(misfire(true, 0), &slots, "16:00:20", true), @"
    13:00:00 missed: its deadline was 120 min after the slot
    15:51:00 missed: only the newest 3 slots are made up for
    15:54:00 waits until 16:00:20.000002, late: noticed 380 s after it came due; made up for in its turn
    15:57:00 waits until 16:00:20.000001, late: noticed 200 s after it came due; made up for in its turn
    16:00:00 waits until 16:00:20, late: noticed 20 s after it came due; made up for in its turn
    ");
    assert_eq!(judged(misfire(false, 0), &["16:00:00"], "16:00:01", false), "16:00:00 run on time");
}

#[test]
fn what_a_slot_meets_decides_by_the_overlap_policy() {
    let one = |overlap, running, queued| {
        let spec = JobSpec { overlap, ..spec(Misfire::RunOnce) };
        judged_as(&spec, &["14:00:00"], "14:00:01", Busy { running, queued }, None)
    };
    let lines = [
        one(Overlap::Skip, 0, 0),
        one(Overlap::Skip, 1, 0),
        one(Overlap::Skip, 0, 1),
        one(Overlap::QueueOne, 1, 0),
        one(Overlap::QueueOne, 1, 1),
        one(Overlap::CancelPrevious, 1, 0),
        one(Overlap::CancelPrevious, 0, 0),
        one(Overlap::Allow(2), 1, 0),
        one(Overlap::Allow(2), 2, 0),
    ];
    insta::assert_snapshot!(lines.join("\n"), @"
    14:00:00 run on time
    14:00:00 skipped: the run before it was still under way
    14:00:00 skipped: the run before it still waited
    14:00:00 waits until 14:00:01: waits for the run before it
    14:00:00 skipped: another run waits already
    14:00:00 replaces: takes the place of the run before it
    14:00:00 run on time
    14:00:00 run on time
    14:00:00 skipped: 2 runs before it were still under way
    ");
}

#[test]
fn slots_of_a_pause_are_left_out_and_none_is_made_up_for() {
    let pause = |until: Option<&str>| Pause {
        from: at("2027-03-15T13:54:00Z"),
        until: until.map(at),
        reason: "by an operator: maintenance".to_owned(),
    };
    let judged = |slots: &[&str], now, pause: &Pause| {
        judged_as(&spec(Misfire::RunOnce), slots, now, Busy::default(), Some(pause))
    };
    let slots = ["13:51:00", "13:54:00", "13:57:00"];
    insta::assert_snapshot!(judged(&slots, "14:10:00", &pause(None)), @"
    13:51:00 run noticed 1140 s after it came due
    13:54:00 skipped: paused by an operator: maintenance
    13:57:00 skipped: paused by an operator: maintenance
    ");
    insta::assert_snapshot!(judged(&["13:57:00"], "14:10:00", &pause(Some("2027-03-15T13:58:00Z"))), @"13:57:00 skipped: paused by an operator: maintenance");
    insta::assert_snapshot!(judged(&["13:57:00", "14:00:00"], "14:00:01", &pause(Some("2027-03-15T14:00:00Z"))), @"
    13:57:00 skipped: paused by an operator: maintenance
    14:00:00 run on time
    ");
}

#[test]
fn pauses_between_tries_double_below_a_ceiling_and_keep_what_the_other_side_asks() {
    let retry = Retry::times(20);
    let pauses: Vec<u64> = (1..=7).map(|attempt| retry.pause(attempt, None, 0.5).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(retry.pause(1, None, 0.0), Duration::ZERO, "full jitter");
    assert_eq!(retry.pause(1, Some(Duration::from_secs(90)), 0.9), Duration::from_secs(90));
    assert_eq!(retry.pause(i32::MAX, None, 0.5), Duration::from_secs(30));
}

#[test]
fn what_runs_all_through_some_phases_begins_once_and_ends_with_the_last() {
    let calendar = xnys();
    let trigger: Trigger = "while pre,regular".parse().unwrap();
    let week = trigger.slots(&calendar, at("2026-11-25T00:00:00Z"), at("2026-12-01T00:00:00Z"));
    let week: Vec<String> = week
        .map(|slot| format!("{} to {}", slot.format("%d %H:%M"), trigger.window_end(&calendar, slot).format("%H:%M")))
        .collect();
    assert_eq!(week, ["25 09:00 to 21:00", "27 09:00 to 18:00", "30 09:00 to 21:00"]);
    assert_eq!(trigger.next_after(&calendar, at("2026-11-25T09:00:00Z")), at("2026-11-27T09:00:00Z"), "strictly after");
}

#[test]
fn a_rehearsal_says_why_nothing_runs() {
    let calendar = xnys();
    let named = |name, trigger: &str| JobSpec { name, trigger: trigger.parse().unwrap(), ..spec(Misfire::RunOnce) };
    let jobs = [
        named("nightly", "daily 02:30 America/New_York gap skip"),
        named("closing", "close+5m"),
        named("scraper", "while regular"),
    ];
    let told = |from: &str, to: &str| {
        let lines = rehearse(&jobs, &calendar, at(from), at(to));
        let lines = lines.map(|line| {
            let why = line.left_out.map_or_else(|| "run".to_owned(), |why| format!("skip: {why}"));
            format!("{} {} {why}", line.slot.format("%m-%d %H:%M"), line.job)
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(told("2026-11-25T12:00:00Z", "2026-11-28T12:00:00Z"), @"
    11-25 14:30 scraper run
    11-25 21:05 closing run
    11-26 05:00 closing skip: no session: Thanksgiving Day
    11-26 05:00 scraper skip: no session: Thanksgiving Day
    11-26 07:30 nightly run
    11-27 07:30 nightly run
    11-27 14:30 scraper run
    11-27 18:05 closing run
    11-28 07:30 nightly run
    ");
    insta::assert_snapshot!(told("2027-03-13T12:00:00Z", "2027-03-15T12:00:00Z"), @"
    03-14 06:30 nightly skip: the clocks of America/New_York leave 02:30:00 out on 2027-03-14
    03-15 06:30 nightly run
    ");
}

#[test]
fn fires_of_all_jobs_come_in_order_of_time_then_of_the_table() {
    let calendar = xnys();
    let mut jobs = vec![spec(Misfire::RunOnce), spec(Misfire::RunOnce)];
    jobs[0].name = "first";
    jobs[0].trigger =
        Trigger::Daily { at: time("09:33:00"), zone: chrono_tz::America::New_York, change: ClockChange::default() };
    jobs[1].name = "second";
    let found: Vec<String> = fires(&jobs, &calendar, at("2027-03-15T13:00:00Z"), at("2027-03-15T13:36:00Z"))
        .map(|fire| format!("{} {}", fire.slot.time(), fire.job))
        .collect();
    assert_eq!(found, ["13:30:00 second", "13:33:00 first", "13:33:00 second", "13:36:00 second"]);
}

#[test]
fn triggers_are_written_as_they_are_read() {
    for text in [
        "daily 03:00 America/New_York",
        "daily 03:00:30 Europe/London gap skip overlap both",
        "session-day 03:30",
        "session-day 02:30 overlap last",
        "every 180s while pre,regular",
        "every 5m",
        "every 90s",
        "every 24h",
        "while pre,regular",
        "open-15m",
        "open",
        "close+5m",
        "close+90s",
        "cron */5 9-16 * * 1-5 America/New_York",
        "cron 0 30 1 * * * UTC overlap last",
        "cron 0 * * * * America/New_York gap shift",
        "at 2027-03-15T14:00:00Z",
    ] {
        let trigger: Trigger = text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert_eq!(trigger.to_string(), text);
        assert_eq!(trigger.to_string().parse::<Trigger>().as_ref(), Ok(&trigger));
    }
    let refused = [
        "",
        "weekly",
        "daily 25:00 UTC",
        "daily 03:00 Mars/Olympus",
        "daily 03:00",
        "every 0s",
        "every 5 m",
        "every 500d",
        "every 5m while lunch",
        "open~5m",
        "close+5",
        "cron * * * *  UTC",
        "cron 61 * * * * UTC",
        "cron */5 * * * *",
        "at noon",
        "daily 03:00 UTC gap jump",
        "session-day 03:30 twice",
    ];
    let faults = refused.map(|text| format!("{text:?}: {}", text.parse::<Trigger>().unwrap_err()));
    insta::assert_snapshot!(faults.join("\n"), @r#"
    "": "" is no trigger; write one of: daily HH:MM ZONE, session-day HH:MM, every SPAN [while PHASE,PHASE], while PHASE,PHASE, open[+-SPAN], close[+-SPAN], cron PATTERN ZONE, at INSTANT; a SPAN is a number with s, m, h or d
    "weekly": "weekly" is no trigger; write one of: daily HH:MM ZONE, session-day HH:MM, every SPAN [while PHASE,PHASE], while PHASE,PHASE, open[+-SPAN], close[+-SPAN], cron PATTERN ZONE, at INSTANT; a SPAN is a number with s, m, h or d
    "daily 25:00 UTC": "25:00" is not a time; write HH:MM or HH:MM:SS
    "daily 03:00 Mars/Olympus": "Mars/Olympus" is no zone; write an IANA name such as America/New_York
    "daily 03:00": "daily 03:00" is no trigger; write one of: daily HH:MM ZONE, session-day HH:MM, every SPAN [while PHASE,PHASE], while PHASE,PHASE, open[+-SPAN], close[+-SPAN], cron PATTERN ZONE, at INSTANT; a SPAN is a number with s, m, h or d
    "every 0s": "0s" is too short; the shortest is 1s
    "every 5 m": "every 5 m" is no trigger; write one of: daily HH:MM ZONE, session-day HH:MM, every SPAN [while PHASE,PHASE], while PHASE,PHASE, open[+-SPAN], close[+-SPAN], cron PATTERN ZONE, at INSTANT; a SPAN is a number with s, m, h or d
    "every 500d": "500d" is longer than a year
    "every 5m while lunch": "lunch" is not a phase
    "open~5m": "~5m" is no offset; write +5m or -15m
    "close+5": "5" is no span; write a whole number with s, m, h or d, for example 180s
    "cron * * * *  UTC": 4 fields; write five, or six with seconds first, then the zone
    "cron 61 * * * * UTC": "61 * * * *" is no cron pattern: Component error: Number out of bounds.
    "cron */5 * * * *": the zone is missing; write cron PATTERN ZONE, for example cron */5 9-16 * * 1-5 America/New_York
    "at noon": "noon" is not an RFC 3339 instant
    "daily 03:00 UTC gap jump": "jump" is none of shift, skip
    "session-day 03:30 twice": "twice" is not understood; write gap shift|skip or overlap first|last|both
    "#);
}

#[test]
fn the_other_triggers() {
    let calendar = xnys();
    let slots = |trigger: &str, from: &str, to: &str| -> Vec<String> {
        let trigger: Trigger = trigger.parse().unwrap();
        trigger.slots(&calendar, at(from), at(to)).map(|slot| slot.format("%d %H:%M").to_string()).collect()
    };
    // Thanksgiving, a half day, a weekend.
    let week = ("2026-11-25T00:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!(slots("session-day 03:30", week.0, week.1), ["25 08:30", "27 08:30", "30 08:30"]);
    assert_eq!(slots("open-15m", week.0, week.1), ["25 14:15", "27 14:15", "30 14:15"]);
    assert_eq!(slots("close-1h", week.0, week.1), ["25 20:00", "27 17:00", "30 20:00"]);
    assert_eq!(slots("every 6h", "2026-11-25T00:00:00Z", "2026-11-25T18:00:00Z"), ["25 06:00", "25 12:00", "25 18:00"]);
    assert_eq!(slots("at 2026-11-25T14:00:00Z", week.0, week.1), ["25 14:00"]);
    assert_eq!(slots("at 2026-11-25T00:00:00Z", week.0, week.1), [""; 0], "strictly after");
    assert_eq!(slots("cron 0 12 29 2 * UTC", "2025-01-01T00:00:00Z", "2033-01-01T00:00:00Z"), ["29 12:00", "29 12:00"]);
    assert_eq!(slots("cron 0 0 31 2 * UTC", "2025-01-01T00:00:00Z", "2033-01-01T00:00:00Z"), [""; 0], "never due");
    let seconds: Trigger = "cron * * * * * * America/New_York".parse().unwrap();
    let start = at("2027-11-07T04:59:59Z");
    assert_eq!(seconds.slots(&calendar, start, start + TimeDelta::seconds(90)).count(), 90);
}
