//! Clients that ask at a steady rate, and how long the answers took: for `bench/http`. One that is kept waiting asks the next
//! time at once, and what it should have asked meanwhile counts from when it should have been asked.
//!
//!   steady ADDRESS PATH CLIENTS RATE SECONDS     RATE is of all clients together, in requests a second

#![expect(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, clients, rate, seconds] = &*arguments else {
        return Err("ADDRESS PATH CLIENTS RATE SECONDS".into());
    };
    let (clients, rate, seconds): (u32, f64, f64) = (clients.parse()?, rate.parse()?, seconds.parse()?);
    let pause = Duration::from_secs_f64(f64::from(clients) / rate);
    let began = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (address, path, first) = (address.clone(), path.clone(), began + pause * client / clients);
            std::thread::spawn(move || ask(&address, &path, first, pause, began + Duration::from_secs_f64(seconds)))
        })
        .collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| "a client panicked")??);
    }
    times.sort_unstable();
    let at = |thousandths: usize| {
        times.get((times.len() * thousandths / 1_000).min(times.len().saturating_sub(1))).map_or(0, Duration::as_micros)
    };
    println!("{} {} {} {}", at(500), at(990), at(999), at(1_000));
    Ok(())
}

/// The times of the answers, from when each was due.
fn ask(address: &str, path: &str, first: Instant, pause: Duration, end: Instant) -> std::io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept-encoding: gzip\r\n\r\n");
    let (mut times, mut due, mut buffer) = (Vec::new(), first, vec![0; 64 * 1_024]);
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A thread that is woken late is the client's own fault; one that still waited for an answer is not.
        let late = times.last().is_some_and(|last| *last > pause);
        let from = if late { due } else { Instant::now() };
        stream.write_all(request.as_bytes())?;
        read_answer(&mut stream, &mut buffer)?;
        times.push(from.elapsed());
        due += pause;
    }
    Ok(times)
}

fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let text = String::from_utf8_lossy(&buffer[..filled]);
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if filled >= head.len() + 4 + length.unwrap_or(0) {
            return Ok(());
        }
    }
}
