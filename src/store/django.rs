//! The database of the old site, read and never written: Django's tables of accounts, profiles and referrals.
//!
//! Everything comes out of one read transaction, so that the rows belong together, and instants and truths come as the same texts and
//! numbers from both engines.

use chrono::{DateTime, NaiveDateTime, Utc};
use secrecy::ExposeSecret;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection, SqliteConnection};
use std::time::Duration;

use super::dialect::{Handle, Route, Session, by_engine, on, within};
use super::{StoreError, unavailable};
use crate::config::DatabaseTarget;

/// The longest one statement may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Rows read at a time.
const PAGE: i64 = 5_000;

/// More of a kind than this are no old site's.
const MOST_ROWS: usize = 5_000_000;

/// A row of `auth_user` with its row of `stocks_userprofile`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OldUser {
    /// Key; the site's name for the account.
    pub id: i64,
    /// Mail address, empty where there is none.
    pub email: String,
    /// Whether it may be used (1) or was shut (0).
    pub is_active: i64,
    /// When it was made.
    pub joined: String,
    /// `free`, `gold` ..; `None`: it has no profile.
    pub plan: Option<String>,
    /// `monthly`, `annual` or `yearly`.
    pub billing_cycle: Option<String>,
    /// Whether it was to go on.
    pub auto_renew: Option<i64>,
    /// `active`, `canceled` or `past_due`.
    pub status: Option<String>,
    /// The end of what was paid for.
    pub next_billing: Option<String>,
    /// Whether something on record says that money came, or a credit was used.
    pub has_paid: i64,
}

/// A row of `stocks_referralaccount`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OldReferralAccount {
    /// Key.
    pub id: i64,
    /// The account.
    pub user_id: Option<i64>,
    /// What the caller said that it was.
    pub inviter_uid: String,
    /// Its code.
    pub referral_code: String,
}

/// A row of `stocks_referralinvite`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OldInvite {
    /// Key.
    pub id: i64,
    /// Who invited.
    pub inviter_id: Option<i64>,
    /// What the caller said that it was.
    pub inviter_uid: String,
    /// Who was invited.
    pub invitee_email: String,
    /// The account of whoever was.
    pub invitee_user_id: Option<i64>,
    /// By this code.
    pub referral_code: String,
    /// `invited`, `accepted` or `paid`.
    pub status: String,
    /// When.
    pub created: String,
    /// When it was paid.
    pub paid: Option<String>,
}

/// A row of `stocks_referralredemption`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OldRedemption {
    /// Key.
    pub id: i64,
    /// What the caller said that it was.
    pub inviter_uid: String,
    /// Paid invites used up.
    pub invites_consumed: i64,
    /// When.
    pub created: String,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OldSite {
    /// Accounts by key.
    pub users: Vec<OldUser>,
    /// Referral accounts by key.
    pub referral_accounts: Vec<OldReferralAccount>,
    /// Invites by key.
    pub invites: Vec<OldInvite>,
    /// Redemptions by key.
    pub redemptions: Vec<OldRedemption>,
    /// Tables that are not there and need not be.
    pub missing: Vec<String>,
    /// Tables whose rows cannot be taken over, with their number of rows.
    pub not_portable: Vec<(String, i64)>,
}

enum Source {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Source {
    fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection) => Handle::Sqlite(connection, DEADLINE),
            Self::Postgres(connection) => {
                Handle::Postgres(Session::Held(connection), Route { deadline: DEADLINE, pooled: false, lax: false })
            }
        }
    }

    /// In a transaction that cannot write.
    async fn open(target: &DatabaseTarget) -> Result<Self, StoreError> {
        match target {
            DatabaseTarget::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(DEADLINE);
                let opened = within(DEADLINE, options.connect()).await;
                let mut source = Self::Sqlite(opened.map_err(|fault| unavailable(target, &fault))?);
                on!(source.handle(), "BEGIN", [])?;
                Ok(source)
            }
            DatabaseTarget::Postgres(url) => {
                let opened = within(DEADLINE, PgConnection::connect(url.expose_secret())).await;
                let mut source = Self::Postgres(opened.map_err(|fault| unavailable(target, &fault))?);
                on!(source.handle(), "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", [])?;
                Ok(source)
            }
        }
    }

    async fn close(self) {
        let _ = match self {
            Self::Sqlite(connection) => within(DEADLINE, connection.close()).await,
            Self::Postgres(connection) => within(DEADLINE, connection.close()).await,
        };
    }

    async fn tables(&mut self) -> Result<Vec<String>, StoreError> {
        const SQLITE: &str = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
        const POSTGRES: &str = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables \
             WHERE table_schema = current_schema() ORDER BY 1";
        let sql = by_engine(&self.handle(), SQLITE, POSTGRES);
        let rows = on!(self.handle(), (String,), sql, [], fetch_all)?;
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }
}

/// Pages of a table by its key.
macro_rules! read_all {
    ($source:ident, $row:ty, $sqlite:expr, $postgres:expr) => {{
        let (mut all, mut after): (Vec<$row>, i64) = (Vec::new(), -1);
        loop {
            let sql = by_engine(&$source.handle(), $sqlite, $postgres);
            let page = on!($source.handle(), $row, sql, [after, PAGE], fetch_all)?;
            let Some(last) = page.last() else { break };
            after = last.id;
            all.extend(page);
            if all.len() > MOST_ROWS {
                return Err(StoreError::Unreadable(format!("more than {MOST_ROWS} rows of one table")));
            }
        }
        all
    }};
}

