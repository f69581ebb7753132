//! The inbox: verified events, each once, and what became of them; and what was not believed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::dialect::{Tx, by_engine, on};
use super::{Store, StoreError};

/// Where an event is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum EventStatus {
    /// Stored and believed; waits for its turn.
    Verified,
    /// Being applied.
    Processing,
    /// Took effect.
    Processed,
    /// Nothing follows from it.
    Ignored,
    /// Could not be applied; tried again.
    Failed,
    /// Given up: an operator must look at it.
    Dead,
    /// Another body under the id of an earlier event; takes no effect.
    Conflict,
    /// Not believed (kept apart from the others, for a while).
    Rejected,
}

named!(EventStatus {
    Verified => "verified", Processing => "processing", Processed => "processed", Ignored => "ignored", Failed => "failed",
    Dead => "dead", Conflict => "conflict", Rejected => "rejected",
});

/// An event that was found genuine and is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// UUIDv7.
    pub id: Uuid,
    /// Who sent it: `paypal`, or a source of the configuration.
    pub source: String,
    /// The sender's id of it.
    pub event_id: String,
    /// What kind it is of.
    pub event_type: String,
    /// How it was found genuine.
    pub verdict: &'static str,
    /// SHA-256 of the raw body, in hexadecimal.
    pub payload_hash: String,
    /// The raw body.
    pub body: String,
    /// What was verified beside the body, as JSON.
    pub headers: String,
    /// When the sender made it, if it says so.
    pub created_at: Option<DateTime<Utc>>,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// What became of a delivery at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// It is stored.
    Stored,
    /// It was stored before.
    Duplicate,
    /// Another body is stored under its id; it was kept beside that one and takes no effect.
    Conflict,
}

/// A delivery that was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefusal {
    /// UUIDv7.
    pub id: Uuid,
    /// Who it says it is from.
    pub source: String,
    /// Why.
    pub code: String,
    /// The same for people.
    pub detail: String,
    /// SHA-256 of the raw body.
    pub payload_hash: String,
    /// The headers that are looked at, as JSON.
    pub headers: String,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// An event as it is stored, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct EventRow {
    /// Key of the row.
    #[sqlx(try_from = "String")]
    pub id: Uuid,
    /// The sender's id of it; empty where it was not believed.
    pub event_id: String,
    /// Who sent it.
    pub source: String,
    /// What kind it is of.
    pub event_type: String,
    /// Where it is on its way.
    #[sqlx(try_from = "String")]
    pub status: EventStatus,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: i32,
    /// SHA-256 of the raw body, in hexadecimal.
    pub payload_hash: String,
    /// What went wrong last.
    pub error: Option<String>,
    /// What it did, as JSON.
    pub effect: Option<String>,
    /// How it was found genuine.
    pub verdict: String,
    /// When the sender made it.
    pub created_at: Option<DateTime<Utc>>,
    /// When it is tried next.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it came to its end.
    pub processed_at: Option<DateTime<Utc>>,
}

/// An event with what was sent; the body is gone after its retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeEvent {
    /// The row.
    pub row: EventRow,
    /// The raw body.
    pub body: Option<String>,
    /// What was verified beside the body, as JSON.
    pub headers: Option<String>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only of this source.
    pub source: Option<String>,
    /// Only in this state.
    pub status: Option<EventStatus>,
    /// Only with this id of the sender.
    pub event_id: Option<String>,
    /// Only what came at or after this.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: u32,
}

/// An event that is being applied.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Claimed {
    /// Key of the row.
    pub id: String,
    /// Who sent it.
    pub source: String,
    /// The sender's id of it.
    pub event_id: String,
    /// What kind it is of.
    pub event_type: String,
    /// The raw body.
    pub body: Option<String>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// This attempt.
    pub attempts: i32,
    /// Until when it is this claim's; with the attempt that makes it this claim and no other.
    pub until: DateTime<Utc>,
}

/// How an attempt ended: written by whoever has the claim, in the transaction of the effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark<'c> {
    /// The claim.
    pub claim: &'c Claimed,
    /// `processed`, `ignored`, `failed` or `dead`.
    pub status: EventStatus,
    /// What it did, as JSON.
    pub effect: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// For a failed one, when it is tried again.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Now.
    pub at: DateTime<Utc>,
}

/// What waits and what needs an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Stored and not yet applied.
    pub waiting: i64,
    /// When the oldest of them came.
    pub oldest: Option<DateTime<Utc>>,
    /// Of them, tried before.
    pub failed: i64,
    /// Given up.
    pub dead: i64,
    /// Under a known id with another body.
    pub conflicts: i64,
}

