//! Who may use the console, who is signed in, and what they did there.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::dialect::on;
use super::{Store, StoreError};

/// How much an operator may do; each may do what the one before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Looks and acts.
    Operator,
    /// Looks, acts, and says who may.
    Admin,
}

named!(Role { Viewer => "viewer", Operator => "operator", Admin => "admin" });

/// An operator, without the password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct OperatorRow {
    /// What they sign in with.
    pub name: String,
    /// What they may do.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Since when there is such an operator.
    pub created_at: DateTime<Utc>,
    /// When the password was set last.
    pub changed_at: DateTime<Utc>,
    /// When they signed in last.
    pub signed_in_at: Option<DateTime<Utc>>,
    /// How many sessions of theirs are open.
    pub sessions: i64,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub struct SessionBounds {
    /// From its begin, whatever happens.
    pub whole: TimeDelta,
    /// Without being used.
    pub idle: TimeDelta,
}

/// A session of the console ends twelve hours after it began, and after an hour in which nobody did anything.
pub const SESSIONS: SessionBounds = SessionBounds { whole: TimeDelta::hours(12), idle: TimeDelta::hours(1) };

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OperatorSession {
    /// Who.
    pub operator: String,
    /// What they may do now, whatever it was when they signed in.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// When it was last used, to the minute.
    pub seen_at: DateTime<Utc>,
}

/// Something that an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct OperatorAct {
    /// UUIDv7.
    #[sqlx(try_from = "String")]
    pub id: Uuid,
    /// When it was begun.
    pub at: DateTime<Utc>,
    /// Who.
    pub operator: String,
    /// What, e.g. `renewals run`.
    pub act: String,
    /// With what: an account, an event, a run.
    pub target: String,
    /// Why, in their words.
    pub reason: String,
    /// The HTTP request.
    pub request_id: String,
    /// What came of it; `None`: the daemon ended, or still is at it.
    pub outcome: Option<String>,
}

