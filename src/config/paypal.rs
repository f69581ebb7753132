//! `paypal.*`: the account, and how what it sends is verified.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::SecretString;
use url::{Host, Url};

use super::reader::Reader;
use super::{Config, Origin, Stage};

/// Which of PayPal's two worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayPalStage {
    /// Real money.
    Live,
    /// Play money.
    Sandbox,
}

/// How a delivery is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyBy {
    /// Here, by its signature; PayPal is asked only where a certificate cannot be followed to a root.
    Offline,
    /// By asking PayPal about each.
    Api,
}

/// What opens PayPal's API.
#[derive(Debug, Clone)]
pub struct PayPalCredentials {
    /// Of the app.
    pub client_id: String,
    /// Of the app.
    pub secret: SecretString,
}

/// The account, and how what it sends is verified.
#[derive(Debug, Clone)]
pub struct PayPalConfig {
    /// Live or sandbox.
    pub stage: PayPalStage,
    /// Root of the API.
    pub api_base: Url,
    /// Where there are any.
    pub credentials: Option<PayPalCredentials>,
    /// The webhook that deliveries are signed for; without it none is believed.
    pub webhook_id: Option<String>,
    /// How deliveries are verified.
    pub verify: VerifyBy,
    /// Hosts that signing certificates may be fetched from, `host` or `host:port`.
    pub cert_hosts: Vec<String>,
    /// Hosts that missing issuers may be fetched from.
    pub aia_hosts: Vec<String>,
    /// Certificates that are trusted beside the public roots.
    pub trust_roots: Vec<CertificateDer<'static>>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<PayPalConfig> {
    let stage = read_stage(reader);
    let api_base = read_api_base(reader, stage);
    let client_id = reader.text("paypal.client_id");
    let secret = reader.secret("paypal.secret");
    let webhook_id = read_webhook_id(reader);
    let verify = match reader.text("paypal.verify").as_deref() {
        Some("offline") => Some(VerifyBy::Offline),
        Some("api") => Some(VerifyBy::Api),
        other => {
            let message = format!("{:?} is no way to verify", other.unwrap_or_default());
            reader.refuse("paypal.verify", message, "write \"offline\" or \"api\"");
            None
        }
    };
    let mut cert_hosts = read_hosts(reader, "paypal.cert_hosts");
    if cert_hosts.is_empty() {
        let own = if stage == Some(PayPalStage::Live) { "api.paypal.com" } else { "api.sandbox.paypal.com" };
        cert_hosts.push(own.to_owned());
    }
    let aia_hosts = read_hosts(reader, "paypal.aia_hosts");
    let trust_roots = read_certificates(reader, "paypal.trust_roots");
    let credentials = match (client_id, secret) {
        (Some(client_id), Some(secret)) => Some(PayPalCredentials { client_id, secret }),
        (None, None) => None,
        (Some(_), None) => {
            reader.refuse("paypal.secret", "there is a client id without its secret", "set PAYPAL_SECRET too");
            None
        }
        (None, Some(_)) => {
            reader.refuse("paypal.client_id", "there is a secret without its client id", "set PAYPAL_CLIENT_ID too");
            None
        }
    };
    let verify = verify?;
    if verify == VerifyBy::Api && credentials.is_none() {
        let fix = "set PAYPAL_CLIENT_ID and PAYPAL_SECRET, or write \"offline\"";
        reader.refuse("paypal.verify", "PayPal cannot be asked without credentials", fix);
    }
    let (stage, api_base) = (stage?, api_base?);
    Some(PayPalConfig { stage, api_base, credentials, webhook_id, verify, cert_hosts, aia_hosts, trust_roots })
}

