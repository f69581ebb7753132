//! Each part of the daemon, well or not: the same answer as `/api/health/detailed`.

use std::sync::Arc;

use poem::web::Data;
use poem::{Response, Result, handler};

use super::Visit;
use crate::api::components;
use crate::console::page::{Block, Cell, show as shown};
use crate::console::visit::database_away;

/// Parts, and the instances on this database.
#[handler]
pub async fn show(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let app = &visit.console.app;
    let parts = components(app).await;
    let instances = app.store.instances().await.map_err(|fault| database_away(&fault))?;
    let state = |ok: bool| Cell::State(if ok { "well" } else { "ill" }.to_owned());
    let blocks = [
        Block::Table {
            caption: "Parts".to_owned(),
            header: vec!["Part", "State", "Detail", "Look"],
            rows: parts
                .iter()
                .map(|part| {
                    let (detail, look) = (Cell::maybe(part.detail.as_deref()), Cell::Code(part.look.to_owned()));
                    vec![Cell::text(part.name), state(part.ok), detail, look]
                })
                .collect(),
            none: "",
        },
        Block::Table {
            caption: "Instances on this database".to_owned(),
            header: vec!["Instance", "Host", "Process", "Version", "Started", "Last sign of life"],
            rows: instances
                .iter()
                .map(|instance| {
                    vec![
                        Cell::text(instance.owner.as_str()),
                        Cell::text(instance.host.as_str()),
                        Cell::text(instance.process_id.to_string()),
                        Cell::text(instance.version.as_str()),
                        visit.time(instance.started_at),
                        visit.time(instance.beat_at),
                    ]
                })
                .collect(),
            none: "None has said so yet.",
        },
        Block::Facts(vec![
            ("Version", Cell::text(env!("CARGO_PKG_VERSION"))),
            ("Every check", Cell::Code("bellwether doctor all".to_owned())),
            ("Configuration", Cell::Code("bellwether config show --origin".to_owned())),
        ]),
    ];
    Ok(shown(&visit, "Health", &blocks))
}
