//! Ingestion: where quotes come from, and how they are asked for.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::seconds;
use super::universe::{self, Place, UniverseConfig};
use crate::calendar::Phase;
use crate::market::{DelayClass, LicenceClass};

/// What may be chosen, for messages.
const PROVIDERS: &str = "\"sim\", \"massive\", \"alpaca\", \"tiingo\", \"csv\", \"yahoo\"";

/// Where quotes come from.
#[derive(Debug, Clone)]
pub enum ProviderConfig {
    /// The simulated exchange.
    Sim {
        /// Same seed, same prices.
        seed: u64,
    },
    /// Massive (Polygon).
    Massive(MassiveConfig),
    /// Alpaca, with the operator's own keys.
    Alpaca(AlpacaConfig),
    /// Tiingo's list.
    Tiingo(TiingoConfig),
    /// A CSV file or URL.
    Csv(CsvConfig),
    /// Yahoo, where an operator has said that its terms allow it.
    Yahoo(YahooConfig),
}

impl ProviderConfig {
    /// Whether its source has closing prices only.
    pub fn is_end_of_day(&self) -> bool {
        matches!(self, Self::Csv(CsvConfig { delay: DelayClass::EndOfDay, .. }))
    }

    /// How far behind the market the data runs by contract.
    pub fn delay(&self) -> Duration {
        match self {
            Self::Massive(massive) => massive.delay,
            Self::Alpaca(alpaca) => alpaca.feed.delay(),
            Self::Csv(csv) => csv.lag(),
            Self::Sim { .. } | Self::Tiingo(_) | Self::Yahoo(_) => Duration::ZERO,
        }
    }
}

/// Access to Yahoo's quotes.
#[derive(Debug, Clone)]
pub struct YahooConfig {
    /// Root of the interface.
    pub base_url: Url,
    /// The page whose cookie opens it.
    pub cookie_url: Url,
    /// Sent as `User-Agent`; `None`: this program's own name.
    pub user_agent: Option<String>,
    /// What the operator wants to ask at most.
    pub requests_per_hour: u32,
    /// The longest one call may take.
    pub timeout: Duration,
}

/// Access to Tiingo's REST API.
#[derive(Debug, Clone)]
pub struct TiingoConfig {
    /// Root of the API.
    pub base_url: Url,
    /// The token.
    pub api_key: SecretString,
    /// The plan's allowance.
    pub requests_per_hour: u32,
    /// The longest one call may take.
    pub timeout: Duration,
    /// Who may be shown its numbers by contract.
    pub licence: LicenceClass,
}

/// Quotes in a CSV text.
#[derive(Debug, Clone)]
pub struct CsvConfig {
    /// Where it is.
    pub source: CsvSource,
    /// Bearer token of the URL, if it wants one.
    pub api_key: Option<SecretString>,
    /// The longest one call may take.
    pub timeout: Duration,
    /// How far behind the market it is written.
    pub delay: DelayClass,
    /// Who may be shown its numbers.
    pub licence: LicenceClass,
}

impl CsvConfig {
    /// The same as a span.
    pub fn lag(&self) -> Duration {
        match self.delay {
            DelayClass::RealTime => Duration::ZERO,
            DelayClass::Delayed15 => Duration::from_mins(15),
            // A session and a bit, in market time.
            DelayClass::EndOfDay => Duration::from_hours(7),
        }
    }
}

/// Where a CSV text is.
#[derive(Debug, Clone)]
pub enum CsvSource {
    /// On this host.
    File(PathBuf),
    /// Behind a URL.
    Url(Url),
}

/// Access to Alpaca's market data API.
#[derive(Debug, Clone)]
pub struct AlpacaConfig {
    /// Root of the API.
    pub base_url: Url,
    /// Id of the key.
    pub api_key: SecretString,
    /// Its secret.
    pub api_secret: SecretString,
    /// Whose trades.
    pub feed: AlpacaFeed,
    /// The plan's allowance.
    pub requests_per_minute: u32,
    /// The longest one call may take.
    pub timeout: Duration,
}

/// Whose trades Alpaca tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlpacaFeed {
    /// Those of one small exchange.
    Iex,
    /// All.
    Sip,
    /// All, fifteen minutes late.
    DelayedSip,
}

