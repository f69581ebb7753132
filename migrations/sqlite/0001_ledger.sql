-- When a job was first known here: its slots are owed from this instant on, also across restarts before its first fire.
CREATE TABLE jobs (
    name   TEXT NOT NULL PRIMARY KEY,
    since  TIMESTAMP NOT NULL
);

-- One row for each slot of each job, skipped and missed ones too. The unique pair is what makes a slot run once.
CREATE TABLE job_runs (
    id                TEXT NOT NULL PRIMARY KEY,
    job               TEXT NOT NULL,
    scheduled_for     TIMESTAMP NOT NULL,
    origin            TEXT NOT NULL,
    state             TEXT NOT NULL,
    reason            TEXT,
    attempt           INTEGER NOT NULL,
    owner             TEXT NOT NULL,
    claimed_at        TIMESTAMP NOT NULL,
    heartbeat_at      TIMESTAMP,
    finished_at       TIMESTAMP,
    late_us           BIGINT NOT NULL,
    deadline          TIMESTAMP,
    error             TEXT,
    stats             TEXT,
    session_date      DATE,
    phase             TEXT NOT NULL,
    calendar_version  TEXT NOT NULL,
    tzdb_version      TEXT NOT NULL,
    UNIQUE (job, scheduled_for)
);

CREATE INDEX job_runs_by_state ON job_runs (state, heartbeat_at);
CREATE INDEX job_runs_by_time ON job_runs (scheduled_for);
