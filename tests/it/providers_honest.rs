//! What is published is what a provider has said, each of them under the same traps: prices that are none, times that cannot be,
//! answers that are something else, that break off, or that never end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bellwether::clock::SharedClock;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::{Engine, Running, World, instant, write_universe};
use crate::sim_host::{Answer, Asked, SimHost, Trouble};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Massive,
    Alpaca,
    Tiingo,
    Yahoo,
    Csv,
}

/// Ours, and theirs as Massive, Alpaca, Tiingo and Yahoo write it.
const SYMBOLS: [(&str, [&str; 4]); 10] = [
    ("AAPL", ["AAPL", "AAPL", "AAPL", "AAPL"]),
    ("ACHR.W", ["ACHR.WS", "ACHR.WS", "ACHR-WS", "ACHR-WT"]),
    ("BAC$K", ["BACpK", "BAC.PRK", "BAC-P-K", "BAC-PK"]),
    ("BRK.B", ["BRK.B", "BRK.B", "BRK-B", "BRK-B"]),
    ("CELG.R", ["CELGr", "CELG.RT", "CELG-R", "CELG-RI"]),
    ("GRP.U", ["GRP.U", "GRP.U", "GRP-U", "GRP-UN"]),
    ("MKC.V", ["MKC.V", "MKC.V", "MKC-V", "MKC-V"]),
    ("MSFT", ["MSFT", "MSFT", "MSFT", "MSFT"]),
    ("SNOW", ["SNOW", "SNOW", "SNOW", "SNOW"]),
    ("TY$", ["TYp", "TY.PR", "TY-P", "TY-P"]),
];

/// What is said of one symbol.
#[derive(Debug, Clone)]
struct Line {
    /// In our spelling.
    symbol: &'static str,
    /// As it stands in the answer: not always a number.
    price: String,
    at: Option<DateTime<Utc>>,
    previous: f64,
    volume: u32,
}

impl Kind {
    fn theirs(self, ours: &str) -> String {
        let (_, spelt) = SYMBOLS.iter().find(|(symbol, _)| *symbol == ours).unwrap();
        spelt.get(self as usize).map_or(ours, |theirs| theirs).to_owned()
    }

    fn settings(self, url: &str) -> Vec<(&'static str, String)> {
        let mut settings = match self {
            Self::Massive => vec![
                ("PROVIDER", "massive"),
                ("MASSIVE__API_KEY", "k"),
                ("MASSIVE__TIMEOUT_SECONDS", "3"),
                ("MASSIVE__REQUESTS_PER_MINUTE", "1000"),
            ],
            Self::Alpaca => vec![
                ("PROVIDER", "alpaca"),
                ("ALPACA__API_KEY", "k"),
                ("ALPACA__API_SECRET", "s"),
                ("ALPACA__TIMEOUT_SECONDS", "3"),
            ],
            Self::Tiingo => {
                vec![("PROVIDER", "tiingo"), ("TIINGO__API_KEY", "k"), ("TIINGO__TIMEOUT_SECONDS", "3")]
            }
            Self::Yahoo => {
                vec![("PROVIDER", "yahoo"), ("YAHOO__ACCEPT_TERMS", "true"), ("YAHOO__TIMEOUT_SECONDS", "3")]
            }
            Self::Csv => vec![("PROVIDER", "csv"), ("CSV__TIMEOUT_SECONDS", "3")],
        };
        // Calls are counted here.
        settings.push(("HEDGE_PERCENT", "0"));
        let mut settings: Vec<_> = settings.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        settings.extend(match self {
            Self::Massive => vec![("MASSIVE__BASE_URL", url.to_owned())],
            Self::Alpaca => vec![("ALPACA__BASE_URL", url.to_owned())],
            Self::Tiingo => vec![("TIINGO__BASE_URL", url.to_owned())],
            Self::Yahoo => {
                vec![("YAHOO__BASE_URL", url.to_owned()), ("YAHOO__COOKIE_URL", format!("{url}/cookie"))]
            }
            Self::Csv => vec![("CSV__BASE_URL", format!("{url}/prices.csv"))],
        });
        settings
    }

