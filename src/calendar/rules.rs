//! Holidays and early closes that follow from rules, for any year. Which they are is data (`config/calendar/*.toml`).

use std::str::FromStr;

use chrono::{Datelike, Days, NaiveDate, TimeDelta, Weekday, WeekdaySet};

/// How the date of a rule is found in a year.
#[derive(Debug, Clone)]
pub(super) enum Falls {
    /// Month and day.
    On(u32, u32),
    /// The first, second, .. such weekday of a month, and so many days later.
    Nth { which: u8, weekday: Weekday, month: u32, later: i64 },
    /// The last such weekday of a month, and so many days later.
    Last { weekday: Weekday, month: u32, later: i64 },
    /// Such a weekday on or before a date.
    OnOrBefore(Weekday, u32, u32),
    /// Such a weekday on or after a date.
    OnOrAfter(Weekday, u32, u32),
    /// So many days from Easter Sunday.
    Easter(i64),
    /// Where the sun crosses the equator in spring, in Japan's almanac.
    VernalEquinox,
    /// And in autumn.
    AutumnalEquinox,
    /// No rule: every date is written down.
    Dates(Vec<NaiveDate>),
}

/// What becomes of a date that falls on a weekend. Which days are free is known to [`place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observed {
    /// Nothing.
    Exact,
    /// Sunday moves to Monday.
    SundayToMonday,
    /// Saturday moves to Friday, Sunday to Monday.
    NearestWorkday,
    /// Saturday and Sunday move to the next day that is neither weekend nor holiday.
    NextWorkday,
    /// Only Sunday does.
    SundayToNextWorkday,
    /// Saturday and Sunday move to the Friday before.
    FridayBefore,
}

/// When a rule is in force, and where it puts its date.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub falls: Falls,
    pub observed: Observed,
    /// First and last year.
    pub years: (i32, i32),
    pub except: Vec<i32>,
    /// The weekdays it counts on, before it is moved.
    pub weekdays: WeekdaySet,
}

/// The dates of `rules` that belong to `year`, each with the number of its rule. A date may be moved into the year beside.
///
/// Every rule that does not look for a free day is placed first; then the others in their order.
pub(super) fn place<'a>(rules: impl Iterator<Item = (usize, &'a Rule)> + Clone, year: i32) -> Vec<(NaiveDate, usize)> {
    let dates = rules.flat_map(|(index, rule)| rule.dates_in(year).map(move |date| (date, index, rule.observed)));
    let (seeking, placed): (Vec<_>, Vec<_>) = dates.partition(|(date, _, observed)| observed.seeks(*date));
    let mut placed: Vec<_> =
        placed.into_iter().filter_map(|(date, index, observed)| Some((observed.moved(date)?, index))).collect();
    for (date, index, _) in seeking {
        let free =
            date.iter_days().skip(1).find(|date| !is_weekend(*date) && placed.iter().all(|(taken, _)| taken != date));
        placed.extend(free.map(|date| (date, index)));
    }
    placed
}

pub(super) fn is_weekend(date: NaiveDate) -> bool {
    matches!(date.weekday(), Weekday::Sat | Weekday::Sun)
}

impl Rule {
    fn dates_in(&self, year: i32) -> impl Iterator<Item = NaiveDate> {
        let in_force = (self.years.0..=self.years.1).contains(&year) && !self.except.contains(&year);
        let dates: Vec<NaiveDate> = match &self.falls {
            _ if !in_force => Vec::new(),
            Falls::Dates(dates) => dates.iter().filter(|date| date.year() == year).copied().collect(),
            falls => falls.in_year(year).into_iter().collect(),
        };
        let weekdays = self.weekdays;
        dates.into_iter().filter(move |date| weekdays.contains(date.weekday()))
    }
}

impl Observed {
    /// Whether a date has to look for a free day.
    fn seeks(self, date: NaiveDate) -> bool {
        match self {
            Self::NextWorkday => is_weekend(date),
            Self::SundayToNextWorkday => date.weekday() == Weekday::Sun,
            _ => false,
        }
    }

    fn moved(self, date: NaiveDate) -> Option<NaiveDate> {
        match (self, date.weekday()) {
            (Self::SundayToMonday | Self::NearestWorkday, Weekday::Sun) => date.succ_opt(),
            (Self::NearestWorkday | Self::FridayBefore, Weekday::Sat) => date.pred_opt(),
            (Self::FridayBefore, Weekday::Sun) => date.checked_sub_days(Days::new(2)),
            _ => Some(date),
        }
    }
}

