//! What the sessions before say of a quote.

use chrono::{Datelike, NaiveDate};

use super::*;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// Weekdays from `from` to before `to`, each with a close that says how many came before it, a low of half and a high of twice that.
fn weekdays(from: &str, to: &str) -> Vec<(NaiveDate, Bar)> {
    let dates =
        date(from).iter_days().take_while(|day| *day < date(to)).filter(|day| day.weekday().number_from_monday() < 6);
    dates.zip(1_000..).map(|(day, close)| (day, bar(close))).collect()
}

fn bar(close: i64) -> Bar {
    Bar { at: 0, open: close, high: close * 2, low: close / 2, close, volume: Some(close * 10) }
}

fn spans(session: &str) -> Spans {
    Spans::of(date(session), |dates| {
        dates
            .start
            .iter_days()
            .take_while(|day| *day < dates.end)
            .filter(|day| day.weekday().number_from_monday() < 6)
            .count()
    })
}

#[test]
fn a_close_is_the_last_one_on_or_before_its_date() {
    let bars = weekdays("2026-01-05", "2027-03-31");
    let close = |day: &str| bars.iter().find(|(session, _)| *session == date(day)).unwrap().1.close;
    // A Wednesday; a month before the 31st of March is the last of February, a Sunday.
    let known = Reference::of(&spans("2027-03-31"), &bars, &[]);
    assert_eq!(known.week, Some(close("2027-03-24")));
    assert_eq!(known.month, Some(close("2027-02-26")));
    assert_eq!(known.year, Some(close("2026-03-31")));
    // Not traded for a while: of the session before, but not of another week.
    let thin = |without: &[&str]| {
        let bars: Vec<_> = bars.iter().filter(|(day, _)| !without.contains(&&*day.to_string())).copied().collect();
        Reference::of(&spans("2027-03-31"), &bars, &[]).week
    };
    let week = ["2027-03-24", "2027-03-23", "2027-03-22", "2027-03-19", "2027-03-18"];
    assert_eq!(thin(&week[..4]), Some(close("2027-03-18")));
    assert_eq!(thin(&week), None);
}

#[test]
fn a_range_is_of_the_whole_year_and_an_average_of_the_whole_quarter_or_unknown() {
    let session = "2027-03-31";
    let bars = weekdays("2026-01-05", session);
    let of = |bars: &[(NaiveDate, Bar)]| Reference::of(&spans(session), bars, &[]);
    let known = of(&bars);
    let year: Vec<_> = bars.iter().filter(|(day, _)| *day > date("2026-03-31")).map(|(_, bar)| bar).collect();
    assert_eq!((known.low, known.high), (Some(year[0].low), Some(year[year.len() - 1].high)));
    let quarter: Vec<_> =
        bars.iter().filter(|(day, _)| *day > date("2026-12-31")).map(|(_, bar)| bar.close * 10).collect();
    let mean = quarter.iter().sum::<i64>() as f64 / quarter.len() as f64;
    assert_eq!(known.volume, Some(mean.round() as i64));
    // One in twenty may be missing.
    let without = |every: usize| {
        bars.iter().enumerate().filter(|(at, _)| at % every != 7).map(|(_, bar)| *bar).collect::<Vec<_>>()
    };
    assert!(of(&without(25)).low.is_some() && of(&without(25)).volume.is_some());
    assert_eq!((of(&without(15)).low, of(&without(15)).volume), (None, None));
    // Of a share that is new a week is known, and no year.
    let new = of(&weekdays("2027-03-15", session));
    assert!(
        new.week.is_some() && new.month.is_none() && new.low.is_none() && new.high.is_none() && new.volume.is_none()
    );
    let mut silent = bars.clone();
    silent.iter_mut().for_each(|(_, bar)| bar.volume = None);
    assert_eq!((of(&silent).volume, of(&silent).low), (None, known.low));
    assert_eq!(of(&[]), Reference::default());
}

#[test]
fn everything_is_in_the_shares_of_the_session() {
    let session = "2027-03-31";
    let bars = weekdays("2026-01-05", session);
    let split = |day: &str, numerator, denominator| SplitFactor { session: date(day), numerator, denominator };
    let plain = Reference::of(&spans(session), &bars, &[]);
    // Ten for one in the last week; one that was long ago, and one that is announced, change nothing.
    let splits = [split("2025-06-02", 3, 1), split("2027-03-29", 10, 1), split("2027-04-12", 7, 1)];
    let known = Reference::of(&spans(session), &bars, &splits);
    assert_eq!(known.week, plain.week.map(|close| (close + 5) / 10));
    assert_eq!(known.year, plain.year.map(|close| (close + 5) / 10));
    assert_eq!(known.high, Some(bars[bars.len() - 1].1.high), "of the two sessions after it");
    assert!(known.volume.unwrap() > plain.volume.unwrap() * 9);
    assert_eq!((known.split, known.next_split), (Some(date("2027-03-29")), Some(date("2027-04-12"))));
    assert_eq!(plain.split, None);
}

