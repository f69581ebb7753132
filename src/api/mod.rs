//! What clients, proxies and probes can ask over HTTP. Answers come from memory; only health and billing calls look at the
//! database.

mod accept;
mod account;
mod aside;
mod backfill;
mod bars;
mod billing;
mod cached;
mod calendar;
mod cors;
mod error;
mod exceptions;
mod front;
mod guard;
mod health;
mod hours;
mod ingest;
mod observe;
pub mod openapi;
mod operators;
mod outbox;
mod query;
mod quotes;
mod referrals;
mod routes;
mod schedule;
mod server;
mod sitemap;
mod stocks;
mod stream;
mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use secrecy::SecretString;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::calendar::SharedCalendars;
use crate::clock::SharedClock;
use crate::config::{HttpConfig, SiteConfig, WebhookSource};
use crate::ingest::Board;
use crate::jobs::{Dunning, Inbox, MarketData, Renewals, RenewalsOnDemand};
use crate::ops::calendars::CalendarKeeper;
use crate::scheduler::{Ledger, Operations, Status};
use crate::store::Store;
use crate::webhooks::Verifier;
pub use cors::Origins;
pub use error::Problem;
pub use front::Front;
pub use guard::read_body;
pub use health::{Component, components};
pub use observe::REQUEST_ID;
pub use routes::{Kind, Line, api, metrics_page};
pub use server::{Answerer, Limits, serve};
pub use stream::Streams;

/// Where the daemon is in its life.
#[derive(Debug, Default)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    const READY: u8 = 1;
    const DRAINING: u8 = 2;

    /// Everything has been started.
    pub fn set_ready(&self) {
        self.0.store(Self::READY, Ordering::Release);
    }

    /// The end has begun: what is under way is finished, nothing new is wanted.
    pub fn set_draining(&self) {
        self.0.store(Self::DRAINING, Ordering::Release);
    }

    /// Whether the start is over.
    pub fn is_started(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::READY
    }

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Acquire) == Self::DRAINING
    }
}

/// What handlers work with.
#[derive(Debug)]
pub struct App {
    /// What time it is.
    pub clock: SharedClock,
    /// What phase it is.
    pub calendar: Arc<SharedCalendars>,
    /// Changes of it.
    pub calendars: Arc<CalendarKeeper>,
    /// What readers see.
    pub board: Arc<Board>,
    /// Why it is as it is.
    pub market: Arc<MarketData>,
    /// The database, for health.
    pub store: Store,
    /// What the planner is doing.
    pub scheduler: Arc<Status>,
    /// Runs under way, which the end waits for.
    pub runs: TaskTracker,
    /// Runs that are asked for over HTTP go into the ledger too.
    pub ledger: Ledger,
    /// What operators can do to the schedule and the ledger.
    pub operations: Operations,
    /// Makes the planner look at once.
    pub planner: Arc<Notify>,
    /// The renewal run.
    pub renewals: Arc<Renewals>,
    /// The same, beside its schedule.
    pub renewals_on_demand: RenewalsOnDemand,
    /// Where deliveries are stored.
    pub inbox: Inbox,
    /// Told when a subscription is to end at PayPal.
    pub cancellations: Arc<Notify>,
    /// Senders of the site's own events.
    pub webhook_sources: Vec<WebhookSource>,
    /// What tells genuine deliveries of PayPal.
    pub verifier: Arc<Verifier>,
    /// Where the daemon is in its life.
    pub lifecycle: Arc<Lifecycle>,
    /// Accepted cron secrets.
    pub cron_secrets: Vec<SecretString>,
    /// Accepted tokens of operators.
    pub operator_tokens: Vec<SecretString>,
    /// Reminders.
    pub dunning: Arc<Dunning>,
    /// What concerns the site: its tokens, its address, its limits.
    pub site: SiteConfig,
    /// Host names that are answered.
    pub allowed_hosts: Vec<String>,
    /// Whose pages may read.
    pub origins: Arc<Origins>,
    /// Limits of requests.
    pub http: HttpConfig,
    /// Whether the API describes itself.
    pub shows_docs: bool,
    /// Who waits for the next state.
    pub streams: Arc<Streams>,
}
