//! What an operator can do to the schedule and the ledger: the same verbs on the command line and over HTTP. They only write;
//! the planner, wherever it is, acts on what it finds.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ledger::Ledger;
use super::plan::{Difference, Expected, compare, expected};
use crate::calendar::{Calendar, SharedCalendars};
use crate::clock::SharedClock;
use crate::schedule::JobSpec;
use crate::store::{JobRun, NewRun, Origin, RunState, Store, StoreError};

/// The most slots of one backfill, unless the operator says another number.
const MOST_BACKFILLED: usize = 1_000;

/// States from which a run can be tried again.
const RETRYABLE: [RunState; 5] =
    [RunState::Failed, RunState::Lost, RunState::Cancelled, RunState::Missed, RunState::Skipped];

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Leaves the slots of a job out.
    Pause {
        /// The job.
        job: String,
        /// Until then; without it until it is resumed.
        until: Option<DateTime<Utc>>,
        /// Why, for whoever looks later.
        reason: Option<String>,
    },
    /// Ends a pause. Slots that came due in it stay left out.
    Resume {
        /// The job.
        job: String,
    },
    /// Runs a job beside its schedule.
    Run {
        /// The job.
        job: String,
        /// For this slot; without it for now.
        slot: Option<DateTime<Utc>>,
    },
    /// Runs the slots of the past that have no successful run.
    Backfill {
        /// The job.
        job: String,
        /// First instant.
        from: DateTime<Utc>,
        /// Last instant, which does not count.
        to: DateTime<Utc>,
        /// At most so many; more is refused.
        max: Option<usize>,
        /// Also what went well.
        force: bool,
    },
    /// Tries a run again.
    Retry {
        /// The run.
        id: Uuid,
        /// Also one that went well.
        force: bool,
    },
    /// Ends a run.
    Cancel {
        /// The run.
        id: Uuid,
    },
}

/// Why something was not done; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such job.
    #[error("there is no job {job:?}; there are {}", known.join(", "))]
    NoSuchJob {
        /// What was asked for.
        job: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// No such run.
    #[error("there is no run {0}")]
    NoSuchRun(Uuid),
    /// It makes no sense as things stand.
    #[error("{0}")]
    Conflict(String),
    /// It makes no sense at all.
    #[error("{0}")]
    Misuse(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One slot of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfilled {
    /// The instant.
    pub slot: DateTime<Utc>,
    /// `run` (it has no row), `retry` (it has one that did not go well), or `leave` (it went well, or is under way).
    pub action: String,
    /// What the ledger says of it now.
    pub state: Option<String>,
}

/// A job as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct JobState {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub purpose: &'static str,
    /// When.
    pub trigger: String,
    /// What about late slots.
    pub misfire: String,
    /// What about slots that come while it runs.
    pub overlap: String,
    /// The most tries of a run.
    pub attempts: i32,
    /// Failed runs in a row that pause it; 0: none do.
    pub breaker: u32,
    /// Its pause, while it is paused.
    pub paused: Option<Paused>,
    /// When it last ended well.
    pub last_success: Option<DateTime<Utc>>,
    /// Runs under way.
    pub running: usize,
    /// Runs that wait.
    pub queued: usize,
    /// Its next slot; `None` where there is none.
    pub next: Option<DateTime<Utc>>,
}

/// A pause that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// Since then.
    pub from: DateTime<Utc>,
    /// Until then, where somebody has said.
    pub until: Option<DateTime<Utc>>,
    /// By whom and why.
    pub reason: String,
}

impl JobState {
    /// What the table and the calendar alone say.
    pub fn of(spec: &JobSpec, calendar: &Calendar, now: DateTime<Utc>) -> Self {
        let next = spec.trigger.next_after(calendar, now);
        Self {
            name: spec.name,
            purpose: spec.purpose,
            trigger: spec.trigger.to_string(),
            misfire: spec.misfire.to_string(),
            overlap: spec.overlap.to_string(),
            attempts: spec.retry.attempts,
            breaker: spec.breaker,
            paused: None,
            last_success: None,
            running: 0,
            queued: 0,
            next: (next < DateTime::<Utc>::MAX_UTC).then_some(next),
        }
    }
}

/// The verbs, and what they work on.
#[derive(Debug, Clone)]
pub struct Operations {
    /// The ledger.
    pub ledger: Ledger,
    /// The job table.
    pub table: Vec<JobSpec>,
    /// Who does it: "by an operator over HTTP".
    pub by: &'static str,
}

