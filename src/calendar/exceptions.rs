//! Dated exceptions: what was decided about single days, as a data file.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use serde::Deserialize;

use super::types::DayKind;

/// What was decided about one date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exception {
    pub kind: DayKind,
    pub open: Option<NaiveTime>,
    pub close: Option<NaiveTime>,
    pub reason: Arc<str>,
    pub source: Arc<str>,
    pub declared_at: Option<NaiveDate>,
}

#[derive(Deserialize)]
struct Row {
    date: NaiveDate,
    kind: String,
    open_local: String,
    close_local: String,
    reason: String,
    source: String,
    declared_at: Option<NaiveDate>,
}

/// Reads a file of exceptions.
///
/// # Errors
/// The line and what is wrong with it; the file counts whole or not at all.
pub(super) fn parse(text: &str) -> Result<BTreeMap<NaiveDate, Exception>, String> {
    let mut exceptions = BTreeMap::new();
    for (row, line) in csv::Reader::from_reader(text.as_bytes()).deserialize::<Row>().zip(2..) {
        let row = row.map_err(|fault| format!("line {line}: {fault}"))?;
        let date = row.date;
        let exception = read(row).map_err(|fault| format!("line {line}: {fault}"))?;
        if exceptions.insert(date, exception).is_some() {
            return Err(format!("line {line}: {date} is there twice; keep one line"));
        }
    }
    Ok(exceptions)
}

fn read(row: Row) -> Result<Exception, String> {
    let (open, close) = (time("open_local", &row.open_local)?, time("close_local", &row.close_local)?);
    let kind = match (row.kind.as_str(), open, close) {
        ("closed", None, None) => DayKind::Closure,
        ("early_close", None, Some(_)) => DayKind::EarlyClose,
        ("late_open", Some(_), None) => DayKind::LateOpen,
        ("late_close", None, Some(_)) | ("early_close" | "late_open", Some(_), Some(_)) => DayKind::Special,
        (kind, _, _) => return Err(format!("kind {kind:?} does not go with these times")),
    };
    let Row { reason, source, declared_at, .. } = row;
    Ok(Exception { kind, open, close, reason: reason.into(), source: source.into(), declared_at })
}

fn time(column: &str, text: &str) -> Result<Option<NaiveTime>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = NaiveTime::parse_from_str(text, "%H:%M");
    parsed.map(Some).map_err(|_| format!("{column} {text:?} is not HH:MM"))
}
