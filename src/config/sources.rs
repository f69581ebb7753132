//! The layers a value can come from: defaults, a TOML file, the environment, files named by it, systemd credentials.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, TableLike};

use super::Problem;
use super::value::{Origin, Sourced, Value};

/// The compiled-in defaults, every key commented.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Names that came before `BELLWETHER_SECTION__KEY` and keep working, by key.
const OLDER_NAMES: &[(&str, &[&str])] = &[
    ("environment", &["ENVIRONMENT"]),
    ("allowed_hosts", &["ALLOWED_HOSTS", "DJANGO_ALLOWED_HOSTS"]),
    ("cron_secret", &["CRON_SECRET"]),
    ("secret_key", &["SECRET_KEY"]),
    ("operator_token", &["OPERATOR_TOKEN"]),
    ("http.cors_origins", &["EXTRA_CORS_ORIGINS"]),
    ("http.docs", &["BACKEND_DOCS_ENABLED"]),
    ("database.url", &["DATABASE_URL"]),
    ("database.engine", &["DB_ENGINE"]),
    ("database.name", &["DB_NAME"]),
    ("database.user", &["DB_USER"]),
    ("database.password", &["DB_PASSWORD"]),
    ("database.host", &["DB_HOST"]),
    ("database.port", &["DB_PORT"]),
    ("log.level", &["LOG_LEVEL"]),
    ("log.json", &["JSON_LOGS"]),
    ("sentry.dsn", &["SENTRY_DSN"]),
    ("sentry.release", &["RELEASE"]),
    ("paypal.environment", &["PAYPAL_ENV", "PAYPAL_MODE"]),
    ("paypal.client_id", &["PAYPAL_CLIENT_ID"]),
    ("paypal.secret", &["PAYPAL_SECRET"]),
    ("paypal.webhook_id", &["PAYPAL_WEBHOOK_ID"]),
    ("paypal.api_base", &["PAYPAL_API_BASE"]),
    ("renewals.limit", &["RENEWAL_LIMIT"]),
    ("renewals.api_base_url", &["API_BASE_URL"]),
    ("mail.host", &["EMAIL_HOST"]),
    ("mail.port", &["EMAIL_PORT"]),
    ("mail.user", &["EMAIL_HOST_USER"]),
    ("mail.password", &["EMAIL_HOST_PASSWORD"]),
    ("mail.use_tls", &["EMAIL_USE_TLS"]),
    ("mail.use_ssl", &["EMAIL_USE_SSL"]),
    ("mail.from", &["EMAIL_FROM"]),
    ("site.token", &["SITE_TOKEN"]),
    ("site.frontend_url", &["FRONTEND_URL"]),
    ("referrals.invites_per_hour", &["REFERRAL_INVITES_PER_HOUR"]),
    ("referrals.disposable_domains", &["DISPOSABLE_EMAIL_DOMAINS"]),
];

/// The largest secret file that is read, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The environment of the process, taken once at start; tests make their own.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// What the process was started with. Variables that are not UTF-8 are left out.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The value of `name`; an empty one counts as not set, as compose files write it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// The environment names of a key, the strongest first. What stands in an array of tables has none: its number says
/// nothing outside of its file.
pub(super) fn names_of(key: &str) -> impl Iterator<Item = String> {
    let own = (!in_array(key)).then(|| format!("BELLWETHER_{}", key.replace('.', "__").to_uppercase()));
    let older = OLDER_NAMES.iter().find(|(name, _)| *name == key).map_or(&[][..], |(_, names)| names);
    own.into_iter().chain(older.iter().map(|name| (*name).to_owned()))
}

/// The part of a key that names its entry in an array of tables: `table.1` of `table.1.key`.
pub(super) fn entry_of(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('.')?;
    let number = rest.split('.').next().filter(|part| part.parse::<usize>().is_ok())?;
    key.get(..key.len() - rest.len() + number.len())
}

/// Whether a key is an entry of an array of tables, or in one.
pub(super) fn in_array(key: &str) -> bool {
    entry_of(key).is_some()
}

/// Whether the daemon itself reads a variable, or is told something by it that is for nobody else.
pub(super) fn is_own_name(name: &str) -> bool {
    let plain = name.strip_suffix("_FILE").unwrap_or(name);
    let older = || OLDER_NAMES.iter().flat_map(|(_, names)| *names);
    name.starts_with("BELLWETHER_")
        || ["CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"].contains(&name)
        || older().any(|older| *older == name || *older == plain)
}

