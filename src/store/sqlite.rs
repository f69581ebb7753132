//! The SQLite file: who may write it, how it is opened, and when its log is copied into it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::mpsc;
use tracing::warn;

use super::dialect::within;
use super::{Access, StoreError, unavailable};
use crate::config::DatabaseTarget;

/// Rows of a query that are read before they are asked for.
const ROWS_AHEAD: usize = 512;

/// Pages of the log after which a commit copies them into the file itself, because nobody has done it before (32 MiB).
const MOST_PAGES: &str = "8000";

/// Writes that are worth a copy of the log into the file: a daemon that only says that it lives need not copy each word of it.
const FEWEST_WRITES: usize = 8;

/// It is copied once nothing more was written for so long.
const QUIET: Duration = Duration::from_millis(100);

/// Writes after which that is done even though more come.
const MOST_WRITES: usize = 200;

/// One writer connection, so writes queue here instead of failing as busy; readers see the last commit.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) write: SqlitePool,
    pub(super) read: SqlitePool,
    copier: Option<Copier>,
}

/// Copies the log into the file on a connection of its own, so that no commit has to: one that does takes as long as a dozen others.
#[derive(Debug, Clone)]
struct Copier {
    pool: SqlitePool,
    written: mpsc::Sender<()>,
}

impl Database {
    pub(super) async fn open(
        path: &Path,
        access: Access,
        readers: u32,
        deadline: Duration,
    ) -> Result<(Self, Option<File>), StoreError> {
        let target = DatabaseTarget::Sqlite(path.to_owned());
        let lock = match access {
            Access::Writer => {
                if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                    std::fs::create_dir_all(directory).map_err(|error| unavailable(&target, &error))?;
                }
                Some(lock_beside(path)?)
            }
            Access::Reader => None,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(access == Access::Writer)
            .read_only(access == Access::Reader)
            .journal_mode(SqliteJournalMode::Wal)
            // What is acknowledged must survive a power cut; measured, FULL costs about a millisecond a cycle.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("wal_autocheckpoint", MOST_PAGES)
            .row_buffer_size(ROWS_AHEAD)
            .busy_timeout(deadline);
        let pool = |most, options: SqliteConnectOptions| {
            // A file does not hang up, so a connection to it need not be asked before each use whether it is still there.
            let pool = SqlitePoolOptions::new().max_connections(most).acquire_timeout(deadline);
            // A transaction that the disk ended (a commit that failed, a full disk) can be neither committed nor rolled back: its
            // connection would refuse every transaction to come. It is closed, and another one opened.
            let pool = pool.before_acquire(|connection, _| {
                let is_usable = !connection.is_in_transaction();
                Box::pin(std::future::ready(Ok(is_usable)))
            });
            pool.test_before_acquire(false).connect_with(options)
        };
        let failed = |error| unavailable(&target, &error);
        let write = pool(1, options.clone()).await.map_err(failed)?;
        let copier = match access {
            Access::Writer => Some(Copier::start(pool(1, options.clone()).await.map_err(failed)?, deadline)),
            Access::Reader => None,
        };
        let read = pool(readers, options.read_only(true)).await.map_err(failed)?;
        Ok((Self { write, read, copier }, lock))
    }

    /// The connection that writes; it is about to.
    pub(super) fn writer(&self) -> &SqlitePool {
        if let Some(copier) = &self.copier {
            // Where it is full, it is known already.
            let _ = copier.written.try_send(());
        }
        &self.write
    }

    /// Lets the connections finish and closes them.
    pub(super) async fn close(&self) {
        if let Some(copier) = &self.copier {
            copier.pool.close().await;
        }
        self.read.close().await;
        self.write.close().await;
    }
}

impl Copier {
    /// Works until the last handle is gone, or its connection is closed.
    fn start(pool: SqlitePool, deadline: Duration) -> Self {
        let (written, mut told) = mpsc::channel(MOST_WRITES);
        let own = pool.clone();
        tokio::spawn(async move {
            let mut failed = false;
            while wait_for_writes(&mut told).await {
                let copied = within(deadline, sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&own)).await;
                match copied {
                    Ok(_) => failed = false,
                    Err(StoreError::Database(sqlx::Error::PoolClosed)) => return,
                    // Nothing is lost by it: the log grows, and commits try themselves.
                    Err(fault) if !failed => {
                        failed = true;
                        warn!(error = %fault, "the log of the database cannot be copied into it");
                    }
                    Err(_) => {}
                }
            }
        });
        Self { pool, written }
    }
}

/// Returns once the log is to be copied; `false`: nobody can write any more.
async fn wait_for_writes(told: &mut mpsc::Receiver<()>) -> bool {
    for _ in 0..FEWEST_WRITES {
        if told.recv().await.is_none() {
            return false;
        }
    }
    for _ in FEWEST_WRITES..MOST_WRITES {
        match tokio::time::timeout(QUIET, told.recv()).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => break,
        }
    }
    true
}

/// The lock is a file of its own: a lock on the database itself would meet SQLite's own locks.
fn lock_beside(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let target = DatabaseTarget::Sqlite(path.to_owned());
    let options = File::options().create(true).truncate(false).write(true).open(PathBuf::from(name));
    let file = options.map_err(|error| unavailable(&target, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(unavailable(&target, &error)),
    }
}
