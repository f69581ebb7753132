//! What an operator can say, and what is refused with its line, its column and the fix.

use super::*;

/// What the calendar says of a date under the rows of an operator's file.
fn told(rows: &str, day: &str) -> String {
    let calendar = with_rows(rows).unwrap_or_else(|fault| panic!("{fault}")).of("XNYS").unwrap();
    let day = date(day);
    let why = calendar.why(day);
    let hours = calendar.session(day).map(|session| {
        let (open, close) = wall_hours(&calendar, &session);
        let pauses = session.pauses.len();
        format!(" {open}-{close}{}", if pauses > 0 { format!(" pauses {pauses}") } else { String::new() })
    });
    format!("{}{} {} [{}]", why.kind, hours.unwrap_or_default(), why.reason.as_deref().unwrap_or("-"), why.confidence)
}

#[test]
fn an_operator_can_say_every_kind_of_thing() {
    let closure = "2027-03-15,XNYS,closure,,,,,Flood,NYSE,2027-03-14,ops";
    assert_eq!(told(closure, "2027-03-15"), "closure Flood [operator]");
    assert_eq!(told(closure, "2027-03-16"), "full 09:30-16:00 - [official]");
    let early = "2027-03-15,US,early_close,,11:00,,,Flood,,,";
    assert_eq!(told(early, "2027-03-15"), "early_close 09:30-11:00 Flood [operator]");
    let late = "2027-03-15,XNYS,late_open,10:15:30,,,,Flood,,,";
    assert_eq!(told(late, "2027-03-15"), "late_open 10:15:30-16:00 Flood [operator]");
    let both = "2027-03-15,XNYS,early_close,10:00,14:00,,,Flood,,,";
    assert_eq!(told(both, "2027-03-15"), "special 10:00-14:00 Flood [operator]");
    let longer = "2027-03-15,XNYS,late_close,,16:15,,,Flood,,,";
    assert_eq!(told(longer, "2027-03-15"), "special 09:30-16:15 Flood [operator]");
    let halts = "2027-03-15,XNYS,halt,,,10:00,10:15,Flood,,,\n2027-03-15,XNYS,halt,,,11:00,11:15:30,Fire,,,";
    assert_eq!(told(halts, "2027-03-15"), "full 09:30-16:00 pauses 2 Flood; halt: Fire [operator]");
    // It trades on a holiday, on a Sunday, or longer than the rule of a half day says.
    let open = "2027-03-26,XNYS,open,,,,,They trade,,,\n2027-03-28,XNYS,open,10:00,12:00,,,They trade,,,\n2026-11-27,XNYS,open,,,,,Full day,,,";
    assert_eq!(told(open, "2027-03-26"), "full 09:30-16:00 They trade [operator]");
    assert_eq!(told(open, "2027-03-28"), "special 10:00-12:00 They trade [operator]");
    assert_eq!(told(open, "2026-11-27"), "full 09:30-16:00 Full day [operator]");
    // Beside a rule: a late open on a half day.
    assert_eq!(told("2026-11-27,XNYS,late_open,10:00,,,,Snow,,,", "2026-11-27"), "special 10:00-13:00 Snow [operator]");
    // What is built in can be undone, and another venue is another matter.
    assert_eq!(told("2025-01-09,US,clear,,,,,It was not so,,,", "2025-01-09"), "full 09:30-16:00 - [operator]");
    assert_eq!(told("2027-03-15,XNAS,closure,,,,,Flood,,,", "2027-03-15"), "full 09:30-16:00 - [official]");
}

