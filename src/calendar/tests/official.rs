//! Every weekday of New York 1990-2028 against the exchange's own lists (`tests/data/README.md`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::*;

const HOLIDAYS: &str = include_str!("../../../tests/data/nyse_holidays.csv");
const SPECIAL: &str = include_str!("../../../tests/data/nyse_special_events.csv");
const EARLY_CLOSES: &str = include_str!("../../../tests/data/nyse_early_closes.csv");

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

/// What the lists say of each date that is not an ordinary session: `closed`, or its opening and close.
fn expected() -> BTreeMap<NaiveDate, (String, String)> {
    let mut days = BTreeMap::new();
    for line in lines(HOLIDAYS) {
        for day in line[1].split(' ') {
            days.insert(date(&format!("{}-{day}", line[0])), ("closed".to_owned(), String::new()));
        }
    }
    for line in lines(EARLY_CLOSES) {
        days.insert(date(line[0]), ("09:30".to_owned(), line[1].to_owned()));
    }
    let or = |text: &str, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
    for line in lines(SPECIAL).filter(|line| line[1] != "halt") {
        let hours = match line[1] {
            "closure" => ("closed".to_owned(), String::new()),
            _ => (or(line[2], "09:30"), or(line[3], "16:00")),
        };
        days.insert(date(line[0]), hours);
    }
    days
}

#[test]
fn no_weekday_from_1990_to_2028_differs_from_the_exchanges_lists() {
    let expected = expected();
    let last = date("2028-12-31");
    let (mut compared, mut wrong) = (0, Vec::new());
    for day in date("1990-01-01").iter_days().take_while(|day| *day <= last).filter(|day| !rules::is_weekend(*day)) {
        let told = match XNYS.session(day) {
            None => ("closed".to_owned(), String::new()),
            Some(session) => wall_hours(&XNYS, &session),
        };
        let listed = expected.get(&day).cloned().unwrap_or_else(|| ("09:30".to_owned(), "16:00".to_owned()));
        compared += 1;
        if told != listed {
            wrong.push(format!("{day}: {told:?}, the exchange says {listed:?}"));
        }
    }
    assert_eq!((compared, wrong), (10_175, Vec::new()));
}

#[test]
fn every_halt_of_the_list_is_a_halt_to_the_second() {
    let mut halts = 0;
    for line in lines(SPECIAL).filter(|line| line[1] == "halt") {
        let day = date(line[0]);
        let local = |time: &str| {
            let time = chrono::NaiveTime::parse_from_str(time, "%H:%M").unwrap();
            zone::utc_seconds(XNYS.zone(), day, i32::try_from(time.num_seconds_from_midnight()).unwrap())
        };
        let (start, end) = (local(line[4]), local(line[5]));
        let phase = |second: i64, nanosecond: u32| XNYS.at(DateTime::from_timestamp(second, nanosecond).unwrap()).phase;
        assert_eq!(phase(start - 1, 999_999_999), Phase::Regular, "{line:?}");
        assert_eq!(phase(start, 0), Phase::Halt, "{line:?}");
        assert_eq!(phase(end - 1, 999_999_999), Phase::Halt, "{line:?}");
        assert_eq!(phase(end, 0), Phase::Regular, "{line:?}");
        assert!(XNYS.why(day).reason.is_some(), "{line:?}");
        halts += 1;
    }
    assert_eq!(halts, 16);
}

