//! What operators do to the schedule and the ledger, over HTTP and on the command line, and what jobs do that fail.

use bellwether::store::{JobRun, RunState};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Engine, OPERATOR, Running, World, eventually, instant};

macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::harness::Engine::Sqlite).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(crate::harness::Engine::Postgres).await; })+
        }
    };
}

on_both_engines!(
    a_failed_run_is_tried_again_by_hand,
    a_paused_job_leaves_its_slots_out_and_never_makes_up_for_them,
    slots_of_the_past_are_filled_in,
    a_run_is_cancelled_whether_it_waits_or_works,
    a_job_that_keeps_failing_pauses_itself,
    a_newer_slot_waits_or_takes_the_place_of_the_older_one,
    tries_wait_in_the_ledger_and_outlive_the_daemon,
);

/// Before the opening of a Monday, with a component `job` that runs hourly in a directory of its own.
async fn world(engine: Engine, script: &str, keys: &str) -> World {
    let world =
        World::at("2027-03-15T10:30:00Z", engine, &[("OPERATOR_TOKEN", OPERATOR), ("PATH", "/usr/bin:/bin")]).await;
    let directory = world.file.path();
    std::fs::write(directory.join("script"), script).unwrap();
    world.write_file(&format!(
        "[[component]]\nname = \"job\"\ncommand = [\"sh\", \"script\"]\ndirectory = {directory:?}\ntrigger = \"every 1h\"\n{keys}"
    ));
    world
}

async fn start(world: &World) -> Running {
    let running = world.start().await;
    running.stats().await;
    running
}

/// To an hour of that Monday, until everything has ended.
async fn at_hour(world: &World, running: &Running, hour: i64) {
    world.advance_to(running, instant("2027-03-15T00:00:00Z") + TimeDelta::hours(hour)).await;
}

