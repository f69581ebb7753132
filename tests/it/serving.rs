//! What an API client sees of the default daemon, whatever the hour.

use futures_util::FutureExt;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Engine, World, eventually, instant};

#[tokio::test]
async fn with_the_market_closed_it_is_useful_at_once_and_says_that_prices_are_simulated() {
    let world = World::at("2027-03-13T12:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let stats = running.stats().await;
    assert!(stats["market_overview"]["total_stocks"].as_u64().unwrap() >= 500, "{stats}");
    assert_eq!(stats["meta"]["source"], "simulated");
    assert_eq!(stats["meta"]["simulated"], true);
    assert_eq!(stats["meta"]["phase"], "closed");
    assert_eq!(stats["meta"]["stale"], false);
    assert_eq!(stats["meta"]["age_seconds_market"], 0);
    // The prices are those of Friday's close.
    assert_eq!(stats["meta"]["as_of"], "2027-03-12T21:00:00Z");
    let runs = world.ledger(&running, "ingest").await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].origin.name(), "cold_start");
    running.stop().await;
}

#[tokio::test]
async fn the_last_snapshot_is_served_at_once_after_a_restart_with_its_age() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let first = world.start().await;
    let before = first.stats().await;
    first.stop().await;
    world.clock.advance_to(instant("2027-03-15T14:20:00Z"));
    let second = world.start().await;
    let (status, after) = second.get("/api/market-stats/").await;
    assert_eq!(status, 200, "served before any new cycle");
    assert_eq!(after["meta"]["as_of"], before["meta"]["as_of"]);
    assert_eq!(after["market_overview"], before["market_overview"]);
    assert!(after["meta"]["age_seconds_market"].as_i64().unwrap() >= 1_190, "{}", after["meta"]);
    assert_eq!(after["meta"]["stale"], true);
    assert!(after["meta"]["cause"].as_str().unwrap().contains("s of trading ago"), "{}", after["meta"]);
    // The next slot mends it.
    world.advance_to(&second, instant("2027-03-15T14:21:00Z")).await;
    let mended = second.stats().await;
    assert_eq!(mended["meta"]["stale"], false);
    assert_ne!(mended["meta"]["cycle_id"], before["meta"]["cycle_id"]);
    second.stop().await;
}

#[tokio::test]
async fn every_read_path_answers_with_and_without_the_slash_and_a_tag_is_not_sent_twice() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    for path in [
        "/api/market-stats",
        "/api/platform-stats",
        "/api/stocks",
        "/api/stocks/AAPL",
        "/api/stocks/aapl/quote",
        "/api/stock/BRK.B",
        "/api/realtime/AAPL",
        "/api/stocks/search?q=apple",
        "/api/search?q=a",
        "/api/stocks/top-gainers",
        "/api/stocks/top-losers?limit=3",
        "/api/stocks/most-active",
        "/api/trending",
        "/api/statistics",
        "/api/stats/total-tickers",
        "/api/stats/gainers-losers",
    ] {
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let url = |slash: &str| format!("http://{}{name}{slash}?{query}", running.daemon.api);
        let plain = running.http.get(url("")).send().await.unwrap();
        let tag = plain.headers()["etag"].to_str().unwrap().to_owned();
        assert!(plain.headers()["cache-control"].to_str().unwrap().starts_with("public, max-age="));
        let text = plain.text().await.unwrap();
        assert!(serde_json::from_str::<Value>(&text).unwrap()["meta"]["simulated"] == true, "{path}: {text}");
        let slashed = running.http.get(url("/")).header("If-None-Match", &tag).send().await.unwrap();
        assert_eq!(slashed.status(), 304, "{path}");
        assert_eq!(slashed.text().await.unwrap(), "");
    }
    running.stop().await;
}

