//! The past: points while a session goes on, bars once it is over, what a provider knows of before, and how clients read it.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant, write_universe};
use crate::store::on_both_engines;

on_both_engines!(
    the_hours_before_an_opening_change_nothing_of_the_session_before,
    a_session_becomes_bars_that_stay,
    a_session_that_was_missed_is_rolled_up_with_the_next,
    a_backfill_goes_on_where_it_was_left,
);

async fn world(at: &str, engine: Engine) -> World {
    let mut world = World::at(at, engine, &[("OPERATOR_TOKEN", OPERATOR)]).await;
    let universe = world.file.path().join("universe.csv");
    write_universe(&universe, (0..12).map(|n| format!("S{n:02}")));
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &universe.display().to_string());
    world
}

/// Runs the cycles of these times of a day, and waits until each is stored.
async fn cycles(world: &World, running: &Running, day: &str, times: &[&str]) {
    for time in times {
        world.advance_to(running, instant(&format!("{day}T{time}:00Z"))).await;
        eventually("the cycle is stored", async || running.daemon.market.store_lag().cycles == 0).await;
    }
}

async fn bars(running: &Running, query: &str) -> Value {
    let (status, body) = running.get(&format!("/api/v1/bars/{query}")).await;
    assert_eq!(status, 200, "{query}: {body}");
    body
}

fn column(bars: &Value, name: &str) -> Vec<Value> {
    bars["bars"].as_array().unwrap().iter().map(|bar| bar[name].clone()).collect()
}

/// Half of Monday's cycles, and the closing prices.
const MONDAY: [&str; 9] = ["13:30", "13:33", "13:36", "13:45", "13:48", "14:00", "17:00", "19:57", "20:05"];

async fn a_session_becomes_bars_that_stay(engine: Engine) {
    let world = world("2027-03-15T13:29:00Z", engine).await;
    let running = world.start().await;
    running.stats().await;
    cycles(&world, &running, "2027-03-15", &MONDAY).await;
    let points = bars(&running, "S03?interval=point").await;
    let times = column(&points, "at");
    assert!(times.len() >= 8 && times.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()), "{points}");
    let quarters = bars(&running, "S03?interval=15m").await;
    let starts = column(&quarters, "at");
    assert_eq!(starts[..2], ["2027-03-15T13:30:00Z", "2027-03-15T13:45:00Z"].map(Value::from), "{quarters}");
    assert_eq!(starts.last().unwrap(), "2027-03-15T19:45:00Z", "what is quoted at the close is of the last quarter");
    let day = bars(&running, "S03?interval=1d&from=2027-03-15").await;
    let (_, stock) = running.get("/api/stocks/S03/").await;
    let data = &stock["data"];
    assert_eq!(
        (&day["bars"][0]["close"], &day["bars"][0]["high"]),
        (&data["current_price"], &data["days_high"]),
        "{day}"
    );
    assert_eq!(day["bars"][0]["volume"], data["volume"]);
    let rolled_up = "SELECT CAST(COUNT(*) AS TEXT) FROM symbol_days";
    assert_eq!(world.database.query(rolled_up).await, ["0"]);
    world.advance_to(&running, instant("2027-03-15T20:30:00Z")).await;
    let report = world.ledger(&running, "history").await.pop().unwrap();
    let report: Value = serde_json::from_str(&report.stats.unwrap()).unwrap();
    assert_eq!(report["rolled_up"]["sessions"], json!(["2027-03-15"]), "the cycle before the opening is of no session");
    assert_ne!(world.database.query(rolled_up).await, ["0"]);
    running.stop().await;

    // After a restart, in the next session, everything comes from the database.
    world.clock.advance_to(instant("2027-03-16T13:29:00Z"));
    let running = world.start().await;
    cycles(&world, &running, "2027-03-16", &["13:30", "13:33"]).await;
    let monday = "from=2027-03-15&to=2027-03-15";
    assert_eq!(bars(&running, &format!("S03?interval=15m&{monday}")).await["bars"], quarters["bars"]);
    let again = bars(&running, &format!("S03?interval=point&{monday}")).await;
    assert_eq!((column(&again, "at"), column(&again, "price")), (times, column(&points, "price")));
    assert_eq!(column(&again, "volume")[0], Value::Null, "volumes of the past are in the bars");
    let days = bars(&running, "S03?from=2027-03-15").await;
    assert_eq!(column(&days, "date"), ["2027-03-15", "2027-03-16"].map(Value::from));
    assert_eq!(days["bars"][0], day["bars"][0]);
    let stats = running.stats().await;
    assert_eq!(stats["historical_dates"], json!(["2027-03-15", "2027-03-16"]));
    assert_eq!(stats["historical_total"].as_array().unwrap().last(), Some(&stats["market_overview"]["total_stocks"]));
    assert_eq!(stats["historical_gainers"].as_array().unwrap().last(), Some(&stats["market_overview"]["gainers"]));
    assert_eq!(stats["market_overview"]["historical_losers"], stats["historical_losers"]);
    // Pages.
    let first = bars(&running, &format!("S03?interval=15m&limit=2&{monday}")).await;
    assert_eq!(column(&first, "at"), starts[..2]);
    let next = first["next_from"].as_str().unwrap();
    let second = bars(&running, &format!("S03?interval=15m&limit=2&from={next}&to=2027-03-15")).await;
    assert_eq!(column(&second, "at"), starts[2..4]);
    running.stop().await;
}

