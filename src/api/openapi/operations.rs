//! Every call, one entry each.

use crate::market::SORTED_NAMES;

/// A call.
pub struct Operation {
    pub method: &'static str,
    /// With `{name}` for a part that varies.
    pub path: &'static str,
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    pub parameters: &'static [Parameter],
    /// The schema of what is sent.
    pub body: Option<&'static str>,
    pub answers: &'static [Answer],
    pub access: Access,
}

/// A parameter of the query, or a header.
pub struct Parameter {
    pub name: &'static str,
    pub form: Form,
    pub about: &'static str,
    pub required: bool,
}

/// How a parameter is written.
#[derive(Clone, Copy)]
pub enum Form {
    Text,
    Whole,
    Number,
    Flag,
    Date,
    Instant,
    OneOf(&'static [&'static str]),
    /// A header, not of the query.
    Header,
}

/// An answer that is no error.
pub struct Answer {
    pub status: u16,
    pub about: &'static str,
    /// Media types, each with its schema.
    pub media: &'static [(&'static str, &'static str)],
}

/// Who may ask.
#[derive(Clone, Copy)]
pub enum Access {
    Everybody,
    Operator,
    Cron,
    /// The site's own server.
    Site,
}

/// What the calls are about.
pub const TAGS: &[(&str, &str)] = &[
    ("market", "Quotes and statistics, from memory."),
    ("site", "The older paths that the site calls; parameters they do not know are ignored."),
    ("calendar", "When a venue trades, and why not."),
    ("schedule", "Jobs and the ledger of their runs, for operators."),
    ("billing", "What the site's server and its cron call."),
    ("webhooks", "What PayPal tells, and what became of it."),
    ("mail", "Letters to account holders, and what became of them."),
    ("console", "Who may use the operators' pages at /admin."),
    ("health", "Whether the daemon lives, has started, is ready."),
];

const fn optional(name: &'static str, form: Form, about: &'static str) -> Parameter {
    Parameter { name, form, about, required: false }
}

const fn needed(name: &'static str, form: Form, about: &'static str) -> Parameter {
    Parameter { name, form, about, required: true }
}

/// A read that a cache may keep.
macro_rules! cached {
    ($schema:literal) => {
        &[
            Answer { status: 200, about: "As asked.", media: &[("application/json", $schema)] },
            Answer { status: 304, about: "The client has it already.", media: &[] },
        ]
    };
}

macro_rules! plain {
    ($schema:literal) => {
        &[Answer { status: 200, about: "As asked.", media: &[("application/json", $schema)] }]
    };
}

/// A read for everybody.
const fn read(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
    answers: &'static [Answer],
) -> Operation {
    Operation { method: "get", path, id, tag, summary, parameters, body: None, answers, access: Access::Everybody }
}

/// A read for operators.
const fn look(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
) -> Operation {
    Operation { access: Access::Operator, ..read(path, id, "schedule", summary, parameters, plain!("Anything")) }
}

/// A word of operators.
const fn operate(path: &'static str, id: &'static str, summary: &'static str, body: &'static str) -> Operation {
    Operation { method: "post", body: Some(body), ..look(path, id, summary, &[]) }
}

const USER: &[Parameter] = &[needed("user_id", Form::Text, "The account")];

/// A question of the site's server about an account.
const fn ask_site(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { access: Access::Site, ..read(path, id, "billing", summary, USER, plain!("Anything")) }
}

/// A word of the site's server.
const fn tell_site(path: &'static str, id: &'static str, summary: &'static str, body: &'static str) -> Operation {
    Operation { method: "post", body: Some(body), parameters: &[], ..ask_site(path, id, summary) }
}

/// A delivery of somebody who signs it.
const fn deliver(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { method: "post", body: Some("Anything"), ..read(path, id, "webhooks", summary, &[], plain!("Anything")) }
}

/// A look at the inbox, for operators.
const fn inbox(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
) -> Operation {
    Operation { tag: "webhooks", ..look(path, id, summary, parameters) }
}

/// A look at the outbox, for operators.
const fn mail(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
) -> Operation {
    Operation { tag: "mail", ..look(path, id, summary, parameters) }
}

