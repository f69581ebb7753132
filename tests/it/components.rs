//! Components as jobs: real commands, the market's phases on a clock the test moves.

use std::sync::Arc;
use std::time::Duration;

use bellwether::calendar::{COLUMNS, Calendars, Operator, Origin as Said, SharedCalendars, read_csv};
use bellwether::clock::{Clock, SharedClock, SimClock};
use bellwether::config::Config;
use bellwether::jobs::Component;
use bellwether::scheduler::{Job, JobError, Report, RunContext};
use bellwether::store::Origin;
use chrono::TimeDelta;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{eventually, instant};

/// One component, its market and its clock.
struct Stage {
    directory: TempDir,
    clock: Arc<SimClock>,
    calendar: Arc<SharedCalendars>,
    stop: CancellationToken,
    id: uuid::Uuid,
}

impl Stage {
    fn at(at: &str) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: SimClock::at(instant(at)),
            calendar: Arc::new(SharedCalendars::new(Calendars::built_in().unwrap(), "XNYS").unwrap()),
            stop: CancellationToken::new(),
            id: uuid::Uuid::now_v7(),
        }
    }

    /// Runs the job of a component that is a shell script, with further keys.
    fn start(&self, script: &str, keys: &str) -> JoinHandle<Result<Report, JobError>> {
        let program = self.directory.path().join("program");
        std::fs::write(&program, script).unwrap();
        let file = self.directory.path().join("site.toml");
        let directory = self.directory.path();
        let toml = format!(
            "[[component]]\nname = \"site\"\ncommand = [\"sh\", {program:?}]\ndirectory = {directory:?}\n{keys}"
        );
        std::fs::write(&file, toml).unwrap();
        let path = [("PATH", "/usr/local/bin:/usr/bin:/bin")].into_iter().collect();
        let config = Config::load(Some(&file), &path).unwrap_or_else(|problems| panic!("{:#?}", problems.0));
        let clock = Arc::clone(&self.clock) as SharedClock;
        let job = Arc::new(Component::new(&config.components[0], Arc::clone(&self.calendar), clock));
        let (slot, deadline) = (self.clock.now(), self.clock.now() + TimeDelta::hours(12));
        let context = RunContext { id: self.id, slot, deadline, origin: Origin::Scheduled, stop: self.stop.clone() };
        tokio::spawn(job.run(context))
    }

    fn written(&self, file: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(file)).unwrap_or_default()
    }

    async fn has_started(&self, times: usize) {
        eventually("it has started", async || self.written("started").lines().count() >= times).await;
        assert_eq!(self.written("started").lines().count(), times);
    }

    /// Whether something waits for the clock to move by `span`.
    async fn somebody_waits_for(&self, span: TimeDelta) {
        let at = self.clock.now() + span;
        eventually("a wait for that instant", async || self.clock.waiting_for().contains(&at)).await;
    }

    /// Lets the script end by itself, and the pause before its next start pass.
    async fn ends_and_waits(&self, pause: i64) {
        std::fs::write(self.directory.path().join("end"), "").unwrap();
        self.somebody_waits_for(TimeDelta::seconds(pause)).await;
        self.clock.advance(TimeDelta::seconds(pause));
    }

    /// Whether a process with the marks of this run is there.
    fn is_anything_left(&self) -> bool {
        let mark = format!("BELLWETHER_RUN_ID={}", self.id);
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        processes
            .filter_map(|process| std::fs::read(process.path().join("environ")).ok())
            .any(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
    }
}

const SLOTS: &str = "trigger = \"every 15m while regular\"";
const WHILE: &str = "while = [\"regular\"]";
/// Says that it has started, and lives until it is told to end, or for ever.
const LIVES: &str = "echo $BELLWETHER_SLOT >> started; until [ -e end ]; do sleep 0.01; done; rm end; exit 3";

#[tokio::test]
async fn a_run_for_a_slot_reports_what_it_did() {
    let stage = Stage::at("2027-03-15T14:00:00Z");
    let report = stage.start("echo fetched 12; echo $BELLWETHER_JOB $BELLWETHER_SLOT", SLOTS).await.unwrap().unwrap();
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["last_lines"], serde_json::json!(["fetched 12", "site 2027-03-15T14:00:00Z"]));
}

#[tokio::test]
async fn a_run_that_fails_says_how_and_may_be_tried_again() {
    let stage = Stage::at("2027-03-15T14:00:00Z");
    let failed = stage.start("echo no route to host >&2; exit 4", SLOTS).await.unwrap().unwrap_err();
    assert_eq!(failed.to_string(), "ended with exit code 4: no route to host");
    let JobError::Reported { fault, report } = failed else { panic!("{failed} has no report") };
    assert!(matches!(*fault, JobError::Retry { after: None, .. }));
    assert_eq!(report["last_lines"], serde_json::json!(["no route to host"]));
}

