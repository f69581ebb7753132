//! The one source of the present.
//!
//! Everything that stamps or waits takes a [`Clock`]. The daemon runs on [`SystemClock`]; stories and rehearsals run on
//! [`SimClock`], where a year passes as fast as the work in it. `clippy.toml` forbids every other way to ask for the time.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use governor::nanos::Nanos;
use tokio::sync::watch;

/// A clock shared by every part of one daemon.
pub type SharedClock = Arc<dyn Clock>;

/// What a wait on the clock returns.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Wall time, monotonic time, and waiting for either.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock in UTC, cut to microseconds: what PostgreSQL can store, so an instant survives the database unchanged.
    fn now(&self) -> DateTime<Utc>;

    /// Time since some fixed point of this process; never steps back.
    fn monotonic(&self) -> Duration;

    /// Time since the host was started, also while it slept.
    fn boottime(&self) -> Duration;

    /// Returns once `span` has passed, whatever is done to the wall clock meanwhile.
    fn pause(&self, span: Duration) -> Sleep<'_>;

    /// How long it is to the next beat of `span`. The beats of all spans fall together as far as the spans allow it, so work that is
    /// bound to no instant wakes the process once for all of it.
    fn until_beat(&self, span: Duration) -> Duration {
        span
    }

    /// Returns at the next beat of `span`, whatever is done to the wall clock meanwhile.
    fn beat(&self, span: Duration) -> Sleep<'_> {
        self.pause(self.until_beat(span))
    }

    /// Returns once the wall clock has reached `at`; at once when it has already.
    fn sleep_until(&self, at: DateTime<Utc>) -> Sleep<'_>;

    /// The instant `span` from now; the end of time where there is none.
    fn later(&self, span: Duration) -> DateTime<Utc> {
        let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
        self.now().checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Returns once `span` has passed on the wall clock.
    fn sleep(&self, span: Duration) -> Sleep<'_> {
        self.sleep_until(self.later(span))
    }
}

/// The clock of the host.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    /// From the start to the first half of a second: beats keep clear of the full seconds, at which jobs begin.
    first_beat: Duration,
}

/// Where in a second of the wall clock the first beat falls.
const HALF: Duration = Duration::from_millis(500);

/// A wait looks at the wall clock at least this often, because the clock can be stepped while we sleep.
const LONGEST_NAP: Duration = Duration::from_secs(1);

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the host's clock")]
    pub fn start() -> SharedClock {
        let past_the_second = Duration::from_nanos(Utc::now().timestamp_subsec_nanos().into());
        let first_beat = to_beat(past_the_second, HALF, Duration::from_secs(1));
        Arc::new(Self { started: std::time::Instant::now(), first_beat })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the host's clock")]
    fn now(&self) -> DateTime<Utc> {
        let now = Utc::now();
        now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn boottime(&self) -> Duration {
        boottime().unwrap_or_else(|| self.monotonic())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits on the host's clock")]
    fn pause(&self, span: Duration) -> Sleep<'_> {
        Box::pin(tokio::time::sleep(span))
    }

    fn until_beat(&self, span: Duration) -> Duration {
        to_beat(self.started.elapsed(), self.first_beat, span)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that waits on the host's clock")]
    fn sleep_until(&self, at: DateTime<Utc>) -> Sleep<'_> {
        Box::pin(async move {
            loop {
                let left = (at - Utc::now()).to_std().unwrap_or(Duration::ZERO);
                if left.is_zero() {
                    return;
                }
                let nap = if left > LONGEST_NAP { self.until_beat(LONGEST_NAP) } else { left };
                tokio::time::sleep(nap).await;
            }
        })
    }
}

/// From `now` to the next of the beats that are `span` apart and go through `first`, by a clock that began at zero.
fn to_beat(now: Duration, first: Duration, span: Duration) -> Duration {
    // Spans are constants and intervals of the configuration: far from 584 years, and never nothing.
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (span, first) = (nanoseconds(span).max(1), nanoseconds(first));
    let since = nanoseconds(now).saturating_add(span - first % span);
    Duration::from_nanos(span - since % span)
}

#[cfg(target_os = "linux")]
fn boottime() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).ok()
}

/// Elsewhere the monotonic clock stands for it: a host that slept is not told from a clock that was set.
#[cfg(not(target_os = "linux"))]
fn boottime() -> Option<Duration> {
    None
}

/// A span of time for people, in its two largest units.
pub fn span_in_words(span: TimeDelta) -> String {
    let seconds = span.num_seconds().abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days} d {hours} h"),
        (0, 1.., _) => format!("{hours} h {minutes:02} min"),
        (0, 0, 1..) => format!("{minutes} min {:02} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

/// Governor on our clock, so that limits hold in simulated time as well.
#[derive(Debug, Clone)]
pub struct GovernorClock(SharedClock);

impl GovernorClock {
    /// By this clock.
    pub fn new(clock: SharedClock) -> Self {
        Self(clock)
    }

    /// The present as limiters measure it.
    pub fn instant(&self) -> Nanos {
        Nanos::from(self.0.monotonic())
    }
}

impl governor::clock::Clock for GovernorClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.instant()
    }
}

