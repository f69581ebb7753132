//! The calendar as operators change it and clients ask it, live.

use std::path::Path;

use bellwether::store::RunState;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Engine, Running, World, eventually, instant};
use crate::process::Process;

const TOKEN: &str = "an-operators-token-of-good-length";
const HEADER: &str = "date,venue,kind,open,close,halt_start,halt_end,reason,source,declared_at,author\n";
const PATH: &str = "/api/v1/calendar/XNYS/exceptions";

async fn send(running: &Running, method: Method, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
    let mut request = running.http.request(method, format!("http://{}{path}", running.daemon.api));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if !body.is_null() {
        request = request.body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn post(running: &Running, body: Value) -> (StatusCode, Value) {
    send(running, Method::POST, PATH, Some(TOKEN), body).await
}

/// The slots of a job that ended well, as times of the day in UTC.
async fn done(world: &World, running: &Running, job: &str) -> Vec<String> {
    let runs = world.ledger(running, job).await;
    let ok = runs.iter().filter(|run| run.state == RunState::Ok && run.origin.name() != "cold_start");
    ok.map(|run| run.scheduled_for.format("%H:%M").to_string()).collect()
}

async fn world(at: &str, engine: Engine, settings: &[(&str, &str)]) -> World {
    let settings: Vec<_> = [("OPERATOR_TOKEN", TOKEN)].into_iter().chain(settings.iter().copied()).collect();
    World::at(at, engine, &settings).await
}

async fn closing_today_at_eleven(engine: Engine) {
    // 10:53 in New York; a cycle at 10:54, 10:57, and none at 11:00 or later.
    let world = world("2027-03-15T14:53:00Z", engine, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let before = running.get("/api/market-hours/").await.1;
    // The cycle at start ends first, or it would hold back the first slot.
    world.advance_to(&running, instant("2027-03-15T14:53:01Z")).await;
    world.advance_to(&running, instant("2027-03-15T14:54:00Z")).await;
    world.advance_to(&running, instant("2027-03-15T14:57:00Z")).await;
    let (status, answer) =
        post(&running, json!({"date": "2027-03-15", "kind": "early_close", "close": "11:00", "reason": "Flood"})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["changes"][0]["after"], "early_close 09:30-11:00 (Flood)");
    let hours = running.get("/api/market-hours/").await.1;
    assert_eq!((&hours["next_transition"], &hours["next_phase"]), (&json!("2027-03-15T15:00:00Z"), &json!("post")));
    assert_eq!((&hours["confidence"], &hours["reason"]), (&json!("operator"), &json!("Flood")));
    assert_ne!(hours["calendar_version"], before["calendar_version"]);
    assert_eq!(hours["calendar_version"], answer["calendar_version"]);

    // Readers are told when to expect news by the new calendar: the next cycle is that of the close, five minutes after it.
    world.advance_to(&running, instant("2027-03-15T14:57:01Z")).await;
    for minute in ["15:00", "15:03", "15:05", "15:06", "15:30", "20:05"] {
        world.advance_to(&running, instant(&format!("2027-03-15T{minute}:00Z"))).await;
    }
    assert_eq!(done(&world, &running, "ingest").await, ["14:54", "14:57"]);
    assert_eq!(done(&world, &running, "ingest-close").await, ["15:05"]);
    let last = world.ledger(&running, "ingest-close").await.pop().unwrap();
    assert_eq!(last.calendar_version, answer["calendar_version"].as_str().unwrap());
    running.stop().await;
}

#[tokio::test]
async fn closing_today_at_eleven_stops_ingestion_and_moves_the_close_sqlite() {
    closing_today_at_eleven(Engine::Sqlite).await;
}

#[tokio::test]
async fn closing_today_at_eleven_stops_ingestion_and_moves_the_close_postgres() {
    closing_today_at_eleven(Engine::Postgres).await;
}

#[tokio::test]
async fn a_closure_that_is_withdrawn_opens_the_market_again() {
    let world = world("2027-03-15T14:56:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    world.advance_to(&running, instant("2027-03-15T14:56:01Z")).await;
    let (_, answer) = post(&running, json!({"date": "2027-03-15", "kind": "closure", "reason": "Flood"})).await;
    assert_eq!(running.get("/api/market-hours/").await.1["phase"], "closed");
    world.advance_to(&running, instant("2027-03-15T15:10:30Z")).await;
    assert_eq!(done(&world, &running, "ingest").await, [""; 0]);
    let id = answer["id"].as_str().unwrap();
    let (status, _) = send(&running, Method::DELETE, &format!("{PATH}/{id}"), Some(TOKEN), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(running.get("/api/market-hours/").await.1["phase"], "regular");
    // The slot of 15:09 is made up at once, and the next one comes as if nothing had been.
    world.advance_to(&running, instant("2027-03-15T15:10:31Z")).await;
    world.advance_to(&running, instant("2027-03-15T15:12:00Z")).await;
    assert_eq!(done(&world, &running, "ingest").await, ["15:09", "15:12"]);
    running.stop().await;
}

#[tokio::test]
async fn exceptions_are_for_operators_and_refused_with_a_reason() {
    let world = world("2027-03-15T12:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let closure = json!({"date": "2027-03-16", "kind": "closure", "reason": "Flood"});
    for token in [None, Some(""), Some("wrong"), Some("an-operators-token-of-good-lengt")] {
        for (method, path) in [(Method::POST, PATH), (Method::DELETE, PATH)] {
            let (status, answer) = send(&running, method, path, token, closure.clone()).await;
            assert_eq!((status, &answer["code"]), (StatusCode::UNAUTHORIZED, &json!("unauthorized")));
            assert_eq!(answer["success"], Value::Null, "no members of the old site");
        }
    }
    for (body, status, code, word) in [
        (
            json!({"date": "2027-03-14", "kind": "early_close", "close": "11:00", "reason": "x"}),
            422,
            "refused",
            "no session",
        ),
        (json!({"date": "2027-03-16", "kind": "early_close", "reason": "x"}), 422, "refused", "needs close"),
        (json!({"date": "2027-03-16", "kind": "closure"}), 422, "refused", "no reason"),
        (json!({"date": "soon", "kind": "closure", "reason": "x"}), 422, "refused", "not a date"),
        (json!({"date": "2027-03-16", "kind": "closure", "reason": "x", "colour": "red"}), 400, "bad_body", "colour"),
        (json!({"date": "2027-03-16", "kind": "closure", "reason": "x", "venue": "XNAS"}), 400, "bad_body", "XNAS"),
        (json!(["2027-03-16"]), 400, "bad_body", "not an object"),
        (Value::Null, 400, "bad_body", "not an object"),
    ] {
        let (given, answer) = post(&running, body.clone()).await;
        assert_eq!((given.as_u16(), answer["code"].as_str().unwrap()), (status, code), "{body}");
        assert!(answer["detail"].as_str().unwrap().contains(word), "{answer}");
    }
    // A rehearsal, the thing itself, the same again, and something else beside it.
    let (status, answer) =
        send(&running, Method::POST, &format!("{PATH}?dry_run=true"), Some(TOKEN), closure.clone()).await;
    assert_eq!((status, &answer["id"], answer["changes"].as_array().unwrap().len()), (StatusCode::OK, &Value::Null, 1));
    assert_eq!(running.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.1["kind"], "full");
    let (status, first) = post(&running, closure.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, again) = post(&running, closure).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &first["id"]), "the same words are the same exception");
    let (status, answer) =
        post(&running, json!({"date": "2027-03-16", "kind": "early_close", "close": "11:00", "reason": "x"})).await;
    assert_eq!((status.as_u16(), answer["mistakes"][0]["column"].as_str()), (422, Some("date")), "{answer}");
    // The list tells where each comes from; only what came over HTTP can be withdrawn.
    let list = running.get(&format!("{PATH}?origin=api")).await.1;
    assert_eq!(list["exceptions"][0]["id"], first["id"]);
    assert_eq!(list["exceptions"][0]["author"], "operator");
    let all = running.get(PATH).await.1;
    let (_, us) = send(
        &running,
        Method::POST,
        "/api/v1/calendar/US/exceptions",
        Some(TOKEN),
        json!({"date": "2027-03-17", "kind": "halt", "halt_start": "10:00", "halt_end": "10:15", "reason": "Drill"}),
    )
    .await;
    let there = format!("{PATH}/{}", us["id"].as_str().unwrap());
    let (status, answer) = send(&running, Method::DELETE, &there, Some(TOKEN), Value::Null).await;
    assert!(
        status == StatusCode::CONFLICT && answer["detail"].as_str().unwrap().contains("/US/exceptions/"),
        "{answer}"
    );
    assert_eq!(running.get("/api/v1/calendar/US/exceptions?origin=api").await.1["exceptions"][0]["id"], us["id"]);
    assert_eq!(running.get(&format!("{PATH}?origin=foo")).await.0, 400);
    assert!(all["exceptions"].as_array().unwrap().len() > 40 && all["exceptions"][0]["origin"] == "built_in");
    let gone = |query: &'static str| send(&running, Method::DELETE, query, Some(TOKEN), Value::Null);
    assert_eq!(gone("/api/v1/calendar/XNYS/exceptions?date=2027-03-17").await.0, StatusCode::NOT_FOUND);
    assert_eq!(gone("/api/v1/calendar/XNAS/exceptions?date=2027-03-16").await.0, StatusCode::NOT_FOUND);
    assert_eq!(gone("/api/v1/calendar/XNYS/exceptions").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(gone("/api/v1/calendar/XNYS/exceptions?date=2027-03-16&kind=closure").await.0, StatusCode::OK);
    assert_eq!(gone("/api/v1/calendar/XNYS/exceptions?date=2027-03-16").await.0, StatusCode::NOT_FOUND);
    assert_eq!(running.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.1["kind"], "full");
    running.stop().await;
}

#[tokio::test]
async fn what_operators_sent_outlives_the_daemon_and_reaches_the_other_one() {
    let world = world("2027-03-15T12:00:00Z", Engine::Postgres, &[]).await;
    let (one, two) = (world.start().await, world.start().await);
    let (status, answer) = post(&one, json!({"date": "2027-03-16", "kind": "closure", "reason": "Flood"})).await;
    assert_eq!(status, StatusCode::CREATED);
    eventually("the other instance has it", async || {
        world.clock.advance(chrono::TimeDelta::milliseconds(250));
        two.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.1["kind"] == "closure"
    })
    .await;
    assert_eq!(two.get("/api/market-hours/").await.1["calendar_version"], answer["calendar_version"]);
    one.stop().await;
    two.stop().await;
    let three = world.start().await;
    assert_eq!(three.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.1["reason"], "Flood");
    three.stop().await;
}

#[tokio::test]
async fn a_file_is_watched_and_a_bad_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exceptions.csv");
    std::fs::write(&file, HEADER).unwrap();
    let settings = [("BELLWETHER_CALENDAR__EXCEPTIONS", file.to_str().unwrap())];
    let world = world("2027-03-15T14:00:00Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    let kind = async || running.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.1["kind"].clone();
    let write = |text: &str| {
        // As editors do: a new file in place of the old one.
        let new = directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    let until = async |what: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(what, async || {
            world.clock.advance(chrono::TimeDelta::milliseconds(250));
            holds(&send(&running, Method::GET, PATH, Some(TOKEN), Value::Null).await.1)
        })
        .await;
    };
    assert_eq!(kind().await, "full");
    write(&format!("{HEADER}2027-03-16,US,closure,,,,,Flood,,,\n"));
    eventually("the closure is in force", async || {
        world.clock.advance(chrono::TimeDelta::milliseconds(250));
        kind().await == "closure"
    })
    .await;
    for (bad, word) in [
        (
            format!("{HEADER}2027-03-16,US,closure,,,,,Flood,,,\n2027-03-17,XNYS,early_close,,25:00,,,Typo,,,\n"),
            "line 3, column 5 (close)",
        ),
        (String::new(), "the file is empty"),
        (format!("{HEADER}2027-03-16,US,closure,,,,,A,,,\n2027-03-16,XNYS,closure,,,,,B,,,\n"), "told twice"),
    ] {
        write(&bad);
        until("the mistake is told", &|list| list["fault"].as_str().is_some_and(|fault| fault.contains(word))).await;
        assert_eq!(kind().await, "closure", "a bad file changes nothing: {word}");
    }
    // The file may hold anything: what is wrong with it is for operators.
    let public = running.get(PATH).await.1;
    assert_eq!((&public["in_order"], &public["fault"]), (&json!(false), &Value::Null));
    std::fs::remove_file(&file).unwrap();
    until("the missing file is told", &|list| {
        list["fault"].as_str().is_some_and(|fault| fault.contains("No such file"))
    })
    .await;
    assert_eq!(kind().await, "closure");
    write(HEADER);
    until("all is well again", &|list| list["fault"].is_null()).await;
    assert_eq!(kind().await, "full");
    running.stop().await;
}

/// What was stored and does not fit any more (a newer file, or a newer version, knows better) is left out and told, and keeps
/// nothing from starting or changing.
#[tokio::test]
async fn a_stored_exception_that_does_not_fit_any_more_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exceptions.csv");
    std::fs::write(&file, HEADER).unwrap();
    let settings = [("BELLWETHER_CALENDAR__EXCEPTIONS", file.to_str().unwrap())];
    let world = world("2027-03-12T14:00:00Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    let mut ids = Vec::new();
    for day in ["2027-03-15", "2027-03-16"] {
        let (_, answer) =
            post(&running, json!({"date": day, "kind": "late_open", "open": "10:00", "reason": "Snow"})).await;
        ids.push(answer["id"].as_str().unwrap().to_owned());
    }
    let closures = format!("{HEADER}2027-03-15,XNYS,closure,,,,,Flood,,,\n2027-03-16,XNYS,closure,,,,,Flood,,,\n");
    std::fs::write(&file, closures).unwrap();
    let kind =
        async |running: &Running| running.get("/api/v1/calendar/XNYS/why?date=2027-03-15").await.1["kind"].clone();
    eventually("the closure is in force", async || {
        world.clock.advance(chrono::TimeDelta::milliseconds(250));
        kind(&running).await == "closure"
    })
    .await;
    running.stop().await;
    let running = world.start().await;
    assert_eq!(kind(&running).await, "closure", "the same answer after a restart");
    let list = running.get(&format!("{PATH}?origin=api")).await.1;
    let told: Vec<_> =
        list["exceptions"].as_array().unwrap().iter().map(|row| row["left_out"].as_str().unwrap()).collect();
    assert!(told.len() == 2 && told[0].contains("2027-03-15 is closed (Flood)"), "{list}");
    assert_eq!(list["in_order"], false);
    let (status, _) = post(&running, json!({"date": "2027-03-18", "kind": "closure", "reason": "Fire"})).await;
    assert_eq!(status, StatusCode::CREATED, "an unrelated change goes through");
    for id in ids {
        let (status, answer) = send(&running, Method::DELETE, &format!("{PATH}/{id}"), Some(TOKEN), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    assert_eq!(running.get(PATH).await.1["in_order"], true);
    running.stop().await;
}

/// A caller that hangs up in the middle leaves the database and the calendar at one.
#[tokio::test]
async fn callers_that_hang_up_part_nothing() {
    use tokio::io::AsyncWriteExt;
    let world = world("2027-03-12T14:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    for day in 1..=28 {
        let body = json!({"date": format!("2030-10-{day:02}"), "kind": "closure", "reason": "Drill"}).to_string();
        let mut stream = tokio::net::TcpStream::connect(running.daemon.api).await.unwrap();
        let length = body.len();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        // Gone at another point of the work each time.
        for _ in 0..day * 3 {
            tokio::task::yield_now().await;
        }
        drop(stream);
    }
    // A last call goes through the same door, so whatever the others did is done.
    let (status, _) = post(&running, json!({"date": "2030-11-04", "kind": "closure", "reason": "Drill"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let stored: std::collections::BTreeSet<String> =
        running.daemon.store.calendar_exceptions().await.unwrap().into_iter().map(|row| row.written.date).collect();
    let list = running.get(&format!("{PATH}?origin=api")).await.1;
    let shown = list["exceptions"].as_array().unwrap().iter().map(|row| row["date"].as_str().unwrap().to_owned());
    assert_eq!(shown.collect::<std::collections::BTreeSet<_>>(), stored);
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_could_not_be_read_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exceptions.csv");
    std::fs::write(&file, HEADER).unwrap();
    let settings = [("BELLWETHER_CALENDAR__EXCEPTIONS", file.to_str().unwrap())];
    let world = world("2027-03-12T14:00:00Z", Engine::Sqlite, &settings).await;
    let running = world.start().await;
    let until = async |what: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(what, async || {
            world.clock.advance(chrono::TimeDelta::milliseconds(250));
            holds(&send(&running, Method::GET, PATH, Some(TOKEN), Value::Null).await.1)
        })
        .await;
    };
    // A directory in its place is no file; a pipe would never end.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    until("what is wrong is told", &|list| list["fault"].as_str().is_some_and(|fault| fault.contains("no plain file")))
        .await;
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, format!("{HEADER}2027-03-16,XNYS,closure,,,,,Flood,,,\n")).unwrap();
    until("all is well again", &|list| list["in_order"] == true).await;
    assert_eq!(running.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.1["kind"], "closure");
    running.stop().await;
}

/// As a whole: it is looked at each second as well, and half of it would be told.
fn replace(file: &std::path::Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_the_log_names_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exceptions.csv");
    std::fs::write(&file, HEADER).unwrap();
    let settings = [("BELLWETHER_CALENDAR__EXCEPTIONS", file.to_str().unwrap()), ("OPERATOR_TOKEN", TOKEN)];
    let mut process = Process::start(directory.path(), &settings);
    process.signal("HUP");
    let line = process.until(|line| line["message"] == "the calendar was read anew");
    assert_eq!((&line["cause"], &line["changes"]), (&json!("SIGHUP"), &json!(0)));
    replace(&file, &format!("{HEADER}2027-03-16,XNYS,closure,,,,,Flood,,,\n"));
    process.signal("HUP");
    let line = process.until(|line| line["message"] == "the calendar has changed");
    assert_eq!((&line["date"], &line["after"]), (&json!("2027-03-16"), &json!("closure (Flood)")));
    // What came over HTTP is taken in once, not a second time by those who watch the database.
    let url = format!("http://{}{PATH}", process.api);
    let row = json!({"date": "2027-03-17", "kind": "closure", "reason": "Fire"}).to_string();
    let sent = crate::harness::client().post(url).bearer_auth(TOKEN).body(row).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED);
    process.until(|line| line["cause"] == "operator");
    replace(&file, &format!("{HEADER}2027-03-16,XNYS,closed for ever,,,,,Flood,,,\n"));
    process.signal("HUP");
    let line = process.until(|line| line["message"] == "the calendar stays as it was");
    let fault = line["error"].as_str().unwrap();
    assert!(fault.contains("line 2, column 3 (kind)") && fault.contains("fix: write one of"), "{fault}");
    let why = process.get("/api/v1/calendar/XNYS/why?date=2027-03-16").await.unwrap().1;
    assert_eq!(why["kind"], "closure");
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
    assert!(!process.log.iter().any(|line| line["cause"] == "database changed"), "{:#?}", process.log);
}

#[tokio::test]
async fn the_calendar_answers_over_http() {
    let world = world("2026-11-27T17:30:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let (status, at) = running.get("/api/v1/calendar/xnys/at").await;
    assert_eq!(status, 200);
    assert_eq!(at, running.get("/api/v1/calendar/XNYS/at/?at=2026-11-27T17:30:00Z").await.1);
    assert_eq!(at, running.get("/api/v1/calendar/XNYS/next").await.1);
    insta::assert_snapshot!(masked(&at), @r#"{"at":"2026-11-27T17:30:00Z","calendar_version":"VERSION","confidence":"official","exchange":"XNYS","is_early_close":true,"next_close":"2026-11-27T18:00:00Z","next_open":"2026-11-30T14:30:00Z","next_phase":"post","next_transition":"2026-11-27T18:00:00Z","phase":"regular","reason":"Day after Thanksgiving","session":"2026-11-27"}"#);
    let (_, why) = running.get("/api/v1/calendar/XNYS/why?date=2025-01-09").await;
    insta::assert_snapshot!(why.to_string(), @r#"{"confidence":"official","date":"2025-01-09","declared_at":"2024-12-30","is_session":false,"kind":"closure","reason":"National day of mourning for former President Carter","source":"Intercontinental Exchange press release of 2024-12-30"}"#);
    let (_, then) = running.get("/api/v1/calendar/XNYS/why?date=2025-01-09&as_of=2024-12-29T12:00:00Z").await;
    assert_eq!(then["kind"], "full");
    let (_, sessions) = running.get("/api/v1/calendar/XNYS/sessions?from=2026-11-25&to=2026-12-31&limit=2").await;
    insta::assert_snapshot!(masked(&sessions), @r#"{"calendar_version":"VERSION","exchange":"XNYS","next_from":"2026-11-30","sessions":[{"break_end":null,"break_start":null,"close":"2026-11-25T21:00:00Z","kind":"full","open":"2026-11-25T14:30:00Z","post_close":"2026-11-26T01:00:00Z","pre_open":"2026-11-25T09:00:00Z","reason":null,"session":"2026-11-25"},{"break_end":null,"break_start":null,"close":"2026-11-27T18:00:00Z","kind":"early_close","open":"2026-11-27T14:30:00Z","post_close":"2026-11-27T22:00:00Z","pre_open":"2026-11-27T09:00:00Z","reason":"Day after Thanksgiving","session":"2026-11-27"}]}"#);
    let (_, next) = running.get("/api/v1/calendar/XNYS/sessions?from=2026-11-30&to=2026-12-31").await;
    assert_eq!((next["sessions"].as_array().unwrap().len(), &next["next_from"]), (23, &Value::Null));
    let (_, venues) = running.get("/api/v1/calendar").await;
    assert!(venues["venues"].as_array().unwrap().iter().any(|venue| venue["exchange"] == "XHKG"));
    assert_eq!(running.get("/api/v1/calendar/XTKS").await.1["zone"], "Asia/Tokyo");
    for (path, status, word) in [
        ("/api/v1/calendar/XMOON/at", 404, "XNYS"),
        ("/api/v1/calendar/XNYS/at?when=now", 400, "when"),
        ("/api/v1/calendar/XNYS/at?at=yesterday", 400, "RFC 3339"),
        ("/api/v1/calendar/XNYS/sessions", 400, "from is missing"),
        ("/api/v1/calendar/XNYS/sessions?from=2027-01-01&to=2026-01-01", 400, "after"),
        ("/api/v1/calendar/XNYS/sessions?from=2026-01-01&to=2027-01-01&limit=9999", 400, "limit"),
        ("/api/v1/calendar/XNYS/why?date=2026-02-30", 400, "a date"),
        ("/api/v1/calendar/XNYS/at?as_of=yesterday", 400, "RFC 3339"),
    ] {
        let (given, answer) = running.get(path).await;
        assert_eq!(given, status, "{path}");
        assert!(answer["detail"].as_str().unwrap().contains(word), "{path}: {answer}");
    }
    for known_at in ["-262143-01-01T00:00:00Z", "%2B262142-12-31T23:59:59Z", "1970-01-01T00:00:00Z"] {
        assert_eq!(running.get(&format!("/api/v1/calendar/XTKS/at?as_of={known_at}")).await.0, 200, "{known_at}");
    }
    let metrics =
        crate::harness::client().get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let hash = running.get("/api/v1/calendar/XNYS").await.1["calendar_hash"].as_str().unwrap().to_owned();
    assert!(
        metrics.lines().any(|line| line.starts_with("bellwether_calendar_info{") && line.contains(&hash)),
        "{hash}"
    );
    running.stop().await;
}

/// The version changes with every correction of the data; everything else is fixed.
fn masked(answer: &Value) -> String {
    let version = answer["calendar_version"].as_str().unwrap().to_owned();
    answer.to_string().replace(&version, "VERSION")
}

#[tokio::test]
async fn people_can_subscribe_to_the_sessions() {
    let world = world("2026-11-20T12:00:00Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    let url = format!("http://{}/api/v1/calendar/XNYS/sessions.ics", running.daemon.api);
    let response = running.http.get(&url).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/calendar; charset=utf-8");
    let tag = response.headers()["etag"].clone();
    let text = response.text().await.unwrap();
    assert!(text.starts_with("BEGIN:VCALENDAR\r\n") && text.ends_with("END:VCALENDAR\r\n"));
    assert!(text.split("\r\n").all(|line| line.len() <= 75), "RFC 5545 folds lines at 75 octets");
    // The event of the day after Thanksgiving, its lines unfolded.
    let plain = text.replace("\r\n ", "");
    let event = plain.split("BEGIN:VEVENT\r\n").find(|event| event.contains("20261127T143000Z")).unwrap();
    insta::assert_snapshot!(event.replace("\r\n", "\n").trim_end(), @"
    DESCRIPTION:New York Stock Exchange 09:30-13:00 (America/New_York)
    DTEND:20261127T180000Z
    DTSTAMP:20261127T143000Z
    DTSTART:20261127T143000Z
    SUMMARY:XNYS closes early: Day after Thanksgiving
    TRANSP:TRANSPARENT
    UID:2026-11-27-XNYS@bellwether
    END:VEVENT
    ");
    let again = running.http.get(&url).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    running.stop().await;
}

fn answer(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = bellwether(directory, arguments, environment);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_calendar_on_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| answer(directory.path(), arguments, &[]);
    insta::assert_snapshot!(run(&["calendar", "why", "2025-01-09"]).1, @"
    Thu 2025-01-09 is no session of XNYS: closure
    reason      National day of mourning for former President Carter
    source      Intercontinental Exchange press release of 2024-12-30
    declared    2024-12-30
    confidence  official
    ");
    insta::assert_snapshot!(run(&["calendar", "why", "2003-09-11"]).1, @"
    Thu 2003-09-11 is a session of XNYS: full
    reason      A minute of silence on the second anniversary of the attack on the World Trade Center
    source      NYSE list of special closings (2011)
    hours       09:30-16:00, halt 09:59-10:00, halt 10:29-10:30
    confidence  official
    ");
    insta::assert_snapshot!(run(&["calendar", "show", "2025-11"]).1, @"
    New York Stock Exchange (XNYS), times of America/New_York

           November 2025
     Mo  Tu  We  Th  Fr  Sa  Su
                          .   .
      3   4   5   6   7   .   .
     10  11  12  13  14   .   .
     17  18  19  20  21   .   .
     24  25  26  27# 28<  .   .

    19 sessions   # closed   < closes early   > opens late   * other hours   [] today
    2025-11-27 Thu holiday     Thanksgiving Day
    2025-11-28 Fri early_close 09:30-13:00 Day after Thanksgiving
    ");
    let (code, json) = run(&["calendar", "why", "2025-01-09", "--json"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(json.trim(), @r#"{"date":"2025-01-09","is_session":false,"kind":"closure","reason":"National day of mourning for former President Carter","source":"Intercontinental Exchange press release of 2024-12-30","declared_at":"2024-12-30","confidence":"official"}"#);
    let (_, then) = run(&["calendar", "why", "2025-01-09", "--as-of", "2024-12-29", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&then).unwrap()["kind"], "full");
    let (_, year) = run(&["calendar", "show", "2027"]);
    assert!(year.contains("251 sessions") && year.lines().all(|line| line.chars().count() <= 110), "{year}");
    let rows = run(&["calendar", "export", "--from", "2027-01-01", "--to", "2027-01-10", "--exchange", "XHKG"]).1;
    insta::assert_snapshot!(rows, @"
    session,pre_open,open,break_start,break_end,close,post_close,kind,reason
    2027-01-04,2027-01-04T01:00:00Z,2027-01-04T01:30:00Z,2027-01-04T04:00:00Z,2027-01-04T05:00:00Z,2027-01-04T08:00:00Z,2027-01-04T08:10:00Z,full,
    2027-01-05,2027-01-05T01:00:00Z,2027-01-05T01:30:00Z,2027-01-05T04:00:00Z,2027-01-05T05:00:00Z,2027-01-05T08:00:00Z,2027-01-05T08:10:00Z,full,
    2027-01-06,2027-01-06T01:00:00Z,2027-01-06T01:30:00Z,2027-01-06T04:00:00Z,2027-01-06T05:00:00Z,2027-01-06T08:00:00Z,2027-01-06T08:10:00Z,full,
    2027-01-07,2027-01-07T01:00:00Z,2027-01-07T01:30:00Z,2027-01-07T04:00:00Z,2027-01-07T05:00:00Z,2027-01-07T08:00:00Z,2027-01-07T08:10:00Z,full,
    2027-01-08,2027-01-08T01:00:00Z,2027-01-08T01:30:00Z,2027-01-08T04:00:00Z,2027-01-08T05:00:00Z,2027-01-08T08:00:00Z,2027-01-08T08:10:00Z,full,
    ");
    for (arguments, code) in [
        (&["calendar", "at", "2027-03-15T14:00:00Z", "--exchange", "XMOON"][..], 2),
        (&["calendar", "export", "--from", "2027-02-01", "--to", "2027-01-10"], 2),
        (&["calendar", "show", "2027-13"], 2),
        (&["simulate", "--from", "2027-02-01T00:00:00Z", "--to", "2027-01-10T00:00:00Z"], 2),
        (&["calendar", "check", "nowhere.csv"], 78),
    ] {
        assert_eq!(run(arguments).0, Some(code), "{arguments:?}");
    }
}

#[test]
fn a_file_is_checked_before_it_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: &str| {
        std::fs::write(directory.path().join(name), format!("{HEADER}{rows}")).unwrap();
    };
    let run = |arguments: &[&str]| answer(directory.path(), arguments, &[]);
    write("good.csv", "2027-03-16,XNYS,early_close,,11:00,,,Flood,,,\n2027-03-17,US,halt,,,10:00,10:15,Drill,,,\n");
    let (code, text) = run(&["calendar", "check", "good.csv"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("good.csv: 2 rows, no mistakes; 8 dates would change\n"), "{text}");
    assert!(
        text.contains("XNYS Tue 2027-03-16\n  - full 09:30-16:00\n  + early_close 09:30-11:00 (Flood)\n"),
        "{text}"
    );
    write("bad.csv", "2027-03-16,XNYS,early_close,,11:00,,Flood,,,\n2027-03-14,XNYS,halt,,,10:00,10:15,Sunday,,,\n");
    let (code, text) = run(&["calendar", "check", "bad.csv"]);
    assert_eq!(code, Some(3));
    assert!(text.starts_with("bad.csv: line 2: 10 values for 11 columns; fix:"), "{text}");
    let (code, text) = run(&["calendar", "check", "bad.csv", "--json"]);
    assert_eq!(code, Some(3));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["mistakes"][0]["line"], 2);
    // The doctor's advice holds while the configured file is the bad one.
    let setting = [("BELLWETHER_CALENDAR__EXCEPTIONS", "bad.csv")];
    let (code, text) = answer(directory.path(), &["calendar", "check", "bad.csv"], &setting);
    assert!(code == Some(3) && text.contains("bad.csv: line 2: 10 values"), "{text}");
    let (code, text) = answer(directory.path(), &["calendar", "check", "good.csv"], &setting);
    assert!(code == Some(0) && text.contains("8 dates would change"), "{text}");
    // A daemon, and every command, refuses to start with it: 78, and where the mistake is.
    let setting = [("BELLWETHER_CALENDAR__EXCEPTIONS", "bad.csv")];
    for command in [
        &["serve"][..],
        &["calendar", "next"],
        &["simulate", "--from", "2027-03-15T00:00:00Z", "--to", "2027-03-16T00:00:00Z"],
    ] {
        let (code, text) = answer(directory.path(), command, &setting);
        assert_eq!(code, Some(78), "{command:?}: {text}");
        assert!(text.contains("bad.csv: line 2"), "{text}");
    }
    // The rehearsal of a schedule goes by the file too.
    let setting = [("BELLWETHER_CALENDAR__EXCEPTIONS", "good.csv")];
    let simulate =
        ["simulate", "--from", "2027-03-16T00:00:00Z", "--to", "2027-03-17T00:00:00Z", "--job", "ingest-close"];
    assert!(answer(directory.path(), &simulate, &setting).1.starts_with("2027-03-16T15:05:00Z"));
    // And the doctor looks at it.
    let (code, text) = answer(directory.path(), &["doctor", "calendar"], &setting);
    assert!(code == Some(0) && text.contains("good.csv: 2 rows, no mistakes"), "{text}");
    let setting = [("BELLWETHER_CALENDAR__EXCEPTIONS", "bad.csv")];
    let (code, text) = answer(directory.path(), &["doctor"], &setting);
    assert!(code == Some(3) && text.contains("FINDING") && text.contains("fix: correct the line"), "{text}");
}

#[test]
fn the_zone_of_the_process_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 4] = [
        &["calendar", "export", "--from", "2027-03-01", "--to", "2027-11-30"],
        &["calendar", "at", "2027-03-14T07:30:00Z"],
        &["calendar", "show", "2027-03"],
        &["simulate", "--from", "2027-03-12T00:00:00Z", "--to", "2027-03-16T00:00:00Z"],
    ];
    for command in commands {
        let plain = answer(directory.path(), command, &[]);
        assert_eq!(plain.0, Some(0));
        for zone in ["UTC", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "Nowhere/Atall"] {
            let (_, text) = answer(directory.path(), command, &[("TZ", zone)]);
            assert_eq!(text, plain.1, "TZ={zone} {command:?}");
        }
    }
}

/// The lists the unit tests compare with are copied facts; where the original is at hand, nothing may be missing.
#[test]
fn the_copy_of_the_special_closings_is_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(original) = std::fs::read(root.join("../shared/data/nyse_special_events.csv")) else { return };
    let copy = std::fs::read_to_string(root.join("tests/data/nyse_special_events.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(original.as_slice());
    let kinds = ["closure", "early_close", "late_open", "late_close", "halt"];
    let rows = reader.records().map(Result::unwrap).filter(|row| kinds.contains(&&row[1]));
    let original: Vec<String> = rows.map(|row| row.iter().take(6).collect::<Vec<_>>().join(",")).collect();
    assert_eq!(original, copy.lines().skip(1).collect::<Vec<_>>());
}
