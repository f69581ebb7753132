//! THE table of jobs. What runs when is read here, on one screen.

pub mod account_picture;
pub mod audit;
mod backfill;
mod bars;
pub mod cancellations;
mod component;
mod confirm;
mod dormancy;
pub mod dunning;
pub mod events;
mod history;
pub mod import;
pub mod inbox;
mod ingest;
mod last_bars;
mod market_data;
mod on_demand;
pub mod operators;
pub mod outbox;
pub mod reconcile;
mod references;
pub mod renewals;
pub mod replay;
mod restore;
mod retention;
mod roll_up;
mod session;
mod unanswered;
pub mod universe;
mod universe_start;
mod why;
mod write_behind;

use std::sync::Arc;
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::America::New_York;

use crate::calendar::SharedCalendars;
use crate::config::Config;
use crate::schedule::{ClockChange, JobSpec, Misfire, Overlap, Retry, Trigger};
use crate::scheduler::Entry;
pub use backfill::{BackfillError, BackfillPlan, BackfillRequest, YEARS};
pub use bars::{Bars, BarsQuery, Interval, NextBars, Row};
pub use component::Component;
pub use confirm::Confirmer;
pub use dunning::Dunning;
pub use history::History;
pub use inbox::{Inbox, NotStored};
pub use ingest::Ingest;
pub use market_data::{CycleSummary, MarketData};
pub use on_demand::{OnDemandFault, RenewalsOnDemand};
pub use outbox::Outbox;
pub use reconcile::Reconcile;
pub use renewals::Renewals;
pub use retention::Retention;
pub use roll_up::RolledUp;
pub use universe::{UniverseFault, UniverseKeeper};
pub use why::IngestStatus;
pub use write_behind::{KeepError, StoreLag, WriteBehind};

/// Name, purpose, trigger, misfire, grace, deadline, tries. A slot is skipped while the run before it goes on; none of these jobs
/// pauses itself however often it fails: each is worth every try.
pub fn table(config: &Config) -> Vec<JobSpec> {
    let cadence = TimeDelta::from_std(config.ingest.cadence).unwrap_or(TimeDelta::minutes(3));
    // A source that lags has the closing prices so much later.
    let delay = TimeDelta::from_std(config.ingest.provider.delay()).unwrap_or_default();
    let while_open = Trigger::EveryWhile { every: cadence, phases: config.ingest.phases.clone() };
    let half_past_three = NaiveTime::from_hms_opt(3, 30, 0).unwrap_or_default();
    let three = NaiveTime::from_hms_opt(3, 0, 0).unwrap_or_default();
    let nine = NaiveTime::from_hms_opt(9, 0, 0).unwrap_or_default();
    let (seconds, minutes, hours, days) = (TimeDelta::seconds, TimeDelta::minutes, TimeDelta::hours, TimeDelta::days);
    let closes_are_in =
        if config.ingest.provider.is_end_of_day() { session::CLOSES_ARE_IN } else { minutes(5) + delay };
    let spec = |name, purpose, trigger, misfire, grace, deadline, attempts| JobSpec {
        name,
        purpose,
        trigger,
        misfire,
        grace,
        deadline,
        overlap: Overlap::Skip,
        retry: Retry::times(attempts),
        breaker: 0,
        stop_grace: Duration::ZERO,
    };
    #[rustfmt::skip]
    let mut table = vec![
        spec(RENEWALS, "decides about subscriptions whose period ended",
            Trigger::Daily { at: three, zone: New_York, change: ClockChange::default() }, Misfire::RunOnce, seconds(60), hours(22), 20),
        spec(DUNNING, "reminds of payments that are late",
            Trigger::Daily { at: nine, zone: New_York, change: ClockChange::default() }, Misfire::RunOnce, seconds(60), hours(12), 10),
        spec(INGEST, "quotes the whole universe and publishes it",
            while_open, Misfire::WhilePhaseOpen, seconds(10), cadence * 9 / 10, 1),
        spec(INGEST_CLOSE, "takes the closing prices",
            Trigger::Close(closes_are_in), Misfire::RunOnce, seconds(60), days(5), 20),
        spec(UNIVERSE, "reads the lists of what is traded",
            Trigger::SessionDay { at: half_past_three, change: ClockChange::default() }, Misfire::RunOnce, seconds(60), hours(6), 10),
        spec(HISTORY, "rolls the session up into bars, takes daily bars and splits in, forgets what is past its retention",
            Trigger::Close(closes_are_in + minutes(25)), Misfire::RunOnce, seconds(60), days(5), 3),
    ];
    // Without credentials there is nobody to ask.
    table.extend(config.paypal.credentials.is_some().then(|| {
        let two = NaiveTime::from_hms_opt(2, 0, 0).unwrap_or_default();
        let trigger = Trigger::Daily { at: two, zone: New_York, change: ClockChange::default() };
        let purpose = "compares PayPal's events and payments with ours";
        spec(RECONCILE, purpose, trigger, Misfire::RunOnce, seconds(60), hours(6), 20)
    }));
    table.extend(config.components.iter().map(component::spec_of));
    table
}

/// The 03:00 job.
pub const RENEWALS: &str = "renewals";
/// Reminders.
pub const DUNNING: &str = "dunning";
/// The cycle while the market is open.
pub const INGEST: &str = "ingest";
/// The cycle after the close.
pub const INGEST_CLOSE: &str = "ingest-close";
/// What is quoted.
pub const UNIVERSE: &str = "universe";
/// The comparison with PayPal.
pub const RECONCILE: &str = "reconcile-paypal";
/// Roll-up and retention.
pub const HISTORY: &str = "history";

/// The line of one job.
pub fn spec_of(config: &Config, name: &str) -> Option<JobSpec> {
    table(config).into_iter().find(|spec| spec.name == name)
}

/// Joins each line of the table with its work.
pub fn entries(
    config: &Config,
    market: &Arc<MarketData>,
    universe: &Arc<UniverseKeeper>,
    renewals: &Arc<Renewals>,
    retention: Retention,
    calendar: &Arc<SharedCalendars>,
    reconcile: Option<&Arc<Reconcile>>,
) -> Vec<Entry> {
    let clock = Arc::clone(&retention.clock);
    let (store, days) = (retention.store.clone(), config.site.dunning_days.clone());
    let dunning = Arc::new(Dunning { store, clock: Arc::clone(&clock), days });
    let retention = Arc::new(retention);
    let ingest = Arc::new(Ingest::new(Arc::clone(market)));
    let with_work = |spec: JobSpec| -> Option<Entry> {
        let job: Arc<dyn crate::scheduler::Job> = match spec.name {
            RENEWALS => Arc::clone(renewals) as _,
            DUNNING => Arc::clone(&dunning) as _,
            INGEST | INGEST_CLOSE => Arc::clone(&ingest) as _,
            UNIVERSE => Arc::clone(universe) as _,
            HISTORY => Arc::clone(&retention) as _,
            RECONCILE => Arc::clone(reconcile?) as _,
            name => {
                let component = config.components.iter().find(|component| component.name == name)?;
                Arc::new(Component::new(component, Arc::clone(calendar), Arc::clone(&clock))) as _
            }
        };
        Some(Entry { spec, job })
    };
    table(config).into_iter().filter_map(with_work).collect()
}
