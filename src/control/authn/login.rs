//! A name, a password and a code in, a session out.
//! Invariant: an unknown name, a wrong password and somebody who is kept out look and last the same; a guess is counted
//! before it is checked.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::password::{HashError, Lane, Verified};
use super::{Identified, Inside, Origin, failed, network, session, too_many, totp, user_caller};
use crate::control::{Caller, Control, Deed, OpError};
use crate::store::{Credentials, Hidden, Session, SessionKind, User, UserChange};
use crate::types::access::Subject;
use crate::types::{Code, Reason, Secret, limits};

/// Somebody says who they are.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// A one-time code, or a recovery code.
    pub code: Option<Secret>,
    /// Where the session's token will be carried.
    pub kind: SessionKind,
    /// The session that they had before in this browser: it ends.
    pub before: Option<Secret>,
}

/// A session that has begun.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// Whose it is.
    pub user: User,
    /// What opens it; nobody is told again.
    pub token: Secret,
    /// What a browser's unsafe requests carry as well.
    pub csrf: Option<Secret>,
}

/// Failures of one name from wherever that slow nobody down.
const FREE_FAILURES: u32 = 10;
/// What each further one costs who is not known by their address, and the most that they cost together.
const SLOWER_MS: u64 = 100;
const SLOWEST_MS: u64 = 5_000;

/// How long a stranger waits for their answer after so many failures of the name that they say is theirs: long enough
/// to make guessing from many places slow, and never a refusal.
fn slowdown(failures: u32) -> Duration {
    let beyond = u64::from(failures.saturating_sub(FREE_FAILURES));
    Duration::from_millis(beyond.saturating_mul(SLOWER_MS).min(SLOWEST_MS))
}

