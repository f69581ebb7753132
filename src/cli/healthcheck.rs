//! `healthcheck`: asks a running daemon, for containers and probes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{FAILED, UNAVAILABLE, output};
use crate::config::Config;

/// The longest the answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The largest answer that is looked at.
const MOST_BYTES: u64 = 64 * 1024;

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
    let address = arguments.address.unwrap_or_else(|| reachable(config.listen));
    let host = config.allowed_hosts.iter().find(|host| *host != "*").map(|host| host.trim_start_matches('.'));
    let asked = tokio::time::timeout(DEADLINE, ask(address, host.unwrap_or("localhost"))).await;
    let answer = match asked.context("no answer in time").and_then(|answer| answer) {
        Ok(answer) => answer,
        Err(fault) => {
            eprintln!("bellwether: nothing answers on {address} (`listen`; --address asks another): {fault:#}");
            return Ok(ExitCode::from(UNAVAILABLE));
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let ready = head.split_whitespace().nth(1) == Some("200");
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

/// A daemon that listens everywhere is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// One plain request on loopback: a whole HTTP client would be most of this command's start.
async fn ask(address: SocketAddr, host: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
