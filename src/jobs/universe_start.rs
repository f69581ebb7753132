//! The universe a start begins with, without a network.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::{info, warn};

use crate::config::{Place, UniverseConfig, UniverseSource};
use crate::ingest::{CurrentUniverse, SharedUniverse};
use crate::market::{
    Counts, Directory, DirectoryKind, KnownSymbol, Listing, Selection, SymbolStatus, Universe, UniverseError, assemble,
    choose,
};
use crate::store::{Store, StoreError, UniverseDocument};

/// Why there is no universe to begin with.
#[derive(Debug, thiserror::Error)]
pub enum UniverseFault {
    /// A list cannot be used.
    #[error("ingest.universe: {0}")]
    List(#[from] UniverseError),
    /// A file cannot be read.
    #[error("ingest.universe: {path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// The reason.
        cause: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The universe that is quoted when no other is named.
pub(super) fn built_in() -> Result<Universe, UniverseError> {
    Universe::parse_csv(include_str!("../../config/universe.csv"), "config/universe.csv")
}

/// The two directories: the name each is kept by, its place, its kind.
pub(super) fn both<'a>(nasdaq: &'a Place, other: &'a Place) -> [(&'static str, &'a Place, DirectoryKind); 2] {
    [("nasdaq_listed", nasdaq, DirectoryKind::NasdaqListed), ("other_listed", other, DirectoryKind::OtherListed)]
}

/// The directories as they were last read from the places that are configured; `None` where they were not.
pub(super) fn kept_directories(config: &UniverseConfig, documents: &[UniverseDocument]) -> Option<Vec<Directory>> {
    let UniverseSource::Directories { nasdaq_listed, other_listed } = &config.source else { return None };
    let read = |(name, place, kind): (&str, &Place, DirectoryKind)| {
        let origin = place.to_string();
        let kept = documents.iter().find(|document| document.name == name && document.place == origin)?;
        Directory::parse(kind, &kept.body, &origin).ok()
    };
    both(nasdaq_listed, other_listed).into_iter().map(read).collect()
}

/// When the oldest of `directories` was made.
pub(super) fn oldest(directories: &[Directory]) -> Option<DateTime<Utc>> {
    directories.iter().filter_map(Directory::made_at).min()
}

/// What was last kept, before the operator's word, and when it was made. Where the lists themselves are not there (any more), the
/// symbols that came of them must do.
fn kept(
    config: &UniverseConfig,
    known: &[KnownSymbol],
    documents: &[UniverseDocument],
) -> Option<(Vec<Listing>, Option<DateTime<Utc>>)> {
    if let Some(directories) = kept_directories(config, documents) {
        let made_at = oldest(&directories);
        return Some((choose(directories, &config.leave_out).0, made_at));
    }
    let stored: Vec<Listing> = active(known).cloned().collect();
    (!stored.is_empty()).then_some((stored, None))
}

/// The list that the configuration itself has: the operator's file, or the built-in one; with what the operator adds and takes
/// out. `None` when it has to be fetched.
///
/// # Errors
/// When a file cannot be read or used.
pub fn local(config: &UniverseConfig, known: &[KnownSymbol]) -> Result<Option<Universe>, UniverseFault> {
    let selection = selection(config)?;
    let list = match &config.source {
        UniverseSource::BuiltIn => built_in()?,
        UniverseSource::File(path) => read_csv(path)?,
        UniverseSource::Directories { .. } => return Ok(None),
    };
    let (companies, mut counts) = (HashMap::new(), Counts::default());
    Ok(Some(assemble(list.listings().to_vec(), &selection, &companies, known, &mut counts, "the universe")?))
}

/// The universe a start begins with, without a network: the configuration's own list, or the lists that were last kept with what the
/// configuration now adds and takes out, or, where there is neither, the built-in one until the first list has been fetched.
///
/// # Errors
/// When a file or the database cannot be read.
pub async fn at_start(
    config: &UniverseConfig,
    store: &Store,
    now: DateTime<Utc>,
) -> Result<SharedUniverse, UniverseFault> {
    let known = store.symbols().await?;
    let source = config.source.name();
    let state = store.universe_state().await?.filter(|state| state.source == source);
    let (refreshed_at, revision) = state.map_or((None, 0), |state| (Some(state.refreshed_at), state.revision));
    let begin = |universe: Universe, source, refreshed_at, made_at, settled| {
        let universe = Arc::new(universe);
        SharedUniverse::new(CurrentUniverse { universe, source, refreshed_at, made_at, revision }, settled)
    };
    if let Some(universe) = local(config, &known)? {
        return Ok(begin(universe, source, Some(now), None, true));
    }
    if refreshed_at.is_some()
        && let Some((listings, made_at)) = kept(config, &known, &store.universe_documents().await?)
    {
        let (companies, mut counts) = (HashMap::new(), Counts::default());
        let selection = selection(config)?;
        let universe = assemble(listings, &selection, &companies, &known, &mut counts, "the stored universe")?;
        info!(symbols = universe.len(), "the universe is the one that was last kept");
        return Ok(begin(universe, source, refreshed_at, made_at, true));
    }
    warn!("the symbol directories have never been read: the built-in list stands in until they have");
    let universe = built_in()?;
    Ok(begin(universe, UniverseSource::BuiltIn.name(), None, None, false))
}

pub(super) fn active(known: &[KnownSymbol]) -> impl Iterator<Item = &Listing> {
    known.iter().filter(|known| known.status == SymbolStatus::Active).map(|known| &known.listing)
}

/// What the operator adds and takes out.
pub(super) fn selection(config: &UniverseConfig) -> Result<Selection, UniverseFault> {
    let listed = |symbols: &[String], key: &str| -> Result<Vec<Listing>, UniverseFault> {
        symbols.iter().map(|symbol| Ok(Listing::of_symbol(symbol, key)?)).collect()
    };
    let in_file = |path: Option<&Path>| -> Result<Vec<Listing>, UniverseFault> {
        path.map_or(Ok(Vec::new()), |path| Ok(read_csv(path)?.listings().to_vec()))
    };
    let mut include = in_file(config.include_file.as_deref())?;
    let named = listed(&config.include, "ingest.universe.include")?;
    include.extend(
        named
            .into_iter()
            .filter(|listing| !include.iter().any(|other| other.symbol == listing.symbol))
            .collect::<Vec<_>>(),
    );
    let mut exclude = in_file(config.exclude_file.as_deref())?;
    exclude.extend(listed(&config.exclude, "ingest.universe.exclude")?);
    let exclude: BTreeSet<String> = exclude.into_iter().map(|listing| listing.symbol).collect();
    Ok(Selection { include, exclude })
}

fn read_csv(path: &Path) -> Result<Universe, UniverseFault> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|cause| UniverseFault::File { path: name.clone(), cause })?;
    Ok(Universe::parse_csv(&text, &name)?)
}
