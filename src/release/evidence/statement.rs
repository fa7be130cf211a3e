//! In-toto statements v0.1 and v1: a signed payload in, subjects and predicate out.
//!
//! Source: in-toto attestation framework, `Statement`, `ResourceDescriptor` and `DigestSet`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::json;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// The one payload type that an attestation's envelope may have.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The predicate type under which cosign signs an image: the statement says nothing but that its subject is signed.
pub const IMAGE_SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A statement, sound in form.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The predicate's type, byte for byte.
    pub predicate_type: String,
    /// What the statement is about.
    pub subjects: Vec<Subject>,
    /// What it says.
    pub predicate: Value,
}

/// One subject: a name, and the digests that bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The statement's own name for it.
    pub name: Option<String>,
    /// The digests of known algorithms; never empty. SHA-1 and MD5 bind nothing and are left out.
    pub digests: Vec<Digest>,
}

impl Statement {
    /// Reads the payload of an envelope of type [`PAYLOAD_TYPE`].
    ///
    /// # Errors
    /// `statement-malformed`, `subject-digest`, or what strict JSON refuses.
    pub fn parse(payload: &[u8]) -> Result<Self, Reason> {
        let wire: Wire = json::parse(payload, Code::StatementMalformed)?;
        let malformed = |place: &str, message: String| Reason::new(Code::StatementMalformed, message).location(place);
        if !matches!(wire.kind.as_str(), "https://in-toto.io/Statement/v1" | "https://in-toto.io/Statement/v0.1") {
            return Err(malformed("_type", format!("the statement's type is `{}`", wire.kind)));
        }
        if wire.predicate_type.is_empty() {
            return Err(malformed("predicateType", "the predicate has no type".to_owned()));
        }
        if wire.subject.is_empty() {
            return Err(malformed("subject", "the statement is about nothing".to_owned()));
        }
        if wire.subject.len() > limits::STATEMENT_SUBJECTS {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a statement has at most {} subjects", limits::STATEMENT_SUBJECTS),
            )
            .location("subject"));
        }
        let subjects = wire.subject.into_iter().enumerate().map(read_subject).collect::<Result<_, _>>()?;
        Ok(Self { predicate_type: wire.predicate_type, subjects, predicate: wire.predicate })
    }
}

fn read_subject((position, wire): (usize, WireSubject)) -> Result<Subject, Reason> {
    let refuse =
        |message: String| Reason::new(Code::SubjectDigest, message).location(format!("subject[{position}].digest"));
    let mut digests = Vec::new();
    for (name, value) in &wire.digest {
        let Some(algorithm) = DigestAlgorithm::from_name(name) else { continue };
        // In-toto writes lower-case hex; another spelling would be a second name for the same bytes.
        if value.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse(format!("the {name} digest is not lower-case hex")));
        }
        digests.push(Digest::from_hex(algorithm, value).map_err(|error| refuse(error.to_string()))?);
    }
    if digests.is_empty() {
        let found: Vec<&str> = wire.digest.keys().map(String::as_str).collect();
        return Err(refuse(if found.is_empty() {
            "the subject has no digest".to_owned()
        } else {
            format!("the subject has only digests that do not bind: {}", found.join(", "))
        }));
    }
    Ok(Subject { name: wire.name.filter(|name| !name.is_empty()), digests })
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType", default)]
    predicate_type: String,
    #[serde(default)]
    subject: Vec<WireSubject>,
    #[serde(default)]
    predicate: Value,
}

#[derive(Deserialize)]
struct WireSubject {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}
