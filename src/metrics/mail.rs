//! Metrics of letters.

use ::metrics::{Unit, counter, gauge};
use chrono::TimeDelta;

use super::Kind::{self, Counter, Gauge};
use super::seconds;

/// As in the table of all others.
pub(super) const TABLE: &[(&str, Kind, Option<Unit>, &str)] = &[
    ("bellwether_letters_total", Counter, None, "Tries at letters by how they ended: sent, failed, dead, dropped."),
    ("bellwether_letters_waiting", Gauge, None, "Letters that are written and not sent yet."),
    (
        "bellwether_letters_oldest_waiting_seconds",
        Gauge,
        Some(Unit::Seconds),
        "How long the oldest of them has waited that was never tried.",
    ),
    ("bellwether_letters_dead", Gauge, None, "Letters that were given up: an operator must look at them."),
    ("bellwether_mail_server_up", Gauge, None, "0 while the mail server takes no letters, or none is configured."),
];

/// The series are there before the first letter.
pub(super) fn begin() {
    for outcome in ["sent", "failed", "dead", "dropped"] {
        counter!("bellwether_letters_total", "outcome" => outcome).absolute(0);
    }
}

/// A try at a letter ended: sent, failed, dead or dropped.
pub fn letter_ended(outcome: &'static str) {
    counter!("bellwether_letters_total", "outcome" => outcome).increment(1);
}

/// How many letters wait, the age of the oldest, and how many need an operator.
pub fn letter_backlog(waiting: i64, oldest: TimeDelta, dead: i64) {
    gauge!("bellwether_letters_waiting").set(waiting as f64);
    gauge!("bellwether_letters_oldest_waiting_seconds").set(seconds(oldest));
    gauge!("bellwether_letters_dead").set(dead as f64);
}

/// Whether the mail server took the last conversation.
pub fn mail_server_up(up: bool) {
    gauge!("bellwether_mail_server_up").set(f64::from(u8::from(up)));
}
