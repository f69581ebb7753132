//! The composition root: the only place that names every concrete type. Start, drain, stop.

mod inbox;
mod notes;
mod outbox;
mod renewals;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::api::{self, Answerer, App, Front, Lifecycle, Limits, Origins, Streams};
use crate::calendar::SharedCalendars;
use crate::clock::SharedClock;
use crate::components;
use crate::config::{Config, HttpConfig, Stage};
use crate::console::{self, Console};
use crate::ingest::SharedUniverse;
use crate::ingest::providers::{self, FetchError};
use crate::jobs::{self, KeepError, MarketData, Renewals, Retention, UniverseFault, UniverseKeeper};
use crate::metrics;
use crate::ops::calendars::{self, CalendarFault, CalendarKeeper};
use crate::ops::{descriptors, systemd};
use crate::scheduler::{
    Leadership, Ledger, Operations, Planner, PlannerOptions, PrepareError, Status, spawn_cron_waker,
};
use crate::store::{Access, Store, StoreError};
use crate::webhooks::{PayPalError, SiteFault};
use inbox::InboxParts;

/// Scrapes are few; the metrics listener needs no more.
const METRICS_CONNECTIONS: usize = 16;

/// How often readers' words about the data are looked over.
const REFRESH: Duration = Duration::from_secs(1);

/// What runs that are cut off may take beyond their own grace to be written down.
const CUT_OFF: Duration = Duration::from_secs(5);

