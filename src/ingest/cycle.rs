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

use super::budget::Permit;
use super::fetch::{Fetched, Fetcher, Held, Trouble, Wanted, lock, too_late};
use super::pace::{Latencies, may_hedge};
use super::plan::RequestPlan;
use super::providers::{Answer, FetchError, RawQuote};
use crate::market::Universe;
use crate::metrics;

/// No call is made a second time before this: what is quicker is not slow.
const SHORTEST_HEDGE: Duration = Duration::from_millis(20);

/// Refusals without a single answer after which batches wait for one before they are taken apart: it may not be a symbol's
/// fault. One bad symbol among two hundred is found with eight refusals, and answers between them.
pub(super) const REFUSALS_WITHOUT_AN_ANSWER: u32 = 8;

/// A call to be made.
#[derive(Debug)]
struct Work {
    batch: Vec<usize>,
    /// Tries so far.
    tried: u32,
    turn: Turn,
}

/// Why symbols are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It is their turn.
    First,
    /// They were not in their answer.
    Again,
    /// They have a call of their own, as little is to be expected of them.
    Apart,
}

/// A call that has ended, or never left.
struct Done {
    work: Work,
    end: End,
}

enum End {
    Called(Result<Answer, FetchError>),
    /// It never left.
    Held(Held),
    /// It was under way when the cycle had to end.
    Late,
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
    /// Refused before anything was answered.
    in_doubt: Vec<(Work, String)>,
    answers: u32,
    refusals: u32,
    /// A call had no answer when it all had to end.
    late: bool,
    /// Something happened that lies with the provider and with no symbol.
    provider_failed: bool,
    fetched: Fetched,
    /// How often each was met, and whether it is only that nobody could be asked.
    faults: BTreeMap<String, (bool, usize)>,
}

