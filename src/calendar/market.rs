//! A market as its data files tell it (docs/calendar.md): the days of a country or an exchange, and the hours of its venues.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc, Weekday, WeekdaySet};
use chrono_tz::Tz;
use serde::Deserialize;

use super::exceptions::{Declared, Exception, Origin};
use super::reading;
use super::rules::{Falls, Observed, Rule};
use super::zone::{LocalSeconds, wall_of};

/// The data of one market, built in.
pub(super) struct Source {
    pub name: &'static str,
    pub toml: &'static str,
    pub csv: &'static str,
}

macro_rules! sources {
    ($($name:literal),+ $(,)?) => {
        &[$(Source {
            name: $name,
            toml: include_str!(concat!("../../config/calendar/", $name, ".toml")),
            csv: include_str!(concat!("../../config/calendar/", $name, ".csv")),
        }),+]
    };
}

/// A new exchange is two files and a name in this line.
pub(super) const SOURCES: &[Source] = sources!["us", "xlon", "xtse", "xetr", "xpar", "xtks", "xhkg"];

/// A holiday, or an early close.
#[derive(Debug)]
pub(super) struct DayRule {
    pub rule: Rule,
    pub reason: Arc<str>,
    pub source: Arc<str>,
    pub declared_at: Option<Declared>,
    /// Local time of an early close; a holiday has none.
    pub close: Option<LocalSeconds>,
}

/// Something the exchange has published.
#[derive(Debug)]
pub(super) struct Publication {
    pub at: NaiveDate,
    pub until: NaiveDate,
    pub source: Arc<str>,
}

/// A venue's hours from a date on, in its local time.
#[derive(Debug)]
pub(super) struct Hours {
    pub from: NaiveDate,
    pub overnight: Option<(LocalSeconds, LocalSeconds)>,
    pub pre_open: Option<LocalSeconds>,
    pub open: LocalSeconds,
    pub close: LocalSeconds,
    pub post_close: Option<LocalSeconds>,
    /// End of the late session on a day that closes early: a field of its own, because it is neither cut at the close nor
    /// moved by as much.
    pub early_post_close: Option<LocalSeconds>,
    pub breaks: Vec<(LocalSeconds, LocalSeconds)>,
}

/// A place to trade.
#[derive(Debug)]
pub(super) struct Venue {
    pub mic: Arc<str>,
    pub name: Arc<str>,
    /// In order of date; the first one holds before its date as well.
    pub hours: Vec<Hours>,
}

/// One market.
#[derive(Debug)]
pub(super) struct Market {
    pub name: Arc<str>,
    pub zone: Tz,
    pub exact_from: i32,
    pub published: Vec<Publication>,
    pub holidays: Vec<DayRule>,
    pub early_closes: Vec<DayRule>,
    pub venues: Vec<Venue>,
    pub exceptions: Vec<Exception>,
    /// The text it was read from, for the hash.
    pub text: (&'static str, &'static str),
}

impl Market {
    /// Reads the two files.
    ///
    /// # Errors
    /// What is wrong with them, and where.
    pub(super) fn read(source: &Source) -> Result<Self, String> {
        let place =
            |file: &str, fault: &dyn std::fmt::Display| format!("config/calendar/{}.{file}: {fault}", source.name);
        let file: MarketFile = toml_edit::de::from_str(source.toml).map_err(|fault| place("toml", &fault))?;
        let exceptions = reading::read_csv(source.csv, Origin::BuiltIn).map_err(|fault| place("csv", &fault))?;
        let unknown = exceptions.iter().find(|exception| !file.answers_to(&exception.venue));
        if let Some(exception) = unknown {
            return Err(place("csv", &format!("line {}: there is no venue {}", exception.line, exception.venue)));
        }
        let rules = |rules: Vec<RuleFile>| -> Result<Vec<DayRule>, String> {
            rules.into_iter().map(|rule| rule.read().map_err(|fault| place("toml", &fault))).collect()
        };
        Ok(Self {
            name: file.market.into(),
            zone: file.zone.parse().map_err(|fault| place("toml", &fault))?,
            exact_from: file.exact_from,
            published: file.published.into_iter().map(Publication::from).collect(),
            holidays: rules(file.holiday)?,
            early_closes: rules(file.early_close)?,
            venues: file.venue.into_iter().map(Venue::from).collect(),
            exceptions,
            text: (source.toml, source.csv),
        })
    }