/// A look at who may use the console, for operators.
const fn people(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
) -> Operation {
    Operation { tag: "console", ..look(path, id, summary, parameters) }
}

const RANKING: &[Parameter] =
    &[optional("limit", Form::Whole, "Rows: the nearest of 1 to 100, 10 where there is no number to read")];
const SEARCH: &[Parameter] = &[needed("q", Form::Text, "What the symbol or the name holds")];
const AS_OF: Parameter = optional("as_of", Form::Instant, "Answers with what was known then");
const DRY_RUN: Parameter = optional("dry_run", Form::Flag, "Says what would change, and changes nothing");
const STOCKS: &[Parameter] = &[
    optional("limit", Form::Whole, "Rows: at most 100, 50 where there is no number to read"),
    optional("offset", Form::Whole, "Rows to leave out"),
    optional("search", Form::Text, "What the symbol or the name holds"),
    optional("exchange", Form::Text, "NYSE or NASDAQ"),
    optional("sector", Form::Text, "Branch of industry"),
    optional(
        "category",
        Form::Text,
        "gainers, losers, high_volume, large_cap and small_cap (no stock is known to be), or a sector",
    ),
    optional("sort_by", Form::OneOf(&SORTED_NAMES), "What to sort by; the symbol if not given"),
    optional("sort_order", Form::OneOf(&["asc", "desc"]), "Which way; desc where sort_by is given"),
];
const QUOTES: &[Parameter] = &[
    optional(
        "symbols",
        Form::Text,
        "Up to 500 symbols, comma-separated; those that are not known are listed in the answer",
    ),
    optional(
        "fields",
        Form::Text,
        "The fields of each row, comma-separated, in this order; the first 18 of Quote, which a quote says itself, if not given",
    ),
    optional("search", Form::Text, "What the symbol or the name holds"),
    optional("exchange", Form::Text, "Where it is listed"),
    optional("sector", Form::Text, "Branch of industry"),
    optional("sort", Form::Text, "Up to three columns, comma-separated, `-` for the largest first; then the symbol"),
    optional("limit", Form::Whole, "Rows, 1 to 500; 100 if not given, 500 with `symbols`"),
    optional("cursor", Form::Text, "`next_cursor` of the page before"),
];

