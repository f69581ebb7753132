//! One cycle of ingestion, stage by stage: fetch within the budget, gate, and the board that readers look at.
//!
//! Nothing here invents a value: what a source did not say stays unknown, and a symbol that failed keeps its last quote
//! with its age.

mod board;
mod budget;
mod documents;
mod dormant;
mod fetch;
pub mod gate;
pub mod past;
mod progress;
pub mod providers;
mod universe;

pub use board::{Board, Published};
pub use budget::{Budget, Permit, Quota};
pub use documents::{Documents, Loaded, Validators};
pub use dormant::{Learned, NegativeCache};
pub use fetch::{FetchPlan, Fetched, Fetcher};
pub use progress::{Progress, ProgressView};
pub use universe::{CurrentUniverse, SharedUniverse};
