//! What becomes of the slots that came due since the planner last looked.

use chrono::{DateTime, TimeDelta, Utc};

use super::{JobSpec, Misfire, Overlap};
use crate::calendar::Calendar;

/// What is to be done about one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Run it; `late` says why it is not on time, where it is not.
    Run {
        /// For the ledger.
        late: Option<String>,
    },
    /// Let it wait.
    Queue {
        /// Not before this instant.
        from: DateTime<Utc>,
        /// For the ledger.
        reason: String,
        /// Whether it is run although it is late.
        late: bool,
    },
    /// End what is under way, then run it.
    Replace {
        /// For the ledger.
        reason: String,
    },
    /// Write down that it was left out on purpose.
    Skipped(String),
    /// Write down that it came too late.
    Missed(String),
}

/// What of the job is under way, anywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Busy {
    /// Runs under way.
    pub running: usize,
    /// Runs that wait.
    pub queued: usize,
}

/// A span of time in which the slots of a job are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// Its end, which no longer counts; `None` while nobody has said.
    pub until: Option<DateTime<Utc>>,
    /// Who paused it and why.
    pub reason: String,
}

impl Pause {
    /// Whether `slot` falls into it.
    pub fn covers(&self, slot: DateTime<Utc>) -> bool {
        self.from <= slot && self.until.is_none_or(|until| slot < until)
    }
}

/// Judges the `slots` of one job that are due at `now` (oldest first), given what of it is under way and its pause.
/// Unless the job catches up, at most one of them is run: the newest.
pub fn judge(
    spec: &JobSpec,
    calendar: &Calendar,
    slots: &[DateTime<Utc>],
    now: DateTime<Utc>,
    busy: Busy,
    pause: Option<&Pause>,
) -> Vec<(DateTime<Utc>, Verdict)> {
    let paused = |slot: &DateTime<Utc>| pause.filter(|pause| pause.covers(*slot));
    let mut verdicts: Vec<_> = slots
        .iter()
        .filter_map(|slot| paused(slot).map(|pause| (*slot, Verdict::Skipped(format!("paused {}", pause.reason)))))
        .collect();
    let wanted: Vec<_> = slots.iter().copied().filter(|slot| paused(slot).is_none()).collect();
    verdicts.extend(judge_wanted(spec, calendar, &wanted, now, busy));
    verdicts.sort_by_key(|(slot, _)| *slot);
    verdicts
}

/// Judges `slots` of one job that has more newer ones due than it would ever run: none of them is.
pub fn judge_flood(slots: &[DateTime<Utc>], pause: Option<&Pause>) -> Vec<(DateTime<Utc>, Verdict)> {
    let verdict = |slot: &DateTime<Utc>| match pause.filter(|pause| pause.covers(*slot)) {
        Some(pause) => Verdict::Skipped(format!("paused {}", pause.reason)),
        None => Verdict::Missed("thousands of newer slots were due as well".to_owned()),
    };
    slots.iter().map(|slot| (*slot, verdict(slot))).collect()
}

fn judge_wanted(
    spec: &JobSpec,
    calendar: &Calendar,
    slots: &[DateTime<Utc>],
    now: DateTime<Utc>,
    busy: Busy,
) -> Vec<(DateTime<Utc>, Verdict)> {
    if let Misfire::CatchUp { max, newest_first, spacing } = spec.misfire
        && slots.iter().any(|slot| is_late(spec, *slot, now))
    {
        return catch_up(spec, slots, now, max, newest_first, spacing);
    }
    let Some((newest, older)) = slots.split_last() else { return Vec::new() };
    let covered = || format!("the newer slot {} was due as well", newest.format("%Y-%m-%dT%H:%M:%SZ"));
    let older = older.iter().map(|slot| (*slot, Verdict::Missed(covered())));
    older.chain([(*newest, judge_newest(spec, calendar, *newest, now, busy))]).collect()
}

fn is_late(spec: &JobSpec, slot: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - slot > spec.grace
}

fn judge_newest(spec: &JobSpec, calendar: &Calendar, slot: DateTime<Utc>, now: DateTime<Utc>, busy: Busy) -> Verdict {
    let late = is_late(spec, slot, now).then(|| format!("noticed {} s after it came due", (now - slot).num_seconds()));
    if let Some(late) = &late
        && let Err(why) = may_run_late(spec, calendar, slot, now)
    {
        return Verdict::Missed(format!("{late}; {why}"));
    }
    if busy.running + busy.queued < spec.overlap.at_once() {
        return Verdict::Run { late };
    }
    match spec.overlap {
        Overlap::Skip if busy.running == 0 => Verdict::Skipped("the run before it still waited".to_owned()),
        Overlap::Skip => Verdict::Skipped("the run before it was still under way".to_owned()),
        Overlap::QueueOne if busy.queued > 0 => Verdict::Skipped("another run waits already".to_owned()),
        Overlap::QueueOne => {
            let reason = "waits for the run before it".to_owned();
            Verdict::Queue { from: now, reason, late: late.is_some() }
        }
        Overlap::CancelPrevious => Verdict::Replace { reason: "takes the place of the run before it".to_owned() },
        Overlap::Allow(most) => Verdict::Skipped(format!("{most} runs before it were still under way")),
    }
}

/// The newest `max` slots wait in line, `spacing` apart; what is older, or past its deadline, is missed.
fn catch_up(
    spec: &JobSpec,
    slots: &[DateTime<Utc>],
    now: DateTime<Utc>,
    max: u32,
    newest_first: bool,
    spacing: TimeDelta,
) -> Vec<(DateTime<Utc>, Verdict)> {
    let in_time = |slot: &DateTime<Utc>| now < *slot + spec.deadline;
    let mut made_up: Vec<_> = slots.iter().copied().rev().filter(in_time).take(max as usize).collect();
    if !newest_first {
        made_up.reverse();
    }
    let step = spacing.max(TimeDelta::microseconds(1));
    let verdict = |slot: &DateTime<Utc>| match made_up.iter().position(|taken| taken == slot) {
        Some(place) => Verdict::Queue {
            // A microsecond apart at least, so that those without spacing keep their order too.
            from: i32::try_from(place).ok().and_then(|place| now.checked_add_signed(step * place)).unwrap_or(now),
            reason: format!("noticed {} s after it came due; made up for in its turn", (now - *slot).num_seconds()),
            late: true,
        },
        None if in_time(slot) => Verdict::Missed(format!("only the newest {max} slots are made up for")),
        None => Verdict::Missed(past_deadline(spec)),
    };
    slots.iter().map(|slot| (*slot, verdict(slot))).collect()
}

fn past_deadline(spec: &JobSpec) -> String {
    match spec.deadline.num_minutes() {
        0 => format!("its deadline was {} s after the slot", spec.deadline.num_seconds()),
        minutes => format!("its deadline was {minutes} min after the slot"),
    }
}

/// Whether a slot that is already late may still be run at `now`; if not, why.
///
/// # Errors
/// The reason, for the ledger.
pub fn may_run_late(
    spec: &JobSpec,
    calendar: &Calendar,
    slot: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), String> {
    if now >= slot + spec.deadline {
        return Err(past_deadline(spec));
    }
    match spec.misfire {
        Misfire::RunOnce | Misfire::CatchUp { .. } => Ok(()),
        Misfire::Skip => Err("late slots of this job are left out".to_owned()),
        Misfire::WhilePhaseOpen if now < spec.trigger.window_end(calendar, slot) => Ok(()),
        Misfire::WhilePhaseOpen => Err("the phase it belonged to was over".to_owned()),
    }
}
