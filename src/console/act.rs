//! Something is done: written down with its reason, done in a task of its own, and what came of it written down as well.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use poem::http::StatusCode;
use uuid::Uuid;

use super::Visit;
use super::visit::database_away;
use crate::api::Problem;
use crate::store::{OperatorAct, Store};

/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// What is done, with what.
#[derive(Debug, Clone)]
pub struct Deed {
    /// E.g. `renewals run`.
    pub act: &'static str,
    /// An account, an event, a run, a number.
    pub target: String,
}

/// What came of it, for the page, and in a few words for the audit.
pub type Done<T> = Result<(T, String), Problem>;

/// Does `work`. A browser that hangs up does not leave it half done, and the end of the daemon waits for it.
///
/// # Errors
/// 400 without a reason; 503 where it cannot be written down, and then nothing was done; what `work` says.
pub async fn perform<T, W>(visit: &Arc<Visit>, deed: Deed, work: W) -> Result<T, Problem>
where
    T: Send + 'static,
    W: Future<Output = Done<T>> + Send + 'static,
{
    let reason = visit.fields.text("reason").unwrap_or_default().to_owned();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON {
        let detail = format!("say why, in 1 to {LONGEST_REASON} characters; nothing was done");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "reason_missing", detail));
    }
    let act = OperatorAct {
        id: Uuid::now_v7(),
        at: visit.now,
        operator: visit.operator.clone(),
        act: deed.act.to_owned(),
        target: deed.target,
        reason,
        request_id: visit.request_id.clone(),
        outcome: None,
    };
    let store = visit.console.app.store.clone();
    let done = visit.console.app.runs.spawn(async move {
        store.begin_act(&act).await.map_err(|fault| database_away(&fault))?;
        // A panic is an outcome too.
        let done = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(broke_off()));
        end(&store, &act, done).await
    });
    done.await.map_err(|_| broke_off())?
}

async fn end<T>(store: &Store, act: &OperatorAct, done: Done<T>) -> Result<T, Problem> {
    let (done, outcome) = match done {
        Ok((done, outcome)) => (Ok(done), outcome),
        Err(problem) => {
            let word = if problem.status().is_server_error() { "failed" } else { "refused" };
            let outcome = format!("{word}: {}", problem.detail());
            (Err(problem), outcome)
        }
    };
    tracing::info!(
        operator = act.operator,
        act = act.act,
        target = act.target,
        outcome,
        "an operator acted in the console"
    );
    if let Err(fault) = store.end_act(act.id, &outcome).await {
        tracing::error!(error = %fault, act_id = %act.id, "what came of an operator's act could not be written down");
    }
    done
}

fn broke_off() -> Problem {
    let detail = "it broke off in the middle; what was done until then is done, and the log says why";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}
