//! Components with real processes: each test waits for states and leaves nothing behind.

mod ending;
mod orphaned;
mod output;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A shell in `directory`, with a grace that no test reaches.
fn shell(script: &str, directory: &Path) -> Command {
    command(&["/bin/sh", "-c", script], directory)
}

fn command(argv: &[&str], directory: &Path) -> Command {
    let path = [("PATH".to_owned(), SecretString::from("/usr/local/bin:/usr/bin:/bin".to_owned()))];
    Command {
        name: "scraper",
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        directory: Some(directory.to_owned()),
        environment: path.into(),
        stop_grace: PATIENCE,
        time_limit: None,
        limits: Limits::default(),
    }
}

fn mark() -> Mark {
    Mark { run_id: Uuid::now_v7(), slot: "2027-03-15T13:30:00Z".parse().unwrap() }
}

/// Runs it to its end; nothing of it may be left.
async fn run_to_end(command: &Command) -> Ended {
    let mark = mark();
    let ended = run(command, &mark, &CancellationToken::new()).await.unwrap();
    assert_eq!(left_of(&mark), []);
    ended
}

/// Runs it until the file `ready` is there, then stops it; nothing of it may be left.
async fn run_and_stop(command: &Command) -> Ended {
    let (mark, stop) = (mark(), CancellationToken::new());
    let ready = command.directory.as_ref().unwrap().join("ready");
    let stopping = async {
        eventually("it is ready", async || ready.exists()).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(run(command, &mark, &stop), stopping);
    assert_eq!(left_of(&mark), []);
    ended.unwrap()
}

/// The processes that bear the mark of a run.
fn left_of(mark: &Mark) -> Vec<platform::Marked> {
    platform::marked().into_iter().filter(|process| process.run_id == mark.run_id).collect()
}

/// Waits for a state, and fails by its name when it does not come.
async fn eventually<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let waiting = async {
        while !holds().await {
            pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a state; no outcome depends on its length")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
