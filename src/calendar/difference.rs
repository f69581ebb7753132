//! What one set of exceptions changes against another.

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};
use serde::Serialize;

use super::decided::wall;
use super::{Calendar, Calendars};

/// A date that two calendars tell differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// MIC of the venue.
    pub exchange: String,
    /// The date.
    pub date: NaiveDate,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
}

/// Every date of any venue that `after` tells differently from `before`, in order of venue and date.
pub fn differences(before: &Calendars, after: &Calendars) -> Vec<Change> {
    let rows = before.operator().exceptions.iter().chain(&after.operator().exceptions);
    let rows: BTreeSet<_> = rows.map(|row| (&*row.venue, row.date)).collect();
    let mut changes = Vec::new();
    for mic in after.mics() {
        let (Some(old), Some(new)) = (touched(before, mic, &rows), touched(after, mic, &rows)) else { continue };
        let market = new.market().to_owned();
        let dates: BTreeSet<_> =
            rows.iter().filter(|(venue, _)| *venue == mic || *venue == market).map(|row| row.1).collect();
        changes.extend(dates.into_iter().filter_map(|date| {
            let (before, after) = (describe(&old, date), describe(&new, date));
            (before != after).then(|| Change { exchange: mic.to_owned(), date, before, after })
        }));
    }
    changes
}

/// The calendar of a venue that some row is about; the others need not be compiled.
fn touched(calendars: &Calendars, mic: &str, rows: &BTreeSet<(&str, NaiveDate)>) -> Option<std::sync::Arc<Calendar>> {
    let concerned = rows.iter().any(|(venue, _)| *venue == mic || calendars.is_of_market(mic, venue));
    if concerned { calendars.of(mic) } else { None }
}

/// A date in a few words, from the layers alone: no table is compiled for a far year.
fn describe(calendar: &Calendar, date: NaiveDate) -> String {
    let layers = &calendar.layers;
    let plan = layers.plan(date, &layers.almanac((date.year(), date.year())));
    let reason = plan.why.map(|why| format!(" ({})", why.reason)).unwrap_or_default();
    let Some(hours) = plan.hours else { return format!("{}{reason}", plan.kind) };
    let halts = hours.halts.iter().map(|(start, end)| format!(", halt {}-{}", wall(*start), wall(*end)));
    format!("{} {}-{}{}{reason}", plan.kind, wall(hours.open), wall(hours.close), halts.collect::<String>())
}
