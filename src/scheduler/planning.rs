//! Deciding what came due: for every job at once, written in few transactions.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use uuid::Uuid;

use super::ledger::ticket_of;
use super::planner::{Line, Planner};
use crate::calendar::Calendar;
use crate::metrics;
use crate::schedule::{Busy, Trigger, Verdict, judge, judge_flood};
use crate::store::{NewRun, Origin, RunState, StoreError, Term};

/// Rows of the first transaction: what it claims is begun while the next one, twice as large, is being written.
const FIRST_ROWS: usize = 250;

/// Rows of the largest one.
const MOST_ROWS: usize = 1_000;

/// Transactions at a time: while one is written, the next is made ready.
const CLAIMS_AT_ONCE: usize = 2;

/// Slots of one job that are judged in one look. A clock set on by a year owes millions to a job of each second: the others must not
/// wait for their rows.
const SLOTS_AT_ONCE: usize = 10_000;

/// What was decided about one job.
struct Decided {
    line: usize,
    cursor: DateTime<Utc>,
    /// Whether what is under way has to make room.
    replaces: bool,
}

/// What is written by one transaction.
#[derive(Default)]
struct Batch {
    decided: Vec<Decided>,
    rows: Vec<NewRun>,
    /// The line of each row.
    lines: Vec<usize>,
}

/// A batch that is being written.
struct Claim {
    /// Without its rows.
    batch: Batch,
    writing: JoinHandle<Written>,
}

/// The rows, and which of them were written.
type Written = (Vec<NewRun>, Result<BTreeSet<Uuid>, StoreError>);

impl Planner {
    /// Decides everything that is due at `now`. A job whose rows could not be written keeps its cursor and is judged again.
    pub(super) async fn plan(&mut self, term: &Term, now: DateTime<Utc>) -> Result<(), StoreError> {
        // One calendar for the whole decision, whatever is swapped meanwhile.
        let calendar = self.ledger.calendar.load();
        if self.calendar_hash != calendar.hash() {
            self.lines.iter_mut().for_each(|line| line.look_ahead(&calendar));
            calendar.hash().clone_into(&mut self.calendar_hash);
        }
        self.repeat(&calendar, now).await?;
        let due: Vec<usize> = (0..self.lines.len()).filter(|line| self.lines[*line].next <= now).collect();
        if due.is_empty() {
            return Ok(());
        }
        self.turn = Some(self.ledger.finisher.hold().await);
        let planned = self.claim(due, &calendar, term, now).await;
        self.turn = None;
        planned
    }

    /// Decides about the lines that are due, and begins what is claimed for them.
    async fn claim(
        &mut self,
        due: Vec<usize>,
        calendar: &Calendar,
        term: &Term,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let (jobs, busy) = tokio::try_join!(self.ledger.store.paused_jobs(), self.ledger.store.busy_jobs())?;
        self.set_pauses(&jobs, now);
        let (mut due, mut wanted) = (due.into_iter().peekable(), FIRST_ROWS);
        let (mut claims, mut begun, mut outcome) = (VecDeque::new(), Vec::new(), Ok(()));
        while due.peek().is_some() && outcome.is_ok() {
            let mut batch = Batch::default();
            while let Some(line) = due.next_if(|_| batch.rows.len() < wanted) {
                self.decide(line, calendar, now, &busy, &mut batch);
            }
            wanted = MOST_ROWS.min(wanted * 2);
            claims.push_back(self.begin_claim(batch, term));
            if claims.len() == CLAIMS_AT_ONCE
                && let Some(claim) = claims.pop_front()
            {
                outcome = self.end_claim(claim, term).await.map(|batch| begun.push(batch));
            }
        }
        // What was begun is acted on, whatever became of the one before: it may be written.
        while let Some(claim) = claims.pop_front() {
            outcome = outcome.and(self.end_claim(claim, term).await.map(|batch| begun.push(batch)));
        }
        // All of it begins before anything is told of it.
        tokio::task::yield_now().await;
        for batch in begun {
            self.go_on_from(batch, calendar).await;
        }
        outcome
    }

