//! What is kept of the past: the points of cycles until their session is rolled up, and then a compact row of points, one of
//! quarter-hour bars and a daily bar for each symbol.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, NaiveDate, Utc};

use super::dialect::{Handle, by_engine, on, within};
use super::{Store, StoreError};
use crate::market::codec::{Damaged, SymbolPoint, decode_bars, decode_points, decode_track};
use crate::market::{Bar, MarketDay, Point, QUARTER_HOUR};

/// Rows of points that are read at a time: about a megabyte.
const ROWS_AT_ONCE: i64 = 10;

/// Rows of one SQLite INSERT: eight columns at most, far below its 32,766 variables.
const INSERTED_AT_ONCE: usize = 2_000;

/// How often symbols are numbered anew when another process has taken the numbers.
const TRIES: usize = 5;

/// The numbers of symbols as far as this process knows them. A number is never given to another symbol.
pub(super) type SymbolIds = Arc<ArcSwap<HashMap<Box<str>, i64>>>;

/// The points of one cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct CyclePoints {
    /// The slot of the cycle.
    pub slot: DateTime<Utc>,
    /// When it had its last answer: a slot may have been tried twice.
    pub finished_at: DateTime<Utc>,
    /// By the numbers of their symbols.
    pub points: Vec<SymbolPoint>,
}

/// What becomes of a session for one symbol.
#[derive(Debug, Clone, PartialEq)]
pub struct SymbolSession {
    /// The number of the symbol.
    pub symbol_id: i64,
    /// Its points (`encode_track`).
    pub points: Vec<u8>,
    /// Its quarter-hour bars (`encode_bars`).
    pub bars: Vec<u8>,
    /// Its daily bar.
    pub daily: Option<Bar>,
}

