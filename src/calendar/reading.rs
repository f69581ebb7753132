//! Making sense of exceptions as they are written: a CSV file, or a row by itself.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike};

use super::KNOWABLE_YEARS;
use super::exceptions::{COLUMNS, Declared, Exception, ExceptionKind, MOST_ROWS, Mistake, Mistakes, Origin, Written};
use super::zone::LocalSeconds;

/// The longest reason, source or author, in bytes.
const LONGEST_TEXT: usize = 500;

/// The most characters of a cell that a message shows.
const LONGEST_SHOWN: usize = 40;

/// Reads a file of exceptions: CSV with the header [`COLUMNS`], in any order, of which `date`, `venue`, `kind` and `reason`
/// must be there. Lines that begin with `#` are comments.
///
/// # Errors
/// Every mistake in it; a file counts whole or not at all. A file without even its header is one, because an editor that is
/// just writing leaves such a file behind.
pub fn read_csv(text: &str, origin: Origin) -> Result<Vec<Exception>, Mistakes> {
    let mistake = |line, column, message: String, fix: &str| Mistake {
        origin: Some(origin),
        line,
        column,
        message,
        fix: fix.to_owned(),
    };
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let header = match records.next() {
        Some(Ok(header)) => read_header(&header, origin, line_of(text, header.position()))?,
        Some(Err(fault)) => return Err(Mistakes(vec![mistake(1, None, fault.to_string(), "write UTF-8 text")])),
        None => {
            let fix = "write the header line, and no others for no exceptions";
            return Err(Mistakes(vec![mistake(1, None, "the file is empty".to_owned(), fix)]));
        }
    };
    let (mut exceptions, mut mistakes) = (Vec::new(), Vec::new());
    for record in records {
        if exceptions.len() + mistakes.len() == MOST_ROWS {
            mistakes.push(mistake(0, None, format!("more than {MOST_ROWS} rows"), "drop what is long past"));
            break;
        }
        match record {
            Ok(record) => {
                let line = line_of(text, record.position());
                match header.written(&record, line, origin).and_then(|written| read(&written, origin, line)) {
                    Ok(exception) => exceptions.push(exception),
                    Err(found) => mistakes.push(found),
                }
            }
            Err(fault) => {
                let line = line_of(text, fault.position());
                mistakes.push(mistake(line, None, fault.to_string(), "write UTF-8 text"));
            }
        }
    }
    if mistakes.is_empty() { Ok(exceptions) } else { Err(Mistakes(mistakes)) }
}

/// The line a record begins on. The crate says where it began to look: comments and empty lines may lie in between.
fn line_of(text: &str, position: Option<&csv::Position>) -> usize {
    let Some(position) = position else { return 0 };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let passed = text.get(..start).map_or(0, |before| before.bytes().filter(|byte| *byte == b'\n').count());
    let rest = text.get(start..).unwrap_or_default();
    let skipped = rest.split_inclusive('\n').take_while(|line| line.trim().is_empty() || line.starts_with('#')).count();
    passed + skipped + 1
}

/// A cell as it is shown in a message: what is quoted may be a whole file that was named by mistake.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(LONGEST_SHOWN).collect();
    format!("{short:?}{}", if short.len() < text.len() { ".." } else { "" })
}

/// Where each column of a file is.
struct Header(Vec<usize>);