    /// An answer that says `lines`. What stands around them is not a price and must not become one.
    fn body(self, lines: &[Line], now: DateTime<Utc>) -> String {
        let rows: Vec<String> = lines.iter().map(|line| self.row(line, now)).collect();
        match self {
            Self::Massive => format!(r#"{{"status":"OK","tickers":[{}]}}"#, rows.join(",")),
            Self::Alpaca => format!("{{{}}}", rows.join(",")),
            Self::Tiingo => format!("[{}]", rows.join(",")),
            Self::Yahoo => format!(r#"{{"quoteResponse":{{"result":[{}],"error":null}}}}"#, rows.join(",")),
            Self::Csv => format!("symbol,at,previous_close,note,volume,price\n{}", rows.concat()),
        }
    }

    fn row(self, line: &Line, now: DateTime<Utc>) -> String {
        let Line { symbol, price, at, previous, volume } = line;
        let theirs = self.theirs(symbol);
        let text = at.map_or("null".to_owned(), |at| format!("\"{}\"", at.to_rfc3339()));
        let nanoseconds = at.and_then(|at| at.timestamp_nanos_opt()).map_or("null".to_owned(), |at| at.to_string());
        let seconds = at.map_or("null".to_owned(), |at| at.timestamp().to_string());
        match self {
            Self::Massive => format!(
                r#"{{"ticker":"{theirs}","updated":{},"day":{{"c":9999.5,"v":{volume}}},"prevDay":{{"c":{previous}}},
                "min":{{"c":8888.5,"t":0}},"lastTrade":{{"p":{price},"t":{nanoseconds}}}}}"#,
                now.timestamp_nanos_opt().unwrap()
            ),
            Self::Alpaca => {
                let today = now.date_naive();
                let before = today - TimeDelta::days(1);
                format!(
                    r#""{theirs}":{{"latestTrade":{{"t":{text},"p":{price}}},"minuteBar":{{"c":8888.5}},
                    "dailyBar":{{"t":"{today}T04:00:00Z","c":9999.5,"v":{volume}}},
                    "prevDailyBar":{{"t":"{before}T04:00:00Z","c":{previous}}}}}"#
                )
            }
            Self::Tiingo => format!(
                r#"{{"ticker":"{theirs}","timestamp":{text},"last":9999.5,"lastSaleTimestamp":null,"tngoLast":{price},
                "prevClose":{previous},"volume":{volume}}}"#
            ),
            Self::Yahoo => format!(
                r#"{{"symbol":"{theirs}","regularMarketTime":{seconds},"regularMarketPrice":{price},"preMarketPrice":9999.5,
                "regularMarketPreviousClose":{previous},"regularMarketVolume":{volume}}}"#
            ),
            Self::Csv => {
                let at = at.map_or(String::new(), |at| at.to_rfc3339());
                format!("{symbol},{at},{previous},9999.5,{volume},{}\n", price.trim_matches('"'))
            }
        }
    }

    /// An error that looks like a good answer from outside, with numbers in it.
    fn error_with_http_200(self) -> Answer {
        Answer::ok(match self {
            Self::Massive => r#"{"status":"ERROR","error":"AAPL 9999.5"}"#,
            Self::Alpaca => r#"{"error":"AAPL 9999.5"}"#,
            Self::Tiingo => r#"{"detail":"AAPL 9999.5"}"#,
            Self::Yahoo => r#"{"message":"AAPL 9999.5"}"#,
            Self::Csv => "Exceeded the daily hits limit of 9999.5",
        })
    }
}

