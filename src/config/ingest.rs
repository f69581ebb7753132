//! Ingestion: where quotes come from, and how they are asked for.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::seconds;
use super::universe::{self, UniverseConfig};
use crate::calendar::Phase;
use crate::market::LicenceClass;

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
    /// What is quoted.
    pub universe: UniverseConfig,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<IngestConfig> {
    let provider = reader.text("ingest.provider");
    let cadence = seconds(reader, "ingest.cadence_seconds", 10..=3_600);
    let phases = read_phases(reader);
    let concurrency = usize::from(reader.integer("ingest.concurrency", 1_u16..=256));
    let attempts = reader.integer("ingest.attempts", 1..=20);
    let universe = universe::read(reader);
    let seed = reader.integer("ingest.sim.seed", 0_i64..=i64::MAX).unsigned_abs();
    let massive = read_massive(reader, provider.as_deref() == Some("massive"));
    let provider = match provider?.as_str() {
        "sim" => ProviderConfig::Sim { seed },
        "massive" => ProviderConfig::Massive(massive?),
        other => {
            reader.refuse("ingest.provider", format!("there is no provider {other:?}"), "write \"sim\" or \"massive\"");
            return None;
        }
    };
    Some(IngestConfig { provider, cadence, phases, concurrency, attempts, universe })
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
    let base_url: Option<Url> = reader.parse("ingest.massive.base_url", "a URL such as \"https://api.massive.com\"");
    let api_key = reader.secret("ingest.massive.api_key");
    let requests_per_minute = reader.integer("ingest.massive.requests_per_minute", 1..=100_000);
    let timeout = seconds(reader, "ingest.massive.timeout_seconds", 1..=600);
    let delay = seconds(reader, "ingest.massive.delay_seconds", 0..=7_200);
    let licence = read_licence(reader, "ingest.massive.licence");
    if let Some(url) = &base_url
        && !(url.has_host() && ["http", "https"].contains(&url.scheme()))
    {
        reader.refuse("ingest.massive.base_url", format!("{url} is not an http URL"), "write https://HOST");
    }
    if chosen && api_key.is_none() {
        reader.refuse(
            "ingest.massive.api_key",
            "ingest.provider is \"massive\" and there is no key",
            "set BELLWETHER_INGEST__MASSIVE__API_KEY or BELLWETHER_INGEST__MASSIVE__API_KEY_FILE",
        );
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
