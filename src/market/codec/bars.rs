//! The bars of one symbol in a session.

use super::Damaged;
use super::track::common_step;
use super::varint::{Reader, Writer};
use crate::market::Bar;

/// Writes bars that are some whole number of `step` seconds apart: each opens near the close of the one before, and its high and
/// low are near its open and close. About eight bytes a bar.
pub fn encode_bars(step: i64, bars: &[Bar]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.unsigned(bars.len() as u64);
    let tick = common_step(bars.iter().flat_map(|bar| [bar.open, bar.high, bar.low, bar.close]));
    writer.signed(tick);
    let (mut at, mut close) = (0_i64, 0_i64);
    for bar in bars {
        writer.signed((bar.at / step).wrapping_sub(at));
        writer.signed((bar.open / tick).wrapping_sub(close));
        writer.signed((bar.close / tick).wrapping_sub(bar.open / tick));
        writer.signed((bar.high / tick).wrapping_sub((bar.open / tick).max(bar.close / tick)));
        writer.signed((bar.open / tick).min(bar.close / tick).wrapping_sub(bar.low / tick));
        writer.optional(bar.volume);
        (at, close) = (bar.at / step, bar.close / tick);
    }
    writer.0
}

/// Reads them again.
///
/// # Errors
/// When the bytes are not what was written.
pub fn decode_bars(step: i64, bytes: &[u8]) -> Result<Vec<Bar>, Damaged> {
    let mut reader = Reader::of(bytes);
    let count = reader.count()?;
    let tick = reader.signed()?;
    let mut bars = Vec::with_capacity(count);
    let (mut at, mut before) = (0_i64, 0_i64);
    for _ in 0..count {
        at = at.wrapping_add(reader.signed()?);
        let open = before.wrapping_add(reader.signed()?);
        let close = open.wrapping_add(reader.signed()?);
        let high = open.max(close).wrapping_add(reader.signed()?);
        let low = open.min(close).wrapping_sub(reader.signed()?);
        let units = |ticks: i64| ticks.wrapping_mul(tick);
        let volume = reader.optional()?;
        bars.push(Bar {
            at: at.wrapping_mul(step),
            open: units(open),
            high: units(high),
            low: units(low),
            close: units(close),
            volume,
        });
        before = close;
    }
    if reader.is_at_end() { Ok(bars) } else { Err(Damaged("there is more than was written")) }
}
