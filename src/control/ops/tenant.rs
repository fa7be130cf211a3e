//! Tenants and projects: who has machines of their own, and how much they may take.
//! Invariant: a name that is free again names nothing that was granted before; grants go with what they are on.

use super::super::{Caller, Control, Deed, OpError};
use crate::store::{AccessChange, Amended, Change, Project, Quota, Tenant, Usage, Vm};
use crate::types::grant::is_label;
use crate::types::vm::VmId;
use crate::types::{Code, Reason, limits};

impl Control {
    /// One tenant, and what its projects take.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn tenant_find(&self, name: &str) -> Result<(Tenant, Usage), OpError> {
        let found = self.store().tenants(Some(&[name.to_owned()]), "", 1).await?.pop();
        found.ok_or_else(|| OpError::NotFound(format!("there is no tenant {name:?}")))
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where the name is none, [`OpError::Conflict`] where it is taken.
    pub async fn tenant_create(
        &self,
        caller: &Caller,
        name: String,
        description: String,
        quota: Quota,
    ) -> Result<Tenant, OpError> {
        check("tenant", &name, &description)?;
        check_quota(quota)?;
        let (created_at, created_by) = (self.now(), caller.actor.clone());
        let tenant = Tenant { name, description, quota, generation: 1, created_at, created_by };
        let data = serde_json::json!({ "description": tenant.description, "quota": tenant.quota });
        let deed = Deed::done("tenant.create", format!("tenant/{}", tenant.name), "tenant.created", data);
        self.record(caller, deed, vec![access(AccessChange::TenantCreated(tenant.clone()))]).await?;
        Ok(tenant)
    }

    /// Describes a tenant anew, its quota too. What is taken already stays, also where it is more.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Stale`].
    pub async fn tenant_update(&self, caller: &Caller, name: &str, amended: Amended) -> Result<Tenant, OpError> {
        check("tenant", name, &amended.description)?;
        check_quota(amended.quota)?;
        let data = serde_json::json!({ "description": amended.description, "quota": amended.quota });
        let deed = Deed::done("tenant.update", format!("tenant/{name}"), "tenant.updated", data);
        let change = access(AccessChange::TenantChanged(name.to_owned(), amended));
        self.record(caller, deed, vec![change]).await.map_err(stale)?;
        Ok(self.tenant_find(name).await?.0)
    }

    /// Removes a tenant that has no projects, and what was granted on it.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Conflict`] where it has projects or is the default.
    pub async fn tenant_delete(&self, caller: &Caller, name: &str) -> Result<(), OpError> {
        not_default("tenant", name)?;
        let deed = Deed::done("tenant.delete", format!("tenant/{name}"), "tenant.deleted", serde_json::json!({}));
        self.record(caller, deed, vec![access(AccessChange::TenantDeleted(name.to_owned()))]).await?;
        Ok(())
    }

