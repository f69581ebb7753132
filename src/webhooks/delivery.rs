//! PURE: the five headers of a PayPal delivery, where its certificate may be, and the text that is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use url::Url;

use super::Refusal;

/// PayPal tries for three days; what is older was recorded and is played again.
pub const OLDEST: TimeDelta = TimeDelta::days(4);

/// How far ahead of ours PayPal's clock may be.
pub const FURTHEST_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// The only algorithm PayPal uses, and so the only one that is taken.
const ALGORITHM: &str = "SHA256withRSA";

/// Where PayPal keeps its certificates, on each of its hosts.
const CERTIFICATES: &str = "/v1/notifications/certs/";

/// Name and largest length of each header, in bytes. PayPal documents 50, and 500 for the signature, which a key of 4,096 bits
/// would exceed.
const HEADERS: [(&str, usize); 5] = [
    ("paypal-transmission-id", 50),
    ("paypal-transmission-time", 64),
    ("paypal-transmission-sig", 1_024),
    ("paypal-cert-url", 500),
    ("paypal-auth-algo", 64),
];

/// What comes with the body of a PayPal event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// PayPal's name for this attempt to deliver.
    pub transmission_id: String,
    /// When it was sent, as it was written: this text is what is signed.
    pub transmission_time: String,
    /// The same as an instant.
    pub sent_at: DateTime<Utc>,
    /// The signature as it was written, for PayPal's own API.
    pub signature_text: String,
    /// The signature.
    pub signature: Vec<u8>,
    /// Where the signing certificate is said to be.
    pub certificate_url: String,
}

impl Delivery {
    /// Reads the headers; `values` gives every value of a header by its lower-case name.
    ///
    /// # Errors
    /// `header_missing`, `header_duplicate`, `header_malformed`, `algorithm`.
    pub fn read<'h>(values: impl Fn(&'static str) -> Vec<&'h [u8]>) -> Result<Self, Refusal> {
        let mut texts = Vec::with_capacity(HEADERS.len());
        for (name, longest) in HEADERS {
            texts.push(header(name, longest, &values(name))?);
        }
        let Ok([transmission_id, transmission_time, signature_text, certificate_url, algorithm]) =
            <[String; 5]>::try_from(texts)
        else {
            return Err(Refusal::new("header_missing", "a PayPal delivery has five headers"));
        };
        if algorithm != ALGORITHM {
            return Err(Refusal::new("algorithm", format!("paypal-auth-algo must be {ALGORITHM}")));
        }
        // The parts of the signed text are parted by bars, so none may be in a part.
        if transmission_id.contains('|') {
            return Err(Refusal::new("header_malformed", "paypal-transmission-id has a bar in it"));
        }
        let sent_at = DateTime::parse_from_rfc3339(&transmission_time)
            .map_err(|_| Refusal::new("header_malformed", "paypal-transmission-time is not an RFC 3339 instant"))?
            .with_timezone(&Utc);
        let signature = STANDARD
            .decode(&signature_text)
            .map_err(|_| Refusal::new("header_malformed", "paypal-transmission-sig is not base64"))?;
        Ok(Self { transmission_id, transmission_time, sent_at, signature_text, signature, certificate_url })
    }

    /// Whether it was sent within the window at `at`.
    ///
    /// # Errors
    /// `too_old`, `from_the_future`.
    pub fn check_time(&self, at: DateTime<Utc>) -> Result<(), Refusal> {
        let age = at.signed_duration_since(self.sent_at);
        if age > OLDEST {
            let detail = format!("it was sent more than {} days ago, at {}", OLDEST.num_days(), self.transmission_time);
            return Err(Refusal::new("too_old", detail));
        }
        if -age > FURTHEST_AHEAD {
            let minutes = FURTHEST_AHEAD.num_minutes();
            let detail = format!("it says it was sent more than {minutes} minutes from now; check this host's clock");
            return Err(Refusal::new("from_the_future", detail));
        }
        Ok(())
    }

    /// The text that PayPal signed, for the webhook that is ours and the bytes that came.
    pub fn signed_text(&self, webhook_id: &str, body: &[u8]) -> String {
        let checksum = crc32fast::hash(body);
        format!("{}|{}|{webhook_id}|{checksum}", self.transmission_id, self.transmission_time)
    }

    /// Where the certificate may be fetched, if it may be.
    ///
    /// # Errors
    /// `certificate_url`.
    pub fn check_certificate_url(&self, hosts: &[String]) -> Result<Url, Refusal> {
        let refused = |why: &str| Refusal::new("certificate_url", format!("paypal-cert-url {why}"));
        let url = Url::parse(&self.certificate_url).map_err(|_| refused("is not a URL"))?;
        if url.scheme() != "https" {
            return Err(refused("is not https"));
        }
        if !url.username().is_empty() || url.password().is_some() || self.certificate_url.contains('@') {
            return Err(refused("has a user in it"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("has a query or a fragment"));
        }
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if !hosts.iter().any(|known| known.eq_ignore_ascii_case(&host)) {
            return Err(refused("is on a host that is not in paypal.cert_hosts; nothing was fetched"));
        }
        // What a parser has to tidy up first may mean another place to another parser.
        if url.as_str() != self.certificate_url {
            return Err(refused("is not written in its plain form"));
        }
        let name = url.path().strip_prefix(CERTIFICATES);
        if name.is_none_or(|name| name.is_empty() || name.contains(['%', '\\'])) {
            return Err(refused("is not below /v1/notifications/certs/"));
        }
        Ok(url)
    }
}

fn header(name: &str, longest: usize, values: &[&[u8]]) -> Result<String, Refusal> {
    let value = match values {
        [] => return Err(Refusal::new("header_missing", format!("{name} is missing"))),
        [value] => value,
        _ => return Err(Refusal::new("header_duplicate", format!("{name} is there {} times", values.len()))),
    };
    if value.is_empty() {
        return Err(Refusal::new("header_missing", format!("{name} is empty")));
    }
    if value.len() > longest {
        return Err(Refusal::new("header_malformed", format!("{name} is longer than {longest} bytes")));
    }
    match std::str::from_utf8(value) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(Refusal::new("header_malformed", format!("{name} has characters that do not belong there"))),
    }
}
