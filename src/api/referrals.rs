//! `/api/referrals/..`: what the site asks for its accounts. Only the site may: its server says for whom, in `user_id`.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::error::Problem;
use super::guard::{check_site, read_body};
use super::query::{Query, bad_parameter};
use super::webhooks;
use crate::store::{Acceptance, Accepted, Cause, Invited, MarkedPaid, PaidWord, StoreError, ToldBy};
use crate::webhooks::standard;

/// The longest name that the site may have for an account, in bytes.
const LONGEST_USER_ID: usize = 128;

/// The longest address there can be (RFC 5321), in bytes.
const LONGEST_EMAIL: usize = 254;

/// The longest key of a call, in bytes.
const LONGEST_KEY: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InviteAsked {
    user_id: Value,
    #[serde(alias = "invitee_email")]
    email: String,
    /// The inviter's own.
    #[serde(default)]
    user_email: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptAsked {
    user_id: Value,
    #[serde(default, alias = "invitee_email")]
    email: Option<String>,
    #[serde(default)]
    referral_code: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct MarkAsked {
    referral_code: Option<String>,
    #[serde(alias = "email")]
    invitee_email: Option<String>,
}

/// The account's own code, and the page of the site that it leads to.
#[handler]
pub async fn link(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_site(&app, request)?;
    let user_id = user_of_query(request)?;
    let code = app.store.referral_code(&user_id, None, app.clock.now()).await.map_err(|fault| away(&fault))?;
    // The address is the configuration's: a header of the request does not decide where people are sent.
    let link = format!("{}/?ref={code}", app.site.frontend_url.trim_end_matches('/'));
    Ok(answer(StatusCode::OK, &json!({ "success": true, "referral_code": code, "referral_link": link })))
}

/// Invites an address: `{"user_id", "email"}`; the inviter's own may be told with it, in `user_email`.
#[handler]
pub async fn invite(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: InviteAsked = read(&app, body, "{\"user_id\": .., \"email\": ..}").await?;
    let user_id = user_of(&asked.user_id)?;
    let email = email_of(&asked.email)?;
    refuse_disposable(&app, &email)?;
    let limit = app.site.invites_per_hour;
    let now = app.clock.now();
    // First, so that nobody invites it.
    if let Some(own) = asked.user_email.as_deref().map(str::trim).filter(|own| !own.is_empty()) {
        let own = email_of(own)?;
        refuse_disposable(&app, &own)?;
        let cause = Cause { actor: "site".to_owned(), cause: "invite".to_owned(), request_id: request_id(request) };
        app.store.tell_address(&user_id, &own, true, &cause, now).await.map_err(|fault| away(&fault))?;
    }
    match app.store.invite(&user_id, &email, limit, now).await.map_err(|fault| away(&fault))? {
        Invited::New(id) => Ok(answer(StatusCode::CREATED, &json!({ "success": true, "status": "ok", "id": id }))),
        Invited::Exists(id) => Ok(answer(StatusCode::OK, &json!({ "success": true, "status": "exists", "id": id }))),
        Invited::Taken => {
            let detail = "this address was invited by another account, or has one itself";
            Err(Problem::new(StatusCode::CONFLICT, "already_invited", detail).into())
        }
        Invited::Own => {
            let detail = "nobody can invite their own address";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "self_referral", detail).into())
        }
        Invited::TooMany(at) => {
            let detail = format!("{limit} invites within an hour are the most");
            let seconds = (at - now).num_seconds().max(1).unsigned_abs();
            Err(Problem::too_many("invite_limit", detail, seconds).into())
        }
    }
}

