//! PayPal's REST API: the token, and the few calls that are needed.
//!
//! <https://developer.paypal.com/api/rest/>. A token is kept until it ends or is refused; calls have deadlines and bounded answers.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tracing::debug;
use url::Url;

use super::Delivery;
use crate::clock::SharedClock;
use crate::config::{PayPalConfig, PayPalCredentials};

/// The longest one call may take, the whole answer included.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes: a page of events with their resources.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A token is renewed so long before its end.
const TOKEN_MARGIN: TimeDelta = TimeDelta::minutes(1);

/// Most events of one page of the list (PayPal's own limit).
pub const EVENTS_PER_PAGE: usize = 300;

/// Most transactions of one page (PayPal's own limit).
pub const TRANSACTIONS_PER_PAGE: usize = 500;

/// Why a call gave nothing; the kind is the decision. No message holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayPalError {
    /// Trying again may help.
    #[error("{message}")]
    Retry {
        /// Wait at least so long, where PayPal said so.
        after: Option<Duration>,
        /// What happened.
        message: String,
    },
    /// There is nothing of that id.
    #[error("{0}")]
    NotFound(String),
    /// Trying again will not help.
    #[error("{0}")]
    Fail(String),
}

struct Token {
    value: SecretString,
    ends: DateTime<Utc>,
}

/// The client of one account.
pub struct PayPalClient {
    http: Client,
    base: Url,
    credentials: PayPalCredentials,
    clock: SharedClock,
    token: Mutex<Option<Token>>,
}

impl std::fmt::Debug for PayPalClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayPalClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// An HTTP client that trusts the certificates of `paypal.trust_roots` beside the host's own, and follows nobody elsewhere.
///
/// # Errors
/// When the host has no usable TLS roots.
pub(super) fn http_client(config: &PayPalConfig, deadline: Duration) -> Result<Client, PayPalError> {
    let fault = |fault: reqwest::Error| PayPalError::Fail(format!("no HTTP client: {fault}"));
    let mut trusted = Vec::new();
    for root in &config.trust_roots {
        trusted.push(reqwest::Certificate::from_der(root.as_ref()).map_err(fault)?);
    }
    let builder = Client::builder()
        .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
        .timeout(deadline)
        .connect_timeout(deadline)
        .tls_certs_merge(trusted)
        .redirect(redirect::Policy::none());
    builder.build().map_err(fault)
}

impl PayPalClient {
    /// A client, where there are credentials; nothing is called yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots.
    pub fn new(config: &PayPalConfig, clock: SharedClock) -> Result<Option<Self>, PayPalError> {
        let Some(credentials) = config.credentials.clone() else { return Ok(None) };
        let http = http_client(config, CALL_DEADLINE)?;
        Ok(Some(Self { http, base: config.api_base.clone(), credentials, clock, token: Mutex::default() }))
    }

