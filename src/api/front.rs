//! The short way for what is asked for all the time: a look at the path, a look at the board, and the bytes that were made
//! with the cycle. It only knows how to succeed. Whatever is out of the ordinary (another method, a host that is not served,
//! no data yet, a parameter that counts) goes to the framework behind it, where the same paths have their handlers.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::http::header::{self, HeaderName};
use tracing::debug;

use super::App;
use super::guard::is_known_host;
use super::observe::{REQUEST_ID, milliseconds, request_id};
use super::stocks::Hot;
use super::{cached, cors};
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
}

struct HotPath {
    path: &'static str,
    query: Query,
    body: Hot,
    times: RouteTimes,
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
        Self { app, paths: hot.collect() }
    }

    /// The answer, or `None` where the framework must look.
    pub fn answer<B>(&self, request: &hyper::Request<B>) -> Option<hyper::Response<Full<Bytes>>> {
        let hot = self.find(request)?;
        let started = self.app.clock.monotonic();
        let headers = request.headers();
        let host = headers.get(header::HOST)?.to_str().ok()?;
        if !is_known_host(&self.app.allowed_hosts, host) {
            return None;
        }
        let published = self.app.board.load();
        let published = published.as_ref()?;
        let now = self.app.clock.now();
        let body = (hot.body)(&published.bodies);
        let mut answer = cached::answer(headers, cached::JSON, body, cached::max_age(published, now));
        let id = request_id(headers, now);
        answer.headers.insert(HeaderName::from_static(REQUEST_ID), id.clone());
        if let Some(origin) = self.app.origins.allowed(headers) {
            cors::allow(&mut answer.headers, origin.clone());
        }
        let mut response = hyper::Response::new(Full::new(answer.bytes));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let took = self.app.clock.monotonic().saturating_sub(started);
        let (method, status) = (request.method().as_str(), answer.status.as_u16());
        hot.times.answered(method, status, took);
        debug!(request_id = ?id, method, route = hot.path, status, duration_ms = milliseconds(took), "answered");
        Some(response)
    }

    fn find<B>(&self, request: &hyper::Request<B>) -> Option<&HotPath> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let path = request.uri().path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let hot = self.paths.iter().find(|hot| hot.path == path)?;
        (hot.query == Query::Ignored || request.uri().query().is_none()).then_some(hot)
    }
}
