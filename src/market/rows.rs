//! The rows of lists and rankings, with the names of both generations of clients: `price_change` and
//! `price_change_today`, `price_change_percent` and `change_percent`.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::quote::QuoteFlags;
use super::{Listing, Price, Quote, Snapshot};

/// A row of the gainers and losers of the statistics.
#[derive(Serialize)]
pub(super) struct Mover<'a> {
    ticker: &'a str,
    name: &'a str,
    current_price: Price,
    #[serde(flatten)]
    change: Change,
}

/// A row of the most active of the statistics.
#[derive(Serialize)]
pub(super) struct Active<'a> {
    ticker: &'a str,
    name: &'a str,
    current_price: Price,
    volume: Option<i64>,
}

/// A change under all its names.
#[derive(Serialize)]
pub(super) struct Change {
    price_change: Option<Price>,
    price_change_today: Option<Price>,
    price_change_percent: Option<f64>,
    change_percent: Option<f64>,
}

/// A row of a ranking.
#[derive(Serialize)]
pub(super) struct Ranked<'a> {
    ticker: &'a str,
    name: &'a str,
    current_price: Price,
    #[serde(flatten)]
    change: Change,
    volume: Option<i64>,
    market_cap: Unknown,
    wordpress_url: Unknown,
}

/// A row of the list, and most of a single stock. What no source of this daemon says is `null`.
#[derive(Serialize)]
pub(super) struct Stock<'a> {
    ticker: &'a str,
    symbol: &'a str,
    company_name: &'a str,
    name: &'a str,
    exchange: &'a str,
    sector: Option<&'a str>,
    current_price: Price,
    #[serde(flatten)]
    change: Change,
    price_change_week: Unknown,
    price_change_month: Unknown,
    price_change_year: Unknown,
    open_price: Option<Price>,
    previous_close: Option<Price>,
    days_high: Option<Price>,
    days_low: Option<Price>,
    days_range: Option<String>,
    bid_price: Option<Price>,
    ask_price: Option<Price>,
    bid_ask_spread: Option<Price>,
    volume: Option<i64>,
    volume_today: Option<i64>,
    avg_volume_3mon: Unknown,
    dvav: Unknown,
    shares_available: Unknown,
    market_cap: Unknown,
    market_cap_change_3mon: Unknown,
    pe_ratio: Unknown,
    pe_change_3mon: Unknown,
    dividend_yield: Unknown,
    one_year_target: Unknown,
    week_52_low: Unknown,
    week_52_high: Unknown,
    earnings_per_share: Unknown,
    book_value: Unknown,
    price_to_book: Unknown,
    halted: bool,
    refreshed: bool,
    last_updated: DateTime<Utc>,
    formatted_price: String,
    formatted_change: Option<String>,
    formatted_volume: Option<String>,
}

/// Always `null`: a field that clients read and no source fills.
#[derive(Serialize, Default, Clone, Copy)]
pub(super) struct Unknown(Option<()>);

impl Change {
    fn of(quote: &Quote) -> Self {
        let (change, percent) = (quote.change(), quote.change_percent());
        Self {
            price_change: change,
            price_change_today: change,
            price_change_percent: percent,
            change_percent: percent,
        }
    }
}

/// A listing and its quote; `None` where it was never quoted.
pub(super) fn quoted(snapshot: &Snapshot, index: usize) -> Option<(&Listing, &Quote)> {
    Some((snapshot.universe.listings().get(index)?, snapshot.quotes.get(index)?.as_ref()?))
}

/// The rows at `indices`, made by `row`.
pub(super) fn rows<'a, T>(snapshot: &'a Snapshot, indices: &[usize], row: fn(&'a Listing, &'a Quote) -> T) -> Vec<T> {
    indices.iter().filter_map(|index| quoted(snapshot, *index)).map(|(listing, quote)| row(listing, quote)).collect()
}

impl<'a> Mover<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &'a Quote) -> Self {
        let change = Change::of(quote);
        Self { ticker: &listing.symbol, name: &listing.name, current_price: quote.price, change }
    }
}

impl<'a> Active<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &'a Quote) -> Self {
        Self { ticker: &listing.symbol, name: &listing.name, current_price: quote.price, volume: quote.volume }
    }
}

impl<'a> Ranked<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &'a Quote) -> Self {
        Self {
            ticker: &listing.symbol,
            name: &listing.name,
            current_price: quote.price,
            change: Change::of(quote),
            volume: quote.volume,
            market_cap: Unknown::default(),
            wordpress_url: Unknown::default(),
        }
    }
}

impl<'a> Stock<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &'a Quote) -> Self {
        let unknown = Unknown::default();
        let spread = quote.ask.zip(quote.bid).map(|(ask, bid)| Price::from_units(ask.units() - bid.units()));
        Self {
            ticker: &listing.symbol,
            symbol: &listing.symbol,
            company_name: &listing.name,
            name: &listing.name,
            exchange: &listing.exchange,
            sector: Some(&*listing.sector).filter(|sector| !sector.is_empty()),
            current_price: quote.price,
            change: Change::of(quote),
            price_change_week: unknown,
            price_change_month: unknown,
            price_change_year: unknown,
            open_price: quote.open,
            previous_close: quote.previous_close,
            days_high: quote.high,
            days_low: quote.low,
            days_range: quote.low.zip(quote.high).map(|(low, high)| format!("{low} - {high}")),
            bid_price: quote.bid,
            ask_price: quote.ask,
            bid_ask_spread: spread,
            volume: quote.volume,
            volume_today: quote.volume,
            avg_volume_3mon: unknown,
            dvav: unknown,
            shares_available: unknown,
            market_cap: unknown,
            market_cap_change_3mon: unknown,
            pe_ratio: unknown,
            pe_change_3mon: unknown,
            dividend_yield: unknown,
            one_year_target: unknown,
            week_52_low: unknown,
            week_52_high: unknown,
            earnings_per_share: unknown,
            book_value: unknown,
            price_to_book: unknown,
            halted: quote.flags.contains(QuoteFlags::HALTED),
            refreshed: !quote.flags.contains(QuoteFlags::NOT_REFRESHED),
            last_updated: quote.at,
            formatted_price: format!("${}", quote.price),
            formatted_change: formatted_change(quote),
            formatted_volume: quote.volume.map(formatted_volume),
        }
    }
}

fn formatted_change(quote: &Quote) -> Option<String> {
    let (change, percent) = quote.change().zip(quote.change_percent())?;
    let sign = if change.units() >= 0 { "+" } else { "" };
    Some(format!("{sign}{change} ({percent:+.2}%)"))
}

fn formatted_volume(volume: i64) -> String {
    let (scaled, unit) = match volume {
        1_000_000_000.. => (volume as f64 / 1e9, "B"),
        1_000_000.. => (volume as f64 / 1e6, "M"),
        1_000.. => (volume as f64 / 1e3, "K"),
        _ => return volume.to_string(),
    };
    format!("{scaled:.1}{unit}")
}
