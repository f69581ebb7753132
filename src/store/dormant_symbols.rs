//! Symbols that nothing is heard of, and when they are asked for next.

use chrono::{DateTime, Utc};

use super::dialect::on;
use super::{Store, StoreError};
use crate::market::SilentSymbol;

#[derive(sqlx::FromRow)]
struct SilentRow {
    symbol: String,
    failures: i32,
    since: DateTime<Utc>,
    last_asked: DateTime<Utc>,
    ask_after: DateTime<Utc>,
}

impl From<SilentRow> for SilentSymbol {
    fn from(row: SilentRow) -> Self {
        let SilentRow { symbol, failures, since, last_asked, ask_after } = row;
        Self { symbol, failures: u32::try_from(failures).unwrap_or(0), since, last_asked, ask_after }
    }
}

const KEEP: &str = "INSERT INTO dormant_symbols (symbol, failures, since, last_asked, ask_after) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (symbol) DO UPDATE SET failures = excluded.failures, since = excluded.since, \
    last_asked = excluded.last_asked, ask_after = excluded.ask_after";

impl Store {
    /// Those that are kept, in no order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dormant_symbols(&self) -> Result<Vec<SilentSymbol>, StoreError> {
        const SQL: &str = "SELECT symbol, failures, since, last_asked, ask_after FROM dormant_symbols";
        let mut connection = self.reader().await?;
        let rows = on!(connection.handle(), SilentRow, SQL, [], fetch_all)?;
        Ok(rows.into_iter().map(SilentSymbol::from).collect())
    }

    /// Keeps `dormant` and forgets `awake`, both or neither. They are few: a symbol that is dormant is asked for rarely.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn save_dormant_symbols(&self, dormant: &[SilentSymbol], awake: &[String]) -> Result<(), StoreError> {
        const FORGET: &str = "DELETE FROM dormant_symbols WHERE symbol = $1";
        let mut tx = self.begin().await?;
        for silent in dormant {
            let failures = i32::try_from(silent.failures).unwrap_or(i32::MAX);
            let binds = (silent.symbol.as_str(), silent.since, silent.last_asked, silent.ask_after);
            on!(tx.handle(), KEEP, [binds.0, failures, binds.1, binds.2, binds.3])?;
        }
        for symbol in awake {
            on!(tx.handle(), FORGET, [symbol.as_str()])?;
        }
        tx.commit().await
    }
}
