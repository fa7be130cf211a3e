//! A whole release in, one report out that names every refused file (docs/reference/release-layout.md).
//!
//! 1. The names say what each file is for ([`layout::roles`]).
//! 2. The evidence is parsed ([`Evidence::read`]), which says how each file has to be hashed; each is hashed once.
//! 3. What was signed itself is judged first, lists among it ([`judge`]).
//! 4. Every file is held against every list; what no list names is a no.
//! 5. What nobody expected vouches for, directly or by a signed list, is a no.
//! 6. The policy has the last word over each artifact that nothing speaks against.
//!
//! Invariant: no I/O and no clock; the caller hands in a reader, digests and `now`. Nothing is skipped: a file is
//! either proved or named in a reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use jiff::Timestamp;
use rayon::prelude::*;

use super::artifact::Artifact;
use super::decision::{Decision, Report, SubjectReport};
use super::evidence::bundle;
use super::evidence::checksums::ChecksumList;
use super::evidence::document::{self, Document};
use super::evidence::manifest::Manifest;
use super::evidence::openpgp::{ArtifactHasher, ArtifactHashes, DetachedSignatures, Keyring};
use super::trust::revocation::Revocations;
use super::verify::member::{self, Companion};
use super::verify::openpgp::{OpenpgpExpectations, SignatureFile};
use super::verify::{Facts, Offered, Verifier, revoked};
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

pub mod components;
pub mod image;
pub mod layout;

use layout::Role;

/// Reads a file of the release, of at most so many bytes.
pub type Read<'a> = dyn Fn(&str, u64) -> Result<Vec<u8>, Reason> + Sync + 'a;

/// What a policy says of one artifact: reasons against it, and warnings.
pub type Policy<'a> = dyn Fn(&Artifact, &Facts) -> (Vec<Reason>, Vec<Reason>) + Sync + 'a;

/// Whose word counts.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The OpenPGP keys that must have signed, where any were named.
    pub openpgp: Option<(&'a Keyring, &'a OpenpgpExpectations)>,
    /// Who must have signed by Sigstore's means, where anybody was named.
    pub sigstore: Option<Sigstore<'a>>,
    /// Why the question cannot be answered in full, where a key, keyring, trust root or further bundle cannot be used.
    /// A missing signature is then an open question, and only what speaks against a file is a no.
    pub unanswered: &'a [Reason],
    /// What the installed trust bundle revokes: files, keys, identities and statements.
    pub revocations: &'a Revocations,
    /// The policy over each artifact.
    pub policy: &'a Policy<'a>,
    /// The time of the run.
    pub now: Timestamp,
}

impl Question<'_> {
    /// Whether anybody at all was named whose signature would count.
    const fn names_somebody(&self) -> bool {
        self.openpgp.is_some() || self.sigstore.is_some() || !self.unanswered.is_empty()
    }
}

/// Whose Sigstore signatures count, and for what.
#[derive(Clone, Copy)]
pub struct Sigstore<'a> {
    /// Judges what is said of artifacts, with everything that was asked of their provenance.
    pub artifacts: &'a Verifier<'a>,
    /// Judges what is said of lists and documents: by the same signers, but nobody builds a list.
    pub companions: &'a Verifier<'a>,
    /// Whether a verified signer of a list or document is one of those expected, where the verifier alone cannot say.
    pub accepts: &'a Policy<'a>,
    /// Whether the artifacts' own bytes are signed, instead of their digests.
    pub signs_whole_messages: bool,
}

/// A release's evidence, parsed before any artifact is read.
#[derive(Debug, Default)]
pub struct Evidence {
    roles: BTreeMap<String, Role>,
    lists: Vec<ChecksumList>,
    /// By the signed file's name: the signature files over it.
    signatures: BTreeMap<String, Vec<(String, DetachedSignatures)>>,
    offers: Vec<Offer>,
    /// The offers by the digests that they claim to be about.
    claimed: HashMap<Digest, Vec<usize>>,
    /// The offers by the file that they are named after.
    named: HashMap<String, Vec<usize>>,
    /// What files must be hashed with for the offers to be judged.
    offered_algorithms: BTreeSet<DigestAlgorithm>,
    documents: BTreeMap<String, Document>,
    manifests: BTreeMap<String, Manifest>,
    /// What was parsed, by SHA-256: what is hashed and held against signatures later must be the same bytes.
    read: BTreeMap<String, Digest>,
    reasons: Vec<Reason>,
    /// Evidence of a kind for which nobody was named.
    unjudged: Vec<String>,
}

