//! The dead man's switch of the process itself: a thread outside of tokio that ends it when the planner's task is no longer run.
//!
//! A supervisor starts it again, and the ledger says what is owed; a process that only looks alive would owe it for ever.

use std::sync::Arc;
use std::time::Duration;

use crate::scheduler::Status;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks without a tick after which the planner counts as dead. They are counted while this thread is awake: a process that was
/// stopped, or a host that slept, has not looked meanwhile.
const MOST_SILENT: u32 = 10;

/// Watches for the life of the process.
pub fn spawn(status: Arc<Status>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("watchdog".to_owned());
    let ticks = move || status.ticks();
    thread.spawn(move || {
        if watch(ticks, LOOK) == Seen::End {
            return;
        }
        // Nothing of the runtime may be needed any more: no log, no drain.
        eprintln!(
            "bellwether: the planner was not run for {MOST_SILENT} s; the process ends so that it is started anew"
        );
        std::process::exit(1);
    })?;
    Ok(())
}

/// How a watch ends.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The planner was ended on purpose.
    End,
    /// It was not run for too long.
    Silence,
}

/// Returns once the ticks have ended, or stood still for too long.
fn watch(ticks: impl Fn() -> Option<u64>, look: Duration) -> Seen {
    let (mut seen, mut silent) = (ticks(), 0);
    while silent < MOST_SILENT {
        wait(look);
        let now = ticks();
        if now.is_none() {
            return Seen::End;
        }
        silent = if now == seen { silent + 1 } else { 0 };
        seen = now;
    }
    Seen::Silence
}

/// Waits by the monotonic clock, to which a wait can be held; a sleep is as long as whoever meddles with it says.
#[expect(clippy::disallowed_methods, reason = "it must not depend on the runtime that it watches")]
fn wait(span: Duration) {
    let began = std::time::Instant::now();
    while let Some(left) = span.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn it_waits_as_long_as_the_ticks_go_on_and_no_longer() {
        let looks = AtomicU64::new(0);
        // Ticks at each look up to the fiftieth, then nothing.
        let seen = watch(|| Some(looks.fetch_add(1, Ordering::Relaxed).min(50)), Duration::from_millis(1));
        assert_eq!((seen, looks.load(Ordering::Relaxed)), (Seen::Silence, 51 + u64::from(MOST_SILENT)));
    }

    #[test]
    fn a_planner_that_was_ended_is_not_missed() {
        let looks = AtomicU64::new(0);
        let ticks = || Some(looks.fetch_add(1, Ordering::Relaxed)).filter(|look| *look < 5);
        assert_eq!(watch(ticks, Duration::from_millis(1)), Seen::End);
    }
}
