//! A credential in, a caller out; or a "no" that says nothing of what is known here.
//! Invariant: a credential that is not believed is refused, never taken for none.
//!
//! Whoever guesses is slowed down by where they ask from and whom they ask as ([`limit`]); nobody else can make the
//! owner of a name wait where they have logged in before.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use uuid::Uuid;

use super::{Caller, Control, Deed, OpError};
use crate::store::{ApiKeyRow, Change, Session, TokenHash, User, UserChange, Written};
use crate::types::access::Subject;
use crate::types::{Code, Reason, Secret, limits};

pub mod key;
pub mod limit;
mod login;
mod me;
pub mod oidc;
mod password;
mod remembered;
pub mod seal;
pub mod service;
mod session;
mod totp;

pub use limit::{Rate, Standing};
pub use login::{Attempt, Opened};
pub use me::{Rotated, TotpBegun};
pub use seal::SealingKey;

use limit::{Pauses, Windows};
use remembered::Remembered;

/// What the configuration says of logins.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Seals what must be read again.
    pub key: SealingKey,
    /// How often.
    pub limits: Limits,
    /// How long API keys last.
    pub keys: key::KeySettings,
    /// Who else vouches for people.
    pub providers: Arc<oidc::Providers>,
}

/// How often somebody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests from one address.
    pub address: Rate,
    /// Requests of one user, key or service.
    pub subject: Rate,
    /// Logins from one address.
    pub login: Rate,
}

/// A credential, as a request carried it.
#[derive(Debug, Clone)]
pub enum Credential {
    /// In `Authorization: Bearer`.
    Bearer(Secret),
    /// In the cookie of a browser.
    Cookie(Secret),
    /// In the handshake: a certificate in DER, of an authority of clients, and theirs who showed it.
    Certificate(Arc<[u8]>),
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `socket` or `tls`.
    pub origin: &'static str,
    /// The address of the other end, where there is one.
    pub address: Option<IpAddr>,
    /// The program, as it calls itself.
    pub agent: Option<String>,
    /// What was said of why.
    pub why: Option<String>,
}

/// Who a credential says asks.
#[derive(Debug, Clone)]
pub struct Identified {
    /// The caller.
    pub caller: Caller,
    /// The session, where the credential is one's.
    pub session: Option<Session>,
    /// What a browser's unsafe requests must carry as well.
    pub csrf: Option<Secret>,
    /// They have to choose another password before anything else.
    pub must_change: bool,
}

impl Identified {
    /// A program, which has no session.
    const fn program(caller: Caller) -> Self {
        Self { caller, session: None, csrf: None, must_change: false }
    }
}

/// What is kept of logins between requests.
pub(super) struct Authn {
    settings: Settings,
    hasher: password::Hasher,
    addresses: Windows<IpAddr>,
    subjects: Windows<Subject>,
    logins: Windows<IpAddr>,
    /// By name and address.
    pauses: Pauses<(String, Option<IpAddr>)>,
    /// Failures by name, from wherever.
    failures: Windows<String>,
    slowed: AtomicUsize,
    sessions: Remembered<TokenHash, session::Entry>,
    keys: Remembered<Uuid, Arc<(ApiKeyRow, User)>>,
    noted: key::Noted,
}

/// Failures by name are counted over this time.
const FAILURES_MS: u64 = 10 * 60 * 1_000;

impl Authn {
    pub(super) fn new(settings: Settings) -> Result<Self, OpError> {
        let entries = limits::RATE_ENTRIES;
        let Limits { address, subject, login } = settings.limits;
        Ok(Self {
            settings,
            hasher: password::Hasher::new().map_err(|error| failed(&error))?,
            addresses: Windows::new(address, entries),
            subjects: Windows::new(subject, entries),
            logins: Windows::new(login, entries),
            pauses: Pauses::new(entries),
            failures: Windows::new(Rate { limit: u32::MAX, window_ms: FAILURES_MS }, entries),
            slowed: AtomicUsize::new(0),
            sessions: Remembered::default(),
            keys: Remembered::default(),
            noted: key::Noted::default(),
        })
    }
}

impl Control {
    /// Who this credential says asks.
    ///
    /// # Errors
    /// [`OpError::Unauthenticated`]: of a session with `credential-invalid`, whatever is wrong with it; of a key or a
    /// certificate with what is.
    pub async fn identify(&self, credential: &Credential, from: &Origin) -> Result<Identified, OpError> {
        match credential {
            Credential::Bearer(token) if token.reveal().starts_with(session::PREFIX) => {
                self.session_identify(token, false, from).await
            }
            Credential::Bearer(token) if token.reveal().starts_with(key::PREFIX) => {
                self.key_caller(token.reveal(), from).await.map(Identified::program)
            }
            Credential::Certificate(der) => self.service_caller(der, from).await.map(Identified::program),
            Credential::Cookie(token) => self.session_identify(token, true, from).await,
            Credential::Bearer(_) => Err(invalid()),
        }
    }

