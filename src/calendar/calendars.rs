//! Every venue there is, compiled when it is first asked for, and the handle through which a daemon swaps them whole.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use chrono::{DateTime, Datelike, Utc};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::decided::{check, decide};
use super::exceptions::{Exception, Mistake, Mistakes, Origin};
use super::layers::Layers;
use super::market::{Market, SOURCES};
use super::{About, Calendar, KNOWABLE_YEARS, REHEARSED_YEARS, TABLE_YEARS};

/// Counted up with every change of the code that changes an answer, so that the version tells it.
const REVISION: &str = "2";

/// Digits of the hash in the version.
const SHORT: usize = 12;

pub(super) fn version_of(hash: &str) -> Arc<str> {
    Arc::from(format!("{REVISION}-{}", &hash[..SHORT.min(hash.len())]))
}

/// What an operator adds to the built-in calendars.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// Rows of the file and of calls over HTTP.
    pub exceptions: Vec<Exception>,
    /// Venues whose night sessions are held.
    pub overnight: Vec<String>,
    /// Rehearses what was known at an instant; `None` for everything that is known.
    pub known_at: Option<DateTime<Utc>>,
}

/// The calendars of all venues under one set of exceptions. Never changes.
#[derive(Debug, Clone)]
pub struct Calendars {
    venues: BTreeMap<Arc<str>, Place>,
    operator: Operator,
    /// Which years the tables hold.
    years: (i32, i32),
}

#[derive(Debug, Clone)]
struct Place {
    market: Arc<Market>,
    venue: usize,
    calendar: OnceLock<Arc<Calendar>>,
}

/// The built-in data, read once in a process.
fn markets() -> Result<&'static [Arc<Market>], Mistakes> {
    static MARKETS: OnceLock<Result<Vec<Arc<Market>>, String>> = OnceLock::new();
    let markets = MARKETS.get_or_init(|| SOURCES.iter().map(|source| Market::read(source).map(Arc::new)).collect());
    markets.as_deref().map_err(|fault| {
        let (message, fix) = (fault.clone(), "this build is broken; install another one".to_owned());
        Mistakes(vec![Mistake { origin: Some(Origin::BuiltIn), line: 0, column: None, message, fix }])
    })
}

impl Calendars {
    /// Puts the operator's word over the built-in data. Every row is checked, whichever venue it is about; tables are
    /// compiled when they are asked for.
    ///
    /// # Errors
    /// Every row that does not fit.
    pub fn build(operator: Operator) -> Result<Self, Mistakes> {
        Self::build_for(operator, TABLE_YEARS)
    }

    /// The same with tables of other years, the first and the last included: every year is answered, and those fast.
    ///
    /// # Errors
    /// Every row that does not fit.
    pub fn build_for(operator: Operator, years: (i32, i32)) -> Result<Self, Mistakes> {
        let markets = markets()?;
        let venues: BTreeMap<_, _> = markets
            .iter()
            .flat_map(|market| {
                market.venues.iter().enumerate().map(|(venue, known)| {
                    let place = Place { market: Arc::clone(market), venue, calendar: OnceLock::new() };
                    (Arc::clone(&known.mic), place)
                })
            })
            .collect();
        let calendars = Self { venues, operator, years };
        calendars.refuse_unknown_venues()?;
        let told = |place: &&Place| {
            let rows = calendars.operator.exceptions.iter();
            rows.clone().any(|row| place.answers_to(&row.venue))
        };
        for place in calendars.venues.values().filter(told) {
            check(&calendars.layers(place)?)?;
        }
        Ok(calendars)
    }

    /// The built-in calendars alone.
    ///
    /// # Errors
    /// Only in a broken build.
    pub fn built_in() -> Result<Self, Mistakes> {
        Self::build(Operator::default())
    }

    /// The codes of all venues, in order.
    pub fn mics(&self) -> impl Iterator<Item = &str> {
        self.venues.keys().map(|mic| &**mic)
    }

    /// The calendar of a venue, by its code in any case; `None` for a venue nobody knows.
    pub fn of(&self, mic: &str) -> Option<Arc<Calendar>> {
        let place = self.venues.get(mic.to_uppercase().as_str())?;
        // The rows were checked when the set was built, so the layers can be put together again.
        let compile = || Some(Arc::new(Calendar::compile(self.layers(place).ok()?, self.hash(place), self.years)));
        match place.calendar.get() {
            Some(calendar) => Some(Arc::clone(calendar)),
            None => compile().map(|calendar| Arc::clone(place.calendar.get_or_init(|| calendar))),
        }
    }

    /// What each venue is, in order of code; no table is compiled for it.
    pub fn about(&self) -> impl Iterator<Item = About> {
        self.venues
            .values()
            .map(|place| About::of(&place.market, place.venue, self.operator.known_at, &self.hash(place)))
    }

    /// Whether a code is one of a venue or of a market.
    pub fn knows(&self, venue: &str) -> bool {
        self.venues.values().any(|place| place.answers_to(venue))
    }

    /// Whether the venue `mic` belongs to the market `market`.
    pub fn is_of_market(&self, mic: &str, market: &str) -> bool {
        self.venues.get(mic).is_some_and(|place| *place.market.name == *market)
    }

    /// The codes of the venues whose hours have night sessions.
    pub fn with_overnight(&self) -> impl Iterator<Item = &str> {
        let held = |place: &Place| place.market.venues[place.venue].hours.iter().any(|hours| hours.overnight.is_some());
        self.venues.iter().filter(move |(_, place)| held(place)).map(|(mic, _)| &**mic)
    }

