//! The points of one symbol, one after the other: compact while they are added in memory, more compact once the session is over.

use super::Damaged;
use super::varint::{Reader, Writer, push_unsigned, unzigzag, zigzag};
use crate::market::Point;

/// Room is added in steps of this many bytes: doubling would waste half of a day's memory.
const STEP: usize = 48;

/// The points of a session so far, each as the difference from the one before: about six bytes a point with its volume.
#[derive(Debug, Clone, Default)]
pub struct Track {
    bytes: Vec<u8>,
    count: u32,
    last: Point,
    last_step: i64,
}

impl Track {
    /// Adds a point, unless it is no newer than the last one. Says whether it did.
    pub fn push(&mut self, point: Point) -> bool {
        if self.count > 0 && point.at <= self.last.at {
            return false;
        }
        // At most 10 + 10 + 10 bytes.
        if self.bytes.capacity() - self.bytes.len() < 30 {
            self.bytes.reserve_exact(STEP);
        }
        let step = point.at.wrapping_sub(self.last.at);
        push_unsigned(&mut self.bytes, zigzag(step.wrapping_sub(self.last_step)));
        push_unsigned(&mut self.bytes, zigzag(point.price.wrapping_sub(self.last.price)));
        // What is not known repeats what was known, and says so by a number of its own.
        let volume = point.volume.map_or(0, |volume| zigzag(volume.max(0) - self.last.volume.unwrap_or(0)) + 1);
        push_unsigned(&mut self.bytes, volume);
        let known = point.volume.map(|volume| volume.max(0)).or(self.last.volume);
        (self.last_step, self.last) = (step, Point { volume: known, ..point });
        self.count += 1;
        true
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory, its own fields left out.
    pub fn allocated(&self) -> usize {
        self.bytes.capacity()
    }

    /// All points, oldest first.
    pub fn points(&self) -> Vec<Point> {
        let mut reader = Reader::of(&self.bytes);
        let mut points = Vec::with_capacity(self.len());
        let (mut last, mut last_step) = (Point::default(), 0_i64);
        // Written by `push` alone, so that nothing can be wrong with it.
        while let (Ok(step), Ok(price), Ok(volume)) = (reader.signed(), reader.signed(), reader.unsigned()) {
            last_step = last_step.wrapping_add(step);
            let known = last.volume;
            let volume = (volume > 0).then(|| unzigzag(volume - 1).wrapping_add(known.unwrap_or(0)));
            let point = Point { at: last.at.wrapping_add(last_step), price: last.price.wrapping_add(price), volume };
            points.push(point);
            last = Point { volume: volume.or(known), ..point };
        }
        points
    }
}

/// Writes the times and prices of a session, without the volumes, which are in the bars: two to three bytes a point. Prices go in
/// steps of what they all are multiples of apart, mostly a cent.
pub fn encode_track(points: &[Point]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.unsigned(points.len() as u64);
    let Some(first) = points.first() else { return writer.0 };
    let tick = common_step(points.windows(2).map(|pair| pair[1].price.wrapping_sub(pair[0].price)));
    writer.signed(first.at);
    writer.signed(first.price);
    writer.signed(tick);
    let mut last_step = 0_i64;
    for pair in points.windows(2) {
        let step = pair[1].at.wrapping_sub(pair[0].at);
        writer.signed(step.wrapping_sub(last_step));
        writer.signed(pair[1].price.wrapping_sub(pair[0].price) / tick);
        last_step = step;
    }
    writer.0
}

/// Reads them again; volumes are not known.
///
/// # Errors
/// When the bytes are not what was written.
pub fn decode_track(bytes: &[u8]) -> Result<Vec<Point>, Damaged> {
    let mut reader = Reader::of(bytes);
    let count = reader.count()?;
    let mut points = Vec::with_capacity(count);
    if count > 0 {
        let mut last = Point { at: reader.signed()?, price: reader.signed()?, volume: None };
        let tick = reader.signed()?;
        points.push(last);
        let mut step = 0_i64;
        for _ in 1..count {
            step = step.wrapping_add(reader.signed()?);
            last.at = last.at.wrapping_add(step);
            last.price = last.price.wrapping_add(reader.signed()?.wrapping_mul(tick));
            points.push(last);
        }
    }
    if reader.is_at_end() { Ok(points) } else { Err(Damaged("there is more than was written")) }
}

/// The largest number above zero of which all are multiples; 1 of nothing but zeros.
pub(super) fn common_step(differences: impl Iterator<Item = i64>) -> i64 {
    let common = differences.fold(0_u64, |a, b| common_divisor(a, b.unsigned_abs()));
    i64::try_from(common).unwrap_or(1).max(1)
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