/// A bundle, and where it stood.
#[derive(Debug)]
struct Offer {
    offered: Offered,
    /// The file, where it is one of the release.
    file: Option<String>,
    /// The file of the release that it is named after.
    over: Option<String>,
}

/// What one file of evidence turned out to be.
enum Parsed {
    List(ChecksumList),
    Signature { over: String, signatures: DetachedSignatures },
    Offers(Vec<Offered>),
    Document(Document),
    Manifest(Manifest),
    Unjudged,
    Nothing,
}

impl Evidence {
    /// Reads and parses every file whose role is to speak for others.
    /// What cannot be read or parsed is kept as a reason. `further` are bundles from outside of the release.
    pub fn read(
        roles: BTreeMap<String, Role>,
        further: Vec<Offered>,
        question: &Question<'_>,
        read: &Read<'_>,
    ) -> Self {
        let parsed: Vec<_> = roles
            .par_iter()
            .map(|(name, role)| {
                let digest = OnceLock::new();
                let noting = |name: &str, limit| {
                    let bytes = read(name, limit)?;
                    let _ = digest.set(Digest::sha256(&bytes));
                    Ok(bytes)
                };
                let parsed = parse(name, role, question, &noting);
                (name, parsed, digest.into_inner())
            })
            .collect();
        let mut evidence = Self::default();
        for (name, parsed, digest) in parsed {
            evidence.read.extend(digest.map(|digest| (name.clone(), digest)));
            match parsed {
                Ok(Parsed::List(list)) => evidence.lists.push(list),
                Ok(Parsed::Signature { over, signatures }) => {
                    evidence.signatures.entry(over).or_default().push((name.clone(), signatures));
                }
                Ok(Parsed::Offers(offers)) => {
                    let over = layout::over(name, &roles).map(str::to_owned);
                    let offer = |offered| Offer { offered, file: Some(name.clone()), over: over.clone() };
                    evidence.offers.extend(offers.into_iter().map(offer));
                }
                Ok(Parsed::Document(document)) => {
                    evidence.documents.insert(name.clone(), document);
                }
                Ok(Parsed::Manifest(manifest)) => {
                    evidence.manifests.insert(name.clone(), manifest);
                }
                Ok(Parsed::Unjudged) => evidence.unjudged.push(name.clone()),
                Ok(Parsed::Nothing) => {}
                Err(reasons) => evidence.reasons.extend(reasons.into_iter().map(|reason| reason.subject(name))),
            }
        }
        evidence.offers.extend(further.into_iter().map(|offered| Offer { offered, file: None, over: None }));
        for (index, offer) in evidence.offers.iter().enumerate() {
            for digest in offer.offered.claimed() {
                evidence.claimed.entry(digest.clone()).or_default().push(index);
            }
            if let Some(over) = &offer.over {
                evidence.named.entry(over.clone()).or_default().push(index);
            }
            evidence.offered_algorithms.extend(offer.offered.digest_algorithms());
        }
        evidence.roles = roles;
        evidence
    }

    /// How the file of this name has to be hashed.
    pub fn algorithms(&self, name: &str) -> Vec<DigestAlgorithm> {
        let mut algorithms: Vec<_> = self.lists.iter().flat_map(|list| list.algorithms(name)).collect();
        algorithms.extend(&self.offered_algorithms);
        // The report names every file by this one, and so do SBOMs.
        algorithms.push(DigestAlgorithm::Sha256);
        algorithms.sort_unstable();
        algorithms.dedup();
        algorithms
    }

    /// What else has to see the file's bytes go by, where OpenPGP signatures are over it.
    pub fn openpgp_hasher(&self, name: &str) -> Option<ArtifactHasher> {
        let files = self.signatures.get(name)?;
        Some(ArtifactHasher::new(files.iter().map(|(_, signatures)| signatures)))
    }

    /// Whether the file's own bytes must be kept, because they were signed instead of their digest.
    pub fn keeps_bytes(&self, name: &str, question: &Question<'_>) -> bool {
        question.sigstore.is_some_and(|sigstore| sigstore.signs_whole_messages)
            && self
                .offers
                .iter()
                .any(|offer| offer.offered.is_message() && offer.over.as_deref().is_none_or(|over| over == name))
    }

