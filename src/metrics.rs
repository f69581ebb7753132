//! Every metric of the program: one table, and one function for each thing that happens.
//!
//! Names follow the Prometheus rules: one prefix, base units, `_total` for counters. Labels come from closed sets only (jobs,
//! states, routes of the table, phases), so the number of series is bounded. `docs/METRICS.md` says what each is for.

mod billing;
mod ingest;
mod mail;
mod webhooks;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use chrono::{DateTime, TimeDelta, Utc};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::calendar::Phase;
pub use billing::*;
pub use ingest::*;
pub use mail::*;
pub use webhooks::*;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// Name, kind, unit where it has one, and what an operator reads beside it.
const TABLE: &[(&str, Kind, Option<Unit>, &str)] = &[
    ("bellwether_build_info", Gauge, None, "Always 1; version and revision of the program as labels."),
    ("bellwether_start_time_seconds", Gauge, Some(Unit::Seconds), "When this process started, as Unix time."),
    ("bellwether_http_request_duration_seconds", Histogram, Some(Unit::Seconds), "Time to answer a request, by route."),
    ("bellwether_http_requests_in_flight", Gauge, None, "Requests being answered now."),
    ("bellwether_http_connections", Gauge, None, "Open connections of both listeners."),
    ("bellwether_http_streams", Gauge, None, "Clients that wait for the next state of the market."),
    ("bellwether_http_rejected_total", Counter, None, "Requests turned away before their handler, by reason."),
    (
        "bellwether_scheduler_tick_timestamp_seconds",
        Gauge,
        Some(Unit::Seconds),
        "When the planner last looked at the schedule and could write the ledger, as Unix time.",
    ),
    (
        "bellwether_job_runs_total",
        Counter,
        None,
        "Slots by what became of them: ok, failed, skipped, missed, cancelled, lost.",
    ),
    (
        "bellwether_job_lateness_seconds",
        Histogram,
        Some(Unit::Seconds),
        "From a slot to the durable decision about it.",
    ),
    (
        "bellwether_job_duration_seconds",
        Histogram,
        Some(Unit::Seconds),
        "From the start of a run's last attempt to its end.",
    ),
    (
        "bellwether_job_last_success_timestamp_seconds",
        Gauge,
        Some(Unit::Seconds),
        "When a job last ended well, as Unix time.",
    ),
    ("bellwether_job_next_due_timestamp_seconds", Gauge, Some(Unit::Seconds), "The next slot of a job, as Unix time."),
    (
        "bellwether_job_overdue_seconds",
        Gauge,
        Some(Unit::Seconds),
        "How long a job has been without the success it owes, in the time in which it is due: market time for one that goes by sessions.",
    ),
    (
        "bellwether_ledger_missing_slots",
        Gauge,
        None,
        "Slots of the last 25 hours without a row in the ledger, by the last look at it: always 0, or something is wrong.",
    ),
    ("bellwether_job_paused", Gauge, None, "1 while the slots of a job are left out because it is paused."),
    ("bellwether_leader", Gauge, None, "1 on the instance that plans, 0 on one that stands by."),
    ("bellwether_leader_epoch", Gauge, None, "The epoch of the last term of this instance as planner."),
    ("bellwether_clock_events_total", Counter, None, "Times the clock of the host was set or the host slept, by kind."),
    ("bellwether_calendar_phase", Gauge, None, "1 for the phase the market is in, 0 for the others."),
    (
        "bellwether_calendar_next_transition_timestamp_seconds",
        Gauge,
        Some(Unit::Seconds),
        "When the phase ends, as Unix time.",
    ),
    (
        "bellwether_calendar_info",
        Gauge,
        None,
        "1, with the version and the hash of the calendar and of the time zone data.",
    ),
    (
        "bellwether_calendar_horizon_timestamp_seconds",
        Gauge,
        Some(Unit::Seconds),
        "End of the last date whose holidays the exchange has published, as Unix time.",
    ),
    ("bellwether_calendar_exceptions", Gauge, None, "An operator's exceptions in force, by origin: file, api."),
    ("bellwether_calendar_reloads_total", Counter, None, "Times the calendar was read anew, by outcome: ok, failed."),
    ("bellwether_calendar_file_ok", Gauge, None, "0 while the calendar is not as the operator's file has it now."),
    ("bellwether_ingest_symbols_expected", Gauge, None, "Symbols the last published cycle was to quote."),
    ("bellwether_ingest_symbols_fresh", Gauge, None, "Symbols it got a valid quote of the session for."),
    ("bellwether_ingest_completeness_ratio", Gauge, None, "Fresh over expected, 0 to 1."),
    (
        "bellwether_ingest_moved_ratio",
        Gauge,
        None,
        "Of the fresh quotes, those with another time than a cycle before, 0 to 1.",
    ),
    (
        "bellwether_ingest_data_age_seconds",
        Gauge,
        Some(Unit::Seconds),
        "Age of the newest quote in market time: it stands still while the market is closed.",
    ),
    ("bellwether_ingest_stale", Gauge, None, "1 when readers are told that the data is stale."),
    (
        "bellwether_ingest_finding",
        Gauge,
        None,
        "1 while something is to be mended, by the code that `ingest why` tells.",
    ),
    ("bellwether_ingest_failed_cycles", Gauge, None, "Cycles in a row that brought nothing, up to the last one."),
    (
        "bellwether_ingest_incomplete_cycles",
        Gauge,
        None,
        "Published cycles in a row with less than 97 % of their symbols, up to the last one.",
    ),
    ("bellwether_ingest_cycles_total", Counter, None, "Cycles by outcome: complete, incomplete, failed."),
    (
        "bellwether_ingest_cycle_duration_seconds",
        Histogram,
        Some(Unit::Seconds),
        "From the start of a cycle to its publication.",
    ),
    (
        "bellwether_ingest_symbols_dormant",
        Gauge,
        None,
        "Symbols that are asked for less often, because nothing has been heard of them for cycles in a row.",
    ),
    ("bellwether_ingest_universe_symbols", Gauge, None, "Symbols that are quoted."),
    (
        "bellwether_ingest_universe_age_seconds",
        Gauge,
        Some(Unit::Seconds),
        "How long ago the lists of symbols were last read, in market time; 0 for the built-in list.",
    ),
    (
        "bellwether_ingest_universe_changes_total",
        Counter,
        None,
        "Symbols by what became of them: added, returned, delisted, renamed.",
    ),
    ("bellwether_ingest_universe_refreshes_total", Counter, None, "Times the lists were read, by outcome: ok, failed."),
    ("bellwether_provider_requests_total", Counter, None, "Calls to a provider by outcome: ok, retry, failed."),
    (
        "bellwether_provider_request_duration_seconds",
        Histogram,
        Some(Unit::Seconds),
        "Time a provider took for a call.",
    ),
    ("bellwether_provider_hedged_total", Counter, None, "Second copies of slow calls to a provider."),
    ("bellwether_provider_breaker_open", Gauge, None, "1 while nobody calls a provider because it has failed."),
    ("bellwether_provider_concurrency_limit", Gauge, None, "Calls to a provider that may be under way at once."),
    ("bellwether_provider_symbols_refused", Gauge, None, "Symbols that a provider refused in the last cycle."),
    ("bellwether_ingest_plan_fits", Gauge, None, "0 when the last cycle did not fit the provider's quota."),
    (
        "bellwether_ingest_moves_total",
        Counter,
        None,
        "Moves over 25 % that were asked for once more, by outcome: stood, gone, unanswered.",
    ),
    (
        "bellwether_ingest_store_duration_seconds",
        Histogram,
        Some(Unit::Seconds),
        "Time the database took for a cycle, from the first statement to the commit.",
    ),
    ("bellwether_ingest_store_failures_total", Counter, None, "Times the database did not take a cycle."),
    ("bellwether_ingest_store_behind_cycles", Gauge, None, "Cycles that are shown and not in the database yet."),
    ("bellwether_ingest_store_behind_seconds", Gauge, Some(Unit::Seconds), "How long the oldest of them has waited."),
    ("bellwether_ingest_journal_bytes", Gauge, Some(Unit::Bytes), "What the journal of cycles holds."),
    ("bellwether_renewals_total", Counter, None, "Subscriptions a renewal run has decided about, by action."),
    ("bellwether_renewals_due", Gauge, None, "Subscriptions still due when the last renewal run ended."),
    ("bellwether_database_up", Gauge, None, "1 when the last write of the planner to the database went well."),
];

