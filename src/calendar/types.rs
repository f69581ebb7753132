//! The words of the calendar.

use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

/// What the market is doing. Spans are half-open: at 16:00:00.000 the regular phase is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
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
            impl std::fmt::Display for $type {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.pad(self.name())
                }
            }

            impl serde::Serialize for $type {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.name())
                }
            }
        )+
    };
}
pub(super) use shown_by_name;

shown_by_name!(Phase, Confidence, DayKind);

/// What is known of a date, and why it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// The date in the market's zone.
    pub date: NaiveDate,
    /// What sort of date it is.
    pub kind: DayKind,
    /// Whether the market trades.
    pub is_session: bool,
    /// Why it is not an ordinary day; `None` on one that is.
    pub reason: Option<Arc<str>>,
    /// Who says so.
    pub source: Option<Arc<str>>,
    /// When it was announced, where that is known: a date or an instant, as it was written.
    pub declared_at: Option<Arc<str>>,
    /// Who wrote it down; `None` for what follows from the rules.
    pub author: Option<Arc<str>>,
    /// How sure it is.
    pub confidence: Confidence,
}

/// A time within a session in which nothing trades, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// [`Phase::Break`] or [`Phase::Halt`].
    pub phase: Phase,
    /// First instant.
    pub start: DateTime<Utc>,
    /// First instant after it.
    pub end: DateTime<Utc>,
}

/// The hours of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The date it belongs to, in the market's zone.
    pub date: NaiveDate,
    /// Full or not.
    pub kind: DayKind,
    /// Whether it ends before its usual time, whatever else is unusual about it.
    pub closes_early: bool,
    /// Start of the night session that belongs to it, where the venue has one.
    pub overnight_open: Option<DateTime<Utc>>,
    /// Start of the phase before the opening, where the venue has one.
    pub pre_open: Option<DateTime<Utc>>,
    /// The opening.
    pub open: DateTime<Utc>,
    /// The close.
    pub close: DateTime<Utc>,
    /// End of the phase after the close, where the venue has one.
    pub post_close: Option<DateTime<Utc>>,
    /// Breaks and halts between opening and close, in order.
    pub pauses: Vec<Pause>,
    /// Why it is not as usual.
    pub reason: Option<Arc<str>>,
    /// How sure it is.
    pub confidence: Confidence,
}

impl Session {
    /// First instant of its first phase.
    pub fn start(&self) -> DateTime<Utc> {
        self.overnight_open.or(self.pre_open).unwrap_or(self.open)
    }

    /// First instant after its last phase.
    pub fn end(&self) -> DateTime<Utc> {
        self.post_close.unwrap_or(self.close)
    }

    /// The first break it always has, such as a lunch break.
    pub fn first_break(&self) -> Option<Pause> {
        self.pauses.iter().find(|pause| pause.phase == Phase::Break).copied()
    }
}

/// Everything about one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What the market is doing.
    pub phase: Phase,
    /// The session the phase belongs to; `None` while closed.
    pub session: Option<NaiveDate>,
    /// When the phase ends; always later.
    pub next_transition: DateTime<Utc>,
    /// What comes then; always another phase.
    pub next_phase: Phase,
    /// How sure it is.
    pub confidence: Confidence,
}

/// One phase from its start to its end, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