    /// One project, and what its machines take.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn project_find(&self, name: &str) -> Result<(Project, Usage), OpError> {
        let found = self.store().projects(Some(&[name.to_owned()]), "", 1).await?.pop();
        found.ok_or_else(|| OpError::NotFound(format!("there is no project {name:?}")))
    }

    /// Makes a project of a tenant.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where the name is none, [`OpError::Conflict`] where it is taken, [`OpError::NotFound`]
    /// where there is no such tenant.
    pub async fn project_create(
        &self,
        caller: &Caller,
        tenant: String,
        name: String,
        description: String,
        quota: Quota,
    ) -> Result<Project, OpError> {
        check("project", &name, &description)?;
        check_quota(quota)?;
        let (created_at, created_by) = (self.now(), caller.actor.clone());
        let project = Project { name, tenant, description, quota, generation: 1, created_at, created_by };
        let data = serde_json::json!({
            "tenant": project.tenant, "description": project.description, "quota": project.quota
        });
        let deed = Deed::done("project.create", format!("project/{}", project.name), "project.created", data);
        self.record(caller, deed, vec![access(AccessChange::ProjectCreated(project.clone()))]).await?;
        Ok(project)
    }

    /// Describes a project anew, its quota too. What is taken already stays, also where it is more.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Stale`].
    pub async fn project_update(&self, caller: &Caller, name: &str, amended: Amended) -> Result<Project, OpError> {
        check("project", name, &amended.description)?;
        check_quota(amended.quota)?;
        let data = serde_json::json!({ "description": amended.description, "quota": amended.quota });
        let deed = Deed::done("project.update", format!("project/{name}"), "project.updated", data);
        let change = access(AccessChange::ProjectChanged(name.to_owned(), amended));
        self.record(caller, deed, vec![change]).await.map_err(stale)?;
        Ok(self.project_find(name).await?.0)
    }

    /// Removes a project that has no machines, and what was granted on it.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Conflict`] where it has machines or is the default.
    pub async fn project_delete(&self, caller: &Caller, name: &str) -> Result<(), OpError> {
        not_default("project", name)?;
        let deed = Deed::done("project.delete", format!("project/{name}"), "project.deleted", serde_json::json!({}));
        self.record(caller, deed, vec![access(AccessChange::ProjectDeleted(name.to_owned()))]).await?;
        Ok(())
    }

    /// Gives a machine to another project.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Refused`] where that project's quota has no room.
    pub async fn vm_move(&self, caller: &Caller, id: VmId, project: &str) -> Result<Vm, OpError> {
        let vm = self.vm_find(&id.to_string()).await?;
        let data = serde_json::json!({ "name": vm.spec.name, "from": vm.project, "to": project });
        let object = format!("vm/{id}");
        let deed = Deed::done("vm.move", object.clone(), "vm.moved", data);
        let written = self.record(caller, deed, vec![access(AccessChange::VmMoved(id, project.to_owned()))]).await;
        self.unless_full(caller, "vm.move", object, written).await?;
        self.vm_find(&id.to_string()).await
    }
}

pub(super) fn access(change: AccessChange) -> Change {
    Change::Access(Box::new(change))
}

/// The name and the description that a tenant, a project or a role must have.
pub(super) fn check(what: &str, name: &str, description: &str) -> Result<(), OpError> {
    if !is_label(name) {
        let hint =
            "a name has 1 to 63 lower-case letters, digits and hyphens, and begins and ends with none of the last";
        let reason = Reason::new(Code::AccessMalformed, format!("{name:?} is no name for a {what}")).hint(hint);
        return Err(OpError::Invalid(Box::new(reason)));
    }
    if description.len() > limits::ACCESS_DESCRIPTION_BYTES {
        return Err(malformed(format!("a description has at most {} bytes", limits::ACCESS_DESCRIPTION_BYTES)));
    }
    Ok(())
}

pub(super) fn malformed(message: String) -> OpError {
    OpError::Invalid(Box::new(Reason::new(Code::AccessMalformed, message)))
}

/// What does not fit because somebody else was quicker.
pub(super) fn stale(error: OpError) -> OpError {
    match error {
        OpError::Conflict(what) if what.contains("meanwhile") => OpError::Stale(what),
        other => other,
    }
}

/// The largest number that the database keeps, and that every reader of JSON reads exactly.
const MOST_MEMORY_MIB: u64 = 9_000_000_000_000_000;

fn check_quota(quota: Quota) -> Result<(), OpError> {
    match quota.memory_mib {
        Some(memory) if memory > MOST_MEMORY_MIB => Err(malformed(format!("{memory} MiB is no quota"))),
        _ => Ok(()),
    }
}

fn not_default(what: &str, name: &str) -> Result<(), OpError> {
    match name {
        "default" => Err(OpError::Conflict(format!("the default {what} stays: machines of nobody else are in it"))),
        _ => Ok(()),
    }
}
