//! Many clients of `GET /api/v1/stream` in one process: for `bench/stream`. Says when all have had their first event, and then
//! counts those that come to each.
//!
//!   listeners ADDRESS COUNT

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, count] = &*arguments else { return Err("ADDRESS COUNT".into()) };
    let count: usize = count.parse()?;
    let events = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..count {
        // One after the other: the queue of the listener is short.
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let events = Arc::clone(&events);
        clients.push(tokio::spawn(async move {
            let mut buffer = vec![0; 1_024];
            let mut seen = 0;
            while let Ok(read) = stream.read(&mut buffer).await {
                if read == 0 {
                    break;
                }
                // The name of an event never falls apart between two reads here: it is in its first bytes.
                if buffer[..read].windows(12).any(|part| part == b"event: stats") {
                    seen += 1;
                    let all = events.fetch_add(1, Ordering::Relaxed) + 1;
                    if all.is_multiple_of(count) {
                        println!("{all} events");
                    }
                }
            }
            seen
        }));
    }
    let mut ended = 0;
    for client in clients {
        ended += usize::from(client.await? > 0);
    }
    println!("{ended} of {count} were told something");
    Ok(())
}