#[tokio::test]
async fn answers_come_in_the_encoding_a_client_likes_best_and_any_of_its_tags_is_known() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let http = reqwest::Client::builder().no_gzip().build().unwrap();
    // One that is made beforehand, one that is made when it is asked for, and one that is too short to be worth it.
    for (path, compressed) in [
        ("/api/market-stats/", true),
        ("/api/stocks/?limit=50", true),
        ("/api/v1/calendar/XNYS/sessions?from=2027-01-01&to=2027-12-31", true),
        ("/api/stats/total-tickers/", false),
    ] {
        let url = format!("http://{}{path}", running.daemon.api);
        let plain = http.get(&url).send().await.unwrap();
        assert_eq!(
            (plain.headers().get("content-encoding"), &plain.headers()["vary"]),
            (None, &"accept-encoding, origin".parse().unwrap())
        );
        let tag = plain.headers()["etag"].clone();
        let plain = plain.bytes().await.unwrap();
        for (accept, expected) in [("br, gzip", "br"), ("gzip", "gzip"), ("zstd, br;q=0.9", "zstd"), ("br;q=0", "")] {
            let answer = http.get(&url).header("Accept-Encoding", accept).send().await.unwrap();
            let encoding =
                answer.headers().get("content-encoding").map_or("", |name| name.to_str().unwrap()).to_owned();
            assert_eq!(encoding, if compressed { expected } else { "" }, "{path} {accept}");
            let its_tag = answer.headers()["etag"].clone();
            assert_eq!(its_tag == tag, encoding.is_empty(), "each encoding has a tag of its own");
            let bytes = answer.bytes().await.unwrap();
            assert_eq!(decoded(&encoding, &bytes), plain, "{path} {accept}");
            // What the client has is right, however the next answer would be written.
            let known = http.get(&url).header("If-None-Match", &its_tag).header("Accept-Encoding", "zstd");
            let known = known.send().await.unwrap();
            assert_eq!((known.status().as_u16(), &known.headers()["etag"]), (304, &its_tag), "{path} {accept}");
            assert_eq!(known.headers()["vary"], "accept-encoding, origin");
        }
    }
    running.stop().await;
}

/// The hot paths, which are answered before the framework; two slashes lead past that.
const HOT: [&str; 10] = [
    "/api/market-stats",
    "/api/platform-stats",
    "/api/stocks/top-gainers",
    "/api/stocks/top-losers",
    "/api/stocks/most-active",
    "/api/trending",
    "/api/statistics",
    "/api/stats/total-tickers",
    "/api/stats/gainers-losers",
    "/api/v1/stats",
];

