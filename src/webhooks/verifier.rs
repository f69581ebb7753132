//! Whether a PayPal delivery is genuine: by its signature, with the certificate it names, or by asking PayPal.
//!
//! What is cheap is checked first, so that a stranger makes this daemon fetch nothing from anywhere but PayPal's hosts, and there
//! only little.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Client;
use serde_json::value::RawValue;
use tracing::{info, warn};
use url::Url;

use super::certificate::{ChainFault, Der, SigningCertificate, establish, read_file};
use super::client::{PayPalClient, PayPalError, http_client};
use super::{Delivery, Fault, Refusal, Verdict};
use crate::clock::SharedClock;
use crate::config::{PayPalConfig, PayPalStage, VerifyBy};
use crate::metrics;

/// The longest a certificate may take to come.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// The largest certificate file, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// Certificates that are kept. PayPal signs with one at a time.
const MOST_CERTIFICATES: usize = 16;

/// An address that gave nothing usable is not asked again for so long.
const REST: Duration = Duration::from_secs(30);

/// Fetches in any minute: strangers can name any file on PayPal's hosts.
const FETCHES_PER_MINUTE: usize = 20;

/// Missing issuers that are fetched for one chain.
const MOST_ISSUERS: usize = 3;

/// Who must have signed: the names in PayPal's signing certificates.
const LIVE_NAMES: &[&str] = &["messageverificationcerts.paypal.com"];
const SANDBOX_NAMES: &[&str] = &["messageverificationcerts.sandbox.paypal.com", "messageverificationcerts.paypal.com"];

#[derive(Default)]
struct Known {
    certificates: HashMap<String, Arc<SigningCertificate>>,
    /// Addresses that gave nothing, with when and what was wrong.
    failed: HashMap<String, (Duration, Fault)>,
    /// When the last fetches were, by monotonic time.
    fetches: Vec<Duration>,
}

/// Checks deliveries of one webhook.
pub struct Verifier {
    config: PayPalConfig,
    http: Client,
    client: Option<Arc<PayPalClient>>,
    clock: SharedClock,
    known: Mutex<Known>,
    /// One fetch at a time: the others find what it found.
    fetching: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("verify", &self.config.verify).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier; nothing is fetched yet. `client` is asked where the configuration says so, and where a chain cannot be built.
    ///
    /// # Errors
    /// When the host has no usable TLS roots.
    pub fn new(
        config: &PayPalConfig,
        client: Option<Arc<PayPalClient>>,
        clock: SharedClock,
    ) -> Result<Self, PayPalError> {
        let http = http_client(config, FETCH_DEADLINE)?;
        let config = config.clone();
        Ok(Self { config, http, client, clock, known: Mutex::default(), fetching: tokio::sync::Mutex::new(()) })
    }

    /// Whether the delivery is PayPal's own, sent for our webhook, within its window at `at`.
    ///
    /// # Errors
    /// [`Fault::Refused`] when it is not, [`Fault::Undecided`] when that cannot be told now.
    pub async fn verify(&self, delivery: &Delivery, body: &[u8], at: DateTime<Utc>) -> Result<Verdict, Fault> {
        let Some(webhook_id) = self.config.webhook_id.as_deref() else {
            let detail = "PAYPAL_WEBHOOK_ID is not set, so nothing PayPal sends can be believed";
            return Err(Fault::undecided("not_configured", detail));
        };
        delivery.check_time(at)?;
        let url = delivery.check_certificate_url(&self.config.cert_hosts)?;
        if self.config.verify == VerifyBy::Api {
            return self.ask(delivery, webhook_id, body).await;
        }
        match self.certificate(&url, at).await {
            Ok(certificate) => {
                certificate.check_signature(&delivery.signed_text(webhook_id, body), &delivery.signature)?;
                Ok(Verdict::Offline)
            }
            Err(Fault::Undecided { code, detail }) if self.client.is_some() => {
                info!(code, detail, "a signing certificate is not to be had; PayPal is asked");
                self.ask(delivery, webhook_id, body).await
            }
            Err(fault) => Err(fault),
        }
    }

