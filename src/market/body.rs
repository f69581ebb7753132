//! An answer as bytes: plain, and compressed in each of the ways that clients understand.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;

use super::short_hash;

/// Bytes of the hash in a tag: enough that no two answers ever share one.
const TAG_BYTES: usize = 12;

/// What is shorter is not compressed: it fits into one packet as it is.
const SMALLEST_COMPRESSED: usize = 1_024;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Brotli: the smallest.
    Brotli,
    /// Zstandard: the fastest to read.
    Zstd,
    /// gzip: known to all.
    Gzip,
    /// As it is.
    Identity,
}

impl Encoding {
    /// Smallest first: what is sent to a client that likes several alike.
    pub const ALL: [Self; 4] = [Self::Brotli, Self::Zstd, Self::Gzip, Self::Identity];

    /// Its content coding (RFC 9110, 8.4.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }
}

/// How hard to compress.
#[derive(Debug, Clone, Copy)]
enum Effort {
    /// Once, for everybody.
    ForMany,
    /// For one client that waits.
    ForOne,
}

/// An answer in one encoding, and the strong tag that names exactly these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// How it is written.
    pub encoding: Encoding,
    /// What is sent.
    pub bytes: Bytes,
    /// Quoted, as in the header.
    pub etag: Bytes,
}

/// An answer. Its variants have tags of one stem, so that a client that has any of them is known to have the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Names the content, whatever the encoding.
    stem: String,
    plain: Variant,
    /// Those that were made beforehand.
    compressed: Vec<Variant>,
}

impl Body {
    /// JSON of `value`; compressed when it is sent, if at all.
    pub(super) fn render(value: &impl Serialize) -> Self {
        // Serialising plain structs into memory has no way to fail; an empty body would show in every test.
        Self::of(serde_json::to_vec(value).unwrap_or_default())
    }

    /// An answer that is there already.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let stem = short_hash(&bytes, TAG_BYTES);
        let etag = tag(&stem, Encoding::Identity);
        Self { stem, plain: Variant { encoding: Encoding::Identity, bytes, etag }, compressed: Vec::new() }
    }

    /// The same, compressed in every way now: for an answer that many will ask for.
    #[must_use]
    pub fn compressed(mut self) -> Self {
        if self.is_worth_compressing() {
            let wanted = Encoding::ALL.into_iter().filter(|encoding| *encoding != Encoding::Identity);
            self.compressed = wanted.filter_map(|encoding| self.compress(encoding, Effort::ForMany)).collect();
        }
        self
    }

    /// The bytes as they are.
    pub fn plain(&self) -> &Variant {
        &self.plain
    }

    /// The variant in one encoding, if it was made beforehand; as it is the answer always is.
    pub fn made(&self, encoding: Encoding) -> Option<&Variant> {
        match encoding {
            Encoding::Identity => Some(&self.plain),
            _ => self.compressed.iter().find(|held| held.encoding == encoding),
        }
    }

    /// The first of `wanted`, best first, that this answer has or is worth compressing to; as it is otherwise.
    pub fn variant(&self, wanted: &[Encoding]) -> Variant {
        let made = wanted.iter().find_map(|encoding| match encoding {
            Encoding::Identity => Some(self.plain.clone()),
            _ if !self.is_worth_compressing() => None,
            _ => self.made(*encoding).cloned().or_else(|| self.compress(*encoding, Effort::ForOne)),
        });
        made.unwrap_or_else(|| self.plain.clone())
    }

    /// Whether `tag`, quoted and without a `W/`, names one of the variants.
    pub fn is_named(&self, tag: &str) -> bool {
        let Some(rest) = tag.strip_prefix('"').and_then(|tag| tag.strip_prefix(&*self.stem)) else { return false };
        Encoding::ALL.into_iter().any(|encoding| rest == suffix(encoding))
    }

    fn is_worth_compressing(&self) -> bool {
        self.plain.bytes.len() >= SMALLEST_COMPRESSED
    }

    /// `None` where it does not get smaller.
    fn compress(&self, encoding: Encoding, effort: Effort) -> Option<Variant> {
        // Writing into memory has no way to fail; and if it had, the answer would go out as it is.
        let bytes = encode(&self.plain.bytes, encoding, effort).ok()?;
        let smaller = bytes.len() < self.plain.bytes.len();
        smaller.then(|| Variant { encoding, bytes: bytes.into(), etag: tag(&self.stem, encoding) })
    }
}

fn tag(stem: &str, encoding: Encoding) -> Bytes {
    format!("\"{stem}{}", suffix(encoding)).into()
}

fn suffix(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Brotli => "-br\"",
        Encoding::Zstd => "-zstd\"",
        Encoding::Gzip => "-gzip\"",
        Encoding::Identity => "\"",
    }
}

fn encode(bytes: &[u8], encoding: Encoding, effort: Effort) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Identity => Ok(bytes.to_vec()),
        Encoding::Gzip => {
            let level = match effort {
                Effort::ForMany => 6,
                Effort::ForOne => 2,
            };
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Encoding::Brotli => {
            let quality = match effort {
                Effort::ForMany => 5,
                Effort::ForOne => 3,
            };
            let size_hint = bytes.len();
            let params = brotli::enc::BrotliEncoderParams { quality, size_hint, ..Default::default() };
            let mut compressed = Vec::new();
            brotli::BrotliCompress(&mut &*bytes, &mut compressed, &params)?;
            Ok(compressed)
        }
        Encoding::Zstd => {
            let level = match effort {
                Effort::ForMany => 3,
                Effort::ForOne => 1,
            };
            zstd::bulk::compress(bytes, level)
        }
    }
}