/// An invited address has become an account: `{"user_id", "email", "referral_code"}`. The address may be left out where it is known,
/// the code where the address was invited.
#[handler]
pub async fn accept(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    check_site(&app, request)?;
    let asked: AcceptAsked = read(&app, body, "{\"user_id\": .., \"email\": .., \"referral_code\": ..}").await?;
    let user_id = user_of(&asked.user_id)?;
    let code = asked.referral_code.as_deref().map(str::trim).filter(|code| !code.is_empty());
    let email = match asked.email.as_deref().map(str::trim).filter(|email| !email.is_empty()) {
        Some(email) => email_of(email)?,
        None => {
            let known = app.store.account_email(&user_id).await.map_err(|fault| away(&fault))?;
            known.ok_or_else(|| bad_body("email is needed: no address of this account is known"))?
        }
    };
    refuse_disposable(&app, &email)?;
    let cause = Cause { actor: "site".to_owned(), cause: "accept".to_owned(), request_id: request_id(request) };
    let acceptance = Acceptance { user_id: &user_id, email: &email, code };
    let accepted = app.store.accept_invite(acceptance, &app.renewals.rules, &cause, app.clock.now()).await;
    let (status, id, state) = match accepted.map_err(|fault| away(&fault))? {
        Accepted::Now { id, state } => ("ok", id, state.to_owned()),
        Accepted::Before { id, state } => ("exists", id, state),
        other => return Err(not_accepted(&other).into()),
    };
    Ok(answer(StatusCode::OK, &json!({ "success": true, "status": status, "id": id, "state": state })))
}

fn not_accepted(why: &Accepted) -> Problem {
    match why {
        Accepted::Own => {
            let detail = "nobody can accept their own invite, whichever of their addresses it went to";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "self_referral", detail)
        }
        Accepted::Customer => {
            let detail = "this account had paid before it was invited; it earns nobody anything";
            Problem::new(StatusCode::CONFLICT, "already_customer", detail)
        }
        Accepted::Taken => {
            let detail = "the address was invited by another account, or the invite or the account is taken already";
            Problem::new(StatusCode::CONFLICT, "already_invited", detail)
        }
        _ => Problem::not_found("nobody invited that address, or there is no such code"),
    }
}

/// How the account's invites stand.
#[handler]
pub async fn summary(app: Data<&Arc<App>>, request: &Request) -> Result<Response> {
    check_site(&app, request)?;
    let user_id = user_of_query(request)?;
    let found = app.store.referral_summary(&user_id).await.map_err(|fault| away(&fault))?;
    let per_month = app.renewals.rules.invites_per_month;
    let earned_months = found.earned.max(0) / per_month;
    Ok(answer(
        StatusCode::OK,
        &json!({
            "success": true,
            "inviter_id": user_id,
            "total_invited": found.invited,
            "total_accepted": found.accepted,
            "total_paid": found.paid,
            "rewards_months_earned": earned_months,
            "rewards_months_granted": found.redeemed_months,
            "free_months_redeemed": found.redeemed_months,
            "pending_rewards_months": found.balance.max(0) / per_month,
            "paid_invites_left": found.balance,
        }),
    ))
}

/// The site says that an invited account pays: `{"invitee_email", "referral_code"}`, the address needed where the code has several
/// open invites. Under an `Idempotency-Key` the same call has the same answer. What is signed instead is an event of the inbox.
#[handler]
pub async fn mark_paid(app: Data<&Arc<App>>, request: &Request, body: Body) -> Result<Response> {
    // One of its headers is enough: whoever meant to sign is not let in by a token because the rest is missing.
    if standard::HEADERS.iter().any(|name| request.headers().contains_key(*name)) {
        return Ok(webhooks::referral_paid(&app, request, body).await?);
    }
    check_site(&app, request)?;
    let key = idempotency_key(request)?;
    let asked: MarkAsked = read(&app, body, "{\"invitee_email\": .., \"referral_code\": ..}").await?;
    let code = asked.referral_code.as_deref().map(str::trim).filter(|code| !code.is_empty());
    let email = asked.invitee_email.as_deref().map(email_of).transpose()?;
    if code.is_none() && email.is_none() {
        return Err(bad_body("invitee_email or referral_code is needed").into());
    }
    let cause = Cause { actor: "site".to_owned(), cause: "mark-paid".to_owned(), request_id: request_id(request) };
    let (now, told_by) = (app.clock.now(), key.as_deref().map_or(ToldBy::Call, ToldBy::Keyed));
    let word = PaidWord { code, email: email.as_deref(), told_at: now, told_by };
    let marked = app.store.mark_invite_paid(&word, &cause, now).await;
    let (status, id) = match marked.map_err(|fault| away(&fault))? {
        MarkedPaid::Paid(id) => ("ok", id),
        MarkedPaid::Already(id) => ("exists", id),
        MarkedPaid::Unknown => {
            return Err(Problem::not_found("nobody invited that address, or not by that code").into());
        }
        MarkedPaid::Ambiguous => {
            let detail = "several invites of that code are open, or this repeats a call of the last 24 hours by the code alone: say \
                 which in invitee_email, or send an Idempotency-Key with each word that is another one";
            return Err(Problem::new(StatusCode::CONFLICT, "ambiguous", detail).into());
        }
        MarkedPaid::KeyReused => {
            let detail = "another call was made under this Idempotency-Key; give each call one of its own";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail).into());
        }
    };
    Ok(answer(StatusCode::OK, &json!({ "success": true, "status": status, "id": id })))
}

