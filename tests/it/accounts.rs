//! Where account holders are written to: the site tells it, and letters wait until it is known. On both databases.

use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether::billing::What;
use bellwether::store::LetterState::{self, Dropped, Sent, Waiting};
use bellwether::store::{Acceptance, Accepted, Addressed, AuditRow, Cause};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Database, Engine, Running, World, eventually, instant};
use crate::mail::{becomes, letter, row, world_with_mail};
use crate::renewals::subscription;
use crate::sim_smtp::{Manner, SimSmtp};
use crate::store_billing::{paid, rules};

const NOW: &str = "2027-03-14T12:00:00Z";
const TOKEN: &str = "a-token-of-the-site";

on_both_engines!(
    an_address_that_is_told_makes_letters_due,
    the_site_tells_where_its_accounts_are_written_to,
    a_letter_waits_for_an_address_and_is_given_up_quietly,
);

async fn ask(running: &Running, path: &str, token: &str, body: Value) -> (u16, Value) {
    let request = running.http.post(format!("http://{}{path}", running.daemon.api)).bearer_auth(token);
    let answer = request.body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn word(running: &Running, path: &str, body: Value) -> (u16, String) {
    let (status, body) = ask(running, path, TOKEN, body).await;
    (status, body["code"].as_str().or(body["status"].as_str()).unwrap_or_default().to_owned())
}

fn told(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

/// A letter that nobody was told an address for.
fn untold(id: &str, account: &str, step: &str) -> String {
    letter(id, account, step, "", instant(NOW)).replace("'', '{\"plan\"", "NULL, '{\"plan\"")
}

async fn an_address_that_is_told_makes_letters_due(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let cause = Cause { actor: "site".to_owned(), cause: "accounts".to_owned(), request_id: None };
    let tell = async |email: &str, makes: bool| store.tell_address("u1", email, makes, &cause, now).await.unwrap();
    database.execute(untold("a", "u1", "welcome") + &untold("b", "u2", "welcome")).await;
    let (until, later) = (now + TimeDelta::minutes(30), now + TimeDelta::hours(1));
    let claims = store.claim_letters(now, until, 9).await.unwrap();
    for claim in &claims {
        assert!(store.let_letter_wait(claim, "no mail address", later).await.unwrap());
        assert!(!store.let_letter_wait(claim, "again", now).await.unwrap(), "the claim is over");
    }
    let found = async |id: &str| store.letter(id).await.unwrap().unwrap();
    let waits = found("a").await;
    assert_eq!((waits.state, waits.attempts, waits.next_attempt_at), (Waiting, 0, Some(later)));
    assert_eq!(waits.error.as_deref(), Some("no mail address"));
    assert_eq!(tell("a@example.com", false).await, Addressed::Nobody);
    assert!(!store.has_due_letters(now).await.unwrap());
    assert_eq!(tell("a@example.com", true).await, Addressed::Created);
    assert_eq!(tell("a@example.com", true).await, Addressed::Unchanged);
    let due = store.claim_letters(now, until, 9).await.unwrap();
    assert_eq!(due.iter().map(|claim| claim.id.as_str()).collect::<Vec<_>>(), ["a"], "not somebody else's");
    // What is under way goes where it goes; given back, and told another address, it goes there.
    store.give_letters_back(&due, later).await.unwrap();
    assert_eq!(tell("b@example.com", false).await, Addressed::Updated);
    assert_eq!((found("a").await.recipient.as_deref(), found("b").await.recipient), (Some("b@example.com"), None));
    let backlog = store.letter_backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.without_address, backlog.oldest), (2, 1, Some(now)));
    // Whoever accepts an invite tells theirs, where none is known.
    store.referral_code("u3", None, now).await.unwrap();
    store.invite("u3", "c@example.com", 9, now).await.unwrap();
    store.invite("u3", "d@example.com", 9, now).await.unwrap();
    for (user_id, email) in [("u2", "c@example.com"), ("u1", "d@example.com")] {
        let accepted = store.accept_invite(Acceptance { user_id, email, code: None }, &rules(), &cause, now).await;
        assert!(matches!(accepted.unwrap(), Accepted::Now { .. }));
    }
    let recipients = (found("a").await.recipient, found("b").await.recipient);
    assert_eq!(recipients, (Some("b@example.com".to_owned()), Some("c@example.com".to_owned())));
    assert_eq!((found("b").await.next_attempt_at, store.audit_of("u2").await.unwrap().len()), (Some(now), 1));
    let chain = store.audit_of("u1").await.unwrap();
    assert_eq!((chain.len(), AuditRow::first_broken(&chain)), (2, None));
}

