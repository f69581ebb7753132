//! Massive's past: the grouped bars of one date (`GET /v2/aggs/grouped/locale/us/market/stocks/DATE?adjusted=false`, the whole
//! market in one call) and splits (`GET /v3/reference/splits`, in pages).
//!
//! Grouped bars have been seen to change after the close: what is said of a date on the day itself does not hold yet.

use std::borrow::Cow;

use chrono::NaiveDate;
use reqwest::Url;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::join;
use super::massive::{Massive, SPELLING};
use super::text::without_nan;
use super::{Call, FetchError};
use crate::ingest::budget::Permit;
use crate::ingest::past::{DailyPage, DailyRequest, Past, PastForm, SplitPage};
use crate::market::{DailyBar, Split, Universe};

/// Splits of one page.
const PAGE: &str = "1000";

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    /// Not there where there is nothing.
    #[serde(borrow, default)]
    results: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    next_url: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Grouped<'a> {
    #[serde(borrow, rename = "T")]
    ticker: Cow<'a, str>,
    o: f64,
    h: f64,
    l: f64,
    c: f64,
    v: f64,
}

#[derive(Deserialize)]
struct Execution<'a> {
    #[serde(borrow)]
    ticker: Cow<'a, str>,
    execution_date: NaiveDate,
    split_from: f64,
    split_to: f64,
}

impl Massive {
    async fn grouped(&self, universe: &Universe, date: NaiveDate, permit: &Permit) -> Result<DailyPage, FetchError> {
        let mut url = join(&self.config.base_url, &format!("/v2/aggs/grouped/locale/us/market/stocks/{date}"))?;
        url.query_pairs_mut().append_pair("adjusted", "false");
        let body = self.get(url, permit).await?;
        let body = without_nan(&body).unwrap_or(body);
        let read: Results<'_> = serde_json::from_slice(&body).map_err(|cause| self.http.broken("list", &cause))?;
        self.check_status(&read.status, &body)?;
        let results = read.results.unwrap_or_default();
        let mut page = DailyPage::default();
        for text in &results {
            let Ok(bar) = serde_json::from_str::<Grouped<'_>>(text.get()) else {
                page.garbled += 1;
                continue;
            };
            let symbol = SPELLING.ours(&bar.ticker);
            if universe.position(&symbol).is_some() {
                let ohlc = [bar.o, bar.h, bar.l, bar.c];
                match DailyBar::from_decimals(symbol.into_owned(), date, ohlc, bar.v) {
                    Some(bar) => page.bars.push(bar),
                    None => page.garbled += 1,
                }
            }
        }
        if page.garbled == results.len() {
            // Nothing at all, or nothing that is a bar: of a day on which there was trading that is no answer.
            return Err(FetchError::Fail(format!("massive: there are no bars of {date}, which is a session")));
        }
        Ok(page)
    }

    async fn executions(&self, since: NaiveDate, page: Option<&str>, permit: &Permit) -> Result<SplitPage, FetchError> {
        let mut url = join(&self.config.base_url, "/v3/reference/splits")?;
        match page {
            Some(cursor) => url.query_pairs_mut().append_pair("cursor", cursor),
            None => url
                .query_pairs_mut()
                .append_pair("execution_date.gte", &since.to_string())
                .append_pair("order", "asc")
                .append_pair("sort", "execution_date")
                .append_pair("limit", PAGE),
        };
        let body = self.get(url, permit).await?;
        let read: Results<'_> = serde_json::from_slice(&body).map_err(|cause| self.http.broken("list", &cause))?;
        self.check_status(&read.status, &body)?;
        let splits = read.results.unwrap_or_default().into_iter().filter_map(|text| {
            let split: Execution<'_> = serde_json::from_str(text.get()).ok()?;
            let symbol = SPELLING.ours(&split.ticker).into_owned();
            Split::from_decimals(symbol, split.execution_date, split.split_to, split.split_from)
        });
        let splits: Vec<Split> = splits.collect();
        let reached = splits.iter().map(|split| split.date).max();
        Ok(SplitPage { splits, next: read.next_url.and_then(|next| cursor_of(&next)), reached })
    }
}

/// Only the cursor of the next page is taken from an answer: the key goes to the configured host and nowhere else.
fn cursor_of(next_url: &str) -> Option<String> {
    let url = Url::parse(next_url).ok()?;
    url.query_pairs().find(|(name, _)| name == "cursor").map(|(_, cursor)| cursor.into_owned())
}

impl Past for Massive {
    fn form(&self) -> PastForm {
        PastForm::WholeMarket
    }

    fn daily<'a>(&'a self, universe: &'a Universe, request: DailyRequest<'a>, permit: Permit) -> Call<'a, DailyPage> {
        Box::pin(async move {
            match request {
                DailyRequest::WholeMarket(date) => self.grouped(universe, date, &permit).await,
                DailyRequest::Symbols { .. } => {
                    Err(FetchError::Fail("massive: daily bars are asked for by date".to_owned()))
                }
            }
        })
    }

    fn splits<'a>(&'a self, since: NaiveDate, page: Option<&'a str>, permit: Permit) -> Call<'a, SplitPage> {
        Box::pin(async move { self.executions(since, page, &permit).await })
    }
}
