//! Who asks and for what in, a yes or a reason out.
//! Invariant: nothing is allowed that no grant allows; what cannot be decided is refused; every refusal is written down.
//!
//! What somebody may is the union of their grants ([`grants`]), each of which counts where it was given and below:
//! tenant, project, machine. A credential's own scopes only narrow that. What may not be seen is answered as if it were
//! not there, and what may be seen and not changed, as forbidden.

use uuid::Uuid;

use self::grants::Circumstances;
use super::{Caller, Control, Deed, OpError};
use crate::store::{Grant, Sight};
use crate::types::access::{Permission, Subject};
use crate::types::grant::{Holder, Scope};
use crate::types::vm::VmId;
use crate::types::{Code, Reason};

mod condition;
mod grants;
pub mod role;
#[cfg(test)]
mod tests;

pub use grants::Grants;

pub(in crate::control) use condition::fault as condition_fault;

/// What a permission is asked for, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The control plane as a whole.
    Everything,
    /// Any part of it: who asks holds the permission somewhere, and what they see there is decided by that.
    Somewhere,
    /// A tenant.
    Tenant(String),
    /// What a tenant is part of: everything.
    AboveTenant(String),
    /// A project.
    Project(String),
    /// What a project is part of: its tenant.
    AboveProject(String),
    /// A machine, by identity or name.
    Vm(String),
    /// An operation; it belongs where its machine does.
    Operation(String),
    /// A grant; it belongs where its scope is.
    Grant(String),
}

/// What a permission is asked for, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The control plane as a whole.
    Everything,
    /// A tenant.
    Tenant {
        /// Its name.
        name: String,
    },
    /// A project.
    Project {
        /// Its name.
        name: String,
        /// Whose it is.
        tenant: String,
    },
    /// A machine, there or gone.
    Vm {
        /// Which.
        id: VmId,
        /// What it belongs to.
        project: String,
        /// Whose that is.
        tenant: String,
    },
}

impl Place {
    /// The machine, where it is one.
    pub const fn vm(&self) -> Option<VmId> {
        match self {
            Self::Vm { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// Why somebody may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// They are the host's own administrators, or the machinery itself.
    Trusted,
    /// By these grants.
    Granted(Vec<Grant>),
}

/// Which names a list may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Every one.
    All,
    /// These.
    Only(Vec<String>),
}

impl Names {
    /// The names, where they are limited.
    pub fn only(&self) -> Option<&[String]> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names),
        }
    }
}

/// What was named: where it is, and where its permission is decided.
struct Found {
    shown: Place,
    decides: Place,
}

impl Control {
    /// Lets the caller do it, or writes down that they may not.
    ///
    /// # Errors
    /// [`OpError::Forbidden`] with `access-denied`; [`OpError::NotFound`] where it is not there, or not to be seen by
    /// this caller.
    pub async fn authorize(&self, caller: &Caller, permission: Permission, at: &Resource) -> Result<Place, OpError> {
        let grants = self.grants().await?;
        let found = self.found(&grants, at).await?;
        let decides = found.as_ref().map_or(&Place::Everything, |found| &found.decides);
        let has = match at {
            Resource::Somewhere => self.has_somewhere(&grants, caller, permission),
            _ => self.has(&grants, caller, permission, decides),
        };
        if has {
            return found.map(|found| found.shown).ok_or_else(|| missing(at));
        }
        // What is hidden and what is not there take the same way, so that the time does not tell them apart.
        let message = format!("{} may not {permission} on {}", caller.actor, words(at));
        let reason = Reason::new(Code::AccessDenied, message);
        let object = match found.as_ref().and_then(|found| found.shown.vm()) {
            Some(id) => format!("vm/{id}"),
            None => words(at),
        };
        let deed = Deed::refused(permission.as_str(), object, "access.denied", std::slice::from_ref(&reason));
        self.refused(caller, deed).await?;
        let seen = match (reading(at), &found) {
            (None, _) => true,
            (Some(reading), Some(found)) => self.has(&grants, caller, reading, &found.shown),
            (Some(_), None) => false,
        };
        Err(if seen { OpError::Forbidden(Box::new(reason)) } else { missing(at) })
    }

