//! Taking over the old site: its database as Django made it, on both engines, into ours on both.

use bellwether::config::DatabaseTarget;
use bellwether::jobs::import::{Report, import};
use bellwether::store::{AuditRow, OldSite, Store, Taken};
use serde_json::{Value, json};

use crate::commands::bellwether;
use crate::harness::{Database, Engine, World, instant};
use crate::store_billing::rules;

const NOW: &str = "2027-03-14T12:00:00Z";

on_both_engines!(
    what_holds_is_taken_over_once_and_what_does_not_is_told,
    an_imported_account_lives_on,
    a_database_that_is_not_the_old_sites_is_refused,
);

/// The old site's tables, as its migrations made them, as far as they are read; and one of keys.
fn schema(engine: Engine) -> String {
    let (id, at, boolean) = match engine {
        Engine::Sqlite => ("integer NOT NULL PRIMARY KEY AUTOINCREMENT", "datetime", "bool"),
        Engine::Postgres => ("bigint NOT NULL PRIMARY KEY", "timestamp with time zone", "boolean"),
    };
    format!(
        "CREATE TABLE auth_user (id {id}, password varchar(128) NOT NULL, username varchar(150) NOT NULL UNIQUE, email varchar(254) \
         NOT NULL, is_active {boolean} NOT NULL, date_joined {at} NOT NULL); \
         CREATE TABLE stocks_userprofile (id {id}, user_id bigint NOT NULL UNIQUE, is_premium {boolean} NOT NULL, plan_type \
         varchar(20) NOT NULL, billing_cycle varchar(20) NOT NULL, auto_renew {boolean} NOT NULL, subscription_status varchar(20) \
         NOT NULL, next_billing_date {at} NULL); \
         CREATE TABLE stocks_revenuetracking (id {id}, user_id bigint NOT NULL, final_amount decimal NOT NULL); \
         CREATE TABLE stocks_referralaccount (id {id}, user_id bigint NULL, inviter_uid varchar(64) NOT NULL, referral_code \
         varchar(16) NOT NULL UNIQUE, rewards_months_granted integer NOT NULL); \
         CREATE TABLE stocks_referralinvite (id {id}, inviter_id bigint NULL, inviter_uid varchar(64) NOT NULL, invitee_email \
         varchar(254) NOT NULL, invitee_user_id bigint NULL, referral_code varchar(16) NOT NULL, status varchar(16) NOT NULL, \
         created_at {at} NOT NULL, paid_at {at} NULL); \
         CREATE TABLE stocks_referralredemption (id {id}, inviter_uid varchar(64) NOT NULL, months integer NOT NULL, \
         invites_consumed integer NOT NULL, created_at {at} NOT NULL); \
         CREATE TABLE stocks_userapikey (id {id}, user_id bigint NOT NULL, hashed varchar(64) NOT NULL);"
    )
}

