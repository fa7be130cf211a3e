//! Evidence, a trust root and `now` in; [`Facts`] and reasons out.
//! Invariant: no I/O and no clock. This is the only room that makes [`Facts`].
//!
//! A Sigstore bundle is verified in the steps of the Sigstore client specification, numbered here and in the bodies:
//!
//! 1. establish when it was signed: RFC 3161 timestamps, signed entry timestamps;
//! 2. the certificate chains to the trust root and was valid at every such time;
//! 3. the certificate carries a timestamp of a CT log that the root believes;
//! 4. the certificate names one identity, and it is the expected one;
//! 5. the log entry is included under a checkpoint that the log signed;
//! 6. the signed entry timestamp, where there is one, is the log's;
//! 7. the log was believed at that time;
//! 8. the signature fits the content;
//! 9. the log entry is about this very signature, content and certificate;
//! 10. the content is about this artifact, and says what was asked.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock};

use jiff::Timestamp;

use crate::release::artifact::Artifact;
use crate::release::evidence::bundle::{Bundle, Content, Envelope, Material, Version};
use crate::release::evidence::certificate::Certificate;
use crate::release::evidence::json::base64_bytes;
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::log_entry::{Covers, LoggedBody, LoggedVerifier};
use crate::release::evidence::provenance::{Claims, SummaryClaims};
use crate::release::evidence::simple_signing::Payload;
use crate::release::evidence::statement::{PAYLOAD_TYPE, Statement, Subject};
use crate::release::trust::root::TrustRoot;
use crate::types::{Code, Digest, DigestAlgorithm, Reason};

mod attached;
mod certificate;
mod expect;
mod facts;
mod log;
pub mod member;
pub mod openpgp;
mod provenance;
mod revoked;
mod time;

pub use expect::{Expectations, Pattern};
pub use facts::{
    Attestation, ChecksumListing, Clock, DocumentReference, Facts, LogEntry, Provenance, Signature, Signer, Summary,
    TrustedTime,
};
pub use revoked::revoked;

/// Verifies any number of bundles under one trust root, remembering what it has already checked.
#[derive(Debug)]
pub struct Verifier<'a> {
    root: &'a TrustRoot,
    expectations: &'a Expectations,
    now: Timestamp,
    checkpoints: log::CheckedCheckpoints,
    /// Certificates that were checked, by their bytes and the times they were checked for.
    certificates: Mutex<CheckedCertificates>,
}

type CheckedCertificates = HashMap<(Digest, Vec<Timestamp>), Result<(), Reason>>;

/// A bundle that was read, and what it claims to be about before anything is verified.
#[derive(Debug)]
pub struct Offered {
    name: String,
    bundle: Bundle,
    /// What was signed in the artifact's place, where that is a text which names it.
    payload: Option<(Payload, Artifact)>,
    statement: Option<Result<Statement, Reason>>,
    /// Bodies of the log entries, read once.
    bodies: Vec<Result<LoggedBody, Reason>>,
    claimed: Vec<Digest>,
    /// The outcome for an envelope, which does not depend on the artifact.
    verified: OnceLock<Result<Verified, Reason>>,
}

/// What steps 1 to 9 prove.
#[derive(Debug, Clone)]
struct Verified {
    signer: Signer,
    times: Vec<TrustedTime>,
    logs: Vec<LogEntry>,
}

impl Offered {
    /// Takes a bundle in, under the name that reports will use.
    pub fn new(name: impl Into<String>, bundle: Bundle) -> Self {
        let statement = match &bundle.content {
            Content::Message { .. } => None,
            Content::Envelope(envelope) => Some(read_statement(envelope)),
        };
        let bodies: Vec<_> = bundle.entries.iter().map(LoggedBody::parse).collect();
        let claimed = match (&bundle.content, &statement) {
            (_, Some(Ok(statement))) => {
                statement.subjects.iter().flat_map(|subject| subject.digests.iter().cloned()).collect()
            }
            (Content::Message { digest: Some(digest), .. }, _) => vec![digest.clone()],
            (Content::Message { .. }, _) => bodies
                .iter()
                .filter_map(|body| body.as_ref().ok())
                .filter(|body| body.covers == Covers::Signed)
                .map(|body| body.digest.clone())
                .collect(),
            (Content::Envelope(_), _) => Vec::new(),
        };
        Self { name: name.into(), bundle, payload: None, statement, bodies, claimed, verified: OnceLock::new() }
    }

