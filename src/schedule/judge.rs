//! What becomes of the slots that came due since the planner last looked.

use chrono::{DateTime, Utc};

use super::{JobSpec, Misfire};
use crate::calendar::Calendar;

/// What is to be done about one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Run it; `late` says why it is not on time, where it is not.
    Run {
        /// For the ledger.
        late: Option<String>,
    },
    /// Write down that it was left out because the job was still running.
    Skipped(String),
    /// Write down that it came too late.
    Missed(String),
}

/// Judges the `slots` of one job that are due at `now` (oldest first), given the run of it that is under way, if any.
/// At most one of them is run: the newest.
pub fn judge(
    spec: &JobSpec,
    calendar: &Calendar,
    slots: &[DateTime<Utc>],
    now: DateTime<Utc>,
    running: bool,
) -> Vec<(DateTime<Utc>, Verdict)> {
    let Some((newest, older)) = slots.split_last() else { return Vec::new() };
    let covered = format!("the newer slot {} was due as well", newest.format("%Y-%m-%dT%H:%M:%SZ"));
    let mut verdicts: Vec<_> = older.iter().map(|slot| (*slot, Verdict::Missed(covered.clone()))).collect();
    let verdict = if running {
        Verdict::Skipped("the run before it was still under way".to_owned())
    } else {
        judge_newest(spec, calendar, *newest, now)
    };
    verdicts.push((*newest, verdict));
    verdicts
}

fn judge_newest(spec: &JobSpec, calendar: &Calendar, slot: DateTime<Utc>, now: DateTime<Utc>) -> Verdict {
    if now - slot <= spec.grace {
        return Verdict::Run { late: None };
    }
    let late = format!("noticed {} s after it came due", (now - slot).num_seconds());
    match may_run_late(spec, calendar, slot, now) {
        Ok(()) => Verdict::Run { late: Some(late) },
        Err(why) => Verdict::Missed(format!("{late}; {why}")),
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
        return Err(format!("its deadline was {} min after the slot", spec.deadline.num_minutes()));
    }
    match spec.misfire {
        Misfire::RunOnce => Ok(()),
        Misfire::WhilePhaseOpen if now < calendar.at(slot).next_transition => Ok(()),
        Misfire::WhilePhaseOpen => Err("the phase it belonged to was over".to_owned()),
    }
}
