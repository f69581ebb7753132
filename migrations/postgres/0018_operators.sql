-- Who may sign in to the operators' console.
CREATE TABLE operators (
    name           TEXT NOT NULL PRIMARY KEY,
    role           TEXT NOT NULL,
    password_hash  TEXT NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    changed_at     TIMESTAMPTZ NOT NULL,
    signed_in_at   TIMESTAMPTZ
);

-- Who is signed in. The secret of a session is only in the browser that has it.
CREATE TABLE operator_sessions (
    secret_hash  TEXT NOT NULL PRIMARY KEY,
    operator     TEXT NOT NULL,
    begun_at     TIMESTAMPTZ NOT NULL,
    seen_at      TIMESTAMPTZ NOT NULL
);

CREATE INDEX operator_sessions_by_operator ON operator_sessions (operator);

-- What operators did in the console: written before it is done, and again when it is.
CREATE TABLE operator_acts (
    id          TEXT NOT NULL PRIMARY KEY,
    at          TIMESTAMPTZ NOT NULL,
    operator    TEXT NOT NULL,
    act         TEXT NOT NULL,
    target      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    outcome     TEXT
);

-- The newest accounts are shown first.
CREATE INDEX accounts_by_age ON accounts (created_at, user_id);
