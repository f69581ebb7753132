-- Subscriptions of PayPal's that are to end there too: written with the holder's word, kept until PayPal says that it is so.
CREATE TABLE cancellations (
    link_id          TEXT NOT NULL PRIMARY KEY,
    user_id          TEXT NOT NULL,
    state            TEXT NOT NULL,
    requested_at     TIMESTAMP NOT NULL,
    attempts         BIGINT NOT NULL,
    next_attempt_at  TIMESTAMP,
    confirmed_at     TIMESTAMP,
    error            TEXT
);

CREATE INDEX cancellations_due ON cancellations (next_attempt_at) WHERE state = 'wanted';
CREATE INDEX cancellations_by_user ON cancellations (user_id);

-- What an account wants to have next. It gives nothing: what is given is what was paid for.
CREATE TABLE plan_wishes (
    user_id        TEXT NOT NULL PRIMARY KEY,
    plan           TEXT NOT NULL,
    billing_cycle  TEXT NOT NULL,
    at             TIMESTAMP NOT NULL
);

-- Periods in doubt are few among very many, and are looked for all the time.
CREATE INDEX renewals_in_doubt ON renewals (subscription_id) WHERE action IN ('confirming', 'uncertain');
