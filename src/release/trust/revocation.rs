//! What a trust bundle revokes: digests, keys, identities. Nothing here knows when; a revocation is for good.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::{Code, Digest, DigestAlgorithm, Reason};

/// One revocation, as a bundle carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// What is revoked, in its text form.
    pub what: Revoked,
    /// Why, for people; reports repeat it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// What a revocation names. The text form is `KIND:VALUE`; a digest alone is its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// Anything with this digest: an artifact, an attestation's payload, an SBOM, a policy.
    Digest(Digest),
    /// A managed key, by SHA-256 over its SPKI.
    Key(Digest),
    /// A certificate's identity, byte by byte, whoever issued it.
    Identity(String),
    /// An OpenPGP key or subkey, by its fingerprint in upper-case hex.
    Openpgp(String),
}

/// A text that names nothing that can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of sha256:…, sha512:…, key:sha256:…, identity:… and openpgp:FINGERPRINT")]
pub struct RevokedError(String);

impl FromStr for Revoked {
    type Err = RevokedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || RevokedError(text.to_owned());
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        match text.split_once(':') {
            Some(("key", value)) => match value.parse::<Digest>() {
                Ok(digest) if digest.algorithm() == DigestAlgorithm::Sha256 => Ok(Self::Key(digest)),
                _ => Err(refused()),
            },
            Some(("identity", value)) if !value.is_empty() => Ok(Self::Identity(value.to_owned())),
            Some(("openpgp", value)) => {
                let fingerprint: String = value.split_whitespace().collect::<String>().to_ascii_uppercase();
                let hex = fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
                // Version 4 and version 6 (RFC 9580 section 5.5.4); a key id is too short to name one key.
                if hex && matches!(fingerprint.len(), 40 | 64) {
                    Ok(Self::Openpgp(fingerprint))
                } else {
                    Err(refused())
                }
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Key(digest) => write!(f, "key:{digest}"),
            Self::Identity(identity) => write!(f, "identity:{identity}"),
            Self::Openpgp(fingerprint) => write!(f, "openpgp:{fingerprint}"),
        }
    }
}

impl Serialize for Revoked {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revoked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything that is revoked, made for asking.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    revoked: BTreeMap<Revoked, Option<String>>,
}

impl Revocations {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// The algorithms that revoked digests have: an artifact must be hashed by each of them before it is asked for.
    pub fn algorithms(&self) -> Vec<DigestAlgorithm> {
        let mut found: Vec<_> = self
            .revoked
            .keys()
            .filter_map(|what| if let Revoked::Digest(digest) = what { Some(digest.algorithm()) } else { None })
            .collect();
        found.dedup();
        found
    }

    /// A reason with the code `revoked` where `what` is.
    pub fn check(&self, what: &Revoked) -> Option<Reason> {
        let why = self.revoked.get(what)?;
        let name = match what {
            Revoked::Digest(digest) => format!("the digest {digest}"),
            Revoked::Key(digest) => format!("the key {digest}"),
            Revoked::Identity(identity) => format!("the identity {identity}"),
            Revoked::Openpgp(fingerprint) => format!("the OpenPGP key {fingerprint}"),
        };
        let because = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        Some(
            Reason::new(Code::Revoked, format!("{name} is revoked{because}"))
                .evidence("the installed trust bundle")
                .location("revocations"),
        )
    }

    /// Whether something with this digest is revoked.
    pub fn check_digest(&self, digest: &Digest) -> Option<Reason> {
        self.check(&Revoked::Digest(digest.clone()))
    }

    /// Whether a managed key is revoked; `fingerprint` is SHA-256 over its SPKI.
    pub fn check_key(&self, fingerprint: &Digest) -> Option<Reason> {
        self.check(&Revoked::Key(fingerprint.clone()))
    }

    /// Whether a certificate's identity is revoked.
    pub fn check_identity(&self, identity: &str) -> Option<Reason> {
        self.check(&Revoked::Identity(identity.to_owned()))
    }

    /// Whether an OpenPGP key or subkey is revoked; ask for both of a signature's.
    pub fn check_openpgp(&self, fingerprint: &str) -> Option<Reason> {
        self.check(&Revoked::Openpgp(fingerprint.to_ascii_uppercase()))
    }
}

/// What is known now of what is revoked, for those who ask again and again.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What is revoked; where [`Self::fault`] is set, what was known before.
    pub revoked: Revocations,
    /// Why it is not known. Then nothing may pass.
    pub fault: Option<Reason>,
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<T: IntoIterator<Item = Revocation>>(found: T) -> Self {
        Self { revoked: found.into_iter().map(|revocation| (revocation.what, revocation.reason)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocations(texts: &[&str]) -> Revocations {
        texts.iter().map(|text| Revocation { what: text.parse().unwrap(), reason: Some("leaked".to_owned()) }).collect()
    }

    #[test]
    fn what_is_revoked_is_found_and_nothing_else() {
        let digest = Digest::sha256(b"a");
        let revoked = revocations(&[
            &digest.to_string(),
            &format!("key:{digest}"),
            "identity:mallory@example.com",
            "openpgp:aaaa bbbb cccc dddd eeee ffff 0000 1111 2222 3333",
        ]);
        let reason = revoked.check_digest(&digest).unwrap();
        assert_eq!(reason.code.known(), Some(Code::Revoked));
        assert_eq!(reason.message, format!("the digest {digest} is revoked: leaked"));
        assert!(revoked.check_key(&digest).is_some());
        assert!(revoked.check_identity("mallory@example.com").is_some());
        assert!(revoked.check_openpgp("AAAABBBBCCCCDDDDEEEEFFFF0000111122223333").is_some());
        assert!(revoked.check_digest(&Digest::sha256(b"b")).is_none());
        assert!(revoked.check_identity("Mallory@example.com").is_none());
        assert!(revoked.check_identity("mallory@example.com.").is_none());
        assert_eq!(revoked.algorithms(), [DigestAlgorithm::Sha256]);
    }

    #[test]
    fn a_digest_does_not_revoke_a_key_nor_the_reverse() {
        let digest = Digest::sha256(b"a");
        assert!(revocations(&[&digest.to_string()]).check_key(&digest).is_none());
        assert!(revocations(&[&format!("key:{digest}")]).check_digest(&digest).is_none());
    }

    #[test]
    fn texts_that_name_nothing_are_refused() {
        for text in
            ["", "sha256:", "sha256:00", "sha1:00", "key:00", "identity:", "openpgp:AAAABBBBCCCCDDDD", "mallory"]
        {
            assert!(text.parse::<Revoked>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_text_form_is_read_back() {
        for text in [&Digest::sha256(b"a").to_string(), "identity:https://example.com/x@refs/tags/v1"] {
            assert_eq!(text.parse::<Revoked>().unwrap().to_string(), *text);
        }
    }
}
