//! Answers that are the same for everybody until the next cycle: ETag, 304, `Cache-Control`, and the encoding the client
//! likes best.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use poem::Response;
use poem::http::header::{self, HeaderName};
use poem::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::accept::Encodings;
use crate::ingest::Published;
use crate::market::{Body, Encoding, Variant};

/// What nearly all answers are.
pub const JSON: &str = "application/json";

/// A browser takes an answer for what it says it is, and for nothing else.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// While a cycle is overdue, or stale data is being mended, news may come at any moment.
const OVERDUE_MAX_AGE_SECONDS: i64 = 1;

/// Answers with `body` of `published`, or 304 where the client has it.
pub fn respond(headers: &HeaderMap, published: &Published, body: &Body, now: DateTime<Utc>) -> Response {
    respond_as(headers, JSON, body, max_age(published, now))
}

/// How long an answer from `published` may be kept, in seconds: until the next cycle is due.
pub fn max_age(published: &Published, now: DateTime<Utc>) -> i64 {
    (published.next_cycle - now).num_seconds().max(OVERDUE_MAX_AGE_SECONDS)
}

/// How long the same is true.
pub fn max_age_holds(published: &Published, now: DateTime<Utc>) -> Duration {
    let left = (published.next_cycle - now).to_std().unwrap_or_default();
    let of_this_second = Duration::from_nanos(u64::from(left.subsec_nanos()));
    if of_this_second.is_zero() { Duration::from_secs(1) } else { of_this_second }
}

/// Answers with what is true at this moment, for nobody to keep.
pub fn respond_now(body: &impl Serialize) -> Response {
    let response = Response::builder().header(header::CACHE_CONTROL, "no-store").content_type("application/json");
    response.body(serde_json::to_vec(body).unwrap_or_default())
}

/// Answers with a body that follows from its inputs alone: the tag is its hash.
pub fn respond_hashed(
    headers: &HeaderMap,
    content_type: &'static str,
    bytes: Vec<u8>,
    max_age_seconds: i64,
) -> Response {
    respond_as(headers, content_type, &Body::of(bytes), max_age_seconds)
}

/// The same for a body of any type.
pub fn respond_as(headers: &HeaderMap, content_type: &'static str, body: &Body, max_age_seconds: i64) -> Response {
    let answer = answer(headers, content_type, body, max_age_seconds);
    let mut response = Response::builder().status(answer.status).body(answer.bytes);
    *response.headers_mut() = answer.headers;
    response
}

/// An answer that no framework has seen yet.
pub struct Answer {
    /// 200 or 304.
    pub status: StatusCode,
    /// All that the body and the time say.
    pub headers: HeaderMap,
    /// Empty with 304.
    pub bytes: Bytes,
}

/// Answers with `body`, or 304 where the client has it in any encoding.
pub fn answer(request: &HeaderMap, content_type: &'static str, body: &Body, max_age_seconds: i64) -> Answer {
    let cache_control = cache_control(max_age_seconds);
    if let Some(tag) = known_tag(request, body) {
        return not_modified(with_tag(unchanged(cache_control), tag));
    }
    let variant = body.variant(Encodings::of(request).wanted());
    Answer { status: StatusCode::OK, headers: whole(content_type, &variant, cache_control), bytes: variant.bytes }
}

/// All answers with one body, for as long as they say the same `max-age`: what is asked for all the time is put together once.
pub struct Prepared {
    /// In the order of [`Encoding::ALL`], those the body has.
    variants: [Option<PreparedVariant>; Encoding::ALL.len()],
}

struct PreparedVariant {
    etag: HeaderValue,
    whole: HeaderMap,
    bytes: Bytes,
    /// What is said to a client that has it.
    unchanged: HeaderMap,
}

impl Prepared {
    /// With `body`. Every answer has the header `also`, for whoever sends it to set.
    pub fn of(content_type: &'static str, body: &Body, max_age_seconds: i64, also: &HeaderName) -> Self {
        let cache_control = cache_control(max_age_seconds);
        let with_also = |mut headers: HeaderMap| {
            headers.insert(also.clone(), HeaderValue::from_static(""));
            headers
        };
        let variants = Encoding::ALL.map(|encoding| {
            let variant = body.made(encoding)?;
            let etag = etag_value(&variant.etag);
            Some(PreparedVariant {
                whole: with_also(whole(content_type, variant, cache_control.clone())),
                bytes: variant.bytes.clone(),
                unchanged: with_also(with_tag(unchanged(cache_control.clone()), etag.clone())),
                etag,
            })
        });
        Self { variants }
    }

