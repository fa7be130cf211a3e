//! The one gate of a node: a machine and the way in, a permit with the very bytes it is about, or every reason why not.
//!
//! Create, start, autostart, restart, reset, ISO, disk and card, snapshot, restore, migration and netboot all come
//! through [`Admission::pass`]. It copies code into sealed memory and hashes it on the way; of disks it takes the
//! node's own receipt, whose tree or seal every block is held against when it is read. Then it judges each artifact by its own
//! trust, has a ticket issued, and asks for the permit.
//!
//! Everything blocks; an asynchronous caller brings a thread of its own.
//! Invariant: what is handed out with a permit are the descriptors that were hashed, and nothing is opened again.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use uuid::Uuid;

use super::hypervisor::{Artifact as Wanted, SealedArtifact};
use super::images::{ImageRecord, ImageStore, Sealed};
use super::key::NodeKey;
use super::registries::Registries;
use crate::release::admit::quarantine::Entry;
use crate::release::admit::{
    AdmissionTrust, BootArtifact, BootPermit, BootRequest, Evidence, EvidenceFile, IssueError, Judged, Measured,
    Override, Presented, QuarantineList, SignedTicket, Standing, TicketTerms, issue, judge, permit,
};
use crate::release::artifact::{Artifact, Hasher, Sink as _};
use crate::release::evidence::openpgp::{ArtifactHasher, ArtifactHashes};
use crate::release::trust::revocation::Known;
use crate::types::step::{ImageFacts, ImageVerdict, Passage};
use crate::types::vm::{ArtifactKind, BootPath, VmId};
use crate::types::{Clock, Code, Digest, DigestAlgorithm, Reason, limits};

mod asked;

/// How long a ticket holds where the trust allows it: long enough for a start, short enough to be asked for again.
const TICKET: SignedDuration = SignedDuration::from_hours(1);

/// The gate, with all that it goes by.
#[derive(Debug)]
pub struct Admission {
    node: String,
    images: ImageStore,
    trust: AdmissionTrust,
    /// What the trust bundle revokes, as it is now.
    revoked: watch::Receiver<Arc<Known>>,
    /// The server's key: in one process, the server's word is given here, by the same questions.
    issuer: NodeKey,
    clock: Clock,
    /// What must not run, and what people signed; nothing passes before they were told.
    rules: RwLock<Option<Rules>>,
    generations: Generations,
    /// What evidence asked for besides the digests of the receipt, by image.
    gone_by: Mutex<HashMap<Digest, Arc<GoneBy>>>,
    registries: Registries,
}

#[derive(Debug)]
struct Rules {
    list: QuarantineList,
    overrides: Vec<Override>,
}

/// What passed.
#[derive(Debug)]
pub struct Passed {
    /// The permission.
    pub permit: BootPermit,
    /// Code in sealed memory, by slot.
    pub sealed: Vec<SealedArtifact>,
    /// Disks and ISO images, by slot.
    pub blocks: Vec<(String, ImageRecord)>,
    /// What to write down.
    pub passage: Passage,
}

impl Admission {
    /// The gate of this node. `generations` is the file in which it remembers the newest ticket of each machine.
    ///
    /// # Errors
    /// Where that file cannot be read.
    pub fn new(
        node: String,
        images: ImageStore,
        trust: AdmissionTrust,
        revoked: watch::Receiver<Arc<Known>>,
        issuer: NodeKey,
        clock: Clock,
        generations: PathBuf,
    ) -> std::io::Result<Self> {
        let generations = Generations::open(generations)?;
        Ok(Self {
            node,
            images,
            trust,
            revoked,
            issuer,
            clock,
            rules: RwLock::default(),
            generations,
            gone_by: Mutex::default(),
            registries: Registries::default(),
        })
    }

    /// The same, which may ask these registries.
    #[must_use]
    pub fn asking(mut self, registries: Registries) -> Self {
        self.registries = registries;
        self
    }

    /// The registries that may be asked.
    pub const fn registries(&self) -> &Registries {
        &self.registries
    }

    /// Whom it believes.
    pub const fn trust(&self) -> &AdmissionTrust {
        &self.trust
    }

    fn known(&self) -> Arc<Known> {
        self.revoked.borrow().clone()
    }

