//! Daily bars, splits, and how far backfills have come.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};

use super::dialect::on;
use super::history::put_daily;
use super::{Store, StoreError};
use crate::market::{Bar, DailyBar, Price, Split, SplitFactor};

/// Rows of one statement: eight columns, far below the 32,766 variables of SQLite.
const ROWS_AT_ONCE: usize = 2_000;

#[derive(sqlx::FromRow)]
struct DailyRow {
    session: NaiveDate,
    open: i64,
    high: i64,
    low: i64,
    close: i64,
    volume: Option<i64>,
}

impl Store {
    /// The daily bars of a symbol from `from` to `to`, oldest first, at most `limit`; raw. Their time is 0: the session says it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn daily_bars(
        &self,
        symbol_id: i64,
        from: NaiveDate,
        to: NaiveDate,
        limit: u32,
    ) -> Result<Vec<(NaiveDate, Bar)>, StoreError> {
        const SQL: &str = "SELECT session, open, high, low, close, volume FROM bars_1d WHERE symbol_id = $1 AND session >= $2 AND \
             session <= $3 ORDER BY session LIMIT $4";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), DailyRow, SQL, [symbol_id, from, to, i64::from(limit)], fetch_all)?;
        let bar = |DailyRow { session, open, high, low, close, volume }| {
            (session, Bar { at: 0, open, high, low, close, volume })
        };
        Ok(rows.into_iter().map(bar).collect())
    }

    /// Every split of a symbol, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn splits_of(&self, symbol_id: i64) -> Result<Vec<SplitFactor>, StoreError> {
        const SQL: &str = "SELECT session, numerator, denominator FROM splits WHERE symbol_id = $1 ORDER BY session";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (NaiveDate, i64, i64), SQL, [symbol_id], fetch_all)?;
        let split = |(session, numerator, denominator)| SplitFactor { session, numerator, denominator };
        Ok(rows.into_iter().map(split).collect())
    }

    /// Keeps splits; what a source says anew of the same symbol and date holds.
    ///
    /// # Errors
    /// When the database fails; then none is kept.
    pub async fn save_splits(&self, splits: &[Split]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO splits (symbol_id, session, numerator, denominator) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (symbol_id, session) DO UPDATE SET numerator = excluded.numerator, denominator = excluded.denominator";
        let symbols: Vec<&str> = splits.iter().map(|split| split.symbol.as_str()).collect();
        let ids = self.symbol_ids(&symbols).await?;
        let mut tx = self.begin().await?;
        for split in splits {
            if let Some(id) = ids.get(split.symbol.as_str()) {
                on!(tx.handle(), SQL, [*id, split.date, split.numerator, split.denominator])?;
            }
        }
        tx.commit().await
    }

    /// What a backfill has taken from `source` already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn backfilled(&self, source: &str) -> Result<HashSet<String>, StoreError> {
        const SQL: &str = "SELECT unit FROM backfills WHERE source = $1";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String,), SQL, [source], fetch_all)?;
        Ok(rows.into_iter().map(|(unit,)| unit).collect())
    }

    /// Keeps what a provider has said in one unit of a backfill, and that it has: both or neither.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_backfill(
        &self,
        source: &str,
        unit: &str,
        bars: &[DailyBar],
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const DONE: &str = "INSERT INTO backfills (source, unit, bars, done_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (source, unit) DO UPDATE SET bars = excluded.bars, done_at = excluded.done_at";
        let symbols: Vec<&str> = bars.iter().map(|bar| bar.symbol.as_str()).collect();
        let ids = self.symbol_ids(&symbols).await?;
        let rows = bars.iter().filter_map(|bar| Some((*ids.get(bar.symbol.as_str())?, bar.date, raw(bar))));
        let mut rows: Vec<(i64, NaiveDate, Bar)> = rows.collect();
        // A source that says one thing twice in a call would have it change a row twice in a statement.
        rows.sort_by_key(|(symbol_id, session, _)| (*symbol_id, *session));
        rows.dedup_by_key(|(symbol_id, session, _)| (*symbol_id, *session));
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let mut tx = self.begin().await?;
        for rows in rows.chunks(ROWS_AT_ONCE) {
            put_daily(tx.handle(), rows, true).await?;
        }
        on!(tx.handle(), DONE, [source, unit, count, at])?;
        tx.commit().await
    }

    /// Says how the market ended on dates from `from` to `to` of which no cycle was seen, by their daily bars: a symbol counts by its close and the
    /// one before, unless it was split in between. Gives how many dates.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_market_days(
        &self,
        from: NaiveDate,
        to: NaiveDate,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "INSERT INTO market_days (session, slot, total, gainers, losers, unchanged, rolled_up_at) \
             SELECT session, $3, COUNT(*), SUM(CASE WHEN close > before THEN 1 ELSE 0 END), \
             SUM(CASE WHEN close < before THEN 1 ELSE 0 END), SUM(CASE WHEN close = before THEN 1 ELSE 0 END), $4 FROM ( \
             SELECT b.session, b.close, CASE WHEN s.session IS NULL THEN LAG(b.close) OVER (PARTITION BY b.symbol_id ORDER BY b.session) END \
             AS before FROM bars_1d b LEFT JOIN splits s ON s.symbol_id = b.symbol_id AND s.session = b.session \
             WHERE b.session >= $5 AND b.session <= $2) AS days WHERE session >= $1 GROUP BY session ON CONFLICT (session) DO NOTHING";
        // Far enough back for the close before of the first date.
        let earlier = from - chrono::TimeDelta::days(10);
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [from, to, DateTime::UNIX_EPOCH, at, earlier])
    }
}

fn raw(bar: &DailyBar) -> Bar {
    let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
    Bar { at: 0, open, high, low, close, volume: Some(bar.volume) }
}
