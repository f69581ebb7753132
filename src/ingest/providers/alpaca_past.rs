//! Alpaca's past: daily bars of some symbols over some dates (`GET /v2/stocks/bars`) and splits (`GET
//! /v1/corporate-actions`), both in pages.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::alpaca::{Alpaca, Asked, Bar, SPELLING};
use super::http::join;
use super::text::without_nan;
use super::{Call, FetchError};
use crate::ingest::budget::Permit;
use crate::ingest::past::{DailyPage, DailyRequest, Past, PastForm, SplitPage};
use crate::market::{DailyBar, Split, Universe};

/// The most symbols of one call, as for snapshots.
const MAX_SYMBOLS: usize = 100;

/// The most bars of one page, and the most splits.
const BARS: &str = "10000";
const SPLITS: &str = "1000";

#[derive(Deserialize)]
struct Bars<'a> {
    /// `null` where there is none, but always there: what has no bars at all is an error that came with HTTP 200.
    #[serde(borrow)]
    bars: &'a RawValue,
    #[serde(default)]
    next_page_token: Option<String>,
}

/// Each is read on its own: one that is not as documented must not cost the others.
type BySymbol<'a> = BTreeMap<Cow<'a, str>, Vec<&'a RawValue>>;

#[derive(Deserialize)]
struct Actions<'a> {
    #[serde(borrow)]
    corporate_actions: Splits<'a>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Splits<'a> {
    #[serde(borrow, default)]
    forward_splits: Vec<Action<'a>>,
    #[serde(borrow, default)]
    reverse_splits: Vec<Action<'a>>,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    new_rate: f64,
    old_rate: f64,
    /// The first session at the new price; the date of payment can be earlier.
    ex_date: NaiveDate,
}

impl Alpaca {
    async fn bars(
        &self,
        universe: &Universe,
        (wanted, from, to): (&[usize], NaiveDate, NaiveDate),
        page: Option<&str>,
        permit: &Permit,
    ) -> Result<DailyPage, FetchError> {
        let asked = Asked::of(universe, wanted);
        let mut url = join(&self.config.base_url, "/v2/stocks/bars")?;
        url.query_pairs_mut()
            .append_pair("symbols", &asked.names())
            .append_pair("timeframe", "1Day")
            .append_pair("start", &from.to_string())
            .append_pair("end", &to.to_string())
            .append_pair("adjustment", "raw")
            .append_pair("feed", self.config.feed.past_name())
            .append_pair("limit", BARS);
        if let Some(page) = page {
            url.query_pairs_mut().append_pair("page_token", page);
        }
        let body = self.get(url, permit).await?;
        let body = without_nan(&body).unwrap_or(body);
        let read: Bars<'_> = serde_json::from_slice(&body).map_err(|cause| self.without_bars(&body, &cause))?;
        let by_symbol: Option<BySymbol<'_>> =
            serde_json::from_str(read.bars.get()).map_err(|cause| self.http.broken("map of bars", &cause))?;
        let next = read.next_page_token.filter(|token| !token.is_empty());
        let mut page = DailyPage { next, ..DailyPage::default() };
        for (theirs, list) in by_symbol.unwrap_or_default() {
            let Some(listing) = asked.index(&theirs).and_then(|index| universe.listings().get(index)) else { continue };
            for text in list {
                match serde_json::from_str(text.get()).ok().and_then(|bar| daily_bar(&listing.symbol, &bar)) {
                    Some(bar) => page.bars.push(bar),
                    None => page.garbled += 1,
                }
            }
        }
        Ok(page)
    }

    /// An answer that has no place for bars: their words, where it is an error.
    fn without_bars(&self, body: &[u8], cause: &serde_json::Error) -> FetchError {
        match self.words_in(body) {
            Some(words) => FetchError::Fail(format!("alpaca: HTTP 200 with {words}")),
            None => self.http.broken("map of bars", cause),
        }
    }

    async fn actions(&self, since: NaiveDate, page: Option<&str>, permit: &Permit) -> Result<SplitPage, FetchError> {
        let mut url = join(&self.config.base_url, "/v1/corporate-actions")?;
        url.query_pairs_mut()
            .append_pair("types", "forward_split,reverse_split")
            .append_pair("start", &since.to_string())
            .append_pair("limit", SPLITS);
        if let Some(page) = page {
            url.query_pairs_mut().append_pair("page_token", page);
        }
        let body = self.get(url, permit).await?;
        let broken = |cause| self.http.broken("list of corporate actions", &cause);
        let read: Actions<'_> = serde_json::from_slice(&body).map_err(broken)?;
        let Splits { forward_splits, reverse_splits } = read.corporate_actions;
        let splits = forward_splits.iter().chain(&reverse_splits).filter_map(|action| {
            let symbol = SPELLING.ours(&action.symbol).into_owned();
            Split::from_decimals(symbol, action.ex_date, action.new_rate, action.old_rate)
        });
        let next = read.next_page_token.filter(|token| !token.is_empty());
        // In no order that is documented.
        Ok(SplitPage { splits: splits.collect(), next, reached: None })
    }
}

fn daily_bar(symbol: &str, bar: &Bar<'_>) -> Option<DailyBar> {
    DailyBar::from_decimals(symbol.to_owned(), bar.date()?, [bar.o?, bar.h?, bar.l?, bar.c?], bar.v?)
}

impl Past for Alpaca {
    fn form(&self) -> PastForm {
        PastForm::Symbols { max_symbols: MAX_SYMBOLS }
    }

    fn daily<'a>(&'a self, universe: &'a Universe, request: DailyRequest<'a>, permit: Permit) -> Call<'a, DailyPage> {
        Box::pin(async move {
            match request {
                DailyRequest::Symbols { wanted, from, to, page } => {
                    self.bars(universe, (wanted, from, to), page, &permit).await
                }
                DailyRequest::WholeMarket(_) => {
                    Err(FetchError::Fail("alpaca: daily bars are asked for by symbols".to_owned()))
                }
            }
        })
    }

    fn splits<'a>(&'a self, since: NaiveDate, page: Option<&'a str>, permit: Permit) -> Call<'a, SplitPage> {
        Box::pin(async move { self.actions(since, page, &permit).await })
    }
}
