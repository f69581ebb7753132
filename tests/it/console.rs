//! The operators' console as a browser sees it, on both databases.

use bellwether::ops::password;
use bellwether::store::{LetterState, OperatorAct, Role, SessionBounds};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Database, Engine, OPERATOR, Running, World, eventually, instant};
use crate::mail::letter;
use crate::renewals::subscription;
use crate::sim_paypal::event;
use crate::webhooks::world_with_paypal;

const NOW: &str = "2027-03-14T12:00:00Z";
const PASSWORD: &str = "a sentence of the test";

on_both_engines!(
    operators_sessions_and_acts_are_kept,
    what_the_pages_look_up_is_found,
    nobody_gets_in_without_the_password_and_nobody_stays_for_ever,
    a_rehearsed_run_is_what_then_happens_and_more_is_not_done_unseen,
    reminders_are_shown_with_their_words_and_then_written,
    a_webhook_is_looked_at_and_applied_again,
    who_looks_cannot_act_and_a_foreign_form_does_nothing,
    every_page_shows_and_escapes_what_is_in_it,
);

const BOUNDS: SessionBounds = SessionBounds { whole: TimeDelta::hours(12), idle: TimeDelta::hours(1) };

async fn operators_sessions_and_acts_are_kept(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    assert!(store.create_operator("ada", Role::Admin, "hash-1", now).await.unwrap());
    assert!(!store.create_operator("ada", Role::Viewer, "hash-2", now).await.unwrap(), "the first stays");
    assert_eq!(store.operator_password("ada").await.unwrap().as_deref(), Some("hash-1"));
    assert_eq!(store.operator_password("bob").await.unwrap(), None);
    // A session belongs to the password that was shown.
    assert!(!store.open_session(("ada", "hash-2"), "s0", BOUNDS, now).await.unwrap());
    assert!(store.open_session(("ada", "hash-1"), "s1", BOUNDS, now).await.unwrap());
    let found = store.session("s1", BOUNDS, now).await.unwrap().unwrap();
    assert_eq!((found.operator.as_str(), found.role, found.seen_at), ("ada", Role::Admin, now));
    assert_eq!(store.session("s0", BOUNDS, now).await.unwrap(), None);
    // Used, it goes on; not used for an hour, or twelve hours old, it is over.
    let later = now + TimeDelta::minutes(50);
    store.touch_session("s1", later).await.unwrap();
    store.touch_session("s1", now).await.unwrap();
    assert!(store.session("s1", BOUNDS, now + TimeDelta::minutes(100)).await.unwrap().is_some());
    assert!(store.session("s1", BOUNDS, later + TimeDelta::hours(1)).await.unwrap().is_none());
    // The next to come in sweeps out what is over.
    let next_day = now + TimeDelta::hours(13);
    assert!(store.open_session(("ada", "hash-1"), "s2", BOUNDS, next_day).await.unwrap());
    let listed = store.operators(BOUNDS, next_day).await.unwrap();
    assert_eq!((listed.len(), listed[0].sessions, listed[0].signed_in_at), (1, 1, Some(next_day)));
    // Another password ends them.
    assert!(store.set_operator_password("ada", "hash-3", next_day).await.unwrap());
    assert!(!store.set_operator_password("bob", "hash-3", next_day).await.unwrap());
    assert_eq!(store.session("s2", BOUNDS, next_day).await.unwrap(), None);
    for secret in ["s3", "s4", "s5"] {
        assert!(store.open_session(("ada", "hash-3"), secret, BOUNDS, next_day).await.unwrap());
    }
    store.close_session("s3").await.unwrap();
    assert_eq!(store.close_sessions_of("ada").await.unwrap(), 2);
    assert!(store.open_session(("ada", "hash-3"), "s6", BOUNDS, next_day).await.unwrap());
    assert!(store.remove_operator("ada").await.unwrap() && !store.remove_operator("ada").await.unwrap());
    assert_eq!(store.session("s6", BOUNDS, next_day).await.unwrap(), None);
    // What was begun is there before it is done.
    let act = |operator: &str| OperatorAct {
        id: Uuid::now_v7(),
        at: now,
        operator: operator.to_owned(),
        act: "runs retry".to_owned(),
        target: "r1".to_owned(),
        reason: "it failed".to_owned(),
        request_id: "q1".to_owned(),
        outcome: None,
    };
    let (first, second) = (act("ada"), act("bob"));
    store.begin_act(&first).await.unwrap();
    store.begin_act(&second).await.unwrap();
    store.end_act(first.id, "done").await.unwrap();
    let done = OperatorAct { outcome: Some("done".to_owned()), ..first };
    assert_eq!(store.acts(None, 10).await.unwrap(), [second, done.clone()], "newest first");
    assert_eq!(store.acts(Some("ada"), 10).await.unwrap(), [done]);
    assert_eq!(store.acts(None, 1).await.unwrap().len(), 1);
}

