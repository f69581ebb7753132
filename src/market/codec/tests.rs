//! What is written comes back, whatever the numbers; what was not written is refused.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::market::{Bar, Cycle, MarketDay, Point, Price, QUARTER_HOUR, Quote, QuoteFlags, daily, quarter_hours};
use crate::market::{Hours, SessionPoints};

/// Some seconds of the first decades, mostly some minutes apart, and any price or volume there can be.
fn points() -> impl Strategy<Value = Vec<Point>> {
    let price = prop_oneof![1_i64..10_000_000_000, any::<i64>()];
    let volume = prop::option::weighted(0.9, prop_oneof![0_i64..1_000_000_000, 0..=i64::MAX]);
    let step = prop_oneof![4 => 170_i64..190, 1 => 1_i64..100_000];
    prop::collection::vec((step, price, volume), 0..150).prop_map(|rows| {
        let mut at = 1_800_000_000;
        let point = |(step, price, volume): (i64, i64, Option<i64>)| {
            at += step;
            Point { at, price, volume }
        };
        rows.into_iter().map(point).collect()
    })
}

fn quote() -> impl Strategy<Value = Quote> {
    let units = || prop::option::of(any::<i64>().prop_map(Price::from_units));
    let others = (units(), units(), units(), units(), units(), units());
    let volume = prop::option::of(0..i64::MAX);
    (any::<i64>(), 0_i64..4_000_000_000_000_000, others, volume, any::<i32>()).prop_map(
        |(price, at, (previous_close, open, high, low, bid, ask), volume, flags)| Quote {
            at: DateTime::from_timestamp_micros(at).unwrap(),
            price: Price::from_units(price),
            previous_close,
            open,
            high,
            low,
            bid,
            ask,
            volume,
            flags: QuoteFlags(flags),
        },
    )
}

fn head() -> CycleHead {
    let at: DateTime<Utc> = "2027-03-15T14:00:00.123456Z".parse().unwrap();
    let cycle = Cycle {
        id: Uuid::from_u128(7),
        slot: at,
        source: "massive".to_owned(),
        simulated: false,
        as_of: at,
        finished_at: at + TimeDelta::seconds(1),
        expected: 3,
        fresh: 2,
        failed: 1,
    };
    let session = NaiveDate::from_ymd_opt(2027, 3, 15).unwrap();
    let day = MarketDay { session, total: 3, gainers: 1, losers: 1, unchanged: 0 };
    CycleHead { cycle, delayed: true, cause: Some("one \"is\" missing".to_owned()), day: Some(day) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_track_gives_back_each_point_while_it_grows_and_once_it_is_closed(points in points()) {
        let mut track = Track::default();
        for point in &points {
            prop_assert!(track.push(*point));
            prop_assert!(!track.push(*point), "the same is no news");
        }
        prop_assert_eq!(track.points(), points.clone());
        let closed: Vec<_> = points.iter().map(|point| Point { volume: None, ..*point }).collect();
        prop_assert_eq!(decode_track(&encode_track(&points)).unwrap(), closed);
    }

    #[test]
    fn the_points_of_a_cycle_come_back_in_order_of_their_symbols(
        rows in prop::collection::btree_map(any::<i64>(), (any::<i64>(), any::<i64>(), prop::option::of(0..i64::MAX)), 0..100),
        slot in any::<i64>(),
    ) {
        let points = rows.into_iter().map(|(symbol_id, (at, price, volume))| {
            SymbolPoint { symbol_id, point: Point { at, price, volume } }
        });
        let points: Vec<_> = points.collect();
        let mut shuffled: Vec<_> = points.iter().rev().copied().collect();
        prop_assert_eq!(decode_points(slot, &encode_points(slot, &mut shuffled)).unwrap(), points);
    }

    #[test]
    fn bars_come_back(rows in prop::collection::vec((any::<[i64; 4]>(), prop::option::of(0..i64::MAX)), 0..60)) {
        let bars: Vec<Bar> = rows.into_iter().zip(1_990_000_i64..).map(|(([open, high, low, close], volume), n)| {
            Bar { at: n * QUARTER_HOUR, open, high, low, close, volume }
        }).collect();
        prop_assert_eq!(decode_bars(QUARTER_HOUR, &encode_bars(QUARTER_HOUR, &bars)).unwrap(), bars);
    }

    #[test]
    fn a_cycle_comes_back(quotes in prop::collection::vec(("[A-Z.$^/]{1,16}", quote()), 0..40)) {
        let bytes = KeptCycle::encode(&head(), quotes.iter().map(|(symbol, quote)| (symbol.as_str(), quote)));
        let kept = KeptCycle::decode(&bytes).unwrap();
        prop_assert_eq!(&kept.head, &head());
        let back: Vec<_> = kept.quotes.into_iter().map(|kept| (kept.symbol.to_string(), kept.quote)).collect();
        prop_assert_eq!(back, quotes);
    }

    #[test]
    fn garbage_is_refused_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        let _ = (decode_track(&bytes), decode_points(0, &bytes), decode_bars(QUARTER_HOUR, &bytes));
        let mut formed = vec![1];
        formed.extend_from_slice(&bytes);
        let _ = (KeptCycle::decode(&bytes), KeptCycle::decode(&formed));
        let whole = KeptCycle::encode(&head(), std::iter::empty());
        prop_assert_eq!(KeptCycle::decode(&whole[..cut.min(whole.len())]).is_ok(), cut >= whole.len());
    }
}

