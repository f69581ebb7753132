//! How many webhooks a second are verified, stored durably and acknowledged: `bench/webhooks` runs it.
//!
//! `cargo bench --bench webhooks -- sqlite:FILE|postgres://.. CONNECTIONS WEBHOOKS [captures]`: the whole daemon on loopback, each delivery signed
//! and of its own id (of a kind that nothing follows from, or payments of as many accounts), the certificate from a simulated PayPal; beside it, in the same run, a loop that writes as many bytes and flushes
//! them to the disk one by one.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

#[path = "../tests/it/sim_paypal/mod.rs"]
#[expect(dead_code, reason = "the stories use more of it")]
mod sim_paypal;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bellwether::clock::{SharedClock, SystemClock};
use bellwether::config::{Config, Environment};
use bellwether::daemon::Daemon;
use serde_json::json;
use sim_paypal::SimPayPal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments[..] {
        [url, connections, webhooks] => {
            runtime.block_on(measure(url, connections.parse().unwrap(), webhooks.parse().unwrap(), false));
        }
        [url, connections, webhooks, "captures"] => {
            runtime.block_on(measure(url, connections.parse().unwrap(), webhooks.parse().unwrap(), true));
        }
        _ => println!("bench/webhooks says what to ask of it"),
    }
}

async fn measure(url: &str, connections: usize, webhooks: usize, money: bool) {
    bellwether::ops::telemetry::install("warn", false, false);
    let clock: SharedClock = SystemClock::start();
    let paypal = SimPayPal::start(Arc::clone(&clock)).await;
    let mut settings = paypal.settings();
    for (name, value) in
        [("DATABASE_URL", url), ("BELLWETHER_LISTEN", "127.0.0.1:0"), ("BELLWETHER_METRICS_LISTEN", "127.0.0.1:0")]
    {
        settings.push((name.to_owned(), value.to_owned()));
    }
    let environment: Environment = settings.into_iter().collect();
    let daemon = Daemon::start(Config::load(None, &environment).unwrap(), clock).await.unwrap();
    let requests: Arc<Vec<Vec<u8>>> = Arc::new((0..webhooks).map(|n| request(&paypal, n, money)).collect());
    let bytes = requests[0].len();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let senders: Vec<_> =
        (0..connections).map(|_| tokio::spawn(send(daemon.api, Arc::clone(&requests), Arc::clone(&next)))).collect();
    let mut took = Vec::with_capacity(webhooks);
    for sender in senders {
        took.extend(sender.await.unwrap());
    }
    let rate = webhooks as f64 / began.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (median, late, worst) = (at(0.5), at(0.99), at(1.0));
    println!(
        "{webhooks} webhooks of {bytes} bytes over {connections} connections: {rate:.0}/s; median {median:.1} ms, p99 {late:.1} ms, worst {worst:.1} ms"
    );
    daemon.stop().await;
    println!("a loop that writes {bytes} bytes and flushes them, beside it: {:.0}/s", flush_loop(bytes));
}

/// A whole request: a fresh event of its own id, signed now.
fn request(paypal: &SimPayPal, n: usize, money: bool) -> Vec<u8> {
    let (id, now) = (format!("WH-{}-{n}", uuid::Uuid::now_v7().simple()), chrono::Utc::now());
    let (kind, resource) = if money {
        let amount = json!({"value": "79.99", "currency_code": "USD"});
        let custom = format!("gold_monthly_{}_u{id}", now.timestamp());
        let resource = json!({"id": format!("C-{id}"), "status": "COMPLETED", "amount": amount, "custom_id": custom,
            "create_time": now.to_rfc3339(), "note": "x".repeat(500)});
        ("PAYMENT.CAPTURE.COMPLETED", resource)
    } else {
        ("BILLING.PLAN.CREATED", json!({"id": format!("P-{n}"), "state": "CREATED", "note": "x".repeat(700)}))
    };
    let body = sim_paypal::event(&id, kind, now, resource).to_string().into_bytes();
    let signed = paypal.sign(&body);
    let headers: String = signed.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST /paypal/webhook/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.into_bytes(), body].concat()
}

/// Sends requests one after another, as long as there are any, and gives how long each took.
async fn send(api: std::net::SocketAddr, requests: Arc<Vec<Vec<u8>>>, next: Arc<AtomicUsize>) -> Vec<Duration> {
    let mut stream = TcpStream::connect(api).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut took, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let began = Instant::now();
        stream.write_all(request).await.unwrap();
        let mut filled = 0;
        loop {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the connection broke off");
            filled += read;
            // The answers are short and end with the one object in them.
            if buffer[..filled].ends_with(b"}") {
                break;
            }
        }
        took.push(began.elapsed());
        let answer = String::from_utf8_lossy(&buffer[..filled]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    took
}

/// Writes and flushes for three seconds in the current directory; gives how often a second.
fn flush_loop(bytes: usize) -> f64 {
    let path = Path::new("bench-flush");
    let mut file = std::fs::File::create(path).unwrap();
    let (block, began, mut times) = (vec![b'x'; bytes], Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(3) {
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
        times += 1;
    }
    let rate = f64::from(times) / began.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}
