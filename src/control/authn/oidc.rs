//! Login by an OpenID provider: a browser is sent there and comes back with a code, or a program brings an ID token;
//! out comes who that is here (OpenID Connect Core 1.0, RFC 7636, RFC 9700).
//! Invariant: nothing that an ID token says is believed before its signature, issuer, audience and times were checked.
//!
//! What must come back unchanged (state, nonce, PKCE verifier) goes to the browser in a sealed cookie: whoever begins
//! logins by the thousand fills no memory here, and a login that another browser began is none of this one's. A browser
//! can also log in for a program that waits beside it ([`program`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreIdTokenVerifier, CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::{
    ClaimsVerificationError, ClientId, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    Scope, SignatureVerificationError,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::super::{Caller, Control, Deed, OpError};
use super::{Attempt, Opened, Origin, network, stranger};
use crate::clients::openid::{Client, OpenId, OpenIdError};
use crate::control::ops::user::user_name;
use crate::store::{Change, CredentialChange, Identity, SessionKind, User, UserChange};
use crate::types::{Code, Reason, Secret, limits};

pub mod program;
pub mod roles;

use program::{Answered, Program};
use roles::{GivenRole, Roles};

/// How far the clocks of this host and of a provider may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(60);
/// How old an ID token may be that a program brings.
const TOKEN_AGE: SignedDuration = SignedDuration::from_mins(10);
/// How long a person may take at the provider.
const LOGIN: SignedDuration = SignedDuration::from_mins(10);
/// After this time the provider is asked anew what it says of itself.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// For so long what it said is good enough while it does not answer.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// A key that nobody knows makes us ask for the keys, so often at most.
const KEYS_PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// A provider that did not answer is not asked again for so long.
const FAILED_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// What the cookie is sealed for.
const PURPOSE: &str = "oidc-login";

/// What the configuration says of a provider.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// What it is called here.
    pub name: String,
    /// Its issuer, byte by byte.
    pub issuer: IssuerUrl,
    /// What it knows us by.
    pub client_id: String,
    /// The secret that goes with it; none for a public client.
    pub client_secret: Option<Secret>,
    /// Our callback, as browsers reach it and as the provider has it on its list.
    pub redirect_url: RedirectUrl,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The claim that a new user is named by.
    pub user_claim: String,
    /// Which values of which claim give which role on everything; where there are any, they alone say it.
    pub role_claim: Option<String>,
    /// The roles by the values of that claim.
    pub roles: HashMap<String, GivenRole>,
    /// Only people with a verified e-mail address of these domains; anybody whom the provider knows where none is named.
    pub domains: Vec<String>,
    /// Whether who is not known yet becomes a user.
    pub auto_create: bool,
}

/// The providers, and what is known of each.
#[derive(Debug)]
pub struct Providers {
    client: OpenId,
    by_name: HashMap<String, Provider>,
    /// ID tokens and states that were taken, until their end: each opens one session.
    taken: Mutex<HashMap<[u8; 32], Timestamp>>,
}

#[derive(Debug)]
struct Provider {
    settings: ProviderSettings,
    known: tokio::sync::Mutex<Known>,
}

/// What a provider said of itself.
#[derive(Debug, Default)]
struct Known {
    metadata: Option<Arc<CoreProviderMetadata>>,
    asked_at: Timestamp,
    keys_at: Timestamp,
    failed: Option<(Timestamp, String)>,
}

/// What a browser carries to the provider and back, sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Flow {
    provider: String,
    state: String,
    nonce: String,
    verifier: String,
    ends_at: Timestamp,
    /// For which program, where it is not for the browser itself.
    program: Option<Program>,
}

/// A login that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What it brings back in a cookie.
    pub cookie: String,
}

/// A login that has ended well, or for a program.
#[derive(Debug)]
pub enum Finished {
    /// The browser is logged in.
    Browser(Box<Opened>),
    /// The browser has something for the program that waits beside it.
    Program(Answered),
}

/// What the provider sends a browser back with.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Returned {
    /// The code, where it said yes.
    pub code: Option<String>,
    /// What it was given.
    pub state: Option<String>,
    /// Its error code, where it said no.
    pub error: Option<String>,
    /// Who it says to be (RFC 9207).
    pub iss: Option<String>,
}