    /// What must not run, and what two people signed, from now on. A document that its pins do not believe is none.
    pub fn rules(&self, entries: Vec<Entry>, overrides: &[Vec<u8>]) {
        let now = self.clock.now();
        let overrides = overrides.iter().filter_map(|document| Override::verify(document, &self.trust, now).ok());
        let rules = Rules { list: entries.into_iter().collect(), overrides: overrides.collect() };
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Some(rules);
    }

    /// Whether these bytes are an override that its pins believe: for which machine, until when.
    ///
    /// # Errors
    /// Why not.
    pub fn override_check(&self, document: &[u8]) -> Result<(VmId, Timestamp), Reason> {
        let found = Override::verify(document, &self.trust, self.clock.now())?;
        Ok((found.terms().vm, found.terms().expires_at))
    }

    /// The gate: `wanted` is everything that the machine is made of once the act is done.
    ///
    /// # Errors
    /// Every reason against it, as what is to be written down.
    pub fn pass(&self, vm: VmId, generation: u64, path: BootPath, wanted: &[Wanted]) -> Result<Passed, Box<Passage>> {
        self.try_pass(vm, generation, path, wanted).map_err(|mut reasons| {
            if reasons.is_empty() {
                reasons.push(Reason::new(Code::InternalError, "the gate said no without a reason"));
            }
            Box::new(Passage { path, reasons, ticket: None, running: None, overridden_by: Vec::new() })
        })
    }

    fn try_pass(&self, vm: VmId, generation: u64, path: BootPath, wanted: &[Wanted]) -> Result<Passed, Vec<Reason>> {
        let now = self.clock.now();
        if let Some(fault) = &self.known().fault {
            return Err(vec![fault.clone()]);
        }
        let at_hand = self.gather(wanted, now)?;
        let guard = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let rules = guard.as_ref().ok_or_else(|| {
            vec![Reason::new(Code::InternalError, "the node was not told yet what must not run").hint("ask again")]
        })?;
        let standing = Standing {
            trust: &self.trust,
            judged: &at_hand.judged,
            measured: &at_hand.measured,
            quarantine: &rules.list,
            overrides: &rules.overrides,
            now,
        };
        let terms = TicketTerms {
            vm,
            node: self.node.clone(),
            artifacts: at_hand.artifacts.clone(),
            policy: self.trust.policy_digest().map_err(|reason| vec![reason])?,
            trust_root: self.trust.trust_root_digest().cloned(),
            issued_at: now,
            expires_at: now.checked_add(self.trust.max_validity().min(TICKET)).unwrap_or(Timestamp::MAX),
            generation,
            nonce: Uuid::now_v7(),
        };
        let envelope = issue(&terms, self.issuer.private(), &standing).map_err(|error| match error {
            IssueError::Refused(reasons) => reasons,
            IssueError::Sign(error) => {
                vec![Reason::new(Code::InternalError, format!("the ticket could not be signed: {error}"))]
            }
        })?;
        let one = |reason| vec![reason];
        let ticket = SignedTicket::parse(&envelope).map_err(one)?.verify(&self.trust, now).map_err(one)?;
        let request = BootRequest {
            vm,
            node: self.node.clone(),
            path,
            artifacts: at_hand.artifacts,
            seen_generation: self.generations.seen(vm),
        };
        let permit = permit(&request, Some(&ticket), &standing)?;
        // A description that is only asked about is nobody's generation yet.
        if path != BootPath::Create {
            self.generations.saw(vm, generation).map_err(|error| {
                vec![Reason::new(Code::StoreFailed, format!("the ticket's generation could not be kept: {error}"))]
            })?;
        }
        let passage = Passage {
            path,
            reasons: Vec::new(),
            ticket: Some((String::from_utf8_lossy(&envelope).into_owned(), ticket.terms().expires_at)),
            running: serde_json::to_value(permit.running()).ok(),
            overridden_by: permit.overridden_by().iter().map(ToString::to_string).collect(),
        };
        Ok(Passed { permit, sealed: at_hand.sealed, blocks: at_hand.blocks, passage })
    }

    /// The artifacts, measured, sealed and judged.
    fn gather(&self, all: &[Wanted], now: Timestamp) -> Result<AtHand, Vec<Reason>> {
        let mut found = AtHand::default();
        let mut reasons = Vec::new();
        for wanted in all {
            if let Err(reason) = self.take_up(&wanted.slot, wanted.kind, &wanted.digest, now, &mut found) {
                reasons.push(reason.subject(&wanted.slot));
            }
        }
        if reasons.is_empty() { Ok(found) } else { Err(reasons) }
    }

