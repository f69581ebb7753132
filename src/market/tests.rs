//! What a client sees of a small market.

use chrono::{TimeDelta, TimeZone};

use super::*;

mod directory;
mod lists;
mod parts;
mod properties;
mod quotes;
mod references;
mod stock;

/// Monday, half an hour into the session.
fn ten_in_the_morning() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 23, 15, 0, 0).unwrap()
}

/// Where its session begins: four in the morning.
fn session_start() -> DateTime<Utc> {
    ten_in_the_morning() - chrono::TimeDelta::hours(6)
}

/// A riser, the dearest share there is, a faller below a dollar, one that is listed but was never quoted, one without a
/// previous close of which nothing but the symbol is known, one that has not moved, and one that has moved by next to nothing.
fn universe() -> Universe {
    let text = "symbol,name,exchange,sector\n\
         AAPL,Apple Inc.,NASDAQ,Information Technology\n\
         BRK.A,Berkshire Hathaway Inc.,NYSE,Financials\n\
         GHST,Ghost Corporation,NYSE,Financials\n\
         NEWC,,,\n\
         PNNY,Penny Apple Mines,NASDAQ,Materials\n\
         STLL,Still Water,NYSE,Materials\n\
         WISP,Wisp of Wind,NYSE,Financials\n";
    Universe::parse_csv(text, "small.csv").unwrap()
}

fn price(decimal: f64) -> Price {
    Price::from_decimal(decimal).unwrap()
}

fn quote(last: f64, before: Option<f64>, volume: Option<i64>) -> Quote {
    Quote {
        at: ten_in_the_morning() - TimeDelta::seconds(75),
        price: price(last),
        previous_close: before.map(price),
        open: None,
        high: None,
        low: None,
        bid: None,
        ask: None,
        volume,
        flags: QuoteFlags::default(),
    }
}

fn snapshot() -> Snapshot {
    let mut apple = quote(20.506, Some(20.386), Some(1_234_567));
    apple.open = Some(price(20.4));
    apple.high = Some(price(20.75));
    apple.low = Some(price(20.3));
    apple.bid = Some(price(20.5));
    apple.ask = Some(price(20.51));
    let mut penny = quote(0.0042, Some(0.0056), Some(999_999));
    penny.flags.insert(QuoteFlags::MOVED_OVER_25_PERCENT);
    penny.flags.insert(QuoteFlags::NOT_REFRESHED);
    let quotes = vec![
        Some(apple),
        Some(quote(700_000.0, Some(693_000.0), Some(812))),
        None,
        Some(quote(12.0, None, None)),
        Some(penny),
        Some(quote(5.0, Some(5.0), Some(0))),
        Some(quote(699_999.999_9, Some(700_000.0), Some(812))),
    ];
    let cycle = Cycle {
        id: Uuid::from_u128(7),
        slot: ten_in_the_morning(),
        source: "massive".to_owned(),
        simulated: false,
        as_of: ten_in_the_morning(),
        finished_at: ten_in_the_morning() + TimeDelta::seconds(2),
        expected: 7,
        fresh: 5,
        failed: 2,
    };
    Snapshot { universe: Arc::new(universe()), quotes: Columns::of(&quotes), cycle }
}

fn meta(snapshot: &Snapshot) -> Meta {
    Meta {
        cycle_id: snapshot.cycle.id,
        source: snapshot.cycle.source.clone(),
        simulated: snapshot.cycle.simulated,
        delay_class: DelayClass::Delayed15,
        licence_class: LicenceClass::Display,
        as_of: snapshot.cycle.as_of,
        age_seconds_market: 3,
        stale: false,
        completeness: snapshot.cycle.completeness(),
        phase: Phase::Regular,
        next_transition: Utc.with_ymd_and_hms(2026, 11, 23, 21, 0, 0).unwrap(),
        cause: None,
        rendered_at: ten_in_the_morning() + TimeDelta::seconds(3),
    }
}

