//! What names a published state.

use std::fmt;

use chrono::{DateTime, Utc};

/// Names a published state among all others, in the order in which readers may see them: by the slot of its cycle, and then
/// by when it was rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateId {
    /// The slot of its cycle.
    pub slot: DateTime<Utc>,
    /// When it was rendered.
    pub rendered_at: DateTime<Utc>,
}

impl StateId {
    /// The id in its text; `None` where it is none.
    pub fn of_text(text: &str) -> Option<Self> {
        let (slot, rendered_at) = text.split_once('-')?;
        let instant = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok().and_then(DateTime::from_timestamp_micros)).flatten()
        };
        Some(Self { slot: instant(slot)?, rendered_at: instant(rendered_at)? })
    }
}

/// Microseconds of Unix time: `1805119200000000-1805119202125000`.
impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.slot.timestamp_micros(), self.rendered_at.timestamp_micros())
    }
}
