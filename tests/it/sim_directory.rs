//! A simulated web server with the symbol directories and the SEC's list: tags of versions, the SEC's demand for a contact, and
//! answers that break off.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use poem::http::{StatusCode, header};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Endpoint, Request, Response, Server};

/// How the next calls are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it should be.
    Well,
    /// The first half of the list, under its own length.
    Half,
    /// HTTP 503.
    Down,
}

#[derive(Default)]
struct Inner {
    nasdaq: Vec<String>,
    other: Vec<String>,
    companies: Vec<(String, u32, String)>,
    manner: Option<Manner>,
    made: Option<String>,
    /// Path, status and User-Agent of each call.
    calls: Vec<(String, u16, String)>,
}

/// The server, until dropped.
#[derive(Clone)]
pub struct SimDirectory {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl SimDirectory {
    /// Listens on a free port of loopback. Lines are `SYMBOL|NAME`, with further fields where they matter.
    pub async fn start(nasdaq: &[&str], other: &[&str]) -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let server = Self { address, inner: Arc::clone(&inner) };
        server.list(nasdaq, other);
        let app = App(inner);
        tokio::spawn(async move { Server::new_with_acceptor(acceptor).run(app).await });
        server
    }

    /// From now on these are listed.
    pub fn list(&self, nasdaq: &[&str], other: &[&str]) {
        let full = |tail: &'static str| move |line: &&str| full_line(line, tail);
        let mut inner = self.inner.lock().unwrap();
        inner.nasdaq = nasdaq.iter().map(full("Q|N|N|100|N|N")).collect();
        inner.other = other.iter().map(full("N|X|N|100|N|X")).collect();
    }

    /// Companies that the SEC knows: ticker in its spelling, number, name.
    pub fn companies(&self, companies: &[(&str, u32, &str)]) {
        let owned = companies.iter().map(|(ticker, cik, name)| ((*ticker).to_owned(), *cik, (*name).to_owned()));
        self.inner.lock().unwrap().companies = owned.collect();
    }

    /// From now on it answers so.
    pub fn answer(&self, manner: Manner) {
        self.inner.lock().unwrap().manner = Some(manner);
    }

    /// From now on the directories say that they were made then, as `mmddyyyyhh:mm`.
    pub fn made(&self, at: &str) {
        self.inner.lock().unwrap().made = Some(at.to_owned());
    }

    /// Path, status and User-Agent of the calls since the last look.
    pub fn calls(&self) -> Vec<(String, u16, String)> {
        std::mem::take(&mut self.inner.lock().unwrap().calls)
    }

    /// The settings of a daemon that is to use it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let of = |path: &str| format!("http://{}/{path}", self.address);
        vec![
            ("BELLWETHER_INGEST__UNIVERSE__SOURCE", "directories".to_owned()),
            ("BELLWETHER_INGEST__UNIVERSE__NASDAQ_LISTED", of("nasdaqlisted.txt")),
            ("BELLWETHER_INGEST__UNIVERSE__OTHER_LISTED", of("otherlisted.txt")),
            ("BELLWETHER_INGEST__UNIVERSE__SEC_TICKERS", of("company_tickers.json")),
            ("BELLWETHER_INGEST__UNIVERSE__CONTACT", "ops@example.com".to_owned()),
        ]
    }
}

/// A line that says more than its symbol and name says everything.
fn full_line(line: &str, tail: &str) -> String {
    if line.matches('|').count() > 1 { format!("{line}\n") } else { format!("{line}|{tail}\n") }
}

/// When a directory was made, unless it is said otherwise.
const MADE: &str = "0315202717:03";

/// A whole `nasdaqlisted.txt` of these lines.
pub fn nasdaq_text(lines: &str) -> String {
    let header = "Symbol|Security Name|Market Category|Test Issue|Financial Status|Round Lot Size|ETF|NextShares";
    format!("{header}\n{lines}File Creation Time: {MADE}|||||||\n")
}

/// A whole `otherlisted.txt` of these lines.
pub fn other_text(lines: &str) -> String {
    let header = "ACT Symbol|Security Name|Exchange|CQS Symbol|ETF|Round Lot Size|Test Issue|NASDAQ Symbol";
    format!("{header}\n{lines}File Creation Time: {MADE}||||||\n")
}

struct App(Arc<Mutex<Inner>>);

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let mut inner = self.0.lock().unwrap();
        let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let agent = agent.unwrap_or_default().to_owned();
        let response = answer(&inner, &request, &agent);
        inner.calls.push((request.uri().path().to_owned(), response.status().as_u16(), agent));
        Ok(response)
    }
}

fn answer(inner: &Inner, request: &Request, agent: &str) -> Response {
    let manner = inner.manner.unwrap_or(Manner::Well);
    if manner == Manner::Down {
        return Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body("down for maintenance");
    }
    let body = match request.uri().path() {
        "/nasdaqlisted.txt" => nasdaq_text(&inner.nasdaq.concat()),
        "/otherlisted.txt" => other_text(&inner.other.concat()),
        "/company_tickers.json" if !agent.contains('@') => {
            return Response::builder()
                .status(StatusCode::FORBIDDEN)
                .body("Your Request Originates from an Undeclared Tool");
        }
        "/company_tickers.json" => {
            let line = |(ticker, cik, title): &(String, u32, String)| serde_json::json!({ "cik_str": cik, "ticker": ticker, "title": title });
            let lines = inner.companies.iter().enumerate().map(|(n, company)| (n.to_string(), line(company)));
            serde_json::Value::Object(lines.collect()).to_string()
        }
        _ => return Response::builder().status(StatusCode::NOT_FOUND).body("404"),
    };
    let body = inner.made.as_ref().map_or(body.clone(), |made| body.replace(MADE, made));
    let etag =
        format!("\"{:x}\"", body.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())));
    if manner == Manner::Well && request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| *known == *etag) {
        return Response::builder().status(StatusCode::NOT_MODIFIED).header(header::ETAG, etag).body(());
    }
    let shown = if manner == Manner::Half { &body[..body.len() / 2] } else { &body };
    Response::builder().header(header::ETAG, etag).body(shown.to_owned())
}
