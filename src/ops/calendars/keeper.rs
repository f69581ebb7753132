//! Keeping the calendars of a daemon up to date.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{CalendarFault, LeftOut, MOST_TOLD, Sources, Stamp, Told, read_file, stamp_of, tell_left_out};
use crate::calendar::{Calendars, Change, Mistake, Origin, SharedCalendars, Written, differences, read};
use crate::clock::SharedClock;
use crate::config::CalendarConfig;
use crate::metrics;
use crate::store::{ExceptionRow, Store};

/// How often the file is looked at. It is read once it has stood still for one look, so that a file somebody is just writing
/// seldom counts; one that is moved into place never counts half.
const LOOK: Duration = Duration::from_millis(250);

/// How often the database is asked whether another instance has changed something, and what failed is tried again.
const ASK: Duration = Duration::from_secs(1);

/// Looks at the file from one of these to the next.
const LOOKS_PER_SECOND: u32 = 4;

/// The cause of a reload that failed for a passing reason: a file without permission, a database that is away.
const RETRY: &str = "retry";

/// Keeps the calendars of a daemon up to date.
pub struct CalendarKeeper {
    shared: Arc<SharedCalendars>,
    config: CalendarConfig,
    store: Store,
    clock: SharedClock,
    /// The planner looks at once when the calendars have changed.
    nudge: Arc<Notify>,
    /// One change at a time.
    state: Mutex<Sources>,
    told: RwLock<Shortcomings>,
}

impl fmt::Debug for CalendarKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalendarKeeper").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What an operator should hear of.
#[derive(Debug, Default)]
struct Shortcomings {
    /// Why the file's part is not as the file has it now.
    fault: Option<String>,
    left_out: Vec<LeftOut>,
}

struct Compiled {
    calendars: Calendars,
    left_out: Vec<LeftOut>,
    changes: Vec<Change>,
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
    /// A keeper of `shared`; `sources` are what [`super::load`] made it from.
    pub fn new(
        shared: Arc<SharedCalendars>,
        sources: Sources,
        config: CalendarConfig,
        store: Store,
        clock: SharedClock,
        nudge: Arc<Notify>,
    ) -> Self {
        let told = RwLock::new(Shortcomings { fault: None, left_out: sources.left_out.clone() });
        let keeper = Self { shared, config, store, clock, nudge, state: Mutex::new(sources), told };
        keeper.show();
        keeper
    }

    /// Why the calendars are not as the operator wants them now; `None` while they are.
    pub fn fault(&self) -> Option<String> {
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        let left_out = told.left_out.first().map(|left| {
            format!("{} exceptions sent over HTTP do not fit: {}", told.left_out.len(), left.mistake.message)
        });
        told.fault.clone().or(left_out)
    }

    /// The stored rows that do not fit, and why.
    pub fn left_out(&self) -> Vec<LeftOut> {
        self.told.read().unwrap_or_else(PoisonError::into_inner).left_out.clone()
    }

