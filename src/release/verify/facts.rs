//! What was proved about one artifact. Only this room can make one: the fields are private to it.

use jiff::Timestamp;
use serde::Serialize;

use crate::release::evidence::statement::IMAGE_SIGNATURE;

/// Everything proved about one artifact. Serialized, it is `input.facts` of a policy and `facts` of a report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// Verified signatures of every kind, in the order the evidence was given.
    pub(super) signatures: Vec<Signature>,
    /// The checksum lists that list this artifact under its name with its digest.
    pub(super) checksums: Vec<ChecksumListing>,
    /// SBOM and VEX documents of the same release that speak of this artifact and that somebody expected vouches for.
    pub(super) documents: Vec<DocumentReference>,
}

impl Facts {
    /// The verified signatures.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The checksum lists that name the artifact with its own digest.
    pub fn checksums(&self) -> &[ChecksumListing] {
        &self.checksums
    }

    /// The documents that speak of the artifact.
    pub fn documents(&self) -> &[DocumentReference] {
        &self.documents
    }

    /// Whether an expected signer vouches for these very bytes: by a signature over them, be it in cosign's form of a
    /// statement that says no more, by provenance of them, or by a signature over a list that names them. An attestation of any other type says something about an artifact
    /// without standing in for it: a report of its flaws is signed too.
    pub fn is_vouched_for(&self) -> bool {
        let stands_in = |signature: &Signature| {
            signature.attestation.as_ref().is_none_or(|attestation| {
                attestation.provenance.is_some() || attestation.predicate_type == IMAGE_SIGNATURE
            })
        };
        self.signatures.iter().any(stands_in) || self.checksums.iter().any(|listing| listing.signed)
    }

    /// Takes in what was proved of the same artifact elsewhere in the run.
    pub fn merge(&mut self, other: Self) {
        self.signatures.extend(other.signatures);
        self.checksums.extend(other.checksums);
        self.documents.extend(other.documents);
    }

    /// The report's form: the first signer, log entry and provenance at the top, everything below.
    pub fn to_json(&self) -> serde_json::Value {
        let signer = self.signatures.first().map(|signature| &signature.signer);
        let log = self.signatures.iter().find_map(|signature| signature.logs.first());
        let provenance = self
            .signatures
            .iter()
            .filter_map(|signature| signature.attestation.as_ref())
            .find_map(|attestation| attestation.provenance.as_ref());
        let first_document = |kind| {
            let found = self.documents.iter().find(|document| document.kind == kind);
            found.map_or_else(|| serde_json::json!({}), |found| serde_json::json!(found))
        };
        serde_json::json!({
            "signer": signer,
            "log": log,
            "provenance": provenance.map_or_else(|| serde_json::json!({}), |found| serde_json::json!(found)),
            "sbom": first_document("sbom"),
            "vex": first_document("vex"),
            "documents": self.documents,
            "signatures": self.signatures,
            "checksums": self.checksums,
        })
    }
}

/// One verified signature over the artifact, or over a statement about it.
#[derive(Debug, Clone, Serialize)]
pub struct Signature {
    /// The file that it came from.
    pub evidence: String,
    /// Who signed.
    pub signer: Signer,
    /// When, by every trusted clock that spoke; sorted.
    pub times: Vec<TrustedTime>,
    /// The transparency log entries that prove it.
    pub logs: Vec<LogEntry>,
    /// The statement, where the signature is over one; a plain signature over the artifact has none.
    pub attestation: Option<Attestation>,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Signer {
    /// A certificate that binds an identity for minutes.
    Certificate {
        /// The subject alternative name, byte for byte.
        identity: String,
        /// The OIDC issuer that vouched for it.
        issuer: Option<String>,
        /// Every other claim of the certificate, by Fulcio's names in snake case.
        claims: std::collections::BTreeMap<String, String>,
    },
    /// A key that the caller manages.
    Key {
        /// `sha256:<hex>` over the key's SPKI in DER.
        fingerprint: String,
    },
    /// An OpenPGP key.
    Openpgp {
        /// The primary key's fingerprint, upper-case hex.
        fingerprint: String,
        /// The signing (sub)key's own fingerprint, upper-case hex.
        signing_key: String,
        /// `at-signing` or `now`: at which time the key had to be valid.
        validity: String,
        /// Whether the key is still valid at the time of the run.
        valid_now: bool,
    },
}

/// A time and the clock that vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TrustedTime {
    /// The time.
    pub at: Timestamp,
    /// Whose clock.
    pub clock: Clock,
}