/// Hour, state, tries and reason of each row.
fn told(runs: &[JobRun]) -> String {
    let line = |run: &JobRun| {
        let why = run.reason.as_deref().or(run.error.as_deref()).unwrap_or_default();
        format!("{} {} {} x{} {why}", run.scheduled_for.format("%H:%M"), run.origin, run.state, run.attempt)
    };
    runs.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn ended_as(world: &World, running: &Running, states: &[RunState]) {
    eventually(&format!("the runs are {states:?}"), async || {
        let runs = world.ledger(running, "job").await;
        runs.iter().map(|run| run.state).collect::<Vec<_>>() == states && running.daemon.scheduler.running() == 0
    })
    .await;
}

async fn a_failed_run_is_tried_again_by_hand(engine: Engine) {
    let world = world(engine, "echo one >&2; echo two >&2; test -e mended", "").await;
    let running = start(&world).await;
    at_hour(&world, &running, 11).await;
    let runs = world.ledger(&running, "job").await;
    assert_eq!(told(&runs), "11:00 scheduled failed x1 ended with exit code 1: two");
    let stats: Value = serde_json::from_str(runs[0].stats.as_deref().unwrap()).unwrap();
    assert_eq!((&stats["exit_code"], stats["last_lines"].as_array().unwrap().len()), (&json!(1), 2));
    let path = format!("/api/v1/runs/{}", runs[0].id);
    assert_eq!(running.get(&path).await.0, 401);
    assert_eq!(running.operate(&format!("{path}/cancel"), Some(json!({}))).await.0, 409);
    std::fs::write(world.file.path().join("mended"), "").unwrap();
    let (status, tried) = running.operate(&format!("{path}/retry"), Some(json!({ "dry_run": true }))).await;
    assert_eq!((status, &tried["attempt"], &tried["dry_run"]), (200, &json!(2), &json!(true)));
    assert_eq!(running.operate(&format!("{path}/retry"), Some(json!({}))).await.0, 200);
    ended_as(&world, &running, &[RunState::Ok]).await;
    let (_, shown) = running.operate(&path, None).await;
    let attempts: Vec<_> =
        shown["attempts"].as_array().unwrap().iter().map(|a| format!("{} {}", a["n"], a["state"])).collect();
    assert_eq!(attempts, ["1 \"failed\"", "2 \"ok\""]);
    assert_eq!(running.operate(&format!("{path}/retry"), Some(json!({}))).await.0, 409, "it went well");
    assert_eq!(running.operate(&format!("{path}/retry"), Some(json!({ "force": true }))).await.0, 200);
    ended_as(&world, &running, &[RunState::Ok]).await;
    assert_eq!(running.operate("/api/v1/runs/01a207d8-f62e-7248-bef2-7b36ceb69bc8", None).await.0, 404);
    assert_eq!(running.operate("/api/v1/runs?state=odd", None).await.0, 400);
    running.stop().await;
}

async fn a_paused_job_leaves_its_slots_out_and_never_makes_up_for_them(engine: Engine) {
    let world = world(engine, "true", "").await;
    let running = start(&world).await;
    assert_eq!(running.operate("/api/v1/jobs/nothing/pause", Some(json!({}))).await.0, 404);
    assert_eq!(running.operate("/api/v1/jobs/job/resume", Some(json!({}))).await.0, 409, "it is not paused");
    assert_eq!(running.operate("/api/v1/jobs/job/pause", Some(json!({ "til": 1 }))).await.0, 400);
    let pause = json!({ "reason": "the site moves" });
    assert_eq!(running.operate("/api/v1/jobs/job/pause", Some(pause)).await.0, 200);
    at_hour(&world, &running, 11).await;
    // It survives a restart, and a daemon that is down.
    running.stop().await;
    world.clock.advance_to(instant("2027-03-15T12:30:00Z"));
    let running = start(&world).await;
    let (_, jobs) = running.operate("/api/v1/jobs", None).await;
    let job = jobs["jobs"].as_array().unwrap().iter().find(|job| job["name"] == "job").unwrap().clone();
    assert_eq!(job["paused"]["reason"], "by an operator over HTTP: the site moves");
    assert_eq!(running.operate("/api/v1/jobs/job/resume", Some(json!({}))).await.0, 200);
    at_hour(&world, &running, 13).await;
    assert_eq!(
        told(&world.ledger(&running, "job").await),
        "11:00 scheduled skipped x0 paused by an operator over HTTP: the site moves
12:00 scheduled skipped x0 paused by an operator over HTTP: the site moves
13:00 scheduled ok x1 "
    );
    let until = json!({ "until": "2027-03-15T14:30:00Z" });
    assert_eq!(running.operate("/api/v1/jobs/job/pause", Some(until)).await.0, 200);
    at_hour(&world, &running, 14).await;
    at_hour(&world, &running, 15).await;
    let states: Vec<_> = world.ledger(&running, "job").await.iter().map(|run| run.state.name()).collect();
    assert_eq!(states, ["skipped", "skipped", "ok", "skipped", "ok"]);
    running.stop().await;
}

async fn slots_of_the_past_are_filled_in(engine: Engine) {
    let world = world(engine, "echo $BELLWETHER_SLOT >> done", "misfire = \"skip\"").await;
    let running = start(&world).await;
    at_hour(&world, &running, 14).await;
    let states: Vec<_> = world.ledger(&running, "job").await.iter().map(|run| run.state.name()).collect();
    assert_eq!(states, ["missed", "missed", "missed", "ok"]);
    let span = |to: &str, more: Value| {
        let mut body = json!({ "from": "2027-03-15T09:00:00Z", "to": to });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(body)
    };
    let path = "/api/v1/jobs/job/backfill";
    let (status, plan) = running.operate(path, span("2027-03-15T23:00:00Z", json!({ "dry_run": true }))).await;
    let actions: Vec<_> = plan["slots"].as_array().unwrap().iter().map(|s| s["action"].as_str().unwrap()).collect();
    assert_eq!((status, actions), (200, vec!["run", "run", "retry", "retry", "retry"]), "the future does not count");
    assert_eq!(world.ledger(&running, "job").await.len(), 4, "nothing was changed");
    assert_eq!(running.operate(path, span("2027-03-15T23:00:00Z", json!({ "max": 2 }))).await.0, 400);
    assert_eq!(running.operate(path, span("2027-03-15T08:00:00Z", json!({}))).await.0, 400);
    assert_eq!(running.operate(path, Some(json!({}))).await.0, 400);
    let (status, begun) = running.operate(path, span("2027-03-15T13:30:00Z", json!({}))).await;
    assert_eq!((status, &begun["begun"]), (200, &json!(5)));
    ended_as(&world, &running, &[RunState::Ok; 6]).await;
    let done = std::fs::read_to_string(world.file.path().join("done")).unwrap();
    let mut slots: Vec<_> = done.lines().map(|line| &line[11..16]).collect();
    assert_eq!(slots.remove(0), "14:00", "in its time");
    assert_eq!(slots, ["09:00", "10:00", "11:00", "12:00", "13:00"], "one after another");
    let (_, run) = running.operate("/api/v1/jobs/job/run", Some(json!({ "slot": "2027-03-15T09:00:00Z" }))).await;
    assert!(run["detail"].as_str().unwrap().contains("has a row"), "{run}");
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(running.operate("/api/v1/jobs/job/run", Some(json!({}))).await.0, 200);
    ended_as(&world, &running, &[RunState::Ok; 7]).await;
    running.stop().await;
}

async fn a_run_is_cancelled_whether_it_waits_or_works(engine: Engine) {
    let world = world(engine, "echo begun > begun; exec sleep 1000", "overlap = \"queue\"\nattempts = 5").await;
    let running = start(&world).await;
    world.clock.advance_to(instant("2027-03-15T11:00:00Z"));
    eventually("it is begun", async || world.file.path().join("begun").exists()).await;
    world.clock.advance_to(instant("2027-03-15T12:00:00Z"));
    eventually("the next one waits", async || world.ledger(&running, "job").await.len() == 2).await;
    world.clock.advance_to(instant("2027-03-15T13:00:00Z"));
    eventually("the one after it is left out", async || world.ledger(&running, "job").await.len() == 3).await;
    let runs = world.ledger(&running, "job").await;
    assert_eq!(
        told(&runs[1..]),
        "12:00 scheduled queued x0 waits for the run before it
13:00 scheduled skipped x0 another run waits already"
    );
    // The one that waits first, so that it does not begin.
    for run in [&runs[1], &runs[0]] {
        assert_eq!(running.operate(&format!("/api/v1/runs/{}/cancel", run.id), Some(json!({}))).await.0, 200);
    }
    ended_as(&world, &running, &[RunState::Cancelled, RunState::Cancelled, RunState::Skipped]).await;
    assert_eq!(
        told(&world.ledger(&running, "job").await[..1]),
        "11:00 scheduled cancelled x1 cancelled by an operator over HTTP"
    );
    running.stop().await;
}

async fn a_job_that_keeps_failing_pauses_itself(engine: Engine) {
    let world = world(engine, "exit 7", "breaker = 2").await;
    let running = start(&world).await;
    for hour in 11..=13 {
        at_hour(&world, &running, hour).await;
    }
    assert_eq!(
        told(&world.ledger(&running, "job").await),
        "11:00 scheduled failed x1 ended with exit code 7
12:00 scheduled failed x1 ended with exit code 7
13:00 scheduled skipped x0 paused by itself: 2 runs in a row failed"
    );
    assert_eq!(running.operate("/api/v1/jobs/job/resume", Some(json!({}))).await.0, 200);
    at_hour(&world, &running, 14).await;
    assert_eq!(world.ledger(&running, "job").await.last().map(|run| run.state), Some(RunState::Failed));
    running.stop().await;
}

async fn a_newer_slot_waits_or_takes_the_place_of_the_older_one(engine: Engine) {
    let world = world(
        engine,
        "test -e quick && quick=1; echo x >> begun; test -n \"$quick\" || exec sleep 1000",
        "overlap = \"cancel\"",
    )
    .await;
    let running = start(&world).await;
    world.clock.advance_to(instant("2027-03-15T11:00:00Z"));
    eventually("it is begun", async || world.file.path().join("begun").exists()).await;
    std::fs::write(world.file.path().join("quick"), "").unwrap();
    world.clock.advance_to(instant("2027-03-15T12:00:00Z"));
    ended_as(&world, &running, &[RunState::Cancelled, RunState::Ok]).await;
    assert_eq!(
        told(&world.ledger(&running, "job").await),
        "11:00 scheduled cancelled x1 cancelled because a newer slot came due
12:00 scheduled ok x1 takes the place of the run before it"
    );
    running.stop().await;
}

async fn tries_wait_in_the_ledger_and_outlive_the_daemon(engine: Engine) {
    let world = world(engine, "test -e mended", "attempts = 3").await;
    let running = start(&world).await;
    world.clock.advance_to(instant("2027-03-15T11:00:00Z"));
    ended_as(&world, &running, &[RunState::Queued]).await;
    let run = world.ledger(&running, "job").await.remove(0);
    assert_eq!((run.attempt, run.error.as_deref()), (1, Some("ended with exit code 1")));
    running.daemon.stop().await;
    std::fs::write(world.file.path().join("mended"), "").unwrap();
    world.clock.advance(TimeDelta::seconds(10));
    let running = world.start().await;
    ended_as(&world, &running, &[RunState::Ok]).await;
    assert_eq!(world.ledger(&running, "job").await[0].attempt, 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_a_daemon_on_its_file_asks_the_daemon() {
    let world = world(Engine::Sqlite, "true", "").await;
    let running = start(&world).await;
    let address = running.daemon.api.to_string();
    let file = world.file.path().join("bellwether.toml").display().to_string();
    let command = async |arguments: &str, token: &str| {
        let (directory, file) = (world.file.path().to_owned(), file.clone());
        let (arguments, token) = (arguments.to_owned(), token.to_owned());
        let (url, address) = (world.database.url.clone(), address.clone());
        let output = tokio::task::spawn_blocking(move || {
            let arguments: Vec<_> = ["--config", &file].into_iter().chain(arguments.split(' ')).collect();
            let environment = [
                ("DATABASE_URL", &*url),
                ("BELLWETHER_LISTEN", &*address),
                ("OPERATOR_TOKEN", &*token),
                ("PATH", "/usr/bin:/bin"),
            ];
            bellwether(&directory, &arguments, &environment)
        });
        let output = output.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let (code, told) = command("jobs pause job --reason moving", "").await;
    assert_eq!(code, Some(75), "{told}");
    assert!(told.contains("set the daemon's, or stop the daemon first"), "{told}");
    let (code, told) = command("jobs pause job", "a-wrong-token").await;
    assert!(code == Some(75) && told.contains("this call is for operators"), "{told}");
    let (code, told) = command("jobs pause job --reason moving", OPERATOR).await;
    assert_eq!(
        (code, told.as_str()),
        (Some(0), "job is paused until it is resumed; its slots are left out, each with its row\n")
    );
    let (_, told) = command("jobs ls", OPERATOR).await;
    assert!(
        told.lines().any(|line| line.starts_with("job ") && line.contains("paused by an operator over HTTP: moving")),
        "{told}"
    );
    assert_eq!(command("jobs resume job", OPERATOR).await.0, Some(0));
    let (code, told) = command("jobs resume job", OPERATOR).await;
    assert!(code == Some(1) && told.contains("job is not paused"), "{told}");
    let (code, told) = command("jobs run job --slot 2999-01-01T00:00:00Z", OPERATOR).await;
    assert!(code == Some(2) && told.contains("has not come yet"), "{told}");
    running.stop().await;
    // Nobody has the file any more: the command does it by itself.
    assert_eq!(command("jobs pause job", "").await.0, Some(0));
    let (code, told) = command("jobs pause nothing", "").await;
    assert!(code == Some(2) && told.contains("there is no job \"nothing\"; there are renewals,"), "{told}");
    let (code, told) = command("jobs run job --slot 2999-01-01T00:00:00Z", "").await;
    assert!(code == Some(2) && told.contains("has not come yet"), "{told}");
}