/// Asks for `wanted`.
pub(super) async fn run(
    fetcher: &Fetcher,
    universe: &Universe,
    wanted: &Wanted,
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
        while running.len() < cycle.width() {
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

/// One try of one call.
async fn attempt(fetcher: &Fetcher, universe: &Universe, work: Work, flight: &Flight, deadline: DateTime<Utc>) -> Done {
    let permit = match fetcher.leave(deadline).await {
        Ok(permit) => permit,
        Err(held) => return Done { work, end: End::Held(held) },
    };
    let end = tokio::select! {
        result = flight.answer(fetcher, universe, &work.batch, permit) => End::Called(result),
        () = fetcher.clock.sleep_until(deadline) => End::Late,
    };
    Done { work, end }
}

impl Flight {
    /// A call, and a second copy of it where it is slow. The first good answer counts; the other copy is dropped with all it
    /// might still say.
    async fn answer(
        &self,
        fetcher: &Fetcher,
        universe: &Universe,
        batch: &[usize],
        permit: Permit,
    ) -> Result<Answer, FetchError> {
        let first = Box::pin(self.copy(fetcher, universe, batch, permit));
        let slow = Box::pin(self.is_slow(fetcher));
        let first = match select(first, slow).await {
            Either::Left((answered, _)) => return answered,
            Either::Right(((), first)) => first,
        };
        let calls = self.calls.load(Ordering::Relaxed);
        let allowed = may_hedge(calls, self.hedged.load(Ordering::Relaxed), fetcher.options.hedge_percent);
        let Some(permit) = allowed.then(|| fetcher.leave_now().ok()).flatten() else { return first.await };
        self.hedged.fetch_add(1, Ordering::Relaxed);
        metrics::provider_hedged(fetcher.provider().description().name);
        match select(first, Box::pin(self.copy(fetcher, universe, batch, permit))).await {
            Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
        }
    }

    async fn copy(
        &self,
        fetcher: &Fetcher,
        universe: &Universe,
        batch: &[usize],
        permit: Permit,
    ) -> Result<Answer, FetchError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        fetcher.progress.called();
        let provider = fetcher.provider();
        let full = batch.len() >= provider.description().batch_size(universe.len());
        let (result, latency) = fetcher.call(full, provider.fetch(universe, batch, permit)).await;
        if result.is_ok() {
            self.answered(latency);
        }
        result
    }

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
    fn new(fetcher: &'a Fetcher, universe: &'a Universe, wanted: &Wanted, fits: bool, deadline: DateTime<Utc>) -> Self {
        let description = fetcher.provider().description();
        let whole_market = description.whole_market;
        let mut symbols = wanted.symbols.clone();
        if !fits && !whole_market {
            let begin_at = fetcher.begin_at.load(Ordering::Relaxed);
            let turn = symbols.partition_point(|index| *index < begin_at);
            symbols.rotate_left(turn);
        }
        let works = |symbols: &[usize], turn: Turn| -> Vec<Work> {
            let batches = symbols.chunks(description.batch_size(symbols.len()));
            batches.map(|batch| Work { batch: batch.to_vec(), tried: 0, turn }).collect()
        };
        let mut queue = VecDeque::from(works(&symbols, Turn::First));
        for apart in wanted.apart.iter().flat_map(|group| works(group, Turn::Apart)) {
            // They are the least urgent; but where not all have their turn, the last never would.
            if fits { queue.push_back(apart) } else { queue.push_front(apart) }
        }
        Self {
            fetcher,
            universe,
            deadline,
            whole_market,
            queue,
            later: Vec::new(),
            absent: Vec::new(),
            in_doubt: Vec::new(),
            answers: 0,
            refusals: 0,
            late: false,
            provider_failed: false,
            fetched: Fetched {
                quotes: vec![None; universe.len()],
                answered: vec![false; universe.len()],
                ..Fetched::default()
            },
            faults: BTreeMap::new(),
        }
    }

    /// How many calls may be under way: one, as long as it is not known that this client may make any.
    fn width(&self) -> usize {
        if self.fetcher.let_in.load(Ordering::Relaxed) { self.fetcher.concurrency() } else { 1 }
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
        let works = absent.chunks(size).map(|batch| Work { batch: batch.to_vec(), tried: 0, turn: Turn::Again });
        self.queue.extend(works);
        !absent.is_empty()
    }

    fn take(&mut self, done: Option<Done>) {
        let Some(Done { work, end }) = done else { return };
        let result = match end {
            End::Called(result) => result,
            End::Late => {
                self.late = true;
                return self.lose(&work, too_late(self.fetcher.provider().description().name));
            }
            End::Held(held) => return self.hold_back(&work, held),
        };
        // A refusal may be a symbol's; a call that may not be made is everybody's.
        self.fetcher.let_in.store(!matches!(result, Err(FetchError::Fail(_))), Ordering::Relaxed);
        match result {
            Ok(answer) => self.keep(work, answer),
            Err(FetchError::Refused(message)) => self.take_apart(work, message),
            Err(FetchError::Retry { after, message }) => self.try_again(work, after, message),
            Err(FetchError::Down { after, message }) => {
                self.provider_failed = true;
                self.try_again(work, after, message);
            }
            Err(FetchError::Fail(message)) => {
                self.provider_failed = true;
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

    fn hold_back(&mut self, work: &Work, held: Held) {
        if work.turn == Turn::First {
            self.fetched.held_back = self.fetched.held_back.or(work.batch.first().copied());
        }
        let unpaid = matches!(held, Held::Unpaid(_));
        self.provider_failed |= !unpaid;
        self.fetched.trouble = unpaid.then_some(Trouble::Quota).or(self.fetched.trouble);
        self.call_ended(work, 0);
        self.faults.entry(held.to_string()).or_insert((unpaid, 0)).1 += 1;
    }

    fn try_again(&mut self, mut work: Work, after: Option<Duration>, message: String) {
        work.tried += 1;
        let Some(pause) = self.fetcher.pause_before(work.tried, after, self.deadline) else {
            return self.lose(&work, format!("{message} (tried {} times)", work.tried));
        };
        let (symbols, attempt, pause_ms) = (work.batch.len(), work.tried, pause.as_millis());
        warn!(symbols, attempt, pause_ms, reason = message, "a call will be tried again");
        self.later.push((self.fetcher.clock.later(pause), work));
    }

    fn keep(&mut self, work: Work, answer: Answer) {
        self.answers += 1;
        let provider = self.fetcher.provider().description().name;
        debug!(provider, symbols = work.batch.len(), quotes = answer.quotes.len(), "a batch was answered");
        self.fetched.delayed |= answer.delayed;
        for remark in answer.remarks {
            self.faults.entry(remark).or_default().1 += 1;
        }
        work.batch.iter().for_each(|index| self.fetched.answered[*index] = true);
        let answered = answer.quotes.len();
        for (index, quote) in answer.quotes {
            // A provider that answers for more than it was asked does not hurt.
            if let Some(place) = self.fetched.quotes.get_mut(index) {
                *place = newer(*place, quote);
            }
        }
        self.call_ended(&work, answered);
        for (refused, message) in std::mem::take(&mut self.in_doubt) {
            self.take_apart(refused, message);
        }
        if self.whole_market {
            return;
        }
        let mut absent = lock(&self.fetcher.absent);
        for index in work.batch {
            let Some(listing) = self.universe.listings().get(index) else { continue };
            match work.turn {
                _ if self.fetched.quotes[index].is_some() => _ = absent.remove(&listing.symbol),
                Turn::First if !absent.contains(&listing.symbol) => self.absent.push(index),
                Turn::First | Turn::Apart => {}
                Turn::Again => _ = absent.insert(listing.symbol.clone()),
            }
        }
    }

    /// Half by half, until the symbol that spoils the call stands alone.
    fn take_apart(&mut self, mut work: Work, message: String) {
        if work.turn == Turn::Apart {
            // Nothing else was expected. Whoever asks for them apart looks for the one to blame, when there is time.
            debug!(symbols = work.batch.len(), reason = message, "symbols that are asked for apart are refused");
            work.batch.iter().for_each(|index| self.fetched.answered[*index] = true);
            self.call_ended(&work, 0);
            return self.fetched.spoilt.push(work.batch);
        }
        self.refusals += 1;
        if self.whole_market {
            return self.lose(&work, message);
        }
        if self.answers == 0 && self.refusals > REFUSALS_WITHOUT_AN_ANSWER {
            return self.in_doubt.push((work, message));
        }
        if let [index] = work.batch[..] {
            let symbol = self.universe.listings().get(index).map_or("", |listing| listing.symbol.as_str());
            warn!(symbol, reason = message, "the provider refuses a symbol");
            self.fetched.refused.push(index);
            self.fetched.answered[index] = true;
            return self.lose(&work, format!("{symbol} is refused: {message}"));
        }
        let second = work.batch.split_off(work.batch.len() / 2);
        for batch in [second, work.batch] {
            self.queue.push_front(Work { batch, tried: 0, turn: work.turn });
        }
    }

    fn lose(&mut self, work: &Work, fault: String) {
        self.call_ended(work, 0);
        self.faults.entry(fault).or_default().1 += 1;
    }

    fn call_ended(&self, work: &Work, answered: usize) {
        let asked = if work.turn == Turn::Again { 0 } else { work.batch.len() };
        self.fetcher.progress.call_ended(asked, answered);
    }

    fn end(mut self, flight: &Flight) -> Fetched {
        for (work, message) in std::mem::take(&mut self.in_doubt) {
            self.lose(&work, message);
        }
        let requests = flight.calls.load(Ordering::Relaxed);
        let provider_failed = self.provider_failed || self.answers == 0 && (self.refusals > 0 || self.late);
        let mut faults: Vec<_> = self.faults.into_iter().collect();
        faults.sort_by_key(|(_, (unpaid, count))| (*unpaid, std::cmp::Reverse(*count)));
        let trouble = provider_failed.then_some(Trouble::Provider).or(self.fetched.trouble);
        Fetched {
            requests,
            hedged: flight.hedged.load(Ordering::Relaxed),
            faults: faults.into_iter().map(|(fault, _)| fault).collect(),
            trouble,
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