async fn what_the_pages_look_up_is_found(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, now) = (database.store().await, instant(NOW));
    store.referral_code("u1", Some("One@Example.com"), now).await.unwrap();
    store.referral_code("u2", None, now + TimeDelta::hours(1)).await.unwrap();
    database.execute(subscription("u1", "active", true, now)).await;
    let names = async |wanted: Option<&str>| -> Vec<String> {
        store.find_accounts(wanted, 10).await.unwrap().into_iter().map(|account| account.user_id).collect()
    };
    assert_eq!(names(None).await, ["u2", "u1"], "the newest first");
    assert_eq!(names(Some("u1")).await, ["u1"]);
    assert_eq!(names(Some("one@example.com")).await, ["u1"], "by address, however it is written");
    assert!(names(Some("u")).await.is_empty());
    let found = store.find_accounts(Some("u1"), 10).await.unwrap().remove(0);
    assert_eq!((found.status.as_deref(), found.plan.as_deref()), (Some("active"), Some("gold")));
    for (inviter, email) in [("u1", "a@example.com"), ("u2", "b@example.com")] {
        store.invite(inviter, email, 10, now).await.unwrap();
    }
    let invites = store.invites(None, 10).await.unwrap();
    assert_eq!((invites.len(), invites[0].email.as_str()), (2, "b@example.com"));
    assert_eq!(store.invites(Some("u1"), 10).await.unwrap()[0].state, "invited");
    let letters = store.newest_letters(None, 1).await.unwrap();
    assert_eq!((letters.len(), letters[0].account.as_str()), (1, "u2"));
    assert!(store.newest_letters(Some(LetterState::Dead), 10).await.unwrap().is_empty());
    assert!(store.decisions(10).await.unwrap().is_empty());
}

/// A browser that keeps its cookies and follows nothing by itself.
struct Browser<'r> {
    running: &'r Running,
    http: reqwest::Client,
    cookies: Vec<(String, String)>,
}

/// What it was shown.
struct Page {
    status: u16,
    location: Option<String>,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Page {
    fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// The value of the first field of this name.
    fn field(&self, name: &str) -> String {
        let mark = format!("name=\"{name}\" value=\"");
        let from = self.text.find(&mark).unwrap_or_else(|| panic!("no field {name} in:\n{}", self.text)) + mark.len();
        self.text[from..].split('"').next().unwrap().replace("&#43;", "+")
    }
}

impl<'r> Browser<'r> {
    fn new(running: &'r Running) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { running, http, cookies: Vec::new() }
    }

    /// Another with the same cookies.
    fn copy(&self) -> Self {
        Self { running: self.running, http: self.http.clone(), cookies: self.cookies.clone() }
    }

    /// Somebody of this role who is signed in.
    async fn signed_in(running: &'r Running, name: &str, role: Role) -> Self {
        let hash = password::hash(name, &SecretString::from(PASSWORD)).unwrap();
        let now = running.daemon.store.lease().await.unwrap().unwrap().expires_at;
        running.daemon.store.create_operator(name, role, &hash, now).await.unwrap();
        let mut browser = Self::new(running);
        let page = browser.sign_in(name, PASSWORD).await;
        assert_eq!((page.status, page.location.as_deref()), (303, Some("/admin")));
        browser
    }

    async fn sign_in(&mut self, name: &str, password: &str) -> Page {
        let csrf = self.get("/admin/login").await.field("csrf");
        self.post("/admin/login", &[("username", name), ("password", password), ("csrf", &csrf)]).await
    }

