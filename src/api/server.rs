//! The accept loop. poem's own has no deadline for a request head and keeps any connection that sends a byte now and then,
//! so hyper is driven here: bounded connections, bounded reads and writes, and a drain that ends. What is asked for most is
//! answered before the framework (`front.rs`).

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use http_body_util::combinators::BoxBody;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::aside::{Aside, Heads};
use super::front::Front;
use crate::clock::SharedClock;
use crate::metrics;

/// How long accepting rests when the host is out of descriptors: an error here repeats at once otherwise.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at once; the next ones wait in the kernel's queue.
    pub connections: usize,
    /// For a request head, and for an idle connection to send the next.
    pub read_timeout: Duration,
    /// The longest a client may leave an answer unread.
    pub write_timeout: Duration,
}

/// What answers on one listener.
#[derive(Clone)]
pub struct Answerer {
    /// Asked first, where there is one.
    pub front: Option<Arc<Front>>,
    /// Answers whatever the front leaves to it.
    pub endpoint: Arc<BoxEndpoint<'static, Response>>,
}

/// The body of either.
type Body = Either<Full<Bytes>, BoxBody<Bytes, io::Error>>;

impl Answerer {
    fn answer(
        &self,
        request: hyper::Request<Incoming>,
        (local, remote): &(LocalAddr, RemoteAddr),
    ) -> impl Future<Output = Result<hyper::Response<Body>, Infallible>> + use<> {
        if let Some(response) = self.front.as_ref().and_then(|front| front.answer(&request)) {
            return future::Either::Left(future::ready(Ok(response.map(Either::Left))));
        }
        let endpoint = Arc::clone(&self.endpoint);
        let request = poem::Request::from((request, local.clone(), remote.clone(), Scheme::HTTP));
        // In a box, so that a connection between two requests, or one that listens, has no room for a request in it.
        future::Either::Right(Box::pin(async move {
            let response = hyper::Response::from(endpoint.get_response(request).await);
            Ok(response.map(Either::Right))
        }))
    }
}

/// Serves `answerer` on `listener` until `stop`, then closes idle connections and lets answers under way finish. The
/// returned future ends with the last of them; the caller sets its deadline.
pub async fn serve(
    listener: TcpListener,
    answerer: Answerer,
    limits: Limits,
    clock: SharedClock,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer, slot)) => {
                let (answerer, stop) = (answerer.clone(), stop.clone());
                connections.spawn(async move {
                    metrics::http_connections(1.0);
                    let _open = scopeguard::guard((), |()| metrics::http_connections(-1.0));
                    // Made here, or the task would have room for it twice: as what it was given and as what it waits for.
                    connection(stream, peer, answerer, limits, stop).await;
                    drop(slot);
                });
            }
            Err(fault) => {
                warn!(error = %fault, "a connection could not be accepted");
                tokio::select! {
                    () = clock.sleep(ACCEPT_PAUSE) => {}
                    () = stop.cancelled() => break,
                }
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

async fn connection(stream: TcpStream, peer: SocketAddr, answerer: Answerer, limits: Limits, stop: CancellationToken) {
    // Answers are small and whole; waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let local =
        stream.local_addr().map_or(LocalAddr(Addr::Custom("tcp", "unknown".into())), |addr| LocalAddr(addr.into()));
    let addresses = (local, RemoteAddr(peer.into()));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let service = service_fn(move |request| answerer.answer(request, &addresses));
    let heads = Heads::new(limits.read_timeout);
    let mut builder = http1::Builder::new();
    builder.timer(heads.clone()).header_read_timeout(limits.read_timeout);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(Box::pin(stream)), service));
    let watch = heads.clone();
    let mut aside = Aside::of(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = watch.watch() => {}
        }
    });
    let ended = tokio::select! {
        biased;
        () = &mut aside => {
            drop(aside);
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = heads.watch() => Ok(()),
                ended = serving => ended,
            }
        }
        ended = serving.as_mut() => ended,
    };
    if let Err(fault) = ended {
        debug!(error = %fault, "a connection ended early");
    }
}
