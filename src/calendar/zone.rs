//! From wall-clock time to instants, for any year.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// The embedded zone data is written out up to here; later years follow the rules of a year that begins alike.
const LAST_WRITTEN_YEAR: i32 = 2099;

/// All fourteen sorts of years (seven weekdays for 1 January, leap or not) are in the 28 years before it.
const FIRST_ALIKE: i32 = LAST_WRITTEN_YEAR - 28;

pub(super) const SECONDS_OF_A_DAY: i64 = 86_400;

/// A wall-clock time as seconds from the midnight a date begins with; negative for the evening before.
pub(super) type LocalSeconds = i32;

/// Seconds since 1970 UTC of a wall-clock time. Of a time that comes twice it is the first; a time that is left out counts on
/// by the offset before the gap, and so falls after it.
pub(super) fn utc_seconds(zone: Tz, date: NaiveDate, local: LocalSeconds) -> i64 {
    let wall = date.and_time(NaiveTime::MIN).checked_add_signed(TimeDelta::seconds(i64::from(local)));
    let offset = wall.map_or(0, |wall| offset_of(zone, wall));
    local_midnight(date) + i64::from(local) - offset
}

fn local_midnight(date: NaiveDate) -> i64 {
    date.and_time(NaiveTime::MIN).and_utc().timestamp()
}

/// Seconds east of UTC at a wall-clock time.
fn offset_of(zone: Tz, wall: NaiveDateTime) -> i64 {
    let wall = written(wall);
    let offset = zone.offset_from_local_datetime(&wall).earliest().or_else(|| {
        let before = wall.checked_sub_signed(TimeDelta::hours(3))?;
        zone.offset_from_local_datetime(&before).earliest()
    });
    offset.map_or(0, |offset| i64::from(offset.fix().local_minus_utc()))
}

/// What the clock on the wall shows at an instant; the instant itself in UTC at the ends of time, where there is no other day.
pub(super) fn wall_of(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    let utc = at.naive_utc();
    let offset = zone.offset_from_utc_datetime(&written(utc)).fix();
    utc.checked_add_offset(offset).unwrap_or(utc)
}

/// The same wall-clock time of a year that the zone data holds.
fn written(wall: NaiveDateTime) -> NaiveDateTime {
    let year = wall.year();
    if year <= LAST_WRITTEN_YEAR {
        return wall;
    }
    let sort = |year| NaiveDate::from_ymd_opt(year, 1, 1).map(|date| (date.weekday(), date.leap_year()));
    let alike = (FIRST_ALIKE..=LAST_WRITTEN_YEAR).find(|candidate| sort(*candidate) == sort(year));
    alike.and_then(|alike| wall.with_year(alike)).unwrap_or(wall)
}

/// Offsets of a range of dates, found once: most days have a single one from the evening before to their end.
pub(super) struct Offsets {
    zone: Tz,
    first: NaiveDate,
    /// The offset at noon of each date from the day before `first` on.
    noon: Vec<i64>,
}

impl Offsets {
    pub(super) fn of(zone: Tz, first: NaiveDate, last: NaiveDate) -> Self {
        let noon = first.pred_opt().unwrap_or(first).iter_days();
        let end = last.checked_add_days(Days::new(1)).unwrap_or(last);
        let noon = noon.take_while(|date| *date <= end).map(|date| {
            let noon = date.and_time(NaiveTime::MIN) + TimeDelta::hours(12);
            offset_of(zone, noon)
        });
        Self { zone, first, noon: noon.collect() }
    }

    /// How a date's wall-clock times become seconds since 1970 UTC.
    pub(super) fn on(&self, date: NaiveDate) -> impl Fn(LocalSeconds) -> i64 {
        let zone = self.zone;
        let index = usize::try_from((date - self.first).num_days()).unwrap_or(usize::MAX - 3);
        let steady = match self.noon.get(index..index + 3) {
            // Clocks that agree at three noons did not change in between.
            Some([before, on, after]) if before == on && on == after => Some(local_midnight(date) - on),
            _ => None,
        };
        move |local| steady.map_or_else(|| utc_seconds(zone, date, local), |midnight| midnight + i64::from(local))
    }
}
