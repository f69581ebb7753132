-- What each word that an invited account pays was about: who told it and under which id of theirs (a call: its key), so that the same
-- word again is about the same invite. by_code: it named a code and no address. said: the hash of what a call said.
CREATE TABLE paid_words (
    source   TEXT NOT NULL,
    word_id  TEXT NOT NULL,
    said     TEXT NOT NULL,
    by_code  TEXT,
    outcome  TEXT NOT NULL,
    invite   TEXT,
    at       TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (source, word_id)
);

CREATE INDEX paid_words_by_code ON paid_words (by_code, at) WHERE by_code IS NOT NULL;
