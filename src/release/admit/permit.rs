//! What is to run, the server's ticket, what the node judged and measured itself, in; a [`BootPermit`] or every reason
//! why not, out. The one constructor of permits, and the one issuer of tickets, which asks the same questions.
//!
//! 1. A ticket of a pinned server is there, its time is now, and no later one was seen.
//! 2. It is for this machine on this node, under the policy that the node itself goes by.
//! 3. What is asked for, what the ticket names and what the store holds are the same artifacts, to the byte.
//! 4. The node has allowed each of them itself, just now; or two people did, for this machine.
//! 5. Nothing of it is in quarantine: no digest, nobody who vouches for it, no policy.
//!
//! Invariant: no I/O and no clock. Every question is asked even after a first no, so that a refusal tells everything.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::break_glass::Override;
use super::judge::Judged;
use super::quarantine::{QuarantineList, SignerId};
use super::ticket::{self, Ticket, TicketTerms};
use super::trust::AdmissionTrust;
use super::two_people::Person;
use super::{BootArtifact, BootPermit};
use crate::release::attest::bundle::SignError;
use crate::release::attest::key::PrivateKey;
use crate::release::decision::Decision;
use crate::types::vm::{BootPath, VmId};
use crate::types::{Code, Digest, Reason, limits};

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRequest {
    /// The machine.
    pub vm: VmId,
    /// This node.
    pub node: String,
    /// By which path.
    pub path: BootPath,
    /// Everything that the machine is made of, once the act is done: also where a disk is plugged in, the whole of it.
    pub artifacts: Vec<BootArtifact>,
    /// The highest generation of a ticket that this node has seen for the machine; 0 where it has seen none.
    pub seen_generation: u64,
}

/// What the store holds under a digest, as it was measured when it came in, or is while it is copied to be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The same bytes' digests by other algorithms, as far as they are known: what must not run may be named by one.
    pub others: Vec<Digest>,
    /// Root of the Merkle tree over its blocks, for what is read block by block.
    pub tree_root: Option<Digest>,
    /// Their number.
    pub bytes: u64,
}

/// What whoever asks knows by itself.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Whom it believes.
    pub trust: &'a AdmissionTrust,
    /// What it judged, just now.
    pub judged: &'a [Judged],
    /// What its store holds.
    pub measured: &'a [Measured],
    /// What must not run.
    pub quarantine: &'a QuarantineList,
    /// What two people let run all the same.
    pub overrides: &'a [Override],
    /// The time.
    pub now: Timestamp,
}

/// How old an answer about an image may be when a machine starts by it.
const JUST_NOW: SignedDuration = SignedDuration::from_mins(5);

/// Permits a machine to run, or says everything that speaks against it.
///
/// # Errors
/// Every reason; never none.
pub fn permit(
    request: &BootRequest,
    ticket: Option<&Ticket>,
    standing: &Standing<'_>,
) -> Result<BootPermit, Vec<Reason>> {
    let mut reasons = Vec::new();
    let terms = ticket.map(Ticket::terms);
    match terms {
        None => reasons.push(Reason::new(Code::TicketMissing, format!("there is no ticket for {}", request.vm))),
        Some(terms) => reasons.extend(against_ticket(request, terms, standing)),
    }
    let admitted = admitted(request.vm, &request.artifacts, standing);
    match (admitted, terms) {
        (Ok(admitted), Some(terms)) if reasons.is_empty() => Ok(BootPermit {
            vm: request.vm,
            node: request.node.clone(),
            path: request.path,
            artifacts: request.artifacts.clone(),
            digests: all_digests(&request.artifacts, standing.measured),
            expires_at: admitted.holds_until.map_or(terms.expires_at, |until| until.min(terms.expires_at)),
            signers: admitted.signers,
            policy: terms.policy.clone(),
            overridden_by: admitted.overridden_by,
        }),
        (admitted, _) => {
            reasons.extend(admitted.err().into_iter().flatten());
            Err(reasons)
        }
    }
}

/// Why a server's ticket is not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The server itself would not let it run.
    #[error("the machine is not admitted")]
    Refused(Vec<Reason>),
    /// The key refused.
    #[error("the ticket cannot be signed")]
    Sign(#[from] SignError),
}

/// Issues a ticket for what the server itself admits; the bytes are one line of JSON.
///
/// # Errors
/// The same reasons that a node would give, or the key's refusal.
pub fn issue(terms: &TicketTerms, key: &PrivateKey, standing: &Standing<'_>) -> Result<Vec<u8>, IssueError> {
    let mut reasons = admitted(terms.vm, &terms.artifacts, standing).err().unwrap_or_default();
    reasons.extend(ticket::check_time(terms, standing.trust.max_validity(), standing.now).err());
    reasons.extend(against_policy(&terms.policy, standing));
    if reasons.is_empty() { Ok(ticket::sign(terms, key)?) } else { Err(IssueError::Refused(reasons)) }
}

/// What is known of artifacts that are admitted.
struct Admitted {
    signers: Vec<SignerId>,
    overridden_by: Vec<Person>,
    holds_until: Option<Timestamp>,
}