/// All of them, in the order of the route map.
#[rustfmt::skip]
pub const OPERATIONS: &[Operation] = &[
    read("/api/v1/stats", "stats", "market", "The whole market at a glance", &[], cached!("Stats")),
    read("/api/v1/quotes", "quotes", "market", "A page of quotes, or those of the symbols that are named", QUOTES, &[
        Answer { status: 200, about: "As asked.", media: &[("application/json", "Quotes"), ("text/csv", ""), ("application/x-ndjson", "Quote")] },
        Answer { status: 304, about: "The client has it already.", media: &[] },
    ]),
    read("/api/v1/quotes/{symbol}", "quote", "market", "One quote", &[optional("fields", Form::Text, "As in the list; all if not given")], cached!("OneQuote")),
    read("/api/v1/stream", "stream", "market", "Server-sent events, one for each published state: `stats` with the id of the state and what /api/v1/stats answers; Last-Event-ID resumes", &[], &[
        Answer { status: 200, about: "Events until the client or the daemon ends.", media: &[("text/event-stream", "")] },
    ]),
    read("/api/market-stats", "marketStats", "site", "The whole market at a glance", &[], cached!("MarketStats")),
    read("/api/platform-stats", "platformStats", "site", "The same", &[], cached!("MarketStats")),
    read("/api/stocks", "stocks", "site", "A page of stocks", STOCKS, cached!("Stocks")),
    read("/api/stocks/search", "searchStocks", "site", "Stocks whose symbol or name holds a text", SEARCH, cached!("Search")),
    read("/api/search", "search", "site", "The same", SEARCH, cached!("Search")),
    read("/api/stocks/top-gainers", "topGainers", "site", "The largest rises", RANKING, cached!("TopGainers")),
    read("/api/stocks/top-losers", "topLosers", "site", "The largest falls", RANKING, cached!("TopLosers")),
    read("/api/stocks/most-active", "mostActive", "site", "The largest volumes", RANKING, cached!("MostActive")),
    read("/api/stocks/{ticker}", "stock", "site", "Everything known of one stock", &[], cached!("StockDetail")),
    read("/api/stocks/{ticker}/quote", "stockQuote", "site", "The same", &[], cached!("StockDetail")),
    read("/api/stock/{ticker}", "stockByOlderPath", "site", "The same", &[], cached!("StockDetail")),
    read("/api/realtime/{ticker}", "realtime", "site", "The last price of one stock and the state of its market", &[], cached!("Realtime")),
    read("/api/trending", "trending", "site", "What is being traded", &[], cached!("Trending")),
    read("/api/statistics", "statistics", "site", "Counts by direction and sector", &[], cached!("Statistics")),
    read("/api/stats/total-tickers", "totalTickers", "site", "How many symbols have a quote", &[], cached!("TotalTickers")),
    read("/api/stats/gainers-losers", "gainersLosers", "site", "Counts by direction", &[], cached!("GainersLosers")),
    read("/api/market-hours", "marketHours", "calendar", "The phase, the session, what comes next, and why, at the beginning of the minute or since the last transition", &[], cached!("Anything")),
    Operation {
        method: "post", path: "/api/billing/process-renewals", id: "processRenewals", tag: "billing",
        summary: "Decides about due subscriptions", parameters: &[], body: Some("ProcessRenewals"),
        answers: plain!("Anything"), access: Access::Cron,
    },
    Operation {
        method: "post", path: "/api/billing/process-dunning", id: "processDunning", tag: "billing",
        summary: "Reminds of payments that are late", parameters: &[], body: Some("ProcessRenewals"),
        answers: plain!("Anything"), access: Access::Cron,
    },
    Operation {
        answers: &[
            Answer { status: 200, about: "The account was known.", media: &[("application/json", "Anything")] },
            Answer { status: 201, about: "The account was made.", media: &[("application/json", "Anything")] },
        ],
        ..tell_site("/api/accounts", "tellAddress", "Where the holder of an account is written to; the account is made where there is none", "Address")
    },
    ask_site("/api/billing/current-plan", "currentPlan", "What the account may use now"),
    tell_site("/api/billing/cancel", "cancelPlan", "The account holder wants no next period; what is paid for stays", "UserId"),
    tell_site("/api/billing/auto-renew", "autoRenew", "Whether the subscription goes on; `false` is the same as cancel", "AutoRenew"),
    Operation {
        answers: &[
            Answer { status: 200, about: "It is noted; nothing is given before it is paid for.", media: &[("application/json", "Anything")] },
            Answer { status: 202, about: "The holder must approve the change at PayPal.", media: &[("application/json", "Anything")] },
        ],
        ..tell_site("/api/billing/change-plan", "changePlan", "What the account wants to have from the next period on; free cancels", "ChangePlan")
    },
    ask_site("/api/referrals/link", "referralLink", "The account's own code, and the page that it leads to"),
    ask_site("/api/referrals/summary", "referralSummary", "What came of the account's invitations"),
    tell_site("/api/referrals/invite", "invite", "Invites somebody", "Invite"),
    tell_site("/api/referrals/accept", "acceptInvite", "Somebody who was invited, or came by a link, has become an account", "Accept"),
    Operation {
        parameters: &[optional("Idempotency-Key", Form::Header, "The same call under the same key has the same answer, for 7 days; another one under it is 422")],
        ..tell_site("/api/referrals/webhook/mark-paid", "markReferralPaid", "Somebody who was invited has paid; also as an event under a Standard Webhooks signature", "MarkPaid")
    },
    deliver("/paypal/webhook", "paypalWebhook", "An event of PayPal, under its signature; 200 once it is durable"),
    deliver("/api/webhooks/paypal", "paypalWebhookByOtherPath", "The same"),
    deliver("/api/billing/paypal-webhook", "paypalWebhookByOlderPath", "The same"),
    deliver("/api/webhooks/{source}", "siteWebhook", "An event of the site, under a Standard Webhooks signature"),
    read("/api/v1/calendar", "venues", "calendar", "Every venue there is a calendar of", &[], cached!("Anything")),
    read("/api/v1/calendar/{mic}", "venue", "calendar", "One venue", &[], cached!("Anything")),
    read("/api/v1/calendar/{mic}/at", "calendarAt", "calendar", "Everything about an instant", &[
        optional("at", Form::Instant, "Now if not given"), optional("t", Form::Instant, "The same as `at`"),
        optional("instant", Form::Instant, "The same as `at`"), AS_OF,
    ], cached!("Anything")),
    read("/api/v1/calendar/{mic}/next", "calendarNext", "calendar", "The next transition, opening and close",
        &[optional("after", Form::Instant, "Now if not given"), AS_OF], cached!("Anything")),
    read("/api/v1/calendar/{mic}/why", "calendarWhy", "calendar", "Why a date is as it is",
        &[optional("date", Form::Date, "Today if not given"), AS_OF], cached!("Anything")),
    read("/api/v1/calendar/{mic}/sessions", "sessions", "calendar", "The sessions of a span", &[
        needed("from", Form::Date, "First date"), needed("to", Form::Date, "Last date"),
        optional("limit", Form::Whole, "Sessions, 1 to 366"), AS_OF,
    ], cached!("Anything")),
    read("/api/v1/calendar/{mic}/sessions.ics", "sessionsFeed", "calendar", "An iCalendar of the sessions around now", &[], &[
        Answer { status: 200, about: "To subscribe to.", media: &[("text/calendar", "")] },
        Answer { status: 304, about: "The client has it already.", media: &[] },
    ]),
    read("/api/v1/calendar/{mic}/exceptions", "exceptions", "calendar", "Every exception of a venue", &[
        optional("from", Form::Date, "First date"), optional("to", Form::Date, "Last date"),
        optional("origin", Form::Text, "built-in, file or api"),
    ], plain!("Anything")),
    Operation {
        method: "post", parameters: &[DRY_RUN], body: Some("Anything"), access: Access::Operator, id: "addException",
        answers: &[
            Answer { status: 200, about: "It was in force already, or would change this much.", media: &[("application/json", "Anything")] },
            Answer { status: 201, about: "It is in force.", media: &[("application/json", "Anything")] },
        ],
        ..read("/api/v1/calendar/{mic}/exceptions", "", "calendar", "Adds an exception", &[], &[])
    },
    Operation {
        method: "delete", access: Access::Operator, id: "withdrawException",
        parameters: &[
            optional("id", Form::Text, "Which"), optional("date", Form::Date, "Or of which date"),
            optional("kind", Form::Text, "And of which kind"), DRY_RUN,
        ],
        ..read("/api/v1/calendar/{mic}/exceptions", "", "calendar", "Withdraws an exception that came over HTTP", &[], plain!("Anything"))
    },
    Operation {
        method: "delete", access: Access::Operator, parameters: &[DRY_RUN], id: "withdrawExceptionById",
        ..read("/api/v1/calendar/{mic}/exceptions/{id}", "", "calendar", "Withdraws an exception that came over HTTP", &[], plain!("Anything"))
    },
    read("/api/v1/ingest/status", "ingestStatus", "market", "How ingestion does: the last cycle, the one under way, the source, the universe", &[], plain!("Anything")),
    read("/api/v1/ingest/why", "ingestWhy", "market", "Why the data is as it is: one sentence and its evidence", &[], plain!("Anything")),
    operate("/api/v1/ingest/backfill", "backfillBars", "Takes the next unit of daily bars of the past from the provider", "BackfillBars"),
    read("/api/v1/bars/{symbol}", "bars", "market", "Points, quarter-hour bars or daily bars of one symbol", &[
        optional("interval", Form::OneOf(&["1d", "15m", "point"]), "What a bar spans; 1d if not given"),
        optional("from", Form::Text, "A session's date, or an instant"), optional("to", Form::Date, "The last session; today if not given"),
        optional("limit", Form::Whole, "How many, 1 to 1000"), optional("adjusted", Form::Flag, "Splits that came later are applied; true if not given"),
    ], &[
        Answer { status: 200, about: "As asked.", media: &[("application/json", "Bars"), ("text/csv", ""), ("application/x-ndjson", "Bar")] },
        Answer { status: 304, about: "The client has it already.", media: &[] },
    ]),
    look("/api/v1/jobs", "jobs", "Every job: trigger, policies, pause, last success, next slot", &[]),
    look("/api/v1/jobs/next", "nextFires", "The next fires", &[
        optional("limit", Form::Whole, "How many"), optional("after", Form::Instant, "Now if not given"),
        optional("job", Form::Text, "Of this job only"),
    ]),
    look("/api/v1/jobs/verify", "verifySlots", "The slots that have no row in the ledger",
        &[needed("from", Form::Instant, "From here"), needed("to", Form::Instant, "To here, itself not included")]),
    operate("/api/v1/jobs/{name}/pause", "pauseJob", "Leaves the slots of a job out", "Pause"),
    operate("/api/v1/jobs/{name}/resume", "resumeJob", "Ends a pause", "DryRun"),
    operate("/api/v1/jobs/{name}/run", "runJob", "Runs a job beside its schedule", "RunJob"),
    operate("/api/v1/jobs/{name}/backfill", "backfillJob", "Runs slots of the past", "Backfill"),
    look("/api/v1/runs", "runs", "Rows of the ledger, newest slot first", &[
        optional("job", Form::Text, "Of this job only"), optional("state", Form::Text, "In this state only"),
        optional("from", Form::Instant, "Slots from here"), optional("to", Form::Instant, "Slots to here"),
        optional("limit", Form::Whole, "How many"),
    ]),
    look("/api/v1/runs/{id}", "run", "One row and its attempts", &[]),
    operate("/api/v1/runs/{id}/retry", "retryRun", "Tries a run again", "Retry"),
    operate("/api/v1/runs/{id}/cancel", "cancelRun", "Ends a run", "DryRun"),
    inbox("/api/v1/webhooks", "webhooks", "Events of the inbox, newest first", &[
        optional("status", Form::Text, "In this state only"), optional("source", Form::Text, "Of this source only"),
        optional("event_id", Form::Text, "Under this id of the sender only"), optional("since", Form::Instant, "From here"),
        optional("limit", Form::Whole, "Rows, 1 to 1,000; 100 if not given"),
    ]),
    Operation {
        method: "post", body: Some("Anything"),
        ..inbox("/api/v1/webhooks/replay", "replayWebhooks", "Applies events again: `id`, or `status` and `since` (the newest 10,000; `more` where there are others); `dry_run`", &[])
    },
    inbox("/api/v1/webhooks/{id}", "webhook", "One event, with what was sent and what it did", &[]),
    mail("/api/v1/outbox", "letters", "Letters, oldest first, and what waits", &[
        optional("state", Form::OneOf(&["waiting", "sending", "failed", "sent", "dead", "dropped"]), "In this state only"),
        optional("limit", Form::Whole, "Rows, 1 to 1,000; 100 if not given"),
    ]),
    Operation {
        method: "post", body: Some("Anything"),
        ..mail("/api/v1/outbox/retry", "retryLetters", "Lets letters wait again: `id`, or `state` and `since`; `dry_run`", &[])
    },
    mail("/api/v1/outbox/{id}", "letter", "One letter, with its words", &[]),
    people("/api/v1/operators", "operators", "Who may sign in to the console", &[]),
    Operation {
        method: "post", body: Some("Anything"),
        ..people("/api/v1/operators", "createOperator", "Lets somebody sign in: `name`, `role`, `password_hash`; `dry_run`", &[])
    },
    Operation {
        method: "post", body: Some("Anything"),
        ..people("/api/v1/operators/{name}/password", "resetPassword", "Gives somebody another password: `password_hash`; `dry_run`", &[])
    },
    Operation {
        method: "post", body: Some("Anything"),
        ..people("/api/v1/operators/{name}/remove", "removeOperator", "Lets somebody sign in no longer; `dry_run`", &[])
    },
    read("/livez", "livez", "health", "The process answers", &[], plain!("Health")),
    read("/live", "live", "health", "The same", &[], plain!("Health")),
    read("/readyz", "readyz", "health", "Requests can be sent here", &[], plain!("Health")),
    read("/ready", "ready", "health", "The same", &[], plain!("Health")),
    read("/api/health", "health", "health", "The same", &[], plain!("Health")),
    read("/api/health/detailed", "healthDetailed", "health", "Every part, well or not", &[], plain!("Health")),
    read("/startupz", "startupz", "health", "The start is over", &[], plain!("Health")),
];
