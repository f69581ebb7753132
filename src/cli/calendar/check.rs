//! `calendar check FILE`: what is wrong with a file of exceptions, or what it would change.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::super::{FINDINGS, output};
use crate::calendar::{Calendars, Change, Mistake, Operator, Origin, differences};
use crate::config::Config;
use crate::ops::calendars::{CalendarFault, Told, read_file};

#[derive(Serialize)]
struct Report<'a> {
    file: String,
    ok: bool,
    rows: usize,
    mistakes: &'a [Mistake],
    changes: &'a [Change],
}

/// Reads the file as the daemon would in place of its own, beside the rows that came over HTTP.
pub async fn run(file: &Path, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    // What is in force may have a mistake itself: then the file is compared with what there is without it.
    let current = match super::load(config).await {
        Ok(current) => current,
        Err(fault) => {
            eprintln!("bellwether: {fault:#}; compared with the calendar without that file");
            let mut without = config.clone();
            without.calendar.exceptions = None;
            super::load(&without).await?
        }
    };
    let read = match read_file(file) {
        Ok(rows) => rows,
        Err(CalendarFault::Refused(told)) => return refuse(file, &told.mistakes, json),
        Err(fault) => return Err(fault.into()),
    };
    let count = read.len();
    let others = current.operator().exceptions.iter().filter(|row| row.origin != Origin::File).cloned();
    let exceptions = read.into_iter().chain(others).collect();
    let operator = Operator { exceptions, overnight: config.calendar.overnight.clone(), known_at: None };
    let changed = match Calendars::build(operator) {
        Ok(changed) => changed,
        Err(mistakes) => return refuse(file, &mistakes.0, json),
    };
    let changes = differences(&current, &changed);
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
        for mistake in mistakes {
            let told = Told { path: Some(file.to_owned()), mistakes: vec![mistake.clone()] };
            output::print(&format!("{told}\n"))?;
        }
    }
    Ok(ExitCode::from(FINDINGS))
}
