//! Reaching a PostgreSQL server: directly, or through a pooler in transaction mode, which is found out and not configured.

use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::dialect::{Route, within};
use super::{StoreError, unavailable};
use crate::config::DatabaseTarget;

/// Said on this channel when another instance should look at once: the lease was given back, or there is work.
pub(super) const CHANNEL: &str = "bellwether";

/// How long it may take to begin to listen.
const LISTENING: Duration = Duration::from_secs(5);

/// After so long another connection is listened on.
const LISTENED_FOR: Duration = Duration::from_mins(5);

/// Key of the lock under which the schema is changed.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(7235419886142501)";

/// A server, and whether a pooler is in between.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) pool: PgPool,
    pub(super) pooled: bool,
    /// Behind a pooler: commits are not synced unless a transaction asks for it.
    lax: bool,
}

/// What a new connection is really set to.
struct Settings {
    /// Of statements, in milliseconds.
    limit: String,
    /// Commits are acknowledged before they are on the disk.
    lax: bool,
}

impl Server {
    /// Connects. A pooler refuses or swallows the settings that a connection brings along: then it is a pooler.
    pub(super) async fn connect(
        target: &DatabaseTarget,
        url: &secrecy::SecretString,
        connections: u32,
        deadline: Duration,
    ) -> Result<Self, StoreError> {
        let plain: PgConnectOptions = url.expose_secret().parse().map_err(|error| unavailable(target, &error))?;
        // Numbers come in binary form, so their digits are nobody's business; a pooler refuses that setting.
        let plain = plain.application_name("bellwether").extra_float_digits(None);
        let wanted = format!("{}ms", deadline.as_millis());
        let with_limit = plain.clone().options([("statement_timeout", wanted)]);
        // The pool tries again until its time is up and then names only that; one plain connection names the cause.
        let first = within(deadline, settings_of_connection(&with_limit)).await;
        let (pooled, lax) = match first {
            Ok(settings) => (settings.limit != deadline.as_millis().to_string(), settings.lax),
            Err(StoreError::Database(fault)) if refuses_settings(&fault) => (true, false),
            Err(fault) => return Err(unavailable(target, &fault)),
        };
        if !pooled {
            // What is acknowledged must survive a power cut, whatever the role or the database are set to.
            let options = if lax { with_limit.options([("synchronous_commit", "on")]) } else { with_limit };
            return Ok(Self::of(options, connections, deadline, pooled, false));
        }
        let options = plain.statement_cache_capacity(0);
        let first = within(deadline, settings_of_connection(&options)).await;
        let lax = first.map_err(|fault| unavailable(target, &fault))?.lax;
        Ok(Self::of(options, connections, deadline, pooled, lax))
    }

    fn of(options: PgConnectOptions, connections: u32, deadline: Duration, pooled: bool, lax: bool) -> Self {
        let pool =
            PgPoolOptions::new().max_connections(connections).acquire_timeout(deadline).connect_lazy_with(options);
        Self { pool, pooled, lax }
    }

    pub(super) fn route(&self, deadline: Duration) -> Route {
        Route { deadline, pooled: self.pooled, lax: self.lax }
    }

    /// Brings the schema up to date, all of it or nothing, one instance at a time. The lock belongs to the transaction, because
    /// one that belongs to a session is stranded by a pooler.
    pub(super) async fn migrate(&self, migrator: &Migrator) -> Result<(), sqlx::migrate::MigrateError> {
        // Not the pool's any more: afterwards it believes that its statements are still prepared.
        let mut connection = self.pool.acquire().await?.detach();
        let mut tx = connection.begin().await?;
        // A migration may be slower than a statement of the daemon is ever allowed to be. What others left prepared on the server
        // connection behind a pooler would get in the way of the migrator's own statements, and its own in theirs.
        sqlx::raw_sql("SET LOCAL statement_timeout = 0; DEALLOCATE ALL").execute(&mut *tx).await?;
        sqlx::raw_sql(MIGRATION_LOCK).execute(&mut *tx).await?;
        let mut unlocked = Migrator { migrations: migrator.migrations.clone(), ..Migrator::DEFAULT };
        unlocked.set_locking(false);
        unlocked.run(&mut *tx).await?;
        sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Calls `nudge` for each word on the channel until `stop`. Behind a pooler there is no listening; the looks each second do.
    pub(super) async fn listen(&self, nudge: &Notify, stop: &CancellationToken) -> Result<(), StoreError> {
        if self.pooled {
            stop.cancelled().await;
            return Ok(());
        }
        let hear = async {
            // A connection of its own: one of the pool would be missing there.
            let options = self.pool.connect_options().as_ref().clone();
            let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
            let mut listener = within(LISTENING, PgListener::connect_with(&own)).await?;
            within(LISTENING, listener.listen(CHANNEL)).await?;
            loop {
                // `None`: the connection broke; what was said meanwhile is not known, so look.
                listener.try_recv().await?;
                nudge.notify_one();
            }
        };
        tokio::select! {
            // A server that went silent is not noticed by listening; a new connection is.
            heard = tokio::time::timeout(LISTENED_FOR, hear) => heard.unwrap_or(Ok(())),
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// Asks one.
async fn settings_of_connection(options: &PgConnectOptions) -> Result<Settings, sqlx::Error> {
    let mut connection = sqlx::PgConnection::connect_with(options).await?;
    let row = sqlx::raw_sql(
        "SELECT setting, current_setting('synchronous_commit') = 'off' FROM pg_settings WHERE name = 'statement_timeout'",
    );
    let row = sqlx::Executor::fetch_one(&mut connection, row).await?;
    let settings = Settings { limit: sqlx::Row::try_get(&row, 0)?, lax: sqlx::Row::try_get(&row, 1)? };
    connection.close().await.ok();
    Ok(settings)
}

/// pgbouncer: `unsupported startup parameter: options` (protocol violation), or the same of the setting in it.
fn refuses_settings(fault: &sqlx::Error) -> bool {
    fault.as_database_error().is_some_and(|fault| fault.message().contains("unsupported startup parameter"))
}