/// Questions 1 to 3, as far as they concern the ticket.
fn against_ticket(request: &BootRequest, terms: &TicketTerms, standing: &Standing<'_>) -> Vec<Reason> {
    let mismatch = |what: &str, said: &dyn std::fmt::Display, asked: &dyn std::fmt::Display| {
        Reason::new(Code::TicketMismatch, format!("the ticket is for the {what} {said}, not {asked}"))
            .location(format!("predicate.{what}"))
    };
    let mut reasons: Vec<Reason> =
        ticket::check_time(terms, standing.trust.max_validity(), standing.now).err().into_iter().collect();
    if terms.generation < request.seen_generation {
        let message = format!(
            "the ticket has generation {}, and generation {} was here already",
            terms.generation, request.seen_generation
        );
        reasons.push(Reason::new(Code::TicketSuperseded, message).location("predicate.generation"));
    }
    if terms.vm != request.vm {
        reasons.push(mismatch("vm", &terms.vm, &request.vm));
    }
    if terms.node != request.node {
        reasons.push(mismatch("node", &terms.node, &request.node));
    }
    reasons.extend(against_policy(&terms.policy, standing));
    reasons.extend(differences(&terms.artifacts, &request.artifacts));
    reasons
}

fn against_policy(policy: &Digest, standing: &Standing<'_>) -> Option<Reason> {
    match standing.trust.policy_digest() {
        Ok(own) if own == *policy => None,
        Ok(own) => {
            let message = format!("the ticket was issued under the policy {policy}, and the one in force is {own}");
            Some(Reason::new(Code::TicketMismatch, message).location("predicate.policy"))
        }
        Err(reason) => Some(reason),
    }
}

/// Where the ticket's artifacts are not the ones that are asked for, slot by slot.
fn differences(ticket: &[BootArtifact], asked: &[BootArtifact]) -> Vec<Reason> {
    let by_slot = |list: &'_ [BootArtifact]| -> BTreeMap<String, BootArtifact> {
        list.iter().map(|artifact| (artifact.slot.clone(), artifact.clone())).collect()
    };
    let mismatch = |slot: &str, message: String| {
        Reason::new(Code::TicketMismatch, message).location("predicate.artifacts").subject(slot)
    };
    let (named, wanted) = (by_slot(ticket), by_slot(asked));
    if named.len() != ticket.len() || wanted.len() != asked.len() {
        return vec![Reason::new(Code::TicketMismatch, "one slot of the machine is named twice")];
    }
    let slots: BTreeSet<&String> = named.keys().chain(wanted.keys()).collect();
    let compare = |slot: &&String| match (named.get(*slot), wanted.get(*slot)) {
        (Some(named), Some(wanted)) if named == wanted => None,
        (Some(named), Some(wanted)) => {
            let message = format!("the ticket has {} in {slot}, and {} is asked for", tell(named), tell(wanted));
            Some(mismatch(slot, message))
        }
        (Some(_), None) => {
            Some(mismatch(slot, format!("the ticket has something in {slot}, and nothing is asked for")))
        }
        (None, _) => Some(mismatch(slot, format!("the ticket has nothing for {slot}"))),
    };
    slots.iter().filter_map(compare).collect()
}

fn tell(artifact: &BootArtifact) -> String {
    let BootArtifact { kind, digest, tree_root, bytes, .. } = artifact;
    let root = tree_root.as_ref().map_or_else(String::new, |root| format!(" with the tree {root}"));
    format!("the {} {digest}{root} of {bytes} bytes", kind.name())
}

/// Questions 3 to 5, as far as they concern the artifacts.
fn admitted(vm: VmId, artifacts: &[BootArtifact], standing: &Standing<'_>) -> Result<Admitted, Vec<Reason>> {
    let mut reasons = Vec::new();
    let mut signers = BTreeSet::new();
    let mut overridden_by: Vec<Person> = Vec::new();
    let mut ends: Vec<Timestamp> = Vec::new();
    if artifacts.is_empty() {
        reasons.push(Reason::new(Code::ImageUnadmitted, "the machine is made of nothing that could be admitted"));
    }
    if artifacts.len() > limits::TICKET_ARTIFACTS {
        let message = format!("a machine has at most {} artifacts", limits::TICKET_ARTIFACTS);
        return Err(vec![Reason::new(Code::InputTooLarge, message)]);
    }
    for artifact in artifacts {
        let mut against: Vec<Reason> = digests_of(artifact, standing.measured)
            .filter_map(|of| standing.quarantine.check_digest(of, standing.now))
            .collect();
        against.extend(changed(artifact, standing.measured));
        match allowed(artifact, standing) {
            Ok(judged) => {
                signers.extend(judged.signers().iter().cloned());
                ends.extend(judged.holds_until());
            }
            Err(unadmitted) => match overridden(vm, artifact, &unadmitted, standing) {
                Ok(by) => {
                    ends.push(by.terms().expires_at);
                    let new: Vec<_> = by.people().iter().filter(|person| !overridden_by.contains(person)).collect();
                    overridden_by.extend(new.into_iter().cloned());
                }
                Err(mismatches) => {
                    against.extend(unadmitted);
                    against.extend(mismatches);
                }
            },
        }
        reasons.extend(against.into_iter().map(|reason| reason.subject(&artifact.slot)));
    }
    let signers: Vec<SignerId> = signers.into_iter().collect();
    reasons.extend(signers.iter().filter_map(|signer| standing.quarantine.check_signer(signer, standing.now)));
    if let Ok(policy) = standing.trust.policy_digest() {
        reasons.extend(standing.quarantine.check_policy(&policy, standing.now));
    }
    if reasons.is_empty() {
        Ok(Admitted { signers, overridden_by, holds_until: ends.into_iter().min() })
    } else {
        Err(reasons)
    }
}