    fn decide(
        &self,
        index: usize,
        calendar: &Calendar,
        now: DateTime<Utc>,
        busy: &HashMap<String, (usize, usize)>,
        batch: &mut Batch,
    ) {
        let line = &self.lines[index];
        let spec = &line.entry.spec;
        // What is older than any row of the ledger may be is not owed either.
        let from = line.cursor.max(now - self.retention());
        let may_run = spec.misfire.most();
        let mut slots: Vec<_> = spec.trigger.slots(calendar, from, now).take(SLOTS_AT_ONCE + may_run).collect();
        let verdicts = if slots.len() == SLOTS_AT_ONCE + may_run {
            slots.truncate(SLOTS_AT_ONCE);
            judge_flood(&slots, line.pause.as_ref())
        } else {
            let (running, queued) = busy.get(spec.name).copied().unwrap_or_default();
            judge(spec, calendar, &slots, now, Busy { running, queued }, line.pause.as_ref())
        };
        let replaces = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Replace { .. }));
        batch.rows.extend(verdicts.into_iter().map(|(slot, verdict)| self.row(line, calendar, slot, verdict)));
        batch.lines.resize(batch.rows.len(), index);
        batch.decided.push(Decided { line: index, cursor: slots.last().copied().unwrap_or(now), replaces });
    }

    fn row(&self, line: &Line, calendar: &Calendar, slot: DateTime<Utc>, verdict: Verdict) -> NewRun {
        let late = |late: bool| if late { Origin::Catchup } else { Origin::Scheduled };
        let mut not_before = None;
        let (origin, state, reason) = match verdict {
            Verdict::Run { late: reason } => (late(reason.is_some()), RunState::Running, reason),
            Verdict::Queue { from, reason, late: is_late } => {
                not_before = Some(from);
                (late(is_late), RunState::Queued, Some(reason))
            }
            Verdict::Replace { reason } => {
                not_before = Some(slot);
                (Origin::Scheduled, RunState::Queued, Some(reason))
            }
            Verdict::Skipped(reason) => (Origin::Scheduled, RunState::Skipped, Some(reason)),
            Verdict::Missed(reason) => (Origin::Scheduled, RunState::Missed, Some(reason)),
        };
        let row = self.ledger.row(&line.entry.spec, calendar, slot, origin, state, reason);
        NewRun { next_attempt_at: not_before, ..row }
    }

    /// Begins to write what was decided. On a thread of its own: as a task it would queue, at each answer of the database, behind the
    /// runs that were begun before it.
    fn begin_claim(&mut self, mut batch: Batch, term: &Term) -> Claim {
        let (store, as_planner, rows) = (self.ledger.store.clone(), term.clone(), std::mem::take(&mut batch.rows));
        // Even a claim whose answer is lost may leave some that wait.
        self.unasked |= rows.iter().any(|row| row.state == RunState::Queued);
        let runtime = Handle::current();
        let writing = tokio::task::spawn_blocking(move || {
            let written = match rows.as_slice() {
                [] => Ok(BTreeSet::new()),
                rows => runtime.block_on(store.claim_runs(rows, Some(&as_planner))),
            };
            (rows, written)
        });
        Claim { batch, writing }
    }

    /// Begins what was claimed.
    async fn end_claim(&self, claim: Claim, term: &Term) -> Result<Batch, StoreError> {
        let batch = claim.written().await?;
        for (row, line) in batch.rows.iter().zip(&batch.lines) {
            if row.state == RunState::Running {
                let entry = &self.lines[*line].entry;
                self.spawn(Arc::clone(entry), ticket_of(&entry.spec, row, term.epoch));
            }
        }
        Ok(batch)
    }

    /// Says what was claimed, and moves the cursors behind what is written.
    async fn go_on_from(&mut self, batch: Batch, calendar: &Calendar) {
        batch.rows.iter().for_each(tell);
        for Decided { line, cursor, replaces } in batch.decided {
            let line = &mut self.lines[line];
            line.cursor = cursor.max(line.cursor);
            line.look_ahead(calendar);
            if replaces {
                let job = line.entry.spec.name;
                if let Err(fault) = self.make_room(job).await {
                    warn!(job_name = job, error = %fault, "the run under way could not be told to end; the new one waits for it");
                }
            }
        }
    }

    async fn make_room(&self, job: &str) -> Result<(), StoreError> {
        let running: Vec<_> = self.ledger.store.running_of(job).await?;
        let by = "because a newer slot came due";
        self.ledger.store.cancel_runs(&running, by, self.ledger.clock.now()).await?;
        running.iter().for_each(|run| {
            self.status.cancel(*run, by);
        });
        Ok(())
    }

    /// A clock that was set back shows slots again that were decided. What goes by elapsed time must not fall silent until the
    /// clock is where it was: it is run beside those slots.
    async fn repeat(&mut self, calendar: &Calendar, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        for line in &mut self.lines {
            let by_interval = matches!(line.entry.spec.trigger, Trigger::Every(_) | Trigger::EveryWhile { .. });
            if line.cursor <= now || !by_interval {
                line.repeated = None;
                continue;
            }
            let gone_through = *line.repeated.get_or_insert(now);
            let slot = line.entry.spec.trigger.next_after(calendar, gone_through);
            let paused = line.pause.as_ref().is_some_and(|pause| pause.covers(now));
            if slot > now || slot >= line.cursor || paused {
                continue;
            }
            line.repeated = Some(now);
            let reason = format!("the clock was set back; the slot {} had been decided", slot.format("%FT%TZ"));
            let spec = &line.entry.spec;
            rows.push(self.ledger.row(spec, calendar, now, Origin::Repeat, RunState::Running, Some(reason)));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let busy = self.ledger.store.busy_jobs().await?;
        rows.retain(|row| !busy.contains_key(row.job));
        let written = self.ledger.store.claim_runs(&rows, None).await?;
        for row in rows.iter().filter(|row| written.contains(&row.id)) {
            if let Some(entry) = self.entry(row.job) {
                self.spawn(Arc::clone(entry), ticket_of(&entry.spec, row, 0));
            }
        }
        Ok(())
    }
}

