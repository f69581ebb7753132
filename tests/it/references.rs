//! What the sessions before say of a stock: worked out of the daily bars, told beside each quote.

use chrono::NaiveDate;
use serde_json::{Value, json};

use crate::faketime::is_long;
use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant, write_universe};
use crate::store::on_both_engines;

on_both_engines!(a_stock_is_compared_with_the_sessions_before);

/// Fourteen months of daily bars, a request a session.
async fn backfill(running: &Running, from: &str, to: &str) {
    let span = json!({ "from": from, "to": to });
    loop {
        let (status, plan) = running.operate("/api/v1/ingest/backfill", Some(span.clone())).await;
        assert_eq!(status, 200, "{plan}");
        if plan["done"] == plan["units"] {
            return;
        }
    }
}

async fn stock(running: &Running) -> Value {
    running.get("/api/stocks/S03/").await.1["data"].clone()
}

/// The daily bars from a date to before another, as `/api/v1/bars` has them.
async fn bars(running: &Running, from: NaiveDate, before: NaiveDate) -> Vec<Value> {
    let to = before.pred_opt().unwrap();
    let (_, body) = running.get(&format!("/api/v1/bars/S03?from={from}&to={to}")).await;
    body["bars"].as_array().unwrap().clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Holds what is told of the stock against the bars, worked out in the plainest way.
async fn holds(running: &Running, session: &str) {
    let session: NaiveDate = session.parse().unwrap();
    let year = session - chrono::Months::new(12);
    let days = bars(running, year - chrono::TimeDelta::days(7), session).await;
    let data = stock(running).await;
    let price = number(&data["current_price"]);
    let date = |bar: &Value| bar["date"].as_str().unwrap().parse::<NaiveDate>().unwrap();
    let near = |told: &Value, expected: f64| (number(told) - expected).abs() < 0.000_15;
    for (name, back) in [
        ("price_change_week", session - chrono::TimeDelta::days(7)),
        ("price_change_month", session - chrono::Months::new(1)),
        ("price_change_year", year),
    ] {
        let close = days.iter().rfind(|bar| date(bar) <= back).map(|bar| number(&bar["close"])).unwrap();
        assert!(near(&data[name], price - close), "{name}: {} of {price} and {close}", data[name]);
    }
    let of_year = || days.iter().filter(|bar| date(bar) > year);
    let low = of_year().map(|bar| number(&bar["low"])).fold(number(&data["days_low"]).min(price), f64::min);
    let high = of_year().map(|bar| number(&bar["high"])).fold(number(&data["days_high"]).max(price), f64::max);
    assert!(near(&data["week_52_low"], low) && near(&data["week_52_high"], high), "{data} {low} {high}");
    let quarter = session - chrono::Months::new(3);
    let volumes: Vec<f64> = days.iter().filter(|bar| date(bar) > quarter).map(|bar| number(&bar["volume"])).collect();
    let mean = volumes.iter().sum::<f64>() / volumes.len() as f64;
    assert!((number(&data["avg_volume_3mon"]) - mean).abs() <= 0.5, "{data} {mean}");
    assert_eq!(data["volume_above_average"], number(&data["volume"]) > mean);
    let place = (price - low) / (high - low) * 100.0;
    assert!((number(&data["price_position_52_week"]) - place).abs() < 0.01, "{data} {place}");
}

async fn a_stock_is_compared_with_the_sessions_before(engine: Engine) {
    let mut world = World::at("2027-03-15T14:00:10Z", engine, &[("OPERATOR_TOKEN", OPERATOR)]).await;
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, (0..5).map(|n| format!("S{n:02}")));
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string());
    let running = world.start().await;
    running.stats().await;
    // Without a past nothing is known of it, and nothing is 0.
    let data = stock(&running).await;
    for name in [
        "price_change_week",
        "price_change_year",
        "week_52_low",
        "avg_volume_3mon",
        "volume_above_average",
        "price_near_52_week_high",
        "price_position_52_week",
    ] {
        assert_eq!(data[name], Value::Null, "{name}");
    }
    assert_eq!(data["price_history"], json!([{ "price": data["current_price"], "timestamp": data["last_updated"] }]));
    // With a year of it everything is, at once.
    backfill(&running, "2026-03-01", "2027-03-12").await;
    eventually("the past is told", async || !stock(&running).await["price_change_year"].is_null()).await;
    holds(&running, "2027-03-15").await;
    let (_, page) = running
        .get("/api/v1/quotes?fields=symbol,change_week,week_52_high&sort=-change_week&max_change_week=1000")
        .await;
    assert_eq!(page["quotes"].as_array().unwrap().len(), 5, "{page}");
    let row = page["quotes"].as_array().unwrap().iter().find(|row| row["symbol"] == "S03").unwrap();
    assert_eq!(row["change_week"], stock(&running).await["price_change_week"]);

    // A split of three for one that was announced for tomorrow changes nothing yet, neither here nor in the bars.
    let before = bars(&running, "2026-03-08".parse().unwrap(), "2027-03-15".parse().unwrap()).await;
    let split = "INSERT INTO splits (symbol_id, session, numerator, denominator) SELECT id, '2027-03-16', 3, 1 FROM history_symbols WHERE symbol = 'S03'";
    world.database.execute(split.to_owned()).await;
    for _ in 0..3 {
        let next = world.clock_now() + chrono::TimeDelta::seconds(61);
        world.advance_to(&running, next).await;
    }
    assert_eq!(bars(&running, "2026-03-08".parse().unwrap(), "2027-03-15".parse().unwrap()).await, before);
    world.advance_to(&running, instant("2027-03-15T20:05:00Z")).await;
    world.advance_to(&running, instant("2027-03-15T20:30:00Z")).await;
    holds(&running, "2027-03-15").await;

    // Until tomorrow's opening nothing is seen from another day; then everything is in the shares of then.
    world.advance_to(&running, instant("2027-03-16T12:00:00Z")).await;
    holds(&running, "2027-03-15").await;
    world.advance_to(&running, instant("2027-03-16T13:30:00Z")).await;
    world.advance_to(&running, instant("2027-03-16T13:33:00Z")).await;
    eventually("it is another session, of other shares", async || {
        // Readers are told with a cycle, or at the next beat where what it is compared with came too late for that.
        world.creep(chrono::TimeDelta::seconds(1), instant("2027-03-16T13:35:00Z"));
        let data = stock(&running).await;
        let (change, price) = (data["price_change_week"].as_f64(), number(&data["current_price"]));
        change.is_some_and(|change| change > price * 0.4)
    })
    .await;
    holds(&running, "2027-03-16").await;
    let history = stock(&running).await["price_history"].clone();
    assert_eq!(history[0]["timestamp"], stock(&running).await["last_updated"], "newest first: {history}");
    running.stop().await;

    // After a restart it is worked out again, and answers do not need the database.
    let running = world.start().await;
    eventually("the past is told again", async || !stock(&running).await["price_change_year"].is_null()).await;
    holds(&running, "2027-03-16").await;
    let told = stock(&running).await;
    running.daemon.store.close().await;
    assert_eq!(stock(&running).await["week_52_high"], told["week_52_high"]);
    running.daemon.stop().await;
}

