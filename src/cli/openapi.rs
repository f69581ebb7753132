//! `openapi`.

use super::output;
use crate::api::openapi::document;

/// Prints the document of everything that is served.
pub fn run() -> anyhow::Result<()> {
    output::print(&format!("{}\n", serde_json::to_string_pretty(&document())?))
}
