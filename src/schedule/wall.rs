//! From what a clock on a wall shows to instants, over the two nights a year on which that is not one to one.

use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The last instant a schedule can name; nothing is due after it.
pub(super) const NEVER: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

/// What becomes of a time that the switch to summer time leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gap {
    /// The first instant after the gap stands for it.
    #[default]
    Shift,
    /// It is left out.
    Skip,
}

/// What becomes of a time that comes twice when the clocks go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeat {
    /// The first time counts.
    #[default]
    First,
    /// The second one does.
    Last,
    /// Both do.
    Both,
}

named!(Gap { Shift => "shift", Skip => "skip" });
named!(Repeat { First => "first", Last => "last", Both => "both" });

/// What a trigger on the wall does on the nights the clocks change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockChange {
    /// When a time is left out.
    pub gap: Gap,
    /// When a time comes twice.
    pub overlap: Repeat,
}

/// Dates without any wall-clock time that are looked through before a pattern counts as never due: leap days are eight years
/// apart at most.
const MOST_DATES: usize = 3_000;

/// The instants of one wall-clock time, in order: none, one or two.
pub(super) fn instants_of(wall: NaiveDateTime, zone: Tz, change: ClockChange) -> impl Iterator<Item = DateTime<Utc>> {
    let (one, two) = match (zone.from_local_datetime(&wall), change) {
        (LocalResult::Single(instant), _) => (Some(instant.to_utc()), None),
        (LocalResult::Ambiguous(first, _), ClockChange { overlap: Repeat::First, .. }) => (Some(first.to_utc()), None),
        (LocalResult::Ambiguous(_, last), ClockChange { overlap: Repeat::Last, .. }) => (Some(last.to_utc()), None),
        (LocalResult::Ambiguous(first, last), _) => (Some(first.to_utc()), Some(last.to_utc())),
        (LocalResult::None, ClockChange { gap: Gap::Shift, .. }) => (end_of_gap(wall, zone), None),
        (LocalResult::None, _) => (None, None),
    };
    one.into_iter().chain(two)
}

/// The first instant after the gap that swallowed a wall-clock time.
fn end_of_gap(wall: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    const MINUTES_OF_A_DAY: i64 = 24 * 60;
    // Gaps begin and end on whole minutes, so the first minute that exists again is cut to its start.
    let after = (1..=MINUTES_OF_A_DAY).find_map(|minutes| {
        let shifted = wall.checked_add_signed(TimeDelta::minutes(minutes))?;
        zone.from_local_datetime(&shifted).earliest()
    })?;
    let after = after.to_utc();
    Some(after - TimeDelta::seconds(after.timestamp().rem_euclid(60)))
}

/// The first instant after `after` of the wall-clock times that `next` gives: the first one at or after its argument.
pub(super) fn next_after(
    next: impl Fn(NaiveDateTime) -> Option<NaiveDateTime>,
    zone: Tz,
    change: ClockChange,
    after: DateTime<Utc>,
) -> DateTime<Utc> {
    let local = after.with_timezone(&zone).naive_local();
    // When the clocks go back over midnight, times of the date before come again.
    let mut from = midnight(local.date().pred_opt().unwrap_or(local.date()));
    for _ in 0..MOST_DATES {
        let Some(wall) = next(from) else { return NEVER };
        let (date, end) =
            (wall.date(), wall.date().checked_add_days(Days::new(1)).map_or(NaiveDateTime::MAX, midnight));
        let found = if is_steady(date, zone) {
            // One to one: the order on the wall is the order in time.
            let first = if date <= local.date() { next(local.max(midnight(date))) } else { Some(wall) };
            let times = std::iter::successors(first, |wall| next(*wall + TimeDelta::seconds(1)));
            times.take_while(|wall| *wall < end).flat_map(|wall| instants_of(wall, zone, change)).find(|at| *at > after)
        } else {
            let times = std::iter::successors(Some(wall), |wall| next(*wall + TimeDelta::seconds(1)));
            let instants = times.take_while(|wall| *wall < end).flat_map(|wall| instants_of(wall, zone, change));
            instants.filter(|at| *at > after).min()
        };
        if let Some(found) = found {
            return found;
        }
        from = end;
    }
    NEVER
}

fn midnight(date: NaiveDate) -> NaiveDateTime {
    date.and_time(NaiveTime::MIN)
}

/// Whether a date has a single offset from its midnight to the next.
fn is_steady(date: NaiveDate, zone: Tz) -> bool {
    let offset = |date: NaiveDate| zone.from_local_datetime(&midnight(date)).single().map(|at| *at.offset());
    let noon = zone.from_local_datetime(&(midnight(date) + TimeDelta::hours(12))).single().map(|at| *at.offset());
    noon.is_some() && offset(date) == noon && date.succ_opt().is_some_and(|next| offset(next) == noon)
}
