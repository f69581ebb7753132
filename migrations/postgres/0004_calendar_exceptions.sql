-- What operators have decided about single dates, as they wrote it (docs/calendar.md). A row that was withdrawn stays, for
-- those who ask later what was in force when.
CREATE TABLE calendar_exceptions (
    id            TEXT NOT NULL PRIMARY KEY,
    date          TEXT NOT NULL,
    venue         TEXT NOT NULL,
    kind          TEXT NOT NULL,
    open          TEXT NOT NULL,
    close         TEXT NOT NULL,
    halt_start    TEXT NOT NULL,
    halt_end      TEXT NOT NULL,
    reason        TEXT NOT NULL,
    source        TEXT NOT NULL,
    declared_at   TEXT NOT NULL,
    author        TEXT NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    withdrawn_at  TIMESTAMPTZ
);

-- One word of each kind about a date and venue at a time: two calls at the same moment cannot both be kept.
CREATE UNIQUE INDEX calendar_exceptions_in_force
    ON calendar_exceptions (venue, date, kind, halt_start) WHERE withdrawn_at IS NULL;
