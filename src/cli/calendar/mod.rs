//! `calendar at | next | why | show | export | check | venues`.

mod check;
mod picture;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand, ValueEnum};

use super::{Usage, output};
use crate::calendar::{At, Calendar, Calendars, Session, SessionRow, Why, icalendar};
use crate::clock::{Clock, span_in_words};
use crate::config::{Config, DatabaseTarget};
use crate::ops::calendars;
use crate::store::{Access, Store};

/// Ask the calendar of an exchange: the built-in data with the operator's exceptions over it.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Market identifier code of the venue; unset: calendar.exchange of the configuration
    #[arg(long, global = true, value_name = "MIC")]
    exchange: Option<String>,
    /// Answer as of what was known at this instant (RFC 3339), or at the end of this date
    #[arg(long, global = true, value_name = "INSTANT", value_parser = parse_known_at)]
    as_of: Option<DateTime<Utc>>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Phase, session and next transitions at an instant
    At {
        /// RFC 3339, for example 2027-03-15T14:00:00Z
        #[arg(value_parser = super::arguments::instant)]
        instant: DateTime<Utc>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// The same for now: what comes next
    Next {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Why a date is a session, or is not, and who says so
    Why {
        /// For example 2025-01-09
        #[arg(value_parser = super::arguments::date)]
        date: NaiveDate,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// A month or a year as a picture; this month if none is named
    Show {
        /// YYYY or YYYY-MM
        #[arg(value_name = "YEAR[-MONTH]", value_parser = picture::parse_period)]
        period: Option<picture::Period>,
        /// One JSON object a session
        #[arg(long)]
        json: bool,
    },
    /// The sessions of a range of dates, both ends included
    Export {
        /// First date
        #[arg(long, value_parser = super::arguments::date)]
        from: NaiveDate,
        /// Last date
        #[arg(long, value_parser = super::arguments::date)]
        to: NaiveDate,
        /// At most so many sessions
        #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
        /// csv: a line a session; json: an object a line; ics: a calendar to subscribe to
        #[arg(long, value_enum, default_value = "csv")]
        format: Format,
        /// The same as --format json
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// What a file of exceptions would change; exit code 3 when it has mistakes
    Check {
        /// CSV, as calendar.exceptions names one
        file: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Every venue there is a calendar of
    Venues {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Format {
    Csv,
    Json,
    Ics,
}

/// An instant, or the end of a date.
pub fn parse_known_at(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        // What was known by the end of the date, in the zone of nobody in particular.
        return date.and_hms_opt(23, 59, 59).map(|end| end.and_utc()).ok_or_else(|| "no such date".to_owned());
    }
    text.parse().map_err(|_| format!("{text:?} is neither an RFC 3339 instant nor a date"))
}

/// The calendars of a configuration: the operator's file, and the rows in the database where it can be read. Without it the
/// answer is told to be incomplete.
pub async fn load(config: &Config) -> anyhow::Result<Calendars> {
    let fresh = matches!(&config.database, DatabaseTarget::Sqlite(path) if !path.exists());
    if !fresh {
        let loaded = async {
            let store = Store::open(&config.database, Access::Reader, 1, config.database_timeout).await?;
            let loaded = calendars::load(&config.calendar, Some(&store)).await;
            store.close().await;
            loaded
        };
        match loaded.await {
            Err(calendars::CalendarFault::Store(fault)) => {
                eprintln!("bellwether: {fault}; exceptions that were sent over HTTP are not in this answer");
            }
            result => return Ok(result?.0),
        }
    }
    Ok(calendars::load(&config.calendar, None).await?.0)
}

/// The calendar that drives the schedule of a configuration.
pub async fn chosen(config: &Config) -> anyhow::Result<Arc<Calendar>> {
    of(&load(config).await?, &config.calendar.exchange)
}

/// The calendar of a venue.
pub fn of(calendars: &Calendars, mic: &str) -> anyhow::Result<Arc<Calendar>> {
    let known = calendars.of(mic);
    known.ok_or_else(|| {
        let known = calendars.mics().collect::<Vec<_>>().join(", ");
        Usage(format!("there is no calendar of {mic:?}; there are {known}")).into()
    })
}

/// Answers.
pub async fn run(arguments: &Arguments, config: &Config, clock: &dyn Clock, colour: bool) -> anyhow::Result<ExitCode> {
    if let Command::Check { file, json } = &arguments.command {
        return check::run(file, config, *json).await;
    }
    let mut calendars = load(config).await?;
    if let Some(known_at) = arguments.as_of {
        calendars = calendars.as_of(known_at);
    }
    let calendar = of(&calendars, arguments.exchange.as_deref().unwrap_or(&config.calendar.exchange))?;
    match &arguments.command {
        Command::At { instant, json } => show(&calendar, *instant, *json)?,
        Command::Next { json } => show(&calendar, clock.now(), *json)?,
        Command::Why { date, json } => why(&calendar, *date, *json)?,
        Command::Show { period, json } => {
            let today = calendar.local_date(clock.now());
            let period = period.unwrap_or_else(|| picture::Period::month_of(today));
            let (first, last) = period.dates();
            if *json {
                export(&calendar, calendar.sessions(first, last), Format::Json)?;
            } else {
                output::print(&picture::draw(&calendar, period, today, colour))?;
            }
        }
        Command::Export { from, to, .. } if from > to => {
            return Err(Usage(format!("--from {from} is after --to {to}")).into());
        }
        Command::Export { from, to, limit, format, json } => {
            let format = if *json { Format::Json } else { *format };
            export(&calendar, calendar.sessions(*from, *to).take(*limit), format)?;
        }
        Command::Check { .. } => unreachable!("answered above, because the configured file may be the bad one"),
        Command::Venues { json } => venues(&calendars, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(calendar: &Calendar, at: DateTime<Utc>, json: bool) -> anyhow::Result<()> {
    let answer = At::ask(calendar, at);
    if json {
        return output::print_json(&answer);
    }
    let moment = calendar.at(at);
    let both = |at: DateTime<Utc>| {
        let local = at.with_timezone(&calendar.zone());
        format!("{}  {}", output::utc(at), local.format("%a %Y-%m-%d %H:%M:%S %Z"))
    };
    let then = |at: DateTime<Utc>| if at == DateTime::<Utc>::MAX_UTC { "never".to_owned() } else { both(at) };
    let mut text = format!("{} is {} at {}\n", calendar.mic(), moment.phase, both(at));
    if let Some(reason) = &answer.reason {
        text += &format!("why         {reason}\n");
    }
    text += &format!("then {:<6} {}", moment.next_phase, then(moment.next_transition));
    if answer.next_transition.is_some() {
        text += &format!("  in {}", span_in_words(moment.next_transition - at));
    }
    text += &format!("\nnext open   {}\n", then(calendar.next_open(at)));
    let early = if answer.is_early_close { "  (early)" } else { "" };
    text += &format!("next close  {}{early}\n", then(calendar.next_close(at)));
    text += &format!("confidence  {}, calendar {}\n", moment.confidence, calendar.version());
    output::print(&text)
}

fn why(calendar: &Calendar, date: NaiveDate, json: bool) -> anyhow::Result<()> {
    let day = calendar.why(date);
    if json {
        return output::print_json(&Why::from(day));
    }
    let what = if day.is_session { "is a session" } else { "is no session" };
    let mut text = format!("{} {} {what} of {}: {}\n", date.format("%a"), date, calendar.mic(), day.kind);
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            text += &format!("{name:<12}{value}\n");
        }
    };
    line("reason", day.reason.as_deref());
    line("source", day.source.as_deref());
    line("declared", day.declared_at.as_deref());
    line("author", day.author.as_deref().filter(|author| *author != "bellwether"));
    line("hours", calendar.session(date).map(|session| picture::hours(calendar, &session)).as_deref());
    line("confidence", Some(day.confidence.name()));
    output::print(&text)
}

fn export(calendar: &Calendar, sessions: impl Iterator<Item = Session>, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => sessions.map(SessionRow::from).try_for_each(|row| output::print_json(&row)),
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            // The header is there even when no session is.
            writer.write_record(SessionRow::COLUMNS)?;
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(writer.into_inner()?);
            sessions.map(SessionRow::from).try_for_each(|row| writer.serialize(row))?;
            output::print(&String::from_utf8(writer.into_inner()?)?)
        }
        Format::Ics => output::print(&icalendar(calendar, sessions)),
    }
}

fn venues(calendars: &Calendars, json: bool) -> anyhow::Result<()> {
    if json {
        return calendars.about().try_for_each(|venue| output::print_json(&venue));
    }
    let rows = calendars.about().map(|venue| {
        let until = venue.published_until.to_string();
        vec![venue.exchange, venue.name, venue.market, venue.zone.to_owned(), until, venue.calendar_version]
    });
    let header = ["VENUE", "NAME", "MARKET", "ZONE", "PUBLISHED UNTIL", "VERSION"];
    output::print(&output::table(&header, &rows.collect::<Vec<_>>()))
}