/// Somebody, as a provider vouches for them.
#[derive(Debug, Clone)]
pub(super) struct Vouched {
    /// The provider's issuer.
    pub(super) issuer: String,
    /// What it calls them.
    pub(super) subject: String,
    /// Everything that the token says.
    claims: serde_json::Map<String, serde_json::Value>,
}

/// Somebody whom a provider vouches for, with what the configuration makes of its claims.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Person {
    issuer: String,
    subject: String,
    /// What they would be called here.
    name: Option<String>,
    /// The roles that the provider gives them; nothing where it has no say.
    roles: Option<Roles>,
}

impl Providers {
    /// What asks these providers. None of them is asked before somebody wants to log in.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(settings: Vec<ProviderSettings>) -> Result<Self, String> {
        let client =
            OpenId::new(Duration::from_millis(limits::OPENID_EXCHANGE_MS)).map_err(|error| error.to_string())?;
        let provider = |settings: ProviderSettings| Provider { settings, known: tokio::sync::Mutex::default() };
        let by_name = settings.into_iter().map(|settings| (settings.name.clone(), provider(settings))).collect();
        Ok(Self { client, by_name, taken: Mutex::default() })
    }

    /// The providers, in the order of their names.
    pub fn all(&self) -> Vec<&ProviderSettings> {
        let mut all: Vec<&ProviderSettings> = self.by_name.values().map(|provider| &provider.settings).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    fn named(&self, name: &str) -> Result<&Provider, OpError> {
        self.by_name.get(name).ok_or_else(|| OpError::NotFound(format!("there is no provider {name:?}")))
    }

    /// Notes that this was taken. Whether it was not before.
    fn take(&self, what: &str, until: Timestamp, now: Timestamp) -> bool {
        let hash: [u8; 32] = Sha256::digest(what.as_bytes()).into();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= limits::OPENID_TAKEN {
            taken.retain(|_, until| *until > now);
        }
        // Where so many people really log in at once, the next one waits.
        taken.len() < limits::OPENID_TAKEN && taken.insert(hash, until).is_none()
    }
}

