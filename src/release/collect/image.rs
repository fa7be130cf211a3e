//! An image of a registry and what is attached to it: a reference in, the manifest's bytes and the evidence out.
//!
//! Evidence is looked for where clients of any age put it: among the referrers of OCI 1.1, by the registry's own list or
//! by the tag that stands in for it, and under cosign's tags. A tag is resolved once; from then on there is one digest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clients::registry::{INDEX, Manifest as Served, Reference, RegistryError, Repository};
use crate::release::artifact::Artifact;
use crate::release::evidence::image::{self, Attached, Descriptor, Kind, Manifest, Parts};
use crate::types::{Code, Digest, Reason, limits};

mod pull;

pub use pull::{Pulled, pull};

/// An image that was resolved to its digest.
#[derive(Debug, Clone)]
pub struct Image {
    /// Registry, repository and digest.
    pub reference: String,
    /// The digest that names it from now on.
    pub digest: Digest,
    /// Registry, repository and tag, where it was asked for by a tag.
    pub tagged: Option<String>,
    /// What the manifest or index says.
    pub manifest: Manifest,
    /// The manifest itself, under the name that the user gave.
    pub artifact: Artifact,
}

/// What is attached to an image.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Bundles, signatures and envelopes.
    pub attached: Vec<Attached>,
    /// SBOM and VEX documents, which somebody has to vouch for.
    pub documents: Vec<Document>,
    /// Why some of it could not be had.
    pub reasons: Vec<Reason>,
}

/// A document that is attached to an image, and what is attached to it in its turn.
#[derive(Debug)]
pub struct Document {
    /// The document.
    pub attached: Attached,
    /// The manifest that holds it, which is what its signatures are over.
    pub holder: Artifact,
    /// Signatures of the holder.
    pub signatures: Vec<Attached>,
}

/// What a failure of a registry means for a question.
pub fn reason(error: &RegistryError) -> Reason {
    let code = match error {
        RegistryError::Unreachable { .. } | RegistryError::Failed { .. } => Code::RegistryUnreachable,
        RegistryError::Refused { .. } | RegistryError::Insecure { .. } => Code::RegistryRefused,
        RegistryError::NotFound { .. } => Code::ImageMissing,
        RegistryError::TooLarge { .. } => Code::InputTooLarge,
        RegistryError::OtherDigest { .. } => Code::RegistryDigest,
        RegistryError::Malformed { .. } => Code::ImageMalformed,
        RegistryError::Disk { .. } => Code::EvidenceUnreadable,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    Reason::new(code, message)
}

/// Resolves a reference, and reads the manifest or index that it names.
///
/// # Errors
/// What the registry said, or what is wrong with the manifest.
pub async fn resolve(repository: &Repository, reference: &Reference, name: &str) -> Result<Image, Reason> {
    let asked = reference.digest().or(reference.tag()).unwrap_or("latest");
    let served = repository.manifest(asked).await.map_err(|error| reason(&error))?;
    let digest = served.digest.clone();
    if !image::names_an_image(&digest) {
        return Err(Reason::new(Code::UnsupportedAlgorithm, format!("{digest} is no digest for an image")));
    }
    let manifest = Manifest::parse(&served.bytes, &served.media_type)
        .map_err(|reason| reason.evidence(repository.what(&digest.to_string())))?;
    let artifact = Artifact::from_bytes(name, &served.bytes);
    let tagged = reference.tag().map(|tag| repository.what(tag));
    Ok(Image { reference: repository.what(&digest.to_string()), digest, tagged, manifest, artifact })
}

/// Gathers everything that is attached to an image and may be evidence.
pub async fn evidence(repository: &Repository, digest: &Digest) -> Evidence {
    let search = Search { repository, budget: AtomicU64::new(limits::IMAGE_EVIDENCE_BYTES) };
    let (signatures, attestations, documents) =
        tokio::join!(search.signatures(digest), search.tagged(digest, ".att"), search.tagged(digest, ".sbom"));
    let mut evidence = Evidence::default();
    let mut seen = BTreeSet::new();
    for found in signatures.into_iter().chain([attestations, documents]) {
        // The same manifest may stand in a list and under a tag.
        if found.digest.is_some_and(|digest| !seen.insert(digest)) {
            continue;
        }
        evidence.attached.extend(found.attached);
        evidence.reasons.extend(found.reasons);
        for (attached, (bytes, digest)) in found.documents {
            let mut signatures = Vec::new();
            for found in search.signatures(&digest).await {
                signatures.extend(found.attached);
                evidence.reasons.extend(found.reasons);
            }
            let holder = Artifact::from_bytes(&attached.name, &bytes);
            evidence.documents.push(Document { attached, holder, signatures });
        }
    }
    evidence
}

/// What one manifest holds, or why that could not be had.
#[derive(Default)]
struct Found {
    digest: Option<Digest>,
    attached: Vec<Attached>,
    /// Documents, each with the bytes and the digest of the manifest.
    documents: Vec<(Attached, (Vec<u8>, Digest))>,
    reasons: Vec<Reason>,
}

impl Found {
    fn refused(reason: Reason) -> Self {
        Self { reasons: vec![reason], ..Self::default() }
    }
}

/// Referrers that are fetched at the same time.
const LANES: usize = 4;

/// One search, with what is left of the bound on all that it may bring.
struct Search<'a> {
    repository: &'a Repository,
    budget: AtomicU64,
}

