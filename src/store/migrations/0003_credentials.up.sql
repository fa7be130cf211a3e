-- What people and programs show to say who they are: API keys, identities at OpenID providers, services' certificates.

-- `hash` is SHA-256 of the key as it was shown; the key itself is kept nowhere.
CREATE TABLE api_key (
    id          TEXT PRIMARY KEY,
    user        TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    hash        BLOB NOT NULL CHECK (length(hash) = 32),
    scopes      TEXT NOT NULL,
    addresses   TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    revoked_at  TEXT,
    replaces    TEXT REFERENCES api_key (id),
    replaced_by TEXT REFERENCES api_key (id) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX api_key_by_user ON api_key (user, id);
-- A name is one key; while it is rotated, the newer of the two.
CREATE UNIQUE INDEX api_key_by_name ON api_key (user, name) WHERE revoked_at IS NULL AND replaced_by IS NULL;

-- Apart from the keys, so that a key's row changes only when somebody changes the key.
CREATE TABLE api_key_use (
    key     TEXT PRIMARY KEY REFERENCES api_key (id) ON DELETE CASCADE,
    at      TEXT NOT NULL,
    address TEXT
) STRICT;

-- By issuer and not by the name that the configuration has for it: another issuer under an old name is a stranger.
CREATE TABLE identity (
    id         TEXT PRIMARY KEY,
    issuer     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    user       TEXT NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    UNIQUE (issuer, subject)
) STRICT;
CREATE INDEX identity_by_user ON identity (user);

CREATE TABLE service (
    name       TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

-- What a service's certificate is known by: `spki:sha256:…`, `uri:…` or `dns:…`. One mark is one service.
CREATE TABLE service_mark (
    mark    TEXT PRIMARY KEY,
    service TEXT NOT NULL REFERENCES service (name) ON DELETE CASCADE
) STRICT;
CREATE INDEX service_mark_by_service ON service_mark (service);
