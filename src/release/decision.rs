//! Verdicts in, one decision out: allow, deny or undecided, with its reasons.
//! Invariant: no clock, network or disk. Callers pass `now`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::release::policy::PolicyReference;
use crate::types::{Digest, Outcome, Reason};

pub mod vsa;

/// The answer. Anything but [`Decision::Allow`] is a no to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Everything asked for was proved.
    Allow,
    /// The evidence says no.
    Deny,
    /// The question could not be answered.
    Undecided,
}

impl Decision {
    /// The decision that these reasons make. One "no" outweighs any number of open questions,
    /// so tampered evidence stays a "no" when other evidence is missing.
    pub fn from_reasons<'a>(reasons: impl IntoIterator<Item = &'a Reason>) -> Self {
        reasons.into_iter().fold(Self::Allow, |decision, reason| match (decision, reason.outcome()) {
            (Self::Deny, _) | (_, Outcome::Deny) => Self::Deny,
            (_, Outcome::Undecided) => Self::Undecided,
        })
    }

    /// The exit code of a program that ends with this decision.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Deny => 1,
            Self::Undecided => 2,
        }
    }

    /// The word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Undecided => "undecided",
        }
    }
}

/// What was decided of one subject.
#[derive(Debug, Clone, Serialize)]
pub struct SubjectReport {
    /// The name that the user gave, or the file's name in a release.
    pub name: String,
    /// Algorithm name to lower-case hex, as in-toto writes it.
    pub digest: std::collections::BTreeMap<String, String>,
    /// The decision for this subject alone.
    pub decision: Decision,
    /// What was proved about this subject; the form is documented in docs/reference/report.md.
    pub facts: serde_json::Value,
}

/// Which trust root was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRootReference {
    /// SHA-256 of the `trusted_root.json`.
    pub digest: Digest,
    /// Days since it was made or fetched, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_days: Option<i64>,
}

/// What a reference to an image was resolved to; the decision is about this digest and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageReference {
    /// The subject's name.
    pub subject: String,
    /// Registry, repository and digest: what to run.
    pub reference: String,
    /// The media type of the manifest or index.
    pub media_type: String,
    /// The platforms that an index has manifests for, as `linux/arm64/v8`; empty for a single image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// The whole answer of a run. `--format json` is this value as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The decision over all subjects.
    pub decision: Decision,
    /// Every subject with its own decision.
    pub subjects: Vec<SubjectReport>,
    /// Why it is not "allow"; empty exactly when it is.
    pub reasons: Vec<Reason>,
    /// What a policy wanted said without deciding anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Reason>,
    /// The facts of the first subject, for the common run over one.
    pub facts: serde_json::Value,
    /// The images among the subjects: what their references were resolved to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageReference>,
    /// The policy that decided, where one was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyReference>,
    /// The trust root, where one was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<TrustRootReference>,
    /// When the decision was made.
    pub decided_at: Timestamp,
}

impl Report {
    /// A report over subjects that were already judged one by one, plus reasons that concern the whole run.
    /// The decision follows from the reasons alone; a run without any subject proves nothing and is undecided.
    pub fn new(subjects: Vec<SubjectReport>, mut reasons: Vec<Reason>, decided_at: Timestamp) -> Self {
        if subjects.is_empty() && reasons.is_empty() {
            reasons.push(Reason::new(crate::types::Code::EvidenceMissing, "no subject was given"));
        }
        let decision = Decision::from_reasons(&reasons);
        let facts = subjects.first().map_or(serde_json::Value::Null, |subject| subject.facts.clone());
        Self {
            decision,
            subjects,
            reasons,
            warnings: Vec::new(),
            facts,
            images: Vec::new(),
            policy: None,
            trust_root: None,
            decided_at,
        }
    }
}
