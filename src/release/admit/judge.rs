//! One image and what speaks for it in; whether it may boot out, as a [`Judged`] with its report.
//!
//! 1. What is damaged is a no, whatever stands beside it.
//! 2. Every signer of the configuration is asked alike; the word of one is enough. Sound evidence by a stranger, or
//!    about something else, is passed over; evidence that is forged is a no.
//! 3. Lists and documents count as far as they are signed themselves.
//! 4. What is revoked is a no.
//! 5. The policy has the last word, over what one signer said.
//!
//! Invariant: no I/O and no clock, and no [`Judged`] that was not judged here. Whatever is missing on the asker's side
//! (a policy, a trust root, a signer) ends without a yes.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::evidence::{Companion, Evidence, NamedSignatures};
use super::quarantine::SignerId;
use super::trust::{AdmissionTrust, Root, Signer};
use crate::release::artifact::Artifact;
use crate::release::decision::{Decision, Report, SubjectReport};
use crate::release::evidence::document::Document;
use crate::release::evidence::openpgp::ArtifactHashes;
use crate::release::policy::PolicySet;
use crate::release::policy::input::{InputSubject, InputTrustRoot, PolicyInput};
use crate::release::trust::revocation::Revocations;
use crate::release::verify::openpgp::SignatureFile;
use crate::release::verify::{Expectations, Facts, Offered, Verifier, is_about_something_else, member, revoked};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, DigestAlgorithm, Reason};

/// An image as it is presented.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Its name and digests, SHA-256 among them; its bytes too, where a key that signs whole messages must see them.
    pub artifact: &'a Artifact,
    /// What it is to a machine.
    pub kind: ArtifactKind,
    /// What OpenPGP signatures over it are completed with; from [`Evidence::openpgp_hasher`].
    pub openpgp: Option<&'a ArtifactHashes>,
}

/// What was decided of one image, by whom it is vouched for, and until when that holds.
#[derive(Debug, Clone)]
pub struct Judged {
    pub(super) digest: Option<Digest>,
    pub(super) kind: ArtifactKind,
    pub(super) signers: Vec<SignerId>,
    pub(super) policy: Option<Digest>,
    pub(super) decided_at: Timestamp,
    pub(super) holds_until: Option<Timestamp>,
    pub(super) report: Report,
}

impl Judged {
    /// The image's SHA-256; none where it was not presented with one, and then it is not allowed.
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What it was presented as.
    pub const fn kind(&self) -> ArtifactKind {
        self.kind
    }

    /// The answer.
    pub const fn decision(&self) -> Decision {
        self.report.decision
    }

    /// Everybody whose word for it was accepted.
    pub fn signers(&self) -> &[SignerId] {
        &self.signers
    }

    /// The policy that decided.
    pub const fn policy(&self) -> Option<&Digest> {
        self.policy.as_ref()
    }

    /// The time that was given as now.
    pub const fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    /// When the first summary ends that the answer rests on, where it rests on any.
    pub const fn holds_until(&self) -> Option<Timestamp> {
        self.holds_until
    }

    /// The whole answer, for people and for keeping.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The whole answer, to be joined with others.
    pub fn into_report(self) -> Report {
        self.report
    }

    /// One for tests of what stands behind it.
    #[cfg(test)]
    pub(super) fn for_tests(digest: Digest, kind: ArtifactKind, policy: Digest, now: Timestamp) -> Self {
        let subject = SubjectReport {
            name: "test".to_owned(),
            digest: [("sha256".to_owned(), digest.to_hex())].into(),
            decision: Decision::Allow,
            facts: serde_json::Value::Null,
        };
        let signers = vec![SignerId::Key { fingerprint: Digest::sha256(b"key").to_string() }];
        let report = Report::new(vec![subject], Vec::new(), now);
        let policy = Some(policy);
        Self { digest: Some(digest), kind, signers, policy, decided_at: now, holds_until: None, report }
    }
}

