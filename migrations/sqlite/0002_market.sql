-- One row for each cycle that was published; the id is that of its run.
CREATE TABLE cycles (
    id           TEXT NOT NULL PRIMARY KEY,
    slot         TIMESTAMP NOT NULL,
    source       TEXT NOT NULL,
    simulated    BOOLEAN NOT NULL,
    delayed      BOOLEAN NOT NULL,
    as_of        TIMESTAMP NOT NULL,
    finished_at  TIMESTAMP NOT NULL,
    expected     BIGINT NOT NULL,
    fresh        BIGINT NOT NULL,
    failed       BIGINT NOT NULL,
    cause        TEXT
);

CREATE INDEX cycles_by_slot ON cycles (slot);

-- The last known quote of each symbol. Prices are integers in units of 0.0001; no secondary index, so an upsert stays cheap.
CREATE TABLE quotes (
    symbol          TEXT NOT NULL PRIMARY KEY,
    quoted_at       TIMESTAMP NOT NULL,
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
);
