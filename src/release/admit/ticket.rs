//! Tickets: what a server says may run, where and until when, signed; and the same believed again by a node.
//!
//! A ticket is an in-toto statement in a DSSE envelope, carried in a Sigstore bundle as every other statement of ours
//! (docs/reference/admission.md). It is the server's word and no more than that: a node that has one judges the images
//! itself all the same (docs/adr/0005-tickets-and-permits.md).
//! Invariant: no I/O and no clock, and no [`Ticket`] whose signature was not checked.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::BootArtifact;
use super::trust::AdmissionTrust;
use crate::release::attest::bundle::{Author, Content, SignError};
use crate::release::attest::key::PrivateKey;
use crate::release::evidence::bundle::{self, Bundle, Envelope};
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::statement::{PAYLOAD_TYPE, Statement};
use crate::types::vm::VmId;
use crate::types::{Code, Digest, Reason, limits};

/// The predicate's type.
pub const PREDICATE_TYPE: &str = "https://debvisor.dev/admission/v1";
/// How far the server's clock may be ahead of the node's.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a ticket says; the predicate of its statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TicketTerms {
    /// The machine.
    pub vm: VmId,
    /// The node that may run it.
    pub node: String,
    /// Everything that the machine is made of.
    pub artifacts: Vec<BootArtifact>,
    /// The policy under which the server allowed it.
    pub policy: Digest,
    /// The trust root that the server used; for people, since a node goes by its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<Digest>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// From when on it permits nothing.
    pub expires_at: Timestamp,
    /// Counts up with every ticket for the machine; a node takes no lower one than it has seen.
    pub generation: u64,
    /// Different in every ticket.
    pub nonce: Uuid,
}

/// A ticket that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    terms: TicketTerms,
    signed_by: Digest,
}

impl Ticket {
    /// What it says.
    pub const fn terms(&self) -> &TicketTerms {
        &self.terms
    }

    /// The fingerprint of the key that signed it.
    pub const fn signed_by(&self) -> &Digest {
        &self.signed_by
    }

    /// One for tests of what stands behind it.
    #[cfg(test)]
    pub(super) fn for_tests(terms: TicketTerms) -> Self {
        Self { terms, signed_by: Digest::sha256(b"server") }
    }
}

/// A ticket that was read and that nobody has to believe yet.
#[derive(Debug, Clone)]
pub struct SignedTicket {
    terms: TicketTerms,
    envelope: Envelope,
}

/// Signs a ticket. [`super::permit::issue`] is what a server calls: it asks first.
pub(super) fn sign(terms: &TicketTerms, key: &PrivateKey) -> Result<Vec<u8>, SignError> {
    let subjects: Vec<_> = terms.artifacts.iter().map(|artifact| (artifact.slot.as_str(), &artifact.digest)).collect();
    sign_statement(&subjects, PREDICATE_TYPE, &serde_json::json!(terms), key)
}

/// A statement about these, signed, as a bundle on one line.
pub(super) fn sign_statement(
    subjects: &[(&str, &Digest)],
    predicate_type: &str,
    predicate: &serde_json::Value,
    key: &PrivateKey,
) -> Result<Vec<u8>, SignError> {
    use crate::release::artifact::Artifact;
    use crate::release::attest::statement;
    let artifacts: Vec<Artifact> =
        subjects.iter().map(|(name, digest)| Artifact::new(*name, [(*digest).clone()])).collect();
    let payload = statement::payload(&artifacts.iter().collect::<Vec<_>>(), predicate_type, predicate);
    let signed = Content::Statement { payload }.sign(key)?;
    let mut line = signed.to_bundle(&Author::Key(key.public().clone()), &[], &[]).to_string().into_bytes();
    line.push(b'\n');
    Ok(line)
}

