//! Login by an OpenID provider for a program: a browser on its machine goes to the provider, comes back here, and hands
//! the program a code; the program adds what only it knows, and gets a session (RFC 8252, RFC 7636).
//! Invariant: the provider's code and the client's secret stay here; the code that goes to the program opens nothing
//! without the verifier that the program kept, and nothing is sent to another machine than the browser's own.
//!
//! Whoever has a link can begin such a login in somebody else's browser, and a provider that knows them asks nothing.
//! So the browser shows for whom it was, and a sign that the terminal shows too, and goes on only when it is told to
//! (RFC 8252 section 8.6). Nothing is kept between: the code is what the provider vouched for, sealed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use openidconnect::{PkceCodeChallenge, PkceCodeVerifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Opened, Origin, Person, denied, network, no_login};
use crate::control::{Control, OpError};
use crate::store::SessionKind;
use crate::types::{Code, Reason, limits};

/// How long somebody may take to say yes in the browser, and the program to come for the session.
const CODE: SignedDuration = SignedDuration::from_mins(5);
/// What the code is sealed for.
const PURPOSE: &str = "oidc-program";
/// SHA-256 and 256 random bits, in base64url.
const CHALLENGE_CHARS: usize = 43;
/// What a verifier may have (RFC 7636 section 4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;
/// What a program's own state may have.
const STATE_CHARS: std::ops::RangeInclusive<usize> = 16..=128;

/// A program that waits at a port of the machine that the browser is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    port: u16,
    state: String,
    challenge: String,
}

/// What a browser has for the program that waits beside it.
#[derive(Debug)]
pub struct Answered {
    /// For whom it was; nothing where it was refused.
    pub who: Option<String>,
    /// What the terminal shows too.
    pub sign: String,
    /// Where the browser goes with it.
    pub address: String,
    /// Where it goes where its user says no.
    pub refused: String,
}

/// What a program's code is, sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    provider: String,
    challenge: String,
    ends_at: Timestamp,
    person: Person,
}

impl Program {
    /// A program at this port of 127.0.0.1, which gets `state` back and keeps the verifier of this challenge (S256).
    ///
    /// # Errors
    /// [`OpError::Invalid`] where one of them is not of its form.
    pub fn new(port: u16, state: String, challenge: String) -> Result<Self, OpError> {
        let malformed = |why: &str| OpError::Invalid(Box::new(Reason::new(Code::RequestMalformed, why)));
        if port == 0 {
            return Err(malformed("nothing can wait at port 0"));
        }
        if !STATE_CHARS.contains(&state.len()) || !is_plain(&state) {
            return Err(malformed("a program's state has 16 to 128 letters, digits, dashes and underscores"));
        }
        if challenge.len() != CHALLENGE_CHARS || !is_plain(&challenge) {
            return Err(malformed("a program's challenge is a SHA-256 in base64url, of 43 characters"));
        }
        Ok(Self { port, state, challenge })
    }

    fn address(&self, told: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("state", &self.state).extend_pairs(told).finish();
        // By number: the name localhost may lead elsewhere (RFC 8252 section 8.3).
        format!("http://127.0.0.1:{}/?{query}", self.port)
    }

    fn no(&self, reason: &Reason) -> String {
        let message: String = reason.message.chars().filter(|letter| !letter.is_control()).take(300).collect();
        self.address(&[("error", reason.code.as_str()), ("error_description", &message)])
    }
}

/// What a browser and a terminal show of one login: whoever looks at both sees that they are about the same.
pub fn sign_of(challenge: &str) -> String {
    let digest = Sha256::digest(challenge.as_bytes());
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
    format!("{a:02X}{b:02X}-{c:02X}{d:02X}")
}

