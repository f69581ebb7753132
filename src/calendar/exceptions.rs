//! Dated exceptions: what was decided about single dates, by an exchange or by an operator. One form for the built-in files,
//! an operator's file and the rows that come over HTTP.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::decided::wall;
use super::types::shown_by_name;
use super::zone::{LocalSeconds, wall_of};

/// The columns of a file of exceptions.
pub const COLUMNS: [&str; 11] =
    ["date", "venue", "kind", "open", "close", "halt_start", "halt_end", "reason", "source", "declared_at", "author"];

/// The most rows a file may have.
pub const MOST_ROWS: usize = 100_000;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExceptionKind {
    /// Everything that weaker layers say of the date is undone; the rules hold again.
    Clear,
    /// The market does not trade.
    Closure,
    /// It trades, whatever the rules say; at its usual hours where no others are given.
    Open,
    /// It opens late.
    LateOpen,
    /// It closes early; it may have opened late as well.
    EarlyClose,
    /// It closes late.
    LateClose,
    /// Trading pauses within the session.
    Halt,
}

impl ExceptionKind {
    pub(super) const ALL: [Self; 7] =
        [Self::Clear, Self::Closure, Self::Open, Self::LateOpen, Self::EarlyClose, Self::LateClose, Self::Halt];

    /// The name in files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Closure => "closure",
            Self::Open => "open",
            Self::LateOpen => "late_open",
            Self::EarlyClose => "early_close",
            Self::LateClose => "late_close",
            Self::Halt => "halt",
        }
    }
}

shown_by_name!(ExceptionKind);

impl std::str::FromStr for ExceptionKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        super::reading::read_kind(name).ok_or_else(|| "there is no such kind of exception".to_owned())
    }
}

impl std::str::FromStr for Origin {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::BuiltIn, Self::File, Self::Api];
        all.into_iter().find(|origin| origin.name() == name).ok_or_else(|| "there is no such origin".to_owned())
    }
}

/// Where a row comes from; a later one is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The data of this program.
    BuiltIn,
    /// The operator's file.
    File,
    /// The operator's calls over HTTP.
    Api,
}

impl Origin {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built_in",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

shown_by_name!(Origin);

/// When something was made known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// On a date, at no known hour: counted from its beginning in the market's zone.
    On(NaiveDate),
    /// At an instant.
    At(DateTime<Utc>),
}

impl Declared {
    /// Whether somebody could know it at `known_at`.
    pub(super) fn is_known(self, known_at: DateTime<Utc>, zone: Tz) -> bool {
        match self {
            Self::On(date) => date <= wall_of(zone, known_at).date(),
            Self::At(at) => at <= known_at,
        }
    }
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(date) => date.fmt(f),
            Self::At(at) => f.write_str(&at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
        }
    }
}

/// A row as it is written: in a line of a file, in the body of a call, in the database. Empty means not given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Written {
    /// `YYYY-MM-DD` in the market's zone.
    pub date: String,
    /// A MIC, or a market's name for all its venues.
    #[serde(alias = "mic", alias = "exchange")]
    pub venue: String,
    /// A name of [`ExceptionKind`].
    pub kind: String,
    /// `HH:MM` or `HH:MM:SS` on the wall of the market.
    #[serde(alias = "open_local")]
    pub open: String,
    /// The same.
    #[serde(alias = "close_local")]
    pub close: String,
    /// The same.
    #[serde(alias = "halt_start_local")]
    pub halt_start: String,
    /// The same.
    #[serde(alias = "halt_end_local")]
    pub halt_end: String,
    /// Why, for people.
    pub reason: String,
    /// Who says so.
    #[serde(alias = "source_url")]
    pub source: String,
    /// A date or an RFC 3339 instant.
    pub declared_at: String,
    /// Who wrote it down.
    pub author: String,
}

/// A row that makes sense by itself. Whether it fits its date is known only beside the rules and the other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The date it is about.
    pub date: NaiveDate,
    /// A MIC, or a market's name.
    pub venue: Arc<str>,
    /// What was decided.
    pub kind: ExceptionKind,
    pub(super) open: Option<LocalSeconds>,
    pub(super) close: Option<LocalSeconds>,
    pub(super) halt: Option<(LocalSeconds, LocalSeconds)>,
    /// Why.
    pub reason: Arc<str>,
    /// Who says so.
    pub source: Option<Arc<str>>,
    /// When it was made known.
    pub declared_at: Option<Declared>,
    /// Who wrote it down.
    pub author: Option<Arc<str>>,
    /// Where it comes from.
    pub origin: Origin,
    /// Its line in the file; the first is 1. Rows from elsewhere count from 1.
    pub line: usize,
}

/// What is wrong with a row or a file, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Which source the line belongs to.
    pub origin: Option<Origin>,
    /// Line of the file, from 1.
    pub line: usize,
    /// Name of the column, where one is to blame.
    pub column: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            let number = COLUMNS.iter().position(|name| *name == column).map_or(0, |index| index + 1);
            write!(f, ", column {number} ({column})")?;
        }
        write!(f, ": {}; fix: {}", self.message, self.fix)
    }
}

/// Every mistake that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, others @ ..] = self.0.as_slice() else { return f.write_str("no mistake") };
        write!(f, "{first}")?;
        if !others.is_empty() {
            write!(f, " (and {} more)", others.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

impl Exception {
    /// The row as it would be written again.
    pub fn written(&self) -> Written {
        let time = |time: Option<LocalSeconds>| time.map(wall).unwrap_or_default();
        let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
        Written {
            date: self.date.to_string(),
            venue: self.venue.to_string(),
            kind: self.kind.name().to_owned(),
            open: time(self.open),
            close: time(self.close),
            halt_start: time(self.halt.map(|halt| halt.0)),
            halt_end: time(self.halt.map(|halt| halt.1)),
            reason: self.reason.to_string(),
            source: text(&self.source),
            declared_at: self.declared_at.map(|declared| declared.to_string()).unwrap_or_default(),
            author: text(&self.author),
        }
    }

    /// All of it in one line that no other row has, for the hash.
    pub(super) fn line_of_csv(&self) -> String {
        let Written { date, venue, kind, open, close, halt_start, halt_end, reason, source, declared_at, author } =
            self.written();
        let cells = [date, venue, kind, open, close, halt_start, halt_end, reason, source, declared_at, author];
        // A control character parts the cells: none of them may hold one.
        format!("{}\u{1f}{}", self.origin, cells.join("\u{1f}"))
    }
}
