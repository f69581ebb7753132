//! Daily bars, splits, and how far backfills have come.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::dialect::{Tx, on};
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

impl DailyRow {
    fn into_bar(self) -> (NaiveDate, Bar) {
        let Self { session, open, high, low, close, volume } = self;
        (session, Bar { at: 0, open, high, low, close, volume })
    }
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
        Ok(rows.into_iter().map(DailyRow::into_bar).collect())
    }

    /// The daily bar of a symbol in one session, where a provider gave it; raw, its time is 0.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn provider_bar(&self, symbol_id: i64, session: NaiveDate) -> Result<Option<Bar>, StoreError> {
        const SQL: &str = "SELECT session, open, high, low, close, volume FROM bars_1d WHERE symbol_id = $1 AND session = $2 AND \
             from_provider";
        let mut connection = self.reader().await?;
        let row = on!(connection.handle(), DailyRow, SQL, [symbol_id, session], fetch_optional)?;
        Ok(row.map(|row| row.into_bar().1))
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
        let ids = self.ids_of(splits).await?;
        let mut tx = self.begin().await?;
        put_splits(&mut tx, splits, &ids).await?;
        tx.commit().await
    }

    /// The same for all that a source has since `since`: what is kept from then on and is not among them was withdrawn, and is forgotten.
    ///
    /// # Errors
    /// When the database fails; then nothing has changed.
    pub async fn replace_splits(&self, since: NaiveDate, splits: &[Split]) -> Result<(), StoreError> {
        const KEPT: &str = "SELECT symbol_id, session FROM splits WHERE session >= $1";
        const FORGET: &str = "DELETE FROM splits WHERE symbol_id = $1 AND session = $2";
        let ids = self.ids_of(splits).await?;
        let mut tx = self.begin().await?;
        let said = put_splits(&mut tx, splits, &ids).await?;
        for (symbol_id, session) in on!(tx.handle(), (i64, NaiveDate), KEPT, [since], fetch_all)? {
            if !said.contains(&(symbol_id, session)) {
                on!(tx.handle(), FORGET, [symbol_id, session])?;
            }
        }
        tx.commit().await
    }

    async fn ids_of(&self, splits: &[Split]) -> Result<Arc<HashMap<Box<str>, i64>>, StoreError> {
        let symbols: Vec<&str> = splits.iter().map(|split| split.symbol.as_str()).collect();
        self.symbol_ids(&symbols).await
    }

    /// Notes up to which date the splits since `since` have been taken from `source`, or forgets it with `None`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_splits(
        &self,
        source: &str,
        since: NaiveDate,
        reached: Option<NaiveDate>,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const FORGET: &str = "DELETE FROM backfills WHERE source = $1 AND unit LIKE $2";
        const NOTE: &str = "INSERT INTO backfills (source, unit, bars, done_at) VALUES ($1, $2, 0, $3)";
        let begin = splits_since(since);
        let mut tx = self.begin().await?;
        on!(tx.handle(), FORGET, [source, format!("{begin}%")])?;
        if let Some(reached) = reached {
            on!(tx.handle(), NOTE, [source, format!("{begin}{reached}"), at])?;
        }
        tx.commit().await
    }

    /// What [`Self::note_splits`] has noted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn splits_reached(&self, source: &str, since: NaiveDate) -> Result<Option<NaiveDate>, StoreError> {
        let (units, begin) = (self.backfilled(source).await?, splits_since(since));
        Ok(units.iter().filter_map(|unit| unit.strip_prefix(&begin)?.parse().ok()).max())
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

    /// Which symbols have a provider's daily bar from `from` to `to`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn symbols_with_provider_bars(
        &self,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<HashSet<String>, StoreError> {
        const SQL: &str = "SELECT h.symbol FROM history_symbols h WHERE EXISTS (SELECT 1 FROM bars_1d b WHERE b.symbol_id = h.id \
             AND b.session >= $1 AND b.session <= $2 AND b.from_provider)";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (String,), SQL, [from, to], fetch_all)?;
        Ok(rows.into_iter().map(|(symbol,)| symbol).collect())
    }

    /// Says anew how the market ended on dates from `from` to `to` of which no cycle was seen, by their daily bars: a symbol counts by its
    /// close and the one before, unless it was split in between. Left out are dates on which more than one of ten symbols has no close
    /// before (the first of a past), and those of which only a part of the symbols is known. Gives how many dates.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_market_days(
        &self,
        from: NaiveDate,
        to: NaiveDate,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        const FORGET: &str = "DELETE FROM market_days WHERE session >= $1 AND session <= $2 AND slot = $3";
        const SQL: &str = "WITH closes AS ( \
             SELECT b.session, b.close, CASE WHEN s.session IS NULL THEN LAG(b.close) OVER (PARTITION BY b.symbol_id ORDER BY b.session) END \
             AS before FROM bars_1d b LEFT JOIN splits s ON s.symbol_id = b.symbol_id AND s.session = b.session \
             WHERE b.session >= $5 AND b.session <= $2), \
             days AS (SELECT session, COUNT(*) AS total, COUNT(before) AS compared, \
             SUM(CASE WHEN close > before THEN 1 ELSE 0 END) AS gainers, SUM(CASE WHEN close < before THEN 1 ELSE 0 END) AS losers, \
             SUM(CASE WHEN close = before THEN 1 ELSE 0 END) AS unchanged, LAG(COUNT(*)) OVER (ORDER BY session) AS total_before \
             FROM closes GROUP BY session) \
             INSERT INTO market_days (session, slot, total, gainers, losers, unchanged, rolled_up_at) \
             SELECT session, $3, total, gainers, losers, unchanged, $4 FROM days WHERE session >= $1 AND compared * 10 >= total * 9 \
             AND total * 2 >= COALESCE(total_before, 0) ON CONFLICT (session) DO NOTHING";
        // Far enough back for the close before of the first date.
        let earlier = from - chrono::TimeDelta::days(10);
        let mut tx = self.begin().await?;
        // Of a cycle's the slot is never this.
        on!(tx.handle(), FORGET, [from, to, DateTime::UNIX_EPOCH])?;
        let counted = on!(tx.handle(), SQL, [from, to, DateTime::UNIX_EPOCH, at, earlier])?;
        tx.commit().await?;
        Ok(counted)
    }
}

/// Gives symbols and dates.
async fn put_splits(
    tx: &mut Tx,
    splits: &[Split],
    ids: &HashMap<Box<str>, i64>,
) -> Result<HashSet<(i64, NaiveDate)>, StoreError> {
    const SQL: &str = "INSERT INTO splits (symbol_id, session, numerator, denominator) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (symbol_id, session) DO UPDATE SET numerator = excluded.numerator, denominator = excluded.denominator";
    let mut put = HashSet::new();
    for split in splits {
        if let Some(id) = ids.get(split.symbol.as_str()) {
            on!(tx.handle(), SQL, [*id, split.date, split.numerator, split.denominator])?;
            put.insert((*id, split.date));
        }
    }
    Ok(put)
}

/// How the note of splits begins; what is reached follows.
fn splits_since(since: NaiveDate) -> String {
    format!("splits since {since} up to ")
}

fn raw(bar: &DailyBar) -> Bar {
    let [open, high, low, close] = [bar.open, bar.high, bar.low, bar.close].map(Price::units);
    Bar { at: 0, open, high, low, close, volume: Some(bar.volume) }
}
