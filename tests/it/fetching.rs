//! The way to a provider, without a daemon around it: second copies of slow calls, and the past.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bellwether::clock::{Clock, SharedClock, SimClock};
use bellwether::config::{AlpacaConfig, AlpacaFeed, MassiveConfig};
use bellwether::ingest::past::{DailyRequest, PastForm};
use bellwether::ingest::providers::{Alpaca, FetchError, Massive, Provider};
use bellwether::ingest::{BreakerState, FetchOptions, FetchPlan, Fetcher, Wanted};
use bellwether::market::{LicenceClass, Universe};
use chrono::{NaiveDate, TimeDelta};
use serde_json::json;

use crate::harness::{eventually, instant};
use crate::sim_host::{Answer, Asked, SimHost, Trouble};

const OPTIONS: FetchOptions = FetchOptions { concurrency: 8, attempts: 3, hedge_percent: 5 };

pub fn universe(symbols: impl IntoIterator<Item = String>) -> Universe {
    let lines: Vec<String> = symbols.into_iter().collect();
    Universe::parse_csv(&format!("symbol\n{}\n", lines.join("\n")), "test").unwrap()
}

pub fn all_of(universe: &Universe) -> Wanted {
    Wanted::from((0..universe.len()).collect::<Vec<_>>())
}

pub fn alpaca(host: &SimHost) -> Arc<dyn Provider> {
    alpaca_of(host, 10_000)
}

/// An account of so many calls a minute.
pub fn alpaca_of(host: &SimHost, requests_per_minute: u32) -> Arc<dyn Provider> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = AlpacaConfig {
        base_url: host.url().parse().unwrap(),
        api_key: "id".to_owned().into(),
        api_secret: "secret".to_owned().into(),
        feed: AlpacaFeed::Iex,
        requests_per_minute,
        timeout: Duration::from_mins(1),
    };
    Arc::new(Alpaca::new(&config).unwrap())
}

fn massive(host: &SimHost) -> Arc<dyn Provider> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = MassiveConfig {
        base_url: host.url().parse().unwrap(),
        api_key: "key".to_owned().into(),
        requests_per_minute: 10_000,
        timeout: Duration::from_mins(1),
        delay: Duration::ZERO,
        licence: LicenceClass::Display,
    };
    Arc::new(Massive::new(&config).unwrap())
}

/// Lets the simulated time pass until something is done, as fast as it gets there.
async fn while_time_passes<T>(clock: &SimClock, done: impl Future<Output = T>) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        match tokio::time::timeout(Duration::from_millis(20), &mut done).await {
            Ok(done) => return done,
            Err(_) => clock.advance(TimeDelta::milliseconds(10)),
        }
    }
}

pub fn a_price_for_each(asked: &Asked) -> Answer {
    let snapshot = json!({"latestTrade": {"t": asked.now.to_rfc3339(), "p": 10.5}});
    let map: BTreeMap<String, serde_json::Value> =
        asked.list("symbols").into_iter().map(|symbol| (symbol, snapshot.clone())).collect();
    Answer::ok(json!(map))
}

/// What is slow is decided by the cycle's own latencies: all others take no time.
#[tokio::test]
async fn a_call_that_is_slower_than_its_cycle_is_made_a_second_time() {
    let clock = SimClock::at(instant("2027-03-15T14:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, a_price_for_each).await;
    let universe = universe((0..8_000).map(|n| format!("S{n:04}")));
    let wanted = all_of(&universe);
    let (minutes, milliseconds) = (TimeDelta::minutes, TimeDelta::milliseconds);
    for (percent, silence, passes) in [(5, minutes(10), milliseconds(20)), (0, milliseconds(300), milliseconds(300))] {
        let options = FetchOptions { hedge_percent: percent, ..OPTIONS };
        let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock) as SharedClock, options);
        let plan = FetchPlan {
            slot: clock.now(),
            cadence: Duration::from_mins(3),
            deadline: clock.now() + TimeDelta::minutes(2),
        };
        // The first call ever goes ahead alone.
        fetcher.fetch(&universe, &Wanted::from(vec![0]), plan).await;
        let before = host.calls();
        // One call of the cycle hangs; without a second copy the cycle would wait for it.
        host.trouble([Trouble::SilenceUntil(clock.now() + silence)]);
        let others = async {
            // Not when they have come: one that is still under way would be slow too, and might use up the copies.
            eventually("all others are answered", async || {
                fetcher.progress().view(clock.now()).is_some_and(|view| view.asked == 7_900)
            })
            .await;
            clock.advance(passes);
        };
        let (fetched, ()) = tokio::join!(fetcher.fetch(&universe, &wanted, plan), others);
        assert_eq!(fetched.quotes.iter().flatten().count(), 8_000);
        assert_eq!(fetched.faults, Vec::<String>::new());
        let copies = u32::from(percent > 0);
        assert_eq!((fetched.hedged, fetched.requests), (copies, 80 + copies));
        assert_eq!(host.calls() - before, fetched.requests as usize);
    }
}

