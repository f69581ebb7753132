//! Alpaca: snapshots of up to a hundred symbols a call, with the operator's own keys.
//!
//! `GET /v2/stocks/snapshots?symbols=A,B&feed=iex`, headers `APCA-API-KEY-ID` and `APCA-API-SECRET-KEY`
//! (<https://docs.alpaca.markets>). What its users found: the answer is a map by symbol, bare or inside `snapshots`; unknown
//! symbols are left out, ill-formed ones spoil the whole call; the "latest" trade of a quiet symbol can be months old; before the
//! first trade of a day the daily bar is still yesterday's. What is received may not be passed on to others.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::America::New_York;
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::{Http, Reply, join};
use super::spelling::Spelling;
use super::text::{Text, shown, without_nan};
use super::{Answer, Call, Description, FetchError, Provider, RawQuote};
use crate::config::{AlpacaConfig, AlpacaFeed};
use crate::ingest::budget::{Permit, Quota};
use crate::ingest::past::Past;
use crate::market::{DelayClass, LicenceClass, Universe};

/// An upper bound that its users found safe; the documentation names none.
const MAX_BATCH: usize = 100;

pub(super) const SPELLING: Spelling = Spelling::ALPACA;

/// The client of one account.
#[derive(Debug)]
pub struct Alpaca {
    pub(super) http: Http,
    pub(super) config: AlpacaConfig,
    snapshots: Url,
}

/// Symbols in their spelling, in order, with their index.
pub(super) struct Asked<'a>(Vec<(Cow<'a, str>, usize)>);

impl<'a> Asked<'a> {
    pub(super) fn of(universe: &'a Universe, batch: &[usize]) -> Self {
        let listing = |index: &usize| Some((SPELLING.theirs(&universe.listings().get(*index)?.symbol), *index));
        let mut asked: Vec<_> = batch.iter().filter_map(listing).collect();
        asked.sort_unstable();
        Self(asked)
    }

    pub(super) fn index(&self, theirs: &str) -> Option<usize> {
        let place = self.0.binary_search_by(|(symbol, _)| (**symbol).cmp(theirs)).ok()?;
        Some(self.0[place].1)
    }

    /// As a parameter of a call.
    pub(super) fn names(&self) -> String {
        self.0.iter().map(|(symbol, _)| &**symbol).collect::<Vec<_>>().join(",")
    }
}

impl Alpaca {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots or the base URL cannot take a path.
    pub fn new(config: &AlpacaConfig) -> Result<Self, FetchError> {
        let http = Http::new("alpaca", config.timeout)?;
        Ok(Self { http, config: config.clone(), snapshots: join(&config.base_url, "/v2/stocks/snapshots")? })
    }

    /// A successful answer's body.
    pub(super) async fn get(&self, url: Url, permit: &Permit) -> Result<Vec<u8>, FetchError> {
        let (key, secret) = (self.config.api_key.expose_secret(), self.config.api_secret.expose_secret());
        let call = self.http.client.get(url).header("APCA-API-KEY-ID", key).header("APCA-API-SECRET-KEY", secret);
        let reply = self.http.send(call, permit).await?;
        if reply.status == StatusCode::OK { Ok(reply.body) } else { Err(self.refusal(&reply)) }
    }

    /// Their own words in a body that is an error.
    pub(super) fn words_in(&self, body: &[u8]) -> Option<String> {
        let refusal: Refusal<'_> = serde_json::from_slice(body).ok()?;
        refusal.message.is_some().then(|| words_of(&refusal).trim().to_owned())
    }

    fn refusal(&self, reply: &Reply) -> FetchError {
        const KEYS: &str = "ingest.alpaca.api_key and ingest.alpaca.api_secret";
        let said = serde_json::from_slice::<Refusal<'_>>(&reply.body).map(|refusal| words_of(&refusal));
        let said = said.unwrap_or_default();
        if reply.status == StatusCode::FORBIDDEN {
            // It says the same of a wrong key and of a feed that is not in the plan.
            let feed = self.config.feed.name();
            return FetchError::Fail(format!(
                "alpaca: HTTP 403{said}; check {KEYS}, and that the plan has the feed {feed:?}"
            ));
        }
        self.http.refusal(reply, &said, KEYS)
    }

