//! The style of the pages, under a name that changes with it.

use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use poem::http::header;
use poem::web::Path;
use poem::{Response, Result, handler};
use sha2::{Digest, Sha256};

use super::page::guarded;
use crate::api::Problem;

const STYLE: &str = include_str!("../../templates/console/console.css");

fn style_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let hash = HEXLOWER.encode(&Sha256::digest(STYLE)[..8]);
        format!("console-{hash}.css")
    })
}

/// Where it is.
pub fn style_path() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| format!("/admin/assets/{}", style_name()))
}

/// The style. A name that is kept for ever is never another text.
#[handler]
pub fn style(Path(name): Path<String>) -> Result<Response> {
    if name != style_name() {
        return Err(Problem::not_found("there is nothing at this path").into());
    }
    let mut response =
        guarded(Response::builder().content_type("text/css; charset=utf-8"), "default-src 'none'").body(STYLE);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
