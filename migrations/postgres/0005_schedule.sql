-- A job can be paused: slots from pause_from on (until pause_until, where it is set) are left out.
ALTER TABLE jobs ADD COLUMN pause_from TIMESTAMPTZ;
ALTER TABLE jobs ADD COLUMN pause_until TIMESTAMPTZ;
ALTER TABLE jobs ADD COLUMN pause_reason TEXT;

-- Who lives is said once for all runs of a process (instances), no longer run by run.
DROP INDEX job_runs_by_state;
ALTER TABLE job_runs DROP COLUMN heartbeat_at;
ALTER TABLE job_runs ADD COLUMN fence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE job_runs ADD COLUMN started_at TIMESTAMPTZ;
ALTER TABLE job_runs ADD COLUMN next_attempt_at TIMESTAMPTZ;
ALTER TABLE job_runs ADD COLUMN cancel_by TEXT;
ALTER TABLE job_runs ADD COLUMN trace_id TEXT;
UPDATE job_runs SET started_at = claimed_at WHERE attempt > 0;
CREATE INDEX job_runs_open ON job_runs (job, state) WHERE state IN ('queued', 'running');

-- How each attempt of a run ended. The one under way is in job_runs alone.
CREATE TABLE job_attempts (
    run_id       TEXT NOT NULL,
    n            INTEGER NOT NULL,
    fence        BIGINT NOT NULL,
    owner        TEXT NOT NULL,
    started_at   TIMESTAMPTZ,
    finished_at  TIMESTAMPTZ NOT NULL,
    state        TEXT NOT NULL,
    error        TEXT,
    PRIMARY KEY (run_id, n)
);

-- Who plans. The clock of the database decides how long; each new holder has a higher epoch, which fences the one before.
CREATE TABLE leases (
    name        TEXT NOT NULL PRIMARY KEY,
    owner       TEXT NOT NULL,
    epoch       BIGINT NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL
);

-- The processes that use this database, and when each last said so, by the clock of the database.
CREATE TABLE instances (
    owner       TEXT NOT NULL PRIMARY KEY,
    host        TEXT NOT NULL,
    process_id  BIGINT NOT NULL,
    version     TEXT NOT NULL,
    started_at  TIMESTAMPTZ NOT NULL,
    beat_at     TIMESTAMPTZ NOT NULL
);

-- When the host's clock was set, or the host slept.
CREATE TABLE clock_events (
    id      TEXT NOT NULL PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL,
    kind    TEXT NOT NULL,
    by_us   BIGINT NOT NULL,
    owner   TEXT NOT NULL
);

CREATE INDEX clock_events_by_time ON clock_events (at);