#[derive(sqlx::FromRow)]
struct PointsRow {
    slot: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    points: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct BlobRow {
    session: NaiveDate,
    content: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct DayRow {
    session: NaiveDate,
    total: i64,
    gainers: i64,
    losers: i64,
    unchanged: i64,
}

impl Store {
    /// The numbers of symbols, which are given to those that have none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn symbol_ids(&self, symbols: &[&str]) -> Result<Arc<HashMap<Box<str>, i64>>, StoreError> {
        for _ in 0..TRIES {
            let ids = self.symbols.load_full();
            let mut unknown: Vec<&str> = symbols.iter().copied().filter(|symbol| !ids.contains_key(*symbol)).collect();
            // Each once, so that no numbers are left out between them.
            unknown.sort_unstable();
            unknown.dedup();
            if unknown.is_empty() {
                return Ok(ids);
            }
            // A process that has just begun knows none of those that there are.
            let known = self.symbols_by_id().await?;
            let known: HashMap<Box<str>, i64> = known.into_iter().map(|(id, symbol)| (symbol, id)).collect();
            let unknown: Vec<&str> = unknown.into_iter().filter(|symbol| !known.contains_key(*symbol)).collect();
            self.symbols.store(Arc::new(known));
            if !unknown.is_empty() {
                self.number_symbols(&unknown).await?;
            }
        }
        Err(StoreError::Unreadable("history_symbols: some symbols have no number".to_owned()))
    }

    /// The numbers of symbols that this process knows.
    pub(super) fn known_symbol_ids(&self) -> Arc<HashMap<Box<str>, i64>> {
        self.symbols.load_full()
    }

    /// Numbers that another process takes in the same moment are left to it.
    async fn number_symbols(&self, symbols: &[&str]) -> Result<(), StoreError> {
        const SQLITE: &str = "INSERT INTO history_symbols (id, symbol) SELECT (SELECT COALESCE(MAX(id), 0) FROM \
             history_symbols) + ROW_NUMBER() OVER (ORDER BY value), value FROM json_each($1) WHERE true ON CONFLICT DO NOTHING";
        const POSTGRES: &str = "INSERT INTO history_symbols (id, symbol) SELECT (SELECT COALESCE(MAX(id), 0) FROM \
             history_symbols) + ROW_NUMBER() OVER (ORDER BY value), value FROM json_array_elements_text($1::json) AS names(value) \
             ON CONFLICT DO NOTHING";
        let names = serde_json::to_string(symbols).unwrap_or_default();
        let mut connection = self.writer().await?;
        let handle = connection.handle();
        let sql = by_engine(&handle, SQLITE, POSTGRES);
        on!(handle, sql, [names]).map(|_| ())
    }

    /// Every symbol that has a number, by it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn symbols_by_id(&self) -> Result<HashMap<i64, Box<str>>, StoreError> {
        const SQL: &str = "SELECT id, symbol FROM history_symbols";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (i64, String), SQL, [], fetch_all)?;
        Ok(rows.into_iter().map(|(id, symbol)| (id, symbol.into_boxed_str())).collect())
    }

    /// The number of a symbol that has any history.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn symbol_id(&self, symbol: &str) -> Result<Option<i64>, StoreError> {
        const SQL: &str = "SELECT id FROM history_symbols WHERE symbol = $1";
        let mut connection = self.reader().await?;
        let row = on!(connection.handle(), (i64,), SQL, [symbol], fetch_optional)?;
        Ok(row.map(|(id,)| id))
    }

    /// The points of the cycles of a session after the slot and end given, in order: a few cycles at a time, none when there are no more.
    ///
    /// # Errors
    /// When the database fails or holds what this version cannot read.
    pub async fn cycle_points(
        &self,
        session: NaiveDate,
        after: Option<(DateTime<Utc>, DateTime<Utc>)>,
    ) -> Result<Vec<CyclePoints>, StoreError> {
        const SQL: &str = "SELECT slot, finished_at, points FROM cycle_points WHERE session = $1 AND (slot, finished_at) > ($2, $3) \
             ORDER BY slot, finished_at LIMIT $4";
        let (slot, end) = after.unwrap_or((DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH));
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), PointsRow, SQL, [session, slot, end, ROWS_AT_ONCE], fetch_all)?;
        let decoded = rows.into_iter().map(|PointsRow { slot, finished_at, points }| {
            let points = decode_points(slot.timestamp(), &points).map_err(|fault| unreadable("cycle_points", fault))?;
            Ok(CyclePoints { slot, finished_at, points })
        });
        decoded.collect()
    }

    /// The newest `limit` sessions of which the state of the whole market is known, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn market_days(&self, limit: u32) -> Result<Vec<MarketDay>, StoreError> {
        const SQL: &str =
            "SELECT session, total, gainers, losers, unchanged FROM market_days ORDER BY session DESC LIMIT $1";
        let mut connection = self.reader().await?;
        let mut rows = on!(connection.handle(), DayRow, SQL, [i64::from(limit)], fetch_all)?;
        rows.reverse();
        let day = |DayRow { session, total, gainers, losers, unchanged }| MarketDay {
            session,
            total,
            gainers,
            losers,
            unchanged,
        };
        Ok(rows.into_iter().map(day).collect())
    }

    /// Sessions up to `last` whose points have not become rows of their symbols yet, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sessions_to_roll_up(&self, last: NaiveDate) -> Result<Vec<NaiveDate>, StoreError> {
        const SQL: &str =
            "SELECT session FROM market_days WHERE rolled_up_at IS NULL AND session <= $1 ORDER BY session";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), (NaiveDate,), SQL, [last], fetch_all)?;
        Ok(rows.into_iter().map(|(session,)| session).collect())
    }

    /// Whether there are bars of a session already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_bars(&self, session: NaiveDate) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT symbol_id FROM bars_15m WHERE session = $1 LIMIT 1";
        let mut connection = self.reader().await?;
        on!(connection.handle(), (i64,), SQL, [session], fetch_optional).map(|found| found.is_some())
    }

    /// Keeps a session that was rolled up, all of it or nothing. `whole`: it was made of all points of the session and replaces what
    /// is there; otherwise points are replaced, but bars that are there stay. Bars of a provider always stay.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_session(
        &self,
        session: NaiveDate,
        rows: &[SymbolSession],
        whole: bool,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const ROLLED_UP: &str = "UPDATE market_days SET rolled_up_at = $1 WHERE session = $2";
        let points: Vec<_> = rows.iter().map(|row| (row.symbol_id, row.points.as_slice())).collect();
        let bars: Vec<_> = rows.iter().map(|row| (row.symbol_id, row.bars.as_slice())).collect();
        let daily: Vec<_> = rows.iter().filter_map(|row| Some((row.symbol_id, session, row.daily?))).collect();
        let mut tx = self.begin().await?;
        for rows in points.chunks(INSERTED_AT_ONCE) {
            put_blobs(tx.handle(), Blobs::Points, session, rows, true).await?;
        }
        for rows in bars.chunks(INSERTED_AT_ONCE) {
            put_blobs(tx.handle(), Blobs::Bars, session, rows, whole).await?;
        }
        for rows in daily.chunks(INSERTED_AT_ONCE) {
            put_daily(tx.handle(), rows, false).await?;
        }
        on!(tx.handle(), ROLLED_UP, [at, session])?;
        tx.commit().await
    }

    /// The points of a symbol in the sessions from `from` to `to`, of at most `limit` sessions, oldest first.
    ///
    /// # Errors
    /// When the database fails or holds what this version cannot read.
    pub async fn points_of(
        &self,
        symbol_id: i64,
        from: NaiveDate,
        to: NaiveDate,
        limit: u32,
    ) -> Result<Vec<(NaiveDate, Vec<Point>)>, StoreError> {
        // The dates first: then each row is found by its key, and no other symbol's is looked at.
        const SQL: &str = "SELECT d.session, s.points AS content FROM market_days d CROSS JOIN symbol_days s \
             WHERE d.session >= $2 AND d.session <= $3 AND s.session = d.session AND s.symbol_id = $1 ORDER BY d.session LIMIT $4";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), BlobRow, SQL, [symbol_id, from, to, i64::from(limit)], fetch_all)?;
        let decoded = rows.into_iter().map(|BlobRow { session, content }| {
            decode_track(&content).map(|points| (session, points)).map_err(|fault| unreadable("symbol_days", fault))
        });
        decoded.collect()
    }

    /// The same for its quarter-hour bars.
    ///
    /// # Errors
    /// When the database fails or holds what this version cannot read.
    pub async fn quarter_hours_of(
        &self,
        symbol_id: i64,
        from: NaiveDate,
        to: NaiveDate,
        limit: u32,
    ) -> Result<Vec<(NaiveDate, Vec<Bar>)>, StoreError> {
        const SQL: &str = "SELECT d.session, s.bars AS content FROM market_days d CROSS JOIN bars_15m s \
             WHERE d.session >= $2 AND d.session <= $3 AND s.session = d.session AND s.symbol_id = $1 ORDER BY d.session LIMIT $4";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), BlobRow, SQL, [symbol_id, from, to, i64::from(limit)], fetch_all)?;
        let decoded = rows.into_iter().map(|BlobRow { session, content }| {
            decode_bars(QUARTER_HOUR, &content)
                .map(|bars| (session, bars))
                .map_err(|fault| unreadable("bars_15m", fault))
        });
        decoded.collect()
    }

    /// Forgets points of sessions before `points`, quarter-hour bars of sessions before `bars`, and what cycles have brought in sessions
    /// before `cycles` that are rolled up. Gives how many rows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_history(
        &self,
        points: NaiveDate,
        bars: NaiveDate,
        cycles: NaiveDate,
    ) -> Result<u64, StoreError> {
        const POINTS: &str = "DELETE FROM symbol_days WHERE session < $1";
        const BARS: &str = "DELETE FROM bars_15m WHERE session < $1";
        const CYCLES: &str = "DELETE FROM cycle_points WHERE session < $1 AND session IN (SELECT session FROM market_days WHERE \
             rolled_up_at IS NOT NULL)";
        let mut connection = self.writer().await?;
        let mut forgotten = on!(connection.handle(), POINTS, [points])?;
        forgotten += on!(connection.handle(), BARS, [bars])?;
        Ok(forgotten + on!(connection.handle(), CYCLES, [cycles])?)
    }
}