    /// What the operator has added.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// The exceptions of a venue, or those told for all venues of a market; built in and the operator's, in order of date.
    pub fn exceptions_of(&self, venue: &str) -> Vec<&Exception> {
        let place = self.venues.get(venue).or_else(|| self.venues.values().find(|place| place.answers_to(venue)));
        let Some(place) = place else { return Vec::new() };
        let of_market = *place.market.name == *venue && **place.mic() != *venue;
        let rows = place.exceptions(&self.operator).filter(|row| !of_market || *row.venue == *venue);
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (row.date, row.origin, row.line));
        rows
    }

    /// The same set as it was known at an instant. A venue whose rows do not fit together without those that came later is
    /// unknown to it.
    pub fn as_of(&self, known_at: DateTime<Utc>) -> Self {
        let operator = Operator { known_at: Some(known_at), ..self.operator.clone() };
        let forget = |place: &Place| Place { calendar: OnceLock::new(), ..place.clone() };
        let venues = self.venues.iter().map(|(mic, place)| (Arc::clone(mic), forget(place))).collect();
        let year = known_at.year().clamp(KNOWABLE_YEARS.0, KNOWABLE_YEARS.1);
        Self { venues, operator, years: (year - REHEARSED_YEARS.0, year + REHEARSED_YEARS.1) }
    }

    fn refuse_unknown_venues(&self) -> Result<(), Mistakes> {
        let unknown = self.operator.exceptions.iter().filter(|row| !self.knows(&row.venue));
        let mistakes: Vec<_> = unknown
            .map(|row| Mistake {
                origin: Some(row.origin),
                line: row.line,
                column: Some("venue"),
                message: format!("there is no venue {:?}", row.venue),
                fix: format!("write US for all of New York, or one of {}", self.mics().collect::<Vec<_>>().join(", ")),
            })
            .collect();
        if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes)) }
    }

    fn layers(&self, place: &Place) -> Result<Layers, Mistakes> {
        let Operator { overnight, known_at, .. } = &self.operator;
        let decided = decide(place.exceptions(&self.operator))?;
        let overnight = overnight.iter().any(|mic| **place.mic() == **mic);
        Ok(Layers::new(Arc::clone(&place.market), place.venue, decided, overnight, *known_at, self.years))
    }

    /// Everything a venue's answers follow from, and nothing else.
    fn hash(&self, place: &Place) -> Arc<str> {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update(text.len().to_le_bytes());
            hasher.update(text.as_bytes());
        };
        let (toml, csv) = place.market.text;
        [REVISION, chrono_tz::IANA_TZDB_VERSION, &**place.mic(), toml, csv].into_iter().for_each(&mut part);
        let overnight = self.operator.overnight.iter().any(|mic| **place.mic() == **mic);
        part(if overnight { "overnight" } else { "" });
        part(&self.operator.known_at.map(|at| at.to_rfc3339()).unwrap_or_default());
        let rows = self.operator.exceptions.iter().filter(|row| place.answers_to(&row.venue));
        let mut rows: Vec<String> = rows.map(Exception::line_of_csv).collect();
        rows.sort_unstable();
        rows.iter().for_each(|row| part(row));
        Arc::from(HEXLOWER.encode(&hasher.finalize()))
    }
}

impl Place {
    fn mic(&self) -> &Arc<str> {
        &self.market.venues[self.venue].mic
    }

    fn answers_to(&self, venue: &str) -> bool {
        **self.mic() == *venue || *self.market.name == *venue
    }

    fn exceptions<'a>(&'a self, operator: &'a Operator) -> impl Iterator<Item = &'a Exception> + Clone {
        let known = |row: &&Exception| match operator.known_at {
            // What carries no date of its own was known on its day at the latest.
            Some(at) => row.declared_at.unwrap_or(super::Declared::On(row.date)).is_known(at, self.market.zone),
            None => true,
        };
        let rows = self.market.exceptions.iter().chain(&operator.exceptions);
        rows.filter(|row| self.answers_to(&row.venue)).filter(known)
    }
}

/// The calendars a daemon goes by, swapped whole: whoever asks holds one set from the first question to the last.
#[derive(Debug)]
pub struct SharedCalendars {
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    calendars: Arc<Calendars>,
    chosen: Arc<Calendar>,
}

impl SharedCalendars {
    /// Goes by `calendars`, and by the venue `mic` where no other is named. `None` for a venue nobody knows.
    pub fn new(calendars: Calendars, mic: &str) -> Option<Self> {
        let chosen = calendars.of(mic)?;
        let current = Current { calendars: Arc::new(calendars), chosen };
        Some(Self { current: ArcSwap::from_pointee(current) })
    }

    /// The calendar that drives the schedule, as it is at this moment.
    pub fn load(&self) -> Arc<Calendar> {
        Arc::clone(&self.current.load().chosen)
    }

    /// All of them.
    pub fn all(&self) -> Arc<Calendars> {
        Arc::clone(&self.current.load().calendars)
    }

    /// Replaces them. The chosen venue is compiled first, so that nobody waits for it; no venue is ever lost, because all of
    /// them are built in.
    pub fn swap(&self, calendars: Calendars) {
        let mic = self.load().mic().to_owned();
        if let Some(chosen) = calendars.of(&mic) {
            self.current.store(Arc::new(Current { calendars: Arc::new(calendars), chosen }));
        }
    }
}
