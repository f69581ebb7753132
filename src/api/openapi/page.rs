//! `/docs`: the document as a page, made here, without a script or anything from elsewhere.

use std::fmt::Write;

use poem::http::header;
use poem::{Response, handler};

use super::operations::{Access, OPERATIONS, Operation, TAGS};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}\
code{font-family:ui-monospace,monospace}h3{margin:1.5rem 0 0}b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse}\
td{padding:.1rem 1rem .1rem 0;vertical-align:top}.n{color:#555}@media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}.n{color:#aaa}a{color:#8ab4f8}}";

/// Every call on one page.
#[handler]
pub fn show() -> Response {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>bellwether API</title><style>{STYLE}</style><h1>bellwether {}</h1>\
         <p>For programs: <a href=\"/openapi.json\">/openapi.json</a> (OpenAPI 3.1).",
        env!("CARGO_PKG_VERSION")
    );
    for (tag, about) in TAGS {
        // Writing into a string has no way to fail.
        let _ = write!(html, "<h2>{tag}</h2><p>{about}");
        for operation in OPERATIONS.iter().filter(|operation| operation.tag == *tag) {
            describe(&mut html, operation);
        }
    }
    Response::builder()
        .header(header::CACHE_CONTROL, "public, max-age=300")
        .header(
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        )
        .content_type("text/html; charset=utf-8")
        .body(html)
}

/// Nothing here comes from outside of the program, and none of it holds a mark of HTML.
fn describe(html: &mut String, operation: &Operation) {
    let access = match operation.access {
        Access::Everybody => "",
        Access::Operator => " <span class=\"n\">operators</span>",
        Access::Site => " <span class=\"n\">the site's server</span>",
        Access::Cron => " <span class=\"n\">with the cron secret</span>",
    };
    let method = operation.method.to_uppercase();
    let _ = write!(html, "<h3><b>{method}</b> <code>{}</code>{access}</h3>{}", operation.path, operation.summary);
    if operation.parameters.is_empty() {
        return;
    }
    html.push_str("<table>");
    for parameter in operation.parameters {
        let needed = if parameter.required { " (needed)" } else { "" };
        let _ = write!(html, "<tr><td><code>{}</code>{needed}<td>{}", parameter.name, parameter.about);
    }
    html.push_str("</table>");
}
