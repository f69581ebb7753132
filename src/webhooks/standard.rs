//! PURE: signatures as the Standard Webhooks specification has them, for the site's own events: HMAC-SHA256 over
//! `id.timestamp.body`, base64, under `v1`. Two secrets are accepted while one is rotated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::Refusal;
use super::json::LONGEST_ID;

/// How far the sender's clock may be from ours, either way.
pub const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// Signatures of one delivery; more is no sender of ours.
const MOST_SIGNATURES: usize = 8;

/// The headers that the specification has.
pub const HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// Checks a delivery and gives its id; `values` gives every value of a header by its lower-case name.
///
/// # Errors
/// `header_missing`, `header_duplicate`, `header_malformed`, `too_old`, `from_the_future`, `signature`.
pub fn check<'h>(
    values: impl Fn(&'static str) -> Vec<&'h [u8]>,
    body: &[u8],
    secrets: &[SecretString],
    at: DateTime<Utc>,
) -> Result<String, Refusal> {
    let id = header("webhook-id", LONGEST_ID, &values("webhook-id"))?;
    let timestamp = header("webhook-timestamp", 20, &values("webhook-timestamp"))?;
    let signatures = header("webhook-signature", 2_048, &values("webhook-signature"))?;
    if id.contains(['.', ' ']) {
        return Err(Refusal::new("header_malformed", "webhook-id has a dot or a blank in it"));
    }
    let sent_at = timestamp.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let sent_at = sent_at.ok_or_else(|| Refusal::new("header_malformed", "webhook-timestamp is no Unix time"))?;
    let age = at.signed_duration_since(sent_at);
    if age > TOLERANCE {
        return Err(Refusal::new("too_old", "it was signed more than 5 minutes ago; sign it anew for each attempt"));
    }
    if -age > TOLERANCE {
        return Err(Refusal::new("from_the_future", "it says it was signed more than 5 minutes from now"));
    }
    let given: Vec<Vec<u8>> = signatures
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .take(MOST_SIGNATURES)
        .filter_map(|one| STANDARD.decode(one).ok())
        .collect();
    // Every pair is looked at, whichever matched.
    let matched = secrets.iter().fold(Choice::from(0), |matched, secret| {
        let ours = sign(secret, &id, &timestamp, body);
        given.iter().fold(matched, |matched, one| matched | one.as_slice().ct_eq(&ours))
    });
    if matched.into() { Ok(id) } else { Err(Refusal::new("signature", "no v1 signature of it is under our secret")) }
}

/// The signature of a body under a secret, which is base64 after `whsec_`, or taken as it stands.
pub fn sign(secret: &SecretString, id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    let text = secret.expose_secret();
    let key = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let key = key.unwrap_or_else(|| text.as_bytes().to_vec());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { unreachable!("a key of HMAC may have any length") };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn header(name: &str, longest: usize, values: &[&[u8]]) -> Result<String, Refusal> {
    let value = match values {
        [] | [b""] => return Err(Refusal::new("header_missing", format!("{name} is missing"))),
        [value] => value,
        _ => return Err(Refusal::new("header_duplicate", format!("{name} is there {} times", values.len()))),
    };
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= longest);
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
    text.map(str::to_owned).ok_or_else(|| Refusal::new("header_malformed", format!("{name} is not as it should be")))
}
