//! Many deliveries in one transaction: what makes a durable inbox fast is that one commit serves all who wait for it.

use std::collections::{HashMap, HashSet};

use sqlx::{QueryBuilder, Sqlite};

use super::dialect::{Handle, Tx, by_engine, on, within};
use super::{Intake, NewEvent, NewRefusal, Store, StoreError};

/// The verdict of what was fetched instead of sent.
const FETCHED: &str = "fetched";

/// Rows of one statement on SQLite: well below its 32,766 variables.
const ROWS_AT_ONCE: usize = 500;

/// By source and event.
type Firsts = HashMap<(String, String), (String, String)>;

impl Store {
    /// Stores deliveries, in one transaction, and gives what became of each, in their order. Once this returns well they are
    /// durable.
    ///
    /// # Errors
    /// When the database fails; then none is stored, or (when the commit itself failed) a repeat finds out.
    pub async fn take_in(&self, events: &[NewEvent]) -> Result<Vec<Intake>, StoreError> {
        let mut tx = self.begin().await?;
        // In one order, whatever the order of arrival: two instances that store the same events must not wait for each other.
        let mut sorted: Vec<&NewEvent> = events.iter().collect();
        sorted.sort_by(|a, b| (&a.source, &a.event_id, a.id).cmp(&(&b.source, &b.event_id, b.id)));
        let stored = insert(&mut tx, &sorted, false).await?;
        let others: Vec<&NewEvent> = sorted.into_iter().filter(|one| !stored.contains(&one.id.to_string())).collect();
        let hashes = if others.is_empty() { HashMap::new() } else { first_hashes(&mut tx, &others).await? };
        let is_rival = |one: &NewEvent| {
            let first = hashes.get(&(one.source.clone(), one.event_id.clone()));
            // What was fetched is the same event in other bytes.
            first.is_some_and(|(hash, verdict)| {
                *hash != one.payload_hash && ![verdict.as_str(), one.verdict].contains(&FETCHED)
            })
        };
        let rivals: Vec<&NewEvent> = others.iter().copied().filter(|one| is_rival(one)).collect();
        if !rivals.is_empty() {
            insert(&mut tx, &rivals, true).await?;
        }
        tx.commit().await?;
        let become_of = |one: &NewEvent| match () {
            () if stored.contains(&one.id.to_string()) => Intake::Stored,
            () if is_rival(one) => Intake::Conflict,
            () => Intake::Duplicate,
        };
        Ok(events.iter().map(become_of).collect())
    }

    /// Keeps what was not believed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_refusals(&self, refusals: &[NewRefusal]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO webhook_refusals (id, source, code, detail, payload_hash, headers, received_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let mut tx = self.begin().await?;
        for one in refusals {
            let (source, code, detail) = (one.source.as_str(), one.code.as_str(), one.detail.as_str());
            let (hash, headers) = (one.payload_hash.as_str(), one.headers.as_str());
            on!(tx.handle(), SQL, [one.id.to_string(), source, code, detail, hash, headers, one.received_at])?;
        }
        tx.commit().await
    }
}

/// Inserts rows and gives the ids of those whose place was free. A rival takes the place of its own body, and never its turn.
async fn insert(tx: &mut Tx, events: &[&NewEvent], as_rivals: bool) -> Result<HashSet<String>, StoreError> {
    let ids: Vec<(String,)> = match tx.handle() {
        Handle::Sqlite(connection, deadline) => {
            let mut ids = Vec::new();
            for events in events.chunks(ROWS_AT_ONCE) {
                let mut insert = values(events, as_rivals);
                let query = insert.build_query_as::<(String,)>().persistent(events.len() == 1);
                ids.extend(within(deadline, query.fetch_all(&mut *connection)).await?);
            }
            ids
        }
        Handle::Postgres(session, route) => {
            const SQL: &str = "INSERT INTO webhook_events (id, source, event_id, rival, event_type, status, verdict, \
                 payload_hash, body, headers, created_at, received_at, attempts, next_attempt_at) \
                 SELECT id, source, event_id, CASE WHEN $11 THEN hash ELSE '' END, event_type, \
                 CASE WHEN $11 THEN 'conflict' ELSE 'verified' END, verdict, hash, body, headers, created_at, received_at, 0, \
                 CASE WHEN NOT $11 THEN received_at END \
                 FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], \
                 $9::TIMESTAMPTZ[], $10::TIMESTAMPTZ[]) \
                 AS new (id, source, event_id, event_type, verdict, hash, body, headers, created_at, received_at) \
                 ON CONFLICT (event_id, source, rival) DO NOTHING RETURNING id";
            let query = sqlx::query_as::<sqlx::Postgres, (String,)>(SQL)
                .bind(events.iter().map(|one| one.id.to_string()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.source.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.event_id.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.event_type.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.verdict).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.payload_hash.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.body.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.headers.as_str()).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.created_at).collect::<Vec<_>>())
                .bind(events.iter().map(|one| one.received_at).collect::<Vec<_>>())
                .bind(as_rivals)
                .persistent(!route.pooled);
            on!(@postgres session, route, query, fetch_all)?
        }
    };
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

fn values(events: &[&NewEvent], as_rivals: bool) -> QueryBuilder<Sqlite> {
    let mut insert = QueryBuilder::new(
        "INSERT INTO webhook_events (id, source, event_id, rival, event_type, status, verdict, payload_hash, body, headers, \
         created_at, received_at, attempts, next_attempt_at) ",
    );
    insert.push_values(events, |mut row, one| {
        let (rival, status) = if as_rivals { (one.payload_hash.as_str(), "conflict") } else { ("", "verified") };
        row.push_bind(one.id.to_string())
            .push_bind(one.source.clone())
            .push_bind(one.event_id.clone())
            .push_bind(rival.to_owned())
            .push_bind(one.event_type.clone())
            .push_bind(status)
            .push_bind(one.verdict)
            .push_bind(one.payload_hash.clone())
            .push_bind(one.body.clone())
            .push_bind(one.headers.clone())
            .push_bind(one.created_at)
            .push_bind(one.received_at)
            .push_bind(0_i32)
            .push_bind((!as_rivals).then_some(one.received_at));
    });
    insert.push(" ON CONFLICT (event_id, source, rival) DO NOTHING RETURNING id");
    insert
}

/// Hash and verdict of what was first stored under each id.
async fn first_hashes(tx: &mut Tx, events: &[&NewEvent]) -> Result<Firsts, StoreError> {
    const SQL: &str = "SELECT source, event_id, payload_hash, verdict FROM webhook_events WHERE rival = '' AND (source, event_id) IN \
         (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each($1))";
    const POSTGRES: &str = "SELECT source, event_id, payload_hash, verdict FROM webhook_events WHERE rival = '' AND \
         (source, event_id) IN (SELECT value->>0, value->>1 FROM json_array_elements($1::JSON) AS wanted (value))";
    let pairs: Vec<[&str; 2]> = events.iter().map(|one| [one.source.as_str(), one.event_id.as_str()]).collect();
    let pairs = serde_json::to_string(&pairs).map_err(|fault| StoreError::Unreadable(fault.to_string()))?;
    let sql = by_engine(&tx.handle(), SQL, POSTGRES);
    let rows = on!(tx.handle(), (String, String, String, String), sql, [pairs], fetch_all)?;
    Ok(rows.into_iter().map(|(source, event_id, hash, verdict)| ((source, event_id), (hash, verdict))).collect())
}
