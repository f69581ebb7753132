//! Processes whose daemon is gone: found, proved, ended; and all others left alone.

use std::collections::HashSet;
use std::process::{Child, Stdio};

use super::super::orphans::{EndedOrphan, Orphan, Outcome, end, find};
use super::*;

/// A process that stands for a daemon, and one that bears its mark.
struct Family {
    parent: Child,
    child: Child,
    run_id: Uuid,
}

impl Family {
    fn start(script: &str) -> Self {
        let parent = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mark = platform::identity(parent.id().cast_signed()).unwrap();
        let run_id = Uuid::now_v7();
        let child = marked(script, &run_id.to_string(), &mark);
        Self { parent, child, run_id }
    }

    /// Kills the parent. It is not reaped: a zombie must not pass for a living daemon.
    fn orphan(&mut self) {
        self.parent.kill().unwrap();
    }

    fn found(&self) -> Vec<Orphan> {
        find().into_iter().filter(|orphan| orphan.run_id == self.run_id).collect()
    }

    async fn becomes_an_orphan(&self) -> Vec<Orphan> {
        eventually("it is an orphan", async || !self.found().is_empty()).await;
        self.found()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for process in [&mut self.parent, &mut self.child] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn marked(script: &str, run_id: &str, parent: &str) -> Child {
    std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .envs([(RUN_ID, run_id), (JOB, "scraper"), (PARENT, parent)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_orphan_is_found_once_its_daemon_is_dead_and_ended() {
    let mut family = Family::start("exec sleep 1000");
    assert_eq!(family.found(), []);
    family.orphan();
    let orphans = family.becomes_an_orphan().await;
    let child = family.child.id().cast_signed();
    assert_eq!((orphans[0].pid, orphans[0].job.as_str()), (child, "scraper"));
    let ended = end(orphans.clone(), &HashSet::from([family.run_id]), PATIENCE).await;
    assert_eq!(ended, [EndedOrphan { orphan: orphans[0].clone(), outcome: Outcome::Terminated }]);
    assert_eq!(family.found(), []);
    let again = end(orphans, &HashSet::from([family.run_id]), PATIENCE).await;
    assert_eq!(again[0].outcome, Outcome::LeftAlone);
}

#[tokio::test]
async fn an_orphan_that_ignores_sigterm_is_killed() {
    use std::io::{BufRead, BufReader};
    let mut family = Family::start("trap '' TERM; echo ready; while :; do sleep 1000; done");
    let mut line = String::new();
    BufReader::new(family.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    family.orphan();
    eventually("shell and sleep are orphans", async || family.found().len() == 2).await;
    let ended = end(family.found(), &HashSet::from([family.run_id]), Duration::from_millis(100)).await;
    assert!(ended.iter().all(|ended| ended.outcome == Outcome::Killed), "{ended:?}");
}

#[tokio::test]
async fn an_orphan_of_a_run_that_is_not_ours_is_not_touched() {
    let mut family = Family::start("exec sleep 1000");
    family.orphan();
    let orphans = family.becomes_an_orphan().await;
    assert_eq!(end(orphans.clone(), &HashSet::from([Uuid::now_v7()]), Duration::ZERO).await, []);
    assert_eq!(family.found(), orphans);
    assert!(family.child.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn one_whose_daemon_lives_is_left_alone_even_when_it_is_named() {
    let mut family = Family::start("exec sleep 1000");
    eventually("it is marked", async || platform::inspect(family.child.id().cast_signed()).is_some()).await;
    let named = Orphan::from(platform::inspect(family.child.id().cast_signed()).unwrap());
    let ended = end(vec![named], &HashSet::from([family.run_id]), Duration::ZERO).await;
    assert_eq!(ended[0].outcome, Outcome::LeftAlone);
    assert!(family.child.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn marks_that_prove_nothing_are_no_orphans() {
    let run_id = Uuid::now_v7();
    let id = run_id.to_string();
    let mut children: Vec<Child> =
        ["", "1", "::", "x:1:boot", "0:1:boot", "7::"].map(|parent| marked("exec sleep 1000", &id, parent)).into();
    children.push(marked("exec sleep 1000", "no-run", "1:1:gone"));
    eventually("they run", async || {
        platform::marked().iter().filter(|process| process.run_id == run_id).count() == children.len() - 1
    })
    .await;
    assert_eq!(find().into_iter().filter(|orphan| orphan.run_id == run_id).collect::<Vec<_>>(), []);
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_number_that_means_another_process_now_is_not_the_daemon() {
    let own = platform::own_mark();
    assert_eq!(platform::lives(own), Some(true));
    let (pid, rest) = own.split_once(':').unwrap();
    let (started, boot) = rest.split_once(':').unwrap();
    let later = started.parse::<u64>().unwrap() + 1;
    assert_eq!(platform::lives(&format!("{pid}:{later}:{boot}")), Some(false));
    assert_eq!(platform::lives(&format!("{pid}:{started}:another-boot")), Some(false));
    // A sandbox can hide the boot from one of the two.
    assert_eq!(platform::lives(&format!("{pid}:{started}:hidden")), Some(true));
    assert_eq!(platform::lives(&format!("{pid}:{later}:hidden")), Some(false));
    assert_eq!(platform::lives(&format!("{own}:")), None);
}

#[tokio::test]
async fn what_a_run_of_a_living_daemon_started_is_no_orphan() {
    let directory = tempfile::tempdir().unwrap();
    let (mark, stop) = (mark(), CancellationToken::new());
    let command = shell("exec sleep 1000", directory.path());
    let looking = async {
        eventually("it runs", async || left_of(&mark).len() == 1).await;
        assert!(find().iter().all(|orphan| orphan.run_id != mark.run_id));
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(run(&command, &mark, &stop), looking);
    assert_eq!(ended.unwrap().exit, Exit::Signal(15));
}
