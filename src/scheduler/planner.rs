//! The loop that decides: once a second, and at each slot.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::clock_watch::ClockWatch;
use super::finisher::Turn;
use super::leadership::Leadership;
use super::ledger::{Ledger, Ticket};
use super::status::{Living, Place, Status};
use super::{Entry, runner};
use crate::metrics;
use crate::schedule::Pause;
use crate::store::{ClockEvent, KnownJob, Origin, RunState, StoreError, Term};

/// The longest the planner sleeps: a stepped clock or a lost wake-up costs a second at most.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How often a process says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How often a process that has the database to itself looks for runs of its own that it does not know of; on a shared one, at each
/// heartbeat.
const SEARCH: Duration = Duration::from_secs(20);

/// A ledger this far ahead of the clock was written under a wrong clock, or is read under one.
const FUTURE: TimeDelta = TimeDelta::minutes(5);

/// A clock that is set again and again is written down so often at most: this many times an hour.
const CLOCK_EVENTS: usize = 20;

/// What a planner goes by.
#[derive(Debug, Clone)]
pub struct PlannerOptions {
    /// Slots older than this are not owed.
    pub retention: Duration,
    /// The lease of an instance ends so long after it was last renewed.
    pub lease: Duration,
    /// Goes on although the ledger is ahead of the clock.
    pub trust_clock: bool,
    /// Name of this host.
    pub host: String,
}

/// Why a planner must not begin.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The clock is wrong.
    #[error("the clock says {clock} and this program was built at {built}: set the clock of this host")]
    ClockBehindBuild {
        /// The clock.
        clock: DateTime<Utc>,
        /// When it was built.
        built: DateTime<Utc>,
    },
    /// The clock is wrong now, or was.
    #[error(
        "the clock says {clock} and the ledger was last written at {ledger}: set the clock of this host; if it is right now \
         and was wrong then, start once with schedule.trust_clock = true"
    )]
    ClockBehindLedger {
        /// The clock.
        clock: DateTime<Utc>,
        /// The newest row.
        ledger: DateTime<Utc>,
    },
}

/// Whether a run at start is wanted, asked when it could begin.
type Wanted = Box<dyn Fn() -> bool + Send + Sync>;

/// A job as the planner keeps it.
pub(super) struct Line {
    pub(super) entry: Arc<Entry>,
    /// The newest decided slot; never moves back.
    pub(super) cursor: DateTime<Utc>,
    /// The first slot after it.
    pub(super) next: DateTime<Utc>,
    /// While the clock stands before the cursor: up to where the time that comes twice was gone through.
    pub(super) repeated: Option<DateTime<Utc>>,
    pub(super) pause: Option<Pause>,
    /// Since when its slots are owed.
    pub(super) owed_since: DateTime<Utc>,
}

/// Decides what is due and runs it.
pub struct Planner {
    pub(super) lines: Vec<Line>,
    pub(super) ledger: Ledger,
    pub(super) leadership: Arc<Leadership>,
    pub(super) status: Arc<Status>,
    pub(super) nudge: Arc<Notify>,
    pub(super) stop: CancellationToken,
    /// The soonest instant at which a run that waits may begin.
    pub(super) soonest_waiting: Option<DateTime<Utc>>,
    /// Whether a run may have begun to wait since the ledger was last asked for those that do.
    pub(super) unasked: bool,
    /// While what is due is being claimed: before whatever is to be ended.
    pub(super) turn: Option<Turn>,
    /// The epoch whose cursors were read, and the calendar that `next` was found with.
    office: Option<i64>,
    /// Whether the office is new, so that what others left undone is still to be looked for.
    arrives: bool,
    pub(super) calendar_hash: String,
    runs: TaskTracker,
    cut_off: CancellationToken,
    options: PlannerOptions,
    next_heartbeat: Duration,
    /// When, on a database of its own, it is looked for runs that nobody carries.
    next_search: Duration,
    /// When, by the time since boot, what happened to the clock was written down in the last hour.
    clock_events: VecDeque<Duration>,
    /// Jobs that run once when this instance first plans, beside their schedule.
    cold_start: Vec<(&'static str, Wanted)>,
    started_at: DateTime<Utc>,
}

impl Planner {
    /// A planner that has not looked at the ledger yet. After `stop` nothing is begun: neither a slot nor another attempt.
    pub fn new(entries: Vec<Entry>, ledger: Ledger, options: PlannerOptions, stop: CancellationToken) -> Self {
        let start = DateTime::<Utc>::MIN_UTC;
        let line = |entry| Line {
            entry: Arc::new(entry),
            cursor: start,
            next: start,
            repeated: None,
            pause: None,
            owed_since: start,
        };
        let leadership = Leadership::new(ledger.store.clone(), ledger.owner.clone(), options.lease);
        Self {
            lines: entries.into_iter().map(line).collect(),
            leadership: Arc::new(leadership),
            status: Arc::default(),
            nudge: Arc::default(),
            stop,
            soonest_waiting: None,
            unasked: true,
            turn: None,
            office: None,
            arrives: false,
            calendar_hash: String::new(),
            runs: TaskTracker::new(),
            cut_off: CancellationToken::new(),
            options,
            next_heartbeat: Duration::ZERO,
            next_search: Duration::ZERO,
            clock_events: VecDeque::new(),
            cold_start: Vec::new(),
            started_at: ledger.clock.now(),
            ledger,
        }
    }