impl Provider {
    /// What the provider says of itself: as it was a moment ago, or asked anew.
    async fn metadata(&self, client: &OpenId, now: Timestamp) -> Result<Arc<CoreProviderMetadata>, Reason> {
        let mut known = self.known.lock().await;
        let age = known.asked_at.duration_until(now);
        let found = known.metadata.clone();
        if let Some(metadata) = found.clone().filter(|_| age < FRESH) {
            return Ok(metadata);
        }
        let stale = found.filter(|_| age < STALE);
        if let Some((at, why)) = known.failed.as_ref().filter(|(at, _)| at.duration_until(now) < FAILED_PAUSE) {
            return stale.ok_or_else(|| unreachable(format!("{why} (asked at {at})")));
        }
        match client.discover(&self.settings.issuer).await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known = Known { metadata: Some(metadata.clone()), asked_at: now, keys_at: now, failed: None };
                Ok(metadata)
            }
            Err(error) => {
                known.failed = Some((now, error.to_string()));
                stale.ok_or_else(|| unreachable(error.to_string()))
            }
        }
    }

    /// The same with the provider's newest keys, where they were not asked for a moment ago.
    async fn newer_keys(&self, client: &OpenId, now: Timestamp) -> Option<Arc<CoreProviderMetadata>> {
        let mut known = self.known.lock().await;
        if known.keys_at.duration_until(now) < KEYS_PAUSE {
            return known.metadata.clone();
        }
        known.keys_at = now;
        let metadata = known.metadata.clone()?;
        let keys = client.keys(&metadata).await.ok()?;
        let metadata = Arc::new((*metadata).clone().set_jwks(keys));
        known.metadata = Some(metadata.clone());
        Some(metadata)
    }

    /// Checks an ID token, with newer keys where the known ones have none for it.
    async fn checked(&self, client: &OpenId, token: &CoreIdToken, expected: &Expected<'_>) -> Result<Vouched, Reason> {
        let metadata = self.metadata(client, expected.now).await?;
        match self.judged(&metadata, token, expected) {
            Err(reason) if reason.code.known() == Some(Code::OidcKeyUnknown) => {
                let newer = self.newer_keys(client, expected.now).await;
                newer.map_or(Err(reason), |metadata| self.judged(&metadata, token, expected))
            }
            judged => judged,
        }
    }

    /// The checks of OpenID Connect Core 1.0 section 3.1.3.7.
    fn judged(
        &self,
        metadata: &CoreProviderMetadata,
        token: &CoreIdToken,
        expected: &Expected<'_>,
    ) -> Result<Vouched, Reason> {
        let now = expected.now;
        let earlier = SystemTime::from(now.saturating_sub(SKEW).unwrap_or(now));
        let oldest = now.saturating_sub(expected.age.saturating_add(SKEW)).unwrap_or(now).as_second();
        let newest = now.saturating_add(SKEW).unwrap_or(now).as_second();
        // As a public client: what is signed with the client's secret is signed by whoever has it.
        let verifier = CoreIdTokenVerifier::new_public_client(
            ClientId::new(self.settings.client_id.clone()),
            self.settings.issuer.clone(),
            metadata.jwks().clone(),
        )
        .set_allowed_algs([CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256, CoreJwsSigningAlgorithm::EcdsaP256Sha256])
        .set_time_fn(move || earlier.into())
        .set_issue_time_verifier_fn(move |issued| match issued.timestamp() {
            at if at > newest => Err("it was issued in the future".to_owned()),
            at if at < oldest => Err("it was issued too long ago".to_owned()),
            _ => Ok(()),
        });
        let nonce = |found: Option<&Nonce>| match (expected.nonce, found) {
            (None, _) => Ok(()),
            (Some(wanted), Some(found)) if wanted.secret() == found.secret() => Ok(()),
            (Some(_), Some(_)) => Err("it was made for another login".to_owned()),
            (Some(_), None) => Err("it names no login".to_owned()),
        };
        let claims = token.claims(&verifier, nonce).map_err(|error| self.refusal(&error))?;
        let subject = claims.subject().to_string();
        let said = claims_of(token)?;
        if said.get("azp").is_some_and(|party| party.as_str() != Some(&self.settings.client_id)) {
            return Err(Reason::new(Code::OidcAudience, "the ID token was made for another party"));
        }
        let begins = said.get("nbf").and_then(serde_json::Value::as_f64);
        if begins.is_some_and(|at| at > newest as f64) {
            return Err(Reason::new(Code::OidcTokenTime, "the ID token is not valid yet"));
        }
        if subject.is_empty() || subject.len() > limits::OPENID_SUBJECT_BYTES {
            return Err(Reason::new(Code::OidcTokenMalformed, "the ID token's subject is empty or too long"));
        }
        Ok(Vouched { issuer: self.settings.issuer.to_string(), subject, claims: said })
    }

    fn refusal(&self, error: &ClaimsVerificationError) -> Reason {
        use SignatureVerificationError as Signature;
        let name = &self.settings.name;
        let (code, why) = match error {
            ClaimsVerificationError::Expired(_) => (Code::OidcTokenTime, "is not valid at this time"),
            ClaimsVerificationError::InvalidAudience(_) => (Code::OidcAudience, "was made for somebody else"),
            ClaimsVerificationError::InvalidIssuer(_) => (Code::OidcIssuer, "was issued by somebody else"),
            ClaimsVerificationError::InvalidNonce(_) => (Code::OidcNonce, "was not made for this login"),
            ClaimsVerificationError::SignatureVerification(error) => match error {
                Signature::NoMatchingKey | Signature::AmbiguousKeyId(_) => {
                    (Code::OidcKeyUnknown, "is signed with a key that the provider does not publish")
                }
                Signature::DisallowedAlg(_) | Signature::NoSignature | Signature::UnsupportedAlg(_) => {
                    (Code::OidcAlgorithm, "is signed with none of RS256 and ES256")
                }
                _ => (Code::OidcSignature, "has a signature that does not fit"),
            },
            _ => (Code::OidcTokenMalformed, "is not of the form that it must have"),
        };
        Reason::new(code, format!("the ID token {why} (provider {name})"))
    }
}

/// What an ID token is held against.
struct Expected<'a> {
    now: Timestamp,
    age: SignedDuration,
    nonce: Option<&'a Nonce>,
}