/// Every digest that an artifact is known by.
fn digests_of<'a>(artifact: &'a BootArtifact, measured: &'a [Measured]) -> impl Iterator<Item = &'a Digest> {
    let others = measured.iter().filter(|found| found.digest == artifact.digest).flat_map(|found| &found.others);
    std::iter::once(&artifact.digest).chain(others)
}

fn all_digests(artifacts: &[BootArtifact], measured: &[Measured]) -> Vec<Digest> {
    let mut all: Vec<Digest> = artifacts.iter().flat_map(|artifact| digests_of(artifact, measured)).cloned().collect();
    all.sort();
    all.dedup();
    all
}

/// Whether the store holds other bytes under this digest than the artifact says, or none.
fn changed(artifact: &BootArtifact, measured: &[Measured]) -> Option<Reason> {
    let Some(found) = measured.iter().find(|found| found.digest == artifact.digest) else {
        let message = format!("the store holds nothing with the digest {}", artifact.digest);
        return Some(Reason::new(Code::ImageChanged, message));
    };
    let BootArtifact { kind, digest, tree_root, bytes, .. } = artifact;
    if found.bytes != *bytes {
        let message = format!("{digest} has {} bytes in the store, and {bytes} were decided about", found.bytes);
        return Some(Reason::new(Code::ImageChanged, message));
    }
    if kind.is_block_device() && (tree_root.is_none() || found.tree_root != *tree_root) {
        let tell = |root: &Option<Digest>| root.as_ref().map_or_else(|| "none".to_owned(), Digest::to_string);
        let message = format!(
            "the blocks of {digest} have the tree {}, and {} was decided about",
            tell(&found.tree_root),
            tell(tree_root)
        );
        return Some(Reason::new(Code::ImageChanged, message));
    }
    None
}

/// The asker's own answer about an artifact, where that is a yes, of now.
fn allowed<'j>(artifact: &BootArtifact, standing: &Standing<'j>) -> Result<&'j Judged, Vec<Reason>> {
    let unadmitted = |message: String| Reason::new(Code::ImageUnadmitted, message);
    let of_it = |judged: &&Judged| judged.digest() == Some(&artifact.digest) && judged.kind() == artifact.kind;
    let Some(judged) = standing.judged.iter().find(of_it) else {
        let message = format!("nobody here has judged the {} {}", artifact.kind.name(), artifact.digest);
        return Err(vec![unadmitted(message)]);
    };
    if judged.decision() != Decision::Allow {
        let message =
            format!("the {} {} is not admitted: {}", artifact.kind.name(), artifact.digest, judged.decision().name());
        let own = judged.report().reasons.iter().cloned();
        return Err(std::iter::once(unadmitted(message)).chain(own).collect());
    }
    if judged.policy() != standing.trust.policy_digest().ok().as_ref() {
        return Err(vec![unadmitted(format!("{} was judged under another policy", artifact.digest))]);
    }
    let age = standing.now.duration_since(judged.decided_at());
    if age < SignedDuration::ZERO || age > JUST_NOW {
        let message = format!("{} was judged at {}, and it is {}", artifact.digest, judged.decided_at(), standing.now);
        return Err(vec![unadmitted(message)]);
    }
    if judged.holds_until().is_some_and(|until| until <= standing.now) {
        return Err(vec![unadmitted(format!("the decision about {} has ended", artifact.digest))]);
    }
    Ok(judged)
}

/// The override that lets an unadmitted artifact run all the same. What was revoked stays revoked.
fn overridden<'o>(
    vm: VmId,
    artifact: &BootArtifact,
    unadmitted: &[Reason],
    standing: &Standing<'o>,
) -> Result<&'o Override, Vec<Reason>> {
    if unadmitted.iter().any(|reason| reason.code.known() == Some(Code::Revoked)) {
        return Err(Vec::new());
    }
    let longest = standing.trust.break_glass_validity();
    let mut mismatches = Vec::new();
    for found in standing.overrides {
        match found.check(vm, &artifact.digest, longest, standing.now) {
            Ok(()) => return Ok(found),
            Err(reason) => mismatches.push(reason),
        }
    }
    Err(mismatches)
}