    async fn quotes(&self, universe: &Universe, batch: &[usize], permit: &Permit) -> Result<Answer, FetchError> {
        let asked = Asked::of(universe, batch);
        let mut url = self.snapshots.clone();
        url.query_pairs_mut().append_pair("symbols", &asked.names()).append_pair("feed", self.config.feed.name());
        let body = self.get(url, permit).await?;
        match self.read(&body, &asked) {
            Err(broken @ FetchError::Down { .. }) => match without_nan(&body) {
                Some(mended) => self.read(&mended, &asked),
                None => Err(broken),
            },
            read => read,
        }
    }

    fn read(&self, body: &[u8], asked: &Asked<'_>) -> Result<Answer, FetchError> {
        let broken = |cause| self.http.broken("map of snapshots", &cause);
        let wrapped: Wrapped<'_> = serde_json::from_slice(body).map_err(broken)?;
        let Wrapped { snapshots, message, error } = wrapped;
        let by_symbol: BTreeMap<Text<'_>, &RawValue> = match (snapshots, message) {
            (Some(by_symbol), _) => by_symbol,
            // An error that came with HTTP 200.
            (None, Some(message)) => {
                return Err(FetchError::Refused(format!("alpaca: HTTP 200 with {:?}", shown(&message, 200))));
            }
            (None, None) => serde_json::from_slice(body).map_err(broken)?,
        };
        // Unknown symbols are left out, so an empty map is an answer. A map of other things is none: nobody is silent in it.
        let is_answer = by_symbol.keys().any(|symbol| asked.index(symbol).is_some());
        if !is_answer && (error.is_some() || !by_symbol.is_empty()) {
            let words = shown(&String::from_utf8_lossy(body), 200);
            let message = format!("alpaca: HTTP 200 without any symbol that was asked for: {words:?}");
            return Err(FetchError::Retry { after: None, message });
        }
        let (mut quotes, mut garbled) = (Vec::with_capacity(by_symbol.len()), 0_usize);
        for (symbol, text) in by_symbol {
            let Some(index) = asked.index(&symbol) else { continue };
            match serde_json::from_str::<Option<Snapshot<'_>>>(text.get()) {
                Ok(snapshot) => quotes.extend(snapshot.map(|snapshot| (index, quote_of(&snapshot)))),
                Err(_) => garbled += 1,
            }
        }
        let remarks = (garbled > 0).then(|| format!("alpaca: {garbled} snapshots are not as documented"));
        Ok(Answer { quotes, delayed: false, remarks: remarks.into_iter().collect() })
    }
}

impl Provider for Alpaca {
    fn description(&self) -> Description {
        let delayed = self.config.feed == AlpacaFeed::DelayedSip;
        Description {
            name: "alpaca",
            source: "alpaca",
            simulated: false,
            quota: Quota::in_any_window(self.config.requests_per_minute, Duration::from_mins(1)),
            max_batch: MAX_BATCH,
            whole_market: false,
            delay: self.config.feed.delay(),
            delay_class: if delayed { DelayClass::Delayed15 } else { DelayClass::RealTime },
            licence_class: LicenceClass::OwnKey,
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
    #[serde(default)]
    code: Option<i64>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
}

fn words_of(refusal: &Refusal<'_>) -> String {
    let code = refusal.code.map(|code| format!(" code {code}")).unwrap_or_default();
    format!("{code} {:?}", shown(refusal.message.as_deref().unwrap_or_default(), 200))
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow, default)]
    snapshots: Option<BTreeMap<Text<'a>, &'a RawValue>>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(borrow, default, rename = "latestTrade")]
    latest_trade: Option<Trade<'a>>,
    #[serde(default, rename = "latestQuote")]
    latest_quote: Option<Nbbo>,
    #[serde(borrow, default, rename = "minuteBar")]
    minute_bar: Option<Bar<'a>>,
    #[serde(borrow, default, rename = "dailyBar")]
    daily_bar: Option<Bar<'a>>,
    #[serde(borrow, default, rename = "prevDailyBar")]
    previous_daily_bar: Option<Bar<'a>>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow, default)]
    t: Option<Text<'a>>,
    #[serde(default)]
    p: Option<f64>,
}

