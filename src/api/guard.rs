//! Who may ask: the host name a request was sent to, and the shared secret of the cron calls.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::{Body, Endpoint, Request, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::App;
use super::error::Problem;
use crate::metrics;
use crate::webhooks::json;

/// Refuses requests for host names this daemon does not answer to, before anything else looks at them.
pub struct KnownHosts<E> {
    /// Which they are.
    pub app: Arc<App>,
    /// What answers.
    pub inner: E,
}

impl<E: Endpoint> Endpoint for KnownHosts<E> {
    type Output = E::Output;

    async fn call(&self, request: Request) -> Result<E::Output> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !is_known_host(&self.app.allowed_hosts, host) {
            metrics::http_rejected("host");
            let detail = "this host name is not served here; add it to allowed_hosts";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "unknown_host", detail).into());
        }
        self.inner.call(request).await
    }
}

/// Whether a `Host` header names one of `allowed`.
pub fn is_known_host(allowed: &[String], host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.');
    let ends_with = |suffix: &str| {
        name.len()
            .checked_sub(suffix.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    allowed.iter().any(|allowed| match allowed.strip_prefix('.') {
        _ if allowed == "*" => true,
        Some(domain) => name.eq_ignore_ascii_case(domain) || ends_with(allowed),
        None => name.eq_ignore_ascii_case(allowed),
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Checks `X-Cron-Secret` (or `X-Task-Secret`) against every accepted secret, in a time that says nothing about them.
///
/// # Errors
/// 403 `forbidden`, the same for a missing, a wrong and an unconfigured secret.
pub fn check_cron_secret(app: &App, request: &Request) -> Result<(), Problem> {
    let given = ["x-cron-secret", "x-task-secret"].iter().find_map(|name| request.headers().get(*name));
    if given.is_some_and(|given| is_one_of(&app.cron_secrets, given.as_bytes())) {
        return Ok(());
    }
    metrics::http_rejected("unauthorized");
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "Unauthorized"))
}

/// Checks `Authorization: Bearer` against every operator's token.
///
/// # Errors
/// 401 `unauthorized`, the same for a missing, a wrong and an unconfigured token.
pub fn check_operator(app: &App, request: &Request) -> Result<(), Problem> {
    check_bearer(
        &app.operator_tokens,
        request,
        "this call is for operators: send Authorization: Bearer with the token in OPERATOR_TOKEN",
    )
}

/// Checks `Authorization: Bearer` against every token of the site's server.
///
/// # Errors
/// 401 `unauthorized`, the same for a missing, a wrong and an unconfigured token.
pub fn check_site(app: &App, request: &Request) -> Result<(), Problem> {
    check_bearer(
        &app.site.tokens,
        request,
        "this call is for the site's server: send Authorization: Bearer with the token in SITE_TOKEN",
    )
}

fn check_bearer(tokens: &[SecretString], request: &Request, detail: &str) -> Result<(), Problem> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        given.and_then(|given| given.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if token.is_some_and(|(_, token)| is_one_of(tokens, token.trim().as_bytes())) {
        return Ok(());
    }
    metrics::http_rejected("unauthorized");
    Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail))
}

/// Reads a body within its limits of size and time.
///
/// # Errors
/// 413 `too_large`, 408 `slow_body`.
pub async fn read_body(app: &App, body: Body) -> Result<Vec<u8>, Problem> {
    match tokio::time::timeout(app.http.read_timeout, body.into_bytes_limit(app.http.max_body_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => {
            metrics::http_rejected("too_large");
            let detail = format!("the body is larger than {} bytes, or broke off", app.http.max_body_bytes);
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        }
        Err(_) => {
            metrics::http_rejected("slow_body");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_body", "the body did not come in time"))
        }
    }
}

/// Reads a body that is one JSON object, with no name in it twice.
///
/// # Errors
/// As [`read_body`], and 400 `bad_body`.
pub async fn read_object<T: DeserializeOwned>(app: &App, body: Body) -> Result<T, Problem> {
    let bytes = read_body(app, body).await?;
    let refused = |fault: String| Problem::new(StatusCode::BAD_REQUEST, "bad_body", format!("the body: {fault}"));
    let value = json::parse(&bytes).map_err(|fault| refused(fault.detail))?;
    serde_json::from_value(value).map_err(|fault| refused(fault.to_string()))
}

/// Digests are compared, so that not even the length of a secret shows; every secret is looked at, whichever matched.
fn is_one_of(secrets: &[SecretString], given: &[u8]) -> bool {
    let given = Sha256::digest(given);
    let matched = secrets.iter().fold(Choice::from(0), |matched, secret| {
        matched | Sha256::digest(secret.expose_secret().as_bytes()).ct_eq(&given)
    });
    matched.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_name_by_domain_or_always() {
        let allowed =
            |names: &[&str], host| is_known_host(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), host);
        assert!(allowed(&["*"], "anything"));
        assert!(allowed(&["api.example.com"], "API.example.com:8443"));
        assert!(!allowed(&["api.example.com"], "example.com"));
        assert!(allowed(&[".example.com"], "a.example.com"));
        assert!(allowed(&[".example.com"], "example.com"));
        assert!(!allowed(&[".example.com"], "badexample.com"));
        assert!(!allowed(&[], "localhost"));
        assert!(allowed(&["[::1]"], "[::1]:8000"));
    }

    #[test]
    fn both_secrets_open_while_one_is_rotated_and_no_other() {
        let secrets = ["new-secret", "old-secret"].map(|s| SecretString::from(s.to_owned()));
        assert!(is_one_of(&secrets, b"new-secret") && is_one_of(&secrets, b"old-secret"));
        assert!(!is_one_of(&secrets, b"old-secre") && !is_one_of(&secrets, b"") && !is_one_of(&[], b""));
    }
}