/// Seconds; from the fastest answers from memory to a run of minutes.
const BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0];

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder on the first call and gives what `/metrics` renders from. Daemons of one process share it.
pub fn install() -> PrometheusHandle {
    RECORDER
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
                .and_then(webhooks::with_buckets)
                .unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            // Refused only when another recorder is there already; then this one stays empty and `/metrics` shows it.
            let _ = ::metrics::set_global_recorder(recorder);
            describe();
            handle
        })
        .clone()
}

/// Takes in what was measured since the last time. Without it that would pile up for as long as nobody scrapes.
pub fn upkeep() {
    if let Some(handle) = RECORDER.get() {
        handle.run_upkeep();
    }
}

/// The names of the table, for the test that looks for each in the documents and the alerts.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().chain(webhooks::TABLE).chain(billing::TABLE).chain(mail::TABLE).map(|(name, ..)| *name)
}

fn describe() {
    for (name, kind, unit, help) in
        TABLE.iter().chain(webhooks::TABLE).chain(billing::TABLE).chain(mail::TABLE).copied()
    {
        match (kind, unit) {
            (Counter, _) => describe_counter!(name, help),
            (Gauge, Some(unit)) => describe_gauge!(name, unit, help),
            (Gauge, None) => describe_gauge!(name, help),
            (Histogram, Some(unit)) => describe_histogram!(name, unit, help),
            (Histogram, None) => describe_histogram!(name, help),
        }
    }
}