#[derive(Deserialize)]
struct Nbbo {
    /// The bid.
    #[serde(default)]
    bp: Option<f64>,
    /// The offer.
    #[serde(default)]
    ap: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Bar<'a> {
    #[serde(borrow, default)]
    pub(super) t: Option<Text<'a>>,
    #[serde(default)]
    pub(super) o: Option<f64>,
    #[serde(default)]
    pub(super) h: Option<f64>,
    #[serde(default)]
    pub(super) l: Option<f64>,
    #[serde(default)]
    pub(super) c: Option<f64>,
    #[serde(default)]
    pub(super) v: Option<f64>,
}

impl Bar<'_> {
    /// The date it is of, in New York, where it begins at midnight.
    pub(super) fn date(&self) -> Option<NaiveDate> {
        Some(new_york(instant(self.t.as_deref()?)?))
    }
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

fn new_york(at: DateTime<Utc>) -> NaiveDate {
    at.with_timezone(&New_York).date_naive()
}

fn quote_of(snapshot: &Snapshot<'_>) -> RawQuote {
    // There is no share for nothing.
    let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
    let minute = snapshot.minute_bar.as_ref();
    let of_trade =
        snapshot.latest_trade.as_ref().and_then(|trade| Some((set(trade.p)?, trade.t.as_deref().and_then(instant)?)));
    let of_minute = minute.and_then(|bar| Some((set(bar.c)?, bar.t.as_deref().and_then(instant)?)));
    let (price, at) = of_trade.or(of_minute).unzip();
    let daily = snapshot.daily_bar.as_ref();
    // A trade of a day that has no bar yet: the daily bar is that of the session before.
    let day_has_begun = match (at, daily.and_then(Bar::date)) {
        (Some(at), Some(date)) => new_york(at) <= date,
        _ => true,
    };
    let (today, before) = if day_has_begun { (daily, snapshot.previous_daily_bar.as_ref()) } else { (None, daily) };
    let nbbo = snapshot.latest_quote.as_ref();
    RawQuote {
        at,
        price,
        previous_close: set(before.and_then(|bar| bar.c)),
        open: set(today.and_then(|bar| bar.o)),
        high: set(today.and_then(|bar| bar.h)),
        low: set(today.and_then(|bar| bar.l)),
        bid: set(nbbo.and_then(|nbbo| nbbo.bp)),
        ask: set(nbbo.and_then(|nbbo| nbbo.ap)),
        volume: today.and_then(|bar| bar.v),
        halted: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RawQuote {
        quote_of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn before_the_first_trade_of_a_day_yesterdays_bar_is_the_day_before() {
        let early = read(
            r#"{"latestTrade":{"t":"2022-08-17T10:18:24.114694956Z","p":172.61},"latestQuote":{"ap":172.7,"bp":0},
            "dailyBar":{"t":"2022-08-16T04:00:00Z","o":172.62,"h":173.71,"l":171.66,"c":173.03,"v":56457696},
            "prevDailyBar":{"t":"2022-08-15T04:00:00Z","o":171.5,"h":173.39,"l":171.345,"c":173.19,"v":54091719}}"#,
        );
        assert_eq!((early.price, early.previous_close), (Some(172.61), Some(173.03)));
        assert_eq!((early.open, early.volume, early.bid, early.ask), (None, None, None, Some(172.7)));
        let late = read(
            r#"{"latestTrade":{"t":"2022-08-16T19:59:59Z","p":173.03},
            "dailyBar":{"t":"2022-08-16T04:00:00Z","o":172.62,"h":173.71,"l":171.66,"c":173.03,"v":0},
            "prevDailyBar":{"t":"2022-08-15T04:00:00Z","o":171.5,"h":173.39,"l":171.345,"c":173.19,"v":54091719}}"#,
        );
        assert_eq!((late.previous_close, late.open, late.volume), (Some(173.19), Some(172.62), Some(0.0)));
    }

    #[test]
    fn without_a_trade_the_minute_bar_speaks_and_without_both_nothing() {
        let minute = read(r#"{"latestTrade":null,"minuteBar":{"t":"2022-08-16T19:59:00Z","c":5.25,"v":10}}"#);
        assert_eq!(minute.price, Some(5.25));
        let zero = read(r#"{"latestTrade":{"t":"2022-08-16T19:59:59Z","p":0}}"#);
        assert_eq!((zero.price, zero.at), (None, None));
    }
}
