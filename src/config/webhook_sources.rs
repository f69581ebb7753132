//! `[[webhook_source]]`: senders of the site's own events, each with its secret.

use secrecy::SecretString;

use super::reader::Reader;

/// The shortest secret that is taken, in characters.
const SHORTEST_SECRET: usize = 24;

/// One `[[webhook_source]]`.
#[derive(Debug, Clone)]
pub struct WebhookSource {
    /// Its name: the last part of its path.
    pub name: String,
    /// What it signs with; two while one is rotated.
    pub secrets: Vec<SecretString>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Vec<WebhookSource> {
    use secrecy::ExposeSecret;
    let mut sources: Vec<WebhookSource> = Vec::new();
    for (key, origin) in reader.entries("webhook_source") {
        let (name_key, secret_key) = (format!("{key}.name"), format!("{key}.secret"));
        let name = reader.text(&name_key).unwrap_or_default();
        let secrets = reader.secrets(&secret_key);
        let is_plain =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if name.is_empty() || name.len() > 32 || !is_plain(&name) || ["paypal", "replay"].contains(&name.as_str()) {
            let message = format!("{name:?} is no name for a source");
            reader.refuse_at(
                &name_key,
                origin.clone(),
                message,
                "write up to 32 lower-case letters, digits and dashes; not \"paypal\"",
            );
        } else if sources.iter().any(|other| other.name == name) {
            reader.refuse_at(
                &name_key,
                origin.clone(),
                format!("there are two sources {name:?}"),
                "give each a name of its own",
            );
        }
        if secrets.is_empty() || secrets.iter().any(|secret| secret.expose_secret().chars().count() < SHORTEST_SECRET) {
            let fix =
                format!("give it {SHORTEST_SECRET} random characters or more, as they are or base64 after whsec_");
            reader.refuse_at(&secret_key, origin, "a source needs a secret that cannot be guessed", fix);
        }
        sources.push(WebhookSource { name, secrets });
    }
    sources
}