/// Judges one image.
pub fn judge(
    presented: Presented<'_>,
    evidence: &Evidence,
    trust: &AdmissionTrust,
    revocations: &Revocations,
    now: Timestamp,
) -> Judged {
    let artifact = presented.artifact;
    let answer = Question::new(presented, evidence, trust, revocations, now).map_or_else(Answer::no, |q| q.answer());
    let mut reasons = answer.reasons;
    reasons.extend(evidence.refused.iter().cloned());
    let digest = artifact.digest(DigestAlgorithm::Sha256).cloned();
    if digest.is_none() && reasons.is_empty() {
        reasons.push(Reason::new(Code::SubjectUnreadable, "the image was not hashed with SHA-256"));
    }
    let subject = SubjectReport {
        name: artifact.name.clone(),
        digest: artifact.digest_set(),
        decision: Decision::from_reasons(&reasons),
        facts: answer.facts.to_json(),
    };
    let mut report = Report::new(vec![subject], reasons, now);
    report.warnings = answer.warnings;
    report.policy = trust.policy();
    report.trust_root = trust.root.as_ref().ok().map(|root| root.reference.clone());
    Judged {
        digest,
        kind: presented.kind,
        signers: signers(&answer.facts),
        policy: trust.policy_digest().ok(),
        decided_at: now,
        holds_until: holds_until(&answer.facts),
        report,
    }
}

/// Everybody whose word is among the facts, each once.
fn signers(facts: &Facts) -> Vec<SignerId> {
    let direct = facts.signatures().iter().map(|signature| &signature.signer);
    let by_list = facts.checksums().iter().filter_map(|listing| listing.signer.as_ref());
    let all: BTreeSet<SignerId> = direct.chain(by_list).map(SignerId::from).collect();
    all.into_iter().collect()
}

fn holds_until(facts: &Facts) -> Option<Timestamp> {
    let attestations = facts.signatures().iter().filter_map(|signature| signature.attestation.as_ref());
    attestations.filter_map(|attestation| attestation.summary.as_ref()?.expires_at).min()
}

#[derive(Default)]
struct Answer {
    facts: Facts,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
}

impl Answer {
    fn no(reasons: Vec<Reason>) -> Self {
        Self { reasons, ..Self::default() }
    }
}

/// So many bundles are judged one by one where none claims to be about the image, for the sake of a better reason.
const JUDGED_ANYWAY: usize = 4;

struct Question<'a> {
    presented: Presented<'a>,
    evidence: &'a Evidence,
    trust: &'a AdmissionTrust,
    policy: &'a PolicySet,
    root: &'a Root,
    revocations: &'a Revocations,
    asked: Vec<Asked<'a>>,
    now: Timestamp,
}

/// One signer, with what is expected of it made ready.
struct Asked<'a> {
    signer: &'a Signer,
    /// Of what is said of the image, and of what is said of lists and documents: nobody builds a list.
    expectations: Option<(Expectations, Expectations)>,
}

/// What one signer said.
#[derive(Default, Clone)]
struct Word {
    facts: Facts,
}

/// What speaks against the image: for good, or only as long as nobody vouches for it.
#[derive(Default)]
struct Against {
    fatal: Vec<Reason>,
    passed_over: Vec<Reason>,
}

