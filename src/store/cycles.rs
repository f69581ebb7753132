//! Published cycles and the last known quote of each symbol: what the daemon serves again after a restart.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, Sqlite};
use uuid::Uuid;

use super::dialect::{Handle, Tx, on, within};
use super::{Store, StoreError};
use crate::market::codec::{CycleHead, SymbolPoint, encode_points};
use crate::market::{Cycle, MarketDay, Point, Price, Quote, QuoteFlags};

/// A published cycle as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct CycleRecord {
    /// What readers see of it.
    pub cycle: Cycle,
    /// The source said that its data is delayed.
    pub delayed: bool,
    /// Why it was incomplete.
    pub cause: Option<String>,
}

/// A quote as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredQuote {
    /// Its symbol.
    pub symbol: String,
    /// The quote.
    pub quote: Quote,
    /// The cycle that brought it.
    pub cycle_id: String,
}

#[derive(sqlx::FromRow)]
struct CycleRow {
    #[sqlx(try_from = "String")]
    id: Uuid,
    slot: DateTime<Utc>,
    source: String,
    simulated: bool,
    delayed: bool,
    as_of: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    expected: i64,
    fresh: i64,
    failed: i64,
    cause: Option<String>,
}

#[derive(sqlx::FromRow)]
struct QuoteRow {
    symbol: String,
    quoted_at: DateTime<Utc>,
    price: i64,
    previous_close: Option<i64>,
    open: Option<i64>,
    high: Option<i64>,
    low: Option<i64>,
    bid: Option<i64>,
    ask: Option<i64>,
    volume: Option<i64>,
    flags: i32,
    cycle_id: String,
}

/// What a conflict does, the same on both engines.
macro_rules! upsert {
    () => {
        " ON CONFLICT (symbol) DO UPDATE SET quoted_at = excluded.quoted_at, price = excluded.price, \
         previous_close = excluded.previous_close, open = excluded.open, high = excluded.high, low = excluded.low, \
         bid = excluded.bid, ask = excluded.ask, volume = excluded.volume, flags = excluded.flags, \
         cycle_id = excluded.cycle_id WHERE excluded.quoted_at >= quotes.quoted_at"
    };
}

/// Rows of one SQLite INSERT, most first: each number has a text of its own, which stays prepared, and the quotes of a cycle are cut
/// to them. Measured, rows in hundreds are 90 times faster than single ones.
const ROWS_AT_ONCE: [usize; 4] = [512, 64, 8, 1];

/// Columns of a row.
const COLUMNS: usize = 12;

/// Those texts.
static SQLITE_UPSERTS: LazyLock<[String; ROWS_AT_ONCE.len()]> = LazyLock::new(|| {
    ROWS_AT_ONCE.map(|rows| {
        let row = format!("({})", ["?"; COLUMNS].join(", "));
        let values = vec![row; rows].join(", ");
        format!(
            "INSERT INTO quotes (symbol, quoted_at, price, previous_close, open, high, low, bid, ask, volume, flags, cycle_id) \
             VALUES {values}{}",
            upsert!()
        )
    })
});

const POSTGRES_UPSERT: &str = concat!(
    "INSERT INTO quotes (symbol, quoted_at, price, previous_close, open, high, low, bid, ask, volume, flags, cycle_id) \
     SELECT u.*, $12::text FROM UNNEST($1::text[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], \
     $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::int[]) AS u",
    upsert!()
);

impl Store {
    /// Keeps a cycle: the quotes it brought, its points of the session, and what the market as a whole was, all or nothing. A quote never
    /// replaces a newer one, nor does the market as a whole, and the same cycle kept twice changes nothing. `quotes` may leave out those
    /// of which a newer cycle is about to be kept; `points` may not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_cycle(
        &self,
        head: &CycleHead,
        points: &[(&str, Point)],
        quotes: &[(&Arc<str>, &Quote)],
    ) -> Result<(), StoreError> {
        let id = head.cycle.id.to_string();
        let mut ids = self.known_symbol_ids();
        if ids.len() < points.len() {
            ids = self.symbol_ids(&points.iter().map(|(symbol, _)| *symbol).collect::<Vec<_>>()).await?;
        }
        let mut tx = self.begin().await?;
        // Reckoned while SQLite, on its own thread, or the server writes the first quotes. `None`: one has no number yet.
        let numbered = async {
            let numbered = points.iter().map(|(symbol, point)| {
                let symbol_id = *ids.get(*symbol)?;
                Some(SymbolPoint { symbol_id, point: *point })
            });
            let mut numbered = numbered.collect::<Option<Vec<_>>>()?;
            Some(encode_points(head.cycle.slot.timestamp(), &mut numbered))
        };
        let (written, encoded) = tokio::join!(upsert_quotes(tx.handle(), &id, quotes), numbered);
        written?;
        let Some(points) = encoded else {
            // It happens once to a symbol that is new: numbered first, then all of it again.
            drop(tx);
            self.symbol_ids(&points.iter().map(|(symbol, _)| *symbol).collect::<Vec<_>>()).await?;
            return Box::pin(self.save_cycle(head, points, quotes)).await;
        };
        insert_cycle(tx.handle(), head).await?;
        if let Some(day) = &head.day {
            insert_points(&mut tx, &head.cycle, day, points).await?;
        }
        tx.commit().await
    }

    /// The newest cycle, or `None` before the first.
    ///
    /// # Errors
    /// When the database fails or holds a value this version cannot read.
    pub async fn last_cycle(&self) -> Result<Option<CycleRecord>, StoreError> {
        const SQL: &str = "SELECT * FROM cycles ORDER BY slot DESC, id DESC LIMIT 1";
        let mut connection = self.reader().await?;
        let row = on!(connection.handle(), CycleRow, SQL, [], fetch_optional)?;
        row.map(CycleRecord::try_from).transpose()
    }

    /// Every stored quote, in no order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quotes(&self) -> Result<Vec<StoredQuote>, StoreError> {
        const SQL: &str = "SELECT * FROM quotes";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), QuoteRow, SQL, [], fetch_all)?;
        Ok(rows.into_iter().map(QuoteRow::into_quote).collect())
    }

    /// Forgets cycles whose slot is older than `before`, the newest excepted. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_cycles(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM cycles WHERE slot < $1 AND slot < (SELECT MAX(slot) FROM cycles)";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [before])
    }
}

