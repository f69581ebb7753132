//! Answers that are the same for everybody until the next cycle: ETag, 304 and `Cache-Control`.

use chrono::{DateTime, Utc};
use poem::Response;
use poem::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::ingest::Published;
use crate::market::Body;

/// While a cycle is overdue, or stale data is being mended, news may come at any moment.
const OVERDUE_MAX_AGE_SECONDS: i64 = 1;

/// Answers with `body` of `published`, or 304 where the client has it.
pub fn respond(headers: &HeaderMap, published: &Published, body: Body, now: DateTime<Utc>) -> Response {
    let max_age = (published.next_cycle - now).num_seconds().max(OVERDUE_MAX_AGE_SECONDS);
    let response = Response::builder()
        .header(header::ETAG, &body.etag)
        .header(header::CACHE_CONTROL, format!("public, max-age={max_age}"));
    if is_known(headers, &body.etag) {
        return response.status(StatusCode::NOT_MODIFIED).body(());
    }
    response.content_type("application/json").body(body.bytes)
}

/// Answers with a body that follows from its inputs alone: the tag is its hash.
pub fn respond_hashed(
    headers: &HeaderMap,
    content_type: &'static str,
    bytes: Vec<u8>,
    max_age_seconds: i64,
) -> Response {
    let digest: String = Sha256::digest(&bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{digest}\"");
    let response = Response::builder()
        .header(header::ETAG, &etag)
        .header(header::CACHE_CONTROL, format!("public, max-age={max_age_seconds}"));
    if is_known(headers, &etag) {
        return response.status(StatusCode::NOT_MODIFIED).body(());
    }
    response.content_type(content_type).body(bytes)
}

/// `If-None-Match` compares weakly (RFC 9110, 13.1.2): a proxy that compresses makes a tag weak.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_a_list_weak_or_by_star() {
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
            is_known(&headers, "\"abc\"")
        };
        assert!(known("\"abc\"") && known("\"x\", W/\"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc"));
    }
}
