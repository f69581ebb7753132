//! The calendars with an operator's exceptions over them: read at start, kept up to date while the daemon runs.
//!
//! A change counts whole or not at all. What does not fit is said with its line, its column and the fix, and the calendars
//! stay as they were.

mod keeper;

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::error;
use uuid::Uuid;

use crate::calendar::{Calendars, Exception, Mistake, Mistakes, Operator, Origin, read, read_csv};
use crate::config::CalendarConfig;
use crate::store::{ExceptionRow, Store, StoreError};
pub use keeper::{CalendarKeeper, Changed};

/// The largest file that is read.
const LARGEST_FILE: u64 = 32 * 1024 * 1024;

/// The most differences, and mistakes, that are told one by one.
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
        for (index, mistake) in self.mistakes.iter().take(MOST_TOLD).enumerate() {
            let part = if index == 0 { "" } else { "; " };
            match (mistake.origin, &self.path) {
                (Some(Origin::File), Some(path)) => write!(f, "{part}{}: {mistake}", path.display())?,
                (Some(Origin::Api), _) => write!(f, "{part}exceptions sent over HTTP: {mistake}")?,
                _ => write!(f, "{part}{mistake}")?,
            }
        }
        match self.mistakes.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            others => write!(f, "; and {others} more"),
        }
    }
}

/// Where an operator's exceptions come from: the last good file, and the rows in the database.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Vec<Exception>,
    rows: Vec<ExceptionRow>,
    /// What the file and the database were like before they were read.
    stamp: Option<Stamp>,
    revision: Option<i64>,
    /// What did not fit when they were put together first.
    left_out: Vec<LeftOut>,
}

/// A stored row that does not fit the calendar, and why: a newer file, or a newer version, may know better than it.
#[derive(Debug, Clone)]
pub struct LeftOut {
    /// The row.
    pub id: Uuid,
    /// What is wrong with it.
    pub mistake: Mistake,
}

impl Sources {
    /// Puts everything together. A mistake in the file refuses it; a stored row that does not fit is left out, because it must
    /// never keep a daemon from starting or the calendar from changing.
    fn build(&self, config: &CalendarConfig) -> Result<(Calendars, Vec<LeftOut>), CalendarFault> {
        let mut left_out: Vec<LeftOut> = Vec::new();
        loop {
            let fitting = self.rows.iter().zip(1..).filter(|(row, _)| left_out.iter().all(|left| left.id != row.id));
            let (rows, mistakes) = read_rows(fitting);
            let mistakes = match mistakes.is_empty() {
                true => {
                    let exceptions = self.file.iter().cloned().chain(rows).collect();
                    let overnight = config.overnight.clone();
                    match Calendars::build(Operator { exceptions, overnight, known_at: None }) {
                        Ok(calendars) => return Ok((calendars, left_out)),
                        Err(Mistakes(mistakes)) => mistakes,
                    }
                }
                false => mistakes,
            };
            let (stored, others): (Vec<_>, Vec<_>) =
                mistakes.into_iter().partition(|mistake| self.row_of(mistake).is_some());
            // What contradicts a stored row is told of that row; the file is refused for its own mistakes alone.
            if stored.is_empty() {
                return Err(CalendarFault::Refused(Told { path: config.exceptions.clone(), mistakes: others }));
            }
            left_out.extend(
                stored.into_iter().filter_map(|mistake| Some(LeftOut { id: self.row_of(&mistake)?.id, mistake })),
            );
        }
    }

    /// The stored row a mistake is about.
    fn row_of(&self, mistake: &Mistake) -> Option<&ExceptionRow> {
        (mistake.origin == Some(Origin::Api)).then(|| self.rows.get(mistake.line.checked_sub(1)?))?
    }
}

fn read_rows<'a>(rows: impl Iterator<Item = (&'a ExceptionRow, usize)>) -> (Vec<Exception>, Vec<Mistake>) {
    let (mut read_rows, mut mistakes) = (Vec::new(), Vec::new());
    for (row, line) in rows {
        match read(&row.written, Origin::Api, line) {
            Ok(exception) => read_rows.push(exception),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    (read_rows, mistakes)
}

/// Reads the operator's file.
///
/// # Errors
/// When it cannot be read, or with every mistake in it.
pub fn read_file(path: &Path) -> Result<Vec<Exception>, CalendarFault> {
    let fault = |cause: String| CalendarFault::File { path: path.to_owned(), cause };
    let metadata = std::fs::metadata(path).map_err(|cause| fault(cause.to_string()))?;
    // A pipe or a device would be read for ever.
    if !metadata.is_file() {
        return Err(fault("this is no plain file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|cause| fault(cause.to_string()))?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|cause| fault(cause.to_string()))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(fault(format!("the file is larger than {LARGEST_FILE} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| fault("this is not UTF-8 text".to_owned()))?;
    read_csv(&text, Origin::File)
        .map_err(|Mistakes(mistakes)| CalendarFault::Refused(Told { path: Some(path.to_owned()), mistakes }))
}

/// The calendars as a command or a daemon starts with them: the file, and the rows that `store` has.
///
/// # Errors
/// When the file, or the database, is not as it should be.
pub async fn load(config: &CalendarConfig, store: Option<&Store>) -> Result<(Calendars, Sources), CalendarFault> {
    // Looked at before it is read, so that a change in between is seen as one.
    let stamp = config.exceptions.as_deref().and_then(stamp_of);
    let file = config.exceptions.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let (rows, revision) = match store {
        Some(store) => {
            let revision = store.calendar_exceptions_revision().await?;
            (store.calendar_exceptions().await?, Some(revision))
        }
        None => (Vec::new(), None),
    };
    let mut sources = Sources { file, rows, stamp, revision, left_out: Vec::new() };
    let (calendars, left_out) = sources.build(config)?;
    tell_left_out(&left_out);
    sources.left_out = left_out;
    Ok((calendars, sources))
}

fn tell_left_out(left_out: &[LeftOut]) {
    for LeftOut { id, mistake } in left_out.iter().take(MOST_TOLD) {
        let Mistake { message, .. } = mistake;
        error!(exception = %id, mistake = message, "an exception that was sent over HTTP does not fit the calendar any more and is left out; withdraw it");
    }
}

/// What tells that a file is another one.
type Stamp = (Option<SystemTime>, i64, i64, u64, u64);

/// `None` for a file that cannot be looked at.
fn stamp_of(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok(), found.ctime(), found.ctime_nsec(), found.len(), found.ino()))
}
