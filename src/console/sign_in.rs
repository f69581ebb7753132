//! Signing in and out. The secret of a session is only in the browser; the database has its hash.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use askama::Template;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use poem::http::{StatusCode, header};
use poem::web::Data;
use poem::{Body, Request, Response, Result, handler};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::failures::Failures;
use super::page::html;
use super::visit::{FormFields, database_away, redirect};
use super::{Console, SESSIONS, Visit, assets};
use crate::api::{Problem, read_body};
use crate::metrics;
use crate::ops::password;

/// The cookie of somebody who is signed in, and of somebody who is about to.
const SESSION: &str = "bellwether_session";
const DOOR: &str = "bellwether_door";

/// How long somebody waits until others' passwords have been looked at.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct Door<'d> {
    style: &'static str,
    message: Option<&'d str>,
    nobody: bool,
    csrf: &'d str,
    next: &'d str,
    username: &'d str,
}

/// The page with the form.
#[handler]
pub async fn form(console: Data<&Arc<Console>>, request: &Request) -> Result<Response> {
    let next = request.uri().query().map(|query| FormFields::of(query.as_bytes()));
    let next = next.as_ref().and_then(|fields| fields.text("next")).unwrap_or_default();
    door(&console, request, StatusCode::OK, (None, next, "")).await
}

/// Lets somebody in, or shows the form again.
#[handler]
pub async fn enter(console: Data<&Arc<Console>>, request: &Request, body: Body) -> Result<Response> {
    let fields = FormFields::of(&read_body(&console.app, body).await?);
    let (name, next) = (fields.text("username").unwrap_or_default(), fields.text("next").unwrap_or_default());
    let again = async |status, message: &str| door(&console, request, status, (Some(message), next, name)).await;
    let ours = cookie(request, DOOR).is_some_and(|secret| fields.has_csrf(&csrf_of(secret)));
    if !ours {
        metrics::http_rejected("csrf");
        return again(StatusCode::FORBIDDEN, "That form was too old, or not ours. Please try again.").await;
    }
    let now = console.app.clock.now();
    let begun = failures(&console).begin(name, now);
    if let Err(until) = begun {
        metrics::http_rejected("sign_in");
        let words = "Too many wrong passwords. Please wait a quarter of an hour.";
        let mut page = again(StatusCode::TOO_MANY_REQUESTS, words).await?;
        page.headers_mut().insert(header::RETRY_AFTER, (until - now).num_seconds().max(1).into());
        return Ok(page);
    }
    let given = SecretString::from(fields.exact("password").unwrap_or_default().to_owned());
    let looked = look(&console, name, given).await.inspect_err(|_| failures(&console).not_looked_at(name))?;
    let Some(secret) = looked else {
        metrics::http_rejected("sign_in");
        return again(StatusCode::UNAUTHORIZED, "Name or password is wrong.").await;
    };
    failures(&console).succeeded(name);
    tracing::info!(operator = name, "an operator has signed in to the console");
    let mut response = redirect(if is_ours(next) { next } else { "/admin" });
    set_cookie(&mut response, &console, SESSION, &secret, SESSIONS.whole.num_seconds());
    set_cookie(&mut response, &console, DOOR, "", 0);
    Ok(response)
}

/// The secret of a new session, where the password is that of the name.
async fn look(console: &Console, name: &str, given: SecretString) -> Result<Option<String>, Problem> {
    let (store, now) = (&console.app.store, console.app.clock.now());
    // Nobody has a name that cannot be one; the database need not be asked.
    let kept = match password::check_name(name) {
        Ok(()) => store.operator_password(name).await.map_err(|fault| database_away(&fault))?,
        Err(_) => None,
    };
    if !is_right(console, given, kept.clone()).await? {
        if kept.is_some() {
            tracing::warn!(operator = name, "somebody gave a wrong password for an operator of the console");
        }
        return Ok(None);
    }
    let Some(kept) = kept else { return Ok(None) };
    let secret = new_secret()?;
    let opened = store.open_session((name, &kept), &hash_of(&secret), SESSIONS, now).await;
    Ok(opened.map_err(|fault| database_away(&fault))?.then_some(secret))
}