/// Id, address, plan, cycle, whether it renews, status, the end of what is paid for, and whether money is on record.
type User = (i64, &'static str, &'static str, &'static str, bool, &'static str, Option<&'static str>, bool);

const USERS: &[User] = &[
    (1, "one@example.com", "gold", "monthly", true, "active", Some("2027-03-31 04:00:00"), true),
    (2, "two@example.com", "premium", "yearly", false, "canceled", Some("2027-09-01 04:00:00.123456"), true),
    // D51: it has paid and is past due there all the same.
    (3, "three@example.com", "silver", "monthly", true, "past_due", Some("2027-04-02 04:00:00"), true),
    // D11: canceled, and never ended.
    (4, "four@example.com", "bronze", "monthly", false, "canceled", Some("2026-01-01 05:00:00"), true),
    // Unpaid for ten days: that is for the night to decide.
    (5, "five@example.com", "gold", "monthly", true, "past_due", Some("2027-03-04 05:00:00"), true),
    // Unpaid for a year.
    (6, "six@example.com", "gold", "monthly", true, "active", Some("2026-03-04 05:00:00"), true),
    // D34, D38, D41.
    (7, "seven@example.com", "enterprise", "monthly", true, "active", None, false),
    (8, "eight@example.com", "gold", "monthly", true, "active", Some("2027-04-01 04:00:00"), false),
    (9, "nine@example.com", "platinum", "monthly", true, "active", Some("2027-04-01 04:00:00"), true),
    (10, "ten@example.com", "gold", "weekly", true, "active", Some("2027-04-01 04:00:00"), true),
    (11, "", "free", "monthly", true, "active", None, false),
    (12, "One+again@Example.com", "free", "monthly", true, "active", None, false),
];

const REFERRALS: &str = "
INSERT INTO stocks_referralaccount VALUES (1, 1, '1', 'ABCD1234', 2);
INSERT INTO stocks_referralaccount VALUES (2, NULL, '2', 'EFGH5678', 0);
INSERT INTO stocks_referralaccount VALUES (3, NULL, 'anon-x', 'NOBODY00', 0);
INSERT INTO stocks_referralinvite VALUES (1, 1, '1', 'a@x.example', NULL, 'ABCD1234', 'paid', '2026-02-01 10:00:00', '2026-03-01 10:00:00');
INSERT INTO stocks_referralinvite VALUES (2, NULL, '1', 'b@x.example', NULL, 'ABCD1234', 'paid', '2026-02-02 10:00:00', NULL);
INSERT INTO stocks_referralinvite VALUES (3, NULL, 'spoofed', 'three@example.com', 3, 'ABCD1234', 'paid', '2026-02-03 10:00:00', '2026-03-03 10:00:00');
INSERT INTO stocks_referralinvite VALUES (4, NULL, '2', 'A@x.example', NULL, 'EFGH5678', 'invited', '2026-01-01 10:00:00', NULL);
INSERT INTO stocks_referralinvite VALUES (5, NULL, '1', 'ONE@example.com', NULL, 'ABCD1234', 'paid', '2026-02-05 10:00:00', NULL);
INSERT INTO stocks_referralinvite VALUES (6, NULL, 'anon-x', 'c@x.example', NULL, 'NOBODY00', 'paid', '2026-02-06 10:00:00', NULL);
INSERT INTO stocks_referralinvite VALUES (7, NULL, '2', 'd@x.example', NULL, 'EFGH5678', 'accepted', '2026-02-07 10:00:00', NULL);
INSERT INTO stocks_referralredemption VALUES (1, '1', 1, 3, '2026-05-01 10:00:00');
INSERT INTO stocks_referralredemption VALUES (2, '1', 1, 3, '2026-05-02 10:00:00');
INSERT INTO stocks_referralredemption VALUES (3, 'anon-x', 1, 3, '2026-05-03 10:00:00');
INSERT INTO stocks_userapikey VALUES (1, 1, 'ab');
INSERT INTO stocks_userapikey VALUES (2, 2, 'cd');";

async fn old_database(engine: Engine) -> Database {
    let database = Database::create(engine).await;
    if let Some(path) = database.url.strip_prefix("sqlite:") {
        // As Django leaves it: a file that is no write-ahead log of ours.
        std::fs::write(path, "").unwrap();
    }
    let mut sql = schema(engine);
    for (id, email, plan, cycle, renews, status, end, paid) in USERS {
        let end = end.map_or("NULL".to_owned(), |end| match engine {
            Engine::Sqlite => format!("'{end}'"),
            Engine::Postgres => format!("'{end}+00'"),
        });
        let joined = if engine == Engine::Sqlite { "2025-01-02 03:04:05" } else { "2025-01-02 03:04:05+00" };
        sql += &format!(
            "INSERT INTO auth_user VALUES ({id}, 'pbkdf2', 'user{id}', '{email}', {}, '{joined}');",
            *id != 11
        );
        sql += &format!(
            "INSERT INTO stocks_userprofile VALUES ({}, {id}, {renews}, '{plan}', '{cycle}', {renews}, '{status}', {end});",
            id + 100
        );
        if *paid {
            sql += &format!("INSERT INTO stocks_revenuetracking VALUES ({id}, {id}, 79.99);");
        }
    }
    database.execute(sql + REFERRALS).await;
    database
}

async fn read(database: &Database) -> OldSite {
    let target: DatabaseTarget = database.url.parse().unwrap();
    OldSite::read(&target).await.unwrap()
}

async fn take_over(store: &Store, old: &OldSite, dry_run: bool) -> Report {
    import(store, old, &rules(), false, instant(NOW), dry_run).await.unwrap()
}

async fn what_holds_is_taken_over_once_and_what_does_not_is_told(engine: Engine) {
    // From either engine into this one.
    for source in [Engine::Sqlite, Engine::Postgres] {
        let (old, database) = (old_database(source).await, Database::create(engine).await);
        let (site, store) = (read(&old).await, database.store().await);
        let dry = take_over(&store, &site, true).await;
        assert!(database.query("SELECT user_id FROM accounts").await.is_empty(), "a dry run writes nothing");
        let done = take_over(&store, &site, false).await;
        assert_eq!(Report { dry_run: true, ..done.clone() }, dry, "a dry run says what is then done");
        let told: Vec<String> =
            done.findings.iter().map(|finding| format!("{}: {}", finding.kind, finding.row)).collect();
        insta::allow_duplicates! {
            insta::assert_snapshot!(told.join("\n"), @"
            nobodys_code: stocks_referralaccount 3
            never_paid: auth_user 7
            never_paid: auth_user 8
            unknown_plan: auth_user 9
            unknown_cycle: auth_user 10
            no_address: auth_user 11
            address_twice: auth_user 12
            invited_oneself: stocks_referralinvite 5
            nobodys_invite: stocks_referralinvite 6
            nobodys_credit: stocks_referralredemption 3
            invited_twice: stocks_referralinvite 4
            credit_used_twice: stocks_referralredemption 2
            ");
        }
        assert_eq!((done.accounts, done.subscriptions), (Taken { new: 12, already: 0 }, Taken { new: 6, already: 0 }));
        assert_eq!((done.invites, done.redemptions), (Taken { new: 4, already: 0 }, Taken { new: 1, already: 0 }));
        assert_eq!((done.free, done.disabled, done.not_portable[0].rows), (2, 1, 2));
        let states = "SELECT user_id || ' ' || plan || ' ' || billing_cycle || ' ' || status || ' ' || CASE WHEN auto_renew THEN \
             'on' ELSE 'off' END FROM subscriptions ORDER BY user_id";
        assert_eq!(
            database.query(states).await,
            [
                "1 gold monthly active on",
                "2 gold annual canceled off",
                "3 silver monthly active on",
                "4 bronze monthly expired off",
                "5 gold monthly active on",
                "6 gold monthly expired on",
            ]
        );
        let one = store.account_money("1").await.unwrap();
        assert_eq!(one.facts.opening.unwrap().end, instant("2027-03-31T04:00:00Z"));
        let codes = "SELECT user_id || ' ' || referral_code || ' ' || origin FROM accounts WHERE user_id IN ('1', '2') ORDER BY 1";
        assert_eq!(database.query(codes).await, ["1 ABCD1234 import", "2 EFGH5678 import"]);
        let summary = store.referral_summary("1").await.unwrap();
        assert_eq!((summary.invited, summary.paid, summary.earned, summary.balance), (3, 3, 3, 0));
        let chain = store.audit_of("1").await.unwrap();
        assert_eq!((chain.len(), AuditRow::first_broken(&chain)), (6, None));
        assert!(chain.iter().all(|row| row.actor == "import"));
        assert!(database.query("SELECT id FROM outbox").await.is_empty(), "nobody is written to");
        // The same again changes nothing.
        let everything = async || {
            let mut rows = Vec::new();
            for table in ["accounts", "subscriptions", "invites", "credits", "audit"] {
                rows.push(database.query(&format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}")).await.remove(0));
            }
            rows
        };
        let before = everything().await;
        let again = take_over(&store, &site, false).await;
        assert_eq!(
            (again.accounts, again.subscriptions),
            (Taken { new: 0, already: 12 }, Taken { new: 0, already: 6 })
        );
        assert_eq!((again.invites, again.redemptions), (Taken { new: 0, already: 4 }, Taken { new: 0, already: 1 }));
        assert_eq!((everything().await, again.findings), (before, done.findings));
        // What is not proved is taken over on an operator's word.
        let unproved = import(&store, &site, &rules(), true, instant(NOW), false).await.unwrap();
        assert_eq!(unproved.subscriptions, Taken { new: 1, already: 6 });
    }
}

/// The night decides about what was taken over like about everything else.
async fn an_imported_account_lives_on(engine: Engine) {
    let old = old_database(Engine::Sqlite).await;
    let world = World::at(NOW, engine, &[]).await;
    let store = world.database.store().await;
    take_over(&store, &read(&old).await, false).await;
    store.close().await;
    drop(store);
    let running = world.start().await;
    running.stats().await;
    for at in ["2027-03-15T07:30:00Z", "2027-03-15T13:00:00Z"] {
        world.advance_to(&running, instant(at)).await;
    }
    let states = "SELECT user_id || ' ' || status FROM subscriptions ORDER BY user_id";
    assert_eq!(
        world.database.query(states).await,
        ["1 active", "2 canceled", "3 active", "4 expired", "5 past_due", "6 expired"]
    );
    let letters = "SELECT account || ' ' || step FROM outbox ORDER BY id";
    assert_eq!(
        world.database.query(letters).await,
        ["5 dunning_2"],
        "only who owes is written to, and what is due now"
    );
    running.stop().await;
}

async fn a_database_that_is_not_the_old_sites_is_refused(engine: Engine) {
    let other = Database::create(engine).await;
    other.store().await.close().await;
    let target: DatabaseTarget = other.url.parse().unwrap();
    let refused = OldSite::read(&target).await.unwrap_err().to_string();
    assert!(refused.contains("there is no table auth_user"), "{refused}");
    let old = old_database(engine).await;
    let directory = tempfile::tempdir().unwrap();
    let run = async |arguments: Vec<String>| {
        let directory = directory.path().to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            bellwether(&directory, &arguments, &[])
        });
        let output = output.await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let words =
        |rest: &[&str]| ["import", "django", "--database-url"].iter().chain(rest).map(|w| (*w).to_owned()).collect();
    let (code, told, _) = run(words(&[&old.url, "--dry-run", "--json"])).await;
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &report["accounts"]["new"], &report["dry_run"]), (Some(3), &json!(12), &json!(true)), "{told}");
    let (code, told, _) = run(words(&[&old.url])).await;
    assert!(code == Some(3) && told.contains("FINDING        never_paid: auth_user 8"), "{told}");
    assert!(told.contains("not portable   stocks_userapikey (2 rows)"), "{told}");
    let (code, _, fault) = run(words(&["mysql://root:canary-secret@localhost/x"])).await;
    assert!(code == Some(2) && !fault.contains("canary"), "{fault}");
    let (code, _, fault) = run(words(&["postgres://me:canary-secret@127.0.0.1:9/x"])).await;
    assert!(code == Some(69) && !fault.contains("canary"), "{code:?} {fault}");
}
