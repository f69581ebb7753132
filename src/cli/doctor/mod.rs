//! `doctor`: the checks of the runbooks, each with its cause and the exact fix.

mod ingestion;
mod mail;
mod renewals;
mod schedule;
mod webhooks;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{FINDINGS, ask, output};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::ops::calendars::{CalendarFault, read_file};

/// Check what can be wrong, and say how to mend it. Exit code 3 when something is.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What to look at
    #[arg(value_enum, default_value = "all")]
    area: Area,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// How far the holidays are published, the operator's exceptions, and whether the daemon goes by them
    Calendar,
    /// The clock of this host beside the database's and the ledger's, and whether it was set lately
    Clock,
    /// Whether somebody plans, what is paused, and whether every slot of the last day has its row
    Schedule,
    /// Whether the data is current and complete, whose fault it is if not, and what is quoted
    Ingestion,
    /// What waits, was given up or turned away in the inbox, and whether PayPal answers
    Webhooks,
    /// What is overdue, in doubt, flagged, without an account, or cannot be delivered
    Renewals,
    /// What waits and was given up in the outbox, and whether the mail server takes letters
    Mail,
    /// Everything that can be checked
    All,
}

#[derive(Serialize)]
struct Check {
    area: &'static str,
    check: &'static str,
    ok: bool,
    /// What was found, good or bad.
    found: String,
    /// What to do, where something is wrong.
    fix: Option<String>,
}

#[derive(Serialize)]
struct Report {
    findings: usize,
    checks: Vec<Check>,
}

/// Looks, and tells.
pub async fn run(arguments: &Arguments, config: &Config, clock: SharedClock) -> anyhow::Result<ExitCode> {
    let wanted = |area| [area, Area::All].contains(&arguments.area);
    let mut checks = Vec::new();
    if wanted(Area::Calendar) {
        checks.extend(calendar(config, clock.now()).await);
    }
    if wanted(Area::Clock) || wanted(Area::Schedule) {
        match schedule::Facts::gather(config, &clock).await {
            Ok(facts) => {
                checks.extend(wanted(Area::Clock).then(|| facts.clock()).into_iter().flatten());
                checks.extend(wanted(Area::Schedule).then(|| facts.schedule()).into_iter().flatten());
            }
            // Without an area of its own a new installation has no ledger to be looked at.
            Err(fault) if arguments.area != Area::All => return Err(fault),
            Err(fault) => checks.push(check("schedule", "ledger", Ok(format!("not looked at: {fault:#}")))),
        }
    }
    if wanted(Area::Ingestion) {
        match ingestion::checks(config, &clock).await {
            Ok(more) => checks.extend(more),
            Err(fault) if arguments.area != Area::All => return Err(fault),
            Err(fault) => checks.push(check("ingestion", "data", Ok(format!("not looked at: {fault:#}")))),
        }
    }
    if wanted(Area::Webhooks) {
        match webhooks::checks(config, &clock).await {
            Ok(found) => checks.extend(found),
            Err(fault) if arguments.area != Area::All => return Err(fault),
            Err(fault) => checks.push(check("webhooks", "inbox", Ok(format!("not looked at: {fault:#}")))),
        }
    }
    if wanted(Area::Renewals) {
        match renewals::checks(config, clock.now()).await {
            Ok(found) => checks.extend(found),
            Err(fault) if arguments.area != Area::All => return Err(fault),
            Err(fault) => checks.push(check("renewals", "billing", Ok(format!("not looked at: {fault:#}")))),
        }
    }
    if wanted(Area::Mail) {
        match mail::checks(config, &clock).await {
            Ok(found) => checks.extend(found),
            Err(fault) if arguments.area != Area::All => return Err(fault),
            Err(fault) => checks.push(check("mail", "outbox", Ok(format!("not looked at: {fault:#}")))),
        }
    }
    let findings = checks.iter().filter(|check| !check.ok).count();
    if arguments.json {
        output::print_json(&Report { findings, checks })?;
    } else {
        let mut text = String::new();
        for Check { area, check, ok, found, fix } in &checks {
            text += &format!("{:<8} {area}: {check}: {found}\n", if *ok { "ok" } else { "FINDING" });
            if let Some(fix) = fix {
                text += &format!("         fix: {fix}\n");
            }
        }
        output::print(&text)?;
    }
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

/// What was found, or what is wrong and how it is mended.
fn check(area: &'static str, check: &'static str, result: Result<String, (String, String)>) -> Check {
    let (ok, found, fix) = match result {
        Ok(found) => (true, found, None),
        Err((found, fix)) => (false, found, Some(fix)),
    };
    Check { area, check, ok, found, fix }
}

async fn calendar(config: &Config, now: DateTime<Utc>) -> Vec<Check> {
    let check = |name, result| check("calendar", name, result);
    let file = exceptions_file(config);
    let usable = file.is_ok();
    let mut checks = vec![check("exceptions file", file)];
    if !usable {
        return checks;
    }
    let calendar = match super::calendar::chosen(config).await {
        Ok(calendar) => calendar,
        Err(fault) => {
            let fix = "mend what is named, then `bellwether calendar check FILE`".to_owned();
            checks.push(check("table", Err((format!("{fault:#}"), fix))));
            return checks;
        }
    };
    let (until, source) = calendar.horizon();
    let published = format!("holidays of {} are published until {until} ({})", calendar.mic(), source.unwrap_or("-"));
    checks.push(check(
        "horizon",
        if calendar.is_horizon_near(now) {
            let fix = "install a newer version, or write the next year's closures and early closes into calendar.exceptions; \
                       until then the rules answer";
            Err((format!("{published}, less than 13 months ahead"), fix.to_owned()))
        } else {
            Ok(published)
        },
    ));
    checks.push(check("time zones", Ok(format!("IANA {}, built in", chrono_tz::IANA_TZDB_VERSION))));
    checks.push(check("daemon", daemon(config, calendar.version()).await));
    checks
}

fn exceptions_file(config: &Config) -> Result<String, (String, String)> {
    let Some(path) = &config.calendar.exceptions else { return Ok("none is configured".to_owned()) };
    match read_file(path) {
        Ok(rows) => Ok(format!("{}: {} rows, no mistakes", path.display(), rows.len())),
        Err(fault @ CalendarFault::Refused(_)) => {
            Err((fault.to_string(), format!("correct the line, then `bellwether calendar check {}`", path.display())))
        }
        Err(fault) => Err((fault.to_string(), "name a readable file, or remove calendar.exceptions".to_owned())),
    }
}

/// Whether the daemon goes by the calendar that the configuration gives now.
async fn daemon(config: &Config, version: &str) -> Result<String, (String, String)> {
    let answer = ask::get(ask::address_of(config), config, "/api/market-hours").await;
    let Ok((200, body)) = answer else { return Ok("none answers here; nothing to compare".to_owned()) };
    let hours: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    match hours["calendar_version"].as_str() {
        Some(theirs) if theirs == version => Ok(format!("goes by {version}")),
        theirs => Err((
            format!("goes by {}, this configuration gives {version}", theirs.unwrap_or("another version")),
            "send it SIGHUP (systemctl reload bellwether) and read its log; a file with a mistake is named there"
                .to_owned(),
        )),
    }
}