    /// The bundles that claim to be about a file, by its digest or by their own name.
    fn about(&self, artifact: &Artifact) -> Vec<&Offered> {
        let by_name = self.named.get(&artifact.name).into_iter().flatten().copied();
        let by_digest = artifact.digests().filter_map(|digest| self.claimed.get(digest)).flatten().copied();
        let indexes: BTreeSet<usize> = by_name.chain(by_digest).collect();
        indexes.into_iter().filter_map(|index| self.offers.get(index)).map(|offer| &offer.offered).collect()
    }

    fn role(&self, name: &str) -> &Role {
        self.roles.get(name).unwrap_or(&Role::Artifact)
    }
}

fn parse(name: &str, role: &Role, question: &Question<'_>, read: &Read<'_>) -> Result<Parsed, Vec<Reason>> {
    let one = |reason: Reason| vec![reason.evidence(name)];
    match role {
        Role::Artifact => Ok(Parsed::Nothing),
        Role::ChecksumList => {
            let bytes = read(name, limits::CHECKSUM_LIST_BYTES).map_err(one)?;
            ChecksumList::parse(&bytes, name).map(Parsed::List)
        }
        Role::OpenpgpSignature { over } if question.openpgp.is_some() => {
            let bytes = read(name, limits::OPENPGP_SIGNATURE_BYTES).map_err(one)?;
            let signatures = DetachedSignatures::parse(&bytes).map_err(one)?;
            Ok(Parsed::Signature { over: over.clone(), signatures })
        }
        Role::Bundle { .. } | Role::Attestations if question.sigstore.is_some() => {
            let bytes = read(name, limits::EVIDENCE_BYTES).map_err(one)?;
            let bundles = bundle::parse_file(&bytes).map_err(one)?;
            let alone = bundles.len() == 1;
            let offer =
                |(line, bundle)| Offered::new(if alone { name.to_owned() } else { format!("{name}:{line}") }, bundle);
            Ok(Parsed::Offers(bundles.into_iter().map(offer).collect()))
        }
        Role::OpenpgpSignature { .. } | Role::Bundle { .. } | Role::Attestations => Ok(Parsed::Unjudged),
        Role::Sbom | Role::Vex => {
            let kind = if *role == Role::Sbom { document::Kind::Sbom } else { document::Kind::Vex };
            let bytes = read(name, limits::EVIDENCE_BYTES).map_err(one)?;
            Document::parse(kind, &bytes).map(Parsed::Document).map_err(one)
        }
        Role::Manifest => {
            let bytes = read(name, limits::EVIDENCE_BYTES).map_err(one)?;
            Manifest::parse(&bytes).map(Parsed::Manifest).map_err(one)
        }
    }
}

/// A file of the release after it was hashed.
#[derive(Debug)]
pub struct Member {
    /// Its name and digests.
    pub artifact: Artifact,
    /// What OpenPGP signatures over it are completed with.
    pub openpgp: Option<ArtifactHashes>,
}

/// Judges the whole release. `unreadable` are the reasons for files that could not be hashed.
pub fn judge(evidence: &Evidence, members: &[Member], unreadable: Vec<Reason>, question: &Question<'_>) -> Report {
    let release = Release::new(evidence, members, question);
    let outcomes: Vec<Outcome> = members.par_iter().map(|member| release.outcome(member)).collect();
    let mut reasons = release.of_the_whole();
    reasons.extend(unreadable);
    reasons.extend(evidence.reasons.iter().cloned());
    reasons.extend(release.missing());
    reasons.extend(release.replaced());
    reasons.extend(release.untold());
    let mut warnings = release.unjudged();
    let mut facts = BTreeMap::new();
    for (member, outcome) in members.iter().zip(outcomes) {
        reasons.extend(outcome.reasons);
        warnings.extend(outcome.warnings);
        facts.insert(member.artifact.name.as_str(), outcome.facts);
    }
    let reasons = without_echoes(reasons);
    let mut report = Report::new(subjects(evidence, members, &facts, &reasons), reasons, question.now);
    report.warnings = warnings;
    report
}

/// A file with other bytes than the list says is unlike everything else that names it, too. Said once it is clear.
fn without_echoes(mut reasons: Vec<Reason>) -> Vec<Reason> {
    let is = |reason: &Reason, code: Code| reason.code.known() == Some(code);
    let changed = reasons.iter().filter(|reason| is(reason, Code::ChecksumMismatch));
    let changed: BTreeSet<String> = changed.filter_map(|reason| reason.subject.clone()).collect();
    let echoes = [Code::ManifestMismatch, Code::DocumentMismatch, Code::SubjectMismatch];
    reasons.retain(|reason| {
        let is_echo = echoes.iter().any(|code| is(reason, *code));
        !(is_echo && reason.subject.as_ref().is_some_and(|subject| changed.contains(subject)))
    });
    reasons
}

