//! What goes wrong between the outbox and the mail server: nothing is lost, nobody is told a password, one bad letter holds up no other.

use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether::store::LetterState::{Dead, Dropped, Failed, Sending, Sent, Waiting};
use chrono::TimeDelta;

use crate::harness::{Engine, World, eventually, instant};
use crate::mail::{becomes, letter, row, world_with_mail};
use crate::renewals::subscription;
use crate::sim_smtp::{Manner, PASSWORD, SimSmtp, Trouble, USER};

const NOW: &str = "2027-03-14T12:00:00Z";

#[tokio::test]
async fn each_answer_of_the_server_has_its_meaning() {
    let smtp = SimSmtp::start(Manner::StartTls).await;
    let world = world_with_mail(Engine::Sqlite, &smtp, &[("BELLWETHER_MAIL__TIMEOUT_SECONDS", "2")]).await;
    let running = world.start().await;
    // What goes wrong; what becomes of the letter; whether it was a try; what is told of it.
    let cases: &[(&str, Trouble, bellwether::store::LetterState, i64, &str)] = &[
        ("greeted_421", Trouble::Greeting("421 too busy"), Waiting, 0, ""),
        ("login_535", Trouble::Login("535 5.7.8 wrong"), Waiting, 0, ""),
        ("sender_550", Trouble::Sender("550 5.7.1 not verified"), Waiting, 0, ""),
        ("sender_451", Trouble::Sender("451 4.7.1 slow down"), Failed, 1, "4.7.1 slow down"),
        ("recipient_450", Trouble::Recipient("", "450 4.2.0 greylisted"), Failed, 1, "4.2.0 greylisted"),
        ("recipient_421", Trouble::Recipient("", "421 4.3.2 going down"), Failed, 1, "4.3.2 going down"),
        ("recipient_550", Trouble::Recipient("", "550 5.1.1 nobody"), Dead, 1, "5.1.1 nobody"),
        ("data_451", Trouble::Data("451 4.3.0 not now"), Failed, 1, "4.3.0 not now"),
        ("letter_552", Trouble::Letter("552 5.3.4 too big"), Dead, 1, "5.3.4 too big"),
        (
            "letter_454",
            Trouble::Letter("454 Throttling failure: Maximum sending rate exceeded."),
            Failed,
            1,
            "Throttling",
        ),
        ("dropped", Trouble::DropAfterLetter, Failed, 1, "it may have arrived"),
        ("silence", Trouble::Silence, Failed, 1, "no answer within 2 s"),
    ];
    for (id, trouble, state, attempts, words) in cases {
        // Else the next letter might still go with the conversation before.
        eventually("the conversation before is over", async || !smtp.is_busy()).await;
        let (sent, connections) = (smtp.letters().len(), smtp.connections());
        smtp.trouble(trouble.clone());
        world.database.execute(letter(id, id, "welcome", &format!("{id}@example.com"), world.clock_now())).await;
        // After a conversation that did not come about there is a pause; and whoever still writes down what was before does not
        // hear of the first move.
        let looks = AtomicUsize::new(0);
        eventually(&format!("{id}: the server was asked"), async || {
            if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                world.clock.advance(TimeDelta::seconds(61));
            }
            smtp.connections() > connections
        })
        .await;
        // One look: a letter that waits again may be on its way again at the next.
        eventually(&format!("{id} is {state}, tried {attempts} times, with {words:?}"), async || {
            let found = row(&running, id).await;
            assert!(!format!("{found:?}").contains(PASSWORD), "{found:?}");
            let told = found.error.unwrap_or_default().contains(words);
            told && (found.state, found.attempts) == (*state, *attempts)
        })
        .await;
        if *state != Dead {
            becomes(&world, &running, id, Sent, TimeDelta::seconds(61)).await;
            let copies = if *id == "dropped" { 2 } else { 1 };
            let mine: Vec<_> =
                smtp.letters().into_iter().filter(|letter| letter.to == format!("{id}@example.com")).collect();
            assert_eq!(mine.len(), copies, "{id}");
            assert_eq!(mine[0].message_id(), mine[copies - 1].message_id());
        } else {
            assert_eq!(smtp.letters().len(), sent);
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn one_bad_address_holds_up_no_other() {
    let smtp = SimSmtp::start(Manner::Implicit).await;
    let world = world_with_mail(Engine::Sqlite, &smtp, &[]).await;
    let running = world.start().await;
    let before = smtp.connections();
    for trouble in [Trouble::Recipient("b@", "550 nobody"), Trouble::Recipient("d@", "450 later")] {
        smtp.trouble(trouble);
    }
    let addresses = ["a@x.example", "b@x.example", "no address at all", "d@x.example", "e@x.example"];
    let letters = addresses.iter().enumerate();
    let letters = letters.map(|(n, to)| letter(&format!("l{n}"), &format!("u{n}"), "welcome", to, instant(NOW)));
    // All at once, so that none of them is seen without the others.
    world.database.execute(format!("BEGIN; {} COMMIT;", letters.collect::<String>())).await;
    becomes(&world, &running, "l4", Sent, TimeDelta::seconds(30)).await;
    let mut states = Vec::new();
    for n in 0..5 {
        states.push(row(&running, &format!("l{n}")).await.state);
    }
    assert!(matches!(states.as_slice(), [Sent, Dead, Dead, Failed | Sent, Sent]), "{states:?}");
    assert_eq!(smtp.connections() - before, 1, "one conversation for all");
    assert!(smtp.letters().iter().all(|letter| letter.encrypted && letter.authenticated));
    running.stop().await;
}

/// Whoever sits in between can take STARTTLS out, or show a certificate of their own: they are told nothing.
#[tokio::test]
async fn nobody_but_the_server_is_told_a_password() {
    for manner in [Manner::Stripped, Manner::OtherName, Manner::StartTls] {
        let smtp = SimSmtp::start(manner).await;
        let other = SimSmtp::start(Manner::StartTls).await;
        let root = other.root().display().to_string();
        // The third one has the right name and a root that nobody trusts.
        let more = [("BELLWETHER_MAIL__TRUST_ROOTS", root.as_str())];
        let more = if manner == Manner::StartTls { &more[..] } else { &[] };
        let world = world_with_mail(Engine::Sqlite, &smtp, more).await;
        let running = world.start().await;
        world.database.execute(letter("a", "u1", "welcome", "x@example.com", instant(NOW))).await;
        let tries = smtp.connections() + 2;
        eventually("it was tried twice", async || {
            world.clock.advance(TimeDelta::minutes(2));
            smtp.connections() >= tries
        })
        .await;
        let found = row(&running, "a").await;
        assert_eq!((found.state, found.attempts), (Waiting, 0), "{manner:?}");
        let clear = smtp.said_in_clear();
        let harmless = clear.iter().all(|line| ["EHLO site.example", "STARTTLS", "QUIT"].contains(&line.as_str()));
        let told = clear.join("\n");
        assert!(harmless && !told.contains(USER) && !told.contains("AUTH"), "{manner:?}: {clear:?}");
        assert!(smtp.letters().is_empty());
        running.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_for_days_costs_no_letter() {
    let smtp = SimSmtp::start(Manner::Plain).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut world = world_with_mail(Engine::Sqlite, &smtp, &[("EMAIL_PORT", &gone)]).await;
    let running = world.start().await;
    let now = instant(NOW);
    world.database.execute(letter("a", "u1", "welcome", "x@example.com", now)).await;
    world.database.execute(letter("old", "u2", "welcome", "y@example.com", now - TimeDelta::days(3))).await;
    let late = instant("2027-03-13T05:00:00Z");
    world.database.execute(letter("reminder", "u3", "dunning_0", "z@example.com", now)).await;
    world.database.execute(subscription("u3", "past_due", true, late)).await;
    for hours in 1..=60 {
        world.clock.advance_to(now + TimeDelta::hours(hours));
    }
    let waits = async |id: &str| {
        let found = row(&running, id).await;
        (found.state, found.attempts)
    };
    assert_eq!((waits("a").await, waits("old").await), ((Waiting, 0), (Waiting, 0)));
    running.stop().await;
    // Meanwhile somebody has paid, and something is too old to be told.
    let end = instant("2027-04-13T05:00:00Z").to_rfc3339();
    let paid = format!("status = 'active', current_period_end = '{end}', next_action_at = '{end}'");
    world.database.execute(format!("UPDATE subscriptions SET {paid} WHERE user_id = 'u3'")).await;
    world.set("EMAIL_PORT", &smtp.address.port().to_string());
    let running = world.start().await;
    becomes(&world, &running, "a", Sent, TimeDelta::seconds(30)).await;
    let reminder = becomes(&world, &running, "reminder", Dropped, TimeDelta::seconds(30)).await;
    assert_eq!(reminder.error.as_deref(), Some("what it tells was true no longer"));
    let old = becomes(&world, &running, "old", Dropped, TimeDelta::seconds(30)).await;
    assert_eq!(old.error.as_deref(), Some("it had waited longer than mail.keep_trying_days"));
    assert_eq!(smtp.letters().len(), 1);
    running.stop().await;
}

/// One answer behind, the end of a letter would be read where the server only says that it may be told.
#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_the_next_letters() {
    let smtp = SimSmtp::start(Manner::Plain).await;
    let world = world_with_mail(Engine::Sqlite, &smtp, &[("BELLWETHER_MAIL__TIMEOUT_SECONDS", "2")]).await;
    for trouble in
        [Trouble::Recipient("", "550 5.1.1 nobody"), Trouble::LateReset, Trouble::Letter("552 5.3.4 too big")]
    {
        smtp.trouble(trouble);
    }
    world.database.store().await.close().await;
    for id in ["a", "b"] {
        world.database.execute(letter(id, id, "welcome", &format!("{id}@example.com"), instant(NOW))).await;
    }
    let running = world.start().await;
    becomes(&world, &running, "a", Dead, TimeDelta::zero()).await;
    let b = becomes(&world, &running, "b", Dead, TimeDelta::seconds(30)).await;
    assert_eq!(b.error.as_deref(), Some("permanent error (552): 5.3.4 too big"));
    running.stop().await;
}

/// The server has it, and the database does not take that for a while: it is written down when it does, and not sent again.
#[tokio::test]
async fn a_letter_that_was_sent_is_marked_when_the_database_is_well_again() {
    let smtp = SimSmtp::start(Manner::Plain).await;
    let world = world_with_mail(Engine::Sqlite, &smtp, &[]).await;
    let refuse = "CREATE TRIGGER refused BEFORE UPDATE ON outbox WHEN NEW.state = 'sent' BEGIN SELECT RAISE(ABORT, 'not now'); END";
    world.database.store().await.close().await;
    world.database.execute(refuse.to_owned()).await;
    for id in ["a", "b"] {
        world.database.execute(letter(id, id, "welcome", &format!("{id}@example.com"), instant(NOW))).await;
    }
    let running = world.start().await;
    eventually("both are sent", async || smtp.letters().len() == 2).await;
    for id in ["a", "b"] {
        world.clock.advance(TimeDelta::seconds(30));
        eventually("nobody else can have it", async || row(&running, id).await.state == Sending).await;
    }
    world.database.execute("DROP TRIGGER refused".to_owned()).await;
    becomes(&world, &running, "a", Sent, TimeDelta::seconds(30)).await;
    becomes(&world, &running, "b", Sent, TimeDelta::seconds(30)).await;
    assert_eq!(smtp.letters().len(), 2);
    // Long after its claim would have ended.
    world.clock.advance(TimeDelta::hours(1));
    running.stop().await;
    assert_eq!(smtp.letters().len(), 2);
}

#[tokio::test]
async fn a_letter_whose_end_is_never_taken_holds_up_no_other() {
    let smtp = SimSmtp::start(Manner::Plain).await;
    let world = world_with_mail(Engine::Sqlite, &smtp, &[]).await;
    let refuse = "CREATE TRIGGER refused BEFORE UPDATE ON outbox WHEN NEW.state = 'sent' AND NEW.id = 'a' \
         BEGIN SELECT RAISE(ABORT, 'never'); END";
    world.database.store().await.close().await;
    world.database.execute(refuse.to_owned()).await;
    for id in ["a", "b"] {
        world.database.execute(letter(id, id, "welcome", &format!("{id}@example.com"), instant(NOW))).await;
    }
    let running = world.start().await;
    // The clock stands still: it goes with the same conversation.
    becomes(&world, &running, "b", Sent, TimeDelta::zero()).await;
    // What comes later goes too.
    world.database.execute(letter("c", "c", "welcome", "c@example.com", instant(NOW))).await;
    becomes(&world, &running, "c", Sent, TimeDelta::seconds(30)).await;
    assert_eq!(row(&running, "a").await.state, Sending);
    running.stop().await;
}

#[tokio::test]
async fn a_letter_that_is_never_taken_is_given_up_after_days_and_not_after_minutes() {
    let smtp = SimSmtp::start(Manner::Plain).await;
    let world = world_with_mail(Engine::Sqlite, &smtp, &[]).await;
    let running = world.start().await;
    world.database.execute(letter("a", "u1", "welcome", "full@example.com", instant(NOW))).await;
    for _ in 0..40 {
        smtp.trouble(Trouble::Recipient("full@", "452 4.2.2 mailbox full"));
    }
    let (mut tried, looks) = (0, AtomicUsize::new(0));
    let end = loop {
        eventually("it has been tried once more", async || {
            let found = row(&running, "a").await;
            assert_ne!(found.state, Dropped);
            let has_ended = found.state == Dead || found.state == Failed && found.attempts > tried;
            // A clock that ran away from a try would end it before it has begun.
            if !has_ended && looks.fetch_add(1, Ordering::Relaxed) % 40 == 39 {
                world.clock.advance(TimeDelta::seconds(30));
            }
            has_ended
        })
        .await;
        let found = row(&running, "a").await;
        if found.state == Dead {
            break found;
        }
        tried = found.attempts;
        world.clock.advance_to(found.next_attempt_at.unwrap());
    };
    let lived = world.clock_now() - instant(NOW);
    assert!(lived > TimeDelta::days(3) && lived < TimeDelta::days(6), "{lived}");
    assert!((8..=14).contains(&end.attempts), "{end:?}");
    running.stop().await;
}

#[tokio::test]
async fn without_a_server_letters_wait_and_that_is_said() {
    let world = World::at(NOW, Engine::Sqlite, &[]).await;
    let running = world.start().await;
    world.database.execute(letter("a", "u1", "welcome", "x@example.com", instant(NOW))).await;
    world.clock.advance(TimeDelta::hours(2));
    let metrics = async || {
        let url = format!("http://{}/metrics", running.daemon.metrics);
        running.http.get(url).send().await.unwrap().text().await.unwrap()
    };
    // Other daemons of this process share the recorder: whichever looked last has said it.
    eventually("it is counted", async || metrics().await.contains("bellwether_letters_waiting ")).await;
    assert_eq!(row(&running, "a").await.state, Waiting);
    running.stop().await;
}