async fn the_hours_before_an_opening_change_nothing_of_the_session_before(engine: Engine) {
    let mut world = world("2027-03-15T13:29:00Z", engine).await;
    world.set("BELLWETHER_INGEST__PHASES", "pre,regular");
    let running = world.start().await;
    running.stats().await;
    cycles(&world, &running, "2027-03-15", &MONDAY).await;
    world.advance_to(&running, instant("2027-03-15T20:30:00Z")).await;
    let kept = async || {
        let day = "SELECT session || ' ' || CAST(gainers AS TEXT) || ' ' || CAST(slot AS TEXT) || ' ' || COALESCE(CAST(rolled_up_at AS TEXT), '-') FROM market_days ORDER BY session";
        let points = "SELECT CAST(COUNT(*) AS TEXT) FROM cycle_points";
        [world.database.query(day).await, world.database.query(points).await].concat()
    };
    assert_eq!(world.database.query("SELECT CAST(session AS TEXT) FROM market_days").await, ["2027-03-15"]);
    let monday = kept().await;
    let told = running.stats().await["historical_gainers"].clone();
    // In the evening, a cycle that an operator wants has points of the session, and does not change how it ended.
    let (status, run) = running.operate("/api/v1/jobs/ingest/run", Some(json!({}))).await;
    assert!(status < 300, "{run}");
    world.clock.advance(TimeDelta::seconds(1));
    eventually("it is stored", async || {
        running.daemon.scheduler.running() == 0 && kept().await.last() != monday.last()
    })
    .await;
    assert_eq!(running.stats().await["historical_gainers"], told);
    world.advance_to(&running, instant("2027-03-16T00:00:00Z")).await;
    let evening = kept().await;
    // At eight in the morning it is Tuesday's trading, which has not opened; neither a cycle nor a restart makes it Monday's.
    cycles(&world, &running, "2027-03-16", &["12:00", "12:03"]).await;
    assert_eq!(kept().await, evening);
    running.stop().await;
    let running = world.start().await;
    running.stats().await;
    cycles(&world, &running, "2027-03-16", &["12:06"]).await;
    assert_eq!(kept().await, evening);
    assert_eq!(running.stats().await["historical_dates"], json!(["2027-03-15"]));
    cycles(&world, &running, "2027-03-16", &["13:30", "13:33"]).await;
    assert_eq!(running.stats().await["historical_dates"], json!(["2027-03-15", "2027-03-16"]));
    running.stop().await;
}

async fn a_session_that_was_missed_is_rolled_up_with_the_next(engine: Engine) {
    let world = world("2027-03-15T13:29:00Z", engine).await;
    let running = world.start().await;
    running.stats().await;
    cycles(&world, &running, "2027-03-15", &MONDAY[..6]).await;
    let points = bars(&running, "S05?interval=point").await["bars"].clone();
    running.stop().await;
    // In the same session the points are in memory again.
    let running = world.start().await;
    assert_eq!(bars(&running, "S05?interval=point").await["bars"], points);
    running.stop().await;
    world.clock.advance_to(instant("2027-03-17T20:31:00Z"));
    let running = world.start().await;
    eventually("what was missed is rolled up", async || {
        let query =
            "SELECT CAST(COUNT(*) AS TEXT) FROM market_days WHERE rolled_up_at IS NULL AND session < '2027-03-17'";
        world.database.query(query).await == ["0"]
    })
    .await;
    let days = bars(&running, "S05?from=2027-03-15&to=2027-03-15").await;
    assert_eq!(column(&days, "date"), ["2027-03-15"].map(Value::from));
    assert_eq!(
        bars(&running, "S05?interval=point&from=2027-03-15&to=2027-03-15").await["count"],
        points.as_array().unwrap().len()
    );
    running.stop().await;
}

