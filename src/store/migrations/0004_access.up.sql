-- Tenants have projects, projects have machines; roles, and who has which of them where.

-- A quota that is NULL is none.
CREATE TABLE tenant (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    vms         INTEGER,
    cpus        INTEGER,
    memory_mib  INTEGER,
    generation  INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL
) STRICT;

CREATE TABLE project (
    name        TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL REFERENCES tenant (name),
    description TEXT NOT NULL,
    vms         INTEGER,
    cpus        INTEGER,
    memory_mib  INTEGER,
    generation  INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL
) STRICT;
CREATE INDEX project_by_tenant ON project (tenant);

INSERT INTO tenant VALUES
    ('default', 'What belongs to nobody else.', NULL, NULL, NULL, 1, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'system');
INSERT INTO project VALUES
    ('default', 'default', 'What belongs to no other project.', NULL, NULL, NULL, 1,
     strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), 'system');

-- Which project a machine belongs to, and what it takes of the quotas. The row outlives the machine: by it its owners
-- find the operation that removed it, and what happened to it.
CREATE TABLE vm_project (
    vm          TEXT PRIMARY KEY,
    project     TEXT NOT NULL REFERENCES project (name) ON DELETE CASCADE,
    cpus        INTEGER NOT NULL,
    memory_mib  INTEGER NOT NULL,
    gone        INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX vm_project_by_project ON vm_project (project, gone, vm, cpus, memory_mib);

INSERT INTO vm_project
    SELECT id, 'default', coalesce(json_extract(spec, '$.cpus'), 1), coalesce(json_extract(spec, '$.memory_mib'), 0), 0
    FROM vm;
INSERT OR IGNORE INTO vm_project SELECT DISTINCT vm, 'default', 0, 0, 1 FROM operation;

CREATE TABLE role (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    permissions TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL
) STRICT;

-- `holder` is user:UUID or service:NAME. At most one of tenant, project and vm is there; where none is, it is on
-- everything.
CREATE TABLE access_grant (
    id          TEXT PRIMARY KEY,
    holder      TEXT NOT NULL,
    role        TEXT NOT NULL,
    tenant      TEXT REFERENCES tenant (name) ON DELETE CASCADE,
    project     TEXT REFERENCES project (name) ON DELETE CASCADE,
    vm          TEXT REFERENCES vm_project (vm) ON DELETE CASCADE,
    conditions  TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    CHECK ((tenant IS NOT NULL) + (project IS NOT NULL) + (vm IS NOT NULL) <= 1)
) STRICT;
CREATE INDEX access_grant_by_holder ON access_grant (holder);
CREATE INDEX access_grant_by_role ON access_grant (role);
CREATE INDEX access_grant_by_tenant ON access_grant (tenant) WHERE tenant IS NOT NULL;
CREATE INDEX access_grant_by_project ON access_grant (project) WHERE project IS NOT NULL;
CREATE INDEX access_grant_by_vm ON access_grant (vm) WHERE vm IS NOT NULL;