#[tokio::test]
async fn the_short_way_and_the_long_way_give_the_same_answer() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[("ALLOWED_HOSTS", "127.0.0.1")]).await;
    let running = world.start().await;
    running.stats().await;
    let http = reqwest::Client::builder().no_gzip().build().unwrap();
    for path in HOT {
        let (short, long) = (path.to_owned(), format!("/{path}"));
        let mut answers = Vec::new();
        for path in [&short, &format!("{short}/"), &long] {
            let url = format!("http://{}{path}", running.daemon.api);
            for (method, name, value) in [
                ("GET", "accept-encoding", "br"),
                ("GET", "accept-encoding", "identity"),
                ("HEAD", "accept-encoding", "gzip"),
                ("GET", "if-none-match", "*"),
                ("GET", "if-none-match", "\"another\""),
                ("GET", "origin", "http://localhost:3000"),
                ("GET", "origin", "http://localhost:3001"),
                ("GET", "host", "evil.example"),
                ("POST", "content-type", "application/json"),
            ] {
                let request = http.request(method.parse().unwrap(), &url).header(name, value);
                let answer = request.header("X-Request-Id", "the-client's-own").send().await.unwrap();
                let status = answer.status().as_u16();
                let mut headers = answer.headers().clone();
                assert_eq!(headers["x-request-id"], "the-client's-own", "{method} {path} {name}");
                headers.remove("date");
                if method == "HEAD" {
                    // The framework forgets the length of what it does not send.
                    headers.remove("content-length");
                }
                let mut headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
                headers.sort();
                answers.push((status, headers, answer.bytes().await.unwrap()));
            }
        }
        let (first, others) = answers.split_at(9);
        let (second, third) = others.split_at(9);
        assert_eq!(first, second, "{path}");
        assert_eq!(first, third, "{path}");
        let statuses: Vec<u16> = first.iter().map(|(status, ..)| *status).collect();
        assert_eq!(statuses, [200, 200, 200, 304, 200, 200, 200, 400, 405], "{path}");
        assert_eq!(first[2].2.len(), 0, "HEAD has no body");
    }
    // Every answer has an id, also where the client's own cannot be used.
    let url = format!("http://{}/api/trending/", running.daemon.api);
    let mut ids = std::collections::BTreeSet::new();
    for given in ["", "with space", &"x".repeat(129)] {
        let answer = http.get(&url).header("X-Request-Id", given).send().await.unwrap();
        ids.insert(answer.headers()["x-request-id"].to_str().unwrap().parse::<uuid::Uuid>().unwrap());
    }
    assert_eq!(ids.len(), 3);
    let head = http.head(&url).send().await.unwrap();
    let length: u64 = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, http.get(&url).send().await.unwrap().bytes().await.unwrap().len() as u64);
    let page =
        http.get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap().text().await.unwrap();
    for (method, class) in [("GET", "2xx"), ("GET", "3xx"), ("HEAD", "2xx"), ("GET", "4xx")] {
        let series = format!(
            "bellwether_http_request_duration_seconds_count{{method=\"{method}\",route=\"/api/trending\",status_class=\"{class}\"}}"
        );
        assert!(page.contains(&series), "no {series}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_is_read_comes_from_memory_also_while_the_database_is_away() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    running.daemon.store.close().await;
    eventually("the database is away", async || running.get("/readyz").await.0 == 503).await;
    let others = [
        "/api/stocks",
        "/api/stocks/AAPL",
        "/api/realtime/AAPL",
        "/api/stocks/search?q=a",
        "/api/stocks/top-losers?limit=3",
        "/api/v1/quotes",
        "/api/v1/quotes?symbols=AAPL,NOSUCH&sort=-price",
        "/api/v1/quotes/AAPL",
    ];
    for path in HOT.into_iter().chain(others).chain(["/api/market-hours", "/livez"]) {
        assert_eq!(running.get(path).await.0, 200, "{path}");
    }
    let url = format!("http://{}/api/v1/stream", running.daemon.api);
    let mut stream = running.http.get(url).send().await.unwrap();
    let mut told = Vec::new();
    while !String::from_utf8_lossy(&told).contains("\nevent: stats\n") {
        told.extend(stream.chunk().await.unwrap().unwrap());
    }
    drop(stream);
    running.daemon.stop().await;
}

fn decoded(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut decoded = Vec::new();
    let read = match encoding {
        "br" => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut decoded),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
        "zstd" => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut decoded),
        _ => return bytes.to_vec(),
    };
    read.unwrap();
    decoded
}

#[tokio::test]
async fn what_cannot_be_answered_says_why_in_the_old_and_the_new_manner() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[("ALLOWED_HOSTS", "127.0.0.1")]).await;
    let running = world.start().await;
    running.stats().await;
    for (path, status, code) in [
        ("/api/stocks/NOSUCH/", 404, "not_found"),
        ("/api/stocks/search/", 400, "bad_parameter"),
        ("/api/billing/process-renewals", 405, "method_not_allowed"),
        ("/no/such/path", 404, "not_found"),
        ("/", 404, "not_found"),
    ] {
        let (answered, body) = running.get(path).await;
        assert_eq!(answered, status, "{path}: {body}");
        assert_eq!(body["code"], code, "{path}: {body}");
        assert!(body["request_id"].is_string(), "{path}: {body}");
        if path.starts_with("/api") {
            assert_eq!((&body["success"], body["error"].is_string()), (&Value::Bool(false), true), "{path}: {body}");
        }
    }
    // The old clients are told where else to look; the new paths have none of this.
    let (_, body) = running.get("/api/stocks/NOSUCH/").await;
    assert_eq!(body["available_endpoints"], serde_json::json!(["/api/stocks/", "/api/stocks/search/"]));
    assert_eq!(running.get("/api/v1/quotes/NOSUCH").await.1.get("available_endpoints"), None);
    let url = format!("http://{}/api/billing/process-renewals", running.daemon.api);
    assert_eq!(running.http.get(url).send().await.unwrap().headers()["allow"], "POST");
    let url = format!("http://{}/api/market-stats/", running.daemon.api);
    assert_eq!(running.http.delete(url).send().await.unwrap().headers()["allow"], "GET, HEAD");
    // Every answer is what it says it is: before the framework, after it, errors, and what was not changed.
    for (path, header) in [
        ("/api/market-stats/", "x-none"),
        ("/api/market-stats/", "if-none-match"),
        ("/api/stocks/", "x-none"),
        ("/api/v1/stream", "x-none"),
        ("/api/stocks/NOSUCH/", "x-none"),
        ("/no/such/path", "x-none"),
        ("/livez", "x-none"),
    ] {
        let url = format!("http://{}{path}", running.daemon.api);
        let answer = running.http.get(url).header(header, "*").send().await.unwrap();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path} {header}");
    }
    let url = format!("http://{}/livez", running.daemon.api);
    let foreign = running.http.get(&url).header("Host", "evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 400);
    let named = running.http.get(&url).header("X-Request-Id", "from-the-client").send().await.unwrap();
    assert_eq!(named.headers()["x-request-id"], "from-the-client");
    running.stop().await;
}

