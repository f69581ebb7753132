//! A provider that costs as little as can be: bodies are made before anybody asks. It answers as Massive's full-market snapshot does,
//! as Alpaca's snapshots of some symbols do, and one symbol at a time for whoever asks that way.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

struct Stub {
    delay: Duration,
    symbols: usize,
    /// One after another, each a second newer and a cent dearer than the one before, so that no cycle finds what it knows.
    bodies: Vec<Bytes>,
    asked: AtomicUsize,
    began: DateTime<Utc>,
}

/// The symbol at `index`.
pub fn symbol(index: usize) -> String {
    format!("S{index:05}")
}

/// Serves until standard input ends; prints its address first.
pub async fn serve(delay: Duration, symbols: usize, bodies: usize) {
    let began = Utc::now();
    let bodies = (0..bodies).map(|round| snapshot(symbols, round, began)).collect();
    let stub = Arc::new(Stub { delay, symbols, bodies, asked: AtomicUsize::default(), began });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    tokio::select! {
        () = accept(listener, stub) => {}
        () = super::until_told() => {}
    }
}

async fn accept(listener: TcpListener, stub: Arc<Stub>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stub = Arc::clone(&stub);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&stub), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(stub: Arc<Stub>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(stub.delay).await;
    let body = match request.uri().path() {
        "/v2/snapshot/locale/us/markets/stocks/tickers" => {
            let asked = stub.asked.fetch_add(1, Ordering::Relaxed);
            stub.bodies[asked.min(stub.bodies.len() - 1)].clone()
        }
        "/v2/stocks/snapshots" => some(&stub, request.uri().query().unwrap_or_default()),
        path => Bytes::from(format!("{{\"symbol\":\"{}\",\"price\":20.506}}", path.rsplit('/').next().unwrap_or(path))),
    };
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::new(body)).unwrap())
}

/// The whole market as Massive writes it.
fn snapshot(symbols: usize, round: usize, began: DateTime<Utc>) -> Bytes {
    let at = (began - TimeDelta::minutes(1) + TimeDelta::seconds(i64::try_from(round).unwrap()))
        .timestamp_nanos_opt()
        .unwrap();
    let mut body = String::with_capacity(symbols * 600);
    write!(body, "{{\"count\":{symbols},\"status\":\"OK\",\"tickers\":[").unwrap();
    for index in 0..symbols {
        let (price, before) = prices(index, round);
        let comma = if index == 0 { "" } else { "," };
        write!(
            body,
            "{comma}{{\"ticker\":\"{}\",\"todaysChange\":{:.4},\"todaysChangePerc\":0.6013,\"updated\":{at},\
             \"day\":{{\"o\":{before},\"h\":{:.2},\"l\":{:.2},\"c\":{price},\"v\":{},\"vw\":{price}}},\
             \"lastQuote\":{{\"P\":{:.2},\"S\":22,\"p\":{:.2},\"s\":13,\"t\":{at}}},\
             \"lastTrade\":{{\"c\":[14,41],\"i\":\"71675577320245\",\"p\":{price},\"s\":2416,\"t\":{at},\"x\":4}},\
             \"min\":{{\"av\":37216,\"t\":1684428600000,\"n\":5,\"o\":{price},\"h\":{price},\"l\":{price},\"c\":{price},\"v\":5000,\"vw\":{price}}},\
             \"prevDay\":{{\"o\":{before},\"h\":{before},\"l\":{before},\"c\":{before},\"v\":292738,\"vw\":{before}}}}}",
            super::stub::symbol(index),
            price - before,
            price + 0.4,
            price - 0.4,
            30_000 + index * 17 + round * 1_000,
            price + 0.01,
            price - 0.01,
        )
        .unwrap();
    }
    body.push_str("]}");
    Bytes::from(body)
}

/// The symbols of a query as Alpaca writes them.
fn some(stub: &Stub, query: &str) -> Bytes {
    let at = stub.began.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("symbols=")).unwrap_or_default().replace("%2C", ",");
    let mut body = String::from("{");
    let known = asked.split(',').filter_map(|name| Some((name, name.strip_prefix('S')?.parse::<usize>().ok()?)));
    for (name, index) in known.filter(|(_, index)| *index < stub.symbols) {
        let (price, before) = prices(index, 0);
        let comma = if body.len() == 1 { "" } else { "," };
        write!(
            body,
            "{comma}\"{name}\":{{\"latestTrade\":{{\"t\":\"{at}\",\"x\":\"Q\",\"p\":{price},\"s\":160,\"c\":[\"@\",\"T\"],\"i\":1011,\"z\":\"C\"}},\
             \"latestQuote\":{{\"t\":\"{at}\",\"ax\":\"Q\",\"ap\":{:.2},\"as\":5,\"bx\":\"Q\",\"bp\":{:.2},\"bs\":2,\"c\":[\"R\"],\"z\":\"C\"}},\
             \"minuteBar\":{{\"t\":\"{at}\",\"o\":{price},\"h\":{price},\"l\":{price},\"c\":{price},\"v\":106,\"n\":3,\"vw\":{price}}},\
             \"dailyBar\":{{\"t\":\"{at}\",\"o\":{before},\"h\":{price},\"l\":{before},\"c\":{price},\"v\":56457696,\"n\":515139,\"vw\":{price}}},\
             \"prevDailyBar\":{{\"t\":\"{at}\",\"o\":{before},\"h\":{before},\"l\":{before},\"c\":{before},\"v\":54091719,\"n\":501626,\"vw\":{before}}}}}",
            price + 0.01,
            price - 0.01,
        )
        .unwrap();
    }
    body.push('}');
    Bytes::from(body)
}

/// The price, and the close before it.
fn prices(index: usize, round: usize) -> (f64, f64) {
    let cents = 500 + index * 37 % 30_000;
    ((cents + round + index % 3) as f64 / 100.0, cents as f64 / 100.0)
}
