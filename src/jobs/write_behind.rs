//! From the board to the database: what readers see is in the journal first, and in the database a moment later.
//!
//! A cycle is appended to the journal and synced, then shown, then stored: one transaction a cycle, in order, again and again until
//! the database takes it. Two cycles wait in memory, the others in the journal alone. What a newer cycle knows better is left out
//! of an older one that still waits, but never its points.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::SharedClock;
use crate::ingest::{Abandoned, Frame, Journal, JournalError};
use crate::market::Quote;
use crate::market::codec::{CycleHead, Damaged, KeptCycle};
use crate::metrics;
use crate::store::{Store, StoreError};

/// Cycles that wait in memory; the rest is read from the journal when its turn comes.
const IN_MEMORY: usize = 2;

/// How often it is tried again while something waits.
const AGAIN: Duration = Duration::from_secs(1);

/// Why what was shown cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The disk.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A whole frame that this version cannot read.
    #[error("the journal {}: {fault}; start the version that wrote it, or move the file away and lose what is in it", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Damaged,
    },
}

/// How far the database is behind what readers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreLag {
    /// Cycles that are shown and not stored.
    pub cycles: usize,
    /// The end of the oldest of them.
    pub since: Option<DateTime<Utc>>,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Why the last try failed, and when; `None` once the database has taken everything.
    pub fault: Option<(String, DateTime<Utc>)>,
}

/// Takes cycles in, and brings them to the database.
pub struct WriteBehind {
    store: Store,
    clock: SharedClock,
    directory: PathBuf,
    queue: Arc<Mutex<Queue>>,
    /// One at a time brings cycles to the database.
    turn: tokio::sync::Mutex<()>,
    lag: Arc<Mutex<StoreLag>>,
}

struct Queue {
    journal: Journal,
    waiting: VecDeque<Waiting>,
    /// Told after each change: whoever asks must not wait for the disk.
    lag: Arc<Mutex<StoreLag>>,
}

struct Waiting {
    finished_at: DateTime<Utc>,
    frame: Frame,
    cycle: Option<Arc<KeptCycle>>,
}

/// The oldest cycle that waits, and the newest if that is another.
struct Next {
    frame: Frame,
    cycle: Result<Arc<KeptCycle>, NotRead>,
    /// Only spares work: without it every quote is written.
    newest: Option<Arc<KeptCycle>>,
}

/// Why a cycle could not be read from the journal.
enum NotRead {
    /// The disk fails.
    Disk(JournalError),
    /// It is not what was written.
    Damaged(String),
}

