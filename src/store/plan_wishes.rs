//! What accounts want to have next. It gives nothing: what is given is what was paid for.

use chrono::{DateTime, Utc};

use super::billing::{Cause, lock_account};
use super::dialect::on;
use super::{Store, StoreError, audit};
use crate::billing::Terms;

impl Store {
    /// Keeps what an account wants next, or (`None`) that it wants nothing else; the audit has both. The same again changes nothing.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) a repeat finds out.
    pub async fn wish_plan(
        &self,
        user_id: &str,
        terms: Option<&Terms>,
        cause: &Cause,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        const WRITE: &str = "INSERT INTO plan_wishes (user_id, plan, billing_cycle, at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (user_id) DO UPDATE SET plan = excluded.plan, billing_cycle = excluded.billing_cycle, \
             at = excluded.at WHERE plan_wishes.plan <> excluded.plan OR plan_wishes.billing_cycle <> excluded.billing_cycle";
        const FORGET: &str = "DELETE FROM plan_wishes WHERE user_id = $1";
        let mut tx = self.begin().await?;
        lock_account(&mut tx, user_id).await?;
        let changed = match terms {
            Some(terms) => on!(tx.handle(), WRITE, [user_id, &terms.plan, terms.cycle.name(), now])?,
            None => on!(tx.handle(), FORGET, [user_id])?,
        };
        if changed > 0 {
            let wish = terms.map(|terms| serde_json::json!({ "plan": terms.plan, "billing_cycle": terms.cycle }));
            let after = serde_json::json!({ "wishes": wish }).to_string();
            let entry = audit::Entry { cause: cause.clone(), before: None, after: Some(after) };
            audit::write(&mut tx, user_id, &entry, now).await?;
        }
        tx.commit().await
    }

    /// What an account wants to have next, where it has said so.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn plan_wish(&self, user_id: &str) -> Result<Option<Terms>, StoreError> {
        const SQL: &str = "SELECT plan, billing_cycle FROM plan_wishes WHERE user_id = $1";
        let mut connection = self.reader().await?;
        let found = on!(connection.handle(), (String, String), SQL, [user_id], fetch_optional)?;
        let terms =
            |(plan, cycle): (String, String)| Ok(Terms { plan, cycle: cycle.parse().map_err(StoreError::Unreadable)? });
        found.map(terms).transpose()
    }
}
