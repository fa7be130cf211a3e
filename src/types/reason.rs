//! A reason: why a decision is not "allow", in a form that people and programs can act on.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Code, Outcome};

/// The stable name of a reason: one of our own [`Code`]s, or a kebab-case code that a user's policy chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 64, example = "image-changed")]
pub struct ReasonCode(Cow<'static, str>);

impl ReasonCode {
    /// A code out of a user's policy. Kebab-case, at most 64 bytes; anything else is none.
    pub fn from_policy(text: &str) -> Option<Self> {
        let kebab = !text.is_empty()
            && text.len() <= 64
            && text.split('-').all(|part| {
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            });
        kebab.then(|| Self(Cow::Owned(text.to_owned())))
    }

    /// Our own code behind it, unless a policy invented it.
    pub fn known(&self) -> Option<Code> {
        Code::from_name(&self.0)
    }

    /// The kebab-case text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Code> for ReasonCode {
    fn from(code: Code) -> Self {
        Self(Cow::Borrowed(code.name()))
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One reason of a decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable kebab-case code; see `debvisor explain`.
    pub code: ReasonCode,
    /// One sentence about this very case, with the values that decided.
    pub message: String,
    /// The file or reference that the reason rests on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<String>,
    /// The place inside the evidence: a field path, a line, a member name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
    /// The smallest change that would mend it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The subject it is about, where a run has several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
}

impl Reason {
    /// A reason with the code's own fix as its hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            evidence: None,
            location: None,
            hint: Some(code.info().fix.to_owned()),
            subject: None,
        }
    }

    /// A reason that a user's policy gave under a code of its own.
    pub fn from_policy(code: ReasonCode, message: impl Into<String>) -> Self {
        let hint = code.known().map(|known| known.info().fix.to_owned());
        Self { code, message: message.into(), evidence: None, location: None, hint, subject: None }
    }

    /// Names the evidence.
    #[must_use]
    pub fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = Some(evidence.into());
        self
    }

    /// Names the place inside the evidence.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// Replaces the code's general fix by one for this very case.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the subject.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// What this reason does to a decision. A policy's own code is always a no.
    pub fn outcome(&self) -> Outcome {
        self.code.known().map_or(Outcome::Deny, |code| code.info().outcome)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
