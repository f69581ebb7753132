//! How long an answer may be kept, and what a client that has it is told; what search engines are told.

use chrono::TimeDelta;

use crate::harness::{Engine, Running, World, instant};

/// `max-age` of an answer, in seconds.
async fn max_age(running: &Running, path: &str) -> i64 {
    let answer = running.http.get(format!("http://{}{path}", running.daemon.api)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let said = answer.headers()["cache-control"].to_str().unwrap();
    said.strip_prefix("public, max-age=").unwrap_or_else(|| panic!("{path}: {said}")).parse().unwrap()
}

/// Answered before the framework, after it, with a parameter, and made for one client.
const PATHS: [&str; 7] = [
    "/api/market-stats/",
    "/api/v1/stats",
    "/api/stocks/",
    "/api/stocks/AAPL/",
    "/api/stocks/top-gainers/?limit=3",
    "/api/v1/quotes?symbols=AAPL",
    "/api/v1/bars/AAPL?interval=point",
];

#[tokio::test]
async fn an_answer_may_be_kept_until_the_next_cycle_or_the_next_opening() {
    for (what, now, news) in [
        ("before the opening", "2027-03-15T12:00:00Z", "2027-03-15T13:30:00Z"),
        ("just after the opening", "2027-03-15T13:30:05Z", "2027-03-15T13:33:00Z"),
        ("in the middle of a session", "2027-03-15T14:00:10Z", "2027-03-15T14:03:00Z"),
        ("after its last slot", "2027-03-15T19:57:10Z", "2027-03-15T20:05:00Z"),
        ("between the close and its cycle", "2027-03-15T20:02:00Z", "2027-03-15T20:05:00Z"),
        ("after the cycle of the close", "2027-03-15T20:05:10Z", "2027-03-16T13:30:00Z"),
        ("at night", "2027-03-16T04:00:00Z", "2027-03-16T13:30:00Z"),
        ("on the eve of a holiday", "2027-01-15T22:00:00Z", "2027-01-19T14:30:00Z"),
        ("on a holiday", "2027-01-18T15:00:00Z", "2027-01-19T14:30:00Z"),
        ("before an early close", "2027-11-26T17:58:00Z", "2027-11-26T18:05:00Z"),
        ("after an early close", "2027-11-26T18:05:10Z", "2027-11-29T14:30:00Z"),
        ("on a Friday evening", "2027-03-19T22:00:00Z", "2027-03-22T13:30:00Z"),
        ("on the Friday before summer time", "2027-03-12T22:00:00Z", "2027-03-15T13:30:00Z"),
        ("in the night in which it begins", "2027-03-14T06:59:00Z", "2027-03-15T13:30:00Z"),
        ("on the Friday before it ends", "2027-11-05T21:00:00Z", "2027-11-08T14:30:00Z"),
        ("in the hour that comes twice", "2027-11-07T06:30:00Z", "2027-11-08T14:30:00Z"),
    ] {
        let world = World::at(now, Engine::Sqlite, &[]).await;
        let running = world.start().await;
        running.stats().await;
        let expected = (instant(news) - instant(now)).num_seconds();
        for path in PATHS {
            assert_eq!(max_age(&running, path).await, expected, "{what}: {path}");
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn how_long_an_answer_may_be_kept_falls_with_each_second_and_is_one_while_news_is_overdue() {
    let world = World::at("2027-03-15T19:56:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    for path in PATHS {
        assert_eq!(max_age(&running, path).await, 60, "{path}");
    }
    world.clock.advance(TimeDelta::milliseconds(12_400));
    for path in PATHS {
        assert_eq!(max_age(&running, path).await, 47, "{path}: whole seconds that are left");
    }
    // Through the last slot, the close and its cycle, in one life.
    for (slot, news) in [("2027-03-15T19:57:00Z", 480), ("2027-03-15T20:00:00Z", 300), ("2027-03-15T20:05:00Z", 62_700)]
    {
        world.advance_to(&running, instant(slot)).await;
        running.stats().await;
        for path in PATHS {
            assert_eq!(max_age(&running, path).await, news, "{slot}: {path}");
        }
    }
    running.stop().await;

    // Back after an hour of trading: what is shown is old, and may be mended at any moment.
    let world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    running.stop().await;
    world.clock.advance_to(instant("2027-03-15T15:01:00Z"));
    // Nothing is made up for while it is looked at.
    let pause =
        "UPDATE jobs SET pause_from = '2027-03-15T14:00:00+00:00', pause_reason = 'looked at' WHERE name = 'ingest'";
    world.database.execute(pause.to_owned()).await;
    let running = world.start().await;
    for path in PATHS {
        assert_eq!(max_age(&running, path).await, 1, "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_hours_of_the_market_have_one_tag_in_a_minute_and_another_after_a_transition() {
    let world = World::at("2027-03-15T13:28:20Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let url = format!("http://{}/api/market-hours/", running.daemon.api);
    let ask = async |tag: &str| {
        let answer = running.http.get(&url).header("If-None-Match", tag).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let (status, tag, kept) = (answer.status().as_u16(), header("etag"), header("cache-control"));
        let body: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        (status, tag, kept, body)
    };
    let (status, first, kept, body) = ask("").await;
    assert_eq!((status, &*kept), (200, "public, max-age=40"));
    assert_eq!((&body["at"], &body["phase"]), (&"2027-03-15T13:28:00Z".into(), &"pre".into()), "{body}");
    world.clock.advance_to(instant("2027-03-15T13:28:59Z"));
    let (status, same, kept, _) = ask(&first).await;
    assert_eq!((status, &*same, &*kept), (304, &*first, "public, max-age=1"));
    world.clock.advance_to(instant("2027-03-15T13:29:30Z"));
    let (status, second, kept, _) = ask(&first).await;
    assert_eq!((status, &*kept), (200, "public, max-age=30"), "the next minute is another answer");
    world.clock.advance_to(instant("2027-03-15T13:30:00Z"));
    let (status, _, kept, body) = ask(&second).await;
    assert_eq!((status, &*kept, &body["is_open"]), (200, "public, max-age=60", &true.into()), "{body}");
    running.stop().await;
}

#[tokio::test]
async fn search_engines_are_told_of_the_pages_that_are_configured() {
    let pages = [("FRONTEND_URL", "https://site.example/"), ("BELLWETHER_SITE__PAGES", "/,/pricing,/help?a=1&b=2")];
    let world = World::at("2027-03-13T12:00:00Z", Engine::Sqlite, &pages).await;
    let running = world.start().await;
    let ask = async |path: &str, tag: &str| {
        let request = running.http.get(format!("http://{}{path}", running.daemon.api)).header("If-None-Match", tag);
        let answer = request.send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind, tag) = (answer.status().as_u16(), header("content-type"), header("etag").unwrap());
        (status, kind, tag, answer.text().await.unwrap())
    };
    let (status, kind, tag, sitemap) = ask("/sitemap.xml", "").await;
    assert_eq!((status, kind.as_deref()), (200, Some("application/xml")));
    let listed: Vec<&str> = sitemap.lines().filter_map(|line| line.strip_prefix("<url><loc>")).collect();
    let end = "</loc></url>";
    assert_eq!(
        listed,
        ["", "pricing", "help?a=1&amp;b=2"].map(|page| format!("https://site.example/{page}{end}")),
        "{sitemap}"
    );
    assert_eq!(ask("/sitemap.xml", &tag).await.0, 304);
    let (status, kind, _, robots) = ask("/robots.txt", "").await;
    assert_eq!((status, kind.as_deref()), (200, Some("text/plain; charset=utf-8")));
    assert!(robots.ends_with("Sitemap: https://site.example/sitemap.xml\n"), "{robots}");
    running.stop().await;
}