#[tokio::test]
async fn alpacas_past_comes_by_symbols_in_pages() {
    let clock = SimClock::at(instant("2027-03-15T22:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, |asked| match asked.path.as_str() {
        "/v2/stocks/bars" => alpaca_bars(asked),
        "/v1/corporate-actions" => Answer::ok(json!({
            "corporate_actions": {
                "forward_splits": [{"symbol": "BAC.PRK", "cusip": "1", "new_rate": 4, "old_rate": 1, "process_date": "2027-02-01",
                    "ex_date": "2027-02-01", "record_date": "2027-01-20", "payable_date": "2027-01-30"}],
                "reverse_splits": [{"symbol": "AAPL", "old_cusip": "1", "new_cusip": "2", "new_rate": 1, "old_rate": 10,
                    "process_date": "2027-03-01", "ex_date": "2027-03-01"}],
                "cash_dividends": [{"symbol": "IBM"}]
            },
            "next_page_token": null
        })),
        _ => Answer::refused(404, "{}"),
    })
    .await;
    let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = universe(["AAPL", "BAC$K", "IBM"].map(str::to_owned));
    assert_eq!(fetcher.past().unwrap().form(), PastForm::Symbols { max_symbols: 100 });
    let deadline = instant("2027-03-15T23:00:00Z");
    let (from, to): (NaiveDate, NaiveDate) = ("2027-03-11".parse().unwrap(), "2027-03-12".parse().unwrap());
    let request = DailyRequest::Symbols { wanted: &[0, 1], from, to, page: None };
    let (bars, requests) = while_time_passes(&clock, fetcher.daily(&universe, request, deadline)).await.unwrap();
    assert_eq!(requests, 2, "two pages");
    let told: Vec<String> = bars
        .iter()
        .map(|bar| {
            format!("{} {} {} {} {} {} {}", bar.symbol, bar.date, bar.open, bar.high, bar.low, bar.close, bar.volume)
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    AAPL 2027-03-11 10.00 11.50 9.50 10.50 12345
    AAPL 2027-03-12 10.00 12.50 9.50 11.50 12345
    BAC$K 2027-03-11 10.00 11.50 9.50 10.50 12345
    BAC$K 2027-03-12 10.00 12.50 9.50 11.50 12345
    ");
    let (splits, _) = while_time_passes(&clock, fetcher.splits("2027-01-01".parse().unwrap(), deadline)).await.unwrap();
    let told: Vec<String> =
        splits.iter().map(|s| format!("{} {} {}:{}", s.symbol, s.date, s.numerator, s.denominator)).collect();
    assert_eq!(told, ["BAC$K 2027-02-01 4:1", "AAPL 2027-03-01 1:10"]);
    let wrong = fetcher.daily(&universe, DailyRequest::WholeMarket(from), deadline).await.unwrap_err();
    assert_eq!(wrong.to_string(), "alpaca: daily bars are asked for by symbols");
}

fn on(wanted: &[usize]) -> DailyRequest<'_> {
    let date: NaiveDate = "2027-03-12".parse().unwrap();
    DailyRequest::Symbols { wanted, from: date, to: date, page: None }
}

#[tokio::test]
async fn one_bad_symbol_and_one_bad_bar_do_not_cost_the_others() {
    let clock = SimClock::at(instant("2027-03-15T22:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, |asked| {
        let symbols = asked.list("symbols");
        if let Some(bad) = symbols.iter().find(|symbol| symbol.starts_with("BAD")) {
            return Answer::refused(400, json!({"message": format!("invalid symbol: {bad}")}));
        }
        if symbols == ["ODD"] {
            return Answer::ok(json!({"message": "too many requests", "code": 42_910_000}));
        }
        let bar = |symbol: &String| {
            let garbled = r#"{"t":"yesterday","o":1,"h":1,"l":1,"c":1,"v":"many"},{"t":"2027-03-11T05:00:00Z","o":NaN,"h":1,"l":1,"c":1,"v":1}"#;
            format!(r#""{symbol}":[{garbled},{{"t":"2027-03-12T05:00:00Z","o":10,"h":11,"l":9.5,"c":10.5,"v":5}}]"#)
        };
        let bars: Vec<String> = symbols.iter().map(bar).collect();
        Answer::ok(format!(r#"{{"bars":{{{}}},"next_page_token":null}}"#, bars.join(",")))
    })
    .await;
    let fetcher = Fetcher::new(alpaca(&host), Arc::clone(&clock) as SharedClock, OPTIONS);
    let names = (0..100).map(|n| if n == 37 { "BAD".to_owned() } else { format!("S{n:02}") });
    let symbols = universe(names);
    let deadline = instant("2027-03-15T23:00:00Z");
    let all: Vec<usize> = (0..symbols.len()).collect();
    let (bars, requests) = while_time_passes(&clock, fetcher.daily(&symbols, on(&all), deadline)).await.unwrap();
    assert_eq!((bars.len(), bars.iter().filter(|bar| bar.symbol == "BAD").count()), (99, 0));
    assert!(requests <= 15, "{requests} calls");
    let bad = symbols.position("BAD").unwrap();
    let alone = while_time_passes(&clock, fetcher.daily(&symbols, on(&[bad]), deadline)).await.unwrap_err();
    assert_eq!(alone, FetchError::Refused("alpaca: HTTP 400 \"invalid symbol: BAD\"".to_owned()));
    // An error that comes with HTTP 200 is no empty map.
    let odd = universe(["ODD".to_owned()]);
    let fault = while_time_passes(&clock, fetcher.daily(&odd, on(&[0]), deadline)).await.unwrap_err();
    assert_eq!(fault.to_string(), "alpaca: HTTP 200 with code 42910000 \"too many requests\"");
    // Where each is refused it is no symbol's fault.
    let bad = universe((0..100).map(|n| format!("BAD{n}")));
    let calls = host.calls();
    let fault = while_time_passes(&clock, fetcher.daily(&bad, on(&all), deadline)).await.unwrap_err();
    assert!(matches!(fault, FetchError::Fail(_)), "{fault}");
    assert_eq!(host.calls() - calls, 9);
}

fn alpaca_bars(asked: &Asked) -> Answer {
    let right = [("timeframe", "1Day"), ("adjustment", "raw"), ("feed", "iex"), ("symbols", "AAPL,BAC.PRK")];
    assert!(right.iter().all(|(name, value)| asked.parameter(name) == *value), "{asked:?}");
    let (symbol, next) = match asked.parameter("page_token") {
        "" => ("AAPL", json!("page-2")),
        "page-2" => ("BAC.PRK", json!(null)),
        other => panic!("page {other:?}"),
    };
    let bar = |day: &str, close: f64| json!({"t": format!("{day}T05:00:00Z"), "o": 10, "h": close + 1.0, "l": 9.5, "c": close, "v": 12_345, "n": 7, "vw": 10});
    let zeros = json!({"t": "2027-03-10T05:00:00Z", "o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "n": 0, "vw": 0});
    let list = json!([zeros, bar(asked.parameter("start"), 10.5), bar(asked.parameter("end"), 11.5)]);
    Answer::ok(json!({"bars": {symbol: list}, "next_page_token": next}))
}

#[tokio::test]
async fn massives_past_is_the_whole_market_of_a_date_in_one_call() {
    let clock = SimClock::at(instant("2027-03-15T22:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, |asked| {
        assert_eq!(asked.header("authorization"), "Bearer key");
        match (asked.path.as_str(), asked.parameter("cursor")) {
            ("/v2/aggs/grouped/locale/us/market/stocks/2027-03-12", _) if asked.parameter("adjusted") == "false" => {
                Answer::ok(json!({"adjusted": false, "queryCount": 3, "resultsCount": 3, "status": "OK", "results": [
                    {"T": "BACpK", "c": 25.9102, "h": 26.25, "l": 25.91, "n": 74, "o": 26.07, "t": 1_804_968_000_000_i64, "v": 4369, "vw": 26.0407},
                    {"T": "AAPL", "c": 201.5, "h": 202, "l": 199, "o": 200, "t": 1_804_968_000_000_i64, "v": 1.5e7},
                    {"T": "NOTOURS", "c": 1, "h": 1, "l": 1, "o": 1, "t": 1_804_968_000_000_i64, "v": 1},
                    {"T": "IBM", "c": 0, "h": 0, "l": 0, "o": 0, "t": 1_804_968_000_000_i64, "v": 0}
                ]}))
            }
            ("/v2/aggs/grouped/locale/us/market/stocks/2027-03-14", _) => {
                Answer::ok(json!({"adjusted": false, "queryCount": 0, "resultsCount": 0, "status": "OK"}))
            }
            ("/v2/aggs/grouped/locale/us/market/stocks/2027-03-15", _) => Answer::ok(json!({"status": "OK", "results": []})),
            ("/v3/reference/splits", "") => {
                assert_eq!(asked.parameter("execution_date.gte"), "2027-01-01");
                Answer::ok(json!({"status": "OK", "next_url": "https://elsewhere.example/v3/reference/splits?cursor=YWN0",
                    "results": [{"execution_date": "2027-02-01", "split_from": 1, "split_to": 4, "ticker": "AAPL"}]}))
            }
            ("/v3/reference/splits", "YWN0") => Answer::ok(json!({"status": "OK", "results": [
                {"execution_date": "2027-03-01", "split_from": 10, "split_to": 1, "ticker": "BACpK"}]})),
            _ => Answer::refused(404, json!({"status": "NOT_FOUND"})),
        }
    })
    .await;
    let fetcher = Fetcher::new(massive(&host), Arc::clone(&clock) as SharedClock, OPTIONS);
    let universe = universe(["AAPL", "BAC$K", "IBM"].map(str::to_owned));
    let deadline = instant("2027-03-15T23:00:00Z");
    let of = |date: &str| DailyRequest::WholeMarket(date.parse().unwrap());
    let (bars, _) = while_time_passes(&clock, fetcher.daily(&universe, of("2027-03-12"), deadline)).await.unwrap();
    let told: Vec<String> = bars.iter().map(|bar| format!("{} {} {}", bar.symbol, bar.close, bar.volume)).collect();
    assert_eq!(told, ["BAC$K 25.9102 4369", "AAPL 201.50 15000000"], "zeros are no bar");
    // Only sessions are asked for, so that nothing is no answer: neither left out, nor empty.
    for date in ["2027-03-14", "2027-03-15"] {
        let nothing = while_time_passes(&clock, fetcher.daily(&universe, of(date), deadline)).await.unwrap_err();
        assert_eq!(nothing.to_string(), format!("massive: there are no bars of {date}, which is a session"));
    }
    let (splits, requests) =
        while_time_passes(&clock, fetcher.splits("2027-01-01".parse().unwrap(), deadline)).await.unwrap();
    let told: Vec<String> =
        splits.iter().map(|s| format!("{} {} {}:{}", s.symbol, s.date, s.numerator, s.denominator)).collect();
    assert_eq!((told, requests), (vec!["AAPL 2027-02-01 4:1".to_owned(), "BAC$K 2027-03-01 1:10".to_owned()], 2));
    assert!(host.asked().iter().all(|asked| asked.header("host") == host.address.to_string()), "the key stays here");
}

#[tokio::test]
async fn calls_for_the_past_go_through_the_same_breaker() {
    let clock = SimClock::at(instant("2027-03-15T22:00:00Z"));
    let host = SimHost::start(Arc::clone(&clock) as SharedClock, None, |_| Answer::refused(502, "bad gateway")).await;
    let options = FetchOptions { attempts: 1, ..OPTIONS };
    let fetcher = Fetcher::new(massive(&host), Arc::clone(&clock) as SharedClock, options);
    let universe = universe(["AAPL".to_owned()]);
    let request = DailyRequest::WholeMarket("2027-03-12".parse().unwrap());
    let soon = clock.now() + TimeDelta::seconds(5);
    for _ in 0..5 {
        let fault = while_time_passes(&clock, fetcher.daily(&universe, request, soon)).await.unwrap_err();
        assert!(fault.to_string().starts_with("massive: HTTP 502"), "{fault}");
    }
    let fault = while_time_passes(&clock, fetcher.daily(&universe, request, soon)).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "massive: nobody calls, it has failed since 2027-03-15 22:00:00 UTC: massive: HTTP 502"
    );
    assert_eq!((host.calls(), fetcher.breaker().state), (5, BreakerState::Open));
}