    /// The name that reports use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digests that it claims to be about; nothing is proved by them.
    pub fn claimed(&self) -> &[Digest] {
        &self.claimed
    }

    /// The digest algorithms that an artifact must be hashed with for this bundle to be judged.
    pub fn digest_algorithms(&self) -> BTreeSet<DigestAlgorithm> {
        let logged = self.bodies.iter().filter_map(|body| body.as_ref().ok()).map(|body| body.digest.algorithm());
        let mut algorithms: BTreeSet<_> = self.claimed.iter().map(Digest::algorithm).collect();
        if self.is_message() {
            algorithms.extend(logged);
        }
        algorithms
    }

    /// Whether it signs the artifact itself and not a statement or another text about it.
    pub const fn is_message(&self) -> bool {
        matches!(self.bundle.content, Content::Message { .. }) && self.payload.is_none()
    }
}

fn read_statement(envelope: &Envelope) -> Result<Statement, Reason> {
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Reason::new(
            Code::PayloadType,
            format!("the envelope's payload is `{}`, and only {PAYLOAD_TYPE} is a statement", envelope.payload_type),
        )
        .location("dsseEnvelope.payloadType"));
    }
    Statement::parse(&envelope.payload)
}

/// The codes that say "this is good evidence, for something else": another bundle may still answer.
pub fn is_about_something_else(reason: &Reason) -> bool {
    matches!(
        reason.code.known(),
        Some(
            Code::DigestMismatch
                | Code::SubjectMismatch
                | Code::PredicateTypeMismatch
                | Code::IdentityMismatch
                | Code::IssuerMismatch
                | Code::KeyMismatch
                | Code::MaterialMismatch
                | Code::AttestationMissing
                | Code::ProvenanceMissing
                | Code::SourceMismatch
                | Code::BranchMismatch
                | Code::TagMismatch
                | Code::VersionedTagMismatch
                | Code::PackageMismatch
                | Code::SelfHostedRunner
        )
    )
}

impl<'a> Verifier<'a> {
    /// A verifier under this root, for these expectations, at this time.
    pub fn new(root: &'a TrustRoot, expectations: &'a Expectations, now: Timestamp) -> Self {
        Self {
            root,
            expectations,
            now,
            checkpoints: log::CheckedCheckpoints::default(),
            certificates: Mutex::new(HashMap::new()),
        }
    }

    /// Judges what was offered for one artifact.
    ///
    /// Evidence that is forged, damaged or inconsistent is a no whatever stands beside it. Sound evidence for another
    /// artifact, by another signer or of another type is passed over, as long as some evidence answers all that was
    /// asked; where none does, the reasons say why not.
    pub fn judge(&self, artifact: &Artifact, offered: &[&Offered]) -> (Facts, Vec<Reason>) {
        let mut facts = Facts::default();
        let mut refused = Vec::new();
        let mut passed_over = Vec::new();
        for offer in offered {
            match self.signature(artifact, offer) {
                Ok(signature) => facts.signatures.push(signature),
                Err(reason) => {
                    let reason = Reason { evidence: reason.evidence.or_else(|| Some(offer.name.clone())), ..reason };
                    if is_about_something_else(&reason) {
                        passed_over.push(reason);
                    } else {
                        refused.push(reason);
                    }
                }
            }
        }
        if !refused.is_empty() {
            return (Facts::default(), refused);
        }
        if facts.signatures.is_empty() {
            return (Facts::default(), passed_over);
        }
        (facts, Vec::new())
    }

    fn signature(&self, artifact: &Artifact, offer: &Offered) -> Result<Signature, Reason> {
        let (verified, attestation) = match (&offer.bundle.content, &offer.statement) {
            _ if offer.payload.is_some() => (self.payload(artifact, offer)?, None),
            (Content::Envelope(envelope), Some(statement)) => {
                let verified = offer.verified.get_or_init(|| self.verified(offer, None)).clone()?;
                let statement = statement.as_ref().map_err(Clone::clone)?;
                let attestation = self.attestation(artifact, envelope, statement, &verified.signer)?;
                (verified, Some(attestation))
            }
            (Content::Message { digest: Some(claimed), .. }, _)
                if artifact.digest(claimed.algorithm()).is_some_and(|actual| actual != claimed) =>
            {
                return Err(Reason::new(
                    Code::DigestMismatch,
                    format!(
                        "the bundle signs {claimed}, and the artifact is {}",
                        artifact.digest(claimed.algorithm()).map_or_else(String::new, ToString::to_string)
                    ),
                )
                .location("messageSignature.messageDigest"));
            }
            _ => (self.verified(offer, Some(artifact))?, None),
        };
        if attestation.is_none() && self.expectations.asks_attestation() {
            let code =
                if self.expectations.asks_provenance() { Code::ProvenanceMissing } else { Code::AttestationMissing };
            return Err(Reason::new(code, "the bundle signs the artifact and attests nothing about it"));
        }
        Ok(Signature {
            evidence: offer.name.clone(),
            signer: verified.signer,
            times: verified.times,
            logs: verified.logs,
            attestation,
        })
    }

