//! `/api/v1` about the market, the stream of states, and the document that describes it all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant};

async fn market() -> (World, Running) {
    let settings = [("OPERATOR_TOKEN", OPERATOR), ("BELLWETHER_HTTP__MAX_STREAMS", "3")];
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    running.stats().await;
    (world, running)
}

async fn ask(running: &Running, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let url = format!("http://{}{path}", running.daemon.api);
    headers
        .iter()
        .fold(running.http.get(url), |request, (name, value)| request.header(*name, *value))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn quotes_are_found_by_name_and_what_is_not_known_is_told() {
    let (_world, running) = market().await;
    let (status, page) = running.get("/api/v1/quotes?symbols=aapl,BRK.B,NOSUCH&fields=symbol,price,volume").await;
    assert_eq!(status, 200, "{page}");
    let quotes = page["quotes"].as_array().unwrap();
    assert_eq!(quotes.iter().map(|quote| quote["symbol"].as_str().unwrap()).collect::<Vec<_>>(), ["AAPL", "BRK.B"]);
    assert_eq!(quotes[0].as_object().unwrap().len(), 3);
    assert_eq!((&page["unknown"], &page["next_cursor"]), (&serde_json::json!(["NOSUCH"]), &Value::Null));
    assert_eq!(page["meta"]["simulated"], true);
    for path in ["/api/v1/quotes/BRK.B", "/api/v1/quotes/brk%2Eb/", "/api/v1/quotes/BRK.B?fields=symbol,price"] {
        let (status, one) = running.get(path).await;
        assert_eq!(
            (status, &one["quote"]["symbol"], &one["quote"]["price"]),
            (200, &"BRK.B".into(), &quotes[1]["price"])
        );
    }
    let (_, stats) = running.get("/api/v1/stats").await;
    assert!(stats["market"]["total"].as_u64().unwrap() >= 500, "{stats}");
    for (path, status, code, said) in [
        ("/api/v1/quotes?colour=green", 400, "unknown_parameter", "symbols, fields, search"),
        ("/api/v1/quotes/AAPL?symbols=A", 400, "unknown_parameter", "known: fields"),
        ("/api/v1/stats?limit=5", 400, "unknown_parameter", "none are"),
        ("/api/v1/quotes?min_price=cheap", 400, "bad_parameter", "min_price"),
        ("/api/v1/quotes?symbols=", 400, "bad_parameter", "symbols: no symbol is named"),
        ("/api/v1/quotes?symbols=%20,&limit=3", 400, "bad_parameter", "symbols: no symbol is named"),
        ("/api/v1/quotes?limit=1&limit=2", 400, "bad_parameter", "limit is given twice"),
        ("/api/v1/quotes/NOSUCH", 404, "not_found", "NOSUCH"),
        ("/api/v1/quotes/AAPL?fields=colour", 400, "bad_parameter", "choose from symbol"),
    ] {
        let (answered, body) = running.get(path).await;
        assert_eq!((answered, &body["code"]), (status, &code.into()), "{path}: {body}");
        assert!(body["detail"].as_str().unwrap().contains(said), "{path}: {body}");
        assert_eq!(body.get("success"), None, "the new API has no old members");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_list_comes_as_the_client_wants_it() {
    let (_world, running) = market().await;
    let path = "/api/v1/quotes?fields=symbol,name,price&sort=-price&limit=3&symbols=AAPL,MSFT,BRK.B,KO,NOSUCH";
    let answer = ask(&running, path, &[("Accept", "text/csv")]).await;
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    assert_eq!(answer.headers()["vary"], "accept, accept-encoding, origin");
    assert_eq!(answer.headers()["x-missing-symbols"], "NOSUCH");
    assert_eq!(answer.headers()["x-total-count"], "4");
    assert_eq!(answer.headers()["x-simulated"], "true");
    let link = answer.headers()["link"].to_str().unwrap().to_owned();
    let table = answer.text().await.unwrap();
    assert_eq!((table.lines().next(), table.lines().count()), (Some("symbol,name,price"), 4), "{table}");
    // The link leads on.
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    let lines = ask(&running, next, &[("Accept", "application/x-ndjson, */*;q=0.1")]).await;
    assert_eq!(
        (lines.headers()["content-type"].to_str().unwrap(), lines.headers().get("link")),
        ("application/x-ndjson", None)
    );
    let lines = lines.text().await.unwrap();
    assert_eq!(lines.lines().count(), 1);
    assert!(!table.contains(serde_json::from_str::<Value>(&lines).unwrap()["symbol"].as_str().unwrap()), "{lines}");
    let refused = ask(&running, path, &[("Accept", "text/html")]).await;
    assert_eq!(refused.status(), 406);
    assert!(refused.text().await.unwrap().contains("application/json, text/csv, application/x-ndjson"));
    // A table and an object are two representations, each with a tag of its own.
    let tag = |answer: &reqwest::Response| answer.headers()["etag"].to_str().unwrap().to_owned();
    let (json, csv) = (ask(&running, path, &[]).await, ask(&running, path, &[("Accept", "text/csv")]).await);
    assert_ne!(tag(&json), tag(&csv));
    let known = ask(&running, path, &[("Accept", "text/csv"), ("If-None-Match", &tag(&csv))]).await;
    assert_eq!(known.status(), 304);
    running.stop().await;
}

#[tokio::test]
async fn pages_begun_before_a_cycle_go_on_in_it() {
    let (world, running) = market().await;
    let (_, whole) = running.get("/api/v1/quotes?sort=-change_percent&limit=500").await;
    let total = whole["total"].as_u64().unwrap();
    let mut seen = Vec::new();
    let (mut path, mut cycles) = ("/api/v1/quotes?sort=-change_percent&limit=250".to_owned(), BTreeSet::new());
    for turn in 0.. {
        let (status, page) = running.get(&path).await;
        assert_eq!(status, 200, "{page}");
        cycles.insert(page["meta"]["cycle_id"].as_str().unwrap().to_owned());
        seen.extend(
            page["quotes"].as_array().unwrap().iter().map(|quote| quote["symbol"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/quotes?sort=-change_percent&limit=250&cursor={next}");
        if turn == 0 {
            world.advance_to(&running, instant("2027-03-15T14:03:00Z")).await;
            assert_ne!(running.stats().await["meta"]["cycle_id"], page["meta"]["cycle_id"]);
        }
    }
    assert_eq!((seen.len() as u64, seen.iter().collect::<BTreeSet<_>>().len() as u64, cycles.len()), (total, total, 1));
    // Long after, the cycle is gone and the pages go on in the newest.
    for at in ["2027-03-15T14:06:00Z", "2027-03-15T14:09:00Z"] {
        world.advance_to(&running, instant(at)).await;
    }
    let (status, page) = running.get(&path).await;
    assert_eq!(status, 200, "{page}");
    assert!(!cycles.contains(page["meta"]["cycle_id"].as_str().unwrap()));
    running.stop().await;
}

/// Reads until a whole event or comment has come.
async fn event(stream: &mut reqwest::Response) -> Option<String> {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap()?).unwrap();
    }
    Some(text)
}

fn id_of(event: &str) -> &str {
    event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap_or_else(|| panic!("no id: {event}"))
}

#[tokio::test]
async fn states_are_streamed_as_they_are_published_and_resumed_by_their_id() {
    let (world, running) = market().await;
    let mut first = ask(&running, "/api/v1/stream", &[]).await;
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    assert_eq!(first.headers()["cache-control"], "no-store");
    assert_eq!(first.headers()["x-accel-buffering"], "no");
    let mut second = ask(&running, "/api/v1/stream/", &[("Last-Event-ID", "not one of ours")]).await;
    for stream in [&mut first, &mut second] {
        assert!(event(stream).await.unwrap().starts_with("retry: 5000\n"));
    }
    let now = event(&mut first).await.unwrap();
    assert_eq!(event(&mut second).await.as_ref(), Some(&now), "all are sent the same bytes");
    let data: Value = serde_json::from_str(now.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
    assert_eq!(data, running.get("/api/v1/stats").await.1);
    // Who has it waits; who has an older one gets the newest at once, and once.
    let mut third = ask(&running, "/api/v1/stream", &[("Last-Event-ID", id_of(&now))]).await;
    event(&mut third).await.unwrap();
    let page = ask(&running, "/api/v1/stream", &[]).await;
    assert_eq!(page.status(), 503, "three are allowed");
    assert_eq!(page.headers()["retry-after"], "30");
    world.clock.advance(chrono::TimeDelta::seconds(15));
    for stream in [&mut first, &mut second, &mut third] {
        assert_eq!(event(stream).await.unwrap(), ": still here\n\n");
    }
    drop(second);
    world.advance_to(&running, instant("2027-03-15T14:03:00Z")).await;
    let next = event(&mut first).await.unwrap();
    let next = if next.starts_with(':') { event(&mut first).await.unwrap() } else { next };
    assert!(id_of(&next) > id_of(&now), "in order of the slots");
    drop((first, third));
    let back = std::sync::Mutex::new(None);
    eventually("there is room again", async || {
        let answer = ask(&running, "/api/v1/stream", &[("Last-Event-ID", id_of(&now))]).await;
        let room = answer.status() == 200;
        *back.lock().unwrap() = room.then_some(answer);
        room
    })
    .await;
    let mut back = back.into_inner().unwrap().unwrap();
    event(&mut back).await.unwrap();
    assert_eq!(event(&mut back).await.as_ref(), Some(&next), "what was missed is one newest state");
    // The end of the daemon ends the stream, and does not wait for the client.
    running.stop().await;
    while event(&mut back).await.is_some() {}
}

#[tokio::test]
async fn a_client_of_the_stream_that_never_reads_is_cut_off_and_makes_room() {
    use tokio::io::AsyncWriteExt;
    // Each symbol is a sector of its own with a long name, so that one event is more than any buffer on the way takes.
    let universe = tempfile::NamedTempFile::new().unwrap();
    let rows: String = (0..4_000).map(|n| format!("T{n:04},,NYSE,{}{n}\n", "x".repeat(2_000))).collect();
    std::fs::write(universe.path(), format!("symbol,name,exchange,sector\n{rows}")).unwrap();
    let path = universe.path().display().to_string();
    let settings = [("BELLWETHER_INGEST__UNIVERSE__FILE", &*path), ("BELLWETHER_HTTP__WRITE_TIMEOUT_SECONDS", "1")];
    let world = World::at("2027-03-13T12:00:00Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    running.stats().await;
    let listening = async || {
        let page = running.http.get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap();
        let page = page.text().await.unwrap();
        page.lines().find_map(|line| line.strip_prefix("bellwether_http_streams ")).unwrap().to_owned()
    };
    let mut silent = tokio::net::TcpStream::connect(running.daemon.api).await.unwrap();
    silent.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    eventually("it is listening", async || listening().await == "1").await;
    // The connection stays open on its side all the while.
    eventually("it is cut off", async || listening().await == "0").await;
    drop(silent);
    running.stop().await;
}

#[tokio::test]
async fn every_call_knows_the_parameters_that_the_document_names_and_no_other() {
    let (_world, running) = market().await;
    let document = bellwether::api::openapi::document();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(operation) = methods.get("get").filter(|_| path.starts_with("/api/v1")) else { continue };
        let url =
            path.replace("{mic}", "XNYS").replace("{symbol}", "AAPL").replace("{id}", &uuid::Uuid::nil().to_string());
        let (status, body) = running.operate(&format!("{url}?no_such_parameter=1"), None).await;
        assert_eq!((status, &body["code"]), (400, &"unknown_parameter".into()), "{path}: {body}");
        let known = body["detail"].as_str().unwrap().split("known: ").nth(1).unwrap();
        let known: BTreeSet<&str> = known.split(", ").filter(|name| *name != "none are").collect();
        let parameters = operation["parameters"].as_array().unwrap().iter();
        let described = parameters.filter(|parameter| parameter["in"] == "query");
        let described: BTreeSet<&str> = described.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(described, known, "{path}");
        asked += 1;
    }
    assert!(asked >= 15, "{asked}");
    running.stop().await;
}

#[tokio::test]
async fn answers_have_what_the_document_says() {
    let (_world, running) = market().await;
    let document = bellwether::api::openapi::document();
    for (path, url) in [
        ("/api/v1/stats", "/api/v1/stats"),
        ("/api/v1/quotes", "/api/v1/quotes?limit=3"),
        ("/api/v1/quotes/{symbol}", "/api/v1/quotes/AAPL"),
        ("/api/market-stats", "/api/market-stats/"),
        ("/api/stocks", "/api/stocks/?limit=2"),
        ("/api/stocks/search", "/api/stocks/search/?q=a"),
        ("/api/stocks/{ticker}", "/api/stocks/AAPL/"),
        ("/api/realtime/{ticker}", "/api/realtime/AAPL/"),
        ("/api/stocks/top-gainers", "/api/stocks/top-gainers/"),
        ("/api/stocks/top-losers", "/api/stocks/top-losers/?limit=3"),
        ("/api/stocks/most-active", "/api/stocks/most-active/"),
        ("/api/trending", "/api/trending/"),
        ("/api/statistics", "/api/statistics/"),
        ("/api/stats/total-tickers", "/api/stats/total-tickers/"),
        ("/api/stats/gainers-losers", "/api/stats/gainers-losers/"),
        ("/api/v1/bars/{symbol}", "/api/v1/bars/AAPL?interval=point"),
        ("/livez", "/livez"),
    ] {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let (status, body) = running.get(url).await;
        assert_eq!(status, 200);
        fits(&document, content, &body, path);
    }
    let (_, problem) = running.get("/api/v1/quotes/NOSUCH").await;
    fits(&document, &document["components"]["schemas"]["Problem"], &problem, "Problem");
    running.stop().await;
}

#[tokio::test]
async fn the_list_heeds_every_bound_and_order_that_the_document_names() {
    let (_world, running) = market().await;
    let document = bellwether::api::openapi::document();
    let parameters = document["paths"]["/api/stocks"]["get"]["parameters"].as_array().unwrap();
    let mut asked = 0;
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let values: Vec<&str> = match &parameter["schema"]["enum"] {
            Value::Array(values) => values.iter().map(|value| value.as_str().unwrap()).collect(),
            _ if name.starts_with("min_") || name.starts_with("max_") => vec!["0"],
            _ => continue,
        };
        for value in values {
            let (status, body) = running.get(&format!("/api/stocks/?limit=1&{name}={value}")).await;
            assert_eq!((status, &body["filters_applied"][name]), (200, &value.into()), "{name}={value}");
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
    running.stop().await;
}

/// Whether `value` is as `schema` says: types, what is required, what is not allowed.
fn fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(document, document.pointer(name.trim_start_matches('#')).unwrap(), value, place);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        fits(document, part, value, place);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |allowed: &Value| allowed == kind || allowed == "number" && kind == "integer";
    let types = &schema["type"];
    let fine = types.is_null() || allowed(types) || types.as_array().is_some_and(|types| types.iter().any(allowed));
    assert!(fine, "{place}: {value} is not {types}");
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{place}: {value} is none of {values:?}");
    }
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        fits(document, &schema["items"], item, place);
    }
    for name in schema["required"].as_array().into_iter().flatten().filter(|_| value.is_object()) {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{place}: {name} is missing");
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => fits(document, schema, member, &format!("{place}.{name}")),
            None => assert_ne!(schema["additionalProperties"], false, "{place}: {name} is not described"),
        }
    }
}

#[tokio::test]
async fn the_api_describes_itself_only_where_it_is_told_to() {
    let (mut world, running) = market().await;
    let id = [("X-Request-Id", "the-same")];
    let mut unknown = None;
    for path in ["/no/such/path", "/docs", "/docs/", "/openapi.json", "/openapi.json/", "/sitemap.xml", "/robots.txt"] {
        let answer = ask(&running, path, &id).await;
        let mut headers: BTreeMap<_, _> =
            answer.headers().iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        headers.remove("date");
        let answer = (answer.status(), headers, answer.bytes().await.unwrap());
        assert_eq!(answer.0, 404);
        assert_eq!(unknown.get_or_insert(answer.clone()), &answer, "{path}");
    }
    running.stop().await;
    world.set("BACKEND_DOCS_ENABLED", "true");
    let running = world.start().await;
    let (status, document) = running.get("/openapi.json").await;
    assert_eq!((status, document), (200, bellwether::api::openapi::document()));
    let page = ask(&running, "/docs", &[]).await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    assert!(
        page.contains("<code>/api/v1/quotes</code>") && !page.contains("<script") && !page.contains("http://"),
        "{page}"
    );
    running.stop().await;
}

#[tokio::test]
async fn the_older_paths_have_the_keys_of_both_generations_of_clients() {
    let (_world, running) = market().await;
    let mut table = Vec::new();
    for path in [
        "/api/market-stats/",
        "/api/platform-stats/",
        "/api/stocks/top-gainers/",
        "/api/stocks/top-losers/",
        "/api/stocks/most-active/",
        "/api/trending/",
        "/api/stocks/search/?q=a",
        "/api/search/?q=a&colour=green",
        "/api/stocks/?limit=1&colour=green",
        "/api/stocks/AAPL/",
        "/api/stock/AAPL/",
        "/api/stocks/AAPL/quote/",
        "/api/realtime/AAPL/",
        "/api/statistics/",
        "/api/stats/total-tickers/",
        "/api/stats/gainers-losers/",
    ] {
        let (status, body) = running.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        table.push(format!("{path} {}", keys(&body)));
    }
    insta::assert_snapshot!(table.join("\n"), @"
    /api/market-stats/ {historical_dates[] historical_gainers[] historical_losers[] historical_total[] last_updated market_overview{gainers historical_dates[] historical_gainers[] historical_losers[] historical_total[] losers nasdaq_stocks nyse_stocks total_stocks unchanged} most_active[{current_price name ticker volume}] sectors[{average_change_percent gainers losers name total unchanged}] top_gainers[{change_percent current_price name price_change price_change_percent price_change_today ticker}] top_losers[{change_percent current_price name price_change price_change_percent price_change_today ticker}]}
    /api/platform-stats/ {historical_dates[] historical_gainers[] historical_losers[] historical_total[] last_updated market_overview{gainers historical_dates[] historical_gainers[] historical_losers[] historical_total[] losers nasdaq_stocks nyse_stocks total_stocks unchanged} most_active[{current_price name ticker volume}] sectors[{average_change_percent gainers losers name total unchanged}] top_gainers[{change_percent current_price name price_change price_change_percent price_change_today ticker}] top_losers[{change_percent current_price name price_change price_change_percent price_change_today ticker}]}
    /api/stocks/top-gainers/ {count timestamp top_gainers[{change_percent current_price market_cap name price_change price_change_percent price_change_today ticker volume wordpress_url}]}
    /api/stocks/top-losers/ {count timestamp top_losers[{change_percent current_price market_cap name price_change price_change_percent price_change_today ticker volume wordpress_url}]}
    /api/stocks/most-active/ {count most_active[{change_percent current_price market_cap name price_change price_change_percent price_change_today ticker volume wordpress_url}] timestamp}
    /api/trending/ {high_volume[{change_percent current_price market_cap name price_change price_change_percent price_change_today ticker volume wordpress_url}] last_updated most_active[{change_percent current_price market_cap name price_change price_change_percent price_change_today ticker volume wordpress_url}] top_gainers[{change_percent current_price market_cap name price_change price_change_percent price_change_today ticker volume wordpress_url}]}
    /api/stocks/search/?q=a {count query results[{change_percent company_name current_price exchange market_cap match_kind match_type ticker url}] success timestamp}
    /api/search/?q=a&colour=green {count query results[{change_percent company_name current_price exchange market_cap match_kind match_type ticker url}] success timestamp}
    /api/stocks/?limit=1&colour=green {count data[{ask_price avg_volume_3mon bid_ask_spread bid_price book_value change_percent company_name created_at current_price days_high days_low days_range dividend_yield dvav earnings_per_share exchange formatted_change formatted_market_cap formatted_price formatted_volume halted is_gaining is_losing last_updated market_cap market_cap_change_3mon name one_year_target open_price pe_change_3mon pe_ratio previous_close price_change price_change_month price_change_percent price_change_today price_change_week price_change_year price_to_book refreshed sector shares_available symbol ticker volume volume_ratio volume_today week_52_high week_52_low wordpress_url}] filters_applied{category exchange max_market_cap max_pe max_price min_market_cap min_pe min_price min_volume search sort_by sort_order} limit offset results[{ask_price avg_volume_3mon bid_ask_spread bid_price book_value change_percent company_name created_at current_price days_high days_low days_range dividend_yield dvav earnings_per_share exchange formatted_change formatted_market_cap formatted_price formatted_volume halted is_gaining is_losing last_updated market_cap market_cap_change_3mon name one_year_target open_price pe_change_3mon pe_ratio previous_close price_change price_change_month price_change_percent price_change_today price_change_week price_change_year price_to_book refreshed sector shares_available symbol ticker volume volume_ratio volume_today week_52_high week_52_low wordpress_url}] success timestamp total total_available}
    /api/stocks/AAPL/ {data{ask_price avg_volume_3mon bid_ask_spread bid_price book_value change_percent company_name created_at current_price data_quality{has_market_cap has_pe_ratio has_price has_volume last_update_age_minutes} days_high days_low days_range dividend_yield dvav earnings_per_share exchange formatted_change formatted_market_cap formatted_price formatted_volume halted is_gaining is_losing last_updated market_cap market_cap_change_3mon name one_year_target open_price pe_change_3mon pe_ratio previous_close price_change price_change_month price_change_percent price_change_today price_change_week price_change_year price_history[{price timestamp}] price_history_count price_near_52_week_high price_near_52_week_low price_position_52_week price_to_book refreshed sector shares_available symbol ticker volume volume_above_average volume_ratio volume_today week_52_high week_52_low wordpress_url} success timestamp}
    /api/stock/AAPL/ {data{ask_price avg_volume_3mon bid_ask_spread bid_price book_value change_percent company_name created_at current_price data_quality{has_market_cap has_pe_ratio has_price has_volume last_update_age_minutes} days_high days_low days_range dividend_yield dvav earnings_per_share exchange formatted_change formatted_market_cap formatted_price formatted_volume halted is_gaining is_losing last_updated market_cap market_cap_change_3mon name one_year_target open_price pe_change_3mon pe_ratio previous_close price_change price_change_month price_change_percent price_change_today price_change_week price_change_year price_history[{price timestamp}] price_history_count price_near_52_week_high price_near_52_week_low price_position_52_week price_to_book refreshed sector shares_available symbol ticker volume volume_above_average volume_ratio volume_today week_52_high week_52_low wordpress_url} success timestamp}
    /api/stocks/AAPL/quote/ {data{ask_price avg_volume_3mon bid_ask_spread bid_price book_value change_percent company_name created_at current_price data_quality{has_market_cap has_pe_ratio has_price has_volume last_update_age_minutes} days_high days_low days_range dividend_yield dvav earnings_per_share exchange formatted_change formatted_market_cap formatted_price formatted_volume halted is_gaining is_losing last_updated market_cap market_cap_change_3mon name one_year_target open_price pe_change_3mon pe_ratio previous_close price_change price_change_month price_change_percent price_change_today price_change_week price_change_year price_history[{price timestamp}] price_history_count price_near_52_week_high price_near_52_week_low price_position_52_week price_to_book refreshed sector shares_available symbol ticker volume volume_above_average volume_ratio volume_today week_52_high week_52_low wordpress_url} success timestamp}
    /api/realtime/AAPL/ {company_name current_price dividend_yield high_price last_updated low_price market_cap market_status open_price pe_ratio ticker volume}
    /api/statistics/ {gainers last_updated losers market_overview{gainer_percentage gainers losers nasdaq_stocks nyse_stocks recent_updates total_stocks unchanged} nasdaq_stocks nyse_stocks sectors[{average_change_percent gainers losers name total unchanged}] subscriptions{active_count} success timestamp top_performers{most_active{company_name ticker volume_today wordpress_url} top_gainer{company_name price_change_percent ticker wordpress_url} top_loser{company_name price_change_percent ticker wordpress_url}} total_stocks unchanged}
    /api/stats/total-tickers/ {success total_tickers}
    /api/stats/gainers-losers/ {gainers losers success unchanged}
    ");
    running.stop().await;
}

/// The keys of an object, those of its members in braces; of a list those of its first item.
fn keys(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().filter(|(name, _)| *name != "meta");
            let members = members.map(|(name, member)| format!("{name}{}", keys(member)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(" "))
        }
        Value::Array(items) => format!("[{}]", items.first().map(keys).unwrap_or_default()),
        _ => String::new(),
    }
}
