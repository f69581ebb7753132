//! The points of one cycle: what is kept of it in the database while its session goes on.

use super::Damaged;
use super::varint::{Reader, Writer};
use crate::market::Point;

/// A point of the symbol with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SymbolPoint {
    /// Its number in the dictionary of symbols.
    pub symbol_id: i64,
    /// The point.
    pub point: Point,
}

/// Writes the points of a cycle whose slot is at `slot` (Unix seconds), in order of their symbols: about nine bytes each. Nothing
/// else is needed to read them again.
pub fn encode_points(slot: i64, points: &mut [SymbolPoint]) -> Vec<u8> {
    points.sort_unstable_by_key(|point| point.symbol_id);
    let mut writer = Writer(Vec::with_capacity(points.len() * 10 + 10));
    writer.unsigned(points.len() as u64);
    let mut before = 0_i64;
    for SymbolPoint { symbol_id, point } in points {
        writer.signed(symbol_id.wrapping_sub(before));
        // A quote is hardly ever later than its slot by much, and mostly a little earlier.
        writer.signed(slot.wrapping_sub(point.at));
        writer.signed(point.price);
        writer.optional(point.volume);
        before = *symbol_id;
    }
    writer.0
}

/// Reads them again.
///
/// # Errors
/// When the bytes are not what was written.
pub fn decode_points(slot: i64, bytes: &[u8]) -> Result<Vec<SymbolPoint>, Damaged> {
    let mut reader = Reader::of(bytes);
    let count = reader.count()?;
    let mut points = Vec::with_capacity(count);
    let mut before = 0_i64;
    for _ in 0..count {
        let symbol_id = before.wrapping_add(reader.signed()?);
        let at = slot.wrapping_sub(reader.signed()?);
        let point = Point { at, price: reader.signed()?, volume: reader.optional()? };
        points.push(SymbolPoint { symbol_id, point });
        before = symbol_id;
    }
    if reader.is_at_end() { Ok(points) } else { Err(Damaged("there is more than was written")) }
}
