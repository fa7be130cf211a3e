//! What is kept of roles and grants in; who may what, held in memory, out.
//! Invariant: a permission comes from a grant that covers the place and holds now, and from nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::role::{Permissions, SHARED, built_in};
use super::{Place, condition};
use crate::control::{Control, OpError};
use crate::store::{AccessRows, Grant, Sight, Store, UserRole};
use crate::types::access::{Permission, Subject};
use crate::types::grant::{Conditions, Holder, Scope};

/// Who may what, as it was at one moment.
#[derive(Debug, Default)]
pub struct Grants {
    generation: u64,
    all: BTreeMap<Uuid, Arc<Held>>,
    held: HashMap<Holder, Vec<Arc<Held>>>,
    /// Projects, with their tenants.
    projects: HashMap<String, String>,
    tenants: BTreeSet<String>,
    /// Users, with their names.
    names: HashMap<Uuid, String>,
    /// Users who are not kept out.
    active: HashSet<Uuid>,
    /// Roles that somebody made.
    roles: HashMap<String, Permissions>,
}

/// One grant, with what its role lets its holder do.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) grant: Grant,
    /// What it is on.
    place: Place,
    permissions: Permissions,
}

/// With what somebody asks beside their name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) now: Timestamp,
    pub(super) address: Option<IpAddr>,
    /// What the credential is limited to.
    pub(super) scopes: Option<&'a BTreeSet<Permission>>,
    /// Only by what is held without conditions.
    pub(super) for_good: bool,
}

impl Grants {
    /// Reads them from the store.
    ///
    /// # Errors
    /// Where it cannot be read, or holds what cannot be understood: then nothing is decided.
    pub async fn load(store: &Store) -> Result<Self, OpError> {
        // Taken before: what changes in between is read once more.
        let generation = store.access_generation();
        let rows = store.access().await?;
        Ok(Self::of(generation, rows))
    }

    /// The same out of rows.
    pub(super) fn of(generation: u64, rows: AccessRows) -> Self {
        let roles: HashMap<String, Permissions> =
            rows.roles.into_iter().map(|role| (role.name, role.permissions.into_iter().collect())).collect();
        let mut grants = Self {
            generation,
            all: BTreeMap::new(),
            held: HashMap::new(),
            projects: rows.projects.into_iter().collect(),
            tenants: rows.tenants.into_iter().collect(),
            names: HashMap::new(),
            active: HashSet::new(),
            roles,
        };
        for UserRole { id: user, name, role, disabled, created_at } in rows.users {
            grants.names.insert(user, name);
            // Whoever is kept out, or is not there, may nothing, whatever they were granted.
            if !disabled {
                grants.active.insert(user);
            }
            let Some(role) = role else { continue };
            let permissions = grants.permissions(&role).unwrap_or_default();
            let holder = Holder::User(user);
            let grant = Grant {
                id: Uuid::nil(),
                holder: holder.clone(),
                role,
                scope: Scope::Everything,
                conditions: Conditions::default(),
                created_at,
                created_by: "system".to_owned(),
            };
            let held = Held { grant, place: Place::Everything, permissions };
            grants.held.entry(holder).or_default().push(Arc::new(held));
        }
        for (grant, project) in rows.grants {
            let place = match &grant.scope {
                Scope::Everything => Some(Place::Everything),
                Scope::Tenant(name) => grants.tenant(name),
                Scope::Project(name) => grants.project(name),
                Scope::Vm(id) => project.and_then(|project| {
                    let tenant = grants.tenant_of(&project)?.to_owned();
                    Some(Place::Vm { id: *id, project, tenant })
                }),
            };
            // A role that is not there gives nothing, and nothing is given on what is not there.
            let permissions = grants.permissions(&grant.role).unwrap_or_default();
            let Some(place) = place else { continue };
            let holder = grant.holder.clone();
            let held = Arc::new(Held { grant, place, permissions });
            grants.all.insert(held.grant.id, held.clone());
            grants.held.entry(holder).or_default().push(held);
        }
        grants
    }

    /// What a role lets its holders do.
    pub(super) fn permissions(&self, role: &str) -> Option<Permissions> {
        match built_in(role) {
            Some(role) => Some(role.permissions.iter().copied().collect()),
            None => self.roles.get(role).copied(),
        }
    }

    /// The tenant of a project.
    pub(super) fn tenant_of(&self, project: &str) -> Option<&str> {
        self.projects.get(project).map(String::as_str)
    }

    /// A tenant, where it is there.
    pub(super) fn tenant(&self, name: &str) -> Option<Place> {
        self.tenants.contains(name).then(|| Place::Tenant { name: name.to_owned() })
    }

    /// A project, where it is there.
    pub(super) fn project(&self, name: &str) -> Option<Place> {
        let tenant = self.tenant_of(name)?.to_owned();
        Some(Place::Project { name: name.to_owned(), tenant })
    }

