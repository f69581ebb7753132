//! Logs: text for a terminal, one JSON object a line for machines; always on stderr, so stdout stays data.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use super::sentry;

/// A panic is a line of the log like any other, not text between JSON objects. Install it before Sentry, which calls it.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message");
        tracing::error!(place, reason = message, "a task panicked");
    }));
}

/// Installs the log of the process. `filter` was checked by the configuration; one that does not parse means `info`.
/// A second call in the same process changes nothing.
pub fn install(filter: &str, json: bool, colour: bool) {
    let filter: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    // Chatter of libraries stays out unless a filter names them.
    let filter = ["hyper", "reqwest", "rustls", "sqlx", "tokio_cron_scheduler", "hyper_util"]
        .into_iter()
        .filter(|library| !filter.iter().any(|(target, _)| target.starts_with(library)))
        .collect::<Vec<_>>()
        .into_iter()
        .fold(filter, |filter, library| filter.with_target(library, tracing::Level::WARN));
    let lines = if json {
        let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
        layer.with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false).boxed()
    };
    let _ = registry().with(filter).with(lines).with(sentry::layer()).try_init();
}
