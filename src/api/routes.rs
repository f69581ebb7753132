//! The whole map of the HTTP side, on one screen.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::endpoint::BoxEndpoint;
use poem::middleware::{NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, get, handler, post};

use super::guard::KnownHosts;
use super::observe::Observed;
use super::{App, billing, health, hours, stocks};

/// Whose error bodies a path answers with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Problem details, with `success` and `error` as the old site's clients look for them.
    Site,
    /// Problem details.
    Plain,
}

/// The API. Every path answers with and without the slash at its end.
pub fn api(app: Arc<App>) -> BoxEndpoint<'static, Response> {
    use Manner::{Plain, Site};
    #[rustfmt::skip]
    let table = vec![
        ("/api/market-stats", Site, get(stocks::market_stats)),
        ("/api/platform-stats", Site, get(stocks::market_stats)),
        ("/api/stocks", Site, get(stocks::list)),
        ("/api/stocks/search", Site, get(stocks::search)),
        ("/api/search", Site, get(stocks::search)),
        ("/api/stocks/top-gainers", Site, get(stocks::top_gainers)),
        ("/api/stocks/top-losers", Site, get(stocks::top_losers)),
        ("/api/stocks/most-active", Site, get(stocks::most_active)),
        ("/api/stocks/:ticker", Site, get(stocks::stock)),
        ("/api/stocks/:ticker/quote", Site, get(stocks::stock)),
        ("/api/stock/:ticker", Site, get(stocks::stock)),
        ("/api/realtime/:ticker", Site, get(stocks::realtime)),
        ("/api/trending", Site, get(stocks::trending)),
        ("/api/statistics", Site, get(stocks::statistics)),
        ("/api/stats/total-tickers", Site, get(stocks::total_tickers)),
        ("/api/stats/gainers-losers", Site, get(stocks::gainers_losers)),
        ("/api/market-hours", Site, get(hours::market_hours)),
        ("/api/billing/process-renewals", Site, post(billing::process_renewals)),
        ("/livez", Plain, get(health::livez)),
        ("/live", Plain, get(health::livez)),
        ("/readyz", Plain, get(health::readyz)),
        ("/ready", Plain, get(health::readyz)),
        ("/api/health", Plain, get(health::readyz)),
        ("/api/health/detailed", Plain, get(health::detailed)),
        ("/startupz", Plain, get(health::startupz)),
    ];
    let unmatched = observed(&app, "unmatched", Plain, Route::new());
    let routes = Route::new().at("/", observed(&app, "unmatched", Plain, Route::new())).at("/*", unmatched);
    let routes = table
        .into_iter()
        .fold(routes, |routes, (path, manner, methods)| routes.at(path, observed(&app, path, manner, methods)));
    routes.with(NormalizePath::new(TrailingSlash::Trim)).map_to_response().boxed()
}

/// The host is looked at first, but inside what gives every answer its id, its metric and its body.
fn observed<E>(
    app: &Arc<App>,
    route: &'static str,
    manner: Manner,
    endpoint: E,
) -> impl Endpoint<Output = Response> + use<E>
where
    E: Endpoint + 'static,
    E::Output: IntoResponse,
{
    let inner = KnownHosts { app: Arc::clone(app), inner: endpoint.data(Arc::clone(app)) };
    Observed { route, legacy: manner == Manner::Site, clock: Arc::clone(&app.clock), inner }
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