    /// What it is doing.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Makes it look at once.
    pub fn nudge(&self) -> Arc<Notify> {
        Arc::clone(&self.nudge)
    }

    /// The runs under way, to wait for at the end.
    pub fn runs(&self) -> TaskTracker {
        self.runs.clone()
    }

    /// Cuts the runs off that are still under way.
    pub fn cut_off(&self) -> CancellationToken {
        self.cut_off.clone()
    }

    /// Who plans.
    pub fn leadership(&self) -> Arc<Leadership> {
        Arc::clone(&self.leadership)
    }

    /// Runs `job` once as soon as this instance plans, if it is `wanted` then.
    pub fn run_at_start(&mut self, job: &'static str, wanted: impl Fn() -> bool + Send + Sync + 'static) {
        self.cold_start.push((job, Box::new(wanted)));
    }

    /// Says that this process lives, and asks for the right to plan.
    ///
    /// # Errors
    /// When the database fails, or the ledger was written at a time that has not come yet.
    pub async fn prepare(&mut self) -> Result<(), PrepareError> {
        let now = self.ledger.clock.now();
        if let Some(ledger) = self.ledger.store.last_written().await?.filter(|ledger| *ledger > now + FUTURE) {
            if !self.options.trust_clock {
                return Err(PrepareError::ClockBehindLedger { clock: now, ledger });
            }
            warn!(%ledger, "the ledger is ahead of the clock, which is trusted");
        }
        let names: Vec<_> = self.lines.iter().map(|line| line.entry.spec.name).collect();
        names.iter().for_each(|name| metrics::job_registered(name));
        self.ledger.store.register_jobs(&names, now).await?;
        self.ledger.store.beat(&self.ledger.owner, &self.options.host, self.started_at).await?;
        for ((job, state), at) in self.ledger.store.last_runs().await? {
            if state == RunState::Ok {
                self.status.succeeded(&job, at);
                metrics::job_succeeded(job, at);
            }
        }
        if self.leadership.contend().await?
            && let Some(term) = self.leadership.term()
        {
            self.take_office(&term, now).await?;
        }
        Ok(())
    }

    /// Decides until told to stop. Runs under way go on in [`Planner::runs`].
    pub async fn run(mut self) {
        let mut watched = ClockWatch::read(&*self.ledger.clock);
        loop {
            let began = self.ledger.clock.monotonic();
            let now = self.ledger.clock.now();
            let seen = ClockWatch::read(&*self.ledger.clock);
            self.note_clock(&watched, &seen).await;
            watched = seen;
            let fault = self.look_alive(now).await.err().map(|fault| fault.to_string());
            self.status.looked(began, self.office.is_some());
            self.report_fault(fault);
            let clock = Arc::clone(&self.ledger.clock);
            tokio::select! {
                () = clock.sleep_until(self.next_look(now)) => {}
                () = self.nudge.notified() => self.unasked = true,
                () = self.stop.cancelled() => break,
            }
        }
        self.status.ended();
        self.leadership.resign().await;
    }