    /// The one for a request; `body` is that of [`Self::of`].
    pub fn answer(&self, request: &HeaderMap, body: &Body) -> Answer {
        if let Some(said) = request.get(header::IF_NONE_MATCH) {
            // Nearly always it is the tag of an answer that was given, and nothing else; a list or a weak one is looked at more closely.
            if let Some(variant) = self.variants.iter().flatten().find(|variant| variant.etag == *said) {
                return not_modified(variant.unchanged.clone());
            }
            let plain = self.variants[Encoding::Identity as usize].as_ref();
            if let Some((plain, tag)) = plain.zip(known_tag(request, body)) {
                return not_modified(with_tag(plain.unchanged.clone(), tag));
            }
        }
        let encodings = Encodings::of(request);
        let wanted = encodings.wanted().iter().chain([&Encoding::Identity]);
        let made = wanted.filter_map(|encoding| self.variants[*encoding as usize].as_ref()).next();
        // Any body is there as it is.
        let (headers, bytes) = made.map(|made| (made.whole.clone(), made.bytes.clone())).unwrap_or_default();
        Answer { status: StatusCode::OK, headers, bytes }
    }
}

fn not_modified(headers: HeaderMap) -> Answer {
    Answer { status: StatusCode::NOT_MODIFIED, headers, bytes: Bytes::new() }
}

/// What a 304 says of any body.
fn unchanged(cache_control: HeaderValue) -> HeaderMap {
    // Room for these, and for what every answer gets.
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding, origin"));
    headers.insert(header::CACHE_CONTROL, cache_control);
    headers
}

fn with_tag(mut headers: HeaderMap, tag: HeaderValue) -> HeaderMap {
    headers.insert(header::ETAG, tag);
    headers
}

/// What an answer says of its body.
fn whole(content_type: &'static str, variant: &Variant, cache_control: HeaderValue) -> HeaderMap {
    let mut headers = with_tag(unchanged(cache_control), etag_value(&variant.etag));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if variant.encoding != Encoding::Identity {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(variant.encoding.name()));
    }
    headers
}

fn cache_control(max_age_seconds: i64) -> HeaderValue {
    let text = format!("public, max-age={max_age_seconds}");
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("no-cache"))
}

/// The tag of the answer that the client has, in whichever encoding: that one is still right. `If-None-Match` compares weakly
/// (RFC 9110, 13.1.2): a proxy that compresses makes a tag weak.
fn known_tag(headers: &HeaderMap, body: &Body) -> Option<HeaderValue> {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags = tags.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.filter(|tag| *tag == "*" || body.is_named(tag))
        .map(|tag| match tag {
            "*" => etag_value(&body.plain().etag),
            tag => HeaderValue::from_str(tag).unwrap_or_else(|_| etag_value(&body.plain().etag)),
        })
        .next()
}

/// A tag is made of letters and digits, which any header takes.
fn etag_value(etag: &Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(etag.clone()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_in_a_list_weak_or_by_star_and_in_any_encoding() {
        let body = Body::of("what is sent");
        let stem = String::from_utf8(body.plain().etag.to_vec()).unwrap().replace('"', "");
        let known = |value: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
            known_tag(&headers, &body).map(|tag| tag.to_str().unwrap().replace(&stem, "TAG"))
        };
        assert_eq!(known(format!("\"{stem}\"")).as_deref(), Some("\"TAG\""));
        assert_eq!(known(format!("\"x\", W/\"{stem}-gzip\"")).as_deref(), Some("\"TAG-gzip\""));
        assert_eq!(known(format!("\"{stem}-br\", \"{stem}\"")).as_deref(), Some("\"TAG-br\""));
        assert_eq!(known("*".to_owned()).as_deref(), Some("\"TAG\""));
        for other in [format!("\"{stem}d\""), stem.clone(), format!("\"{stem}-xz\""), "\"\"".to_owned()] {
            assert_eq!(known(other.clone()), None, "{other}");
        }
    }
}
