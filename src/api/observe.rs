//! What every request gets: an id, a line in the log, a metric by route, a problem body for an error, and no panic of its
//! handler for anybody else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response, Result};
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;

use super::error::Problem;
use crate::clock::SharedClock;
use crate::metrics;

const REQUEST_ID: &str = "x-request-id";

/// The longest request id that is taken over from a client.
const LONGEST_REQUEST_ID: usize = 128;

/// Wraps the endpoint of one route. `route` is the template, never the path, so that metrics stay bounded.
pub struct Observed<E> {
    /// The template.
    pub route: &'static str,
    /// Whether errors carry the members of the old site.
    pub legacy: bool,
    /// The methods it takes, for an answer to another.
    pub allow: &'static str,
    /// To measure with.
    pub clock: SharedClock,
    /// What answers.
    pub inner: E,
}

struct InFlight;

impl InFlight {
    fn begin() -> Self {
        metrics::http_in_flight(1.0);
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        metrics::http_in_flight(-1.0);
    }
}

impl<E: Endpoint> Endpoint for Observed<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let _in_flight = InFlight::begin();
        let started = self.clock.monotonic();
        let id = request_id(&request);
        let method = method_name(request.method());
        let span = info_span!("request", request_id = %id, method, route = self.route);
        async {
            let called = AssertUnwindSafe(self.inner.call(request)).catch_unwind().await;
            let mut response = match called {
                Ok(Ok(output)) => output.into_response(),
                Ok(Err(error)) => Problem::of(error).respond(&id, self.legacy),
                Err(_panic) => {
                    tracing::error!("a handler panicked");
                    let code = StatusCode::INTERNAL_SERVER_ERROR;
                    Problem::new(code, "internal", "the request could not be answered").respond(&id, self.legacy)
                }
            };
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(self.allow));
            }
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            let took = self.clock.monotonic().saturating_sub(started);
            metrics::http_answered(method, self.route, status_class(response.status()), took.as_secs_f64());
            log(method, response.status(), (took.as_secs_f64() * 1e6).round() / 1e3);
            Ok(response)
        }
        .instrument(span)
        .await
    }
}

/// Reads are the daily bread and stay at `debug`; what changes something is said, and what failed on our side loudly.
fn log(method: &str, status: StatusCode, duration_ms: f64) {
    let status = status.as_u16();
    match (method, status) {
        (_, 500..) => warn!(status, duration_ms, "answered"),
        ("POST" | "DELETE", _) => info!(status, duration_ms, "answered"),
        _ => debug!(status, duration_ms, "answered"),
    }
}

/// A client's own id is taken over when it can be printed and is not long; otherwise it gets one.
fn request_id(request: &Request) -> Arc<str> {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable =
        |id: &&str| !id.is_empty() && id.len() <= LONGEST_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic());
    given.filter(usable).map_or_else(|| Uuid::now_v7().to_string().into(), Arc::from)
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
