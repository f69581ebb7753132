//! How late a job begins, claim committed, and how many runs the ledger takes: `bench/schedule` runs all of it.
//!
//! - `cargo bench --bench schedule -- planner sqlite:FILE|postgres://.. JOBS EVERY_MS ROUNDS`: that many jobs due at one instant;
//! - `cargo bench --bench schedule -- ledger URL CONNECTIONS BATCH RUNS`: claim and finish, a transaction each for so many runs, without
//!   a planner;
//! - `cargo bench --bench schedule -- floor URL JOBS ROUNDS`: what the claims of one slot cost in a single transaction, with nothing around it;
//! - `cargo bench --bench schedule -- peer JOBS ROUNDS`: tokio-cron-scheduler with as many jobs, which writes nothing down.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bellwether::calendar::{Calendars, SharedCalendars};
use bellwether::clock::{SharedClock, SystemClock};
use bellwether::config::DatabaseTarget;
use bellwether::schedule::{JobSpec, Misfire, Overlap, Retry, Trigger};
use bellwether::scheduler::{Entry, Job, Ledger, Planner, PlannerOptions, RunContext, RunFuture};
use bellwether::store::{Access, Finish, NewRun, Origin, RunState, Store};
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longer than any round takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime.block_on(async {
        match arguments[..] {
            ["planner", url, jobs, every, rounds] => {
                planner(url, jobs.parse().unwrap(), every.parse().unwrap(), rounds.parse().unwrap()).await;
            }
            ["ledger", url, connections, batch, runs] => {
                ledger(url, connections.parse().unwrap(), batch.parse().unwrap(), runs.parse().unwrap()).await;
            }
            ["floor", url, jobs, rounds] => floor(url, jobs.parse().unwrap(), rounds.parse().unwrap()).await,
            ["peer", jobs, rounds] => peer(jobs.parse().unwrap(), rounds.parse().unwrap()).await,
            // Whoever runs every bench wants no more of this one than that it still begins.
            _ => println!("bench/schedule says what to ask of it"),
        }
    });
}

/// When each body began, after its slot, in microseconds; without a lock that bodies would wait for.
struct Beginnings {
    late: Vec<AtomicU64>,
    begun: AtomicUsize,
}

impl Beginnings {
    fn of(most: usize) -> Self {
        Self { late: (0..most).map(|_| AtomicU64::default()).collect(), begun: AtomicUsize::default() }
    }

    fn note(&self, slot: DateTime<Utc>) {
        let late = (Utc::now() - slot).num_microseconds().unwrap();
        if let Some(place) = self.late.get(self.begun.fetch_add(1, Ordering::Relaxed)) {
            place.store(late.max(0).unsigned_abs(), Ordering::Release);
        }
    }

    fn len(&self) -> usize {
        self.begun.load(Ordering::Relaxed).min(self.late.len())
    }

    /// Median, 99th percentile and worst of what was noted after the first `skipped`.
    fn show(&self, skipped: usize) -> String {
        let late = self.late[skipped..self.len()].iter().map(|late| late.load(Ordering::Acquire));
        let mut late: Vec<_> = late.collect();
        late.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        let at = |share: usize| late[(late.len() * share / 100).min(late.len() - 1)] as f64 / 1e3;
        format!("p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms of {}", at(50), at(99), at(100), late.len())
    }
}

struct Body(Arc<Beginnings>);

impl Job for Body {
    fn run(self: Arc<Self>, context: RunContext) -> RunFuture {
        Box::pin(async move {
            self.0.note(context.slot);
            Ok(serde_json::json!({}))
        })
    }
}

async fn open(url: &str, connections: u32) -> Store {
    let target = match url.strip_prefix("sqlite:") {
        Some(path) => DatabaseTarget::Sqlite(PathBuf::from(path)),
        None => DatabaseTarget::Postgres(url.to_owned().into()),
    };
    let store = Store::open(&target, Access::Writer, connections, Duration::from_secs(10)).await.unwrap();
    store.migrate().await.unwrap();
    store
}

