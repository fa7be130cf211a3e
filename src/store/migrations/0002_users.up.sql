-- People, how they prove who they are, and where they are logged in.
-- No secret is kept as it is: passwords as Argon2id hashes, tokens and recovery codes as SHA-256, the seeds of one-time
-- codes sealed with a key that is not in this database.

CREATE TABLE user (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE CHECK (name = lower(name) AND name <> ''),
    role         TEXT,
    password     TEXT,
    password_at  TEXT,
    must_change  INTEGER NOT NULL DEFAULT 0,
    disabled     INTEGER NOT NULL DEFAULT 0,
    totp         BLOB,
    totp_at      TEXT,
    totp_step    INTEGER NOT NULL DEFAULT 0,
    generation   INTEGER NOT NULL DEFAULT 1,
    created_at   TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    login_at     TEXT,
    CHECK (totp_at IS NULL OR totp IS NOT NULL)
) STRICT;

CREATE TABLE recovery_code (
    user    TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    hash    BLOB NOT NULL,
    used_at TEXT,
    PRIMARY KEY (user, hash)
) STRICT;

CREATE TABLE session (
    id         TEXT PRIMARY KEY,
    token      BLOB NOT NULL UNIQUE,
    user       TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    method     TEXT NOT NULL,
    address    TEXT,
    agent      TEXT,
    created_at TEXT NOT NULL,
    used_at    TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;
CREATE INDEX session_by_user ON session (user, id);

-- From where a user has logged in: whoever guesses from elsewhere does not slow them down there.
CREATE TABLE login_address (
    user    TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    at      TEXT NOT NULL,
    PRIMARY KEY (user, address)
) STRICT;
