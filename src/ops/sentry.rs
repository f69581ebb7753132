//! Error reports to Sentry, with nothing in them that is not on the list.

use std::borrow::Cow;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sentry::integrations::tracing::{BreadcrumbLayer, ErrorLayer};
use sentry::protocol::{Context, Event};
use sentry::types::Dsn;
use sentry::{ClientInitGuard, ClientOptions};
use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// Fields of log events that may leave the host. Everything else is dropped: a field that nobody thought of must not be
/// the one that carries a secret.
const ALLOWED_FIELDS: &[&str] = &[
    "attempt",
    "deadline",
    "duration_ms",
    "error",
    "error.code",
    "expected",
    "fresh",
    "job_name",
    "method",
    "pause_ms",
    "provider",
    "reason",
    "request_id",
    "route",
    "run_id",
    "slot",
    "state",
    "status",
];

/// The longest the end of the process waits for reports under way.
const FLUSH: Duration = Duration::from_secs(2);

/// Starts reporting; dropping the guard sends what is under way, for two seconds at most.
pub fn install(dsn: &SecretString, release: &str, environment: &'static str) -> Option<ClientInitGuard> {
    // `ClientOptions::dsn` panics on a bad one; the configuration has seen that it is a URL, not that it is a DSN.
    dsn.expose_secret().parse::<Dsn>().ok()?;
    let options = ClientOptions::new()
        .dsn(dsn.expose_secret())
        .release(Cow::Owned(release.to_owned()))
        .environment(environment)
        .shutdown_timeout(FLUSH)
        .attach_stacktrace(true)
        .send_default_pii(false)
        .before_send(|event| Some(scrub(event)))
        .before_breadcrumb(|mut breadcrumb| {
            breadcrumb.data.retain(|name, _| ALLOWED_FIELDS.contains(&name.as_str()));
            Some(breadcrumb)
        });
    Some(sentry::init(options))
}

/// Errors become reports; warnings and what was going on become their breadcrumbs.
pub(super) fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let breadcrumbs = BreadcrumbLayer::new().with_filter(LevelFilter::INFO);
    ErrorLayer::new().with_filter(LevelFilter::ERROR).and_then(breadcrumbs)
}

fn scrub(mut event: Event<'static>) -> Event<'static> {
    event.server_name = None;
    event.request = None;
    event.user = None;
    event.extra.retain(|name, _| ALLOWED_FIELDS.contains(&name.as_str()));
    event.tags.retain(|name, _| ALLOWED_FIELDS.contains(&name.as_str()));
    for context in event.contexts.values_mut() {
        if let Context::Other(fields) = context {
            fields.retain(|name, _| ALLOWED_FIELDS.contains(&name.as_str()));
        }
    }
    event
}
