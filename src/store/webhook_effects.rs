//! An event of the inbox takes effect, and is marked so, in one transaction.

use chrono::{DateTime, Utc};

use super::billing::apply_in;
use super::webhook_events::write_mark;
use super::{Applied, Claimed, EventStatus, Mark, Store, StoreError};
use crate::billing::{Effect, Event, Rules};

impl Store {
    /// Lets an event take effect for whoever has claimed it; `describe` says in JSON what it did. `None`: the claim was somebody
    /// else's meanwhile; nothing was changed.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) the claim ends and a repeat finds out.
    pub async fn apply_claimed(
        &self,
        claim: &Claimed,
        event: &Event,
        rules: &Rules,
        now: DateTime<Utc>,
        describe: impl FnOnce(&Applied) -> String,
    ) -> Result<Option<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        let applied = apply_in(&mut tx, event, rules, now).await?;
        let mark = Mark {
            claim,
            status: EventStatus::Processed,
            effect: Some(describe(&applied)),
            error: None,
            next_attempt_at: None,
            at: now,
        };
        if !write_mark(&mut tx, &mark).await? {
            return Ok(None);
        }
        tx.commit().await?;
        if applied.effects.iter().any(|effect| matches!(effect, Effect::Mail(_))) {
            self.letters.notify_one();
        }
        Ok(Some(applied))
    }
}