/// From SIGTERM to SIGKILL for what a killed daemon has left running.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// The longest open answers may take at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Why the daemon, or a command, cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The clock is behind the ledger (exit code 69).
    #[error(transparent)]
    Clock(PrepareError),
    /// A listener (exit code 69).
    #[error("cannot listen on {address}: {cause}; choose another address for `{key}`")]
    Listen {
        /// The key that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The reason.
        cause: io::Error,
    },
    /// The list of symbols (exit code 78).
    #[error(transparent)]
    Universe(#[from] UniverseFault),
    /// The operator's exceptions (exit code 78).
    #[error("calendar.exceptions")]
    Calendar(#[from] CalendarFault),
    /// The site (exit code 78).
    #[error("renewals.api_base_url")]
    Site(#[from] SiteFault),
    /// The provider.
    #[error("ingest.provider")]
    Provider(#[from] FetchError),
    /// The client of PayPal.
    #[error("paypal")]
    PayPal(#[from] PayPalError),
    /// What the daemon before had shown and not stored.
    #[error(transparent)]
    Recover(KeepError),
}

impl From<KeepError> for StartError {
    fn from(fault: KeepError) -> Self {
        match fault {
            KeepError::Store(fault) => Self::Store(fault),
            fault => Self::Recover(fault),
        }
    }
}

impl From<PrepareError> for StartError {
    fn from(fault: PrepareError) -> Self {
        match fault {
            PrepareError::Store(fault) => Self::Store(fault),
            fault => Self::Clock(fault),
        }
    }
}

/// The parts that a cycle needs, for the daemon and for `ingest once`.
pub struct Parts {
    /// The database, migrated.
    pub store: Store,
    /// What time it is.
    pub clock: SharedClock,
    /// What phase it is.
    pub calendar: Arc<SharedCalendars>,
    /// What an operator has added to it.
    pub exceptions: calendars::Sources,
    /// Ingestion.
    pub market: Arc<MarketData>,
    /// What is quoted.
    pub universe: Arc<UniverseKeeper>,
    /// The ledger of this process.
    pub ledger: Ledger,
}

impl Parts {
    /// Opens and migrates the database, reads the universe, makes the provider.
    ///
    /// # Errors
    /// The first of them that fails.
    pub async fn assemble(config: &Config, clock: SharedClock) -> Result<Self, StartError> {
        // A list with a mistake in it is named before anything is opened.
        jobs::universe::local(&config.ingest.universe, &[])?;
        let store =
            Store::open(&config.database, Access::Writer, config.database_connections, config.database_timeout).await?;
        store.migrate().await?;
        let (calendars, exceptions) = calendars::load(&config.calendar, Some(&store)).await?;
        let calendar = SharedCalendars::new(calendars, &config.calendar.exchange);
        let calendar =
            Arc::new(calendar.unwrap_or_else(|| unreachable!("the configuration was checked: it is a known venue")));
        let universe = Arc::new(jobs::universe::at_start(&config.ingest.universe, &store, clock.now()).await?);
        let keeper =
            UniverseKeeper::new(store.clone(), Arc::clone(&clock), &config.ingest.universe, Arc::clone(&universe))?;
        let market = market(config, &store, &clock, &calendar, universe)?;
        let ledger = Ledger::new(store.clone(), Arc::clone(&clock), Arc::clone(&calendar));
        Ok(Self { store, clock, calendar, exceptions, market: Arc::new(market), universe: Arc::new(keeper), ledger })
    }

    /// The market as a daemon left it in the database, for a command that only looks.
    ///
    /// # Errors
    /// When the database or the list of symbols cannot be read.
    pub async fn look(config: &Config, store: &Store, clock: SharedClock) -> Result<MarketData, StartError> {
        let (calendars, _) = calendars::load(&config.calendar, Some(store)).await?;
        let calendar = SharedCalendars::new(calendars, &config.calendar.exchange);
        let calendar =
            Arc::new(calendar.unwrap_or_else(|| unreachable!("the configuration was checked: it is a known venue")));
        let universe = Arc::new(jobs::universe::at_start(&config.ingest.universe, store, clock.now()).await?);
        let market = market(config, store, &clock, &calendar, universe)?.looked_at();
        market.restore().await?;
        Ok(market)
    }
}

fn market(
    config: &Config,
    store: &Store,
    clock: &SharedClock,
    calendar: &Arc<SharedCalendars>,
    universe: Arc<SharedUniverse>,
) -> Result<MarketData, FetchError> {
    let provider = providers::of_config(&config.ingest.provider, Arc::clone(calendar), Arc::clone(clock))?;
    let cycles = jobs::table(config).into_iter().filter(|spec| [jobs::INGEST, jobs::INGEST_CLOSE].contains(&spec.name));
    let (store, clock, calendar) = (store.clone(), Arc::clone(clock), Arc::clone(calendar));
    Ok(MarketData::new(store, clock, calendar, universe, provider, &config.ingest, cycles.collect()))
}

/// A daemon that runs.
pub struct Daemon {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the metrics are.
    pub metrics: SocketAddr,
    /// What the planner is doing.
    pub scheduler: Arc<Status>,
    /// The market calendars: told to read the operator's file again on SIGHUP.
    pub calendars: Arc<CalendarKeeper>,
    /// The database.
    pub store: Store,
    /// The market, and what of it is on its way to the database.
    pub market: Arc<MarketData>,
    owner: String,
    clock: SharedClock,
    lifecycle: Arc<Lifecycle>,
    planning: CancellationToken,
    serving: CancellationToken,
    leadership: Arc<Leadership>,
    cut_off: CancellationToken,
    /// The longest any job may take to end when it is told to.
    longest_grace: Duration,
    runs: TaskTracker,
    tasks: TaskTracker,
    drain: Duration,
}

impl Daemon {
    /// Starts everything and returns once it can be asked: the last snapshot is shown, the planner looks at the schedule.
    ///
    /// # Errors
    /// The first part that cannot start; nothing is left running.
    pub async fn start(config: Config, clock: SharedClock) -> Result<Self, StartError> {
        let recorder = metrics::install();
        metrics::started(clock.now());
        descriptors::raise(config.http.max_connections);
        let parts = Parts::assemble(&config, clock).await?;
        let api_listener = listen("listen", config.listen).await?;
        let metrics_listener = listen("metrics_listen", config.metrics_listen).await?;
        if !parts.market.recover().await? {
            info!("there is no stored snapshot; a cycle is run at once");
        }
        let (tasks, serving) = (TaskTracker::new(), CancellationToken::new());
        let inbox = InboxParts::assemble(&config, &parts, &tasks, &serving)?;
        let renewals = renewals::of(&config, &parts, &inbox)?;
        let retention = retention(&config, &parts);
        let reconcile = inbox.reconcile.as_ref();
        let entries =
            jobs::entries(&config, &parts.market, &parts.universe, &renewals, retention, &parts.calendar, reconcile);
        end_orphans(&parts.store).await?;
        let planning = CancellationToken::new();
        let options = PlannerOptions {
            retention: config.retention,
            lease: config.lease,
            trust_clock: config.trust_clock,
            host: host_name(),
        };
        let mut planner = Planner::new(entries, parts.ledger.clone(), options, planning.clone());
        planner.prepare().await?;
        parts.universe.keep_local().await?;
        let market = Arc::clone(&parts.market);
        planner.run_at_start(jobs::UNIVERSE, move || market.wants_universe());
        let market = Arc::clone(&parts.market);
        planner.run_at_start(jobs::INGEST, move || market.wants_cycle());
        let keeper = calendar_keeper(&config, &parts, planner.nudge());

        let daemon = Self {
            api: local_address(&api_listener, config.listen),
            metrics: local_address(&metrics_listener, config.metrics_listen),
            scheduler: planner.status(),
            calendars: Arc::new(keeper),
            store: parts.store.clone(),
            market: Arc::clone(&parts.market),
            owner: parts.ledger.owner.clone(),
            clock: Arc::clone(&parts.clock),
            lifecycle: Arc::default(),
            planning,
            serving,
            leadership: planner.leadership(),
            cut_off: planner.cut_off(),
            longest_grace: jobs::table(&config).iter().map(|spec| spec.stop_grace).max().unwrap_or_default(),
            runs: planner.runs(),
            tasks,
            drain: config.drain,
        };
        let listeners = (api_listener, metrics_listener);
        daemon.spawn_listeners(&config, &parts, (renewals, inbox), recorder, listeners, planner.nudge());
        daemon.tasks.spawn(Arc::clone(&daemon.calendars).watch(daemon.serving.clone()));
        daemon.spawn_planner(planner, &parts, config.cron_waker).await;
        daemon.lifecycle.set_ready();
        daemon.announce(&config, &parts);
        Ok(daemon)
    }

    fn spawn_listeners(
        &self,
        config: &Config,
        parts: &Parts,
        (renewals, inbox): (Arc<Renewals>, InboxParts),
        recorder: metrics_exporter_prometheus::PrometheusHandle,
        (api_listener, metrics_listener): (TcpListener, TcpListener),
        nudge: Arc<Notify>,
    ) {
        let table = jobs::table(config);
        let (status, runs) = (Arc::clone(&self.scheduler), (self.runs.clone(), self.cut_off.clone()));
        let renewals_on_demand = renewals::on_demand(&table, parts, &renewals, status, runs);
        let operations = Operations { ledger: parts.ledger.clone(), table, by: "by an operator over HTTP" };
        let (status, stop) = (Arc::clone(&self.scheduler), self.planning.clone());
        self.tasks.spawn(jobs::audit::keep(operations.clone(), status, stop));
        let streams = Arc::new(Streams::new(config.http.max_streams));
        self.tasks.spawn(inbox.events(config, parts).keep(self.serving.clone()));
        self.tasks.spawn(inbox.cancellations(config, parts).keep(self.serving.clone()));
        self.tasks.spawn(outbox::of(config, parts).keep(self.planning.clone()));
        let app = Arc::new(App {
            clock: Arc::clone(&parts.clock),
            calendar: Arc::clone(&parts.calendar),
            calendars: Arc::clone(&self.calendars),
            board: parts.market.board(),
            market: Arc::clone(&parts.market),
            store: parts.store.clone(),
            scheduler: Arc::clone(&self.scheduler),
            runs: self.runs.clone(),
            ledger: parts.ledger.clone(),
            operations,
            planner: nudge,
            renewals,
            renewals_on_demand,
            inbox: inbox.inbox,
            cancellations: inbox.cancellations,
            verifier: inbox.verifier,
            webhook_sources: config.webhook_sources.clone(),
            lifecycle: Arc::clone(&self.lifecycle),
            cron_secrets: config.cron_secrets.clone(),
            operator_tokens: config.operator_tokens.clone(),
            dunning: outbox::reminders(config, parts),
            site: config.site.clone(),
            allowed_hosts: config.allowed_hosts.clone(),
            origins: Arc::new(Origins::new(&config.http.cors_origins)),
            http: config.http.clone(),
            shows_docs: config.http.docs,
            streams: Arc::clone(&streams),
        });
        self.tasks.spawn(streams.keep(parts.market.board(), Arc::clone(&parts.clock), self.serving.clone()));
        let HttpConfig { max_connections: connections, read_timeout, write_timeout, .. } = config.http;
        let limits = Limits { connections, read_timeout, write_timeout };
        let for_metrics = Limits { connections: METRICS_CONNECTIONS, ..limits };
        let front = Some(Arc::new(Front::new(Arc::clone(&app))));
        let pages = console::routes(&Console::new(Arc::clone(&app), config.stage == Stage::Production));
        let api = Answerer { front, endpoint: Arc::new(api::api(app, pages)) };
        let metrics = Answerer { front: None, endpoint: Arc::new(api::metrics_page(recorder)) };
        for (listener, answerer, limits) in [(api_listener, api, limits), (metrics_listener, metrics, for_metrics)] {
            let (clock, stop) = (Arc::clone(&parts.clock), self.serving.clone());
            self.tasks.spawn(api::serve(listener, answerer, limits, clock, stop));
        }
    }

    async fn spawn_planner(&self, planner: Planner, parts: &Parts, cron_waker: bool) {
        let nudge = planner.nudge();
        self.tasks.spawn(Arc::clone(&self.leadership).keep(Arc::clone(&nudge), self.planning.clone()));
        // Among the runs: a look that is under way when the daemon is told to stop may still begin some, which are waited for as well.
        self.runs.spawn(planner.run());
        let (status, clock) = (Arc::clone(&self.scheduler), Arc::clone(&parts.clock));
        if cron_waker && let Err(fault) = spawn_cron_waker(nudge, status, clock, self.planning.clone()).await {
            warn!(error = %fault, "tokio-cron-scheduler did not start; the planner wakes by its own clock");
        }
        self.tasks.spawn(parts.market.write_behind().run(self.serving.clone()));
        self.tasks.spawn(Arc::clone(&parts.market).keep_references(self.serving.clone()));
        let (market, clock, stop) = (Arc::clone(&parts.market), Arc::clone(&parts.clock), self.serving.clone());
        let universe = Arc::clone(&parts.universe);
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                if let Err(fault) = universe.adopt_newer().await {
                    debug!(error = %fault, "the newest stored universe could not be looked at");
                }
                if let Err(fault) = market.adopt_newer().await {
                    debug!(error = %fault, "the newest stored cycle could not be looked at");
                }
                market.refresh(false);
                metrics::upkeep();
                tokio::select! {
                    () = clock.beat(REFRESH) => {}
                    () = stop.cancelled() => {}
                }
            }
        });
        let (status, clock) = (Arc::clone(&self.scheduler), Arc::clone(&parts.clock));
        self.tasks.spawn(systemd::keep_alive(status, clock, self.planning.clone()));
    }

    fn announce(&self, config: &Config, parts: &Parts) {
        let provider = parts.market.provider();
        notes::of_provider(&provider, config.stage);
        let calendar = parts.calendar.load();
        let moment = calendar.at(parts.clock.now());
        info!(
            api = %format!("http://{}", self.api),
            metrics = %format!("http://{}/metrics", self.metrics),
            database = %config.database,
            provider = provider.name,
            symbols = parts.market.universe_size(),
            universe = config.universe_name(),
            phase = %moment.phase,
            next_transition = %moment.next_transition,
            calendar_version = calendar.version(),
            calendar_hash = calendar.hash(),
            tzdb_version = chrono_tz::IANA_TZDB_VERSION,
            "bellwether {} listens", env!("CARGO_PKG_VERSION"),
        );
        systemd::ready(&format!("market {}; API on {}", moment.phase, self.api));
    }

    /// Ends in order: not ready, no new runs, runs under way finish, open answers finish, the database closes. Each wait has
    /// a deadline; a run that is cut off is found by the next start and done again.
    pub async fn stop(self) {
        systemd::stopping();
        self.lifecycle.set_draining();
        self.planning.cancel();
        self.runs.close();
        let under_way = self.scheduler.running();
        info!(runs = under_way, "stopping");
        if tokio::time::timeout(self.drain, self.runs.wait()).await.is_err() {
            warn!(runs = self.scheduler.running(), "runs are told to end; the next start takes them up again");
            self.cut_off.cancel();
            if tokio::time::timeout(self.longest_grace + CUT_OFF, self.runs.wait()).await.is_err() {
                warn!(runs = self.scheduler.running(), "runs are left behind; the next start takes them up again");
            }
        }
        self.flush().await;
        // Whoever beats no more need not be waited for.
        if let Err(fault) = self.store.retire(&self.owner).await {
            debug!(error = %fault, "the other instances find out by themselves that this one has ended");
        }
        self.serving.cancel();
        self.tasks.close();
        let last = async {
            self.tasks.wait().await;
            // What the last calls began.
            self.runs.wait().await;
        };
        if tokio::time::timeout(LAST_ANSWERS, last).await.is_err() {
            warn!("open connections, and what they began, are cut off");
        }
        if tokio::time::timeout(LAST_ANSWERS, self.store.close()).await.is_err() {
            warn!("the database was not closed in time; nothing that was acknowledged is lost");
        }
        info!(uptime_s = self.clock.monotonic().as_secs(), "stopped");
    }
}

impl Daemon {
    /// What is shown goes into the database; what it does not take in time is in the journal for the next start.
    async fn flush(&self) {
        let last = async {
            self.market.let_go().await;
            self.market.write_behind().drain().await
        };
        let drained = tokio::time::timeout(LAST_ANSWERS, last).await;
        if !matches!(drained, Ok(Ok(_))) {
            let cycles = self.market.store_lag().cycles;
            warn!(cycles, "the database has not taken every cycle; the next start stores them from the journal");
        }
    }
}

fn calendar_keeper(config: &Config, parts: &Parts, nudge: Arc<Notify>) -> CalendarKeeper {
    let (shared, store, clock) = (Arc::clone(&parts.calendar), parts.store.clone(), Arc::clone(&parts.clock));
    CalendarKeeper::new(shared, parts.exceptions.clone(), config.calendar.clone(), store, clock, nudge)
}

fn retention(config: &Config, parts: &Parts) -> Retention {
    Retention {
        store: parts.store.clone(),
        clock: Arc::clone(&parts.clock),
        keep: config.retention,
        history: config.history,
        market: Arc::clone(&parts.market),
    }
}

/// Ends what a daemon before this one, which was killed, has left running of its components, as far as that can be proved.
async fn end_orphans(store: &Store) -> Result<(), StoreError> {
    let found = tokio::task::spawn_blocking(components::orphans::find).await.unwrap_or_default();
    let mut ours = HashSet::new();
    for orphan in &found {
        if store.run(orphan.run_id).await?.is_some() {
            ours.insert(orphan.run_id);
        }
    }
    for ended in components::orphans::end(found, &ours, ORPHAN_GRACE).await {
        let components::orphans::EndedOrphan { orphan, outcome } = ended;
        warn!(job_name = orphan.job, pid = orphan.pid, run_id = %orphan.run_id, ?outcome, "a component that outlived its daemon was ended");
    }
    Ok(())
}

/// For people: which host an instance is on.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|cause| StartError::Listen { key, address, cause })
}

fn local_address(listener: &TcpListener, configured: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(configured)
}
