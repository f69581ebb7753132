//! The laws of the calendar, over two centuries, against an oracle that walks date by date.

use proptest::prelude::*;

use super::*;

/// At least so many cases of each law, as long as an answer comes from a table.
const CASES: u32 = 100_000;

/// A calendar whose table reaches over all the years of the laws.
static WIDE: LazyLock<Calendar> = LazyLock::new(|| wide("ARCX"));

/// The same days without a table: every answer is compiled for the question.
static NARROW: LazyLock<Calendar> = LazyLock::new(|| {
    let calendar = wide("XNYS");
    Calendar { known: 0..0, table: Table::default(), ..calendar }
});

fn wide(mic: &str) -> Calendar {
    let market = Arc::new(market::Market::read(&market::SOURCES[0]).unwrap());
    let venue = market.venues.iter().position(|venue| &*venue.mic == mic).unwrap();
    let rows = market.exceptions.iter().filter(|row| *row.venue == *mic || *row.venue == *market.name);
    let decided = decided::decide(rows).unwrap();
    let years = (1985, 2202);
    Calendar::compile(Layers::new(market, venue, decided, true, None, years), Arc::from("0".repeat(64)), years)
}

/// Every change of phase of [`WIDE`] from 1989 to 2201, found by walking from date to date and asking the zone data about
/// every single one: no table, no index, no cache of offsets.
static ORACLE: LazyLock<Vec<(i64, Phase, Option<NaiveDate>)>> = LazyLock::new(|| {
    let layers = &WIDE.layers;
    let mut changes: Vec<(i64, Phase, Option<NaiveDate>)> = Vec::new();
    let mut phases = Vec::new();
    for day in date("1989-01-01").iter_days().take_while(|day| day.year() <= 2201) {
        let almanac = layers.almanac((day.year(), day.year()));
        let Some(hours) = layers.plan(day, &almanac).hours else { continue };
        hours.phases(&mut phases);
        for (local, phase) in &phases {
            let utc = zone::utc_seconds(layers.market.zone, day, *local);
            changes.push((utc, *phase, (*phase != Phase::Closed).then_some(day)));
        }
    }
    changes
});

fn oracle(t: DateTime<Utc>) -> (usize, Phase, Option<NaiveDate>) {
    let index = ORACLE.partition_point(|(start, ..)| *start <= t.timestamp()) - 1;
    let (_, phase, session) = ORACLE[index];
    (index, phase, session)
}

/// Any instant of 1990 to 2200, and as often one within nanoseconds of a change of phase.
fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    let any = (631_152_000_i64..7_289_654_400, 0_u32..1_000_000_000)
        .prop_map(|(seconds, nanoseconds)| DateTime::from_timestamp(seconds, nanoseconds).unwrap());
    let near = (2_000..ORACLE.len() - 2_000, -1_i64..=1).prop_map(|(index, nanoseconds)| {
        DateTime::from_timestamp(ORACLE[index].0, 0).unwrap() + TimeDelta::nanoseconds(nanoseconds)
    });
    prop_oneof![any, near]
}

fn dates() -> impl Strategy<Value = NaiveDate> {
    (0_u64..77_000).prop_map(|days| date("1990-01-01") + Days::new(days))
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn the_table_says_what_the_rules_say(t in instants()) {
        let (index, phase, session) = oracle(t);
        let moment = WIDE.at(t);
        prop_assert_eq!((moment.phase, moment.session), (phase, session));
        let (start, next_phase, _) = ORACLE[index + 1];
        prop_assert_eq!((moment.next_transition.timestamp(), moment.next_phase), (start, next_phase));
        prop_assert_eq!(moment.next_transition.timestamp_subsec_nanos(), 0);
    }

    #[test]
    fn the_next_transition_is_later_and_into_another_phase(t in instants()) {
        let moment = WIDE.at(t);
        prop_assert!(moment.next_transition > t);
        let then = WIDE.at(moment.next_transition);
        prop_assert_eq!(then.phase, moment.next_phase);
        prop_assert_ne!(then.phase, moment.phase);
        prop_assert_eq!(WIDE.at(moment.next_transition - TimeDelta::nanoseconds(1)).phase, moment.phase);
    }

    #[test]
    fn phases_tile_the_line(t in instants(), hours in 1_i64..80) {
        let until = t + TimeDelta::hours(hours);
        let spans: Vec<Span> = WIDE.spans(t, until).collect();
        prop_assert!(spans[0].start <= t && t < spans[0].end);
        prop_assert!(spans.iter().all(|span| span.start < span.end));
        prop_assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].phase != pair[1].phase));
        let last = spans.last().unwrap();
        prop_assert!(last.start < until && until <= last.end);
        prop_assert_eq!(WIDE.spans(until, t).count(), 0);
    }

    #[test]
    fn opens_and_closes_surround_an_instant(t in instants()) {
        let (open, close, previous) = (WIDE.next_open(t), WIDE.next_close(t), WIDE.previous_close(t));
        prop_assert!(previous <= t && t < close && t < open);
        prop_assert_eq!(WIDE.next_close(previous), close);
        prop_assert_eq!(WIDE.previous_close(close), close);
        prop_assert_eq!(WIDE.at(open).phase, Phase::Regular);
        prop_assert_ne!(WIDE.at(close).phase, Phase::Regular);
        prop_assert_eq!(WIDE.at(close - TimeDelta::nanoseconds(1)).phase, Phase::Regular);
    }

    #[test]
    fn so_many_sessions_on_and_back_again_is_where_one_was(day in dates(), n in -3_000_i32..3_000) {
        let from = WIDE.nth_session(day, 0).or_else(|| WIDE.nth_session(day, 1)).unwrap();
        if let Some(there) = WIDE.nth_session(from, n) {
            prop_assert_eq!(WIDE.nth_session(there, -n), Some(from));
            prop_assert!(there.cmp(&from) == n.cmp(&0));
        }
    }

    #[test]
    fn a_session_has_its_phases_in_order_and_its_date(day in dates()) {
        let why = WIDE.why(day);
        let session = WIDE.session(day);
        prop_assert_eq!(session.is_some(), why.is_session);
        let Some(session) = session else { return Ok(()) };
        prop_assert_eq!((session.date, session.kind), (day, why.kind));
        prop_assert!(session.start() <= session.open && session.open < session.close && session.close <= session.end());
        prop_assert_eq!(WIDE.at(session.open).session, Some(day));
        prop_assert_eq!(WIDE.at(session.start()).session, Some(day));
        prop_assert_ne!(WIDE.at(session.end()).session, Some(day));
        prop_assert!(WIDE.nth_session(day, 1).unwrap() > day && WIDE.nth_session(day, -1).unwrap() < day);
    }
}

