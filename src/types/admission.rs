//! What is asked of a node without anything being started, and what it answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::step::EvidenceFile;
use super::vm::ArtifactKind;
use super::{Digest, Reason};

/// One image that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageQuestion {
    /// SHA-256 of its bytes; they need not be there.
    pub digest: Digest,
    /// What it would be to a machine.
    pub kind: ArtifactKind,
    /// What speaks for it, besides what the node keeps beside it.
    pub evidence: Vec<EvidenceFile>,
}

/// What a node says of one image that it was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageAnswer {
    /// The image: its digest, or its reference in a registry.
    pub image: String,
    /// `allow`, `deny` or `undecided`.
    pub decision: String,
    /// Why it is not `allow`.
    pub reasons: Vec<Reason>,
    /// What the policy wanted said without deciding anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Reason>,
    /// Who vouches for it.
    pub signers: Vec<String>,
    /// The decision as a signed SLSA verification summary, where it is `allow`: a Sigstore bundle on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Until when the summary may be relied on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

impl ImageAnswer {
    /// An image that was not judged.
    pub fn without(image: String, decision: &str, reason: Reason) -> Self {
        Self {
            image,
            decision: decision.to_owned(),
            reasons: vec![reason],
            warnings: Vec::new(),
            signers: Vec::new(),
            summary: None,
            expires_at: None,
        }
    }

    /// Whether it may boot, or be deployed.
    pub fn is_allowed(&self) -> bool {
        self.decision == "allow"
    }
}
