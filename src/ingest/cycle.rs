//! One cycle's calls: batches, as many at once as the pace allows; only what is missing is asked for again; a batch that one
//! symbol spoils is taken apart until the symbol is found.
//!
//! An answer that is late belongs to nobody: whatever is under way at the deadline is dropped with the cycle it was for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::fetch::{Fetched, Fetcher, lock, too_late};
use super::pace::{Latencies, may_hedge};
use super::plan::RequestPlan;
use super::providers::{Answer, FetchError, RawQuote};
use crate::market::Universe;
use crate::metrics;

/// No call is made a second time before this: what is quicker is not slow.
const SHORTEST_HEDGE: Duration = Duration::from_millis(20);

/// Refusals without a single answer after which batches are not taken apart any more: then it is not a symbol's fault. One bad
/// symbol among two hundred is found with eight refusals, and answers between them.
const REFUSALS_WITHOUT_AN_ANSWER: u32 = 8;

/// A call to be made.
#[derive(Debug)]
struct Work {
    batch: Vec<usize>,
    /// Tries so far.
    tried: u32,
    /// It is the second time for symbols that were not in their answer.
    again: bool,
}

/// A call that has ended.
struct Done {
    work: Work,
    result: Result<Answer, FetchError>,
    /// It never left: the quota or the breaker forbids it.
    held_back: bool,
}

/// What the calls of one cycle share.
struct Flight {
    latencies: Mutex<Latencies>,
    p95: watch::Sender<Option<Duration>>,
    calls: AtomicU32,
    hedged: AtomicU32,
}

/// The state of a cycle between calls.
struct Cycle<'a> {
    fetcher: &'a Fetcher,
    universe: &'a Universe,
    deadline: DateTime<Utc>,
    whole_market: bool,
    queue: VecDeque<Work>,
    /// Waits for its time.
    later: Vec<(DateTime<Utc>, Work)>,
    /// Not in their answer, for the first time.
    absent: Vec<usize>,
    /// The first symbol that could not be asked for.
    held_back: Option<usize>,
    answers: u32,
    refusals: u32,
    fetched: Fetched,
    faults: BTreeMap<String, usize>,
}

/// Asks for `wanted`.
pub(super) async fn run(
    fetcher: &Fetcher,
    universe: &Universe,
    wanted: &[usize],
    plan: &RequestPlan,
    deadline: DateTime<Utc>,
) -> Fetched {
    let flight = Flight {
        latencies: Mutex::default(),
        p95: watch::Sender::new(None),
        calls: AtomicU32::new(0),
        hedged: AtomicU32::new(0),
    };
    let mut cycle = Cycle::new(fetcher, universe, wanted, plan.fits, deadline);
    let mut running = FuturesUnordered::new();
    loop {
        cycle.wake();
        while running.len() < fetcher.concurrency() {
            let Some(work) = cycle.queue.pop_front() else { break };
            running.push(attempt(fetcher, universe, work, &flight, deadline));
        }
        let next = cycle.later.iter().map(|(at, _)| *at).min();
        match (running.is_empty(), next) {
            (true, None) if cycle.ask_absent_again() => {}
            (true, None) => break,
            (true, Some(at)) => fetcher.clock.sleep_until(at).await,
            (false, None) => cycle.take(running.next().await),
            (false, Some(at)) => tokio::select! {
                done = running.next() => cycle.take(done),
                () = fetcher.clock.sleep_until(at) => {}
            },
        }
    }
    drop(running);
    cycle.end(&flight)
}

