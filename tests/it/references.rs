//! What the sessions before say of a stock: worked out of the daily bars, told beside each quote.

use chrono::NaiveDate;
use serde_json::{Value, json};

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
        world.clock.advance(chrono::TimeDelta::seconds(61));
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
