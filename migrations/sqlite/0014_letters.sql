-- Letters are sent. claims: how often one was taken to be sent, which is what a mark of it must name; retried_at: since when an
-- operator's word lets it wait anew. Its states: waiting, sending, failed (tried again), sent, dead, dropped (true no longer).
ALTER TABLE outbox ADD COLUMN claims BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN retried_at TIMESTAMP;

UPDATE outbox SET state = 'waiting' WHERE state = 'queued';

CREATE INDEX outbox_by_state ON outbox (state, id);
