//! Conformance of what the store keeps of the past.

use std::sync::Arc;

use bellwether::market::codec::{CycleHead, decode_points, encode_bars, encode_track};
use bellwether::market::{Bar, DailyBar, MarketDay, Point, QUARTER_HOUR, Split, SplitFactor};
use bellwether::store::{Store, SymbolSession};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::harness::{Database, Engine, instant};
use crate::store::{cycle, quote};

on_both_engines!(
    the_points_of_a_cycle_are_kept_once_and_read_in_order,
    symbols_get_one_number_each_whoever_gives_it,
    a_session_is_rolled_up_whole_and_read_by_symbol,
    what_is_old_is_forgotten_once_it_is_rolled_up,
    days_are_counted_where_the_market_is_known_and_the_day_before_it,
    a_split_that_is_corrected_or_withdrawn_is_seen,
    bars_of_many_symbols_come_in_order_and_a_changed_past_is_seen,
);

const SESSION: &str = "2027-03-15";

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn head(slot: DateTime<Utc>, session: &str, gainers: i64) -> CycleHead {
    let day = MarketDay { session: date(session), total: 3, gainers, losers: 1, unchanged: 0 };
    CycleHead { day: Some(day), ..cycle(slot) }
}

fn point(slot: DateTime<Utc>, price: i64) -> Point {
    Point { at: slot.timestamp() - 3, price, volume: Some(price * 2) }
}

/// Each point as `SYMBOL price`, cycle by cycle.
async fn read(store: &Store, session: &str) -> Vec<Vec<String>> {
    let symbols = store.symbols_by_id().await.unwrap();
    let mut after = None;
    let mut read = Vec::new();
    loop {
        let cycles = store.cycle_points(date(session), after).await.unwrap();
        let Some(last) = cycles.last() else { return read };
        after = Some((last.slot, last.finished_at));
        for cycle in cycles {
            let shown = cycle.points.iter().map(|p| format!("{} {}", symbols[&p.symbol_id], p.point.price));
            let mut shown: Vec<_> = shown.collect();
            shown.sort();
            read.push(shown);
        }
    }
}

async fn the_points_of_a_cycle_are_kept_once_and_read_in_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let first = instant("2027-03-15T13:30:00Z");
    let slots: Vec<_> = (0..25).map(|n| first + TimeDelta::seconds(180) * n).collect();
    let microsoft = Arc::<str>::from("MSFT");
    for (n, slot) in slots.iter().enumerate().rev() {
        let points = [("MSFT", point(*slot, n as i64 + 1)), ("BRK.A", point(*slot, 7_123_455_000))];
        store.save_cycle(&head(*slot, SESSION, n as i64), &points, &[(&microsoft, &quote(*slot, 5))]).await.unwrap();
    }
    let again = head(slots[3], SESSION, 99);
    store.save_cycle(&again, &[("MSFT", point(slots[3], 77))], &[]).await.unwrap();
    let second_try = CycleHead {
        cycle: bellwether::market::Cycle { finished_at: slots[3] + TimeDelta::seconds(30), ..again.cycle.clone() },
        ..again
    };
    store.save_cycle(&second_try, &[("AAPL", point(slots[3], 88))], &[]).await.unwrap();
    let read = read(&store, SESSION).await;
    assert_eq!(read.len(), 26, "a slot that was tried twice has both, one that was stored twice has one");
    assert_eq!(
        (&read[0], &read[3], &read[4]),
        (
            &vec!["BRK.A 7123455000".to_owned(), "MSFT 1".to_owned()],
            &vec!["BRK.A 7123455000".to_owned(), "MSFT 4".to_owned()],
            &vec!["AAPL 88".to_owned()],
        )
    );
    let days = store.market_days(10).await.unwrap();
    assert_eq!((days.len(), days[0].gainers), (1, 24), "the last slot says how the market ended");
    for (n, session) in ["2027-03-10", "2027-03-12", "2027-03-11"].iter().enumerate() {
        store.save_cycle(&head(instant("2027-03-10T15:00:00Z"), session, n as i64), &[], &[]).await.unwrap();
    }
    let days = store.market_days(3).await.unwrap();
    assert_eq!(days.iter().map(|day| day.gainers).collect::<Vec<_>>(), [2, 1, 24], "the newest, oldest first");
    store.save_cycle(&cycle(slots[7]), &[("MSFT", point(slots[7], 1))], &[]).await.unwrap();
    assert_eq!(crate::store_history::read(&store, SESSION).await.len(), 26, "without a session there are no points");
}

