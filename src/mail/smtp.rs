//! The conversation with the server that takes letters (SMTP, by lettre), each step under a deadline.
//!
//! Steps are said one by one, because what an answer means depends on the step: a 5xx to a recipient is the end of that letter, and
//! one to a name and password says nothing about letters at all.

use std::sync::Arc;
use std::time::Duration;

use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::transport::smtp::response::Response;
use secrecy::ExposeSecret;

use super::Composed;
use crate::clock::{GovernorClock, SharedClock};
use crate::config::{MailConfig, MailSecurity, MailServer};

/// The longest a server's own words are repeated, in characters.
const LONGEST_WORDS: usize = 300;

/// The server is going away (RFC 5321).
const CLOSING: u16 = 421;

/// No letter can be sent now, whichever it is; the words never hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server}: {words}")]
pub struct Trouble {
    /// Which server.
    pub server: String,
    /// What is wrong.
    pub words: String,
}

/// Why one letter was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// It never will be: the address, or what is in it.
    Refused(String),
    /// It may be, later; the conversation goes on.
    Later(String),
    /// The conversation is over, and nothing of the letter had been said.
    Closed(String),
    /// The conversation is over. Where the whole letter had been said it may have arrived.
    Lost(String),
}

/// Brings letters to the server.
pub struct Mailer {
    server: MailServer,
    timeout: Duration,
    limiter: RateLimiter<NotKeyed, InMemoryState, GovernorClock, NoOpMiddleware<Nanos>>,
    clock: SharedClock,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").field("server", &self.name()).finish_non_exhaustive()
    }
}

/// A conversation in which letters can be handed over.
pub struct Session<'m> {
    mailer: &'m Mailer,
    connection: AsyncSmtpConnection,
    /// Why no other letter can be handed over in it.
    over: Option<String>,
}

impl Mailer {
    /// With the server of the configuration; `None`: there is none.
    pub fn new(config: &MailConfig, clock: SharedClock) -> Option<Self> {
        let server = config.server.clone()?;
        let per_second = config.per_second.try_into().unwrap_or(std::num::NonZeroU32::MIN);
        let limiter =
            RateLimiter::direct_with_clock(Quota::per_second(per_second), GovernorClock::new(Arc::clone(&clock)));
        Some(Self { server, timeout: config.timeout, limiter, clock })
    }

    /// Whose letters they are.
    pub fn from(&self) -> &Mailbox {
        &self.server.from
    }

    /// The server, for people.
    pub fn name(&self) -> String {
        format!("{}:{}", self.server.host, self.server.port)
    }

    /// The longest that one letter may take.
    pub fn longest_letter(&self) -> Duration {
        // MAIL, RCPT, DATA, the letter, and RSET after a refusal.
        self.timeout * 5
    }

    /// Waits until the next letter may be sent by the limit of letters a second.
    pub async fn turn(&self) {
        while let Err(denied) = self.limiter.check() {
            let now = GovernorClock::new(Arc::clone(&self.clock)).instant();
            // A microsecond more, because the clock of dates is coarser than the limiter's.
            self.clock.sleep(denied.wait_time_from(now) + Duration::from_micros(1)).await;
        }
    }

    /// Begins a conversation: connected, encrypted where that is wanted, known by name and password.
    ///
    /// # Errors
    /// When the server cannot be reached, is not who it should be, does not encrypt, or does not know us.
    pub async fn connect(&self) -> Result<Session<'_>, Trouble> {
        let MailServer { host, port, security, credentials, from, .. } = &self.server;
        let hello = ClientId::Domain(from.email.domain().to_owned());
        let tls = match security {
            MailSecurity::Plain => None,
            MailSecurity::StartTls | MailSecurity::Implicit => Some(self.tls()?),
        };
        let (at_once, afterwards) = match security {
            MailSecurity::Implicit => (tls, None),
            MailSecurity::StartTls | MailSecurity::Plain => (None, tls),
        };
        let address = (host.as_str(), *port);
        let connecting = AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout), &hello, at_once, None);
        let mut connection = self.step("it cannot be reached", connecting).await?;
        if let Some(tls) = afterwards {
            if !connection.can_starttls() {
                let words = "it does not offer STARTTLS, so it was told nothing; is something in between? \
                             EMAIL_USE_TLS=false would send as it stands";
                return Err(self.trouble(words.to_owned()));
            }
            self.step("STARTTLS failed", connection.starttls(tls, &hello)).await?;
        }
        if let Some((user, password)) = credentials {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            self.step("name and password", connection.auth(&mechanisms, &credentials)).await?;
        }
        Ok(Session { mailer: self, connection, over: None })
    }

    fn tls(&self) -> Result<TlsParameters, Trouble> {
        let unusable = |fault: Error| self.trouble(format!("its certificates cannot be checked: {}", told(&fault)));
        let mut parameters = TlsParameters::builder(self.server.host.clone());
        for root in &self.server.trust_roots {
            parameters = parameters.add_root_certificate(Certificate::from_der(root.to_vec()).map_err(unusable)?);
        }
        parameters.build().map_err(unusable)
    }

    fn trouble(&self, words: String) -> Trouble {
        Trouble { server: self.name(), words }
    }

    async fn step<T>(&self, what: &str, step: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.timeout, step).await {
            Ok(done) => done.map_err(|fault| self.trouble(format!("{what}: {}", told(&fault)))),
            Err(_) => Err(self.trouble(format!("{what}: no answer within {} s", self.timeout.as_secs()))),
        }
    }
}

