-- One row for each cycle that was published; the id is that of its run.
CREATE TABLE cycles (
    id           TEXT NOT NULL PRIMARY KEY,
    slot         TIMESTAMPTZ NOT NULL,
    source       TEXT NOT NULL,
    simulated    BOOLEAN NOT NULL,
    delayed      BOOLEAN NOT NULL,
    as_of        TIMESTAMPTZ NOT NULL,
    finished_at  TIMESTAMPTZ NOT NULL,
    expected     BIGINT NOT NULL,
    fresh        BIGINT NOT NULL,
    failed       BIGINT NOT NULL,
    cause        TEXT
);

CREATE INDEX cycles_by_slot ON cycles (slot);

-- The last known quote of each symbol. Prices are integers in units of 0.0001; no secondary index and half-filled pages,
-- so that the update of each cycle stays in place (HOT).
CREATE TABLE quotes (
    symbol          TEXT NOT NULL PRIMARY KEY,
    quoted_at       TIMESTAMPTZ NOT NULL,
    price           BIGINT NOT NULL,
    previous_close  BIGINT,
    open            BIGINT,
    high            BIGINT,
    low             BIGINT,
    bid             BIGINT,
    ask             BIGINT,
    volume          BIGINT,
    flags           INTEGER NOT NULL,
    cycle_id        TEXT NOT NULL
) WITH (fillfactor = 50);