/// Letters, digits, dashes and underscores.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Control {
    /// What the browser has for the program: a code, or the provider's "no" or ours, which is written down.
    pub(super) async fn oidc_answer(
        &self,
        name: &str,
        program: Program,
        person: Result<Person, OpError>,
        from: &Origin,
    ) -> Result<Answered, OpError> {
        let sign = sign_of(&program.challenge);
        let by_hand = Reason::new(Code::OidcRefused, "it was refused in the browser");
        let refused = program.no(&by_hand);
        let person = match person {
            Ok(person) => person,
            Err(error) => {
                let reason = match self.oidc_refused(name, error, from).await {
                    OpError::Unauthenticated(reason) | OpError::Unavailable(reason) => reason,
                    error => return Err(error),
                };
                return Ok(Answered { who: None, sign, address: program.no(&reason), refused });
            }
        };
        let who = person.name.clone().unwrap_or_else(|| person.subject.clone());
        let now = self.now();
        let code = Sealed {
            provider: name.to_owned(),
            challenge: program.challenge.clone(),
            ends_at: now.saturating_add(CODE).unwrap_or(now),
            person,
        };
        let failed = |error: &dyn std::fmt::Display| OpError::Node(error.to_string());
        let code = serde_json::to_vec(&code).map_err(|error| failed(&error))?;
        let code = self.inner.authn.settings.key.seal(PURPOSE, &code).map_err(|error| failed(&error))?;
        let address = program.address(&[("code", &URL_SAFE_NO_PAD.encode(code))]);
        Ok(Answered { who: Some(who), sign, address, refused })
    }

    /// Logs a program in that brings the code and its verifier. A code is taken once.
    ///
    /// # Errors
    /// [`OpError::Unauthenticated`] with the reason, written down as a refusal.
    pub async fn oidc_redeem(&self, name: &str, code: &str, verifier: &str, from: &Origin) -> Result<Opened, OpError> {
        self.login_rate(from.address.map(network))?;
        let person = self.oidc_redeemed(name, code, verifier);
        self.oidc_login(name, person, SessionKind::Token, None, from).await
    }

    fn oidc_redeemed(&self, name: &str, code: &str, verifier: &str) -> Result<Person, OpError> {
        let providers = &self.inner.authn.settings.providers;
        let now = self.now();
        providers.named(name)?;
        let sealed = self.oidc_sealed(code).filter(|sealed| sealed.provider == name && sealed.ends_at > now);
        let Some(sealed) = sealed else {
            return Err(no_login("that is no code of this server's, or it took too long"));
        };
        let verifier = Some(verifier).filter(|it| VERIFIER_CHARS.contains(&it.len()) && is_plain(it));
        let challenge = verifier
            .map(|verifier| PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.to_owned())));
        if challenge.is_none_or(|challenge| challenge.as_str() != sealed.challenge) {
            return Err(denied(Reason::new(Code::OidcState, "the code belongs to another program's login")));
        }
        if !providers.take(code, sealed.ends_at, now) {
            return Err(no_login("this login has ended already"));
        }
        Ok(sealed.person)
    }

    fn oidc_sealed(&self, code: &str) -> Option<Sealed> {
        if code.len() > limits::OPENID_TOKEN_BYTES {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(code).ok()?;
        let opened = self.inner.authn.settings.key.open_sealed(PURPOSE, &sealed).ok()?;
        serde_json::from_slice(&opened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge() -> String {
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned()
    }

    #[test]
    fn a_program_is_at_a_port_of_the_browsers_own_machine_and_nowhere_else() {
        let program = Program::new(4711, "s".repeat(22), challenge()).unwrap();
        let no = program.no(&Reason::new(Code::OidcDomain, "not of a domain\nthat & is let in"));
        let url: url::Url = no.parse().unwrap();
        assert_eq!((url.scheme(), url.host_str(), url.port()), ("http", Some("127.0.0.1"), Some(4711)));
        let told: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(told["error"], "oidc-domain");
        assert_eq!(told["error_description"], "not of a domainthat & is let in");
        assert_eq!(told["state"], "s".repeat(22));
        for (port, state, challenge) in [
            (0, "s".repeat(22), challenge()),
            (1, "short".to_owned(), challenge()),
            (1, "s".repeat(129), challenge()),
            (1, format!("{}/@evil", "s".repeat(20)), challenge()),
            (1, "s".repeat(22), "plain".to_owned()),
            (1, "s".repeat(22), "!".repeat(43)),
        ] {
            assert!(matches!(Program::new(port, state, challenge), Err(OpError::Invalid(_))));
        }
    }

    #[test]
    fn the_sign_is_short_and_of_one_login() {
        let sign = sign_of(&challenge());
        assert_eq!(sign.len(), 9);
        assert_ne!(sign, sign_of(&"E".repeat(43)));
    }
}