/// At which step of a letter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Sender,
    Recipient,
    Begin,
    Words,
}

impl Session<'_> {
    /// Hands a letter over; `Ok` means that the server answers for it from now on. Gives its last words.
    ///
    /// # Errors
    /// Why it did not take it. After [`Undelivered::Closed`] and [`Undelivered::Lost`] the session is of no use.
    pub async fn send(&mut self, letter: &Composed) -> Result<String, Undelivered> {
        if let Some(words) = &self.over {
            return Err(Undelivered::Closed(words.clone()));
        }
        let (envelope, timeout) = (&letter.envelope, self.mailer.timeout);
        let connection = &mut self.connection;
        let mut parameters = Vec::new();
        if !envelope.to().iter().all(|address| AsRef::<str>::as_ref(address).is_ascii()) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Undelivered::Refused("the server takes no address with letters beyond ASCII".to_owned()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        answer_to(timeout, Step::Sender, connection.command(Mail::new(envelope.from().cloned(), parameters))).await?;
        for recipient in envelope.to() {
            let rcpt = connection.command(Rcpt::new(recipient.clone(), Vec::new()));
            if let Err(fault) = answer_to(timeout, Step::Recipient, rcpt).await {
                return Err(self.begin_anew(fault).await);
            }
        }
        if let Err(fault) = answer_to(timeout, Step::Begin, connection.command(Data)).await {
            return Err(self.begin_anew(fault).await);
        }
        answer_to(timeout, Step::Words, connection.message(&letter.bytes)).await
    }

    /// After a refusal the next letter begins with nothing of this one.
    async fn begin_anew(&mut self, fault: Undelivered) -> Undelivered {
        if !matches!(fault, Undelivered::Lost(_)) {
            // What was said of this letter holds in any case. Without an answer to this the next letter would take it for one of its own,
            // and so on, one behind, up to the one that says whether it was taken.
            let reset = answer_to(self.mailer.timeout, Step::Begin, self.connection.command(Rset)).await;
            self.over = reset.err().map(|_| "it did not answer to RSET as it should".to_owned());
        }
        fault
    }

    /// Says goodbye. Whether that is heard does not matter.
    pub async fn end(mut self) {
        let _ = tokio::time::timeout(self.mailer.timeout, self.connection.quit()).await;
    }
}

/// One step of a letter, and what its answer means.
async fn answer_to(
    timeout: Duration,
    step: Step,
    saying: impl Future<Output = Result<Response, Error>>,
) -> Result<String, Undelivered> {
    let may_have_arrived = if step == Step::Words { "; it may have arrived" } else { "" };
    let Ok(answered) = tokio::time::timeout(timeout, saying).await else {
        let words = format!("no answer within {} s{may_have_arrived}", timeout.as_secs());
        return Err(if step == Step::Sender { Undelivered::Closed(words) } else { Undelivered::Lost(words) });
    };
    let fault = match answered {
        Ok(answer) => return Ok(shortened(&answer.message().collect::<Vec<_>>().join(" "))),
        Err(fault) => fault,
    };
    let code = fault.status().map(u16::from);
    let words = told(&fault);
    Err(match code {
        Some(CLOSING) if step == Step::Sender => Undelivered::Closed(words),
        Some(CLOSING) => Undelivered::Lost(words),
        // It takes no letters of ours at all, now: that is not this letter's doing.
        Some(500..) if step == Step::Sender => Undelivered::Closed(format!("it refuses this sender: {words}")),
        Some(500..) => Undelivered::Refused(words),
        Some(_) => Undelivered::Later(words),
        None if step == Step::Sender => Undelivered::Closed(words),
        None => Undelivered::Lost(format!("{words}{may_have_arrived}")),
    })
}

/// What happened, in the server's own words where it has said any.
fn told(fault: &Error) -> String {
    let mut words = fault.to_string();
    let mut source = std::error::Error::source(fault).and_then(std::error::Error::source);
    while let Some(inner) = source {
        words = format!("{words}: {inner}");
        source = inner.source();
    }
    shortened(&words)
}

fn shortened(words: &str) -> String {
    let plain = words.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    plain.take(LONGEST_WORDS).collect()
}
