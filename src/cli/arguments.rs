//! Instants and dates as arguments: what is no such thing is refused with what to write instead.

use chrono::{DateTime, NaiveDate, Utc};

pub(super) fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|_| "not an RFC 3339 instant; write one with its zone, for example 2027-03-15T14:00:00Z".to_owned())
}

pub(super) fn date(text: &str) -> Result<NaiveDate, String> {
    text.parse().map_err(|_| "not a date of the calendar; write YYYY-MM-DD, for example 2027-03-15".to_owned())
}