    /// Whether the caller may, and why; nothing is written down.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn may(
        &self,
        caller: &Caller,
        permission: Permission,
        at: &Resource,
    ) -> Result<Option<Because>, OpError> {
        let grants = self.grants().await?;
        let Some(found) = self.found(&grants, at).await? else { return Ok(None) };
        if is_trusted(&caller.subject) {
            return Ok(in_scope(caller, permission).then_some(Because::Trusted));
        }
        let by: Vec<Grant> = match at {
            Resource::Somewhere => {
                let held = grants.counting(&caller.subject, permission, self.circumstances(caller));
                held.map(|held| held.grant.clone()).collect()
            }
            _ => {
                let held = grants.by(&caller.subject, permission, &found.decides, self.circumstances(caller));
                held.map(|held| held.grant.clone()).collect()
            }
        };
        Ok((!by.is_empty()).then_some(Because::Granted(by)))
    }

    /// The machines on which the caller holds a permission: what their lists show.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn sight(&self, caller: &Caller, permission: Permission) -> Result<Sight, OpError> {
        if is_trusted(&caller.subject) && in_scope(caller, permission) {
            return Ok(Sight::All);
        }
        Ok(self.grants().await?.sight(&caller.subject, permission, self.circumstances(caller)))
    }

    /// The tenants that the caller's lists show.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn tenants_in_sight(&self, caller: &Caller) -> Result<Names, OpError> {
        let grants = self.grants().await?;
        if self.has(&grants, caller, Permission::TenantRead, &Place::Everything) {
            return Ok(Names::All);
        }
        let held = grants.counting(&caller.subject, Permission::TenantRead, self.circumstances(caller));
        let name = |scope: &Scope| match scope {
            Scope::Tenant(name) => Some(name.clone()),
            _ => None,
        };
        Ok(Names::Only(held.filter_map(|held| name(&held.grant.scope)).collect()))
    }

    /// The projects that the caller's lists show.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn projects_in_sight(&self, caller: &Caller) -> Result<Names, OpError> {
        Ok(match self.sight(caller, Permission::TenantRead).await? {
            Sight::All => Names::All,
            Sight::Only { projects, .. } => Names::Only(projects),
        })
    }

    /// The grants that the caller's lists show, in the order in which they were made.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn grants_in_sight(&self, caller: &Caller) -> Result<Vec<Grant>, OpError> {
        let grants = self.grants().await?;
        let shown = grants.all().filter(|(_, place)| self.has(&grants, caller, Permission::AccessRead, place));
        Ok(shown.map(|(grant, _)| grant.clone()).collect())
    }

    /// What this one granted a user, in the order in which it was made.
    pub(in crate::control) async fn granted_by(&self, user: Uuid, actor: &str) -> Result<Vec<Grant>, OpError> {
        let grants = self.grants().await?;
        let of = |grant: &Grant| grant.holder == Holder::User(user) && grant.created_by == actor;
        Ok(grants.all().map(|(grant, _)| grant).filter(|grant| of(grant)).cloned().collect())
    }

    /// What a user who holds something is called.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn name_of(&self, holder: &Holder) -> Result<Option<String>, OpError> {
        match holder {
            Holder::User(user) => Ok(self.grants().await?.name(*user).map(str::to_owned)),
            Holder::Service(_) => Ok(None),
        }
    }

    /// Lets the caller give this role to somebody here: they must hold all of it themselves, without conditions, or
    /// a right that ends would outlive itself in others.
    ///
    /// # Errors
    /// [`OpError::Refused`] with `access-escalation`; [`OpError::NotFound`] where there is no such role or scope.
    pub async fn hand_out(&self, caller: &Caller, role: &str, scope: &Scope) -> Result<(), OpError> {
        let grants = self.grants().await?;
        let permissions = grants.permissions(role);
        let permissions = permissions.ok_or_else(|| OpError::NotFound(format!("there is no role {role:?}")))?;
        self.hand_out_each(caller, &permissions.all(), scope, &format!("role/{role}")).await
    }

    /// Lets the caller do to somebody what could make them that person, as giving them another password: they must
    /// hold all that the person holds, where they hold it.
    ///
    /// # Errors
    /// As [`Self::hand_out`].
    pub(in crate::control) async fn stand_over(&self, caller: &Caller, user: Uuid) -> Result<(), OpError> {
        let grants = self.grants().await?;
        for (scope, place, permissions) in grants.given(&Holder::User(user)) {
            let (scope, object) = (scope.to_string(), format!("user/{user}"));
            self.holds_each(&grants, caller, &permissions.all(), (&scope, place), &object).await?;
        }
        Ok(())
    }

    /// The same for permissions that are about to be a role, or another person's.
    ///
    /// # Errors
    /// As [`Self::hand_out`].
    pub async fn hand_out_each(
        &self,
        caller: &Caller,
        permissions: &[Permission],
        scope: &Scope,
        object: &str,
    ) -> Result<(), OpError> {
        let grants = self.grants().await?;
        let place = match scope {
            Scope::Vm(id) => self.found(&grants, &Resource::Vm(id.to_string())).await?.map(|found| found.shown),
            Scope::Everything => Some(Place::Everything),
            Scope::Tenant(name) => grants.tenant(name),
            Scope::Project(name) => grants.project(name),
        };
        let place = place.ok_or_else(|| OpError::NotFound(format!("there is no {scope}")))?;
        self.holds_each(&grants, caller, permissions, (&scope.to_string(), &place), object).await
    }

    /// Refuses whoever does not hold all of this there, for good.
    async fn holds_each(
        &self,
        grants: &Grants,
        caller: &Caller,
        permissions: &[Permission],
        (scope, place): (&str, &Place),
        object: &str,
    ) -> Result<(), OpError> {
        let with = Circumstances { for_good: true, ..self.circumstances(caller) };
        let holds = |permission: Permission| {
            if is_trusted(&caller.subject) {
                return in_scope(caller, permission);
            }
            grants.by(&caller.subject, permission, place, with).next().is_some()
        };
        let lacking: Vec<&str> =
            permissions.iter().filter(|one| !holds(**one)).map(|permission| permission.as_str()).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let lacking = lacking.join(", ");
        let message = format!("{} does not hold {lacking} on {scope}, not without conditions", caller.actor);
        let reasons = vec![Reason::new(Code::AccessEscalation, message)];
        let deed = Deed::refused("access.give", object.to_owned(), "access.denied", &reasons);
        self.refused(caller, deed).await?;
        Err(OpError::Refused(reasons))
    }

    /// Writes a refusal down. It changes nothing, so that nobody is woken.
    async fn refused(&self, caller: &Caller, deed: Deed<'_>) -> Result<(), OpError> {
        self.store().write(deed.by(caller, self.now(), Vec::new())).await?;
        Ok(())
    }

    fn has(&self, grants: &Grants, caller: &Caller, permission: Permission, place: &Place) -> bool {
        if is_trusted(&caller.subject) {
            return in_scope(caller, permission);
        }
        grants.by(&caller.subject, permission, place, self.circumstances(caller)).next().is_some()
    }

    fn has_somewhere(&self, grants: &Grants, caller: &Caller, permission: Permission) -> bool {
        if is_trusted(&caller.subject) {
            return in_scope(caller, permission);
        }
        grants.counting(&caller.subject, permission, self.circumstances(caller)).next().is_some()
    }

    fn circumstances<'a>(&self, caller: &'a Caller) -> Circumstances<'a> {
        Circumstances { now: self.now(), address: caller.address, scopes: caller.scopes.as_ref(), for_good: false }
    }

    /// Where a resource is; nothing where it is not there.
    async fn found(&self, grants: &Grants, at: &Resource) -> Result<Option<Found>, OpError> {
        let machine = |found: Option<(VmId, String)>| {
            let (id, project) = found?;
            let tenant = grants.tenant_of(&project)?.to_owned();
            Some(Place::Vm { id, project, tenant })
        };
        let shown = match at {
            Resource::Everything | Resource::Somewhere => Some(Place::Everything),
            Resource::Tenant(name) | Resource::AboveTenant(name) => grants.tenant(name),
            Resource::Project(name) | Resource::AboveProject(name) => grants.project(name),
            Resource::Vm(text) => machine(self.store().vm_place(text).await?),
            Resource::Operation(text) => match text.parse::<Uuid>() {
                Ok(id) => machine(self.store().operation_place(id).await?),
                Err(_) => None,
            },
            Resource::Grant(text) => text.parse::<Uuid>().ok().and_then(|id| grants.place_of(id)),
        };
        let Some(shown) = shown else { return Ok(None) };
        let decides = match (at, &shown) {
            (Resource::AboveTenant(_), _) => Place::Everything,
            (Resource::AboveProject(_), Place::Project { tenant, .. }) => Place::Tenant { name: tenant.clone() },
            _ => shown.clone(),
        };
        Ok(Some(Found { shown, decides }))
    }
}

