//! `calendar check FILE`: what is wrong with a file of exceptions, or what it would change.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::super::{FINDINGS, output};
use crate::calendar::{Calendars, Change, Mistake, Operator, Origin, differences};
use crate::config::Config;
use crate::ops::calendars::{CalendarFault, read_file};

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    ok: bool,
    rows: usize,
    mistakes: &'a [Mistake],
    changes: &'a [Change],
}

/// Reads the file as the daemon would in place of its own, beside the rows that came over HTTP.
pub async fn run(file: &Path, config: &Config, current: &Calendars, json: bool) -> anyhow::Result<ExitCode> {
    let read = match read_file(file) {
        Ok(rows) => rows,
        Err(CalendarFault::Refused(told)) => return refuse(file, &told.mistakes, json),
        Err(fault) => return Err(fault.into()),
    };
    let count = read.len();
    let others = current.operator().exceptions.iter().filter(|row| row.origin != Origin::File).cloned();
    let exceptions = read.into_iter().chain(others).collect();
    let operator =
        Operator { exceptions, overnight: config.calendar.overnight.clone(), known_at: current.operator().known_at };
    let changed = match Calendars::build(operator) {
        Ok(changed) => changed,
        Err(mistakes) => return refuse(file, &mistakes.0, json),
    };
    let changes = differences(current, &changed);
    if json {
        let file = file.display().to_string();
        output::print_json(&Report { file, ok: true, rows: count, mistakes: &[], changes: &changes })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{}: {count} rows, no mistakes; {} dates would change\n", file.display(), changes.len());
    for Change { exchange, date, before, after } in &changes {
        text += &format!("{exchange} {} {date}\n  - {before}\n  + {after}\n", date.format("%a"));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn refuse(file: &Path, mistakes: &[Mistake], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let file = file.display().to_string();
        output::print_json(&Report { file, ok: false, rows: 0, mistakes, changes: &[] })?;
    } else {
        let lines: String = mistakes.iter().map(|mistake| format!("{}: {mistake}\n", file.display())).collect();
        output::print(&lines)?;
    }
    Ok(ExitCode::from(FINDINGS))
}
