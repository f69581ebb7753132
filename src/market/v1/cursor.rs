//! Where a page ended: enough to go on after it in the same cycle, and also in a later one.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use uuid::Uuid;

use super::query::MOST_KEYS;

/// The form of the text; another one is refused, not misread.
const VERSION: u8 = 1;

/// Bytes before the symbol: version, cycle, query, keys.
const HEAD: usize = 1 + 16 + 8 + 8 * MOST_KEYS;

/// A place in a list of quotes. Clients pass its text back as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The cycle that the pages before were of.
    pub cycle: Uuid,
    /// Names the query whose pages these are.
    pub query: [u8; 8],
    /// What the last row was sorted by.
    pub keys: [i64; MOST_KEYS],
    /// The last row.
    pub symbol: String,
}

impl Cursor {
    /// The text in an answer: hexadecimal digits.
    pub fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.cycle.as_bytes());
        bytes.extend_from_slice(&self.query);
        for key in self.keys {
            bytes.extend_from_slice(&key.to_be_bytes());
        }
        bytes.extend_from_slice(self.symbol.as_bytes());
        HEXLOWER.encode(&bytes)
    }

    /// The cursor in a text; `None` where it is not one of ours.
    pub fn of_text(text: &str) -> Option<Self> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        let (head, symbol) = bytes.split_at_checked(HEAD)?;
        let (version, head) = head.split_first()?;
        let (cycle, head) = head.split_first_chunk()?;
        let (query, keys) = head.split_first_chunk()?;
        let mut places = [0; MOST_KEYS];
        for (place, key) in places.iter_mut().zip(keys.as_chunks::<8>().0) {
            *place = i64::from_be_bytes(*key);
        }
        let symbol = String::from_utf8(symbol.to_vec()).ok()?;
        let ours = *version == VERSION && !symbol.is_empty();
        ours.then_some(Self { cycle: Uuid::from_bytes(*cycle), query: *query, keys: places, symbol })
    }
}