/// A liquid share through a session: each three minutes, in cents.
fn liquid(cents: i64, seed: i64) -> Vec<Point> {
    let mut price = cents * 100;
    let mut volume = 0;
    let point = |n: i64| {
        let turn = (n * 7_919 + seed * 104_729) % 97;
        price += (turn % 13 - 6) * 100;
        volume += turn * 137;
        Point { at: 1_805_117_400 + n * 180 - turn % 11, price, volume: Some(volume) }
    };
    (0..130).map(point).collect()
}

#[test]
fn a_point_takes_no_more_bytes_than_was_planned() {
    let shares: Vec<_> = [(312, 1), (18_450, 2), (71_234_550, 3)].map(|(cents, seed)| liquid(cents, seed)).into();
    let count = shares.iter().map(Vec::len).sum::<usize>() as f64;
    let closed = shares.iter().map(|points| encode_track(points).len()).sum::<usize>() as f64;
    assert!(closed / count < 3.5, "{} bytes a point after the close", closed / count);
    let mut session = SessionPoints::of(NaiveDate::default());
    for (points, symbol) in shares.iter().zip(["A", "B", "C"]) {
        points.iter().for_each(|point| session.push(symbol, *point));
    }
    let in_memory = session.allocated() as f64 / count;
    assert!(in_memory < 8.0, "{in_memory} bytes a point in memory");
    let mut cycle: Vec<_> = (1..=10_000).map(|symbol_id| SymbolPoint { symbol_id, point: shares[1][7] }).collect();
    let live = encode_points(shares[1][7].at + 3, &mut cycle).len() as f64 / 10_000.0;
    assert!(live < 10.0, "{live} bytes a point of a cycle");
}

#[test]
fn bars_of_points_have_what_was_traded_between_them() {
    let hours = Hours { open: 1_000 * QUARTER_HOUR, close: 1_004 * QUARTER_HOUR };
    let point = |minute: i64, price, volume| Point { at: hours.open + minute * 60, price, volume };
    let points = [
        point(-20, 900, Some(5)),
        point(1, 1_000, Some(100)),
        point(14, 1_040, Some(150)),
        point(16, 990, None),
        point(44, 1_010, Some(400)),
        // The closing auction.
        point(60, 1_020, Some(1_000)),
        point(70, 2_000, Some(1_100)),
    ];
    let shown = |bars: Vec<Bar>| {
        let line = |bar: &Bar| {
            let Bar { open, high, low, close, volume, .. } = *bar;
            format!("{:+} {open} {high} {low} {close} {volume:?}", (bar.at - hours.open) / 60)
        };
        bars.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(shown(quarter_hours(&points, hours)), @"
    +0 1000 1040 1000 1040 Some(145)
    +15 990 990 990 990 None
    +30 1010 1010 1010 1010 Some(250)
    +45 1020 1020 1020 1020 Some(700)
    ");
    // Whoever comes in mid-session does not know what was traded before.
    insta::assert_snapshot!(shown(quarter_hours(&points[4..], hours)), @"
    +30 1010 1010 1010 1010 Some(0)
    +45 1020 1020 1020 1020 Some(700)
    ");
    insta::assert_snapshot!(shown(daily(&points, hours, None, None).into_iter().collect()), @"+0 1000 1040 990 1020 Some(1100)");
    assert_eq!(daily(&points[..1], hours, None, None), None, "nothing was quoted in its hours");
    let at = DateTime::from_timestamp(points[5].at, 0).unwrap();
    let price = |units| Some(Price::from_units(units));
    let last = Quote {
        at,
        price: Price::from_units(1_020),
        previous_close: None,
        open: price(1_005),
        high: price(1_050),
        low: price(980),
        bid: None,
        ask: None,
        volume: Some(1_000),
        flags: QuoteFlags::default(),
    };
    insta::assert_snapshot!(shown(daily(&points, hours, Some(&last), None).into_iter().collect()), @"+0 1005 1050 980 1020 Some(1100)");
    let of_yesterday = Quote { at: at - TimeDelta::days(1), ..last };
    assert_eq!(daily(&points, hours, Some(&of_yesterday), None), daily(&points, hours, None, None));
    // Made again, with one more point, when the quote is of another session: what it had said is not lost.
    let made = daily(&points, hours, Some(&last), None);
    assert_eq!(daily(&points, hours, None, made.as_ref()), made, "done again it changes nothing");
    let late = [&points[..3], &[point(30, 1_060, Some(300))], &points[4..]].concat();
    let again = daily(&late, hours, Some(&of_yesterday), made.as_ref());
    insta::assert_snapshot!(shown(again.into_iter().collect()), @"+0 1005 1060 980 1020 Some(1100)");
}