impl SignedTicket {
    /// Reads a ticket.
    ///
    /// # Errors
    /// `ticket-malformed`, or what strict JSON refuses.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() as u64 > limits::TICKET_BYTES {
            let message = format!("a ticket has at most {} bytes", limits::TICKET_BYTES);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let bundle = Bundle::parse(bytes).map_err(|reason| malformed(reason.message))?;
        let (envelope, statement) = statement_of(bundle).map_err(|reason| malformed(reason.message))?;
        if statement.predicate_type != PREDICATE_TYPE {
            let message = format!("it is a `{}`, and `{PREDICATE_TYPE}` is a ticket", statement.predicate_type);
            return Err(malformed(message).location("predicateType"));
        }
        let terms: TicketTerms = serde_json::from_value(statement.predicate)
            .map_err(|error| malformed(error.to_string()).location("predicate"))?;
        if terms.artifacts.len() > limits::TICKET_ARTIFACTS {
            let message = format!("a machine has at most {} artifacts", limits::TICKET_ARTIFACTS);
            return Err(Reason::new(Code::InputTooLarge, message).location("predicate.artifacts"));
        }
        // Whoever reads the subjects and whoever reads the predicate must read the same.
        let subjects = statement.subjects.iter().map(|subject| (subject.name.as_deref(), subject.digests.as_slice()));
        let artifacts = terms.artifacts.iter();
        let artifacts =
            artifacts.map(|artifact| (Some(artifact.slot.as_str()), std::slice::from_ref(&artifact.digest)));
        if !subjects.eq(artifacts) {
            return Err(malformed("its subjects are not its artifacts").location("subject"));
        }
        Ok(Self { terms, envelope })
    }

    /// What it says, whoever signed it.
    pub const fn terms(&self) -> &TicketTerms {
        &self.terms
    }

    /// Believes it, where a pinned key signed it and its time is now.
    ///
    /// # Errors
    /// `ticket-untrusted`, `ticket-expired` or `time-invalid`.
    pub fn verify(self, trust: &AdmissionTrust, now: Timestamp) -> Result<Ticket, Reason> {
        let signed_by = signer(&self.envelope, trust.ticket_keys()).ok_or_else(|| {
            let message = match trust.ticket_keys().len() {
                0 => "no key is pinned whose tickets would be believed".to_owned(),
                count => format!("none of the {count} pinned keys signed it"),
            };
            Reason::new(Code::TicketUntrusted, message)
        })?;
        check_time(&self.terms, trust.max_validity(), now)?;
        Ok(Ticket { terms: self.terms, signed_by: signed_by.fingerprint() })
    }
}

/// Whether the ticket's time is now, and no longer than is granted.
pub(super) fn check_time(terms: &TicketTerms, longest: SignedDuration, now: Timestamp) -> Result<(), Reason> {
    let TicketTerms { issued_at, expires_at, .. } = terms;
    if *issued_at > now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) {
        let message = format!("the ticket is from the future: it was issued at {issued_at}, and it is {now}");
        return Err(Reason::new(Code::TimeInvalid, message).location("predicate.issued_at"));
    }
    if now >= *expires_at {
        let message = format!("the ticket ended at {expires_at}, and it is {now}");
        return Err(Reason::new(Code::TicketExpired, message).location("predicate.expires_at"));
    }
    if expires_at.duration_since(*issued_at) > longest {
        let message = format!("the ticket claims the time from {issued_at} to {expires_at}; {longest:#} is granted");
        return Err(Reason::new(Code::TicketExpired, message).location("predicate.expires_at"));
    }
    Ok(())
}

/// The statement that a bundle carries, with its envelope.
pub(super) fn statement_of(bundle: Bundle) -> Result<(Envelope, Statement), Reason> {
    let bundle::Content::Envelope(envelope) = bundle.content else {
        return Err(Reason::new(Code::StatementMalformed, "it signs an artifact and states nothing"));
    };
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Reason::new(Code::PayloadType, format!("its payload is `{}`", envelope.payload_type)));
    }
    let statement = Statement::parse(&envelope.payload)?;
    Ok((envelope, statement))
}

/// The key that signed an envelope, of those that may.
pub(super) fn signer<'k>(envelope: &Envelope, keys: impl IntoIterator<Item = &'k PublicKey>) -> Option<&'k PublicKey> {
    let message = envelope.pre_authentication_encoding();
    keys.into_iter().find(|key| key.verify(&message, &envelope.signature).is_ok())
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::TicketMalformed, message)
}