/// One try of one call, with a second copy where it is slow.
async fn attempt(fetcher: &Fetcher, universe: &Universe, work: Work, flight: &Flight, deadline: DateTime<Utc>) -> Done {
    let permit = match fetcher.leave(deadline).await {
        Ok(permit) => permit,
        Err(fault) => return Done { work, result: Err(fault), held_back: true },
    };
    let provider = fetcher.provider();
    let began = fetcher.clock.monotonic();
    flight.calls.fetch_add(1, Ordering::Relaxed);
    fetcher.progress.called();
    let first = provider.fetch(universe, &work.batch, permit);
    let answered = async {
        let slow = flight.is_slow(fetcher);
        tokio::pin!(slow);
        let first = match select(first, slow).await {
            Either::Left((answered, _)) => return answered,
            Either::Right(((), first)) => first,
        };
        let calls = flight.calls.load(Ordering::Relaxed);
        let allowed = may_hedge(calls, flight.hedged.load(Ordering::Relaxed), fetcher.options.hedge_percent);
        let Some(permit) = allowed.then(|| fetcher.budget.permit_now()).flatten() else { return first.await };
        flight.calls.fetch_add(1, Ordering::Relaxed);
        flight.hedged.fetch_add(1, Ordering::Relaxed);
        fetcher.progress.called();
        metrics::provider_hedged(provider.description().name);
        // The first good answer counts; the other call is dropped with all it might still say.
        match select(first, provider.fetch(universe, &work.batch, permit)).await {
            Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
        }
    };
    let result = tokio::select! {
        result = answered => result,
        () = fetcher.clock.sleep_until(deadline) => Err(too_late(provider.description().name)),
    };
    let latency = fetcher.clock.monotonic().saturating_sub(began);
    fetcher.learn(&result, latency);
    if result.is_ok() {
        flight.answered(latency);
    }
    Done { work, result, held_back: false }
}

impl Flight {
    /// Returns when a call that begins now has taken longer than 95 of 100 of this cycle.
    async fn is_slow(&self, fetcher: &Fetcher) {
        let began = fetcher.clock.monotonic();
        let mut p95 = self.p95.subscribe();
        let known = p95.wait_for(Option::is_some).await.ok().and_then(|p95| *p95);
        let Some(p95) = known else { return std::future::pending().await };
        let taken = fetcher.clock.monotonic().saturating_sub(began);
        fetcher.clock.pause(p95.max(SHORTEST_HEDGE).saturating_sub(taken)).await;
    }

    fn answered(&self, latency: Duration) {
        let mut latencies = lock(&self.latencies);
        latencies.add(latency);
        if let Some(p95) = latencies.p95() {
            self.p95.send_replace(Some(p95));
        }
    }
}

impl<'a> Cycle<'a> {
    fn new(
        fetcher: &'a Fetcher,
        universe: &'a Universe,
        wanted: &[usize],
        fits: bool,
        deadline: DateTime<Utc>,
    ) -> Self {
        let description = fetcher.provider().description();
        let whole_market = description.whole_market;
        let refused = |index: &usize| {
            let symbol = universe.listings().get(*index).map(|listing| listing.symbol.as_str());
            !whole_market && symbol.is_some_and(|symbol| lock(&fetcher.memory).refused.contains(symbol))
        };
        let (alone, mut rest): (Vec<usize>, Vec<usize>) = wanted.iter().copied().partition(refused);
        if !fits && !whole_market {
            let begin_at = fetcher.begin_at.load(Ordering::Relaxed);
            let turn = rest.partition_point(|index| *index < begin_at);
            rest.rotate_left(turn);
        }
        let batches = rest.chunks(description.batch_size(rest.len()).max(1)).map(<[usize]>::to_vec);
        let batches = batches.chain(alone.into_iter().map(|index| vec![index]));
        Self {
            fetcher,
            universe,
            deadline,
            whole_market,
            queue: batches.map(|batch| Work { batch, tried: 0, again: false }).collect(),
            later: Vec::new(),
            absent: Vec::new(),
            held_back: None,
            answers: 0,
            refusals: 0,
            fetched: Fetched {
                quotes: vec![None; universe.len()],
                answered: vec![false; universe.len()],
                ..Fetched::default()
            },
            faults: BTreeMap::new(),
        }
    }

    /// Puts what has waited its time back into the queue.
    fn wake(&mut self) {
        let now = self.fetcher.clock.now();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(DateTime<Utc>, Work)> = due;
        self.queue.extend(due.into_iter().map(|(_, work)| work));
    }

    /// Queues the symbols that were not in their answer, once. Says whether there were any.
    fn ask_absent_again(&mut self) -> bool {
        let absent = std::mem::take(&mut self.absent);
        let size = self.fetcher.provider().description().batch_size(absent.len());
        let works = absent.chunks(size).map(|batch| Work { batch: batch.to_vec(), tried: 0, again: true });
        self.queue.extend(works);
        !absent.is_empty()
    }

