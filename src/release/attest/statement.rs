//! In-toto statements, written: artifacts and a predicate in; the payload of an envelope out.
//!
//! Source: in-toto attestation framework, `Statement` v1. The same input gives the same bytes.

use serde_json::{Value, json};

use crate::release::artifact::Artifact;

/// Predicate types by the names that cosign's users know (`cosign attest --type`), with a few of our own.
const TYPES: [(&str, &str); 13] = [
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("slsaprovenance", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance02", "https://slsa.dev/provenance/v0.2"),
    ("slsaprovenance1", "https://slsa.dev/provenance/v1"),
    ("spdx", "https://spdx.dev/Document"),
    ("spdxjson", "https://spdx.dev/Document"),
    ("test-result", "https://in-toto.io/attestation/test-result/v0.1"),
    ("release", "https://in-toto.io/attestation/release/v0.1"),
    ("vsa", "https://slsa.dev/verification_summary/v1"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
];

/// The predicate type that a name or URI stands for; nothing for a name that nobody knows.
pub fn predicate_type(name: &str) -> Option<&str> {
    if name.contains("://") {
        return Some(name);
    }
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, uri)| *uri)
}

/// The known names, for help and hints.
pub fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}

/// A statement about these artifacts, by every digest that is known of them.
pub fn payload(subjects: &[&Artifact], predicate_type: &str, predicate: &Value) -> Vec<u8> {
    let subjects: Vec<Value> =
        subjects.iter().map(|artifact| json!({"name": artifact.name, "digest": artifact.digest_set()})).collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": predicate_type,
        "predicate": predicate,
    })
    .to_string()
    .into_bytes()
}
