//! Who is reminded of a payment that is late, and when.

use chrono::{DateTime, Utc};

/// The number of the newest reminder that is due: `days` are the days past due at which each is sent, rising. Whoever was not
/// reminded for a while gets the newest one only.
pub fn reminder_due(period_end: DateTime<Utc>, now: DateTime<Utc>, days: &[i64]) -> Option<usize> {
    // A charge may fail before the period ends: that is day 0.
    let late = (now - period_end).num_days().max(0);
    days.iter().rposition(|day| *day <= late)
}