    /// Reads everything anew. A mistake in the file keeps the file's part as it was; what others stored is taken in all the same.
    ///
    /// # Errors
    /// What is wrong with the file, or with the database; it was logged.
    pub async fn reload(&self, cause: &'static str) -> Result<(), CalendarFault> {
        let mut state = self.state.lock().await;
        let result = self.read_again(&mut state).await;
        let fault = result.as_ref().err().map(ToString::to_string);
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(changes) => self.tell(cause, changes),
            // What fails for a passing reason is tried again each second, and said once.
            Err(_) if told.fault == fault && cause == RETRY => {}
            Err(fault) => error!(cause, error = %fault, "the calendar stays as it was"),
        }
        metrics::calendar_reloaded(result.is_ok());
        told.fault = fault;
        result.map(|_| ())
    }

    async fn read_again(&self, state: &mut Sources) -> Result<Vec<Change>, CalendarFault> {
        let stored = self.with_rows(state).await?;
        let file = match self.config.exceptions.clone() {
            Some(path) => blocking(move || read_file(&path)).await,
            None => Ok(Vec::new()),
        };
        let with_file = match file {
            Ok(file) => self.show_new(state, Sources { file, ..stored.clone() }).await,
            Err(fault) => Err(fault),
        };
        match with_file {
            // The last good file with the newest rows: a mistake in the file must not hold back what came over HTTP.
            Err(fault) if stored.rows != state.rows => {
                let changes = self.show_new(state, stored).await?;
                self.tell("database", &changes);
                Err(fault)
            }
            result => result,
        }
    }

    /// The same sources with the rows that the database has now.
    async fn with_rows(&self, state: &Sources) -> Result<Sources, CalendarFault> {
        // Asked first, so that a row that comes in between makes another number.
        let revision = Some(self.store.calendar_exceptions_revision().await?);
        Ok(Sources { rows: self.store.calendar_exceptions().await?, revision, ..state.clone() })
    }

    /// Compiles, compares and swaps.
    async fn show_new(&self, state: &mut Sources, next: Sources) -> Result<Vec<Change>, CalendarFault> {
        let Compiled { calendars, left_out, changes } = self.compile(&next).await?;
        *state = next;
        let before: Vec<Uuid> = self.left_out().iter().map(|left| left.id).collect();
        let news: Vec<_> = left_out.iter().filter(|left| !before.contains(&left.id)).cloned().collect();
        tell_left_out(&news);
        self.told.write().unwrap_or_else(PoisonError::into_inner).left_out = left_out;
        self.shared.swap(calendars);
        self.show();
        self.nudge.notify_one();
        Ok(changes)
    }

    async fn unfit(&self, sources: &Sources) -> Result<Vec<LeftOut>, CalendarFault> {
        let (sources, config) = (sources.clone(), self.config.clone());
        blocking(move || sources.build(&config).map(|(_, left_out)| left_out)).await
    }

    async fn compile(&self, sources: &Sources) -> Result<Compiled, CalendarFault> {
        let (sources, config, before) = (sources.clone(), self.config.clone(), self.shared.all());
        blocking(move || {
            let (calendars, left_out) = sources.build(&config)?;
            // The venue of the schedule is compiled here too, off the threads that serve.
            calendars.of(&config.exchange);
            let changes = differences(&before, &calendars);
            Ok(Compiled { calendars, left_out, changes })
        })
        .await
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

    /// Adds a row that an operator sent; with `dry_run` only says what it would do. It goes on in a task of its own: a caller
    /// that hangs up must not part the database from the calendar.
    ///
    /// # Errors
    /// [`CalendarFault::Refused`] for a row that does not fit, [`CalendarFault::Conflict`] for one beside another.
    pub async fn add(self: &Arc<Self>, written: Written, dry_run: bool) -> Result<Changed, CalendarFault> {
        let keeper = Arc::clone(self);
        whole(tokio::spawn(async move { keeper.add_whole(written, dry_run).await })).await
    }

    async fn add_whole(&self, written: Written, dry_run: bool) -> Result<Changed, CalendarFault> {
        let refuse = |mistake| CalendarFault::Refused(Told { path: None, mistakes: vec![mistake] });
        // Written again as it was understood, so that one thing is always written one way.
        let written = read(&written, Origin::Api, 1).map_err(refuse)?.written();
        let mut state = self.state.lock().await;
        // Another instance may have changed them since.
        let mut next = self.with_rows(&state).await?;
        if let Some(row) = next.rows.iter().find(|row| is_same(&row.written, &written)).cloned() {
            self.show_new(&mut state, next).await?;
            return Ok(Changed { row, repeated: true, changes: Vec::new() });
        }
        let unfit_before = self.unfit(&next).await?;
        let row = ExceptionRow { id: Uuid::now_v7(), written, created_at: self.clock.now() };
        next.rows.push(row.clone());
        let Compiled { left_out, changes, .. } = self.compile(&next).await?;
        if let Some(unfit) = newly_unfit(&unfit_before, left_out) {
            return Err(refuse(Mistake { line: 1, ..unfit.mistake }));
        }
        if !dry_run {
            let added = self.store.add_calendar_exception(&row).await;
            self.settle(&mut state, "operator").await?;
            if !added? {
                let Written { date, venue, kind, .. } = &row.written;
                let message = format!("another {kind} of {venue} on {date} is in force; withdraw it first");
                return Err(CalendarFault::Conflict(message));
            }
        }
        Ok(Changed { row, repeated: false, changes })
    }

    /// Withdraws the row `id`; with `dry_run` only says what that would do. It is done whole, as [`Self::add`] is.
    ///
    /// # Errors
    /// [`CalendarFault::Unknown`] where there is none, [`CalendarFault::Conflict`] where others need it.
    pub async fn withdraw(self: &Arc<Self>, id: Uuid, dry_run: bool) -> Result<Changed, CalendarFault> {
        let keeper = Arc::clone(self);
        whole(tokio::spawn(async move { keeper.withdraw_whole(id, dry_run).await })).await
    }

    async fn withdraw_whole(&self, id: Uuid, dry_run: bool) -> Result<Changed, CalendarFault> {
        let mut state = self.state.lock().await;
        let mut next = self.with_rows(&state).await?;
        let unfit_before = self.unfit(&next).await?;
        let index = next.rows.iter().position(|row| row.id == id).ok_or(CalendarFault::Unknown)?;
        let row = next.rows.remove(index);
        let Compiled { left_out, changes, .. } = self.compile(&next).await?;
        if let Some(unfit) = newly_unfit(&unfit_before, left_out) {
            return Err(CalendarFault::Conflict(format!("exception {} needs it: {}", unfit.id, unfit.mistake.message)));
        }
        if !dry_run {
            let withdrawn = self.store.withdraw_calendar_exception(id, self.clock.now()).await;
            self.settle(&mut state, "operator").await?;
            if !withdrawn? {
                return Err(CalendarFault::Unknown);
            }
        }
        Ok(Changed { row, repeated: false, changes })
    }

    /// Goes by what the database has now: a write whose end is not known, or that lost to another one, is settled by looking.
    async fn settle(&self, state: &mut Sources, cause: &str) -> Result<(), CalendarFault> {
        let next = self.with_rows(state).await?;
        let changes = self.show_new(state, next).await?;
        self.tell(cause, &changes);
        Ok(())
    }

    /// The rows that came over HTTP and are in force, fitting or not.
    pub async fn rows(&self) -> Vec<ExceptionRow> {
        self.state.lock().await.rows.clone()
    }

    /// Watches the file and the database (which other instances may share) until told to stop.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut read = self.state.lock().await.stamp;
        let (mut seen, mut pending, mut warned) = (read, None, None);
        // Without a file there is only the database to ask.
        let (pause, looks) = if self.config.exceptions.is_some() { (LOOK, LOOKS_PER_SECOND) } else { (ASK, 1) };
        for look in 1_u32.. {
            tokio::select! {
                () = self.clock.beat(pause) => {}
                () = stop.cancelled() => return,
            }
            let now = self.stamp().await;
            let settled = now == seen;
            seen = now;
            if now != read {
                pending = Some("file changed");
            }
            let each_second = look.is_multiple_of(looks);
            // Nobody else can have written to a SQLite file.
            let by_others = each_second && !self.store.is_exclusive();
            if by_others && let Ok(asked) = self.store.calendar_exceptions_revision().await {
                let known = self.state.lock().await.revision;
                pending = pending.or((known != Some(asked)).then_some("database changed"));
            }
            if let Some(cause) = pending.filter(|cause| settled && (*cause != RETRY || each_second)) {
                read = now;
                pending = match self.reload(cause).await {
                    // The next change of the file is the next chance.
                    Ok(()) | Err(CalendarFault::Refused(_)) => None,
                    Err(_) => Some(RETRY),
                };
            }
            self.warn_of_horizon(&mut warned);
        }
    }

    async fn stamp(&self) -> Option<Stamp> {
        let path = self.config.exceptions.clone()?;
        tokio::task::spawn_blocking(move || stamp_of(&path)).await.ok().flatten()
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

/// A stored row that a change would leave out, where it was not before.
fn newly_unfit(before: &[LeftOut], after: Vec<LeftOut>) -> Option<LeftOut> {
    after.into_iter().find(|left| before.iter().all(|known| known.id != left.id))
}

async fn whole(task: tokio::task::JoinHandle<Result<Changed, CalendarFault>>) -> Result<Changed, CalendarFault> {
    task.await.unwrap_or_else(|fault| Err(CalendarFault::Conflict(format!("the change broke off: {fault}"))))
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
