//! A simulated Sentry: takes envelopes, remembers them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Endpoint, Request, Response, Server};

/// The service, until the test ends.
#[derive(Clone)]
pub struct SimSentry {
    pub address: SocketAddr,
    envelopes: Arc<Mutex<Vec<String>>>,
}

impl SimSentry {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = *acceptor.local_addr()[0].as_socket_addr().unwrap();
        let envelopes: Arc<Mutex<Vec<String>>> = Arc::default();
        let app = App(Arc::clone(&envelopes));
        tokio::spawn(async move { Server::new_with_acceptor(acceptor).run(app).await });
        Self { address, envelopes }
    }

    /// What a project of it is reached by.
    pub fn dsn(&self) -> String {
        format!("http://public@{}/42", self.address)
    }

    /// What came in, each envelope as it was sent.
    pub fn envelopes(&self) -> Vec<String> {
        self.envelopes.lock().unwrap().clone()
    }
}

struct App(Arc<Mutex<Vec<String>>>);

impl Endpoint for App {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let path = request.uri().path().to_owned();
        let body = request.take_body().into_bytes().await?;
        if path == "/api/42/envelope/" {
            self.0.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
        }
        Ok(Response::builder().body("{}"))
    }
}
