//! Which database holds the state.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::reader::Reader;
use super::sources::Environment;

/// Where state is kept.
#[derive(Clone)]
pub enum DatabaseTarget {
    /// One file, with its `-wal`, `-shm` and `.lock` beside it.
    Sqlite(PathBuf),
    /// A server; the URL may hold a password.
    Postgres(SecretString),
}

impl fmt::Display for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url.expose_secret())),
        }
    }
}

impl fmt::Debug for DatabaseTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for DatabaseTarget {
    type Err = &'static str;

    /// `sqlite:PATH` or a PostgreSQL URL. The text may hold a password, so a refusal does not repeat it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_file = !path.is_empty() && !path.contains('?') && path != ":memory:";
            return if is_file { Ok(Self::Sqlite(PathBuf::from(path))) } else { Err("no file is named") };
        }
        match Url::parse(text) {
            Ok(url) if ["postgres", "postgresql"].contains(&url.scheme()) && !url.cannot_be_a_base() => {
                Ok(Self::Postgres(SecretString::from(text.to_owned())))
            }
            _ => Err("this is neither a PostgreSQL nor a SQLite URL"),
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, environment: &Environment) -> Option<DatabaseTarget> {
    let url = reader.text_shown("database.url", without_password);
    let parts = Parts {
        engine: reader.text("database.engine"),
        name: reader.text("database.name"),
        user: reader.text("database.user"),
        password: reader.secret("database.password"),
        host: reader.text("database.host"),
        port: reader.text("database.port"),
    };
    if let Some(url) = url {
        return of_url(reader, &url, environment);
    }
    match parts.engine.as_deref().map(|engine| engine.rsplit('.').next().unwrap_or(engine).to_lowercase()).as_deref() {
        None => Some(DatabaseTarget::Sqlite(state_directory(environment).join("bellwether.db"))),
        Some("sqlite3" | "sqlite") => {
            let name = parts.name.map_or_else(|| state_directory(environment).join("bellwether.db"), PathBuf::from);
            Some(DatabaseTarget::Sqlite(name))
        }
        Some("postgresql" | "postgres" | "postgresql_psycopg2") => of_parts(reader, &parts),
        Some(other) => {
            let message = format!("{other:?} is not a database engine");
            reader.refuse("database.engine", message, "write sqlite3 or postgresql, or set DATABASE_URL instead");
            None
        }
    }
}

/// `systemd` gives a colon-separated list when a unit has several; the first is ours.
fn state_directory(environment: &Environment) -> PathBuf {
    let given = environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next());
    PathBuf::from(given.unwrap_or("data"))
}

/// Where files go that belong to the database: beside a SQLite file, else where state is kept.
pub(super) fn beside(target: Option<&DatabaseTarget>, environment: &Environment) -> PathBuf {
    match target {
        Some(DatabaseTarget::Sqlite(path)) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".cycles");
            PathBuf::from(name)
        }
        _ => state_directory(environment).join("bellwether.cycles"),
    }
}

fn of_url(reader: &mut Reader<'_>, text: &str, environment: &Environment) -> Option<DatabaseTarget> {
    match text.parse() {
        Ok(DatabaseTarget::Sqlite(path)) => {
            let in_state = path.is_relative() && environment.get("STATE_DIRECTORY").is_some();
            Some(DatabaseTarget::Sqlite(if in_state { state_directory(environment).join(path) } else { path }))
        }
        Ok(target) => Some(target),
        Err(fault) => {
            let fix = if text.starts_with("sqlite:") {
                "write sqlite:PATH, with a path that stays"
            } else {
                "write postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite:PATH"
            };
            reader.refuse("database.url", fault, fix);
            None
        }
    }
}

struct Parts {
    engine: Option<String>,
    name: Option<String>,
    user: Option<String>,
    password: Option<SecretString>,
    host: Option<String>,
    port: Option<String>,
}

fn of_parts(reader: &mut Reader<'_>, parts: &Parts) -> Option<DatabaseTarget> {
    let mut url = Url::parse("postgres://localhost").ok()?;
    let host = parts.host.as_deref().unwrap_or("localhost");
    if url.set_host(Some(host)).is_err() {
        reader.refuse("database.host", format!("{host:?} is not a host name"), "write a name or an address");
        return None;
    }
    if let Some(port) = &parts.port {
        let Ok(number) = port.parse() else {
            reader.refuse("database.port", format!("{port:?} is not a port"), "write a number from 1 to 65535");
            return None;
        };
        url.set_port(Some(number)).ok()?;
    }
    url.set_username(parts.user.as_deref().unwrap_or("postgres")).ok()?;
    url.set_password(parts.password.as_ref().map(ExposeSecret::expose_secret)).ok()?;
    url.set_path(parts.name.as_deref().unwrap_or("bellwether"));
    Some(DatabaseTarget::Postgres(SecretString::from(String::from(url))))
}

/// A password can also stand in the query (`?password=`), so that goes whole.
fn without_password(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return "[redacted]".to_owned() };
    if url.cannot_be_a_base() {
        return if url.scheme() == "sqlite" { text.to_owned() } else { "[redacted]".to_owned() };
    }
    if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
        return "[redacted]".to_owned();
    }
    url.set_query(None);
    url.to_string()
}
