//! Origins of web pages: scheme, host and port, as a browser sends them.

use url::Url;

use super::Stage;
use super::reader::Reader;
use super::value::Origin;

const KEY: &str = "http.cors_origins";

/// The origins that are named besides the site's own.
pub(super) fn read(reader: &mut Reader<'_>) -> Vec<String> {
    let mut origins = Vec::new();
    for item in reader.list(KEY) {
        match of_text(&item) {
            Ok(origin) => origins.push(origin),
            Err((message, fix)) => reader.refuse(KEY, message, fix),
        }
    }
    origins
}

/// The origin of the site's pages. In production the built-in address of a developer's machine is nobody's.
pub(super) fn of_site(reader: &Reader<'_>, frontend_url: &str, stage: Option<Stage>) -> Option<String> {
    let nobodys = stage == Some(Stage::Production) && reader.origin("site.frontend_url") == Origin::Default;
    let url = Url::parse(frontend_url).ok().filter(|_| !nobodys)?;
    is_web(&url).then(|| url.origin().ascii_serialization())
}

/// The origin as a browser writes it: small letters, no port that goes without saying.
fn of_text(text: &str) -> Result<String, (String, String)> {
    let example = "write each as scheme, host and port if it has one, e.g. https://www.example.com".to_owned();
    if text.contains('*') {
        let message = format!("{text:?}: an origin is one site; answers are never shared with every site");
        return Err((message, "name each origin, e.g. https://www.example.com,https://app.example.com".to_owned()));
    }
    let url = Url::parse(text).ok().filter(is_web);
    let Some(url) = url else { return Err((format!("{text:?} is not an origin"), example)) };
    let origin = url.origin().ascii_serialization();
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || !url.username().is_empty() || url.password().is_some() {
        let message = format!("{:?} has more than an origin: a browser never sends the rest", shown(&url));
        return Err((message, format!("write {origin}")));
    }
    Ok(origin)
}

fn is_web(url: &Url) -> bool {
    url.has_host() && ["http", "https"].contains(&url.scheme())
}

/// Without what may be a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_password(None);
    url.to_string()
}