/// Reads a TOML text into its keys (`section.key`, and `table.1.key` in the first entry of an array of tables). A text that is not TOML is one problem.
pub(super) fn read_toml(text: &str, path: Option<&str>) -> Result<BTreeMap<String, Sourced>, Problem> {
    let document = Document::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        Problem::new(
            path.unwrap_or("default.toml"),
            Origin::File { path: path.unwrap_or("default.toml").to_owned(), line },
            format!("this is not TOML: {}", error.message()),
            "mend the line; `bellwether config default` prints a file that parses",
        )
    })?;
    let mut keys = BTreeMap::new();
    flatten(document.as_table(), "", text, path, &mut keys);
    Ok(keys)
}

fn flatten(table: &dyn TableLike, prefix: &str, text: &str, path: Option<&str>, keys: &mut BTreeMap<String, Sourced>) {
    let origin = |span: Option<std::ops::Range<usize>>| match path {
        None => Origin::Default,
        Some(path) => Origin::File { path: path.to_owned(), line: span.map_or(1, |span| line_of(text, span.start)) },
    };
    for (name, item) in table.iter() {
        let key = format!("{prefix}{name}");
        if let Some(inner) = item.as_table_like() {
            flatten(inner, &format!("{key}."), text, path, keys);
        } else if let Some(entries) = item.as_array_of_tables() {
            for (entry, number) in entries.iter().zip(1..) {
                // The entry itself, so that an empty one is seen too, with its line.
                let key = format!("{key}.{number}");
                keys.insert(key.clone(), Sourced { value: Value::Other("a table"), origin: origin(entry.span()) });
                flatten(entry, &format!("{key}."), text, path, keys);
            }
        } else {
            keys.insert(key, Sourced { value: value_of(item), origin: origin(item.span()) });
        }
    }
}

fn value_of(item: &Item) -> Value {
    if let Some(text) = item.as_str() {
        Value::Text(text.to_owned())
    } else if let Some(number) = item.as_integer() {
        Value::Integer(number)
    } else if let Some(flag) = item.as_bool() {
        Value::Boolean(flag)
    } else if let Some(array) = item.as_array() {
        let items: Option<Vec<String>> = array.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        items.map_or(Value::Other("a list of something else than text"), Value::List)
    } else {
        Value::Other(item.type_name())
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// Looks a key up outside TOML: credential, then `NAME_FILE`, then the environment. Each name that was asked for is
/// known from then on, so that a misspelt one can be told.
pub(super) fn outside(key: &str, environment: &Environment) -> Result<Option<Sourced>, Problem> {
    if let Some(directory) = environment.get("CREDENTIALS_DIRECTORY") {
        for name in names_of(key) {
            let path = Path::new(directory).join(&name);
            if path.is_file() {
                let value = Value::Text(read_secret(key, &name, &path)?);
                return Ok(Some(Sourced { value, origin: Origin::Credential(name) }));
            }
        }
    }
    for name in names_of(key) {
        let variable = format!("{name}_FILE");
        if let Some(path) = environment.get(&variable) {
            let value = Value::Text(read_secret(key, &variable, &PathBuf::from(path))?);
            let path = path.to_owned();
            return Ok(Some(Sourced { value, origin: Origin::SecretFile { variable, path } }));
        }
    }
    for name in names_of(key) {
        if let Some(text) = environment.get(&name) {
            let value = Value::Text(text.to_owned());
            return Ok(Some(Sourced { value, origin: Origin::Environment(name) }));
        }
    }
    Ok(None)
}

fn read_secret(key: &str, named_by: &str, path: &Path) -> Result<String, Problem> {
    let problem = |message: String, fix: &str| {
        let origin = Origin::SecretFile { variable: named_by.to_owned(), path: path.display().to_string() };
        Problem::new(key, origin, message, fix)
    };
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > MAX_SECRET_BYTES {
        return Err(problem(
            format!("the file has {size} bytes, the most is {MAX_SECRET_BYTES}"),
            "name the right file",
        ));
    }
    match std::fs::read_to_string(path) {
        // Editors and `echo` end a file with a newline that is not part of the secret.
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(problem(format!("the file cannot be read: {error}"), "name a file this user may read")),
    }
}