async fn symbols_get_one_number_each_whoever_gives_it(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let names: Vec<String> = (0..3_000).map(|n| format!("S{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids = if engine == Engine::Postgres {
        // Two instances that see the same new symbols at the same time.
        let other = database.store().await;
        let (half, all) = tokio::join!(other.symbol_ids(&names[1_000..]), store.symbol_ids(&names));
        let (half, all) = (half.unwrap(), all.unwrap());
        assert!(half.iter().all(|(symbol, id)| all.get(symbol) == Some(id)));
        all
    } else {
        store.symbol_ids(&names).await.unwrap()
    };
    let numbers: std::collections::BTreeSet<i64> = names.iter().map(|name| ids[*name]).collect();
    assert_eq!(numbers.len(), 3_000);
    assert_eq!(store.symbol_ids(&["S7"]).await.unwrap()["S7"], ids["S7"]);
    assert_eq!(store.symbol_id("S7").await.unwrap(), Some(ids["S7"]));
    assert_eq!(store.symbol_id("NEVER").await.unwrap(), None);
    assert_eq!(store.symbols_by_id().await.unwrap()[&ids["S2999"]].as_ref(), "S2999");
}

fn bar(at: i64, close: i64) -> Bar {
    Bar { at, open: 100, high: close.max(100), low: 90, close, volume: Some(5) }
}

fn rolled_up(symbol_id: i64, close: i64) -> SymbolSession {
    let points = [Point { at: 10, price: 100, volume: None }, Point { at: 190, price: close, volume: None }];
    let bars = encode_bars(QUARTER_HOUR, &[bar(QUARTER_HOUR, close)]);
    SymbolSession { symbol_id, points: encode_track(&points), bars, daily: Some(bar(0, close)) }
}

async fn a_session_is_rolled_up_whole_and_read_by_symbol(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant("2027-03-15T20:30:00Z");
    for session in ["2027-03-12", SESSION, "2027-03-16"] {
        store.save_cycle(&head(now, session, 1), &[("A", point(now, 5))], &[]).await.unwrap();
    }
    let early = [date("2027-03-12"), date(SESSION)];
    assert_eq!(store.sessions_to_roll_up(date(SESSION)).await.unwrap(), early);
    let many: Vec<_> = (1..=4_100).map(|id| rolled_up(id, 120)).collect();
    store.save_session(early[0], &many, true, now).await.unwrap();
    store.save_session(early[1], &[rolled_up(1, 130), rolled_up(2, 140)], true, now).await.unwrap();
    assert!(store.sessions_to_roll_up(date(SESSION)).await.unwrap().is_empty());
    let all = (date("2027-01-01"), date("2027-12-31"));
    let points = store.points_of(1, all.0, all.1, 10).await.unwrap();
    assert_eq!(
        points.iter().map(|(session, points)| (*session, points[1].price)).collect::<Vec<_>>(),
        [(early[0], 120), (early[1], 130)]
    );
    assert_eq!(store.points_of(4_100, all.0, all.1, 10).await.unwrap().len(), 1);
    assert_eq!(store.points_of(1, all.0, all.1, 1).await.unwrap().len(), 1, "no more sessions than asked for");
    assert_eq!(store.points_of(1, early[1], all.1, 10).await.unwrap().len(), 1);
    let bars = store.quarter_hours_of(1, all.0, early[0], 10).await.unwrap();
    assert_eq!(bars, [(early[0], vec![bar(QUARTER_HOUR, 120)])]);
    // Again, of a part of the points only: what is there stays.
    store.save_session(early[0], &[rolled_up(1, 150), rolled_up(9_999, 150)], false, now).await.unwrap();
    assert_eq!(store.quarter_hours_of(1, all.0, early[0], 10).await.unwrap()[0].1[0].close, 120);
    assert_eq!(store.quarter_hours_of(9_999, all.0, early[0], 10).await.unwrap()[0].1[0].close, 150);
    assert_eq!(store.points_of(1, all.0, early[0], 10).await.unwrap()[0].1[1].price, 150);
    // And again, of all.
    store.save_session(early[0], &[rolled_up(1, 160)], true, now).await.unwrap();
    assert_eq!(store.quarter_hours_of(1, all.0, early[0], 10).await.unwrap()[0].1[0].close, 160);
    // New points of a session that was rolled up.
    let late = head(now + TimeDelta::seconds(180), SESSION, 1);
    store.save_cycle(&late, &[("A", point(now, 6))], &[]).await.unwrap();
    assert_eq!(store.sessions_to_roll_up(date(SESSION)).await.unwrap(), [date(SESSION)]);
    store.save_session(date(SESSION), &[], true, now).await.unwrap();
    store.save_cycle(&late, &[("A", point(now, 6))], &[]).await.unwrap();
    assert!(store.sessions_to_roll_up(date(SESSION)).await.unwrap().is_empty(), "the same again is nothing new");
}

async fn what_is_old_is_forgotten_once_it_is_rolled_up(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant("2027-03-15T20:30:00Z");
    let sessions = ["2027-03-11", "2027-03-12", SESSION];
    for (n, session) in sessions.iter().enumerate() {
        let slot = now - TimeDelta::days(3 - n as i64);
        store.save_cycle(&head(slot, session, 1), &[("A", point(slot, 5))], &[]).await.unwrap();
    }
    for session in &sessions[1..] {
        store.save_session(date(session), &[rolled_up(1, 120)], true, now).await.unwrap();
    }
    assert_eq!(store.prune_history(date(SESSION), date("2027-03-12"), date(SESSION)).await.unwrap(), 2);
    let left = async |session: &str| read(&store, session).await.len();
    assert_eq!(
        (left("2027-03-11").await, left("2027-03-12").await, left(SESSION).await),
        (1, 0, 1),
        "what is not rolled up stays"
    );
    let all = (date("2027-01-01"), date("2027-12-31"));
    assert_eq!(store.points_of(1, all.0, all.1, 10).await.unwrap().len(), 1);
    assert_eq!(store.quarter_hours_of(1, all.0, all.1, 10).await.unwrap().len(), 2);
    assert!(decode_points(0, &[255]).is_err());
}

async fn days_are_counted_where_the_market_is_known_and_the_day_before_it(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant("2027-03-15T20:30:00Z");
    let symbols: Vec<String> = (0..20).map(|n| format!("S{n:02}")).collect();
    let bars = |day: &str, close: f64, symbols: &[String]| -> Vec<DailyBar> {
        let bar = |symbol: &String| DailyBar::from_decimals(symbol.clone(), date(day), [close; 4], 5.0).unwrap();
        symbols.iter().map(bar).collect()
    };
    let counted = async || {
        let days = store.market_days(30).await.unwrap();
        days.iter()
            .map(|day| format!("{} {} {} {}", day.session, day.total, day.gainers, day.losers))
            .collect::<Vec<_>>()
    };
    // What an older version has counted of one symbol, and of a first day.
    store.save_backfill("s", "1", &bars("2027-03-10", 10.0, &symbols[..1]), now).await.unwrap();
    let (first, last) = (date("2027-03-10"), date("2027-03-12"));
    let poison = "INSERT INTO market_days VALUES ('2027-03-10', '1970-01-01T00:00:00+00:00', 1, 0, 0, 0, NULL)";
    database.execute(poison.to_owned()).await;
    assert_eq!(store.count_market_days(first, last, now).await.unwrap(), 0);
    assert!(counted().await.is_empty(), "unknown is not 0");
    for (day, close) in [("2027-03-10", 10.0), ("2027-03-11", 11.0), ("2027-03-12", 10.5)] {
        store.save_backfill("s", day, &bars(day, close, &symbols), now).await.unwrap();
    }
    // The session after the span has one symbol only.
    store.save_backfill("s", "2", &bars("2027-03-15", 10.0, &symbols[..1]), now).await.unwrap();
    assert_eq!(store.count_market_days(first, date("2027-03-15"), now).await.unwrap(), 2);
    let two = ["2027-03-11 20 20 0", "2027-03-12 20 0 20"];
    assert_eq!(counted().await, two);
    // The day before the first: the first has its close before now.
    store.save_backfill("s", "2027-03-09", &bars("2027-03-09", 9.0, &symbols), now).await.unwrap();
    assert_eq!(store.count_market_days(date("2027-03-09"), first, now).await.unwrap(), 1);
    assert_eq!(counted().await, ["2027-03-10 20 20 0", two[0], two[1]]);
    // A session of cycles is not counted anew.
    store.save_cycle(&head(now, "2027-03-11", 7), &[], &[]).await.unwrap();
    store.count_market_days(first, last, now).await.unwrap();
    assert_eq!(counted().await[1], "2027-03-11 3 7 1");
}

async fn a_split_that_is_corrected_or_withdrawn_is_seen(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let split =
        |symbol: &str, day: &str, after: f64| Split::from_decimals(symbol.to_owned(), date(day), after, 1.0).unwrap();
    let mut seen = vec![store.past_version().await.unwrap().splits];
    let mut changes = async |what: &str, changed: bool| {
        let version = store.past_version().await.unwrap().splits;
        assert_eq!(!seen.contains(&version), changed, "{what}");
        seen.push(version);
    };
    let (old, new) = (split("A", "2027-02-01", 2.0), split("B", "2027-03-01", 3.0));
    store.save_splits(&[old.clone(), new.clone()]).await.unwrap();
    changes("two came", true).await;
    store.save_splits(std::slice::from_ref(&new)).await.unwrap();
    changes("the same again", false).await;
    store.save_splits(&[split("B", "2027-03-01", 4.0)]).await.unwrap();
    changes("a ratio was corrected", true).await;
    let since = date("2027-02-15");
    store.replace_splits(since, &[split("B", "2027-03-02", 4.0)]).await.unwrap();
    changes("a date was corrected", true).await;
    let kept = store.splits_between(date("2027-01-01"), date("2027-12-31")).await.unwrap();
    let mut kept: Vec<String> =
        kept.iter().map(|(_, split)| format!("{} {}", split.session, split.numerator)).collect();
    kept.sort();
    assert_eq!(kept, ["2027-02-01 2", "2027-03-02 4"], "what is older than the list is not touched");
    // How far a long list has come.
    assert_eq!(store.splits_reached("s", since).await.unwrap(), None);
    for reached in ["2027-02-20", "2027-03-01"] {
        store.note_splits("s", since, Some(date(reached)), instant("2027-03-15T20:30:00Z")).await.unwrap();
    }
    assert_eq!(store.splits_reached("s", since).await.unwrap(), Some(date("2027-03-01")));
    assert_eq!(store.splits_reached("s", date("2027-01-01")).await.unwrap(), None, "another list");
    store.note_splits("s", since, None, instant("2027-03-15T20:30:00Z")).await.unwrap();
    assert_eq!(store.splits_reached("s", since).await.unwrap(), None);
}

async fn bars_of_many_symbols_come_in_order_and_a_changed_past_is_seen(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let now = instant("2027-03-15T20:30:00Z");
    let nothing = store.past_version().await.unwrap();
    assert_eq!((nothing.rolled_up_at, nothing.backfilled_at, nothing.splits), (None, None, 0));
    let days = ["2027-03-10", "2027-03-11", "2027-03-12"];
    let bar_of = |symbol: &str, day: &str, close: f64| {
        DailyBar::from_decimals(symbol.to_owned(), date(day), [close; 4], close * 100.0).unwrap()
    };
    let bars: Vec<_> = ["C", "A", "B"]
        .iter()
        .flat_map(|symbol| days.iter().rev().map(|day| bar_of(symbol, day, if *symbol == "A" { 1.5 } else { 2.5 })))
        .collect();
    store.save_backfill("s", "some", &bars, now).await.unwrap();
    let symbols = store.symbols_by_id().await.unwrap();
    let read = store.daily_bars_of(1..=2, date(days[0])..date(days[2])).await.unwrap();
    let shown: Vec<_> = read.iter().map(|(id, day, bar)| format!("{id} {day} {}", bar.close)).collect();
    let close = |id: i64| if &*symbols[&id] == "A" { 15_000 } else { 25_000 };
    let expected: Vec<_> =
        (1..=2).flat_map(|id| days[..2].iter().map(move |day| format!("{id} {day} {}", close(id)))).collect();
    assert_eq!(shown, expected);
    assert_eq!(read[0].2.volume, Some(close(1) / 100));
    assert!(store.daily_bars_of(4..=9, date(days[0])..date(days[2])).await.unwrap().is_empty());
    let backfilled = store.past_version().await.unwrap();
    assert_eq!(backfilled.backfilled_at, Some(now));

    let split = |symbol: &str, day: &str| Split::from_decimals(symbol.to_owned(), date(day), 3.0, 2.0).unwrap();
    store.save_splits(&[split("A", days[0]), split("A", days[1]), split("B", days[2])]).await.unwrap();
    let splits = store.splits_between(date(days[0]), date(days[1])).await.unwrap();
    let a = *symbols.iter().find(|(_, symbol)| &***symbol == "A").unwrap().0;
    assert_eq!(splits, [(a, SplitFactor { session: date(days[1]), numerator: 3, denominator: 2 })]);
    assert_ne!(store.past_version().await.unwrap().splits, 0);
    store.save_cycle(&head(now, SESSION, 1), &[("A", point(now, 5))], &[]).await.unwrap();
    store.save_session(date(SESSION), &[], true, now).await.unwrap();
    let rolled_up = store.past_version().await.unwrap();
    assert_eq!((rolled_up.rolled_up_at, rolled_up.backfilled_at), (Some(now), Some(now)));
}
