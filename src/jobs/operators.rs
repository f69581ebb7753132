//! Who may use the console is changed: on the command line, or through the daemon that has the file.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::ops::password::{Unfit, check_hash, check_name};
use crate::store::{Role, Store, StoreError};

/// A change. The password itself never leaves the process that has read it: only its hash is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is another operator.
    Create {
        /// What they sign in with.
        name: String,
        /// What they may do.
        role: Role,
        /// Argon2id, as a PHC string.
        password_hash: String,
    },
    /// An operator has another password; their sessions end.
    ResetPassword {
        /// Whose.
        name: String,
        /// Argon2id, as a PHC string.
        password_hash: String,
    },
    /// An operator is one no longer; their sessions end, and what they did is kept.
    Remove {
        /// Who.
        name: String,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// To whom.
    pub name: String,
    /// `created`, `password_reset` or `removed`.
    pub action: &'static str,
    /// Whether that is only what would be.
    pub dry_run: bool,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ChangeRefusal {
    /// What was given does not fit.
    #[error(transparent)]
    Misuse(#[from] Unfit),
    /// There is no such operator.
    #[error("there is no operator {0:?}; `bellwether admin ls` names them")]
    NotFound(String),
    /// There is one of that name.
    #[error("there is an operator {0:?} already; `bellwether admin reset-password` gives them another password")]
    Exists(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes who may use the console.
///
/// # Errors
/// [`ChangeRefusal`]; then nothing was changed.
pub async fn change(
    store: &Store,
    change: Change,
    dry_run: bool,
    now: DateTime<Utc>,
) -> Result<Changed, ChangeRefusal> {
    let (name, action) = match &change {
        Change::Create { name, .. } => (name.clone(), "created"),
        Change::ResetPassword { name, .. } => (name.clone(), "password_reset"),
        Change::Remove { name } => (name.clone(), "removed"),
    };
    check_name(&name)?;
    if let Change::Create { password_hash, .. } | Change::ResetPassword { password_hash, .. } = &change {
        check_hash(password_hash)?;
    }
    let done = if dry_run {
        let there = store.operator_password(&name).await?.is_some();
        there != matches!(change, Change::Create { .. })
    } else {
        match &change {
            Change::Create { name, role, password_hash } => {
                store.create_operator(name, *role, password_hash, now).await?
            }
            Change::ResetPassword { name, password_hash } => {
                store.set_operator_password(name, password_hash, now).await?
            }
            Change::Remove { name } => store.remove_operator(name).await?,
        }
    };
    match (done, change) {
        (true, _) => Ok(Changed { name, action, dry_run }),
        (false, Change::Create { .. }) => Err(ChangeRefusal::Exists(name)),
        (false, _) => Err(ChangeRefusal::NotFound(name)),
    }
}