fn spec(n: usize, every: TimeDelta) -> JobSpec {
    JobSpec {
        // What an earlier run of this bench has left in the database owes slots to its own names only.
        name: Box::leak(format!("job{n:05}-{}", std::process::id()).into_boxed_str()),
        purpose: "is late",
        trigger: Trigger::Every(every),
        misfire: Misfire::RunOnce,
        grace: TimeDelta::seconds(5),
        deadline: TimeDelta::seconds(60),
        overlap: Overlap::Skip,
        retry: Retry::times(1),
        breaker: 0,
        stop_grace: Duration::ZERO,
    }
}

async fn planner(url: &str, jobs: usize, every: i64, rounds: usize) {
    bellwether::ops::telemetry::install("info", true, false);
    let _recorder = bellwether::metrics::install();
    let store = open(url, 8).await;
    let clock: SharedClock = SystemClock::start();
    let calendar = SharedCalendars::new(Calendars::built_in().unwrap(), "XNYS").unwrap();
    let ledger = Ledger::new(store.clone(), Arc::clone(&clock), Arc::new(calendar));
    // Rounds that are spoilt by what happens once (connections, plans of statements) are not counted.
    let warm = 1;
    let beginnings = Arc::new(Beginnings::of(jobs * (warm + rounds)));
    let entry =
        |n| Entry { spec: spec(n, TimeDelta::milliseconds(every)), job: Arc::new(Body(Arc::clone(&beginnings))) };
    let options = PlannerOptions {
        retention: Duration::from_hours(24),
        lease: Duration::from_secs(15),
        trust_clock: false,
        host: "bench".to_owned(),
    };
    let stop = CancellationToken::new();
    let mut planner = Planner::new((0..jobs).map(entry).collect(), ledger, options, stop.clone());
    planner.prepare().await.unwrap();
    let (runs, leadership) = (planner.runs(), planner.leadership());
    let keeping = tokio::spawn(leadership.keep(planner.nudge(), stop.clone()));
    let planning = tokio::spawn(planner.run());
    let mut written = Vec::new();
    for round in 1..=warm + rounds {
        until(|| beginnings.len() >= jobs * round).await;
        until(|| runs.is_empty()).await;
        let slot = Utc::now().timestamp_millis().rem_euclid(every);
        written.push(Duration::from_millis(slot.unsigned_abs()));
    }
    stop.cancel();
    planning.await.unwrap();
    keeping.await.unwrap();
    let late = beginnings.show(jobs * warm);
    let mut written = written.split_off(warm);
    written.sort_unstable();
    let median = written[written.len() / 2];
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = jobs as f64 / median.as_secs_f64();
    println!("{jobs} jobs: {late}; all written after {} ms (median): {rate:.0} runs/s", median.as_millis());
    store.close().await;
}

/// The same rows as the planner's, made before the clock runs: less than this no claim of so many jobs can take here.
async fn floor(url: &str, jobs: usize, rounds: usize) {
    let store = open(url, 1).await;
    let names: Vec<_> = (0..jobs).map(|n| spec(n, TimeDelta::seconds(1)).name).collect();
    let start = Utc::now();
    let mut took = Vec::new();
    for round in 0..=rounds {
        let slot = start + TimeDelta::seconds(i64::try_from(round).unwrap());
        let rows: Vec<_> = names.iter().map(|name| NewRun { job: name, ..new_run(slot) }).collect();
        let ends: Vec<_> = rows.iter().map(finish_of).collect();
        let began = Instant::now();
        assert_eq!(store.claim_runs(&rows, None).await.unwrap().len(), jobs);
        took.push(began.elapsed());
        assert_eq!(store.finish_runs(&ends).await.unwrap().len(), jobs);
    }
    // As with the planner, the first round is not counted.
    let mut took = took.split_off(1);
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    println!(
        "{jobs} claims in one transaction: fastest {:.1} ms, p50 {:.1} ms, slowest {:.1} ms",
        at(0),
        at(50),
        at(100)
    );
    store.close().await;
}