#[test]
fn a_file_with_mistakes_names_every_one_of_them() {
    let rows = "2027-02-30,XNYS,closure,,,,,Flood,,,\n\
        2027-03-15,XNYS,early_close,,25:00,,,Flood,,,\n\
        2027-03-15,XNYS,early_close,,,,,Flood,,,\n\
        2027-03-15,XNYS,nap,,,,,Flood,,,\n\
        2027-03-15,,closure,,,,,Flood,,,\n\
        2027-03-15,XNYS,closure,,,,,,,,\n\
        2027-03-15,XNYS,halt,,,10:00,09:00,Flood,,,\n\
        2027-03-15,XNYS,closure,,,,,Flood,,yesterday,\n\
        2027-03-15,XNYS,closure";
    insta::assert_snapshot!(mistakes(rows), @r#"
    line 2, column 1 (date): "2027-02-30" is not a date; fix: write YYYY-MM-DD, for example 2027-03-15
    line 3, column 5 (close): "25:00" is not a time; fix: write HH:MM or HH:MM:SS, for example 13:00
    line 4, column 5 (close): early_close needs close; fix: write when it closes, HH:MM
    line 5, column 3 (kind): "nap" is no kind; fix: write one of clear, closure, open, late_open, early_close, late_close, halt
    line 6, column 2 (venue): no venue is named; fix: write a MIC such as XNYS, or US for all of its venues
    line 7, column 8 (reason): no reason is given; fix: say in a few words why, for those who ask later
    line 8, column 7 (halt_end): it ends before it begins; fix: write the earlier time first, on the same day
    line 9, column 10 (declared_at): "yesterday" is neither a date nor an instant; fix: write YYYY-MM-DD, or an instant such as 2024-12-30T18:00:00Z
    line 10: 3 values for 11 columns; fix: write one value for each column; put quotes around a text with a comma in it
    "#);
}

#[test]
fn rows_that_do_not_fit_the_calendar_are_refused() {
    let cases = [
        "2027-03-14,XNYS,early_close,,11:00,,,A Sunday,,,",
        "2027-03-26,XNYS,halt,,,10:00,11:00,A holiday,,,",
        "2025-01-09,XNYS,early_close,,11:00,,,Closed already,,,",
        "2026-11-27,XNYS,late_open,13:00,,,,After the end,,,",
        "2027-03-15,XNYS,halt,,,15:30,16:00,To the end,,,",
        "2027-03-15,XNYS,halt,,,10:00,11:00,One,,,\n2027-03-15,XNYS,halt,,,10:30,11:30,Two,,,",
        "2027-03-15,XNYS,closure,,,,,One,,,\n2027-03-15,US,closure,,,,,Two,,,",
        "2027-03-15,XNYS,closure,,,,,One,,,\n2027-03-15,XNYS,early_close,,11:00,,,Two,,,",
        "2027-03-15,XMOON,closure,,,,,Nobody is there,,,",
        "9001-01-02,XNYS,closure,,,,,Too far,,,",
    ];
    insta::assert_snapshot!(cases.map(mistakes).join("\n"), @r#"
    line 2, column 1 (date): 2027-03-14 is no session of XNYS (Weekend), so it has no such hours; fix: correct the date, or write kind open if it does trade
    line 2, column 1 (date): 2027-03-26 is no session of XNYS (Good Friday), so it has no such hours; fix: correct the date, or write kind open if it does trade
    line 2, column 3 (kind): 2025-01-09 is closed (National day of mourning for former President Carter); fix: write kind open with the hours, or clear in a line before it
    line 2, column 5 (close): the session of XNYS on 2026-11-27 would be 13:00-13:00; fix: write times that leave some session between open and close
    line 2, column 6 (halt_start): the halt 15:30-16:00 is not within the session of XNYS on 2027-03-15, 09:30-16:00; fix: write a late_open or an early_close for its beginning or end
    line 3, column 6 (halt_start): the halts 10:00-11:00 and 10:30-11:30 on 2027-03-15 overlap; fix: write one halt from the first to the last time, after a clear where one of them is built in
    line 3, column 1 (date): 2027-03-15 is told twice (line 2 too: date); fix: keep one line
    line 3, column 1 (date): 2027-03-15 is told twice (line 2 too: close); fix: keep one line
    line 3, column 3 (kind): 2027-03-15 is closed (One); fix: write kind open with the hours, or clear in a line before it
    line 2, column 2 (venue): there is no venue "XMOON"; fix: write US for all of New York, or one of ARCX, BATS, EDGX, IEXG, XCBO, XETR, XHKG, XLON, XNAS, XNYS, XPAR, XTKS, XTSE
    line 2, column 1 (date): 9001-01-02 is beyond the years this calendar knows; fix: write a date from 1700 to 9000
    "#);
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let text = "# ours\n\n# and more\ndate,venue,kind,reason\n\n# soon\n2027-03-15,XNYS,closure,Flood\n\n2027-03-16,XNYS,nap,Flood\n";
    assert!(read_csv(text, Origin::File).unwrap_err().to_string().starts_with("line 9, column 3 (kind)"));
    let header = "# ours\n\ndate,venue,kind\n";
    assert!(read_csv(header, Origin::File).unwrap_err().to_string().starts_with("line 3: the column reason"));
    let long = format!("{}\n{},XNYS,closure,,,,,Flood,,,", COLUMNS.join(","), "x".repeat(10_000));
    assert!(
        read_csv(&long, Origin::File).unwrap_err().to_string().len() < 200,
        "a file that is none is not told whole"
    );
    let bent = "2027-03-15,XNYS,closure,,,,,Flood \u{202e}doolF,,,";
    assert!(mistakes(bent).contains("one line, short and plain"));
}

#[test]
fn halts_and_breaks_cover_one_another() {
    let tokyo = |rows: &str| with_rows(rows).map(|set| set.of("XTKS").unwrap());
    let phase = |calendar: &Calendar, time: &str| calendar.at(at(&format!("2027-03-15T{time}:00+09:00"))).phase;
    let over = tokyo("2027-03-15,XTKS,halt,,,11:00,13:00,Fault,,,").unwrap();
    for (time, expected) in [
        ("10:59", Phase::Regular),
        ("11:00", Phase::Halt),
        ("11:45", Phase::Halt),
        ("12:45", Phase::Halt),
        ("13:00", Phase::Regular),
    ] {
        assert_eq!(phase(&over, time), expected, "{time}");
    }
    let inside = tokyo("2027-03-15,XTKS,halt,,,11:45,12:00,Fault,,,").unwrap();
    let phases = ["11:30", "11:45", "12:00", "12:15", "12:30"].map(|time| phase(&inside, time));
    assert_eq!(phases, [Phase::Break, Phase::Halt, Phase::Break, Phase::Break, Phase::Regular]);
    // A session neither opens nor closes within its break.
    for rows in ["2027-03-15,XTKS,late_open,11:30,,,,Fault,,,", "2027-03-15,XTKS,late_open,12:00,,,,Fault,,,"] {
        assert!(mistakes(rows).contains("within the break 11:30-12:30"), "{rows}");
    }
    assert!(mistakes("2027-03-15,XTKS,early_close,,12:30,,,Fault,,,").contains("write the time the break begins"));
    assert!(tokyo("2027-03-15,XTKS,late_open,12:30,,,,Fault,,,").is_ok());
    assert!(tokyo("2027-03-15,XTKS,early_close,,11:30,,,Fault,,,").is_ok());
}

#[test]
fn an_answer_says_when_an_operator_lies_behind_it() {
    let open = with_rows("2026-11-28,XNYS,open,,,,,A Saturday,,,").unwrap().of("XNYS").unwrap();
    let friday = open.at(at("2026-11-28T02:00:00Z"));
    assert_eq!((friday.next_transition, friday.confidence), (at("2026-11-28T09:00:00Z"), Confidence::Operator));
    let late = with_rows("2026-11-30,XCBO,late_open,11:00,,,,Fault,,,").unwrap().of("XCBO").unwrap();
    assert_eq!(late.at(at("2026-11-30T15:00:00Z")).confidence, Confidence::Operator);
    let early = with_rows("2026-11-30,XNYS,early_close,,11:00,,,Flood,,,").unwrap().of("XNYS").unwrap();
    assert_eq!(
        early.at(at("2026-11-29T15:00:00Z")).confidence,
        Confidence::Official,
        "the weekend before is as it was"
    );
}

#[test]
fn a_session_ends_before_the_night_of_the_next_one() {
    let nights = |rows: &str| {
        let exceptions = read_csv(&format!("{}\n{rows}", COLUMNS.join(",")), Origin::File).unwrap();
        Calendars::build(Operator { exceptions, overnight: vec!["ARCX".to_owned()], known_at: None })
    };
    let refused = nights("2026-12-08,ARCX,late_close,,22:00,,,Fault,,,").unwrap_err().to_string();
    assert!(refused.contains("after the night session has begun, 21:00"), "{refused}");
    let calendar = nights("2026-12-08,ARCX,late_close,,20:30,,,Fault,,,").unwrap().of("ARCX").unwrap();
    let evening = calendar.at(at("2026-12-09T01:29:00Z"));
    assert_eq!((evening.phase, evening.next_transition), (Phase::Regular, at("2026-12-09T01:30:00Z")));
}

#[test]
fn files_that_are_none() {
    let fault = |text: &str| read_csv(text, Origin::File).unwrap_err().to_string();
    insta::assert_snapshot!([
        fault(""),
        fault("date,kind,reason\n"),
        fault("date,venue,kind,reason,colour\n"),
        fault("date,venue,kind,reason,date\n"),
        fault("<html>\n"),
    ].join("\n"), @r#"
    line 1: the file is empty; fix: write the header line, and no others for no exceptions
    line 1: the column venue is missing; fix: begin the file with date,venue,kind,open,close,halt_start,halt_end,reason,source,declared_at,author
    line 1: there is no column "colour"; fix: the columns are date,venue,kind,open,close,halt_start,halt_end,reason,source,declared_at,author
    line 1: the column "date" is there twice; fix: keep one
    line 1: there is no column "<html>"; fix: the columns are date,venue,kind,open,close,halt_start,halt_end,reason,source,declared_at,author (and 4 more)
    "#);
    assert_eq!(read_csv(&COLUMNS.join(","), Origin::File), Ok(Vec::new()), "the header alone is no exception at all");
    let comments = "# ours\ndate,venue,kind,reason\n# soon\n2027-03-15,xnys,closed, Flood \n";
    assert_eq!(read_csv(comments, Origin::File).unwrap().len(), 1);
    let marked = format!("\u{feff}{}\n", COLUMNS.join(","));
    assert!(read_csv(&marked, Origin::File).is_ok(), "editors leave a mark at the beginning");
}

#[test]
fn the_version_tells_whatever_changes_an_answer() {
    let version = |rows: &str, mic: &str| with_rows(rows).unwrap().of(mic).unwrap().version().to_owned();
    let closure = "2027-03-15,XNYS,closure,,,,,Flood,,,";
    assert_eq!(version("", "XNYS"), XNYS.version());
    assert_eq!(version(closure, "XNYS"), version(closure, "XNYS"));
    assert_ne!(version(closure, "XNYS"), XNYS.version());
    assert_eq!(version(closure, "XNAS"), version("", "XNAS"), "another venue's closure changes nothing here");
    assert_ne!(version("", "XNAS"), XNYS.version());
    assert_eq!(XNYS.hash().len(), 64);
    assert!(XNYS.version().ends_with(&XNYS.hash()[..12]));
    let night = Operator { overnight: vec!["XNAS".to_owned()], ..Operator::default() };
    assert_ne!(Calendars::build(night).unwrap().of("XNAS").unwrap().version(), version("", "XNAS"));
}

#[test]
fn a_change_is_told_date_by_date_and_venue_by_venue() {
    let after = with_rows(
        "2027-03-15,XNYS,early_close,,11:00,,,Flood,,,\n2027-03-16,XNYS,closure,,,,,Flood,,,\n\
         2027-03-17,XNYS,halt,,,10:00,10:15,Flood,,,\n2027-03-27,XNYS,closure,,,,,Nobody would notice,,,",
    )
    .unwrap();
    let lines = differences(&BUILT_IN, &after).into_iter().map(|change| {
        let Change { exchange, date, before, after } = change;
        format!("{exchange} {date}: {before} -> {after}")
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @"
    XNYS 2027-03-15: full 09:30-16:00 -> early_close 09:30-11:00 (Flood)
    XNYS 2027-03-16: full 09:30-16:00 -> closure (Flood)
    XNYS 2027-03-17: full 09:30-16:00 -> full 09:30-16:00, halt 10:00-10:15 (Flood)
    XNYS 2027-03-27: weekend (Weekend) -> closure (Nobody would notice)
    ");
    assert_eq!(differences(&after, &after), []);
}
