//! The short way for what is asked for all the time: a look at the path, a look at the board, and the bytes that were made
//! with the cycle. It only knows how to succeed. Whatever is out of the ordinary (another method, a host that is not served,
//! no data yet, a parameter that counts) goes to the framework behind it, where the same paths have their handlers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::Method;
use hyper::http::header;
use tracing::debug;

use super::App;
use super::cached::{self, Prepared};
use super::cors;
use super::guard::is_known_host;
use super::observe::{REQUEST_ID, milliseconds, request_id, trace_id};
use super::stocks::Hot;
use crate::ingest::Published;
use crate::metrics::RouteTimes;

/// Whether a query changes the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Query {
    /// The older paths never looked at parameters they do not know.
    Ignored,
    /// With one, the handler must look.
    Counts,
}

/// The paths that are answered here, without the slash at their end, and their bodies.
const HOT: &[(&str, Query, Hot)] = &[
    ("/api/market-stats", Query::Ignored, |bodies| &bodies.market_stats),
    ("/api/platform-stats", Query::Ignored, |bodies| &bodies.market_stats),
    ("/api/stocks/top-gainers", Query::Counts, |bodies| &bodies.top_gainers),
    ("/api/stocks/top-losers", Query::Counts, |bodies| &bodies.top_losers),
    ("/api/stocks/most-active", Query::Counts, |bodies| &bodies.most_active),
    ("/api/trending", Query::Ignored, |bodies| &bodies.trending),
    ("/api/statistics", Query::Ignored, |bodies| &bodies.statistics),
    ("/api/stats/total-tickers", Query::Ignored, |bodies| &bodies.total_tickers),
    ("/api/stats/gainers-losers", Query::Ignored, |bodies| &bodies.gainers_losers),
    ("/api/v1/stats", Query::Counts, |bodies| &bodies.stats),
];

/// Answers hot reads; see above.
pub struct Front {
    app: Arc<App>,
    paths: Vec<HotPath>,
    ready: ArcSwapOption<Ready>,
}

struct HotPath {
    path: &'static str,
    query: Query,
    body: Hot,
    times: RouteTimes,
}

/// The answers of a published state, for as long as they say the same.
struct Ready {
    of: Weak<Published>,
    /// When they were made, by the wall clock and by the other.
    made_at: DateTime<Utc>,
    from: Duration,
    /// By that clock too.
    until: Duration,
    /// In the order of the paths.
    answers: Vec<Prepared>,
}

impl Front {
    /// For the API of `app`.
    pub fn new(app: Arc<App>) -> Self {
        let hot = HOT.iter().map(|(path, query, body)| HotPath {
            path,
            query: *query,
            body: *body,
            times: RouteTimes::of(path),
        });
        Self { app, paths: hot.collect(), ready: ArcSwapOption::empty() }
    }

    /// The answer, or `None` where the framework must look.
    pub fn answer<B>(&self, request: &hyper::Request<B>) -> Option<hyper::Response<Full<Bytes>>> {
        let (place, hot) = self.find(request)?;
        let started = self.app.clock.monotonic();
        let headers = request.headers();
        let host = headers.get(header::HOST)?.to_str().ok()?;
        if !is_known_host(&self.app.allowed_hosts, host) {
            return None;
        }
        let published = self.app.board.load();
        let published = published.as_ref()?;
        let held = self.ready.load();
        let made;
        let ready = match held.as_deref().filter(|ready| ready.is_for(published, started)) {
            Some(ready) => ready,
            None => {
                made = self.make_ready(published, started);
                &*made
            }
        };
        let mut answer = ready.answers.get(place)?.answer(headers, (hot.body)(&published.bodies));
        let id = request_id(headers, ready.made_at + started.saturating_sub(ready.from));
        answer.headers.insert(&REQUEST_ID, id.clone());
        if let Some(origin) = self.app.origins.allowed(headers) {
            cors::allow(&mut answer.headers, origin.clone());
        }
        let mut response = hyper::Response::new(Full::new(answer.bytes));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let took = self.app.clock.monotonic().saturating_sub(started);
        let (method, status) = (request.method().as_str(), answer.status.as_u16());
        hot.times.answered(method, status, took);
        let duration_ms = milliseconds(took);
        debug!(request_id = ?id, trace_id = trace_id(headers), method, route = hot.path, status, duration_ms, "answered");
        Some(response)
    }

    /// The answers of what is published now; whoever asks until they change finds them made.
    fn make_ready(&self, published: &Arc<Published>, from: Duration) -> Arc<Ready> {
        let made_at = self.app.clock.now();
        let max_age = cached::max_age(published, made_at);
        let prepare = |hot: &HotPath| Prepared::of(cached::JSON, (hot.body)(&published.bodies), max_age, &REQUEST_ID);
        let ready = Arc::new(Ready {
            of: Arc::downgrade(published),
            made_at,
            from,
            until: from + cached::max_age_holds(published, made_at),
            answers: self.paths.iter().map(prepare).collect(),
        });
        self.ready.store(Some(Arc::clone(&ready)));
        ready
    }

    fn find<B>(&self, request: &hyper::Request<B>) -> Option<(usize, &HotPath)> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let path = request.uri().path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let (place, hot) = self.paths.iter().enumerate().find(|(_, hot)| hot.path == path)?;
        (hot.query == Query::Ignored || request.uri().query().is_none()).then_some((place, hot))
    }
}

impl Ready {
    fn is_for(&self, published: &Arc<Published>, now: Duration) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(published)) && (self.from..self.until).contains(&now)
    }
}