#[test]
fn on_the_day_of_a_split_the_previous_close_is_of_the_new_shares_whichever_the_provider_names() {
    let session = "2026-11-23";
    let split = SplitFactor { session: date(session), numerator: 4, denominator: 1 };
    let earlier = SplitFactor { session: date("2026-11-02"), numerator: 2, denominator: 1 };
    let bars = [(date("2026-11-19"), bar(700_000)), (date("2026-11-20"), bar(800_000))];
    let known = Reference::of(&spans(session), &bars, &[earlier, split]);
    assert_eq!(known.split_close, Some(SplitClose { raw: 800_000, split }));
    assert_eq!(
        Reference::of(&spans("2026-11-24"), &bars, &[split]).split_close,
        None,
        "the day after it is as any other"
    );
    assert_eq!(Reference::of(&spans(session), &[(date("2026-11-16"), bar(7))], &[split]).split_close, None, "too old");

    let mut references = References::of(date(session));
    references.insert("AAPL", known);
    let snapshot = snapshot();
    let apple = snapshot.universe.position("AAPL").unwrap();
    let start = |_: NaiveDate| Some(ten_in_the_morning() - chrono::TimeDelta::hours(6));
    let references = Arc::new(references.columns(&snapshot.universe, start));
    let seen = |named: f64, at: DateTime<Utc>| {
        let mut told = Quote { at, price: price(20.5), previous_close: Some(price(named)), ..quote(1.0, None, None) };
        told.flags.insert(QuoteFlags::MOVED_OVER_25_PERCENT);
        let mut rows = vec![None; snapshot.universe.len()];
        rows[apple] = Some(told);
        let once = Columns::of(&rows).beside(Arc::clone(&references));
        let twice = once.clone().beside(Arc::clone(&references));
        assert_eq!(once, twice);
        let change = |column| once.value(column, apple).unwrap();
        (change(Column::PreviousClose), change(Column::ChangePercent), once.flags(apple).0)
    };
    let now = ten_in_the_morning();
    let whole = (200_000, 25_000, 0);
    assert_eq!((seen(80.0, now), seen(20.0, now)), (whole, whole), "raw or divided");
    // The provider's own close differs a little from ours.
    assert_eq!(seen(79.2, now), (198_000, 35_354, 0));
    let before = now - chrono::TimeDelta::days(3);
    assert_eq!(seen(80.0, before), (800_000, -743_750, 1), "a quote of the old shares stays as it was");
}

/// The snapshot of the other tests with references for AAPL and, of a split this morning, for PNNY.
fn with_references() -> Snapshot {
    let snapshot = snapshot();
    let mut references = References::of(date("2026-11-23"));
    let apple = Reference {
        week: Some(200_000),
        month: Some(210_000),
        year: None,
        low: Some(100_000),
        high: Some(206_000),
        volume: Some(1_000_000),
        split: None,
        next_split: None,
        split_close: None,
    };
    references.insert("AAPL", apple);
    references.insert("PNNY", Reference { split: Some(date("2026-11-23")), ..apple });
    references.insert("GHST", apple);
    references.insert("STLL", Reference { next_split: Some(date("2026-11-22")), ..apple });
    references.insert("WISP", Reference { week: None, next_split: Some(date("2026-11-24")), ..apple });
    references.insert("GONE", apple);
    references.insert("NEWC", Reference::default());
    assert_eq!(references.len(), 6, "of one nothing is known");
    // The quotes are of 14:58:45.
    let start = |session: NaiveDate| {
        let seconds = match session.to_string().as_str() {
            "2026-11-22" => 45,
            "2026-11-23" => 50,
            _ => 46,
        };
        Some(Utc.with_ymd_and_hms(2026, 11, 23, 14, 58, seconds).unwrap())
    };
    let columns = references.columns(&snapshot.universe, start);
    let quotes = snapshot.quotes.clone().beside(Arc::new(columns));
    Snapshot { quotes, ..snapshot }
}