impl<'a> Question<'a> {
    fn new(
        presented: Presented<'a>,
        evidence: &'a Evidence,
        trust: &'a AdmissionTrust,
        revocations: &'a Revocations,
        now: Timestamp,
    ) -> Result<Self, Vec<Reason>> {
        let (policy, root) = match (&trust.policy, &trust.root) {
            (Ok(policy), Ok(root)) => (policy, root),
            (policy, root) => {
                let reasons = [policy.as_ref().err(), root.as_ref().err()];
                return Err(reasons.into_iter().flatten().cloned().collect());
            }
        };
        if let Some(reason) = revocations.check_digest(&policy.reference().digest) {
            return Err(vec![reason]);
        }
        if trust.signers.is_empty() {
            let reason = Reason::new(Code::IdentityRequired, "nobody was named whose word for an image would count");
            return Err(vec![reason.hint("name one: [[admission.signers]], or --key, --certificate-identity")]);
        }
        let ready = |signer: &'a Signer| {
            let logged =
                |expectations: Expectations| Expectations { key_needs_log: root.key_needs_log, ..expectations };
            let expectations = signer.sigstore.clone().map(|image| {
                let alone = Expectations {
                    identity: image.identity.clone(),
                    issuer: image.issuer.clone(),
                    key: image.key.clone(),
                    ..Expectations::default()
                };
                (logged(image), logged(alone))
            });
            Asked { signer, expectations }
        };
        let asked = trust.signers.iter().map(ready).collect();
        Ok(Self { presented, evidence, trust, policy, root, revocations, asked, now })
    }

    fn answer(&self) -> Answer {
        let artifact = self.presented.artifact;
        let mut against = Against { fatal: self.damaged(), ..Against::default() };
        let mut words = self.of_file(artifact, &self.about(), true, &mut against);
        self.of_signatures(&self.evidence.signatures, self.presented.openpgp, &mut words, &mut against);
        self.of_lists(&mut words, &mut against);
        self.of_documents(&mut words, &mut against);
        for word in &words {
            against.fatal.extend(revoked(artifact, &word.facts, self.revocations));
        }
        if words.iter().all(|word| word.facts.signatures().is_empty() && word.facts.checksums().is_empty()) {
            // Nobody vouches: the digest may be revoked all the same.
            against.fatal.extend(revoked(artifact, &Facts::default(), self.revocations));
        }
        let warnings = self.unjudged();
        let facts = words.iter().fold(Facts::default(), |mut all, word| {
            all.merge(word.facts.clone());
            all
        });
        against.fatal.sort();
        against.fatal.dedup();
        if !against.fatal.is_empty() {
            return Answer { facts, reasons: against.fatal, warnings };
        }
        self.by_policy(&words, facts, against.passed_over, warnings)
    }

    /// Asks the policy about what each signer said; one that is allowed is enough.
    fn by_policy(&self, words: &[Word], facts: Facts, passed_over: Vec<Reason>, mut warnings: Vec<Reason>) -> Answer {
        let mut reasons = passed_over;
        for (asked, word) in self.asked.iter().zip(words) {
            let vouches = !word.facts.signatures().is_empty() || word.facts.checksums().iter().any(|list| list.signed);
            if !vouches {
                continue;
            }
            let artifact = self.presented.artifact;
            let input = PolicyInput {
                subject: InputSubject {
                    name: artifact.name.clone(),
                    digest: artifact.digest_set(),
                    kind: Some(self.presented.kind.name().to_owned()),
                },
                expected: self.trust.expected(asked.signer, self.presented.kind),
                facts: word.facts.to_json(),
                trust_root: Some(InputTrustRoot {
                    digest: self.root.reference.digest.to_string(),
                    age_days: self.root.reference.age_days,
                }),
                now: self.now,
            };
            let verdicts = self.policy.evaluate(&input.into_json());
            if verdicts.denials.is_empty() {
                warnings.extend(verdicts.warnings);
                return Answer { facts, reasons: Vec::new(), warnings };
            }
            reasons.extend(verdicts.denials);
        }
        reasons.sort();
        reasons.dedup();
        if reasons.is_empty() {
            let message = "there is no evidence for this image by anybody who was named";
            let hint = "put the signature beside it, as IMAGE.sigstore.json, or sign it: debvisor sign IMAGE";
            reasons.push(Reason::new(Code::EvidenceMissing, message).hint(hint));
        }
        Answer { facts, reasons, warnings }
    }

    /// The bundles that may be about the image: those that a list or document beside it claims are about that.
    fn about(&self) -> Vec<&'a Offered> {
        let evidence = self.evidence;
        let companions: Vec<&Artifact> = evidence
            .lists
            .iter()
            .map(|list| &list.signed)
            .chain(evidence.documents.iter().map(|document| &document.signed))
            .collect();
        let is_about = |offer: &Offered, artifact: &Artifact| {
            offer.claimed().iter().any(|digest| artifact.digest(digest.algorithm()) == Some(digest))
        };
        let image = self.presented.artifact;
        let candidates: Vec<&Offered> = evidence
            .offers
            .iter()
            .filter(|offer| is_about(offer, image) || !companions.iter().any(|artifact| is_about(offer, artifact)))
            .collect();
        if candidates.len() <= JUDGED_ANYWAY {
            return candidates;
        }
        candidates.into_iter().filter(|offer| is_about(offer, image) || offer.claimed().is_empty()).collect()
    }

    /// What each signer says of a file by Sigstore's means.
    fn of_file(&self, file: &Artifact, offers: &[&Offered], is_image: bool, against: &mut Against) -> Vec<Word> {
        let verifiers: Vec<Option<Verifier<'_>>> = self
            .asked
            .iter()
            .map(|asked| {
                let (image, companion) = asked.expectations.as_ref()?;
                let expectations = if is_image { image } else { companion };
                Some(Verifier::new(&self.root.root, expectations, self.now))
            })
            .collect();
        let mut words = vec![Word::default(); self.asked.len()];
        for offer in offers {
            let mut accepted = false;
            let mut refused = Vec::new();
            for (verifier, word) in verifiers.iter().zip(&mut words) {
                let Some(verifier) = verifier else { continue };
                let (facts, reasons) = verifier.judge(file, &[offer]);
                accepted |= !facts.signatures().is_empty();
                word.facts.merge(facts);
                refused.extend(reasons);
            }
            if accepted {
                continue;
            }
            let is_fatal = refused.iter().any(|reason| !is_about_something_else(reason));
            let kept = if is_fatal { &mut against.fatal } else { &mut against.passed_over };
            kept.extend(refused.into_iter().filter(|reason| !is_fatal || !is_about_something_else(reason)));
        }
        words
    }

    /// What each signer says of a file by OpenPGP.
    fn of_signatures(
        &self,
        files: &[NamedSignatures],
        hashes: Option<&ArtifactHashes>,
        words: &mut [Word],
        against: &mut Against,
    ) {
        if files.is_empty() {
            return;
        }
        let files: Vec<SignatureFile<'_>> =
            files.iter().map(|file| SignatureFile { evidence: &file.name, signatures: &file.signatures }).collect();
        let mut accepted = false;
        let mut refused = Vec::new();
        for (asked, word) in self.asked.iter().zip(words) {
            let Some(openpgp) = &asked.signer.openpgp else { continue };
            let (facts, reasons) = member::signed(&files, hashes, &openpgp.keyring, &openpgp.expectations(self.now));
            accepted |= !facts.signatures().is_empty();
            word.facts.merge(facts);
            refused.extend(reasons);
        }
        if !accepted {
            let is_fatal = refused.iter().any(|reason| !is_by_a_stranger(reason));
            let kept = if is_fatal { &mut against.fatal } else { &mut against.passed_over };
            kept.extend(refused);
        }
    }

    fn of_lists(&self, words: &mut [Word], against: &mut Against) {
        let image = self.presented.artifact;
        for list in self.evidence.lists.iter().filter(|list| !list.parsed.of_name(&image.name).is_empty()) {
            against.fatal.extend(list.parsed.judge(image));
            let of_list = self.of_companion(list, against);
            for (word, of_list) in words.iter_mut().zip(of_list) {
                let (listed, _) = member::listed(&list.parsed, &of_list.facts, image);
                word.facts.merge(listed);
            }
        }
    }

    fn of_documents(&self, words: &mut [Word], against: &mut Against) {
        let image = self.presented.artifact;
        for document in &self.evidence.documents {
            let mut of_document = self.of_companion(document, against);
            for list in &self.evidence.lists {
                if list.parsed.of_name(&document.artifact.name).is_empty() {
                    continue;
                }
                against.fatal.extend(list.parsed.judge(&document.artifact));
                let of_list = self.of_companion(list, against);
                for (word, of_list) in of_document.iter_mut().zip(of_list) {
                    word.facts.merge(member::listed(&list.parsed, &of_list.facts, &document.artifact).0);
                }
            }
            for (word, of_document) in words.iter_mut().zip(of_document) {
                let (said, refused) = member::documented(&self.companion(document, &of_document.facts), image);
                word.facts.merge(said);
                against.fatal.extend(refused);
            }
        }
    }

    fn companion<'d>(&self, document: &'d Companion<Document>, facts: &'d Facts) -> member::Companion<'d> {
        let named_after = ["cdx.json", "spdx.json", "openvex.json", "vex.json"]
            .iter()
            .any(|suffix| document.artifact.name == format!("{}.{suffix}", self.presented.artifact.name));
        member::Companion {
            file: &document.artifact,
            document: &document.parsed,
            facts,
            named_after,
            // Beside one image there is nothing that a document could be about in general.
            is_general: false,
        }
    }

    /// What each signer says of a list or document; what a revoked signer says is nothing, and a no.
    fn of_companion<T>(&self, companion: &Companion<T>, against: &mut Against) -> Vec<Word> {
        let file = &companion.signed;
        let offers: Vec<&Offered> = self
            .evidence
            .offers
            .iter()
            .filter(|offer| offer.claimed().iter().any(|digest| file.digest(digest.algorithm()) == Some(digest)))
            .collect();
        let mut words = self.of_file(file, &offers, false, against);
        self.of_signatures(&companion.signatures, Some(&companion.hashes), &mut words, against);
        for word in &mut words {
            let mut reasons = revoked(file, &word.facts, self.revocations);
            if companion.artifact != *file {
                reasons.extend(revoked(&companion.artifact, &Facts::default(), self.revocations));
            }
            if !reasons.is_empty() {
                against.fatal.extend(reasons);
                word.facts = Facts::default();
            }
        }
        words
    }

    fn asks_sigstore(&self) -> bool {
        self.asked.iter().any(|asked| asked.expectations.is_some())
    }

    fn asks_openpgp(&self) -> bool {
        self.asked.iter().any(|asked| asked.signer.openpgp.is_some())
    }

    /// What cannot be read of the evidence that somebody's word could be in.
    fn damaged(&self) -> Vec<Reason> {
        let bundles = self.evidence.damaged_bundles.iter().filter(|_| self.asks_sigstore());
        let signatures = self.evidence.damaged_signatures.iter().filter(|_| self.asks_openpgp());
        bundles.chain(signatures).cloned().collect()
    }

    /// Evidence of a kind for which nobody was named.
    fn unjudged(&self) -> Vec<Reason> {
        let named = |damaged: &Reason| damaged.evidence.clone().unwrap_or_default();
        let Evidence { offers, signatures, damaged_bundles, damaged_signatures, .. } = self.evidence;
        let bundles = offers.iter().map(|offer| offer.name().to_owned()).chain(damaged_bundles.iter().map(named));
        let bundles = bundles.filter(|_| !self.asks_sigstore());
        let signatures = signatures.iter().map(|file| file.name.clone()).chain(damaged_signatures.iter().map(named));
        let signatures = signatures.filter(|_| !self.asks_openpgp());
        let warn = |name: String| {
            let message = format!("`{name}` was not judged: nobody was named for evidence of its kind");
            Reason::new(Code::EvidenceUnjudged, message).evidence(name)
        };
        bundles.chain(signatures).map(warn).collect()
    }
}

/// The codes that say "sound as far as one can see, by somebody who was not named", or that too few signed.
fn is_by_a_stranger(reason: &Reason) -> bool {
    matches!(
        reason.code.known(),
        Some(
            Code::OpenpgpKeyUnknown | Code::OpenpgpKeyNotPinned | Code::OpenpgpThreshold | Code::ArtifactBytesRequired
        )
    )
}