impl AlpacaFeed {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iex => "iex",
            Self::Sip => "sip",
            Self::DelayedSip => "delayed_sip",
        }
    }

    /// How far behind the market it runs.
    pub fn delay(self) -> Duration {
        match self {
            Self::Iex | Self::Sip => Duration::ZERO,
            Self::DelayedSip => Duration::from_mins(15),
        }
    }

    /// The feed of past days, which are not delayed any more.
    pub fn past_name(self) -> &'static str {
        match self {
            Self::Iex => "iex",
            Self::Sip | Self::DelayedSip => "sip",
        }
    }
}

/// Access to Massive's REST API.
#[derive(Debug, Clone)]
pub struct MassiveConfig {
    /// Root of the API.
    pub base_url: Url,
    /// Bearer token.
    pub api_key: SecretString,
    /// The plan's allowance.
    pub requests_per_minute: u32,
    /// The longest one call may take.
    pub timeout: Duration,
    /// How far behind the market the plan's data runs.
    pub delay: Duration,
    /// Who may be shown its numbers by contract.
    pub licence: LicenceClass,
}

/// Ingestion.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Source of quotes.
    pub provider: ProviderConfig,
    /// One cycle every so long.
    pub cadence: Duration,
    /// In these phases.
    pub phases: Vec<Phase>,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Tries of one request in one cycle.
    pub attempts: u32,
    /// Second copies of slow calls, in percent of the calls.
    pub hedge_percent: u32,
    /// What is quoted.
    pub universe: UniverseConfig,
    /// What is shown and not in the database yet.
    pub journal: JournalConfig,
}

/// The journal of cycles.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// Where its files are.
    pub directory: PathBuf,
    /// The most it holds.
    pub most_bytes: u64,
}

/// `beside`: where the journal is when nothing else is said.
pub(super) fn read(reader: &mut Reader<'_>, beside: PathBuf) -> Option<IngestConfig> {
    let provider = reader.text("ingest.provider");
    let cadence = seconds(reader, "ingest.cadence_seconds", 10..=3_600);
    let phases = read_phases(reader);
    let concurrency = usize::from(reader.integer("ingest.concurrency", 1_u16..=256));
    let attempts = reader.integer("ingest.attempts", 1..=20);
    let hedge_percent = reader.integer("ingest.hedge_percent", 0..=5);
    let universe = universe::read(reader);
    let journal = JournalConfig {
        directory: reader.text("ingest.journal.directory").map_or(beside, PathBuf::from),
        most_bytes: 1_000_000 * u64::from(reader.integer("ingest.journal.max_megabytes", 8_u16..=u16::MAX)),
    };
    let seed = reader.integer("ingest.sim.seed", 0_i64..=i64::MAX).unsigned_abs();
    let chosen = |name| provider.as_deref() == Some(name);
    let massive = read_massive(reader, chosen("massive"));
    let alpaca = read_alpaca(reader, chosen("alpaca"));
    let tiingo = read_tiingo(reader, chosen("tiingo"));
    let csv = read_csv(reader, chosen("csv"));
    let yahoo = read_yahoo(reader, chosen("yahoo"));
    let provider = match provider?.as_str() {
        "sim" => ProviderConfig::Sim { seed },
        "massive" => ProviderConfig::Massive(massive?),
        "alpaca" => ProviderConfig::Alpaca(alpaca?),
        "tiingo" => ProviderConfig::Tiingo(tiingo?),
        "csv" => ProviderConfig::Csv(csv?),
        "yahoo" => ProviderConfig::Yahoo(yahoo?),
        other => {
            let fix = format!("choose from {PROVIDERS}");
            reader.refuse("ingest.provider", format!("there is no provider {other:?}"), fix);
            return None;
        }
    };
    Some(IngestConfig { provider, cadence, phases, concurrency, attempts, hedge_percent, universe, journal })
}

