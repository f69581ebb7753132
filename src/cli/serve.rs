//! `bellwether serve`: the daemon, until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use chrono::{DateTime, Utc};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::FAILED;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::daemon::{Daemon, StartError};
use crate::ops::{sentry, systemd, telemetry, watchdog};
use crate::scheduler::PrepareError;

/// Serves until SIGTERM or SIGINT, then drains; a second one ends the process at once.
pub async fn run(config: Config, log: Option<&str>, colour: bool) -> anyhow::Result<ExitCode> {
    telemetry::log_panics();
    // Kept to the end: dropping it sends the reports under way.
    let _reports = config.sentry_dsn.as_ref().map(|dsn| sentry::install(dsn, &config.release, config.stage.name()));
    telemetry::install(log.unwrap_or(&config.log_level), config.log_json, colour);
    let mut signals = Signals::listen().context("signals cannot be received")?;
    // From here on it ends nobody; one that comes before the start is over is answered after it.
    let mut hangup = signal(SignalKind::hangup()).context("signals cannot be received")?;
    info!(version = env!("CARGO_PKG_VERSION"), revision = env!("BUILT_OF"), stage = config.stage.name(), "starting");
    let clock = SystemClock::start();
    if !config.trust_clock {
        refuse_old_clock(clock.now())?;
    }
    let daemon = tokio::select! {
        started = Daemon::start(config, clock) => started?,
        name = signals.next() => {
            warn!(signal = name, "ended before the start was over");
            return Ok(ExitCode::from(FAILED));
        }
    };
    watchdog::spawn(Arc::clone(&daemon.scheduler)).context("there is no thread for the watchdog")?;
    let name = loop {
        tokio::select! {
            name = signals.next() => break name,
            _ = hangup.recv() => {
                systemd::reloading();
                // What was wrong is in the log.
                systemd::ready(match daemon.calendars.reload("SIGHUP").await {
                    Ok(()) => "the calendar was read anew",
                    Err(_) => "the calendar stays as it was; the log says why",
                });
            }
        }
    };
    info!(signal = name, "asked to stop; once more ends at once");
    tokio::select! {
        () = daemon.stop() => Ok(ExitCode::SUCCESS),
        name = signals.next() => {
            warn!(signal = name, "ended at once; runs under way are taken up by the next start");
            // Not a return: destructors would wait for tasks that were told to stop waiting.
            std::process::exit(i32::from(FAILED));
        }
    }
}

/// A program cannot run before it was built.
fn refuse_old_clock(now: DateTime<Utc>) -> Result<(), StartError> {
    let built = env!("BUILT_AT").parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    match built.filter(|built| now < *built) {
        Some(built) => Err(StartError::Clock(PrepareError::ClockBehindBuild { clock: now, built })),
        None => Ok(()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
