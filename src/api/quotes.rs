//! `/api/v1/quotes` and `/api/v1/stats`: the market as programs like to read it.

use std::sync::Arc;

use poem::http::{HeaderValue, StatusCode, header};
use poem::web::{Data, Path};
use poem::{Request, Response, Result, handler};

use super::accept::media_type;
use super::error::Problem;
use super::query::{Query, bad_parameter};
use super::stocks::{no_such_stock, published};
use super::{App, cached};
use crate::ingest::Published;
use crate::market::v1::{self, Field, Format, PARAMETERS, Page, QuotesQuery};

/// Symbols that were named and are not known go into a header beside a table: so many at most, or proxies refuse the answer.
const MOST_UNKNOWN_IN_HEADER: usize = 50;

/// The market at a glance.
#[handler]
pub fn stats(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    Query::of(request.uri(), &[])?;
    let published = published(&app)?;
    Ok(cached::respond(request.headers(), &published, &published.bodies.stats, app.clock.now()))
}

/// A page of quotes, or those of the symbols that are named.
#[handler]
pub fn list(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    let parameters = Query::of(request.uri(), PARAMETERS)?;
    let query = QuotesQuery::parse(parameters.pairs()).map_err(|fault| bad_parameter(&fault.to_string()))?;
    let format = format_of(request)?;
    let newest = published(&app)?;
    // The next page is of the cycle of the page before it for as long as that is kept, so that no row is twice or missing.
    let published = query.cursor().and_then(|cursor| app.board.of_cycle(cursor.cycle)).unwrap_or(newest);
    let page = v1::page(&published.snapshot, &query);
    let body = v1::quotes(&published.snapshot, &published.meta, &page, query.fields(), format);
    let max_age = cached::max_age(&published, app.clock.now());
    let mut response = cached::respond_as(request.headers(), format.content_type(), &body, max_age);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, origin"));
    if let Some(next) = next_link(&parameters, &page) {
        headers.insert(header::LINK, next);
    }
    if format != Format::Json {
        describe(headers, &published, &page);
    }
    Ok(response)
}

/// What JSON says beside its rows.
fn describe(headers: &mut poem::http::HeaderMap, published: &Published, page: &Page) {
    let mut say = |name: &'static str, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    let meta = &published.meta;
    say("x-cycle-id", meta.cycle_id.to_string());
    say("x-as-of", meta.as_of.to_rfc3339());
    say("x-stale", meta.stale.to_string());
    say("x-simulated", meta.simulated.to_string());
    say("x-total-count", page.total.to_string());
    let missing =
        page.unknown.iter().chain(&page.unquoted).filter(|symbol| symbol.bytes().all(|b| b.is_ascii_graphic()));
    let missing: Vec<&str> = missing.take(MOST_UNKNOWN_IN_HEADER).map(String::as_str).collect();
    if !missing.is_empty() {
        say("x-missing-symbols", missing.join(","));
    }
}

/// The same query with the cursor of the next page (RFC 8288).
fn next_link(parameters: &Query, page: &Page) -> Option<HeaderValue> {
    let cursor = page.next.as_ref()?.to_text();
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters.pairs().filter(|(name, _)| *name != "cursor"));
    query.append_pair("cursor", &cursor);
    HeaderValue::from_str(&format!("</api/v1/quotes?{}>; rel=\"next\"", query.finish())).ok()
}

/// The form of an answer of many rows that a client likes best.
///
/// # Errors
/// 406 where it refuses each.
pub(super) fn format_of(request: &Request) -> Result<Format, Problem> {
    let chosen = media_type(request.headers(), &Format::ALL.map(Format::media_type));
    let format = Format::ALL.into_iter().find(|format| Some(format.media_type()) == chosen);
    format.ok_or_else(|| {
        let offered = Format::ALL.map(Format::media_type).join(", ");
        let detail = format!("nothing that Accept names can be sent; there are {offered}");
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
    })
}

/// One quote; `fields` as in the list.
#[handler]
pub fn one(app: Data<&Arc<App>>, Path(symbol): Path<String>, request: &Request) -> Result<Response> {
    let parameters = Query::of(request.uri(), &["fields"])?;
    let fields = parameters.text("fields").map(v1::parse_fields).transpose();
    let fields = fields.map_err(|fault| bad_parameter(&format!("fields: {fault}")))?;
    let fields = fields.unwrap_or_else(|| Field::ALL.to_vec());
    let published = published(&app)?;
    let body = v1::quote(&published.snapshot, &published.meta, &symbol, &fields);
    let body = body.ok_or_else(|| no_such_stock(&symbol))?;
    Ok(cached::respond(request.headers(), &published, &body, app.clock.now()))
}