fn read_phases(reader: &mut Reader<'_>) -> Vec<Phase> {
    let fix = "choose from \"pre\", \"regular\", \"post\", \"overnight\"";
    let traded = [Phase::Pre, Phase::Regular, Phase::Post, Phase::Overnight];
    let mut phases = Vec::new();
    for name in reader.list("ingest.phases") {
        match name.parse() {
            Ok(phase) if traded.contains(&phase) && !phases.contains(&phase) => phases.push(phase),
            Ok(phase) if traded.contains(&phase) => {}
            _ => reader.refuse("ingest.phases", format!("{name:?} is not a phase to ingest in"), fix),
        }
    }
    if phases.is_empty() {
        reader.refuse("ingest.phases", "no phase is named, so nothing would ever be ingested", fix);
    }
    phases
}

fn read_massive(reader: &mut Reader<'_>, chosen: bool) -> Option<MassiveConfig> {
    let base_url = read_base_url(reader, "ingest.massive.base_url");
    let api_key = reader.secret("ingest.massive.api_key");
    let requests_per_minute = reader.integer("ingest.massive.requests_per_minute", 1..=100_000);
    let timeout = seconds(reader, "ingest.massive.timeout_seconds", 1..=600);
    let delay = seconds(reader, "ingest.massive.delay_seconds", 0..=7_200);
    let licence = read_licence(reader, "ingest.massive.licence");
    if chosen {
        demand(reader, "massive", "api_key", api_key.is_some());
    }
    Some(MassiveConfig {
        base_url: base_url?,
        api_key: api_key?,
        requests_per_minute,
        timeout,
        delay,
        licence: licence?,
    })
}

fn read_alpaca(reader: &mut Reader<'_>, chosen: bool) -> Option<AlpacaConfig> {
    let base_url = read_base_url(reader, "ingest.alpaca.base_url");
    let api_key = reader.secret("ingest.alpaca.api_key");
    let api_secret = reader.secret("ingest.alpaca.api_secret");
    let feeds = [AlpacaFeed::Iex, AlpacaFeed::Sip, AlpacaFeed::DelayedSip];
    let feed = reader.text("ingest.alpaca.feed");
    let known = feed.as_deref().and_then(|name| feeds.into_iter().find(|feed| feed.name() == name));
    if let (Some(name), None) = (&feed, known) {
        let fix = "write \"iex\", \"sip\" or \"delayed_sip\"";
        reader.refuse("ingest.alpaca.feed", format!("there is no feed {name:?}"), fix);
    }
    let requests_per_minute = reader.integer("ingest.alpaca.requests_per_minute", 1..=100_000);
    let timeout = seconds(reader, "ingest.alpaca.timeout_seconds", 1..=600);
    if chosen {
        demand(reader, "alpaca", "api_key", api_key.is_some());
        demand(reader, "alpaca", "api_secret", api_secret.is_some());
    }
    Some(AlpacaConfig {
        base_url: base_url?,
        api_key: api_key?,
        api_secret: api_secret?,
        feed: known?,
        requests_per_minute,
        timeout,
    })
}

fn read_tiingo(reader: &mut Reader<'_>, chosen: bool) -> Option<TiingoConfig> {
    let base_url = read_base_url(reader, "ingest.tiingo.base_url");
    let api_key = reader.secret("ingest.tiingo.api_key");
    let requests_per_hour = reader.integer("ingest.tiingo.requests_per_hour", 1..=1_000_000);
    let timeout = seconds(reader, "ingest.tiingo.timeout_seconds", 1..=600);
    let licence = read_licence(reader, "ingest.tiingo.licence");
    if chosen {
        demand(reader, "tiingo", "api_key", api_key.is_some());
    }
    Some(TiingoConfig { base_url: base_url?, api_key: api_key?, requests_per_hour, timeout, licence: licence? })
}

