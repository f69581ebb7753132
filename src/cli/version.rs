//! `version`.

use clap::Args;
use serde::Serialize;

use super::output;
use crate::calendar::Calendars;

/// Version and revision.
#[derive(Args, Debug)]
pub struct Arguments {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Version<'a> {
    version: &'a str,
    revision: &'a str,
    calendar_version: &'a str,
    calendar_hash: &'a str,
    tzdb_version: &'a str,
}

/// Shows.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let calendars = Calendars::built_in()?;
    let calendar = super::calendar::of(&calendars, "XNYS")?;
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("BUILT_OF"),
        calendar_version: calendar.version(),
        calendar_hash: calendar.hash(),
        tzdb_version: chrono_tz::IANA_TZDB_VERSION,
    };
    if arguments.json {
        return output::print_json(&version);
    }
    let Version { version, revision, calendar_version, tzdb_version, .. } = version;
    output::print(&format!(
        "bellwether {version} ({revision}), calendar {calendar_version}, time zones {tzdb_version}\n"
    ))
}
