//! Streams that are held open, as many browsers would.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Opens `count` streams at `address`, says how many were answered, and holds them until standard input ends.
pub async fn listen(address: &str, count: usize) {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /api/v1/stream HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        open.push(stream);
    }
    let mut answered = 0;
    for stream in &mut open {
        let mut begin = [0; 12];
        if stream.read_exact(&mut begin).await.is_ok() && begin.ends_with(b"200") {
            answered += 1;
        }
    }
    println!("{answered}");
    let reading: Vec<_> = open.into_iter().map(|stream| tokio::spawn(read_on(stream))).collect();
    super::until_told().await;
    reading.iter().for_each(tokio::task::JoinHandle::abort);
}

/// What is sent is taken and forgotten.
async fn read_on(mut stream: TcpStream) {
    let mut taken = vec![0; 2_048];
    while stream.read(&mut taken).await.is_ok_and(|read| read > 0) {}
}
