//! The `universe` job: what is quoted, from the lists the configuration names. What left the list is delisted and keeps its row.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tracing::{info, warn};

use super::retention::retry;
pub use super::universe_start::{UniverseFault, at_start, local};
use super::universe_start::{active, both, built_in, kept_directories, oldest, selection};
use crate::clock::SharedClock;
use crate::config::{Place, UniverseConfig, UniverseSource};
use crate::ingest::providers::FetchError;
use crate::ingest::{CurrentUniverse, Documents, Loaded, SharedUniverse, Validators};
use crate::market::{
    Changes, Company, Counts, Directory, KnownSymbol, Listing, Universe, UniverseError, assemble, choose,
    parse_companies,
};
use crate::metrics;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};
use crate::store::{Store, StoreError, UniverseDocument};

/// The most symbols that a report and the log name one by one.
const NAMED: usize = 20;

/// What a refresh did: its report in the ledger.
#[derive(Debug, Clone, Serialize)]
pub struct UniverseReport {
    /// `built-in`, `file` or `directories`.
    pub source: &'static str,
    /// Symbols that are quoted from now on.
    pub symbols: usize,
    /// Lines of the source.
    pub listed: usize,
    /// Left out by their flags.
    pub left_out: usize,
    /// Added by the operator.
    pub included: usize,
    /// Taken out by the operator.
    pub excluded: usize,
    /// Symbols that are on two directories.
    pub twice: usize,
    /// How many could not be spelt here, and the first of them.
    pub unreadable: Named,
    /// New ones.
    pub added: Named,
    /// Delisted once and back.
    pub returned: Named,
    /// No more on the list.
    pub delisted: Named,
    /// Under another name.
    pub renamed: Named,
    /// The lists it was made of.
    pub lists: Vec<ListReport>,
}

/// How many, and the first of them.
#[derive(Debug, Clone, Serialize)]
pub struct Named {
    count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    first: Vec<String>,
}

/// One list of a refresh.
#[derive(Debug, Clone, Serialize)]
pub struct ListReport {
    name: String,
    lines: i64,
    /// Whether the server said that it is the version that was known.
    unchanged: bool,
    /// Why the version that was known is used, where the list could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// Keeps the universe.
#[derive(Debug)]
pub struct UniverseKeeper {
    store: Store,
    clock: SharedClock,
    config: UniverseConfig,
    shared: Arc<SharedUniverse>,
    documents: Documents,
}

/// What the lists say.
#[derive(Default)]
struct Gathered {
    listings: Vec<Listing>,
    counts: Counts,
    companies: HashMap<String, Company>,
    documents: Vec<UniverseDocument>,
    made_at: Option<DateTime<Utc>>,
    lists: Vec<ListReport>,
}

impl UniverseKeeper {
    /// Keeps `shared`. Nothing is read yet.
    ///
    /// # Errors
    /// When an HTTP client cannot be made, which is a fault of the host.
    pub fn new(
        store: Store,
        clock: SharedClock,
        config: &UniverseConfig,
        shared: Arc<SharedUniverse>,
    ) -> Result<Self, FetchError> {
        let documents = Documents::new(config.contact.as_deref(), config.timeout)?;
        Ok(Self { store, clock, config: config.clone(), shared, documents })
    }

    /// Keeps a list that came with the configuration, unless it is the one that is kept. A start is not refused for a list
    /// that shrank: the operator is there and has chosen it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_local(&self) -> Result<(), StoreError> {
        let current = self.shared.load();
        if !self.shared.is_settled() || current.source == "directories" {
            return Ok(());
        }
        let known = self.store.symbols().await?;
        let same = active(&known).eq(current.universe.listings());
        let state = self.store.universe_state().await?;
        if same && state.as_ref().is_some_and(|state| state.source == current.source) {
            return Ok(());
        }
        self.keep(Arc::clone(&current.universe), current.source, &known, &[], None).await.map(|_| ())
    }

