//! The calendars with an operator's exceptions over them: read at start, kept up to date while the daemon runs.
//!
//! A change counts whole or not at all. What does not fit is said with its line, its column and the fix, and the calendars
//! stay as they were.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::calendar::{
    Calendars, Change, Exception, Mistake, Mistakes, Operator, Origin, SharedCalendars, Written, differences, read,
    read_csv,
};
use crate::clock::SharedClock;
use crate::config::CalendarConfig;
use crate::metrics;
use crate::store::{ExceptionRow, Store, StoreError};

/// How often the file is looked at. A file is read once it has stood still for one look, so that nobody's half-written file
/// counts.
const LOOK: Duration = Duration::from_millis(250);

/// How often the database is asked whether another instance has changed something.
const LOOKS_PER_QUESTION: u32 = 4;

/// The largest file that is read.
const LARGEST_FILE: u64 = 32 * 1024 * 1024;

/// The most differences that are told one by one in the log.
const MOST_TOLD: usize = 20;

/// Why a change of the calendars did not come about.
#[derive(Debug, thiserror::Error)]
pub enum CalendarFault {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        cause: String,
    },
    /// Rows that make no sense, or do not fit the calendar.
    #[error("{0}")]
    Refused(Told),
    /// Another row says something else of the same date already.
    #[error("{0}")]
    Conflict(String),
    /// There is no such row.
    #[error("there is no such exception in force")]
    Unknown,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Mistakes, with the name of the file they are in.
#[derive(Debug)]
pub struct Told {
    /// The file, where there is one.
    pub path: Option<PathBuf>,
    /// The mistakes.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let part = if index == 0 { "" } else { "; " };
            match (mistake.origin, &self.path) {
                (Some(Origin::File), Some(path)) => write!(f, "{part}{}: {mistake}", path.display())?,
                (Some(Origin::Api), _) => write!(f, "{part}exceptions sent over HTTP: {mistake}")?,
                _ => write!(f, "{part}{mistake}")?,
            }
        }
        Ok(())
    }
}

/// Where an operator's exceptions come from.
#[derive(Debug, Clone, Default)]
struct Sources {
    file: Vec<Exception>,
    rows: Vec<ExceptionRow>,
}

impl Sources {
    fn build(&self, config: &CalendarConfig) -> Result<Calendars, CalendarFault> {
        let refuse = |Mistakes(mistakes)| CalendarFault::Refused(Told { path: config.exceptions.clone(), mistakes });
        let rows = self.rows.iter().zip(1..).map(|(row, line)| read(&row.written, Origin::Api, line));
        let rows: Vec<_> = rows.collect::<Result<_, _>>().map_err(|mistake| refuse(Mistakes(vec![mistake])))?;
        let exceptions = self.file.iter().cloned().chain(rows).collect();
        Calendars::build(Operator { exceptions, overnight: config.overnight.clone(), known_at: None }).map_err(refuse)
    }
}

