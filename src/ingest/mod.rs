//! One cycle of ingestion, stage by stage: fetch within the budget, gate, and the board that readers look at.
//!
//! Nothing here invents a value: what a source did not say stays unknown, and a symbol that failed keeps its last quote
//! with its age.

mod board;
mod breaker;
mod budget;
mod confirm;
mod cycle;
mod documents;
mod dormant;
mod fetch;
pub mod gate;
mod journal;
mod pace;
pub mod past;
mod plan;
mod progress;
pub mod providers;
mod universe;

pub use board::{Board, Published};
pub use breaker::{BreakerState, BreakerView};
pub use budget::{Budget, Headroom, Permit, Quota};
pub use confirm::fetch_and_gate;
pub use documents::{Documents, Loaded, Validators};
pub use dormant::{Learned, NegativeCache};
pub use fetch::{FetchOptions, FetchPlan, Fetched, Fetcher, Trouble, Wanted};
pub use journal::{Abandoned, Frame, Journal, JournalError};
pub use plan::RequestPlan;
pub use progress::{Progress, ProgressView};
pub use universe::{CurrentUniverse, SharedUniverse};
