//! Users, as administrators make, change and remove them.
//!
//! Who may write users may not therefore become everybody: a role, and the password or the codes of somebody else, take
//! the permission to write access as well, and everything that comes with it.

use uuid::Uuid;

use super::super::authz::Resource;
use super::super::{Caller, Control, Deed, OpError};
use crate::store::{Session, User, UserChange};
use crate::types::access::{BuiltinRole, Permission};
use crate::types::grant::Scope;
use crate::types::{Code, Reason, Secret, limits};

/// Somebody who shall be able to log in.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name.
    pub name: String,
    /// The role on everything.
    pub role: Option<BuiltinRole>,
    /// The password; without one they come by an identity provider.
    pub password: Option<Secret>,
    /// They have to choose another password before anything else.
    pub must_change: bool,
}

/// What shall be otherwise; `None` stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserPatch {
    /// Another role, or none.
    pub role: Option<Option<BuiltinRole>>,
    /// Whether they are kept out.
    pub disabled: Option<bool>,
    /// Whether they have to choose another password.
    pub must_change: Option<bool>,
}

impl Control {
    /// The user with this identity or name.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn user_find(&self, reference: &str) -> Result<User, OpError> {
        let found = match reference.parse() {
            Ok(id) => self.store().user(id).await?,
            Err(_) => self.store().user_by_name(&reference.to_lowercase()).await?,
        };
        found.ok_or_else(|| OpError::NotFound(format!("there is no user {reference:?}")))
    }

    /// Makes somebody known.
    ///
    /// # Errors
    /// [`OpError::Invalid`] where the name or the password will not do, [`OpError::Conflict`] where the name is taken,
    /// [`OpError::Forbidden`] where the caller may not give the role.
    pub async fn user_create(&self, caller: &Caller, new: NewUser) -> Result<User, OpError> {
        let name = user_name(&new.name).map_err(|reason| OpError::Invalid(Box::new(reason)))?;
        if let Some(role) = new.role {
            self.authorize(caller, Permission::AccessWrite, &Resource::Everything).await?;
            self.hand_out(caller, role.as_str(), &Scope::Everything).await?;
        }
        let hash = match &new.password {
            None => None,
            Some(password) => Some(self.password_hash(caller, "user.create", "user/new", &name, password).await?),
        };
        let user = User {
            id: Uuid::now_v7(),
            name,
            role: new.role,
            has_password: hash.is_some(),
            must_change: hash.is_some() && new.must_change,
            disabled: false,
            totp: false,
            generation: 1,
            created_at: self.now(),
            created_by: caller.actor.clone(),
            login_at: None,
        };
        let data = serde_json::json!({ "name": user.name, "role": user.role, "must_change": user.must_change });
        let deed = Deed::done("user.create", object(&user), "user.created", data);
        self.record_identity(caller, deed, vec![UserChange::Created(Box::new(user.clone()), hash)]).await?;
        Ok(user)
    }

    /// Changes what is said of somebody. Who is kept out, or has another role from now on, is logged out.
    ///
    /// # Errors
    /// [`OpError::NotFound`]; [`OpError::Stale`] where somebody else changed them since that generation;
    /// [`OpError::Forbidden`] as for [`Self::user_create`].
    pub async fn user_change(
        &self,
        caller: &Caller,
        reference: &str,
        patch: UserPatch,
        generation: Option<u64>,
    ) -> Result<User, OpError> {
        let user = self.user_find(reference).await?;
        if let Some(role) = patch.role.filter(|role| *role != user.role) {
            self.authorize(caller, Permission::AccessWrite, &Resource::Everything).await?;
            if let Some(role) = role {
                self.hand_out(caller, role.as_str(), &Scope::Everything).await?;
            }
        }
        self.over(caller, &user).await?;
        if generation.is_some_and(|generation| generation != user.generation) {
            return Err(OpError::Stale(format!("user {} is of generation {}", user.name, user.generation)));
        }
        let UserPatch { role, disabled, must_change } = patch;
        let mut changes =
            vec![UserChange::Changed { id: user.id, if_generation: generation, role, disabled, must_change }];
        if disabled == Some(true) || role.is_some_and(|role| role != user.role) {
            changes.push(UserChange::SessionsClosed { user: user.id, except: None });
        }
        let data = serde_json::json!({
            "name": user.name, "role": role, "disabled": disabled, "must_change": must_change,
        });
        let deed = Deed::done("user.change", object(&user), "user.changed", data);
        self.record_identity(caller, deed, changes).await?;
        self.user_find(&user.id.to_string()).await
    }

    /// Removes somebody, with their sessions.
    ///
    /// # Errors
    /// As [`Self::user_change`].
    pub async fn user_delete(&self, caller: &Caller, reference: &str) -> Result<(), OpError> {
        let user = self.user_find(reference).await?;
        self.over(caller, &user).await?;
        let deed = Deed::done("user.delete", object(&user), "user.deleted", serde_json::json!({ "name": user.name }));
        self.record_identity(caller, deed, vec![UserChange::Deleted(user.id)]).await?;
        Ok(())
    }

    /// Gives somebody another password, and logs them out.
    ///
    /// # Errors
    /// As [`Self::user_create`].
    pub async fn user_password(
        &self,
        caller: &Caller,
        reference: &str,
        password: &Secret,
        must_change: bool,
    ) -> Result<User, OpError> {
        let user = self.user_find(reference).await?;
        self.become_possible(caller, &user).await?;
        let hash = self.password_hash(caller, "user.password", &object(&user), &user.name, password).await?;
        let changes = vec![
            UserChange::PasswordSet { id: user.id, hash, must_change, at: self.now() },
            UserChange::SessionsClosed { user: user.id, except: None },
        ];
        let data = serde_json::json!({ "name": user.name, "must_change": must_change });
        let deed = Deed::done("user.password", object(&user), "user.password.done", data);
        self.record_identity(caller, deed, changes).await?;
        self.user_find(&user.id.to_string()).await
    }

    /// Somebody lost what makes their one-time codes: none are asked for any more, and they are logged out.
    ///
    /// # Errors
    /// As [`Self::user_change`]; [`OpError::Conflict`] where none are asked for.
    pub async fn user_totp_remove(&self, caller: &Caller, reference: &str) -> Result<User, OpError> {
        let user = self.user_find(reference).await?;
        self.become_possible(caller, &user).await?;
        let changes =
            vec![UserChange::TotpRemoved(user.id), UserChange::SessionsClosed { user: user.id, except: None }];
        let data = serde_json::json!({ "name": user.name });
        let deed = Deed::done("user.totp-remove", object(&user), "user.totp-remove.done", data);
        self.record_identity(caller, deed, changes).await?;
        self.user_find(&user.id.to_string()).await
    }

    /// The sessions of somebody that have not ended.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn user_sessions(&self, reference: &str, after: &str, limit: u32) -> Result<Vec<Session>, OpError> {
        let user = self.user_find(reference).await?;
        let sessions = self.store().sessions_of(user.id, after, limit).await?;
        Ok(sessions.into_iter().filter(|session| self.session_lives(session)).collect())
    }

    /// Who can log in as somebody can do what they may: it takes all of that.
    async fn become_possible(&self, caller: &Caller, user: &User) -> Result<(), OpError> {
        self.authorize(caller, Permission::AccessWrite, &Resource::Everything).await?;
        self.stand_over(caller, user.id).await
    }

    /// Who may do everything is kept out or removed by such as may too.
    async fn over(&self, caller: &Caller, user: &User) -> Result<(), OpError> {
        if user.role == Some(BuiltinRole::Admin) {
            self.authorize(caller, Permission::AccessWrite, &Resource::Everything).await?;
        }
        Ok(())
    }
}