    /// Steps 1 to 9. `artifact` is given where the bundle signs the artifact itself.
    fn verified(&self, offer: &Offered, artifact: Option<&Artifact>) -> Result<Verified, Reason> {
        let bundle = &offer.bundle;
        let entry_place = |position: usize| format!("verificationMaterial.tlogEntries[{position}]");
        let at_entry = |position: usize| {
            move |reason: Reason| match &reason.location {
                Some(place) => {
                    let place = format!("{}: {place}", entry_place(position));
                    reason.location(place)
                }
                None => reason.location(entry_place(position)),
            }
        };

        // (1) and (6): when, by which clock.
        let mut times = time::timestamps(self.root, &bundle.timestamps, bundle.signature(), self.now)?;
        let mut entry_times = Vec::with_capacity(bundle.entries.len());
        for (position, entry) in bundle.entries.iter().enumerate() {
            let own = log::integrated_time(self.root, entry, self.now).map_err(at_entry(position))?;
            times.extend(own.clone());
            entry_times.push(own);
        }
        times.sort();
        times.dedup();

        // (2) to (4): who.
        let (signer, key, certificate) = match &bundle.material {
            Material::Certificate { leaf, others } => {
                let (signer, certificate) = self.certificate(leaf, others, bundle, &times)?;
                (signer, certificate.key.clone(), Some(certificate))
            }
            Material::PublicKey { .. } => {
                let key = self.managed_key(offer)?;
                (Signer::Key { fingerprint: key.fingerprint().to_string() }, key, None)
            }
        };

        // (5) and (7): in the log, when the log was believed.
        let authority_times: Vec<_> =
            times.iter().filter(|time| time.clock == Clock::TimestampAuthority).cloned().collect();
        let mut logs = Vec::with_capacity(bundle.entries.len());
        for (position, (entry, own)) in bundle.entries.iter().zip(entry_times).enumerate() {
            let decisive: Vec<_> = own.into_iter().chain(authority_times.iter().cloned()).collect();
            let included = log::included(self.root, bundle.version, entry, &decisive, &self.checkpoints);
            logs.push(included.map_err(at_entry(position))?);
        }

        // (8): the signature itself.
        let outcome = match &bundle.content {
            Content::Envelope(envelope) => envelope_signature(&key, envelope),
            Content::Message { digest, signature } => {
                let artifact = artifact.ok_or_else(|| {
                    Reason::new(Code::InternalError, "a message signature was judged without its artifact")
                })?;
                if offer.payload.is_some() {
                    attached::payload_signature(&key, artifact, signature)
                } else {
                    message_signature(&key, artifact, digest.as_ref(), &offer.claimed, signature)
                }
            }
        };
        outcome.map_err(|reason| self.by_another_key(offer).unwrap_or(reason))?;

        // (9): the log speaks of this very bundle.
        for (position, body) in offer.bodies.iter().enumerate() {
            let body = body.as_ref().map_err(Clone::clone).map_err(at_entry(position))?;
            let signed_by = match &certificate {
                Some(certificate) => log::SignedBy::Certificate(&certificate.der),
                None => log::SignedBy::Key(key.spki()),
            };
            let known = |logged: &Digest| artifact.and_then(|artifact| artifact.digest(logged.algorithm())).cloned();
            log::agrees(body, bundle, signed_by, &key, known).map_err(at_entry(position))?;
        }

        // A key or certificate that passed everything is only then held against who was expected, so that a forgery
        // is called a forgery and not a stranger.
        if matches!(signer, Signer::Key { .. }) && self.expectations.key.is_none() {
            return Err(no_key_given());
        }
        certificate::expected(&signer, self.expectations)
            .map_err(|reason| reason.location("verificationMaterial.certificate"))?;
        Ok(Verified { signer, times, logs })
    }

