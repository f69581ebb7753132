//! `doctor mail`.

use std::sync::Arc;

use chrono::TimeDelta;

use super::{Check, check};
use crate::cli::open_to_read;
use crate::clock::{SharedClock, span_in_words};
use crate::config::{Config, MailSecurity};
use crate::mail::Mailer;
use crate::store::LetterBacklog;

/// How long a letter may wait for its first try without anything being wrong.
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(15);

/// Looks at the configuration and the outbox, and has a conversation with the server, without a letter.
pub(super) async fn checks(config: &Config, clock: &SharedClock) -> anyhow::Result<Vec<Check>> {
    let store = open_to_read(config).await?;
    let backlog = store.letter_backlog().await;
    store.close().await;
    let backlog = backlog?;
    let check = |name, result| check("mail", name, result);
    Ok(vec![
        check("configuration", Ok(configuration(config))),
        check("backlog", waiting(&backlog, config, clock)),
        check("addresses", addresses(&backlog)),
        check("given up", given_up(&backlog)),
        check("server", server(config, clock).await),
    ])
}

fn configuration(config: &Config) -> String {
    let Some(server) = &config.mail.server else {
        return "EMAIL_HOST is not set: letters are written and wait".to_owned();
    };
    let how = match server.security {
        MailSecurity::StartTls => "STARTTLS",
        MailSecurity::Implicit => "TLS from the first byte",
        MailSecurity::Plain => "no TLS",
    };
    let known = if server.credentials.is_some() { "with name and password" } else { "without a name" };
    format!("letters of {} go to {}:{} by {how}, {known}", server.from.email, server.host, server.port)
}

fn waiting(backlog: &LetterBacklog, config: &Config, clock: &SharedClock) -> Result<String, (String, String)> {
    let LetterBacklog { waiting, failed, oldest, .. } = backlog;
    let found = format!("{waiting} letters wait, {failed} of them were tried before");
    let Some(age) = oldest.map(|oldest| clock.now() - oldest).filter(|age| *age > LONGEST_WAIT) else {
        return Ok(found);
    };
    let found = format!("{found}; the oldest that was never tried has waited {}", span_in_words(age));
    let fix = match &config.mail.server {
        None => "set EMAIL_HOST and EMAIL_FROM (docs/billing.md, Letters)",
        Some(_) => "see the check of the server below; is a daemon running (bellwether status)?",
    };
    Err((found, fix.to_owned()))
}

fn addresses(backlog: &LetterBacklog) -> Result<String, (String, String)> {
    if backlog.without_address == 0 {
        return Ok("each letter that waits has one".to_owned());
    }
    let fix = "let the site tell it: POST /api/accounts {\"user_id\", \"email\"} (docs/billing.md, Accounts and referrals); \
         `bellwether outbox ls --state waiting` names the accounts";
    Err((format!("{} letters wait for the address of their account", backlog.without_address), fix.to_owned()))
}

fn given_up(backlog: &LetterBacklog) -> Result<String, (String, String)> {
    if backlog.dead == 0 {
        return Ok("none".to_owned());
    }
    let fix = "`bellwether outbox ls --state dead`, `bellwether outbox show ID`; mend the cause, then `bellwether outbox retry ID`";
    Err((format!("{} letters were given up", backlog.dead), fix.to_owned()))
}

async fn server(config: &Config, clock: &SharedClock) -> Result<String, (String, String)> {
    let Some(mailer) = Mailer::new(&config.mail, Arc::clone(clock)) else { return Ok("none is configured".to_owned()) };
    match mailer.connect().await {
        Ok(session) => {
            session.end().await;
            Ok(format!("{} takes letters", mailer.name()))
        }
        Err(trouble) => {
            Err((trouble.to_string(), "docs/runbooks/billing.md, LettersWait, has a line for each step".to_owned()))
        }
    }
}
