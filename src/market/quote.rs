//! One symbol's quote.

use chrono::{DateTime, Utc};

use super::Price;

/// What is known of a symbol. What is not known is `None`; nothing is ever filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quote {
    /// The quote's own time.
    pub at: DateTime<Utc>,
    /// Last price.
    pub price: Price,
    /// Close of the session before.
    pub previous_close: Option<Price>,
    /// First price of the session.
    pub open: Option<Price>,
    /// Highest price of the session.
    pub high: Option<Price>,
    /// Lowest price of the session.
    pub low: Option<Price>,
    /// Best bid.
    pub bid: Option<Price>,
    /// Best offer.
    pub ask: Option<Price>,
    /// Shares traded in the session.
    pub volume: Option<i64>,
    /// What is to be said about it.
    pub flags: QuoteFlags,
}

impl Quote {
    /// Since the close of the session before.
    pub fn change(&self) -> Option<Price> {
        self.previous_close.map(|before| Price::from_units(self.price.units() - before.units()))
    }

    /// The change in percent, to four places; never minus zero.
    pub fn change_percent(&self) -> Option<f64> {
        Some(percent_units(self.price, self.previous_close?)? as f64 / 1e4)
    }
}

/// The change from `before` to `price` in units of 0.0001 %, to the nearest; `None` where there is nothing to compare with.
pub(super) fn percent_units(price: Price, before: Price) -> Option<i64> {
    let change = price.units() - before.units();
    (before.units() > 0).then(|| (change as f64 / before.units() as f64 * 1e6).round() as i64)
}

/// A change this far from the previous close, in percent, is flagged, never dropped.
pub const SUSPICIOUS_MOVE_PERCENT: f64 = 25.0;

/// A set of remarks, stored as an integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuoteFlags(pub i32);

impl QuoteFlags {
    /// More than 25 % from the previous close: possible, and worth a look.
    pub const MOVED_OVER_25_PERCENT: Self = Self(1);
    /// The last cycle had nothing newer: this is kept, with its age.
    pub const NOT_REFRESHED: Self = Self(2);
    /// Trading in it is halted.
    pub const HALTED: Self = Self(4);

    /// Whether `other` was said.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
