//! What holds of every market, not only of a small one.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::lists::query;
use super::*;

const EXCHANGES: [&str; 4] = ["NYSE", "NASDAQ", "nyse", ""];
const SECTORS: [&str; 3] = ["Energy", "Materials", ""];

/// Few different prices and volumes, so that there are ties, and more listings than a ranking keeps.
pub(super) fn markets() -> impl Strategy<Value = Snapshot> {
    let amount = || prop_oneof![1_i64..40, 1_i64..8_000_000_000];
    let quoted = (amount(), prop::option::weighted(0.9, amount()), prop::option::weighted(0.9, 0_i64..60));
    let row = (0..EXCHANGES.len(), 0..SECTORS.len(), prop::option::weighted(0.9, quoted));
    prop::collection::vec(row, 1..400).prop_map(|rows| {
        let mut text = "symbol,exchange,sector\n".to_owned();
        let mut quotes = Vec::new();
        for (number, (exchange, sector, quoted)) in rows.into_iter().enumerate() {
            text += &format!("S{number:03},{},{}\n", EXCHANGES[exchange], SECTORS[sector]);
            quotes.push(quoted.map(|(last, before, volume)| Quote {
                price: Price::from_units(last),
                previous_close: before.map(Price::from_units),
                ..quote(1.0, None, volume)
            }));
        }
        let universe = Arc::new(Universe::parse_csv(&text, "any.csv").unwrap());
        Snapshot { universe, quotes: Columns::of(&quotes), ..snapshot() }
    })
}

/// Every listing with its quote, its index and the direction of its change.
fn quoted(snapshot: &Snapshot) -> Vec<(usize, &Listing, Quote, Option<Ordering>)> {
    let listings = snapshot.universe.listings().iter().enumerate();
    listings
        .filter_map(|(index, listing)| {
            let quote = snapshot.quotes.get(index)?;
            Some((index, listing, quote, quote.previous_close.map(|before| quote.price.cmp(&before))))
        })
        .collect()
}