impl Claim {
    /// What was written of it: only such rows are acted on, so that a twin or a restart cannot run a slot again.
    async fn written(mut self) -> Result<Batch, StoreError> {
        let (rows, written) = match self.writing.await {
            Ok(claimed) => claimed,
            Err(fault) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
            // The runtime is being ended, and this with it.
            Err(_) => std::future::pending().await,
        };
        let written = written?;
        let claimed = rows.into_iter().zip(self.batch.lines).filter(|(row, _)| written.contains(&row.id));
        (self.batch.rows, self.batch.lines) = claimed.unzip();
        Ok(self.batch)
    }
}

/// How late a slot was claimed, and what is not begun.
fn tell(row: &NewRun) {
    metrics::job_late(row.job, row.claimed_at - row.scheduled_for);
    let reason = row.reason.as_deref().unwrap_or_default();
    match row.state {
        RunState::Running => {}
        RunState::Queued => info!(job_name = row.job, slot = %row.scheduled_for, reason, "a slot waits"),
        state => {
            metrics::job_left_out(row.job, state.name());
            warn!(job_name = row.job, slot = %row.scheduled_for, state = state.name(), reason, "a slot was left out");
        }
    }
}

impl Line {
    fn look_ahead(&mut self, calendar: &Calendar) {
        self.next = self.entry.spec.trigger.next_after(calendar, self.cursor);
        metrics::job_next_due(self.entry.spec.name, self.next);
    }
}
