//! Tenants, projects, roles, grants, and which project a machine belongs to: their rows, changes and questions.
//! Invariant: a quota is looked at in the transaction that takes from it, by the one writer; two cannot both pass.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use utoipa::ToSchema;
use uuid::Uuid;

use super::read::{json, parsed};
use super::{Fleet, Store, StoreError, Vm, document};
use crate::types::access::Permission;
use crate::types::grant::{Conditions, Holder, Scope};
use crate::types::limits;
use crate::types::vm::{VmId, VmSpec};

/// What may be taken at most; what is not named is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<u32>,
    /// Virtual processors of all machines together, running or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Memory of all machines together in MiB, running or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9_000_000_000_000_000_i64)]
    pub memory_mib: Option<u64>,
}

/// What is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Machines.
    pub vms: u64,
    /// Virtual processors.
    pub cpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// Somebody with projects of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name, which nobody else has and which it keeps.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What its projects may take together.
    pub quota: Quota,
    /// Grows with every change: the ETag.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Machines that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name, which no other project of any tenant has, and which it keeps.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is.
    pub description: String,
    /// What its machines may take together.
    pub quota: Quota,
    /// Grows with every change: the ETag.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A role that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it lets its holders do.
    pub permissions: Vec<Permission>,
    /// Grows with every change: the ETag.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Somebody has a role, somewhere, under conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its identity.
    pub id: Uuid,
    /// Who.
    pub holder: Holder,
    /// Which role, built in or made.
    pub role: String,
    /// Where.
    pub scope: Scope,
    /// When, and from where.
    pub conditions: Conditions,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Another description and quota; only if the generation is still this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amended {
    /// The generation that the one who asks saw.
    pub if_generation: Option<u64>,
    /// What it is.
    pub description: String,
    /// What may be taken.
    pub quota: Quota,
}

/// A change of who may what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessChange {
    /// A tenant is there. Its name must be free.
    TenantCreated(Tenant),
    /// A tenant is described anew.
    TenantChanged(String, Amended),
    /// A tenant is gone. It must have no projects.
    TenantDeleted(String),
    /// A project is there. Its name must be free, its tenant there.
    ProjectCreated(Project),
    /// A project is described anew.
    ProjectChanged(String, Amended),
    /// A project is gone. It must have no machines.
    ProjectDeleted(String),
    /// A machine belongs to another project. That one's quota must have room for it.
    VmMoved(VmId, String),
    /// A role is there. Its name must be free.
    RoleCreated(Role),
    /// A role is described anew.
    RoleChanged {
        /// Which.
        name: String,
        /// Only if the generation is still this one.
        if_generation: Option<u64>,
        /// What it is for.
        description: String,
        /// What it lets its holders do.
        permissions: Vec<Permission>,
    },
    /// A role is gone. Nobody may have it.
    RoleDeleted(String),
    /// Somebody has a role. Where it is not built in it must be there, and so must what it is on.
    GrantCreated {
        /// What they have.
        grant: Grant,
        /// The role needs no row.
        built_in: bool,
    },
    /// They have it no longer.
    GrantDeleted(Uuid),
    /// Whatever this one was granted is gone, with them.
    HolderGone(Holder),
}

/// The machines that somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Every one.
    All,
    /// Those of these projects, and these.
    Only {
        /// Projects.
        projects: Vec<String>,
        /// Machines.
        vms: Vec<VmId>,
    },
}

impl Sight {
    /// Whether this machine is among them.
    pub fn sees(&self, vm: &Vm) -> bool {
        match self {
            Self::All => true,
            Self::Only { projects, vms } => vms.contains(&vm.id) || projects.contains(&vm.project),
        }
    }

    /// What statements are told: whether it is all, and the two lists as JSON.
    pub(super) fn bound(&self) -> Result<(bool, String, String), StoreError> {
        match self {
            Self::All => Ok((true, "[]".to_owned(), "[]".to_owned())),
            Self::Only { projects, vms } => Ok((false, document(projects)?, document(vms)?)),
        }
    }
}

