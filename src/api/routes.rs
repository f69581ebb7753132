//! The whole map of the HTTP side, on one screen.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::endpoint::BoxEndpoint;
use poem::middleware::{NormalizePath, TrailingSlash};
use poem::{Endpoint, EndpointExt, IntoResponse, Response, Route, RouteMethod, delete, get, handler, post};

use super::cors::Preflight;
use super::guard::KnownHosts;
use super::observe::Observed;
use super::{
    App, account, backfill, bars, billing, calendar, exceptions, health, hours, ingest, openapi, operators, outbox,
    quotes, referrals, schedule, sitemap, stocks, stream, webhooks,
};
use crate::metrics::RouteTimes;

/// What kind of path it is: its methods, the manner of its errors, and whether pages of other sites may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Read by the site's pages, which look for `success` and `error` in an error.
    Read,
    /// Asked by the site's server; errors like those.
    Account,
    /// The same, for a call that changes something.
    Write,
    /// Read by everybody: errors have no old members.
    Open(&'static str),
    /// For operators; errors like those.
    Closed(&'static str),
    /// Asked by machines that go by the status.
    Probe,
    /// Shown to people who have signed in.
    Page(&'static str),
}

impl Kind {
    /// As `Allow` names them.
    fn methods(self) -> &'static str {
        match self {
            Self::Read | Self::Account | Self::Probe => READ,
            Self::Write => "POST",
            Self::Open(allow) | Self::Closed(allow) | Self::Page(allow) => allow,
        }
    }

    /// Whether errors have the members of the old site.
    fn is_old(self) -> bool {
        matches!(self, Self::Read | Self::Account | Self::Write)
    }

    /// Whether pages of the origins that are allowed may read it.
    fn is_shared(self) -> bool {
        matches!(self, Self::Read | Self::Open(_))
    }
}

const READ: &str = "GET, HEAD";
const CHANGE: &str = "GET, HEAD, POST, DELETE";

/// A path, its kind, and what answers.
pub type Line = (&'static str, Kind, BoxEndpoint<'static, Response>);

/// The same, of this room.
type Own = (&'static str, Kind, RouteMethod);

/// What the site calls.
#[rustfmt::skip]
fn site() -> Vec<Own> {
    use Kind::{Account, Read, Write};
    vec![
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
        ("/api/billing/process-dunning", Write, post(billing::process_dunning)),
        ("/api/accounts", Write, post(account::tell)),
        ("/api/billing/current-plan", Account, get(account::current_plan)),
        ("/api/billing/cancel", Write, post(account::cancel)),
        ("/api/billing/auto-renew", Write, post(account::auto_renew)),
        ("/api/billing/change-plan", Write, post(account::change_plan)),
        ("/api/referrals/link", Account, get(referrals::link)),
        ("/api/referrals/summary", Account, get(referrals::summary)),
        ("/api/referrals/invite", Write, post(referrals::invite)),
        ("/api/referrals/accept", Write, post(referrals::accept)),
        ("/api/referrals/webhook/mark-paid", Write, post(referrals::mark_paid)),
        ("/paypal/webhook", Write, post(webhooks::paypal)),
        ("/api/webhooks/paypal", Write, post(webhooks::paypal)),
        ("/api/webhooks/:source", Write, post(webhooks::site)),
        ("/api/billing/paypal-webhook", Write, post(webhooks::paypal)),
    ]
}

/// The new API.
#[rustfmt::skip]
fn modern() -> Vec<Own> {
    use Kind::{Closed, Open};
    vec![
        ("/api/v1/stats", Open(READ), get(quotes::stats)),
        ("/api/v1/quotes", Open(READ), get(quotes::list)),
        ("/api/v1/quotes/:symbol", Open(READ), get(quotes::one)),
        ("/api/v1/stream", Open(READ), get(stream::listen)),
        ("/api/v1/ingest/backfill", Closed("POST"), post(backfill::backfill)),
        ("/api/v1/bars/:symbol", Open(READ), get(bars::of_symbol)),
        ("/api/v1/calendar", Open(READ), get(calendar::venues)),
        ("/api/v1/calendar/:mic", Open(READ), get(calendar::venue)),
        ("/api/v1/calendar/:mic/at", Open(READ), get(calendar::at)),
        ("/api/v1/calendar/:mic/next", Open(READ), get(calendar::next)),
        ("/api/v1/calendar/:mic/why", Open(READ), get(calendar::why)),
        ("/api/v1/calendar/:mic/sessions", Open(READ), get(calendar::sessions)),
        ("/api/v1/calendar/:mic/sessions.ics", Open(READ), get(calendar::feed)),
        ("/api/v1/calendar/:mic/exceptions", Open(CHANGE),
            get(exceptions::list).post(exceptions::add).delete(exceptions::withdraw)),
        ("/api/v1/calendar/:mic/exceptions/:id", Closed("DELETE"), delete(exceptions::withdraw_by_id)),
        ("/api/v1/ingest/status", Open(READ), get(ingest::status)),
        ("/api/v1/ingest/why", Open(READ), get(ingest::why)),
        ("/api/v1/jobs", Closed(READ), get(schedule::jobs)),
        ("/api/v1/jobs/next", Closed(READ), get(schedule::next)),
        ("/api/v1/jobs/verify", Closed(READ), get(schedule::verify)),
        ("/api/v1/jobs/:name/pause", Closed("POST"), post(schedule::pause)),
        ("/api/v1/jobs/:name/resume", Closed("POST"), post(schedule::resume)),
        ("/api/v1/jobs/:name/run", Closed("POST"), post(schedule::run)),
        ("/api/v1/jobs/:name/backfill", Closed("POST"), post(schedule::backfill)),
        ("/api/v1/runs", Closed(READ), get(schedule::runs)),
        ("/api/v1/runs/:id", Closed(READ), get(schedule::show)),
        ("/api/v1/runs/:id/retry", Closed("POST"), post(schedule::retry)),
        ("/api/v1/runs/:id/cancel", Closed("POST"), post(schedule::cancel)),
        ("/api/v1/webhooks", Closed(READ), get(webhooks::list)),
        ("/api/v1/webhooks/replay", Closed("POST"), post(webhooks::again)),
        ("/api/v1/webhooks/:id", Closed(READ), get(webhooks::show)),
        ("/api/v1/outbox", Closed(READ), get(outbox::list)),
        ("/api/v1/outbox/retry", Closed("POST"), post(outbox::again)),
        ("/api/v1/outbox/:id", Closed(READ), get(outbox::show)),
        ("/api/v1/operators", Closed("GET, HEAD, POST"), get(operators::list).post(operators::create)),
        ("/api/v1/operators/:name/password", Closed("POST"), post(operators::reset_password)),
        ("/api/v1/operators/:name/remove", Closed("POST"), post(operators::remove)),
    ]
}

/// What machines ask.
#[rustfmt::skip]
fn probes() -> Vec<Own> {
    use Kind::{Open, Probe};
    vec![
        ("/livez", Probe, get(health::livez)),
        ("/live", Probe, get(health::livez)),
        ("/readyz", Probe, get(health::readyz)),
        ("/ready", Probe, get(health::readyz)),
        ("/api/health", Open(READ), get(health::readyz)),
        ("/api/health/detailed", Open(READ), get(health::detailed)),
        ("/startupz", Probe, get(health::startupz)),
    ]
}

/// Shown only where the configuration says so.
fn described() -> Vec<Own> {
    vec![("/openapi.json", Kind::Probe, get(openapi::json_document)), ("/docs", Kind::Probe, get(openapi::show))]
}

/// For search engines, where the configuration names pages.
fn for_search() -> Vec<Own> {
    vec![("/sitemap.xml", Kind::Probe, get(sitemap::sitemap)), ("/robots.txt", Kind::Probe, get(sitemap::robots))]
}

/// The API, and the pages of the console. Every path answers with and without the slash at its end.
pub fn api(app: Arc<App>, pages: Vec<Line>) -> BoxEndpoint<'static, Response> {
    let shown = if app.shows_docs { described() } else { Vec::new() };
    let searched = if app.site.pages.is_empty() { Vec::new() } else { for_search() };
    let table = [site(), modern(), probes(), shown, searched].into_iter().flatten();
    let unmatched = observed(&app, "unmatched", Kind::Probe, Route::new());
    let routes = Route::new().at("/", observed(&app, "unmatched", Kind::Probe, Route::new())).at("/*", unmatched);
    let routes =
        table.fold(routes, |routes, (path, kind, methods)| routes.at(path, observed(&app, path, kind, methods)));
    let pages = pages.into_iter();
    let routes = pages.fold(routes, |routes, (path, kind, page)| routes.at(path, observed(&app, path, kind, page)));
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
    let origins = kind.is_shared().then(|| Arc::clone(&app.origins));
    let inner = Preflight { origins: origins.clone(), inner: endpoint.data(Arc::clone(app)) };
    let inner = KnownHosts { app: Arc::clone(app), inner };
    let (allow, legacy) = (kind.methods(), kind.is_old());
    Observed { times: RouteTimes::of(route), legacy, allow, origins, clock: Arc::clone(&app.clock), inner }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_document_has_each_path_and_method_of_the_map_and_no_other() {
        let served = [site(), modern(), probes()].into_iter().flatten().flat_map(|(path, kind, _)| {
            let part = |part: &str| part.strip_prefix(':').map_or(part.to_owned(), |name| format!("{{{name}}}"));
            let path = path.split('/').map(part).collect::<Vec<_>>().join("/");
            let methods = kind.methods().split(", ").filter(|method| *method != "HEAD");
            methods.map(|method| format!("{} {path}", method.to_lowercase())).collect::<Vec<_>>()
        });
        let document = openapi::document();
        let paths = document["paths"].as_object().unwrap().iter();
        let described = paths.flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
        });
        let (described, served) = (described.collect::<BTreeSet<_>>(), served.collect::<BTreeSet<_>>());
        let (missing, gone) = (served.difference(&described), described.difference(&served));
        let (missing, gone): (Vec<_>, Vec<_>) = (missing.collect(), gone.collect());
        assert!(missing.is_empty() && gone.is_empty(), "openapi/operations.rs: add {missing:?}, remove {gone:?}");
    }

    #[test]
    fn pages_may_read_what_everybody_may_ask_and_nothing_else() {
        let document = openapi::document();
        for (path, kind, _) in
            [site(), modern(), probes()].into_iter().flatten().filter(|line| line.0.starts_with("/api"))
        {
            let part = |part: &str| part.strip_prefix(':').map_or(part.to_owned(), |name| format!("{{{name}}}"));
            let described = path.split('/').map(part).collect::<Vec<_>>().join("/");
            let read = &document["paths"][&described]["get"];
            let for_everybody = read.is_object() && read.get("security").is_none();
            assert_eq!(kind.is_shared(), for_everybody, "{path}");
        }
    }

    #[test]
    fn the_document_is_whole() {
        let document = openapi::document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let text = document.to_string();
        let references: BTreeSet<&str> =
            text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(references, schemas.keys().map(String::as_str).collect(), "each is there and used");
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}: its id is another's");
                let parameters = operation["parameters"].as_array().unwrap().iter();
                let names: Vec<_> = parameters.map(|parameter| parameter["name"].as_str().unwrap()).collect();
                assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{path}");
                assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{path}");
            }
        }
    }
}
