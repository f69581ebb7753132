//! What production refuses.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;
use super::{Config, ProviderConfig};

/// The shortest secret that production takes, in characters.
const SHORTEST_SECRET: usize = 32;

pub(super) fn refuse_exposure(reader: &mut Reader<'_>, config: &Config, secret_keys: &[SecretString]) {
    refuse_weak(reader, "secret_key", "SECRET_KEY", secret_keys);
    refuse_weak(reader, "cron_secret", "CRON_SECRET", &config.cron_secrets);
    if !config.operator_tokens.is_empty() {
        refuse_weak(reader, "operator_token", "OPERATOR_TOKEN", &config.operator_tokens);
    }
    if !config.site.tokens.is_empty() {
        refuse_weak(reader, "site.token", "SITE_TOKEN", &config.site.tokens);
    }
    if config.allowed_hosts.is_empty() || config.allowed_hosts.iter().any(|host| host == "*") {
        let fix = "name the hosts: ALLOWED_HOSTS=api.example.com";
        reader.refuse("allowed_hosts", "production must not answer to every host name", fix);
    }
    super::paypal::refuse_exposure(reader, config);
    if matches!(config.ingest.provider, ProviderConfig::Sim { .. }) {
        let fix = "set BELLWETHER_INGEST__PROVIDER=massive (or another real one) and its key";
        reader.refuse("ingest.provider", "production must not serve simulated prices", fix);
    }
}

fn refuse_weak(reader: &mut Reader<'_>, key: &str, name: &str, secrets: &[SecretString]) {
    let fix = format!("set {name} to at least {SHORTEST_SECRET} random characters, e.g. from `openssl rand -hex 32`");
    if secrets.is_empty() {
        reader.refuse(key, "production needs this secret", fix);
        return;
    }
    for secret in secrets {
        if let Some(fault) = weakness(secret.expose_secret()) {
            reader.refuse(key, fault, fix.clone());
        }
    }
}

fn weakness(secret: &str) -> Option<&'static str> {
    let lower = secret.to_lowercase();
    if secret.chars().count() < SHORTEST_SECRET {
        Some("the secret is too short")
    } else if secret.chars().collect::<BTreeSet<_>>().len() < 8 {
        Some("the secret repeats too few characters")
    } else if ["changeme", "change-me", "django-insecure", "password", "secret"].iter().any(|word| lower.contains(word))
    {
        Some("the secret looks like a placeholder")
    } else {
        None
    }
}