/// The process is up.
pub fn started(now: DateTime<Utc>) {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("revision", env!("BUILT_OF"))];
    gauge!("bellwether_build_info", &labels).set(1.0);
    gauge!("bellwether_start_time_seconds").set(unix_seconds(now));
    // A rate or an alert needs the series to be there before the first event.
    gauge!("bellwether_http_connections").set(0.0);
    gauge!("bellwether_http_streams").set(0.0);
    gauge!("bellwether_http_requests_in_flight").set(0.0);
    gauge!("bellwether_renewals_due").set(0.0);
    gauge!("bellwether_calendar_file_ok").set(1.0);
    for outcome in ["ok", "failed"] {
        counter!("bellwether_calendar_reloads_total", "outcome" => outcome).absolute(0);
    }
    for reason in ["host", "origin", "too_large", "slow_body", "streams", "type", "unauthorized"] {
        counter!("bellwether_http_rejected_total", "reason" => reason).absolute(0);
    }
    for kind in ["step", "suspend"] {
        counter!("bellwether_clock_events_total", "kind" => kind).absolute(0);
    }
    gauge!("bellwether_leader").set(0.0);
    gauge!("bellwether_ingest_symbols_dormant").set(0.0);
    counter!("bellwether_ingest_store_failures_total").absolute(0);
    store_lag(0, 0, 0);
    for outcome in ["complete", "incomplete", "failed"] {
        counter!("bellwether_ingest_cycles_total", "outcome" => outcome).absolute(0);
    }
    for change in ["added", "returned", "delisted", "renamed"] {
        counter!("bellwether_ingest_universe_changes_total", "change" => change).absolute(0);
    }
    for outcome in ["ok", "failed"] {
        counter!("bellwether_ingest_universe_refreshes_total", "outcome" => outcome).absolute(0);
    }
    for outcome in ["stood", "gone", "unanswered"] {
        counter!("bellwether_ingest_moves_total", "outcome" => outcome).absolute(0);
    }
    webhooks::begin();
    billing::begin();
    mail::begin();
    let actions =
        "applied_referral_credit paid marked_past_due suspended expired plan_changed uncertain skipped failed";
    for action in actions.split(' ') {
        counter!("bellwether_renewals_total", "action" => action).absolute(0);
    }
}