/// A line as a trap of that number has it; no line at all, or two of them.
fn trapped(symbol: &'static str, trap: usize, now: DateTime<Utc>, price: f64) -> Vec<Line> {
    let good =
        Line { symbol, price: price.to_string(), at: Some(now - TimeDelta::seconds(2)), previous: 40.0, volume: 1_000 };
    let with_price = |price: &str| vec![Line { price: price.to_owned(), ..good.clone() }];
    let with_time = |at: Option<DateTime<Utc>>| vec![Line { at, price: (price + 1.0).to_string(), ..good.clone() }];
    match trap {
        0 => with_price("NaN"),
        1 => with_price("-Infinity"),
        2 => with_price("0"),
        3 => with_price("-40.5"),
        4 => with_price("1e300"),
        5 => with_price("\"forty\""),
        6 => with_price(""),
        7 => with_time(None),
        8 => with_time(Some(now + TimeDelta::minutes(6))),
        9 => with_time(Some(now + TimeDelta::days(400))),
        10 => with_time(Some(instant("2237-03-15T14:00:00Z"))),
        11 => with_time(Some(now - TimeDelta::days(400))),
        12 => with_time(Some(instant("1970-01-01T00:00:00Z"))),
        13 => Vec::new(),
        14 => {
            let older =
                Line { at: Some(now - TimeDelta::minutes(4)), price: (price - 1.0).to_string(), ..good.clone() };
            vec![good, older]
        }
        _ => vec![good],
    }
}

const TRAPS: usize = 18;

/// The price that is wrong by itself: not every answer can hold it.
fn is_json(price: &str) -> bool {
    !price.is_empty()
}

struct Market {
    kind: Kind,
    world: World,
    host: SimHost,
    lines: Arc<Mutex<Vec<Line>>>,
    /// Each line that was ever said with a number for a price.
    said: BTreeSet<String>,
    _universe: tempfile::NamedTempFile,
}

async fn market(kind: Kind) -> Market {
    let universe = tempfile::NamedTempFile::new().unwrap();
    write_universe(universe.path(), SYMBOLS.iter().map(|(symbol, _)| (*symbol).to_owned()));
    let mut world = World::at("2027-03-15T13:29:00Z", Engine::Sqlite, &[]).await;
    let lines: Arc<Mutex<Vec<Line>>> = Arc::default();
    let shown = Arc::clone(&lines);
    let host = SimHost::start(Arc::clone(&world.clock) as SharedClock, None, move |asked: &Asked| {
        match (kind, asked.path.as_str()) {
            (Kind::Yahoo, "/cookie") => Answer::ok("").with("set-cookie", "A3=c; Path=/"),
            (Kind::Yahoo, "/v1/test/getcrumb") => Answer::ok("crumb"),
            _ => Answer::ok(kind.body(&shown.lock().unwrap(), asked.now)),
        }
    })
    .await;
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.path().display().to_string());
    for (name, value) in kind.settings(&host.url()) {
        world.set(&format!("BELLWETHER_INGEST__{name}"), &value);
    }
    Market { kind, world, host, lines, said: BTreeSet::new(), _universe: universe }
}

fn row(symbol: &str, price: &Value, at: DateTime<Utc>, previous: &Value, volume: &Value) -> String {
    format!("{symbol} {price} {} {previous} {volume}", at.timestamp())
}

impl Market {
    /// From now on this is said.
    fn say(&mut self, lines: Vec<Line>) {
        let lines: Vec<Line> =
            lines.into_iter().filter(|line| self.kind == Kind::Csv || is_json(&line.price)).collect();
        for Line { symbol, price, at, previous, volume } in &lines {
            if let (Ok(price), Some(at)) = (price.parse::<f64>(), at) {
                self.said.insert(row(symbol, &json!(price), *at, &json!(previous), &json!(volume)));
            }
        }
        *self.lines.lock().unwrap() = lines;
    }

    fn say_all_well(&mut self, now: DateTime<Utc>, price: f64) {
        self.say(SYMBOLS.iter().flat_map(|(symbol, _)| trapped(symbol, TRAPS, now, price)).collect());
    }

