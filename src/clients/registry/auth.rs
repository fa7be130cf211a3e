//! How a registry learns who asks: its challenge and the user's credentials in, a header out.
//!
//! Source: OCI distribution specification 1.1 and, for tokens, the distribution project's "Token Authentication" and
//! "OAuth2 Token Authentication". A token is kept for the run and never written anywhere.

use std::collections::BTreeMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::RegistryError;
use super::credentials::{Credentials, Hidden, Secret};
use super::exchange::Wire;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Pull,
    Push,
}

/// How the registry wants to be told who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Not at all.
    None,
    /// By name and password in every request.
    Basic,
    /// By a token of this service.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads the `WWW-Authenticate` fields of an answer (RFC 9110 section 11.6.1).
    pub(super) fn parse(fields: &[&str]) -> Result<Self, String> {
        let mut basic = None;
        for field in fields {
            for challenge in http_auth::parse_challenges(field).map_err(|error| error.to_string())? {
                let parameter = |name: &str| {
                    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let realm = parameter("realm").ok_or("its challenge names no token service")?;
                    return Ok(Self::Bearer { realm, service: parameter("service") });
                }
                if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic.ok_or_else(|| "it wants to know who asks, in a way that is not known".to_owned())
    }
}

/// Who asks, and what was given for it.
#[derive(Debug)]
pub(super) struct Auth {
    registry: String,
    challenge: Challenge,
    credentials: Option<Credentials>,
    tokens: Mutex<BTreeMap<Access, HeaderValue>>,
}

impl Auth {
    /// Refuses to send a password where others could read it.
    pub(super) fn new(
        registry: &str,
        base: &Url,
        challenge: Challenge,
        credentials: Option<Credentials>,
        allow_http: bool,
    ) -> Result<Self, RegistryError> {
        let insecure = |to: &Url| RegistryError::Insecure { registry: registry.to_owned(), to: to.to_string() };
        let is_safe = |url: &Url| allow_http || crate::clients::is_private(url);
        if credentials.is_some() && challenge != Challenge::None {
            if !is_safe(base) {
                return Err(insecure(base));
            }
            if let Some(realm) = realm(&challenge)?.filter(|realm| !is_safe(realm)) {
                return Err(insecure(&realm));
            }
        }
        Ok(Self { registry: registry.to_owned(), challenge, credentials, tokens: Mutex::default() })
    }

    /// The `Authorization` field of a request.
    pub(super) async fn header(
        &self,
        wire: &Wire,
        repository: &str,
        access: Access,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let Challenge::Bearer { service, .. } = &self.challenge else {
            let basic = self.challenge == Challenge::Basic;
            return Ok(self.credentials.as_ref().filter(|_| basic).and_then(basic_header));
        };
        if let Some(known) = self.tokens.lock().ok().and_then(|tokens| tokens.get(&access).cloned()) {
            return Ok(Some(known));
        }
        let Some(realm) = realm(&self.challenge)? else { return Ok(None) };
        let scope = match access {
            Access::Pull => format!("repository:{repository}:pull"),
            Access::Push => format!("repository:{repository}:pull,push"),
        };
        let token = self.token(wire, &realm, service.as_deref(), &scope).await?;
        let header = secret_header(&Zeroizing::new(format!("Bearer {}", token.as_str())));
        if let (Some(header), Ok(mut tokens)) = (&header, self.tokens.lock()) {
            tokens.insert(access, header.clone());
        }
        Ok(header)
    }

    /// Forgets a token that the registry no longer takes; whether there was one.
    pub(super) fn forget(&self, access: Access) -> bool {
        self.tokens.lock().is_ok_and(|mut tokens| tokens.remove(&access).is_some())
    }

    async fn token(
        &self,
        wire: &Wire,
        realm: &Url,
        service: Option<&str>,
        scope: &str,
    ) -> Result<Zeroizing<String>, RegistryError> {
        let what = format!("token of {} for {scope}", self.registry);
        let answer = match self.credentials.as_ref().map(|credentials| &credentials.secret) {
            Some(Secret::IdentityToken(refresh)) => {
                // In a block of its own: the form cannot wait for an answer on another thread.
                let body = {
                    let mut form = url::form_urlencoded::Serializer::new(String::new());
                    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "debvisor");
                    form.append_pair("service", service.unwrap_or_default()).append_pair("scope", scope);
                    Zeroizing::new(form.append_pair("refresh_token", refresh).finish())
                };
                let post = |client: &reqwest::Client| {
                    let kind = "application/x-www-form-urlencoded";
                    client.post(realm.clone()).header("Content-Type", kind).body(body.as_bytes().to_vec())
                };
                wire.elsewhere(&what, post).await?
            }
            _ => {
                let mut url = realm.clone();
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                url.query_pairs_mut().append_pair("scope", scope);
                let header = self.credentials.as_ref().and_then(basic_header);
                let get = |client: &reqwest::Client| {
                    let request = client.get(url.clone());
                    match &header {
                        Some(header) => request.header("Authorization", header.clone()),
                        None => request,
                    }
                };
                wire.elsewhere(&what, get).await?
            }
        };
        #[derive(Deserialize)]
        struct Answer {
            token: Option<Hidden>,
            access_token: Option<Hidden>,
        }
        // The answer itself is a secret: what is wrong with it is not repeated.
        let answer = Zeroizing::new(answer);
        let token = serde_json::from_slice::<Answer>(&answer).ok();
        let token = token
            .and_then(|answer| answer.token.or(answer.access_token))
            .map(|token| token.0)
            .filter(|token| !token.is_empty());
        token.ok_or_else(|| RegistryError::Malformed { what, message: "it holds no token".to_owned() })
    }
}

fn realm(challenge: &Challenge) -> Result<Option<Url>, RegistryError> {
    let Challenge::Bearer { realm, .. } = challenge else { return Ok(None) };
    let malformed = |_| RegistryError::Malformed {
        what: "challenge".to_owned(),
        message: "its token service is no address".to_owned(),
    };
    Url::parse(realm).map(Some).map_err(malformed)
}

fn basic_header(credentials: &Credentials) -> Option<HeaderValue> {
    let Secret::Password(password) = &credentials.secret else { return None };
    let both = Zeroizing::new(format!("{}:{}", credentials.username, password.as_str()));
    secret_header(&Zeroizing::new(format!("Basic {}", STANDARD.encode(both.as_bytes()))))
}

fn secret_header(text: &Zeroizing<String>) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    #[test]
    fn the_challenges_of_known_registries_are_understood() {
        let bearer = |realm: &str, service: &str| {
            Ok(Challenge::Bearer { realm: realm.to_owned(), service: Some(service.to_owned()) })
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        assert_eq!(Challenge::parse(&[hub]), bearer("https://auth.docker.io/token", "registry.docker.io"));
        let both = ["Basic realm=\"r\"", "bearer realm=\"https://a.example/t\", service=\"s\""];
        assert_eq!(Challenge::parse(&both), bearer("https://a.example/t", "s"));
        assert_eq!(Challenge::parse(&["Basic realm=\"Registry Realm\""]), Ok(Challenge::Basic));
        for unknown in ["Negotiate", "Bearer service=\"s\"", ""] {
            assert!(Challenge::parse(&[unknown]).is_err(), "{unknown}");
        }
        assert!(Challenge::parse(&[]).is_err());
    }
}
