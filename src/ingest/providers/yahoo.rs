//! Yahoo's quotes: up to 99 symbols a call, under a cookie and a crumb. Opt-in: nobody has granted the use of this interface.
//!
//! `GET /v7/finance/quote?symbols=A,B&crumb=C` with the cookie that any page of theirs sets. There is no documentation; what its users
//! found: more than 99 or 100 symbols fail; the crumb is a text that may be `Too Many Requests` instead, with HTTP 200; 429 may last
//! for a day; an error may come with HTTP 200; a symbol that has left the exchange is left out, or comes with the price of long ago; off
//! hours bid and offer are 0.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{COOKIE, SET_COOKIE, USER_AGENT};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use super::http::{Http, Reply, join};
use super::spelling::Spelling;
use super::text::{instant, shown, without_nan};
use super::{Answer, Call, Description, FetchError, Provider, RawQuote};
use crate::config::YahooConfig;
use crate::ingest::budget::{Permit, Quota};
use crate::market::{DelayClass, LicenceClass, Universe};

/// One more has been seen to fail.
const MAX_BATCH: usize = 99;

/// How often a session is opened in any hour at most. Opening one takes two calls beside the one that is paid, which the quota is lowered by.
const OPENINGS_AN_HOUR: usize = 5;
const CALLS_FOR_OPENINGS: u32 = 2 * OPENINGS_AN_HOUR as u32;

/// How long nobody calls once it has said that it is asked too often, where it does not say for how long itself. It counts on meanwhile.
const REST: Duration = Duration::from_mins(5);

/// The longest crumb that has been seen has 16 letters.
const LONGEST_CRUMB: usize = 64;

const SPELLING: Spelling = Spelling::YAHOO;

/// The client.
#[derive(Debug)]
pub struct Yahoo {
    http: Http,
    config: YahooConfig,
    crumb: Url,
    quotes: Url,
    sessions: Mutex<Sessions>,
}

/// What opens the calls for quotes.
#[derive(Debug, Clone)]
struct Session {
    cookie: SecretString,
    crumb: SecretString,
}

#[derive(Debug, Default)]
struct Sessions {
    open: Option<Session>,
    /// Of the last hour.
    opened_at: Vec<DateTime<Utc>>,
    /// None is opened before this: what it said the last time, for those who waited too.
    rests: Option<(DateTime<Utc>, String)>,
}

impl Yahoo {
    /// A client; nothing is called yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots or the base URL cannot take a path.
    pub fn new(config: &YahooConfig) -> Result<Self, FetchError> {
        let http = Http::new("yahoo", config.timeout)?;
        let [crumb, quotes] = ["/v1/test/getcrumb", "/v7/finance/quote"].map(|path| join(&config.base_url, path));
        Ok(Self { http, config: config.clone(), crumb: crumb?, quotes: quotes?, sessions: Mutex::default() })
    }

    async fn ask(&self, universe: &Universe, batch: &[usize], permit: &Permit) -> Result<Answer, FetchError> {
        let session = self.session(permit).await?;
        let names = batch.iter().filter_map(|index| Some((universe.listings().get(*index)?, *index)));
        let asked: BTreeMap<Cow<'_, str>, usize> =
            names.map(|(listing, index)| (SPELLING.theirs(&listing.symbol), index)).collect();
        let symbols = asked.keys().map(|name| &**name).collect::<Vec<_>>().join(",");
        let mut url = self.quotes.clone();
        url.query_pairs_mut()
            .append_pair("symbols", &symbols)
            .append_pair("formatted", "false")
            .append_pair("crumb", session.crumb.expose_secret());
        let reply = self.get(url, Some(&session.cookie), permit).await?;
        let read = match self.read(&reply, &asked) {
            // Looked for only where reading fails: a good answer is not gone through twice.
            Err(broken @ FetchError::Down { .. }) => match without_nan(&reply.body) {
                Some(body) => self.read(&Reply { body, ..reply }, &asked),
                None => Err(broken),
            },
            read => read,
        };
        if matches!(&read, Err(FetchError::Retry { message, .. }) if message.contains(CLOSED)) {
            self.close(&session).await;
        }
        read
    }

    async fn get(&self, url: Url, cookie: Option<&SecretString>, permit: &Permit) -> Result<Reply, FetchError> {
        let mut call = self.http.client.get(url);
        if let Some(name) = &self.config.user_agent {
            call = call.header(USER_AGENT, name);
        }
        if let Some(cookie) = cookie {
            call = call.header(COOKIE, cookie.expose_secret());
        }
        self.http.send(call, permit).await
    }