#[tokio::test]
async fn a_limit_of_an_older_path_is_the_nearest_that_can_be_used_and_never_refused() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    for (limit, rows) in
        [("500", 100), ("101", 100), ("0", 1), ("-4", 1), ("", 10), ("abc", 10), ("3", 3), ("2&limit=5", 5)]
    {
        let (status, body) = running.get(&format!("/api/stocks/most-active/?limit={limit}")).await;
        assert_eq!((status, &body["count"]), (200, &rows.into()), "limit={limit}");
    }
    for (query, rows) in
        [("limit=1000", 100), ("limit=abc", 50), ("limit=0", 0), ("category=large_cap", 0), ("min_pe=5", 0)]
    {
        let (status, body) = running.get(&format!("/api/stocks/?{query}")).await;
        assert_eq!((status, &body["count"]), (200, &rows.into()), "{query}: {body}");
        assert_eq!(body["data"], body["results"], "{query}");
    }
    running.stop().await;
}

#[tokio::test]
async fn health_tells_living_started_ready_and_each_part() {
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    for path in ["/livez", "/live/", "/startupz", "/readyz", "/ready/", "/api/health/", "/api/health/detailed/"] {
        eventually(path, async || running.get(path).await.0 == 200).await;
    }
    let (_, hours) = running.get("/api/market-hours/").await;
    assert_eq!((&hours["phase"], &hours["is_open"]), (&"regular".into(), &true.into()), "{hours}");
    assert_eq!(hours["next_transition"], "2027-03-15T20:00:00Z");
    running.stop().await;
}

#[tokio::test]
async fn readers_are_told_of_a_new_phase_without_a_new_cycle() {
    let world = World::at("2027-03-15T19:59:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let before = running.stats().await;
    assert_eq!(before["meta"]["phase"], "regular");
    world.advance_to(&running, instant("2027-03-15T20:00:01Z")).await;
    eventually("the phase is told", async || running.stats().await["meta"]["phase"] == "post").await;
    let after = running.stats().await;
    assert_eq!(after["meta"]["cycle_id"], before["meta"]["cycle_id"]);
    running.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_its_connection_and_one_that_goes_on_asking_stays() {
    let world = World::at("2027-03-13T12:00:00Z", Engine::Sqlite, &[("BELLWETHER_HTTP__READ_TIMEOUT_SECONDS", "1")]);
    let world = world.await;
    let running = world.start().await;
    running.stats().await;
    let connect = async || TcpStream::connect(running.daemon.api).await.unwrap();
    let (idle, mut slow, mut busy) = (connect().await, connect().await, connect().await);
    slow.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let (slow_answer, mut drip) = slow.into_split();
    let mut ended = Box::pin(async { tokio::join!(read_to_end(idle), read_to_end(slow_answer)) });
    let (mut asked, mut buffer) = (0_u32, vec![0; 4_096]);
    // Asking and dripping do not end before the others are; each answer is whole in one read.
    let ends = loop {
        busy.write_all(b"GET /api/stats/total-tickers/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let read = busy.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "after {asked} answers");
        asked += 1;
        if asked.is_power_of_two() {
            let _ = drip.write_all(b"s").await;
        }
        if let Some(ends) = (&mut ended).now_or_never() {
            break ends;
        }
    };
    // Neither got what a wrong head gets.
    assert_eq!(ends, (Vec::new(), Vec::new()));
    assert!(asked > 10, "{asked}");
    running.stop().await;
}

/// What comes until the other side ends the connection.
async fn read_to_end(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}