async fn until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "it did not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn ledger(url: &str, connections: usize, batch: usize, runs: usize) {
    let store = open(url, u32::try_from(connections).unwrap()).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let (began, start) = (Instant::now(), Utc::now());
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (store, taken) = (store.clone(), Arc::clone(&taken));
            tokio::spawn(async move {
                let mut took = [Duration::ZERO; 2];
                loop {
                    let first = taken.fetch_add(batch, Ordering::Relaxed);
                    if first >= runs {
                        return took;
                    }
                    let slot = |n: usize| start + TimeDelta::microseconds(i64::try_from(n).unwrap());
                    let rows: Vec<_> = (first..first + batch).map(|n| new_run(slot(n))).collect();
                    let ends: Vec<_> = rows.iter().map(finish_of).collect();
                    let before = Instant::now();
                    assert_eq!(store.claim_runs(&rows, None).await.unwrap().len(), batch);
                    let between = Instant::now();
                    assert_eq!(store.finish_runs(&ends).await.unwrap().len(), batch);
                    took = [took[0] + (between - before), took[1] + between.elapsed()];
                }
            })
        })
        .collect();
    let mut took = [Duration::ZERO; 2];
    for worker in workers {
        let of = worker.await.unwrap();
        took = [took[0] + of[0], took[1] + of[1]];
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let (rate, transactions) = (runs as f64 / began.elapsed().as_secs_f64(), runs as f64 / batch as f64);
    let [claim, finish] = took.map(|took| took.as_secs_f64() * 1e3 / transactions);
    println!(
        "{connections} connections, {batch} runs a transaction: {rate:.0} runs/s; claim {claim:.2} ms, finish {finish:.2} ms"
    );
    store.close().await;
}

fn new_run(slot: DateTime<Utc>) -> NewRun {
    let id = Uuid::now_v7();
    NewRun {
        id,
        job: "ledger",
        scheduled_for: slot,
        origin: Origin::Scheduled,
        state: RunState::Running,
        reason: None,
        owner: "bench".to_owned(),
        claimed_at: Utc::now(),
        deadline: Some(slot + TimeDelta::seconds(60)),
        session_date: None,
        phase: "closed".to_owned(),
        calendar_version: "bench".to_owned(),
        next_attempt_at: None,
        trace_id: id.simple().to_string(),
    }
}

fn finish_of(run: &NewRun) -> Finish {
    Finish {
        run: run.id,
        attempt: 1,
        fence: 0,
        owner: run.owner.clone(),
        started_at: Some(run.claimed_at),
        finished_at: Utc::now(),
        attempt_state: RunState::Ok,
        state: RunState::Ok,
        next_attempt_at: None,
        deadline: None,
        reason: None,
        error: None,
        stats: Some("{}".to_owned()),
    }
}

async fn peer(jobs: usize, rounds: usize) {
    use tokio_cron_scheduler::{Job, JobScheduler};
    // With its own channel of 200 places, ten thousand jobs are not even taken in.
    let mut scheduler = JobScheduler::new_with_channel_size(jobs * 4 + 200).await.unwrap();
    let beginnings = Arc::new(Beginnings::of(jobs * (rounds + 1)));
    for _ in 0..jobs {
        let beginnings = Arc::clone(&beginnings);
        let job = Job::new_async("*/4 * * * * *", move |_, _| {
            let beginnings = Arc::clone(&beginnings);
            Box::pin(async move {
                let now = Utc::now();
                let slot = now - TimeDelta::milliseconds(now.timestamp_millis().rem_euclid(4_000));
                beginnings.note(slot);
            })
        });
        scheduler.add(job.unwrap()).await.unwrap();
    }
    scheduler.start().await.unwrap();
    until_rounds(&beginnings, jobs * (rounds + 1)).await;
    scheduler.shutdown().await.unwrap();
    println!("{jobs} jobs: {}", beginnings.show(jobs));
}

/// The peer loses some: what it has not begun after a round more is not waited for.
async fn until_rounds(beginnings: &Beginnings, wanted: usize) {
    let mut last = (0, Instant::now());
    while beginnings.len() < wanted && last.1.elapsed() < Duration::from_secs(12) {
        if beginnings.len() != last.0 {
            last = (beginnings.len(), Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