    /// The session that is open, or a new one. Who comes while one is opened waits for it.
    async fn session(&self, permit: &Permit) -> Result<Session, FetchError> {
        let mut sessions = self.sessions.lock().await;
        if let Some(session) = &sessions.open {
            return Ok(session.clone());
        }
        sessions.may_open(permit.now())?;
        let reply = self.get(self.config.cookie_url.clone(), None, permit).await?;
        // Whatever its status: the page that sets the cookie is none.
        let cookies = reply.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs: Vec<&str> = cookies.filter_map(|cookie| cookie.split(';').next()).map(str::trim).collect();
        if pairs.is_empty() {
            return Err(sessions.rest(permit.now(), self.without_session(&reply, "sets no cookie")));
        }
        let cookie = SecretString::from(pairs.join("; "));
        let reply = self.get(self.crumb.clone(), Some(&cookie), permit).await?;
        let Some(crumb) = crumb_in(&reply) else {
            return Err(sessions.rest(permit.now(), self.without_session(&reply, "gives no crumb")));
        };
        let session = Session { cookie, crumb };
        sessions.open = Some(session.clone());
        Ok(session)
    }

    /// What is said where a crumb should be is a text of theirs, and never used as one.
    fn without_session(&self, reply: &Reply, what: &str) -> FetchError {
        let said = shown(&String::from_utf8_lossy(&reply.body), 60);
        let message = format!("yahoo: {what}: HTTP {} {said:?}", reply.status.as_u16());
        match reply.status {
            StatusCode::FORBIDDEN => FetchError::Fail(format!("{message}; it does not serve this client")),
            status if status.is_server_error() => FetchError::Down { after: reply.after, message },
            _ => FetchError::Retry { after: Some(reply.after.unwrap_or(REST)), message },
        }
    }

    /// Closes `session`, unless another one was opened since.
    async fn close(&self, session: &Session) {
        let mut sessions = self.sessions.lock().await;
        let is_open = |open: &Session| open.crumb.expose_secret() == session.crumb.expose_secret();
        if sessions.open.as_ref().is_some_and(is_open) {
            sessions.open = None;
        }
    }

    fn read(&self, reply: &Reply, asked: &BTreeMap<Cow<'_, str>, usize>) -> Result<Answer, FetchError> {
        let body: Result<Envelope<'_>, _> = serde_json::from_slice(&reply.body);
        let said = body.as_ref().ok().and_then(Envelope::fault);
        if reply.status != StatusCode::OK || said.is_some() {
            return Err(self.refusal(reply, said));
        }
        let body = body.map_err(|cause| self.http.broken("list of quotes", &cause))?;
        let Some(rows) = body.quote_response.and_then(|response| response.result) else {
            // JSON that has no list is something else they say, and no word on any symbol: it is not taken apart.
            return Err(match self.refusal(reply, None) {
                FetchError::Refused(message) => FetchError::Retry { after: None, message },
                fault => fault,
            });
        };
        let (mut quotes, mut garbled, mut delayed) = (Vec::with_capacity(rows.len()), 0_usize, 0_usize);
        for text in &rows {
            match serde_json::from_str::<Row<'_>>(text.get()) {
                Ok(row) => {
                    let Some(index) = asked.get(&*row.symbol) else { continue };
                    delayed += usize::from(row.delayed_by_minutes.is_some_and(|minutes| minutes > 0.0));
                    quotes.push((*index, row.quote()));
                }
                Err(_) => garbled += 1,
            }
        }
        let remarks = (garbled > 0).then(|| format!("yahoo: {garbled} quotes are not as they used to be"));
        // A few symbols of a small market are always late.
        let delayed = delayed * 2 > quotes.len();
        Ok(Answer { quotes, delayed, remarks: remarks.into_iter().collect() })
    }

    /// What an answer that is an error means, also one with HTTP 200.
    fn refusal(&self, reply: &Reply, said: Option<&Fault<'_>>) -> FetchError {
        let words = said.map(|fault| shown(&format!("{}: {}", fault.code, fault.description), 200));
        let words = words.unwrap_or_else(|| shown(&String::from_utf8_lossy(&reply.body), 60));
        let message = format!("yahoo: HTTP {} {words:?}", reply.status.as_u16());
        let lower = words.to_lowercase();
        let is_closed = reply.status == StatusCode::UNAUTHORIZED
            || ["unauthorized", "crumb", "cookie"].iter().any(|word| lower.contains(word));
        if is_closed {
            return FetchError::Retry { after: None, message: format!("{message}; {CLOSED}") };
        }
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS => FetchError::Retry { after: Some(reply.after.unwrap_or(REST)), message },
            StatusCode::OK if lower.contains("too many") => FetchError::Retry { after: Some(REST), message },
            StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => FetchError::Refused(message),
            status if status.is_server_error() => FetchError::Down { after: reply.after, message },
            _ => FetchError::Fail(format!("{message}; it does not serve this client")),
        }
    }
}

