-- The inbox: what others posted to us, verified, each event once. `rival` is empty for the first body of an event; another body
-- under the same id has its hash there and never takes effect. The body goes after a while, the row stays: it knows the id.
CREATE TABLE webhook_events (
    id               TEXT NOT NULL PRIMARY KEY,
    source           TEXT NOT NULL,
    event_id         TEXT NOT NULL,
    rival            TEXT NOT NULL,
    event_type       TEXT NOT NULL,
    status           TEXT NOT NULL,
    verdict          TEXT NOT NULL,
    payload_hash     TEXT NOT NULL,
    body             TEXT,
    headers          TEXT,
    created_at       TIMESTAMP,
    received_at      TIMESTAMP NOT NULL,
    attempts         INTEGER NOT NULL,
    next_attempt_at  TIMESTAMP,
    processed_at     TIMESTAMP,
    error            TEXT,
    effect           TEXT,
    UNIQUE (event_id, source, rival)
);

-- What waits, and nothing else: a small index however many there have been.
CREATE INDEX webhook_events_due ON webhook_events (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_events_by_time ON webhook_events (received_at, id);
CREATE INDEX webhook_events_trouble ON webhook_events (status) WHERE status IN ('failed', 'dead', 'conflict');

-- What was not believed. A table of its own, so that strangers take no ids, and a bounded one, so that they fill no disk.
CREATE TABLE webhook_refusals (
    id            TEXT NOT NULL PRIMARY KEY,
    source        TEXT NOT NULL,
    code          TEXT NOT NULL,
    detail        TEXT NOT NULL,
    payload_hash  TEXT NOT NULL,
    headers       TEXT NOT NULL,
    received_at   TIMESTAMP NOT NULL
);

CREATE INDEX webhook_refusals_by_time ON webhook_refusals (received_at, id);