impl Falls {
    /// The date in a year; `None` where the year has none, and beyond the dates that can be written.
    fn in_year(&self, year: i32) -> Option<NaiveDate> {
        let later = |date: Option<NaiveDate>, days: i64| date?.checked_add_signed(TimeDelta::days(days));
        let nth = |which, weekday, month| NaiveDate::from_weekday_of_month_opt(year, month, weekday, which);
        match *self {
            Self::On(month, day) => NaiveDate::from_ymd_opt(year, month, day),
            Self::Nth { which, weekday, month, later: days } => later(nth(which, weekday, month), days),
            Self::Last { weekday, month, later: days } => {
                later(nth(5, weekday, month).or_else(|| nth(4, weekday, month)), days)
            }
            Self::OnOrBefore(weekday, month, day) => {
                let end = NaiveDate::from_ymd_opt(year, month, day)?;
                end.checked_sub_days(Days::new(u64::from(end.weekday().days_since(weekday))))
            }
            Self::OnOrAfter(weekday, month, day) => {
                let start = NaiveDate::from_ymd_opt(year, month, day)?;
                start.checked_add_days(Days::new(u64::from(weekday.days_since(start.weekday()))))
            }
            Self::Easter(days) => later(easter_sunday(year), days),
            Self::VernalEquinox => equinox(year, 3, 20.8431),
            Self::AutumnalEquinox => equinox(year, 9, 23.2488),
            Self::Dates(_) => None,
        }
    }
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

/// The day of an equinox by the formula of Japan's almanac, true from 1980 to 2099; `base` is its day of 1980, with fraction.
fn equinox(year: i32, month: u32, base: f64) -> Option<NaiveDate> {
    let years = year - 1980;
    let day = (base + 0.242_194 * f64::from(years)).floor() - f64::from(years.div_euclid(4));
    // A day of a month, so far within what a u32 holds; far centuries clamp to it and give no date.
    NaiveDate::from_ymd_opt(year, month, day.clamp(0.0, 99.0) as u32)
}

impl FromStr for Observed {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "exact" => Self::Exact,
            "sunday_to_monday" => Self::SundayToMonday,
            "nearest_workday" => Self::NearestWorkday,
            "next_workday" => Self::NextWorkday,
            "sunday_to_next_workday" => Self::SundayToNextWorkday,
            "friday_before" => Self::FridayBefore,
            other => return Err(format!("{other:?} is no way to observe a holiday")),
        })
    }
}

impl FromStr for Falls {
    type Err = String;

    /// See docs/calendar.md for the grammar.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match *words.as_slice() {
            ["vernal", "equinox"] => Some(Self::VernalEquinox),
            ["autumnal", "equinox"] => Some(Self::AutumnalEquinox),
            [weekday, "on-or-before", date] => month_day(date)
                .zip(weekday.parse().ok())
                .map(|((month, day), weekday)| Self::OnOrBefore(weekday, month, day)),
            [weekday, "on-or-after", date] => month_day(date)
                .zip(weekday.parse().ok())
                .map(|((month, day), weekday)| Self::OnOrAfter(weekday, month, day)),
            [which, weekday, month] => counted(which, weekday, month, "+0"),
            [which, weekday, month, later] => counted(which, weekday, month, later),
            [date] if date.starts_with("easter") => date["easter".len()..].parse().ok().map(Self::Easter),
            [date] => month_day(date).map(|(month, day)| Self::On(month, day)),
            _ => None,
        };
        parsed.ok_or_else(|| format!("{text:?} is no way to find a date"))
    }
}

fn month_day(text: &str) -> Option<(u32, u32)> {
    let (month, day) = text.split_once('-')?;
    let (month, day) = (month.parse().ok()?, day.parse().ok()?);
    // A leap year has every day there is.
    NaiveDate::from_ymd_opt(2000, month, day).map(|_| (month, day))
}

fn counted(which: &str, weekday: &str, month: &str, later: &str) -> Option<Falls> {
    let (weekday, month, later) = (weekday.parse().ok()?, month.parse().ok()?, later.parse().ok()?);
    match which {
        "last" => Some(Falls::Last { weekday, month, later }),
        _ => Some(Falls::Nth {
            which: which.parse().ok().filter(|which| (1..=5).contains(which))?,
            weekday,
            month,
            later,
        }),
    }
}
