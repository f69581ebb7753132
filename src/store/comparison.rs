//! What of a provider's lists is in the books.

use super::dialect::{by_engine, on};
use super::{Store, StoreError};

/// A payment as the books have it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct KnownPayment {
    /// The provider's id of it.
    pub id: String,
    /// How much, in the smallest unit of its currency.
    pub amount_minor: i64,
    /// In which currency (ISO 4217).
    pub currency: String,
}

impl Store {
    /// Those of these payments that are known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_payments(&self, ids: &[String]) -> Result<Vec<KnownPayment>, StoreError> {
        const SQL: &str =
            "SELECT id, amount_minor, currency FROM payments WHERE id IN (SELECT value FROM json_each($1))";
        const POSTGRES: &str =
            "SELECT id, amount_minor, currency FROM payments WHERE id IN (SELECT json_array_elements_text($1::JSON))";
        let mut connection = self.reader().await?;
        let sql = by_engine(&connection.handle(), SQL, POSTGRES);
        on!(connection.handle(), KnownPayment, sql, [list(ids)?], fetch_all)
    }

    /// Those of these ids that are a refund or a reversal that is known, or a payment of which one is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_reversals(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT id FROM reversals WHERE id IN (SELECT value FROM json_each($1)) \
             UNION SELECT payment_id FROM reversals WHERE payment_id IN (SELECT value FROM json_each($1))";
        const POSTGRES: &str = "SELECT id FROM reversals WHERE id IN (SELECT json_array_elements_text($1::JSON)) \
             UNION SELECT payment_id FROM reversals WHERE payment_id IN (SELECT json_array_elements_text($1::JSON))";
        let mut connection = self.reader().await?;
        let sql = by_engine(&connection.handle(), SQL, POSTGRES);
        let rows = on!(connection.handle(), (String,), sql, [list(ids)?], fetch_all)?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}

fn list(ids: &[String]) -> Result<String, StoreError> {
    serde_json::to_string(ids).map_err(|fault| StoreError::Unreadable(fault.to_string()))
}