/// A user, as far as that says what they may.
#[derive(Debug, Clone)]
pub struct UserRole {
    /// Who.
    pub id: Uuid,
    /// Their name.
    pub name: String,
    /// The built-in role that they have on everything.
    pub role: Option<String>,
    /// They are kept out.
    pub disabled: bool,
    /// Since when they are known.
    pub created_at: Timestamp,
}

/// Everything that decides who may what, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct AccessRows {
    /// Projects, with their tenants.
    pub projects: Vec<(String, String)>,
    /// The names of tenants.
    pub tenants: Vec<String>,
    /// Users, and the role that each has by themselves.
    pub users: Vec<UserRole>,
    /// Roles that somebody made.
    pub roles: Vec<Role>,
    /// Who has which; where it is on a machine, with the project of that.
    pub grants: Vec<(Grant, Option<String>)>,
}

impl Store {
    /// A number that grows with every change of who may what, before whoever asked for the change has an answer.
    pub fn access_generation(&self) -> u64 {
        *self.access.borrow()
    }

    /// Everything that decides who may what, in one look.
    ///
    /// # Errors
    /// Where the database cannot be read; so with every question below.
    pub async fn access(&self) -> Result<AccessRows, StoreError> {
        let mut look = self.readers.begin().await?;
        let projects = sqlx::query("SELECT name, tenant FROM project")
            .fetch_all(&mut *look)
            .await?
            .iter()
            .map(|row| Ok((row.try_get("name")?, row.try_get("tenant")?)))
            .collect::<Result<_, StoreError>>()?;
        let tenants = sqlx::query_scalar("SELECT name FROM tenant").fetch_all(&mut *look).await?;
        let users = sqlx::query("SELECT id, name, role, disabled, created_at FROM user")
            .fetch_all(&mut *look)
            .await?
            .iter()
            .map(|row| {
                Ok(UserRole {
                    id: parsed(row, "id")?,
                    name: row.try_get("name")?,
                    role: row.try_get("role")?,
                    disabled: row.try_get("disabled")?,
                    created_at: parsed(row, "created_at")?,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        let roles = sqlx::query("SELECT * FROM role").fetch_all(&mut *look).await?;
        let roles = roles.iter().map(role).collect::<Result<_, _>>()?;
        let grants = sqlx::query(
            "SELECT g.*, v.project AS vm_project FROM access_grant g LEFT JOIN vm_project v ON v.vm = g.vm",
        );
        let grants = grants.fetch_all(&mut *look).await?;
        let grants = grants
            .iter()
            .map(|row| Ok((grant(row)?, row.try_get("vm_project")?)))
            .collect::<Result<_, StoreError>>()?;
        Ok(AccessRows { projects, tenants, users, roles, grants })
    }

    /// A machine that is there, by identity or name, and its project.
    pub async fn vm_place(&self, text: &str) -> Result<Option<(VmId, String)>, StoreError> {
        let place = |fleet: &Fleet| {
            let found = text.parse::<VmId>().map_or_else(|_| fleet.named(text), |id| fleet.get(id));
            found.map(|vm| (vm.id, vm.project.clone()))
        };
        self.fleet(place).await
    }

    /// The project of the machine that an operation is about, whether the machine is still there or not.
    pub async fn operation_place(&self, id: Uuid) -> Result<Option<(VmId, String)>, StoreError> {
        let query = "SELECT p.vm, p.project FROM operation o JOIN vm_project p ON p.vm = o.vm WHERE o.id = ?1";
        let row = sqlx::query(query).bind(id.to_string()).fetch_optional(&self.readers).await?;
        row.map(|row| Ok((parsed(&row, "vm")?, row.try_get("project")?))).transpose()
    }

    /// Tenants after the cursor, which is a name; only these, where some are named.
    pub async fn tenants(
        &self,
        only: Option<&[String]>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Tenant, Usage)>, StoreError> {
        sqlx::query(
            "SELECT t.*, count(v.vm) AS used_vms, coalesce(sum(v.cpus), 0) AS used_cpus, \
                coalesce(sum(v.memory_mib), 0) AS used_memory \
             FROM tenant t LEFT JOIN project p ON p.tenant = t.name \
                LEFT JOIN vm_project v ON v.project = p.name AND v.gone = 0 \
             WHERE t.name > ?1 AND (?2 IS NULL OR t.name IN (SELECT value FROM json_each(?2))) \
             GROUP BY t.name ORDER BY t.name LIMIT ?3",
        )
        .bind(after)
        .bind(only.map(|only| document(&only)).transpose()?)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| Ok((tenant(row)?, usage(row)?)))
        .collect()
    }

    /// Projects after the cursor, which is a name; only these, where some are named.
    pub async fn projects(
        &self,
        only: Option<&[String]>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Project, Usage)>, StoreError> {
        sqlx::query(
            "SELECT p.*, count(v.vm) AS used_vms, coalesce(sum(v.cpus), 0) AS used_cpus, \
                coalesce(sum(v.memory_mib), 0) AS used_memory \
             FROM project p LEFT JOIN vm_project v ON v.project = p.name AND v.gone = 0 \
             WHERE p.name > ?1 AND (?2 IS NULL OR p.name IN (SELECT value FROM json_each(?2))) \
             GROUP BY p.name ORDER BY p.name LIMIT ?3",
        )
        .bind(after)
        .bind(only.map(|only| document(&only)).transpose()?)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| Ok((project(row)?, usage(row)?)))
        .collect()
    }

    /// A role that somebody made.
    pub async fn role(&self, name: &str) -> Result<Option<Role>, StoreError> {
        let row = sqlx::query("SELECT * FROM role WHERE name = ?1").bind(name).fetch_optional(&self.readers).await?;
        row.as_ref().map(role).transpose()
    }

    /// A grant.
    pub async fn grant(&self, id: Uuid) -> Result<Option<Grant>, StoreError> {
        let query = sqlx::query("SELECT * FROM access_grant WHERE id = ?1").bind(id.to_string());
        query.fetch_optional(&self.readers).await?.as_ref().map(grant).transpose()
    }
}

pub(super) async fn apply(connection: &mut SqliteConnection, change: &AccessChange) -> Result<(), StoreError> {
    match change {
        AccessChange::TenantCreated(tenant) => {
            let done = sqlx::query(
                "INSERT INTO tenant SELECT ?1, ?2, ?3, ?4, ?5, 1, ?6, ?7 \
                 WHERE (SELECT count(*) FROM tenant) < ?8 ON CONFLICT DO NOTHING",
            )
            .bind(&tenant.name)
            .bind(&tenant.description)
            .bind(tenant.quota.vms)
            .bind(tenant.quota.cpus)
            .bind(tenant.quota.memory_mib.map(u64::cast_signed))
            .bind(tenant.created_at.to_string())
            .bind(&tenant.created_by)
            .bind(limits::ACCESS_TENANTS)
            .execute(&mut *connection)
            .await?;
            taken(connection, done.rows_affected(), "tenant", &tenant.name).await
        }
        AccessChange::TenantChanged(name, amended) => changed(connection, "tenant", name, amended).await,
        AccessChange::TenantDeleted(name) => {
            let has_none =
                "DELETE FROM tenant WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM project WHERE tenant = ?1)";
            let done = sqlx::query(has_none).bind(name).execute(&mut *connection).await?;
            emptied(connection, done.rows_affected(), "tenant", name, "has projects").await
        }
        AccessChange::ProjectCreated(project) => {
            let there = sqlx::query("SELECT 1 FROM tenant WHERE name = ?1").bind(&project.tenant);
            if there.fetch_optional(&mut *connection).await?.is_none() {
                return Err(missing("tenant", &project.tenant));
            }
            let done = sqlx::query(
                "INSERT INTO project SELECT ?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8 \
                 WHERE (SELECT count(*) FROM project) < ?9 ON CONFLICT DO NOTHING",
            )
            .bind(&project.name)
            .bind(&project.tenant)
            .bind(&project.description)
            .bind(project.quota.vms)
            .bind(project.quota.cpus)
            .bind(project.quota.memory_mib.map(u64::cast_signed))
            .bind(project.created_at.to_string())
            .bind(&project.created_by)
            .bind(limits::ACCESS_PROJECTS)
            .execute(&mut *connection)
            .await?;
            taken(connection, done.rows_affected(), "project", &project.name).await
        }
        AccessChange::ProjectChanged(name, amended) => changed(connection, "project", name, amended).await,
        AccessChange::ProjectDeleted(name) => {
            let has_none = "DELETE FROM project WHERE name = ?1 \
                AND NOT EXISTS (SELECT 1 FROM vm_project WHERE project = ?1 AND gone = 0)";
            let done = sqlx::query(has_none).bind(name).execute(&mut *connection).await?;
            emptied(connection, done.rows_affected(), "project", name, "has machines").await
        }
        AccessChange::VmMoved(vm, project) => vm_moved(connection, *vm, project).await,
        AccessChange::RoleCreated(role) => {
            let done = sqlx::query(
                "INSERT INTO role SELECT ?1, ?2, ?3, 1, ?4, ?5 WHERE (SELECT count(*) FROM role) < ?6 \
                 ON CONFLICT DO NOTHING",
            )
            .bind(&role.name)
            .bind(&role.description)
            .bind(document(&role.permissions)?)
            .bind(role.created_at.to_string())
            .bind(&role.created_by)
            .bind(limits::ACCESS_ROLES)
            .execute(&mut *connection)
            .await?;
            taken(connection, done.rows_affected(), "role", &role.name).await
        }
        AccessChange::RoleChanged { name, if_generation, description, permissions } => {
            let done = sqlx::query(
                "UPDATE role SET description = ?2, permissions = ?3, generation = generation + 1 \
                 WHERE name = ?1 AND (?4 IS NULL OR generation = ?4)",
            )
            .bind(name)
            .bind(description)
            .bind(document(permissions)?)
            .bind(if_generation.map(u64::cast_signed))
            .execute(&mut *connection)
            .await?;
            emptied(connection, done.rows_affected(), "role", name, "was changed by somebody else meanwhile").await
        }
        AccessChange::RoleDeleted(name) => {
            let done = sqlx::query(
                "DELETE FROM role WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM access_grant WHERE role = ?1)",
            )
            .bind(name)
            .execute(&mut *connection)
            .await?;
            emptied(connection, done.rows_affected(), "role", name, "is granted to somebody").await
        }
        AccessChange::GrantCreated { grant, built_in } => grant_created(connection, grant, *built_in).await,
        AccessChange::GrantDeleted(id) => {
            let done = sqlx::query("DELETE FROM access_grant WHERE id = ?1").bind(id.to_string());
            match done.execute(connection).await?.rows_affected() {
                0 => Err(missing("grant", &id.to_string())),
                _ => Ok(()),
            }
        }
        AccessChange::HolderGone(holder) => holder_gone(connection, holder).await,
    }
}

/// Somebody is gone, and what they were granted with them: the next one of that name has none of it.
pub(super) async fn holder_gone(connection: &mut SqliteConnection, holder: &Holder) -> Result<(), StoreError> {
    let gone = sqlx::query("DELETE FROM access_grant WHERE holder = ?1").bind(holder.to_string());
    gone.execute(connection).await?;
    Ok(())
}

/// Whether the project has room for a new machine; nothing is written yet.
pub(super) async fn vm_has_room(
    connection: &mut SqliteConnection,
    project: &str,
    vm: VmId,
    spec: &VmSpec,
) -> Result<(), StoreError> {
    let wanted = Usage { vms: 1, cpus: u64::from(spec.cpus), memory_mib: spec.memory_mib };
    has_room(connection, project, vm, wanted).await
}

/// Says which project a new machine belongs to.
pub(super) async fn vm_belongs(
    connection: &mut SqliteConnection,
    project: &str,
    vm: VmId,
    spec: &VmSpec,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO vm_project (vm, project, cpus, memory_mib) VALUES (?1, ?2, ?3, ?4)")
        .bind(vm.to_string())
        .bind(project)
        .bind(spec.cpus)
        .bind(spec.memory_mib.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// A machine is described anew, before that is written: where it grows there must be room.
pub(super) async fn vm_grows(connection: &mut SqliteConnection, vm: VmId, spec: &VmSpec) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT project, cpus, memory_mib FROM vm_project WHERE vm = ?1 AND gone = 0")
        .bind(vm.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    // A machine that is not there is told so by the change itself.
    let Some(row) = row else { return Ok(()) };
    let (cpus, memory): (i64, i64) = (row.try_get("cpus")?, row.try_get("memory_mib")?);
    if u64::from(spec.cpus) > cpus.cast_unsigned() || spec.memory_mib > memory.cast_unsigned() {
        vm_has_room(connection, row.try_get("project")?, vm, spec).await?;
    }
    Ok(())
}

/// A machine was described anew: what it takes is another amount.
pub(super) async fn vm_takes(connection: &mut SqliteConnection, vm: VmId, spec: &VmSpec) -> Result<(), StoreError> {
    sqlx::query("UPDATE vm_project SET cpus = ?2, memory_mib = ?3 WHERE vm = ?1")
        .bind(vm.to_string())
        .bind(spec.cpus)
        .bind(spec.memory_mib.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// A machine is gone, and takes nothing any more.
pub(super) async fn vm_gone(connection: &mut SqliteConnection, vm: VmId) -> Result<(), StoreError> {
    sqlx::query("UPDATE vm_project SET gone = 1 WHERE vm = ?1").bind(vm.to_string()).execute(connection).await?;
    Ok(())
}

async fn vm_moved(connection: &mut SqliteConnection, vm: VmId, project: &str) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT cpus, memory_mib FROM vm_project WHERE vm = ?1 AND gone = 0")
        .bind(vm.to_string())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| missing("virtual machine", &vm.to_string()))?;
    let (cpus, memory): (i64, i64) = (row.try_get("cpus")?, row.try_get("memory_mib")?);
    let wanted = Usage { vms: 1, cpus: cpus.cast_unsigned(), memory_mib: memory.cast_unsigned() };
    has_room(connection, project, vm, wanted).await?;
    sqlx::query("UPDATE vm_project SET project = ?2 WHERE vm = ?1")
        .bind(vm.to_string())
        .bind(project)
        .execute(connection)
        .await?;
    Ok(())
}

/// Refuses what the quota of the project, or of its tenant, has no room for beside every other machine.
async fn has_room(connection: &mut SqliteConnection, project: &str, vm: VmId, wanted: Usage) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT t.name, t.vms, t.cpus, t.memory_mib, p.vms AS p_vms, p.cpus AS p_cpus, p.memory_mib AS p_memory_mib \
         FROM project p JOIN tenant t ON t.name = p.tenant WHERE p.name = ?1",
    )
    .bind(project)
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| missing("project", project))?;
    let of_project = Quota {
        vms: row.try_get("p_vms")?,
        cpus: row.try_get("p_cpus")?,
        memory_mib: row.try_get::<Option<i64>, _>("p_memory_mib")?.map(i64::cast_unsigned),
    };
    let of_tenant = quota(&row)?;
    let tenant: String = row.try_get("name")?;
    if of_project != Quota::default() {
        let used = sqlx::query(
            "SELECT count(*) AS used_vms, coalesce(sum(cpus), 0) AS used_cpus, \
                coalesce(sum(memory_mib), 0) AS used_memory \
             FROM vm_project WHERE project = ?1 AND gone = 0 AND vm <> ?2",
        );
        let used = used.bind(project).bind(vm.to_string()).fetch_one(&mut *connection).await?;
        within(of_project, usage(&used)?, wanted, &format!("project {project:?}"))?;
    }
    if of_tenant != Quota::default() {
        let used = sqlx::query(
            "SELECT count(*) AS used_vms, coalesce(sum(v.cpus), 0) AS used_cpus, \
                coalesce(sum(v.memory_mib), 0) AS used_memory \
             FROM project p JOIN vm_project v ON v.project = p.name \
             WHERE p.tenant = ?1 AND v.gone = 0 AND v.vm <> ?2",
        );
        let used = used.bind(&tenant).bind(vm.to_string()).fetch_one(&mut *connection).await?;
        within(of_tenant, usage(&used)?, wanted, &format!("tenant {tenant:?}"))?;
    }
    Ok(())
}

fn within(quota: Quota, used: Usage, wanted: Usage, whose: &str) -> Result<(), StoreError> {
    let each = [
        ("machines", quota.vms.map(u64::from), used.vms, wanted.vms),
        ("processors", quota.cpus.map(u64::from), used.cpus, wanted.cpus),
        ("MiB of memory", quota.memory_mib, used.memory_mib, wanted.memory_mib),
    ];
    for (what, most, used, wanted) in each {
        if let Some(most) = most
            && used.saturating_add(wanted) > most
        {
            let message = format!("{whose} may have {most} {what} and has {used}; {wanted} more are too many");
            return Err(StoreError::Quota(message));
        }
    }
    Ok(())
}

async fn grant_created(connection: &mut SqliteConnection, grant: &Grant, built_in: bool) -> Result<(), StoreError> {
    let (tenant, project, vm) = match &grant.scope {
        Scope::Everything => (None, None, None),
        Scope::Tenant(name) => (Some(name.as_str()), None, None),
        Scope::Project(name) => (None, Some(name.as_str()), None),
        Scope::Vm(id) => (None, None, Some(id.to_string())),
    };
    let there = sqlx::query_scalar::<_, bool>(
        "SELECT (?1 IS NULL OR EXISTS (SELECT 1 FROM tenant WHERE name = ?1)) \
            AND (?2 IS NULL OR EXISTS (SELECT 1 FROM project WHERE name = ?2)) \
            AND (?3 IS NULL OR EXISTS (SELECT 1 FROM vm WHERE id = ?3))",
    );
    if !there.bind(tenant).bind(project).bind(&vm).fetch_one(&mut *connection).await? {
        return Err(StoreError::Missing(format!("there is no {}", grant.scope)));
    }
    let done = sqlx::query(
        "INSERT INTO access_grant (id, holder, role, tenant, project, vm, conditions, created_at, created_by) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE (?10 OR EXISTS (SELECT 1 FROM role WHERE name = ?3)) \
            AND (SELECT count(*) FROM access_grant) < ?11",
    )
    .bind(grant.id.to_string())
    .bind(grant.holder.to_string())
    .bind(&grant.role)
    .bind(tenant)
    .bind(project)
    .bind(&vm)
    .bind(document(&grant.conditions)?)
    .bind(grant.created_at.to_string())
    .bind(&grant.created_by)
    .bind(built_in)
    .bind(limits::ACCESS_GRANTS)
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM access_grant").fetch_one(connection).await?;
    if count >= i64::from(limits::ACCESS_GRANTS) {
        return Err(StoreError::Quota(format!("there are {count} grants, and there can be no more")));
    }
    Err(missing("role", &grant.role))
}

async fn changed(
    connection: &mut SqliteConnection,
    table: &'static str,
    name: &str,
    amended: &Amended,
) -> Result<(), StoreError> {
    let statement = match table {
        "tenant" => {
            "UPDATE tenant SET description = ?2, vms = ?3, cpus = ?4, memory_mib = ?5, generation = generation + 1 \
             WHERE name = ?1 AND (?6 IS NULL OR generation = ?6)"
        }
        _ => {
            "UPDATE project SET description = ?2, vms = ?3, cpus = ?4, memory_mib = ?5, generation = generation + 1 \
             WHERE name = ?1 AND (?6 IS NULL OR generation = ?6)"
        }
    };
    let done = sqlx::query(statement)
        .bind(name)
        .bind(&amended.description)
        .bind(amended.quota.vms)
        .bind(amended.quota.cpus)
        .bind(amended.quota.memory_mib.map(u64::cast_signed))
        .bind(amended.if_generation.map(u64::cast_signed))
        .execute(&mut *connection)
        .await?;
    emptied(connection, done.rows_affected(), table, name, "was changed by somebody else meanwhile").await
}

/// A new thing that took no effect: its name is taken, or there are too many.
async fn taken(
    connection: &mut SqliteConnection,
    rows: u64,
    table: &'static str,
    name: &str,
) -> Result<(), StoreError> {
    if rows > 0 {
        return Ok(());
    }
    Err(if is_there(connection, table, name).await? {
        StoreError::Conflict(format!("a {table} named {name:?} exists already"))
    } else {
        StoreError::Quota(format!("there are as many {table}s as there can be"))
    })
}

/// A change that took no effect: there is no such thing, or it is not as it must be.
async fn emptied(
    connection: &mut SqliteConnection,
    rows: u64,
    table: &'static str,
    name: &str,
    otherwise: &str,
) -> Result<(), StoreError> {
    if rows > 0 {
        return Ok(());
    }
    Err(if is_there(connection, table, name).await? {
        StoreError::Conflict(format!("{table} {name:?} {otherwise}"))
    } else {
        missing(table, name)
    })
}

async fn is_there(connection: &mut SqliteConnection, table: &'static str, name: &str) -> Result<bool, StoreError> {
    let statement = match table {
        "tenant" => "SELECT 1 FROM tenant WHERE name = ?1",
        "project" => "SELECT 1 FROM project WHERE name = ?1",
        _ => "SELECT 1 FROM role WHERE name = ?1",
    };
    Ok(sqlx::query(statement).bind(name).fetch_optional(connection).await?.is_some())
}

fn missing(what: &str, name: &str) -> StoreError {
    StoreError::Missing(format!("there is no {what} {name:?}"))
}

fn quota(row: &SqliteRow) -> Result<Quota, StoreError> {
    Ok(Quota {
        vms: row.try_get("vms")?,
        cpus: row.try_get("cpus")?,
        memory_mib: row.try_get::<Option<i64>, _>("memory_mib")?.map(i64::cast_unsigned),
    })
}

fn usage(row: &SqliteRow) -> Result<Usage, StoreError> {
    let number = |column| row.try_get::<i64, _>(column).map(i64::cast_unsigned);
    Ok(Usage { vms: number("used_vms")?, cpus: number("used_cpus")?, memory_mib: number("used_memory")? })
}

fn tenant(row: &SqliteRow) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        quota: quota(row)?,
        generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
    })
}

