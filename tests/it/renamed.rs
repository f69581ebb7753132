//! A company trades under another symbol from one session on.

use serde_json::{Value, json};

use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant, write_universe};

async fn bars(running: &Running, query: &str) -> (u16, Vec<Value>) {
    let (status, body) = running.get(&format!("/api/v1/bars/{query}")).await;
    (status, body["bars"].as_array().cloned().unwrap_or_default())
}

async fn backfill(running: &Running, body: Value) {
    loop {
        let (status, plan) = running.operate("/api/v1/ingest/backfill", Some(body.clone())).await;
        assert_eq!(status, 200, "{plan}");
        if plan["done"] == plan["units"] {
            return;
        }
    }
}

#[tokio::test]
async fn a_renamed_symbol_keeps_its_history_and_the_new_one_begins_its_own() {
    let mut world = World::at("2027-03-15T14:00:10Z", Engine::Sqlite, &[("OPERATOR_TOKEN", OPERATOR)]).await;
    let list = world.file.path().join("universe.csv");
    let symbols = |symbols: &[&str]| symbols.iter().map(|symbol| (*symbol).to_owned()).collect::<Vec<_>>().into_iter();
    write_universe(&list, symbols(&["AAPL", "FB", "MSFT"]));
    world.set("BELLWETHER_INGEST__UNIVERSE__FILE", &list.display().to_string());
    world.set("BELLWETHER_INGEST__UNIVERSE__MAX_SHRINK_PERCENT", "50");
    let running = world.start().await;
    running.stats().await;
    backfill(&running, json!({ "from": "2027-03-01", "to": "2027-03-12" })).await;
    eventually("the past is told", async || {
        !running.get("/api/v1/quotes/FB").await.1["quote"]["change_week"].is_null()
    })
    .await;
    world.advance_to(&running, instant("2027-03-15T20:05:00Z")).await;
    world.advance_to(&running, instant("2027-03-15T20:30:00Z")).await;
    let (_, before) = bars(&running, "FB?from=2027-03-01").await;
    assert_eq!(before.len(), 11);

    // From Tuesday on it is another word for the same company.
    write_universe(&list, symbols(&["AAPL", "META", "MSFT"]));
    world.advance_to(&running, instant("2027-03-16T07:30:00Z")).await;
    world.advance_to(&running, instant("2027-03-16T13:30:00Z")).await;
    world.advance_to(&running, instant("2027-03-16T13:33:00Z")).await;
    eventually("the new name is quoted", async || running.get("/api/v1/quotes/META").await.0 == 200).await;
    assert_eq!(running.get("/api/v1/quotes/FB").await.0, 404, "what is not traded any more is not quoted");
    let (_, page) = running.get("/api/v1/quotes?symbols=FB,META").await;
    assert_eq!((&page["unknown"], page["quotes"].as_array().unwrap().len()), (&json!(["FB"]), 1));
    // What was kept of the old one is there under the old name, and none of it is taken for the new one's.
    assert_eq!(bars(&running, "FB?from=2027-03-01").await, (200, before.clone()));
    let (_, new) = bars(&running, "META?from=2027-03-01").await;
    assert_eq!(new.iter().map(|bar| &bar["date"]).collect::<Vec<_>>(), ["2027-03-16"]);
    let quote = running.get("/api/v1/quotes/META").await.1["quote"].clone();
    assert_eq!((&quote["change_week"], &quote["week_52_low"]), (&Value::Null, &Value::Null), "{quote}");

    // A source that has the past under the new name is asked for that symbol alone.
    backfill(&running, json!({ "from": "2027-03-01", "to": "2027-03-15", "symbols": ["META"] })).await;
    eventually("the new name has a past", async || {
        !running.get("/api/v1/quotes/META").await.1["quote"]["change_week"].is_null()
    })
    .await;
    let (_, new) = bars(&running, "META?from=2027-03-01").await;
    assert_eq!(new.len(), 12);
    assert_ne!(new[0]["close"], before[0]["close"], "as the source has it");
    assert_eq!(bars(&running, "FB?from=2027-03-01").await, (200, before.clone()));
    running.stop().await;

    // A restart has both.
    let running = world.start().await;
    assert_eq!(bars(&running, "FB?from=2027-03-01").await, (200, before));
    assert_eq!(bars(&running, "META?from=2027-03-01&to=2027-03-15").await.1.len(), 11);
    running.stop().await;
}
