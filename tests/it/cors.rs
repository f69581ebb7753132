//! What pages of other sites may read in a browser, and what they may not.

use reqwest::header::HeaderMap;

use crate::harness::{Engine, OPERATOR, Running, World};

const OURS: &str = "https://site.example";
const NAMED: &str = "http://localhost:5173";

async fn market() -> (World, Running) {
    let settings = [
        ("FRONTEND_URL", "https://site.example/app"),
        ("EXTRA_CORS_ORIGINS", NAMED),
        ("OPERATOR_TOKEN", OPERATOR),
        ("SITE_TOKEN", "the-site's-own-token"),
    ];
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    running.stats().await;
    (world, running)
}

/// Status and headers of an answer to a page.
async fn asked(running: &Running, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap) {
    let request = running.http.request(method.parse().unwrap(), format!("http://{}{path}", running.daemon.api));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

fn cors(headers: &HeaderMap) -> Vec<String> {
    let ours = headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    ours.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let values = headers.get_all("vary").iter().map(|value| value.to_str().unwrap());
    values.flat_map(|value| value.split(", ")).filter(|name| *name == "origin").count() == 1
}

/// Answered by the front, by the framework, from the database, as a stream, as a probe; found and not.
const SHARED: [(&str, u16); 14] = [
    ("/api/market-stats/", 200),
    ("/api/v1/stats", 200),
    ("/api/stocks/top-gainers", 200),
    ("/api/stocks/top-gainers?limit=3", 200),
    ("/api/stocks/?limit=2", 200),
    ("/api/stocks/AAPL/", 200),
    ("/api/stocks/NOSUCH/", 404),
    ("/api/stocks/search/", 400),
    ("/api/v1/quotes?limit=2", 200),
    ("/api/v1/bars/AAPL", 200),
    ("/api/v1/stream", 200),
    ("/api/v1/calendar/XNYS/exceptions", 200),
    ("/api/market-hours/", 200),
    ("/api/health/detailed/", 200),
];

#[tokio::test]
async fn pages_of_the_site_and_of_named_origins_may_read_and_no_others() {
    let (_world, running) = market().await;
    for (path, status) in SHARED {
        for origin in [OURS, NAMED] {
            let (answered, headers) = asked(&running, "GET", path, &[("Origin", origin)]).await;
            assert_eq!(
                (answered, &headers["access-control-allow-origin"]),
                (status, &origin.parse().unwrap()),
                "{path}"
            );
            let exposed = headers["access-control-expose-headers"].to_str().unwrap();
            for name in ["etag", "x-request-id", "retry-after"] {
                assert!(exposed.split(", ").any(|exposed| exposed == name), "{path}: {exposed}");
            }
            assert!(varies_by_origin(&headers), "{path}: {headers:?}");
        }
        // Nearly the same is another.
        for origin in [
            None,
            Some("https://site.example/"),
            Some("http://site.example"),
            Some("https://site.example:8443"),
            Some("https://app.site.example"),
            Some("https://site.example.evil.example"),
            Some("http://localhost:3000"),
            Some("null"),
            Some("*"),
        ] {
            let header = origin.map(|origin| ("Origin", origin));
            let (answered, headers) = asked(&running, "GET", path, header.as_slice()).await;
            assert_eq!((answered, cors(&headers)), (status, Vec::new()), "{path} {origin:?}");
            // A cache must not give this answer to a page that may read one.
            assert!(varies_by_origin(&headers), "{path}: {headers:?}");
        }
    }
    // What the browser has is still right, and it may read that too.
    for path in ["/api/market-stats/", "/api/stocks/AAPL"] {
        let known = asked(&running, "GET", path, &[("Origin", OURS), ("If-None-Match", "*")]).await;
        assert_eq!((known.0, &known.1["access-control-allow-origin"]), (304, &OURS.parse().unwrap()));
        assert!(varies_by_origin(&known.1));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_browser_that_asks_before_is_told_what_may_be_sent_and_for_how_long() {
    let (_world, running) = market().await;
    let before = |origin| {
        [
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "if-none-match"),
        ]
    };
    for (path, _) in SHARED {
        let (status, headers) = asked(&running, "OPTIONS", path, &before(NAMED)).await;
        assert_eq!((status, &headers["access-control-allow-origin"]), (204, &NAMED.parse().unwrap()), "{path}");
        assert_eq!(
            headers["access-control-allow-methods"], "GET, HEAD",
            "{path}: what changes something is not shared"
        );
        assert_eq!(headers["access-control-max-age"], "7200");
        let sendable = headers["access-control-allow-headers"].to_str().unwrap();
        assert!(["if-none-match", "last-event-id", "x-request-id"].iter().all(|name| sendable.contains(name)));
        assert!(varies_by_origin(&headers), "{headers:?}");
        let (status, headers) = asked(&running, "OPTIONS", path, &before("https://evil.example")).await;
        assert_eq!((status, cors(&headers)), (403, Vec::new()), "{path}");
        // Without the question it is a method like any other.
        assert_eq!(asked(&running, "OPTIONS", path, &[("Origin", NAMED)]).await.0, 405, "{path}");
    }
    let page = running.http.get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap();
    let refused = format!("bellwether_http_rejected_total{{reason=\"origin\"}} {}\n", SHARED.len());
    assert!(page.text().await.unwrap().contains(&refused), "no {refused}");
    running.stop().await;
}

#[tokio::test]
async fn a_key_or_a_cookie_opens_nothing_to_the_page_of_another_site() {
    let (_world, running) = market().await;
    let token = format!("Bearer {OPERATOR}");
    for (path, _) in SHARED {
        let (_, without) = asked(&running, "GET", path, &[("Origin", OURS)]).await;
        for credentials in [("Authorization", &*token), ("X-API-Key", "any"), ("Cookie", "sessionid=any")] {
            let (_, headers) = asked(&running, "GET", path, &[("Origin", "https://evil.example"), credentials]).await;
            assert_eq!(cors(&headers), [""; 0], "{path} {credentials:?}");
            let (_, headers) = asked(&running, "GET", path, &[("Origin", OURS), credentials]).await;
            assert_eq!(headers["access-control-allow-origin"], OURS, "never *, which would be with credentials");
            // A page that sends them with every call can read the answer, and it is the one that everybody gets.
            assert_eq!(headers["access-control-allow-credentials"], "true");
            assert_eq!(headers.get("etag"), without.get("etag"), "{path} {credentials:?}");
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn what_servers_call_is_shared_with_no_page_at_all() {
    let (_world, running) = market().await;
    let token = format!("Bearer {OPERATOR}");
    for (method, path) in [
        ("GET", "/api/v1/jobs"),
        ("GET", "/api/v1/runs"),
        ("GET", "/api/v1/webhooks"),
        ("POST", "/api/v1/jobs/history/pause"),
        ("POST", "/api/v1/ingest/backfill"),
        ("GET", "/api/billing/current-plan?user_id=1"),
        ("POST", "/api/billing/cancel"),
        ("POST", "/api/billing/process-renewals"),
        ("GET", "/api/referrals/link?user_id=1"),
        ("POST", "/api/referrals/invite"),
        ("POST", "/paypal/webhook/"),
        ("GET", "/livez"),
        ("GET", "/no/such/path"),
    ] {
        let (_, headers) = asked(&running, method, path, &[("Origin", OURS), ("Authorization", &token)]).await;
        assert_eq!(cors(&headers), [""; 0], "{method} {path}");
        let before = [("Origin", OURS), ("Access-Control-Request-Method", method)];
        let (status, headers) = asked(&running, "OPTIONS", path, &before).await;
        assert!([404, 405].contains(&status), "{path}: {status}");
        assert_eq!(cors(&headers), [""; 0], "{method} {path}");
    }
    running.stop().await;
}
