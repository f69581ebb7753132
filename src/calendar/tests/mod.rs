//! The calendar against what the exchanges published, against an oracle, and against its own laws.

mod exceptions;
mod laws;
mod official;
mod swaps;
mod venues;

use std::sync::LazyLock;

use chrono::{Days, Timelike};

use super::*;

static BUILT_IN: LazyLock<Calendars> = LazyLock::new(|| Calendars::built_in().unwrap());
static XNYS: LazyLock<Arc<Calendar>> = LazyLock::new(|| BUILT_IN.of("XNYS").unwrap());

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The built-in calendars with the rows of an operator's file over them.
fn with_rows(rows: &str) -> Result<Calendars, Mistakes> {
    let exceptions = read_csv(&format!("{}\n{rows}", COLUMNS.join(",")), Origin::File)?;
    Calendars::build(Operator { exceptions, ..Operator::default() })
}

/// What is wrong with the rows of an operator's file.
fn mistakes(rows: &str) -> String {
    let found = with_rows(rows).unwrap_err().0;
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Opening and close on the wall of the market.
fn wall_hours(calendar: &Calendar, session: &Session) -> (String, String) {
    let local = |at: DateTime<Utc>| {
        let text = at.with_timezone(&calendar.zone()).format("%H:%M:%S").to_string();
        text.strip_suffix(":00").map(str::to_owned).unwrap_or(text)
    };
    (local(session.open), local(session.close))
}
