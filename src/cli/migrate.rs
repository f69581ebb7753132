//! `migrate` and `migrate status`.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{open_to_read, output};
use crate::config::Config;
use crate::store::{Access, Store};

/// Schema up, or its state.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only say what would be applied
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Which migrations the database has
    Status,
}

#[derive(Serialize)]
struct Migration {
    number: i64,
    name: String,
    applied: bool,
}

/// Migrates, or shows.
pub async fn run(arguments: &Arguments, config: &Config) -> anyhow::Result<()> {
    let only_look = arguments.dry_run || matches!(arguments.command, Some(Command::Status));
    let store = if only_look {
        open_to_read(config).await?
    } else {
        let store = Store::open(&config.database, Access::Writer, 1, config.database_timeout).await?;
        store.migrate().await?;
        store
    };
    let migrations = store.migrations().await?;
    let migrations = migrations.into_iter().map(|(number, name, applied)| Migration { number, name, applied });
    let result = show(migrations.collect(), arguments.json);
    store.close().await;
    result
}

fn show(migrations: Vec<Migration>, json: bool) -> anyhow::Result<()> {
    if json {
        return migrations.iter().try_for_each(output::print_json);
    }
    let state = |applied| if applied { "applied" } else { "pending" }.to_owned();
    let rows = migrations.into_iter().map(|m| vec![format!("{:04}", m.number), m.name, state(m.applied)]);
    output::print(&output::table(&["NUMBER", "NAME", "STATE"], &rows.collect::<Vec<_>>()))
}
