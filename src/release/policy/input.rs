//! The document that a policy sees as `input`. Its form is a promise to everybody who writes policies:
//! docs/reference/policy-input.md describes it, and a test holds the two together.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// `input` of a policy, for one subject.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyInput {
    /// What is judged.
    pub subject: InputSubject,
    /// What the caller asked for; what was not asked is null, false or empty, and never left out.
    pub expected: Expected,
    /// What was proved: `Facts::to_json`.
    pub facts: serde_json::Value,
    /// The trust root, where one was used.
    pub trust_root: Option<InputTrustRoot>,
    /// The time of the run.
    pub now: Timestamp,
}

/// The artifact.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InputSubject {
    /// The name that the user gave, or the file's name in a release.
    pub name: String,
    /// Algorithm name to lower-case hex, as in-toto writes it.
    pub digest: BTreeMap<String, String>,
    /// What it is to a machine, by `ArtifactKind::name`, where it is asked whether it may boot.
    pub kind: Option<String>,
}

/// What the caller asked for, by the names of the flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// `--certificate-identity`.
    pub certificate_identity: Option<String>,
    /// `--certificate-identity-regexp`.
    pub certificate_identity_regexp: Option<String>,
    /// `--certificate-oidc-issuer`.
    pub certificate_oidc_issuer: Option<String>,
    /// `--certificate-oidc-issuer-regexp`.
    pub certificate_oidc_issuer_regexp: Option<String>,
    /// Whether `--key` named a managed key.
    pub key: bool,
    /// Whether `--openpgp-fingerprint` pinned a key, or a keyring alone was given as the pin.
    pub openpgp: bool,
    /// `--predicate-type`.
    pub predicate_type: Option<String>,
    /// `--source-uri`.
    pub source_uri: Option<String>,
    /// `--source-branch`.
    pub source_branch: Option<String>,
    /// `--source-tag`.
    pub source_tag: Option<String>,
    /// `--source-versioned-tag`.
    pub source_versioned_tag: Option<String>,
    /// `--builder-id`.
    pub builder_id: Option<String>,
    /// `--package-name`.
    pub package_name: Option<String>,
    /// `--package-version`.
    pub package_version: Option<String>,
    /// `--deny-self-hosted-runners`.
    pub deny_self_hosted_runners: bool,
    /// What must be there besides: `signature`, `sbom`, `provenance`, `vex`.
    pub require: Vec<String>,
    /// `sha256:<hex>` of the policy that a verification summary must have been made under, where that is asked.
    pub policy_digest: Option<String>,
    /// The verifiers whose summaries are accepted; empty where none is.
    pub verifier_ids: Vec<String>,
    /// The kinds of artifact that may boot; empty where all may.
    pub kinds: Vec<String>,
}

/// The trust root of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputTrustRoot {
    /// `sha256:<hex>` of the `trusted_root.json`.
    pub digest: String,
    /// Days since it was made or fetched, where that is known.
    pub age_days: Option<i64>,
}

impl PolicyInput {
    /// The JSON form.
    pub fn into_json(mut self) -> serde_json::Value {
        // The facts are JSON already, and most of it: they are moved and not copied.
        let facts = std::mem::take(&mut self.facts);
        // Maps with text keys and finite numbers always have a JSON form; null is what a policy denies.
        let mut input = serde_json::to_value(self).unwrap_or_default();
        if let Some(place) = input.get_mut("facts") {
            *place = facts;
        }
        input
    }
}