impl Control {
    /// Begins a login, of the browser or for a program: where the browser goes, and what it brings back.
    ///
    /// # Errors
    /// [`OpError::NotFound`] for a name that no provider has, [`OpError::Unavailable`] where it does not answer.
    pub async fn oidc_begin(&self, name: &str, program: Option<Program>) -> Result<Begun, OpError> {
        let providers = &self.inner.authn.settings.providers;
        let provider = providers.named(name)?;
        let now = self.now();
        let metadata = provider.metadata(&providers.client, now).await.map_err(unavailable)?;
        let settings = &provider.settings;
        let client =
            CoreClient::from_provider_metadata((*metadata).clone(), ClientId::new(settings.client_id.clone()), None)
                .set_redirect_uri(settings.redirect_url.clone());
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(settings.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge);
        let (url, state, nonce) = request.url();
        let flow = Flow {
            provider: name.to_owned(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
            ends_at: now.saturating_add(LOGIN).unwrap_or(now),
            program,
        };
        let flow = serde_json::to_vec(&flow).map_err(|error| OpError::Node(error.to_string()))?;
        let sealed =
            self.inner.authn.settings.key.seal(PURPOSE, &flow).map_err(|error| OpError::Node(error.to_string()))?;
        Ok(Begun { url: url.to_string(), cookie: URL_SAFE_NO_PAD.encode(sealed) })
    }

    /// Logs in whom the provider sent back: a session in their browser, or a code for the program that waits for it.
    ///
    /// # Errors
    /// [`OpError::Unauthenticated`] with the reason, written down as a refusal; [`OpError::Unavailable`] where the
    /// provider does not answer.
    pub async fn oidc_finish(
        &self,
        name: &str,
        returned: Returned,
        cookie: Option<&str>,
        before: Option<Secret>,
        from: &Origin,
    ) -> Result<Finished, OpError> {
        self.login_rate(from.address.map(network))?;
        let flow = match self.oidc_flow(name, &returned, cookie) {
            Ok(flow) => flow,
            Err(error) => return Err(self.oidc_refused(name, error, from).await),
        };
        let program = flow.program.clone();
        let vouched = self.oidc_returned(name, returned, flow).await;
        match program {
            None => self
                .oidc_login(name, vouched, SessionKind::Browser, before, from)
                .await
                .map(|it| Finished::Browser(Box::new(it))),
            Some(program) => self.oidc_answer(name, program, vouched, from).await.map(Finished::Program),
        }
    }

    /// Logs in whose ID token a program brings: a session whose token the program carries.
    ///
    /// # Errors
    /// As [`Self::oidc_finish`].
    pub async fn oidc_exchange(&self, name: &str, token: &str, from: &Origin) -> Result<Opened, OpError> {
        self.login_rate(from.address.map(network))?;
        let vouched = self.oidc_brought(name, token).await;
        self.oidc_login(name, vouched, SessionKind::Token, None, from).await
    }

    async fn oidc_login(
        &self,
        name: &str,
        person: Result<Person, OpError>,
        kind: SessionKind,
        before: Option<Secret>,
        from: &Origin,
    ) -> Result<Opened, OpError> {
        let known = match person {
            Ok(person) => self.oidc_user(name, &person, from).await.map(|known| (known, person.roles)),
            Err(error) => Err(error),
        };
        let ((user, changes), roles) = match known {
            Ok(known) => known,
            Err(error) => return Err(self.oidc_refused(name, error, from).await),
        };
        if let Some(roles) = roles {
            self.oidc_roles_given(name, &user, &roles, from).await?;
        }
        let attempt = Attempt { user: user.name.clone(), password: Secret::default(), code: None, kind, before };
        self.session_open(&user, &attempt, "oidc".to_owned(), changes, from).await
    }

    /// Writes a "no" down, and hands it on.
    async fn oidc_refused(&self, name: &str, error: OpError, from: &Origin) -> OpError {
        let OpError::Unauthenticated(reason) = &error else { return error };
        let object = format!("oidc/{name}");
        match self.record_stranger("session.open", object, "session.refused", reason, from).await {
            Ok(()) => error,
            Err(failed) => failed,
        }
    }

    /// Who that is here, and what the provider changes of them: the one who is linked, or a new one.
    async fn oidc_user(&self, name: &str, person: &Person, from: &Origin) -> Result<(User, Vec<UserChange>), OpError> {
        let settings = &self.inner.authn.settings.providers.named(name)?.settings;
        if let Some(roles) = &person.roles {
            self.oidc_roles_known(name, roles).await?;
        }
        let role = person.roles.as_ref().map(|roles| roles.built_in);
        if let Some(identity) = self.store().identity_of(&person.issuer, &person.subject).await? {
            let user = self.store().user(identity.user).await?.filter(|user| !user.disabled);
            let kept_out = || denied(Reason::new(Code::OidcUserUnknown, "the user who is linked may not log in"));
            let user = user.ok_or_else(kept_out)?;
            let changes = role.filter(|role| *role != user.role).map(|role| UserChange::Changed {
                id: user.id,
                if_generation: None,
                role: Some(role),
                disabled: None,
                must_change: None,
            });
            return Ok((user, changes.into_iter().collect()));
        }
        let subject = &person.subject;
        if !settings.auto_create {
            let message = format!("nobody here is linked with {subject:?} of {}", person.issuer);
            return Err(denied(Reason::new(Code::OidcUserUnknown, message)));
        }
        let unnamed = |why: String| denied(Reason::new(Code::OidcUserName, why));
        let Some(called) = &person.name else {
            return Err(unnamed(format!("the provider does not say {} of {subject:?}", settings.user_claim)));
        };
        let called = user_name(called).map_err(|reason| unnamed(reason.message))?;
        let now = self.now();
        let actor = format!("oidc:{name}");
        let user = User {
            id: Uuid::now_v7(),
            name: called.clone(),
            role: role.flatten(),
            has_password: false,
            must_change: false,
            disabled: false,
            totp: false,
            generation: 1,
            created_at: now,
            created_by: actor.clone(),
            login_at: None,
        };
        let identity = Identity {
            id: Uuid::now_v7(),
            issuer: person.issuer.clone(),
            subject: subject.clone(),
            user: user.id,
            created_at: now,
            created_by: actor.clone(),
        };
        let caller = Caller { actor, ..stranger(from) };
        let data = serde_json::json!({
            "name": user.name, "role": user.role, "issuer": identity.issuer, "subject": identity.subject,
        });
        let deed = Deed::done("user.create", format!("user/{}", user.id), "user.created", data);
        let changes = vec![
            Change::User(Box::new(UserChange::Created(Box::new(user.clone()), None))),
            Change::Credential(Box::new(CredentialChange::IdentityLinked(identity))),
        ];
        match self.record_credential(&caller, deed, changes).await {
            Ok(_) => Ok((user, Vec::new())),
            // Whoever has that name here may be somebody else: only an administrator knows.
            Err(OpError::Conflict(_)) => Err(unnamed(format!("there is a user {called:?} already"))),
            Err(error) => Err(error),
        }
    }

    /// Links a person of a provider with a user.
    ///
    /// # Errors
    /// [`OpError::NotFound`] where there is no such provider or user, [`OpError::Conflict`] where they are linked.
    pub async fn identity_link(
        &self,
        caller: &Caller,
        provider: &str,
        subject: &str,
        user: &User,
    ) -> Result<Identity, OpError> {
        let settings = &self.inner.authn.settings.providers.named(provider)?.settings;
        if subject.is_empty() || subject.len() > limits::OPENID_SUBJECT_BYTES {
            let message = format!("a subject has 1 to {} bytes", limits::OPENID_SUBJECT_BYTES);
            return Err(OpError::Invalid(Box::new(Reason::new(Code::CredentialMalformed, message))));
        }
        let identity = Identity {
            id: Uuid::now_v7(),
            issuer: settings.issuer.to_string(),
            subject: subject.to_owned(),
            user: user.id,
            created_at: self.now(),
            created_by: caller.actor.clone(),
        };
        let data = serde_json::json!({ "issuer": identity.issuer, "subject": subject, "user": user.name });
        let deed = Deed::done("identity.link", format!("identity/{}", identity.id), "identity.linked", data);
        let change = CredentialChange::IdentityLinked(identity.clone());
        self.record_credential(caller, deed, vec![Change::Credential(Box::new(change))]).await?;
        Ok(identity)
    }

    /// Identities after the cursor.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn identity_list(&self, after: &str, limit: u32) -> Result<Vec<Identity>, OpError> {
        Ok(self.store().identities(after, limit).await?)
    }

