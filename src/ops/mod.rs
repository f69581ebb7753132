//! How the program is seen from outside: logs, metrics, error reports, the service manager, and the word *why*.

pub mod calendars;
pub mod descriptors;
pub mod explain;
pub mod make_way;
pub mod password;
pub mod sentry;
pub mod systemd;
pub mod telemetry;
pub mod watchdog;
