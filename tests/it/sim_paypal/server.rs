//! HTTPS for the simulated PayPal: the framework of the daemon is built without it.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Inner;

pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, inner: Arc<Inner>) {
    let acceptor = TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&inner)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, inner: Arc<Inner>) {
    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    // Whoever does not trust the certificate hangs up, which is a story of its own.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let addresses = (LocalAddr(local.into()), RemoteAddr(remote.into()));
        let request = poem::Request::from((request, addresses.0, addresses.1, Scheme::HTTPS));
        let inner = Arc::clone(&inner);
        async move { Ok::<_, Infallible>(hyper::Response::from(inner.answer(request).await)) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
