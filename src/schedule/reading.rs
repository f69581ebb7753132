//! Triggers as people write them (docs/schedule.md).

use std::str::FromStr;

use chrono::{DateTime, NaiveTime, TimeDelta};
use chrono_tz::Tz;

use super::trigger::{CronPattern, Trigger, usual_change};
use super::wall::ClockChange;
use crate::calendar::Phase;

/// The shortest spacing, and the longest span, that are taken.
const SHORTEST: TimeDelta = TimeDelta::seconds(1);
const LONGEST: TimeDelta = TimeDelta::days(366);

const FORMS: &str = "write one of: daily HH:MM ZONE, session-day HH:MM, every SPAN [while PHASE,PHASE], while PHASE,PHASE, \
    open[+-SPAN], \
    close[+-SPAN], cron PATTERN ZONE, at INSTANT; a SPAN is a number with s, m, h or d";

impl FromStr for Trigger {
    type Err = String;

    /// What is wrong, and what may be written.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let trigger = match words.as_slice() {
            ["daily", at, zone, change @ ..] => {
                Self::Daily { at: time(at)?, zone: parse_zone(zone)?, change: clock_change(change, false)? }
            }
            ["session-day", at, change @ ..] => {
                Self::SessionDay { at: time(at)?, change: clock_change(change, false)? }
            }
            ["every", every] => Self::Every(spacing(every)?),
            ["every", every, "while", phases @ ..] if !phases.is_empty() => {
                Self::EveryWhile { every: spacing(every)?, phases: parse_phases(phases)? }
            }
            ["while", phases @ ..] if !phases.is_empty() => Self::While { phases: parse_phases(phases)? },
            ["cron", rest @ ..] => cron(rest)?,
            ["at", at] => {
                Self::At(at.parse::<DateTime<_>>().map_err(|_| format!("{at:?} is not an RFC 3339 instant"))?)
            }
            [word, ..] if word.starts_with("open") => Self::Open(offset(&words.concat()["open".len()..])?),
            [word, ..] if word.starts_with("close") => Self::Close(offset(&words.concat()["close".len()..])?),
            _ => return Err(format!("{text:?} is no trigger; {FORMS}")),
        };
        Ok(trigger)
    }
}

/// Five or six fields, then the zone, then what on the nights the clocks change.
fn cron(words: &[&str]) -> Result<Trigger, String> {
    let zone = words.iter().position(|word| word.parse::<Tz>().is_ok());
    let Some((fields, [zone, change @ ..])) = zone.map(|zone| words.split_at(zone)) else {
        return Err(
            "the zone is missing; write cron PATTERN ZONE, for example cron */5 9-16 * * 1-5 America/New_York".into()
        );
    };
    if !(5..=6).contains(&fields.len()) {
        return Err(format!("{} fields; write five, or six with seconds first, then the zone", fields.len()));
    }
    let pattern = CronPattern::parse(&fields.join(" "))?;
    let change = clock_change(change, pattern.is_hourly())?;
    Ok(Trigger::Cron { pattern, zone: parse_zone(zone)?, change })
}

fn parse_phases(words: &[&str]) -> Result<Vec<Phase>, String> {
    words.concat().split(',').map(str::parse).collect()
}

fn parse_zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("{name:?} is no zone; write an IANA name such as America/New_York"))
}

fn time(text: &str) -> Result<NaiveTime, String> {
    let time = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok());
    time.ok_or_else(|| format!("{text:?} is not a time; write HH:MM or HH:MM:SS"))
}

/// `gap shift|skip` and `overlap first|last|both`, in any order.
fn clock_change(words: &[&str], hourly: bool) -> Result<ClockChange, String> {
    let mut change = usual_change(hourly);
    for pair in words.chunks(2) {
        match *pair {
            ["gap", name] => change.gap = name.parse()?,
            ["overlap", name] => change.overlap = name.parse()?,
            _ => {
                return Err(format!(
                    "{:?} is not understood; write gap shift|skip or overlap first|last|both",
                    pair.join(" ")
                ));
            }
        }
    }
    Ok(change)
}

fn spacing(text: &str) -> Result<TimeDelta, String> {
    let span = span(text)?;
    if span < SHORTEST { Err(format!("{text:?} is too short; the shortest is 1s")) } else { Ok(span) }
}

fn offset(text: &str) -> Result<TimeDelta, String> {
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(after), _) => span(after),
        (_, Some(before)) => span(before).map(|span| -span),
        _ if text.is_empty() => Ok(TimeDelta::zero()),
        _ => Err(format!("{text:?} is no offset; write +5m or -15m")),
    }
}

fn span(text: &str) -> Result<TimeDelta, String> {
    let refused = || format!("{text:?} is no span; write a whole number with s, m, h or d, for example 180s");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(refused()),
    };
    let number: i64 = number.parse().map_err(|_| refused())?;
    let span = number.checked_mul(seconds).and_then(TimeDelta::try_seconds);
    span.filter(|span| *span <= LONGEST).ok_or_else(|| format!("{text:?} is longer than a year"))
}
