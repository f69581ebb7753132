//! PURE: the quotes of a whole market, the statistics over them, and the bodies that clients read.

mod bars;
mod bodies;
mod body;
mod classes;
pub mod codec;
mod columns;
mod directory;
mod points;
mod price;
mod query;
mod quote;
mod range;
mod references;
mod roster;
mod rows;
mod search;
mod splits;
mod state;
mod statistics;
mod stock;
mod universe;
pub mod v1;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::calendar::Phase;
pub use bars::{DailyBar, Split};
pub use bodies::{Bodies, ranking};
pub use body::{Body, Encoding, Variant};
pub use classes::{DelayClass, LicenceClass};
pub use columns::{Column, Columns};
pub use directory::{Company, Directory, DirectoryKind, parse_companies};
pub use points::{Bar, Hours, MarketDay, MarketPast, Point, QUARTER_HOUR, SessionPoints, daily, quarter_hours};
pub use price::Price;
pub use query::{BOUNDED_NAMES, ListQuery, SORTED_NAMES, list, nearest};
pub use quote::{Quote, QuoteFlags, SUSPICIOUS_MOVE_PERCENT};
pub use range::Range;
pub use references::{Reference, ReferenceColumns, References, Spans, SplitClose};
pub use roster::{Changes, Counts, KnownSymbol, Selection, SilentSymbol, SymbolStatus, assemble, choose};
pub use search::search;
pub use splits::{SplitFactor, adjusted_bar};
pub use state::StateId;
pub use statistics::{LONGEST_RANKING, Ranking, SectorStatistics, Statistics};
pub use stock::{realtime, stock};
pub use universe::{Listing, Universe, UniverseError};

/// One pass of ingestion over the whole universe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cycle {
    /// Id of its run.
    pub id: Uuid,
    /// The slot it was for.
    pub slot: DateTime<Utc>,
    /// Where the quotes came from.
    pub source: String,
    /// The quotes are made up.
    pub simulated: bool,
    /// Time of the newest quote.
    pub as_of: DateTime<Utc>,
    /// When the cycle had its last answer.
    pub finished_at: DateTime<Utc>,
    /// Symbols that were to be quoted.
    pub expected: u32,
    /// Symbols with a valid quote of the session.
    pub fresh: u32,
    /// The others.
    pub failed: u32,
}

impl Cycle {
    /// Fresh over expected, 0 to 1, rounded down to four places: only a complete cycle is 1. 0 of nothing.
    pub fn completeness(&self) -> f64 {
        if self.expected == 0 {
            return 0.0;
        }
        // Whole numbers until the last step: 57 of 100 is 0.57, not what binary fractions make of it.
        let (fresh, expected) = (u64::from(self.fresh), u64::from(self.expected));
        (fresh * 10_000 / expected) as f64 / 1e4
    }
}

/// The quotes of the whole universe as one cycle left them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What is quoted.
    pub universe: Arc<Universe>,
    /// By index of the universe.
    pub quotes: Columns,
    /// How they came here.
    pub cycle: Cycle,
}

/// What readers are told beside the numbers. It changes without a cycle (the phase, the staleness), and the bodies are then
/// rendered again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Meta {
    /// The cycle.
    pub cycle_id: Uuid,
    /// Where the quotes came from: `simulated` when they are made up.
    pub source: String,
    /// The same, for a program.
    pub simulated: bool,
    /// How far behind the market the source runs.
    pub delay_class: DelayClass,
    /// Who may be shown its numbers.
    pub licence_class: LicenceClass,
    /// Time of the newest quote.
    pub as_of: DateTime<Utc>,
    /// How much regular trading had passed since then when this was rendered.
    pub age_seconds_market: i64,
    /// The numbers must not be taken for current.
    pub stale: bool,
    /// Share of symbols with a quote of this cycle.
    pub completeness: f64,
    /// What the market is doing.
    pub phase: Phase,
    /// When that ends.
    pub next_transition: DateTime<Utc>,
    /// Why it is stale or incomplete, in one sentence.
    pub cause: Option<String>,
    /// When this was rendered.
    pub rendered_at: DateTime<Utc>,
}

/// The first `count` bytes of the SHA-256 of `content`, in hexadecimal: names the content.
fn short_hash(content: &[u8], count: usize) -> String {
    HEXLOWER.encode(Sha256::digest(content).get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests;