proptest! {
    // Without the table each answer compiles its years anew, so there are fewer.
    #![proptest_config(cases(60))]

    #[test]
    fn without_a_table_the_answers_are_the_same(
        seconds in prop_oneof![631_152_000_i64..7_289_654_400, -6_000_000_000_i64..30_000_000_000],
        n in -300_i32..300,
    ) {
        let t = DateTime::from_timestamp(seconds, 0).unwrap();
        let moment = NARROW.at(t);
        prop_assert!(moment.next_transition > t);
        prop_assert_eq!(NARROW.at(moment.next_transition).phase, moment.next_phase);
        let day = t.date_naive();
        prop_assert_eq!(NARROW.at(t), XNYS.at(t));
        prop_assert_eq!(NARROW.previous_close(t), XNYS.previous_close(t));
        prop_assert_eq!(NARROW.next_open(t), XNYS.next_open(t));
        prop_assert_eq!(NARROW.session(day), XNYS.session(day));
        prop_assert_eq!(NARROW.nth_session(day, n), XNYS.nth_session(day, n));
    }
}

/// Nothing is left to chance over the years anybody asks about.
#[test]
fn every_boundary_belongs_to_the_phase_that_begins() {
    let nanosecond = TimeDelta::nanoseconds(1);
    for calendar in BUILT_IN.mics().filter_map(|mic| BUILT_IN.of(mic)) {
        let (from, to) = (at("1990-01-02T00:00:00Z"), at("2031-01-01T00:00:00Z"));
        for pair in calendar.spans(from, to).collect::<Vec<_>>().windows(2) {
            let boundary = pair[1].start;
            assert_eq!(calendar.at(boundary - nanosecond).phase, pair[0].phase, "{} {boundary}", calendar.mic());
            assert_eq!(calendar.at(boundary - nanosecond).next_transition, boundary);
            assert_eq!(calendar.at(boundary).phase, pair[1].phase, "{} {boundary}", calendar.mic());
            assert_eq!(calendar.at(boundary + nanosecond).phase, pair[1].phase, "{} {boundary}", calendar.mic());
        }
    }
}

/// The Sundays the clocks change, and the sessions on both sides of them, by the law of each year.
#[test]
fn new_york_hours_hold_on_both_sides_of_every_change_of_clocks() {
    let sunday =
        |year, month, nth| NaiveDate::from_weekday_of_month_opt(year, month, chrono::Weekday::Sun, nth).unwrap();
    let last_sunday = |year, month| {
        let nth = |nth| NaiveDate::from_weekday_of_month_opt(year, month, chrono::Weekday::Sun, nth);
        nth(5).or_else(|| nth(4)).unwrap()
    };
    for year in 1990..=2060 {
        // Energy Policy Act of 2005: second Sunday of March to first of November, since 2007.
        let (spring, autumn) = match year {
            ..=2006 => (sunday(year, 4, 1), last_sunday(year, 10)),
            _ => (sunday(year, 3, 2), sunday(year, 11, 1)),
        };
        for (change, before, after) in [(spring, 5, 4), (autumn, 4, 5)] {
            let offset = |session: &Session| {
                let pre_open = session.date.and_hms_opt(4, 0, 0).unwrap().and_utc();
                (session.pre_open.unwrap() - pre_open).num_minutes()
            };
            let (friday, monday) = (XNYS.previous_session(change).unwrap(), XNYS.next_session(change).unwrap());
            for (session, hours) in [(&friday, before), (&monday, after)] {
                assert_eq!(offset(session), hours * 60, "{session:?}");
                assert_eq!(wall_hours(&XNYS, session).0, "09:30", "{session:?}");
            }
            // The Sunday night session of a venue that has one begins after the change.
            if (2027..2060).contains(&year) {
                let night = WIDE.session(monday.date).unwrap().overnight_open.unwrap();
                assert_eq!(night, change.and_hms_opt(21, 0, 0).unwrap().and_utc() + TimeDelta::hours(after));
            }
        }
    }
}

