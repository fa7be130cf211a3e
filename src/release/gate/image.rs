//! An image as a release of one artifact: what is attached to it in, one report out.
//!
//! Whoever may push may attach, so what strangers signed is passed over as long as somebody expected answers; what is
//! forged or damaged is a no. An attestation that is no provenance is by the same signers, and nobody builds it: it is
//! judged as the documents of a directory are.
//! Invariant: no I/O and no clock, as in the rest of the room.

use std::collections::BTreeMap;

use super::{Facts, Question, SubjectReport};
use crate::release::artifact::Artifact;
use crate::release::decision::{Decision, Report};
use crate::release::evidence::document::Document;
use crate::release::verify::member::{self, Companion};
use crate::release::verify::{Offered, revoked};
use crate::types::{Code, Reason};

/// An image and everything that speaks of it.
#[derive(Debug)]
pub struct Image {
    /// The manifest or index.
    pub artifact: Artifact,
    /// What is attached to it, and what else was given.
    pub offered: Vec<Offered>,
    /// The documents that are attached to it.
    pub documents: Vec<AttachedDocument>,
    /// Why some of it cannot be judged.
    pub reasons: Vec<Reason>,
}

/// A document that is attached to the image.
#[derive(Debug)]
pub struct AttachedDocument {
    /// Its own bytes.
    pub file: Artifact,
    /// What it says.
    pub document: Document,
    /// The manifest that holds it, over which its signatures are.
    pub holder: Artifact,
    /// Its signatures.
    pub offered: Vec<Offered>,
}

/// Judges an image with everything that is attached to it.
pub fn judge(image: &Image, question: &Question<'_>) -> Report {
    let (facts, mut reasons) = own_signatures(image, question);
    reasons.extend(image.reasons.iter().cloned());
    let mut facts = facts;
    for document in &image.documents {
        let (documented, against) = documented(image, document, question);
        facts.merge(documented);
        reasons.extend(against);
    }
    let revoked = revoked(&image.artifact, &facts, question.revocations);
    if !revoked.is_empty() {
        reasons.extend(revoked);
        facts = Facts::default();
    }
    reasons.extend(question.unanswered.iter().cloned());
    if !question.names_somebody() {
        let reason = Reason::new(Code::IdentityRequired, "nobody was named who must have signed this image");
        reasons.push(reason.hint("name the signer: --key, or --certificate-identity with --certificate-oidc-issuer"));
    }
    let mut warnings = Vec::new();
    // Where the evidence already says no, a policy could only add an echo.
    if reasons.is_empty() {
        if facts.is_vouched_for() {
            (reasons, warnings) = (question.policy)(&image.artifact, &facts);
        } else {
            let message = format!("no expected signer vouches for `{}`", image.artifact.name);
            let hint = "sign it: debvisor sign oci://REF, by digest";
            reasons.push(Reason::new(Code::SignatureRequired, message).hint(hint));
        }
    }
    let subject = SubjectReport {
        name: image.artifact.name.clone(),
        digest: sha256_alone(&image.artifact),
        decision: Decision::from_reasons(&reasons),
        facts: facts.to_json(),
    };
    let mut report = Report::new(vec![subject], reasons, question.now);
    report.warnings = warnings;
    report
}

/// An image has one name, by whatever digests its manifest was judged.
pub fn sha256_alone(artifact: &Artifact) -> BTreeMap<String, String> {
    let mut digests = artifact.digest_set();
    digests.retain(|algorithm, _| algorithm == "sha256");
    digests
}

/// What signatures of the image and statements about it prove.
fn own_signatures(image: &Image, question: &Question<'_>) -> (Facts, Vec<Reason>) {
    let Some(sigstore) = question.sigstore else { return Default::default() };
    let all: Vec<&Offered> = image.offered.iter().collect();
    let (mut facts, mut reasons) = sigstore.artifacts.judge(&image.artifact, &all);
    if !reasons.is_empty() || all.is_empty() {
        return (facts, reasons);
    }
    // What says something about the image, and is not how it was built.
    let is_proved = |offer: &Offered| facts.signatures().iter().any(|signature| signature.evidence == offer.name());
    let others: Vec<&Offered> = all.into_iter().filter(|offer| !offer.is_message() && !is_proved(offer)).collect();
    let (proved, against) = sigstore.companions.judge(&image.artifact, &others);
    if !proved.signatures().is_empty() {
        let (refused, _) = (sigstore.accepts)(&image.artifact, &proved);
        if refused.is_empty() {
            facts.merge(proved);
        } else {
            reasons.extend(refused);
        }
    } else if facts.signatures().is_empty() {
        reasons.extend(against);
    }
    (facts, reasons)
}

/// What a document says of the image, as far as somebody expected vouches for the document.
fn documented(image: &Image, document: &AttachedDocument, question: &Question<'_>) -> (Facts, Vec<Reason>) {
    let Some(sigstore) = question.sigstore else { return Default::default() };
    let offered: Vec<&Offered> = document.offered.iter().collect();
    let (mut facts, reasons) = sigstore.companions.judge(&document.holder, &offered);
    if !facts.signatures().is_empty() && !(sigstore.accepts)(&document.holder, &facts).0.is_empty() {
        facts = Facts::default();
    }
    if !revoked(&document.holder, &facts, question.revocations).is_empty() {
        facts = Facts::default();
    }
    // A stranger's document, or one that nobody signed, says nothing; one whose signature is forged is a no.
    let forged = reasons.into_iter().filter(|reason| !is_about_somebody_else(reason)).collect::<Vec<_>>();
    let companion = Companion {
        file: &document.file,
        document: &document.document,
        facts: &facts,
        named_after: true,
        is_general: false,
    };
    let (documented, against) = member::documented(&companion, &image.artifact);
    // What describes other bytes speaks against the image only where somebody expected says so.
    let against = if facts.is_vouched_for() { against } else { Vec::new() };
    (documented, forged.into_iter().chain(against).collect())
}

fn is_about_somebody_else(reason: &Reason) -> bool {
    matches!(
        reason.code.known(),
        Some(
            Code::IdentityMismatch
                | Code::IssuerMismatch
                | Code::KeyMismatch
                | Code::MaterialMismatch
                | Code::SubjectMismatch
                | Code::DigestMismatch
        )
    )
}