    /// A person of a provider is nobody here any more; sessions that they have end by themselves or are closed.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub async fn identity_unlink(&self, caller: &Caller, id: Uuid) -> Result<(), OpError> {
        let deed = Deed::done("identity.unlink", format!("identity/{id}"), "identity.unlinked", serde_json::json!({}));
        let change = CredentialChange::IdentityUnlinked(id);
        self.record_credential(caller, deed, vec![Change::Credential(Box::new(change))]).await?;
        Ok(())
    }

    /// The providers by which people log in.
    pub fn providers(&self) -> Vec<&ProviderSettings> {
        self.inner.authn.settings.providers.all()
    }

    /// The login that an answer of the provider belongs to.
    fn oidc_flow(&self, name: &str, returned: &Returned, cookie: Option<&str>) -> Result<Flow, OpError> {
        let provider = self.inner.authn.settings.providers.named(name)?;
        let flow = cookie.and_then(|cookie| self.oidc_opened(cookie));
        let flow = flow.filter(|flow| flow.provider == name && flow.ends_at > self.now());
        let Some(flow) = flow else { return Err(no_login("this browser has begun no login, or it took too long")) };
        if returned.state.as_deref() != Some(flow.state.as_str()) {
            return Err(no_login("the provider's answer belongs to another login"));
        }
        // Another provider's answer to our question, or an answer to another provider's (RFC 9207).
        if returned.iss.as_ref().is_some_and(|issuer| *issuer != **provider.settings.issuer) {
            return Err(denied(Reason::new(Code::OidcIssuer, "the answer names another issuer")));
        }
        Ok(flow)
    }

    /// Who came back from the provider.
    async fn oidc_returned(&self, name: &str, returned: Returned, flow: Flow) -> Result<Person, OpError> {
        let providers = &self.inner.authn.settings.providers;
        let provider = providers.named(name)?;
        let now = self.now();
        if let Some(error) = returned.error {
            let error: String = error.chars().filter(char::is_ascii_graphic).take(64).collect();
            return Err(denied(Reason::new(Code::OidcRefused, format!("the provider said no: {error}"))));
        }
        let Some(code) = returned.code else { return Err(no_login("the provider sent no code")) };
        if !providers.take(&flow.state, flow.ends_at, now) {
            return Err(no_login("this login has ended already"));
        }
        let metadata = provider.metadata(&providers.client, now).await.map_err(unavailable)?;
        let settings = &provider.settings;
        let client = Client {
            id: &settings.client_id,
            secret: settings.client_secret.as_ref().map(Secret::reveal),
            redirect: &settings.redirect_url,
        };
        let verifier = PkceCodeVerifier::new(flow.verifier).into_secret();
        let exchanged = providers.client.exchange(&metadata, client, code, verifier).await;
        let (token, access) = exchanged.map_err(|error| match error {
            OpenIdError::Refused { .. } => denied(Reason::new(Code::OidcRefused, error.to_string())),
            _ => unavailable(unreachable(error.to_string())),
        })?;
        let expected = Expected { now: self.now(), age: LOGIN, nonce: Some(&Nonce::new(flow.nonce)) };
        let mut vouched = provider.checked(&providers.client, &token, &expected).await.map_err(answered)?;
        if vouched.lacks(settings) {
            let more = providers.client.user_info(&metadata, &access).await;
            vouched.add(more.map_err(|error| unavailable(unreachable(error.to_string())))?).map_err(denied)?;
        }
        vouched.person(settings).map_err(denied)
    }

    /// Who an ID token is of, that a program brings. It is taken once.
    async fn oidc_brought(&self, name: &str, token: &str) -> Result<Person, OpError> {
        let providers = &self.inner.authn.settings.providers;
        let provider = providers.named(name)?;
        let malformed = |why: &str| denied(Reason::new(Code::OidcTokenMalformed, why));
        if token.len() > limits::OPENID_TOKEN_BYTES {
            return Err(malformed("the ID token is too long"));
        }
        let parsed: CoreIdToken = token.parse().map_err(|_| malformed("that is no ID token"))?;
        let now = self.now();
        let expected = Expected { now, age: TOKEN_AGE, nonce: None };
        let vouched = provider.checked(&providers.client, &parsed, &expected).await.map_err(answered)?;
        // By what is signed: the same token with other bytes around it is the same.
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        let until = now.saturating_add(TOKEN_AGE.saturating_add(SKEW).saturating_add(SKEW)).unwrap_or(now);
        if !providers.take(signed, until, now) {
            return Err(denied(Reason::new(Code::OidcReplayed, "this ID token has opened a session already")));
        }
        vouched.person(&provider.settings).map_err(denied)
    }

    fn oidc_opened(&self, cookie: &str) -> Option<Flow> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let opened = self.inner.authn.settings.key.open_sealed(PURPOSE, &sealed).ok()?;
        serde_json::from_slice(&opened).ok()
    }
}

