//! Whole numbers in as few bytes as they need: seven bits a byte, small ones first (LEB128), signs in the lowest bit (zigzag).

use super::Damaged;

/// The most bytes of one number.
const LONGEST: usize = 10;

/// Writes numbers one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

/// Reads them again; the end, and what is no number, is an error and never a panic.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl Writer {
    pub(super) fn unsigned(&mut self, number: u64) {
        push_unsigned(&mut self.0, number);
    }

    pub(super) fn signed(&mut self, number: i64) {
        push_unsigned(&mut self.0, zigzag(number));
    }

    /// 0 for what is not known.
    pub(super) fn optional(&mut self, number: Option<i64>) {
        match number {
            None => self.0.push(0),
            Some(number) => self.unsigned(number.max(0).unsigned_abs() + 1),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.unsigned(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

impl<'a> Reader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, Damaged> {
        let mut number = 0_u64;
        for (index, byte) in self.0.iter().take(LONGEST).enumerate() {
            let part = u64::from(byte & 0x7f);
            // The tenth byte has one bit left.
            if index == LONGEST - 1 && part > 1 {
                return Err(Damaged("a number is too large"));
            }
            number |= part << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok(number);
            }
        }
        Err(Damaged("a number has no end"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Damaged> {
        self.unsigned().map(unzigzag)
    }

    /// A count of things of which each takes a byte at least, so that no length is believed that the bytes cannot hold.
    pub(super) fn count(&mut self) -> Result<usize, Damaged> {
        let count = usize::try_from(self.unsigned()?).unwrap_or(usize::MAX);
        if count > self.0.len() { Err(Damaged("there are fewer bytes than things")) } else { Ok(count) }
    }

    /// What is not below zero; `None` is not known.
    pub(super) fn optional(&mut self) -> Result<Option<i64>, Damaged> {
        match self.unsigned()? {
            0 => Ok(None),
            number => i64::try_from(number - 1).map(Some).map_err(|_| Damaged("a number is too large")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.count()?;
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged("a text is not UTF-8"))
    }
}

/// Appends one number.
pub(super) fn push_unsigned(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Small numbers of either sign become small numbers.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}
