//! `calendar at | next | export`.

use anyhow::bail;
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::output;
use crate::calendar::{Calendar, Confidence, DayKind, Phase, Session};
use crate::clock::Clock;

/// Ask the calendar of an exchange.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Market identifier code of the exchange
    #[arg(long, global = true, default_value = "XNYS", value_name = "MIC")]
    exchange: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Phase, session and next transitions at an instant
    At {
        /// RFC 3339, for example 2027-03-15T14:00:00Z
        instant: DateTime<Utc>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The next transition from now
    Next {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The sessions of a range of dates, both ends included
    Export {
        /// First date
        #[arg(long)]
        from: NaiveDate,
        /// Last date
        #[arg(long)]
        to: NaiveDate,
        /// At most so many sessions
        #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
        /// csv: a line a session; json: an object a line; ics: a calendar to subscribe to
        #[arg(long, value_enum, default_value = "csv")]
        format: Format,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Format {
    Csv,
    Json,
    Ics,
}

#[derive(Serialize)]
struct At<'a> {
    exchange: &'a str,
    at: String,
    phase: Phase,
    session: Option<NaiveDate>,
    next_transition: String,
    next_phase: Phase,
    next_open: String,
    next_close: String,
    is_early_close: bool,
    confidence: Confidence,
    reason: Option<String>,
    calendar_version: &'a str,
}

#[derive(Serialize)]
struct Row {
    session: NaiveDate,
    pre_open: String,
    open: String,
    break_start: Option<String>,
    break_end: Option<String>,
    close: String,
    post_close: String,
    kind: DayKind,
    reason: Option<String>,
}

/// Answers from the rules alone: no database, no configuration.
pub fn run(arguments: &Arguments, clock: &dyn Clock) -> anyhow::Result<()> {
    if !arguments.exchange.eq_ignore_ascii_case("XNYS") {
        bail!("there is no calendar of {:?}; known is XNYS", arguments.exchange);
    }
    let calendar = Calendar::xnys();
    match arguments.command {
        Command::At { instant, json } => show(&calendar, instant, json),
        Command::Next { json } => show(&calendar, clock.now(), json),
        Command::Export { from, to, .. } if from > to => bail!("--from {from} is after --to {to}"),
        Command::Export { from, to, limit, format } => {
            export(&calendar, calendar.sessions(from, to).take(limit), format)
        }
    }
}

fn show(calendar: &Calendar, at: DateTime<Utc>, json: bool) -> anyhow::Result<()> {
    let moment = calendar.at(at);
    let local = at.with_timezone(&calendar.zone());
    let day = calendar.day(local.date_naive());
    let reason = moment.reason.or(day.reason).map(|reason| reason.to_string());
    if json {
        return output::print_json(&At {
            exchange: calendar.mic(),
            at: output::utc(at),
            phase: moment.phase,
            session: moment.session,
            next_transition: output::utc(moment.next_transition),
            next_phase: moment.next_phase,
            next_open: output::utc(moment.next_open),
            next_close: output::utc(moment.next_close),
            is_early_close: moment.is_early_close,
            confidence: moment.confidence,
            reason,
            calendar_version: calendar.version(),
        });
    }
    let both = |at: DateTime<Utc>| {
        let local = at.with_timezone(&calendar.zone());
        format!("{}  {}", output::utc(at), local.format("%a %Y-%m-%d %H:%M:%S %Z"))
    };
    let until = output::span(moment.next_transition - at);
    let mut text = format!("{} is {} at {}\n", calendar.mic(), moment.phase, both(at));
    if let Some(reason) = reason {
        text += &format!("why         {reason}\n");
    }
    text += &format!("then {:<6} {}  in {until}\n", moment.next_phase, both(moment.next_transition));
    text += &format!("next open   {}\n", both(moment.next_open));
    text +=
        &format!("next close  {}{}\n", both(moment.next_close), if moment.is_early_close { "  (early)" } else { "" });
    text += &format!("confidence  {}, calendar {}\n", moment.confidence, calendar.version());
    output::print(&text)
}

fn export(calendar: &Calendar, sessions: impl Iterator<Item = Session>, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => sessions.map(row_of).try_for_each(|row| output::print_json(&row)),
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            sessions.map(row_of).try_for_each(|row| writer.serialize(row))?;
            output::print(&String::from_utf8(writer.into_inner()?)?)
        }
        Format::Ics => output::print(&icalendar(calendar.mic(), sessions)),
    }
}

fn row_of(session: Session) -> Row {
    Row {
        session: session.date,
        pre_open: output::utc(session.pre_open),
        open: output::utc(session.open),
        break_start: None,
        break_end: None,
        close: output::utc(session.close),
        post_close: output::utc(session.post_close),
        kind: session.kind,
        reason: session.reason.map(|reason| reason.to_string()),
    }
}

/// RFC 5545; the stamp is the start of each session, so that the same calendar always gives the same bytes.
fn icalendar(mic: &str, sessions: impl Iterator<Item = Session>) -> String {
    let mut text = String::from("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//bellwether//market sessions//EN\r\n");
    let stamp = |at: DateTime<Utc>| at.format("%Y%m%dT%H%M%SZ").to_string();
    for session in sessions {
        let reason = session.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let summary = format!("{mic} {}{reason}", session.kind).replace(',', "\\,").replace(';', "\\;");
        let (open, close) = (stamp(session.open), stamp(session.close));
        text += &format!("BEGIN:VEVENT\r\nUID:{}-{mic}@bellwether\r\n", session.date);
        text += &format!("DTSTAMP:{open}\r\nDTSTART:{open}\r\nDTEND:{close}\r\nSUMMARY:{summary}\r\nEND:VEVENT\r\n");
    }
    text + "END:VCALENDAR\r\n"
}
