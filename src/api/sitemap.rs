//! `/sitemap.xml` and `/robots.txt`: the pages of the site that the configuration names, for search engines.

use std::sync::Arc;

use poem::web::Data;
use poem::{Request, Response, Result, handler};
use url::Url;

use super::App;
use super::cached;

/// Pages come and go with the configuration, which is read at the start.
const MAX_AGE_SECONDS: i64 = 3_600;

/// The pages (sitemaps.org).
#[handler]
pub fn sitemap(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    let text = listed(&app.site.pages).into_bytes();
    Ok(cached::respond_hashed(request.headers(), "application/xml", text, MAX_AGE_SECONDS))
}

/// Where the pages are listed, and what is no page (RFC 9309).
#[handler]
pub fn robots(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    let base = app.site.frontend_url.trim_end_matches('/');
    let text = format!("User-agent: *\nDisallow: /admin/\nDisallow: /api/\nSitemap: {base}/sitemap.xml\n").into_bytes();
    Ok(cached::respond_hashed(request.headers(), "text/plain; charset=utf-8", text, MAX_AGE_SECONDS))
}

fn listed(pages: &[Url]) -> String {
    // In an address everything else that XML knows is percent-encoded or harmless.
    let escaped = |page: &Url| page.as_str().replace('&', "&amp;").replace('\'', "&apos;");
    let entries: String = pages.iter().map(|page| format!("<url><loc>{}</loc></url>\n", escaped(page))).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n{entries}</urlset>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_xml_takes_them() {
        let pages =
            ["https://site.example/", "https://site.example/a?b=<1>&c='\"'"].map(|page| Url::parse(page).unwrap());
        insta::assert_snapshot!(listed(&pages), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
        <url><loc>https://site.example/</loc></url>
        <url><loc>https://site.example/a?b=%3C1%3E&amp;c=%27%22%27</loc></url>
        </urlset>
        "#);
    }
}
