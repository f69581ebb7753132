//! How runs end, and that nothing of them is left.

use super::*;

#[tokio::test]
async fn it_is_the_leader_of_a_process_group_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let ended = run_to_end(&shell("echo $$ $(cut -d' ' -f5 /proc/$$/stat)", directory.path())).await;
    let (pid, group) = ended.last_lines[0].split_once(' ').unwrap();
    assert_eq!(pid, group);
    assert!(ended.is_success());
}

#[tokio::test]
async fn an_exit_code_and_the_last_words_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let ended = run_to_end(&shell("echo working; echo no such table >&2; exit 3", directory.path())).await;
    assert_eq!((ended.exit, ended.stopped, ended.is_success()), (Exit::Code(3), false, false));
    assert_eq!((ended.lines, ended.bytes, ended.left_out), (2, 22, 0));
    assert!(ended.summary().starts_with("ended with exit code 3: "), "{}", ended.summary());
    let report = ended.report();
    assert_eq!(report["exit_code"], 3);
    assert_eq!(report["last_lines"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn sigterm_is_heard_and_the_component_ends_in_its_own_way() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap 'echo tidying up; exit 7' TERM; : > ready; while :; do sleep 1000 & wait; done";
    let ended = run_and_stop(&shell(script, directory.path())).await;
    assert_eq!((ended.exit, ended.stopped, ended.killed), (Exit::Code(7), true, false));
    assert_eq!(ended.last_lines, ["tidying up"]);
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_its_grace() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = shell("trap '' TERM; : > ready; while :; do sleep 1000; done", directory.path());
    command.stop_grace = Duration::from_millis(100);
    let ended = run_and_stop(&command).await;
    assert_eq!((ended.exit, ended.stopped, ended.killed), (Exit::Signal(9), true, true));
    assert_eq!(ended.summary(), "did not heed SIGTERM, ended with signal 9");
}

#[tokio::test]
async fn what_takes_longer_than_its_time_limit_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = shell("sleep 1000 & sleep 1000", directory.path());
    command.time_limit = Some(Duration::from_millis(100));
    let ended = run_to_end(&command).await;
    assert_eq!((ended.exit, ended.timed_out, ended.stopped), (Exit::Signal(15), true, false));
    assert!(!ended.is_success());
}

#[tokio::test]
async fn grandchildren_do_not_survive_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let ended = run_and_stop(&shell("sleep 1000 & : > ready; sleep 1000", directory.path())).await;
    assert_eq!(ended.exit, Exit::Signal(15));
}

#[tokio::test]
async fn grandchildren_do_not_survive_the_end_of_their_parent() {
    let directory = tempfile::tempdir().unwrap();
    // The grandchild ignores SIGTERM and holds the pipes open.
    let ended = run_to_end(&shell("(trap '' TERM; sleep 1000) & exit 4", directory.path())).await;
    assert_eq!(ended.exit, Exit::Code(4));
}

#[tokio::test]
async fn a_grandchild_that_left_the_group_is_found_by_its_mark() {
    let directory = tempfile::tempdir().unwrap();
    let script = "(setsid sh -c ': > ready; exec sleep 1000' &) ; until [ -e ready ]; do :; done; exit 5";
    let ended = run_to_end(&shell(script, directory.path())).await;
    assert_eq!(ended.exit, Exit::Code(5));
}

#[tokio::test]
async fn pipes_held_open_by_what_cannot_be_proved_ours_do_not_hold_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let script =
        "(setsid env -i sh -c 'echo $$ > hidden; : > ready; exec sleep 1000' &) ; until [ -e ready ]; do :; done";
    let ended = tokio::time::timeout(PATIENCE, run_to_end(&shell(script, directory.path()))).await.unwrap();
    assert!(ended.is_success());
    // It cleared its own marks; what the room cannot end, the test does.
    let hidden = std::fs::read_to_string(directory.path().join("hidden")).unwrap();
    let pid = rustix::process::Pid::from_raw(hidden.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; (setsid sleep 1000 &); sleep 1000 & sleep 1000";
    let (command, mark) = (shell(script, directory.path()), mark());
    let task = tokio::spawn(async move { run(&command, &mark, &CancellationToken::new()).await });
    eventually("four processes are there", async || left_of(&mark).len() == 4).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // A SIGKILL has been sent to each; the kernel carries it out in its own time.
    eventually("nothing is left", async || left_of(&mark).is_empty()).await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let command = command(&["no-such-program-anywhere"], directory.path());
    let fault = run(&command, &mark(), &CancellationToken::new()).await.unwrap_err().to_string();
    assert_eq!(fault, "no-such-program-anywhere could not be started: No such file or directory (os error 2)");
    let nothing = super::command(&[], directory.path());
    assert!(matches!(run(&nothing, &mark(), &CancellationToken::new()).await, Err(ComponentError::Empty)));
}
