//! `doctor clock` and `doctor schedule`.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Check, check};
use crate::cli::{operate, output};
use crate::clock::{SharedClock, span_in_words};
use crate::config::Config;
use crate::scheduler::{Expected, JobState};
use crate::store::{ClockEvent, Instance, Lease};

/// The clocks of two hosts may part by so much.
const APART: TimeDelta = TimeDelta::seconds(2);

/// A ledger this far ahead of the clock keeps the daemon from starting.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// How far back events of the clock count, and slots are looked for.
const LATELY: TimeDelta = TimeDelta::hours(25);

/// A slot that came due so lately may not have been decided yet.
const UNDECIDED: TimeDelta = TimeDelta::minutes(2);

/// What the database knows, read once.
pub(super) struct Facts {
    now: DateTime<Utc>,
    database_clock: Option<DateTime<Utc>>,
    last_written: Option<DateTime<Utc>>,
    events: Vec<ClockEvent>,
    lease: Option<Lease>,
    instances: Vec<Instance>,
    jobs: Vec<JobState>,
    expected: usize,
    missing: Vec<Expected>,
}

impl Facts {
    pub(super) async fn gather(config: &Config, clock: &SharedClock) -> anyhow::Result<Self> {
        let operations = operate::to_read(config, SharedClock::clone(clock)).await?;
        let store = &operations.ledger.store;
        let to = clock.now() - UNDECIDED;
        let (expected, missing) = operations.verify(to - LATELY, to).await?;
        let database_clock = store.database_clock().await?;
        let facts = Self {
            now: clock.now(),
            database_clock,
            last_written: store.last_written().await?,
            events: store.clock_events(10).await?,
            lease: store.lease().await?,
            instances: store.instances().await?,
            jobs: operations.jobs().await?,
            expected,
            missing,
        };
        store.close().await;
        Ok(facts)
    }

    /// The clock of this host.
    pub(super) fn clock(&self) -> Vec<Check> {
        let now = output::utc(self.now);
        let beside = match self.database_clock {
            None => Ok(format!("{now}; the database has no clock of its own")),
            Some(theirs) if (theirs - self.now).abs() > APART => {
                let apart = span_in_words(theirs - self.now);
                let fix =
                    "set the clocks of both hosts by NTP (timedatectl status; systemctl restart systemd-timesyncd)";
                Err((
                    format!("this host says {now}, the database {}: {apart} apart", output::utc(theirs)),
                    fix.to_owned(),
                ))
            }
            Some(_) => Ok(format!("{now}, within {} s of the database's", APART.num_seconds())),
        };
        let ledger = match self.last_written {
            None => Ok("empty".to_owned()),
            Some(last) if last > self.now + AHEAD => {
                let fix = "set the clock of this host; if it is right now and was wrong then, start once with \
                           schedule.trust_clock = true";
                Err((format!("last written at {}, which has not come yet", output::utc(last)), fix.to_owned()))
            }
            Some(last) => Ok(format!("last written at {}", output::utc(last))),
        };
        let lately: Vec<_> = self.events.iter().filter(|event| event.at > self.now - LATELY).collect();
        let events = match lately.first() {
            None => Ok("not set, and the host did not sleep, in the last 25 hours".to_owned()),
            Some(last) => {
                let by = TimeDelta::microseconds(last.by_us);
                let sign = if last.by_us < 0 { "back " } else { "" };
                let found = format!(
                    "{} event(s) in the last 25 hours, the last a {} of {sign}{} at {}",
                    lately.len(),
                    last.kind,
                    span_in_words(by),
                    output::utc(last.at)
                );
                let fix = "find what sets the clock (journalctl -u systemd-timesyncd, the hypervisor's tools); late slots \
                           went by their misfire policy: bellwether runs ls";
                Err((found, fix.to_owned()))
            }
        };
        vec![
            check("clock", "now", beside),
            check("clock", "ledger", ledger),
            check("clock", "steps and sleeps", events),
        ]
    }

    /// The schedule.
    pub(super) fn schedule(&self) -> Vec<Check> {
        let of = |owner: &str| self.instances.iter().find(|instance| instance.owner == owner);
        let planner = match self.lease.as_ref().filter(|lease| lease.held) {
            Some(lease) => Ok(match of(&lease.owner) {
                Some(instance) => {
                    format!("process {} on {}, epoch {}", instance.process_id, instance.host, lease.epoch)
                }
                None => format!("{}, epoch {}", lease.owner, lease.epoch),
            }),
            None => {
                let fix = "start the daemon (systemctl start bellwether) and read its log";
                Err(("nobody plans: no daemon runs on this database".to_owned(), fix.to_owned()))
            }
        };
        let paused: Vec<_> = self.jobs.iter().filter(|job| job.paused.is_some()).map(|job| job.name).collect();
        let pauses = if paused.is_empty() {
            Ok("no job is paused".to_owned())
        } else {
            let fix = format!("when the reason is gone: bellwether jobs resume {}", paused[0]);
            Err((format!("paused: {} (bellwether jobs ls says why)", paused.join(", ")), fix))
        };
        let slots = match self.missing.first() {
            None => Ok(format!("{} slots of the last 25 hours, each with its row", self.expected)),
            Some(first) => {
                let found = format!(
                    "{} of {} slots of the last 25 hours have no row, the first {} of {}",
                    self.missing.len(),
                    self.expected,
                    output::utc(first.slot),
                    first.job
                );
                let fix = format!(
                    "look whether the work was done, then: bellwether jobs run {} --slot {}",
                    first.job,
                    output::utc(first.slot)
                );
                Err((found, fix))
            }
        };
        vec![
            check("schedule", "planner", planner),
            check("schedule", "pauses", pauses),
            check("schedule", "slots", slots),
        ]
    }
}