/// What the caller calls this word, so that the same call again is known: as it is, or in quotes as the newer standard has it.
fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > LONGEST_KEY || !is_plain || values.next().is_some() {
        let detail =
            format!("Idempotency-Key must be there once, 1 to {LONGEST_KEY} printable characters without blanks");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "idempotency_key", detail));
    }
    Ok(Some(key.to_owned()))
}

/// A name of the site's for an account: text, or a number as the old site had them.
pub(super) fn user_of(value: &Value) -> Result<String, Problem> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => String::new(),
    };
    let is_plain = text.chars().all(|letter| !letter.is_control());
    if text.is_empty() || text.len() > LONGEST_USER_ID || !is_plain {
        return Err(bad_body(&format!(
            "user_id must be the site's name for the account, 1 to {LONGEST_USER_ID} bytes"
        )));
    }
    Ok(text)
}

pub(super) fn user_of_query(request: &Request) -> Result<String, Problem> {
    let query = Query::of(request.uri(), &["user_id"])?;
    let user = query.text("user_id").ok_or_else(|| bad_parameter("user_id is missing; give the account's name"))?;
    user_of(&Value::String(user.to_owned()))
}

/// A mail address as letters can go to.
pub(super) fn email_of(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let is_one = text.split_once('@').is_some_and(|(local, domain)| {
        let has_dot = domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.');
        !local.is_empty() && has_dot && !domain.contains('@')
    });
    let is_plain = text.len() <= LONGEST_EMAIL
        && text.chars().all(|letter| letter.is_ascii_graphic() && !"<>(),;:\\\"[]".contains(letter));
    if !is_one || !is_plain {
        return Err(bad_body("the e-mail address is not one"));
    }
    Ok(text.to_owned())
}

pub(super) fn refuse_disposable(app: &App, email: &str) -> Result<(), Problem> {
    let domain = email.rsplit('@').next().unwrap_or_default().to_lowercase();
    let is_of = |listed: &String| domain == *listed || domain.ends_with(&format!(".{listed}"));
    if app.site.disposable_domains.iter().any(is_of) {
        let detail = "addresses of this domain are thrown away after use and cannot be invited";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "disposable_email", detail));
    }
    Ok(())
}

/// Reads a body that must be an object of the form `shape`.
pub(super) async fn read<T: serde::de::DeserializeOwned>(app: &App, body: Body, shape: &str) -> Result<T, Problem> {
    let bytes = read_body(app, body).await?;
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(bad_body(&format!("the body must be {shape}: it is not an object")));
    }
    serde_json::from_slice(&bytes).map_err(|fault| bad_body(&format!("the body must be {shape}: {fault}")))
}

pub(super) fn bad_body(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_body", detail)
}

pub(super) fn request_id(request: &Request) -> Option<String> {
    request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(|id| id.chars().take(128).collect())
}

pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let response = Response::builder().status(status).header(header::CACHE_CONTROL, "no-store");
    response.content_type("application/json").body(body.to_string())
}

pub(super) fn away(fault: &StoreError) -> Problem {
    tracing::error!(error = %fault, "a call of the site failed");
    Problem::unavailable("database_unavailable", "the database does not answer; nothing is half-done", 10)
}
