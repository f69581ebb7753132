//! Lists that are read from a file or fetched over HTTP: bounded in size and time, and not sent again when they are the same.

use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::io::AsyncReadExt;

use super::providers::FetchError;
use crate::config::Place;

/// The directories have less than half a megabyte, the SEC's list has one; more than this is something else.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The longest tag of a version that is kept.
const LONGEST_VALIDATOR: usize = 256;

/// What a server said by which it knows the version again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// It is the version that is known.
    Unchanged,
    /// Another one.
    New {
        /// Its text; bytes that are no UTF-8 are replaced.
        text: String,
        /// By which it is known again.
        validators: Validators,
    },
}

/// Reads lists.
#[derive(Debug)]
pub struct Documents {
    client: Client,
    timeout: Duration,
}

impl Documents {
    /// A client that says who it is. One download, redirects and body included, takes no longer than `timeout`.
    ///
    /// # Errors
    /// When the host has no usable TLS roots.
    pub fn new(contact: Option<&str>, timeout: Duration) -> Result<Self, FetchError> {
        let name = concat!("bellwether/", env!("CARGO_PKG_VERSION"));
        let agent = contact.map_or_else(|| name.to_owned(), |contact| format!("{name} ({contact})"));
        let client = Client::builder()
            .user_agent(agent)
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(10).min(timeout))
            .redirect(redirect::Policy::limited(3))
            // The URL of a list may hold a key, and a redirect may lead to somebody else.
            .referer(false)
            .build()
            .map_err(|fault| FetchError::Fail(format!("no HTTP client: {fault}")))?;
        Ok(Self { client, timeout })
    }

    /// Reads `place`. `known` are the validators of the version that is kept: where the server has no other it is not sent.
    ///
    /// # Errors
    /// When it cannot be had; the kind says whether trying again may help.
    pub async fn load(&self, place: &Place, known: Option<&Validators>) -> Result<Loaded, FetchError> {
        match place {
            Place::File(path) => {
                let read = tokio::time::timeout(self.timeout, read_file(path)).await;
                let text = read.unwrap_or_else(|_| Err("it could not be read in time".to_owned()));
                let text = text.map_err(|fault| FetchError::Fail(format!("{}: {fault}", path.display())))?;
                Ok(Loaded::New { text, validators: Validators::default() })
            }
            Place::Url(url) => self.fetch(url, &place.to_string(), known).await,
        }
    }

    async fn fetch(&self, url: &Url, name: &str, known: Option<&Validators>) -> Result<Loaded, FetchError> {
        let mut call = self.client.get(url.clone());
        if let Some(known) = known {
            let conditions = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
            for (header, value) in conditions {
                call = value.iter().fold(call, |call, value| call.header(header.clone(), value));
            }
        }
        let response = call.send().await.map_err(|fault| unreachable(name, &fault))?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Loaded::Unchanged);
        }
        if !status.is_success() {
            return Err(refusal(name, status, response.headers()));
        }
        let validators = Validators {
            etag: text_of(response.headers(), &ETAG),
            last_modified: text_of(response.headers(), &LAST_MODIFIED),
        };
        Ok(Loaded::New { text: read_bounded(response, name).await?, validators })
    }
}

async fn read_file(path: &std::path::Path) -> Result<String, String> {
    let file = tokio::fs::File::open(path).await.map_err(|fault| fault.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(|fault| fault.to_string())?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes; is it the right file?"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn read_bounded(mut response: Response, name: &str) -> Result<String, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|fault| unreachable(name, &fault))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::Fail(format!("{name}: it is larger than {MAX_BYTES} bytes; is it the right URL?")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (text.len() <= LONGEST_VALIDATOR).then(|| text.to_owned())
}

fn refusal(name: &str, status: StatusCode, headers: &HeaderMap) -> FetchError {
    let message = format!("{name}: HTTP {}", status.as_u16());
    let after = text_of(headers, &RETRY_AFTER).and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => FetchError::Retry { after, message },
        StatusCode::FORBIDDEN => FetchError::Fail(format!("{message}; name a contact in ingest.universe.contact")),
        _ if status.is_server_error() => FetchError::Retry { after, message },
        _ => FetchError::Fail(message),
    }
}

/// The fault's own words name the whole URL, which may hold a key; its source does not.
fn unreachable(name: &str, fault: &reqwest::Error) -> FetchError {
    let what = if fault.is_timeout() {
        "no whole answer in time"
    } else if fault.is_connect() {
        "no connection"
    } else {
        "the answer broke off"
    };
    let cause = std::error::Error::source(fault).map(|cause| format!(": {cause}")).unwrap_or_default();
    FetchError::Retry { after: None, message: format!("{name}: {what}{cause}") }
}
