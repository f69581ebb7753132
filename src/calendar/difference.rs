//! What one set of exceptions changes against another.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::{Calendar, Calendars, DayKind, Phase};

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

/// A date in a few words.
fn describe(calendar: &Calendar, date: NaiveDate) -> String {
    let local = |at: DateTime<Utc>| {
        let text = at.with_timezone(&calendar.zone()).format("%H:%M:%S").to_string();
        text.strip_suffix(":00").map(str::to_owned).unwrap_or(text)
    };
    let day = calendar.why(date);
    let reason = day.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let Some(session) = calendar.session(date) else { return format!("{}{reason}", day.kind) };
    let halts: String = session
        .pauses
        .iter()
        .filter(|pause| pause.phase == Phase::Halt)
        .map(|halt| format!(", halt {}-{}", local(halt.start), local(halt.end)))
        .collect();
    let kind = if day.kind == DayKind::Full { "full".to_owned() } else { day.kind.to_string() };
    format!("{kind} {}-{}{halts}{reason}", local(session.open), local(session.close))
}
