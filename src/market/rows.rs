//! The rows of lists and rankings, with the names of both generations of clients: `price_change` and
//! `price_change_today`, `price_change_percent` and `change_percent`.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::quote::QuoteFlags;
use super::{Column, Columns, Listing, Price, Quote, Snapshot};

/// A row of the gainers and losers of the statistics.
#[derive(Serialize)]
pub(super) struct Mover<'a> {
    ticker: &'a str,
    name: Option<&'a str>,
    current_price: Price,
    #[serde(flatten)]
    change: Change,
}

/// A row of the most active of the statistics.
#[derive(Serialize)]
pub(super) struct Active<'a> {
    ticker: &'a str,
    name: Option<&'a str>,
    current_price: Price,
    volume: Option<i64>,
}

/// The best of a ranking by change.
#[derive(Serialize)]
pub(super) struct Leader<'a> {
    ticker: &'a str,
    company_name: Option<&'a str>,
    price_change_percent: Option<f64>,
    wordpress_url: String,
}

/// The best of the ranking by volume.
#[derive(Serialize)]
pub(super) struct MostTraded<'a> {
    ticker: &'a str,
    company_name: Option<&'a str>,
    volume_today: Option<i64>,
    wordpress_url: String,
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
    name: Option<&'a str>,
    current_price: Price,
    #[serde(flatten)]
    change: Change,
    volume: Option<i64>,
    market_cap: Unknown,
    wordpress_url: String,
}

/// A row of the list, and most of a single stock. What no source of this daemon says is `null`.
#[derive(Serialize)]
pub(super) struct Stock<'a> {
    ticker: &'a str,
    symbol: &'a str,
    company_name: Option<&'a str>,
    name: Option<&'a str>,
    exchange: Option<&'a str>,
    sector: Option<&'a str>,
    current_price: Price,
    #[serde(flatten)]
    change: Change,
    price_change_week: Option<Price>,
    price_change_month: Option<Price>,
    price_change_year: Option<Price>,
    open_price: Option<Price>,
    previous_close: Option<Price>,
    days_high: Option<Price>,
    days_low: Option<Price>,
    days_range: Option<String>,
    bid_price: Option<Price>,
    ask_price: Option<Price>,
    /// Text, as it always was.
    bid_ask_spread: Option<String>,
    volume: Option<i64>,
    volume_today: Option<i64>,
    avg_volume_3mon: Option<i64>,
    /// The volume over the average one.
    dvav: Option<f64>,
    volume_ratio: Option<f64>,
    shares_available: Unknown,
    market_cap: Unknown,
    formatted_market_cap: Unknown,
    market_cap_change_3mon: Unknown,
    pe_ratio: Unknown,
    pe_change_3mon: Unknown,
    dividend_yield: Unknown,
    one_year_target: Unknown,
    week_52_low: Option<Price>,
    week_52_high: Option<Price>,
    earnings_per_share: Unknown,
    book_value: Unknown,
    price_to_book: Unknown,
    halted: bool,
    refreshed: bool,
    last_updated: DateTime<Utc>,
    created_at: Unknown,
    formatted_price: String,
    formatted_change: Option<String>,
    formatted_volume: Option<String>,
    is_gaining: Option<bool>,
    is_losing: Option<bool>,
    wordpress_url: String,
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
pub(super) fn quoted(snapshot: &Snapshot, index: usize) -> Option<(&Listing, Quote)> {
    Some((snapshot.universe.listings().get(index)?, snapshot.quotes.get(index)?))
}

/// The rows at `indices`, made by `row`.
pub(super) fn rows<'a, T>(snapshot: &'a Snapshot, indices: &[usize], row: fn(&'a Listing, &Quote) -> T) -> Vec<T> {
    indices.iter().filter_map(|index| quoted(snapshot, *index)).map(|(listing, quote)| row(listing, &quote)).collect()
}

impl<'a> Mover<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &Quote) -> Self {
        let change = Change::of(quote);
        Self { ticker: &listing.symbol, name: known(&listing.name), current_price: quote.price, change }
    }
}

impl<'a> Active<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &Quote) -> Self {
        Self { ticker: &listing.symbol, name: known(&listing.name), current_price: quote.price, volume: quote.volume }
    }
}

impl<'a> Leader<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &Quote) -> Self {
        Self {
            ticker: &listing.symbol,
            company_name: known(&listing.name),
            price_change_percent: quote.change_percent(),
            wordpress_url: page_of(&listing.symbol),
        }
    }
}

impl<'a> MostTraded<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &Quote) -> Self {
        Self {
            ticker: &listing.symbol,
            company_name: known(&listing.name),
            volume_today: quote.volume,
            wordpress_url: page_of(&listing.symbol),
        }
    }
}

impl<'a> Ranked<'a> {
    pub(super) fn of(listing: &'a Listing, quote: &Quote) -> Self {
        Self {
            ticker: &listing.symbol,
            name: known(&listing.name),
            current_price: quote.price,
            change: Change::of(quote),
            volume: quote.volume,
            market_cap: Unknown::default(),
            wordpress_url: page_of(&listing.symbol),
        }
    }
}