    fn take_up(
        &self,
        slot: &str,
        kind: ArtifactKind,
        digest: &Digest,
        now: Timestamp,
        found: &mut AtHand,
    ) -> Result<(), Reason> {
        let record = self.images.record(digest)?;
        if record.kind != kind {
            let message =
                format!("{digest} was imported as {}, and is asked for as {}", record.kind.name(), kind.name());
            return Err(Reason::new(Code::ImageKind, message));
        }
        let evidence = self.evidence(digest)?;
        let sealed = if kind.is_block_device() { None } else { Some(self.images.seal(digest)?) };
        if sealed.is_none() {
            self.images.measure(&record)?;
        }
        let bytes = sealed.as_ref().map_or(record.bytes, |sealed| sealed.bytes());
        let judged = self.judge(&record, kind, &evidence, sealed.as_ref(), now)?;
        let tree_root = kind.is_block_device().then(|| record.tree_root.clone());
        let others = record.digests().filter(|other| *other != digest).cloned().collect();
        found.measured.push(Measured { digest: digest.clone(), others, tree_root: tree_root.clone(), bytes });
        found.artifacts.push(BootArtifact { slot: slot.to_owned(), kind, digest: digest.clone(), tree_root, bytes });
        found.judged.push(judged);
        match sealed {
            None => found.blocks.push((slot.to_owned(), record)),
            Some(sealed) => found.sealed.push(SealedArtifact::from_store(slot, kind, sealed)),
        }
        Ok(())
    }

    /// What the node decides about an image now, as it was imported.
    ///
    /// # Errors
    /// Where there is no such image, or it cannot be read.
    pub fn verdict(&self, digest: &Digest) -> Result<ImageVerdict, Reason> {
        let now = self.clock.now();
        let record = self.images.record(digest)?;
        let evidence = self.evidence(digest)?;
        let judged = self.judge(&record, record.kind, &evidence, None, now)?;
        let guard = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let quarantined =
            guard.as_ref().and_then(|rules| record.digests().find_map(|digest| rules.list.check_digest(digest, now)));
        let mut reasons = judged.report().reasons.clone();
        let fault = self.known().fault.clone();
        let refused = quarantined.is_some() || fault.is_some();
        let decision = if refused { "deny" } else { judged.decision().name() };
        reasons.extend(quarantined);
        reasons.extend(fault);
        Ok(ImageVerdict {
            facts: self.facts(&record)?,
            decision: decision.to_owned(),
            reasons,
            signers: judged.signers().iter().map(ToString::to_string).collect(),
        })
    }

    /// What an image is.
    ///
    /// # Errors
    /// Where its evidence cannot be read.
    pub fn facts(&self, record: &ImageRecord) -> Result<ImageFacts, Reason> {
        let evidence = self.images.evidence(&record.digest)?.into_iter().map(|(name, _)| name).collect();
        Ok(ImageFacts {
            digest: record.digest.clone(),
            kind: record.kind,
            name: Some(record.name.clone()).filter(|name| !name.is_empty()),
            format: record.format.driver().to_owned(),
            bytes: record.bytes,
            virtual_bytes: Some(record.virtual_bytes),
            tree_root: Some(record.tree_root.clone()),
            sha512: record.sha512.clone(),
            reads: self.images.tier_of(record),
            evidence,
            imported_at: record.imported_at,
        })
    }

    fn evidence(&self, digest: &Digest) -> Result<Evidence, Reason> {
        let files = self.images.evidence(digest)?;
        let files: Vec<EvidenceFile> = files.into_iter().map(|(name, bytes)| EvidenceFile { name, bytes }).collect();
        Ok(Evidence::parse(&files))
    }