    /// A look that ticks while it waits for the database: the watchdog must tell a slow database from a dead planner.
    async fn look_alive(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let (status, clock) = (Arc::clone(&self.status), Arc::clone(&self.ledger.clock));
        let mut look = std::pin::pin!(self.look(now));
        loop {
            status.tick();
            tokio::select! {
                done = &mut look => return done,
                () = clock.pause(Duration::from_secs(1)) => {}
            }
        }
    }

    async fn look(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let looked = match self.leadership.term() {
            Some(term) => self.look_as_planner(&term, now).await,
            None => {
                self.office = None;
                Ok(())
            }
        };
        match looked {
            Err(StoreError::Deposed) => {
                self.leadership.deposed();
                self.office = None;
            }
            looked => looked?,
        }
        self.end_cancelled().await?;
        self.beat().await?;
        metrics::scheduler_ticked(now);
        Ok(())
    }

    async fn look_as_planner(&mut self, term: &Term, now: DateTime<Utc>) -> Result<(), StoreError> {
        if self.office != Some(term.epoch) {
            self.take_office(term, now).await?;
        }
        // Done when it is done: a database that fails in between is asked again with the next look.
        if self.arrives {
            self.take_over_abandoned().await?;
            self.arrives = false;
        }
        while let Some((job, wanted)) = self.cold_start.first() {
            if wanted() {
                self.run_now(job, Origin::ColdStart).await?;
            }
            drop(self.cold_start.remove(0));
        }
        self.plan(term, now).await?;
        // Behind what was claimed, which begins first.
        drop(self.ledger.finisher.hold().await);
        self.dispatch(term, now).await
    }

    /// Reads from the ledger where each job stands.
    async fn take_office(&mut self, term: &Term, now: DateTime<Utc>) -> Result<(), StoreError> {
        let jobs = self.ledger.store.jobs().await?;
        let decided = self.ledger.store.decided_slots().await?;
        let retained = now - self.retention();
        for line in &mut self.lines {
            let name = line.entry.spec.name;
            let since = jobs.get(name).map_or(now, |job| job.since);
            let cursor = decided.get(name).map_or(since, |decided| since.max(*decided)).max(retained);
            line.cursor = cursor.max(line.cursor);
            line.owed_since = since;
            if cursor > now + FUTURE {
                // Waiting for that time would be silence; slots that have a row already stay theirs.
                error!(job_name = name, ledger = %cursor, "the ledger is ahead of the clock; the job goes on from now");
                line.cursor = now;
            }
        }
        self.calendar_hash.clear();
        self.set_pauses(&jobs, now);
        self.office = Some(term.epoch);
        self.arrives = true;
        self.unasked = true;
        Ok(())
    }

    /// How far back slots are owed.
    pub(super) fn retention(&self) -> TimeDelta {
        TimeDelta::from_std(self.options.retention).unwrap_or(TimeDelta::MAX)
    }

    pub(super) fn set_pauses(&mut self, jobs: &HashMap<String, KnownJob>, now: DateTime<Utc>) {
        for line in &mut self.lines {
            let name = line.entry.spec.name;
            let was_paused = line.pause.is_some();
            line.pause = jobs.get(name).and_then(|job| {
                let reason = job.pause_reason.clone().unwrap_or_default();
                Some(Pause { from: job.pause_from?, until: job.pause_until, reason })
            });
            // Of those that were not and are not paused there is nothing to tell, and there may be thousands.
            if was_paused || line.pause.is_some() {
                metrics::job_paused(name, line.pause.as_ref().is_some_and(|pause| pause.covers(now)));
            }
        }
    }

    /// Runs a job now, outside its schedule.
    async fn run_now(&self, job: &str, origin: Origin) -> Result<(), StoreError> {
        let Some(entry) = self.entry(job) else { return Ok(()) };
        if let Some(ticket) = self.ledger.claim_now(&entry.spec, origin).await? {
            self.spawn(Arc::clone(entry), ticket);
        }
        Ok(())
    }

