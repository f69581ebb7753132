//! Every symbol that was ever on the list, and the lists as they were last read.

use chrono::{DateTime, Utc};

use super::dialect::{Handle, on, within};
use super::{Store, StoreError};
use crate::market::{KnownSymbol, Listing, SymbolStatus};

/// Which version of the list the symbols are.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UniverseState {
    /// Grows by one each time the list is kept.
    pub revision: i64,
    /// `built-in`, `file` or `directories`.
    pub source: String,
    /// When the source was read.
    pub refreshed_at: DateTime<Utc>,
}

/// A list as it was last read.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UniverseDocument {
    /// Which one.
    pub name: String,
    /// Where it was read.
    pub place: String,
    /// What the server calls this version.
    pub etag: Option<String>,
    /// When the server says that it was made.
    pub last_modified: Option<String>,
    /// How many symbols it has.
    pub lines: i64,
    /// Its text.
    pub body: String,
    /// When it was read.
    pub fetched_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct SymbolRow {
    symbol: String,
    name: String,
    exchange: String,
    sector: String,
    etf: bool,
    cik: Option<i64>,
    status: String,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
}

impl From<SymbolRow> for KnownSymbol {
    fn from(row: SymbolRow) -> Self {
        let SymbolRow { symbol, name, exchange, sector, etf, cik, status, first_seen, last_seen } = row;
        let cik = cik.and_then(|cik| u32::try_from(cik).ok());
        let active = status == SymbolStatus::Active.name();
        Self {
            listing: Listing { symbol, name, exchange, sector, etf, cik },
            status: if active { SymbolStatus::Active } else { SymbolStatus::Delisted },
            first_seen,
            last_seen,
        }
    }
}

/// Rows of one SQLite INSERT: nine values each, below its 32,766 variables.
const ROWS_AT_ONCE: usize = 3_000;

macro_rules! upsert {
    () => {
        " ON CONFLICT (symbol) DO UPDATE SET name = excluded.name, exchange = excluded.exchange, sector = excluded.sector, \
         etf = excluded.etf, cik = excluded.cik, status = excluded.status, last_seen = excluded.last_seen, \
         revision = excluded.revision"
    };
}

const POSTGRES_UPSERT: &str = concat!(
    "INSERT INTO symbols (symbol, name, exchange, sector, etf, cik, status, first_seen, last_seen, revision) \
     SELECT u.*, 'active', $7::timestamptz, $7::timestamptz, $8::bigint FROM UNNEST($1::text[], $2::text[], $3::text[], \
     $4::text[], $5::boolean[], $6::bigint[]) AS u",
    upsert!()
);

const KEEP_DOCUMENT: &str = "INSERT INTO universe_documents (name, place, etag, last_modified, lines, body, fetched_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET place = excluded.place, etag = excluded.etag, \
    last_modified = excluded.last_modified, lines = excluded.lines, body = excluded.body, fetched_at = excluded.fetched_at";

