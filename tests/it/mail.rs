//! Letters arrive: from the call or the job that is their cause to the mail server. On both databases.

use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether::store::{LetterEnd, LetterRow, LetterState};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::commands::bellwether;
use crate::harness::{Database, Engine, OPERATOR, Running, World, eventually, instant};
use crate::process::Process;
use crate::renewals::subscription;
use crate::sim_smtp::{Manner, SimSmtp, Trouble};

const NOW: &str = "2027-03-14T12:00:00Z";

on_both_engines!(
    a_letter_is_taken_by_one_and_marked_by_that_one_alone,
    an_invite_and_a_reminder_arrive,
    killed_before_the_mark_it_comes_again_under_the_same_id,
    an_operator_sees_and_tries_again,
);

/// A world whose daemons send to this server.
pub async fn world_with_mail(engine: Engine, smtp: &SimSmtp, more: &[(&str, &str)]) -> World {
    let mut settings = smtp.settings();
    settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    World::at(NOW, engine, &settings).await
}

/// A letter that waits since `at`, as a transaction would write it.
pub fn letter(id: &str, account: &str, step: &str, recipient: &str, at: DateTime<Utc>) -> String {
    let at = at.to_rfc3339();
    format!(
        "INSERT INTO outbox (id, account, period, step, recipient, details, state, attempts, next_attempt_at, created_at) \
         VALUES ('{id}', '{account}', '2027-03-13T05:00:00Z', '{step}', '{recipient}', '{{\"plan\": \"gold\"}}', 'waiting', 0, \
         '{at}', '{at}');"
    )
}

pub async fn row(running: &Running, id: &str) -> LetterRow {
    running.daemon.store.letter(id).await.unwrap().unwrap()
}

/// Looks between two moves of the clock: time for what is under way, so that the clock does not run away from it.
const LOOKS: usize = 60;

/// Waits until a letter is in a state, moving the clock on by `step` now and then.
pub async fn becomes(world: &World, running: &Running, id: &str, state: LetterState, step: TimeDelta) -> LetterRow {
    let looks = AtomicUsize::new(0);
    eventually(&format!("{id} is {state}"), async || {
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS) {
            world.clock.advance(step);
        }
        row(running, id).await.state == state
    })
    .await;
    row(running, id).await
}

