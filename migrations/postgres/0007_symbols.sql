-- Every symbol that was ever on the list. One that is delisted keeps its row, and with it what is known of it.
CREATE TABLE symbols (
    symbol      TEXT NOT NULL PRIMARY KEY,
    name        TEXT NOT NULL,
    exchange    TEXT NOT NULL,
    sector      TEXT NOT NULL,
    etf         BOOLEAN NOT NULL,
    cik         BIGINT,
    status      TEXT NOT NULL,
    first_seen  TIMESTAMPTZ NOT NULL,
    last_seen   TIMESTAMPTZ NOT NULL,
    revision    BIGINT NOT NULL
);

-- One row: which version of the list the symbols are, and where it comes from.
CREATE TABLE universe (
    id            INTEGER NOT NULL PRIMARY KEY,
    revision      BIGINT NOT NULL,
    source        TEXT NOT NULL,
    refreshed_at  TIMESTAMPTZ NOT NULL
);

-- The lists as they were last read, so that one that has not changed need not be sent again, and one that shrank is noticed.
CREATE TABLE universe_documents (
    name           TEXT NOT NULL PRIMARY KEY,
    place          TEXT NOT NULL,
    etag           TEXT,
    last_modified  TEXT,
    lines          BIGINT NOT NULL,
    body           TEXT NOT NULL,
    fetched_at     TIMESTAMPTZ NOT NULL
);

-- Symbols that the provider has not answered for again and again, and when they are asked for next.
CREATE TABLE dormant_symbols (
    symbol        TEXT NOT NULL PRIMARY KEY,
    failures      INTEGER NOT NULL,
    since         TIMESTAMPTZ NOT NULL,
    last_asked    TIMESTAMPTZ NOT NULL,
    ask_after     TIMESTAMPTZ NOT NULL
);
