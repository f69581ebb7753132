//! A whole cycle in one piece: what the journal keeps until the database has it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Damaged;
use super::varint::{Reader, Writer};
use crate::market::{Cycle, MarketDay, Point, Price, Quote, QuoteFlags};

/// What is said about a cycle beside its quotes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CycleHead {
    /// What readers see of it.
    pub cycle: Cycle,
    /// The source said that its data is delayed.
    pub delayed: bool,
    /// Why it was incomplete.
    pub cause: Option<String>,
    /// The market as a whole, and the session it belongs to; none where there was no session.
    pub day: Option<MarketDay>,
}

/// A quote that a cycle has brought.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptQuote {
    /// Its symbol.
    pub symbol: Arc<str>,
    /// The quote.
    pub quote: Quote,
}

/// A cycle with every quote it has brought.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptCycle {
    /// The cycle.
    pub head: CycleHead,
    /// Its quotes; those of an earlier session are marked as not refreshed.
    pub quotes: Vec<KeptQuote>,
}

/// The form that is written. Another number is another form.
const FORM: u8 = 1;

impl KeptCycle {
    /// Writes a cycle with its quotes, about 35 bytes each.
    pub fn encode<'a>(head: &CycleHead, quotes: impl ExactSizeIterator<Item = (&'a str, &'a Quote)>) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(quotes.len() * 44 + 1_024));
        writer.0.push(FORM);
        // Plain structs into memory: there is no way to fail.
        writer.bytes(&serde_json::to_vec(head).unwrap_or_default());
        writer.unsigned(quotes.len() as u64);
        let epoch = head.cycle.as_of.timestamp_micros();
        for (symbol, quote) in quotes {
            writer.text(symbol);
            writer.signed(epoch.wrapping_sub(quote.at.timestamp_micros()));
            writer.signed(quote.price.units());
            // Other prices are near the last one; which of them are known stands first.
            let others = optional_prices(quote);
            let known = others.iter().enumerate().filter(|(_, price)| price.is_some());
            writer.unsigned(known.fold(0, |known, (index, _)| known | 1 << index));
            for price in others.into_iter().flatten() {
                writer.signed(price.units().wrapping_sub(quote.price.units()));
            }
            writer.optional(quote.volume);
            writer.signed(i64::from(quote.flags.0));
        }
        writer.0
    }

    /// Reads it again.
    ///
    /// # Errors
    /// When the bytes are not what was written, or were written by another version in a form of its own.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let (form, bytes) = bytes.split_first().ok_or(Damaged("there is nothing"))?;
        if *form != FORM {
            return Err(Damaged("another version wrote them, in a form that this one does not know"));
        }
        let mut reader = Reader::of(bytes);
        let head: CycleHead = serde_json::from_slice(reader.bytes()?).map_err(|_| Damaged("there is no cycle"))?;
        let epoch = head.cycle.as_of.timestamp_micros();
        let count = reader.count()?;
        let mut quotes = Vec::with_capacity(count);
        for _ in 0..count {
            quotes.push(read_quote(&mut reader, epoch)?);
        }
        if reader.is_at_end() { Ok(Self { head, quotes }) } else { Err(Damaged("there is more than was written")) }
    }

    /// The points of its session: the quotes that were news of it.
    pub fn points(&self) -> impl Iterator<Item = (&str, Point)> {
        let fresh = self.quotes.iter().filter(|kept| !kept.quote.flags.contains(QuoteFlags::NOT_REFRESHED));
        fresh.map(|kept| (&*kept.symbol, Point::of(&kept.quote)))
    }
}

fn read_quote(reader: &mut Reader<'_>, epoch: i64) -> Result<KeptQuote, Damaged> {
    let symbol = reader.text()?.into();
    let at = DateTime::<Utc>::from_timestamp_micros(epoch.wrapping_sub(reader.signed()?));
    let at = at.ok_or(Damaged("a quote has no time"))?;
    let price = reader.signed()?;
    let known = reader.unsigned()?;
    let mut others = [None; 6];
    for (index, other) in others.iter_mut().enumerate() {
        if known & 1 << index != 0 {
            *other = Some(Price::from_units(price.wrapping_add(reader.signed()?)));
        }
    }
    let [previous_close, open, high, low, bid, ask] = others;
    let volume = reader.optional()?;
    let flags = i32::try_from(reader.signed()?).map_err(|_| Damaged("a flag is too large"))?;
    let price = Price::from_units(price);
    let flags = QuoteFlags(flags);
    Ok(KeptQuote { symbol, quote: Quote { at, price, previous_close, open, high, low, bid, ask, volume, flags } })
}

fn optional_prices(quote: &Quote) -> [Option<Price>; 6] {
    [quote.previous_close, quote.open, quote.high, quote.low, quote.bid, quote.ask]
}
