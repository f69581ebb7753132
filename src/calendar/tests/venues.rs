//! The venues: hours by era, nights that are off until somebody turns them on, and six exchanges elsewhere.

use super::*;

/// The phases of a session on the wall of its market, in a line.
fn phases(calendar: &Calendar, day: &str) -> String {
    let day = date(day);
    let Some(session) = calendar.session(day) else { return "closed".to_owned() };
    let local = |at: DateTime<Utc>| {
        let local = at.with_timezone(&calendar.zone());
        let before = if local.date_naive() < day { "-" } else { "" };
        format!("{before}{}", local.format("%H:%M"))
    };
    let spans = calendar.spans(session.start(), session.end());
    let spans = spans.map(|span| format!("{} {}-{}", span.phase, local(span.start), local(span.end)));
    spans.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_venues_of_new_york_share_their_days_and_not_their_hours() {
    let mut lines = Vec::new();
    for (mic, day) in [
        ("XNYS", "2026-11-24"),
        ("XNYS", "2026-11-27"),
        ("XNYS", "2018-11-23"),
        ("XNYS", "2019-11-29"),
        ("XNYS", "2019-12-24"),
        ("ARCX", "2018-11-23"),
        ("ARCX", "2026-11-27"),
        ("XNAS", "2019-11-29"),
        ("BATS", "2024-11-25"),
        ("BATS", "2026-11-24"),
        ("EDGX", "2020-11-24"),
        ("EDGX", "2026-11-24"),
        ("IEXG", "2026-11-24"),
        ("IEXG", "2026-11-27"),
        ("XCBO", "2026-11-24"),
        ("XCBO", "2026-11-27"),
        ("XNAS", "2026-12-25"),
    ] {
        lines.push(format!("{mic} {day}: {}", phases(&BUILT_IN.of(mic).unwrap(), day)));
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    XNYS 2026-11-24: pre 04:00-09:30, regular 09:30-16:00, post 16:00-20:00
    XNYS 2026-11-27: pre 04:00-09:30, regular 09:30-13:00, post 13:00-17:00
    XNYS 2018-11-23: pre 04:00-09:30, regular 09:30-13:00, post 13:00-16:00
    XNYS 2019-11-29: pre 04:00-09:30, regular 09:30-13:00, post 13:00-16:00
    XNYS 2019-12-24: pre 04:00-09:30, regular 09:30-13:00, post 13:00-17:00
    ARCX 2018-11-23: pre 04:00-09:30, regular 09:30-13:00, post 13:00-16:00
    ARCX 2026-11-27: pre 04:00-09:30, regular 09:30-13:00, post 13:00-17:00
    XNAS 2019-11-29: pre 04:00-09:30, regular 09:30-13:00, post 13:00-17:00
    BATS 2024-11-25: pre 07:00-09:30, regular 09:30-16:00, post 16:00-20:00
    BATS 2026-11-24: pre 04:00-09:30, regular 09:30-16:00, post 16:00-20:00
    EDGX 2020-11-24: pre 07:00-09:30, regular 09:30-16:00, post 16:00-20:00
    EDGX 2026-11-24: pre 04:00-09:30, regular 09:30-16:00, post 16:00-20:00
    IEXG 2026-11-24: pre 08:00-09:30, regular 09:30-16:00, post 16:00-17:00
    IEXG 2026-11-27: pre 08:00-09:30, regular 09:30-13:00, post 13:00-17:00
    XCBO 2026-11-24: regular 09:30-16:00, post 16:00-16:15
    XCBO 2026-11-27: regular 09:30-13:00, post 13:00-13:15
    XNAS 2026-12-25: closed
    ");
}

#[test]
fn night_sessions_are_off_until_they_are_turned_on() {
    let overnight: Vec<String> = BUILT_IN.with_overnight().map(str::to_owned).collect();
    assert_eq!(overnight, ["ARCX", "EDGX", "XNAS"]);
    let nights = Calendars::build(Operator { overnight, ..Operator::default() }).unwrap();
    for mic in ["ARCX", "EDGX", "XNAS"] {
        let (off, on) = (BUILT_IN.of(mic).unwrap(), nights.of(mic).unwrap());
        // The first night is Sunday 2026-12-06, 21:00 in New York; before, nothing differs.
        let first = at("2026-12-07T02:00:00Z");
        assert_eq!(off.at(first).phase, Phase::Closed, "{mic}");
        assert_eq!(on.at(first).phase, Phase::Overnight, "{mic}");
        assert_eq!(on.at(first).session, Some(date("2026-12-07")), "{mic}");
        assert_eq!(on.at(first - TimeDelta::nanoseconds(1)).phase, Phase::Closed, "{mic}");
        assert_eq!(on.session(date("2026-12-04")), off.session(date("2026-12-04")), "{mic}");
        assert_eq!(on.at(at("2026-12-07T09:00:00Z")).phase, Phase::Pre, "{mic}");
        // The pause on a weekday evening, and the week that ends on Friday at 20:00.
        assert_eq!(on.at(at("2026-12-09T01:30:00Z")).phase, Phase::Closed, "{mic}");
        assert_eq!(on.at(at("2026-12-09T02:00:00Z")).phase, Phase::Overnight, "{mic}");
        assert_eq!(on.at(at("2026-12-12T01:00:00Z")).phase, Phase::Closed, "{mic}");
        assert_eq!(on.at(at("2026-12-12T01:00:00Z")).next_transition, at("2026-12-14T02:00:00Z"), "{mic}");
        // No night belongs to a holiday; the one after it begins on its evening.
        assert_eq!(on.at(at("2026-12-25T03:00:00Z")).phase, Phase::Closed, "{mic}: the eve of Christmas Day");
        assert_eq!(on.at(at("2027-11-25T03:00:00Z")).phase, Phase::Closed, "{mic}: Wednesday before Thanksgiving");
        assert_eq!(on.at(at("2027-11-26T03:00:00Z")).session, Some(date("2027-11-26")), "{mic}: Thanksgiving evening");
        // Half a day ends at 17:00; the next session begins on the evening before it.
        assert_eq!(on.at(at("2027-11-26T22:00:00Z")).next_transition, at("2027-11-29T02:00:00Z"), "{mic}");
    }
    assert_eq!(nights.of("XNYS").unwrap().at(at("2026-12-07T02:00:00Z")).phase, Phase::Closed);
}

#[test]
fn every_venue_answers_for_every_day() {
    for calendar in BUILT_IN.mics().filter_map(|mic| BUILT_IN.of(mic)) {
        for year in [2000, 2010, 2026, 2045] {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            let sessions = calendar.sessions(first, first + Days::new(364)).count();
            assert!((235..=262).contains(&sessions), "{} {year}: {sessions}", calendar.mic());
        }
    }
}

/// Two independent libraries agree on these dates, but for what docs/calendar.md and the files' own rows say; `bench/calendar`
/// compares them again with the newest one.
#[test]
fn sessions_of_each_year_elsewhere() {
    let mics = ["XLON", "XTSE", "XETR", "XPAR", "XTKS", "XHKG"];
    let mut lines = vec![format!("year {}", mics.join(" "))];
    for year in 2000..=2030 {
        let (first, last) =
            (NaiveDate::from_ymd_opt(year, 1, 1).unwrap(), NaiveDate::from_ymd_opt(year, 12, 31).unwrap());
        let count = |mic: &str| BUILT_IN.of(mic).unwrap().sessions(first, last).count();
        let counts = mics.iter().map(|mic| format!(" {:4}", count(mic)));
        lines.push(format!("{year}{}", counts.collect::<String>()));
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    year XLON XTSE XETR XPAR XTKS XHKG
    2000  252  251  254  253  248  247
    2001  253  251  253  253  246  243
    2002  252  252  253  255  246  247
    2003  253  252  253  255  245  248
    2004  254  253  257  259  246  249
    2005  252  251  257  257  245  247
    2006  252  251  255  255  248  247
    2007  253  252  252  255  245  246
    2008  254  252  254  256  245  245
    2009  253  251  254  256  243  249
    2010  253  251  256  258  245  249
    2011  251  250  257  257  245  246
    2012  252  251  254  256  248  247
    2013  253  251  253  255  245  244
    2014  253  251  252  255  244  247
    2015  253  251  253  256  244  247
    2016  253  251  255  257  245  245
    2017  252  250  252  255  247  246
    2018  253  251  251  255  245  246
    2019  253  251  251  255  241  246
    2020  254  252  254  257  242  248
    2021  253  251  255  258  245  247
    2022  250  250  257  257  244  246
    2023  251  250  255  255  246  243
    2024  254  252  254  256  245  246
    2025  253  251  253  255  243  246
    2026  253  251  254  256  242  247
    2027  253  251  256  258  244  248
    2028  252  250  255  255  245  246
    2029  253  251  253  255  245  246
    2030  253  251  253  255  245  246
    ");
}

#[test]
fn the_hours_elsewhere_by_era() {
    let mut lines = Vec::new();
    for (mic, day) in [
        ("XLON", "2026-11-24"),
        ("XLON", "2026-12-24"),
        ("XLON", "2022-12-23"), // Christmas Eve was a Saturday.
        ("XLON", "2022-09-19"), // The Queen's funeral.
        ("XLON", "2011-02-25"),
        ("XTSE", "2026-12-24"),
        ("XTSE", "2026-05-18"), // Victoria Day.
        ("XETR", "2003-10-31"),
        ("XETR", "2003-11-03"),
        ("XETR", "2026-12-30"),
        ("XPAR", "2026-12-24"),
        ("XPAR", "2026-05-01"),
        ("XTKS", "2009-01-05"), // A half day.
        ("XTKS", "2011-11-18"),
        ("XTKS", "2011-11-21"),
        ("XTKS", "2024-11-01"),
        ("XTKS", "2024-11-05"),
        ("XTKS", "2020-10-01"), // The whole day failed.
        ("XTKS", "2026-09-22"), // Between two holidays.
        ("XHKG", "2011-03-04"),
        ("XHKG", "2011-03-07"),
        ("XHKG", "2012-03-05"),
        ("XHKG", "2026-02-16"), // The eve of the lunar new year.
        ("XHKG", "2023-09-01"), // A typhoon.
        ("XHKG", "2013-05-22"), // A rainstorm in the morning.
        ("XHKG", "2029-09-24"), // The day after Mid-Autumn, from Sunday.
    ] {
        lines.push(format!("{mic} {day}: {}", phases(&BUILT_IN.of(mic).unwrap(), day)));
    }
    insta::assert_snapshot!(lines.join("\n"), @"
    XLON 2026-11-24: regular 08:00-16:30
    XLON 2026-12-24: regular 08:00-12:30
    XLON 2022-12-23: regular 08:00-12:30
    XLON 2022-09-19: closed
    XLON 2011-02-25: regular 08:00-08:03, halt 08:03-12:15, regular 12:15-16:30
    XTSE 2026-12-24: regular 09:30-13:00
    XTSE 2026-05-18: closed
    XETR 2003-10-31: regular 09:00-20:00
    XETR 2003-11-03: regular 09:00-17:30
    XETR 2026-12-30: regular 09:00-14:00
    XPAR 2026-12-24: regular 09:00-14:05
    XPAR 2026-05-01: closed
    XTKS 2009-01-05: regular 09:00-11:00
    XTKS 2011-11-18: regular 09:00-11:00, break 11:00-12:30, regular 12:30-15:00
    XTKS 2011-11-21: pre 08:00-09:00, regular 09:00-11:30, break 11:30-12:30, regular 12:30-15:00
    XTKS 2024-11-01: pre 08:00-09:00, regular 09:00-11:30, break 11:30-12:30, regular 12:30-15:00
    XTKS 2024-11-05: pre 08:00-09:00, regular 09:00-11:30, break 11:30-12:30, regular 12:30-15:30
    XTKS 2020-10-01: closed
    XTKS 2026-09-22: closed
    XHKG 2011-03-04: pre 09:30-10:00, regular 10:00-12:30, break 12:30-14:30, regular 14:30-16:00
    XHKG 2011-03-07: pre 09:00-09:30, regular 09:30-12:00, break 12:00-13:30, regular 13:30-16:00
    XHKG 2012-03-05: pre 09:00-09:30, regular 09:30-12:00, break 12:00-13:00, regular 13:00-16:00
    XHKG 2026-02-16: pre 09:00-09:30, regular 09:30-12:00, post 12:00-12:10
    XHKG 2023-09-01: closed
    XHKG 2013-05-22: pre 09:00-13:00, regular 13:00-16:00
    XHKG 2029-09-24: closed
    ");
}
