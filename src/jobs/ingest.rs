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

impl MarketData {
    /// Waits until no cycle holds anything any more: one that is cut off lets go a moment after its run has ended. None may begin.
    pub async fn let_go(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}

impl Job for Ingest {
    fn run(self: Arc<Self>, context: RunContext) -> RunFuture {
        Box::pin(async move {
            let held = self.0.under_way.token();
            let cycle = async move {
                let ended = self.0.cycle(context.id, context.slot, context.deadline).await;
                drop(self);
                drop(held);
                ended
            };
            let summary = make_way(cycle).await?;
            serde_json::to_value(summary).map_err(|fault| JobError::Fail(fault.to_string()))
        })
    }
}