    /// The name of a user.
    pub(super) fn name(&self, user: Uuid) -> Option<&str> {
        self.names.get(&user).map(String::as_str)
    }

    /// What a grant is on, where there is such a grant.
    pub(super) fn place_of(&self, grant: Uuid) -> Option<Place> {
        self.all.get(&grant).map(|held| held.place.clone())
    }

    /// Every grant and what it is on, in the order in which they were made.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Grant, &Place)> {
        self.all.values().map(|held| (&held.grant, &held.place))
    }

    /// The grants by which somebody holds a permission at a place; none where they do not.
    pub(super) fn by<'a>(
        &'a self,
        subject: &Subject,
        permission: Permission,
        place: &'a Place,
        with: Circumstances<'a>,
    ) -> impl Iterator<Item = &'a Held> + 'a {
        self.counting(subject, permission, with).filter(move |held| {
            covers(&held.grant.scope, place) || (*place == Place::Everything && is_shared(permission))
        })
    }

    /// The grants by which somebody holds a permission anywhere.
    pub(super) fn counting<'a>(
        &'a self,
        subject: &Subject,
        permission: Permission,
        with: Circumstances<'a>,
    ) -> impl Iterator<Item = &'a Held> + 'a {
        let holder = match subject {
            Subject::User(user) | Subject::Key { user, .. } => {
                self.active.contains(user).then_some(Holder::User(*user))
            }
            Subject::Service(name) => Some(Holder::Service(name.clone())),
            Subject::Host { .. } | Subject::Node(_) | Subject::System => None,
        };
        let in_scope = with.scopes.is_none_or(|scopes| scopes.contains(&permission));
        let held = holder.filter(|_| in_scope).and_then(|holder| self.held.get(&holder));
        let held = held.into_iter().flatten().map(|held| &**held);
        held.filter(move |held| held.permissions.contains(permission)).filter(move |held| {
            let conditions = &held.grant.conditions;
            if with.for_good {
                *conditions == Default::default()
            } else {
                condition::hold(conditions, with.now, with.address)
            }
        })
    }

    /// Everything that somebody was given, whether it counts now or not: the place and the permissions.
    pub(super) fn given(&self, holder: &Holder) -> impl Iterator<Item = (&Scope, &Place, Permissions)> {
        let held = self.held.get(holder).into_iter().flatten();
        held.map(|held| (&held.grant.scope, &held.place, held.permissions))
    }

    /// The machines on which somebody holds a permission.
    pub(super) fn sight(&self, subject: &Subject, permission: Permission, with: Circumstances<'_>) -> Sight {
        let mut projects = BTreeSet::new();
        let mut vms = BTreeSet::new();
        for held in self.counting(subject, permission, with) {
            match &held.grant.scope {
                Scope::Everything => return Sight::All,
                Scope::Tenant(tenant) => {
                    projects.extend(self.projects.iter().filter(|(_, of)| *of == tenant).map(|(name, _)| name.clone()));
                }
                Scope::Project(project) => {
                    projects.insert(project.clone());
                }
                Scope::Vm(id) => {
                    vms.insert(*id);
                }
            }
        }
        Sight::Only { projects: projects.into_iter().collect(), vms: vms.into_iter().collect() }
    }
}

fn is_shared(permission: Permission) -> bool {
    SHARED.contains(&permission)
}

/// Whether what is granted here counts there.
pub(super) fn covers(scope: &Scope, place: &Place) -> bool {
    match (scope, place) {
        (Scope::Everything, _) => true,
        (Scope::Tenant(name), Place::Tenant { name: at }) => name == at,
        (Scope::Tenant(name), Place::Project { tenant, .. } | Place::Vm { tenant, .. }) => name == tenant,
        (Scope::Project(name), Place::Project { name: at, .. }) => name == at,
        (Scope::Project(name), Place::Vm { project, .. }) => name == project,
        (Scope::Vm(id), Place::Vm { id: at, .. }) => id == at,
        _ => false,
    }
}

impl Control {
    /// Who may what, as it is now: whoever changed it has an answer only after this sees the change.
    ///
    /// # Errors
    /// Where it cannot be read; nobody may anything then.
    pub(super) async fn grants(&self) -> Result<Arc<Grants>, OpError> {
        let newest = self.store().access_generation();
        let known = self.inner.grants.borrow().clone();
        if known.generation >= newest {
            return Ok(known);
        }
        let _one = self.inner.granting.lock().await;
        let known = self.inner.grants.borrow().clone();
        if known.generation >= newest {
            return Ok(known);
        }
        let loaded = Arc::new(Grants::load(self.store()).await?);
        self.inner.grants.send_replace(loaded.clone());
        Ok(loaded)
    }
}