/// What is known once everything that was signed itself has been judged.
struct Release<'a> {
    evidence: &'a Evidence,
    question: &'a Question<'a>,
    members: BTreeMap<&'a str, &'a Member>,
    /// By name: what signatures over the file itself prove.
    own: BTreeMap<&'a str, (Facts, Vec<Reason>)>,
    /// The names of the bundles that were verified for some file.
    verified: BTreeSet<String>,
    documents: Vec<Proved<'a>>,
}

/// A document of the release with what was proved of its own file.
struct Proved<'a> {
    file: &'a Artifact,
    document: &'a Document,
    facts: Facts,
    /// The artifact that its name says it is about.
    about: Option<&'a str>,
}

struct Outcome {
    facts: Facts,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
}

impl<'a> Release<'a> {
    fn new(evidence: &'a Evidence, members: &'a [Member], question: &'a Question<'a>) -> Self {
        let own: BTreeMap<&str, (Facts, Vec<Reason>)> = members
            .par_iter()
            .map(|member| (member.artifact.name.as_str(), own_signatures(evidence, member, question)))
            .collect();
        let signatures = own.values().flat_map(|(facts, _)| facts.signatures());
        let verified = signatures.map(|signature| signature.evidence.clone()).collect();
        let members = members.iter().map(|member| (member.artifact.name.as_str(), member)).collect();
        let mut release = Self { evidence, question, members, own, verified, documents: Vec::new() };
        release.documents =
            evidence.documents.iter().filter_map(|(name, document)| release.prove(name, document)).collect();
        release
    }

    /// Everything about one file.
    fn outcome(&self, member: &Member) -> Outcome {
        let artifact = &member.artifact;
        let role = self.evidence.role(&artifact.name);
        let (mut facts, mut reasons) = self.proved(artifact);
        if *role == Role::Artifact {
            let (documented, against) = self.documented(artifact);
            facts.merge(documented);
            reasons.extend(against);
        }
        let mut warnings = Vec::new();
        // Where the evidence already says no, a policy could only add an echo.
        if reasons.is_empty() && !role.is_evidence() {
            if facts.is_vouched_for() {
                if *role == Role::Artifact {
                    (reasons, warnings) = (self.question.policy)(artifact, &facts);
                }
            } else if self.question.names_somebody() && self.question.unanswered.is_empty() {
                reasons.push(self.nobody_vouches(artifact));
            }
        }
        let about = |reason: Reason| if reason.subject.is_none() { reason.subject(&artifact.name) } else { reason };
        Outcome {
            facts,
            reasons: reasons.into_iter().map(about).collect(),
            warnings: warnings.into_iter().map(about).collect(),
        }
    }

    /// What signatures over the file and lists that name it prove.
    fn proved(&self, artifact: &Artifact) -> (Facts, Vec<Reason>) {
        let name = artifact.name.as_str();
        let (mut facts, mut reasons) = self.own.get(name).cloned().unwrap_or_default();
        let mut is_listed = false;
        for list in self.evidence.lists.iter().filter(|list| !list.of_name(name).is_empty()) {
            is_listed = true;
            let unproved = Facts::default();
            let list_facts = self.own.get(list.file_name()).map_or(&unproved, |(facts, _)| facts);
            let (listed, against) = member::listed(list, list_facts, artifact);
            facts.merge(listed);
            reasons.extend(against);
        }
        if !is_listed && self.needs_line(name) && !self.proves_itself(name) {
            reasons.extend(self.unlisted(name));
        }
        (facts, reasons)
    }

