//! `GET /api/v1/stream`: server-sent events, one for each published state. All clients share the bytes of an event, and none
//! has a queue: who is slow gets the newest state when it is ready for it, and who reads nothing for long is cut off.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use poem::http::header;
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::Problem;
use super::query::Query;
use crate::clock::SharedClock;
use crate::ingest::Board;
use crate::market::StateId;
use crate::metrics;

/// A line that says nothing, so that proxies and clients know that the connection lives: nginx waits 60 s by default.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a client should wait before it connects again, in the words of the protocol, and something to read at once.
const HELLO: Bytes =
    Bytes::from_static(b"retry: 5000\n: every published state of the market, newest first and only\n\n");

const NOTHING: Bytes = Bytes::from_static(b": still here\n\n");

/// How soon to ask again where there are too many clients.
const RETRY_SECONDS: u64 = 30;

/// What wakes the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Beat {
    /// States published.
    states: u64,
    /// Heartbeats.
    heartbeats: u64,
    /// The daemon stops.
    ended: bool,
}

/// Everybody who waits for the next state.
#[derive(Debug)]
pub struct Streams {
    beats: watch::Sender<Beat>,
    slots: Arc<Semaphore>,
}

impl Streams {
    /// Room for `most` clients.
    pub fn new(most: usize) -> Self {
        Self { beats: watch::Sender::default(), slots: Arc::new(Semaphore::new(most)) }
    }

    /// Wakes the clients at each state of `board` and at each heartbeat; ends them at `stop`.
    pub async fn keep(self: Arc<Self>, board: Arc<Board>, clock: SharedClock, stop: CancellationToken) {
        let mut states = board.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = states.changed() => self.beats.send_modify(|beat| beat.states += 1),
                () = clock.beat(HEARTBEAT) => self.beats.send_modify(|beat| beat.heartbeats += 1),
            }
        }
        self.beats.send_modify(|beat| beat.ended = true);
    }
}

/// One client: all there is of it between two events.
struct Client {
    board: Arc<Board>,
    beats: watch::Receiver<Beat>,
    heartbeats: u64,
    greeted: bool,
    /// What it has.
    last: Option<StateId>,
    _slot: Slot,
}

/// Its place among the clients.
struct Slot(#[expect(dead_code, reason = "held for as long as the client is there")] OwnedSemaphorePermit);

impl Slot {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::stream_clients(1.0);
        Self(permit)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        metrics::stream_clients(-1.0);
    }
}

impl Client {
    /// The bytes it is sent next; `None` when the daemon stops.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(HELLO);
        }
        loop {
            let beat = *self.beats.borrow_and_update();
            if beat.ended {
                return None;
            }
            if let Some(published) = &*self.board.load()
                && self.last.is_none_or(|last| published.id() > last)
            {
                self.last = Some(published.id());
                return Some(published.bodies.event.clone());
            }
            if std::mem::replace(&mut self.heartbeats, beat.heartbeats) != beat.heartbeats {
                return Some(NOTHING);
            }
            self.beats.changed().await.ok()?;
        }
    }

    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold(self, |mut client| async move {
            let bytes = client.next().await?;
            Some((Ok(bytes), client))
        })
    }
}

/// The states of the market as they are published. `Last-Event-ID` names the one the client has: it gets the next one that is
/// newer, at once if there is one.
#[handler]
pub fn listen(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    let Ok(permit) = Arc::clone(&app.streams.slots).try_acquire_owned() else {
        metrics::http_rejected("streams");
        let detail = "as many clients are listening as http.max_streams allows";
        return Err(Problem::unavailable("too_many_streams", detail, RETRY_SECONDS).into());
    };
    let beats = app.streams.beats.subscribe();
    let heartbeats = beats.borrow().heartbeats;
    let (board, last) = (Arc::clone(&app.board), last_event(&app, request));
    let client = Client { board, beats, heartbeats, greeted: false, last, _slot: Slot::new(permit) };
    let response = Response::builder().header(header::CACHE_CONTROL, "no-store").header("x-accel-buffering", "no");
    Ok(response.content_type("text/event-stream").body(Body::from_bytes_stream(client.into_stream())))
}

/// What the client has. An id that is newer than anything this daemon can have shown is none of its own: whoever brings it is
/// told the present state rather than nothing for ever.
fn last_event(app: &App, request: &Request) -> Option<StateId> {
    let given = request.headers().get("last-event-id")?.to_str().ok()?;
    StateId::of_text(given.trim()).filter(|id| id.rendered_at <= app.clock.now())
}