/// Reads the operator's file.
///
/// # Errors
/// When it cannot be read, or with every mistake in it.
pub fn read_file(path: &Path) -> Result<Vec<Exception>, CalendarFault> {
    let fault = |cause: String| CalendarFault::File { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(|cause| fault(cause.to_string()))?.len();
    if size > LARGEST_FILE {
        return Err(fault(format!("{size} bytes; the most are {LARGEST_FILE}")));
    }
    let bytes = std::fs::read(path).map_err(|cause| fault(cause.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| fault("this is not UTF-8 text".to_owned()))?;
    read_csv(&text, Origin::File)
        .map_err(|Mistakes(mistakes)| CalendarFault::Refused(Told { path: Some(path.to_owned()), mistakes }))
}

/// The calendars as a command or a daemon starts with them: the file, and the rows that `store` has. A stored row that does
/// not fit any more (a newer version may know better) is left out and said.
///
/// # Errors
/// When the file, or the database, is not as it should be.
pub async fn load(config: &CalendarConfig, store: Option<&Store>) -> Result<Calendars, CalendarFault> {
    let file = config.exceptions.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let rows = match store {
        Some(store) => store.calendar_exceptions().await?,
        None => Vec::new(),
    };
    let mut sources = Sources { file, rows };
    loop {
        match sources.build(config) {
            Err(CalendarFault::Refused(Told { mistakes, .. })) if mistakes.iter().all(is_stored) => {
                for mistake in mistakes.iter().rev() {
                    error!(mistake = %mistake, "a stored exception does not fit the calendar any more and is left out");
                }
                let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
                let mut line = 0;
                sources.rows.retain(|_| {
                    line += 1;
                    !lines.contains(&line)
                });
            }
            result => return result,
        }
    }
}

fn is_stored(mistake: &Mistake) -> bool {
    mistake.origin == Some(Origin::Api) && mistake.line > 0
}

/// What tells that a file is another one.
type Stamp = (Option<SystemTime>, u64, u64);

/// Keeps the calendars of a daemon up to date.
pub struct CalendarKeeper {
    shared: Arc<SharedCalendars>,
    config: CalendarConfig,
    store: Store,
    clock: SharedClock,
    /// The planner looks at once when the calendars have changed.
    nudge: Arc<Notify>,
    /// One change at a time.
    sources: Mutex<Sources>,
    /// Why the calendars are not as the file has them now.
    fault: RwLock<Option<String>>,
}

impl fmt::Debug for CalendarKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalendarKeeper").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a change did, or would do.
#[derive(Debug)]
pub struct Changed {
    /// The row that was added or withdrawn.
    pub row: ExceptionRow,
    /// Whether it was there before, with the same words.
    pub repeated: bool,
    /// What is told differently now.
    pub changes: Vec<Change>,
}

impl CalendarKeeper {
    /// A keeper of `shared`, which holds what [`load`] gave.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn new(
        shared: Arc<SharedCalendars>,
        config: CalendarConfig,
        store: Store,
        clock: SharedClock,
        nudge: Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let rows = store.calendar_exceptions().await?;
        let file =
            shared.all().operator().exceptions.iter().filter(|row| row.origin == Origin::File).cloned().collect();
        let sources = Mutex::new(Sources { file, rows });
        let keeper = Self { shared, config, store, clock, nudge, sources, fault: RwLock::default() };
        keeper.show();
        Ok(keeper)
    }

    /// Why the calendars are not as the operator's file has them now; `None` while they are.
    pub fn fault(&self) -> Option<String> {
        self.fault.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything anew. A mistake keeps the calendars as they are.
    ///
    /// # Errors
    /// What is wrong; it was logged.
    pub async fn reload(&self, cause: &'static str) -> Result<(), CalendarFault> {
        let mut sources = self.sources.lock().await;
        let result = self.read_again(&mut sources).await;
        match &result {
            Ok(changes) => self.tell(cause, changes),
            Err(fault) => error!(cause, error = %fault, "the calendar stays as it was"),
        }
        metrics::calendar_reloaded(result.is_ok());
        *self.fault.write().unwrap_or_else(PoisonError::into_inner) = result.as_ref().err().map(ToString::to_string);
        result.map(|_| ())
    }

    async fn read_again(&self, sources: &mut Sources) -> Result<Vec<Change>, CalendarFault> {
        let path = self.config.exceptions.clone();
        let rows = self.store.calendar_exceptions().await?;
        let file = match path {
            Some(path) => blocking(move || read_file(&path)).await?,
            None => Vec::new(),
        };
        let next = Sources { file, rows };
        let changes = self.swap(&next).await?;
        *sources = next;
        Ok(changes)
    }

    /// Compiles, compares and swaps. Nothing is swapped where nothing would change.
    async fn swap(&self, sources: &Sources) -> Result<Vec<Change>, CalendarFault> {
        let (calendars, changes) = self.compile(sources).await?;
        self.show_new(calendars);
        Ok(changes)
    }

    async fn compile(&self, sources: &Sources) -> Result<(Calendars, Vec<Change>), CalendarFault> {
        let (sources, config, before) = (sources.clone(), self.config.clone(), self.shared.all());
        blocking(move || {
            let calendars = sources.build(&config)?;
            // The venue of the schedule is compiled here too, off the threads that serve.
            calendars.of(&config.exchange);
            let changes = differences(&before, &calendars);
            Ok((calendars, changes))
        })
        .await
    }

    fn show_new(&self, calendars: Calendars) {
        self.shared.swap(calendars);
        self.show();
        self.nudge.notify_one();
    }

    fn show(&self) {
        let (calendar, all) = (self.shared.load(), self.shared.all());
        let count = |origin| all.operator().exceptions.iter().filter(|row| row.origin == origin).count();
        metrics::calendar_is(calendar.version(), calendar.hash(), calendar.horizon().0);
        metrics::calendar_exceptions(Origin::File.name(), count(Origin::File));
        metrics::calendar_exceptions(Origin::Api.name(), count(Origin::Api));
    }

    fn tell(&self, cause: &str, changes: &[Change]) {
        let calendar = self.shared.load();
        for Change { exchange, date, before, after } in changes.iter().take(MOST_TOLD) {
            info!(exchange, %date, before, after, "the calendar has changed");
        }
        let (calendar_version, calendar_hash) = (calendar.version(), calendar.hash());
        info!(cause, changes = changes.len(), calendar_version, calendar_hash, "the calendar was read anew");
    }

    /// Adds a row that an operator sent; with `dry_run` only says what it would do.
    ///
    /// # Errors
    /// [`CalendarFault::Refused`] for a row that does not fit, [`CalendarFault::Conflict`] for one beside another.
    pub async fn add(&self, written: Written, dry_run: bool) -> Result<Changed, CalendarFault> {
        let mut sources = self.sources.lock().await;
        let line = sources.rows.len() + 1;
        let refuse = |mistake| CalendarFault::Refused(Told { path: None, mistakes: vec![mistake] });
        // Written again as it was understood, so that one thing is always written one way.
        let written = read(&written, Origin::Api, line).map_err(refuse)?.written();
        if let Some(row) = sources.rows.iter().find(|row| is_same(&row.written, &written)) {
            return Ok(Changed { row: row.clone(), repeated: true, changes: Vec::new() });
        }
        let row = ExceptionRow { id: Uuid::now_v7(), written, created_at: self.clock.now() };
        let mut next = sources.clone();
        next.rows.push(row.clone());
        let (calendars, changes) = self.compile(&next).await?;
        if !dry_run {
            if !self.store.add_calendar_exception(&row).await? {
                let Written { date, venue, kind, .. } = &row.written;
                let message = format!("another {kind} of {venue} on {date} is in force; withdraw it first");
                return Err(CalendarFault::Conflict(message));
            }
            *sources = next;
            self.show_new(calendars);
            self.tell("operator", &changes);
        }
        Ok(Changed { row, repeated: false, changes })
    }

    /// Withdraws the row `id`; with `dry_run` only says what that would do.
    ///
    /// # Errors
    /// [`CalendarFault::Unknown`] where there is none, [`CalendarFault::Refused`] where others need it.
    pub async fn withdraw(&self, id: Uuid, dry_run: bool) -> Result<Changed, CalendarFault> {
        let mut sources = self.sources.lock().await;
        let mut next = sources.clone();
        let index = next.rows.iter().position(|row| row.id == id).ok_or(CalendarFault::Unknown)?;
        let row = next.rows.remove(index);
        let (calendars, changes) = self.compile(&next).await?;
        if !dry_run {
            if !self.store.withdraw_calendar_exception(id, self.clock.now()).await? {
                return Err(CalendarFault::Unknown);
            }
            *sources = next;
            self.show_new(calendars);
            self.tell("operator", &changes);
        }
        Ok(Changed { row, repeated: false, changes })
    }

    /// The rows that came over HTTP and are in force.
    pub async fn rows(&self) -> Vec<ExceptionRow> {
        self.sources.lock().await.rows.clone()
    }

    /// Watches the file, and the database where other instances share it, until told to stop.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut read = self.stamp().await;
        let mut seen = read;
        let mut revision = self.store.calendar_exceptions_revision().await.ok();
        let mut warned: Option<DateTime<Utc>> = None;
        for look in 1_u32.. {
            tokio::select! {
                () = self.clock.sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            let now = self.stamp().await;
            let (settled, changed) = (now == seen, now != read);
            seen = now;
            let mut why = (settled && changed).then_some("file changed");
            if !self.store.is_exclusive() && look.is_multiple_of(LOOKS_PER_QUESTION) {
                let asked = self.store.calendar_exceptions_revision().await.ok();
                if asked.is_some() && asked != revision {
                    (revision, why) = (asked, why.or(Some("database changed")));
                }
            }
            if let Some(cause) = why {
                read = now;
                // A mistake was logged; the next change of the file is the next chance.
                let _ = self.reload(cause).await;
            }
            self.warn_of_horizon(&mut warned);
        }
    }

    async fn stamp(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let found = tokio::fs::metadata(self.config.exceptions.as_deref()?).await.ok()?;
        Some((found.modified().ok(), found.len(), found.ino()))
    }

    /// Once a day while the exchange has published less than thirteen months ahead.
    fn warn_of_horizon(&self, warned: &mut Option<DateTime<Utc>>) {
        let (now, calendar) = (self.clock.now(), self.shared.load());
        let lately = warned.is_some_and(|warned| now - warned < chrono::TimeDelta::days(1));
        if !lately && calendar.is_horizon_near(now) {
            let horizon = calendar.horizon().0;
            warn!(
                exchange = calendar.mic(), %horizon,
                "less than 13 months of holidays are published in this version; beyond that the rules answer: install a newer one"
            );
            *warned = Some(now);
        }
    }
}

/// Two rows with the same words; when they were declared may differ, because it is filled in.
fn is_same(a: &Written, b: &Written) -> bool {
    let plain = |written: &Written| Written { declared_at: String::new(), ..written.clone() };
    plain(a) == plain(b)
}

/// Work that may take tens of milliseconds, off the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CalendarFault> + Send + 'static,
) -> Result<T, CalendarFault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| Err(CalendarFault::Conflict(fault.to_string())))
}