    pub(super) fn spawn(&self, entry: Arc<Entry>, ticket: Ticket) {
        let (status, ledger) = (Arc::clone(&self.status), self.ledger.clone());
        let (nudge, cut_off) = (Arc::clone(&self.nudge), self.cut_off.clone());
        let stop = ticket.context.stop.clone();
        let living = Living::begin(&status, entry.spec.name, ticket.context.id, Place::Planner, stop);
        let turn = self.turn.clone();
        self.runs.spawn(async move {
            drop(turn);
            let (job, clock) = (entry.spec.name, Arc::clone(&ledger.clock));
            // On the heap once: whatever is spawned is moved several times before it begins, a thousand of them while others wait.
            let well = Box::pin(runner::run(ledger, entry, ticket, living, cut_off)).await;
            if well {
                status.succeeded(job, clock.now());
            }
            // It may wait for another try, and others may have waited for its end.
            if !well || status.has_waiting() {
                nudge.notify_one();
            }
        });
    }

    pub(super) fn entry(&self, job: &str) -> Option<&Arc<Entry>> {
        self.lines.iter().map(|line| &line.entry).find(|entry| entry.spec.name == job)
    }

    /// Says that the process lives, and looks for runs that nobody carries any more.
    async fn beat(&mut self) -> Result<(), StoreError> {
        let monotonic = self.ledger.clock.monotonic();
        if monotonic < self.next_heartbeat {
            return Ok(());
        }
        self.ledger.store.beat(&self.ledger.owner, &self.options.host, self.started_at).await?;
        // Where nobody else can write the ledger, nobody has abandoned anything since this process began to plan, and only a write whose
        // answer was lost can have left something that this process does not know of.
        let is_shared = !self.ledger.store.is_exclusive();
        if self.office.is_some() {
            if is_shared {
                self.take_over_abandoned().await?;
            }
            self.report_overdue(self.ledger.clock.now());
        }
        if is_shared || monotonic >= self.next_search {
            self.take_over_own().await?;
            self.unasked = true;
            self.next_search = monotonic + SEARCH;
        }
        // With what else is done every so often, as far as the database is quick.
        self.next_heartbeat = monotonic + self.ledger.clock.until_beat(HEARTBEAT);
        Ok(())
    }

    /// A clock that was set, or a host that slept, is counted, written down and told; the misfire policies do the rest.
    async fn note_clock(&mut self, before: &ClockWatch, now: &ClockWatch) {
        for happened in before.compare(now) {
            let by = happened.by();
            metrics::clock_event(happened.kind());
            let boot = self.ledger.clock.boottime();
            self.clock_events.retain(|written| boot < *written + Duration::from_hours(1));
            if self.clock_events.len() >= CLOCK_EVENTS {
                continue;
            }
            self.clock_events.push_back(boot);
            let (kind, by_ms) = (happened.kind(), by.num_milliseconds());
            warn!(kind, by_ms, "the clock was set or the host slept; late slots go by their misfire policy");
            let event = ClockEvent {
                at: self.ledger.clock.now(),
                kind: kind.to_owned(),
                by_us: by.num_microseconds().unwrap_or(i64::MAX),
                owner: self.ledger.owner.clone(),
            };
            if let Err(fault) = self.ledger.store.save_clock_event(&event).await {
                warn!(error = %fault, "this could not be written down");
            }
        }
    }

    /// At the next slot, or the next beat where that is sooner.
    fn next_look(&self, looked: DateTime<Utc>) -> DateTime<Utc> {
        let latest = self.ledger.clock.later(self.ledger.clock.until_beat(LONGEST_SLEEP));
        if self.office.is_none() {
            return latest;
        }
        let slots = self.lines.iter().map(|line| line.next).filter(|next| *next > looked);
        slots.chain(self.soonest_waiting).min().map_or(latest, |soonest| soonest.min(latest))
    }

    /// A failing database is said once when it begins and once when it ends, not each second.
    fn report_fault(&self, fault: Option<String>) {
        metrics::database_up(fault.is_none());
        if self.status.set_ledger_fault(fault.clone()) {
            match fault {
                Some(fault) => error!(error = %fault, "the ledger cannot be written; nothing is begun until it can"),
                None => info!("the ledger can be written"),
            }
        }
    }
}
