//! Everything an operator can set, read once, checked whole.
//!
//! `config/default.toml` < `--config FILE` < environment < `NAME_FILE` < `$CREDENTIALS_DIRECTORY/NAME`. This folder is the
//! only reader of the environment. Every mistake is found in one pass and names its key, its place and the fix.

mod billing;
mod components;
mod database;
mod history;
mod ingest;
mod mail;
mod origins;
mod paypal;
mod production;
mod reader;
mod sources;
mod universe;
mod value;
mod webhook_sources;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::billing::Rules;
use crate::calendar::Calendars;
pub use billing::SiteConfig;
pub use components::{COMPONENT_MARKS, ComponentConfig, ComponentMisfire, ComponentOverlap, ComponentRuns};
pub use database::DatabaseTarget;
pub use history::HistoryConfig;
pub use ingest::{
    AlpacaConfig, AlpacaFeed, CsvConfig, CsvSource, IngestConfig, JournalConfig, MassiveConfig, ProviderConfig,
    TiingoConfig, YahooConfig,
};
pub use mail::{MailConfig, MailSecurity, MailServer};
pub use paypal::{PayPalConfig, PayPalCredentials, PayPalStage, VerifyBy};
use reader::Reader;
pub use sources::{DEFAULT_TOML, Environment};
pub use universe::{ListingKind, Place, UniverseConfig, UniverseSource};
pub use value::Origin;
pub use webhook_sources::WebhookSource;

/// A mistake in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The key, or the file when it cannot be read at all.
    pub key: String,
    /// Where the value was said.
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    fn new(key: &str, origin: Origin, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin, message: message.into(), fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}; fix: {}", self.key, self.origin, self.message, self.fix)
    }
}

/// Every mistake that was found; the process ends with exit code 78.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} mistake(s)", .0.len())]
pub struct Problems(pub Vec<Problem>);

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// `section.key`.
    pub key: String,
    /// The value as it may be shown; `None` where it is not set.
    pub shown: Option<String>,
    /// Where it was said.
    pub origin: Origin,
}

/// How strict to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Runs with what it has.
    Development,
    /// Refuses what must not be exposed.
    Production,
}

impl Stage {
    /// The name in reports and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// The market calendar.
#[derive(Debug, Clone)]
pub struct CalendarConfig {
    /// MIC of the venue that drives the schedule.
    pub exchange: String,
    /// CSV of the operator's own exceptions.
    pub exceptions: Option<PathBuf>,
    /// MICs of the venues whose night sessions are held.
    pub overnight: Vec<String>,
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Open connections.
    pub max_connections: usize,
    /// Clients of the stream of states, of these connections.
    pub max_streams: usize,
    /// The origins whose pages may read, as browsers write them: that of the site, and those that are named.
    pub cors_origins: Vec<String>,
    /// Whether the API describes itself.
    pub docs: bool,
    /// Bytes of a request body.
    pub max_body_bytes: usize,
    /// For the head, and again for the body.
    pub read_timeout: Duration,
    /// For an answer that the client does not read.
    pub write_timeout: Duration,
}

/// The typed, validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// API listener.
    pub listen: SocketAddr,
    /// Metrics listener.
    pub metrics_listen: SocketAddr,
    /// Development or production.
    pub stage: Stage,
    /// Host names that are answered; `*` for all.
    pub allowed_hosts: Vec<String>,
    /// Accepted cron secrets, newest first; none: the call is closed.
    pub cron_secrets: Vec<SecretString>,
    /// Accepted tokens of operators, newest first; none: their calls are closed.
    pub operator_tokens: Vec<SecretString>,
    /// The market calendar.
    pub calendar: CalendarConfig,
    /// Where state is kept.
    pub database: DatabaseTarget,
    /// PostgreSQL connections, or SQLite readers.
    pub database_connections: u32,
    /// Longest statement or wait for a connection.
    pub database_timeout: Duration,
    /// Filter directive of the log.
    pub log_level: String,
    /// JSON instead of text.
    pub log_json: bool,
    /// Where errors are reported.
    pub sentry_dsn: Option<SecretString>,
    /// Release named in reports.
    pub release: String,
    /// HTTP limits.
    pub http: HttpConfig,
    /// Whether tokio-cron-scheduler wakes the planner too.
    pub cron_waker: bool,
    /// How long runs may go on after SIGTERM.
    pub drain: Duration,
    /// How long ledger and cycle rows are kept.
    pub retention: Duration,
    /// How long the right to plan lasts without being renewed.
    pub lease: Duration,
    /// Whether to start although the ledger is ahead of the clock.
    pub trust_clock: bool,
    /// Ingestion.
    pub ingest: IngestConfig,
    /// The site.
    pub site: SiteConfig,
    /// How letters are sent.
    pub mail: MailConfig,
    /// What is sold, and the rules of time around it.
    pub billing: Rules,
    /// How long the past is kept.
    pub history: HistoryConfig,
    /// Subscriptions one run handles.
    pub renewals_limit: u32,
    /// Subscriptions read at a time.
    pub renewals_batch: u32,
    /// The PayPal account.
    pub paypal: PayPalConfig,
    /// Senders of the site's own events.
    pub webhook_sources: Vec<WebhookSource>,
    /// The site's own commands.
    pub components: Vec<ComponentConfig>,
    /// How each key came to its value, in the order of reading.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(file: Option<&Path>, environment: &Environment) -> Result<Self, Problems> {
        let mut toml = sources::read_toml(DEFAULT_TOML, None).map_err(|problem| Problems(vec![problem]))?;
        let mut early = Vec::new();
        if let Some(path) = file {
            match read_file(path) {
                Ok(keys) => toml.extend(keys),
                Err(problem) => early.push(problem),
            }
        }
        let mut reader = Reader::new(toml, environment);
        reader.problems = early;
        let mut config = read(&mut reader, environment);
        if let Some(config) = &mut config {
            config.ingest.universe.built_in_will_do = config.stage != Stage::Production;
        }
        reader.refuse_unknown();
        match config {
            Some(config) if reader.problems.is_empty() => Ok(Self { settings: reader.settings, ..config }),
            _ => Err(Problems(reader.problems)),
        }
    }

    /// The universe, for messages: the file, or the kind of source.
    pub fn universe_name(&self) -> String {
        match &self.ingest.universe.source {
            UniverseSource::File(path) => path.display().to_string(),
            source => source.name().to_owned(),
        }
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, value::Sourced>, Problem> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let origin = Origin::File { path: name.clone(), line: 0 };
        Problem::new("--config", origin, format!("the file cannot be read: {error}"), "name a readable TOML file")
    })?;
    sources::read_toml(&text, Some(&name))
}

