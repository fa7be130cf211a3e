//! What people do about themselves: another password, one-time codes. Each takes the password again, ends their other
//! sessions, and puts the one that asks under another token.

use uuid::Uuid;

use super::{Origin, failed, login, password, session, totp};
use crate::control::{Caller, Control, Deed, OpError};
use crate::store::{Hidden, Session, SessionKind, User, UserChange};
use crate::types::{Code, Reason, Secret};

/// A session that goes on under another token.
#[derive(Debug)]
pub struct Rotated {
    /// The token; the one before opens nothing any more.
    pub token: Secret,
    /// What a browser's unsafe requests carry from now on.
    pub csrf: Option<Secret>,
    /// Recovery codes, where new ones were made; nobody is told again.
    pub recovery: Vec<Secret>,
}

/// What makes one-time codes, told once.
#[derive(Debug)]
pub struct TotpBegun {
    /// `otpauth://totp/…`, for a QR code.
    pub uri: Secret,
    /// The seed in base32, for who has to type it.
    pub seed: Secret,
}

impl Control {
    /// The user who asks, with a session of theirs.
    ///
    /// # Errors
    /// [`OpError::Forbidden`] with `login-required` where it is somebody else or something else.
    pub async fn me(&self, caller: &Caller) -> Result<User, OpError> {
        let id = session::own(caller)?;
        self.store().user(id).await?.ok_or_else(super::invalid)
    }

    /// The user who asks chooses another password.
    ///
    /// # Errors
    /// [`OpError::Forbidden`] with `login-refused` where the present password is another one; [`OpError::Invalid`] with
    /// `password-refused` where the new one will not do.
    pub async fn me_password(
        &self,
        caller: &Caller,
        session: &Session,
        present: &Secret,
        new: &Secret,
        from: &Origin,
    ) -> Result<Rotated, OpError> {
        let user = self.me(caller).await?;
        self.reauthenticate(&user, present, from).await?;
        self.guess_right(&user, from);
        if present.reveal() == new.reveal() {
            let reason = Reason::new(Code::PasswordRefused, "the new password is the present one");
            let reason = self.record_refusal(caller, "user.password", object(&user), reason).await?;
            return Err(OpError::Invalid(Box::new(reason)));
        }
        let hash = self.password_hash(caller, "user.password", &object(&user), &user.name, new).await?;
        let change = UserChange::PasswordSet { id: user.id, hash, must_change: false, at: self.now() };
        self.rotate(caller, session, "user.password", &user, vec![change]).await
    }

    /// The user who asks begins to use one-time codes: nothing changes before a code has shown that it works.
    ///
    /// # Errors
    /// As [`Self::me_password`]; [`OpError::Conflict`] where codes are asked for already, or there is no password that
    /// they would stand beside.
    pub async fn me_totp_begin(&self, caller: &Caller, present: &Secret, from: &Origin) -> Result<TotpBegun, OpError> {
        let user = self.me(caller).await?;
        if !user.has_password {
            let message = "who comes by an identity provider is asked for codes there";
            return Err(OpError::Conflict(message.to_owned()));
        }
        self.reauthenticate(&user, present, from).await?;
        self.guess_right(&user, from);
        let key = &self.inner.authn.settings.key;
        let begun = totp::begin(key, &user.id.to_string(), &user.name).map_err(|error| failed(&error))?;
        let deed = Deed::done("user.totp-begin", object(&user), "user.totp-begun", serde_json::json!({}));
        self.record_identity(caller, deed, vec![UserChange::TotpBegun(user.id, begun.sealed)]).await?;
        Ok(TotpBegun { uri: begun.uri, seed: begun.seed })
    }