/// The whole market sorted by `key`, then cut.
fn fully_sorted(mut candidates: Vec<(f64, usize)>) -> Vec<usize> {
    candidates.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
    candidates.into_iter().map(|(_, index)| index).take(LONGEST_RANKING).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decimal_of_four_places_survives(units in prop_oneof![1_i64..100_000, 1_i64..=1_000_000_000_000_000]) {
        let written = format!("{}.{:04}", units / 10_000, units % 10_000);
        let price = Price::from_decimal(written.parse().unwrap()).unwrap();
        prop_assert_eq!(price.units(), units);
        prop_assert_eq!(price.to_string().parse::<f64>().unwrap(), written.parse::<f64>().unwrap());
        let sent: f64 = serde_json::from_str(&serde_json::to_string(&price).unwrap()).unwrap();
        prop_assert_eq!(Price::from_decimal(sent), Some(price));
        prop_assert!(price.to_string().len() <= written.len());
    }

    #[test]
    fn a_bound_admits_what_reads_no_less_and_no_more(units in -3_000_000_000_000_000_i64..3_000_000_000_000_000, off in -3_i64..=3, volume: bool) {
        let (column, scale) = if volume { (Column::Volume, 1.0) } else { (Column::Price, 1e4) };
        let row = Quote { price: Price::from_units(units), ..quote(1.0, None, Some(units)) };
        let quotes = Columns::of(&[Some(row)]);
        let (seen, bound) = (units as f64 / scale, (units + off) as f64 / scale);
        let (mut least, mut most) = (Range::of(column), Range::of(column));
        least.set_least(bound);
        most.set_most(bound);
        prop_assert_eq!((least.holds(&quotes, 0), most.holds(&quotes, 0)), (seen >= bound, seen <= bound));
        prop_assert!(!least.holds(&Columns::of(&[None]), 0));
    }

    #[test]
    fn any_number_is_a_price_above_zero_or_none(decimal in any::<f64>()) {
        prop_assert!(Price::from_decimal(decimal).is_none_or(|price| price.units() > 0));
    }

    #[test]
    fn statistics_equal_a_plain_count(snapshot in markets()) {
        let statistics = Statistics::compute(&snapshot, session_start());
        let all = quoted(&snapshot);
        let on = |name: &str| all.iter().filter(|(_, listing, ..)| listing.exchange.to_uppercase() == name).count();
        let moved = |way| all.iter().filter(|(.., direction)| *direction == Some(way)).count();
        prop_assert_eq!(statistics.total_stocks, all.len());
        prop_assert_eq!((statistics.nyse_stocks, statistics.nasdaq_stocks), (on("NYSE"), on("NASDAQ")));
        let expected = (moved(Ordering::Greater), moved(Ordering::Less), moved(Ordering::Equal));
        prop_assert_eq!((statistics.gainers, statistics.losers, statistics.unchanged), expected);
        let named: Vec<&str> = statistics.sectors.iter().map(|sector| sector.name.as_str()).collect();
        prop_assert!(named.is_sorted() && !named.contains(&""));
        for sector in SECTORS.into_iter().filter(|sector| !sector.is_empty()) {
            let members: Vec<_> = all.iter().filter(|(_, listing, ..)| listing.sector == sector).collect();
            let moved = |way| members.iter().filter(|(.., direction)| *direction == Some(way)).count();
            let percents: Vec<f64> = members.iter().filter_map(|(_, _, quote, _)| quote.change_percent()).collect();
            let Some(counted) = statistics.sectors.iter().find(|counted| counted.name == sector) else {
                prop_assert!(members.is_empty());
                continue;
            };
            prop_assert_eq!(counted.total, members.len());
            let expected = (moved(Ordering::Greater), moved(Ordering::Less), moved(Ordering::Equal));
            prop_assert_eq!((counted.gainers, counted.losers, counted.unchanged), expected);
            prop_assert_eq!(counted.average_change_percent.is_some(), !percents.is_empty());
            if let Some(average) = counted.average_change_percent {
                let mean = percents.iter().sum::<f64>() / percents.len() as f64;
                prop_assert!((average - mean).abs() <= 1e-4);
            }
        }
    }

    #[test]
    fn rankings_equal_a_full_sort(snapshot in markets()) {
        let statistics = Statistics::compute(&snapshot, session_start());
        let all = quoted(&snapshot);
        let percents = |way, sign: f64| {
            let moved = all.iter().filter(move |(.., direction)| *direction == Some(way));
            moved.map(move |(index, _, quote, _)| (sign * quote.change_percent().unwrap(), *index)).collect::<Vec<_>>()
        };
        let traded = all.iter().filter(|(_, _, quote, _)| quote.volume > Some(0));
        let volumes = traded.map(|(index, _, quote, _)| (quote.volume.unwrap() as f64, *index)).collect();
        prop_assert_eq!(&statistics.top_gainers, &fully_sorted(percents(Ordering::Greater, 1.0)));
        prop_assert_eq!(&statistics.top_losers, &fully_sorted(percents(Ordering::Less, -1.0)));
        prop_assert_eq!(&statistics.most_active, &fully_sorted(volumes));
    }

    #[test]
    fn pages_put_together_are_the_whole_list(snapshot in markets(), limit in 20_usize..=100, sort in 0..5_usize, down: bool) {
        let sort = ["ticker", "price", "volume", "change", "change_percent"][sort];
        let order = if down { "desc" } else { "asc" };
        let mut seen = Vec::new();
        loop {
            let text = format!("sort_by={sort}&sort_order={order}&limit={limit}&offset={}", seen.len());
            let body = list(&snapshot, &meta(&snapshot), &query(&text));
            let body: serde_json::Value = serde_json::from_slice(&body.plain().bytes).unwrap();
            let rows = body["results"].as_array().unwrap();
            seen.extend(rows.iter().map(|row| row["ticker"].as_str().unwrap().to_owned()));
            if rows.is_empty() {
                break;
            }
        }
        let mut whole: Vec<String> = quoted(&snapshot).iter().map(|(_, listing, ..)| listing.symbol.clone()).collect();
        seen.sort();
        whole.sort();
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn no_text_breaks_the_reading_of_a_list(text in any::<String>()) {
        if let Ok(universe) = Universe::parse_csv(&format!("symbol\n{text}"), "any.csv") {
            prop_assert!(universe.listings().is_sorted_by(|a, b| a.symbol < b.symbol));
            for (index, listing) in universe.listings().iter().enumerate() {
                prop_assert_eq!(universe.position(&listing.symbol), Some(index));
            }
        }
    }
}
