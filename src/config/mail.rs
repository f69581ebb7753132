//! `mail.*`: the server that takes letters, and how fast they are brought to it.

use std::net::IpAddr;
use std::time::Duration;

use chrono::TimeDelta;
use lettre::message::Mailbox;
use rustls::pki_types::CertificateDer;
use secrecy::SecretString;

use super::paypal::read_certificates;
use super::reader::Reader;
use super::seconds;
use super::value::Origin;

/// Where TLS begins from the first byte: RFC 8314's, and the other one of Amazon SES.
const IMPLICIT_PORTS: [u16; 2] = [465, 2465];

/// How the way to the server is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSecurity {
    /// TLS after STARTTLS; without it nothing is said.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// None.
    Plain,
}

/// The server that takes letters.
#[derive(Debug, Clone)]
pub struct MailServer {
    /// Its name; its certificate must have it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is kept secret.
    pub security: MailSecurity,
    /// Name and password, where it wants them.
    pub credentials: Option<(String, SecretString)>,
    /// Whose letters they are.
    pub from: Mailbox,
    /// Certificates that are trusted beside the public roots.
    pub trust_roots: Vec<CertificateDer<'static>>,
}

/// How letters are sent.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// The server; `None`: letters wait.
    pub server: Option<MailServer>,
    /// The longest one step of the conversation may take.
    pub timeout: Duration,
    /// Letters a second, at most.
    pub per_second: u32,
    /// Letters of one run, at most.
    pub per_run: u32,
    /// For so long a letter is tried; one that is older is not sent any more.
    pub keep_trying: TimeDelta,
}

pub(super) fn read(reader: &mut Reader<'_>) -> MailConfig {
    MailConfig {
        server: read_server(reader),
        timeout: seconds(reader, "mail.timeout_seconds", 1..=300),
        per_second: reader.integer("mail.per_second", 1_u32..=1_000),
        per_run: reader.integer("mail.per_run", 1_u32..=100_000),
        keep_trying: TimeDelta::days(reader.integer("mail.keep_trying_days", 1_i64..=30)),
    }
}

fn read_server(reader: &mut Reader<'_>) -> Option<MailServer> {
    let host = reader.text("mail.host");
    let port = reader.integer("mail.port", 1_u16..=u16::MAX);
    let user = reader.text("mail.user");
    let password = reader.secret("mail.password");
    let said_tls = reader.boolean("mail.use_tls");
    let said_ssl = reader.boolean("mail.use_ssl");
    let from = reader.text("mail.from");
    let trust_roots = read_certificates(reader, "mail.trust_roots");
    let host = host?;
    let is_here = is_this_host(&host);
    // A server on this host has no certificate as a rule, and nobody in between.
    let use_tls = said_ssl || if reader.origin("mail.use_tls") == Origin::Unset { !is_here } else { said_tls };
    let from_the_first_byte =
        if reader.origin("mail.use_ssl") == Origin::Unset { IMPLICIT_PORTS.contains(&port) } else { said_ssl };
    let security = match (use_tls, from_the_first_byte) {
        (false, _) => MailSecurity::Plain,
        (true, true) => MailSecurity::Implicit,
        (true, false) => MailSecurity::StartTls,
    };
    let credentials = match (user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) => {
            reader.refuse("mail.password", "there is a name without its password", "set EMAIL_HOST_PASSWORD too");
            None
        }
        (None, Some(_)) => {
            reader.refuse("mail.user", "there is a password without its name", "set EMAIL_HOST_USER too");
            None
        }
    };
    if security == MailSecurity::Plain && credentials.is_some() && !is_here {
        let message = "the password would go over the net as it stands";
        reader.refuse("mail.use_tls", message, "set EMAIL_USE_TLS=true, or take name and password away");
    }
    let from = read_from(reader, from)?;
    Some(MailServer { host, port, security, credentials, from, trust_roots })
}

fn read_from(reader: &mut Reader<'_>, from: Option<String>) -> Option<Mailbox> {
    let fix = "write EMAIL_FROM=\"Name <address@example.com>\"";
    let Some(text) = from else {
        reader.refuse("mail.from", "letters need a sender", fix);
        return None;
    };
    let found = text.parse::<Mailbox>().ok().filter(|_| !text.chars().any(char::is_control));
    if found.is_none() {
        reader.refuse("mail.from", format!("{text:?} is no mail address"), fix);
    }
    found
}

fn is_this_host(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
