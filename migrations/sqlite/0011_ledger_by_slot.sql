-- What makes a slot run once, with the slot first: what is due at one instant is claimed side by side on a few pages of the index, and
-- not on a page for each job. It serves questions by time as well, so the index for those is one write less. SQLite cannot change
-- the key of a table, so that its rows move to another one.
CREATE TABLE job_runs_by_slot (
    id                TEXT NOT NULL PRIMARY KEY,
    job               TEXT NOT NULL,
    scheduled_for     TIMESTAMP NOT NULL,
    origin            TEXT NOT NULL,
    state             TEXT NOT NULL,
    reason            TEXT,
    attempt           INTEGER NOT NULL,
    owner             TEXT NOT NULL,
    claimed_at        TIMESTAMP NOT NULL,
    finished_at       TIMESTAMP,
    late_us           BIGINT NOT NULL,
    deadline          TIMESTAMP,
    error             TEXT,
    stats             TEXT,
    session_date      DATE,
    phase             TEXT NOT NULL,
    calendar_version  TEXT NOT NULL,
    tzdb_version      TEXT NOT NULL,
    fence             BIGINT NOT NULL DEFAULT 0,
    started_at        TIMESTAMP,
    next_attempt_at   TIMESTAMP,
    cancel_by         TEXT,
    trace_id          TEXT,
    UNIQUE (scheduled_for, job)
);
INSERT INTO job_runs_by_slot (id, job, scheduled_for, origin, state, reason, attempt, owner, claimed_at, finished_at, late_us, deadline,
    error, stats, session_date, phase, calendar_version, tzdb_version, fence, started_at, next_attempt_at, cancel_by, trace_id)
    SELECT id, job, scheduled_for, origin, state, reason, attempt, owner, claimed_at, finished_at, late_us, deadline, error, stats,
    session_date, phase, calendar_version, tzdb_version, fence, started_at, next_attempt_at, cancel_by, trace_id FROM job_runs;
DROP TABLE job_runs;
ALTER TABLE job_runs_by_slot RENAME TO job_runs;
CREATE INDEX job_runs_open ON job_runs (job, state) WHERE state IN ('queued', 'running');
