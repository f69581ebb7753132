//! Massive (Polygon until 2025-10): the full-market snapshot, every symbol in one call.
//!
//! `GET /v2/snapshot/locale/us/markets/stocks/tickers`, `Authorization: Bearer KEY`
//! (<https://massive.com/docs/rest/stocks/snapshots/full-market-snapshot>). What the documentation and its users taught:
//! the snapshot is cleared at 03:30 New York time and then holds zeros, which mean "not set"; errors can come with HTTP 200
//! and a `status` of their own; plans below the top leave `lastTrade` and `lastQuote` out; times have been seen in
//! nanoseconds, milliseconds and seconds.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Answer, Call, Description, FetchError, Provider, RawQuote};
use crate::config::MassiveConfig;
use crate::ingest::budget::{Permit, Quota};
use crate::market::{DelayClass, Universe};

const PATH: &str = "/v2/snapshot/locale/us/markets/stocks/tickers";

/// A whole market is 6 MB; more than this is not a snapshot.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// The client of one account.
#[derive(Debug)]
pub struct Massive {
    client: Client,
    url: Url,
    config: MassiveConfig,
}

impl Massive {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots or the base URL cannot take a path.
    pub fn new(config: &MassiveConfig) -> Result<Self, FetchError> {
        let client = Client::builder()
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .timeout(config.timeout)
            .connect_timeout(Duration::from_secs(10).min(config.timeout))
            // The key must not follow a redirect to another host.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| FetchError::Fail(format!("no HTTP client: {error}")))?;
        let root = config.base_url.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{root}{PATH}")).map_err(|error| FetchError::Fail(error.to_string()))?;
        Ok(Self { client, url, config: config.clone() })
    }

    async fn snapshot(&self, universe: &Universe) -> Result<Answer, FetchError> {
        let key = self.config.api_key.expose_secret();
        let call = self.client.get(self.url.clone()).bearer_auth(key).header(ACCEPT, "application/json");
        let response = call.send().await.map_err(|error| unreachable(&error))?;
        let (status, after) = (response.status(), retry_after(response.headers()));
        let body = read_bounded(response).await?;
        if !status.is_success() {
            return Err(refusal(status, after, &body));
        }
        read_snapshot(&body, universe)
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

    fn fetch<'a>(&'a self, universe: &'a Universe, _batch: &'a [usize], _permit: Permit) -> Call<'a> {
        Box::pin(self.snapshot(universe))
    }
}

fn unreachable(error: &reqwest::Error) -> FetchError {
    let what = if error.is_timeout() {
        "no whole answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the answer broke off"
    };
    // The error's own text names the URL, which may hold a key some day; its source does not.
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    FetchError::Retry { after: None, message: format!("massive: {what}{cause}") }
}

/// Seconds or a date (RFC 9110, 10.2.3); a date is left to the back-off, it would need the provider's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