/// Whoever may open the socket is its owner or of its group: the host's own administrators.
const fn is_trusted(subject: &Subject) -> bool {
    matches!(subject, Subject::Host { .. } | Subject::Node(_) | Subject::System)
}

fn in_scope(caller: &Caller, permission: Permission) -> bool {
    caller.scopes.as_ref().is_none_or(|scopes| scopes.contains(&permission))
}

/// What lets somebody see it; nothing where there is nothing to hide.
const fn reading(at: &Resource) -> Option<Permission> {
    match at {
        Resource::Everything | Resource::Somewhere => None,
        Resource::Vm(_) | Resource::Operation(_) => Some(Permission::VmRead),
        Resource::Grant(_) => Some(Permission::AccessRead),
        Resource::Tenant(_) | Resource::AboveTenant(_) | Resource::Project(_) | Resource::AboveProject(_) => {
            Some(Permission::TenantRead)
        }
    }
}

/// It is not there, in the words in which that is said of what never was.
fn missing(at: &Resource) -> OpError {
    OpError::NotFound(match at {
        Resource::Everything | Resource::Somewhere => "there is nothing here".to_owned(),
        Resource::Vm(text) => format!("there is no virtual machine {text:?}"),
        Resource::Operation(text) => format!("there is no operation {text:?}"),
        Resource::Grant(text) => format!("there is no grant {text:?}"),
        Resource::Tenant(text) | Resource::AboveTenant(text) => format!("there is no tenant {text:?}"),
        Resource::Project(text) | Resource::AboveProject(text) => format!("there is no project {text:?}"),
    })
}

/// What was named, for people and for the audit log; as long as a name may be.
fn words(at: &Resource) -> String {
    let (kind, text) = match at {
        Resource::Everything => return "everything".to_owned(),
        Resource::Somewhere => return "anything".to_owned(),
        Resource::Vm(text) => ("vm", text),
        Resource::Operation(text) => ("operation", text),
        Resource::Grant(text) => ("grant", text),
        Resource::Tenant(text) | Resource::AboveTenant(text) => ("tenant", text),
        Resource::Project(text) | Resource::AboveProject(text) => ("project", text),
    };
    let text: String = text.chars().take(64).collect();
    format!("{kind}/{text}")
}