    async fn get(&mut self, path: &str) -> Page {
        let request = self.http.get(format!("http://{}{path}", self.running.daemon.api));
        self.send(request).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.http.post(format!("http://{}{path}", self.running.daemon.api)).body(body);
        self.send(request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    /// Sends the form that `page` has, with these fields filled in.
    async fn submit(&mut self, page: &Page, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = page.field("csrf");
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend_from_slice(fields);
        self.post(path, &all).await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = request.header("cookie", cookies.join("; ")).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for line in headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            assert!(line.contains("; HttpOnly; SameSite=Lax") && line.contains("Path=/admin"), "{line}");
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let location = headers.get("location").map(|location| location.to_str().unwrap().to_owned());
        Page { status, location, headers, text: response.text().await.unwrap() }
    }
}

async fn world(engine: Engine, more: &[(&str, &str)]) -> (World, Running) {
    let mut settings = vec![("CRON_SECRET", "canary-cron-secret"), ("OPERATOR_TOKEN", OPERATOR)];
    settings.extend_from_slice(more);
    let world = World::at(NOW, engine, &settings).await;
    let running = world.start().await;
    running.stats().await;
    (world, running)
}

async fn nobody_gets_in_without_the_password_and_nobody_stays_for_ever(engine: Engine) {
    let (world, running) = world(engine, &[]).await;
    let mut stranger = Browser::new(&running);
    let page = stranger.get("/admin/runs?job=renewals").await;
    assert_eq!(
        (page.status, page.location.as_deref()),
        (303, Some("/admin/login?next=%2Fadmin%2Fruns%3Fjob%3Drenewals"))
    );
    assert!(stranger.get("/admin/login").await.has("There is no operator yet"));
    let hash = password::hash("ada", &SecretString::from(PASSWORD)).unwrap();
    running.daemon.store.create_operator("ada", Role::Operator, &hash, world.clock_now()).await.unwrap();
    assert!(!stranger.get("/admin/login").await.has("There is no operator yet"));
    // A form that is not ours: refused before the password is looked at.
    let foreign = stranger.post("/admin/login", &[("username", "ada"), ("password", PASSWORD), ("csrf", "x")]).await;
    assert_eq!(foreign.status, 403);
    let wrong = stranger.sign_in("ada", "another sentence").await;
    assert_eq!((wrong.status, wrong.has("Name or password is wrong")), (401, true));
    assert_eq!(stranger.sign_in("nobody", PASSWORD).await.status, 401);
    // Right: back to where they wanted to go, and only here.
    let csrf = stranger.get("/admin/login").await.field("csrf");
    let fields = |next| vec![("username", "ada"), ("password", PASSWORD), ("csrf", csrf.as_str()), ("next", next)];
    let page = stranger.post("/admin/login/", &fields("//evil.example/")).await;
    assert_eq!((page.status, page.location.as_deref()), (303, Some("/admin")));
    let mut ada = stranger;
    let home = ada.get("/admin/").await;
    assert_eq!((home.status, home.has("ada <small>operator</small>")), (200, true), "{}", home.text);
    let policy = home.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    // Left alone it ends after an hour; used all the time, after twelve.
    let session = ada.cookies.clone();
    world.clock.advance(TimeDelta::minutes(61));
    assert_eq!(ada.get("/admin").await.status, 303, "an hour without a look");
    assert_eq!(ada.sign_in("ada", PASSWORD).await.status, 303);
    for _ in 0..14 {
        world.clock.advance(TimeDelta::minutes(50));
        assert_eq!(ada.get("/admin").await.status, 200);
    }
    world.clock.advance(TimeDelta::minutes(21));
    assert_eq!(ada.get("/admin").await.status, 303, "twelve hours and a minute, used all the time");
    let mut other = Browser::new(&running);
    assert_eq!(other.sign_in("ada", PASSWORD).await.status, 303);
    // Signed out is out, also for who has kept the cookie.
    let page = ada.sign_in("ada", PASSWORD).await;
    assert_eq!(page.status, 303);
    let kept = ada.cookies.clone();
    assert_ne!(kept, session);
    let page = ada.get("/admin").await;
    assert_eq!(ada.submit(&page, "/admin/logout", &[]).await.location.as_deref(), Some("/admin/login"));
    ada.cookies = kept;
    assert_eq!(ada.get("/admin").await.status, 303);
    // Ten wrong ones close the name for a while, also for who has the right one; many at once are no way around.
    let csrf = other.get("/admin/login").await.field("csrf");
    let fields = [("username", "ada"), ("password", "wrong wrong wrong"), ("csrf", csrf.as_str())];
    let mut at_once: Vec<Browser<'_>> = (0..24).map(|_| other.copy()).collect();
    let tried = futures_util::future::join_all(at_once.iter_mut().map(|one| one.post("/admin/login", &fields))).await;
    let count = |status| tried.iter().filter(|page| page.status == status).count();
    assert!((1..=10).contains(&count(401)), "{} were looked at", count(401));
    assert_eq!(count(401) + count(429) + count(503), 24, "the others were not");
    while other.sign_in("ada", "wrong wrong wrong").await.status == 401 {}
    let closed = other.sign_in("ada", PASSWORD).await;
    assert_eq!((closed.status, closed.headers["retry-after"].to_str().unwrap()), (429, "900"));
    // A name that nobody has is closed in the same way, and a name that cannot be one is no error.
    for _ in 0..10 {
        assert_eq!(other.sign_in("nobody here", PASSWORD).await.status, 401);
    }
    assert_eq!(other.sign_in("nobody here", PASSWORD).await.status, 429);
    assert_eq!(other.sign_in("a\0b", PASSWORD).await.status, 401);
    world.clock.advance(TimeDelta::minutes(15));
    assert_eq!(other.sign_in("ada", PASSWORD).await.status, 303);
    running.stop().await;
}

async fn a_rehearsed_run_is_what_then_happens_and_more_is_not_done_unseen(engine: Engine) {
    let (world, running) = world(engine, &[]).await;
    let mut ada = Browser::signed_in(&running, "ada", Role::Operator).await;
    assert!(ada.get("/admin/renewals").await.has("Nothing is due."));
    let ended = instant("2027-03-13T05:00:00Z");
    world.database.execute(subscription("u1", "active", true, ended)).await;
    world.database.execute(subscription("u2", "canceled", false, ended)).await;
    let page = ada.get("/admin/renewals").await;
    assert!(page.has("/admin/accounts/u1") && page.has("bellwether renewals run --limit"));
    let rehearsed = ada.submit(&page, "/admin/renewals/rehearse", &[("limit", "10")]).await;
    assert!(rehearsed.has("marked past due") && rehearsed.has("expired") && rehearsed.has("Decide about these 2 now"));
    let states = "SELECT user_id || ' ' || status FROM subscriptions ORDER BY user_id";
    assert_eq!(world.database.query(states).await, ["u1 active", "u2 canceled"], "a rehearsal changes nothing");
    // Without a reason nothing is done; nor when another list is due than was shown, were it as long.
    let fields = |page: &Page, reason: &str| -> Vec<(&'static str, String)> {
        let hidden = ["limit", "at", "digest"].map(|name| (name, page.field(name)));
        hidden.into_iter().chain([("reason", reason.to_owned())]).collect()
    };
    let run = async |browser: &mut Browser<'_>, page: &Page, reason: &str| {
        let fields = fields(page, reason);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.submit(page, "/admin/renewals/run", &fields).await
    };
    let refused = run(&mut ada, &rehearsed, "").await;
    assert_eq!((refused.status, refused.has("reason_missing")), (400, true));
    world.database.execute("UPDATE subscriptions SET next_action_at = NULL WHERE user_id = 'u2'".to_owned()).await;
    world.database.execute(subscription("u3", "canceled", false, ended)).await;
    let refused = run(&mut ada, &rehearsed, "the night was missed").await;
    assert_eq!((refused.status, refused.has("not_what_was_shown")), (409, true));
    assert_eq!(world.database.query(states).await, ["u1 active", "u2 canceled", "u3 canceled"]);
    let rehearsed = ada.submit(&page, "/admin/renewals/rehearse", &[("limit", "10")]).await;
    // What comes due after the rehearsal waits for the next one; and a rehearsal is not for ever.
    world.database.execute(subscription("u4", "canceled", false, world.clock_now() + TimeDelta::minutes(1))).await;
    world.clock.advance(TimeDelta::minutes(2));
    let done = run(&mut ada, &rehearsed, "the night was missed").await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(
        world.database.query(states).await,
        ["u1 past_due", "u2 canceled", "u3 expired", "u4 canceled"],
        "exactly what was shown"
    );
    let twice = run(&mut ada, &rehearsed, "the button was pressed twice").await;
    assert_eq!((twice.status, twice.has("not_what_was_shown")), (409, true));
    let late = ada.submit(&page, "/admin/renewals/rehearse", &[("limit", "10")]).await;
    assert!(late.has("Decide about these 1 now"));
    world.clock.advance(TimeDelta::minutes(16));
    assert_eq!(run(&mut ada, &late, "I had lunch").await.status, 409);
    // The ledger has the run, the page the decisions, the audit who and why.
    let run_row = world.ledger(&running, "renewals").await.pop().unwrap();
    assert_eq!(done.location.unwrap(), format!("/admin/runs/{}", run_row.id));
    assert!(ada.get(&format!("/admin/runs/{}", run_row.id)).await.has("&#34;past_due&#34;: 1"));
    assert!(ada.get("/admin/renewals").await.has("active → past_due"));
    let decided = running.daemon.store.decisions(10).await.unwrap();
    let told: Vec<_> = decided.iter().map(|one| (one.user_id.as_str(), one.status_after.as_str())).collect();
    assert_eq!(told, [("u3", "expired"), ("u1", "past_due")], "the newest first");
    assert!(decided.iter().all(|one| one.run_id == run_row.id.to_string() && one.period_end == ended));
    let acts = running.daemon.store.acts(Some("ada"), 10).await.unwrap();
    let told: Vec<_> = acts.iter().map(|act| (act.act.as_str(), act.reason.as_str())).collect();
    let reasons = ["I had lunch", "the button was pressed twice", "the night was missed", "the night was missed"];
    assert_eq!(told, reasons.map(|reason| ("renewals run", reason)));
    assert!(acts[2].outcome.as_deref().unwrap().contains(&run_row.id.to_string()));
    assert!(acts[3].outcome.as_deref().unwrap().starts_with("refused: what is due is not what was shown"));
    assert!(ada.get("/admin/audit").await.has("the night was missed"));
    running.stop().await;
}

async fn reminders_are_shown_with_their_words_and_then_written(engine: Engine) {
    let (world, running) = world(engine, &[]).await;
    let mut ada = Browser::signed_in(&running, "ada", Role::Operator).await;
    world.database.execute(subscription("u1", "past_due", true, instant("2027-03-13T05:00:00Z"))).await;
    let page = ada.get("/admin/letters").await;
    assert!(page.has("There is none.") && page.has("/admin/letters/words/dunning_0"));
    let shown = ada.submit(&page, "/admin/letters/rehearse", &[]).await;
    assert!(shown.has("We could not renew the gold plan, which was paid until 13 March 2027"), "{}", shown.text);
    assert!(running.daemon.store.letters(None, 10).await.unwrap().is_empty(), "nothing is written by looking");
    let fields = [("seen", &*shown.field("seen")), ("reason", "it was asked for")];
    assert!(ada.submit(&shown, "/admin/letters/remind", &fields).await.has("1 reminders are written"));
    let written = running.daemon.store.letters(None, 10).await.unwrap();
    assert_eq!((written.len(), written[0].step.as_str()), (1, "dunning_0"));
    // The same again writes nothing.
    assert!(ada.submit(&shown, "/admin/letters/remind", &fields).await.has("0 reminders are written"));
    // One letter, as text, and as HTML in a frame that may nothing.
    let id = &written[0].id;
    let page = ada.get(&format!("/admin/letters/{id}")).await;
    assert!(page.has("Your payment did not go through") && page.has(&format!("src=\"/admin/letters/{id}/html\"")));
    for path in [format!("/admin/letters/{id}/html"), "/admin/letters/words/welcome/html".to_owned()] {
        let framed = ada.get(&path).await;
        let policy = framed.headers["content-security-policy"].to_str().unwrap();
        assert!(framed.status == 200 && policy.starts_with("sandbox; default-src 'none'"), "{path}: {policy}");
    }
    // A dead one waits again on an operator's word; one that is sent does not.
    for (letter_id, state) in [("dead-1", "dead"), ("sent-1", "sent")] {
        world.database.execute(letter(letter_id, "u1", letter_id, "x@example.com", world.clock_now())).await;
        world
            .database
            .execute(format!("UPDATE outbox SET state = '{state}', next_attempt_at = NULL WHERE id = '{letter_id}'"))
            .await;
    }
    let fields = [("reason", "the address is right now")];
    assert_eq!(ada.submit(&page, "/admin/letters/dead-1/retry", &fields).await.status, 303);
    assert_eq!(running.daemon.store.letter("dead-1").await.unwrap().unwrap().state, LetterState::Waiting);
    let refused = ada.submit(&page, "/admin/letters/sent-1/retry", &fields).await;
    assert_eq!((refused.status, refused.has("it is not sent again")), (409, true));
    assert_eq!(ada.get("/admin/letters/nothing").await.status, 404);
    running.stop().await;
}

async fn a_webhook_is_looked_at_and_applied_again(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    running.stats().await;
    let mut ada = Browser::signed_in(&running, "ada", Role::Operator).await;
    let at: DateTime<Utc> = world.clock_now();
    let resource = json!({
        "id": "CAP-1", "status": "COMPLETED", "amount": {"value": "1,50", "currency_code": "USD"},
        "custom_id": "gold_monthly_1811851140_u1", "create_time": at.to_rfc3339(),
    });
    let body = event("WH-1", "PAYMENT.CAPTURE.COMPLETED", at, resource).to_string();
    assert_eq!(paypal.sign(body.as_bytes()).post(&running.http, running.daemon.api).await.0, 200);
    let dead = async || running.daemon.store.event("WH-1").await.unwrap().unwrap().row;
    eventually("it is given up", async || dead().await.status.name() == "dead").await;
    let id = dead().await.id;
    let list = ada.get("/admin/webhooks?status=dead").await;
    assert!(list.has(&id.to_string()) && list.has("Apply these 1 again"), "{}", list.text);
    let page = ada.get(&format!("/admin/webhooks/{id}")).await;
    assert!(page.has("WH-1") && page.has("paypal-transmission-id") && page.has("1,50"), "{}", page.text);
    let again =
        ada.submit(&page, &format!("/admin/webhooks/{id}/replay"), &[("reason", "the parser was mended")]).await;
    assert_eq!((again.status, again.location.unwrap()), (303, format!("/admin/webhooks/{id}")));
    let acts = running.daemon.store.acts(None, 10).await.unwrap();
    assert_eq!((acts[0].act.as_str(), acts[0].target.clone()), ("webhooks replay", id.to_string()));
    eventually("it is given up again", async || dead().await.status.name() == "dead").await;
    assert_eq!(acts[0].outcome.as_deref(), Some("1 events wait for their turn again"));
    let fields = [("ids", &*list.field("ids")), ("reason", "all of them")];
    assert_eq!(ada.submit(&list, "/admin/webhooks/replay", &fields).await.status, 303);
    let acts = running.daemon.store.acts(None, 1).await.unwrap();
    assert_eq!((acts[0].reason.as_str(), acts[0].target.clone()), ("all of them", id.to_string()));
    assert_eq!(acts[0].outcome.as_deref(), Some("1 events wait for their turn again"));
    assert_eq!(ada.get("/admin/webhooks?status=sideways").await.status, 400);
    running.stop().await;
}

async fn who_looks_cannot_act_and_a_foreign_form_does_nothing(engine: Engine) {
    let (world, running) = world(engine, &[]).await;
    let mut eve = Browser::signed_in(&running, "eve", Role::Viewer).await;
    let mut bob = Browser::signed_in(&running, "bob", Role::Operator).await;
    let mut ada = Browser::signed_in(&running, "ada", Role::Admin).await;
    world.database.execute(subscription("u1", "active", true, instant("2027-03-13T05:00:00Z"))).await;
    let run = world.ledger(&running, "ingest").await.pop().unwrap().id;
    let page = eve.get("/admin/renewals").await;
    assert!(page.has("A viewer looks; an operator acts.") && page.has("<button disabled>"));
    for path in [format!("/admin/runs/{run}/retry"), "/admin/renewals/run".into(), "/admin/letters/remind".into()] {
        let refused = eve.submit(&page, &path, &[("reason", "I want to"), ("seen", "9")]).await;
        assert_eq!((refused.status, refused.has("forbidden")), (403, true), "{path}");
        // The form of another session is not one of this.
        let foreign = bob.submit(&page, &path, &[("reason", "I want to"), ("seen", "9")]).await;
        assert_eq!((foreign.status, foreign.has("csrf")), (403, true), "{path}");
    }
    assert!(running.daemon.store.acts(None, 10).await.unwrap().is_empty(), "nothing was done");
    assert_eq!(world.database.query("SELECT status FROM subscriptions").await, ["active"]);
    // Who may is for admins.
    assert_eq!(bob.get("/admin/operators").await.status, 403);
    let page = ada.get("/admin/operators").await;
    assert!(page.has("End the sessions of eve"));
    let fields = [("reason", "she has left")];
    assert_eq!(ada.submit(&page, "/admin/operators/eve/end-sessions", &fields).await.status, 303);
    assert_eq!(eve.get("/admin").await.status, 303, "out, at once");
    let bobs = bob.get("/admin").await;
    assert_eq!(bob.submit(&bobs, "/admin/operators/ada/end-sessions", &fields).await.status, 403);
    // What a run is told, it does.
    let bobs = bob.get(&format!("/admin/runs/{run}")).await;
    let again = bob.submit(&bobs, &format!("/admin/runs/{run}/retry"), &[("reason", "look again")]).await;
    assert_eq!(
        (again.status, again.has("(conflict)")),
        (409, true),
        "it went well, so it is not repeated: {}",
        again.text
    );
    running.stop().await;
}

async fn every_page_shows_and_escapes_what_is_in_it(engine: Engine) {
    let (world, running) = world(engine, &[]).await;
    let mut ada = Browser::signed_in(&running, "ada", Role::Admin).await;
    let store = &running.daemon.store;
    let (hostile, now) = ("<script>alert(1)</script>", world.clock_now());
    store.referral_code(hostile, Some("x@example.com"), now).await.unwrap();
    store.invite(hostile, "friend@example.com", 10, now).await.unwrap();
    world.database.execute(subscription("u1", "active", true, instant("2027-03-13T05:00:00Z"))).await;
    let run = world.ledger(&running, "ingest").await.pop().unwrap().id;
    let home = ada.get("/admin").await;
    let pages = home.text.split("<li><a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let mut pages: Vec<String> = pages.collect();
    assert_eq!(pages.len(), 12, "{pages:?}");
    let more = [
        "/admin/calendar?month=2026-11",
        "/admin/accounts/u1",
        "/admin/referrals?account=u1",
        "/admin/letters/words/expired",
    ];
    pages.extend(more.map(str::to_owned));
    pages.push(format!("/admin/runs/{run}"));
    for path in &pages {
        let page = ada.get(path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(page.has("</html>") && !page.has("<script") && !page.has("style=\""), "{path}");
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        well_formed(path, &page.text);
    }
    assert!(ada.get("/admin/calendar?month=2026-11").await.has("Thanksgiving"));
    let only_came = ada.get("/admin/accounts/%3Cscript%3Ealert(1)%3C%2Fscript%3E").await;
    assert!(only_came.status == 200 && only_came.has("has paid nothing"), "{}", only_came.text);
    assert!(ada.get("/admin/referrals").await.has("&#60;script&#62;alert(1)&#60;/script&#62;"));
    let style = home.text.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let style = ada.get(style).await;
    assert_eq!((style.status, style.headers["content-type"].to_str().unwrap()), (200, "text/css; charset=utf-8"));
    assert!(style.headers["cache-control"].to_str().unwrap().contains("immutable"));
    for (path, status) in [
        ("/admin/assets/console-0.css", 404),
        ("/admin/runs/nothing", 404),
        ("/admin/accounts/nobody", 404),
        ("/admin/letters/%00", 404),
        ("/admin/accounts?q=%00", 200),
        ("/admin/calendar?month=2026-13", 400),
        ("/admin/calendar?month=9999-01", 400),
        ("/admin/logout", 405),
        ("/admin/nothing", 404),
    ] {
        assert_eq!(ada.get(path).await.status, status, "{path}");
    }
    running.stop().await;
}

/// Every element is closed, in order.
fn well_formed(path: &str, html: &str) {
    const VOID: [&str; 4] = ["meta", "link", "input", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1) {
        let name = tag.split(['>', ' ', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{path}"),
            None if VOID.contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{path}: {open:?}");
}