impl std::fmt::Debug for WriteBehind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteBehind").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl WriteBehind {
    /// Nothing waits yet. Touches no disk.
    pub fn new(store: Store, clock: SharedClock, directory: &Path, most_bytes: u64) -> Self {
        let lag = Arc::<Mutex<StoreLag>>::default();
        let journal = Journal::new(directory, most_bytes);
        let queue = Queue { journal, waiting: VecDeque::new(), lag: Arc::clone(&lag) };
        Self {
            store,
            clock,
            directory: directory.to_owned(),
            queue: Arc::new(Mutex::new(queue)),
            turn: tokio::sync::Mutex::default(),
            lag,
        }
    }

    /// Stores what earlier processes have shown and not stored. Before anything is served: readers never go back.
    ///
    /// # Errors
    /// When the disk or the database fails, or another version has to do it; nothing is lost then.
    pub async fn recover(&self) -> Result<usize, KeepError> {
        let directory = self.directory.clone();
        let mut stored = 0;
        for mut file in blocking(move || Abandoned::find(&directory)).await? {
            if file.torn > 0 {
                warn!(journal = %file.path.display(), bytes = file.torn, "the end of the journal was torn and is cut off; it was never shown");
            }
            if !file.damaged.is_empty() {
                error!(journal = %file.path.display(), cycles = file.damaged.len(), "the disk has changed cycles in the journal, which are lost; the file is put aside");
            }
            let frames = file.frames.clone();
            let newest = frames.last().map(|frame| file.read(*frame)).transpose()?;
            for (index, frame) in frames.iter().enumerate() {
                let content = file.read(*frame)?;
                let newest = newest.as_deref().filter(|_| index + 1 < frames.len());
                let decoded = KeptCycle::decode(&content)
                    .and_then(|cycle| Ok((cycle, newest.map(KeptCycle::decode).transpose()?)));
                let (cycle, newest) =
                    decoded.map_err(|fault| KeepError::Unreadable { path: file.path.clone(), fault })?;
                self.save(&cycle, newest.as_ref()).await?;
                stored += 1;
            }
            file.remove()?;
        }
        if stored > 0 {
            info!(cycles = stored, "what the last daemon had shown and not stored is stored");
        }
        Ok(stored)
    }

    /// Takes a cycle in; when this returns it may be shown, because it is on the disk.
    ///
    /// # Errors
    /// When the journal has no room or its disk fails and the database does not take the cycle either; then it must not be shown.
    pub async fn keep(&self, head: &CycleHead, content: Bytes) -> Result<(), String> {
        let (queue, finished_at, bytes) = (Arc::clone(&self.queue), head.cycle.finished_at, content.clone());
        let kept = blocking(move || {
            let mut queue = lock(&queue);
            let frame = queue.journal.append(&bytes)?;
            // Read again here, where nobody waits for it: the bodies are being rendered. What cannot be is told when its turn comes.
            let cycle = KeptCycle::decode(&bytes).ok().map(Arc::new);
            // Under the same lock: what is appended must not be taken for what is stored.
            queue.push(Waiting { finished_at, frame, cycle });
            Ok::<_, JournalError>(())
        });
        let Err(fault) = kept.await else { return Ok(()) };
        error!(error = %fault, "the journal does not take the cycle; the database is asked before it is shown");
        let cycle = KeptCycle::decode(&content).map_err(|damaged| damaged.to_string())?;
        self.save(&cycle, None).await.map_err(|store| {
            self.note(&store);
            format!("neither the journal nor the database takes the cycle: {fault}; {store}")
        })
    }

    /// Brings everything that waits to the database, oldest first.
    ///
    /// # Errors
    /// When the database fails, or the disk of the journal; what it has not taken waits on.
    pub async fn drain(&self) -> Result<usize, KeepError> {
        let _turn = self.turn.lock().await;
        let mut stored = 0;
        while let Some(next) = self.with_queue(Queue::next).await {
            match next.cycle {
                Ok(cycle) => {
                    self.save(&cycle, next.newest.as_deref()).await.inspect_err(|fault| self.note(fault))?;
                    stored += 1;
                }
                // A disk that cannot be read now may be in a moment.
                Err(NotRead::Disk(fault)) => {
                    self.note(&fault);
                    return Err(fault.into());
                }
                // Its disk has changed it. The others can still be saved.
                Err(NotRead::Damaged(fault)) => {
                    error!(error = fault, "a cycle in the journal cannot be read any more and is lost");
                }
            }
            let frame = next.frame;
            if let Err(fault) = self.with_queue(move |queue| queue.done(frame)).await {
                warn!(error = %fault, "the journal could not be emptied; what is in it is stored again at the next start, which changes nothing");
            }
        }
        let fault = lock(&self.lag).fault.take();
        if let Some((fault, since)) = fault {
            info!(cycles = stored, fault, %since, "the database has taken everything that waited");
        }
        Ok(stored)
    }

    /// Goes on trying while something waits, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self.lag().cycles > 0 {
                // It has said so already.
                let _ = self.drain().await;
            }
            let lag = self.lag();
            let behind = lag.since.map_or(0, |since| (self.clock.now() - since).num_seconds().max(0));
            metrics::store_lag(lag.cycles, behind, lag.journal_bytes);
            tokio::select! {
                () = self.clock.beat(AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// How far the database is behind.
    pub fn lag(&self) -> StoreLag {
        lock(&self.lag).clone()
    }

    async fn save(&self, cycle: &KeptCycle, newest: Option<&KeptCycle>) -> Result<(), StoreError> {
        let started = self.clock.monotonic();
        let known = newest.into_iter().flat_map(|newest| &newest.quotes);
        let newer: HashMap<&str, &Quote> = known.map(|kept| (&*kept.symbol, &kept.quote)).collect();
        let quotes = cycle.quotes.iter().map(|kept| (&kept.symbol, &kept.quote));
        let quotes: Vec<_> = quotes
            .filter(|(symbol, quote)| newer.get(symbol.as_ref()).is_none_or(|newer| newer.at < quote.at))
            .collect();
        let points: Vec<_> = cycle.points().collect();
        self.store.save_cycle(&cycle.head, &points, &quotes).await?;
        metrics::cycle_stored(self.clock.monotonic().saturating_sub(started));
        Ok(())
    }

    /// Says once that the database does not take cycles.
    fn note(&self, fault: &dyn std::fmt::Display) {
        metrics::cycle_not_stored();
        let noted = &mut lock(&self.lag).fault;
        if noted.is_none() {
            warn!(error = %fault, "the database does not take the cycle; it is served from memory, kept in the journal and stored later");
        }
        *noted = Some((fault.to_string(), self.clock.now()));
    }

    async fn with_queue<T: Send + 'static>(&self, work: impl FnOnce(&mut Queue) -> T + Send + 'static) -> T {
        let queue = Arc::clone(&self.queue);
        blocking(move || work(&mut lock(&queue))).await
    }
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
        if let Some(older) = self.waiting.len().checked_sub(IN_MEMORY + 1) {
            self.waiting[older].cycle = None;
        }
        self.tell();
    }

    fn tell(&self) {
        let mut lag = lock(&self.lag);
        lag.cycles = self.waiting.len();
        lag.since = self.waiting.front().map(|waiting| waiting.finished_at);
        lag.journal_bytes = self.journal.bytes();
    }

    fn next(&mut self) -> Option<Next> {
        let front = self.waiting.front()?;
        let frame = front.frame;
        let cycle = match &front.cycle {
            Some(cycle) => Ok(Arc::clone(cycle)),
            None => self.read(frame).map(Arc::new),
        };
        let newest = self.waiting.back().filter(|_| self.waiting.len() > 1).and_then(|newest| newest.cycle.clone());
        Some(Next { frame, cycle, newest })
    }

    fn read(&mut self, frame: Frame) -> Result<KeptCycle, NotRead> {
        let content = self.journal.read(frame).map_err(|fault| match fault {
            damaged @ JournalError::Damaged { .. } => NotRead::Damaged(damaged.to_string()),
            disk => NotRead::Disk(disk),
        })?;
        KeptCycle::decode(&content).map_err(|fault| NotRead::Damaged(fault.to_string()))
    }

    /// The database has it.
    fn done(&mut self, frame: Frame) -> Result<(), JournalError> {
        self.waiting.retain(|waiting| waiting.frame != frame);
        let cleared = if self.waiting.is_empty() { self.journal.clear() } else { Ok(()) };
        self.tell();
        cleared
    }
}

/// Work that waits for the disk, off the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is being taken down: nothing is done any more.
        Err(Err(_)) => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