    /// Takes over a list that another instance on the same database has kept since.
    ///
    /// # Errors
    /// When the database fails; the universe stays.
    pub async fn adopt_newer(&self) -> Result<(), StoreError> {
        if self.store.is_exclusive() {
            return Ok(());
        }
        let Some(state) = self.store.universe_state().await? else { return Ok(()) };
        let current = self.shared.load();
        if state.revision <= current.revision || state.source != self.config.source.name() {
            return Ok(());
        }
        let known = self.store.symbols().await?;
        let Ok(universe) = Universe::of(active(&known).cloned().collect(), "symbols") else { return Ok(()) };
        info!(symbols = universe.len(), revision = state.revision, "another instance has refreshed the universe");
        let universe = Arc::new(universe);
        let made_at = kept_directories(&self.config, &self.store.universe_documents().await?);
        let made_at = made_at.and_then(|directories| oldest(&directories));
        let (source, refreshed_at) = (self.config.source.name(), Some(state.refreshed_at));
        self.shared.swap(CurrentUniverse { universe, source, refreshed_at, made_at, revision: state.revision });
        Ok(())
    }

    /// Reads the lists and goes on with what they say.
    ///
    /// # Errors
    /// When a list cannot be had, is not whole, or has shrunk too much; the universe stays as it was.
    pub async fn refresh(&self) -> Result<UniverseReport, JobError> {
        let refreshed = self.try_refresh().await;
        metrics::universe_refreshed(refreshed.is_ok());
        // With or without a list, the first cycle need not wait any longer.
        self.shared.settle();
        refreshed
    }

    async fn try_refresh(&self) -> Result<UniverseReport, JobError> {
        let kept = self.store.universe_documents().await.map_err(retry)?;
        let mut gathered = self.gather(&kept).await?;
        let known = self.store.symbols().await.map_err(retry)?;
        let selection = selection(&self.config).map_err(|fault| JobError::Fail(fault.to_string()))?;
        let Gathered { listings, companies, counts, .. } = &mut gathered;
        let listings = std::mem::take(listings);
        let universe = assemble(listings, &selection, companies, &known, counts, "the universe");
        let universe = universe.map_err(|fault| JobError::Fail(fault.to_string()))?;
        let source = self.config.source.name();
        let symbols = universe.len();
        let Gathered { documents, made_at, .. } = &gathered;
        let changes = self.keep(Arc::new(universe), source, &known, documents, *made_at).await.map_err(retry)?;
        let Gathered { counts, lists, .. } = gathered;
        let renamed = changes.renamed.iter().map(|(symbol, before, now)| format!("{symbol}: {before} -> {now}"));
        Ok(UniverseReport {
            source,
            symbols,
            listed: counts.listed,
            left_out: counts.left_out,
            included: counts.included,
            excluded: counts.excluded,
            twice: counts.twice,
            unreadable: Named::of(&counts.unreadable),
            added: Named::of(&changes.added),
            returned: Named::of(&changes.returned),
            delisted: Named::of(&changes.delisted),
            renamed: Named::of(&renamed.collect::<Vec<_>>()),
            lists,
        })
    }

    /// Keeps a list and goes on with it.
    async fn keep(
        &self,
        universe: Arc<Universe>,
        source: &'static str,
        known: &[KnownSymbol],
        documents: &[UniverseDocument],
        made_at: Option<DateTime<Utc>>,
    ) -> Result<Changes, StoreError> {
        let now = self.clock.now();
        let changes = Changes::between(known, &universe);
        let revision = self.store.save_universe(universe.listings(), documents, source, now).await?;
        tell(&changes, universe.len(), !known.is_empty());
        self.shared.swap(CurrentUniverse { universe, source, refreshed_at: Some(now), made_at, revision });
        Ok(changes)
    }

    async fn gather(&self, kept: &[UniverseDocument]) -> Result<Gathered, JobError> {
        let mut gathered = Gathered::default();
        match &self.config.source {
            UniverseSource::BuiltIn => {
                let universe = built_in();
                gathered.listings = universe.map_err(|fault| JobError::Fail(fault.to_string()))?.listings().to_vec();
                gathered.counts.listed = gathered.listings.len();
            }
            UniverseSource::File(path) => {
                let place = Place::File(path.clone());
                let parse = |text: &str, origin: &str| Universe::parse_csv(text, origin);
                let universe = self.list(&mut gathered, kept, "file", &place, parse, Universe::len).await?;
                gathered.listings = universe.listings().to_vec();
                gathered.counts.listed = gathered.listings.len();
            }
            UniverseSource::Directories { nasdaq_listed, other_listed } => {
                let mut directories = Vec::new();
                for (name, place, kind) in both(nasdaq_listed, other_listed) {
                    let parse = |text: &str, origin: &str| Directory::parse(kind, text, origin);
                    directories.push(self.list(&mut gathered, kept, name, place, parse, Directory::len).await?);
                }
                gathered.made_at = oldest(&directories);
                (gathered.listings, gathered.counts) = choose(directories, &self.config.leave_out);
            }
        }
        if let Some(place) = &self.config.sec_tickers {
            gathered.companies = self.companies(&mut gathered, kept, place).await;
        }
        Ok(gathered)
    }

