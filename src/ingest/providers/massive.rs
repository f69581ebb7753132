//! Massive (Polygon until 2025-10): the full-market snapshot, every symbol in one call.
//!
//! `GET /v2/snapshot/locale/us/markets/stocks/tickers`, `Authorization: Bearer KEY`
//! (<https://massive.com/docs/rest/stocks/snapshots/full-market-snapshot>). What the documentation and its users taught:
//! the snapshot is cleared at 03:30 New York time and then holds zeros, which mean "not set"; errors can come with HTTP 200
//! and a `status` of their own; plans below the top leave `lastTrade` and `lastQuote` out, and then the bar of the last minute has the
//! price; times have been seen in nanoseconds, milliseconds and seconds.

use std::borrow::Cow;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::{Http, Reply, join};
use super::spelling::Spelling;
use super::text::{Text, instant, shown, without_nan};
use super::{Answer, Call, Description, FetchError, Provider, RawQuote};
use crate::config::MassiveConfig;
use crate::ingest::budget::{Permit, Quota};
use crate::ingest::past::Past;
use crate::market::{DelayClass, Universe};

const PATH: &str = "/v2/snapshot/locale/us/markets/stocks/tickers";

pub(super) const SPELLING: Spelling = Spelling::MASSIVE;

/// So few symbols are asked for by name; more are the whole market.
const BY_NAME: usize = 100;

/// The client of one account.
#[derive(Debug)]
pub struct Massive {
    pub(super) http: Http,
    pub(super) config: MassiveConfig,
    snapshot: Url,
}

impl Massive {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots or the base URL cannot take a path.
    pub fn new(config: &MassiveConfig) -> Result<Self, FetchError> {
        let http = Http::new("massive", config.timeout)?;
        Ok(Self { http, config: config.clone(), snapshot: join(&config.base_url, PATH)? })
    }

    /// A successful answer's body.
    pub(super) async fn get(&self, url: Url, permit: &Permit) -> Result<Vec<u8>, FetchError> {
        let key = self.config.api_key.expose_secret();
        let call = self.http.client.get(url).bearer_auth(key).header(ACCEPT, "application/json");
        let reply = self.http.send(call, permit).await?;
        if reply.status == StatusCode::OK { Ok(reply.body) } else { Err(self.refusal(&reply)) }
    }

    /// `{"status":"ERROR","request_id":"..","error":".."}` with 4xx and 5xx.
    fn refusal(&self, reply: &Reply) -> FetchError {
        let said = serde_json::from_slice::<Refusal<'_>>(&reply.body).map(|refusal| words_of(&refusal));
        self.http.refusal(reply, &said.unwrap_or_default(), "ingest.massive.api_key")
    }

    async fn quotes(&self, universe: &Universe, batch: &[usize], permit: &Permit) -> Result<Answer, FetchError> {
        let mut url = self.snapshot.clone();
        if batch.len() <= BY_NAME && batch.len() < universe.len() {
            let names = batch.iter().filter_map(|index| universe.listings().get(*index));
            let names: Vec<_> = names.map(|listing| SPELLING.theirs(&listing.symbol)).collect();
            url.query_pairs_mut().append_pair("tickers", &names.join(","));
        }
        let body = self.get(url, permit).await?;
        match self.read_snapshot(&body, universe) {
            Err(broken @ FetchError::Down { .. }) => match without_nan(&body) {
                Some(mended) => self.read_snapshot(&mended, universe),
                None => Err(broken),
            },
            read => read,
        }
    }

    /// Only `OK` and `DELAYED` are answers; any other `status` is an error that came with HTTP 200. Says whether it is delayed.
    pub(super) fn check_status(&self, status: &str, body: &[u8]) -> Result<bool, FetchError> {
        match status {
            "OK" => return Ok(false),
            "DELAYED" => return Ok(true),
            _ => {}
        }
        let said = serde_json::from_slice::<Refusal<'_>>(body).map(|refusal| words_of(&refusal)).unwrap_or_default();
        let message = format!("massive: HTTP 200 with{said}");
        Err(match status {
            "NOT_AUTHORIZED" | "AUTH_ERROR" => FetchError::Fail(message),
            _ => FetchError::Retry { after: None, message },
        })
    }

    fn read_snapshot(&self, body: &[u8], universe: &Universe) -> Result<Answer, FetchError> {
        let snapshot: SnapshotBody<'_> =
            serde_json::from_slice(body).map_err(|cause| self.http.broken("snapshot", &cause))?;
        let delayed = self.check_status(&snapshot.status, body)?;
        let mut garbled = 0_usize;
        let tickers = snapshot.tickers.unwrap_or_default();
        let quotes = tickers.iter().filter_map(|text| {
            let Ok(ticker) = serde_json::from_str::<Ticker<'_>>(text.get()) else {
                garbled += 1;
                return None;
            };
            let index = universe.position(&SPELLING.ours(&ticker.ticker))?;
            Some((index, quote_of(&ticker)))
        });
        let quotes = quotes.collect();
        let remarks = (garbled > 0).then(|| format!("massive: {garbled} tickers are not as documented"));
        Ok(Answer { quotes, delayed, remarks: remarks.into_iter().collect() })
    }
}