impl Control {
    /// Logs somebody in.
    ///
    /// # Errors
    /// [`OpError::Unauthenticated`] with `login-refused`, or `totp-required` where the password is right and a code is
    /// asked for; [`OpError::TooMany`] where there were too many attempts.
    pub async fn login(&self, attempt: &Attempt, from: &Origin) -> Result<Opened, OpError> {
        let network = from.address.map(network);
        self.login_rate(network)?;
        let name = name_of(&attempt.user);
        let user = self.store().user_by_name(&name).await?;
        let id = user.as_ref().map_or(Uuid::nil(), |user| user.id);
        // Asked of nobody too, so that nobody costs as much as somebody.
        let credentials = self.store().user_credentials(id).await?;
        let known = match network {
            Some(network) => self.store().login_address_known(id, &network.to_string()).await?,
            None => true,
        };
        let key = (name, network);
        self.begin(&key, known).await?;
        let lane = if known { Lane::Known } else { Lane::Strangers };
        let kept = credentials.as_ref().and_then(|credentials| credentials.password.clone());
        let verified = self.verify(lane, kept.clone(), &attempt.password).await?;
        let (Verified::Yes { rehashed }, Some(user), Some(credentials)) = (verified, user.clone(), credentials) else {
            return Err(self.login_refused(&key.0, user.as_ref(), from, wrong()).await);
        };
        if user.disabled {
            return Err(self.login_refused(&key.0, Some(&user), from, wrong()).await);
        }
        let mut changes = Vec::new();
        let mut method = "password".to_owned();
        if credentials.totp_confirmed {
            match self.second_factor(&user, &credentials, attempt.code.as_ref())? {
                Ok((change, how)) => {
                    changes.push(change);
                    method = format!("password+{how}");
                }
                Err(reason) => return Err(self.login_refused(&key.0, Some(&user), from, reason).await),
            }
        }
        if let (Some(was), Some(hash)) = (kept, rehashed) {
            changes.push(UserChange::PasswordRehashed { id: user.id, was, hash });
        }
        let opened = self.session_open(&user, attempt, method, changes, from).await;
        match opened {
            Ok(opened) => {
                self.inner.authn.pauses.succeeded(&key);
                Ok(opened)
            }
            // The code was used meanwhile, or the user is kept out since.
            Err(OpError::Conflict(_) | OpError::NotFound(_)) => {
                Err(self.login_refused(&key.0, Some(&user), from, wrong()).await)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins a session for a user who has proved who they are; `changes` come first and may refuse it.
    pub(super) async fn session_open(
        &self,
        user: &User,
        attempt: &Attempt,
        method: String,
        mut changes: Vec<UserChange>,
        from: &Origin,
    ) -> Result<Opened, OpError> {
        let (token, hash) = session::token()?;
        let now = self.now();
        let session = Session {
            id: Uuid::now_v7(),
            user: user.id,
            kind: attempt.kind,
            method,
            address: from.address.map(|address| address.to_canonical().to_string()),
            agent: from.agent.clone(),
            created_at: now,
            used_at: now,
            expires_at: now.checked_add(session::lifetime(attempt.kind)).unwrap_or(jiff::Timestamp::MAX),
        };
        let address = from.address.map(|address| network(address).to_string());
        changes.push(UserChange::LoggedIn { id: user.id, address, at: now });
        changes.push(UserChange::SessionOpened(Box::new(session.clone()), hash));
        let data = serde_json::json!({
            "user": user.name, "kind": session.kind, "method": session.method, "address": session.address,
        });
        let deed = Deed::done("session.open", format!("session/{}", session.id), "session.opened", data);
        self.record_identity(&user_caller(user.id, &user.name, from), deed, changes).await?;
        if let Some(before) = &attempt.before {
            self.session_ends(before, from).await?;
        }
        let csrf = (attempt.kind == SessionKind::Browser).then(|| session::csrf(&token));
        Ok(Opened { session, user: User { login_at: Some(now), ..user.clone() }, token, csrf })
    }

    /// What the browser was logged in by before ends, where it has not ended already.
    async fn session_ends(&self, before: &Secret, from: &Origin) -> Result<(), OpError> {
        let Ok(Identified { caller, session: Some(session), .. }) = self.session_identify(before, true, from).await
        else {
            return Ok(());
        };
        match self.session_close(&caller, session.id).await {
            Err(OpError::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether the password is this user's; for who is inside already, and may guess none the less. It counts as a
    /// failure until [`Self::guess_right`].
    pub(super) async fn reauthenticate(
        &self,
        user: &User,
        password: &Secret,
        from: &Origin,
    ) -> Result<Credentials, OpError> {
        self.guess_begin(user, from).await?;
        let credentials = self.store().user_credentials(user.id).await?.ok_or_else(super::invalid)?;
        match self.verify(Lane::Known, credentials.password.clone(), password).await? {
            Verified::Yes { .. } => Ok(credentials),
            Verified::No => Err(self.guess_refused(user, from).await),
        }
    }

    /// Whoever is inside already tries a code: it counts as any guess does.
    pub(super) async fn guess_begin(&self, user: &User, from: &Origin) -> Result<(), OpError> {
        self.begin(&(user.name.clone(), from.address.map(network)), true).await
    }

    /// It was no guess.
    pub(super) fn guess_right(&self, user: &User, from: &Origin) {
        self.inner.authn.pauses.succeeded(&(user.name.clone(), from.address.map(network)));
    }

    /// It was a wrong one.
    pub(super) async fn guess_refused(&self, user: &User, from: &Origin) -> OpError {
        let caller = user_caller(user.id, &user.name, from);
        let object = format!("user/{}", user.id);
        match self.record_refusal(&caller, "user.reauthenticate", object, wrong()).await {
            Ok(reason) => OpError::Forbidden(Box::new(reason)),
            Err(error) => error,
        }
    }

    /// The change that uses up the code, and what it is called; or why it is none.
    pub(super) fn second_factor(
        &self,
        user: &User,
        credentials: &Credentials,
        code: Option<&Secret>,
    ) -> Result<Result<(UserChange, &'static str), Reason>, OpError> {
        let Some(code) = code else {
            return Ok(Err(Reason::new(Code::TotpRequired, "the password is right, and a one-time code is asked for")));
        };
        let code = code.reveal().trim();
        if !totp::is_code(code) {
            let change = UserChange::RecoveryUsed(user.id, totp::recovery_hash(code), self.now());
            return Ok(Ok((change, "recovery")));
        }
        let none = Hidden(Vec::new());
        let sealed = credentials.totp.as_ref().unwrap_or(&none);
        let key = &self.inner.authn.settings.key;
        let step = totp::check(key, &user.id.to_string(), sealed, credentials.totp_step, code, self.now());
        Ok(match step.map_err(|error| failed(&error))? {
            Some(step) => Ok((UserChange::TotpUsed(user.id, step), "totp")),
            None => Err(wrong()),
        })
    }

    pub(super) fn login_rate(&self, network: Option<IpAddr>) -> Result<(), OpError> {
        let Some(network) = network else { return Ok(()) };
        let standing = self.inner.authn.logins.take(&network, self.now_ms());
        if standing.allowed {
            return Ok(());
        }
        Err(too_many(Code::LoginDelayed, "there were too many logins from this address", standing.reset_ms))
    }

    /// Counts the attempt, and lets it wait where it must.
    async fn begin(&self, key: &(String, Option<IpAddr>), known: bool) -> Result<(), OpError> {
        let authn = &self.inner.authn;
        // At the socket nobody is a stranger, and nobody waits.
        if key.1.is_none() {
            return Ok(());
        }
        let delayed = |wait| too_many(Code::LoginDelayed, "this name failed too often from this address", wait);
        authn.pauses.begin(key, self.now_ms()).map_err(delayed)?;
        let slowdown = match known {
            true => Duration::ZERO,
            false => slowdown(authn.failures.seen(&key.0, self.now_ms())),
        };
        if !slowdown.is_zero() {
            let inside = Inside::enter(&authn.slowed, limits::LOGINS_SLOWED);
            let _inside = inside.ok_or_else(|| too_many(Code::LoginDelayed, "too many logins wait already", 1_000))?;
            tokio::time::sleep(slowdown).await;
        }
        Ok(())
    }

    pub(super) async fn verify(
        &self,
        lane: Lane,
        kept: Option<Hidden<String>>,
        password: &Secret,
    ) -> Result<Verified, OpError> {
        if password.reveal().chars().count() > limits::PASSWORD_CHARS_MAX {
            // Nobody has one; it is not hashed, and lasts as long.
            return self.inner.authn.hasher.verify(lane, None, &Secret::default()).await.map_err(hash_failed);
        }
        self.inner.authn.hasher.verify(lane, kept, password).await.map_err(hash_failed)
    }

    /// Writes the failure down, and says no.
    async fn login_refused(&self, tried: &str, user: Option<&User>, from: &Origin, reason: Reason) -> OpError {
        // Whether or not somebody has that name: who is slowed down learns nothing from it.
        if reason.code.known() != Some(Code::TotpRequired) {
            self.inner.authn.failures.take(&tried.to_owned(), self.now_ms());
        }
        let name = user.map(|user| &user.name);
        // What was typed for a name that nobody has may be a password in the wrong field: it is not written down.
        let object = user.map_or_else(|| "user/unknown".to_owned(), |user| format!("user/{}", user.id));
        let address = from.address.map(|address| address.to_canonical().to_string());
        let data = serde_json::json!({ "user": name, "address": address, "reasons": [&reason] });
        let deed = Deed::refused("session.open", object, "session.refused", std::slice::from_ref(&reason));
        let caller = Caller {
            actor: "anonymous".to_owned(),
            origin: from.origin,
            address: from.address,
            why: from.why.clone(),
            // Nobody has shown that they are anybody.
            scopes: Some(std::collections::BTreeSet::new()),
            subject: Subject::Service(String::new()),
        };
        match self.record_identity(&caller, Deed { data, ..deed }, Vec::new()).await {
            Ok(_) => OpError::Unauthenticated(Box::new(reason)),
            Err(error) => error,
        }
    }
}

/// The name that is looked for. One that nobody can have is nobody's.
fn name_of(typed: &str) -> String {
    let name = typed.trim();
    if name.len() > limits::USER_NAME_BYTES { String::new() } else { name.to_lowercase() }
}

/// Whatever was wrong.
fn wrong() -> Reason {
    Reason::new(Code::LoginRefused, "the name, the password or the code is wrong, or the user is kept out")
}

#[expect(clippy::needless_pass_by_value, reason = "it maps an error")]
pub(super) fn hash_failed(error: HashError) -> OpError {
    match error {
        HashError::Busy => too_many(Code::LoginDelayed, "too many logins are being checked at once", 1_000),
        HashError::Failed => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::silent;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whether_a_name_is_known_is_not_told_by_what_is_computed_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let control = silent::control(dir.path()).await;
        let hasher = &control.inner.authn.hasher;
        let hash = hasher.hash(&Secret::new("correct horse battery".to_owned())).await.unwrap();
        silent::known_with(&control, "alice", Some(hash)).await;
        silent::known(&control, "bob").await;
        let address = Some("192.0.2.7".parse().unwrap());
        for name in ["alice", "bob", "nobody", "no name at all"] {
            let attempt = Attempt {
                user: name.to_owned(),
                password: Secret::new("a guess of somebody".to_owned()),
                code: None,
                kind: SessionKind::Token,
                before: None,
            };
            let held = hasher.keep_strangers_waiting();
            let asked = control.clone();
            let from = Origin { origin: "tls", address, agent: None, why: None };
            let login = tokio::spawn(async move { asked.login(&attempt, &from).await });
            while hasher.strangers_waiting() == 0 {
                assert!(!login.is_finished(), "{name} was refused without a hash");
                tokio::task::yield_now().await;
            }
            drop(held);
            let refused = login.await.unwrap().unwrap_err();
            assert!(
                matches!(&refused, OpError::Unauthenticated(why) if why.code == Code::LoginRefused.into()),
                "{name}"
            );
        }
    }

    #[test]
    fn strangers_are_slowed_down_and_never_locked_out() {
        assert_eq!(slowdown(0), Duration::ZERO);
        assert_eq!(slowdown(FREE_FAILURES), Duration::ZERO);
        assert_eq!(slowdown(FREE_FAILURES + 3), Duration::from_millis(300));
        assert_eq!(slowdown(u32::MAX), Duration::from_secs(5));
    }
}
