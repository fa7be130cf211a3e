//! Images that somebody only asks about: by digest with evidence, or in a registry; what is decided about them out,
//! and, where that is yes, a summary that the server signs.
//! Invariant: nothing that is said here starts anything, and no permit comes of it.

use jiff::{SignedDuration, Timestamp};

use super::{Admission, TICKET};
use crate::release::admit::{Evidence, EvidenceFile, Presented, SignerId, judge};
use crate::release::artifact::Artifact;
use crate::release::attest::bundle::{Author, Content};
use crate::release::attest::statement;
use crate::release::decision::vsa::{self, Issuer, SUMMARY_V1};
use crate::release::decision::{Decision, Report};
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, Reason};

impl Admission {
    /// What would be decided about an image with these bytes, whether they are here or not.
    pub fn asked(&self, question: &ImageQuestion) -> ImageAnswer {
        let name = question.digest.to_string();
        let mut files: Vec<EvidenceFile> = Vec::new();
        let mut label = name.clone();
        match self.images.record(&question.digest) {
            Ok(record) if record.kind != question.kind => {
                let (is, asked) = (record.kind.name(), question.kind.name());
                let message = format!("{name} was imported as {is}, and is asked about as {asked}");
                return ImageAnswer::without(name, Decision::Deny.name(), Reason::new(Code::ImageKind, message));
            }
            Ok(record) => {
                label = record.name;
                match self.images.evidence(&question.digest) {
                    Ok(kept) => files.extend(kept.into_iter().map(|(name, bytes)| EvidenceFile { name, bytes })),
                    Err(reason) => return ImageAnswer::without(name, Decision::Undecided.name(), reason),
                }
            }
            Err(reason) if reason.code.known() == Some(Code::ImageUnknown) => {}
            Err(reason) => return ImageAnswer::without(name, Decision::Deny.name(), reason),
        }
        let brought = question.evidence.iter();
        files.extend(brought.map(|file| EvidenceFile { name: file.name.clone(), bytes: file.bytes.clone() }));
        let artifact = Artifact::new(label, [question.digest.clone()]);
        self.answer(name, &artifact, question.kind, &Evidence::parse(&files))
    }

    /// What is decided about an image in a registry, with what is attached to it there.
    pub fn asked_of_registry(&self, reference: String, artifact: &Artifact, evidence: &Evidence) -> ImageAnswer {
        // What a registry holds is files in layers, and becomes a root disk.
        self.answer(reference, artifact, ArtifactKind::Disk, evidence)
    }

    fn answer(&self, image: String, artifact: &Artifact, kind: ArtifactKind, evidence: &Evidence) -> ImageAnswer {
        let now = self.clock.now();
        let known = self.known();
        let presented = Presented { artifact, kind, openpgp: None };
        let judged = judge(presented, evidence, &self.trust, &known.revoked, now);
        let against = self.against(judged.digest(), judged.signers(), now);
        let signers = judged.signers().iter().map(ToString::to_string).collect();
        let mut report = judged.into_report();
        let warnings = std::mem::take(&mut report.warnings);
        let mut reasons = report.reasons.clone();
        reasons.extend(against);
        let decision = Decision::from_reasons(&reasons);
        let expires_at = now.checked_add(self.lasts()).unwrap_or(Timestamp::MAX);
        let summary = (decision == Decision::Allow).then(|| self.summary(&report, artifact, expires_at)).flatten();
        let expires_at = summary.is_some().then_some(expires_at);
        ImageAnswer { image, decision: decision.name().to_owned(), reasons, warnings, signers, summary, expires_at }
    }

    /// What is said against an image whatever speaks for it.
    fn against(&self, digest: Option<&Digest>, signers: &[SignerId], now: Timestamp) -> Vec<Reason> {
        let mut found: Vec<Reason> = self.known().fault.clone().into_iter().collect();
        let guard = self.rules.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match guard.as_ref() {
            None => found.push(
                Reason::new(Code::InternalError, "the node was not told yet what must not run").hint("ask again"),
            ),
            Some(rules) => {
                found.extend(digest.and_then(|digest| rules.list.check_digest(digest, now)));
                found.extend(signers.iter().filter_map(|signer| rules.list.check_signer(signer, now)));
                let policy = self.trust.policy_digest().ok();
                found.extend(policy.and_then(|digest| rules.list.check_policy(&digest, now)));
            }
        }
        found
    }

    fn lasts(&self) -> SignedDuration {
        self.trust.max_validity().min(TICKET)
    }

    /// The decision in the server's own hand; none where the key refuses, and then there is nothing to rely on later.
    fn summary(&self, report: &Report, artifact: &Artifact, expires_at: Timestamp) -> Option<String> {
        let subject = report.subjects.first()?;
        let issuer = Issuer { verifier_id: format!("https://debvisor.dev/node/{}", self.node), expires_at };
        let predicate = vsa::predicate(report, subject, &issuer);
        let payload = statement::payload(&[artifact], SUMMARY_V1, &predicate);
        match (Content::Statement { payload }).sign(self.issuer.private()) {
            Ok(signed) => Some(signed.to_bundle(&Author::Key(self.issuer.public().clone()), &[], &[]).to_string()),
            Err(error) => {
                tracing::error!(%error, "a summary could not be signed");
                None
            }
        }
    }
}