impl Search<'_> {
    /// Where signatures are.
    async fn signatures(&self, digest: &Digest) -> Vec<Found> {
        let (referrers, tagged) = tokio::join!(self.referrers(digest), self.tagged(digest, ".sig"));
        let mut all = referrers.unwrap_or_else(|reason| vec![Found::refused(reason)]);
        all.push(tagged);
        all
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Found>, Reason> {
        let listed = self.repository.referrers(digest).await.map_err(|error| reason(&error))?;
        let place = format!("referrers of {digest}");
        let read = |page: &[u8], served_as: &str| {
            Manifest::parse(page, served_as).and_then(index).map_err(|reason| reason.evidence(&place))
        };
        let mut referrers = Vec::new();
        match listed {
            Some(pages) => {
                for page in pages {
                    referrers.extend(read(&page, INDEX)?);
                }
            }
            // The tag that stands in for the list (OCI distribution specification 1.1, referrers tag schema).
            None => {
                let Some(served) = self.tag(&image::tag(digest, "")).await? else { return Ok(Vec::new()) };
                referrers.extend(read(&served.bytes, &served.media_type)?);
            }
        }
        let mut seen = BTreeSet::new();
        referrers.retain(|one| Kind::may_be_in(&one.artifact_type) && seen.insert(one.digest.clone()));
        if referrers.len() > limits::REFERRERS {
            let message = format!("{place} are more than {}", limits::REFERRERS);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let lane = |start: usize| {
            let own: Vec<(usize, &Descriptor)> = referrers.iter().enumerate().skip(start).step_by(LANES).collect();
            async move {
                let mut found = Vec::with_capacity(own.len());
                for (position, referrer) in own {
                    found.push((position, self.referrer(digest, referrer).await));
                }
                found
            }
        };
        let (first, second, third, fourth) = tokio::join!(lane(0), lane(1), lane(2), lane(3));
        // In the order of the list, whichever came first.
        let all: BTreeMap<usize, Found> = [first, second, third, fourth].into_iter().flatten().collect();
        Ok(all.into_values().collect())
    }

    async fn referrer(&self, subject: &Digest, descriptor: &Descriptor) -> Found {
        let name = self.repository.what(&descriptor.digest.to_string());
        match self.repository.manifest(&descriptor.digest.to_string()).await {
            Ok(served) => self.held(&name, served, subject).await,
            // A list may be older than what it lists: what was taken away says nothing.
            Err(RegistryError::NotFound { .. }) => Found::default(),
            Err(error) => Found::refused(reason(&error)),
        }
    }

    /// What stands under one of cosign's tags.
    async fn tagged(&self, digest: &Digest, suffix: &str) -> Found {
        let tag = image::tag(digest, suffix);
        match self.tag(&tag).await {
            Ok(None) => Found::default(),
            Ok(Some(served)) => self.held(&self.repository.what(&tag), served, digest).await,
            Err(reason) => Found::refused(reason),
        }
    }

    async fn tag(&self, tag: &str) -> Result<Option<Served>, Reason> {
        match self.repository.manifest(tag).await {
            Ok(served) => Ok(Some(served)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Reads the layers of a manifest that may be evidence.
    async fn held(&self, name: &str, served: Served, subject: &Digest) -> Found {
        let manifest = match Manifest::parse(&served.bytes, &served.media_type) {
            Ok(manifest) => manifest,
            Err(reason) => return Found::refused(reason.evidence(name)),
        };
        let mut found = Found { digest: Some(served.digest.clone()), ..Found::default() };
        // A document does not always name what it is about: one that is attached to something else is not ours.
        let may_be_document = manifest.subject.as_ref().is_none_or(|of| of == subject);
        let Parts::Image { layers, .. } = manifest.parts else { return found };
        let alone = layers.len() == 1;
        for (position, layer) in layers.into_iter().enumerate() {
            let Some(kind) = Kind::of(&layer.media_type) else { continue };
            let name = if alone { name.to_owned() } else { format!("{name}#{}", position.saturating_add(1)) };
            let attached = match self.blob(&layer).await {
                Ok(bytes) => Attached { name, kind, annotations: layer.annotations, bytes },
                Err(reason) => {
                    found.reasons.push(reason.evidence(name));
                    continue;
                }
            };
            match kind {
                Kind::Bundle | Kind::SimpleSigning | Kind::Envelope => found.attached.push(attached),
                Kind::Sbom | Kind::Vex if may_be_document => {
                    found.documents.push((attached, (served.bytes.clone(), served.digest.clone())));
                }
                Kind::Sbom | Kind::Vex => {}
            }
        }
        found
    }

    async fn blob(&self, layer: &Descriptor) -> Result<Vec<u8>, Reason> {
        let take = |left: u64| left.checked_sub(layer.size);
        let is_granted = layer.size <= limits::EVIDENCE_BYTES
            && self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !is_granted {
            let message = format!("{} has {} bytes, which is too much evidence", layer.digest, layer.size);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        self.repository.blob(&layer.digest, layer.size).await.map_err(|error| reason(&error))
    }
}

fn index(manifest: Manifest) -> Result<Vec<Descriptor>, Reason> {
    match manifest.parts {
        Parts::Index(manifests) => Ok(manifests),
        Parts::Image { .. } => {
            Err(Reason::new(Code::ImageMalformed, "a list of referrers is an index, and this is an image"))
        }
    }
}
