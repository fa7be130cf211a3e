//! Tokens in, sessions out: what is kept of a token is its hash.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sha2::Digest as _;
use tokio::sync::watch;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Identified, Origin, invalid, user_caller};
use crate::control::{Caller, Control, Deed, OpError};
use crate::store::{Hidden, Session, SessionKind, TokenHash, Touch, User, UserChange};
use crate::types::Secret;
use crate::types::access::Subject;

/// How the tokens of sessions begin, so that whoever finds one knows what it is.
pub(super) const PREFIX: &str = "dvs_";
const TOKEN_BYTES: usize = 32;
/// What is written down of a session's use, at most so often.
const TOUCH: SignedDuration = SignedDuration::from_secs(60);

/// How often those that have ended are forgotten.
const SWEEP: Duration = Duration::from_secs(10 * 60);

/// How long a session lasts unused.
pub(super) const fn idle(kind: SessionKind) -> SignedDuration {
    match kind {
        SessionKind::Browser => SignedDuration::from_mins(30),
        SessionKind::Token => SignedDuration::from_hours(24),
    }
}

/// How long it lasts at all.
pub(super) const fn lifetime(kind: SessionKind) -> SignedDuration {
    match kind {
        SessionKind::Browser => SignedDuration::from_hours(12),
        SessionKind::Token => SignedDuration::from_hours(24 * 7),
    }
}

/// A new token, and what is kept of it.
pub(super) fn token() -> Result<(Secret, Hidden<TokenHash>), OpError> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    let random = SystemRandom::new().fill(bytes.as_mut_slice());
    random.map_err(|_| OpError::Node("there is no randomness".to_owned()))?;
    let token = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())));
    let hash = hash(&token);
    Ok((token, Hidden(hash)))
}

fn hash(token: &Secret) -> TokenHash {
    sha2::Sha256::digest(token.reveal().as_bytes()).into()
}

/// What a browser's unsafe requests carry beside the cookie: a page of somebody else can send the cookie and cannot
/// read this. It is made of the token, so it ends with it.
pub(super) fn csrf(token: &Secret) -> Secret {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.reveal().as_bytes());
    Secret::new(URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"debvisor csrf token")))
}

/// What is remembered of a session.
#[derive(Clone)]
pub(super) struct Entry {
    session: Arc<(Session, User)>,
    used_at: Timestamp,
    told_at: Timestamp,
}

impl Control {
    pub(super) async fn session_identify(
        &self,
        token: &Secret,
        browser: bool,
        from: &Origin,
    ) -> Result<Identified, OpError> {
        // Longer than any token: not worth a hash.
        if token.reveal().len() > 2 * TOKEN_BYTES {
            return Err(invalid());
        }
        let hash = hash(token);
        let (sessions, generation) = (&self.inner.authn.sessions, self.store().credential_generation());
        let mut entry = match sessions.find(&hash, generation) {
            Some(entry) => entry,
            None => {
                let (session, user) = self.store().session_by_token(&hash).await?.ok_or_else(invalid)?;
                let (used_at, told_at) = (session.used_at, session.used_at);
                Entry { session: Arc::new((session, user)), used_at, told_at }
            }
        };
        let (session, user) = &*entry.session;
        let now = self.now();
        let unused = now.duration_since(entry.used_at);
        let alive = now < session.expires_at && unused < idle(session.kind) && !user.disabled;
        if !alive || (session.kind == SessionKind::Browser) != browser {
            return Err(invalid());
        }
        let identified = Identified {
            caller: user_caller(user.id, &user.name, from),
            session: Some(Session { used_at: now, ..session.clone() }),
            csrf: browser.then(|| csrf(token)),
            must_change: user.must_change,
        };
        entry.used_at = now;
        if now.duration_since(entry.told_at) >= TOUCH {
            self.store().touch(Touch::Session(session.id, now));
            entry.told_at = now;
        }
        sessions.keep(hash, entry, generation);
        Ok(identified)
    }

    /// Ends one of the caller's own sessions.
    ///
    /// # Errors
    /// [`OpError::NotFound`] where they have no such session.
    pub async fn session_close(&self, caller: &Caller, id: Uuid) -> Result<(), OpError> {
        let user = own(caller)?;
        let deed = Deed::done("session.close", format!("session/{id}"), "session.closed", serde_json::json!({}));
        self.record_identity(caller, deed, vec![UserChange::SessionClosed { id, user }]).await?;
        Ok(())
    }

    /// Ends every session of a user, as an administrator does.
    ///
    /// # Errors
    /// Where that cannot be written down.
    pub async fn sessions_close(&self, caller: &Caller, user: &User) -> Result<(), OpError> {
        let data = serde_json::json!({ "name": user.name });
        let deed = Deed::done("session.close-all", format!("user/{}", user.id), "session.closed", data);
        let change = UserChange::SessionsClosed { user: user.id, except: None };
        self.record_identity(caller, deed, vec![change]).await?;
        Ok(())
    }

    /// Forgets sessions that have ended by themselves, now and then, until `stop` says so.
    pub async fn sessions_keep(self, mut stop: watch::Receiver<bool>) {
        loop {
            if let Err(error) = self.sessions_sweep().await {
                tracing::warn!(%error, "sessions that have ended could not be forgotten");
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn sessions_sweep(&self) -> Result<(), OpError> {
        let now = self.now();
        let longest = idle(SessionKind::Browser).max(idle(SessionKind::Token));
        let idle = now.checked_sub(longest).unwrap_or(Timestamp::MIN);
        if !self.store().sessions_ended(now, idle).await? {
            return Ok(());
        }
        let deed = Deed::done("session.sweep", "session".to_owned(), "session.swept", serde_json::json!({}));
        let change = UserChange::SessionsSwept { expired: now, idle };
        self.record_identity(&Caller::system(), deed, vec![change]).await?;
        Ok(())
    }
}

/// The user that the caller is, and not a key or a service of theirs: what is about a person themself takes the person.
pub(super) fn own(caller: &Caller) -> Result<Uuid, OpError> {
    match caller.subject {
        Subject::User(id) => Ok(id),
        _ => {
            let message = format!("{} is not a user who logged in", caller.actor);
            let reason = crate::types::Reason::new(crate::types::Code::LoginRequired, message);
            Err(OpError::Forbidden(Box::new(reason)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_256_bits_says_what_it_is_and_has_a_csrf_token_of_its_own() {
        let (one, kept) = token().unwrap();
        let (two, _) = token().unwrap();
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        assert_eq!(hash(&one), kept.0);
        assert_eq!(csrf(&one).reveal(), csrf(&one).reveal());
        assert_ne!(csrf(&one).reveal(), csrf(&two).reveal());
        assert!(!csrf(&one).reveal().contains(&one.reveal()[PREFIX.len()..]));
        assert!(!format!("{one:?} {kept:?}").contains(&one.reveal()[PREFIX.len()..]));
    }
}