/// The embedded zone data ends with 2099; the law does not.
#[test]
fn summer_time_goes_on_after_the_end_of_the_zone_data() {
    for year in [2098, 2099, 2100, 2104, 2127, 2200, 2400, 2999] {
        let sunday = |month, nth| NaiveDate::from_weekday_of_month_opt(year, month, chrono::Weekday::Sun, nth).unwrap();
        for (day, hours) in [
            (sunday(3, 2) - Days::new(1), 5),
            (sunday(3, 2) + Days::new(1), 4),
            (sunday(11, 1) - Days::new(1), 4),
            (sunday(11, 1) + Days::new(1), 5),
        ] {
            let noon = zone::utc_seconds(chrono_tz::America::New_York, day, 12 * 3_600);
            assert_eq!(noon - day.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp(), hours * 3_600, "{day}");
        }
    }
}

#[test]
fn the_ends_of_time_are_answered_without_a_panic() {
    for instant in
        [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at("9000-12-31T23:59:59Z"), at("1700-01-01T00:00:00Z")]
    {
        let moment = XNYS.at(instant);
        assert!(moment.next_transition >= instant);
        XNYS.previous_close(instant);
        XNYS.session_at(instant);
        XNYS.latest_session(instant);
        let _ = At::ask(&XNYS, instant);
        let _ = XNYS.spans(instant, instant).count();
    }
    for day in [NaiveDate::MIN, NaiveDate::MAX, date("9000-12-31"), date("1700-01-01")] {
        XNYS.why(day);
        XNYS.session(day);
        XNYS.next_session(day);
        XNYS.previous_session(day);
    }
    assert_eq!(XNYS.sessions(date("2027-03-15"), date("2027-03-14")).count(), 0);
    for day in ["9001-01-02", "1699-12-31"] {
        assert!(!XNYS.why(date(day)).is_session && XNYS.session(date(day)).is_none(), "{day}");
    }
    // A Monday in the summer of a year that the zone data does not hold, half an hour past midnight in New York.
    assert_eq!(XNYS.wall(at("2150-07-06T04:30:00Z")).to_string(), "2150-07-06 00:30:00");
    assert_eq!(At::ask(&XNYS, at("2150-07-06T04:30:00Z")).reason, None);
}

#[test]
fn market_time_stands_still_while_the_market_is_closed() {
    for (from, to, seconds) in [
        ("2027-03-12T20:59:00Z", "2027-03-15T13:31:00Z", 120), // Over a weekend and a change of clocks.
        ("2027-03-12T21:00:00Z", "2027-03-15T13:30:00Z", 0),
        ("2026-11-25T14:30:00Z", "2026-11-30T14:30:00Z", 36_000), // A full day, Thanksgiving, a half day, a weekend.
        ("1990-11-23T14:30:00Z", "1990-11-23T16:30:00Z", 1_560),  // A halt of 94 minutes does not count.
        ("2027-03-15T14:00:00Z", "2027-03-15T13:59:00Z", 0),
    ] {
        assert_eq!(XNYS.open_time_between(at(from), at(to)).num_seconds(), seconds, "{from} {to}");
    }
}

#[test]
fn the_minutes_of_a_session() {
    let count = |day: &str, phases: &[Phase]| XNYS.minutes(date(day), phases).count();
    assert_eq!(count("2027-03-15", &[Phase::Regular]), 390);
    assert_eq!(count("2026-11-27", &[Phase::Regular]), 210);
    assert_eq!(count("2026-11-27", &[Phase::Pre, Phase::Regular, Phase::Post]), 330 + 210 + 240);
    assert_eq!(count("1990-11-23", &[Phase::Regular]), 390 - 94);
    assert_eq!(count("1990-11-23", &[Phase::Halt]), 94);
    assert_eq!(count("2027-03-14", &Phase::ALL), 0);
    let first = XNYS.minutes(date("2027-03-15"), &[Phase::Regular]).next();
    assert_eq!(first, Some(at("2027-03-15T13:30:00Z")));
}
