//! A simulated host on loopback: counts calls against a quota as strictly as real ones, keeps what was asked, and has the troubles
//! that real ones have. What it answers is the business of each provider's own simulation.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellwether::clock::SharedClock;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use poem::http::{HeaderMap, StatusCode, header};
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Body, Endpoint, Request, Response, Server};

/// One call as the host sees it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub now: DateTime<Utc>,
}

impl Asked {
    /// A parameter, empty where it is not given.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// A header, empty where it is not given.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The parts of a parameter that is a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.parameter(name).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    /// HTTP 200 with a body.
    pub fn ok(body: impl ToString) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.to_string() }
    }

    /// Another status.
    pub fn refused(status: u16, body: impl ToString) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string() }
    }

    /// With a header.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

/// What the next calls get instead of, or on the way to, the right answer; one each.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// Another answer.
    Instead(Answer),
    /// A body that ends too soon, under its full length.
    CutOff,
    /// Compressed bytes that end too soon.
    BrokenGzip,
    /// Silence before the answer, in real time.
    Silence(Duration),
    /// Silence before the answer, until this instant of the host's clock: how long it lasts depends on no machine.
    SilenceUntil(DateTime<Utc>),
    /// The answer drop by drop, without end.
    SlowDrip,
}

type Handler = Box<dyn Fn(&Asked) -> Answer + Send + Sync>;

struct Inner {
    clock: SharedClock,
    quota: Option<(usize, Duration)>,
    handler: Handler,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counted: VecDeque<Duration>,
    troubles: VecDeque<Trouble>,
    asked: Vec<Asked>,
    over_quota: usize,
}

/// The host, until the test ends.
#[derive(Clone)]
pub struct SimHost {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl SimHost {
    /// Listens on a free port of loopback. `quota` calls are answered in any window of that length; it is told in headers.
    pub async fn start(
        clock: SharedClock,
        quota: Option<(usize, Duration)>,
        handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(Inner { clock, quota, handler: Box::new(handler), state: Mutex::default() });
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let app = App(Arc::clone(&inner));
        tokio::spawn(async move { Server::new_with_acceptor(acceptor).run(app).await });
        Self { address, inner }
    }

    /// Its root.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next calls get these, in order.
    pub fn trouble(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.inner.state.lock().unwrap().troubles.extend(troubles);
    }

    /// Everything that was asked so far, what was refused too.
    pub fn asked(&self) -> Vec<Asked> {
        self.inner.state.lock().unwrap().asked.clone()
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.inner.state.lock().unwrap().asked.len()
    }

    /// Calls that broke the quota.
    pub fn over_quota(&self) -> usize {
        self.inner.state.lock().unwrap().over_quota
    }
}

struct App(Arc<Inner>);

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        Ok(self.0.answer(&request).await)
    }
}

impl Inner {
    async fn answer(&self, request: &Request) -> Response {
        let query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        let asked = Asked {
            path: request.uri().path().to_owned(),
            query: query.into_owned().collect(),
            headers: request.headers().clone(),
            now: self.clock.now(),
        };
        let gzip = asked.header("accept-encoding").contains("gzip");
        let (trouble, quota) = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(asked.clone());
            let quota = self.count(&mut state);
            (state.troubles.pop_front(), quota)
        };
        let (left, reset) = quota.unwrap_or((1, 0));
        let mut answer = match &trouble {
            Some(Trouble::Instead(answer)) => answer.clone(),
            _ if left < 0 => Answer::refused(429, r#"{"message":"too many requests."}"#),
            _ => (self.handler)(&asked),
        };
        if quota.is_some() && !answer.headers.iter().any(|(name, _)| *name == "x-ratelimit-remaining") {
            answer = answer.with("x-ratelimit-remaining", left.max(0)).with("x-ratelimit-reset", reset);
        }
        match trouble {
            Some(Trouble::CutOff) => {
                respond(&answer, answer.body.as_bytes()[..answer.body.len() / 2].to_vec(), "identity")
            }
            Some(Trouble::BrokenGzip) => {
                let squeezed = squeeze(&answer.body);
                respond(&answer, squeezed[..squeezed.len() / 2].to_vec(), "gzip")
            }
            Some(Trouble::Silence(span)) => {
                pause(span).await;
                respond(&answer, answer.body.clone().into_bytes(), "identity")
            }
            Some(Trouble::SilenceUntil(at)) => {
                self.clock.sleep_until(at).await;
                respond(&answer, answer.body.clone().into_bytes(), "identity")
            }
            Some(Trouble::SlowDrip) => drip(),
            _ if gzip => respond(&answer, squeeze(&answer.body), "gzip"),
            _ => respond(&answer, answer.body.clone().into_bytes(), "identity"),
        }
    }

    /// What is left in this window, below zero when it is over, and when there will be more, as Unix time.
    fn count(&self, state: &mut State) -> Option<(i64, i64)> {
        let (quota, window) = self.quota?;
        let now = self.clock.monotonic();
        state.counted.retain(|at| now - *at < window);
        state.counted.push_back(now);
        let left = quota as i64 - state.counted.len() as i64;
        state.over_quota += usize::from(left < 0);
        let reset = self.clock.now().timestamp() + window.as_secs() as i64;
        Some((left, reset))
    }
}

fn respond(answer: &Answer, body: Vec<u8>, encoding: &str) -> Response {
    let mut response = Response::builder()
        .status(StatusCode::from_u16(answer.status).unwrap())
        .content_type("application/json")
        .header(header::CONTENT_ENCODING, encoding);
    for (name, value) in &answer.headers {
        response = response.header(*name, value);
    }
    response.body(body)
}

fn squeeze(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A blank now and then is a valid beginning of any JSON.
fn drip() -> Response {
    let drops = stream::unfold((), |()| async {
        pause(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(b" ")), ()))
    });
    Response::builder().content_type("application/json").body(Body::from_bytes_stream(drops))
}

#[expect(clippy::disallowed_methods, reason = "a peer that is slow is slow in real time")]
async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}
