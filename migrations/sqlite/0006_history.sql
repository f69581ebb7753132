-- Symbols whose history is kept under a short number; a delisted one keeps both.
CREATE TABLE history_symbols (
    id      BIGINT NOT NULL PRIMARY KEY,
    symbol  TEXT NOT NULL UNIQUE
);

-- What a cycle has brought: price, time and volume of each symbol (src/market/codec/points.rs), until the session is rolled up.
-- A slot that was tried again has a row for each try.
CREATE TABLE cycle_points (
    slot         TIMESTAMP NOT NULL,
    finished_at  TIMESTAMP NOT NULL,
    session      DATE NOT NULL,
    points       BLOB NOT NULL,
    PRIMARY KEY (slot, finished_at)
) WITHOUT ROWID;

CREATE INDEX cycle_points_by_session ON cycle_points (session);

-- The market as a whole at the end of a session, or as it is now in the session under way. rolled_up_at is set once the points
-- of the session have become rows of the three tables below.
CREATE TABLE market_days (
    session       DATE NOT NULL PRIMARY KEY,
    slot          TIMESTAMP NOT NULL,
    total         BIGINT NOT NULL,
    gainers       BIGINT NOT NULL,
    losers        BIGINT NOT NULL,
    unchanged     BIGINT NOT NULL,
    rolled_up_at  TIMESTAMP
);

-- The prices of a symbol through a session, two or three bytes a point (src/market/codec/track.rs).
CREATE TABLE symbol_days (
    session    DATE NOT NULL,
    symbol_id  BIGINT NOT NULL,
    points     BLOB NOT NULL,
    PRIMARY KEY (session, symbol_id)
) WITHOUT ROWID;

-- The quarter-hour bars of a symbol in a session (src/market/codec/bars.rs).
CREATE TABLE bars_15m (
    session    DATE NOT NULL,
    symbol_id  BIGINT NOT NULL,
    bars       BLOB NOT NULL,
    PRIMARY KEY (session, symbol_id)
) WITHOUT ROWID;

-- Daily bars, for ever; prices raw, in units of 0.0001. from_provider: taken from a provider's own daily bars, which are better
-- than what was seen of the session in cycles and are not replaced by it.
CREATE TABLE bars_1d (
    symbol_id      BIGINT NOT NULL,
    session        DATE NOT NULL,
    open           BIGINT NOT NULL,
    high           BIGINT NOT NULL,
    low            BIGINT NOT NULL,
    close          BIGINT NOT NULL,
    volume         BIGINT,
    from_provider  BOOLEAN NOT NULL,
    PRIMARY KEY (symbol_id, session)
) WITHOUT ROWID;

-- From this session on a share is numerator / denominator as many: applied to the prices before it when they are read.
CREATE TABLE splits (
    symbol_id    BIGINT NOT NULL,
    session      DATE NOT NULL,
    numerator    BIGINT NOT NULL,
    denominator  BIGINT NOT NULL,
    PRIMARY KEY (symbol_id, session)
) WITHOUT ROWID;

-- What a backfill has taken from a source already: a date of the whole market, or some symbols over some dates.
CREATE TABLE backfills (
    source   TEXT NOT NULL,
    unit     TEXT NOT NULL,
    bars     BIGINT NOT NULL,
    done_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (source, unit)
) WITHOUT ROWID;