/// A slot that is tried again has the same cycle; what its last try has brought holds.
async fn insert_cycle(handle: Handle<'_>, head: &CycleHead) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO cycles (id, slot, source, simulated, delayed, as_of, finished_at, expected, fresh, \
         failed, cause) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO UPDATE SET as_of = excluded.as_of, finished_at = excluded.finished_at, \
         expected = excluded.expected, fresh = excluded.fresh, failed = excluded.failed, delayed = excluded.delayed, \
         cause = excluded.cause WHERE excluded.finished_at > cycles.finished_at";
    let CycleHead { cycle, delayed, cause, .. } = head;
    let (id, source) = (cycle.id.to_string(), cycle.source.as_str());
    let [expected, fresh, failed] = [cycle.expected, cycle.fresh, cycle.failed].map(i64::from);
    let (slot, as_of, finished_at) = (cycle.slot, cycle.as_of, cycle.finished_at);
    #[rustfmt::skip]
    let binds = on!(handle, INSERT, [
        id, slot, source, cycle.simulated, *delayed, as_of, finished_at, expected, fresh, failed, cause.as_deref(),
    ]);
    binds.map(|_| ())
}

/// The points of a session that was rolled up already are to be rolled up again.
async fn insert_points(tx: &mut Tx, cycle: &Cycle, day: &MarketDay, points: Vec<u8>) -> Result<(), StoreError> {
    const POINTS: &str = "INSERT INTO cycle_points (slot, finished_at, session, points) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (slot, finished_at) DO NOTHING";
    const DAY: &str = "INSERT INTO market_days (session, slot, total, gainers, losers, unchanged) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (session) DO UPDATE SET slot = excluded.slot, total = excluded.total, gainers = excluded.gainers, \
         losers = excluded.losers, unchanged = excluded.unchanged WHERE excluded.slot >= market_days.slot";
    const AGAIN: &str = "UPDATE market_days SET rolled_up_at = NULL WHERE session = $1 AND rolled_up_at IS NOT NULL";
    let (slot, session) = (cycle.slot, day.session);
    let new = on!(tx.handle(), POINTS, [slot, cycle.finished_at, session, points])?;
    on!(tx.handle(), DAY, [session, slot, day.total, day.gainers, day.losers, day.unchanged])?;
    if new > 0 {
        on!(tx.handle(), AGAIN, [session])?;
    }
    Ok(())
}

async fn upsert_quotes(handle: Handle<'_>, cycle: &str, rows: &[(&Arc<str>, &Quote)]) -> Result<(), StoreError> {
    match handle {
        Handle::Sqlite(connection, deadline) => {
            let mut statements = cut(rows).map(|(sql, rows)| upsert(sql, cycle, rows));
            let mut next = statements.next();
            while let Some(statement) = next {
                // SQLite works on a thread of its own: while it writes these, the next are bound.
                let written = within(deadline, statement?.execute(&mut *connection));
                let (written, following) = tokio::join!(written, async { statements.next() });
                written?;
                next = following;
            }
        }
        Handle::Postgres(session, route) => {
            let mut query = sqlx::query::<sqlx::Postgres>(POSTGRES_UPSERT)
                .bind(rows.iter().map(|(symbol, _)| &***symbol).collect::<Vec<&str>>())
                .bind(column(rows, |(_, quote)| quote.at))
                .bind(column(rows, |(_, quote)| quote.price.units()));
            for index in 0..6 {
                query = query.bind(column(rows, |(_, quote)| prices(quote)[index]));
            }
            let query = query
                .bind(column(rows, |(_, quote)| quote.volume))
                .bind(column(rows, |(_, quote)| quote.flags.0))
                .bind(cycle)
                .persistent(!route.pooled);
            on!(@postgres session, route, query, execute)?;
        }
    }
    Ok(())
}

