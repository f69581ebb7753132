//! A simulated Massive, as strict as the real one: bearer key, five calls in any minute, its error bodies, gzip, and the
//! zeros that mean "not set". The prices are made up.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether::clock::SharedClock;
use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use poem::http::{StatusCode, header};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Endpoint, Request, Response, Server};
use serde_json::{Value, json};

/// The key that is accepted.
pub const KEY: &str = "canary-massive-key";

const PATH: &str = "/v2/snapshot/locale/us/markets/stocks/tickers";

/// What the next calls get instead of the snapshot, one each.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// An HTTP error with the provider's body, and `Retry-After` where given.
    Refusal(u16, Option<u64>),
    /// HTTP 200 with an error inside.
    ErrorInside,
    /// A body that ends too soon, under its full length.
    CutOff,
    /// Compressed bytes that end too soon.
    BrokenGzip,
    /// No answer for longer than a client waits.
    Silence(Duration),
}

/// How one symbol is quoted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Manner {
    /// A trade of this session.
    Traded,
    /// As after the daily clear: zeros, but for the day before.
    Cleared,
    /// Not in the answer.
    Absent,
    /// The last trade is months old.
    Months,
    /// With a time that is not as documented.
    Garbled,
    /// No trade in the answer, as on plans without trades: the minute bar must do.
    WithoutTrades,
}

type MannerOf = Box<dyn Fn(usize, &str) -> Manner + Send + Sync>;

struct Inner {
    clock: SharedClock,
    symbols: Vec<String>,
    manner: MannerOf,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    allowed: VecDeque<Duration>,
    troubles: VecDeque<Trouble>,
    total: usize,
    refused_for_quota: usize,
    delayed: bool,
}

/// The provider, until dropped.
#[derive(Clone)]
pub struct SimMassive {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl SimMassive {
    /// Listens on a free port of loopback and answers for `symbols` in the provider's own spelling.
    pub async fn start(
        clock: SharedClock,
        symbols: Vec<String>,
        manner: impl Fn(usize, &str) -> Manner + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(Inner { clock, symbols, manner: Box::new(manner), calls: Mutex::default() });
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let app = App(Arc::clone(&inner));
        tokio::spawn(async move { Server::new_with_acceptor(acceptor).run(app).await });
        Self { address, inner }
    }

    /// The settings of a daemon that is to use it.
    pub fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("BELLWETHER_INGEST__PROVIDER", "massive".to_owned()),
            ("BELLWETHER_INGEST__MASSIVE__BASE_URL", format!("http://{}", self.address)),
            ("BELLWETHER_INGEST__MASSIVE__API_KEY", KEY.to_owned()),
        ]
    }

    /// The next calls get these, in order.
    pub fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.inner.calls.lock().unwrap().troubles.extend(troubles);
    }

    /// No more of what [`SimMassive::trouble`] has left.
    pub fn forgive(&self) {
        self.inner.calls.lock().unwrap().troubles.clear();
    }

    /// From now on the answers say that their data is delayed.
    pub fn delay(&self) {
        self.inner.calls.lock().unwrap().delayed = true;
    }

    /// Calls so far, refused ones too.
    pub fn calls(&self) -> usize {
        self.inner.calls.lock().unwrap().total
    }

    /// Calls that broke the quota.
    pub fn refused_for_quota(&self) -> usize {
        self.inner.calls.lock().unwrap().refused_for_quota
    }
}

struct App(Arc<Inner>);

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        Ok(self.0.answer(&request).await)
    }
}

