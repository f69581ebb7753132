//! `GET /api/billing/current-plan` and `POST /api/billing/cancel`: what the site shows and does for one account.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::error::Problem;
use super::guard::check_site;
use super::referrals::{answer, away, read, request_id, user_of, user_of_query};
use crate::billing::{Choice, FREE, Subscription};
use crate::store::Cause;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelAsked {
    user_id: Value,
}

/// What the account may use now.
#[handler]
pub async fn current_plan(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_site(&app, request)?;
    let user_id = user_of_query(request)?;
    let found = app.store.subscription_of(&user_id).await.map_err(|fault| away(&fault))?;
    let subscription = found.map(|row| row.subscription()).transpose().map_err(|fault| away(&fault))?;
    Ok(answer(StatusCode::OK, &json!({ "success": true, "data": plan_of(&app, subscription.as_ref()) })))
}

/// The account holder wants no next period; what is paid for stays.
#[handler]
pub async fn cancel(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: CancelAsked = read(&app, body, "{\"user_id\": ..}").await?;
    let user_id = user_of(&asked.user_id)?;
    let cause = Cause { actor: "site".to_owned(), cause: "cancel".to_owned(), request_id: request_id(request) };
    let choice = Choice { at: app.clock.now(), auto_renew: false };
    let chosen = app.store.choose(&user_id, choice, &app.renewals.rules, &cause).await.map_err(|fault| away(&fault))?;
    let Some(account) = chosen else {
        return Err(Problem::not_found("this account has no subscription").into());
    };
    let subscription = account.subscription.as_ref();
    let access_until = subscription.map(|subscription| subscription.current_period_end);
    let body = json!({
        "success": true,
        "message": "the subscription ends with the period that is paid for",
        "access_until": access_until,
        "data": plan_of(&app, subscription),
    });
    Ok(answer(StatusCode::OK, &body))
}

fn plan_of(app: &App, subscription: Option<&Subscription>) -> Value {
    let (rules, now) = (&app.renewals.rules, app.clock.now());
    let plan = subscription.map_or(FREE, |subscription| subscription.plan_at(now, rules));
    let name: String =
        plan.char_indices().map(|(at, letter)| if at == 0 { letter.to_ascii_uppercase() } else { letter }).collect();
    let live = subscription.filter(|subscription| subscription.has_access(now, rules));
    json!({
        "plan_name": name,
        "plan_type": plan,
        "is_premium": plan != FREE,
        "billing_cycle": live.map(|subscription| subscription.terms.cycle),
        "next_billing_date": live.filter(|subscription| subscription.auto_renew).map(|live| live.current_period_end),
        "current_period_end": subscription.map(|subscription| subscription.current_period_end),
        "next_plan": live.and_then(|live| live.next_terms.as_ref()).map(|(at, terms)| json!({ "plan": terms.plan, "from": at })),
        "features": { "api_calls_per_month": rules.plan(plan).map(|(_, plan)| plan.api_limit) },
        "auto_renew": live.is_some_and(|subscription| subscription.auto_renew),
        "subscription_status": subscription.map_or("none", |subscription| subscription.status.name()),
    })
}
