//! The calendar against what the exchange published, and its own laws.

use chrono::{Days, Months, Timelike};
use proptest::prelude::*;

use super::*;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Every weekday of a year that is not a full session, a line each.
fn unusual_days(calendar: &Calendar, year: i32) -> String {
    let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
    let days = first.iter_days().take_while(|date| date.year() == year).map(|date| calendar.day(date));
    let unusual = days.filter(|day| !matches!(day.kind, DayKind::Full | DayKind::Weekend));
    let lines = unusual.map(|day| format!("{} {:<11} {}", day.date.format("%F %a"), day.kind, day.reason.unwrap()));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_years_the_exchange_has_published() {
    let calendar = Calendar::xnys();
    let years: Vec<String> = (2024..=2028).map(|year| unusual_days(&calendar, year)).collect();
    insta::assert_snapshot!(years.join("\n\n"), @"
    2024-01-01 Mon holiday     New Year's Day
    2024-01-15 Mon holiday     Martin Luther King Jr. Day
    2024-02-19 Mon holiday     Washington's Birthday
    2024-03-29 Fri holiday     Good Friday
    2024-05-27 Mon holiday     Memorial Day
    2024-06-19 Wed holiday     Juneteenth
    2024-07-03 Wed early_close Day before Independence Day
    2024-07-04 Thu holiday     Independence Day
    2024-09-02 Mon holiday     Labor Day
    2024-11-28 Thu holiday     Thanksgiving Day
    2024-11-29 Fri early_close Day after Thanksgiving
    2024-12-24 Tue early_close Christmas Eve
    2024-12-25 Wed holiday     Christmas Day

    2025-01-01 Wed holiday     New Year's Day
    2025-01-09 Thu closure     National day of mourning for former President Carter
    2025-01-20 Mon holiday     Martin Luther King Jr. Day
    2025-02-17 Mon holiday     Washington's Birthday
    2025-04-18 Fri holiday     Good Friday
    2025-05-26 Mon holiday     Memorial Day
    2025-06-19 Thu holiday     Juneteenth
    2025-07-03 Thu early_close Day before Independence Day
    2025-07-04 Fri holiday     Independence Day
    2025-09-01 Mon holiday     Labor Day
    2025-11-27 Thu holiday     Thanksgiving Day
    2025-11-28 Fri early_close Day after Thanksgiving
    2025-12-24 Wed early_close Christmas Eve
    2025-12-25 Thu holiday     Christmas Day

    2026-01-01 Thu holiday     New Year's Day
    2026-01-19 Mon holiday     Martin Luther King Jr. Day
    2026-02-16 Mon holiday     Washington's Birthday
    2026-04-03 Fri holiday     Good Friday
    2026-05-25 Mon holiday     Memorial Day
    2026-06-19 Fri holiday     Juneteenth
    2026-07-03 Fri holiday     Independence Day
    2026-09-07 Mon holiday     Labor Day
    2026-11-26 Thu holiday     Thanksgiving Day
    2026-11-27 Fri early_close Day after Thanksgiving
    2026-12-24 Thu early_close Christmas Eve
    2026-12-25 Fri holiday     Christmas Day

    2027-01-01 Fri holiday     New Year's Day
    2027-01-18 Mon holiday     Martin Luther King Jr. Day
    2027-02-15 Mon holiday     Washington's Birthday
    2027-03-26 Fri holiday     Good Friday
    2027-05-31 Mon holiday     Memorial Day
    2027-06-18 Fri holiday     Juneteenth
    2027-07-05 Mon holiday     Independence Day
    2027-09-06 Mon holiday     Labor Day
    2027-11-25 Thu holiday     Thanksgiving Day
    2027-11-26 Fri early_close Day after Thanksgiving
    2027-12-24 Fri holiday     Christmas Day

    2028-01-17 Mon holiday     Martin Luther King Jr. Day
    2028-02-21 Mon holiday     Washington's Birthday
    2028-04-14 Fri holiday     Good Friday
    2028-05-29 Mon holiday     Memorial Day
    2028-06-19 Mon holiday     Juneteenth
    2028-07-03 Mon early_close Day before Independence Day
    2028-07-04 Tue holiday     Independence Day
    2028-09-04 Mon holiday     Labor Day
    2028-11-23 Thu holiday     Thanksgiving Day
    2028-11-24 Fri early_close Day after Thanksgiving
    2028-12-25 Mon holiday     Christmas Day
    ");
}

/// Weekdays 1990-2010 with other hours than the rules of holidays give, from the exchange's list of special closings:
/// date, open, close (local), empty where usual; `-` where closed.
const SPECIAL: &[(&str, &str, &str)] = &[
    ("1990-12-24", "", "14:00"),
    ("1990-12-27", "11:00", ""),
    ("1991-01-17", "09:31", ""),
    ("1991-02-25", "09:31", ""),
    ("1991-12-24", "", "14:00"),
    ("1992-11-27", "", "14:00"),
    ("1992-12-24", "", "14:00"),
    ("1993-11-26", "", "13:00"),
    ("1994-02-11", "", "14:30"),
    ("1994-04-27", "-", "-"),
    ("1994-11-25", "", "13:00"),
    ("1995-07-03", "", "13:00"),
    ("1995-11-24", "", "13:00"),
    ("1995-12-18", "10:30", ""),
    ("1996-01-08", "11:00", "14:00"),
    ("1996-07-05", "", "13:00"),
    ("1996-11-29", "", "13:00"),
    ("1996-12-24", "", "13:00"),
    ("1997-07-03", "", "13:00"),
    ("1997-10-27", "", "15:30"),
    ("1997-11-28", "", "13:00"),
    ("1997-12-24", "", "13:00"),
    ("1997-12-26", "", "13:00"),
    ("1998-11-27", "", "13:00"),
    ("1998-12-24", "", "13:00"),
    ("1999-11-26", "", "13:00"),
    ("1999-12-31", "", "13:00"),
    ("2000-07-03", "", "13:00"),
    ("2000-11-24", "", "13:00"),
    ("2001-07-03", "", "13:00"),
    ("2001-09-11", "-", "-"),
    ("2001-09-12", "-", "-"),
    ("2001-09-13", "-", "-"),
    ("2001-09-14", "-", "-"),
    ("2001-09-17", "09:33", ""),
    ("2001-10-08", "09:31", ""),
    ("2001-11-23", "", "13:00"),
    ("2001-12-24", "", "13:00"),
    ("2002-07-05", "", "13:00"),
    ("2002-09-11", "12:00", ""),
    ("2002-11-29", "", "13:00"),
    ("2002-12-24", "", "13:00"),
    ("2003-03-20", "09:32", ""),
    ("2003-07-03", "", "13:00"),
    ("2003-11-28", "", "13:00"),
    ("2003-12-24", "", "13:00"),
    ("2003-12-26", "", "13:00"),
    ("2004-06-07", "09:32", ""),
    ("2004-06-11", "-", "-"),
    ("2004-11-26", "", "13:00"),
    ("2005-06-01", "", "15:56"),
    ("2005-11-25", "", "13:00"),
    ("2006-07-03", "", "13:00"),
    ("2006-11-24", "", "13:00"),
    ("2006-12-27", "09:32", ""),
    ("2007-01-02", "-", "-"),
    ("2007-07-03", "", "13:00"),
    ("2007-11-23", "", "13:00"),
    ("2007-12-24", "", "13:00"),
    ("2008-07-03", "", "13:00"),
    ("2008-11-28", "", "13:00"),
    ("2008-12-24", "", "13:00"),
    ("2009-07-02", "", "16:15"),
    ("2009-11-27", "", "13:00"),
    ("2009-12-24", "", "13:00"),
    ("2010-11-26", "", "13:00"),
];

#[test]
fn the_exchanges_list_of_special_closings_and_nothing_more() {
    let calendar = Calendar::xnys();
    let last = date("2010-12-31");
    let unusual = date("1990-01-01").iter_days().take_while(|date| *date <= last).filter_map(|date| {
        let day = calendar.day(date);
        let local = |instant: DateTime<Utc>| instant.with_timezone(&calendar.zone()).format("%H:%M").to_string();
        let unless = |text: String, usual: &str| if text == usual { String::new() } else { text };
        match day.kind {
            DayKind::Full | DayKind::Weekend | DayKind::Holiday => None,
            DayKind::Closure => Some((date.to_string(), "-".to_owned(), "-".to_owned())),
            _ => {
                let session = calendar.session(date).unwrap();
                Some((date.to_string(), unless(local(session.open), "09:30"), unless(local(session.close), "16:00")))
            }
        }
    });
    let listed =
        SPECIAL.iter().map(|(date, open, close)| ((*date).to_owned(), (*open).to_owned(), (*close).to_owned()));
    assert_eq!(unusual.collect::<Vec<_>>(), listed.collect::<Vec<_>>());
}

#[test]
fn a_holiday_on_a_weekend_is_observed_as_rule_7_2_says() {
    let calendar = Calendar::xnys();
    for (day, kind) in [
        ("2021-12-31", DayKind::Full), // New Year's Day on a Saturday closes nothing.
        ("2027-12-31", DayKind::Full),
        ("2023-01-02", DayKind::Holiday), // On a Sunday it closes Monday.
        ("2021-06-18", DayKind::Full),    // Juneteenth since 2022.
        ("2022-06-20", DayKind::Holiday),
        ("2027-06-18", DayKind::Holiday),
        ("2026-07-02", DayKind::Full), // The 4th on a Saturday: no early close.
        ("2026-07-03", DayKind::Holiday),
        ("2021-12-24", DayKind::Holiday),
        ("2012-07-03", DayKind::EarlyClose), // A Tuesday.
        ("2002-07-03", DayKind::Full),       // A Wednesday before 2013.
        ("2013-07-03", DayKind::EarlyClose), // A Wednesday since.
        ("1997-01-20", DayKind::Full),       // Martin Luther King Jr. Day since 1998.
        ("1998-01-19", DayKind::Holiday),
        ("2012-10-29", DayKind::Closure),
        ("2018-12-05", DayKind::Closure),
        ("2025-01-09", DayKind::Closure),
    ] {
        assert_eq!(calendar.day(date(day)).kind, kind, "{day}");
    }
    // Each holiday on all seven weekdays: closed on some weekday within a day of it, or (New Year's) not at all.
    for year in 2022..2022 + 28 {
        let fixed =
            [(1, 1), (6, 19), (7, 4), (12, 25)].map(|(month, day)| NaiveDate::from_ymd_opt(year, month, day).unwrap());
        for holiday in fixed {
            let around = [holiday - Days::new(1), holiday, holiday + Days::new(1)];
            let closed = around.iter().filter(|date| calendar.day(**date).kind == DayKind::Holiday).count();
            let new_year_on_saturday = holiday.month() == 1 && holiday.weekday() == Weekday::Sat;
            assert_eq!(closed, usize::from(!new_year_on_saturday), "{holiday}");
        }
    }
}

#[test]
fn sessions_of_each_year() {
    let calendar = Calendar::xnys();
    let count = |year: i32| {
        let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
        calendar.sessions(first, first + Months::new(12) - Days::new(1)).count()
    };
    let counts: Vec<String> = (1990..=2028).map(|year| format!("{year} {}", count(year))).collect();
    let lines: Vec<String> = counts.chunks(8).map(|line| line.join(", ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    1990 253, 1991 253, 1992 254, 1993 253, 1994 252, 1995 252, 1996 254, 1997 253
    1998 252, 1999 252, 2000 252, 2001 248, 2002 252, 2003 252, 2004 252, 2005 252
    2006 251, 2007 251, 2008 253, 2009 252, 2010 252, 2011 252, 2012 250, 2013 252
    2014 252, 2015 252, 2016 252, 2017 251, 2018 251, 2019 252, 2020 253, 2021 252
    2022 251, 2023 250, 2024 252, 2025 250, 2026 251, 2027 251, 2028 251
    ");
}

#[test]
fn easter_as_the_almanacs_have_it() {
    for (year, easter) in [
        (1818, "1818-03-22"),
        (1943, "1943-04-25"),
        (2000, "2000-04-23"),
        (2024, "2024-03-31"),
        (2025, "2025-04-20"),
        (2027, "2027-03-28"),
        (2038, "2038-04-25"),
        (2285, "2285-03-22"),
    ] {
        assert_eq!(rules::easter_sunday(year), Some(date(easter)), "{year}");
    }
}

#[test]
fn every_boundary_belongs_to_the_phase_that_begins() {
    let calendar = Calendar::xnys();
    let nanosecond = TimeDelta::nanoseconds(1);
    for (boundary, before, after) in [
        ("2027-03-15T08:00:00Z", Phase::Closed, Phase::Pre),
        ("2027-03-15T13:30:00Z", Phase::Pre, Phase::Regular),
        ("2027-03-15T20:00:00Z", Phase::Regular, Phase::Post),
        ("2027-03-16T00:00:00Z", Phase::Post, Phase::Closed),
        ("2026-11-27T18:00:00Z", Phase::Regular, Phase::Post),
        ("2026-11-27T22:00:00Z", Phase::Post, Phase::Closed),
    ] {
        let boundary = at(boundary);
        assert_eq!(calendar.at(boundary - nanosecond).phase, before, "{boundary}");
        assert_eq!(calendar.at(boundary).phase, after, "{boundary}");
        assert_eq!(calendar.at(boundary + nanosecond).phase, after, "{boundary}");
        assert_eq!(calendar.at(boundary - nanosecond).next_transition, boundary);
    }
}

#[test]
fn new_york_hours_hold_on_both_sides_of_every_switch() {
    let calendar = Calendar::xnys();
    for year in 1990..=2060 {
        let sessions = calendar
            .sessions(NaiveDate::from_ymd_opt(year, 1, 1).unwrap(), NaiveDate::from_ymd_opt(year, 12, 31).unwrap());
        for session in sessions {
            let local = |instant: DateTime<Utc>| instant.with_timezone(&calendar.zone());
            assert_eq!(local(session.pre_open).hour(), 4, "{session:?}");
            if session.kind == DayKind::Full {
                assert_eq!((local(session.open).hour(), local(session.open).minute()), (9, 30), "{session:?}");
                assert_eq!((local(session.close).hour(), local(session.post_close).hour()), (16, 20), "{session:?}");
            }
        }
    }
}

#[test]
fn the_ends_of_time_are_answered_without_a_panic() {
    let calendar = Calendar::xnys();
    for instant in
        [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at("9000-12-31T23:59:59Z"), at("1700-01-01T00:00:00Z")]
    {
        let moment = calendar.at(instant);
        assert!(moment.next_transition >= instant);
        calendar.previous_close(instant);
        let _ = calendar.spans(instant, instant).count();
    }
    for day in [NaiveDate::MIN, NaiveDate::MAX, date("9000-12-31"), date("1700-01-01")] {
        calendar.day(day);
        calendar.session(day);
        calendar.next_session(day);
        calendar.previous_session(day);
    }
}

#[test]
fn market_time_stands_still_while_the_market_is_closed() {
    let calendar = Calendar::xnys();
    for (from, to, seconds) in [
        ("2027-03-12T20:59:00Z", "2027-03-15T13:31:00Z", 120), // Over a weekend and a switch of clocks.
        ("2027-03-12T21:00:00Z", "2027-03-15T13:30:00Z", 0),
        ("2026-11-25T14:30:00Z", "2026-11-30T14:30:00Z", 36_000), // A full day, Thanksgiving, a half day, a weekend.
        ("2027-03-15T14:00:00Z", "2027-03-15T13:59:00Z", 0),
    ] {
        assert_eq!(calendar.open_time_between(at(from), at(to)).num_seconds(), seconds, "{from} {to}");
    }
}

#[test]
fn the_version_tells_rules_and_exceptions() {
    assert_eq!(Calendar::xnys().version(), Calendar::xnys().version());
    assert_ne!(version_of("a"), version_of("b"));
    assert!(exceptions::parse(XNYS_EXCEPTIONS).is_ok());
    let twice = "date,kind,open_local,close_local,reason,source,declared_at\n2001-09-11,closed,,,a,b,\n2001-09-11,closed,,,a,b,\n";
    assert_eq!(exceptions::parse(twice).unwrap_err(), "line 3: 2001-09-11 is there twice; keep one line");
    let odd = "date,kind,open_local,close_local,reason,source,declared_at\n2001-09-11,closed,,13:00,a,b,\n";
    assert!(exceptions::parse(odd).unwrap_err().starts_with("line 2: kind \"closed\""));
}

/// Answers from the rules alone, date by date: what the table must agree with.
fn phase_by_rules(calendar: &Calendar, instant: DateTime<Utc>) -> (Phase, Option<NaiveDate>) {
    let local = instant.with_timezone(&calendar.zone()).date_naive();
    let session = calendar.session(local).filter(|session| (session.pre_open..session.post_close).contains(&instant));
    session.map_or((Phase::Closed, None), |session| (phase_in(&session, instant).0, Some(session.date)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_of_an_instant(seconds in 473_385_600_i64..2_871_763_200, nanoseconds in 0_u32..1_000_000_000) {
        // Built once: a calendar is immutable.
        static CALENDAR: std::sync::LazyLock<Calendar> = std::sync::LazyLock::new(Calendar::xnys);
        let calendar = &*CALENDAR;
        let instant = DateTime::from_timestamp(seconds, nanoseconds).unwrap();
        let moment = calendar.at(instant);
        prop_assert!(moment.next_transition > instant);
        let then = calendar.at(moment.next_transition);
        prop_assert_eq!(then.phase, moment.next_phase);
        prop_assert_ne!(then.phase, moment.phase);
        prop_assert!(moment.next_open > instant && moment.next_close > instant);
        prop_assert_eq!(calendar.at(moment.next_open).phase, Phase::Regular);
        prop_assert_eq!(calendar.at(moment.next_close).phase, Phase::Post);
        let previous = calendar.previous_close(instant);
        prop_assert!(previous <= instant && calendar.next_close(previous) == moment.next_close);
        prop_assert_eq!((moment.phase, moment.session), phase_by_rules(calendar, instant));
        let spans: Vec<Span> = calendar.spans(instant, instant + TimeDelta::days(10)).collect();
        prop_assert!(spans[0].start <= instant && instant < spans[0].end);
        prop_assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].phase != pair[1].phase));
        prop_assert!(spans.last().unwrap().end >= instant + TimeDelta::days(10));
    }
}

proptest! {
    // Outside the table each answer compiles its years anew, so there are fewer.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn outside_the_table_the_answer_is_the_same(seconds in prop_oneof![-7_000_000_000_i64..478_000_000, 2_870_000_000_i64..100_000_000_000]) {
        let calendar = Calendar { table: Vec::new(), ..Calendar::xnys() };
        let instant = DateTime::from_timestamp(seconds, 0).unwrap();
        let moment = calendar.at(instant);
        prop_assert_eq!((moment.phase, moment.session), phase_by_rules(&calendar, instant));
        prop_assert!(moment.next_transition > instant);
    }
}
