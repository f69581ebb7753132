//! An event of the inbox takes effect, and is marked so, in one transaction.

use chrono::{DateTime, Utc};

use super::billing::apply_in;
use super::paid_words::mark_paid_in;
use super::webhook_events::write_mark;
use super::{Applied, Cause, Claimed, EventStatus, Mark, MarkedPaid, PaidWord, Store, StoreError, ToldBy};
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
        if !write_mark(&mut tx, &processed(claim, describe(&applied), now)).await? {
            return Ok(None);
        }
        tx.commit().await?;
        if applied.effects.iter().any(|effect| matches!(effect, Effect::Mail(_))) {
            self.letters.notify_one();
        }
        Ok(Some(applied))
    }

    /// Lets the word of an event that an invited account pays (its code, the invited address, or both) take effect for whoever has
    /// claimed it, and marks the event. Where it is about no invite, or nobody can tell about which, nothing is written. `None`: the
    /// claim was somebody else's meanwhile; nothing was changed.
    ///
    /// # Errors
    /// When the database fails; then nothing changed, or (when the commit itself failed) the claim ends and a repeat finds out.
    pub async fn apply_paid_word(
        &self,
        claim: &Claimed,
        code: Option<&str>,
        email: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Option<MarkedPaid>, StoreError> {
        let (source, event_id) = (claim.source.as_str(), claim.event_id.as_str());
        let told_by = ToldBy::Event(source, event_id);
        let word = PaidWord { code, email, told_at: claim.received_at, told_by };
        let cause = Cause { actor: source.to_owned(), cause: event_id.to_owned(), request_id: None };
        let mut tx = self.begin().await?;
        let marked = mark_paid_in(&mut tx, &word, &cause, now).await?;
        let (MarkedPaid::Paid(invite) | MarkedPaid::Already(invite)) = &marked else { return Ok(Some(marked)) };
        let effect = serde_json::json!({ "invite": invite, "state": "paid" }).to_string();
        if !write_mark(&mut tx, &processed(claim, effect, now)).await? {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(marked))
    }
}

/// It took effect, this one.
fn processed(claim: &Claimed, effect: String, at: DateTime<Utc>) -> Mark<'_> {
    let (status, effect) = (EventStatus::Processed, Some(effect));
    Mark { claim, status, effect, error: None, next_attempt_at: None, at }
}