async fn the_site_tells_where_its_accounts_are_written_to(engine: Engine) {
    let world = World::at(NOW, engine, &[("SITE_TOKEN", TOKEN), ("DISPOSABLE_EMAIL_DOMAINS", "trash.example")]).await;
    let running = world.start().await;
    let store = &running.daemon.store;
    let address = async |user: &str| store.account_email(user).await.unwrap().unwrap_or_default();
    let path = "/api/accounts/";
    assert_eq!(ask(&running, path, "wrong", json!({"user_id": 1, "email": "a@example.com"})).await.0, 401);
    assert_eq!(word(&running, path, json!({"user_id": 1, "email": "a@example.com"})).await, told(201, "created"));
    assert_eq!(word(&running, path, json!({"user_id": "1", "email": " a@example.com "})).await, told(200, "unchanged"));
    assert_eq!(word(&running, path, json!({"user_id": 1, "email": "b@example.com"})).await, told(200, "updated"));
    for bad in [json!({"user_id": 1}), json!({"user_id": 1, "email": "no address"}), json!({"email": "a@example.com"})]
    {
        assert_eq!(word(&running, path, bad.clone()).await, told(400, "bad_body"), "{bad}");
    }
    let thrown = json!({"user_id": 1, "email": "x@trash.example"});
    assert_eq!(word(&running, path, thrown).await, told(422, "disposable_email"));
    assert_eq!(address("1").await, "b@example.com");
    let chain = store.audit_of("1").await.unwrap();
    let chain: Vec<_> =
        chain.iter().map(|row| (row.actor.as_str(), row.cause.as_str(), row.after.as_deref())).collect();
    let after = ["a@example.com", "b@example.com"].map(|email| json!({ "email": email }).to_string());
    assert_eq!(chain, after.each_ref().map(|after| ("site", "accounts", Some(after.as_str()))));
    // An account that was made by a payment; each call that names it may tell its address.
    store.apply_event(&paid("C1", NOW, "79.99", "gold_monthly_1_u2"), &rules(), instant(NOW)).await.unwrap();
    for (path, body, email) in [
        (
            "/api/billing/change-plan",
            json!({"user_id": "u2", "plan": "gold", "email": "c@example.com"}),
            "c@example.com",
        ),
        ("/api/billing/cancel", json!({"user_id": "u2", "email": "d@example.com"}), "d@example.com"),
        (
            "/api/billing/auto-renew",
            json!({"user_id": "u2", "auto_renew": false, "email": "e@example.com"}),
            "e@example.com",
        ),
        (
            "/api/referrals/invite",
            json!({"user_id": "u2", "email": "f@example.com", "user_email": "g@example.com"}),
            "g@example.com",
        ),
        ("/api/billing/cancel", json!({"user_id": "u2"}), "g@example.com"),
    ] {
        let (status, answer) = ask(&running, path, TOKEN, body).await;
        assert!(status < 300, "{path}: {answer}");
        assert_eq!(address("u2").await, email, "{path}");
    }
    let bad = json!({"user_id": "u2", "email": "no address"});
    assert_eq!(word(&running, "/api/billing/cancel", bad).await, told(400, "bad_body"));
    // An account that nobody knows is not made by a call about its subscription.
    let nobody = json!({"user_id": "nobody", "email": "h@example.com"});
    assert_eq!(word(&running, "/api/billing/cancel", nobody).await, told(404, "not_found"));
    assert!(store.find_accounts(Some("nobody"), 1).await.unwrap().is_empty());
    // Nobody invites their own address, told in the same breath.
    let own = json!({"user_id": "u3", "email": "i@example.com", "user_email": "I@example.com"});
    assert_eq!(word(&running, "/api/referrals/invite", own).await, told(422, "self_referral"));
    running.stop().await;
}

