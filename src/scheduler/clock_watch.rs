//! Whether the host's clock was set, or the host slept, since the last look.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;

/// A wall clock that parts from the time since boot by more than this between two looks was set; a slewed one parts by half a
/// millisecond a second.
const STEP: TimeDelta = TimeDelta::milliseconds(500);

/// Time since boot that the monotonic clock did not count was slept.
const SLEPT: TimeDelta = TimeDelta::seconds(1);

/// What happened to the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// It was set, forward or (negative) back.
    Step(TimeDelta),
    /// The host slept.
    Suspend(TimeDelta),
}

impl Happened {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Step(_) => "step",
            Self::Suspend(_) => "suspend",
        }
    }

    pub(super) fn by(self) -> TimeDelta {
        match self {
            Self::Step(by) | Self::Suspend(by) => by,
        }
    }
}

/// The three clocks of a host at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockWatch {
    wall: DateTime<Utc>,
    monotonic: Duration,
    boot: Duration,
}

impl ClockWatch {
    pub(super) fn read(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic(), boot: clock.boottime() }
    }

    /// What happened between this moment and a later one.
    pub(super) fn compare(&self, later: &Self) -> Vec<Happened> {
        let span = |later: Duration, earlier: Duration| {
            TimeDelta::from_std(later.saturating_sub(earlier)).unwrap_or(TimeDelta::MAX)
        };
        let boot = span(later.boot, self.boot);
        let slept = boot - span(later.monotonic, self.monotonic);
        let stepped = (later.wall - self.wall) - boot;
        let mut happened = Vec::new();
        if slept > SLEPT {
            happened.push(Happened::Suspend(slept));
        }
        if stepped.abs() > STEP {
            happened.push(Happened::Step(stepped));
        }
        happened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall_ms: i64, monotonic_ms: u64, boot_ms: u64) -> ClockWatch {
        ClockWatch {
            wall: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(wall_ms),
            monotonic: Duration::from_millis(monotonic_ms),
            boot: Duration::from_millis(boot_ms),
        }
    }

    #[test]
    fn a_step_and_a_sleep_are_told_apart() {
        let start = moment(1_000_000, 5_000, 9_000);
        let after = |wall: i64, monotonic: u64, boot: u64| {
            start.compare(&moment(1_000_000 + wall, 5_000 + monotonic, 9_000 + boot))
        };
        assert_eq!(after(1_000, 1_000, 1_000), []);
        assert_eq!(after(1_400, 1_000, 1_000), [], "a clock that is slewed is not set");
        assert_eq!(after(3_601_000, 1_000, 1_000), [Happened::Step(TimeDelta::hours(1))]);
        assert_eq!(after(1_000 - 7_200_000, 1_000, 1_000), [Happened::Step(TimeDelta::hours(-2))]);
        assert_eq!(after(61_000, 1_000, 61_000), [Happened::Suspend(TimeDelta::seconds(60))]);
        let both = [Happened::Suspend(TimeDelta::seconds(60)), Happened::Step(TimeDelta::hours(1))];
        assert_eq!(after(61_000 + 3_600_000, 1_000, 61_000), both);
    }
}
