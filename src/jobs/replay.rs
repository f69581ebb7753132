//! Applying events again, on an operator's word. The verdict they were stored with holds: a signing certificate may have ended
//! since.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{EventFilter, EventStatus, Store, StoreError};

/// The most events of one call.
pub const MOST: u32 = 10_000;

/// Which events: one by its id, or all in a state since an instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The id of the row, or the sender's id of the event.
    pub id: Option<String>,
    /// All in this state.
    pub status: Option<EventStatus>,
    /// With a state: only what came at or after this.
    pub since: Option<DateTime<Utc>>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Events that wait for their turn again.
    pub replayed: u64,
    /// Whether that is only what would be.
    pub dry_run: bool,
    /// Their rows.
    pub ids: Vec<Uuid>,
    /// Whether there are more that fit than one call takes: these are the newest.
    pub more: bool,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request makes no sense.
    #[error("{0}")]
    Misuse(String),
    /// There is no such event.
    #[error("{0}")]
    NotFound(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes events wait for their turn again.
///
/// # Errors
/// When the request makes no sense, names no event, or the database fails; then nothing was changed.
pub async fn replay(store: &Store, request: &Request, now: DateTime<Utc>) -> Result<Replayed, Refusal> {
    let mut rows = match (&request.id, request.status, request.since) {
        (Some(id), None, None) => {
            let found = store.event(id).await?.ok_or_else(|| Refusal::NotFound(format!("there is no event {id}")))?;
            if found.row.status == EventStatus::Conflict {
                return Err(Refusal::Misuse(format!(
                    "event {id} came under the id of an earlier one with another body; it never takes effect"
                )));
            }
            if found.body.is_none() {
                return Err(Refusal::Misuse(format!("the body of event {id} was forgotten, by its retention")));
            }
            vec![found.row]
        }
        (None, Some(status), Some(since)) => {
            if matches!(status, EventStatus::Conflict | EventStatus::Rejected | EventStatus::Processing) {
                return Err(Refusal::Misuse(format!("events that are {status} are not applied")));
            }
            let filter =
                EventFilter { status: Some(status), since: Some(since), limit: MOST + 1, ..EventFilter::default() };
            store.list_events(&filter).await?
        }
        _ => return Err(Refusal::Misuse("give `id`, or `status` and `since`".to_owned())),
    };
    let more = rows.len() > MOST as usize;
    rows.truncate(MOST as usize);
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let replayed = if request.dry_run { ids.len() as u64 } else { store.replay_events(&ids, now).await? };
    Ok(Replayed { replayed, dry_run: request.dry_run, ids, more })
}