#[tokio::test]
async fn a_run_that_is_stopped_is_not_done_and_leaves_nothing() {
    let stage = Stage::at("2027-03-15T14:00:00Z");
    let run = stage.start("trap 'exit 0' TERM; echo >> started; (setsid sleep 1000 &); sleep 1000 & wait", SLOTS);
    stage.has_started(1).await;
    stage.stop.cancel();
    let stopped = run.await.unwrap().unwrap_err();
    assert!(matches!(stopped, JobError::Retry { .. }));
    // Some shells say last of all what became of the sleep.
    let told = stopped.to_string();
    assert!(told.starts_with("stopped before it was done, ended with exit code 0"), "{told}");
    assert!(!stage.is_anything_left());
}

#[tokio::test]
async fn it_is_kept_running_until_the_phase_ends() {
    let stage = Stage::at("2027-03-15T19:59:00Z");
    let run = stage.start(LIVES, WHILE);
    stage.has_started(1).await;
    stage.clock.advance_to(instant("2027-03-15T19:59:59Z"));
    stage.somebody_waits_for(TimeDelta::seconds(1)).await;
    assert!(!run.is_finished() && stage.is_anything_left());
    stage.clock.advance(TimeDelta::seconds(1));
    let report = run.await.unwrap().unwrap();
    assert_eq!((&report["starts"], &report["last"]["signal"]), (&1.into(), &15.into()));
    assert!(!stage.is_anything_left());
}

#[tokio::test]
async fn an_early_close_by_an_operator_ends_it_within_a_second() {
    let stage = Stage::at("2027-03-15T15:00:00Z");
    let run = stage.start(LIVES, WHILE);
    stage.has_started(1).await;
    let rows = format!("{}\n2027-03-15,XNYS,early_close,,11:00,,,Flood,,,\n", COLUMNS.join(","));
    let exceptions = read_csv(&rows, Said::File).unwrap();
    let operator = Operator { exceptions, ..Operator::default() };
    stage.calendar.swap(Calendars::build(operator).unwrap());
    stage.clock.advance(TimeDelta::seconds(1));
    let report = run.await.unwrap().unwrap();
    assert_eq!(report["last"]["stopped"], true);
}

#[tokio::test]
async fn it_is_restarted_with_longer_and_longer_pauses_until_it_has_run_for_a_minute() {
    let stage = Stage::at("2027-03-15T14:00:00Z");
    // Two seconds at first, because the look at the calendar waits for one.
    let run = stage.start(LIVES, "while = [\"regular\"]\nrestart_after_seconds = 2");
    stage.has_started(1).await;
    for (starts, pause) in [(2, 2), (3, 4), (4, 8)] {
        stage.ends_and_waits(pause).await;
        stage.has_started(starts).await;
    }
    stage.clock.advance(TimeDelta::seconds(60));
    stage.ends_and_waits(2).await;
    stage.has_started(5).await;
    stage.clock.advance_to(instant("2027-03-15T20:00:00Z"));
    assert_eq!(run.await.unwrap().unwrap()["starts"], 5);
}

#[tokio::test]
async fn what_is_kept_running_and_stopped_by_the_daemon_is_not_done() {
    let stage = Stage::at("2027-03-15T14:00:00Z");
    let run = stage.start(LIVES, WHILE);
    stage.has_started(1).await;
    stage.stop.cancel();
    let stopped = run.await.unwrap().unwrap_err();
    assert!(matches!(stopped, JobError::Retry { .. }));
    assert_eq!(stopped.to_string(), "stopped before the phase was over; ended with signal 15");
    assert!(!stage.is_anything_left());
}

#[tokio::test]
async fn a_run_that_is_aborted_leaves_nothing() {
    let stage = Stage::at("2027-03-15T14:00:00Z");
    let run = stage.start("trap '' TERM; echo >> started; (setsid sleep 1000 &); sleep 1000 & wait", WHILE);
    stage.has_started(1).await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    eventually("nothing is left", async || !stage.is_anything_left()).await;
}

#[tokio::test]
async fn what_could_never_be_started_has_failed() {
    let stage = Stage::at("2027-03-15T19:59:59Z");
    let run = stage.start(LIVES, WHILE);
    std::fs::remove_dir_all(stage.directory.path()).unwrap();
    stage.somebody_waits_for(TimeDelta::seconds(1)).await;
    stage.clock.advance(TimeDelta::seconds(1));
    let failed = run.await.unwrap().unwrap_err();
    assert!(matches!(&failed, JobError::Fail(message) if message.contains("could not be started")), "{failed}");
}

#[tokio::test]
async fn outside_of_its_phases_nothing_is_started() {
    let stage = Stage::at("2027-03-14T14:00:00Z");
    let done = tokio::time::timeout(Duration::from_secs(60), stage.start(LIVES, WHILE)).await.unwrap();
    assert_eq!(done.unwrap().unwrap()["starts"], 0);
    assert_eq!(stage.written("started"), "");
}
