//! The `ingest` and `ingest-close` jobs: one cycle.

use std::sync::Arc;

use super::market_data::MarketData;
use crate::ops::make_way::make_way;
use crate::scheduler::{Job, JobError, RunContext, RunFuture};

/// Runs a cycle on [`MarketData`].
#[derive(Debug)]
pub struct Ingest(Arc<MarketData>);

impl Ingest {
    /// The job of this market.
    pub fn new(market: Arc<MarketData>) -> Self {
        Self(market)
    }
}

impl Job for Ingest {
    fn run(self: Arc<Self>, context: RunContext) -> RunFuture {
        Box::pin(async move {
            let cycle = async move { self.0.cycle(context.id, context.slot, context.deadline).await };
            let summary = make_way(cycle).await?;
            serde_json::to_value(summary).map_err(|fault| JobError::Fail(fault.to_string()))
        })
    }
}
