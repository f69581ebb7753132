//! A file per page.

pub mod accounts;
pub mod audit;
pub mod calendar;
pub mod health;
pub mod ingest;
pub mod letters;
pub mod now;
pub mod operators;
pub mod referrals;
pub mod renewals;
pub mod runs;
pub mod webhooks;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Visit;
use super::page::{Cell, Moment};

/// Rows of a table; more are found with the command line or the API.
const ROWS: u32 = 50;

impl Visit {
    /// An instant, as seen from this visit.
    fn time(&self, at: DateTime<Utc>) -> Cell {
        Cell::Time(Moment::of(at, self.now))
    }

    /// The same for one that may not be there.
    fn maybe_time(&self, at: Option<DateTime<Utc>>) -> Cell {
        at.map_or_else(|| Cell::text(""), |at| self.time(at))
    }

    /// A value of JSON: instants are shown as such.
    fn value(&self, value: &Value) -> Cell {
        match value {
            Value::Null => Cell::text(""),
            Value::Bool(yes) => Cell::text(if *yes { "yes" } else { "no" }),
            Value::String(text) => match text.parse::<DateTime<Utc>>() {
                Ok(at) => self.time(at),
                Err(_) => Cell::text(text.as_str()),
            },
            other => Cell::text(other.to_string()),
        }
    }
}

/// JSON with a line for each member.
fn pretty(text: Option<&str>) -> String {
    let Some(text) = text else { return String::new() };
    let parsed = serde_json::from_str::<Value>(text).and_then(|value| serde_json::to_string_pretty(&value));
    parsed.unwrap_or_else(|_| text.to_owned())
}
