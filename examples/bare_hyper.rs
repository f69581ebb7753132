//! hyper and nothing else, answering every request with what one URL answers: what `bench/http` holds the daemon against.
//!
//!   bare_hyper LISTEN URL ACCEPT-ENCODING [IF-NONE-MATCH]

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, url, encoding, tag @ ..] = &*arguments else { return Err("LISTEN URL ACCEPT-ENCODING [TAG]".into()) };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_gzip().build()?;
    let mut request = client.get(url).header("Accept-Encoding", encoding);
    if let [tag, ..] = tag {
        request = request.header("If-None-Match", tag);
    }
    let answer = request.send().await?;
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    // hyper writes these itself.
    for name in [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let bytes: Bytes = answer.bytes().await?;
    eprintln!("{status}, {} bytes, {headers:?}", bytes.len());
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, bytes) = (headers.clone(), bytes.clone());
        tokio::spawn(async move {
            let service = service_fn(move |_| {
                let mut response = hyper::Response::new(Full::new(bytes.clone()));
                *response.status_mut() = status;
                *response.headers_mut() = headers.clone();
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
