//! The whole map of the HTTP side, on one screen.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::endpoint::BoxEndpoint;
use poem::middleware::{NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, delete, get, handler, post};

use super::guard::KnownHosts;
use super::observe::Observed;
use crate::metrics::RouteTimes;

use super::{App, account, billing, calendar, exceptions, health, hours, ingest, referrals, schedule, stocks};

/// What kind of path it is: its methods, and the manner of its errors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Read by the site's clients, which look for `success` and `error` in an error.
    Read,
    /// The same, for a call that changes something.
    Write,
    /// The new API: errors have no old members.
    Modern(&'static str),
    /// Asked by machines that go by the status.
    Probe,
}

const READ: &str = "GET, HEAD";
const CHANGE: &str = "GET, HEAD, POST, DELETE";

/// The API. Every path answers with and without the slash at its end.
pub fn api(app: Arc<App>) -> BoxEndpoint<'static, Response> {
    use Kind::{Modern, Probe, Read, Write};
    #[rustfmt::skip]
    let table = vec![
        ("/api/market-stats", Read, get(stocks::market_stats)),
        ("/api/platform-stats", Read, get(stocks::market_stats)),
        ("/api/stocks", Read, get(stocks::list)),
        ("/api/stocks/search", Read, get(stocks::search)),
        ("/api/search", Read, get(stocks::search)),
        ("/api/stocks/top-gainers", Read, get(stocks::top_gainers)),
        ("/api/stocks/top-losers", Read, get(stocks::top_losers)),
        ("/api/stocks/most-active", Read, get(stocks::most_active)),
        ("/api/stocks/:ticker", Read, get(stocks::stock)),
        ("/api/stocks/:ticker/quote", Read, get(stocks::stock)),
        ("/api/stock/:ticker", Read, get(stocks::stock)),
        ("/api/realtime/:ticker", Read, get(stocks::realtime)),
        ("/api/trending", Read, get(stocks::trending)),
        ("/api/statistics", Read, get(stocks::statistics)),
        ("/api/stats/total-tickers", Read, get(stocks::total_tickers)),
        ("/api/stats/gainers-losers", Read, get(stocks::gainers_losers)),
        ("/api/market-hours", Read, get(hours::market_hours)),
        ("/api/billing/process-renewals", Write, post(billing::process_renewals)),
        ("/api/billing/current-plan", Read, get(account::current_plan)),
        ("/api/billing/cancel", Write, post(account::cancel)),
        ("/api/referrals/link", Read, get(referrals::link)),
        ("/api/referrals/summary", Read, get(referrals::summary)),
        ("/api/referrals/invite", Write, post(referrals::invite)),
        ("/api/referrals/webhook/mark-paid", Write, post(referrals::mark_paid)),
        ("/api/v1/calendar", Modern(READ), get(calendar::venues)),
        ("/api/v1/calendar/:mic", Modern(READ), get(calendar::venue)),
        ("/api/v1/calendar/:mic/at", Modern(READ), get(calendar::at)),
        ("/api/v1/calendar/:mic/next", Modern(READ), get(calendar::next)),
        ("/api/v1/calendar/:mic/why", Modern(READ), get(calendar::why)),
        ("/api/v1/calendar/:mic/sessions", Modern(READ), get(calendar::sessions)),
        ("/api/v1/calendar/:mic/sessions.ics", Modern(READ), get(calendar::feed)),
        ("/api/v1/calendar/:mic/exceptions", Modern(CHANGE),
            get(exceptions::list).post(exceptions::add).delete(exceptions::withdraw)),
        ("/api/v1/calendar/:mic/exceptions/:id", Modern("DELETE"), delete(exceptions::withdraw_by_id)),
        ("/api/v1/ingest/status", Modern(READ), get(ingest::status)),
        ("/api/v1/ingest/why", Modern(READ), get(ingest::why)),
        ("/api/v1/jobs", Modern(READ), get(schedule::jobs)),
        ("/api/v1/jobs/next", Modern(READ), get(schedule::next)),
        ("/api/v1/jobs/verify", Modern(READ), get(schedule::verify)),
        ("/api/v1/jobs/:name/pause", Modern("POST"), post(schedule::pause)),
        ("/api/v1/jobs/:name/resume", Modern("POST"), post(schedule::resume)),
        ("/api/v1/jobs/:name/run", Modern("POST"), post(schedule::run)),
        ("/api/v1/jobs/:name/backfill", Modern("POST"), post(schedule::backfill)),
        ("/api/v1/runs", Modern(READ), get(schedule::runs)),
        ("/api/v1/runs/:id", Modern(READ), get(schedule::show)),
        ("/api/v1/runs/:id/retry", Modern("POST"), post(schedule::retry)),
        ("/api/v1/runs/:id/cancel", Modern("POST"), post(schedule::cancel)),
        ("/livez", Probe, get(health::livez)),
        ("/live", Probe, get(health::livez)),
        ("/readyz", Probe, get(health::readyz)),
        ("/ready", Probe, get(health::readyz)),
        ("/api/health", Probe, get(health::readyz)),
        ("/api/health/detailed", Probe, get(health::detailed)),
        ("/startupz", Probe, get(health::startupz)),
    ];
    let unmatched = observed(&app, "unmatched", Probe, Route::new());
    let routes = Route::new().at("/", observed(&app, "unmatched", Probe, Route::new())).at("/*", unmatched);
    let routes = table
        .into_iter()
        .fold(routes, |routes, (path, kind, methods)| routes.at(path, observed(&app, path, kind, methods)));
    routes.with(NormalizePath::new(TrailingSlash::Trim)).map_to_response().boxed()
}

/// The host is looked at first, but inside what gives every answer its id, its metric and its body.
fn observed<E>(
    app: &Arc<App>,
    route: &'static str,
    kind: Kind,
    endpoint: E,
) -> impl Endpoint<Output = Response> + use<E>
where
    E: Endpoint + 'static,
    E::Output: IntoResponse,
{
    let inner = KnownHosts { app: Arc::clone(app), inner: endpoint.data(Arc::clone(app)) };
    let (allow, legacy) = match kind {
        Kind::Read => (READ, true),
        Kind::Write => ("POST", true),
        Kind::Modern(allow) => (allow, false),
        Kind::Probe => (READ, false),
    };
    Observed { times: RouteTimes::of(route), legacy, allow, clock: Arc::clone(&app.clock), inner }
}

/// What Prometheus reads, on a listener of its own.
pub fn metrics_page(handle: PrometheusHandle) -> BoxEndpoint<'static, Response> {
    Route::new().at("/metrics", get(metrics_text)).data(handle).map_to_response().boxed()
}

#[handler]
fn metrics_text(handle: poem::web::Data<&PrometheusHandle>) -> Response {
    handle.run_upkeep();
    Response::builder().content_type("text/plain; version=0.0.4; charset=utf-8").body(handle.render())
}