impl Vouched {
    /// Whether something is not in the token that would be needed. Many providers tell it only when they are asked
    /// (OpenID Connect Core 1.0 section 5.4).
    fn lacks(&self, settings: &ProviderSettings) -> bool {
        let email = (!settings.domains.is_empty()).then_some("email");
        let needed = [Some(settings.user_claim.as_str()), settings.role_claim.as_deref(), email];
        needed.into_iter().flatten().any(|claim| !self.claims.contains_key(claim))
    }

    /// What the provider told besides; what the token says holds.
    fn add(&mut self, more: serde_json::Map<String, serde_json::Value>) -> Result<(), Reason> {
        // An access token that was exchanged for another one tells of somebody else (section 5.3.4).
        if !more.is_empty() && more.get("sub").and_then(serde_json::Value::as_str) != Some(&self.subject) {
            return Err(Reason::new(Code::OidcTokenMalformed, "the provider told of somebody else than in its token"));
        }
        for (claim, value) in more {
            self.claims.entry(claim).or_insert(value);
        }
        Ok(())
    }

    /// Who that would be here, where the provider may vouch for them.
    fn person(&self, settings: &ProviderSettings) -> Result<Person, Reason> {
        self.permitted(settings)?;
        let (issuer, subject) = (self.issuer.clone(), self.subject.clone());
        Ok(Person { issuer, subject, name: self.name(settings), roles: self.roles(settings) })
    }

