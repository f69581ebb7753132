-- A subscription as the renewal job sees it. next_action_at is NULL where nothing is due of itself.
CREATE TABLE subscriptions (
    id                  TEXT NOT NULL PRIMARY KEY,
    user_id             TEXT NOT NULL UNIQUE,
    plan                TEXT NOT NULL,
    billing_cycle       TEXT NOT NULL,
    status              TEXT NOT NULL,
    auto_renew          BOOLEAN NOT NULL,
    current_period_end  TIMESTAMP NOT NULL,
    next_action_at      TIMESTAMP,
    updated_at          TIMESTAMP NOT NULL
);

CREATE INDEX subscriptions_due ON subscriptions (next_action_at, id);

-- What was decided about a subscription, once for each period: the unique pair stops a second effect.
CREATE TABLE renewals (
    id               TEXT NOT NULL PRIMARY KEY,
    subscription_id  TEXT NOT NULL REFERENCES subscriptions (id),
    period_end       TIMESTAMP NOT NULL,
    run_id           TEXT NOT NULL,
    action           TEXT NOT NULL,
    status_before    TEXT NOT NULL,
    status_after     TEXT NOT NULL,
    decided_at       TIMESTAMP NOT NULL,
    UNIQUE (subscription_id, period_end)
);