    fn take(&mut self, done: Option<Done>) {
        let Some(Done { mut work, result, held_back }) = done else { return };
        match result {
            Ok(answer) => self.keep(work, answer),
            Err(FetchError::Refused(message)) => self.take_apart(work, message),
            Err(FetchError::Retry { after, message } | FetchError::Down { after, message }) => {
                work.tried += 1;
                match self.fetcher.pause_before(work.tried, after, self.deadline) {
                    Some(pause) => {
                        let (attempt, pause_ms) = (work.tried, pause.as_millis());
                        warn!(
                            symbols = work.batch.len(),
                            attempt,
                            pause_ms,
                            reason = message,
                            "a call will be tried again"
                        );
                        self.later.push((self.fetcher.clock.later(pause), work));
                    }
                    None => self.lose(&work, format!("{message} (tried {} times)", work.tried)),
                }
            }
            Err(FetchError::Fail(message)) if held_back => {
                self.held_back = self.held_back.or(work.batch.first().copied());
                self.lose(&work, message);
            }
            Err(FetchError::Fail(message)) => {
                self.lose(&work, message.clone());
                // Whoever may not ask for one batch may not ask for the next either.
                let rest = self.queue.drain(..).chain(self.later.drain(..).map(|(_, work)| work));
                for work in rest.collect::<Vec<_>>() {
                    self.lose(&work, message.clone());
                }
                self.absent.clear();
            }
        }
    }

    fn keep(&mut self, work: Work, answer: Answer) {
        self.answers += 1;
        let provider = self.fetcher.provider().description().name;
        debug!(provider, symbols = work.batch.len(), quotes = answer.quotes.len(), "a batch was answered");
        self.fetched.delayed |= answer.delayed;
        for remark in answer.remarks {
            *self.faults.entry(remark).or_default() += 1;
        }
        work.batch.iter().for_each(|index| self.fetched.answered[*index] = true);
        let answered = answer.quotes.len();
        for (index, quote) in answer.quotes {
            // A provider that answers for more than it was asked does not hurt.
            if let Some(place) = self.fetched.quotes.get_mut(index) {
                *place = newer(*place, quote);
            }
        }
        self.fetcher.progress.call_ended(if work.again { 0 } else { work.batch.len() }, answered);
        if self.whole_market {
            return;
        }
        let mut memory = lock(&self.fetcher.memory);
        for index in work.batch {
            let Some(listing) = self.universe.listings().get(index) else { continue };
            memory.refused.remove(&listing.symbol);
            if self.fetched.quotes[index].is_some() {
                memory.absent.remove(&listing.symbol);
            } else if work.again {
                memory.absent.insert(listing.symbol.clone());
            } else if !memory.absent.contains(&listing.symbol) {
                self.absent.push(index);
            }
        }
    }

    /// Half by half, until the symbol that spoils the call stands alone.
    fn take_apart(&mut self, mut work: Work, message: String) {
        self.refusals += 1;
        let symbol_is_to_blame = self.answers > 0 || self.refusals <= REFUSALS_WITHOUT_AN_ANSWER;
        if self.whole_market || !symbol_is_to_blame {
            return self.lose(&work, message);
        }
        if let [index] = work.batch[..] {
            let symbol = self.universe.listings().get(index).map_or("", |listing| listing.symbol.as_str());
            let new = lock(&self.fetcher.memory).refused.insert(symbol.to_owned());
            if new {
                warn!(symbol, reason = message, "the provider refuses a symbol; it is asked for alone from now on");
            }
            self.fetched.refused.push(index);
            self.fetched.answered[index] = true;
            return self.lose(&work, format!("{symbol} is refused: {message}"));
        }
        let second = work.batch.split_off(work.batch.len() / 2);
        for batch in [second, work.batch] {
            self.queue.push_front(Work { batch, tried: 0, again: work.again });
        }
    }

    fn lose(&mut self, work: &Work, fault: String) {
        self.fetcher.progress.call_ended(if work.again { 0 } else { work.batch.len() }, 0);
        *self.faults.entry(fault).or_default() += 1;
    }

    fn end(self, flight: &Flight) -> Fetched {
        self.fetcher.begin_at.store(self.held_back.unwrap_or(0), Ordering::Relaxed);
        let mut faults: Vec<_> = self.faults.into_iter().collect();
        faults.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Fetched {
            requests: flight.calls.load(Ordering::Relaxed),
            hedged: flight.hedged.load(Ordering::Relaxed),
            faults: faults.into_iter().map(|(fault, _)| fault).collect(),
            ..self.fetched
        }
    }
}

/// The later one of two words on a symbol, by their own times.
fn newer(known: Option<RawQuote>, said: RawQuote) -> Option<RawQuote> {
    match known {
        Some(known) if known.at > said.at => Some(known),
        _ => Some(said),
    }
}
