//! `healthcheck`: asks a running daemon, for containers and probes.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use super::{FAILED, UNAVAILABLE, ask, output};
use crate::config::Config;

/// Ask `/readyz`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// HOST:PORT of the daemon; the configured `listen` if not given
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// Print the daemon's own answer
    #[arg(long)]
    json: bool,
}

/// 0 when it is ready, 1 when it answers otherwise, 69 when it does not answer.
pub async fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<ExitCode> {
    let address = arguments.address.unwrap_or_else(|| ask::address_of(config));
    let (status, body) = match ask::get(address, config, "/readyz").await {
        Ok(answer) => answer,
        Err(fault) => {
            eprintln!("bellwether: nothing answers on {address} (`listen`; --address asks another): {fault:#}");
            return Ok(ExitCode::from(UNAVAILABLE));
        }
    };
    let ready = status == 200;
    if arguments.json {
        output::print(&format!("{}\n", body.trim()))?;
    } else {
        output::print(if ready { "ready\n" } else { "not ready\n" })?;
    }
    if !ready && !arguments.json {
        eprintln!("bellwether: {}", body.trim());
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}