    /// By the digests that the node itself took at import. What else the evidence asks for is computed once over all of
    /// the bytes: those in sealed memory, or those of a disk, each block of which is proved when it is read for this.
    fn judge(
        &self,
        record: &ImageRecord,
        kind: ArtifactKind,
        evidence: &Evidence,
        sealed: Option<&Sealed>,
        now: Timestamp,
    ) -> Result<Judged, Reason> {
        let known = self.known();
        let mut digests: Vec<Digest> = record.digests().cloned().collect();
        let mut others = evidence.algorithms(&record.name);
        others.extend(known.revoked.algorithms());
        others.retain(|algorithm| digests.iter().all(|digest| digest.algorithm() != *algorithm));
        others.sort_unstable();
        others.dedup();
        let mut hashes = None;
        let openpgp = evidence.openpgp_hasher();
        if !others.is_empty() || openpgp.is_some() {
            let gone_by = self.gone_by(record, &others, openpgp, sealed)?;
            digests.extend(gone_by.digests.iter().cloned());
            hashes.clone_from(&gone_by.openpgp);
        }
        let artifact = Artifact::new(&record.name, digests);
        let presented = Presented { artifact: &artifact, kind, openpgp: hashes.as_ref() };
        Ok(judge(presented, evidence, &self.trust, &known.revoked, now))
    }

    /// What is computed while all of an image goes by. It is kept: the digest says that it stays so.
    fn gone_by(
        &self,
        record: &ImageRecord,
        others: &[DigestAlgorithm],
        mut openpgp: Option<ArtifactHasher>,
        sealed: Option<&Sealed>,
    ) -> Result<Arc<GoneBy>, Reason> {
        let digest = &record.digest;
        let kept = self.gone_by.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(kept) = kept.filter(|kept| kept.answers(others, openpgp.as_ref())) {
            return Ok(kept);
        }
        let mut hasher = Hasher::new(others);
        let mut see = |piece: &[u8]| {
            hasher.update(piece);
            if let Some(openpgp) = &mut openpgp {
                openpgp.update(piece);
            }
        };
        match sealed {
            Some(sealed) => read_memory(sealed, &mut see)
                .map_err(|error| Reason::new(Code::StoreFailed, format!("{digest} cannot be read: {error}")))?,
            None => self.images.read_through(record, &mut see)?,
        }
        let openpgp = openpgp.map(|hasher| hasher.finish());
        let found = Arc::new(GoneBy { digests: hasher.finish(), openpgp });
        let mut kept = self.gone_by.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= limits::ADMISSION_HASHES {
            kept.clear();
        }
        kept.insert(digest.clone(), Arc::clone(&found));
        Ok(found)
    }
}

/// What was computed while an image went by.
#[derive(Debug)]
struct GoneBy {
    digests: Vec<Digest>,
    openpgp: Option<ArtifactHashes>,
}

impl GoneBy {
    fn answers(&self, others: &[DigestAlgorithm], openpgp: Option<&ArtifactHasher>) -> bool {
        let has = |algorithm: &DigestAlgorithm| self.digests.iter().any(|digest| digest.algorithm() == *algorithm);
        let signed = openpgp.is_none_or(|asked| self.openpgp.as_ref().is_some_and(|hashes| hashes.answer(asked)));
        signed && others.iter().all(has)
    }
}

fn read_memory(sealed: &Sealed, seen: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let file = File::from(std::os::fd::AsFd::as_fd(sealed).try_clone_to_owned()?);
    let mut piece = vec![0; 1024 * 1024];
    let mut at = 0;
    while at < sealed.bytes() {
        let count = file.read_at(&mut piece, at)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen(piece.get(..count).unwrap_or_default());
        at += count as u64;
    }
    Ok(())
}

/// What is at hand of a machine.
#[derive(Debug, Default)]
struct AtHand {
    artifacts: Vec<BootArtifact>,
    measured: Vec<Measured>,
    judged: Vec<Judged>,
    sealed: Vec<SealedArtifact>,
    blocks: Vec<(String, ImageRecord)>,
}

/// The newest ticket of each machine, remembered over restarts.
#[derive(Debug)]
struct Generations {
    path: PathBuf,
    seen: Mutex<HashMap<VmId, u64>>,
}

impl Generations {
    fn open(path: PathBuf) -> std::io::Result<Self> {
        let seen = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, seen: Mutex::new(seen) })
    }

    fn seen(&self, vm: VmId) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&vm).copied().unwrap_or(0)
    }

    /// Written whole beside its name and moved into place, before anything is done by the ticket.
    fn saw(&self, vm: VmId, generation: u64) -> std::io::Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(vm, generation);
        if before == Some(generation) {
            return Ok(());
        }
        let sorted: BTreeMap<_, _> = seen.iter().collect();
        let bytes = serde_json::to_vec(&sorted).map_err(std::io::Error::other)?;
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, bytes)?;
        File::open(&beside)?.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }
}