fn read_header(record: &csv::StringRecord, origin: Origin, line: usize) -> Result<Header, Mistakes> {
    let mut columns = Vec::new();
    let mut mistakes = Vec::new();
    let mut refuse = |message: String, fix: String| {
        mistakes.push(Mistake { origin: Some(origin), line, column: None, message, fix });
    };
    for name in record {
        let plain = name.to_lowercase();
        let plain = plain.strip_suffix("_local").unwrap_or(&plain);
        match COLUMNS.iter().position(|column| *column == plain) {
            Some(index) if !columns.contains(&index) => columns.push(index),
            Some(_) => refuse(format!("the column {} is there twice", shown(name)), "keep one".to_owned()),
            None => {
                refuse(format!("there is no column {}", shown(name)), format!("the columns are {}", COLUMNS.join(",")))
            }
        }
    }
    for needed in ["date", "venue", "kind", "reason"] {
        if !columns.iter().any(|index| COLUMNS[*index] == needed) {
            refuse(format!("the column {needed} is missing"), format!("begin the file with {}", COLUMNS.join(",")));
        }
    }
    if mistakes.is_empty() { Ok(Header(columns)) } else { Err(Mistakes(mistakes)) }
}

impl Header {
    fn written(&self, record: &csv::StringRecord, line: usize, origin: Origin) -> Result<Written, Mistake> {
        if record.len() != self.0.len() {
            let message = format!("{} values for {} columns", record.len(), self.0.len());
            let fix = "write one value for each column; put quotes around a text with a comma in it".to_owned();
            return Err(Mistake { origin: Some(origin), line, column: None, message, fix });
        }
        let cell = |column: &str| {
            let index = self.0.iter().position(|index| COLUMNS[*index] == column);
            index.and_then(|index| record.get(index)).unwrap_or_default().to_owned()
        };
        Ok(Written {
            date: cell("date"),
            venue: cell("venue"),
            kind: cell("kind"),
            open: cell("open"),
            close: cell("close"),
            halt_start: cell("halt_start"),
            halt_end: cell("halt_end"),
            reason: cell("reason"),
            source: cell("source"),
            declared_at: cell("declared_at"),
            author: cell("author"),
        })
    }
}

/// Makes sense of a row.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(written: &Written, origin: Origin, line: usize) -> Result<Exception, Mistake> {
    let refuse = |column, message: String, fix: &str| Mistake {
        origin: Some(origin),
        line,
        column: Some(column),
        message,
        fix: fix.to_owned(),
    };
    let date: NaiveDate = written.date.parse().map_err(|_| {
        refuse("date", format!("{} is not a date", shown(&written.date)), "write YYYY-MM-DD, for example 2027-03-15")
    })?;
    if !(KNOWABLE_YEARS.0..=KNOWABLE_YEARS.1).contains(&date.year()) {
        let message = format!("{date} is beyond the years this calendar knows");
        return Err(refuse("date", message, "write a date from 1700 to 9000"));
    }
    if written.venue.is_empty() {
        return Err(refuse(
            "venue",
            "no venue is named".to_owned(),
            "write a MIC such as XNYS, or US for all of its venues",
        ));
    }
    let names = ExceptionKind::ALL.map(ExceptionKind::name).join(", ");
    let kind = read_kind(&written.kind).ok_or_else(|| {
        refuse("kind", format!("{} is no kind", shown(&written.kind)), &format!("write one of {names}"))
    })?;
    let time = |column, text: &str| {
        let refused =
            || refuse(column, format!("{} is not a time", shown(text)), "write HH:MM or HH:MM:SS, for example 13:00");
        if text.is_empty() { Ok(None) } else { wall_time(text).map(Some).ok_or_else(refused) }
    };
    let (open, close) = (time("open", &written.open)?, time("close", &written.close)?);
    let halt = (time("halt_start", &written.halt_start)?, time("halt_end", &written.halt_end)?);
    check_times(kind, open, close, halt).map_err(|(column, message, fix)| refuse(column, message, fix))?;
    if written.reason.is_empty() {
        return Err(refuse(
            "reason",
            "no reason is given".to_owned(),
            "say in a few words why, for those who ask later",
        ));
    }
    for (column, text) in [("reason", &written.reason), ("source", &written.source), ("author", &written.author)] {
        if text.len() > LONGEST_TEXT || !text.chars().all(is_plain) {
            let message = format!("the text is longer than {LONGEST_TEXT} bytes, or of more than one line");
            return Err(refuse(column, message, "write one line, short and plain"));
        }
    }
    let text = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
    Ok(Exception {
        date,
        venue: Arc::from(written.venue.to_uppercase()),
        kind,
        open,
        close,
        halt: halt.0.zip(halt.1),
        reason: Arc::from(written.reason.as_str()),
        source: text(&written.source),
        declared_at: read_declared(&written.declared_at).map_err(|message| {
            refuse("declared_at", message, "write YYYY-MM-DD, or an instant such as 2024-12-30T18:00:00Z")
        })?,
        author: text(&written.author),
        origin,
        line,
    })
}