/// Reads each key in the order of `default.toml`. `None` only where a value is missing whose absence is a problem already.
fn read(reader: &mut Reader<'_>, environment: &Environment) -> Option<Config> {
    let listen = reader.parse("listen", "an address such as \"127.0.0.1:8000\"");
    let metrics_listen = reader.parse("metrics_listen", "an address such as \"127.0.0.1:9000\"");
    let stage = read_stage(reader);
    let allowed_hosts = reader.list("allowed_hosts");
    let [cron_secrets, secret_keys, operator_tokens] =
        ["cron_secret", "secret_key", "operator_token"].map(|key| reader.secrets(key));
    let database = database::read(reader, environment);
    let database_connections = reader.integer("database.max_connections", 1..=100);
    let database_timeout = seconds(reader, "database.timeout_seconds", 1..=20);
    let log_level = reader.text("log.level");
    if let Some(Err(message)) = log_level.as_deref().map(check_log_filter) {
        reader.refuse("log.level", message, "write error, warn, info, debug or trace, or target=level pairs");
    }
    let log_json = reader.boolean("log.json");
    let sentry_dsn = reader.secret("sentry.dsn");
    refuse_bad_dsn(reader, sentry_dsn.as_ref());
    let release = reader.text("sentry.release");
    let mut http = read_http(reader);
    let calendar = read_calendar(reader);
    let cron_waker = reader.boolean("schedule.cron_waker");
    let drain = seconds(reader, "schedule.drain_seconds", 0..=600);
    let retention = Duration::from_hours(24 * u64::from(reader.integer("schedule.retention_days", 30_u16..=3_650)));
    let lease = seconds(reader, "schedule.lease_seconds", 2..=60);
    let trust_clock = reader.boolean("schedule.trust_clock");
    let (site, mail, billing) = (billing::read_site(reader), mail::read(reader), billing::read(reader));
    http.cors_origins.extend(origins::of_site(reader, &site.frontend_url, stage));
    let ingest = ingest::read(reader, database::beside(database.as_ref(), environment));
    let history = history::read(reader);
    let (renewals_limit, renewals_batch) = billing::read_limits(reader);
    let paypal = paypal::read(reader);
    let (webhook_sources, components) = (webhook_sources::read(reader), components::read(reader, environment));
    let config = Config {
        listen: listen?,
        metrics_listen: metrics_listen?,
        stage: stage?,
        allowed_hosts,
        cron_secrets,
        operator_tokens,
        calendar,
        database: database?,
        database_connections,
        database_timeout,
        log_level: log_level?,
        log_json,
        sentry_dsn,
        release: release.unwrap_or_else(|| concat!("bellwether@", env!("CARGO_PKG_VERSION")).to_owned()),
        http,
        cron_waker,
        drain,
        retention,
        lease,
        trust_clock,
        ingest: ingest?,
        site,
        mail,
        billing,
        history,
        renewals_limit,
        renewals_batch,
        paypal: paypal?,
        webhook_sources,
        components,
        settings: Vec::new(),
    };
    if config.stage == Stage::Production {
        production::refuse_exposure(reader, &config, &secret_keys);
    }
    Some(config)
}