    /// A request from this address is counted.
    pub fn address_standing(&self, address: IpAddr) -> Standing {
        self.inner.authn.addresses.take(&network(address), self.now_ms())
    }

    /// A request of this subject is counted; who is inside the host is not limited.
    pub fn subject_standing(&self, subject: &Subject) -> Option<Standing> {
        let subject = match subject {
            Subject::Host { .. } | Subject::Node(_) | Subject::System => return None,
            // A key is counted with its owner: more keys are not more requests.
            Subject::Key { user, .. } => Subject::User(*user),
            subject => subject.clone(),
        };
        Some(self.inner.authn.subjects.take(&subject, self.now_ms()))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millisecond()).unwrap_or(0)
    }

    /// Writes what was done to users or sessions. The reconciler has nothing to do with it.
    pub(super) async fn record_identity(
        &self,
        caller: &Caller,
        deed: Deed<'_>,
        changes: Vec<UserChange>,
    ) -> Result<Written, OpError> {
        let changes = changes.into_iter().map(|change| Change::User(Box::new(change))).collect();
        let mut write = deed.by(caller, self.now(), changes);
        // Who may see what happens need not see from where people log in; the audit log has it.
        if let Some(data) = write.event.data.as_object_mut() {
            data.remove("address");
        }
        Ok(self.store().write(write).await?)
    }

    /// Writes what was done to keys, identities and services.
    async fn record_credential(
        &self,
        caller: &Caller,
        deed: Deed<'_>,
        changes: Vec<Change>,
    ) -> Result<Written, OpError> {
        Ok(self.store().write(deed.by(caller, self.now(), changes)).await?)
    }

    /// Writes down that nobody who could be named was refused.
    async fn record_stranger(
        &self,
        action: &str,
        object: String,
        event: &str,
        reason: &Reason,
        from: &Origin,
    ) -> Result<(), OpError> {
        let address = from.address.map(|address| address.to_canonical().to_string());
        let deed = Deed::refused(action, object, event, std::slice::from_ref(reason));
        let mut write = deed.by(&stranger(from), self.now(), Vec::new());
        // As with users: the audit log has the address, and events do not.
        write.audit.data = serde_json::json!({ "reasons": [reason], "address": address });
        self.store().write(write).await?;
        Ok(())
    }

    /// Writes down that somebody was refused, and hands the reason on.
    pub(super) async fn record_refusal(
        &self,
        caller: &Caller,
        action: &str,
        object: String,
        reason: Reason,
    ) -> Result<Reason, OpError> {
        let event = format!("{action}.refused");
        let deed = Deed::refused(action, object, event, std::slice::from_ref(&reason));
        self.record_identity(caller, deed, Vec::new()).await?;
        Ok(reason)
    }
}

/// The part of an address that one party has to itself: an IPv6 network of 64 bits is handed out as a whole.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

/// Who has not shown that they are anybody.
fn stranger(from: &Origin) -> Caller {
    Caller {
        subject: Subject::Service(String::new()),
        actor: "anonymous".to_owned(),
        origin: from.origin,
        address: from.address,
        scopes: Some(std::collections::BTreeSet::new()),
        why: from.why.clone(),
    }
}

/// The caller that a user is.
fn user_caller(id: Uuid, name: &str, from: &Origin) -> Caller {
    Caller {
        subject: Subject::User(id),
        actor: format!("user:{name}"),
        origin: from.origin,
        address: from.address,
        scopes: None,
        why: from.why.clone(),
    }
}

/// A credential is not believed; why not is not told.
pub(super) fn invalid() -> OpError {
    let message = "the credential is not known here, has ended, or was revoked";
    OpError::Unauthenticated(Box::new(Reason::new(Code::CredentialInvalid, message)))
}

/// Too often.
fn too_many(code: Code, message: impl Into<String>, wait_ms: u64) -> OpError {
    OpError::TooMany { reason: Box::new(Reason::new(code, message)), wait_ms }
}

/// Something of our own does not work; the cause goes to the log.
fn failed(error: &(dyn std::error::Error + 'static)) -> OpError {
    tracing::error!(error, "a credential could not be worked with");
    OpError::Node("a credential could not be worked with".to_owned())
}

/// Counts how many are inside, up to a bound.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let entered = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(entered)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_counted_with_all_that_its_owner_has() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
    }
}