impl Store {
    /// Adds an operator. `false`: there is one of that name; nothing changed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_operator(
        &self,
        name: &str,
        role: Role,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO operators (name, role, password_hash, created_at, changed_at) \
             VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name) DO NOTHING";
        let mut connection = self.writer().await?;
        Ok(on!(connection.handle(), SQL, [name, role.name(), password_hash, now])? == 1)
    }

    /// Gives an operator another password, and ends their sessions. `false`: there is none of that name.
    ///
    /// # Errors
    /// When the database fails; then nothing changed.
    pub async fn set_operator_password(
        &self,
        name: &str,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE operators SET password_hash = $2, changed_at = $3 WHERE name = $1";
        let mut tx = self.begin().await?;
        let changed = on!(tx.handle(), SQL, [name, password_hash, now])?;
        on!(tx.handle(), END_SESSIONS, [name])?;
        tx.commit().await?;
        Ok(changed == 1)
    }

    /// Takes an operator away, with their sessions; what they did is kept. `false`: there is none of that name.
    ///
    /// # Errors
    /// When the database fails; then nothing changed.
    pub async fn remove_operator(&self, name: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM operators WHERE name = $1";
        let mut tx = self.begin().await?;
        let removed = on!(tx.handle(), SQL, [name])?;
        on!(tx.handle(), END_SESSIONS, [name])?;
        tx.commit().await?;
        Ok(removed == 1)
    }

    /// Every operator, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operators(&self, bounds: SessionBounds, now: DateTime<Utc>) -> Result<Vec<OperatorRow>, StoreError> {
        const SQL: &str = "SELECT o.name, o.role, o.created_at, o.changed_at, o.signed_in_at, \
             (SELECT COUNT(*) FROM operator_sessions s WHERE s.operator = o.name AND s.begun_at > $1 AND s.seen_at > $2) \
             AS sessions FROM operators o ORDER BY o.name";
        let mut connection = self.reader().await?;
        on!(connection.handle(), OperatorRow, SQL, [now - bounds.whole, now - bounds.idle], fetch_all)
    }

    /// The hash of an operator's password.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn operator_password(&self, name: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT password_hash FROM operators WHERE name = $1";
        let mut connection = self.reader().await?;
        let found = on!(connection.handle(), (String,), SQL, [name], fetch_optional)?;
        Ok(found.map(|(hash,)| hash))
    }

    /// Begins a session for whoever has shown the password of `password_hash`, and forgets sessions that are over. `false`: the
    /// operator is gone, or has another password meanwhile; then nothing changed.
    ///
    /// # Errors
    /// When the database fails; then nothing changed.
    pub async fn open_session(
        &self,
        (operator, password_hash): (&str, &str),
        secret_hash: &str,
        bounds: SessionBounds,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        const SIGNED_IN: &str = "UPDATE operators SET signed_in_at = $3 WHERE name = $1 AND password_hash = $2";
        const INSERT: &str =
            "INSERT INTO operator_sessions (secret_hash, operator, begun_at, seen_at) VALUES ($1, $2, $3, $3)";
        const FORGET: &str = "DELETE FROM operator_sessions WHERE begun_at <= $1 OR seen_at <= $2";
        let mut tx = self.begin().await?;
        if on!(tx.handle(), SIGNED_IN, [operator, password_hash, now])? == 0 {
            return Ok(false);
        }
        on!(tx.handle(), FORGET, [now - bounds.whole, now - bounds.idle])?;
        on!(tx.handle(), INSERT, [secret_hash, operator, now])?;
        tx.commit().await?;
        Ok(true)
    }

    /// Who has the session of this secret, while it lasts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn session(
        &self,
        secret_hash: &str,
        bounds: SessionBounds,
        now: DateTime<Utc>,
    ) -> Result<Option<OperatorSession>, StoreError> {
        const SQL: &str = "SELECT s.operator, o.role, s.seen_at FROM operator_sessions s JOIN operators o ON o.name = s.operator \
             WHERE s.secret_hash = $1 AND s.begun_at > $2 AND s.seen_at > $3";
        let mut connection = self.reader().await?;
        let (begun, seen) = (now - bounds.whole, now - bounds.idle);
        on!(connection.handle(), OperatorSession, SQL, [secret_hash, begun, seen], fetch_optional)
    }

    /// The session was used.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn touch_session(&self, secret_hash: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE operator_sessions SET seen_at = $2 WHERE secret_hash = $1 AND seen_at < $2";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [secret_hash, now]).map(|_| ())
    }

    /// Ends one session.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_session(&self, secret_hash: &str) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM operator_sessions WHERE secret_hash = $1";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [secret_hash]).map(|_| ())
    }

    /// Ends every session of an operator. Gives how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_sessions_of(&self, operator: &str) -> Result<u64, StoreError> {
        let mut connection = self.writer().await?;
        on!(connection.handle(), END_SESSIONS, [operator])
    }

    /// Writes down what an operator is about to do.
    ///
    /// # Errors
    /// When the database fails; then it is not to be done.
    pub async fn begin_act(&self, act: &OperatorAct) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO operator_acts (id, at, operator, act, target, reason, request_id, outcome) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let OperatorAct { id, at, operator, act, target, reason, request_id, outcome } = act;
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [id.to_string(), *at, operator, act, target, reason, request_id, outcome])
            .map(|_| ())
    }

    /// Writes down what came of it.
    ///
    /// # Errors
    /// When the database fails; what was done is done.
    pub async fn end_act(&self, id: Uuid, outcome: &str) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE operator_acts SET outcome = $2 WHERE id = $1";
        let mut connection = self.writer().await?;
        on!(connection.handle(), SQL, [id.to_string(), outcome]).map(|_| ())
    }

    /// What operators did, newest first; of one, or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn acts(&self, operator: Option<&str>, limit: u32) -> Result<Vec<OperatorAct>, StoreError> {
        const SQL: &str = "SELECT id, at, operator, act, target, reason, request_id, outcome FROM operator_acts \
             WHERE ($1 = '' OR operator = $1) ORDER BY id DESC LIMIT $2";
        let mut connection = self.reader().await?;
        on!(connection.handle(), OperatorAct, SQL, [operator.unwrap_or_default(), i64::from(limit)], fetch_all)
    }
}

const END_SESSIONS: &str = "DELETE FROM operator_sessions WHERE operator = $1";