/// The methods that are told apart; the last stands for all others.
const HTTP_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "OTHER"];

/// A status by its first digit, less one.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The method as a label.
pub fn method_name(method: &str) -> &'static str {
    HTTP_METHODS[method_place(method)]
}

fn method_place(method: &str) -> usize {
    HTTP_METHODS.iter().position(|known| *known == method).unwrap_or(HTTP_METHODS.len() - 1)
}

/// The times of one route's answers. Each series is looked up by its labels once: that takes longer than many an answer.
pub struct RouteTimes {
    route: &'static str,
    series: [[OnceLock<::metrics::Histogram>; STATUS_CLASSES.len()]; HTTP_METHODS.len()],
}

impl RouteTimes {
    /// Of a route by its template.
    pub fn of(route: &'static str) -> Self {
        Self { route, series: Default::default() }
    }

    /// The template.
    pub fn route(&self) -> &'static str {
        self.route
    }

    /// A request was answered.
    pub fn answered(&self, method: &str, status: u16, took: Duration) {
        let method = method_place(method);
        let class = usize::from(status / 100).clamp(1, STATUS_CLASSES.len()) - 1;
        let series = self.series[method][class].get_or_init(|| {
            let labels =
                [("method", HTTP_METHODS[method]), ("route", self.route), ("status_class", STATUS_CLASSES[class])];
            histogram!("bellwether_http_request_duration_seconds", &labels)
        });
        series.record(took.as_secs_f64());
    }
}

/// Requests under way, up or down by one.
pub fn http_in_flight(change: f64) {
    static IN_FLIGHT: OnceLock<::metrics::Gauge> = OnceLock::new();
    IN_FLIGHT.get_or_init(|| gauge!("bellwether_http_requests_in_flight")).increment(change);
}

/// Connections open, up or down by one.
pub fn http_connections(change: f64) {
    gauge!("bellwether_http_connections").increment(change);
}

/// Clients that wait for the next state, up or down by one.
pub fn stream_clients(change: f64) {
    gauge!("bellwether_http_streams").increment(change);
}

/// A request was turned away.
pub fn http_rejected(reason: &'static str) {
    counter!("bellwether_http_rejected_total", "reason" => reason).increment(1);
}

/// The planner has looked.
pub fn scheduler_ticked(now: DateTime<Utc>) {
    gauge!("bellwether_scheduler_tick_timestamp_seconds").set(unix_seconds(now));
}

/// A job exists: its counters begin at zero, so that the first event is a rise.
pub fn job_registered(job: &'static str) {
    for state in ["ok", "failed", "skipped", "missed", "cancelled", "lost"] {
        counter!("bellwether_job_runs_total", "job_name" => job, "state" => state).absolute(0);
    }
    job_paused(job, false);
}

/// A run ended.
pub fn job_finished(job: &'static str, state: &'static str, now: DateTime<Utc>, duration: TimeDelta) {
    counter!("bellwether_job_runs_total", "job_name" => job, "state" => state).increment(1);
    histogram!("bellwether_job_duration_seconds", "job_name" => job).record(seconds(duration));
    if state == "ok" {
        job_succeeded(job, now);
    }
}

/// A job ended well at `at`, perhaps before this process began.
pub fn job_succeeded(job: impl Into<::metrics::SharedString>, at: DateTime<Utc>) {
    gauge!("bellwether_job_last_success_timestamp_seconds", "job_name" => job.into()).set(unix_seconds(at));
}

/// A slot was not run, or its run was lost.
pub fn job_left_out(job: &'static str, state: &'static str) {
    counter!("bellwether_job_runs_total", "job_name" => job, "state" => state).increment(1);
}