/// The text of a body as it is sent, broken into lines down to `depth`.
fn broken(body: &Body, depth: usize) -> String {
    let mut shown = String::new();
    let (mut level, mut quoted, mut escaped) = (0, false, false);
    let line = |shown: &mut String, level: usize| {
        shown.push('\n');
        shown.push_str(&"  ".repeat(level));
    };
    for character in std::str::from_utf8(&body.plain().bytes).unwrap().chars() {
        if !quoted && matches!(character, '}' | ']') {
            level -= 1;
            if level < depth {
                line(&mut shown, level);
            }
        }
        shown.push(character);
        if !quoted && matches!(character, '{' | '[') {
            level += 1;
        }
        if !quoted && matches!(character, '{' | '[' | ',') && level <= depth {
            line(&mut shown, level);
        }
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
    }
    shown
}

/// The body without its `meta`, which is the same in each.
fn without_meta(body: &Body, depth: usize) -> String {
    let text = std::str::from_utf8(&body.plain().bytes).unwrap();
    let said = serde_json::to_string(&meta(&snapshot())).unwrap();
    let shorter = text.replace(&format!(",\"meta\":{said}"), "");
    assert_ne!(text, shorter, "every body carries the meta");
    broken(&Body::of(shorter), depth)
}

fn bodies() -> Bodies {
    let snapshot = snapshot();
    let mut statistics = Statistics::compute(&snapshot, session_start());
    let session = ten_in_the_morning().date_naive();
    let friday = MarketDay { session: session - TimeDelta::days(3), total: 7, gainers: 3, losers: 4, unchanged: 0 };
    statistics.past = MarketPast::of(&[friday, MarketDay::of(session, &statistics)]);
    Bodies::render(&snapshot, &statistics, &meta(&snapshot))
}