impl Operations {
    /// Does it, or says what would be done (`dry_run`). The answer is an object.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing was changed.
    pub async fn perform(&self, verb: &Verb, dry_run: bool) -> Result<Value, Refusal> {
        let answer = match verb {
            Verb::Pause { job, until, reason } => self.pause(job, *until, reason.as_deref(), dry_run).await?,
            Verb::Resume { job } => self.resume(job, dry_run).await?,
            Verb::Run { job, slot } => self.run(job, *slot, dry_run).await?,
            Verb::Backfill { job, from, to, max, force } => {
                self.backfill(job, (*from, *to), max.unwrap_or(MOST_BACKFILLED), *force, dry_run).await?
            }
            Verb::Retry { id, force } => self.retry(*id, *force, dry_run).await?,
            Verb::Cancel { id } => self.cancel(*id, dry_run).await?,
        };
        if !dry_run {
            self.store().wake_others().await;
        }
        Ok(answer)
    }

    fn store(&self) -> &Store {
        &self.ledger.store
    }

    fn clock(&self) -> &SharedClock {
        &self.ledger.clock
    }

    fn calendar(&self) -> &Arc<SharedCalendars> {
        &self.ledger.calendar
    }

    /// The line of a job.
    ///
    /// # Errors
    /// [`Refusal::NoSuchJob`].
    pub fn spec(&self, job: &str) -> Result<&JobSpec, Refusal> {
        self.table.iter().find(|spec| spec.name == job).ok_or_else(|| Refusal::NoSuchJob {
            job: job.to_owned(),
            known: self.table.iter().map(|spec| spec.name).collect(),
        })
    }