/// A clock that stands still until it is moved. Its monotonic time follows its wall time.
#[derive(Debug)]
pub struct SimClock {
    origin: DateTime<Utc>,
    now: watch::Sender<DateTime<Utc>>,
    waiting: Mutex<BTreeMap<DateTime<Utc>, usize>>,
}

impl SimClock {
    /// A clock that stands at `origin`.
    pub fn at(origin: DateTime<Utc>) -> Arc<Self> {
        Arc::new(Self { origin, now: watch::Sender::new(origin), waiting: Mutex::default() })
    }

    /// Moves the clock to `to` and wakes whoever waited for an instant up to it. A move backwards is ignored.
    pub fn advance_to(&self, to: DateTime<Utc>) {
        self.now.send_if_modified(|now| {
            let moves = to > *now;
            if moves {
                *now = to;
            }
            moves
        });
    }

    /// Moves the clock on by `span`.
    pub fn advance(&self, span: TimeDelta) {
        self.advance_to(self.now() + span);
    }

    /// The instants somebody waits for, soonest first: lets a story move just far enough.
    pub fn waiting_for(&self) -> Vec<DateTime<Utc>> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DateTime<Utc>, usize>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Keeps the list of waiters true when a wait is dropped before its time.
struct Waiting<'a> {
    clock: &'a SimClock,
    at: DateTime<Utc>,
}

impl<'a> Waiting<'a> {
    fn register(clock: &'a SimClock, at: DateTime<Utc>) -> Self {
        *clock.lock().entry(at).or_default() += 1;
        Self { clock, at }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.clock.lock();
        if let Some(count) = waiting.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.at);
            }
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.borrow()
    }

    fn monotonic(&self) -> Duration {
        (self.now() - self.origin).to_std().unwrap_or(Duration::ZERO)
    }

    fn boottime(&self) -> Duration {
        self.monotonic()
    }

    fn pause(&self, span: Duration) -> Sleep<'_> {
        self.sleep(span)
    }

    fn sleep_until(&self, at: DateTime<Utc>) -> Sleep<'_> {
        Box::pin(async move {
            let _waiting = Waiting::register(self, at);
            let mut now = self.now.subscribe();
            // The sender lives in self, so the channel cannot close while we wait.
            let _ = now.wait_for(|now| *now >= at).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn noon() -> DateTime<Utc> {
        "2027-03-14T12:00:00Z".parse().unwrap()
    }

    #[tokio::test]
    async fn a_simulated_wait_ends_when_the_clock_gets_there_and_not_before() {
        let clock = SimClock::at(noon());
        let mut wait = clock.sleep(Duration::from_secs(10));
        assert!(wait.as_mut().now_or_never().is_none());
        assert_eq!(clock.waiting_for(), [noon() + TimeDelta::seconds(10)]);
        clock.advance(TimeDelta::seconds(9));
        assert!(wait.as_mut().now_or_never().is_none());
        clock.advance(TimeDelta::seconds(1));
        wait.await;
        assert!(clock.waiting_for().is_empty());
        assert_eq!(clock.monotonic(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_simulated_clock_never_moves_back() {
        let clock = SimClock::at(noon());
        clock.advance(TimeDelta::seconds(-5));
        assert_eq!(clock.now(), noon());
    }

    #[test]
    fn beats_of_all_spans_fall_together() {
        let (ms, first) = (Duration::from_millis, Duration::from_millis(300));
        let next = |now, span| to_beat(ms(now), first, ms(span)).as_millis();
        assert_eq!([0, 299, 300, 301, 1_299].map(|now| next(now, 1_000)), [300, 1, 1_000, 999, 1]);
        // At 5.3 s, 10.3 s and so on, which are beats of a second too.
        assert_eq!([0, 5_299, 5_300, 7_000].map(|now| next(now, 5_000)), [300, 1, 5_000, 3_300]);
        assert_eq!(next(7_000, 250), 50);
    }

    #[tokio::test]
    async fn a_beat_comes_and_not_before_its_time() {
        let (clock, span) = (SystemClock::start(), Duration::from_millis(20));
        let began = clock.monotonic();
        let left = clock.until_beat(span);
        clock.beat(span).await;
        assert!(clock.monotonic() >= began + left, "not before its time");
    }

    #[test]
    fn the_present_is_cut_to_microseconds() {
        assert_eq!(SystemClock::start().now().timestamp_subsec_nanos() % 1_000, 0);
    }
}
