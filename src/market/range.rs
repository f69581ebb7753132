//! Bounds of a column, as clients write them.

use super::{Column, Columns};

/// The numbers of a column that are wanted, both ends included; in the units of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    column: Column,
    least: i64,
    most: i64,
}

impl Range {
    /// All numbers that are known in `column`.
    pub fn of(column: Column) -> Self {
        Self { column, least: i64::MIN, most: i64::MAX }
    }

    /// The column it is about.
    pub fn column(self) -> Column {
        self.column
    }

    /// From `bound` on, as clients write it: 12.5 is 12.5 of the currency.
    pub fn set_least(&mut self, bound: f64) {
        self.least = first_not_below(bound, self.column.units());
    }

    /// Up to `bound`.
    pub fn set_most(&mut self, bound: f64) {
        // What is not above a bound is what is not below its opposite, seen from the other side.
        self.most = first_not_below(-bound, self.column.units()).saturating_neg();
    }

    /// Whether the number at `index` is within; what is not known is not.
    pub fn holds(self, quotes: &Columns, index: usize) -> bool {
        quotes.value(self.column, index).is_some_and(|value| (self.least..=self.most).contains(&value))
    }
}

/// The smallest whole number of units that is no less than `bound`. A bound is the binary number nearest to what was
/// written, and so is the number that clients see: equal decimals are equal here, whatever the product is rounded to.
fn first_not_below(bound: f64, units: f64) -> i64 {
    let near = (bound * units).floor() as i64;
    let candidates = near.saturating_sub(1)..=near.saturating_add(2);
    candidates.into_iter().find(|candidate| *candidate as f64 / units >= bound).unwrap_or(i64::MAX)
}
