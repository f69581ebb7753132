//! The site's own back end, where it still renews subscriptions itself (`renewals.mode = "http"`).

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

/// The longest that the site may take for a run.
const DEADLINE: Duration = Duration::from_mins(10);

/// The longest until it takes the call.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Why the site's run did not go well; the kind is the decision. No message holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteFault {
    /// Trying again may help.
    #[error("{0}")]
    Later(String),
    /// Trying again will not help.
    #[error("{0}")]
    Never(String),
}

/// Asks the site.
#[derive(Debug)]
pub struct SiteClient {
    http: Client,
    url: Url,
    secret: SecretString,
}

impl SiteClient {
    /// A client; nothing is called yet. `base` is `API_BASE_URL`.
    ///
    /// # Errors
    /// When the host has no usable TLS roots, or `base` cannot take a path.
    pub fn new(base: &Url, secret: SecretString) -> Result<Self, SiteFault> {
        let never = |fault: &dyn std::fmt::Display| SiteFault::Never(fault.to_string());
        let builder = Client::builder().user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION"))).timeout(DEADLINE);
        // A redirect would carry the secret elsewhere.
        let builder = builder.connect_timeout(CONNECT_DEADLINE).redirect(redirect::Policy::none());
        let http = builder.build().map_err(|fault| never(&fault))?;
        let url = format!("{}/api/billing/process-renewals", base.as_str().trim_end_matches('/'));
        Ok(Self { http, url: Url::parse(&url).map_err(|fault| never(&fault))?, secret })
    }

    /// Has the site renew what is due there, and gives its summary. Only its own word that it went well counts, not any answer.
    ///
    /// # Errors
    /// Whether it is worth trying again.
    pub async fn process_renewals(&self, limit: u32, run: Uuid) -> Result<Value, SiteFault> {
        let later = |what: &str| SiteFault::Later(format!("{}: {what}", self.url));
        let away = |fault: reqwest::Error| match fault.is_timeout() {
            true => later("no whole answer in time"),
            false => later("no connection, or it broke off"),
        };
        let request = self.http.post(self.url.clone()).header("X-Cron-Secret", self.secret.expose_secret());
        let request = request.header("Idempotency-Key", run.to_string()).header("Content-Type", "application/json");
        let mut response = request.body(json!({ "limit": limit }).to_string()).send().await.map_err(away)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(SiteFault::Never(format!("{}: the answer is larger than {MOST_BYTES} bytes", self.url)));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                return Err(later(&format!("it answered {status}")));
            }
            status if status.is_server_error() => return Err(later(&format!("it answered {status}"))),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                let fix = "it refuses the secret; CRON_SECRET must be the site's";
                return Err(SiteFault::Never(format!("{}: {fix}", self.url)));
            }
            status => return Err(SiteFault::Never(format!("{}: it answered {status}", self.url))),
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| later("its answer is not JSON"))?;
        if answer["success"] != true {
            return Err(later("it says itself that the run did not go well"));
        }
        Ok(answer["summary"].clone())
    }
}
