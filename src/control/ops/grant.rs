//! Roles and grants: what somebody may, and who may it where.
//! Invariant: nobody gives away what they do not hold, there and for good; not by a role, and not by a grant.

use uuid::Uuid;

use super::super::authz::role::built_in;
use super::super::authz::{Resource, condition_fault};
use super::super::{Caller, Control, Deed, OpError};
use super::tenant::{access, check, malformed, stale};
use crate::store::{AccessChange, Grant, Role};
use crate::types::access::Permission;
use crate::types::grant::{Conditions, Holder, Scope};

impl Control {
    /// A role that somebody made.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn role_find(&self, name: &str) -> Result<Role, OpError> {
        let found = self.store().role(name).await?;
        found.ok_or_else(|| OpError::NotFound(format!("there is no role {name:?}")))
    }

    /// Makes a role of permissions that the caller holds.
    ///
    /// # Errors
    /// [`OpError::Invalid`], [`OpError::Conflict`] where the name is taken, [`OpError::Refused`] with
    /// `access-escalation`.
    pub async fn role_create(
        &self,
        caller: &Caller,
        name: String,
        description: String,
        permissions: Vec<Permission>,
    ) -> Result<Role, OpError> {
        check("role", &name, &description)?;
        not_built_in(&name)?;
        let permissions = sorted(permissions);
        let object = format!("role/{name}");
        self.hand_out_each(caller, &permissions, &Scope::Everything, &object).await?;
        let (created_at, created_by) = (self.now(), caller.actor.clone());
        let role = Role { name, description, permissions, generation: 1, created_at, created_by };
        let data = serde_json::json!({ "description": role.description, "permissions": role.permissions });
        let deed = Deed::done("role.create", object, "role.created", data);
        self.record(caller, deed, vec![access(AccessChange::RoleCreated(role.clone()))]).await?;
        Ok(role)
    }

    /// Describes a role anew; whoever has it may what it says from now on.
    ///
    /// # Errors
    /// As [`Self::role_create`]; [`OpError::NotFound`], [`OpError::Stale`].
    pub async fn role_update(
        &self,
        caller: &Caller,
        name: &str,
        description: String,
        permissions: Vec<Permission>,
        if_generation: Option<u64>,
    ) -> Result<Role, OpError> {
        check("role", name, &description)?;
        not_built_in(name)?;
        let permissions = sorted(permissions);
        let object = format!("role/{name}");
        self.hand_out_each(caller, &permissions, &Scope::Everything, &object).await?;
        let data = serde_json::json!({ "description": description, "permissions": permissions });
        let change = AccessChange::RoleChanged { name: name.to_owned(), if_generation, description, permissions };
        let deed = Deed::done("role.update", object, "role.updated", data);
        self.record(caller, deed, vec![access(change)]).await.map_err(stale)?;
        self.role_find(name).await
    }

    /// Removes a role that nobody has.
    ///
    /// # Errors
    /// [`OpError::NotFound`], [`OpError::Conflict`] where somebody has it, or it is built in.
    pub async fn role_delete(&self, caller: &Caller, name: &str) -> Result<(), OpError> {
        not_built_in(name)?;
        let deed = Deed::done("role.delete", format!("role/{name}"), "role.deleted", serde_json::json!({}));
        self.record(caller, deed, vec![access(AccessChange::RoleDeleted(name.to_owned()))]).await?;
        Ok(())
    }

    /// Gives somebody a role.
    ///
    /// # Errors
    /// [`OpError::Invalid`]; [`OpError::NotFound`] where there is no such role, scope or person;
    /// [`OpError::Forbidden`] where the caller may not give roles there, and [`OpError::Refused`] with
    /// `access-escalation` where they do not hold all of it.
    pub async fn grant_create(
        &self,
        caller: &Caller,
        holder: &str,
        role: String,
        scope: &str,
        conditions: Conditions,
    ) -> Result<Grant, OpError> {
        if let Some(fault) = condition_fault(&conditions) {
            return Err(malformed(fault));
        }
        let (at, scope) = self.scope_find(scope).await?;
        self.authorize(caller, Permission::AccessWrite, &at).await?;
        let holder = self.holder_find(holder).await?;
        let built_in = built_in(&role).is_some();
        self.hand_out(caller, &role, &scope).await?;
        let (created_at, created_by) = (self.now(), caller.actor.clone());
        let grant = Grant { id: Uuid::now_v7(), holder, role, scope, conditions, created_at, created_by };
        let data = told(&grant);
        let deed = Deed::done("grant.create", format!("grant/{}", grant.id), "grant.created", data);
        self.record(caller, deed, vec![access(AccessChange::GrantCreated { grant: grant.clone(), built_in })]).await?;
        Ok(grant)
    }

    /// One grant.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn grant_find(&self, id: &str) -> Result<Grant, OpError> {
        let missing = || OpError::NotFound(format!("there is no grant {id:?}"));
        let parsed = id.parse::<Uuid>().map_err(|_| missing())?;
        self.store().grant(parsed).await?.ok_or_else(missing)
    }

    /// Takes a role from somebody; the next thing they ask for is refused.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn grant_delete(&self, caller: &Caller, id: &str) -> Result<(), OpError> {
        let grant = self.grant_find(id).await?;
        let deed = Deed::done("grant.delete", format!("grant/{}", grant.id), "grant.deleted", told(&grant));
        self.record(caller, deed, vec![access(AccessChange::GrantDeleted(grant.id))]).await?;
        Ok(())
    }

    /// Whom these words name.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where they name nobody, [`OpError::NotFound`] where there is no such user.
    pub async fn holder_find(&self, text: &str) -> Result<Holder, OpError> {
        let Some(user) = text.strip_prefix("user:") else { return text.parse().map_err(malformed) };
        let found = match user.parse::<Uuid>() {
            Ok(id) => self.store().user(id).await?,
            Err(_) => self.store().user_by_name(&user.to_lowercase()).await?,
        };
        let missing = || OpError::NotFound(format!("there is no user {user:?}"));
        Ok(Holder::User(found.ok_or_else(missing)?.id))
    }

    /// What these words name: a machine by its name as well. That it is there does not say that the caller may know.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where they name nothing.
    pub async fn scope_find(&self, text: &str) -> Result<(Resource, Scope), OpError> {
        if let Some(vm) = text.strip_prefix("vm:") {
            let at = Resource::Vm(vm.to_owned());
            let id = self.store().vm_place(vm).await?.map(|(id, _)| id);
            // A machine that is not there is refused as one that is not to be seen, by whoever asks next.
            return Ok((at, Scope::Vm(id.unwrap_or_else(|| crate::types::vm::VmId::new(Uuid::nil())))));
        }
        let scope: Scope = text.parse().map_err(malformed)?;
        let at = match &scope {
            Scope::Everything | Scope::Vm(_) => Resource::Everything,
            Scope::Tenant(name) => Resource::Tenant(name.clone()),
            Scope::Project(name) => Resource::Project(name.clone()),
        };
        Ok((at, scope))
    }
}

/// A grant, as records and events tell of it.
pub(in crate::control) fn told(grant: &Grant) -> serde_json::Value {
    serde_json::json!({
        "holder": grant.holder, "role": grant.role, "scope": grant.scope, "conditions": grant.conditions
    })
}

fn sorted(mut permissions: Vec<Permission>) -> Vec<Permission> {
    permissions.sort_unstable();
    permissions.dedup();
    permissions
}

fn not_built_in(name: &str) -> Result<(), OpError> {
    match built_in(name) {
        Some(_) => Err(OpError::Conflict(format!("the role {name:?} is built in, and stays as it is"))),
        None => Ok(()),
    }
}