    /// Asks PayPal whether a delivery is its own. `event` must be JSON and is sent as it is, byte for byte.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn verify(&self, delivery: &Delivery, webhook_id: &str, event: &RawValue) -> Result<bool, PayPalError> {
        #[derive(Deserialize)]
        struct Answer {
            verification_status: String,
        }
        let word = |text: &str| Value::from(text).to_string();
        // Put together by hand: to write the event anew would be to ask about other bytes.
        let body = format!(
            "{{\"auth_algo\":\"SHA256withRSA\",\"cert_url\":{},\"transmission_id\":{},\"transmission_sig\":{},\
             \"transmission_time\":{},\"webhook_id\":{},\"webhook_event\":{}}}",
            word(&delivery.certificate_url),
            word(&delivery.transmission_id),
            word(&delivery.signature_text),
            word(&delivery.transmission_time),
            word(webhook_id),
            event.get()
        );
        let path = "/v1/notifications/verify-webhook-signature";
        let answer: Answer = self.call(Method::POST, path, &[], Some(body), None).await?;
        Ok(answer.verification_status == "SUCCESS")
    }

    /// The events PayPal made in `[from, to]`, whatever became of their delivery, oldest page last; follows at most `most_pages`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn events(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        most_pages: usize,
    ) -> Result<Vec<Value>, PayPalError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            events: Vec<Value>,
            #[serde(default)]
            links: Vec<Link>,
        }
        #[derive(Deserialize)]
        struct Link {
            rel: String,
            href: String,
        }
        let mut query = vec![
            ("page_size".to_owned(), EVENTS_PER_PAGE.to_string()),
            ("start_time".to_owned(), instant(from)),
            ("end_time".to_owned(), instant(to)),
        ];
        let mut path = "/v1/notifications/webhooks-events".to_owned();
        let mut found = Vec::new();
        for _ in 0..most_pages {
            let page: Page = self.call(Method::GET, &path, &query, None, None).await?;
            found.extend(page.events);
            let Some(next) = page.links.into_iter().find(|link| link.rel == "next") else { return Ok(found) };
            // Only its path and query: a link leads to no other host.
            let next =
                self.base.join(&next.href).map_err(|_| PayPalError::Fail("PayPal: a link that is none".into()))?;
            next.path().clone_into(&mut path);
            query = next.query_pairs().into_owned().collect();
        }
        Err(PayPalError::Fail(format!("PayPal: more than {most_pages} pages of events")))
    }

    /// The transactions of `[from, to]`, 31 days at most; PayPal's list is up to three hours late.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn transactions(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<Vec<Value>, PayPalError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            transaction_details: Vec<Value>,
            #[serde(default)]
            total_pages: usize,
        }
        let mut found = Vec::new();
        for page in 1.. {
            let query = [
                ("start_date".to_owned(), instant(from)),
                ("end_date".to_owned(), instant(to)),
                ("fields".to_owned(), "transaction_info".to_owned()),
                ("page_size".to_owned(), TRANSACTIONS_PER_PAGE.to_string()),
                ("page".to_owned(), page.to_string()),
            ];
            let path = "/v1/reporting/transactions";
            let got: Page = self.call(Method::GET, path, &query, None, None).await?;
            found.extend(got.transaction_details);
            if page >= got.total_pages {
                break;
            }
        }
        Ok(found)
    }

    /// A subscription as PayPal has it now.
    ///
    /// # Errors
    /// [`PayPalError::NotFound`], or when there is no answer.
    pub async fn subscription(&self, id: &str) -> Result<Value, PayPalError> {
        let path = format!("/v1/billing/subscriptions/{}", plain(id)?);
        self.call(Method::GET, &path, &[], None, None).await
    }

    /// The payments of a subscription in `[from, to]`, failed ones too. `request_id` is the same in each attempt.
    ///
    /// # Errors
    /// [`PayPalError::NotFound`], or when there is no answer.
    pub async fn subscription_payments(
        &self,
        id: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        request_id: &str,
    ) -> Result<Vec<Value>, PayPalError> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            transactions: Vec<Value>,
        }
        let path = format!("/v1/billing/subscriptions/{}/transactions", plain(id)?);
        let query = [("start_time".to_owned(), instant(from)), ("end_time".to_owned(), instant(to))];
        let list: List = self.call(Method::GET, &path, &query, None, Some(request_id)).await?;
        Ok(list.transactions)
    }

    /// Ends a subscription at PayPal; nothing happens when it has ended already. `request_id` is the same in each attempt.
    ///
    /// # Errors
    /// [`PayPalError::NotFound`], or when there is no answer.
    pub async fn cancel_subscription(&self, id: &str, reason: &str, request_id: &str) -> Result<(), PayPalError> {
        let path = format!("/v1/billing/subscriptions/{}/cancel", plain(id)?);
        let body = serde_json::json!({ "reason": reason }).to_string();
        self.send(Method::POST, &path, &[], Some(body), Some(request_id)).await.map(|_| ())
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(String, String)],
        body: Option<String>,
        request_id: Option<&str>,
    ) -> Result<T, PayPalError> {
        let bytes = self.send(method, path, query, body, request_id).await?;
        serde_json::from_slice(&bytes)
            .map_err(|fault| PayPalError::Fail(format!("PayPal: {path}: an answer that cannot be read: {fault}")))
    }

    /// One call; a token that is refused is renewed once.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(String, String)],
        body: Option<String>,
        request_id: Option<&str>,
    ) -> Result<Bytes, PayPalError> {
        let url = self.url(path, query)?;
        let mut refused: Option<SecretString> = None;
        loop {
            let token = self.token(refused.as_ref()).await?;
            let mut request = self.http.request(method.clone(), url.clone()).bearer_auth(token.expose_secret());
            request = request.header(ACCEPT, "application/json");
            if let Some(body) = &body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
            }
            if let Some(id) = request_id {
                request = request.header("PayPal-Request-Id", id);
            }
            match exchange(path, request).await {
                Err((StatusCode::UNAUTHORIZED, _)) if refused.is_none() => refused = Some(token),
                other => return other.map_err(|(_, fault)| fault),
            }
        }
    }

    fn url(&self, path: &str, query: &[(String, String)]) -> Result<Url, PayPalError> {
        let root = self.base.as_str().trim_end_matches('/');
        let mut url = Url::parse(&format!("{root}{path}"))
            .map_err(|fault| PayPalError::Fail(format!("paypal.api_base cannot take a path: {fault}")))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// The token in force; one that was refused, or is about to end, is renewed by whoever comes first.
    async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString, PayPalError> {
        #[derive(Deserialize)]
        struct Granted {
            access_token: String,
            expires_in: i64,
        }
        let mut kept = self.token.lock().await;
        let now = self.clock.now();
        if let Some(token) = &*kept
            && token.ends > now
            && refused.is_none_or(|refused| refused.expose_secret() != token.value.expose_secret())
        {
            return Ok(token.value.clone());
        }
        let path = "/v1/oauth2/token";
        let PayPalCredentials { client_id, secret } = &self.credentials;
        let request = self
            .http
            .post(self.url(path, &[])?)
            .basic_auth(client_id, Some(secret.expose_secret()))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        let bytes = exchange(path, request).await.map_err(|(status, fault)| match status {
            StatusCode::UNAUTHORIZED => {
                PayPalError::Fail("PayPal refuses PAYPAL_CLIENT_ID and PAYPAL_SECRET; check them and PAYPAL_ENV".into())
            }
            _ => fault,
        })?;
        let granted: Granted = serde_json::from_slice(&bytes)
            .map_err(|_| PayPalError::Fail("PayPal: the answer with the token cannot be read".to_owned()))?;
        let value = SecretString::from(granted.access_token);
        let span = TimeDelta::try_seconds(granted.expires_in).unwrap_or(TimeDelta::zero());
        *kept = Some(Token { value: value.clone(), ends: now + span - TOKEN_MARGIN });
        Ok(value)
    }
}