impl Inner {
    async fn answer(&self, request: &Request) -> Response {
        self.calls.lock().unwrap().total += 1;
        if request.uri().path() != PATH || request.method() != "GET" {
            return Response::builder().status(StatusCode::NOT_FOUND).body("404 page not found");
        }
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if authorization != Some(&format!("Bearer {KEY}")) {
            return refusal(401, None, "Unknown API Key");
        }
        let gzip = request.headers().get(header::ACCEPT_ENCODING);
        let gzip = gzip.and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("gzip"));
        if let Some(refused) = self.count() {
            return refused;
        }
        let (trouble, delayed) = {
            let mut calls = self.calls.lock().unwrap();
            (calls.troubles.pop_front(), calls.delayed)
        };
        let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let named: Vec<String> = query
            .filter(|(name, _)| name == "tickers")
            .flat_map(|(_, list)| list.split(',').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let body = self.body(if delayed { "DELAYED" } else { "OK" }, &named);
        match trouble {
            None if gzip => respond(&squeeze(&body), "gzip"),
            None => respond(&body, "identity"),
            Some(Trouble::Refusal(status, after)) => refusal(status, after, "as the test wanted it"),
            Some(Trouble::ErrorInside) => {
                respond(br#"{"status":"ERROR","request_id":"r-1","error":"snapshot is being rebuilt"}"#, "identity")
            }
            Some(Trouble::CutOff) => respond(&body[..body.len() / 2], "identity"),
            Some(Trouble::BrokenGzip) => {
                let squeezed = squeeze(&body);
                respond(&squeezed[..squeezed.len() / 2], "gzip")
            }
            Some(Trouble::Silence(span)) => {
                silence(span).await;
                respond(&body, "identity")
            }
        }
    }

    /// Five in any sixty seconds, as the provider counts: refused calls count as well.
    fn count(&self) -> Option<Response> {
        const QUOTA: usize = 5;
        let now = self.clock.monotonic();
        let mut calls = self.calls.lock().unwrap();
        calls.allowed.retain(|at| now - *at < Duration::from_mins(1));
        calls.allowed.push_back(now);
        (calls.allowed.len() > QUOTA).then(|| {
            calls.refused_for_quota += 1;
            refusal(
                429,
                None,
                "You've exceeded the maximum requests per minute, please wait or upgrade your subscription",
            )
        })
    }

    /// Of the symbols that were named, or of all where none was.
    fn body(&self, status: &str, named: &[String]) -> Vec<u8> {
        let now = self.clock.now();
        let tickers = self.symbols.iter().enumerate().filter_map(|(index, symbol)| {
            let manner = (self.manner)(index, symbol);
            let wanted = named.is_empty() || named.contains(symbol);
            (wanted && manner != Manner::Absent).then(|| ticker(index, symbol, manner, now))
        });
        let tickers: Vec<Value> = tickers.collect();
        json!({ "count": tickers.len(), "status": status, "tickers": tickers }).to_string().into_bytes()
    }
}

fn ticker(index: usize, symbol: &str, manner: Manner, now: DateTime<Utc>) -> Value {
    let before = if symbol == "BRK.A" { 710_000.0 } else { 10.0 + (index % 500) as f64 / 4.0 };
    let price = if symbol == "BRK.A" { 712_345.5 } else { before * (1.0 + (index % 21) as f64 / 1_000.0 - 0.01) };
    let price = (price * 10_000.0).round() / 10_000.0;
    let traded_at = match manner {
        Manner::Months => now - TimeDelta::days(90),
        _ => now - TimeDelta::seconds(3),
    };
    let nanoseconds = traded_at.timestamp_nanos_opt().unwrap();
    let bar =
        |close: f64, volume: u64| json!({"o": close, "h": close, "l": close, "c": close, "v": volume, "vw": close});
    let zeros = bar(0.0, 0);
    match manner {
        Manner::Cleared => json!({
            "ticker": symbol, "todaysChange": 0, "todaysChangePerc": 0, "updated": 0, "day": zeros, "min": zeros,
            "lastTrade": {"p": 0, "s": 0, "t": 0, "x": 0}, "lastQuote": {"P": 0, "S": 0, "p": 0, "s": 0, "t": 0},
            "prevDay": bar(before, 292_738),
        }),
        Manner::Garbled => json!({"ticker": symbol, "updated": nanoseconds, "lastTrade": {"p": price, "t": "now"}}),
        Manner::WithoutTrades => json!({
            "ticker": symbol, "updated": nanoseconds, "day": bar(price, 37_216),
            "min": {"av": 37_216, "t": traded_at.timestamp_millis(), "c": price, "v": 5_000}, "prevDay": bar(before, 292_738),
        }),
        _ => json!({
            "ticker": symbol, "todaysChange": price - before, "todaysChangePerc": 1.0, "updated": nanoseconds,
            "day": bar(price, 37_216 + index as u64), "min": bar(price, 5_000),
            "lastTrade": {"c": [14, 41], "i": "71675577320245", "p": price, "s": 2_416, "t": nanoseconds, "x": 4},
            "lastQuote": {"P": price + 0.01, "S": 22, "p": price - 0.01, "s": 13, "t": nanoseconds},
            "prevDay": bar(before, 292_738),
        }),
    }
}

fn refusal(status: u16, after: Option<u64>, error: &str) -> Response {
    let body = json!({ "status": "ERROR", "request_id": "6a7e466379af0a71039d60cc78e72282", "error": error });
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if let Some(seconds) = after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    response.content_type("application/json").body(body.to_string())
}

fn respond(body: &[u8], encoding: &str) -> Response {
    let response = Response::builder().content_type("application/json").header(header::CONTENT_ENCODING, encoding);
    response.body(body.to_vec())
}

fn squeeze(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a peer that is silent is silent in real time")]
async fn silence(span: Duration) {
    tokio::time::sleep(span).await;
}