async fn read_bounded(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(FetchError::Fail(format!("massive: the answer is larger than {MAX_BODY_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
}

/// `{"status":"ERROR","request_id":"..","error":".."}` with 4xx and 5xx.
fn refusal(status: StatusCode, after: Option<Duration>, body: &[u8]) -> FetchError {
    let said = serde_json::from_slice::<Refusal<'_>>(body).map(|refusal| words_of(&refusal)).unwrap_or_default();
    let message = format!("massive: HTTP {}{said}", status.as_u16());
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => FetchError::Retry { after, message },
        StatusCode::UNAUTHORIZED => FetchError::Fail(format!("{message}; check ingest.massive.api_key")),
        StatusCode::FORBIDDEN => {
            FetchError::Fail(format!("{message}; the plan of this key does not include snapshots"))
        }
        _ if status.is_server_error() => FetchError::Retry { after, message },
        _ => FetchError::Fail(message),
    }
}

/// What a provider says goes into logs and answers, so it is cut and stripped of what does not print.
fn words_of(refusal: &Refusal<'_>) -> String {
    let short =
        |text: &str, longest: usize| -> String { text.chars().filter(|c| !c.is_control()).take(longest).collect() };
    let words = short(refusal.error.as_deref().or(refusal.message.as_deref()).unwrap_or_default(), 200);
    let id = refusal.request_id.as_deref().map(|id| format!(" (request {})", short(id, 64)));
    let status = if refusal.status.is_empty() { String::new() } else { format!(" {}", short(&refusal.status, 32)) };
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
    updated: Option<f64>,
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

/// Only `OK` and `DELAYED` are answers; any other `status` is an error that came with HTTP 200.
fn read_snapshot(body: &[u8], universe: &Universe) -> Result<Answer, FetchError> {
    let snapshot: SnapshotBody<'_> = serde_json::from_slice(body).map_err(|error| {
        // A body that ends too soon may be whole next time; the error says where, not what.
        FetchError::Retry { after: None, message: format!("massive: the answer is not a snapshot: {error}") }
    })?;
    let delayed = match &*snapshot.status {
        "OK" => false,
        "DELAYED" => true,
        _ => {
            let said =
                serde_json::from_slice::<Refusal<'_>>(body).map(|refusal| words_of(&refusal)).unwrap_or_default();
            let message = format!("massive: HTTP 200 with{said}");
            return Err(match &*snapshot.status {
                "NOT_AUTHORIZED" | "AUTH_ERROR" => FetchError::Fail(message),
                _ => FetchError::Retry { after: None, message },
            });
        }
    };
    let tickers = snapshot.tickers.unwrap_or_default();
    let quotes = tickers.iter().filter_map(|text| {
        let ticker: Ticker<'_> = serde_json::from_str(text.get()).ok()?;
        let index = universe.position(&ours(&ticker.ticker))?;
        Some((index, quote_of(&ticker)))
    });
    Ok(Answer { quotes: quotes.collect(), delayed })
}

/// Their spelling of a symbol in ours: a preferred share is `BACpK` there and `BAC$K` here, a warrant `ACHR.WS` and
/// `ACHR.W`; everything else is the same.
fn ours(theirs: &str) -> Cow<'_, str> {
    if let Some(root) = theirs.strip_suffix(".WS") {
        return Cow::Owned(format!("{root}.W"));
    }
    // Only the mark of a preferred series is a small p between capitals.
    match theirs.split_once('p') {
        Some((root, series)) if !root.is_empty() && series.chars().all(|c| c.is_ascii_uppercase() || c == '.') => {
            Cow::Owned(format!("{root}${series}"))
        }
        _ => Cow::Borrowed(theirs),
    }
}

fn quote_of(ticker: &Ticker<'_>) -> RawQuote {
    // Zero is how the snapshot says "not set", everywhere but in a day's volume.
    let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
    let day = ticker.day.as_ref();
    let of_day = |field: fn(&Bar) -> Option<f64>| set(day.and_then(field));
    let trade = ticker.last_trade.as_ref().filter(|trade| set(trade.p).is_some());
    let minute = ticker.min.as_ref().and_then(|bar| set(bar.c));
    let price = trade.and_then(|trade| trade.p).or(minute).or_else(|| of_day(|bar| bar.c));
    let at = trade.and_then(|trade| trade.t).and_then(instant).or_else(|| ticker.updated.and_then(instant));
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

/// A Unix time whose unit follows from its size: the four ranges do not meet before the year 5138.
fn instant(time: f64) -> Option<DateTime<Utc>> {
    const MICROSECONDS_FROM: i64 = 100_000_000_000_000;
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    // A binary number holds nanoseconds of this century to a quarter of a microsecond, which is finer than is kept.
    let micros = match time as i64 {
        ..=0 => return None,
        t if t >= MICROSECONDS_FROM * 1_000 => t / 1_000,
        t if t >= MICROSECONDS_FROM => t,
        t if t >= MILLISECONDS_FROM => t.checked_mul(1_000)?,
        t => t.checked_mul(1_000_000)?,
    };
    DateTime::from_timestamp_micros(micros)
}
