//! A mail server on loopback: a real conversation, with STARTTLS under a CA of its own, names and passwords, and everything that can
//! go wrong on the way.

mod conversation;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub const USER: &str = "AKIA-CANARY-USER";
pub const PASSWORD: &str = "canary-mail-password";

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// STARTTLS, then name and password, as Amazon SES on 587.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// No TLS, nobody asked for a name.
    Plain,
    /// Somebody in between has taken STARTTLS out.
    Stripped,
    /// Its certificate is for another name.
    OtherName,
}

/// What goes wrong, once each, in the order of their steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// This instead of the greeting.
    Greeting(&'static str),
    /// This instead of 235.
    Login(&'static str),
    /// This instead of 250 to MAIL.
    Sender(&'static str),
    /// This instead of 250 to RCPT, for addresses that begin so.
    Recipient(&'static str, &'static str),
    /// This instead of 354.
    Data(&'static str),
    /// This after the letter; it is not kept.
    Letter(&'static str),
    /// The letter is kept, and the connection is gone before the answer.
    DropAfterLetter,
    /// The letter is kept, and the answer waits until it is let go.
    HoldAnswer,
    /// No answer at all to RCPT.
    Silence,
    /// The answer to RSET comes when the next word is said, before the answer to that.
    LateReset,
}

/// A letter as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub from: String,
    pub to: String,
    pub data: String,
    pub encrypted: bool,
    pub authenticated: bool,
}

impl Received {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.data.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        let mark = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&mark)).map(str::to_owned)
    }

    pub fn message_id(&self) -> String {
        self.header("Message-ID").unwrap()
    }
}

#[derive(Default)]
pub struct State {
    pub letters: Vec<Received>,
    pub troubles: VecDeque<Trouble>,
    /// Every line a client has said before TLS.
    pub said_in_clear: Vec<String>,
    pub connections: usize,
    /// Conversations under way.
    pub open: usize,
}

pub struct SimSmtp {
    pub address: SocketAddr,
    manner: Manner,
    directory: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    /// Lets held answers go.
    answers: Arc<Semaphore>,
}

impl SimSmtp {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (root, tls) = certificates(if manner == Manner::OtherName { "elsewhere.example" } else { "localhost" });
        std::fs::write(directory.path().join("ca.pem"), root).unwrap();
        let (state, answers) = (Arc::<Mutex<State>>::default(), Arc::new(Semaphore::new(0)));
        let server = conversation::Server {
            manner,
            tls: tokio_rustls::TlsAcceptor::from(tls),
            state: Arc::clone(&state),
            answers: Arc::clone(&answers),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().converse(stream));
            }
        });
        Self { address, manner, directory, state, answers }
    }

    /// The PEM file of its root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// How a daemon is told of it.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = vec![
            ("EMAIL_HOST", "localhost".to_owned()),
            ("EMAIL_PORT", self.address.port().to_string()),
            ("EMAIL_FROM", "The Scanner <billing@site.example>".to_owned()),
            ("BELLWETHER_MAIL__TRUST_ROOTS", self.root().display().to_string()),
            ("BELLWETHER_MAIL__TIMEOUT_SECONDS", "20".to_owned()),
        ];
        if self.manner != Manner::Plain {
            settings.push(("EMAIL_HOST_USER", USER.to_owned()));
            settings.push(("EMAIL_HOST_PASSWORD", PASSWORD.to_owned()));
            settings.push(("EMAIL_USE_TLS", "true".to_owned()));
            settings.push(("EMAIL_USE_SSL", (self.manner == Manner::Implicit).to_string()));
        }
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.lock().troubles.push_back(trouble);
    }

    pub fn letters(&self) -> Vec<Received> {
        self.lock().letters.clone()
    }

    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Whether somebody is talking to it.
    pub fn is_busy(&self) -> bool {
        self.lock().open > 0
    }

    pub fn said_in_clear(&self) -> Vec<String> {
        self.lock().said_in_clear.clone()
    }

    /// Lets an answer go that is held.
    pub fn let_go(&self) {
        self.answers.add_permits(1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn certificates(name: &str) -> (String, Arc<rustls::ServerConfig>) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(authority, &root_key);
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    (root.pem(), Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}