/// Ends a session.
#[handler]
pub async fn leave(visit: Data<&Arc<Visit>>) -> Result<Response> {
    let closed = visit.console.app.store.close_session(&visit.secret_hash).await;
    closed.map_err(|fault| database_away(&fault))?;
    let mut response = redirect("/admin/login");
    set_cookie(&mut response, &visit.console, SESSION, "", 0);
    Ok(response)
}

async fn door(
    console: &Console,
    request: &Request,
    status: StatusCode,
    (message, next, username): (Option<&str>, &str, &str),
) -> Result<Response> {
    let nobody = console
        .app
        .store
        .operators(SESSIONS, console.app.clock.now())
        .await
        .is_ok_and(|operators| operators.is_empty());
    let known = cookie(request, DOOR).filter(|secret| secret.len() == SECRET_LENGTH).map(str::to_owned);
    let secret = known.map_or_else(new_secret, Ok)?;
    let csrf = csrf_of(&secret);
    let page = Door { style: assets::style_path(), message, nobody, csrf: &csrf, next, username };
    let mut response = html(status, page.render());
    set_cookie(&mut response, console, DOOR, &secret, 3_600);
    Ok(response)
}

fn failures(console: &Console) -> MutexGuard<'_, Failures> {
    console.failures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One password at a time, whatever becomes of who has sent it: each takes 19 MiB and a processor.
async fn is_right(console: &Console, given: SecretString, kept: Option<String>) -> Result<bool, Problem> {
    let busy = || Problem::unavailable("busy", "others are signing in; try again", PATIENCE.as_secs());
    let _waiting = console.waiting.try_acquire().map_err(|_| busy())?;
    let permit = tokio::time::timeout(PATIENCE, Arc::clone(&console.looking).acquire_owned()).await;
    let permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
    let looked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        password::is_right(&given, kept.as_deref())
    });
    looked.await.map_err(|_| busy())
}

/// A way of ours, and nobody else's: `//elsewhere.example` is a host to a browser.
fn is_ours(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/") && !path.contains(['\\', '\r', '\n'])
}

/// 32 bytes in base64.
const SECRET_LENGTH: usize = 43;

fn new_secret() -> Result<String, Problem> {
    let secret = random().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the operating system gives no random numbers")
    })?;
    Ok(BASE64URL_NOPAD.encode(&secret))
}

/// What nobody can guess.
pub fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok().map(|()| bytes)
}

/// How the database knows a session.
pub fn hash_of(secret: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(secret))
}

/// What every form carries: nobody can know it who does not have the cookie.
pub fn csrf_of(secret: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
    mac.map(|mac| HEXLOWER.encode(&mac.chain_update("a form of the console").finalize().into_bytes()))
        .unwrap_or_default()
}

/// In a time that says nothing.
pub fn is_same(one: &str, other: &str) -> bool {
    !one.is_empty() && bool::from(one.as_bytes().ct_eq(other.as_bytes()))
}

/// The secret of the session that a request belongs to.
pub fn session_of(request: &Request) -> Option<&str> {
    cookie(request, SESSION)
}

fn cookie<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let lines = request.headers().get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}

fn set_cookie(response: &mut Response, console: &Console, name: &str, value: &str, seconds: i64) {
    let secure = if console.secure { "; Secure" } else { "" };
    // Lax: whoever follows a link in an alert is still signed in; every form is checked besides.
    let line = format!("{name}={value}; Path=/admin; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(line) = line.parse() {
        response.headers_mut().append(header::SET_COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for ours in ["/admin", "/admin/runs?job=renewals"] {
            assert!(is_ours(ours), "{ours}");
        }
        for foreign in [
            "",
            "/",
            "//evil.example",
            "https://evil.example/admin/",
            "/administrator",
            "/admin/\\evil",
            "/admin/a\r\nb",
        ] {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let request = Request::builder().header(header::COOKIE, "a=b; bellwether_session=x; c").finish();
        assert_eq!(session_of(&request), Some("x"));
        assert_eq!(session_of(&Request::builder().header(header::COOKIE, "xbellwether_session=x").finish()), None);
    }
}