impl Provider for Massive {
    fn description(&self) -> Description {
        Description {
            name: "massive",
            source: "massive",
            simulated: false,
            quota: Quota { requests: self.config.requests_per_minute, per: Duration::from_mins(1), burst: 1 },
            max_batch: usize::MAX,
            whole_market: true,
            delay: self.config.delay,
            delay_class: if self.config.delay.is_zero() { DelayClass::RealTime } else { DelayClass::Delayed15 },
            licence_class: self.config.licence,
        }
    }

    fn fetch<'a>(&'a self, universe: &'a Universe, batch: &'a [usize], permit: Permit) -> Call<'a> {
        Box::pin(async move { self.quotes(universe, batch, &permit).await })
    }

    fn past(&self) -> Option<&dyn Past> {
        Some(self)
    }
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    error: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
    #[serde(borrow, default)]
    request_id: Option<Text<'a>>,
}

/// Their own words, with the id that their support asks for.
fn words_of(refusal: &Refusal<'_>) -> String {
    let words = shown(refusal.error.as_deref().or(refusal.message.as_deref()).unwrap_or_default(), 200);
    let id = refusal.request_id.as_deref().map(|id| format!(" (request {})", shown(id, 64)));
    let status = if refusal.status.is_empty() { String::new() } else { format!(" {}", shown(&refusal.status, 32)) };
    format!("{status} {words:?}{}", id.unwrap_or_default())
}

#[derive(Deserialize)]
struct SnapshotBody<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    /// Each is read on its own: one that is not as documented must not cost the others.
    #[serde(borrow, default)]
    tickers: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow)]
    ticker: Cow<'a, str>,
    #[serde(default)]
    day: Option<Bar>,
    #[serde(default, rename = "prevDay")]
    previous_day: Option<Bar>,
    #[serde(default)]
    min: Option<Bar>,
    #[serde(default, rename = "lastTrade")]
    last_trade: Option<Trade>,
    #[serde(default, rename = "lastQuote")]
    last_quote: Option<Nbbo>,
}

#[derive(Deserialize, Default)]
struct Bar {
    #[serde(default)]
    o: Option<f64>,
    #[serde(default)]
    h: Option<f64>,
    #[serde(default)]
    l: Option<f64>,
    #[serde(default)]
    c: Option<f64>,
    #[serde(default)]
    v: Option<f64>,
    /// Where it begins; only that of a minute has one.
    #[serde(default)]
    t: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Trade {
    #[serde(default)]
    p: Option<f64>,
    #[serde(default)]
    t: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Nbbo {
    /// The bid.
    #[serde(default)]
    p: Option<f64>,
    /// The offer.
    #[serde(default, rename = "P")]
    offer: Option<f64>,
}

fn quote_of(ticker: &Ticker<'_>) -> RawQuote {
    // Zero is how the snapshot says "not set", everywhere but in a day's volume.
    let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
    let day = ticker.day.as_ref();
    let of_day = |field: fn(&Bar) -> Option<f64>| set(day.and_then(field));
    // A price counts with the time that stands beside it, or not at all: `updated` is also that of a new bid, and would make an
    // old price look new; the day's bar has no time.
    let of_trade = ticker.last_trade.as_ref().and_then(|trade| set(trade.p).zip(trade.t.and_then(instant)));
    let of_minute = ticker.min.as_ref().and_then(|bar| set(bar.c).zip(bar.t.and_then(instant)));
    let (price, at) = of_trade.or(of_minute).unzip();
    let nbbo = ticker.last_quote.as_ref();
    RawQuote {
        at,
        price,
        previous_close: set(ticker.previous_day.as_ref().and_then(|bar| bar.c)),
        open: of_day(|bar| bar.o),
        high: of_day(|bar| bar.h),
        low: of_day(|bar| bar.l),
        bid: set(nbbo.and_then(|nbbo| nbbo.p)),
        ask: set(nbbo.and_then(|nbbo| nbbo.offer)),
        // A day without a price was never filled in, so its zero volume says nothing either.
        volume: of_day(|bar| bar.c).and_then(|_| day.and_then(|bar| bar.v)),
        halted: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<f64>, Option<i64>) {
        let quote = quote_of(&serde_json::from_str(text).unwrap());
        (quote.price, quote.at.map(|at| at.timestamp()))
    }

    #[test]
    fn a_price_has_the_time_of_its_own_object_or_is_none() {
        let tail = r#""updated":1805119200000000000,"day":{"c":7.0,"v":1}"#;
        let trade = |t: &str| {
            format!(r#"{{"ticker":"A","lastTrade":{{"p":5.0,"t":{t}}},"min":{{"c":6.0,"t":1805119140000}},{tail}}}"#)
        };
        assert_eq!(read(&trade("1805119190000000000")), (Some(5.0), Some(1_805_119_190)));
        // A trade that does not say when it was is not believed; the minute speaks for itself.
        for unset in ["0", "null", "-1"] {
            assert_eq!(read(&trade(unset)), (Some(6.0), Some(1_805_119_140)), "{unset}");
        }
        let plan_without_trades = format!(r#"{{"ticker":"A","min":{{"c":6.0,"t":1805119140000}},{tail}}}"#);
        assert_eq!(read(&plan_without_trades), (Some(6.0), Some(1_805_119_140)));
        // Neither the time of the row nor the day's bar makes a quote.
        assert_eq!(read(&format!(r#"{{"ticker":"A","min":{{"c":6.0,"t":0}},{tail}}}"#)), (None, None));
        assert_eq!(read(&format!(r#"{{"ticker":"A",{tail}}}"#)), (None, None));
    }
}
