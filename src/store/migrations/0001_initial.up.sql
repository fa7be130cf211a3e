-- Machines, images, decisions, operations, events, quarantine and the audit log.
-- Times are RFC 3339 in UTC; documents are JSON; identities are UUIDs or digests, as text.

CREATE TABLE node (
    name    TEXT PRIMARY KEY,
    facts   TEXT NOT NULL
) STRICT;

CREATE TABLE vm (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    node        TEXT NOT NULL,
    spec        TEXT NOT NULL,
    power       TEXT NOT NULL,
    start_path  TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    hold        TEXT,
    not_before  TEXT,
    failures    INTEGER NOT NULL DEFAULT 0,
    deleting    INTEGER NOT NULL DEFAULT 0,
    running     TEXT,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL
) STRICT;

CREATE TABLE vm_observed (
    vm       TEXT PRIMARY KEY REFERENCES vm (id) ON DELETE CASCADE,
    observed TEXT NOT NULL,
    seen_at  TEXT NOT NULL
) STRICT;

-- Which machine is made of what: by it a quarantined digest finds its machines.
CREATE TABLE vm_artifact (
    vm      TEXT NOT NULL REFERENCES vm (id) ON DELETE CASCADE,
    slot    TEXT NOT NULL,
    digest  TEXT NOT NULL,
    PRIMARY KEY (vm, slot)
) STRICT;
CREATE INDEX vm_artifact_by_digest ON vm_artifact (digest);

CREATE TABLE image (
    digest      TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    name        TEXT,
    node        TEXT NOT NULL,
    facts       TEXT NOT NULL
) STRICT;
CREATE INDEX image_by_name ON image (name);

CREATE TABLE decision (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    vm       TEXT NOT NULL,
    node     TEXT NOT NULL,
    path     TEXT NOT NULL,
    allowed  INTEGER NOT NULL,
    reasons  TEXT NOT NULL,
    at       TEXT NOT NULL
) STRICT;
CREATE INDEX decision_by_vm ON decision (vm, id);

CREATE TABLE ticket (
    id         INTEGER PRIMARY KEY REFERENCES decision (id),
    envelope   TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;

CREATE TABLE operation (
    id          TEXT PRIMARY KEY,
    vm          TEXT NOT NULL,
    kind        TEXT NOT NULL,
    action      TEXT,
    state       TEXT NOT NULL,
    reasons     TEXT NOT NULL DEFAULT '[]',
    message     TEXT,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    ended_at    TEXT
) STRICT;
CREATE INDEX operation_open ON operation (vm, id) WHERE ended_at IS NULL;
CREATE INDEX operation_by_vm ON operation (vm, id);

CREATE TABLE idempotency (
    actor       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    resource    TEXT NOT NULL,
    at          TEXT NOT NULL,
    PRIMARY KEY (actor, key)
) STRICT;

CREATE TABLE quarantine (
    id      TEXT PRIMARY KEY,
    target  TEXT NOT NULL UNIQUE,
    why     TEXT NOT NULL,
    by      TEXT NOT NULL,
    since   TEXT NOT NULL
) STRICT;

-- Two people: one asks, another one approves, and what was approved ends by itself.
CREATE TABLE approval (
    id           TEXT PRIMARY KEY,
    quarantine   TEXT NOT NULL REFERENCES quarantine (id),
    reason       TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    approved_by  TEXT,
    approved_at  TEXT,
    expires_at   TEXT NOT NULL,
    CHECK (approved_by IS NULL OR lower(approved_by) <> lower(requested_by))
) STRICT;

-- What two people signed so that a machine may run although the gate says no.
CREATE TABLE override (
    id         TEXT PRIMARY KEY,
    vm         TEXT NOT NULL,
    document   TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    added_by   TEXT NOT NULL,
    added_at   TEXT NOT NULL
) STRICT;

CREATE TABLE event (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       TEXT NOT NULL,
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    actor    TEXT NOT NULL,
    data     TEXT NOT NULL
) STRICT;
CREATE TRIGGER event_is_not_changed BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- `record` is the canonical JSON that `leaf` is the RFC 6962 leaf hash of; `chain` is SHA-256 of the chain before it
-- and the leaf.
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,
    record   TEXT NOT NULL,
    leaf     BLOB NOT NULL,
    chain    BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
    WHEN NEW.seq <> (SELECT coalesce(max(seq) + 1, 0) FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit log has no gaps'); END;