/// Sends a request and reads its answer whole. An error carries the status, which is 0 in effect (no answer) as 504.
async fn exchange(path: &str, request: RequestBuilder) -> Result<Bytes, (StatusCode, PayPalError)> {
    let away = |fault: reqwest::Error| {
        let what = if fault.is_timeout() { "no whole answer in time" } else { "no connection, or it broke off" };
        let message = format!("PayPal: {path}: {what}");
        debug!(error = ?fault, "a call to PayPal failed");
        (StatusCode::GATEWAY_TIMEOUT, PayPalError::Retry { after: None, message })
    };
    let mut response = request.send().await.map_err(away)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > MOST_BYTES {
            let message = format!("PayPal: {path}: the answer is larger than {MOST_BYTES} bytes");
            return Err((response.status(), PayPalError::Fail(message)));
        }
        body.extend_from_slice(&chunk);
    }
    if response.status().is_success() {
        Ok(body.into())
    } else {
        Err((response.status(), refusal(path, &response, &body)))
    }
}

/// `{"name":"..","message":"..","debug_id":".."}`; its support asks for the id.
fn refusal(path: &str, response: &Response, body: &[u8]) -> PayPalError {
    let status = response.status();
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let name = said["name"].as_str().or(said["error"].as_str()).unwrap_or("no name");
    let id = response.headers().get("paypal-debug-id").and_then(|id| id.to_str().ok()).unwrap_or("none");
    let message = format!("PayPal: {path}: HTTP {} {name} (debug id {id})", status.as_u16());
    let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    match status {
        StatusCode::NOT_FOUND => PayPalError::NotFound(message),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::UNAUTHORIZED => {
            PayPalError::Retry { after: after.map(Duration::from_secs), message }
        }
        _ if status.is_server_error() => PayPalError::Retry { after: after.map(Duration::from_secs), message },
        _ => PayPalError::Fail(message),
    }
}

/// An id that may be part of a path.
fn plain(id: &str) -> Result<&str, PayPalError> {
    let fine = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fine { Ok(id) } else { Err(PayPalError::NotFound(format!("{id:?} is no id of PayPal"))) }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