    /// Steps 2 to 4 but for the expected identity.
    fn certificate(
        &self,
        leaf: &[u8],
        others: &[Vec<u8>],
        bundle: &Bundle,
        times: &[TrustedTime],
    ) -> Result<(Signer, Certificate), Reason> {
        let place = "verificationMaterial.certificate";
        let at = |reason: Reason| Reason { location: reason.location.or_else(|| Some(place.to_owned())), ..reason };
        if self.expectations.key.is_some() {
            return Err(Reason::new(
                Code::MaterialMismatch,
                "a key was asked for, and the bundle was signed under a certificate",
            )
            .location(place));
        }
        let certificate = Certificate::parse(leaf).map_err(at)?;
        for other in others {
            let other = Certificate::parse(other).map_err(at)?;
            if other.is_self_issued() && !self.is_early_chain(bundle, &other) {
                return Err(Reason::new(Code::BundleRootCertificate, "the bundle's chain carries a root certificate")
                    .location("verificationMaterial.x509CertificateChain"));
            }
        }
        if bundle.entries.is_empty() && self.root.has_logs {
            return Err(Reason::new(Code::LogEntryMissing, "the bundle has no log entry, and the trust root has logs")
                .location("verificationMaterial.tlogEntries"));
        }
        let instants: Vec<Timestamp> = times.iter().map(|time| time.at).collect();
        if instants.is_empty() {
            return Err(Reason::new(
                Code::TimeMissing,
                "no clock that the trust root believes says when it was signed, so the certificate cannot be judged",
            ));
        }
        let key = (Digest::sha256(leaf), instants);
        let known = self.certificates.lock().ok().and_then(|known| known.get(&key).cloned());
        let believed = known.unwrap_or_else(|| {
            let outcome = certificate::believed(self.root, &certificate, &key.1, self.now);
            if let Ok(mut known) = self.certificates.lock() {
                known.insert(key, outcome.clone());
            }
            outcome
        });
        believed.map_err(at)?;
        let signer = certificate::signer(&certificate).map_err(at)?;
        Ok((signer, certificate))
    }

    /// Clients of the first bundle version, before they knew inclusion proofs, sent the whole chain. That one form is
    /// let pass, and only where the root it carries is the trust root's own.
    fn is_early_chain(&self, bundle: &Bundle, root: &Certificate) -> bool {
        bundle.version == Version::V01
            && bundle.entries.iter().all(|entry| entry.proof.is_none())
            && self.root.authorities.iter().flat_map(|authority| &authority.chain).any(|own| own.der == root.der)
    }

    /// The key that was given. Where none was, the one that the log names stands in for the checks alone: a forgery is
    /// called a forgery, and sound evidence by somebody's key is then passed over, as a registry's own attestation is
    /// beside a publisher's.
    fn managed_key(&self, offer: &Offered) -> Result<PublicKey, Reason> {
        let Some(key) = self.expectations.key.clone() else {
            let logged = logged_keys(offer).next().ok_or_else(no_key_given)?;
            let key = PublicKey::from_spki(logged)?;
            // The artifact's bytes are kept for a key that was given alone.
            return if key.signs_whole_messages() && offer.is_message() { Err(no_key_given()) } else { Ok(key) };
        };
        if offer.bundle.entries.is_empty() && self.expectations.key_needs_log && self.root.has_logs {
            return Err(Reason::new(
                Code::LogEntryMissing,
                "a trust root with logs was given, and the bundle has no log entry",
            )
            .location("verificationMaterial.tlogEntries"));
        }
        Ok(key)
    }

    /// Says so where a signature does not fit the key that was given because the log knows it as another key's, or it
    /// says so itself. Nothing is believed by this: a forgery that names another key is by nobody who was asked for.
    fn by_another_key(&self, offer: &Offered) -> Option<Reason> {
        let given = self.expectations.key.as_ref()?;
        let hinted = match &offer.bundle.material {
            Material::PublicKey { hint } => hinted_key(hint),
            Material::Certificate { .. } => None,
        };
        let logged = logged_keys(offer).map(Digest::sha256);
        let other = logged.chain(hinted).find(|key| *key != given.fingerprint());
        let message = match other {
            Some(other) => format!("it was signed by the key {other}, and {} was given", given.fingerprint()),
            // Of such a signature nobody says whose it is, and an image may have those of many keys.
            None if offer.payload.is_some() && offer.bundle.entries.is_empty() => {
                format!("the signature is not by the key {}", given.fingerprint())
            }
            None => return None,
        };
        Some(Reason::new(Code::KeyMismatch, message).location("verificationMaterial.publicKey"))
    }

