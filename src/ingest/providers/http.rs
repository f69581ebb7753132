//! What the providers that speak HTTP have in common: one client, bounded bodies, deadlines, and what a refusal means.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};

use super::FetchError;
use crate::ingest::budget::Permit;

/// A whole market is 6 MB; more than this is no answer.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// The client of one provider.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) client: Client,
    name: &'static str,
}

/// A whole answer, whatever its status.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Http {
    /// A client; nothing is called yet. `timeout` is for one call, its whole body included.
    ///
    /// # Errors
    /// When the host has no usable TLS roots.
    pub(super) fn new(name: &'static str, timeout: Duration) -> Result<Self, FetchError> {
        let client = Client::builder()
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(10).min(timeout))
            // The key must not follow a redirect to another host.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| FetchError::Fail(format!("{name}: no HTTP client: {error}")))?;
        Ok(Self { client, name })
    }

    /// Makes a call and reads its answer. What the answer says of the quota goes to the budget by the permit.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub(super) async fn send(&self, call: RequestBuilder, permit: &Permit) -> Result<Reply, FetchError> {
        let mut response = call.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, after) = (response.status(), retry_after(response.headers()));
        note_quota(response.headers(), permit);
        let headers = std::mem::take(response.headers_mut());
        let body = self.read_bounded(response).await?;
        Ok(Reply { status, headers, after, body })
    }

    async fn read_bounded(&self, mut response: Response) -> Result<Vec<u8>, FetchError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                let message = format!("{}: the answer is larger than {MAX_BODY_BYTES} bytes", self.name);
                return Err(FetchError::Fail(message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> FetchError {
        let what = if error.is_timeout() {
            "no whole answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the answer broke off"
        };
        // The error's own text names the URL, which may hold a key; its source does not.
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        FetchError::Down { after: None, message: format!("{}: {what}{cause}", self.name) }
    }

    /// What a status that is no success means. `said` are the provider's own words, `key` the setting of its key.
    pub(super) fn refusal(&self, reply: &Reply, said: &str, key: &str) -> FetchError {
        let message = format!("{}: HTTP {}{said}", self.name, reply.status.as_u16());
        let after = reply.after;
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => FetchError::Retry { after, message },
            StatusCode::UNAUTHORIZED => FetchError::Fail(format!("{message}; check {key}")),
            StatusCode::FORBIDDEN => FetchError::Fail(format!("{message}; the plan of this key does not include this")),
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                FetchError::Refused(message)
            }
            status if status.is_server_error() => FetchError::Down { after, message },
            _ => FetchError::Fail(message),
        }
    }

    /// An answer that is not what it should be; the cause says where, not what.
    pub(super) fn broken(&self, what: &str, cause: &serde_json::Error) -> FetchError {
        // A body that ends too soon may be whole next time.
        FetchError::Down { after: None, message: format!("{}: the answer is no {what}: {cause}", self.name) }
    }
}

/// The root of an API and a path below it.
///
/// # Errors
/// When the root cannot take a path.
pub(super) fn join(root: &Url, path: &str) -> Result<Url, FetchError> {
    let root = root.as_str().trim_end_matches('/');
    Url::parse(&format!("{root}{path}")).map_err(|error| FetchError::Fail(error.to_string()))
}

/// Seconds, or a date (RFC 9110, 10.2.3), which is measured by the provider's own clock: the date of the answer.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let value = text(RETRY_AFTER)?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let wanted = DateTime::parse_from_rfc2822(value).ok()?;
    let said_at = DateTime::parse_from_rfc2822(text(DATE)?).ok()?;
    Some((wanted - said_at).to_std().unwrap_or_default())
}

/// `X-RateLimit-Remaining`, and `X-RateLimit-Reset` as Unix seconds or, where it is small, seconds from now.
fn note_quota(headers: &HeaderMap, permit: &Permit) {
    const SMALL: i64 = 1_000_000;
    let number = |name: &'static str| -> Option<i64> {
        headers.get(HeaderName::from_static(name))?.to_str().ok()?.trim().parse().ok()
    };
    let (Some(left), Some(reset)) = (number("x-ratelimit-remaining"), number("x-ratelimit-reset")) else { return };
    let resets_at: Option<DateTime<Utc>> = match reset {
        ..=0 => None,
        1..SMALL => Some(permit.now() + TimeDelta::seconds(reset)),
        _ => DateTime::from_timestamp(reset, 0),
    };
    if let Some(resets_at) = resets_at {
        permit.provider_said(u32::try_from(left.max(0)).unwrap_or(u32::MAX), resets_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_providers_clock() {
        let read = |value: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            retry_after(&headers).map(|after| after.as_secs())
        };
        let date = Some("Mon, 15 Mar 2027 14:00:00 GMT");
        assert_eq!(read(" 20 ", None), Some(20));
        assert_eq!(read("Mon, 15 Mar 2027 14:01:30 GMT", date), Some(90));
        assert_eq!(read("Mon, 15 Mar 2027 13:00:00 GMT", date), Some(0), "it is over");
        assert_eq!(read("Mon, 15 Mar 2027 14:01:30 GMT", None), None, "left to the back-off");
        assert_eq!(read("soon", date), None);
    }
}
