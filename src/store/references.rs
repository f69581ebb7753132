//! What references are worked out of: the daily bars and splits of many symbols at a time, and whether they are still the same.

use std::ops::{Range, RangeInclusive};

use chrono::{DateTime, NaiveDate, Utc};

use super::dialect::{by_engine, on};
use super::{Store, StoreError};
use crate::market::{Bar, SplitFactor};

/// What the daily bars and splits are known by: whoever has worked something out of them looks whether it is still this.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PastVersion {
    /// When a session was last rolled up.
    pub rolled_up_at: Option<DateTime<Utc>>,
    /// When a backfill last took something in.
    pub backfilled_at: Option<DateTime<Utc>>,
    /// What the splits come to: another number where one came, went or was corrected.
    pub splits: i64,
}

#[derive(sqlx::FromRow)]
struct DailyRow {
    symbol_id: i64,
    session: NaiveDate,
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: Option<i64>,
}

impl Store {
    /// The raw daily bars of the symbols with these numbers on these dates, in order of the numbers and then of the dates. Their time is 0:
    /// the session says it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn daily_bars_of(
        &self,
        symbol_ids: RangeInclusive<i64>,
        sessions: Range<NaiveDate>,
    ) -> Result<Vec<(i64, NaiveDate, Bar)>, StoreError> {
        const SQL: &str = "SELECT symbol_id, session, open, high, low, close, volume FROM bars_1d WHERE symbol_id >= $1 AND \
             symbol_id <= $2 AND session >= $3 AND session < $4 ORDER BY symbol_id, session";
        let (first, last) = symbol_ids.into_inner();
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), DailyRow, SQL, [first, last, sessions.start, sessions.end], fetch_all)?;
        let bar = |DailyRow { symbol_id, session, open, high, low, close, volume }| {
            (symbol_id, session, Bar { at: 0, open, high, low, close, volume })
        };
        Ok(rows.into_iter().map(bar).collect())
    }

    /// The splits of every symbol after `from` up to `to`, in no order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn splits_between(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<(i64, SplitFactor)>, StoreError> {
        const SQL: &str =
            "SELECT symbol_id, session, numerator, denominator FROM splits WHERE session > $1 AND session <= $2";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (i64, NaiveDate, i64, i64), SQL, [from, to], fetch_all)?;
        let split = |(id, session, numerator, denominator)| (id, SplitFactor { session, numerator, denominator });
        Ok(rows.into_iter().map(split).collect())
    }

    /// What the past is known by at the moment.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn past_version(&self) -> Result<PastVersion, StoreError> {
        /// Each split by all that it says, in numbers that their sum has room for.
        macro_rules! version {
            ($day:literal) => {
                concat!(
                    "SELECT (SELECT MAX(rolled_up_at) FROM market_days) AS rolled_up_at, (SELECT MAX(done_at) FROM backfills) AS \
                     backfilled_at, (SELECT CAST(COALESCE(SUM((",
                    $day,
                    " % 100003 * 1009 + numerator % 1000003 * 1013 + denominator % 1000003 * 1019) % 1000003 * (symbol_id % 10007 + 1)), \
                     0) AS BIGINT) FROM splits) AS splits"
                )
            };
        }
        const SQLITE: &str = version!("CAST(julianday(session) AS INTEGER)");
        const POSTGRES: &str = version!("(session - DATE '2000-01-01')");
        let mut connection = self.reader().await?;
        let sql = by_engine(&connection.handle(), SQLITE, POSTGRES);
        on!(connection.handle(), PastVersion, sql, [], fetch_one)
    }
}