    /// The same with a certificate file that is at hand, wherever the delivery says that it is.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify_with(
        &self,
        delivery: &Delivery,
        body: &[u8],
        file: &[u8],
        at: DateTime<Utc>,
    ) -> Result<Verdict, Fault> {
        let Some(webhook_id) = self.config.webhook_id.as_deref() else {
            return Err(Fault::undecided("not_configured", "PAYPAL_WEBHOOK_ID is not set"));
        };
        delivery.check_time(at)?;
        let chain = read_file(file).map_err(|fault| Refusal::new("certificate_malformed", fault))?;
        let certificate = self.follow(chain, at).await?;
        certificate.check_signature(&delivery.signed_text(webhook_id, body), &delivery.signature)?;
        Ok(Verdict::Offline)
    }

    async fn ask(&self, delivery: &Delivery, webhook_id: &str, body: &[u8]) -> Result<Verdict, Fault> {
        let Some(client) = &self.client else {
            let detail = "PayPal would have to be asked, and PAYPAL_CLIENT_ID and PAYPAL_SECRET are not set";
            return Err(Fault::undecided("not_configured", detail));
        };
        // Bytes that are not one JSON value would not stay in their place in the question.
        super::json::parse(body)?;
        let event: &RawValue =
            serde_json::from_slice(body).map_err(|fault| Refusal::new("not_json", fault.to_string()))?;
        match client.verify(delivery, webhook_id, event).await {
            Ok(true) => Ok(Verdict::Api),
            Ok(false) => Err(Refusal::new("signature", "PayPal says that this delivery is not its own").into()),
            Err(fault) => Err(Fault::undecided("paypal_unavailable", fault.to_string())),
        }
    }

    async fn certificate(&self, url: &Url, at: DateTime<Utc>) -> Result<Arc<SigningCertificate>, Fault> {
        if let Some(found) = self.kept(url, at) {
            return found;
        }
        let _one = self.fetching.lock().await;
        if let Some(found) = self.kept(url, at) {
            return found;
        }
        let found = self.fetch_and_follow(url, at).await;
        let mut known = self.lock();
        match &found {
            Ok(certificate) => {
                info!(url = %url, not_after = %certificate.not_after, "a signing certificate of PayPal is trusted");
                known.certificates.retain(|_, kept| kept.is_valid_at(at));
                if known.certificates.len() >= MOST_CERTIFICATES {
                    known.certificates.clear();
                }
                known.certificates.insert(url.to_string(), Arc::clone(certificate));
            }
            Err(fault) => {
                warn!(url = %url, code = fault.code(), error = %fault, "a signing certificate is not to be had, or not trusted");
                if known.failed.len() >= MOST_CERTIFICATES {
                    known.failed.clear();
                }
                known.failed.insert(url.to_string(), (self.clock.monotonic(), fault.clone()));
            }
        }
        found
    }

    /// What is known of an address: its certificate, or that it lately gave none.
    fn kept(&self, url: &Url, at: DateTime<Utc>) -> Option<Result<Arc<SigningCertificate>, Fault>> {
        let known = self.lock();
        if let Some(found) = known.certificates.get(url.as_str()).filter(|found| found.is_valid_at(at)) {
            return Some(Ok(Arc::clone(found)));
        }
        let (when, fault) = known.failed.get(url.as_str())?;
        (self.clock.monotonic().saturating_sub(*when) < REST).then(|| Err(fault.clone()))
    }

    async fn fetch_and_follow(&self, url: &Url, at: DateTime<Utc>) -> Result<Arc<SigningCertificate>, Fault> {
        let bytes = self.fetch(url).await?;
        let chain = read_file(&bytes).map_err(|fault| {
            Fault::undecided("certificate_unavailable", format!("{url} gave no certificate: {fault}"))
        })?;
        self.follow(chain, at).await.map(Arc::new)
    }

    /// Follows a chain to an anchor; issuers that are missing are fetched where that is allowed.
    async fn follow(&self, mut chain: Vec<Der>, at: DateTime<Utc>) -> Result<SigningCertificate, Fault> {
        let names = match self.config.stage {
            PayPalStage::Live => LIVE_NAMES,
            PayPalStage::Sandbox => SANDBOX_NAMES,
        };
        for _ in 0..=MOST_ISSUERS {
            let issuers = match establish(&chain, &self.config.trust_roots, names, at) {
                Ok(certificate) => return Ok(certificate),
                Err(ChainFault::Refused(refusal)) => return Err(refusal.into()),
                Err(ChainFault::Incomplete(issuers)) => issuers,
            };
            let Some(issuer) = self.issuer(&issuers, &chain).await else { break };
            chain.push(issuer);
        }
        let detail = "the issuer of the signing certificate is not to be found; add it to paypal.trust_roots, or set \
             PAYPAL_CLIENT_ID and PAYPAL_SECRET so that PayPal can be asked";
        Err(Fault::undecided("chain_incomplete", detail))
    }

    async fn issuer(&self, addresses: &[String], chain: &[Der]) -> Option<Der> {
        for address in addresses {
            let Ok(url) = Url::parse(address) else { continue };
            let host = url.host_str().unwrap_or_default();
            let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            let allowed = self.config.aia_hosts.iter().any(|known| known.eq_ignore_ascii_case(&host));
            // Plain http is how issuers are published; what comes is believed for its signature.
            if !allowed || !["http", "https"].contains(&url.scheme()) {
                continue;
            }
            let Ok(bytes) = self.fetch(&url).await else { continue };
            let found = read_file(&bytes).ok()?.into_iter().next()?;
            if !chain.contains(&found) {
                return Some(found);
            }
        }
        None
    }

    async fn fetch(&self, url: &Url) -> Result<Vec<u8>, Fault> {
        let away = |why: String| Fault::undecided("certificate_unavailable", format!("{url}: {why}"));
        if !self.may_fetch() {
            return Err(away(format!("more than {FETCHES_PER_MINUTE} certificates were asked for within a minute")));
        }
        metrics::certificate_fetched();
        let fetching = async {
            let mut response = self.http.get(url.clone()).send().await.map_err(|fault| words_of(&fault))?;
            if !response.status().is_success() {
                return Err(format!("HTTP {}", response.status().as_u16()));
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|fault| words_of(&fault))? {
                if bytes.len() + chunk.len() > MOST_BYTES {
                    return Err(format!("it is larger than {MOST_BYTES} bytes"));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        };
        fetching.await.map_err(away)
    }

    fn may_fetch(&self) -> bool {
        let (now, mut known) = (self.clock.monotonic(), self.lock());
        known.fetches.retain(|at| now.saturating_sub(*at) < Duration::from_mins(1));
        let may = known.fetches.len() < FETCHES_PER_MINUTE;
        if may {
            known.fetches.push(now);
        }
        may
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words_of(fault: &reqwest::Error) -> String {
    let what = if fault.is_timeout() { "no whole answer in time" } else { "no connection, or it broke off" };
    let causes = std::iter::successors(std::error::Error::source(fault), |cause| cause.source());
    causes.last().map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