impl Store {
    /// Every symbol that was ever on the list, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn symbols(&self) -> Result<Vec<KnownSymbol>, StoreError> {
        const SQL: &str = "SELECT symbol, name, exchange, sector, etf, cik, status, first_seen, last_seen FROM symbols";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), SymbolRow, SQL, [], fetch_all)?;
        let mut symbols: Vec<KnownSymbol> = rows.into_iter().map(KnownSymbol::from).collect();
        // By bytes, as a universe is; a database may have another order.
        symbols.sort_unstable_by(|a, b| a.listing.symbol.cmp(&b.listing.symbol));
        Ok(symbols)
    }

    /// How many symbols are active, and how many are delisted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_symbols(&self) -> Result<(i64, i64), StoreError> {
        const SQL: &str = "SELECT count(CASE WHEN status = 'active' THEN 1 END), count(CASE WHEN status = 'active' THEN NULL \
            ELSE 1 END) FROM symbols";
        let mut connection = self.reader().await?;
        on!(connection.handle(), (i64, i64), SQL, [], fetch_one)
    }

    /// Which version of the list is kept; `None` before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn universe_state(&self) -> Result<Option<UniverseState>, StoreError> {
        const SQL: &str = "SELECT revision, source, refreshed_at FROM universe WHERE id = 1";
        let mut connection = self.reader().await?;
        on!(connection.handle(), UniverseState, SQL, [], fetch_optional)
    }

    /// The lists as they were last read, in order of their names.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn universe_documents(&self) -> Result<Vec<UniverseDocument>, StoreError> {
        const SQL: &str = "SELECT * FROM universe_documents ORDER BY name";
        let mut connection = self.reader().await?;
        on!(connection.handle(), UniverseDocument, SQL, [], fetch_all)
    }

    /// Keeps a new list: what is on it is active, what is not is delisted and keeps its row. The documents it was made of are
    /// kept with it. All of it or nothing; gives the new version.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_universe(
        &self,
        listings: &[Listing],
        documents: &[UniverseDocument],
        source: &str,
        now: DateTime<Utc>,
    ) -> Result<i64, StoreError> {
        const STATE: &str = "INSERT INTO universe (id, revision, source, refreshed_at) VALUES (1, 1, $1, $2) \
            ON CONFLICT (id) DO UPDATE SET revision = universe.revision + 1, source = excluded.source, \
            refreshed_at = excluded.refreshed_at RETURNING revision, source, refreshed_at";
        const DELIST: &str = "UPDATE symbols SET status = 'delisted' WHERE status = 'active' AND revision < $1";
        let mut tx = self.begin().await?;
        // First, so that two instances that keep a list at once take turns.
        let state = on!(tx.handle(), UniverseState, STATE, [source, now], fetch_one)?;
        for rows in listings.chunks(ROWS_AT_ONCE) {
            upsert_symbols(tx.handle(), rows, now, state.revision).await?;
        }
        on!(tx.handle(), DELIST, [state.revision])?;
        for document in documents {
            let UniverseDocument { name, place, etag, last_modified, lines, body, fetched_at } = document.clone();
            on!(tx.handle(), KEEP_DOCUMENT, [name, place, etag, last_modified, lines, body, fetched_at])?;
        }
        tx.commit().await?;
        Ok(state.revision)
    }
}

async fn upsert_symbols(
    handle: Handle<'_>,
    rows: &[Listing],
    now: DateTime<Utc>,
    revision: i64,
) -> Result<(), StoreError> {
    match handle {
        Handle::Sqlite(connection, deadline) => {
            let mut insert = sqlx::QueryBuilder::<sqlx::Sqlite>::new(
                "INSERT INTO symbols (symbol, name, exchange, sector, etf, cik, status, first_seen, last_seen, revision) ",
            );
            insert.push_values(rows, |mut row, listing| {
                row.push_bind(listing.symbol.as_str()).push_bind(listing.name.as_str());
                row.push_bind(listing.exchange.as_str()).push_bind(listing.sector.as_str());
                row.push_bind(listing.etf).push_bind(listing.cik.map(i64::from)).push("'active'");
                row.push_bind(now).push_bind(now).push_bind(revision);
            });
            insert.push(upsert!());
            within(deadline, insert.build().execute(connection)).await?;
        }
        Handle::Postgres(session, route) => {
            let text = |of: fn(&Listing) -> &str| -> Vec<String> {
                rows.iter().map(|listing| of(listing).to_owned()).collect()
            };
            let query = sqlx::query::<sqlx::Postgres>(POSTGRES_UPSERT)
                .bind(text(|listing| &listing.symbol))
                .bind(text(|listing| &listing.name))
                .bind(text(|listing| &listing.exchange))
                .bind(text(|listing| &listing.sector))
                .bind(rows.iter().map(|listing| listing.etf).collect::<Vec<_>>())
                .bind(rows.iter().map(|listing| listing.cik.map(i64::from)).collect::<Vec<_>>())
                .bind(now)
                .bind(revision)
                .persistent(!route.pooled);
            on!(@postgres session, route, query, execute)?;
        }
    }
    Ok(())
}
