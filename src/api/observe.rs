//! What every request gets: an id, a line in the log, a metric by route, a problem body for an error, and no panic of its
//! handler for anybody else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use poem::http::header::{self, HeaderName};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Endpoint, IntoResponse, Request, Response, Result};
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;

use super::cached::NOSNIFF;
use super::cors::{self, Origins};
use super::error::Problem;
use crate::clock::SharedClock;
use crate::metrics::{self, RouteTimes};

/// Names a request in logs and errors; taken over from the client or made up.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a client.
const LONGEST_REQUEST_ID: usize = 128;

/// Wraps the endpoint of one route. `route` is the template, never the path, so that metrics stay bounded.
pub struct Observed<E> {
    /// The template, and what is measured of it.
    pub times: RouteTimes,
    /// Whether errors carry the members of the old site.
    pub legacy: bool,
    /// The methods it takes, for an answer to another.
    pub allow: &'static str,
    /// Whose pages may read what is answered; `None`: nobody's.
    pub origins: Option<Arc<Origins>>,
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

    async fn call(&self, mut request: Request) -> Result<Response> {
        let _in_flight = InFlight::begin();
        let started = self.clock.monotonic();
        let id = request_id(request.headers(), self.clock.now());
        // Whoever writes something down has it from here.
        request.headers_mut().insert(&REQUEST_ID, id.clone());
        let id_text: Arc<str> = id.to_str().unwrap_or_default().into();
        let trace_id = trace_id(request.headers()).map(str::to_owned);
        let origin = self.origins.as_ref().and_then(|origins| origins.allowed(request.headers()).cloned());
        let method = request.method().clone();
        let route = self.times.route();
        let method_name = metrics::method_name(method.as_str());
        let span = info_span!("request", request_id = %id_text, trace_id, method = method_name, route);
        async {
            let called = AssertUnwindSafe(self.inner.call(request)).catch_unwind().await;
            let mut response = match called {
                Ok(Ok(output)) => output.into_response(),
                Ok(Err(error)) => Problem::of(error).respond(&id_text, self.legacy),
                Err(_panic) => {
                    tracing::error!("a handler panicked");
                    let code = StatusCode::INTERNAL_SERVER_ERROR;
                    Problem::new(code, "internal", "the request could not be answered").respond(&id_text, self.legacy)
                }
            };
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(self.allow));
            }
            response.headers_mut().insert(&REQUEST_ID, id);
            response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
            if self.origins.is_some() {
                cors::vary(response.headers_mut());
            }
            if let Some(origin) = origin {
                cors::allow(response.headers_mut(), origin);
            }
            let took = self.clock.monotonic().saturating_sub(started);
            self.times.answered(method.as_str(), response.status().as_u16(), took);
            log(&method, response.status(), took);
            Ok(response)
        }
        .instrument(span)
        .await
    }
}

/// Reads are the daily bread and stay at `debug`; what changes something is said, and what failed on our side loudly.
fn log(method: &Method, status: StatusCode, took: Duration) {
    let (status, duration_ms) = (status.as_u16(), milliseconds(took));
    match (method, status) {
        (_, 500..) => warn!(status, duration_ms, "answered"),
        (&Method::POST | &Method::DELETE, _) => info!(status, duration_ms, "answered"),
        _ => debug!(status, duration_ms, "answered"),
    }
}

/// To the microsecond.
pub fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The trace that the caller says the request belongs to, in small letters (W3C Trace Context, level 1): `VERSION-TRACE-PARENT-FLAGS`.
/// Of a later version what follows is not looked at; what is not as it must be is no trace.
pub fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all("traceparent").iter();
    let (Some(text), None) = (given.next(), given.next()) else { return None };
    let mut parts = text.to_str().ok()?.splitn(5, '-');
    let mut hexadecimal = |length: usize| {
        let is_hexadecimal = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        parts.next().filter(|part| part.len() == length).filter(is_hexadecimal)
    };
    let (version, trace, parent, _) = (hexadecimal(2)?, hexadecimal(32)?, hexadecimal(16)?, hexadecimal(2)?);
    let is_set = |id: &str| id.bytes().any(|b| b != b'0');
    let ends = parts.next().is_none() || version != "00";
    (version != "ff" && ends && is_set(trace) && is_set(parent)).then_some(trace)
}

/// A client's own id is taken over when it can be printed and is not long; otherwise it gets one, a UUID in order of time.
pub fn request_id(headers: &HeaderMap, now: DateTime<Utc>) -> HeaderValue {
    let usable = |id: &&HeaderValue| {
        (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(given) = headers.get(&REQUEST_ID).filter(usable) {
        return given.clone();
    }
    // It only has to be another one each time: the generator of the operating system would take longer than many an answer.
    let random = fastrand::u128(..).to_ne_bytes();
    let random = random.first_chunk().unwrap_or(&[0; 10]);
    let id = uuid::Builder::from_unix_timestamp_millis(now.timestamp_millis().unsigned_abs(), random).into_uuid();
    let mut text = Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_over_only_where_it_is_one() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            trace_id(&headers).map(str::to_owned)
        };
        let whole = format!("00-{TRACE}-00f067aa0ba902b7-01");
        assert_eq!(read(&[&whole]).as_deref(), Some(TRACE));
        let later = format!("01-{TRACE}-00f067aa0ba902b7-01-what-comes-later");
        assert_eq!(read(&[&later]).as_deref(), Some(TRACE));
        for wrong in [
            String::new(),
            TRACE.to_owned(),
            whole.to_uppercase(),
            whole.replace("00-4", "ff-4"),
            whole.replace(TRACE, &"0".repeat(32)),
            whole.replace("00f067aa0ba902b7", &"0".repeat(16)),
            whole.replace(TRACE, &TRACE[1..]),
            format!("{whole}-more"),
            format!("{whole}0"),
            whole.replace("-01", ""),
        ] {
            assert_eq!(read(&[&wrong]), None, "{wrong}");
        }
        assert_eq!(read(&[&whole, &whole]), None, "two are none");
    }
}
