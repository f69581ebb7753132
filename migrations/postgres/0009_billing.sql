-- Accounts, by the name the site has for them.
CREATE TABLE accounts (
    user_id        TEXT NOT NULL PRIMARY KEY,
    email          TEXT,
    email_key      TEXT,
    referral_code  TEXT NOT NULL UNIQUE,
    origin         TEXT NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL
);

CREATE INDEX accounts_by_email ON accounts (email_key);

-- Where a subscription stands is worked out of the facts below. The period ends so many months after its anchor. lapsed: it
-- ended unpaid. lapse_*: what a run decided about that. opening_*: what was paid for before payments were kept here. choice_*: the holder's own word.
ALTER TABLE subscriptions ADD COLUMN anchor_at TIMESTAMPTZ;
ALTER TABLE subscriptions ADD COLUMN anchor_months BIGINT;
ALTER TABLE subscriptions ADD COLUMN next_terms_at TIMESTAMPTZ;
ALTER TABLE subscriptions ADD COLUMN next_plan TEXT;
ALTER TABLE subscriptions ADD COLUMN next_cycle TEXT;
ALTER TABLE subscriptions ADD COLUMN lapsed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE subscriptions ADD COLUMN lapse_end TIMESTAMPTZ;
ALTER TABLE subscriptions ADD COLUMN lapse_status TEXT;
ALTER TABLE subscriptions ADD COLUMN link_id TEXT;
ALTER TABLE subscriptions ADD COLUMN opening_end TIMESTAMPTZ;
ALTER TABLE subscriptions ADD COLUMN opening_plan TEXT;
ALTER TABLE subscriptions ADD COLUMN opening_cycle TEXT;
ALTER TABLE subscriptions ADD COLUMN opening_auto_renew BOOLEAN;
ALTER TABLE subscriptions ADD COLUMN choice_at TIMESTAMPTZ;
ALTER TABLE subscriptions ADD COLUMN choice_auto_renew BOOLEAN;

-- What is unpaid now has its next step from now on.
UPDATE subscriptions SET next_action_at = current_period_end WHERE status IN ('past_due', 'suspended') AND next_action_at IS NULL;

-- What a provider said about subscriptions that it manages. user_id is NULL while it is not known whose it is.
CREATE TABLE billing_links (
    link_id        TEXT NOT NULL,
    at             TIMESTAMPTZ NOT NULL,
    change         TEXT NOT NULL,
    user_id        TEXT,
    created_at     TIMESTAMPTZ NOT NULL,
    plan           TEXT,
    billing_cycle  TEXT,
    event_id       TEXT NOT NULL,
    PRIMARY KEY (link_id, at, change)
);

CREATE INDEX billing_links_by_user ON billing_links (user_id);

-- Money that came, once for each sale or capture of the provider.
CREATE TABLE payments (
    id             TEXT NOT NULL PRIMARY KEY,
    user_id        TEXT,
    link_id        TEXT,
    paid_at        TIMESTAMPTZ NOT NULL,
    amount_minor   BIGINT NOT NULL,
    currency       TEXT NOT NULL,
    completed      BOOLEAN NOT NULL,
    plan           TEXT,
    billing_cycle  TEXT,
    event_id       TEXT NOT NULL,
    received_at    TIMESTAMPTZ NOT NULL
);

CREATE INDEX payments_by_user ON payments (user_id, paid_at);
CREATE INDEX payments_by_link ON payments (link_id);

-- Money that went back, also of payments that are not here yet.
CREATE TABLE reversals (
    id            TEXT NOT NULL,
    kind          TEXT NOT NULL,
    payment_id    TEXT NOT NULL,
    amount_minor  BIGINT,
    currency      TEXT,
    at            TIMESTAMPTZ NOT NULL,
    event_id      TEXT NOT NULL,
    PRIMARY KEY (id, kind)
);

CREATE INDEX reversals_by_payment ON reversals (payment_id);

-- Invites, one for an e-mail address.
CREATE TABLE invites (
    id           TEXT NOT NULL PRIMARY KEY,
    inviter      TEXT NOT NULL,
    email        TEXT NOT NULL,
    email_key    TEXT NOT NULL UNIQUE,
    state        TEXT NOT NULL,
    invitee      TEXT,
    created_at   TIMESTAMPTZ NOT NULL,
    accepted_at  TIMESTAMPTZ,
    paid_at      TIMESTAMPTZ
);

CREATE INDEX invites_by_inviter ON invites (inviter, created_at);

-- The credit of inviters: +1 an invite paid, -1 its money went back, -3 a month redeemed. The balance is the sum.
CREATE TABLE credits (
    id       TEXT NOT NULL PRIMARY KEY,
    user_id  TEXT NOT NULL,
    delta    BIGINT NOT NULL,
    reason   TEXT NOT NULL,
    source   TEXT NOT NULL,
    at       TIMESTAMPTZ NOT NULL,
    UNIQUE (reason, source)
);

CREATE INDEX credits_by_user ON credits (user_id);

-- Months that were paid with credit, once for each period.
CREATE TABLE free_months (
    subscription_id  TEXT NOT NULL,
    period_end       TIMESTAMPTZ NOT NULL,
    user_id          TEXT NOT NULL,
    at               TIMESTAMPTZ NOT NULL,
    plan             TEXT NOT NULL,
    billing_cycle    TEXT NOT NULL,
    PRIMARY KEY (subscription_id, period_end)
);

CREATE INDEX free_months_by_user ON free_months (user_id);

-- Every change of an account: a chain of hashes, numbered from 1.
CREATE TABLE audit (
    account     TEXT NOT NULL,
    n           BIGINT NOT NULL,
    at          TIMESTAMPTZ NOT NULL,
    actor       TEXT NOT NULL,
    cause       TEXT NOT NULL,
    request_id  TEXT,
    before      TEXT,
    after       TEXT,
    hash        TEXT NOT NULL,
    PRIMARY KEY (account, n)
);

-- Letters to be sent, each once for an account, a period and a step.
CREATE TABLE outbox (
    id               TEXT NOT NULL PRIMARY KEY,
    account          TEXT NOT NULL,
    period           TEXT NOT NULL,
    step             TEXT NOT NULL,
    recipient        TEXT,
    details          TEXT NOT NULL,
    state            TEXT NOT NULL,
    attempts         BIGINT NOT NULL,
    next_attempt_at  TIMESTAMPTZ,
    created_at       TIMESTAMPTZ NOT NULL,
    sent_at          TIMESTAMPTZ,
    error            TEXT,
    UNIQUE (account, period, step)
);

CREATE INDEX outbox_due ON outbox (next_attempt_at, id);

-- What an operator must look at.
CREATE TABLE billing_flags (
    id           TEXT NOT NULL PRIMARY KEY,
    account      TEXT,
    code         TEXT NOT NULL,
    detail       TEXT NOT NULL,
    cause        TEXT NOT NULL,
    at           TIMESTAMPTZ NOT NULL,
    resolved_at  TIMESTAMPTZ
);

CREATE INDEX billing_flags_open ON billing_flags (resolved_at, at);