#[test]
fn a_quote_is_compared_with_the_past_of_its_own_shares() {
    let snapshot = with_references();
    let before = &Column::ALL[Column::OF_QUOTES..];
    let shown = |symbol: &str| {
        let index = snapshot.universe.position(symbol).unwrap();
        before.iter().map(|column| snapshot.quotes.value(*column, index)).collect::<Vec<_>>()
    };
    // 20.506 now, up to 20.75 today.
    let apple = [5_060, -4_940, 0, 25_300, -23_524, 0, 100_000, 207_500, 1_000_000];
    assert_eq!(shown("AAPL"), apple.map(|value| (value != 0).then_some(value)));
    assert_eq!(shown("PNNY"), [None; 9], "its quote is of before the split");
    assert_eq!(shown("STLL"), [None; 9], "its quote is of after the next");
    assert!(shown("WISP")[1].is_some(), "of before it");
    assert_eq!((shown("GHST"), shown("NEWC")), (vec![None; 9], vec![None; 9]));
}

#[test]
fn lists_and_pages_hold_filter_and_sort_by_the_past() {
    let snapshot = with_references();
    let query = |text: &str| v1::QuotesQuery::parse(text.split('&').filter_map(|pair| pair.split_once('='))).unwrap();
    let table = |text: &str| {
        let query = query(text);
        let page = v1::page(&snapshot, &query);
        let body = v1::quotes(&snapshot, &meta(&snapshot), &page, query.fields(), v1::Format::Csv);
        String::from_utf8(body.plain().bytes.to_vec()).unwrap().replace('\r', "")
    };
    insta::assert_snapshot!(table("fields=symbol,change_week,change_week_percent,change_year,week_52_high,avg_volume_3mon&sort=-change_week&limit=2"), @r"
    symbol,change_week,change_week_percent,change_year,week_52_high,avg_volume_3mon
    AAPL,0.506,2.53,,20.75,1000000
    BRK.A,,,,,
    ");
    assert_eq!(table("fields=symbol&min_week_52_high=20.75&max_change_month_percent=-2").lines().count(), 2);
    assert_eq!(table("fields=symbol&min_avg_volume_3mon=1000001").lines().count(), 1);
    assert!(!table("symbols=AAPL").contains("week_52"), "only where it is asked for");
    let listed = |text: &str| -> serde_json::Value {
        let query = ListQuery::parse(text.split('&').filter_map(|pair| pair.split_once('=')));
        serde_json::from_slice(&list(&snapshot, &meta(&snapshot), &query).plain().bytes).unwrap()
    };
    let body = listed("sort_by=price_change_week&sort_order=desc");
    let first = &body["results"][0];
    assert_eq!(
        (&first["ticker"], &first["price_change_week"], &first["week_52_low"]),
        (&"AAPL".into(), &0.506.into(), &10.0.into())
    );
    assert_eq!(
        (&body["results"][1]["price_change_week"], &first["price_change_year"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    // The volume of the day over the usual one has its old name too, and can be bounded and sorted by.
    let (ratio, row) = (&first["volume_ratio"], listed("min_dvav=1.2&sort_by=dvav"));
    assert_eq!((ratio, &first["dvav"]), (&1.2346.into(), &1.2346.into()));
    assert_eq!((&row["total"], &row["data"][0]["ticker"]), (&1.into(), &"AAPL".into()));
    assert_eq!((&listed("dvav_min=1.3")["total"], &listed("dvav_max=1.2346")["total"]), (&0.into(), &2.into()));
}

#[test]
fn one_stock_tells_its_place_in_the_year_and_its_last_points() {
    let snapshot = with_references();
    let at = snapshot.quotes.at(0).unwrap().timestamp();
    // One is of a cycle that is not shown yet.
    let points: Vec<Point> =
        (0..14).map(|n| Point { at: at - 1_980 + n * 180, price: 205_000 + n, volume: None }).collect();
    let body = stock(
        &snapshot,
        &meta(&snapshot),
        "aapl",
        |_| TimeDelta::zero(),
        |symbol| {
            assert_eq!(symbol, "AAPL");
            points.clone()
        },
    );
    let body: serde_json::Value = serde_json::from_slice(&body.unwrap().plain().bytes).unwrap();
    let data = &body["data"];
    assert_eq!((&data["price_near_52_week_high"], &data["price_near_52_week_low"]), (&true.into(), &false.into()));
    assert_eq!((&data["price_position_52_week"], &data["volume_above_average"]), (&97.7302.into(), &true.into()));
    let history = data["price_history"].as_array().unwrap();
    assert_eq!((history.len(), &data["price_history_count"]), (10, &10.into()));
    assert_eq!((&history[0]["price"], &history[9]["price"]), (&20.501_1.into(), &20.500_2.into()), "newest first");
    assert_eq!(history[0]["timestamp"], "2026-11-23T14:58:45Z");
}
