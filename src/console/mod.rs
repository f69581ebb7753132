//! The operators' console: pages that a browser shows without a script, for people who have signed in.
//!
//! Every page is made of blocks (`page.rs`), every request is looked at first by `visit.rs` (who is it, may they, is the form
//! ours), and whatever changes something is written into `operator_acts` before and after (`act.rs`). What is shown and done is
//! what the command line and the API show and do.

mod act;
mod assets;
mod failures;
mod page;
mod pages;
mod sign_in;
mod visit;

use std::sync::{Arc, Mutex};

use poem::endpoint::BoxEndpoint;
use poem::{EndpointExt, Response, get, post};
use tokio::sync::Semaphore;

use crate::api::{App, Kind, Line};
use crate::store::SESSIONS;
use failures::Failures;
use pages::{accounts, audit, calendar, health, ingest, letters, now, operators, referrals, renewals, runs, webhooks};
use visit::Guarded;
pub use visit::Visit;

/// Passwords that wait until others have been looked at; the next is told to come again.
const MOST_WAITING: usize = 8;

/// What the pages work with.
#[derive(Debug)]
pub struct Console {
    app: Arc<App>,
    /// Whether browsers are to send the cookie over TLS only.
    secure: bool,
    /// One password at a time is looked at.
    looking: Arc<Semaphore>,
    /// Those that wait for that.
    waiting: Semaphore,
    failures: Mutex<Failures>,
}

impl Console {
    /// The console of this daemon; `secure`: it is reached over TLS.
    pub fn new(app: Arc<App>, secure: bool) -> Arc<Self> {
        // Where the system gives no random numbers nobody can sign in, and nothing is to be kept from whom.
        let failures = Mutex::new(Failures::new(sign_in::random().unwrap_or_default()));
        let (looking, waiting) = (Arc::new(Semaphore::new(1)), Semaphore::new(MOST_WAITING));
        Arc::new(Self { app, secure, looking, waiting, failures })
    }
}

/// Every page, and what answers there.
#[rustfmt::skip]
pub fn routes(console: &Arc<Console>) -> Vec<Line> {
    const LOOK: Kind = Kind::Page("GET, HEAD");
    const DO: Kind = Kind::Page("POST");
    const BOTH: Kind = Kind::Page("GET, HEAD, POST");
    let open = |endpoint: poem::RouteMethod| endpoint.data(Arc::clone(console)).map_to_response().boxed();
    let guarded = |endpoint: poem::RouteMethod| -> BoxEndpoint<'static, Response> {
        Guarded { console: Arc::clone(console), inner: endpoint.map_to_response() }.boxed()
    };
    vec![
        ("/admin/login", BOTH, open(get(sign_in::form).post(sign_in::enter))),
        ("/admin/assets/:name", LOOK, open(get(assets::style))),
        ("/admin/logout", DO, guarded(post(sign_in::leave))),
        ("/admin", LOOK, guarded(get(now::show))),
        ("/admin/calendar", LOOK, guarded(get(calendar::show))),
        ("/admin/runs", LOOK, guarded(get(runs::list))),
        ("/admin/runs/:id", LOOK, guarded(get(runs::show))),
        ("/admin/runs/:id/retry", DO, guarded(post(runs::retry))),
        ("/admin/runs/:id/cancel", DO, guarded(post(runs::cancel))),
        ("/admin/ingest", LOOK, guarded(get(ingest::show))),
        ("/admin/renewals", LOOK, guarded(get(renewals::show))),
        ("/admin/renewals/rehearse", DO, guarded(post(renewals::rehearse))),
        ("/admin/renewals/run", DO, guarded(post(renewals::run))),
        ("/admin/letters", LOOK, guarded(get(letters::list))),
        ("/admin/letters/rehearse", DO, guarded(post(letters::rehearse))),
        ("/admin/letters/remind", DO, guarded(post(letters::remind))),
        ("/admin/letters/words/:step", LOOK, guarded(get(letters::words))),
        ("/admin/letters/words/:step/html", LOOK, guarded(get(letters::words_html))),
        ("/admin/letters/:id", LOOK, guarded(get(letters::show))),
        ("/admin/letters/:id/html", LOOK, guarded(get(letters::html))),
        ("/admin/letters/:id/retry", DO, guarded(post(letters::retry_one))),
        ("/admin/webhooks", LOOK, guarded(get(webhooks::list))),
        ("/admin/webhooks/replay", DO, guarded(post(webhooks::replay_all))),
        ("/admin/webhooks/:id", LOOK, guarded(get(webhooks::show))),
        ("/admin/webhooks/:id/replay", DO, guarded(post(webhooks::replay_one))),
        ("/admin/accounts", LOOK, guarded(get(accounts::find))),
        ("/admin/accounts/:account", LOOK, guarded(get(accounts::show))),
        ("/admin/referrals", LOOK, guarded(get(referrals::show))),
        ("/admin/audit", LOOK, guarded(get(audit::show))),
        ("/admin/health", LOOK, guarded(get(health::show))),
        ("/admin/operators", LOOK, guarded(get(operators::show))),
        ("/admin/operators/:name/end-sessions", DO, guarded(post(operators::end_sessions))),
    ]
}
