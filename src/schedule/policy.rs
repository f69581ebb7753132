//! What a job wants done about slots that are late, that come while it runs, and that fail.

use std::fmt;
use std::time::Duration;

use chrono::TimeDelta;

/// What to do about a slot that is noticed late, or not at all until the daemon is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfire {
    /// Late slots are never run.
    Skip,
    /// Run the newest slot once, late, as long as it is before its deadline; the older ones are covered by it.
    RunOnce,
    /// Run the newest slot only if the phase it belongs to is still under way.
    WhilePhaseOpen,
    /// Run the late slots one after another.
    CatchUp {
        /// At most so many, the newest ones; the older ones are missed.
        max: u32,
        /// The newest slot first; else in order of time.
        newest_first: bool,
        /// From one start to the next.
        spacing: TimeDelta,
    },
}

impl Misfire {
    /// At most so many of the slots that are due at one moment are run: the newest.
    pub fn most(self) -> usize {
        match self {
            Self::CatchUp { max, .. } => max.max(1) as usize,
            Self::Skip | Self::RunOnce | Self::WhilePhaseOpen => 1,
        }
    }
}

impl fmt::Display for Misfire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.pad("skip"),
            Self::RunOnce => f.pad("run once"),
            Self::WhilePhaseOpen => f.pad("while the phase is open"),
            Self::CatchUp { max, newest_first, .. } => {
                let order = if *newest_first { ", newest first" } else { "" };
                f.pad(&format!("catch up {max}{order}"))
            }
        }
    }
}

/// What to do about a slot that comes due while the job is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The new slot is left out.
    Skip,
    /// The new slot waits; another one after it is left out.
    QueueOne,
    /// The run under way is ended and the new slot follows it.
    CancelPrevious,
    /// So many run at once; what is beyond is left out.
    Allow(u32),
}

impl Overlap {
    /// How many runs of the job may be under way at once.
    pub fn at_once(self) -> usize {
        match self {
            Self::Allow(most) => most.max(1) as usize,
            Self::Skip | Self::QueueOne | Self::CancelPrevious => 1,
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.pad("skip"),
            Self::QueueOne => f.pad("queue one"),
            Self::CancelPrevious => f.pad("cancel previous"),
            Self::Allow(most) => f.pad(&format!("allow {most}")),
        }
    }
}

/// How often a run is tried, and with which pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The most tries, the first included.
    pub attempts: i32,
    /// The ceiling of the first pause; doubled each time.
    pub first_pause: Duration,
    /// The ceiling of every pause.
    pub longest_pause: Duration,
}

impl Retry {
    /// So many tries with the usual pauses: below 2 s, 4 s, 8 s, .. 60 s.
    pub const fn times(attempts: i32) -> Self {
        Self { attempts, first_pause: Duration::from_secs(2), longest_pause: Duration::from_secs(60) }
    }

    /// The pause after failed attempt number `attempt` (from 1): somewhere below a ceiling that doubles, so that instances do
    /// not come back in step. `drawn` is from `[0, 1)`; `asked` is what the other side wants at least.
    pub fn pause(&self, attempt: i32, asked: Option<Duration>, drawn: f64) -> Duration {
        let doublings = u32::try_from(attempt.clamp(1, 16) - 1).unwrap_or(0);
        let ceiling = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        asked.unwrap_or_default().max(ceiling.mul_f64(drawn))
    }
}
