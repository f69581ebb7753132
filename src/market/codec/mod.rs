//! How cycles, points and bars are written in few bytes. Everything read is checked: damaged bytes are an error, never a panic.

mod bars;
mod cycle;
mod points;
mod track;
mod varint;

pub use bars::{decode_bars, encode_bars};
pub use cycle::{CycleHead, KeptCycle, KeptQuote};
pub use points::{SymbolPoint, decode_points, encode_points};
pub use track::{Track, decode_track, encode_track};

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are damaged: {0}")]
pub struct Damaged(&'static str);

#[cfg(test)]
mod tests;