/// More symbols than are read at a time, with numbers that have gaps, and a year of days for each in the long form.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_market_is_compared_and_nobody_is_left_out() {
    let (symbols, first_day) = if is_long() { (10_000, "2026-03-02") } else { (450, "2027-02-08") };
    let mut world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[]).await;
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, (0..symbols).map(|n| format!("S{n:05}")));
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string());
    world.database.store().await.close().await;
    let numbers = format!("n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {})", symbols - 1);
    let days = format!(
        "d(day) AS (SELECT date('{first_day}') UNION ALL SELECT date(day, '+1 day') FROM d WHERE day < '2027-03-12')"
    );
    let names = format!(
        "INSERT INTO history_symbols (id, symbol) WITH RECURSIVE {numbers} SELECT 7 + i * 3, printf('S%05d', i) FROM n"
    );
    let bars = format!(
        "INSERT INTO bars_1d (symbol_id, session, open, high, low, close, volume, from_provider) WITH RECURSIVE {numbers}, {days} \
         SELECT 7 + i * 3, day, 100000, 100000, 100000, 100000, 1000, true FROM n, d WHERE strftime('%w', day) NOT IN ('0', '6')"
    );
    world.database.execute(names).await;
    world.database.execute(bars).await;
    let running = world.start().await;
    running.stats().await;
    let count = async |query: &str| {
        let (_, page) = running.get(&format!("/api/v1/quotes?fields=symbol,price,change_month&limit=1{query}")).await;
        (page["total"].as_u64().unwrap(), page["quotes"][0].clone())
    };
    let (quoted, _) = count("").await;
    assert!(quoted as usize > symbols * 98 / 100, "{quoted}");
    eventually("each is compared", async || {
        // A cycle that was made beside the comparison is told of it at the next beat.
        world.clock.advance(chrono::TimeDelta::seconds(1));
        count("&min_change_month=-1000000").await.0 == quoted
    })
    .await;
    let (_, last) = count("&sort=-symbol").await;
    assert!((number(&last["price"]) - 10.0 - number(&last["change_month"])).abs() < 0.000_15, "{last}");
    running.stop().await;
}
