//! What a component writes: line by line into the log, within limits, and the last of it for the ledger.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::info;
use uuid::Uuid;

use super::{Command, Limits};
use crate::clock::SharedClock;

/// How many of the last lines are kept for the ledger, and how much of each.
const KEPT_LINES: usize = 20;
const KEPT_LINE_BYTES: usize = 512;

/// After a quiet time so many seconds' worth of lines may come at once.
const BURST_SECONDS: f64 = 10.0;

const BUFFER_BYTES: usize = 64 * 1024;

/// One line, cut to a size.
#[derive(Debug, Default, Clone)]
struct Line {
    bytes: Vec<u8>,
    cut: u64,
}

impl Line {
    fn push(&mut self, bytes: &[u8], most: usize) {
        let (kept, rest) = bytes.split_at(bytes.len().min(most.saturating_sub(self.bytes.len())));
        self.bytes.extend_from_slice(kept);
        self.cut += rest.len() as u64;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.cut = 0;
    }

    /// As it may be shown: what is not text is replaced, what would move a terminal's cursor is spelt out.
    fn shown(&self) -> String {
        let mut bytes = self.bytes.as_slice();
        let mut cut = self.cut;
        if cut > 0 {
            // The cut may have gone through a character; the rest of one must not look like broken output.
            let tail = bytes.iter().rev().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
            let lead = bytes.len() - tail;
            let begun = bytes[..lead].last().is_some_and(|byte| *byte >= 0b1100_0000);
            if begun && std::str::from_utf8(&bytes[lead - 1..]).is_err() {
                cut += tail as u64 + 1;
                bytes = &bytes[..lead - 1];
            }
        } else {
            bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        }
        let mut shown = String::with_capacity(bytes.len());
        for character in String::from_utf8_lossy(bytes).chars() {
            if character.is_control() && character != '\t' {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        if cut > 0 {
            let _ = write!(shown, " [{cut} more bytes cut]");
        }
        shown
    }
}

/// Takes what both streams of one run write.
pub(super) struct Output<'a> {
    name: &'static str,
    run_id: Uuid,
    limits: Limits,
    clock: &'a SharedClock,
    taken: Mutex<Taken>,
}

/// What was taken so far.
#[derive(Debug, Default)]
pub(super) struct Taken {
    last: VecDeque<Line>,
    /// Lines that may be logged now.
    allowance: f64,
    /// Up to when the allowance was counted, in seconds.
    counted_at: f64,
    /// Lines.
    pub lines: u64,
    /// Bytes, newlines included.
    pub bytes: u64,
    /// Lines that were not logged.
    pub left_out: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(command: &Command, run_id: Uuid, clock: &'a SharedClock) -> Self {
        let allowance = f64::from(command.limits.lines_per_second) * BURST_SECONDS;
        let taken = Taken { allowance, counted_at: clock.monotonic().as_secs_f64(), ..Taken::default() };
        Self { name: command.name, run_id, limits: command.limits, clock, taken: Mutex::new(taken) }
    }

    /// Reads one stream to its end. A fault of reading is its end too: there is nothing else to be had from it.
    pub(super) async fn read(&self, stream: &'static str, source: Option<impl AsyncRead + Unpin>) {
        let Some(mut source) = source else { return };
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut line = Line::default();
        while let Ok(length @ 1..) = source.read(&mut buffer).await {
            self.take(stream, &buffer[..length], &mut line);
        }
        if !line.bytes.is_empty() || line.cut > 0 {
            self.end_line(&mut self.lock(), stream, &mut line);
        }
    }

    fn take(&self, stream: &'static str, bytes: &[u8], line: &mut Line) {
        let mut taken = self.lock();
        taken.bytes += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.push(&rest[..end], self.limits.line_bytes);
            self.end_line(&mut taken, stream, line);
            rest = &rest[end + 1..];
        }
        line.push(rest, self.limits.line_bytes);
    }

    fn end_line(&self, taken: &mut Taken, stream: &'static str, line: &mut Line) {
        taken.lines += 1;
        taken.keep(line);
        if self.may_log(taken) {
            info!(component = self.name, run_id = %self.run_id, stream, line = line.shown(), "output");
        } else {
            if taken.left_out == 0 {
                let most = self.limits.lines_per_second;
                info!(component = self.name, run_id = %self.run_id, lines_per_second = most, "more output than is logged");
            }
            taken.left_out += 1;
        }
        line.clear();
    }

    fn may_log(&self, taken: &mut Taken) -> bool {
        if taken.allowance < 1.0 {
            let now = self.clock.monotonic().as_secs_f64();
            let rate = f64::from(self.limits.lines_per_second);
            let earned = (now - taken.counted_at) * rate;
            taken.allowance = (taken.allowance + earned).min(rate * BURST_SECONDS);
            taken.counted_at = now;
        }
        let may = taken.allowance >= 1.0;
        if may {
            taken.allowance -= 1.0;
        }
        may
    }

    /// What was taken, once nothing more is.
    pub(super) fn finish(&self) -> Taken {
        let taken = std::mem::take(&mut *self.lock());
        if taken.left_out > 0 {
            let (lines, left_out) = (taken.lines, taken.left_out);
            info!(component = self.name, run_id = %self.run_id, lines, left_out, "output was left out");
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn keep(&mut self, line: &Line) {
        let mut kept = if self.last.len() < KEPT_LINES { None } else { self.last.pop_front() }.unwrap_or_default();
        kept.clear();
        kept.push(&line.bytes, KEPT_LINE_BYTES);
        kept.cut += line.cut;
        self.last.push_back(kept);
    }

    /// The last lines, oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last.iter().map(Line::shown).collect()
    }
}