/// Whether a text is a log filter. A bare word that is no level would be taken for a target and silence everything else.
///
/// # Errors
/// What is wrong with it.
pub fn check_log_filter(text: &str) -> Result<(), String> {
    let bare = text.split(',').map(str::trim).filter(|part| !part.contains('='));
    for part in bare {
        if part.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(format!("{part:?} is not a level"));
        }
    }
    let parsed = text.parse::<tracing_subscriber::filter::Targets>();
    parsed.map(|_| ()).map_err(|fault| format!("{text:?} is not a log filter: {fault}"))
}

fn read_stage(reader: &mut Reader<'_>) -> Option<Stage> {
    match reader.text("environment")?.to_lowercase().as_str() {
        "development" | "dev" | "test" | "staging" => Some(Stage::Development),
        "production" | "prod" => Some(Stage::Production),
        other => {
            let message = format!("{other:?} is not an environment");
            reader.refuse("environment", message, "write \"development\" or \"production\"");
            None
        }
    }
}

fn seconds(reader: &mut Reader<'_>, key: &str, range: std::ops::RangeInclusive<u16>) -> Duration {
    Duration::from_secs(u64::from(reader.integer(key, range)))
}

fn read_http(reader: &mut Reader<'_>) -> HttpConfig {
    HttpConfig {
        max_connections: usize::from(reader.integer("http.max_connections", 1_u16..=60_000)),
        max_streams: usize::from(reader.integer("http.max_streams", 0_u16..=60_000)),
        cors_origins: origins::read(reader),
        docs: reader.boolean("http.docs"),
        max_body_bytes: reader.integer("http.max_body_bytes", 1_024_u32..=16_777_216) as usize,
        read_timeout: seconds(reader, "http.read_timeout_seconds", 1..=120),
        write_timeout: seconds(reader, "http.write_timeout_seconds", 1..=600),
    }
}

fn refuse_bad_dsn(reader: &mut Reader<'_>, dsn: Option<&SecretString>) {
    use secrecy::ExposeSecret;
    if let Some(dsn) = dsn
        && !Url::parse(dsn.expose_secret()).is_ok_and(|url| is_dsn(&url))
    {
        // The parser's own words could repeat the key that is in the DSN.
        reader.refuse("sentry.dsn", "this is not a Sentry DSN", "copy it from the project: https://KEY@HOST/PROJECT");
    }
}

/// `https://KEY@HOST/PROJECT`.
fn is_dsn(url: &Url) -> bool {
    let project = url.path().rsplit('/').next().unwrap_or_default();
    url.has_host() && !url.username().is_empty() && !project.is_empty()
}

fn read_calendar(reader: &mut Reader<'_>) -> CalendarConfig {
    let exchange = reader.text("calendar.exchange").unwrap_or_default().to_uppercase();
    let exceptions = reader.text("calendar.exceptions").map(PathBuf::from);
    let overnight: Vec<_> = reader.list("calendar.overnight").iter().map(|mic| mic.to_uppercase()).collect();
    match Calendars::built_in() {
        Err(fault) => reader.refuse("calendar.exchange", fault.to_string(), "install another build"),
        Ok(calendars) => {
            if !calendars.mics().any(|mic| mic == exchange) {
                let known = calendars.mics().collect::<Vec<_>>().join(", ");
                let message = format!("there is no calendar of {exchange:?}");
                reader.refuse("calendar.exchange", message, format!("choose from {known}"));
            }
            for mic in overnight.iter().filter(|mic| !calendars.with_overnight().any(|known| known == **mic)) {
                let known = calendars.with_overnight().collect::<Vec<_>>().join(", ");
                let message = format!("{mic:?} has no night session in its hours");
                reader.refuse("calendar.overnight", message, format!("choose from {known}"));
            }
        }
    }
    if let Some(path) = exceptions.as_ref().filter(|path| !path.is_file()) {
        let message = format!("there is no file {}", path.display());
        reader.refuse("calendar.exceptions", message, "name a CSV file; one with the header line alone is fine");
    }
    CalendarConfig { exchange, exceptions, overnight }
}

#[cfg(test)]
mod tests;
