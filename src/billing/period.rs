//! Calendar months in New York: the end of a period is its anchor and so many months, never the end before and one more.

use chrono::{DateTime, LocalResult, Months, TimeDelta, TimeZone, Utc};
use chrono_tz::America::New_York;

/// The instant `months` calendar months after `anchor`, by the wall clock of New York: the same day and time of day, or the last
/// day of a month that has no such day. 31 January gives 28 or 29 February and then 31 March.
pub fn after_months(anchor: DateTime<Utc>, months: u32) -> DateTime<Utc> {
    let local = anchor.with_timezone(&New_York).naive_local();
    local.checked_add_months(Months::new(months)).map_or(anchor, to_utc)
}

/// The instant `months` calendar months before `at`.
pub fn before_months(at: DateTime<Utc>, months: u32) -> DateTime<Utc> {
    let local = at.with_timezone(&New_York).naive_local();
    local.checked_sub_months(Months::new(months)).map_or(at, to_utc)
}

/// A time of day that comes twice is taken the first time; one that is left out, an hour later.
fn to_utc(local: chrono::NaiveDateTime) -> DateTime<Utc> {
    match New_York.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.to_utc(),
        LocalResult::None => {
            let later = New_York.from_local_datetime(&(local + TimeDelta::hours(1)));
            later.earliest().map_or_else(|| local.and_utc(), |at| at.to_utc())
        }
    }
}
