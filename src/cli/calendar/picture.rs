//! A month or a year of a calendar, drawn for a terminal.

use std::str::FromStr;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};

use crate::calendar::{Calendar, Confidence, DayKind, Phase, Session};

/// Months beside one another in the picture of a year.
const ABREAST: usize = 3;

/// A week is seven cells of four characters.
const WIDTH: usize = 28;

/// What to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// A whole year.
    Year(i32),
    /// One month.
    Month(i32, u32),
}

impl Period {
    /// The month a date lies in.
    pub fn month_of(date: NaiveDate) -> Self {
        Self::Month(date.year(), date.month())
    }

    /// Its first and last date.
    pub fn dates(self) -> (NaiveDate, NaiveDate) {
        let (year, month, months) = match self {
            Self::Year(year) => (year, 1, 12),
            Self::Month(year, month) => (year, month, 1),
        };
        let first = NaiveDate::from_ymd_opt(year, month, 1).unwrap_or_default();
        let after = first.checked_add_months(Months::new(months)).unwrap_or(NaiveDate::MAX);
        (first, after.pred_opt().unwrap_or(first))
    }
}

/// `YYYY` or `YYYY-MM`.
pub fn parse_period(text: &str) -> Result<Period, String> {
    let refused = || format!("{text:?} is neither a year such as 2027 nor a month such as 2027-03");
    let year = |text: &str| i32::from_str(text).ok().filter(|year| (1700..=9000).contains(year)).ok_or_else(refused);
    match text.split_once('-') {
        None => Ok(Period::Year(year(text)?)),
        Some((of, month)) => {
            let month = month.parse().ok().filter(|month| (1..=12).contains(month)).ok_or_else(refused)?;
            Ok(Period::Month(year(of)?, month))
        }
    }
}

/// Draws the period, and under it every day that is not as usual.
pub fn draw(calendar: &Calendar, period: Period, today: NaiveDate, colour: bool) -> String {
    let (first, last) = period.dates();
    let months: Vec<NaiveDate> =
        first.iter_days().take_while(|date| *date <= last).filter(|date| date.day() == 1).collect();
    let blocks: Vec<Vec<String>> = months.iter().map(|month| block(calendar, *month, today, colour)).collect();
    let mut text = format!("{} ({}), times of {}\n\n", calendar.name(), calendar.mic(), calendar.zone());
    for abreast in blocks.chunks(ABREAST) {
        let height = abreast.iter().map(Vec::len).max().unwrap_or(0);
        for row in 0..height {
            let empty = " ".repeat(WIDTH);
            let cells: Vec<&str> = abreast.iter().map(|block| block.get(row).unwrap_or(&empty).as_str()).collect();
            text += cells.join("   ").trim_end();
            text.push('\n');
        }
        text.push('\n');
    }
    text + &legend(calendar, first, last)
}

/// One month: its name, the weekdays, a line a week; every line of one width.
fn block(calendar: &Calendar, month: NaiveDate, today: NaiveDate, colour: bool) -> Vec<String> {
    let name = month.format("%B %Y").to_string();
    let mut lines = vec![format!("{name:^WIDTH$}"), " Mo  Tu  We  Th  Fr  Sa  Su ".to_owned()];
    let mut line = "    ".repeat(month.weekday().num_days_from_monday() as usize);
    let mut filled = month.weekday().num_days_from_monday();
    for date in month.iter_days().take_while(|date| date.month() == month.month()) {
        line += &cell(calendar, date, today, colour);
        filled += 1;
        if filled == 7 {
            lines.push(std::mem::take(&mut line));
            filled = 0;
        }
    }
    if filled > 0 {
        lines.push(line + &"    ".repeat(7 - filled as usize));
    }
    lines
}

/// A date in four characters: its number and a mark. Colour says nothing that the mark does not.
fn cell(calendar: &Calendar, date: NaiveDate, today: NaiveDate, colour: bool) -> String {
    let day = calendar.why(date);
    let (mark, paint) = match day.kind {
        DayKind::Full => (' ', "0"),
        DayKind::EarlyClose => ('<', "33"),
        DayKind::LateOpen => ('>', "33"),
        DayKind::Special => ('*', "33"),
        DayKind::Holiday | DayKind::Closure => ('#', "31"),
        DayKind::Weekend => (' ', "2"),
    };
    let text = match day.kind {
        DayKind::Weekend => "  .".to_owned(),
        _ if date == today => format!("[{:>2}", date.day()),
        _ => format!(" {:>2}", date.day()),
    };
    let mark = if date == today && mark == ' ' { ']' } else { mark };
    if colour { format!("\x1b[{paint}m{text}{mark}\x1b[0m") } else { format!("{text}{mark}") }
}

fn legend(calendar: &Calendar, first: NaiveDate, last: NaiveDate) -> String {
    let sessions = calendar.sessions(first, last).count();
    let mut text =
        format!("{sessions} sessions   # closed   < closes early   > opens late   * other hours   [] today\n");
    for date in first.iter_days().take_while(|date| *date <= last) {
        let day = calendar.why(date);
        let session = calendar.session(date);
        let paused =
            session.as_ref().is_some_and(|session| session.pauses.iter().any(|pause| pause.phase == Phase::Halt));
        if matches!(day.kind, DayKind::Weekend) || day.kind == DayKind::Full && !paused {
            continue;
        }
        let hours = session.map(|session| format!(" {}", hours(calendar, &session))).unwrap_or_default();
        let reason = day.reason.as_deref().unwrap_or_default();
        let sure = match day.confidence {
            Confidence::Official => String::new(),
            other => format!(" [{other}]"),
        };
        text += &format!("{} {:<11}{hours} {reason}{sure}\n", date.format("%F %a"), day.kind);
    }
    text
}

/// The hours of a session on the wall of its market.
pub fn hours(calendar: &Calendar, session: &Session) -> String {
    let local = |at: DateTime<Utc>| {
        let text = calendar.wall(at).format("%H:%M:%S").to_string();
        text.strip_suffix(":00").map(str::to_owned).unwrap_or(text)
    };
    let pauses =
        session.pauses.iter().map(|pause| format!(", {} {}-{}", pause.phase, local(pause.start), local(pause.end)));
    format!("{}-{}{}", local(session.open), local(session.close), pauses.collect::<String>())
}