pub(super) fn unreadable(table: &str, fault: Damaged) -> StoreError {
    StoreError::Unreadable(format!("{table}: {fault}"))
}

/// The two tables of compact rows.
#[derive(Clone, Copy)]
enum Blobs {
    Points,
    Bars,
}

impl Blobs {
    fn insert(self) -> &'static str {
        match self {
            Self::Points => "INSERT INTO symbol_days (session, symbol_id, points) ",
            Self::Bars => "INSERT INTO bars_15m (session, symbol_id, bars) ",
        }
    }

    fn on_conflict(self, replace: bool) -> &'static str {
        match (self, replace) {
            (_, false) => " ON CONFLICT (session, symbol_id) DO NOTHING",
            (Self::Points, true) => " ON CONFLICT (session, symbol_id) DO UPDATE SET points = excluded.points",
            (Self::Bars, true) => " ON CONFLICT (session, symbol_id) DO UPDATE SET bars = excluded.bars",
        }
    }
}

/// Rows of one of them.
async fn put_blobs(
    handle: Handle<'_>,
    table: Blobs,
    session: NaiveDate,
    rows: &[(i64, &[u8])],
    replace: bool,
) -> Result<(), StoreError> {
    match handle {
        Handle::Sqlite(connection, deadline) => {
            let mut insert = sqlx::QueryBuilder::<sqlx::Sqlite>::new(table.insert());
            insert.push_values(rows, |mut row, (symbol_id, content)| {
                row.push_bind(session).push_bind(*symbol_id).push_bind(*content);
            });
            insert.push(table.on_conflict(replace));
            within(deadline, insert.build().persistent(rows.len() == INSERTED_AT_ONCE).execute(connection)).await?;
        }
        Handle::Postgres(server, route) => {
            let mut insert = sqlx::QueryBuilder::<sqlx::Postgres>::new(table.insert());
            insert.push("SELECT ").push_bind(session).push("::date, u.* FROM UNNEST(");
            insert.push_bind(rows.iter().map(|(symbol_id, _)| *symbol_id).collect::<Vec<_>>()).push("::bigint[], ");
            insert.push_bind(rows.iter().map(|(_, content)| content.to_vec()).collect::<Vec<_>>());
            insert.push("::bytea[]) AS u").push(table.on_conflict(replace));
            let query = insert.build().persistent(!route.pooled);
            on!(@postgres server, route, query, execute)?;
        }
    }
    Ok(())
}