    /// Reads one list, and refuses it when it has lost too many of its lines.
    async fn list<T>(
        &self,
        gathered: &mut Gathered,
        kept: &[UniverseDocument],
        name: &str,
        place: &Place,
        parse: impl Fn(&str, &str) -> Result<T, UniverseError>,
        count: impl Fn(&T) -> usize,
    ) -> Result<T, JobError> {
        let again = |message: String| JobError::Retry { after: None, message };
        let origin = place.to_string();
        let kept = kept.iter().find(|document| document.name == name && document.place == origin);
        let validators = kept.map(validators_of);
        let loaded = self.documents.load(place, validators.as_ref()).await.map_err(|fault| match fault {
            FetchError::Retry { after, message } | FetchError::Down { after, message } => {
                JobError::Retry { after, message }
            }
            FetchError::Fail(message) | FetchError::Refused(message) => JobError::Fail(message),
        })?;
        let unchanged = loaded == Loaded::Unchanged;
        let (body, validators) = match (loaded, kept) {
            (Loaded::New { text, validators }, _) => (text, validators),
            (Loaded::Unchanged, Some(kept)) => (kept.body.clone(), validators_of(kept)),
            (Loaded::Unchanged, None) => return Err(again(format!("{origin}: nothing came"))),
        };
        let list = parse(&body, &origin).map_err(|fault| again(fault.to_string()))?;
        let lines = i64::try_from(count(&list)).unwrap_or(i64::MAX);
        if let Some(before) = kept.map(|kept| kept.lines)
            && lines * 100 < before * (100 - i64::from(self.config.max_shrink_percent))
        {
            return Err(again(format!(
                "{origin} has {lines} symbols and had {before}, which is more than {} % less: it is not taken; if it is right, \
                 set ingest.universe.max_shrink_percent to 100 until the job `universe` has run",
                self.config.max_shrink_percent
            )));
        }
        gathered.lists.push(ListReport { name: name.to_owned(), lines, unchanged, fault: None });
        let Validators { etag, last_modified } = validators;
        let (name, fetched_at) = (name.to_owned(), self.clock.now());
        gathered.documents.push(UniverseDocument { name, place: origin, etag, last_modified, lines, body, fetched_at });
        Ok(list)
    }

    /// Names and numbers are no reason to go without a list: where they cannot be had, those that are known stay.
    async fn companies(
        &self,
        gathered: &mut Gathered,
        kept: &[UniverseDocument],
        place: &Place,
    ) -> HashMap<String, Company> {
        const NAME: &str = "sec_tickers";
        let read = self.list(gathered, kept, NAME, place, parse_companies, HashMap::len).await;
        read.unwrap_or_else(|fault| {
            warn!(error = %fault, "the SEC's list of companies cannot be used; the names that are known stay");
            let list = ListReport { name: NAME.to_owned(), lines: 0, unchanged: false, fault: Some(fault.to_string()) };
            gathered.lists.push(list);
            HashMap::new()
        })
    }
}

impl Job for UniverseKeeper {
    fn run(self: Arc<Self>, _context: RunContext) -> RunFuture {
        Box::pin(async move {
            let report = self.refresh().await?;
            serde_json::to_value(report).map_err(|fault| JobError::Fail(fault.to_string()))
        })
    }
}

impl Named {
    fn of(symbols: &[String]) -> Self {
        Self { count: symbols.len(), first: symbols.iter().take(NAMED).cloned().collect() }
    }
}

fn validators_of(document: &UniverseDocument) -> Validators {
    Validators { etag: document.etag.clone(), last_modified: document.last_modified.clone() }
}

fn tell(changes: &Changes, symbols: usize, had_some: bool) {
    let first = |symbols: &[String]| symbols.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
    let Changes { added, returned, delisted, renamed } = changes;
    // The first list is no news of each of its symbols.
    if had_some {
        metrics::universe_changed(added.len(), returned.len(), delisted.len(), renamed.len());
    }
    info!(
        symbols,
        added = added.len(),
        returned = returned.len(),
        delisted = delisted.len(),
        renamed = renamed.len(),
        first_added = %if had_some { first(added) } else { String::new() },
        first_returned = %first(returned),
        first_delisted = %first(delisted),
        "the universe was refreshed"
    );
}
