//! Holidays and early closes that follow from rules, as NYSE Rule 7.2 and the exchange's yearly announcements state them.
//!
//! True from 1990 on; earlier years are answered by the same rules, which were not all in force then.

use chrono::{Datelike, Days, NaiveDate, NaiveTime, Weekday};

/// How a holiday is found in a year.
enum Falls {
    On(u32, u32),
    Nth(Weekday, u8, u32),
    Last(Weekday, u32),
    GoodFriday,
}

/// What happens when it falls on a weekend.
#[derive(PartialEq)]
enum Observed {
    /// It always falls on a weekday.
    AsIs,
    /// Sunday moves to Monday. Saturday does not move: the Friday before ends a month and a year, and Rule 7.2 keeps such a
    /// day open, so the market trades on 2021-12-31 and 2027-12-31.
    SundayToMonday,
    /// Saturday moves to Friday, Sunday to Monday.
    NearestWorkday,
}

struct Holiday {
    name: &'static str,
    since: i32,
    falls: Falls,
    observed: Observed,
}

const fn holiday(name: &'static str, since: i32, falls: Falls, observed: Observed) -> Holiday {
    Holiday { name, since, falls, observed }
}

const ALWAYS: i32 = i32::MIN;

const HOLIDAYS: &[Holiday] = &[
    holiday("New Year's Day", ALWAYS, Falls::On(1, 1), Observed::SundayToMonday),
    holiday("Martin Luther King Jr. Day", 1998, Falls::Nth(Weekday::Mon, 3, 1), Observed::AsIs),
    holiday("Washington's Birthday", ALWAYS, Falls::Nth(Weekday::Mon, 3, 2), Observed::AsIs),
    holiday("Good Friday", ALWAYS, Falls::GoodFriday, Observed::AsIs),
    holiday("Memorial Day", ALWAYS, Falls::Last(Weekday::Mon, 5), Observed::AsIs),
    holiday("Juneteenth", 2022, Falls::On(6, 19), Observed::NearestWorkday),
    holiday("Independence Day", ALWAYS, Falls::On(7, 4), Observed::NearestWorkday),
    holiday("Labor Day", ALWAYS, Falls::Nth(Weekday::Mon, 1, 9), Observed::AsIs),
    holiday("Thanksgiving Day", ALWAYS, Falls::Nth(Weekday::Thu, 4, 11), Observed::AsIs),
    holiday("Christmas Day", ALWAYS, Falls::On(12, 25), Observed::NearestWorkday),
];

/// The holiday for which the market is closed on `date`, if any.
pub(super) fn holiday_on(date: NaiveDate) -> Option<&'static str> {
    let found =
        HOLIDAYS.iter().find(|holiday| date.year() >= holiday.since && holiday.date_in(date.year()) == Some(date));
    found.map(|holiday| holiday.name)
}

impl Holiday {
    /// The date the market is closed for it; `None` in a year in which it is not observed.
    fn date_in(&self, year: i32) -> Option<NaiveDate> {
        let date = match self.falls {
            Falls::On(month, day) => NaiveDate::from_ymd_opt(year, month, day),
            Falls::Nth(weekday, nth, month) => NaiveDate::from_weekday_of_month_opt(year, month, weekday, nth),
            Falls::Last(weekday, month) => last_of_month(year, month, weekday),
            Falls::GoodFriday => easter_sunday(year)?.checked_sub_days(Days::new(2)),
        }?;
        match (date.weekday(), &self.observed) {
            (_, Observed::AsIs) => Some(date),
            (Weekday::Sun, _) => date.succ_opt(),
            (Weekday::Sat, Observed::NearestWorkday) => date.pred_opt(),
            (Weekday::Sat, Observed::SundayToMonday) => None,
            _ => Some(date),
        }
    }
}

fn last_of_month(year: i32, month: u32, weekday: Weekday) -> Option<NaiveDate> {
    let nth = |nth| NaiveDate::from_weekday_of_month_opt(year, month, weekday, nth);
    nth(5).or_else(|| nth(4))
}

/// Easter Sunday of the Gregorian calendar, by the integer computus of 1876 ("anonymous", in every almanac).
pub(super) fn easter_sunday(year: i32) -> Option<NaiveDate> {
    let golden = year.rem_euclid(19);
    let century = year.div_euclid(100);
    let of_century = year.rem_euclid(100);
    let leap_correction = century - century.div_euclid(4) - (century - (century + 8).div_euclid(25) + 1).div_euclid(3);
    let epact = (19 * golden + leap_correction + 15).rem_euclid(30);
    let weekday = (32 + 2 * century.rem_euclid(4) + 2 * of_century.div_euclid(4) - epact - of_century.rem_euclid(4))
        .rem_euclid(7);
    let late = (golden + 11 * epact + 22 * weekday).div_euclid(451);
    let from_march = epact + weekday - 7 * late + 114;
    let (month, day) = (from_march.div_euclid(31), from_march.rem_euclid(31) + 1);
    NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
}

const fn at(hour: u32, minute: u32) -> NaiveTime {
    match NaiveTime::from_hms_opt(hour, minute, 0) {
        Some(time) => time,
        None => NaiveTime::MIN,
    }
}

/// The early close that follows from a rule on `date`, with its local time. The caller has seen that it is no holiday.
pub(super) fn early_close_on(date: NaiveDate) -> Option<(NaiveTime, &'static str)> {
    let (year, weekday) = (date.year(), date.weekday());
    // One o'clock since 1993; two o'clock before.
    let time = if year >= 1993 { at(13, 0) } else { at(14, 0) };
    match (date.month(), date.day()) {
        (11, _) if year >= 1992 && is_after_thanksgiving(date) => Some((time, "Day after Thanksgiving")),
        // On a Friday the 24th is the holiday itself, observed.
        (12, 24) => Some((time, "Christmas Eve")),
        (7, 3) if year >= 1995 && is_july_third_early(year, weekday) => Some((time, "Day before Independence Day")),
        (7, 5) if (1995..2013).contains(&year) && weekday == Weekday::Fri => Some((time, "Day after Independence Day")),
        _ => None,
    }
}

fn is_after_thanksgiving(date: NaiveDate) -> bool {
    let thanksgiving = NaiveDate::from_weekday_of_month_opt(date.year(), 11, Weekday::Thu, 4);
    thanksgiving.and_then(|thanksgiving| thanksgiving.succ_opt()) == Some(date)
}

/// A Wednesday the 3rd was a full day while the Friday after the 4th closed early instead, until 2012.
fn is_july_third_early(year: i32, weekday: Weekday) -> bool {
    match weekday {
        Weekday::Mon | Weekday::Tue | Weekday::Thu => true,
        Weekday::Wed => year >= 2013,
        _ => false,
    }
}