impl<'a> Stock<'a> {
    /// The row at `index`; `None` where the symbol was never quoted.
    pub(super) fn at(snapshot: &'a Snapshot, index: usize) -> Option<Self> {
        let (listing, quote) = quoted(snapshot, index)?;
        let before = |column| snapshot.quotes.value(column, index);
        Some(Self::of(listing, &quote, before, volume_ratio(&snapshot.quotes, index)))
    }

    fn of(
        listing: &'a Listing,
        quote: &Quote,
        before: impl Fn(Column) -> Option<i64>,
        volume_ratio: Option<f64>,
    ) -> Self {
        let unknown = Unknown::default();
        let change = quote.change().map(Price::units);
        let price = |column| before(column).map(Price::from_units);
        let spread = quote.ask.zip(quote.bid).map(|(ask, bid)| Price::from_units(ask.units() - bid.units()));
        Self {
            ticker: &listing.symbol,
            symbol: &listing.symbol,
            company_name: known(&listing.name),
            name: known(&listing.name),
            exchange: known(&listing.exchange),
            sector: known(&listing.sector),
            current_price: quote.price,
            change: Change::of(quote),
            price_change_week: price(Column::ChangeWeek),
            price_change_month: price(Column::ChangeMonth),
            price_change_year: price(Column::ChangeYear),
            open_price: quote.open,
            previous_close: quote.previous_close,
            days_high: quote.high,
            days_low: quote.low,
            days_range: quote.low.zip(quote.high).map(|(low, high)| format!("{low} - {high}")),
            bid_price: quote.bid,
            ask_price: quote.ask,
            bid_ask_spread: spread.map(|spread| spread.to_string()),
            volume: quote.volume,
            volume_today: quote.volume,
            avg_volume_3mon: before(Column::AverageVolume),
            dvav: volume_ratio,
            volume_ratio,
            shares_available: unknown,
            market_cap: unknown,
            formatted_market_cap: unknown,
            market_cap_change_3mon: unknown,
            pe_ratio: unknown,
            pe_change_3mon: unknown,
            dividend_yield: unknown,
            one_year_target: unknown,
            week_52_low: price(Column::YearLow),
            week_52_high: price(Column::YearHigh),
            earnings_per_share: unknown,
            book_value: unknown,
            price_to_book: unknown,
            halted: quote.flags.contains(QuoteFlags::HALTED),
            refreshed: !quote.flags.contains(QuoteFlags::NOT_REFRESHED),
            last_updated: quote.at,
            created_at: unknown,
            formatted_price: format!("${}", money(quote.price, quote.price)),
            formatted_change: formatted_change(quote),
            formatted_volume: quote.volume.map(formatted_volume),
            is_gaining: change.map(|change| change > 0),
            is_losing: change.map(|change| change < 0),
            wordpress_url: page_of(&listing.symbol),
        }
    }
}

/// Text that is known; empty text is what is not.
pub(super) fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A symbol as a part of a path. Of what one may hold, only these two mean something else there.
pub(super) fn in_path(symbol: &str) -> String {
    symbol.replace('/', "%2F").replace('^', "%5E")
}

/// The page of the site about a stock.
pub(super) fn page_of(symbol: &str) -> String {
    format!("/stock/{}/", in_path(&symbol.to_lowercase()))
}

/// The volume of the session over that of a usual one, to four places; `None` where either is not known.
pub(super) fn volume_ratio(quotes: &Columns, index: usize) -> Option<f64> {
    let usual = quotes.value(Column::AverageVolume, index).filter(|usual| *usual > 0)?;
    Some((quotes.value(Column::Volume, index)? as f64 / usual as f64 * 1e4).round() / 1e4)
}

/// An amount without its sign, in dollars and cents. Of a share below one dollar every place is shown: rounded to cents,
/// most of its price would be gone.
fn money(amount: Price, share: Price) -> String {
    const ONE: i64 = 10_000;
    const CENT: u64 = 100;
    let units = amount.units().unsigned_abs();
    if share.units() < ONE {
        return amount.to_string().trim_start_matches('-').to_owned();
    }
    let cents = (units + CENT / 2) / CENT;
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// `+0.12 (+0.58%)`. Both signs are that of the change, even where the rest is rounded to nothing.
fn formatted_change(quote: &Quote) -> Option<String> {
    let (change, percent) = quote.change().zip(quote.change_percent())?;
    let sign = if change.units() >= 0 { '+' } else { '-' };
    Some(format!("{sign}{} ({sign}{:.2}%)", money(change, quote.price), percent.abs()))
}

/// `1.2M`. The unit is chosen after rounding, so that 999,999 is `1.0M` and not `1000.0K`.
fn formatted_volume(volume: i64) -> String {
    const THOUSAND: i64 = 1_000;
    if volume < THOUSAND {
        return volume.to_string();
    }
    let tenths = |size: i64| volume.saturating_add(size / 20) / (size / 10);
    let units = [("K", tenths(1_000)), ("M", tenths(1_000_000)), ("B", tenths(1_000_000_000))];
    let below_a_thousand = units.into_iter().find(|(_, tenths)| *tenths < 10 * THOUSAND);
    let (unit, tenths) = below_a_thousand.unwrap_or(units[2]);
    format!("{}.{}{unit}", tenths / 10, tenths % 10)
}