/// A slot was decided so long after it came due.
pub fn job_late(job: &'static str, late: TimeDelta) {
    histogram!("bellwether_job_lateness_seconds", "job_name" => job).record(seconds(late));
}

/// When a job is due next.
pub fn job_next_due(job: &'static str, next: DateTime<Utc>) {
    gauge!("bellwether_job_next_due_timestamp_seconds", "job_name" => job).set(unix_seconds(next));
}

/// How long a job has been without the success it owes.
pub fn job_overdue(job: &'static str, overdue: TimeDelta) {
    gauge!("bellwether_job_overdue_seconds", "job_name" => job).set(seconds(overdue));
}

/// How many slots lack a row.
pub fn ledger_gaps(missing: usize) {
    gauge!("bellwether_ledger_missing_slots").set(missing as f64);
}

/// Whether a job is paused.
pub fn job_paused(job: &'static str, paused: bool) {
    gauge!("bellwether_job_paused", "job_name" => job).set(f64::from(u8::from(paused)));
}

/// Whether this instance plans, and in which term.
pub fn leader(plans: bool, epoch: i64) {
    gauge!("bellwether_leader").set(f64::from(u8::from(plans)));
    gauge!("bellwether_leader_epoch").set(epoch as f64);
}

/// The clock was set, or the host slept.
pub fn clock_event(kind: &'static str) {
    counter!("bellwether_clock_events_total", "kind" => kind).increment(1);
}

/// Whether the ledger can be written.
pub fn database_up(up: bool) {
    gauge!("bellwether_database_up").set(f64::from(u8::from(up)));
}

/// The phase of the market.
pub fn calendar_phase(now_in: Phase, next_transition: DateTime<Utc>) {
    for phase in Phase::ALL {
        let on = f64::from(u8::from(phase == now_in));
        gauge!("bellwether_calendar_phase", "phase" => phase.to_string()).set(on);
    }
    gauge!("bellwether_calendar_next_transition_timestamp_seconds").set(unix_seconds(next_transition));
}

/// Which calendar is in force.
pub fn calendar_is(version: &str, hash: &str, horizon: chrono::NaiveDate) {
    static SHOWN: Mutex<Option<(String, String)>> = Mutex::new(None);
    let info = |version: &str, hash: &str| {
        let labels = [
            ("version", version.to_owned()),
            ("hash", hash.to_owned()),
            ("tzdb_version", chrono_tz::IANA_TZDB_VERSION.to_owned()),
        ];
        gauge!("bellwether_calendar_info", &labels)
    };
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((old_version, old_hash)) = shown.replace((version.to_owned(), hash.to_owned())) {
        info(&old_version, &old_hash).set(0.0);
    }
    info(version, hash).set(1.0);
    let end = horizon.succ_opt().unwrap_or(horizon).and_time(chrono::NaiveTime::MIN).and_utc();
    gauge!("bellwether_calendar_horizon_timestamp_seconds").set(unix_seconds(end));
}

/// How many exceptions an operator has in force.
pub fn calendar_exceptions(origin: &'static str, count: usize) {
    gauge!("bellwether_calendar_exceptions", "origin" => origin).set(count as f64);
}

/// The calendar was read anew, or could not be.
pub fn calendar_reloaded(ok: bool) {
    counter!("bellwether_calendar_reloads_total", "outcome" => if ok { "ok" } else { "failed" }).increment(1);
    gauge!("bellwether_calendar_file_ok").set(f64::from(u8::from(ok)));
}

/// A renewal run has decided about a subscription.
pub fn renewal_decided(action: &'static str) {
    counter!("bellwether_renewals_total", "action" => action).increment(1);
}

/// Subscriptions left for the next run.
pub fn renewals_due(count: i64) {
    gauge!("bellwether_renewals_due").set(count as f64);
}

fn seconds(span: TimeDelta) -> f64 {
    span.to_std().map_or(0.0, |span| span.as_secs_f64())
}

fn unix_seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}