async fn a_letter_waits_for_an_address_and_is_given_up_quietly(engine: Engine) {
    let smtp = SimSmtp::start(Manner::StartTls).await;
    let world = world_with_mail(engine, &smtp, &[("SITE_TOKEN", TOKEN)]).await;
    let running = world.start().await;
    let (store, now) = (&running.daemon.store, instant(NOW));
    // Two who bought once; PayPal tells no address with that. The third is not suspended any more when it is looked at.
    for user in ["u1", "u2"] {
        let mut capture = paid(&format!("C-{user}"), NOW, "79.99", &format!("gold_monthly_1_{user}"));
        if let What::Payment { payer, .. } = &mut capture.what {
            payer.email = None;
        }
        store.apply_event(&capture, &rules(), now).await.unwrap();
    }
    let late = instant("2027-03-13T05:00:00Z");
    world.database.execute(subscription("u3", "suspended", true, late)).await;
    world.database.execute(untold("u3", "u3", "suspended")).await;
    let of = async |user: &str| {
        let letters = store.letters(None, 9).await.unwrap();
        letters.into_iter().find(|letter| letter.account == user).unwrap().id
    };
    let (first, second) = (of("u1").await, of("u2").await);
    let waits = async |id: &str| {
        let found = row(&running, id).await;
        (found.state, found.attempts, found.error.is_some_and(|words| words.contains("no mail address")))
    };
    let looks = AtomicUsize::new(0);
    eventually("they were looked at", async || {
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(60) {
            world.clock.advance(TimeDelta::seconds(30));
        }
        waits(&first).await.2 && waits(&second).await.2 && waits("u3").await.2
    })
    .await;
    world.database.execute("UPDATE subscriptions SET status = 'active' WHERE user_id = 'u3'".to_owned()).await;
    let gone = becomes(&world, &running, "u3", Dropped, TimeDelta::minutes(20)).await;
    assert_eq!(gone.error.as_deref(), Some("what it tells was true no longer"));
    assert_eq!((waits(&first).await, waits(&second).await), ((Waiting, 0, true), (Waiting, 0, true)), "quietly");
    let backlog = store.letter_backlog().await.unwrap();
    assert_eq!((backlog.waiting, backlog.without_address, backlog.oldest, backlog.dead), (2, 2, None, 0));
    // The address is told, and the letter goes at once: the clock stands still.
    assert_eq!(word(&running, "/api/accounts", json!({"user_id": "u1", "email": "a@example.com"})).await.0, 200);
    eventually("it arrives", async || row(&running, &first).await.state == Sent).await;
    assert_eq!(smtp.letters()[0].to, "a@example.com");
    // What has no address is told to whoever looks, and ends with its time, without an alarm.
    let (directory, url) = (world.file.path().to_owned(), world.database.url.clone());
    let output =
        tokio::task::spawn_blocking(move || bellwether(&directory, &["doctor", "mail"], &[("DATABASE_URL", &url)]));
    let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
    assert!(
        text.contains("1 letters wait for the address of their account") && text.contains("POST /api/accounts"),
        "{text}"
    );
    let end = becomes(&world, &running, &second, Dropped, TimeDelta::hours(5)).await;
    assert!(end.error.as_deref().is_some_and(|words| words.contains("no mail address")), "{end:?}");
    assert!(world.clock_now() - now > TimeDelta::days(4), "not before its time");
    assert_eq!(store.letters(Some(LetterState::Dead), 9).await.unwrap().len(), 0);
    running.stop().await;
}
