//! The words of the calendar.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Serialize, Serializer};

/// What the market is doing. Spans are half-open: at 16:00:00.000 the regular phase is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing trades.
    Closed,
    /// Before the opening.
    Pre,
    /// The session proper.
    Regular,
    /// After the close.
    Post,
    /// Through the night.
    Overnight,
    /// A pause the session always has.
    Break,
    /// A pause that was ordered.
    Halt,
}

/// How sure an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// The exchange has published it.
    Official,
    /// It follows from the rules; the exchange has not published so far ahead.
    Rule,
    /// An operator said so.
    Operator,
}

/// What sort of date it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DayKind {
    /// A session of full length.
    Full,
    /// A session that ends early.
    EarlyClose,
    /// A session that begins late.
    LateOpen,
    /// A session with other hours.
    Special,
    /// Closed by rule.
    Holiday,
    /// Closed by decision.
    Closure,
    /// Closed as every week.
    Weekend,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] =
        [Self::Closed, Self::Pre, Self::Regular, Self::Post, Self::Overnight, Self::Break, Self::Halt];

    /// The name in JSON, metrics and the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Pre => "pre",
            Self::Regular => "regular",
            Self::Post => "post",
            Self::Overnight => "overnight",
            Self::Break => "break",
            Self::Halt => "halt",
        }
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|phase| phase.name() == name);
        found.ok_or_else(|| format!("{name:?} is not a phase"))
    }
}

impl Confidence {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::Rule => "rule",
            Self::Operator => "operator",
        }
    }
}

impl DayKind {
    /// The name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::EarlyClose => "early_close",
            Self::LateOpen => "late_open",
            Self::Special => "special",
            Self::Holiday => "holiday",
            Self::Closure => "closure",
            Self::Weekend => "weekend",
        }
    }

    /// Whether the market trades on such a date.
    pub fn is_session(self) -> bool {
        matches!(self, Self::Full | Self::EarlyClose | Self::LateOpen | Self::Special)
    }
}

macro_rules! shown_by_name {
    ($($type:ty),+) => {
        $(
            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(self.name())
                }
            }

            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.name())
                }
            }
        )+
    };
}

shown_by_name!(Phase, Confidence, DayKind);

/// What is known of a date, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The date in the exchange's zone.
    pub date: NaiveDate,
    /// What sort of date it is.
    pub kind: DayKind,
    /// Whether the market trades.
    pub is_session: bool,
    /// Why it is not an ordinary day; `None` on one that is, and on weekends.
    pub reason: Option<Arc<str>>,
    /// Who says so.
    pub source: Option<Arc<str>>,
    /// When it was announced, where that is known.
    pub declared_at: Option<NaiveDate>,
    /// How sure it is.
    pub confidence: Confidence,
}

/// The hours of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The date it belongs to.
    pub date: NaiveDate,
    /// Full or not.
    pub kind: DayKind,
    /// Start of the phase before the opening.
    pub pre_open: DateTime<Utc>,
    /// The opening.
    pub open: DateTime<Utc>,
    /// The close.
    pub close: DateTime<Utc>,
    /// End of the phase after the close.
    pub post_close: DateTime<Utc>,
    /// Why it is not full.
    pub reason: Option<Arc<str>>,
}

/// Everything about one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// What the market is doing.
    pub phase: Phase,
    /// The session the phase belongs to; `None` while closed.
    pub session: Option<NaiveDate>,
    /// When the phase ends.
    pub next_transition: DateTime<Utc>,
    /// What comes then.
    pub next_phase: Phase,
    /// The next opening of a regular session, strictly later.
    pub next_open: DateTime<Utc>,
    /// The next close of a regular session, strictly later.
    pub next_close: DateTime<Utc>,
    /// Whether the session under way, or the next one, closes early.
    pub is_early_close: bool,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why the session under way is not full.
    pub reason: Option<Arc<str>>,
}

/// One phase from its start to its end, half-open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What the market is doing.
    pub phase: Phase,
    /// First instant.
    pub start: DateTime<Utc>,
    /// First instant after it.
    pub end: DateTime<Utc>,
    /// The session it belongs to; `None` while closed.
    pub session: Option<NaiveDate>,
}