/// In the message of a call whose session is not known any more.
const CLOSED: &str = "a new session is opened";

impl Sessions {
    /// Whoever has waited for this session must not ask for another one at once.
    fn rest(&mut self, now: DateTime<Utc>, fault: FetchError) -> FetchError {
        if let FetchError::Retry { after: Some(after), message } = &fault {
            self.rests = TimeDelta::from_std(*after).ok().map(|after| (now + after, message.clone()));
        }
        fault
    }

    /// # Errors
    /// When that was done too often within the last hour, or nobody is to ask at the moment.
    fn may_open(&mut self, now: DateTime<Utc>) -> Result<(), FetchError> {
        if let Some((until, message)) = self.rests.as_ref().filter(|(until, _)| *until > now) {
            return Err(FetchError::Retry { after: (*until - now).to_std().ok(), message: message.clone() });
        }
        self.opened_at.retain(|at| now - *at < TimeDelta::hours(1));
        if self.opened_at.len() < OPENINGS_AN_HOUR {
            self.opened_at.push(now);
            return Ok(());
        }
        let again = self.opened_at.iter().min().map_or(now, |first| *first + TimeDelta::hours(1));
        let message = format!("yahoo: {OPENINGS_AN_HOUR} sessions were opened within an hour, and none holds");
        Err(FetchError::Retry { after: (again - now).to_std().ok(), message })
    }
}

/// Letters, digits and a few marks; a sentence or a page is none.
fn crumb_in(reply: &Reply) -> Option<SecretString> {
    let text = std::str::from_utf8(&reply.body).ok()?.trim();
    let is_crumb = (1..=LONGEST_CRUMB).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"<>{}\"".contains(&b));
    (reply.status == StatusCode::OK && is_crumb).then(|| SecretString::from(text.to_owned()))
}

impl Provider for Yahoo {
    fn description(&self) -> Description {
        let quotes = self.config.requests_per_hour.saturating_sub(CALLS_FOR_OPENINGS).max(1);
        Description {
            name: "yahoo",
            source: "yahoo",
            simulated: false,
            quota: Quota::in_any_window(quotes, Duration::from_hours(1)),
            max_batch: MAX_BATCH,
            whole_market: false,
            delay: Duration::ZERO,
            delay_class: DelayClass::RealTime,
            licence_class: LicenceClass::None,
        }
    }

    fn fetch<'a>(&'a self, universe: &'a Universe, batch: &'a [usize], permit: Permit) -> Call<'a> {
        Box::pin(async move { self.ask(universe, batch, &permit).await })
    }
}

/// The list, or an error in either of two places.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "quoteResponse")]
    quote_response: Option<List<'a>>,
    #[serde(borrow, default)]
    finance: Option<List<'a>>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow, default)]
    result: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    error: Option<Fault<'a>>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    #[serde(borrow, default)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    description: Cow<'a, str>,
}

impl Envelope<'_> {
    fn fault(&self) -> Option<&Fault<'_>> {
        let lists = [self.quote_response.as_ref(), self.finance.as_ref()];
        lists.into_iter().flatten().find_map(|list| list.error.as_ref())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(default)]
    regular_market_time: Option<f64>,
    #[serde(default)]
    regular_market_price: Option<f64>,
    #[serde(default)]
    regular_market_previous_close: Option<f64>,
    #[serde(default)]
    regular_market_open: Option<f64>,
    #[serde(default)]
    regular_market_day_high: Option<f64>,
    #[serde(default)]
    regular_market_day_low: Option<f64>,
    #[serde(default)]
    regular_market_volume: Option<f64>,
    #[serde(default)]
    bid: Option<f64>,
    #[serde(default)]
    ask: Option<f64>,
    #[serde(default, rename = "exchangeDataDelayedBy")]
    delayed_by_minutes: Option<f64>,
}

impl Row<'_> {
    fn quote(&self) -> RawQuote {
        // There is no share for nothing.
        let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
        RawQuote {
            at: self.regular_market_time.and_then(instant),
            price: set(self.regular_market_price),
            previous_close: set(self.regular_market_previous_close),
            open: set(self.regular_market_open),
            high: set(self.regular_market_day_high),
            low: set(self.regular_market_day_low),
            bid: set(self.bid),
            ask: set(self.ask),
            volume: self.regular_market_volume,
            halted: false,
        }
    }
}