async fn a_backfill_goes_on_where_it_was_left(engine: Engine) {
    let world = world("2027-03-15T21:00:00Z", engine).await;
    let running = world.start().await;
    running.stats().await;
    let ask = async |body: Value| running.operate("/api/v1/ingest/backfill", Some(body)).await;
    let span = |dry_run: bool| json!({ "from": "2027-03-08", "to": "2027-03-15", "dry_run": dry_run });
    let (status, plan) = ask(span(true)).await;
    assert_eq!(
        (status, &plan["units"], &plan["done"], &plan["next"]),
        (200, &json!(5), &json!(0), &json!("2027-03-08"))
    );
    assert_eq!(plan["not_yet"], "2027-03-15", "what is said of a session on its own day is corrected in the night");
    for done in 1..=4 {
        assert_eq!(ask(span(false)).await.1["done"], done);
    }
    let four = bars(&running, "S07?from=2027-03-01").await;
    running.stop().await;
    let running = world.start().await;
    let ask = async |body: Value| running.operate("/api/v1/ingest/backfill", Some(body)).await;
    assert_eq!(ask(span(true)).await.1["next"], "2027-03-12", "it goes on after a restart");
    let (_, last) = ask(span(false)).await;
    assert_eq!((&last["done"], &last["next"], &last["without_bars"]), (&json!(5), &Value::Null, &json!(0)));
    assert_eq!(ask(span(false)).await.1["done"], 5, "once more, nothing is left to do");
    let days = bars(&running, "S07?from=2027-03-01").await;
    assert_eq!((days["count"].as_u64(), &days["bars"][0]), (Some(6), &four["bars"][0]));
    let (_, stock) = running.get("/api/stocks/S07/").await;
    assert_eq!(
        days["bars"][4]["close"], stock["data"]["previous_close"],
        "the bars are of the same market as the quotes"
    );
    let stats = running.stats().await;
    let dates = stats["historical_dates"].as_array().unwrap();
    assert_eq!((dates.len(), &dates[0]), (5, &json!("2027-03-09")), "of the first day nobody knows the close before");
    assert!(stats["historical_gainers"][0].as_i64().unwrap() + stats["historical_losers"][0].as_i64().unwrap() > 0);

    // A split of three for one after the second day: applied when it is read, and nothing but then.
    let id = world.database.query("SELECT CAST(id AS TEXT) FROM history_symbols WHERE symbol = 'S07'").await.remove(0);
    world
        .database
        .execute(format!(
            "INSERT INTO splits (symbol_id, session, numerator, denominator) VALUES ({id}, '2027-03-10', 3, 1)"
        ))
        .await;
    assert_eq!(bars(&running, "S07?from=2027-03-01&adjusted=false").await["bars"], days["bars"]);
    let adjusted = bars(&running, "S07?from=2027-03-01").await;
    assert_eq!(adjusted["bars"].as_array().unwrap()[2..], days["bars"].as_array().unwrap()[2..]);
    let (raw, now) = (days["bars"][1]["close"].as_f64().unwrap(), adjusted["bars"][1]["close"].as_f64().unwrap());
    assert!((now * 3.0 - raw).abs() < 0.000_2, "{now} of {raw}");
    assert_eq!(adjusted["bars"][1]["volume"].as_i64().unwrap(), days["bars"][1]["volume"].as_i64().unwrap() * 3);

    // Some symbols only are another piece of work.
    let some = json!({ "from": "2027-03-01", "to": "2027-03-08", "symbols": ["s01", "S02"] });
    let (_, plan) = ask(some.clone()).await;
    assert_eq!((&plan["symbols"], &plan["units"], &plan["done"]), (&json!(2), &json!(6), &json!(1)));
    assert_eq!(bars(&running, "S03?from=2027-03-01&to=2027-03-05").await["count"], 0);
    assert_eq!(bars(&running, "S01?from=2027-03-01&to=2027-03-05").await["count"], 1);
    while ask(some.clone()).await.1["next"] != Value::Null {}
    let dates = async || running.stats().await["historical_dates"].clone();
    assert_eq!(dates().await.as_array().unwrap().len(), 5, "two symbols are not the market");
    // The week before, of all: now the first day has a close before it, too.
    let before = json!({ "from": "2027-03-01", "to": "2027-03-05" });
    while ask(before.clone()).await.1["next"] != Value::Null {}
    let all = ["02", "03", "04", "05", "08", "09", "10", "11", "12", "15"].map(|day| format!("2027-03-{day}"));
    assert_eq!(dates().await, json!(all));
    assert_eq!(running.stats().await["historical_total"][0], 12);
    for (body, word) in [
        (json!({ "from": "2027-03-09", "to": "2027-03-08" }), "after"),
        (json!({ "from": "-262143-01-01", "to": "2027-03-08" }), "1900"),
        (json!({ "from": "2027-03-08", "to": "2027-03-09", "symbols": ["NONE"] }), "NONE"),
    ] {
        let (status, problem) = ask(body).await;
        assert!(status == 422 && problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    running.stop().await;
}

#[tokio::test]
async fn questions_about_bars_are_checked_and_those_of_delisted_symbols_answered() {
    let world = world("2027-03-15T13:29:00Z", Engine::Sqlite).await;
    let running = world.start().await;
    running.stats().await;
    for (query, word) in [
        ("S03?interval=1h", "1d, 15m or point"),
        ("S03?interwal=1d", "interwal"),
        ("S03?from=yesterday", "neither a date"),
        ("S03?from=2027-03-16&to=2027-03-15", "after"),
        ("S03?limit=0", "1 to 1000"),
        ("S03?limit=1001", "1 to 1000"),
        ("S03?adjusted=maybe", "true or false"),
        ("S03?to=-262143-01-01", "to is of the year -262143"),
        ("S03?from=%2B262142-01-01", "from is of the year 262142"),
        ("S03?interval=15m&from=0001-01-01T00:00:00Z", "from is of the year 1;"),
    ] {
        let (status, problem) = running.get(&format!("/api/v1/bars/{query}")).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains(word), "{query}: {problem}");
    }
    let (status, problem) = running.get("/api/v1/bars/NONE").await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    world.database.execute("INSERT INTO history_symbols (id, symbol) VALUES (900, 'GONE')".to_owned()).await;
    let row = "INSERT INTO bars_1d VALUES (900, '2026-06-01', 70000, 71000, 69000, 70500, NULL, true)";
    world.database.execute(row.to_owned()).await;
    let gone = bars(&running, "gone?from=2026-01-01").await;
    assert_eq!(
        gone["bars"],
        json!([{ "date": "2026-06-01", "open": 7.0, "high": 7.1, "low": 6.9, "close": 7.05, "volume": null }])
    );
    // An instant of a session's own day is that day, and not the one before.
    let row = "INSERT INTO bars_1d VALUES (900, '2026-06-02', 70000, 71000, 69000, 70600, 12, true)";
    world.database.execute(row.to_owned()).await;
    let on = bars(&running, "GONE?from=2026-06-02T00:30:00Z&to=2026-06-30").await;
    assert_eq!(column(&on, "date"), ["2026-06-01", "2026-06-02"], "it is the evening before in New York");
    let on = bars(&running, "GONE?from=2026-06-02T14:30:00Z&to=2026-06-30").await;
    assert_eq!(column(&on, "date"), ["2026-06-02"]);
    // As a table and as lines.
    let text = async |accept: &str| {
        let url = format!("http://{}/api/v1/bars/GONE?from=2026-06-01&limit=1", running.daemon.api);
        let response = running.http.get(&url).header("accept", accept).send().await.unwrap();
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        (response.status().as_u16(), link, response.text().await.unwrap())
    };
    let next = Some("</api/v1/bars/GONE?limit=1&from=2026-06-02>; rel=\"next\"".to_owned());
    let table = "date,open,high,low,close,volume\r\n2026-06-01,7.00,7.10,6.90,7.05,\r\n".to_owned();
    assert_eq!(text("text/csv").await, (200, next.clone(), table));
    let line = r#"{"date":"2026-06-01","open":7.0,"high":7.1,"low":6.9,"close":7.05,"volume":null}"#;
    assert_eq!(text("application/x-ndjson").await, (200, next, format!("{line}\n")));
    assert_eq!(text("image/png").await.0, 406);
    let url = format!("http://{}/api/v1/bars/S03?interval=1d", running.daemon.api);
    let response = running.http.get(&url).send().await.unwrap();
    let tag = response.headers()["etag"].clone();
    assert!(response.headers()["cache-control"].to_str().unwrap().starts_with("public, max-age="));
    let again = running.http.get(&url).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    world.clock.advance(TimeDelta::seconds(1));
    running.stop().await;
}