/// A name that somebody may have: in lower case, and nothing that could be taken for an identity.
pub(in crate::control) fn user_name(text: &str) -> Result<String, Reason> {
    let malformed = |why: &str| Reason::new(Code::UserNameMalformed, format!("{text:?} is no name for a user: {why}"));
    let name = text.to_ascii_lowercase();
    if name.is_empty() || name.len() > limits::USER_NAME_BYTES {
        return Err(malformed("it must have 1 to 64 characters"));
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name.bytes().all(|byte| plain(byte) || b"._-@+".contains(&byte)) {
        return Err(malformed("it has characters other than letters, digits and . _ - @ +"));
    }
    if !name.bytes().next().is_some_and(plain) {
        return Err(malformed("it begins with neither a letter nor a digit"));
    }
    if name.parse::<Uuid>().is_ok() {
        return Err(malformed("it could be taken for an identity"));
    }
    Ok(name)
}

fn object(user: &User) -> String {
    format!("user/{}", user.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_lower_case_and_look_like_nothing_else() {
        assert_eq!(user_name("Alice").unwrap(), "alice");
        assert_eq!(user_name("alice.b+c@example.org").unwrap(), "alice.b+c@example.org");
        let long = "a".repeat(65);
        for bad in ["", "-a", "a b", "ä", "a/b", "a\n", "0190d5c2-0000-7000-8000-000000000000", long.as_str()] {
            assert_eq!(user_name(bad).unwrap_err().code.as_str(), "user-name-malformed", "{bad:?}");
        }
    }
}