    /// The last date that the exchange had published by `known_at`, and who says so.
    pub(super) fn horizon(&self, known_at: Option<DateTime<Utc>>) -> (NaiveDate, Option<&str>) {
        let known =
            |publication: &&Publication| known_at.is_none_or(|at| publication.at <= wall_of(self.zone, at).date());
        match (self.published.iter().rev().find(known), known_at) {
            (Some(publication), _) => (publication.until, Some(&publication.source)),
            // Nothing is known to have been published so early; what has been traded is certain all the same.
            (None, Some(at)) => (wall_of(self.zone, at).date(), None),
            (None, None) => (NaiveDate::MIN, None),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MarketFile {
    market: String,
    zone: String,
    exact_from: i32,
    #[serde(default)]
    published: Vec<PublicationFile>,
    #[serde(default)]
    holiday: Vec<RuleFile>,
    #[serde(default)]
    early_close: Vec<RuleFile>,
    venue: Vec<VenueFile>,
}

impl MarketFile {
    fn answers_to(&self, venue: &str) -> bool {
        *self.market == *venue || self.venue.iter().any(|known| *known.mic == *venue)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicationFile {
    at: NaiveDate,
    until: NaiveDate,
    source: String,
}

impl From<PublicationFile> for Publication {
    fn from(file: PublicationFile) -> Self {
        Self { at: file.at, until: file.until, source: file.source.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    name: String,
    falls: Option<String>,
    dates: Option<Vec<NaiveDate>>,
    observed: Option<String>,
    from: Option<i32>,
    until: Option<i32>,
    #[serde(default)]
    except: Vec<i32>,
    weekdays: Option<String>,
    declared_at: Option<String>,
    close: Option<WallTime>,
    source: String,
}

impl RuleFile {
    fn read(self) -> Result<DayRule, String> {
        let fault = |fault: String| format!("{}: {fault}", self.name);
        let falls = match (self.falls, self.dates) {
            (Some(falls), None) => falls.parse().map_err(fault)?,
            (None, Some(dates)) => Falls::Dates(dates),
            _ => return Err(fault("either falls or dates must be given".to_owned())),
        };
        let weekdays = self.weekdays.as_deref().map_or(Ok(WeekdaySet::ALL), weekday_set).map_err(fault)?;
        let observed = self.observed.as_deref().map_or(Ok(Observed::Exact), Observed::from_str).map_err(fault)?;
        let years = (self.from.unwrap_or(i32::MIN), self.until.unwrap_or(i32::MAX));
        let declared_at = self.declared_at.as_deref().map_or(Ok(None), reading::read_declared).map_err(fault)?;
        Ok(DayRule {
            rule: Rule { falls, observed, years, except: self.except, weekdays },
            reason: self.name.into(),
            source: self.source.into(),
            declared_at,
            close: self.close.map(|close| close.0),
        })
    }
}

fn weekday_set(names: &str) -> Result<WeekdaySet, String> {
    names.split_whitespace().try_fold(WeekdaySet::EMPTY, |mut set, name| {
        let weekday: Weekday = name.parse().map_err(|_| format!("{name:?} is no weekday"))?;
        set.insert(weekday);
        Ok(set)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VenueFile {
    mic: String,
    name: String,
    hours: Vec<HoursFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoursFile {
    from: NaiveDate,
    overnight: Option<(WallTime, WallTime)>,
    pre_open: Option<WallTime>,
    open: WallTime,
    close: WallTime,
    post_close: Option<WallTime>,
    early_post_close: Option<WallTime>,
    #[serde(default)]
    breaks: Vec<(WallTime, WallTime)>,
    /// For those who read the file.
    #[serde(rename = "source")]
    _source: String,
}

impl From<VenueFile> for Venue {
    fn from(file: VenueFile) -> Self {
        let seconds = |time: Option<WallTime>| time.map(|time| time.0);
        let hours = file.hours.into_iter().map(|hours| Hours {
            from: hours.from,
            overnight: hours.overnight.map(|(start, end)| (start.0, end.0)),
            pre_open: seconds(hours.pre_open),
            open: hours.open.0,
            close: hours.close.0,
            post_close: seconds(hours.post_close),
            early_post_close: seconds(hours.early_post_close),
            breaks: hours.breaks.into_iter().map(|(start, end)| (start.0, end.0)).collect(),
        });
        Self { mic: file.mic.into(), name: file.name.into(), hours: hours.collect() }
    }
}

/// `HH:MM`, with a minus before it for so long before midnight.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct WallTime(LocalSeconds);

impl TryFrom<String> for WallTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (sign, time) = text.strip_prefix('-').map_or((1, text.as_str()), |time| (-1, time));
        let seconds = reading::wall_time(time).ok_or_else(|| format!("{text:?} is not a time"))?;
        Ok(Self(sign * seconds))
    }
}
