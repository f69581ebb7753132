//! Ingestion: why the data is as it is, and the whole state.

use std::sync::Arc;

use poem::web::Data;
use poem::{Response, Result, handler};
use serde_json::Value;

use super::Visit;
use crate::console::page::{Block, Cell, show as shown};

/// The same answer as `bellwether ingest why` and `ingest status`.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let market = &visit.console.app.market;
    let (why, status) = (market.why(visit.now), market.status(visit.now));
    let mut blocks = vec![Block::Facts(vec![
        ("Why", Cell::text(why.sentence.as_str())),
        ("In one word", Cell::Code(why.code.name().to_owned())),
        ("Since", visit.maybe_time(why.since)),
        ("For readers it is", Cell::text(if why.stale { "stale" } else { "current" })),
    ])];
    blocks.push(Block::Table {
        caption: "To be mended, the worst first".to_owned(),
        header: vec!["What", "Since", "Look"],
        rows: why
            .findings
            .iter()
            .map(|finding| {
                let look = Cell::Code(finding.look.to_owned());
                vec![Cell::text(finding.sentence.as_str()), visit.maybe_time(finding.since), look]
            })
            .collect(),
        none: "Nothing.",
    });
    let status = serde_json::to_value(&status).unwrap_or_default();
    for (name, title) in [
        ("last_cycle", "The last cycle"),
        ("under_way", "Under way"),
        ("universe", "What is quoted"),
        ("provider", "Provider"),
    ] {
        if let Some(members) = status[name].as_object() {
            let lines = members.iter().filter(|(_, value)| !value.is_object());
            blocks.push(Block::Table {
                caption: title.to_owned(),
                header: vec!["Name", "Value"],
                rows: lines
                    .map(|(name, value): (&String, &Value)| {
                        vec![Cell::text(name.replace('_', " ")), visit.value(value)]
                    })
                    .collect(),
                none: "",
            });
        }
    }
    blocks.push(Block::Facts(vec![("Next cycle", visit.value(&status["next_cycle"]))]));
    Ok(shown(&visit, "Ingestion", &blocks))
}
