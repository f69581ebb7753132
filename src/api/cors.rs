//! Which pages of other sites may read the answers (the fetch standard, "CORS protocol"). Only what everybody may ask is shared
//! at all; an origin is allowed by its exact scheme, host and port. Calls of servers (accounts, webhooks, operators) are shared
//! with nobody: no page of any site can read them, or send what a form could not.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response, Result};

use super::error::Problem;
use crate::metrics;

/// What a page may read besides the body.
const EXPOSED: &str = "etag, link, retry-after, x-request-id, x-cycle-id, x-as-of, x-stale, x-simulated, x-total-count, x-missing-symbols";

/// What a page may send; the last four are what the site's pages send with every call.
const SENDABLE: &str = "accept, if-none-match, last-event-id, x-request-id, traceparent, tracestate, authorization, x-api-key, content-type, \
     x-csrftoken, x-requested-with";

/// How long a browser need not ask again, in seconds: the longest that Chromium keeps it.
const PREFLIGHT_SECONDS: &str = "7200";

/// The sites whose pages may read.
#[derive(Debug)]
pub struct Origins(Vec<HeaderValue>);

impl Origins {
    /// Each as a browser writes it, `https://site.example`.
    pub fn new(origins: &[String]) -> Self {
        Self(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect())
    }

    /// The origin of a request, where it is one of these.
    pub fn allowed(&self, request: &HeaderMap) -> Option<&HeaderValue> {
        let origin = request.get(header::ORIGIN)?;
        self.0.iter().find(|allowed| *allowed == origin)
    }
}

/// Lets the pages of `origin` read an answer. Credentials are allowed because pages that send them with every call could not read
/// it otherwise; no shared answer depends on them.
pub fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// Says to caches that the answer to another origin has other headers, where that is not said yet.
pub fn vary(headers: &mut HeaderMap) {
    let is_said = headers.get_all(header::VARY).iter().any(|value| names(value, header::ORIGIN.as_str()));
    if !is_said {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}

fn names(value: &HeaderValue, name: &str) -> bool {
    value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(name)))
}

/// Answers the question that a browser asks before a request that a form could not send.
pub struct Preflight<E> {
    /// `None`: nothing here is shared.
    pub origins: Option<Arc<Origins>>,
    /// What answers everything else.
    pub inner: E,
}

impl<E: Endpoint> Endpoint for Preflight<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        match &self.origins {
            Some(origins) if is_preflight(&request) => preflight(origins, request.headers()),
            _ => self.inner.call(request).await.map(IntoResponse::into_response),
        }
    }
}

fn is_preflight(request: &Request) -> bool {
    let has = |name: HeaderName| request.headers().contains_key(name);
    request.method() == Method::OPTIONS && has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(origins: &Origins, request: &HeaderMap) -> Result<Response> {
    if origins.allowed(request).is_none() {
        metrics::http_rejected("origin");
        let detail = "pages of this origin may not read this; add it to http.cors_origins";
        return Err(Problem::new(StatusCode::FORBIDDEN, "unknown_origin", detail).into());
    }
    let answer = Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD")
        .header(header::ACCESS_CONTROL_ALLOW_HEADERS, SENDABLE)
        .header(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS)
        .header(header::VARY, "origin, access-control-request-method, access-control-request-headers");
    Ok(answer.finish())
}
