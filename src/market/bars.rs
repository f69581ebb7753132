//! What a source tells of past sessions: a bar a day, and splits.

use chrono::NaiveDate;

use super::Price;

/// One symbol's regular session, as it was traded: prices are not adjusted for splits or dividends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DailyBar {
    /// As the site spells it.
    pub symbol: String,
    /// The session.
    pub date: NaiveDate,
    /// First price.
    pub open: Price,
    /// Highest price.
    pub high: Price,
    /// Lowest price.
    pub low: Price,
    /// Last price.
    pub close: Price,
    /// Shares traded.
    pub volume: i64,
}

impl DailyBar {
    /// A bar of what a source wrote as decimals. `None` for what is no bar: a price that is not set or not a number, a
    /// highest price below another one, a lowest above, a volume below zero or beyond all shares there are.
    pub fn from_decimals(symbol: String, date: NaiveDate, ohlc: [f64; 4], volume: f64) -> Option<Self> {
        let [open, high, low, close] = ohlc.map(Price::from_decimal);
        let (open, high, low, close) = (open?, high?, low?, close?);
        let within = [open, close].iter().all(|price| (low..=high).contains(price));
        let volume = (0.0..9e15).contains(&volume).then(|| volume.round() as i64)?;
        within.then_some(Self { symbol, date, open, high, low, close, volume })
    }
}

/// A split: from `date` on, `numerator` shares stand for `denominator` before. 4 and 1 is four for one; 1 and 10 a reverse
/// split. Without a common factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// As the site spells it.
    pub symbol: String,
    /// The first session of the new shares.
    pub date: NaiveDate,
    /// Shares after; above zero.
    pub numerator: i64,
    /// Shares before; above zero.
    pub denominator: i64,
}

impl Split {
    /// A split of what a source wrote as decimals (sources write 1.05 for 1 as well as 21 for 20). `None` where either is not
    /// above zero, or is beyond a million.
    pub fn from_decimals(symbol: String, date: NaiveDate, after: f64, before: f64) -> Option<Self> {
        const MILLIONTHS: f64 = 1e6;
        let whole = |shares: f64| {
            let millionths = (shares * MILLIONTHS).round();
            (1.0..=1e12).contains(&millionths).then_some(millionths as i64)
        };
        let (after, before) = (whole(after)?, whole(before)?);
        let common = common_factor(after, before);
        Some(Self { symbol, date, numerator: after / common, denominator: before / common })
    }
}

fn common_factor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_factor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date() -> NaiveDate {
        NaiveDate::from_ymd_opt(2027, 3, 15).unwrap()
    }

    #[test]
    fn a_ratio_has_no_common_factor() {
        let ratio = |after, before| {
            Split::from_decimals("X".to_owned(), date(), after, before)
                .map(|split| (split.numerator, split.denominator))
        };
        assert_eq!(ratio(4.0, 1.0), Some((4, 1)));
        assert_eq!(ratio(1.0, 10.0), Some((1, 10)));
        assert_eq!(ratio(1.05, 1.0), Some((21, 20)));
        assert_eq!(ratio(3.0, 2.0), Some((3, 2)));
        for (after, before) in [(0.0, 1.0), (1.0, 0.0), (-2.0, 1.0), (f64::NAN, 1.0), (1e9, 1.0)] {
            assert_eq!(ratio(after, before), None, "{after} for {before}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_no_bar() {
        let bar = |ohlc, volume| DailyBar::from_decimals("X".to_owned(), date(), ohlc, volume).is_some();
        assert!(bar([10.0, 11.0, 9.5, 10.5], 100.0));
        assert!(bar([10.0, 10.0, 10.0, 10.0], 0.0));
        assert!(!bar([0.0, 11.0, 9.5, 10.5], 100.0), "zero is not a price");
        assert!(!bar([10.0, 10.2, 9.5, 10.5], 100.0), "the close is above the high");
        assert!(!bar([10.0, 11.0, 10.1, 10.5], 100.0), "the open is below the low");
        assert!(!bar([10.0, 11.0, 9.5, f64::NAN], 100.0));
        assert!(!bar([10.0, 11.0, 9.5, 10.5], -1.0));
    }
}
