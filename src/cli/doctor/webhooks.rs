//! `doctor webhooks`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;

use super::{Check, check};
use crate::cli::open_to_read;
use crate::clock::{SharedClock, span_in_words};
use crate::config::{Config, VerifyBy};
use crate::store::{Backlog, EventFilter, EventRow, EventStatus};
use crate::webhooks::PayPalClient;

/// How long an event may wait without anything being wrong.
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(15);

/// How far back deliveries that were not let in are looked at.
const LATELY: TimeDelta = TimeDelta::hours(1);

/// Codes by which nobody could tell whether a delivery was genuine: something is wrong here, or at PayPal.
const UNDECIDED: &[&str] = &["not_configured", "certificate_unavailable", "chain_incomplete", "paypal_unavailable"];

/// Looks at the configuration, the inbox, and (where there are credentials) at whether PayPal answers.
pub(super) async fn checks(config: &Config, clock: &SharedClock) -> anyhow::Result<Vec<Check>> {
    let store = open_to_read(config).await?;
    let backlog = store.events_backlog().await?;
    let since = Some(clock.now() - LATELY);
    let filter = EventFilter { status: Some(EventStatus::Rejected), since, limit: 1_000, ..EventFilter::default() };
    let refused = store.list_events(&filter).await?;
    store.close().await;
    let check = |name, result| check("webhooks", name, result);
    Ok(vec![
        check("configuration", Ok(configuration(config))),
        check("backlog", waiting(&backlog, clock)),
        check("given up", given_up(&backlog)),
        check("conflicts", conflicts(&backlog)),
        check("turned away", turned_away(&refused)),
        check("PayPal", paypal(config, clock).await),
    ])
}

fn configuration(config: &Config) -> String {
    let how = match config.paypal.verify {
        VerifyBy::Offline if config.paypal.credentials.is_some() => "offline, asking PayPal where that does not do",
        VerifyBy::Offline => "offline",
        VerifyBy::Api => "by asking PayPal",
    };
    match &config.paypal.webhook_id {
        Some(id) => format!("deliveries of webhook {id} are verified {how}"),
        None => "PAYPAL_WEBHOOK_ID is not set: whatever comes is answered 503 and comes again".to_owned(),
    }
}

fn waiting(backlog: &Backlog, clock: &SharedClock) -> Result<String, (String, String)> {
    let Some(oldest) = backlog.oldest else { return Ok("nothing waits".to_owned()) };
    let age = clock.now() - oldest;
    let found = format!(
        "{} events wait, {} of them failed before, the oldest for {}",
        backlog.waiting,
        backlog.failed,
        span_in_words(age)
    );
    if age <= LONGEST_WAIT {
        return Ok(found);
    }
    let fix = "is a daemon running (bellwether status)? `bellwether webhooks ls --status failed` says what went wrong";
    Err((found, fix.to_owned()))
}

fn given_up(backlog: &Backlog) -> Result<String, (String, String)> {
    if backlog.dead == 0 {
        return Ok("none".to_owned());
    }
    let fix = "`bellwether webhooks ls --status dead`, `bellwether webhooks show ID`; mend the cause, then `webhooks replay ID`";
    Err((format!("{} events have no effect", backlog.dead), fix.to_owned()))
}

fn conflicts(backlog: &Backlog) -> Result<String, (String, String)> {
    if backlog.conflicts == 0 {
        return Ok("none".to_owned());
    }
    let fix = "`bellwether webhooks ls --status conflict`; docs/runbooks/webhooks.md, WebhookConflict";
    Err((format!("{} events came under a known id with another body", backlog.conflicts), fix.to_owned()))
}

fn turned_away(refused: &[EventRow]) -> Result<String, (String, String)> {
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    for row in refused {
        *codes.entry(&row.event_type).or_default() += 1;
    }
    if codes.is_empty() {
        return Ok("none in the last hour".to_owned());
    }
    let told: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let found = format!("in the last hour: {}", told.join(", "));
    if codes.keys().any(|code| UNDECIDED.contains(code)) {
        let fix = "nobody could tell whether these were genuine: docs/runbooks/webhooks.md, WebhooksUndecided";
        return Err((found, fix.to_owned()));
    }
    Ok(found)
}

/// Whether PayPal answers, with the credentials that are set.
async fn paypal(config: &Config, clock: &SharedClock) -> Result<String, (String, String)> {
    let fix = || "check PAYPAL_ENV, PAYPAL_CLIENT_ID, PAYPAL_SECRET, and whether this host reaches PayPal".to_owned();
    let client = PayPalClient::new(&config.paypal, Arc::clone(clock)).map_err(|fault| (fault.to_string(), fix()))?;
    let Some(client) = client else { return Ok("not asked: there are no credentials".to_owned()) };
    let now = clock.now();
    match client.events(now - TimeDelta::minutes(1), now, 1).await {
        Ok(_) => Ok(format!("{} answers", config.paypal.api_base)),
        Err(fault) => Err((fault.to_string(), fix())),
    }
}