    fn prove(&self, name: &'a str, document: &'a Document) -> Option<Proved<'a>> {
        let file = &self.members.get(name)?.artifact;
        let about = layout::named_after(name).filter(|about| self.members.contains_key(about));
        Some(Proved { file, document, facts: self.proved(file).0, about })
    }

    fn documented(&self, artifact: &Artifact) -> (Facts, Vec<Reason>) {
        let mut facts = Facts::default();
        let mut reasons = Vec::new();
        for proved in &self.documents {
            let companion = Companion {
                file: proved.file,
                document: proved.document,
                facts: &proved.facts,
                named_after: proved.about == Some(artifact.name.as_str()),
                is_general: proved.about.is_none(),
            };
            let (documented, against) = member::documented(&companion, artifact);
            facts.merge(documented);
            reasons.extend(against);
        }
        (facts, reasons)
    }

    /// A list is not in itself, and neither is a signature over it. Beside a list that somebody vouches for, another
    /// that nobody does is a file that was slipped in.
    fn needs_line(&self, name: &str) -> bool {
        let is_vouched_for = |list: &str| {
            self.own.get(list).is_some_and(|(facts, reasons)| reasons.is_empty() && facts.is_vouched_for())
        };
        match self.evidence.role(name) {
            Role::ChecksumList => {
                !is_vouched_for(name) && self.evidence.lists.iter().any(|list| is_vouched_for(list.file_name()))
            }
            Role::OpenpgpSignature { over } | Role::Bundle { over } => {
                *self.evidence.role(over) != Role::ChecksumList || self.needs_line(over)
            }
            Role::Artifact | Role::Attestations | Role::Sbom | Role::Vex | Role::Manifest => true,
        }
    }

    /// Whether a file holds bundles and every one of them was verified. Such a file may be about the list itself, and
    /// then no list can name it; that it says what an expected signer wrote is proved already.
    fn proves_itself(&self, name: &str) -> bool {
        let offers = &self.evidence.offers;
        let mut own = offers.iter().filter(|offer| offer.file.as_deref() == Some(name)).peekable();
        // A bundle from outside that goes by the same name must not answer for this one.
        let is_alone = |of: &Offer| !offers.iter().any(|o| o.file.is_none() && o.offered.name() == of.offered.name());
        own.peek().is_some() && own.all(|offer| self.verified.contains(offer.offered.name()) && is_alone(offer))
    }

    fn unlisted(&self, name: &str) -> Option<Reason> {
        match self.evidence.lists.as_slice() {
            // Said once, of the whole release.
            [] => None,
            [list] => Some(list.unlisted(name)),
            lists => {
                let message = format!("`{name}` is there, and none of {} lists names it", lists.len());
                Some(Reason::new(Code::FileUnlisted, message).subject(name))
            }
        }
    }

    fn nobody_vouches(&self, artifact: &Artifact) -> Reason {
        let name = &artifact.name;
        match self.evidence.lists.iter().find(|list| !list.of_name(name).is_empty()) {
            Some(list) => {
                let list = list.file_name();
                let message = format!("no expected signer vouches for `{name}`, nor for `{list}`, which lists it");
                Reason::new(Code::SignatureRequired, message)
                    .evidence(list)
                    .hint(format!("sign the list: gpg --detach-sign --armor {list}"))
            }
            None => Reason::new(Code::SignatureRequired, format!("no expected signer vouches for `{name}`")),
        }
    }

    /// Reasons that are about no file in particular.
    fn of_the_whole(&self) -> Vec<Reason> {
        let mut reasons = self.question.unanswered.to_vec();
        let has_list = self.evidence.roles.values().any(|role| *role == Role::ChecksumList);
        if !has_list {
            reasons.push(Reason::new(Code::ChecksumMissing, "the release has no checksum list, such as SHA256SUMS"));
        }
        if !self.question.names_somebody() {
            let reason = Reason::new(Code::IdentityRequired, "nobody was named who must have signed this release");
            reasons.push(reason.hint(
                "name the signer: --openpgp-keyring with --openpgp-fingerprint, --key, \
                 or --certificate-identity with --certificate-oidc-issuer",
            ));
        }
        reasons
    }

    /// Evidence that was other bytes when it was parsed than when it was hashed: somebody writes to the release now.
    fn replaced(&self) -> Vec<Reason> {
        let is_other = |(name, digest): &(&String, &Digest)| {
            let hashed = self.members.get(name.as_str()).and_then(|member| member.artifact.digest(digest.algorithm()));
            hashed.is_some_and(|hashed| hashed != *digest)
        };
        let reason = |(name, _): (&String, _)| {
            let message = format!("`{name}` was changed while it was read");
            Reason::new(Code::EvidenceUnreadable, message)
                .evidence(name)
                .subject(name)
                .hint("let nobody write to the release while it is gated, and run again")
        };
        self.evidence.read.iter().filter(is_other).map(reason).collect()
    }

    /// What a manifest and the release disagree about.
    fn untold(&self) -> Vec<Reason> {
        let files = || {
            self.evidence.roles.iter().map(|(name, role)| {
                let member = self.members.get(name.as_str());
                let digest = member.and_then(|member| member.artifact.digest(DigestAlgorithm::Sha256));
                (name.as_str(), role.name(), digest)
            })
        };
        let judge = |(name, manifest): (&String, &Manifest)| {
            // A list that names the manifest cannot stand in it, nor can what is signed over either.
            let lists_it = |list: &str| {
                let of_name = |known: &&ChecksumList| known.file_name() == list;
                self.evidence.lists.iter().find(of_name).is_some_and(|list| !list.of_name(name).is_empty())
            };
            manifest.judge(name, files(), |other| match self.evidence.role(other) {
                Role::Manifest => other == name,
                Role::ChecksumList => lists_it(other),
                Role::OpenpgpSignature { over } | Role::Bundle { over } => over == name || lists_it(over),
                Role::Attestations => self.proves_itself(other),
                Role::Artifact | Role::Sbom | Role::Vex => false,
            })
        };
        self.evidence.manifests.iter().flat_map(judge).collect()
    }

    /// Names that a list has and the release has not.
    fn missing(&self) -> Vec<Reason> {
        let there = |name: &str| self.evidence.roles.contains_key(name);
        let missing = |list: &'a ChecksumList| list.names().filter(|name| !there(name)).map(|name| list.missing(name));
        self.evidence.lists.iter().flat_map(missing).collect()
    }

    fn unjudged(&self) -> Vec<Reason> {
        let warn = |name: &String| {
            let message = format!("`{name}` was not judged: nobody was named for evidence of its kind");
            Reason::new(Code::EvidenceUnjudged, message).evidence(name)
        };
        self.evidence.unjudged.iter().map(warn).collect()
    }
}

