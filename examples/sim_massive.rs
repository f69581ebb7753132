//! Plays Massive on loopback for a list of symbols: `cargo run --example sim_massive -- universe.csv`.
//!
//! The same simulated provider the tests use: bearer key, five calls in any minute, gzip, made-up prices.

#![expect(clippy::unwrap_used, reason = "the player is the tests' own, where a panic is how to fail")]

use bellwether::clock::SystemClock;
use bellwether::market::Universe;

#[path = "../tests/it/sim_massive.rs"]
#[expect(dead_code, reason = "the tests use more of it than this player")]
mod sim_massive;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a CSV file with a `symbol` column")?;
    let universe = Universe::parse_csv(&std::fs::read_to_string(&path)?, &path)?;
    // The provider's own spelling of preferred shares and warrants.
    let theirs = |symbol: &str| match symbol.strip_suffix(".W") {
        Some(root) => format!("{root}.WS"),
        None => symbol.replace('$', "p"),
    };
    let symbols = universe.listings().iter().map(|listing| theirs(&listing.symbol)).collect();
    let manner = |index: usize, _: &str| match index % 250 {
        0 => sim_massive::Manner::Cleared,
        1 => sim_massive::Manner::Absent,
        _ => sim_massive::Manner::Traded,
    };
    let massive = sim_massive::SimMassive::start(SystemClock::start(), symbols, manner).await;
    println!("BELLWETHER_INGEST__PROVIDER=massive");
    println!("BELLWETHER_INGEST__MASSIVE__BASE_URL=http://{}", massive.address);
    println!("BELLWETHER_INGEST__MASSIVE__API_KEY={}", sim_massive::KEY);
    println!("BELLWETHER_INGEST__UNIVERSE__FILE={path}");
    tokio::signal::ctrl_c().await?;
    println!("{} calls, {} over the quota", massive.calls(), massive.refused_for_quota());
    Ok(())
}
