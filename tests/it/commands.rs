//! The command line as scripts rely on it: what is on stdout, and the exit code.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The program in an empty environment and a directory of its own.
pub fn bellwether(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.args(arguments).current_dir(directory).env_clear().envs(environment.iter().copied()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn answers(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let output = bellwether(directory.path(), arguments, &[]);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn lines(arguments: &[&str]) -> Vec<Value> {
    answers(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn simulate_shows_each_fire_over_the_switch_to_summer_time() {
    let fires = lines(&["simulate", "--from", "2027-03-12T00:00:00Z", "--to", "2027-03-16T00:00:00Z", "--json"]);
    let of = |job: &str| -> Vec<String> {
        let fires = fires.iter().filter(|fire| fire["job"] == job);
        fires.map(|fire| fire["at"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        of("renewals"),
        ["2027-03-12T08:00:00Z", "2027-03-13T08:00:00Z", "2027-03-14T07:00:00Z", "2027-03-15T07:00:00Z",]
    );
    let ingest = of("ingest");
    assert_eq!(
        (ingest.len(), ingest[0].as_str(), ingest[129].as_str()),
        (260, "2027-03-12T14:30:00Z", "2027-03-12T20:57:00Z")
    );
    assert_eq!((ingest[130].as_str(), ingest[259].as_str()), ("2027-03-15T13:30:00Z", "2027-03-15T19:57:00Z"));
    assert_eq!(of("ingest-close"), ["2027-03-12T21:05:00Z", "2027-03-15T20:05:00Z"]);
    let renewal = fires.iter().find(|fire| fire["at"] == "2027-03-14T07:00:00Z").unwrap();
    insta::assert_snapshot!(renewal.to_string(), @r#"{"action":"run","at":"2027-03-14T07:00:00Z","job":"renewals","local":"2027-03-14T03:00:00-04:00","phase":"closed","reason":null,"session":null,"slot":"2027-03-14T07:00:00Z"}"#);
    let mut times: Vec<&str> = fires.iter().map(|fire| fire["at"].as_str().unwrap()).collect();
    let in_order = times.clone();
    times.sort_unstable();
    assert_eq!(times, in_order);
}

#[test]
fn a_simulated_year_has_one_renewal_a_date_and_ingests_in_sessions_only() {
    let fires =
        lines(&["simulate", "--from", "2027-01-01T05:00:00Z", "--to", "2028-01-01T05:00:00Z", "--json", "--seed", "7"]);
    let renewals: Vec<&Value> = fires.iter().filter(|fire| fire["job"] == "renewals").collect();
    assert_eq!(renewals.len(), 365);
    assert!(renewals.iter().all(|fire| fire["local"].as_str().unwrap()[11..].starts_with("03:00:00")));
    let (ingest, left_out): (Vec<&Value>, Vec<&Value>) =
        fires.iter().filter(|fire| fire["job"] == "ingest").partition(|fire| fire["action"] == "run");
    // Each weekday without a session says why nothing ran.
    assert_eq!((left_out.len(), left_out[0]["reason"].as_str()), (10, Some("no session: New Year's Day")));
    assert!(ingest.iter().all(|fire| fire["phase"] == "regular" && fire["session"].is_string()));
    // 251 sessions, one of them a half day: 2027-11-26 (the 24th of December is the holiday observed).
    assert_eq!(ingest.len(), 250 * 130 + 70);
}

#[test]
fn the_calendar_answers_as_scripts_expect() {
    let at = &lines(&["calendar", "at", "2026-11-27T17:59:59Z", "--json"])[0];
    let version = at["calendar_version"].clone();
    assert!(version.as_str().is_some_and(|version| version.len() > 3));
    let mut at = at.clone();
    at.as_object_mut().unwrap().remove("calendar_version");
    insta::assert_snapshot!(at.to_string(), @r#"{"at":"2026-11-27T17:59:59Z","confidence":"official","exchange":"XNYS","is_early_close":true,"next_close":"2026-11-27T18:00:00Z","next_open":"2026-11-30T14:30:00Z","next_phase":"post","next_transition":"2026-11-27T18:00:00Z","phase":"regular","reason":"Day after Thanksgiving","session":"2026-11-27"}"#);
    insta::assert_snapshot!(answers(&["calendar", "export", "--from", "2026-11-25", "--to", "2026-11-30", "--format", "csv"]), @"
    session,pre_open,open,break_start,break_end,close,post_close,kind,reason
    2026-11-25,2026-11-25T09:00:00Z,2026-11-25T14:30:00Z,,,2026-11-25T21:00:00Z,2026-11-26T01:00:00Z,full,
    2026-11-27,2026-11-27T09:00:00Z,2026-11-27T14:30:00Z,,,2026-11-27T18:00:00Z,2026-11-27T22:00:00Z,early_close,Day after Thanksgiving
    2026-11-30,2026-11-30T09:00:00Z,2026-11-30T14:30:00Z,,,2026-11-30T21:00:00Z,2026-12-01T01:00:00Z,full,
    ");
    let ics = answers(&["calendar", "export", "--from", "2026-11-27", "--to", "2026-11-27", "--format", "ics"]);
    assert!(ics.starts_with("BEGIN:VCALENDAR\r\n") && ics.contains("DTEND:20261127T180000Z\r\n"), "{ics}");
    // RFC 5545: each of them exactly once.
    for once in ["VERSION:", "PRODID:", "CALSCALE:"] {
        assert_eq!(ics.lines().filter(|line| line.starts_with(once)).count(), 1, "{once} {ics}");
    }
    assert_eq!(
        lines(&["calendar", "export", "--from", "2026-11-27", "--to", "2026-11-27", "--format", "json"])[0]["kind"],
        "early_close"
    );
    assert!(answers(&["calendar", "next"]).contains("next open"));
}

#[test]
fn what_reads_works_before_the_first_start_or_says_what_is_missing() {
    assert!(answers(&["version"]).starts_with("bellwether 0."));
    assert_eq!(lines(&["version", "--json"])[0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(answers(&["check-config"]).starts_with("ok"));
    assert!(answers(&["config", "default"]).contains("[ingest.massive]"));
    assert_eq!(lines(&["jobs", "next", "-n", "3", "--json"]).len(), 3);
    let jobs = lines(&["jobs", "ls", "--json"]);
    let told: Vec<String> =
        jobs.iter().map(|job| format!("{} - {}", job["name"], job["trigger"]).replace('"', "")).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    renewals - daily 03:00 America/New_York
    dunning - daily 09:00 America/New_York
    ingest - every 180s while regular
    ingest-close - close+5m
    universe - session-day 03:30
    history - close+30m
    ");
    let directory = tempfile::tempdir().unwrap();
    for command in [&["status"][..], &["runs", "ls"], &["migrate", "status"]] {
        let output = bellwether(directory.path(), command, &[]);
        assert_eq!(output.status.code(), Some(69), "{command:?}");
        assert!(stderr(&output).contains("`bellwether serve` or `bellwether migrate` makes it"), "{}", stderr(&output));
    }
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "reading leaves nothing behind");
}

#[test]
fn nonsense_is_refused_whole_with_78_and_misuse_with_2() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), "listen = 8000\n[ingest]\nprovidr = \"sim\"\nphases = []\n")
        .unwrap();
    for command in [&["check-config"][..], &["serve"], &[], &["config", "show"], &["ingest", "once"]] {
        let arguments = [command, &["--config", "bad.toml"]].concat();
        let output = bellwether(directory.path(), &arguments, &[("BELLWETHER_HTTP__MAX_BODY_BYTES", "tiny")]);
        assert_eq!(output.status.code(), Some(78), "{command:?}");
        let told = stderr(&output);
        for part in [
            "has 4 mistake(s)",
            "listen (bad.toml:1)",
            "ingest.providr (bad.toml:3)",
            "did you mean ingest.provider?",
            "ingest.phases (bad.toml:4)",
            "http.max_body_bytes (environment BELLWETHER_HTTP__MAX_BODY_BYTES)",
        ] {
            assert!(told.contains(part), "{command:?}: {part:?} is not in\n{told}");
        }
    }
    assert_eq!(bellwether(directory.path(), &["dance"], &[]).status.code(), Some(2));
    assert_eq!(bellwether(directory.path(), &["simulate", "--from", "yesterday"], &[]).status.code(), Some(2));
    let universe = directory.path().join("universe.csv");
    std::fs::write(&universe, "symbol\nAAPL\nnot a symbol\n").unwrap();
    let name = universe.display().to_string();
    let output = bellwether(directory.path(), &["ingest", "once"], &[("BELLWETHER_INGEST__UNIVERSE__FILE", &name)]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("universe.csv: line 3: \"NOT A SYMBOL\" is not a symbol"), "{}", stderr(&output));
}

#[test]
fn ingest_once_stores_a_cycle_that_status_and_runs_then_show() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = bellwether(directory.path(), arguments, &[]);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    assert!(run(&["ingest", "once", "--dry-run"]).contains("nothing was asked"));
    assert!(run(&["runs", "ls", "--json"]).is_empty());
    let cycle: Value = serde_json::from_str(&run(&["ingest", "once", "--json"])).unwrap();
    assert!(cycle["fresh"].as_u64().unwrap() >= 500, "{cycle}");
    let runs: Value = serde_json::from_str(&run(&["runs", "ls", "--json"])).unwrap();
    assert_eq!((&runs["job"], &runs["origin"], &runs["state"]), (&"ingest".into(), &"manual".into(), &"ok".into()));
    assert_eq!(runs["stats"]["fresh"], cycle["fresh"]);
    let status: Value = serde_json::from_str(&run(&["status", "--json"])).unwrap();
    assert_eq!(status["last_cycle"]["fresh"], cycle["fresh"]);
    assert!(run(&["status"]).contains("source simulated"));
    let schema = run(&["migrate", "status"]);
    assert!(
        schema.lines().skip(1).all(|line| line.ends_with("applied")) && schema.contains("0001    ledger "),
        "{schema}"
    );
}

#[test]
fn the_configuration_is_shown_with_its_origins_and_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let environment = [
        ("CRON_SECRET", "canary-secret"),
        ("DATABASE_URL", "postgres://me:canary-secret@host/db"),
        ("RENEWAL_LIMIT", "7"),
    ];
    let output = bellwether(directory.path(), &["config", "show", "--origin"], &environment);
    let shown = stdout(&output);
    assert!(!shown.contains("canary"), "{shown}");
    for part in ["environment CRON_SECRET", "[redacted]", "postgres://me:redacted@host/db", "environment RENEWAL_LIMIT"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json: Value = serde_json::from_slice(
        &bellwether(directory.path(), &["config", "show", "--origin", "--json"], &environment).stdout,
    )
    .unwrap();
    assert_eq!(json["renewals.limit"], serde_json::json!({"value": "\"7\"", "origin": "environment RENEWAL_LIMIT"}));
}

#[test]
fn instants_and_dates_that_are_none_are_refused_with_what_to_write() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, told) in [
        (
            "calendar at noon",
            "'noon' for '<INSTANT>': not an RFC 3339 instant; write one with its zone, for example 2027-03-15T14:00:00Z",
        ),
        (
            "calendar why 2025-02-30",
            "'2025-02-30' for '<DATE>': not a date of the calendar; write YYYY-MM-DD, for example 2027-03-15",
        ),
        ("jobs verify --from yesterday", "'yesterday' for '--from <FROM>': not an RFC 3339 instant"),
        (
            "simulate --from 2027-01-01 --to 2027-01-02T00:00:00Z",
            "'2027-01-01' for '--from <FROM>': not an RFC 3339 instant",
        ),
    ] {
        let output = bellwether(directory.path(), &arguments.split(' ').collect::<Vec<_>>(), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(told), "{arguments}: {said}");
    }
}

/// Cargo hands what a build script sets to a program that it runs itself: the first command of the README must not fail for it.
#[test]
fn what_cargo_hands_to_the_program_is_not_taken_for_a_setting() {
    let names = include_str!("../../build.rs").split("rustc-env=").skip(1);
    let names: Vec<&str> = names.map(|rest| rest.split_once('=').unwrap().0).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let directory = tempfile::tempdir().unwrap();
    let environment: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
    let output = bellwether(directory.path(), &["config", "show"], &environment);
    assert!(output.status.success(), "{}", stderr(&output));
}