async fn a_letter_is_taken_by_one_and_marked_by_that_one_alone(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    for id in ["a", "b", "c"] {
        database.execute(letter(id, "u1", &format!("step_{id}"), "x@example.com", now)).await;
    }
    let until = now + TimeDelta::minutes(10);
    assert!(!store.has_due_letters(now - TimeDelta::seconds(1)).await.unwrap());
    assert!(store.has_due_letters(now).await.unwrap());
    let before = store.letter_backlog().await.unwrap();
    let first = store.claim_letters(now, until, 2).await.unwrap();
    let rest = store.claim_letters(now, until, 9).await.unwrap();
    assert_eq!((first.len(), rest.len(), first[0].attempts), (2, 1, 1));
    assert!(store.claim_letters(now, until, 9).await.unwrap().is_empty(), "all are somebody's");
    let end = |state, next: Option<DateTime<Utc>>| LetterEnd {
        state,
        words: Some("250 Ok".to_owned()),
        next_attempt_at: next,
        at: now,
    };
    assert!(store.mark_letter(&first[0], &end(LetterState::Sent, None)).await.unwrap());
    assert!(!store.mark_letter(&first[0], &end(LetterState::Dead, None)).await.unwrap(), "it is marked once");
    assert_eq!(store.give_letters_back(&first[1..], now).await.unwrap(), 1);
    let b = store.letter("b").await.unwrap().unwrap();
    assert_eq!((b.state, b.attempts), (LetterState::Waiting, 0), "what was not begun was no try");
    // The claim of a silent one ends; what it then says is not written.
    let again = store.claim_letters(until, until + TimeDelta::minutes(10), 9).await.unwrap();
    assert_eq!(again.iter().map(|claim| claim.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert!(!store.mark_letter(&rest[0], &end(LetterState::Sent, None)).await.unwrap());
    assert!(store.mark_letter(&again[1], &end(LetterState::Failed, Some(until))).await.unwrap());
    let backlog = store.letter_backlog().await.unwrap();
    assert_eq!(
        (backlog.waiting, backlog.failed, backlog.dead, backlog.oldest),
        (2, 1, 0, None),
        "none of them is untried"
    );
    assert_eq!(before.oldest, Some(now));
    // A claim whose answer was lost was no try, and is known by its end.
    let (lost, at) = (until + TimeDelta::minutes(30), until + TimeDelta::minutes(1));
    assert_eq!(store.claim_letters(at, lost, 1).await.unwrap()[0].id, "c");
    assert_eq!(store.take_back_letters(lost, until).await.unwrap(), 1);
    let c = store.letter("c").await.unwrap().unwrap();
    assert_eq!((c.state, c.attempts, c.next_attempt_at), (LetterState::Failed, 2, Some(until)));
    // A start on a file that is nobody else's.
    assert_eq!(store.release_letters(until).await.unwrap(), 1);
    let states = |rows: Vec<LetterRow>| rows.into_iter().map(|row| row.state).collect::<Vec<_>>();
    assert_eq!(
        states(store.letters(None, 9).await.unwrap()),
        [LetterState::Sent, LetterState::Failed, LetterState::Failed]
    );
    // A retried one is claimed anew, also while its older claim is somebody's.
    let claimed = store.claim_letters(until, until + TimeDelta::minutes(10), 1).await.unwrap();
    assert!(store.mark_letter(&claimed[0], &end(LetterState::Dead, None)).await.unwrap());
    let dead = claimed[0].id.clone();
    assert_eq!(store.retry_letters(&[dead.clone(), "a".to_owned()], until).await.unwrap(), 1, "what was sent stays");
    let retried = store.letter(&dead).await.unwrap().unwrap();
    assert_eq!((retried.attempts, retried.since(), retried.error), (0, until, None));
    // Whose it was is forgotten, that it was is not.
    assert_eq!(store.prune_letters(now + TimeDelta::days(1)).await.unwrap(), 1);
    assert_eq!(store.prune_letters(now + TimeDelta::days(1)).await.unwrap(), 0);
    assert_eq!(store.letter("a").await.unwrap().unwrap().recipient, None);
}

async fn an_invite_and_a_reminder_arrive(engine: Engine) {
    let smtp = SimSmtp::start(Manner::StartTls).await;
    let world = world_with_mail(
        engine,
        &smtp,
        &[("SITE_TOKEN", "a-token-of-the-site"), ("FRONTEND_URL", "https://site.example")],
    )
    .await;
    let running = world.start().await;
    running.stats().await;
    let invite = running.http.post(format!("http://{}/api/referrals/invite", running.daemon.api));
    let invite = invite.bearer_auth("a-token-of-the-site");
    let answer = invite.body(json!({"user_id": 1, "email": "friend@example.com"}).to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    // The call itself wakes whoever sends: the clock stands still.
    eventually("the invitation arrives", async || smtp.letters().len() == 1).await;
    let invitation = smtp.letters().remove(0);
    assert!(invitation.encrypted && invitation.authenticated);
    assert_eq!((invitation.from.as_str(), invitation.to.as_str()), ("billing@site.example", "friend@example.com"));
    let header = |name| invitation.header(name).unwrap_or_default();
    assert_eq!((header("Subject"), header("To")), ("You are invited".to_owned(), "friend@example.com".to_owned()));
    assert_eq!(header("Date"), "Sun, 14 Mar 2027 12:00:00 +0000");
    assert!(header("List-Unsubscribe").starts_with("<mailto:billing@site.example"));
    assert!(invitation.message_id().ends_with("@site.example>") && header("Auto-Submitted") == "auto-generated");
    assert!(header("Content-Type").starts_with("multipart/alternative"), "{}", invitation.data);
    let code = world.database.query("SELECT referral_code FROM accounts").await.remove(0);
    let body = invitation.data.replace("=\r\n", "").replace("=3D", "=");
    assert_eq!(body.matches(&format!("https://site.example/?ref={code}")).count(), 2, "as text and as HTML: {body}");
    // The job of 09:00 New York.
    let late = subscription("2", "past_due", true, instant("2027-03-13T05:00:00Z"));
    world.database.execute(late).await;
    running.daemon.store.referral_code("2", Some("late@example.com"), instant(NOW)).await.unwrap();
    world.advance_to(&running, instant("2027-03-14T13:00:00Z")).await;
    eventually("the reminder arrives", async || smtp.letters().len() == 2).await;
    let reminder = smtp.letters().remove(1);
    assert_eq!(
        (reminder.to.as_str(), reminder.header("Subject").unwrap().as_str()),
        ("late@example.com", "Your payment did not go through")
    );
    assert_eq!(reminder.header("List-Unsubscribe"), None, "whoever owes is told");
    assert!(reminder.data.contains("13 March 2027"), "{}", reminder.data);
    eventually("both are marked", async || {
        running.daemon.store.letters(Some(LetterState::Sent), 9).await.unwrap().len() == 2
    })
    .await;
    running.stop().await;
}

/// The server has the letter, and the daemon is killed before it hears so.
async fn killed_before_the_mark_it_comes_again_under_the_same_id(engine: Engine) {
    let smtp = SimSmtp::start(Manner::StartTls).await;
    smtp.trouble(Trouble::HoldAnswer);
    let world = world_with_mail(engine, &smtp, &[("BELLWETHER_SCHEDULE__LEASE_SECONDS", "2")]).await;
    let doomed = world.start_to_kill();
    // A run that is killed with it would be waited for in the end, on a clock that stands still.
    let ended = "SELECT id FROM job_runs WHERE job = 'ingest' AND state <> 'running'";
    eventually("its first cycle is over", async || !world.database.query(ended).await.is_empty()).await;
    world.database.execute(letter("a", "u1", "welcome", "x@example.com", instant(NOW))).await;
    let looks = AtomicUsize::new(0);
    eventually("the server has it", async || {
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS) {
            world.clock.advance(TimeDelta::seconds(30));
        }
        smtp.letters().len() == 1
    })
    .await;
    doomed.kill();
    smtp.let_go();
    let running = world.start().await;
    // On PostgreSQL another instance may have had it: its claim must end first.
    let sent = becomes(&world, &running, "a", LetterState::Sent, TimeDelta::minutes(5)).await;
    assert_eq!(sent.attempts, 2);
    let ids: Vec<String> = smtp.letters().iter().map(|letter| letter.message_id()).collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "twice, and to be known as one");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_before_the_mark_sends_again_under_the_same_id() {
    let smtp = SimSmtp::start(Manner::StartTls).await;
    smtp.trouble(Trouble::HoldAnswer);
    let (directory, database) = (tempfile::tempdir().unwrap(), Database::create(Engine::Sqlite).await);
    let mut settings = smtp.settings();
    settings.push(("DATABASE_URL".to_owned(), database.url.clone()));
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    database.store().await.close().await;
    #[expect(clippy::disallowed_methods, reason = "a real process, real time")]
    database.execute(letter("a", "u1", "welcome", "x@example.com", Utc::now())).await;
    // The doctor has a conversation up to name and password; a wrong one is told apart.
    let wrong = [&settings[..], &[("EMAIL_HOST_PASSWORD", "canary-wrong")]].concat();
    for (settings, code, told) in
        [(&settings, Some(0), "takes letters"), (&wrong, Some(3), "name and password: permanent error (535)")]
    {
        let (directory, settings) =
            (directory.path().to_owned(), settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let settings: Vec<(String, String)> = settings.collect();
        let output = tokio::task::spawn_blocking(move || {
            let settings: Vec<(&str, &str)> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            bellwether(&directory, &["doctor", "mail"], &settings)
        });
        let output = output.await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == code && text.contains(told) && !text.contains("canary"), "{text}");
    }
    let process = Process::start(directory.path(), &settings);
    eventually("the server has it", async || smtp.letters().len() == 1).await;
    process.signal("KILL");
    drop(process);
    let mut process = Process::start(directory.path(), &settings);
    process.until(|line| line["message"] == "a letter was sent");
    let log = process.log.iter().map(ToString::to_string).collect::<String>();
    assert!(!log.contains("canary") && !log.contains("x@example.com"), "neither passwords nor addresses: {log}");
    let ids: Vec<String> = smtp.letters().iter().map(|letter| letter.message_id()).collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    process.signal("TERM");
    assert_eq!(process.exit_code(), Some(0));
}

#[tokio::test]
async fn two_instances_send_each_letter_once() {
    const LETTERS: usize = 60;
    let smtp = SimSmtp::start(Manner::StartTls).await;
    let world = world_with_mail(Engine::Postgres, &smtp, &[("BELLWETHER_MAIL__PER_SECOND", "1000")]).await;
    let (one, other) = (world.start().await, world.start().await);
    let letters =
        (0..LETTERS).map(|n| letter(&format!("l{n:02}"), &format!("u{n}"), "welcome", "x@example.com", instant(NOW)));
    world.database.execute(letters.collect()).await;
    let looks = AtomicUsize::new(0);
    eventually("all are sent", async || {
        // Whoever is still busy with its start does not hear of the first move.
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS) {
            world.clock.advance(TimeDelta::seconds(30));
        }
        one.daemon.store.letters(Some(LetterState::Sent), 1_000).await.unwrap().len() == LETTERS
    })
    .await;
    let ids: std::collections::BTreeSet<String> = smtp.letters().iter().map(|letter| letter.message_id()).collect();
    assert_eq!((smtp.letters().len(), ids.len()), (LETTERS, LETTERS));
    // Mostly both have taken part; on a busy machine the one that looks first may be through before the other looks.
    one.stop().await;
    other.stop().await;
}

async fn an_operator_sees_and_tries_again(engine: Engine) {
    let smtp = SimSmtp::start(Manner::StartTls).await;
    smtp.trouble(Trouble::Recipient("gone@", "550 5.1.1 no such user here"));
    let world = world_with_mail(engine, &smtp, &[("OPERATOR_TOKEN", OPERATOR)]).await;
    let running = world.start().await;
    world.database.execute(letter("a", "u1", "welcome", "gone@example.com", instant(NOW))).await;
    becomes(&world, &running, "a", LetterState::Dead, TimeDelta::seconds(30)).await;
    let (directory, at) = (tempfile::tempdir().unwrap(), running.daemon.api.to_string());
    let url = world.database.url.clone();
    let ask = async |arguments: &[&str]| -> (Option<i32>, String) {
        let (arguments, directory): (Vec<String>, _) =
            (arguments.iter().map(|a| (*a).to_owned()).collect(), directory.path().to_owned());
        let (at, url) = (at.clone(), url.clone());
        tokio::task::spawn_blocking(move || {
            let environment =
                [("DATABASE_URL", url.as_str()), ("BELLWETHER_LISTEN", &at), ("OPERATOR_TOKEN", OPERATOR)];
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = bellwether(&directory, &arguments, &environment);
            (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
        })
        .await
        .unwrap()
    };
    let (_, listed) = ask(&["outbox", "ls", "--state", "dead", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed["id"], &listed["state"], &listed["attempts"]), (&json!("a"), &json!("dead"), &json!(1)));
    assert!(listed["error"].as_str().unwrap().contains("5.1.1 no such user here"), "{listed}");
    let (code, told) = ask(&["doctor", "mail"]).await;
    assert!(
        code == Some(3) && told.contains("1 letters were given up") && told.contains("EMAIL_HOST is not set"),
        "{told}"
    );
    let (_, shown) = ask(&["outbox", "show", "a"]).await;
    assert!(shown.contains("gone@example.com") && shown.contains("Thank you. The gold plan is yours"), "{shown}");
    let (_, told) = running.operate("/api/v1/outbox?state=dead", None).await;
    assert_eq!((&told["letters"][0]["id"], &told["backlog"]["dead"]), (&json!("a"), &json!(1)));
    let (status, whole) = running.operate("/api/v1/outbox/a", None).await;
    assert_eq!((status, &whole["subject"]), (200, &json!("Your subscription is active")));
    assert_eq!(running.operate("/api/v1/outbox/none", None).await.0, 404);
    // On SQLite the daemon, which has the file, is asked to.
    let (code, dry) =
        ask(&["outbox", "retry", "--state", "dead", "--since", "2027-01-01T00:00:00Z", "--dry-run"]).await;
    assert_eq!(
        (code, dry.as_str()),
        (Some(0), "nothing was changed; it would be so: 1 letters wait for their turn again\n")
    );
    assert_eq!(row(&running, "a").await.state, LetterState::Dead);
    if engine == Engine::Sqlite {
        assert_eq!(ask(&["outbox", "retry", "a"]).await.0, Some(0));
    } else {
        // The command would do it by itself, at an instant of the real clock.
        assert_eq!(running.operate("/api/v1/outbox/retry", Some(json!({"id": "a"}))).await.0, 200);
    }
    becomes(&world, &running, "a", LetterState::Sent, TimeDelta::seconds(30)).await;
    let (status, refused) = running.operate("/api/v1/outbox/retry", Some(json!({"id": "a"}))).await;
    assert_eq!((status, &refused["code"]), (400, &json!("bad_parameter")), "what was sent is not sent again");
    running.stop().await;
}
