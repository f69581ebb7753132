//! How results are printed.

use std::io::{self, IsTerminal, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::config::Environment;

/// Writes text to stdout. A reader that has gone (`| head`) ends the command quietly.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// One JSON object on a line of its own.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// Many lines, written in large pieces: a system call a line would be most of the time.
pub struct Lines(String);

/// Bytes that are gathered before they are written.
const PIECE: usize = 64 * 1024;

impl Lines {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(String::with_capacity(PIECE))
    }

    /// Adds a text that ends its own lines.
    pub fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.push_str(text);
        if self.0.len() < PIECE {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.0, String::with_capacity(PIECE));
        print(&full)
    }

    /// Adds one JSON object on a line of its own.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        self.text(&format!("{}\n", serde_json::to_string(value)?))
    }

    /// Writes what is left.
    pub fn end(self) -> anyhow::Result<()> {
        print(&self.0)
    }
}

/// RFC 3339 in UTC with `Z`, as short as it is exact.
pub fn utc(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A table with a line for the names of its columns, each as wide as its widest cell.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(header.to_vec())).chain(body).collect()
}

/// Whether the log may be coloured: a terminal, and nobody said no.
pub fn wants_colour(environment: &Environment) -> bool {
    io::stderr().is_terminal() && allows_colour(environment)
}

/// The same for what a command prints.
pub fn wants_colour_on_stdout(environment: &Environment) -> bool {
    io::stdout().is_terminal() && allows_colour(environment)
}

fn allows_colour(environment: &Environment) -> bool {
    environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
}