    /// A claim that is a text.
    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(serde_json::Value::as_str)
    }

    /// Whether the provider may vouch for them here.
    fn permitted(&self, settings: &ProviderSettings) -> Result<(), Reason> {
        if settings.domains.is_empty() {
            return Ok(());
        }
        let domain = self.verified_email().and_then(|email| email.rsplit_once('@')).map(|(_, domain)| domain);
        match domain {
            Some(domain) if settings.domains.iter().any(|of| of.eq_ignore_ascii_case(domain)) => Ok(()),
            _ => {
                Err(Reason::new(Code::OidcDomain, "the provider verified no e-mail address of a domain that is let in"))
            }
        }
    }

    fn verified_email(&self) -> Option<&str> {
        let verified = self.claims.get("email_verified") == Some(&serde_json::Value::Bool(true));
        self.text("email").filter(|_| verified)
    }

    /// What they would be called here.
    fn name(&self, settings: &ProviderSettings) -> Option<String> {
        let claimed = match settings.user_claim.as_str() {
            // An address that nobody verified may be anybody's.
            "email" => self.verified_email(),
            claim => self.text(claim),
        };
        // Longer than any name, and no longer than can be told why it is none.
        claimed.map(|claimed| claimed.chars().take(4 * limits::USER_NAME_BYTES).collect::<String>().to_lowercase())
    }

    /// The roles that the provider gives them. Nothing where it has no say.
    fn roles(&self, settings: &ProviderSettings) -> Option<Roles> {
        let claim = settings.role_claim.as_ref()?;
        let values: Vec<&str> = match self.claims.get(claim) {
            Some(serde_json::Value::String(one)) => vec![one],
            Some(serde_json::Value::Array(many)) => many.iter().filter_map(serde_json::Value::as_str).collect(),
            _ => Vec::new(),
        };
        Some(values.iter().filter_map(|value| settings.roles.get(*value)).collect())
    }
}

/// What a token says, as it stands there. To be read only after it was checked.
fn claims_of(token: &CoreIdToken) -> Result<serde_json::Map<String, serde_json::Value>, Reason> {
    let text = token.to_string();
    let payload = text.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    claims.ok_or_else(|| Reason::new(Code::OidcTokenMalformed, "the ID token's claims cannot be read"))
}

fn unreachable(message: String) -> Reason {
    Reason::new(Code::OidcUnreachable, message)
}

fn no_login(why: &str) -> OpError {
    denied(Reason::new(Code::OidcState, why))
}

fn denied(reason: Reason) -> OpError {
    OpError::Unauthenticated(Box::new(reason))
}

fn unavailable(reason: Reason) -> OpError {
    OpError::Unavailable(Box::new(reason))
}

/// A "no" of ours, or none because the provider does not answer.
fn answered(reason: Reason) -> OpError {
    if reason.code.known() == Some(Code::OidcUnreachable) { unavailable(reason) } else { denied(reason) }
}
