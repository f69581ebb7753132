//! Prices as integers.

use std::fmt;

use serde::{Serialize, Serializer};

/// Units in one of the currency.
const UNITS: i64 = 10_000;

/// A price, or a difference of prices, in units of 0.0001 of the currency. Exact; one share may cost 700,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

impl Price {
    /// From units of 0.0001.
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// In units of 0.0001.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// What a source wrote as a decimal, to the nearest unit. `None` for what is no price: not a number, infinite, nothing
    /// above zero once rounded, or above 100 billion, where binary fractions become too coarse for four places.
    pub fn from_decimal(decimal: f64) -> Option<Self> {
        const MOST: f64 = 1e11 * UNITS as f64;
        let units = (decimal * UNITS as f64).round();
        (1.0..=MOST).contains(&units).then_some(Self(units as i64))
    }

    /// The nearest binary number: prints as the same decimal up to 500 billion.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / UNITS as f64
    }
}

/// At least two places, at most four.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, part) =
            (self.0.unsigned_abs() / UNITS.unsigned_abs(), self.0.unsigned_abs() % UNITS.unsigned_abs());
        let digits = format!("{part:04}");
        let digits = match digits.trim_end_matches('0') {
            short if short.len() < 2 => &digits[..2],
            long => long,
        };
        write!(f, "{sign}{whole}.{digits}")
    }
}

/// A JSON number, as the clients of the site expect.
impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.to_f64())
    }
}