/// Whose clock a time is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The transparency log's integrated time, under its signature.
    Log,
    /// An RFC 3161 timestamp authority.
    TimestampAuthority,
    /// The signer's own claim, which an OpenPGP signature carries.
    Signer,
}

/// One verified transparency log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// The entry's index in the log (the shard's, where the log is sharded).
    pub index: u64,
    /// The leaf hash in hex, which Rekor calls the entry's UUID.
    pub uuid: String,
    /// The log's origin, as its checkpoint names it.
    pub origin: Option<String>,
    /// The log's id: SHA-256 of its key, base64.
    pub log_id: String,
    /// Kind and version, as `hashedrekord/0.0.1`.
    pub kind: String,
    /// The time of integration, where the log signs one.
    pub integrated_at: Option<Timestamp>,
}

/// A verified in-toto statement about the artifact.
#[derive(Debug, Clone, Serialize)]
pub struct Attestation {
    /// The predicate's type URI.
    pub predicate_type: String,
    /// `sha256:<hex>` over the signed payload.
    pub payload_digest: String,
    /// How many subjects the statement has.
    pub subjects: usize,
    /// The statement's name for this artifact.
    pub subject_name: Option<String>,
    /// What a SLSA provenance says, where it is one and agrees with the certificate.
    pub provenance: Option<Provenance>,
    /// What a SLSA verification summary says, where it is one.
    pub summary: Option<Summary>,
    /// The predicate itself, for policies.
    pub predicate: serde_json::Value,
}

/// What SLSA provenance says, once it agrees with the signing certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The builder's id as the predicate names it.
    pub builder_id: String,
    /// The build type URI.
    pub build_type: String,
    /// The source repository's URI, without `git+` and ref.
    pub source_uri: Option<String>,
    /// The git ref that was built, as `refs/tags/v1`.
    pub source_ref: Option<String>,
    /// The commit, hex.
    pub source_digest: Option<String>,
    /// `github-hosted` or `self-hosted`, by the certificate.
    pub runner_environment: Option<String>,
}

/// What a SLSA verification summary (VSA) says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Who decided.
    pub verifier_id: String,
    /// `PASSED` or `FAILED`.
    pub result: String,
    /// When it was decided.
    pub verified_at: Timestamp,
    /// Until when it may be relied on; a summary of ours always says so.
    pub expires_at: Option<Timestamp>,
    /// The policy's URI or name.
    pub policy_uri: String,
    /// The policy's digest, `sha256:<hex>`.
    pub policy_digest: Option<String>,
    /// The levels that were verified.
    pub levels: Vec<String>,
}

/// A checksum list that names the artifact with its own digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChecksumListing {
    /// The list's file.
    pub evidence: String,
    /// The name in the list.
    pub name: String,
    /// The digest, `sha256:<hex>`.
    pub digest: String,
    /// Whether the list itself has a verified signature.
    pub signed: bool,
    /// Who signed the list: the first of them, where several did.
    pub signer: Option<Signer>,
}

/// A document of the release that speaks of the artifact, itself vouched for by an expected signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentReference {
    /// `sbom` or `vex`.
    pub kind: &'static str,
    /// The document's file.
    pub evidence: String,
    /// Format and version, as `CycloneDX 1.6`.
    pub format: String,
    /// The document's own digest, `sha256:<hex>`.
    pub digest: Option<String>,
    /// Whether it names the artifact by a strong digest; else its file name alone ties the two.
    pub binds_digest: bool,
}