fn read_csv(reader: &mut Reader<'_>, chosen: bool) -> Option<CsvConfig> {
    let file = reader.text("ingest.csv.file").map(PathBuf::from);
    let url = read_base_url(reader, "ingest.csv.base_url");
    let api_key = reader.secret("ingest.csv.api_key");
    let timeout = seconds(reader, "ingest.csv.timeout_seconds", 1..=600);
    let delays = [DelayClass::RealTime, DelayClass::Delayed15, DelayClass::EndOfDay];
    let delay = reader.text("ingest.csv.delay");
    let known = delay.as_deref().and_then(|name| delays.into_iter().find(|class| class.name() == name));
    if let (Some(name), None) = (&delay, known) {
        let fix = "write \"real_time\", \"delayed_15\" or \"end_of_day\"";
        reader.refuse("ingest.csv.delay", format!("{name:?} is no delay"), fix);
    }
    let licence = read_licence(reader, "ingest.csv.licence");
    let source = match (file, url) {
        (Some(path), None) => Some(CsvSource::File(path)),
        (None, Some(url)) => Some(CsvSource::Url(url)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            let message = "a file and a URL are both named";
            reader.refuse("ingest.csv.file", message, "keep ingest.csv.file or ingest.csv.base_url");
            return None;
        }
    };
    if chosen && source.is_none() {
        let fix = "set ingest.csv.file to a path, or ingest.csv.base_url to the URL of the text";
        reader.refuse("ingest.csv.file", "ingest.provider is \"csv\" and there is no source", fix);
    }
    Some(CsvConfig { source: source?, api_key, timeout, delay: known?, licence: licence? })
}

fn read_yahoo(reader: &mut Reader<'_>, chosen: bool) -> Option<YahooConfig> {
    let accepted = reader.boolean("ingest.yahoo.accept_terms");
    let base_url = read_base_url(reader, "ingest.yahoo.base_url");
    let cookie_url = read_base_url(reader, "ingest.yahoo.cookie_url");
    let user_agent = reader.text("ingest.yahoo.user_agent");
    if user_agent.as_ref().is_some_and(|name| !name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')) {
        reader.refuse("ingest.yahoo.user_agent", "a header holds letters, digits and marks only", "write it in ASCII");
    }
    let requests_per_hour = reader.integer("ingest.yahoo.requests_per_hour", 20..=100_000);
    let timeout = seconds(reader, "ingest.yahoo.timeout_seconds", 1..=600);
    if chosen && !accepted {
        let message = "ingest.provider is \"yahoo\", and nobody has granted the use of its data";
        let fix = "read Yahoo's terms and docs/providers.md; if you may use it, set ingest.yahoo.accept_terms = true";
        reader.refuse("ingest.yahoo.accept_terms", message, fix);
    }
    Some(YahooConfig { base_url: base_url?, cookie_url: cookie_url?, user_agent, requests_per_hour, timeout })
}

/// An empty one is none, and no mistake.
fn read_base_url(reader: &mut Reader<'_>, key: &str) -> Option<Url> {
    let text = reader.text_shown(key, shown_url)?;
    let url = Url::parse(&text).ok().filter(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
    if url.is_none() {
        reader.refuse(key, format!("{:?} is not an http URL", shown_url(&text)), "write https://HOST");
    }
    url
}

/// Without what may be secret in it: user, password and query.
fn shown_url(text: &str) -> String {
    if !text.contains(['@', '?', '#']) {
        return text.to_owned();
    }
    match text.parse() {
        Ok(place @ Place::Url(_)) => place.to_string(),
        // Where it ends in something that cannot be taken apart, nobody can say which part is secret.
        _ => "[redacted]".to_owned(),
    }
}

/// A secret that the chosen provider cannot do without.
fn demand(reader: &mut Reader<'_>, provider: &str, name: &str, given: bool) {
    if !given {
        let (section, key) = (provider.to_uppercase(), name.to_uppercase());
        reader.refuse(
            &format!("ingest.{provider}.{name}"),
            format!(
                "ingest.provider is \"{provider}\" and there is no {}",
                if name == "api_key" { "key" } else { "secret" }
            ),
            format!("set BELLWETHER_INGEST__{section}__{key} or BELLWETHER_INGEST__{section}__{key}_FILE"),
        );
    }
}

/// What the contract with a source allows; only the operator knows it.
fn read_licence(reader: &mut Reader<'_>, key: &str) -> Option<LicenceClass> {
    let name = reader.text(key)?;
    let class = LicenceClass::of_contract(&name);
    if class.is_none() {
        let fix =
            "write \"own_key\" (nobody else is shown the data), \"display\" (a contract allows it) or \"personal\"";
        reader.refuse(key, format!("{name:?} is no licence"), fix);
    }
    class
}