/// An instant as text, in UTC: Django keeps it so in SQLite already.
macro_rules! users {
    ($joined:literal, $next:literal, $paid:literal) => {
        concat!(
            "SELECT CAST(u.id AS BIGINT) AS id, u.email, CASE WHEN u.is_active THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END \
             AS is_active, ", $joined, " AS joined, p.plan_type AS plan, p.billing_cycle, CASE WHEN p.id IS NULL THEN NULL \
             WHEN p.auto_renew THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS auto_renew, p.subscription_status AS status, ",
            $next, " AS next_billing, CASE WHEN ", $paid, " THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS has_paid \
             FROM auth_user u LEFT JOIN stocks_userprofile p ON p.user_id = u.id WHERE u.id > $1 ORDER BY u.id LIMIT $2"
        )
    };
    ($paid:literal) => {
        (
            users!("CAST(u.date_joined AS TEXT)", "CAST(p.next_billing_date AS TEXT)", $paid),
            users!(
                "to_char(u.date_joined AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
                "to_char(p.next_billing_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
                $paid
            ),
        )
    };
}

macro_rules! invites {
    ($created:literal, $paid:literal) => {
        concat!(
            "SELECT CAST(id AS BIGINT) AS id, CAST(inviter_id AS BIGINT) AS inviter_id, inviter_uid, invitee_email, \
             CAST(invitee_user_id AS BIGINT) AS invitee_user_id, referral_code, status, ",
            $created,
            " AS created, ",
            $paid,
            " AS paid FROM stocks_referralinvite WHERE id > $1 ORDER BY id LIMIT $2"
        )
    };
}

macro_rules! redemptions {
    ($created:literal) => {
        concat!(
            "SELECT CAST(id AS BIGINT) AS id, inviter_uid, CAST(invites_consumed AS BIGINT) AS invites_consumed, ",
            $created,
            " AS created FROM stocks_referralredemption WHERE id > $1 ORDER BY id LIMIT $2"
        )
    };
}

const REVENUE: (&str, &str) =
    users!("EXISTS (SELECT 1 FROM stocks_revenuetracking r WHERE r.user_id = u.id AND r.final_amount > 0)");
const NO_REVENUE: (&str, &str) = users!("1 = 0");

impl OldSite {
    /// Reads all of it. What is missing of the tables of referrals and payments is told; without accounts and profiles there is
    /// nothing to be read.
    ///
    /// # Errors
    /// When the database cannot be opened or read, or is not the old site's.
    pub async fn read(target: &DatabaseTarget) -> Result<Self, StoreError> {
        let mut source = Source::open(target).await?;
        let read = Self::read_from(&mut source).await;
        source.close().await;
        read
    }

    async fn read_from(source: &mut Source) -> Result<Self, StoreError> {
        let tables = source.tables().await?;
        let has = |name: &str| tables.iter().any(|table| table == name);
        for needed in ["auth_user", "stocks_userprofile"] {
            if !has(needed) {
                let words = format!("there is no table {needed}: this is not the database of the old site");
                return Err(StoreError::Unreadable(words));
            }
        }
        let (of_sqlite, of_postgres) = if has("stocks_revenuetracking") { REVENUE } else { NO_REVENUE };
        let mut site = Self { users: read_all!(source, OldUser, of_sqlite, of_postgres), ..Self::default() };
        if has("stocks_referralaccount") {
            const SQL: &str = "SELECT CAST(id AS BIGINT) AS id, CAST(user_id AS BIGINT) AS user_id, inviter_uid, referral_code \
                 FROM stocks_referralaccount WHERE id > $1 ORDER BY id LIMIT $2";
            site.referral_accounts = read_all!(source, OldReferralAccount, SQL, SQL);
        }
        if has("stocks_referralinvite") {
            const SQLITE: &str = invites!("CAST(created_at AS TEXT)", "CAST(paid_at AS TEXT)");
            const POSTGRES: &str = invites!(
                "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
                "to_char(paid_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
            );
            site.invites = read_all!(source, OldInvite, SQLITE, POSTGRES);
        }
        if has("stocks_referralredemption") {
            const SQLITE: &str = redemptions!("CAST(created_at AS TEXT)");
            const POSTGRES: &str = redemptions!("to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')");
            site.redemptions = read_all!(source, OldRedemption, SQLITE, POSTGRES);
        }
        for optional in
            ["stocks_referralaccount", "stocks_referralinvite", "stocks_referralredemption", "stocks_revenuetracking"]
        {
            site.missing.extend((!has(optional)).then(|| optional.to_owned()));
        }
        for table in tables.iter().filter(|table| is_not_portable(table)) {
            let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM \"{table}\""));
            let (rows,) = on!(source.handle(), (i64,), sql, [], fetch_one)?;
            site.not_portable.push((table.clone(), rows));
        }
        Ok(site)
    }
}

/// Keys of the old API are kept as hashes of another kind, under a pepper of its own.
fn is_not_portable(table: &str) -> bool {
    let plain = table.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    plain
        && table.starts_with("stocks_")
        && (table.contains("apikey") || table.contains("api_key") || table.contains("apitoken"))
}

/// An instant as Django writes it: in UTC, with or without a fraction, with or without an offset.
pub fn old_instant(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim().replacen(' ', "T", 1);
    let zoned = text.parse::<DateTime<Utc>>().ok();
    zoned.or_else(|| NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok().map(|at| at.and_utc()))
}