    /// Nothing is shown that was not said, whole; gives how many are.
    async fn nothing_is_invented(&self, running: &Running) -> usize {
        let (_, page) = running.get("/api/v1/quotes?limit=500").await;
        let quotes = page["quotes"].as_array().unwrap();
        for quote in quotes {
            let at: DateTime<Utc> = quote["at"].as_str().unwrap().parse().unwrap();
            let shown =
                row(quote["symbol"].as_str().unwrap(), &quote["price"], at, &quote["previous_close"], &quote["volume"]);
            assert!(self.said.contains(&shown), "{:?} never said {shown}: {:#?}", self.kind, self.said);
            assert!(at <= self.world.clock_now() + TimeDelta::minutes(5), "{quote}");
        }
        quotes.len()
    }
}

async fn nothing_is_invented_by(kind: Kind) {
    let mut market = market(kind).await;
    market.say_all_well(instant("2027-03-15T13:29:00Z"), 40.25);
    let running = market.world.start().await;
    running.stats().await;
    assert_eq!(market.nothing_is_invented(&running).await, SYMBOLS.len());
    let mut at = instant("2027-03-15T13:30:00Z");
    for cycle in 0..TRAPS {
        let price = 40.5 + f64::from(u32::try_from(cycle).unwrap()) / 8.0;
        let trap =
            |(index, (symbol, _)): (usize, &(&'static str, _))| trapped(symbol, (cycle + index * 7) % TRAPS, at, price);
        market.say(SYMBOLS.iter().enumerate().flat_map(trap).collect());
        market.world.cycle(&running, &at.to_rfc3339()).await;
        market.nothing_is_invented(&running).await;
        at += TimeDelta::minutes(3);
    }
    // Whole answers that are none, each followed by a good one.
    let refused = Trouble::Instead(Answer::refused(429, "9999.5").with("retry-after", 20));
    let troubles = [
        (refused, 20),
        (Trouble::Instead(kind.error_with_http_200()), 0),
        (Trouble::CutOff, 0),
        (Trouble::BrokenGzip, 0),
        // Its client gives it up by itself, long before the cycle would end.
        (Trouble::SlowDrip, 0),
    ];
    for (trouble, fewest_seconds) in troubles {
        market.say_all_well(at, 45.0);
        market.host.trouble([trouble.clone()]);
        let calls = market.host.calls();
        let report = market.world.cycle(&running, &at.to_rfc3339()).await;
        // Half a table is a table: what is in it counts.
        if (kind, &trouble) != (Kind::Csv, &Trouble::CutOff) {
            assert_eq!(
                (&report["fresh"], &report["requests"]),
                (&json!(SYMBOLS.len()), &json!(2)),
                "{kind:?} {trouble:?}: {report}"
            );
            assert_eq!(market.host.calls() - calls, 2, "{kind:?} {trouble:?}");
        }
        let run = market.world.ledger(&running, "ingest").await.pop().unwrap();
        let took = (run.finished_at.unwrap() - run.scheduled_for).num_seconds();
        assert!(took >= fewest_seconds, "{kind:?} {trouble:?}: {took} s");
        assert_eq!(market.nothing_is_invented(&running).await, SYMBOLS.len());
        at += TimeDelta::minutes(3);
    }
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_invented_of_what_massive_says() {
    nothing_is_invented_by(Kind::Massive).await;
}

#[tokio::test]
async fn nothing_is_invented_of_what_alpaca_says() {
    nothing_is_invented_by(Kind::Alpaca).await;
}

#[tokio::test]
async fn nothing_is_invented_of_what_tiingo_says() {
    nothing_is_invented_by(Kind::Tiingo).await;
}

#[tokio::test]
async fn nothing_is_invented_of_what_yahoo_says() {
    nothing_is_invented_by(Kind::Yahoo).await;
}

#[tokio::test]
async fn nothing_is_invented_of_what_a_csv_says() {
    nothing_is_invented_by(Kind::Csv).await;
}