/// Neither a control character nor one that turns the direction of a line or breaks it.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A kind by its name, or by a word people use for it.
pub(super) fn read_kind(name: &str) -> Option<ExceptionKind> {
    let name = name.to_lowercase();
    let alias = match name.as_str() {
        "closed" | "close" => "closure",
        "early" => "early_close",
        other => other,
    };
    ExceptionKind::ALL.into_iter().find(|kind| kind.name() == alias)
}

type Refusal = (&'static str, String, &'static str);

/// Which times go with which kind.
fn check_times(
    kind: ExceptionKind,
    open: Option<LocalSeconds>,
    close: Option<LocalSeconds>,
    halt: (Option<LocalSeconds>, Option<LocalSeconds>),
) -> Result<(), Refusal> {
    use ExceptionKind::{Clear, Closure, EarlyClose, Halt, LateClose, LateOpen, Open};
    let none = |column, given: bool, fix| {
        if given { Err((column, format!("{} takes no {column}", kind.name()), fix)) } else { Ok(()) }
    };
    let needed = |column, given: bool, fix| {
        if given { Ok(()) } else { Err((column, format!("{} needs {column}", kind.name()), fix)) }
    };
    let drop = "leave the column empty";
    if kind == Halt {
        needed("halt_start", halt.0.is_some(), "write when trading stopped, HH:MM")?;
        needed("halt_end", halt.1.is_some(), "write when it went on, HH:MM; a halt without an end is an early_close")?;
    } else {
        none("halt_start", halt.0.is_some(), drop)?;
        none("halt_end", halt.1.is_some(), drop)?;
    }
    match kind {
        Clear | Closure | Halt => {
            none("open", open.is_some(), drop)?;
            none("close", close.is_some(), drop)?;
        }
        LateOpen => {
            needed("open", open.is_some(), "write when it opens, HH:MM")?;
            none("close", close.is_some(), "write kind early_close for a day with both, or a line of its own")?;
        }
        EarlyClose => needed("close", close.is_some(), "write when it closes, HH:MM")?,
        LateClose => {
            needed("close", close.is_some(), "write when it closes, HH:MM")?;
            none("open", open.is_some(), "write a late_open in a line of its own")?;
        }
        Open => {}
    }
    if let (Some(from), Some(to), column) =
        if kind == Halt { (halt.0, halt.1, "halt_end") } else { (open, close, "close") }
        && from >= to
    {
        return Err((column, "it ends before it begins".to_owned(), "write the earlier time first, on the same day"));
    }
    Ok(())
}

/// `HH:MM` or `HH:MM:SS` as seconds from midnight.
pub(super) fn wall_time(text: &str) -> Option<LocalSeconds> {
    let time = ["%H:%M:%S", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok())?;
    // A leap second is no time a market keeps.
    (time.nanosecond() == 0).then(|| LocalSeconds::try_from(time.num_seconds_from_midnight()).ok())?
}

pub(super) fn read_declared(text: &str) -> Result<Option<Declared>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let date = text.parse().map(Declared::On);
    let declared = date.or_else(|_| DateTime::parse_from_rfc3339(text).map(|at| Declared::At(at.to_utc())));
    declared.map(Some).map_err(|_| format!("{} is neither a date nor an instant", shown(text)))
}