    /// Step 10 for a statement.
    fn attestation(
        &self,
        artifact: &Artifact,
        envelope: &Envelope,
        statement: &Statement,
        signer: &Signer,
    ) -> Result<Attestation, Reason> {
        let subject = matching_subject(artifact, statement)?;
        if let Some(expected) = &self.expectations.predicate_type
            && *expected != statement.predicate_type
        {
            return Err(Reason::new(
                Code::PredicateTypeMismatch,
                format!("the attestation is a `{}`, and `{expected}` was asked for", statement.predicate_type),
            )
            .location("predicateType"));
        }
        let claims = Claims::parse(&statement.predicate_type, &statement.predicate)?;
        let provenance = match claims.map(|claims| provenance::agreed(&claims, signer)).transpose() {
            Ok(provenance) => provenance,
            Err(conflict) if self.expectations.rests_on_provenance() => return Err(conflict),
            // Nobody asked where it was built: the signature stands, and the predicate's tale is no fact.
            Err(_) => None,
        };
        if self.expectations.asks_provenance() {
            let provenance = provenance.as_ref().ok_or_else(|| {
                Reason::new(
                    Code::ProvenanceMissing,
                    format!("the attestation is a `{}` and no SLSA provenance", statement.predicate_type),
                )
                .location("predicateType")
            })?;
            provenance::expected(provenance, signer, self.expectations)?;
        }
        self.package(subject)?;
        Ok(Attestation {
            predicate_type: statement.predicate_type.clone(),
            payload_digest: Digest::sha256(&envelope.payload).to_string(),
            subjects: statement.subjects.len(),
            subject_name: subject.name.clone(),
            provenance,
            summary: SummaryClaims::parse(&statement.predicate_type, &statement.predicate)?.map(summary).transpose()?,
            predicate: statement.predicate.clone(),
        })
    }

    /// The package that a subject names by its package URL.
    fn package(&self, subject: &Subject) -> Result<(), Reason> {
        let (name, version) = (&self.expectations.package_name, &self.expectations.package_version);
        if name.is_none() && version.is_none() {
            return Ok(());
        }
        let said = subject.name.as_deref().unwrap_or_default();
        let found = package_of(said);
        let differs =
            |asked: &Option<String>, found: Option<&String>| asked.as_ref().is_some_and(|asked| found != Some(asked));
        if differs(name, found.as_ref().map(|(name, _)| name))
            || differs(version, found.as_ref().map(|(_, version)| version))
        {
            return Err(Reason::new(
                Code::PackageMismatch,
                format!(
                    "the attestation is for `{said}`, and package `{}` version `{}` was asked for",
                    name.as_deref().unwrap_or("of any name"),
                    version.as_deref().unwrap_or("any")
                ),
            )
            .location("subject"));
        }
        Ok(())
    }
}