/// What production refuses of it.
pub(super) fn refuse_exposure(reader: &mut Reader<'_>, config: &Config) {
    if config.stage == Stage::Production && config.paypal.api_base.scheme() != "https" {
        reader.refuse("paypal.api_base", "production sends credentials over https only", "write https://HOST");
    }
    // By default it is the sandbox, whose money is none; whoever means it in production says so.
    let is_used = config.paypal.webhook_id.is_some() || config.paypal.credentials.is_some();
    if config.stage == Stage::Production && is_used && reader.origin("paypal.environment") == Origin::Default {
        let fault = "production must say whose PayPal it is: by default it is the sandbox";
        reader.refuse("paypal.environment", fault, "set PAYPAL_ENV=live (or sandbox, where nothing is real)");
    }
}

fn read_stage(reader: &mut Reader<'_>) -> Option<PayPalStage> {
    match reader.text("paypal.environment")?.to_lowercase().as_str() {
        "live" | "production" => Some(PayPalStage::Live),
        "sandbox" => Some(PayPalStage::Sandbox),
        other => {
            let message = format!("{other:?} is none of PayPal's environments");
            reader.refuse("paypal.environment", message, "write \"live\" or \"sandbox\"");
            None
        }
    }
}

fn read_api_base(reader: &mut Reader<'_>, stage: Option<PayPalStage>) -> Option<Url> {
    let said: Option<Url> = match reader.text("paypal.api_base") {
        None => {
            let own = if stage == Some(PayPalStage::Live) { "api-m.paypal.com" } else { "api-m.sandbox.paypal.com" };
            return Url::parse(&format!("https://{own}")).ok();
        }
        Some(text) => text.parse().ok(),
    };
    let on_this_host = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let fine = |url: &Url| url.scheme() == "https" && url.has_host() || url.scheme() == "http" && on_this_host(url);
    let found = said.filter(fine);
    if found.is_none() {
        let message = "this is not an https URL (http is taken for this host alone)";
        reader.refuse("paypal.api_base", message, "write https://HOST, or leave it unset for PayPal's own");
    }
    found
}

fn read_webhook_id(reader: &mut Reader<'_>) -> Option<String> {
    let id = reader.text("paypal.webhook_id")?;
    // An easy slip: events are called WH-.., webhooks are not.
    if id.starts_with("WH-") {
        let message = "this is the id of an event; the id of a webhook has no dash";
        reader.refuse("paypal.webhook_id", message, "copy the webhook's own id from the app's page at PayPal");
    } else if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let message = "this is no id of a webhook: letters, digits and underscores only";
        reader.refuse("paypal.webhook_id", message, "copy the webhook's own id from the app's page at PayPal");
    }
    Some(id)
}

fn read_hosts(reader: &mut Reader<'_>, key: &str) -> Vec<String> {
    let hosts = reader.list(key);
    for host in &hosts {
        let parsed = Url::parse(&format!("https://{host}/"));
        let plain = parsed.as_ref().is_ok_and(|url| {
            let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
            url.path() == "/" && format!("{}{port}", url.host_str().unwrap_or_default()).eq_ignore_ascii_case(host)
        });
        if !plain {
            let message = format!("{host:?} is not a host");
            reader.refuse(key, message, "write `host`, or `host:port` where the port is not 443; no *, no scheme");
        }
    }
    hosts
}

/// The certificates of a PEM file that a key names; none where it names none.
pub(super) fn read_certificates(reader: &mut Reader<'_>, key: &str) -> Vec<CertificateDer<'static>> {
    let Some(path) = reader.text(key) else { return Vec::new() };
    let read: Result<Vec<CertificateDer<'static>>, String> =
        CertificateDer::pem_file_iter(Path::new(&path)).and_then(Iterator::collect).map_err(|fault| fault.to_string());
    let fix = "name a readable PEM file of certificates";
    match read {
        Ok(certificates) if certificates.is_empty() => {
            reader.refuse(key, format!("{path} has no certificate in it"), fix);
        }
        Ok(certificates) => return certificates,
        Err(fault) => reader.refuse(key, format!("{path} cannot be read: {fault}"), fix),
    }
    Vec::new()
}
