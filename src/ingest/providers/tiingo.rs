//! Tiingo's IEX list: every symbol in one call.
//!
//! `GET /iex`, `Authorization: Token KEY` (<https://www.tiingo.com/documentation/iex>). Since February 2025 the raw fields of
//! the exchange (`last`, `bidPrice`, ..) are `null` without an agreement with it; `tngoLast` stays. A spent quota has been seen
//! as a text with HTTP 200.

use std::borrow::Cow;
use std::time::Duration;

use chrono::DateTime;
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::{Http, join};
use super::spelling::Spelling;
use super::text::{Text, shown, without_nan};
use super::{Answer, Call, Description, FetchError, Provider, RawQuote};
use crate::config::TiingoConfig;
use crate::ingest::budget::{Permit, Quota};
use crate::market::{DelayClass, Universe};

const SPELLING: Spelling = Spelling::TIINGO;

/// The client of one account.
#[derive(Debug)]
pub struct Tiingo {
    http: Http,
    config: TiingoConfig,
    list: Url,
}

impl Tiingo {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots or the base URL cannot take a path.
    pub fn new(config: &TiingoConfig) -> Result<Self, FetchError> {
        let http = Http::new("tiingo", config.timeout)?;
        Ok(Self { http, config: config.clone(), list: join(&config.base_url, "/iex")? })
    }

    async fn quotes(&self, universe: &Universe, permit: &Permit) -> Result<Answer, FetchError> {
        let key = format!("Token {}", self.config.api_key.expose_secret());
        let call = self.http.client.get(self.list.clone()).header("Authorization", key);
        let reply = self.http.send(call, permit).await?;
        if reply.status != StatusCode::OK {
            let said = serde_json::from_slice::<Refusal<'_>>(&reply.body);
            let said = said.map(|refusal| format!(" {:?}", shown(&refusal.detail, 200))).unwrap_or_default();
            return Err(self.http.refusal(&reply, &said, "ingest.tiingo.api_key"));
        }
        match self.read(&reply.body, universe) {
            Err(broken @ FetchError::Down { .. }) => match without_nan(&reply.body) {
                Some(mended) => self.read(&mended, universe),
                None => Err(broken),
            },
            read => read,
        }
    }

    fn read(&self, body: &[u8], universe: &Universe) -> Result<Answer, FetchError> {
        if body.trim_ascii_start().first() != Some(&b'[') {
            let said = serde_json::from_slice::<Refusal<'_>>(body).map(|refusal| refusal.detail.into_owned());
            let said = said.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
            let message = format!("tiingo: HTTP 200 with {:?}", shown(&said, 200));
            return Err(FetchError::Retry { after: None, message });
        }
        let list: Vec<&RawValue> = serde_json::from_slice(body).map_err(|cause| self.http.broken("list", &cause))?;
        let mut garbled = 0_usize;
        let quotes = list.iter().filter_map(|text| {
            let Ok(row) = serde_json::from_str::<Row<'_>>(text.get()) else {
                garbled += 1;
                return None;
            };
            let index = universe.position(&SPELLING.ours(&row.ticker.to_uppercase()))?;
            Some((index, quote_of(&row)))
        });
        let quotes = quotes.collect();
        let remarks = (garbled > 0).then(|| format!("tiingo: {garbled} rows are not as documented"));
        Ok(Answer { quotes, delayed: false, remarks: remarks.into_iter().collect() })
    }
}

impl Provider for Tiingo {
    fn description(&self) -> Description {
        Description {
            name: "tiingo",
            source: "tiingo",
            simulated: false,
            quota: Quota::in_any_window(self.config.requests_per_hour, Duration::from_hours(1)),
            max_batch: usize::MAX,
            whole_market: true,
            delay: Duration::ZERO,
            delay_class: DelayClass::RealTime,
            licence_class: self.config.licence,
        }
    }

    fn fetch<'a>(&'a self, universe: &'a Universe, _batch: &'a [usize], permit: Permit) -> Call<'a> {
        Box::pin(async move { self.quotes(universe, &permit).await })
    }
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    detail: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(borrow)]
    ticker: Cow<'a, str>,
    #[serde(borrow, default)]
    timestamp: Option<Text<'a>>,
    /// Both spellings have been seen.
    #[serde(borrow, default, alias = "lastSaleTimeStamp")]
    last_sale_timestamp: Option<Text<'a>>,
    #[serde(default)]
    last: Option<f64>,
    #[serde(default)]
    tngo_last: Option<f64>,
    #[serde(default)]
    prev_close: Option<f64>,
    #[serde(default)]
    open: Option<f64>,
    #[serde(default)]
    high: Option<f64>,
    #[serde(default)]
    low: Option<f64>,
    #[serde(default)]
    volume: Option<f64>,
    #[serde(default)]
    bid_price: Option<f64>,
    #[serde(default)]
    ask_price: Option<f64>,
}

fn quote_of(row: &Row<'_>) -> RawQuote {
    let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
    let instant = |text: &Option<Text<'_>>| Some(DateTime::parse_from_rfc3339(text.as_deref()?).ok()?.to_utc());
    // A raw last price comes with its own time; their own one with that of the row.
    let raw = set(row.last).zip(instant(&row.last_sale_timestamp));
    let own = set(row.tngo_last).zip(instant(&row.timestamp));
    let (price, at) = raw.or(own).unzip();
    RawQuote {
        at,
        price,
        previous_close: set(row.prev_close),
        open: set(row.open),
        high: set(row.high),
        low: set(row.low),
        bid: set(row.bid_price),
        ask: set(row.ask_price),
        volume: row.volume,
        halted: false,
    }
}