/// What the signatures over a file and the statements about it prove.
fn own_signatures(evidence: &Evidence, member: &Member, question: &Question<'_>) -> (Facts, Vec<Reason>) {
    let artifact = &member.artifact;
    let mut facts = Facts::default();
    let mut reasons = Vec::new();
    if let (Some(files), Some((keyring, expected))) = (evidence.signatures.get(&artifact.name), question.openpgp) {
        let files: Vec<_> = files.iter().map(|(evidence, signatures)| SignatureFile { evidence, signatures }).collect();
        (facts, reasons) = member::signed(&files, member.openpgp.as_ref(), keyring, expected);
    }
    if let Some(sigstore) = question.sigstore {
        let is_artifact = *evidence.role(&artifact.name) == Role::Artifact;
        let verifier = if is_artifact { sigstore.artifacts } else { sigstore.companions };
        let (mut proved, mut against) = verifier.judge(artifact, &evidence.about(artifact));
        if !is_artifact && !proved.signatures().is_empty() {
            let (refused, _) = (sigstore.accepts)(artifact, &proved);
            if !refused.is_empty() {
                proved = Facts::default();
            }
            against.extend(refused);
        }
        facts.merge(proved);
        reasons.extend(against);
    }
    // Of every file, lists among them: what a revoked key signed vouches for nothing, and so for no file that it names.
    let revoked = revoked(artifact, &facts, question.revocations);
    if !revoked.is_empty() {
        reasons.extend(revoked);
        facts = Facts::default();
    }
    (facts, reasons)
}

/// Artifacts and documents, and whatever else has a reason against it: missing files and bad evidence too.
fn subjects(
    evidence: &Evidence,
    members: &[Member],
    facts: &BTreeMap<&str, Facts>,
    reasons: &[Reason],
) -> Vec<SubjectReport> {
    let mut against: BTreeMap<Option<&str>, Vec<&Reason>> = BTreeMap::new();
    for reason in reasons {
        against.entry(reason.subject.as_deref()).or_default().push(reason);
    }
    // What speaks against the whole release speaks against each file of it.
    let whole = Decision::from_reasons(against.remove(&None).unwrap_or_default());
    let members: BTreeMap<&str, &Member> =
        members.iter().map(|member| (member.artifact.name.as_str(), member)).collect();
    let proved = members.keys().copied().filter(|name| !evidence.role(name).is_evidence());
    let names: BTreeSet<&str> = proved.chain(against.keys().copied().flatten()).collect();
    names
        .into_iter()
        .map(|name| SubjectReport {
            name: name.to_owned(),
            digest: members.get(name).map(|member| member.artifact.digest_set()).unwrap_or_default(),
            decision: match (whole, Decision::from_reasons(against.get(&Some(name)).into_iter().flatten().copied())) {
                (Decision::Allow, own) | (Decision::Undecided, own @ Decision::Deny) => own,
                (whole, _) => whole,
            },
            facts: facts.get(name).map_or(serde_json::Value::Null, Facts::to_json),
        })
        .collect()
}
