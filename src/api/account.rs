//! `/api/accounts`, and `/api/billing/current-plan`, `cancel`, `auto-renew` and `change-plan`: what the site shows and does for one account.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::error::Problem;
use super::guard::check_site;
use super::referrals::{answer, away, bad_body, email_of, read, refuse_disposable, request_id, user_of, user_of_query};
use crate::billing::{BillingCycle, Choice, FREE, Subscription, Terms};
use crate::store::{Addressed, Cause, Chosen};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelAsked {
    user_id: Value,
    #[serde(default, alias = "user_email")]
    email: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewAsked {
    user_id: Value,
    /// `true` or `false`, not a text.
    auto_renew: bool,
    #[serde(default, alias = "user_email")]
    email: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeAsked {
    user_id: Value,
    #[serde(alias = "new_plan", alias = "plan_type")]
    plan: String,
    #[serde(default)]
    billing_cycle: Option<String>,
    #[serde(default, alias = "user_email")]
    email: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressTold {
    user_id: Value,
    email: String,
}

/// Where the holder of an account is written to; the account is made where there is none: `{"user_id", "email"}`.
#[handler]
pub async fn tell(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: AddressTold = read(&app, body, "{\"user_id\": .., \"email\": ..}").await?;
    let user_id = user_of(&asked.user_id)?;
    let email = email_of(&asked.email)?;
    refuse_disposable(&app, &email)?;
    let told = app.store.tell_address(&user_id, &email, true, &cause(request, "accounts"), app.clock.now()).await;
    let (status, word) = match told.map_err(|fault| away(&fault))? {
        Addressed::Created => (StatusCode::CREATED, "created"),
        Addressed::Updated => (StatusCode::OK, "updated"),
        Addressed::Unchanged | Addressed::Nobody => (StatusCode::OK, "unchanged"),
    };
    Ok(answer(status, &json!({ "success": true, "status": word, "user_id": user_id })))
}

/// Keeps where the holder is written to, where a call about their subscription says so beside what it is about. An address that is
/// thrown away after use is taken too: nobody must be kept from canceling by it.
async fn learn(app: &App, user_id: &str, email: Option<&str>, cause: &Cause) -> std::result::Result<(), Problem> {
    let Some(email) = email.map(str::trim).filter(|email| !email.is_empty()) else { return Ok(()) };
    let email = email_of(email)?;
    let told = app.store.tell_address(user_id, &email, false, cause, app.clock.now()).await;
    told.map(|_| ()).map_err(|fault| away(&fault))
}

/// What the account may use now.
#[handler]
pub async fn current_plan(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_site(&app, request)?;
    let user_id = user_of_query(request)?;
    Ok(answer(StatusCode::OK, &json!({ "success": true, "data": plan_of(&app, &user_id).await? })))
}

/// The account holder wants no next period; what is paid for stays. Where PayPal charges it, it is ended there too.
#[handler]
pub async fn cancel(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: CancelAsked = read(&app, body, "{\"user_id\": ..}").await?;
    let user_id = user_of(&asked.user_id)?;
    let cause = cause(request, "cancel");
    learn(&app, &user_id, asked.email.as_deref(), &cause).await?;
    Ok(choose(&app, &user_id, false, cause).await?)
}

/// Whether it goes on: `{"user_id", "auto_renew"}`. `false` is the same as [`cancel`]; `true` takes it back.
#[handler]
pub async fn auto_renew(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: RenewAsked = read(&app, body, "{\"user_id\": .., \"auto_renew\": true or false}").await?;
    let user_id = user_of(&asked.user_id)?;
    let cause = cause(request, "auto-renew");
    learn(&app, &user_id, asked.email.as_deref(), &cause).await?;
    Ok(choose(&app, &user_id, asked.auto_renew, cause).await?)
}

/// What the account wants to have from the next period on: `{"user_id", "plan", "billing_cycle"}`. Nothing is given before it is paid for.
#[handler]
pub async fn change_plan(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: ChangeAsked = read(&app, body, "{\"user_id\": .., \"plan\": .., \"billing_cycle\": ..}").await?;
    let user_id = user_of(&asked.user_id)?;
    let cause = cause(request, "change-plan");
    learn(&app, &user_id, asked.email.as_deref(), &cause).await?;
    let rules = &app.renewals.rules;
    let Some((plan, _)) = rules.plan(&asked.plan.trim().to_lowercase()) else {
        return Err(
            unprocessable("unknown_plan", "there is no plan of that name; billing.api_limits has them all").into()
        );
    };
    let cycle: Option<BillingCycle> = match asked.billing_cycle.as_deref().map(str::parse) {
        Some(Err(_)) => return Err(bad_body("billing_cycle must be \"monthly\" or \"annual\"").into()),
        cycle => cycle.and_then(std::result::Result::ok),
    };
    if plan == FREE {
        return Ok(choose(&app, &user_id, false, cause).await?);
    }
    let found = app.store.subscription_of(&user_id).await.map_err(|fault| away(&fault))?;
    let subscription = found.map(|row| row.subscription()).transpose().map_err(|fault| away(&fault))?;
    let Some(subscription) = subscription.filter(|one| one.has_access(app.clock.now(), rules)) else {
        return Err(needs_payment().into());
    };
    let terms = Terms { plan: plan.to_owned(), cycle: cycle.unwrap_or(subscription.terms.cycle) };
    if !rules.is_sold(&terms) {
        let detail = format!("{} is not sold by this billing_cycle; billing.*_prices has what is", terms.plan);
        return Err(unprocessable("not_sold", &detail).into());
    }
    Ok(change(&app, &user_id, &subscription, terms, cause).await?)
}

async fn change(
    app: &App,
    user_id: &str,
    subscription: &Subscription,
    terms: Terms,
    cause: Cause,
) -> std::result::Result<Response, Problem> {
    let is_next = subscription.next_terms.as_ref().is_some_and(|(_, next)| *next == terms);
    if subscription.terms != terms && !is_next {
        if !subscription.auto_renew {
            let detail = "the subscription was canceled; turn auto_renew on first, or buy the plan anew";
            return Err(Problem::new(StatusCode::CONFLICT, "canceled", detail));
        }
        if let Some(link) = &subscription.link {
            // PayPal charges nobody for another plan without their consent; what they consent to comes back as an event.
            let body = json!({
                "success": true,
                "status": "needs_approval",
                "message": "the account holder must approve the change at PayPal; it counts from the next charge on",
                "approval": { "paypal_subscription": link, "paypal_plan": app.renewals.rules.paypal_plan_of(&terms) },
                "data": plan_of(app, user_id).await?,
            });
            return Ok(answer(StatusCode::ACCEPTED, &body));
        }
    }
    // Whoever goes back to what they have, or have paid for next, wishes nothing any more.
    let wish = (subscription.terms != terms && !is_next).then_some(&terms);
    app.store.wish_plan(user_id, wish, &cause, app.clock.now()).await.map_err(|fault| away(&fault))?;
    let (status, message) = match (is_next, wish) {
        (true, _) => ("paid", "that plan is paid for, and begins when the one before it ends"),
        (_, None) => ("unchanged", "the account has that plan"),
        (_, Some(_)) => ("planned", "the next period is of that plan once it is paid for; until then nothing changes"),
    };
    let body = json!({ "success": true, "status": status, "message": message, "data": plan_of(app, user_id).await? });
    Ok(answer(StatusCode::OK, &body))
}

/// Keeps the holder's word, and answers with what came of it.
async fn choose(app: &App, user_id: &str, goes_on: bool, cause: Cause) -> std::result::Result<Response, Problem> {
    let choice = Choice { at: app.clock.now(), auto_renew: goes_on };
    let chosen = app.store.choose(user_id, choice, &app.renewals.rules, &cause).await.map_err(|fault| away(&fault))?;
    let account = match chosen {
        Chosen::Done(account) => account,
        Chosen::Nobody => return Err(Problem::not_found("this account has no subscription")),
        Chosen::Over => return Err(needs_payment()),
        Chosen::NeedsApproval => {
            let detail = "the subscription has ended at PayPal, or is being ended, and cannot be begun again: let the holder \
                 approve a new one; what is paid for stays";
            return Err(Problem::new(StatusCode::CONFLICT, "needs_approval", detail));
        }
    };
    app.cancellations.notify_one();
    let access_until = account.subscription.as_ref().map(|subscription| subscription.current_period_end);
    let at_paypal = app.store.cancellations_of(user_id).await.map_err(|fault| away(&fault))?;
    // Of several the one that has not ended tells.
    let has = |state: &str| at_paypal.iter().any(|one| one.state == state);
    let end_at_paypal = ["wanted", "confirmed"].into_iter().find(|state| !goes_on && has(state));
    let (status, message) = match goes_on {
        true => ("active", "the subscription goes on"),
        false => ("canceled", "the subscription ends with the period that is paid for"),
    };
    let body = json!({
        "success": true,
        "status": status,
        "message": message,
        "access_until": access_until,
        // `wanted` until PayPal has said so; null: PayPal charges nothing for it.
        "end_at_paypal": end_at_paypal,
        "data": plan_of(app, user_id).await?,
    });
    Ok(answer(StatusCode::OK, &body))
}

fn cause(request: &Request, cause: &str) -> Cause {
    Cause { actor: "site".to_owned(), cause: cause.to_owned(), request_id: request_id(request) }
}

fn unprocessable(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
}

fn needs_payment() -> Problem {
    let detail = "nothing of this account is paid for; it begins with a payment for the plan";
    Problem::new(StatusCode::CONFLICT, "needs_payment", detail)
}

async fn plan_of(app: &App, user_id: &str) -> std::result::Result<Value, Problem> {
    let found = app.store.subscription_of(user_id).await.map_err(|fault| away(&fault))?;
    let found = found.map(|row| row.subscription()).transpose().map_err(|fault| away(&fault))?;
    let wish = app.store.plan_wish(user_id).await.map_err(|fault| away(&fault))?;
    let (rules, now, subscription) = (&app.renewals.rules, app.clock.now(), found.as_ref());
    let plan = subscription.map_or(FREE, |subscription| subscription.plan_at(now, rules));
    let name: String =
        plan.char_indices().map(|(at, letter)| if at == 0 { letter.to_ascii_uppercase() } else { letter }).collect();
    let live = subscription.filter(|subscription| subscription.has_access(now, rules));
    let paid_next = live.and_then(|live| live.next_terms.clone()).map(|(at, terms)| (at, terms, true));
    // What is wished for is told apart from what is paid for, and gone once it is had.
    let wished = live.zip(wish).filter(|(live, wish)| live.auto_renew && live.terms != *wish);
    let next = paid_next.or_else(|| wished.map(|(live, wish)| (live.current_period_end, wish, false)));
    Ok(json!({
        "plan_name": name,
        "plan_type": plan,
        "is_premium": plan != FREE,
        "billing_cycle": live.map(|subscription| subscription.terms.cycle),
        "next_billing_date": live.filter(|subscription| subscription.auto_renew).map(|live| live.current_period_end),
        "current_period_end": subscription.map(|subscription| subscription.current_period_end),
        "next_plan": next.map(|(at, terms, paid)| {
            json!({ "plan": terms.plan, "billing_cycle": terms.cycle, "from": at, "paid": paid })
        }),
        "features": { "api_calls_per_month": rules.plan(plan).map(|(_, plan)| plan.api_limit) },
        "auto_renew": live.is_some_and(|subscription| subscription.auto_renew),
        "subscription_status": subscription.map_or("none", |subscription| subscription.status.name()),
    }))
}
