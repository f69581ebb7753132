//! The fields of a quote: what can be asked for, and how each is written.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::super::rows::known;
use super::super::{Column, Columns, Listing, Price, QuoteFlags};

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// As the site spells it.
    Symbol,
    /// The company.
    Name,
    /// Where it is listed.
    Exchange,
    /// Branch of industry.
    Sector,
    /// A number.
    Number(Column),
    /// The quote's own time.
    At,
    /// Trading in it is halted.
    Halted,
    /// The last cycle had news of it.
    Refreshed,
    /// More than 25 % from the previous close.
    MovedOver25Percent,
}

/// What a field holds.
pub(super) enum Value<'a> {
    Unknown,
    Text(&'a str),
    /// In units of 0.0001.
    Decimal(i64),
    Whole(i64),
    Time(DateTime<Utc>),
    Flag(bool),
}

impl Field {
    /// Each of them, in the order in which they are sent where the client names none: those of the quote itself, then those that need
    /// the sessions before.
    pub const ALL: [Self; 27] = {
        const NUMBERS: [Column; 19] = Column::ALL;
        let mut all = [Self::Symbol; 27];
        let (head, tail) = (
            [Self::Symbol, Self::Name, Self::Exchange, Self::Sector],
            [Self::At, Self::Halted, Self::Refreshed, Self::MovedOver25Percent],
        );
        let mut place = 0;
        while place < all.len() {
            all[place] = match place {
                0..4 => head[place],
                4..14 => Self::Number(NUMBERS[place - 4]),
                14..18 => tail[place - 14],
                _ => Self::Number(NUMBERS[place - 8]),
            };
            place += 1;
        }
        all
    };

    /// How many of them, from the first on, a list has where the client names none: what a quote says itself.
    pub const USUAL: usize = 18;

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Symbol => "symbol",
            Self::Name => "name",
            Self::Exchange => "exchange",
            Self::Sector => "sector",
            Self::Number(column) => column.name(),
            Self::At => "at",
            Self::Halted => "halted",
            Self::Refreshed => "refreshed",
            Self::MovedOver25Percent => "moved_over_25_percent",
        }
    }

    /// The field of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    pub(super) fn value<'a>(self, listing: &'a Listing, quotes: &Columns, index: usize) -> Value<'a> {
        let text = |text: &'a str| known(text).map_or(Value::Unknown, Value::Text);
        let flag = |flag| Value::Flag(quotes.flags(index).contains(flag));
        match self {
            Self::Symbol => Value::Text(&listing.symbol),
            Self::Name => text(&listing.name),
            Self::Exchange => text(&listing.exchange),
            Self::Sector => text(&listing.sector),
            Self::Number(column) => {
                let value = if column.is_whole() { Value::Whole } else { Value::Decimal };
                quotes.value(column, index).map_or(Value::Unknown, value)
            }
            Self::At => quotes.at(index).map_or(Value::Unknown, Value::Time),
            Self::Halted => flag(QuoteFlags::HALTED),
            Self::Refreshed => Value::Flag(!quotes.flags(index).contains(QuoteFlags::NOT_REFRESHED)),
            Self::MovedOver25Percent => flag(QuoteFlags::MOVED_OVER_25_PERCENT),
        }
    }
}

impl Value<'_> {
    /// As a field of a table; what is not known is empty.
    pub(super) fn to_csv(&self) -> String {
        match self {
            Self::Unknown => String::new(),
            Self::Text(text) => harmless(text),
            Self::Decimal(units) => Price::from_units(*units).to_string(),
            Self::Whole(whole) => whole.to_string(),
            Self::Time(at) => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// A spreadsheet takes text that begins like this for a formula and runs it; an apostrophe makes it text again.
fn harmless(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Decimal(units) => Price::from_units(*units).serialize(serializer),
            Self::Whole(whole) => serializer.serialize_i64(*whole),
            Self::Time(at) => at.serialize(serializer),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}
