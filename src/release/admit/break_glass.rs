//! Overrides: what two people let run although no policy allows it; signed by both, for one machine and named digests.
//!
//! Each signs the same statement with a key of their own that the node pins (docs/reference/admission.md), so that
//! neither a server nor one person alone can open this door. An override stands in for the answer about an image and
//! for nothing else: tickets, quarantine, revocations and changed bytes count as ever.
//! Invariant: no I/O and no clock, and no [`Override`] that two different people did not sign.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::ticket;
use super::trust::AdmissionTrust;
use super::two_people::Person;
use crate::release::attest::bundle::SignError;
use crate::release::attest::key::PrivateKey;
use crate::release::evidence::bundle;
use crate::types::vm::VmId;
use crate::types::{Code, Digest, Reason, limits};

/// The predicate's type.
pub const PREDICATE_TYPE: &str = "https://debvisor.dev/break-glass/v1";
/// How far a person's clock may be ahead of the node's.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What an override says; the predicate of its statement. The digests are the statement's subjects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideTerms {
    /// The machine.
    pub vm: VmId,
    /// Why, for the audit log.
    pub why: String,
    /// When it was written.
    pub issued_at: Timestamp,
    /// From when on it permits nothing.
    pub expires_at: Timestamp,
}

/// An override that two people signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    terms: OverrideTerms,
    digests: Vec<Digest>,
    people: Vec<Person>,
}

impl Override {
    /// One person's signature over an override, on one line. Two people's lines make one file.
    ///
    /// # Errors
    /// Where the key refuses.
    pub fn sign(terms: &OverrideTerms, digests: &[Digest], key: &PrivateKey) -> Result<Vec<u8>, SignError> {
        let names: Vec<String> = digests.iter().map(Digest::to_string).collect();
        let subjects: Vec<(&str, &Digest)> = names.iter().map(String::as_str).zip(digests).collect();
        ticket::sign_statement(&subjects, PREDICATE_TYPE, &serde_json::json!(terms), key)
    }

    /// Believes an override: JSON Lines of bundles over the same statement, by two of the people whom `trust` pins.
    ///
    /// # Errors
    /// `break-glass-invalid`, `break-glass-expired` or `time-invalid`.
    pub fn verify(bytes: &[u8], trust: &AdmissionTrust, now: Timestamp) -> Result<Self, Reason> {
        if bytes.len() as u64 > limits::TICKET_BYTES {
            let message = format!("an override has at most {} bytes", limits::TICKET_BYTES);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let mut said = None;
        let mut people: Vec<Person> = Vec::new();
        for (line, bundle) in bundle::parse_file(bytes).map_err(|reason| invalid(reason.message))? {
            let at = |reason: Reason| reason.location(format!("line {line}"));
            let (envelope, statement) = ticket::statement_of(bundle).map_err(|reason| at(invalid(reason.message)))?;
            let key = ticket::signer(&envelope, trust.break_glass.iter().map(|(_, key)| key))
                .ok_or_else(|| at(invalid("the line is signed by nobody who is pinned for this")))?;
            if said.as_ref().is_some_and(|said| *said != statement) {
                return Err(at(invalid("the line says something else than the first one")));
            }
            said = Some(statement);
            for (person, _) in trust.break_glass.iter().filter(|(_, known)| known == key) {
                if !people.contains(person) {
                    people.push(person.clone());
                }
            }
        }
        let statement = said.ok_or_else(|| invalid("it is empty"))?;
        if people.len() < 2 {
            let name = people.first().map_or_else(String::new, Person::to_string);
            return Err(invalid(format!("{name} alone signed it, and two different people must")));
        }
        if statement.predicate_type != PREDICATE_TYPE {
            let message = format!("it is a `{}`, and `{PREDICATE_TYPE}` is an override", statement.predicate_type);
            return Err(invalid(message).location("predicateType"));
        }
        let terms: OverrideTerms = serde_json::from_value(statement.predicate)
            .map_err(|error| invalid(error.to_string()).location("predicate"))?;
        check_time(&terms, trust.break_glass_validity(), now)?;
        let digests = statement.subjects.into_iter().flat_map(|subject| subject.digests).collect();
        Ok(Self { terms, digests, people })
    }

    /// What it says.
    pub const fn terms(&self) -> &OverrideTerms {
        &self.terms
    }

    /// The digests that may run.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Who signed it.
    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// Whether it lets an artifact with this digest run in this machine now.
    ///
    /// # Errors
    /// `break-glass-mismatch`, `break-glass-expired` or `time-invalid`.
    pub fn check(&self, vm: VmId, digest: &Digest, longest: SignedDuration, now: Timestamp) -> Result<(), Reason> {
        if self.terms.vm != vm {
            let message = format!("the override is for the machine {}, not {vm}", self.terms.vm);
            return Err(Reason::new(Code::BreakGlassMismatch, message));
        }
        if !self.digests.contains(digest) {
            let message = format!("the override does not name {digest}");
            return Err(Reason::new(Code::BreakGlassMismatch, message));
        }
        check_time(&self.terms, longest, now)
    }
}

fn check_time(terms: &OverrideTerms, longest: SignedDuration, now: Timestamp) -> Result<(), Reason> {
    let OverrideTerms { issued_at, expires_at, .. } = terms;
    if *issued_at > now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) {
        return Err(Reason::new(Code::TimeInvalid, format!("the override is from the future, {issued_at}")));
    }
    if now >= *expires_at {
        let message = format!("the override ended at {expires_at}, and it is {now}");
        return Err(Reason::new(Code::BreakGlassExpired, message));
    }
    if expires_at.duration_since(*issued_at) > longest {
        let message = format!("the override claims the time from {issued_at} to {expires_at}; {longest:#} is granted");
        return Err(Reason::new(Code::BreakGlassExpired, message));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Reason {
    Reason::new(Code::BreakGlassInvalid, message)
}
