//! One file of a release and what else of the release speaks of it, in; its facts and the reasons against it, out.
//! Invariant: no I/O and no clock. A companion's word counts only as far as the companion itself was proved.

use super::Facts;
use super::facts::{ChecksumListing, DocumentReference};
use super::openpgp::{self, OpenpgpExpectations, SignatureFile};
use crate::release::artifact::Artifact;
use crate::release::evidence::checksums::ChecksumList;
use crate::release::evidence::document::{Document, Kind};
use crate::release::evidence::openpgp::{ArtifactHashes, Keyring};
use crate::types::{Code, DigestAlgorithm, Reason};

/// What the OpenPGP signatures over a file prove.
pub fn signed(
    files: &[SignatureFile<'_>],
    hashes: Option<&ArtifactHashes>,
    keyring: &Keyring,
    expected: &OpenpgpExpectations,
) -> (Facts, Vec<Reason>) {
    let (signatures, reasons) = openpgp::judge(files, hashes, keyring, expected);
    (Facts { signatures, ..Facts::default() }, reasons)
}

/// What a checksum list proves of a file that it names. `list_facts` are what was proved of the list itself.
/// A digest that is not the file's is a reason, and then no listing is a fact.
pub fn listed(list: &ChecksumList, list_facts: &Facts, artifact: &Artifact) -> (Facts, Vec<Reason>) {
    let reasons = list.judge(artifact);
    if !reasons.is_empty() {
        return (Facts::default(), reasons);
    }
    let listings = list.of_name(&artifact.name).iter().map(|entry| ChecksumListing {
        evidence: list.file_name().to_owned(),
        name: entry.name.clone(),
        digest: entry.digest.to_string(),
        signed: list_facts.is_vouched_for(),
        signer: list_facts.signatures().first().map(|signature| signature.signer.clone()),
    });
    (Facts { checksums: listings.collect(), ..Facts::default() }, Vec::new())
}

/// What a document of the release says of an artifact of it.
#[derive(Debug, Clone, Copy)]
pub struct Companion<'a> {
    /// The document's file, with its digests.
    pub file: &'a Artifact,
    /// What it says.
    pub document: &'a Document,
    /// What was proved of the document's own file.
    pub facts: &'a Facts,
    /// Whether its name says that it is about this one artifact.
    pub named_after: bool,
    /// Whether its name says of no artifact that it is about that.
    pub is_general: bool,
}

/// Whether a document speaks of an artifact.
///
/// A digest in it decides where it gives one. Where it gives none, its name does: about one artifact, or, where it is
/// named after none, about the release as a whole. A document that nobody vouches for says nothing.
pub fn documented(companion: &Companion<'_>, artifact: &Artifact) -> (Facts, Vec<Reason>) {
    let document = companion.document;
    let binds = document.digests.iter().any(|digest| artifact.digest(digest.algorithm()) == Some(digest));
    if companion.named_after && document.declares_digest && !binds {
        let message = format!("`{}` is named after the artifact and describes other bytes", companion.file.name);
        let reason = Reason::new(Code::DocumentMismatch, message);
        return (Facts::default(), vec![reason.evidence(&companion.file.name).subject(&artifact.name)]);
    }
    let speaks = binds || (!document.declares_digest && (companion.named_after || companion.is_general));
    if !speaks || !companion.facts.is_vouched_for() {
        return (Facts::default(), Vec::new());
    }
    let reference = DocumentReference {
        kind: match document.kind {
            Kind::Sbom => "sbom",
            Kind::Vex => "vex",
        },
        evidence: companion.file.name.clone(),
        format: document.format.clone(),
        digest: companion.file.digest(DigestAlgorithm::Sha256).map(ToString::to_string),
        binds_digest: binds,
    };
    (Facts { documents: vec![reference], ..Facts::default() }, Vec::new())
}