    /// Every job, in the order of the table.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs(&self) -> Result<Vec<JobState>, Refusal> {
        let now = self.clock().now();
        let calendar = self.calendar().load();
        let (known, busy) = (self.store().jobs().await?, self.store().busy_jobs().await?);
        let last = self.store().last_runs().await?;
        let state = |spec: &JobSpec| {
            let (running, queued) = busy.get(spec.name).copied().unwrap_or_default();
            let last_success = last.get(&(spec.name.to_owned(), RunState::Ok)).copied();
            let paused = known.get(spec.name).and_then(|job| {
                let goes_on = job.pause_until.is_none_or(|until| until > now);
                let reason = job.pause_reason.clone().unwrap_or_default();
                goes_on.then_some(Paused { from: job.pause_from?, until: job.pause_until, reason })
            });
            JobState { paused, last_success, running, queued, ..JobState::of(spec, &calendar, now) }
        };
        Ok(self.table.iter().map(state).collect())
    }

    async fn pause(
        &self,
        job: &str,
        until: Option<DateTime<Utc>>,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Value, Refusal> {
        let (spec, now) = (self.spec(job)?, self.clock().now());
        if let Some(until) = until.filter(|until| *until <= now) {
            return Err(Refusal::Misuse(format!("until {until} is not in the future")));
        }
        let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        if !dry_run {
            self.store().register_jobs(&[spec.name], now).await?;
            self.store().pause_job(job, now, until, &format!("{}{why}", self.by)).await?;
        }
        Ok(json!({ "job": job, "paused": true, "until": until, "dry_run": dry_run }))
    }

    async fn resume(&self, job: &str, dry_run: bool) -> Result<Value, Refusal> {
        self.spec(job)?;
        let now = self.clock().now();
        let known = self.store().jobs().await?;
        let is_paused = known.get(job).is_some_and(|job| {
            job.pause_from.is_some_and(|from| from <= now) && job.pause_until.is_none_or(|until| until > now)
        });
        if !is_paused {
            return Err(Refusal::Conflict(format!("{job} is not paused")));
        }
        if !dry_run {
            self.store().resume_job(job, now).await?;
        }
        let next = self.spec(job)?.trigger.next_after(&self.calendar().load(), now);
        Ok(json!({ "job": job, "paused": false, "next": next, "dry_run": dry_run }))
    }

    async fn run(&self, job: &str, slot: Option<DateTime<Utc>>, dry_run: bool) -> Result<Value, Refusal> {
        let spec = self.spec(job)?;
        let slot = slot.unwrap_or_else(|| self.clock().now());
        if slot > self.clock().now() {
            return Err(Refusal::Misuse(format!("the slot {slot} has not come yet")));
        }
        let row = self.waiting_row(spec, slot, Origin::Manual);
        let id = row.id;
        if !dry_run && self.store().claim_runs(&[row], None).await?.is_empty() {
            let message = format!("the slot {slot} of {job} has a row; try it again with: bellwether runs retry ID");
            return Err(Refusal::Conflict(message));
        }
        Ok(json!({ "job": job, "slot": slot, "run": (!dry_run).then_some(id), "dry_run": dry_run }))
    }

    fn waiting_row(&self, spec: &JobSpec, slot: DateTime<Utc>, origin: Origin) -> NewRun {
        let reason = Some(format!("asked for {}", self.by));
        let row = self.ledger.row(spec, &self.calendar().load(), slot, origin, RunState::Queued, reason);
        NewRun { next_attempt_at: Some(row.claimed_at), ..row }
    }

    async fn backfill(
        &self,
        job: &str,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        max: usize,
        force: bool,
        dry_run: bool,
    ) -> Result<Value, Refusal> {
        let (spec, now) = (self.spec(job)?, self.clock().now());
        let to = to.min(now);
        if from >= to {
            return Err(Refusal::Misuse("from must be before to, and in the past".to_owned()));
        }
        let rows = self.store().slots_with_rows(job, from, to).await?;
        let instant = TimeDelta::microseconds(1);
        let calendar = self.calendar().load();
        let slots: Vec<_> = spec.trigger.slots(&calendar, from - instant, to - instant).collect();
        let plan: Vec<_> = slots.iter().map(|slot| backfilled(*slot, rows.get(slot), force)).collect();
        let begun = plan.iter().filter(|slot| slot.action != "leave").count();
        if begun > max {
            let message =
                format!("{begun} slots would be run, the most is {max}; choose a shorter span, or a higher max");
            return Err(Refusal::Misuse(message));
        }
        if !dry_run {
            let new = plan.iter().filter(|slot| slot.action == "run");
            let new: Vec<_> = new.map(|slot| self.waiting_row(spec, slot.slot, Origin::Backfill)).collect();
            self.store().claim_runs(&new, None).await?;
            for run in plan.iter().filter(|slot| slot.action == "retry").filter_map(|slot| rows.get(&slot.slot)) {
                self.requeue(run, force).await?;
            }
        }
        Ok(json!({ "job": job, "begun": begun, "slots": plan, "dry_run": dry_run }))
    }

    async fn retry(&self, id: Uuid, force: bool, dry_run: bool) -> Result<Value, Refusal> {
        let (run, _) = self.store().run(id).await?.ok_or(Refusal::NoSuchRun(id))?;
        self.spec(&run.job)?;
        if run.state == RunState::Ok && !force {
            let message = format!("run {id} went well; to do it again all the same: --force");
            return Err(Refusal::Conflict(message));
        }
        if matches!(run.state, RunState::Queued | RunState::Running) {
            return Err(Refusal::Conflict(format!("run {id} is {} already", run.state)));
        }
        if !dry_run && !self.requeue(&run, force).await? {
            return Err(Refusal::Conflict(format!("run {id} has changed meanwhile; look again")));
        }
        Ok(
            json!({ "run": id, "job": run.job, "slot": run.scheduled_for, "attempt": run.attempt + 1, "dry_run": dry_run }),
        )
    }

    async fn requeue(&self, run: &JobRun, force: bool) -> Result<bool, Refusal> {
        let now = self.clock().now();
        let deadline = now + self.spec(&run.job)?.deadline;
        let ok = [RunState::Ok];
        let states: Vec<_> =
            RETRYABLE.into_iter().chain(if force { ok.as_slice() } else { &[] }.iter().copied()).collect();
        let reason = format!("tried again {}; it was {}", self.by, run.state);
        Ok(self.store().requeue_run(run.id, &states, deadline, &reason, now).await?)
    }

    async fn cancel(&self, id: Uuid, dry_run: bool) -> Result<Value, Refusal> {
        let (run, _) = self.store().run(id).await?.ok_or(Refusal::NoSuchRun(id))?;
        if !matches!(run.state, RunState::Queued | RunState::Running) {
            return Err(Refusal::Conflict(format!("run {id} has ended: {}", run.state)));
        }
        if !dry_run {
            self.store().cancel_runs(&[id], self.by, self.clock().now()).await?;
        }
        Ok(json!({ "run": id, "job": run.job, "was": run.state, "dry_run": dry_run }))
    }

    /// The slots in a span of time (its end does not count) that have no row, and how many there should be.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verify(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<(usize, Vec<Expected>), Refusal> {
        let (mut count, mut missing) = (0, Vec::new());
        let known = self.store().jobs().await?;
        let calendar = self.calendar().load();
        for spec in &self.table {
            let expected = expected(spec, &calendar, &known, from..to);
            let rows = self.store().slots_with_rows(spec.name, from, to).await?;
            count += expected.len();
            missing.extend(expected.into_iter().filter(|expected| !rows.contains_key(&expected.slot)));
        }
        missing.sort();
        Ok((count, missing))
    }

    /// Where the ledger of a span of time is not what the schedule would have, in order of time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn differences(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Difference>, Refusal> {
        let known = self.store().jobs().await?;
        let calendar = self.calendar().load();
        let mut found = Vec::new();
        for spec in &self.table {
            let rows = self.store().slots_with_rows(spec.name, from, to).await?;
            found.extend(compare(spec.name, &expected(spec, &calendar, &known, from..to), &rows));
        }
        found.sort_by(|a, b| (a.slot, &a.job).cmp(&(b.slot, &b.job)));
        Ok(found)
    }
}

fn backfilled(slot: DateTime<Utc>, row: Option<&JobRun>, force: bool) -> Backfilled {
    let action = match row.map(|run| run.state) {
        None => "run",
        Some(state) if RETRYABLE.contains(&state) || force && state == RunState::Ok => "retry",
        Some(_) => "leave",
    };
    Backfilled { slot, action: action.to_owned(), state: row.map(|run| run.state.name().to_owned()) }
}