#[test]
fn the_market_at_a_glance() {
    insta::assert_snapshot!(broken(&bodies().market_stats, 2), @r#"
    {
      "market_overview":{
        "total_stocks":6,
        "nyse_stocks":3,
        "nasdaq_stocks":2,
        "gainers":2,
        "losers":2,
        "unchanged":1,
        "historical_dates":["2026-11-20","2026-11-23"],
        "historical_gainers":[3,2],
        "historical_losers":[4,2],
        "historical_total":[7,6]
      },
      "top_gainers":[
        {"ticker":"BRK.A","name":"Berkshire Hathaway Inc.","current_price":700000.0,"price_change":7000.0,"price_change_today":7000.0,"price_change_percent":1.0101,"change_percent":1.0101},
        {"ticker":"AAPL","name":"Apple Inc.","current_price":20.506,"price_change":0.12,"price_change_today":0.12,"price_change_percent":0.5886,"change_percent":0.5886}
      ],
      "top_losers":[
        {"ticker":"PNNY","name":"Penny Apple Mines","current_price":0.0042,"price_change":-0.0014,"price_change_today":-0.0014,"price_change_percent":-25.0,"change_percent":-25.0},
        {"ticker":"WISP","name":"Wisp of Wind","current_price":699999.9999,"price_change":-0.0001,"price_change_today":-0.0001,"price_change_percent":0.0,"change_percent":0.0}
      ],
      "most_active":[
        {"ticker":"AAPL","name":"Apple Inc.","current_price":20.506,"volume":1234567},
        {"ticker":"PNNY","name":"Penny Apple Mines","current_price":0.0042,"volume":999999},
        {"ticker":"BRK.A","name":"Berkshire Hathaway Inc.","current_price":700000.0,"volume":812},
        {"ticker":"WISP","name":"Wisp of Wind","current_price":699999.9999,"volume":812}
      ],
      "sectors":[
        {"name":"Financials","total":2,"gainers":1,"losers":1,"unchanged":0,"average_change_percent":0.5051},
        {"name":"Information Technology","total":1,"gainers":1,"losers":0,"unchanged":0,"average_change_percent":0.5886},
        {"name":"Materials","total":2,"gainers":0,"losers":1,"unchanged":1,"average_change_percent":-12.5}
      ],
      "historical_dates":[
        "2026-11-20",
        "2026-11-23"
      ],
      "historical_gainers":[
        3,
        2
      ],
      "historical_losers":[
        4,
        2
      ],
      "historical_total":[
        7,
        6
      ],
      "last_updated":"2026-11-23T15:00:00Z",
      "meta":{
        "cycle_id":"00000000-0000-0000-0000-000000000007",
        "source":"massive",
        "simulated":false,
        "delay_class":"delayed_15",
        "licence_class":"display",
        "as_of":"2026-11-23T15:00:00Z",
        "age_seconds_market":3,
        "stale":false,
        "completeness":0.7142,
        "phase":"regular",
        "next_transition":"2026-11-23T21:00:00Z",
        "cause":null,
        "rendered_at":"2026-11-23T15:00:03Z"
      }
    }
    "#);
}

#[test]
fn a_ranking_is_cut_at_its_limit() {
    let snapshot = snapshot();
    let statistics = Statistics::compute(&snapshot, session_start());
    let shown = |which, limit| without_meta(&ranking(&snapshot, &statistics, &meta(&snapshot), which, limit), 2);
    insta::assert_snapshot!(shown(Ranking::TopGainers, 1), @r#"
    {
      "top_gainers":[
        {"ticker":"BRK.A","name":"Berkshire Hathaway Inc.","current_price":700000.0,"price_change":7000.0,"price_change_today":7000.0,"price_change_percent":1.0101,"change_percent":1.0101,"volume":812,"market_cap":null,"wordpress_url":"/stock/brk.a/"}
      ],
      "count":1,
      "timestamp":"2026-11-23T15:00:00Z"
    }
    "#);
    insta::assert_snapshot!(shown(Ranking::TopLosers, 100), @r#"
    {
      "top_losers":[
        {"ticker":"PNNY","name":"Penny Apple Mines","current_price":0.0042,"price_change":-0.0014,"price_change_today":-0.0014,"price_change_percent":-25.0,"change_percent":-25.0,"volume":999999,"market_cap":null,"wordpress_url":"/stock/pnny/"},
        {"ticker":"WISP","name":"Wisp of Wind","current_price":699999.9999,"price_change":-0.0001,"price_change_today":-0.0001,"price_change_percent":0.0,"change_percent":0.0,"volume":812,"market_cap":null,"wordpress_url":"/stock/wisp/"}
      ],
      "count":2,
      "timestamp":"2026-11-23T15:00:00Z"
    }
    "#);
    assert_eq!(shown(Ranking::MostActive, 10), without_meta(&bodies().most_active, 2));
}

#[test]
fn what_is_trending_and_the_counts() {
    let bodies = bodies();
    insta::assert_snapshot!(without_meta(&bodies.trending, 2), @r#"
    {
      "high_volume":[
        {"ticker":"AAPL","name":"Apple Inc.","current_price":20.506,"price_change":0.12,"price_change_today":0.12,"price_change_percent":0.5886,"change_percent":0.5886,"volume":1234567,"market_cap":null,"wordpress_url":"/stock/aapl/"},
        {"ticker":"PNNY","name":"Penny Apple Mines","current_price":0.0042,"price_change":-0.0014,"price_change_today":-0.0014,"price_change_percent":-25.0,"change_percent":-25.0,"volume":999999,"market_cap":null,"wordpress_url":"/stock/pnny/"},
        {"ticker":"BRK.A","name":"Berkshire Hathaway Inc.","current_price":700000.0,"price_change":7000.0,"price_change_today":7000.0,"price_change_percent":1.0101,"change_percent":1.0101,"volume":812,"market_cap":null,"wordpress_url":"/stock/brk.a/"},
        {"ticker":"WISP","name":"Wisp of Wind","current_price":699999.9999,"price_change":-0.0001,"price_change_today":-0.0001,"price_change_percent":0.0,"change_percent":0.0,"volume":812,"market_cap":null,"wordpress_url":"/stock/wisp/"}
      ],
      "top_gainers":[
        {"ticker":"BRK.A","name":"Berkshire Hathaway Inc.","current_price":700000.0,"price_change":7000.0,"price_change_today":7000.0,"price_change_percent":1.0101,"change_percent":1.0101,"volume":812,"market_cap":null,"wordpress_url":"/stock/brk.a/"},
        {"ticker":"AAPL","name":"Apple Inc.","current_price":20.506,"price_change":0.12,"price_change_today":0.12,"price_change_percent":0.5886,"change_percent":0.5886,"volume":1234567,"market_cap":null,"wordpress_url":"/stock/aapl/"}
      ],
      "most_active":[
        {"ticker":"AAPL","name":"Apple Inc.","current_price":20.506,"price_change":0.12,"price_change_today":0.12,"price_change_percent":0.5886,"change_percent":0.5886,"volume":1234567,"market_cap":null,"wordpress_url":"/stock/aapl/"},
        {"ticker":"PNNY","name":"Penny Apple Mines","current_price":0.0042,"price_change":-0.0014,"price_change_today":-0.0014,"price_change_percent":-25.0,"change_percent":-25.0,"volume":999999,"market_cap":null,"wordpress_url":"/stock/pnny/"},
        {"ticker":"BRK.A","name":"Berkshire Hathaway Inc.","current_price":700000.0,"price_change":7000.0,"price_change_today":7000.0,"price_change_percent":1.0101,"change_percent":1.0101,"volume":812,"market_cap":null,"wordpress_url":"/stock/brk.a/"},
        {"ticker":"WISP","name":"Wisp of Wind","current_price":699999.9999,"price_change":-0.0001,"price_change_today":-0.0001,"price_change_percent":0.0,"change_percent":0.0,"volume":812,"market_cap":null,"wordpress_url":"/stock/wisp/"}
      ],
      "last_updated":"2026-11-23T15:00:00Z"
    }
    "#);
    insta::assert_snapshot!(without_meta(&bodies.statistics, 2), @r#"
    {
      "success":true,
      "market_overview":{
        "total_stocks":6,
        "nyse_stocks":3,
        "nasdaq_stocks":2,
        "gainers":2,
        "losers":2,
        "unchanged":1,
        "gainer_percentage":33.3,
        "recent_updates":6
      },
      "top_performers":{
        "top_gainer":{"ticker":"BRK.A","company_name":"Berkshire Hathaway Inc.","price_change_percent":1.0101,"wordpress_url":"/stock/brk.a/"},
        "top_loser":{"ticker":"PNNY","company_name":"Penny Apple Mines","price_change_percent":-25.0,"wordpress_url":"/stock/pnny/"},
        "most_active":{"ticker":"AAPL","company_name":"Apple Inc.","volume_today":1234567,"wordpress_url":"/stock/aapl/"}
      },
      "subscriptions":{
        "active_count":null
      },
      "total_stocks":6,
      "nyse_stocks":3,
      "nasdaq_stocks":2,
      "gainers":2,
      "losers":2,
      "unchanged":1,
      "sectors":[
        {"name":"Financials","total":2,"gainers":1,"losers":1,"unchanged":0,"average_change_percent":0.5051},
        {"name":"Information Technology","total":1,"gainers":1,"losers":0,"unchanged":0,"average_change_percent":0.5886},
        {"name":"Materials","total":2,"gainers":0,"losers":1,"unchanged":1,"average_change_percent":-12.5}
      ],
      "timestamp":"2026-11-23T15:00:00Z",
      "last_updated":"2026-11-23T15:00:00Z"
    }
    "#);
    insta::assert_snapshot!(without_meta(&bodies.total_tickers, 0), @r#"{"success":true,"total_tickers":6}"#);
    insta::assert_snapshot!(without_meta(&bodies.gainers_losers, 0), @r#"{"success":true,"gainers":2,"losers":2,"unchanged":1}"#);
}

#[test]
fn a_tag_names_the_content_and_the_encoding() {
    let (first, second) = (bodies(), bodies());
    assert_eq!(first.market_stats, second.market_stats);
    let body = first.market_stats;
    let tags: Vec<String> = Encoding::ALL
        .into_iter()
        .map(|encoding| String::from_utf8(body.variant(&[encoding]).etag.to_vec()).unwrap())
        .collect();
    let stem = tags[3].trim_matches('"').to_owned();
    let expected = ["br", "zstd", "gzip"].map(|name| format!("\"{stem}-{name}\""));
    assert_eq!((&tags[..3], stem.len()), (&expected[..], 24));
    assert!(tags.iter().all(|tag| body.is_named(tag)));
    let snapshot = snapshot();
    let stale = Meta { stale: true, cause: Some("the source is silent".to_owned()), ..meta(&snapshot) };
    let changed = Bodies::render(&snapshot, &Statistics::compute(&snapshot, session_start()), &stale);
    assert!(!changed.market_stats.is_named(&tags[0]) && !changed.market_stats.is_named(&tags[3]));
}

#[test]
fn a_body_is_the_same_in_every_encoding_and_short_ones_stay_as_they_are() {
    let bodies = bodies();
    let made_when_asked = Body::of(bodies.trending.plain().bytes.clone());
    for body in [bodies.market_stats.clone(), made_when_asked] {
        let plain = body.plain().clone();
        for encoding in Encoding::ALL {
            let variant = body.variant(&[encoding]);
            assert_eq!((variant.encoding, decoded(&variant)), (encoding, plain.bytes.to_vec()), "{encoding:?}");
        }
        assert_eq!(body.variant(&[]), plain);
    }
    let short = bodies.total_tickers;
    assert!(short.plain().bytes.len() < 1_024);
    assert_eq!(short.variant(&[Encoding::Brotli, Encoding::Gzip]), *short.plain());
    let noise: Vec<u8> = (0..4_096).map(|_| fastrand::u8(..)).collect();
    let noise = Body::of(noise);
    assert_eq!(noise.variant(&[Encoding::Gzip]), *noise.plain(), "what does not get smaller goes out as it is");
}

fn decoded(variant: &Variant) -> Vec<u8> {
    use std::io::Read;
    let mut decoded = Vec::new();
    let bytes = &*variant.bytes;
    let read = match variant.encoding {
        Encoding::Identity => return bytes.to_vec(),
        Encoding::Brotli => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut decoded),
        Encoding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded),
        Encoding::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut decoded),
    };
    read.unwrap();
    decoded
}

#[test]
fn who_has_not_traded_in_the_session_is_counted_and_neither_rises_nor_ranks() {
    let whole = snapshot();
    let mut quotes: Vec<_> = (0..whole.universe.len()).map(|index| whole.quotes.get(index)).collect();
    let (apple, now) = (whole.universe.position("AAPL").unwrap(), Statistics::compute(&whole, session_start()));
    quotes[apple].as_mut().unwrap().at = session_start() - chrono::TimeDelta::seconds(1);
    let early = Snapshot { quotes: Columns::of(&quotes), ..whole };
    let early = Statistics::compute(&early, session_start());
    assert_eq!((early.total_stocks, early.gainers), (now.total_stocks, now.gainers - 1));
    assert!(now.top_gainers.contains(&apple) && now.most_active.contains(&apple));
    assert!(!early.top_gainers.contains(&apple) && !early.most_active.contains(&apple));
    let technology = early.sectors.iter().find(|sector| sector.name == "Information Technology").unwrap();
    assert_eq!((technology.total, technology.average_change_percent), (1, None));
}