macro_rules! rows {
    ($where:literal) => {
        concat!(
            "SELECT id, event_id, source, event_type, status, received_at, attempts, payload_hash, error, effect, verdict, \
             created_at, next_attempt_at, processed_at FROM webhook_events WHERE ",
            $where
        )
    };
}

impl Store {
    /// The events that fit, newest first; what was not believed is asked for by its state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, StoreError> {
        const SQL: &str = rows!(
            "($1 = '' OR source = $1) AND ($2 = '' OR status = $2) AND ($3 = '' OR event_id = $3) AND received_at >= $4 \
             ORDER BY received_at DESC, id DESC LIMIT $5"
        );
        const REFUSED: &str = "SELECT id, '' AS event_id, source, code AS event_type, 'rejected' AS status, received_at, \
             CAST(0 AS INTEGER) AS attempts, payload_hash, detail AS error, NULL AS effect, '' AS verdict, NULL AS created_at, \
             NULL AS next_attempt_at, NULL AS processed_at FROM webhook_refusals \
             WHERE ($1 = '' OR source = $1) AND received_at >= $2 ORDER BY received_at DESC, id DESC LIMIT $3";
        const REFUSED_POSTGRES: &str = "SELECT id, '' AS event_id, source, code AS event_type, 'rejected' AS status, \
             received_at, 0 AS attempts, payload_hash, detail AS error, NULL::TEXT AS effect, '' AS verdict, \
             NULL::TIMESTAMPTZ AS created_at, NULL::TIMESTAMPTZ AS next_attempt_at, NULL::TIMESTAMPTZ AS processed_at \
             FROM webhook_refusals WHERE ($1 = '' OR source = $1) AND received_at >= $2 \
             ORDER BY received_at DESC, id DESC LIMIT $3";
        let (source, limit) = (filter.source.as_deref().unwrap_or_default(), i64::from(filter.limit));
        let since = filter.since.unwrap_or(DateTime::UNIX_EPOCH);
        let mut connection = self.reader().await?;
        if filter.status == Some(EventStatus::Rejected) {
            let sql = by_engine(&connection.handle(), REFUSED, REFUSED_POSTGRES);
            return on!(connection.handle(), EventRow, sql, [source, since, limit], fetch_all);
        }
        let status = filter.status.map(EventStatus::name).unwrap_or_default();
        let event_id = filter.event_id.as_deref().unwrap_or_default();
        on!(connection.handle(), EventRow, SQL, [source, status, event_id, since, limit], fetch_all)
    }

    /// One event, by the key of its row or by the sender's id of it (of several, the first that came).
    ///
    /// # Errors
    /// When the database fails.
    pub async fn event(&self, id: &str) -> Result<Option<WholeEvent>, StoreError> {
        const SQL: &str = rows!("id = $1 OR event_id = $1 ORDER BY rival LIMIT 1");
        const SENT: &str = "SELECT body, headers FROM webhook_events WHERE id = $1";
        let mut connection = self.reader().await?;
        let Some(row) = on!(connection.handle(), EventRow, SQL, [id], fetch_optional)? else { return Ok(None) };
        let sent: Option<(Option<String>, Option<String>)> =
            on!(connection.handle(), (Option<String>, Option<String>), SENT, [row.id.to_string()], fetch_optional)?;
        let (body, headers) = sent.unwrap_or_default();
        Ok(Some(WholeEvent { row, body, headers }))
    }

    /// Which of these ids of a source are stored.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known_event_ids(&self, source: &str, ids: &[String]) -> Result<Vec<String>, StoreError> {
        const SQL: &str = "SELECT event_id FROM webhook_events WHERE source = $1 AND rival = '' \
             AND event_id IN (SELECT value FROM json_each($2))";
        const POSTGRES: &str = "SELECT event_id FROM webhook_events WHERE source = $1 AND rival = '' \
             AND event_id IN (SELECT json_array_elements_text($2::JSON))";
        let ids = serde_json::to_string(ids).map_err(|fault| StoreError::Unreadable(fault.to_string()))?;
        let mut connection = self.reader().await?;
        let sql = by_engine(&connection.handle(), SQL, POSTGRES);
        let rows = on!(connection.handle(), (String,), sql, [source, ids], fetch_all)?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Takes up to `limit` events that are due, oldest first. Who takes them has until `until`; then somebody else may.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_events(
        &self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        macro_rules! claim {
            ($lock:literal) => {
                concat!(
                    "UPDATE webhook_events SET status = 'processing', attempts = attempts + 1, next_attempt_at = $2 \
                     WHERE id IN (SELECT id FROM webhook_events WHERE next_attempt_at <= $1 \
                     ORDER BY next_attempt_at, id LIMIT $3",
                    $lock,
                    ") RETURNING id, source, event_id, event_type, body, received_at, attempts, next_attempt_at AS until"
                )
            };
        }
        let mut connection = self.writer().await?;
        let sql = by_engine(&connection.handle(), claim!(""), claim!(" FOR UPDATE SKIP LOCKED"));
        let mut claimed = on!(connection.handle(), Claimed, sql, [now, until, i64::from(limit)], fetch_all)?;
        claimed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(claimed)
    }

    /// Gives back what a process that is gone had taken: on a database that nobody else writes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_events(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE webhook_events SET status = 'failed', next_attempt_at = $1, \
             error = 'the process that applied it ended' WHERE status = 'processing'";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [now])
    }

    /// Gives back what was claimed until exactly `until`, where the answer to that claim was lost: nobody works on it, and it was no
    /// try. Gives how many.
    ///
    /// # Errors
    /// When the database fails; then the claim ends by itself.
    pub async fn take_back_events(&self, until: DateTime<Utc>, now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE webhook_events SET status = CASE WHEN attempts > 1 THEN 'failed' ELSE 'verified' END, \
             attempts = attempts - 1, next_attempt_at = $1 WHERE status = 'processing' AND next_attempt_at = $2";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [now, until])
    }

    /// Writes how an attempt without an effect ended. `false`: the claim was somebody else's meanwhile; nothing was written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_event(&self, mark: &Mark<'_>) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let ours = write_mark(&mut tx, mark).await?;
        tx.commit().await?;
        Ok(ours)
    }

    /// Makes events wait for another attempt, whatever became of them; conflicts never. Gives how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replay_events(&self, ids: &[Uuid], now: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE webhook_events SET status = 'verified', attempts = 0, next_attempt_at = $2, error = NULL, \
             processed_at = NULL WHERE id = $1 AND status IN ('processed', 'ignored', 'failed', 'dead', 'verified') \
             AND body IS NOT NULL";
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for id in ids {
            changed += on!(tx.handle(), SQL, [id.to_string(), now])?;
        }
        tx.commit().await?;
        Ok(changed)
    }

    /// What waits and what needs an operator.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events_backlog(&self) -> Result<Backlog, StoreError> {
        const WAITING: &str = "SELECT COUNT(*), MIN(received_at) FROM webhook_events WHERE next_attempt_at IS NOT NULL";
        const TROUBLE: &str = "SELECT status, COUNT(*) FROM webhook_events WHERE status IN ('failed', 'dead', 'conflict') \
             GROUP BY status";
        let mut connection = self.reader().await?;
        let (waiting, oldest) = on!(connection.handle(), (i64, Option<DateTime<Utc>>), WAITING, [], fetch_one)?;
        let mut backlog = Backlog { waiting, oldest, ..Backlog::default() };
        for (status, count) in on!(connection.handle(), (String, i64), TROUBLE, [], fetch_all)? {
            match status.as_str() {
                "failed" => backlog.failed = count,
                "dead" => backlog.dead = count,
                _ => backlog.conflicts = count,
            }
        }
        Ok(backlog)
    }

    /// Forgets the bodies of events that came before `before` and are done with. Their ids are kept for ever.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_event_bodies(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE webhook_events SET body = NULL, headers = NULL WHERE received_at < $1 \
             AND body IS NOT NULL AND next_attempt_at IS NULL";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [before])
    }

    /// Forgets refusals from before `before`, and those beyond the newest `most`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_refusals(&self, before: DateTime<Utc>, most: u32) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM webhook_refusals WHERE received_at < $1 OR id NOT IN \
             (SELECT id FROM webhook_refusals ORDER BY received_at DESC, id DESC LIMIT $2)";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [before, i64::from(most)])
    }
}

/// Writes how an attempt ended, in the transaction of its effect. `false`: the claim is not ours any more, and the transaction
/// must be given up.
pub(super) async fn write_mark(tx: &mut Tx, mark: &Mark<'_>) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE webhook_events SET status = $3, effect = $4, error = $5, next_attempt_at = $6, \
         processed_at = $7 WHERE id = $1 AND attempts = $2 AND next_attempt_at = $8 AND status = 'processing'";
    let ended = (mark.status != EventStatus::Failed).then_some(mark.at);
    let (effect, error) = (mark.effect.as_deref(), mark.error.as_deref());
    let (id, attempt, status) = (mark.claim.id.as_str(), mark.claim.attempts, mark.status.name());
    let (next, until) = (mark.next_attempt_at, mark.claim.until);
    let changed = on!(tx.handle(), SQL, [id, attempt, status, effect, error, next, ended, until])?;
    Ok(changed == 1)
}