/// Each part with the text that takes it.
fn cut<'a>(
    rows: &'a [(&'a Arc<str>, &'a Quote)],
) -> impl Iterator<Item = (&'static str, &'a [(&'a Arc<str>, &'a Quote)])> {
    let mut left = rows;
    ROWS_AT_ONCE.into_iter().zip(SQLITE_UPSERTS.iter()).flat_map(move |(size, sql)| {
        let (whole, rest) = left.split_at(left.len() - left.len() % size);
        left = rest;
        whole.chunks(size).map(move |rows| (sql.as_str(), rows))
    })
}

fn upsert(
    sql: &'static str,
    cycle: &str,
    rows: &[(&Arc<str>, &Quote)],
) -> Result<Query<'static, Sqlite, SqliteArguments>, StoreError> {
    // One for each statement: two threads that count the holders of the same text wait for each other.
    let cycle: Arc<str> = cycle.into();
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * COLUMNS, 0);
    let bound = rows.iter().try_for_each(|(symbol, quote)| {
        arguments.add(Arc::clone(symbol))?;
        arguments.add(instant_text(quote.at))?;
        arguments.add(quote.price.units())?;
        prices(quote).into_iter().try_for_each(|price| arguments.add(price))?;
        arguments.add(quote.volume)?;
        arguments.add(quote.flags.0)?;
        arguments.add(Arc::clone(&cycle))
    });
    bound.map_err(sqlx::Error::Encode)?;
    Ok(sqlx::query_with(sql, arguments))
}

/// An instant as sqlx writes it, which is what the column is compared as: `2027-03-15T14:03:00.120+00:00`, with no more digits than it
/// takes. By hand, because a cycle has ten thousand of them; what is out of the ordinary is left to chrono.
fn instant_text(at: DateTime<Utc>) -> Arc<str> {
    let nanos = at.timestamp_subsec_nanos();
    let Some(year) = u32::try_from(at.year()).ok().filter(|year| *year < 10_000 && nanos < 1_000_000_000) else {
        return at.to_rfc3339_opts(SecondsFormat::AutoSi, false).into();
    };
    let mut text = *b"0000-00-00T00:00:00.000000000+00:00";
    put(&mut text[0..4], year);
    put(&mut text[5..7], at.month());
    put(&mut text[8..10], at.day());
    put(&mut text[11..13], at.hour());
    put(&mut text[14..16], at.minute());
    put(&mut text[17..19], at.second());
    put(&mut text[20..29], nanos);
    let end = match nanos {
        0 => 19,
        _ if nanos.is_multiple_of(1_000_000) => 23,
        _ if nanos.is_multiple_of(1_000) => 26,
        _ => 29,
    };
    text.copy_within(29..35, end);
    String::from_utf8_lossy(&text[..end + 6]).into()
}

/// Writes `number` into `digits`, as many as there are.
fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// One array a column: PostgreSQL takes a whole cycle in one statement this way, measured 28 times faster than rows.
fn column<T>(rows: &[(&Arc<str>, &Quote)], of: impl Fn(&(&Arc<str>, &Quote)) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}

/// The optional prices in the order of the columns.
fn prices(quote: &Quote) -> [Option<i64>; 6] {
    [quote.previous_close, quote.open, quote.high, quote.low, quote.bid, quote.ask].map(|price| price.map(Price::units))
}

impl TryFrom<CycleRow> for CycleRecord {
    type Error = StoreError;

    fn try_from(row: CycleRow) -> Result<Self, StoreError> {
        let count = |number: i64| {
            u32::try_from(number).map_err(|_| StoreError::Unreadable(format!("cycle {}: count {number}", row.id)))
        };
        let cycle = Cycle {
            id: row.id,
            slot: row.slot,
            source: row.source,
            simulated: row.simulated,
            as_of: row.as_of,
            finished_at: row.finished_at,
            expected: count(row.expected)?,
            fresh: count(row.fresh)?,
            failed: count(row.failed)?,
        };
        Ok(Self { cycle, delayed: row.delayed, cause: row.cause })
    }
}

impl QuoteRow {
    fn into_quote(self) -> StoredQuote {
        let price = |units: Option<i64>| units.map(Price::from_units);
        let quote = Quote {
            at: self.quoted_at,
            price: Price::from_units(self.price),
            previous_close: price(self.previous_close),
            open: price(self.open),
            high: price(self.high),
            low: price(self.low),
            bid: price(self.bid),
            ask: price(self.ask),
            volume: self.volume,
            flags: QuoteFlags(self.flags),
        };
        StoredQuote { symbol: self.symbol, quote, cycle_id: self.cycle_id }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_instant_is_written_as_sqlx_writes_it(seconds in -70_000_000_000_i64..300_000_000_000, nanos in 0_u32..2_000_000_000, digits in 0_u32..10) {
            // As many digits as are wanted; a leap second too.
            let step = 10_u32.pow(9 - digits);
            if let Some(at) = DateTime::from_timestamp(seconds, nanos / step * step) {
                prop_assert_eq!(&*instant_text(at), at.to_rfc3339_opts(SecondsFormat::AutoSi, false));
            }
        }
    }
}
