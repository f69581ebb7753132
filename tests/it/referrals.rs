//! What the site asks for its accounts: referrals, plans, the end of a subscription. On both databases.

use bellwether::billing::Confirmation;
use bellwether::store::{Acceptance, Accepted, Cause, Invited, MarkedPaid, PaidWord, RenewalRow, ToldBy};
use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Database, Engine, Running, World, instant};
use crate::store_billing::{paid, rules};

const TOKEN: &str = "a-token-of-the-site";
const NOW: &str = "2027-03-14T12:00:00Z";

on_both_engines!(
    invites_are_counted_where_they_are_kept,
    a_word_that_somebody_pays_is_kept_once,
    racing_invites_keep_the_limit,
    an_invite_is_accepted_once_and_never_ones_own,
    racing_acceptances_have_one_winner,
    an_invited_account_is_accepted_over_http_and_pays,
    the_site_lives_with_its_accounts,
);

fn said() -> Cause {
    Cause { actor: "site".to_owned(), cause: "accept".to_owned(), request_id: None }
}

async fn invites_are_counted_where_they_are_kept(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let code = store.referral_code("u1", Some("Me.Myself+site@gmail.com"), now).await.unwrap();
    assert_eq!(store.referral_code("u1", None, now).await.unwrap(), code, "it stays the same");
    let invite =
        async |email: &str, minutes| store.invite("u1", email, 2, now + TimeDelta::minutes(minutes)).await.unwrap();
    let Invited::New(first) = invite("a@example.com", 0).await else { panic!("it is new") };
    assert_eq!(invite("A+again@Example.com", 1).await, Invited::Exists(first));
    assert_eq!(invite("memyself@googlemail.com", 1).await, Invited::Own);
    assert!(matches!(invite("b@example.com", 2).await, Invited::New(_)));
    assert_eq!(invite("c@example.com", 3).await, Invited::TooMany(now + TimeDelta::hours(1)));
    assert!(matches!(invite("c@example.com", 60).await, Invited::New(_)), "the window moves on");
    assert_eq!(store.invite("u2", "a@example.com", 2, now).await.unwrap(), Invited::Taken);
    let accept = Acceptance { user_id: "u3", email: "a@example.com", code: None };
    assert!(matches!(
        store.accept_invite(accept, &rules(), &said(), now).await.unwrap(),
        Accepted::Now { state: "accepted", .. }
    ));
    assert!(matches!(store.accept_invite(accept, &rules(), &said(), now).await.unwrap(), Accepted::Before { .. }));
    assert_eq!(store.account_email("u3").await.unwrap().as_deref(), Some("a@example.com"));
    let summary = store.referral_summary("u1").await.unwrap();
    assert_eq!((summary.invited, summary.accepted, summary.paid, summary.balance), (3, 1, 0, 0));
    let letters = "SELECT recipient FROM outbox WHERE step = 'invitation' ORDER BY id";
    assert_eq!(database.query(letters).await, ["a@example.com", "b@example.com", "c@example.com"]);
}

/// D22: by code alone not somebody else's invite is paid; D42: what names nobody pays nobody.
async fn a_word_that_somebody_pays_is_kept_once(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let cause = Cause { actor: "site".to_owned(), cause: "mark-paid".to_owned(), request_id: None };
    let code = store.referral_code("u1", None, now).await.unwrap();
    let other = store.referral_code("u2", None, now).await.unwrap();
    for email in ["a@example.com", "b@example.com"] {
        store.invite("u1", email, 9, now).await.unwrap();
    }
    let mark = async |code: Option<&str>, email: Option<&str>| {
        let word = PaidWord { code, email, told_at: now, told_by: ToldBy::Call };
        store.mark_invite_paid(&word, &cause, now).await.unwrap()
    };
    assert_eq!(mark(Some(&code), None).await, MarkedPaid::Ambiguous);
    assert_eq!(mark(Some(&other), Some("b@example.com")).await, MarkedPaid::Unknown);
    assert_eq!(mark(None, None).await, MarkedPaid::Unknown);
    assert!(matches!(mark(None, Some("B@example.com")).await, MarkedPaid::Paid(_)));
    assert!(matches!(mark(Some(&code), Some("b@example.com")).await, MarkedPaid::Already(_)));
    assert!(matches!(mark(Some(&code), None).await, MarkedPaid::Paid(_)), "only one is left");
    assert_eq!(store.referral_summary("u1").await.unwrap().balance, 2);
    assert_eq!(store.audit_of("u1").await.unwrap().len(), 2);
    // The money itself comes later: it earns nothing more.
    store.apply_event(&paid("C1", NOW, "79.99", "gold_monthly_1_u7"), &rules(), now).await.unwrap();
    assert_eq!(store.referral_summary("u1").await.unwrap().balance, 2);
}

