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
