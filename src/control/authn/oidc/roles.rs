//! The roles that an OpenID provider gives somebody in; what they are granted by it out.
//!
//! A built-in role is a user's own, and the session that is opened changes it. A role that somebody made is a grant on
//! everything, made by `oidc:NAME`: a login makes those that are missing and takes back those that the provider no
//! longer gives. Invariant: a grant that somebody else made is not touched, and a role that is not there opens nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{denied, stranger};
use crate::control::authn::Origin;
use crate::control::ops::grant::told;
use crate::control::{Caller, Control, Deed, OpError};
use crate::store::{AccessChange, Change, Grant, User};
use crate::types::access::BuiltinRole;
use crate::types::grant::{Conditions, Holder, Scope};
use crate::types::{Code, Reason};

/// A role that the configuration gives for a value of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenRole {
    /// One that is there from the beginning.
    BuiltIn(BuiltinRole),
    /// One that somebody made, or is going to.
    Made(String),
}

impl GivenRole {
    /// The role of this name.
    pub fn of(name: &str) -> Self {
        name.parse().map_or_else(|_| Self::Made(name.to_owned()), Self::BuiltIn)
    }
}

/// The roles that a provider gives somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Roles {
    /// The highest of the built-in ones.
    pub(super) built_in: Option<BuiltinRole>,
    /// All of the others.
    made: BTreeSet<String>,
}

impl<'a> FromIterator<&'a GivenRole> for Roles {
    fn from_iter<T: IntoIterator<Item = &'a GivenRole>>(given: T) -> Self {
        let mut roles = Self::default();
        for role in given {
            match role {
                // The first in the order of the roles is the one that may most.
                GivenRole::BuiltIn(role) => roles.built_in = roles.built_in.into_iter().chain([*role]).min(),
                GivenRole::Made(name) => drop(roles.made.insert(name.clone())),
            }
        }
        roles
    }
}

impl Control {
    /// The roles that providers give and that nobody has made: whoever is given one is refused.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub async fn oidc_roles_missing(&self) -> Result<Vec<(String, String)>, OpError> {
        let mut missing = Vec::new();
        for provider in self.providers() {
            let roles: Roles = provider.roles.values().collect();
            for role in roles.made {
                if self.store().role(&role).await?.is_none() {
                    missing.push((provider.name.clone(), role));
                }
            }
        }
        Ok(missing)
    }

    /// Refuses who is given a role that is not there: whatever it was to let them do, they would silently lack.
    pub(super) async fn oidc_roles_known(&self, provider: &str, roles: &Roles) -> Result<(), OpError> {
        for role in &roles.made {
            if self.store().role(role).await?.is_none() {
                let message = format!("the provider {provider} gives the role {role:?}, and there is no such role");
                return Err(denied(Reason::new(Code::OidcRoleUnknown, message)));
            }
        }
        Ok(())
    }

    /// Grants what the provider gives now, and takes back what it gave and no longer gives.
    pub(super) async fn oidc_roles_given(
        &self,
        provider: &str,
        user: &User,
        roles: &Roles,
        from: &Origin,
    ) -> Result<(), OpError> {
        let caller = Caller { actor: format!("oidc:{provider}"), ..stranger(from) };
        let mut missing = roles.made.clone();
        for grant in self.granted_by(user.id, &caller.actor).await? {
            // A second grant of one role, made by two logins at once, goes as well.
            if missing.remove(&grant.role) {
                continue;
            }
            let deed = Deed::done("grant.delete", format!("grant/{}", grant.id), "grant.deleted", told(&grant));
            match self.record_credential(&caller, deed, vec![changed(AccessChange::GrantDeleted(grant.id))]).await {
                // Somebody else was quicker.
                Ok(_) | Err(OpError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for role in missing {
            let grant = Grant {
                id: Uuid::now_v7(),
                holder: Holder::User(user.id),
                role,
                scope: Scope::Everything,
                conditions: Conditions::default(),
                created_at: self.now(),
                created_by: caller.actor.clone(),
            };
            let deed = Deed::done("grant.create", format!("grant/{}", grant.id), "grant.created", told(&grant));
            let change = changed(AccessChange::GrantCreated { grant, built_in: false });
            self.record_credential(&caller, deed, vec![change]).await?;
        }
        Ok(())
    }
}

fn changed(change: AccessChange) -> Change {
    Change::Access(Box::new(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_built_in_role_and_all_others_are_given() {
        let given = ["viewer", "night-watch", "operator", "auditors", "night-watch"].map(GivenRole::of);
        let roles: Roles = given.iter().collect();
        assert_eq!(roles.built_in, Some(BuiltinRole::Operator));
        assert_eq!(roles.made.iter().map(String::as_str).collect::<Vec<_>>(), ["auditors", "night-watch"]);
        assert_eq!([].iter().collect::<Roles>(), Roles::default());
    }
}
