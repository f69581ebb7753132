//! Prices are kept as they were; what a split makes of them is worked out when they are read.

use chrono::NaiveDate;

use super::Bar;

/// From `session` on, `numerator` shares stand for `denominator` before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitFactor {
    /// The first session of the new shares.
    pub session: NaiveDate,
    /// Shares after; above zero.
    pub numerator: i64,
    /// Shares before; above zero.
    pub denominator: i64,
}

/// A bar of `session` in the shares of today: divided by every split that came later, each time to the nearest unit.
pub fn adjusted_bar(bar: Bar, session: NaiveDate, splits: &[SplitFactor]) -> Bar {
    let price = |units| adjusted_price(units, session, splits);
    let Bar { at, open, high, low, close, volume } = bar;
    Bar {
        at,
        open: price(open),
        high: price(high),
        low: price(low),
        close: price(close),
        volume: volume.map(|volume| adjusted_volume(volume, session, splits)),
    }
}

/// The same of a single price, in units of 0.0001.
pub(super) fn adjusted_price(units: i64, session: NaiveDate, splits: &[SplitFactor]) -> i64 {
    let later = splits.iter().filter(|split| split.session > session);
    later.fold(units, |units, split| scaled(units, split.denominator, split.numerator))
}

fn adjusted_volume(shares: i64, session: NaiveDate, splits: &[SplitFactor]) -> i64 {
    let later = splits.iter().filter(|split| split.session > session);
    later.fold(shares, |shares, split| scaled(shares, split.numerator, split.denominator))
}

/// To the nearest whole number, halves away from zero.
fn scaled(number: i64, times: i64, by: i64) -> i64 {
    let (product, by) = (i128::from(number) * i128::from(times), i128::from(by.max(1)));
    let half = if product < 0 { -(by / 2) } else { by / 2 };
    i64::try_from((product + half) / by).unwrap_or(if product < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(session: &str, numerator: i64, denominator: i64) -> SplitFactor {
        SplitFactor { session: session.parse().unwrap(), numerator, denominator }
    }

    #[test]
    fn only_splits_that_came_later_count() {
        let splits = [split("2020-08-31", 4, 1), split("2024-06-10", 1, 10)];
        let price = |units, session: &str| adjusted_price(units, session.parse().unwrap(), &splits);
        assert_eq!(price(4_992_300, "2020-08-28"), 12_480_750, "four for one, then one for ten");
        assert_eq!(price(1_290_400, "2020-08-31"), 12_904_000);
        assert_eq!(price(1_290_400, "2024-06-07"), 12_904_000);
        assert_eq!(price(1_290_400, "2024-06-10"), 1_290_400);
    }

    #[test]
    fn volumes_go_the_other_way_and_nothing_overflows() {
        let session = "2020-01-02".parse().unwrap();
        let bar = Bar { at: 0, open: 7, high: i64::MAX, low: -7, close: 3, volume: Some(i64::MAX) };
        let adjusted = adjusted_bar(bar, session, &[split("2020-08-31", 2, 1)]);
        assert_eq!(adjusted, Bar { at: 0, open: 4, high: i64::MAX / 2 + 1, low: -4, close: 2, volume: Some(i64::MAX) });
    }
}
