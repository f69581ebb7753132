//! What a cycle costs, what the database could do at best, and what a day takes: `bench/ingestion` runs all of it beside the floors.
//!
//! - `stub DELAY_MS SYMBOLS BODIES`: plays a provider on loopback until its standard input ends;
//! - `cycle URL STUB SYMBOLS ROUNDS`: whole cycles of the daemon's own parts against the stub, from trigger to published and committed;
//! - `floor URL SYMBOLS ROUNDS`: the same rows as bare statements, on the schema of the daemon;
//! - `fetch PROVIDER STUB SYMBOLS ROUNDS`: symbols a second, as that provider would be asked;
//! - `day SYMBOLS`: a day of the daemon, its memory, and what is left of it on disk after the close.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]
#![expect(clippy::cast_precision_loss, reason = "milliseconds")]

mod cycle;
mod day;
mod floor;
mod stub;

use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let number = |text: &str| text.parse::<usize>().unwrap();
    runtime.block_on(async {
        match arguments[..] {
            ["stub", delay, symbols, bodies] => {
                stub::serve(Duration::from_millis(delay.parse().unwrap()), number(symbols), number(bodies)).await;
            }
            ["cycle", url, stub, symbols, rounds] => cycle::measure(url, stub, number(symbols), number(rounds)).await,
            ["fetch", provider, stub, symbols, rounds] => {
                cycle::fetch(provider, stub, number(symbols), number(rounds)).await;
            }
            ["day", symbols] => day::measure(number(symbols)).await,
            ["floor", url, symbols, rounds] => floor::measure(url, number(symbols), number(rounds)).await,
            // Whoever runs every bench wants no more of this one than that it still begins.
            _ => println!("bench/ingestion says what to ask of it"),
        }
    });
}

/// Median and worst, in milliseconds.
fn show(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, worst {:.1} ms of {}", at(50), at(100), times.len())
}

/// A universe of the stub's symbols.
fn write_universe(path: &std::path::Path, symbols: usize) {
    let lines: String = (0..symbols).map(|index| format!("{},NYSE\n", stub::symbol(index))).collect();
    std::fs::write(path, format!("symbol,exchange\n{lines}")).unwrap();
}

/// Returns when whoever started this program closes its standard input.
async fn until_told() {
    let reading = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    reading.await.unwrap().unwrap();
}