    /// A code shows that it works: from now on one is asked for.
    ///
    /// # Errors
    /// [`OpError::Forbidden`] with `login-refused` where the code is wrong; [`OpError::Conflict`] where nobody began.
    pub async fn me_totp_confirm(
        &self,
        caller: &Caller,
        session: &Session,
        code: &Secret,
        from: &Origin,
    ) -> Result<Rotated, OpError> {
        let user = self.me(caller).await?;
        let credentials = self.store().user_credentials(user.id).await?.ok_or_else(super::invalid)?;
        if credentials.totp_confirmed || credentials.totp.is_none() {
            return Err(OpError::Conflict("nobody began with one-time codes".to_owned()));
        }
        self.guess_begin(&user, from).await?;
        let checked = if totp::is_code(code.reveal().trim()) { Some(code) } else { None };
        let step = match self.second_factor(&user, &credentials, checked)? {
            Ok((UserChange::TotpUsed(_, step), _)) => step,
            _ => return Err(self.guess_refused(&user, from).await),
        };
        self.guess_right(&user, from);
        let (recovery, hashes) = totp::recovery().map_err(|error| failed(&error))?;
        let change = UserChange::TotpConfirmed { id: user.id, step, recovery: hashes, at: self.now() };
        let rotated = self.rotate(caller, session, "user.totp-confirm", &user, vec![change]).await?;
        Ok(Rotated { recovery, ..rotated })
    }

    /// One-time codes are no longer asked for; it takes the password and a last code.
    ///
    /// # Errors
    /// As [`Self::me_totp_confirm`].
    pub async fn me_totp_remove(
        &self,
        caller: &Caller,
        session: &Session,
        present: &Secret,
        code: &Secret,
        from: &Origin,
    ) -> Result<Rotated, OpError> {
        let user = self.me(caller).await?;
        let credentials = self.reauthenticate(&user, present, from).await?;
        let mut changes = Vec::new();
        // A seed that was never confirmed asks nobody for anything.
        if credentials.totp_confirmed {
            match self.second_factor(&user, &credentials, Some(code))? {
                Ok((used, _)) => changes.push(used),
                Err(_) => return Err(self.guess_refused(&user, from).await),
            }
        }
        changes.push(UserChange::TotpRemoved(user.id));
        match self.rotate(caller, session, "user.totp-remove", &user, changes).await {
            Ok(rotated) => {
                self.guess_right(&user, from);
                Ok(rotated)
            }
            // The code was used before, or is none.
            Err(OpError::Conflict(_)) if credentials.totp_confirmed => Err(self.guess_refused(&user, from).await),
            Err(error) => Err(error),
        }
    }

    /// The hash of a password that will do for somebody of this name.
    ///
    /// # Errors
    /// [`OpError::Invalid`] with `password-refused`, written down.
    pub(in crate::control) async fn password_hash(
        &self,
        caller: &Caller,
        action: &str,
        object: &str,
        name: &str,
        password: &Secret,
    ) -> Result<Hidden<String>, OpError> {
        if let Err(reason) = password::check(name, password) {
            let reason = self.record_refusal(caller, action, object.to_owned(), reason).await?;
            return Err(OpError::Invalid(Box::new(reason)));
        }
        self.inner.authn.hasher.hash(password).await.map_err(login::hash_failed)
    }

    /// The changes, the end of every other session, and another token for this one.
    async fn rotate(
        &self,
        caller: &Caller,
        session: &Session,
        action: &str,
        user: &User,
        mut changes: Vec<UserChange>,
    ) -> Result<Rotated, OpError> {
        let (token, hash) = session::token()?;
        changes.push(UserChange::SessionsClosed { user: user.id, except: Some(session.id) });
        changes.push(UserChange::SessionRotated(session.id, hash));
        let deed = Deed::done(action, object(user), format!("{action}.done"), serde_json::json!({ "name": user.name }));
        self.record_identity(caller, deed, changes).await?;
        let csrf = (session.kind == SessionKind::Browser).then(|| session::csrf(&token));
        Ok(Rotated { token, csrf, recovery: Vec::new() })
    }

    /// The sessions of the user who asks.
    ///
    /// # Errors
    /// As [`Self::me`].
    pub async fn me_sessions(&self, caller: &Caller, after: &str, limit: u32) -> Result<Vec<Session>, OpError> {
        let id: Uuid = session::own(caller)?;
        let sessions = self.store().sessions_of(id, after, limit).await?;
        Ok(sessions.into_iter().filter(|session| self.session_lives(session)).collect())
    }

    /// Whether it has not ended by itself.
    pub fn session_lives(&self, session: &Session) -> bool {
        let now = self.now();
        now < session.expires_at && now.duration_since(session.used_at) < session::idle(session.kind)
    }
}

fn object(user: &User) -> String {
    format!("user/{}", user.id)
}
