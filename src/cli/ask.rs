//! Asking the daemon that runs beside a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Config;

/// The longest an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The largest answer that is looked at.
const MOST_BYTES: u64 = 1024 * 1024;

/// Where the daemon of a configuration is asked; one that listens everywhere on loopback.
pub fn address_of(config: &Config) -> SocketAddr {
    let ip = match config.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, config.listen.port())
}

/// One plain GET, under a name that is served; gives status and body.
///
/// # Errors
/// When nobody answers in time, or what answers is no HTTP.
pub async fn get(address: SocketAddr, config: &Config, path: &str) -> anyhow::Result<(u16, String)> {
    ask(address, config, &format!("GET {path}"), "", "", DEADLINE).await
}

/// One plain POST of a JSON body by an operator.
///
/// # Errors
/// When nobody answers in time, or what answers is no HTTP.
pub async fn post(
    address: SocketAddr,
    config: &Config,
    path: &str,
    token: &SecretString,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    post_within(DEADLINE, address, config, path, token, body).await
}

/// The same for work that takes longer.
///
/// # Errors
/// When nobody answers in time, or what answers is no HTTP.
pub async fn post_within(
    deadline: Duration,
    address: SocketAddr,
    config: &Config,
    path: &str,
    token: &SecretString,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let headers = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        token.expose_secret(),
        body.len()
    );
    ask(address, config, &format!("POST {path}"), &headers, body, deadline).await
}

/// The longest a run may take that is asked for with the cron secret.
const RUN_DEADLINE: Duration = Duration::from_mins(30);

/// One plain POST of a JSON body by whoever has the cron secret; the answer comes when the run has ended.
///
/// # Errors
/// When nobody answers in time, or what answers is no HTTP.
pub async fn post_cron(
    address: SocketAddr,
    config: &Config,
    path: &str,
    secret: &SecretString,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let headers = format!(
        "X-Cron-Secret: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        secret.expose_secret(),
        body.len()
    );
    ask(address, config, &format!("POST {path}"), &headers, body, RUN_DEADLINE).await
}

/// A whole HTTP client would be most of a command's start.
async fn ask(
    address: SocketAddr,
    config: &Config,
    what: &str,
    headers: &str,
    body: &str,
    deadline: Duration,
) -> anyhow::Result<(u16, String)> {
    let host = config.allowed_hosts.iter().find(|host| *host != "*").map(|host| host.trim_start_matches('.'));
    let host = host.unwrap_or("localhost");
    let request = format!("{what} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n{body}");
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(deadline, asked).await.context("no answer in time")??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("the answer is no HTTP")?, body.to_owned()))
}