/// Name and version out of `pkg:npm/%40scope/name@1.2.3` (package-url specification).
fn package_of(purl: &str) -> Option<(String, String)> {
    let rest = purl.strip_prefix("pkg:")?;
    let rest = rest.split(['?', '#']).next()?;
    let (_, path) = rest.split_once('/')?;
    let (name, version) = path.rsplit_once('@')?;
    let decode = |text: &str| {
        url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some((decode(name)?, decode(version)?))
}

fn summary(claims: SummaryClaims) -> Result<Summary, Reason> {
    let time = |text: &str, field: &str| {
        text.parse::<Timestamp>().map_err(|error| {
            Reason::new(Code::PredicateMalformed, format!("`{text}` is no time: {error}"))
                .location(format!("predicate.{field}"))
        })
    };
    Ok(Summary {
        verified_at: time(&claims.verified_at, "timeVerified")?,
        expires_at: claims.expires_at.as_deref().map(|text| time(text, "expiresAt")).transpose()?,
        verifier_id: claims.verifier_id,
        result: claims.result,
        policy_uri: claims.policy_uri,
        policy_digest: claims.policy_digest.map(|digest| format!("sha256:{digest}")),
        levels: claims.levels,
    })
}

/// The subject that is this artifact: every digest that can be compared must be the artifact's, and at least one.
fn matching_subject<'s>(artifact: &Artifact, statement: &'s Statement) -> Result<&'s Subject, Reason> {
    for (position, subject) in statement.subjects.iter().enumerate() {
        let compared: Vec<bool> = subject
            .digests
            .iter()
            .filter_map(|digest| artifact.digest(digest.algorithm()).map(|actual| actual == digest))
            .collect();
        if compared.is_empty() || !compared.contains(&true) {
            continue;
        }
        if compared.contains(&false) {
            return Err(Reason::new(
                Code::SubjectDigest,
                "one digest of the subject is the artifact's and another is not",
            )
            .location(format!("subject[{position}].digest")));
        }
        return Ok(subject);
    }
    let known: Vec<String> = artifact.digests().map(ToString::to_string).collect();
    Err(Reason::new(
        Code::SubjectMismatch,
        format!("none of the {} subjects is the artifact ({})", statement.subjects.len(), known.join(", ")),
    )
    .location("subject"))
}

/// The managed keys that the log entries of a bundle name.
fn logged_keys(offer: &Offered) -> impl Iterator<Item = &[u8]> {
    let logged = offer.bodies.iter().filter_map(|body| body.as_ref().ok()).flat_map(|body| &body.signatures);
    logged.filter_map(|logged| match &logged.verifier {
        LoggedVerifier::PublicKey(spki) => Some(spki.as_slice()),
        LoggedVerifier::Certificate(_) => None,
    })
}

/// The key that a hint names, where it is base64 over the digest of a key, as sigstore's clients write it.
fn hinted_key(hint: &str) -> Option<Digest> {
    Digest::new(DigestAlgorithm::Sha256, &base64_bytes::decode(hint)?).ok()
}

fn no_key_given() -> Reason {
    Reason::new(Code::MaterialMismatch, "the bundle was signed by a managed key, and none was given")
        .location("verificationMaterial.publicKey")
}

/// Step 8 for an envelope: the signature is over the pre-authentication encoding, never over the payload.
fn envelope_signature(key: &PublicKey, envelope: &Envelope) -> Result<(), Reason> {
    if fits(key, &envelope.pre_authentication_encoding(), &envelope.signature) {
        return Ok(());
    }
    Err(Reason::new(Code::SignatureInvalid, "the envelope's signature does not fit its payload and key")
        .location("dsseEnvelope.signatures[0].sig"))
}

/// Whether a signature is this key's over a message.
fn fits(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    // Clients that sign with SHA-256 whatever the curve are common; the digest is not the signer's secret.
    let also = || match key.digest() {
        Some(digest) if digest != DigestAlgorithm::Sha256 => {
            key.verify_with(DigestAlgorithm::Sha256, message, signature).is_ok()
        }
        _ => false,
    };
    key.verify(message, signature).is_ok() || also()
}

/// Step 8 for a message signature.
fn message_signature(
    key: &PublicKey,
    artifact: &Artifact,
    noted: Option<&Digest>,
    claimed: &[Digest],
    signature: &[u8],
) -> Result<(), Reason> {
    let place = "messageSignature.signature";
    if key.signs_whole_messages() {
        let Some(bytes) = &artifact.bytes else {
            return Err(Reason::new(
                Code::ArtifactBytesRequired,
                "an Ed25519 signature covers the artifact's bytes, and only its digest is known",
            ));
        };
        return key.verify(bytes, signature).map_err(|_| {
            Reason::new(Code::SignatureInvalid, "the signature does not fit the artifact and the key").location(place)
        });
    }
    // The digest is the one that the signer noted, else the one that was logged, else the key's own.
    let algorithm = noted
        .or_else(|| claimed.first())
        .map(Digest::algorithm)
        .or_else(|| key.digest())
        .unwrap_or(DigestAlgorithm::Sha256);
    let digest = artifact.digest(algorithm).ok_or_else(|| {
        Reason::new(
            Code::ArtifactBytesRequired,
            format!("the signature is over a {algorithm} digest, which is not known of the artifact"),
        )
    })?;
    key.verify_digest(digest, signature).map_err(|_| {
        Reason::new(Code::SignatureInvalid, "the signature does not fit the artifact and the key").location(place)
    })
}
