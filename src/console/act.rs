//! Something is done: written down with its reason, done in a task of its own, and what came of it written down as well.

use std::sync::Arc;

use poem::http::StatusCode;
use uuid::Uuid;

use super::Visit;
use super::visit::database_away;
use crate::api::Problem;
use crate::store::OperatorAct;

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

/// Does `work`. A browser that hangs up does not leave it half done.
///
/// # Errors
/// 400 without a reason; 503 where it cannot be written down, and then nothing was done; what `work` says.
pub async fn perform<T, W>(visit: &Arc<Visit>, deed: Deed, work: W) -> Result<T, Problem>
where
    T: Send + 'static,
    W: Future<Output = Done<T>> + Send + 'static,
{
    let reason = visit.fields.text("reason").unwrap_or_default().to_owned();
    if reason.is_empty() || reason.chars().count() > LONGEST_REASON || reason.contains('\0') {
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
    store.begin_act(&act).await.map_err(|fault| database_away(&fault))?;
    let done = tokio::spawn(async move {
        let (done, outcome) = match work.await {
            Ok((done, outcome)) => (Ok(done), outcome),
            Err(problem) => {
                let outcome = format!("refused: {}", problem.detail());
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
    });
    done.await.map_err(|fault| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("it broke off: {fault}"))
    })?
}
