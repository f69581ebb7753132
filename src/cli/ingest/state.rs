//! `ingest status` and `ingest why`: asked of the daemon that runs, or of what one has left in the database.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::cli::{ask, open_to_read, output};
use crate::clock::{SharedClock, span_in_words};
use crate::config::Config;
use crate::daemon::Parts;

/// How often `--watch` looks again.
const WATCH: Duration = Duration::from_secs(1);

/// How long the bar of a cycle under way is, in characters.
const BAR: usize = 30;

/// The whole state, as the API gives it.
pub async fn gather(config: &Config, clock: &SharedClock) -> anyhow::Result<Value> {
    if let Ok((200, body)) = ask::get(ask::address_of(config), config, "/api/v1/ingest/status").await
        && let Ok(status) = serde_json::from_str(&body)
    {
        return Ok(status);
    }
    let store = open_to_read(config).await?;
    let market = Parts::look(config, &store, SharedClock::clone(clock)).await;
    let status = market.map(|market| market.status(clock.now()));
    store.close().await;
    Ok(serde_json::to_value(status?)?)
}

/// `ingest status`.
pub async fn status(config: &Config, clock: &SharedClock, watch: bool, json: bool) -> anyhow::Result<ExitCode> {
    loop {
        let status = gather(config, clock).await?;
        if json {
            output::print_json(&status)?;
        } else {
            // Clears the screen and goes home, so that the picture stands still.
            let clear = if watch { "\x1b[2J\x1b[H" } else { "" };
            output::print(&format!("{clear}{}", picture(&status, clock.now())))?;
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        clock.sleep(WATCH).await;
    }
}

/// `ingest why`.
pub async fn why(config: &Config, clock: &SharedClock, json: bool) -> anyhow::Result<ExitCode> {
    let status = gather(config, clock).await?;
    if json {
        output::print_json(&status["why"])?;
    } else {
        output::print(&reasons(&status["why"]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The sentence, what it follows from where it is known, and what else is wrong.
fn reasons(why: &Value) -> String {
    let mut text = format!("{}\n", of(why, "sentence"));
    let evidence = &why["evidence"];
    let rows = [
        ("state", of(why, "code")),
        ("since", of(why, "since")),
        ("phase", format!("{} until {}", of(evidence, "phase"), of(evidence, "next_transition"))),
        ("newest quote", of(evidence, "as_of")),
        (
            "age",
            format!(
                "{} s of trading, {} s are tolerated",
                of(evidence, "age_seconds_market"),
                of(evidence, "tolerated_seconds_market")
            ),
        ),
        ("fresh", format!("{} of {} symbols", of(evidence, "fresh"), of(evidence, "expected"))),
        ("failed cycles", of(&evidence["failing"], "cycles")),
        ("next cycle", of(evidence, "next_cycle")),
    ];
    let known = rows.iter().filter(|(_, value)| !value.starts_with('-'));
    text.extend(known.map(|(name, value)| format!("  {name:<14} {value}\n")));
    let findings = why["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    for finding in findings.iter().filter(|finding| finding["code"] != why["code"]) {
        text += &format!("also: {}\n", of(finding, "sentence"));
    }
    text.extend(findings.first().map(|finding| format!("look: {}\n", of(finding, "look"))));
    text
}

fn picture(status: &Value, now: DateTime<Utc>) -> String {
    let (provider, universe) = (&status["provider"], &status["universe"]);
    let mut text = format!("state      {}\n", of(&status["why"], "sentence"));
    let others = status["why"]["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    text.extend(others.iter().skip(1).map(|finding| format!("           {}\n", of(finding, "sentence"))));
    text += &match &status["under_way"] {
        Value::Null => format!("cycle      none under way; the next is due {}\n", at(&status["next_cycle"], now)),
        progress => under_way(progress, now),
    };
    text += &match &status["last_cycle"] {
        Value::Null => "last       none was published yet\n".to_owned(),
        cycle => format!(
            "last       {} of {} symbols, {}, slot {}{}\n",
            of(cycle, "fresh"),
            of(cycle, "expected"),
            of(cycle, "completeness"),
            at(&cycle["slot"], now),
            cycle["missing"].as_str().map(|missing| format!("\n           {missing}")).unwrap_or_default(),
        ),
    };
    let (plan, breaker) = (&provider["plan"], &provider["breaker"]);
    text += &format!(
        "provider   {}: {}, {}; breaker {}\n",
        of(provider, "name"),
        of(provider, "delay_class"),
        of(provider, "licence_class"),
        of(breaker, "state"),
    );
    text += &format!(
        "quota      {} call(s) a cycle, {} allowed in {} s; a cycle needs {} s of {} s\n",
        of(plan, "requests"),
        of(provider, "quota_requests"),
        of(provider, "quota_seconds"),
        of(plan, "quota_seconds"),
        of(plan, "available_seconds"),
    );
    text += &format!(
        "universe   {} symbols from {}, read {}; {} dormant\n",
        of(universe, "symbols"),
        of(universe, "source"),
        at(&universe["refreshed_at"], now),
        of(universe, "dormant"),
    );
    text
}

fn under_way(progress: &Value, now: DateTime<Utc>) -> String {
    let count = |key: &str| usize::try_from(progress[key].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    let (asked, wanted) = (count("asked"), count("wanted"));
    let full = BAR * asked.min(wanted) / wanted.max(1);
    format!(
        "cycle      [{}{}] {asked} of {wanted} symbols, {} answered, {} calls, {} symbols/s, done {}\n",
        "#".repeat(full),
        ".".repeat(BAR - full),
        of(progress, "answered"),
        of(progress, "requests"),
        of(progress, "symbols_per_second"),
        at(&progress["eta"], now),
    )
}

/// A member as text; `-` where it is not known.
fn of(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An instant beside the present one.
fn at(value: &Value, now: DateTime<Utc>) -> String {
    let Some(at) = value.as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok()) else { return "-".to_owned() };
    let span = span_in_words(at - now);
    if at > now { format!("in {span}") } else { format!("{span} ago") }
}