/// D24.
async fn racing_invites_keep_the_limit(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let racers = (0..12).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.invite("u1", &format!("m{n}@example.com"), 5, now).await.unwrap() })
    });
    let mut new = 0;
    for racer in racers.collect::<Vec<_>>() {
        new += usize::from(matches!(racer.await.unwrap(), Invited::New(_)));
    }
    assert_eq!(new, 5);
}

async fn an_invite_is_accepted_once_and_never_ones_own(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let code = store.referral_code("u1", Some("me.myself@gmail.com"), now).await.unwrap();
    store.invite("u1", "a@example.com", 9, now).await.unwrap();
    let accept = async |user_id: &str, email: &str, code: Option<&str>| {
        let acceptance = Acceptance { user_id, email, code };
        match store.accept_invite(acceptance, &rules(), &said(), now).await.unwrap() {
            Accepted::Now { state, .. } => format!("now {state}"),
            Accepted::Before { state, .. } => format!("before {state}"),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(accept("u3", "nobody@example.com", None).await, "Unknown");
    assert_eq!(accept("u3", "nobody@example.com", Some("NOSUCHCODE")).await, "Unknown");
    assert_eq!(accept("u1", "a@example.com", None).await, "Own", "by account");
    assert_eq!(accept("u3", "MeMyself+two@googlemail.com", Some(&code)).await, "Own", "by an address of theirs");
    let other = store.referral_code("u2", None, now).await.unwrap();
    assert_eq!(accept("u3", "a@example.com", Some(&other)).await, "Taken", "the first invite of an address stands");
    assert!(database.query("SELECT user_id FROM accounts WHERE user_id = 'u3'").await.is_empty(), "nothing was kept");
    assert_eq!(accept("u3", "A+x@example.com", None).await, "now accepted");
    assert_eq!(accept("u3", "a@example.com", Some(&code)).await, "before accepted");
    assert_eq!(accept("u4", "a@example.com", None).await, "Taken", "another account has it");
    assert_eq!(accept("u3", "b@example.com", Some(&code)).await, "Taken", "an account is invited once");
    // Who came by the link has no invite: one is made, and no letter is written.
    assert_eq!(accept("u5", "c@example.com", Some(&code)).await, "now accepted");
    assert_eq!(database.query("SELECT recipient FROM outbox").await, ["a@example.com"]);
    // Who had paid before earns nobody anything; who pays from another address does.
    store.apply_event(&paid("C1", "2027-03-13T12:00:00Z", "79.99", "gold_monthly_1_u6"), &rules(), now).await.unwrap();
    assert_eq!(accept("u6", "d@example.com", Some(&code)).await, "Customer");
    store.apply_event(&paid("C2", NOW, "79.99", "gold_monthly_1_u5"), &rules(), now).await.unwrap();
    let summary = store.referral_summary("u1").await.unwrap();
    assert_eq!((summary.invited, summary.accepted, summary.paid, summary.balance), (2, 2, 1, 1));
    // The money came before the word of the site, and after the invite.
    store.invite("u2", "e@example.com", 9, now - TimeDelta::days(1)).await.unwrap();
    store.apply_event(&paid("C3", NOW, "79.99", "gold_monthly_1_u8"), &rules(), now).await.unwrap();
    assert_eq!(accept("u8", "e@example.com", None).await, "now paid");
    assert_eq!(store.referral_summary("u2").await.unwrap().balance, 1);
    assert_eq!(store.audit_of("u1").await.unwrap().len(), 2, "each acceptance is in the inviter's audit");
}

async fn racing_acceptances_have_one_winner(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    let code = store.referral_code("u1", None, now).await.unwrap();
    store.invite("u1", "a@example.com", 9, now).await.unwrap();
    let racers = (0..12).map(|n| {
        let (store, code) = (store.clone(), code.clone());
        tokio::spawn(async move {
            // Half of them are six accounts that want one address, the others one account that wants six.
            let (user, email) = match n % 2 {
                0 => (format!("v{n}"), "a@example.com".to_owned()),
                _ => ("w".to_owned(), format!("m{n}@example.com")),
            };
            let acceptance = Acceptance { user_id: &user, email: &email, code: Some(&code) };
            store.accept_invite(acceptance, &rules(), &said(), now).await.unwrap()
        })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        won += usize::from(matches!(racer.await.unwrap(), Accepted::Now { .. }));
    }
    assert_eq!(won, 2);
    assert_eq!(store.referral_summary("u1").await.unwrap().accepted, 2);
}

async fn an_invited_account_is_accepted_over_http_and_pays(engine: Engine) {
    let settings = [("SITE_TOKEN", TOKEN), ("DISPOSABLE_EMAIL_DOMAINS", "trash.example")];
    let world = World::at(NOW, engine, &settings).await;
    let running = world.start().await;
    let post = async |path: &str, body: Value| ask(&running, path, TOKEN, Some(body)).await;
    let path = "/api/referrals/accept";
    assert_eq!(ask(&running, path, "wrong", Some(json!({ "user_id": 7 }))).await.0, 401);
    let (status, _) = post("/api/referrals/invite", json!({ "user_id": 1, "email": "a@example.com" })).await;
    assert_eq!(status, 201);
    let refused = async |body: Value| {
        let (status, body) = post(path, body).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let told = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(json!({ "user_id": 7 })).await, told(400, "bad_body"), "no address is known");
    assert_eq!(refused(json!({ "user_id": 7, "email": "b@example.com" })).await, told(404, "not_found"));
    assert_eq!(refused(json!({ "user_id": 1, "email": "a@example.com" })).await, told(422, "self_referral"));
    let (_, link) = ask(&running, "/api/referrals/link?user_id=1", TOKEN, None).await;
    let code = link["referral_code"].as_str().unwrap();
    let thrown = json!({ "user_id": 7, "email": "x@trash.example", "referral_code": code });
    assert_eq!(refused(thrown).await, told(422, "disposable_email"));
    let (status, body) = post(path, json!({ "user_id": 7, "email": "a@example.com" })).await;
    assert_eq!((status, &body["status"], &body["state"]), (200, &json!("ok"), &json!("accepted")));
    let (status, body) = post(path, json!({ "user_id": "7" })).await;
    assert_eq!((status, &body["status"]), (200, &json!("exists")), "its address is known now");
    assert_eq!(refused(json!({ "user_id": 8, "email": "a@example.com" })).await, told(409, "already_invited"));
    let states = async || {
        let (_, summary) = ask(&running, "/api/referrals/summary?user_id=1", TOKEN, None).await;
        ["total_invited", "total_accepted", "total_paid", "paid_invites_left"].map(|name| summary[name].as_i64())
    };
    assert_eq!(states().await, [1, 1, 0, 0].map(Some));
    let store = &running.daemon.store;
    store.apply_event(&paid("C1", NOW, "79.99", "gold_monthly_1_7"), &rules(), instant(NOW)).await.unwrap();
    assert_eq!(states().await, [1, 1, 1, 1].map(Some));
    store
        .apply_event(&paid("C2", "2027-03-13T12:00:00Z", "79.99", "gold_monthly_1_9"), &rules(), instant(NOW))
        .await
        .unwrap();
    let late = json!({ "user_id": 9, "email": "z@example.com", "referral_code": code });
    assert_eq!(refused(late).await, told(409, "already_customer"));
    running.stop().await;
}

async fn ask(running: &Running, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("http://{}{path}", running.daemon.api);
    let request = match body {
        None => running.http.get(url),
        Some(body) => running.http.post(url).body(body.to_string()),
    };
    let response = request.bearer_auth(token).send().await.unwrap();
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

async fn the_site_lives_with_its_accounts(engine: Engine) {
    let settings = [
        ("SITE_TOKEN", format!("{TOKEN},the-one-before")),
        ("FRONTEND_URL", "https://site.example/".to_owned()),
        ("REFERRAL_INVITES_PER_HOUR", "3".to_owned()),
        ("DISPOSABLE_EMAIL_DOMAINS", "trash.example".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let world = World::at(NOW, engine, &settings).await;
    let running = world.start().await;
    // D21, D42, D44: nobody but the site, and no header of a caller in the link.
    for path in
        ["/api/referrals/link?user_id=1", "/api/referrals/summary?user_id=1", "/api/billing/current-plan?user_id=1"]
    {
        let (status, body) = ask(&running, path, "wrong", None).await;
        assert_eq!((status, &body["code"]), (401, &json!("unauthorized")), "{path}");
    }
    let (_, link) = ask(&running, "/api/referrals/link?user_id=1", "the-one-before", None).await;
    let code = link["referral_code"].as_str().unwrap().to_owned();
    assert_eq!(link["referral_link"], format!("https://site.example/?ref={code}"));
    let invite = async |user: Value, email: &str| {
        let (status, body) =
            ask(&running, "/api/referrals/invite", TOKEN, Some(json!({ "user_id": user, "email": email }))).await;
        (status, body["status"].as_str().or(body["code"].as_str()).unwrap().to_owned())
    };
    let told = |status: u16, word: &str| (status, word.to_owned());
    // D43: it works; the old site's ids are numbers.
    assert_eq!(invite(json!(1), "a@example.com").await, told(201, "ok"));
    assert_eq!(invite(json!("1"), "a@example.com").await, told(200, "exists"));
    assert_eq!(invite(json!(2), "a@example.com").await, told(409, "already_invited"));
    assert_eq!(invite(json!(1), "x@mail.trash.example").await, told(422, "disposable_email"));
    for bad in ["", "a", "a@b", "a b@example.com", "a@example.com\r\nBcc: b@example.com", "a@@example.com"] {
        assert_eq!(invite(json!(1), bad).await, told(400, "bad_body"), "{bad:?}");
    }
    assert_eq!(invite(json!(null), "b@example.com").await, told(400, "bad_body"));
    for email in ["b@example.com", "c@example.com"] {
        assert_eq!(invite(json!(1), email).await.0, 201);
    }
    assert_eq!(invite(json!(1), "d@example.com").await, told(429, "invite_limit"));
    for email in ["a@example.com", "b@example.com", "c@example.com"] {
        let body = json!({ "invitee_email": email, "referral_code": code });
        let (status, body) = ask(&running, "/api/referrals/webhook/mark-paid", TOKEN, Some(body)).await;
        assert_eq!((status, &body["status"]), (200, &json!("ok")));
    }
    // The account pays once, and its next month is free.
    let store = &running.daemon.store;
    let first = paid("C1", "2027-02-14T12:00:00Z", "79.99", "gold_monthly_1_1");
    store.apply_event(&first, &rules(), instant(NOW)).await.unwrap();
    let due = store.subscription_of("1").await.unwrap().unwrap();
    let record = RenewalRow { run_id: Uuid::now_v7(), decided_at: instant(NOW) };
    store.renew(&due.id, &record, &rules(), Confirmation::Unpaid).await.unwrap().unwrap();
    let (_, summary) = ask(&running, "/api/referrals/summary?user_id=1", TOKEN, None).await;
    assert_eq!(
        summary,
        json!({"success": true, "inviter_id": "1", "total_invited": 3, "total_accepted": 3, "total_paid": 3,
            "rewards_months_earned": 1, "rewards_months_granted": 1, "free_months_redeemed": 1,
            "pending_rewards_months": 0, "paid_invites_left": 0})
    );
    let plan = async |user: &str| {
        let (status, body) = ask(&running, &format!("/api/billing/current-plan/?user_id={user}"), TOKEN, None).await;
        (status, body["data"].clone())
    };
    assert_eq!(
        plan("1").await,
        (
            200,
            json!({"plan_name": "Gold", "plan_type": "gold", "is_premium": true, "billing_cycle": "monthly",
            "next_billing_date": "2027-04-14T11:00:00Z", "current_period_end": "2027-04-14T11:00:00Z", "next_plan": null,
            "features": {"api_calls_per_month": 100_000}, "auto_renew": true, "subscription_status": "active"})
        )
    );
    let (_, nobody) = plan("nobody").await;
    assert_eq!((&nobody["plan_type"], &nobody["subscription_status"]), (&json!("free"), &json!("none")));
    let cancel = async |user: &str| ask(&running, "/api/billing/cancel", TOKEN, Some(json!({ "user_id": user }))).await;
    assert_eq!(cancel("nobody").await.0, 404);
    let (status, body) = cancel("1").await;
    assert_eq!((status, &body["access_until"]), (200, &json!("2027-04-14T11:00:00Z")));
    let (_, left) = plan("1").await;
    assert_eq!(
        (&left["plan_type"], &left["subscription_status"], &left["auto_renew"]),
        (&json!("gold"), &json!("canceled"), &json!(false))
    );
    // D11: it ends with what is paid for.
    let end = instant("2027-04-15T07:00:00Z");
    world.advance_to(&running, end).await;
    let (_, over) = plan("1").await;
    assert_eq!((&over["plan_type"], &over["subscription_status"]), (&json!("free"), &json!("expired")));
    running.stop().await;
}