/// Daily bars: symbol, session, bar. One that a provider gave is replaced only by a provider's.
pub(super) async fn put_daily(
    handle: Handle<'_>,
    rows: &[(i64, NaiveDate, Bar)],
    from_provider: bool,
) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO bars_1d (symbol_id, session, open, high, low, close, volume, from_provider) ";
    const ON_CONFLICT: &str = " ON CONFLICT (symbol_id, session) DO UPDATE SET open = excluded.open, high = excluded.high, \
         low = excluded.low, close = excluded.close, volume = excluded.volume, from_provider = excluded.from_provider \
         WHERE excluded.from_provider OR NOT bars_1d.from_provider";
    match handle {
        Handle::Sqlite(connection, deadline) => {
            let mut insert = sqlx::QueryBuilder::<sqlx::Sqlite>::new(INSERT);
            insert.push_values(rows, |mut row, (symbol_id, session, bar)| {
                row.push_bind(*symbol_id).push_bind(*session);
                row.push_bind(bar.open).push_bind(bar.high).push_bind(bar.low).push_bind(bar.close);
                row.push_bind(bar.volume).push_bind(from_provider);
            });
            insert.push(ON_CONFLICT);
            within(deadline, insert.build().persistent(rows.len() == INSERTED_AT_ONCE).execute(connection)).await?;
        }
        Handle::Postgres(server, route) => {
            let column = |of: fn(&Bar) -> i64| rows.iter().map(|(.., bar)| of(bar)).collect::<Vec<i64>>();
            let mut insert = sqlx::QueryBuilder::<sqlx::Postgres>::new(INSERT);
            insert.push("SELECT u.*, ").push_bind(from_provider).push("::boolean FROM UNNEST(");
            insert.push_bind(rows.iter().map(|(symbol_id, ..)| *symbol_id).collect::<Vec<_>>()).push("::bigint[], ");
            insert.push_bind(rows.iter().map(|(_, session, _)| *session).collect::<Vec<_>>()).push("::date[], ");
            for column in
                [column(|bar| bar.open), column(|bar| bar.high), column(|bar| bar.low), column(|bar| bar.close)]
            {
                insert.push_bind(column).push("::bigint[], ");
            }
            insert.push_bind(rows.iter().map(|(.., bar)| bar.volume).collect::<Vec<_>>()).push("::bigint[]) AS u");
            insert.push(ON_CONFLICT);
            let query = insert.build().persistent(!route.pooled);
            on!(@postgres server, route, query, execute)?;
        }
    }
    Ok(())
}