/// Every weekday of a year that is not an ordinary session, a line each.
fn unusual_days(calendar: &Calendar, year: i32) -> String {
    let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
    let days = first.iter_days().take_while(|date| date.year() == year).map(|date| calendar.why(date));
    let unusual = days.filter(|day| !matches!(day.kind, DayKind::Full | DayKind::Weekend));
    let lines = unusual.map(|day| format!("{} {:<11} {}", day.date.format("%F %a"), day.kind, day.reason.unwrap()));
    let sessions = calendar.sessions(first, first + Days::new(364)).count();
    format!("{year}: {sessions} sessions\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn of_years(years: RangeInclusive<i32>) -> String {
    let years: Vec<String> = years.map(|year| unusual_days(&XNYS, year)).collect();
    years.join("\n\n")
}

#[test]
fn the_years_the_exchange_has_published() {
    insta::assert_snapshot!(of_years(2024..=2026), @"
    2024: 251 sessions
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

    2025: 250 sessions
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

    2026: 251 sessions
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
    ");
}

#[test]
fn the_years_the_exchange_has_published_ahead() {
    insta::assert_snapshot!(of_years(2027..=2028), @"
    2027: 251 sessions
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

    2028: 251 sessions
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

#[test]
fn a_holiday_on_a_weekend_is_observed_as_rule_7_2_says() {
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
    ] {
        assert_eq!(XNYS.why(date(day)).kind, kind, "{day}");
    }
    // Each holiday on all seven weekdays: closed on some weekday within a day of it, or (New Year's) not at all.
    let mut seen = std::collections::BTreeSet::new();
    for year in 2022..2022 + 28 {
        let fixed =
            [(1, 1), (6, 19), (7, 4), (12, 25)].map(|(month, day)| NaiveDate::from_ymd_opt(year, month, day).unwrap());
        for holiday in fixed {
            seen.insert((holiday.month(), holiday.weekday().num_days_from_monday()));
            let around = [holiday - Days::new(1), holiday, holiday + Days::new(1)];
            let closed: Vec<_> = around.iter().filter(|date| XNYS.why(**date).kind == DayKind::Holiday).collect();
            let expected = match holiday.weekday() {
                chrono::Weekday::Sat if holiday.month() == 1 => vec![],
                chrono::Weekday::Sat => vec![&around[0]],
                chrono::Weekday::Sun => vec![&around[2]],
                _ => vec![&around[1]],
            };
            assert_eq!(closed, expected, "{holiday}");
        }
    }
    assert_eq!(seen.len(), 28, "four holidays on seven weekdays");
}

/// 28 years have every date on every weekday, in leap years and in others.
#[test]
fn the_eves_close_early_on_the_weekdays_they_should() {
    use chrono::Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    let mut seen = BTreeMap::new();
    for year in 2013..2013 + 28 {
        for (month, day) in [(7, 2), (7, 3), (7, 5), (12, 23), (12, 24), (12, 26), (12, 31)] {
            let eve = NaiveDate::from_ymd_opt(year, month, day).unwrap();
            let expected = match (month, day, eve.weekday()) {
                (_, _, Sat | Sun) => DayKind::Weekend,
                // The holiday itself is on Saturday and observed on its eve, or on Sunday and observed on the Monday after it.
                (7, 3, Fri) | (12, 24, Fri) | (7, 5, Mon) | (12, 26, Mon) => DayKind::Holiday,
                (7, 3, Mon | Tue | Wed | Thu) | (12, 24, Mon | Tue | Wed | Thu) => DayKind::EarlyClose,
                _ => DayKind::Full,
            };
            assert_eq!(XNYS.why(eve).kind, expected, "{eve}");
            seen.entry((month, day))
                .or_insert_with(std::collections::BTreeSet::new)
                .insert(eve.weekday().num_days_from_monday());
        }
        let thanksgiving = NaiveDate::from_weekday_of_month_opt(year, 11, Thu, 4).unwrap();
        let kinds = [0, 1, 2].map(|days| XNYS.why(thanksgiving + Days::new(days)).kind);
        assert_eq!(kinds, [DayKind::Holiday, DayKind::EarlyClose, DayKind::Weekend], "{year}");
    }
    assert!(seen.values().all(|weekdays| weekdays.len() == 7), "each of them on all seven weekdays");
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
fn the_hours_of_old_days() {
    for (day, open, close) in [
        ("1950-03-01", "10:00", "15:00"),
        ("1952-09-26", "10:00", "15:00"),
        ("1952-09-29", "10:00", "15:30"),
        ("1974-09-30", "10:00", "15:30"),
        ("1974-10-01", "10:00", "16:00"),
        ("1985-09-27", "10:00", "16:00"),
        ("1985-09-30", "09:30", "16:00"),
    ] {
        let session = XNYS.session(date(day)).unwrap();
        assert_eq!(wall_hours(&XNYS, &session), (open.to_owned(), close.to_owned()), "{day}");
    }
}

#[test]
fn the_horizon_is_what_was_published_and_warns_in_time() {
    assert_eq!(XNYS.horizon().0, date("2028-12-31"));
    assert_eq!(XNYS.at(at("2029-01-01T04:59:59Z")).confidence, Confidence::Official);
    assert_eq!(XNYS.at(at("2029-01-01T05:00:00Z")).confidence, Confidence::Rule);
    assert_eq!(XNYS.why(date("2029-01-01")).confidence, Confidence::Rule);
    assert!(!XNYS.is_horizon_near(at("2027-11-30T12:00:00Z")));
    assert!(XNYS.is_horizon_near(at("2027-12-01T12:00:00Z")));
    let then = BUILT_IN.as_of(at("2025-06-01T00:00:00Z")).of("XNYS").unwrap();
    assert_eq!(then.horizon().0, date("2027-12-31"), "the list up to 2028 came in December 2025");
}

#[test]
fn a_rehearsal_does_not_know_what_was_declared_later() {
    let known = |known_at: &str, day: &str| BUILT_IN.as_of(at(known_at)).of("XNYS").unwrap().why(date(day)).kind;
    assert_eq!(known("2024-12-29T23:00:00Z", "2025-01-09"), DayKind::Full);
    assert_eq!(known("2024-12-30T23:00:00Z", "2025-01-09"), DayKind::Closure);
    // The evening of the 29th in New York is the 30th in UTC.
    assert_eq!(known("2024-12-30T03:00:00Z", "2025-01-09"), DayKind::Full);
    assert_eq!(known("2001-09-11T12:00:00Z", "2001-09-12"), DayKind::Closure);
    assert_eq!(known("2001-09-10T12:00:00Z", "2001-09-12"), DayKind::Full);
    assert_eq!(known("1990-01-01T12:00:00Z", "1998-01-19"), DayKind::Holiday, "rules are timeless");
}
