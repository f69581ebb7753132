//! The read API of the site: statistics, rankings, lists and single stocks, all from memory.

use std::sync::Arc;

use poem::http::{StatusCode, Uri};
use poem::web::{Data, Path};
use poem::{Request, Response, Result, handler};

use super::App;
use super::cached;
use super::error::Problem;
use crate::ingest::Published;
use crate::market::{self, Bodies, Body, LONGEST_RANKING, ListQuery, Ranking};

/// How soon a client may ask again while there is no data yet.
const RETRY_WITHOUT_DATA_SECONDS: u64 = 5;

/// Which of the bodies that are rendered once a cycle.
pub type Hot = fn(&Bodies) -> &Body;

/// Answers with a body that was rendered with the cycle.
fn hot(app: &App, request: &Request, body: Hot) -> Result<Response> {
    let published = published(app)?;
    Ok(cached::respond(request.headers(), &published, body(&published.bodies), app.clock.now()))
}

/// What is shown, or why there is nothing.
///
/// # Errors
/// 503 `no_data`.
pub fn published(app: &App) -> Result<Arc<Published>, Problem> {
    app.board.current().ok_or_else(|| {
        let cause = app.market.verdict(app.clock.now()).cause;
        let detail =
            format!("there is no market data yet: {}", cause.as_deref().unwrap_or("the first cycle is under way"));
        Problem::unavailable("no_data", detail, RETRY_WITHOUT_DATA_SECONDS)
    })
}

macro_rules! hot_handlers {
    ($($(#[$doc:meta])* $name:ident => $body:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[handler]
            pub fn $name(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
                hot(&app, request, |bodies| &bodies.$body)
            }
        )+
    };
}

hot_handlers! {
    /// The whole market at a glance.
    market_stats => market_stats,
    /// What is being traded.
    trending => trending,
    /// Counts by direction and sector.
    statistics => statistics,
    /// How many symbols have a quote.
    total_tickers => total_tickers,
    /// Counts by direction.
    gainers_losers => gainers_losers,
}

/// A page of stocks: `limit`, `offset`, `search`, filters, `sort_by`, `sort_order`.
#[handler]
pub fn list(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    let pairs = query_pairs(request.uri());
    let query = ListQuery::parse(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let published = published(&app)?;
    let body = market::list(&published.snapshot, &published.meta, &query);
    Ok(cached::respond(request.headers(), &published, &body, app.clock.now()))
}

/// Stocks whose symbol or name holds `q`.
#[handler]
pub fn search(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    let pairs = query_pairs(request.uri());
    let q = last(&pairs, "q").map(str::trim).unwrap_or_default();
    if q.is_empty() {
        return Err(bad_parameter("q is missing; write ?q=TEXT").into());
    }
    let published = published(&app)?;
    let body = market::search(&published.snapshot, &published.meta, q);
    Ok(cached::respond(request.headers(), &published, &body, app.clock.now()))
}

macro_rules! ranking_handlers {
    ($($(#[$doc:meta])* $name:ident => $ranking:ident, $body:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[handler]
            pub fn $name(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
                ranking(&app, request, Ranking::$ranking, |bodies| &bodies.$body)
            }
        )+
    };
}

ranking_handlers! {
    /// The largest rises; `limit` 1 to 100 (the nearest of them), 10 where none is given that can be read.
    top_gainers => TopGainers, top_gainers,
    /// The largest falls.
    top_losers => TopLosers, top_losers,
    /// The largest volumes.
    most_active => MostActive, most_active,
}

fn ranking(app: &App, request: &Request, which: Ranking, default: Hot) -> Result<Response> {
    let pairs = query_pairs(request.uri());
    let limit = last(&pairs, "limit").and_then(|limit| market::nearest(limit.trim(), 1..=LONGEST_RANKING));
    let Some(limit) = limit else { return hot(app, request, default) };
    let published = published(app)?;
    let body = market::ranking(&published.snapshot, &published.statistics, &published.meta, which, limit);
    Ok(cached::respond(request.headers(), &published, &body, app.clock.now()))
}

/// Everything known of one stock.
#[handler]
pub fn stock(app: Data<&Arc<App>>, Path(symbol): Path<String>, request: &Request) -> Result<Response> {
    let published = published(&app)?;
    let points = |symbol: &str| app.market.history().today(symbol).1;
    let age = |at| app.calendar.load().open_time_between(at, published.meta.rendered_at);
    let body = market::stock(&published.snapshot, &published.meta, &symbol, age, points);
    let body = body.ok_or_else(|| no_such_stock(&symbol))?;
    Ok(cached::respond(request.headers(), &published, &body, app.clock.now()))
}

/// The last price of one stock and the state of its market.
#[handler]
pub fn realtime(app: Data<&Arc<App>>, Path(symbol): Path<String>, request: &Request) -> Result<Response> {
    let published = published(&app)?;
    let body = market::realtime(&published.snapshot, &published.meta, &symbol).ok_or_else(|| no_such_stock(&symbol))?;
    Ok(cached::respond(request.headers(), &published, &body, app.clock.now()))
}

/// What a client of the older paths is told to ask instead of a stock that there is not.
const INSTEAD: &[&str] = &["/api/stocks/", "/api/stocks/search/"];

/// 404 `not_found`.
pub fn no_such_stock(symbol: &str) -> Problem {
    let shown: String = symbol.chars().filter(|c| c.is_ascii_graphic()).take(16).collect();
    let shown = if shown.is_empty() { "this symbol" } else { &*shown };
    Problem::not_found(format!("{shown} is not in the universe, or has not been quoted yet")).instead(INSTEAD)
}

/// The value of a parameter; of one that is given twice the last, as these paths always had it.
fn last<'a>(pairs: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn bad_parameter(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
}

fn query_pairs(uri: &Uri) -> Vec<(String, String)> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}