fn project(row: &SqliteRow) -> Result<Project, StoreError> {
    Ok(Project {
        name: row.try_get("name")?,
        tenant: row.try_get("tenant")?,
        description: row.try_get("description")?,
        quota: quota(row)?,
        generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
    })
}

fn role(row: &SqliteRow) -> Result<Role, StoreError> {
    Ok(Role {
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        permissions: json(row, "permissions")?,
        generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
    })
}

fn grant(row: &SqliteRow) -> Result<Grant, StoreError> {
    let word = |column| row.try_get::<Option<String>, _>(column);
    let scope = match (word("tenant")?, word("project")?, word("vm")?) {
        (None, None, None) => Scope::Everything,
        (Some(tenant), None, None) => Scope::Tenant(tenant),
        (None, Some(project), None) => Scope::Project(project),
        (None, None, Some(_)) => Scope::Vm(parsed(row, "vm")?),
        _ => return Err(StoreError::Row("a grant is on two things".to_owned())),
    };
    Ok(Grant {
        id: parsed(row, "id")?,
        holder: parsed(row, "holder")?,
        role: row.try_get("role")?,
        scope,
        conditions: json(row, "conditions")?,
        created_at: parsed(row, "created_at")?,
        created_by: row.try_get("created_by")?,
    })
}
