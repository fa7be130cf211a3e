//! An image of a registry and what is attached to it: a reference in, the manifest's bytes and the evidence out.
//!
//! Evidence is looked for where clients of any age put it: among the referrers of OCI 1.1, by the registry's own list or
//! by the tag that stands in for it, and under cosign's tags. A tag is resolved once; from then on there is one digest.

use std::collections::BTreeSet;

use crate::clients::registry::{Manifest as Served, Reference, RegistryError, Repository};
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
    Ok(Image { reference: repository.what(&digest.to_string()), digest, manifest, artifact })
}

/// Gathers everything that is attached to an image and may be evidence.
pub async fn evidence(repository: &Repository, digest: &Digest) -> Evidence {
    let mut search = Search::new(repository);
    search.image(digest).await;
    let holders = std::mem::take(&mut search.holders);
    let mut documents = Vec::new();
    for (attached, holder) in holders {
        let mut signatures = Search { budget: search.budget, ..Search::new(repository) };
        signatures.signatures(&holder.1).await;
        search.budget = signatures.budget;
        search.reasons.append(&mut signatures.reasons);
        let holder = Artifact::from_bytes(&attached.name, &holder.0);
        documents.push(Document { attached, holder, signatures: signatures.attached });
    }
    Evidence { attached: search.attached, documents, reasons: search.reasons }
}

/// A manifest's bytes, and its digest.
type Holder = (Vec<u8>, Digest);

/// One search, with what is left of the bound on all that it may bring.
struct Search<'a> {
    repository: &'a Repository,
    budget: u64,
    seen: BTreeSet<Digest>,
    attached: Vec<Attached>,
    holders: Vec<(Attached, Holder)>,
    reasons: Vec<Reason>,
}

impl<'a> Search<'a> {
    fn new(repository: &'a Repository) -> Self {
        Self {
            repository,
            budget: limits::IMAGE_EVIDENCE_BYTES,
            seen: BTreeSet::new(),
            attached: Vec::new(),
            holders: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Every place where clients attach things to an image.
    async fn image(&mut self, digest: &Digest) {
        self.signatures(digest).await;
        for suffix in [".att", ".sbom"] {
            self.tagged(digest, suffix).await;
        }
    }

    /// Where signatures are.
    async fn signatures(&mut self, digest: &Digest) {
        if let Err(reason) = self.referrers(digest).await {
            self.reasons.push(reason);
        }
        self.tagged(digest, ".sig").await;
    }

    async fn referrers(&mut self, digest: &Digest) -> Result<(), Reason> {
        let listed = self.repository.referrers(digest).await.map_err(|error| reason(&error))?;
        let place = || format!("referrers of {digest}");
        let mut referrers = Vec::new();
        match listed {
            Some(pages) => {
                for page in pages {
                    let served_as = crate::clients::registry::INDEX;
                    let page = Manifest::parse(&page, served_as).map_err(|reason| reason.evidence(place()))?;
                    referrers.extend(index(page).ok_or_else(|| no_index().evidence(place()))?);
                }
            }
            // The tag that stands in for the list (OCI distribution specification 1.1, referrers tag schema).
            None => {
                let Some(served) = self.tag(&image::tag(digest, "")).await? else { return Ok(()) };
                let page = Manifest::parse(&served.bytes, &served.media_type).map_err(|r| r.evidence(place()))?;
                referrers.extend(index(page).ok_or_else(|| no_index().evidence(place()))?);
            }
        }
        referrers.retain(|referrer| Kind::may_be_in(&referrer.artifact_type));
        if referrers.len() > limits::REFERRERS {
            let message = format!("{} has more than {} of them", place(), limits::REFERRERS);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        for referrer in referrers {
            if let Err(reason) = self.referrer(digest, &referrer).await {
                self.reasons.push(reason);
            }
        }
        Ok(())
    }

    async fn referrer(&mut self, subject: &Digest, descriptor: &Descriptor) -> Result<(), Reason> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        let served = match self.repository.manifest(&descriptor.digest.to_string()).await {
            Ok(served) => served,
            // A list may be older than what it lists: what was taken away says nothing.
            Err(RegistryError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(reason(&error)),
        };
        let name = self.repository.what(&descriptor.digest.to_string());
        let manifest = Manifest::parse(&served.bytes, &served.media_type).map_err(|reason| reason.evidence(&name))?;
        // A document does not always name what it is about: this one is attached to something else.
        let is_attached = manifest.subject.as_ref().is_none_or(|of| of == subject);
        self.layers(&name, manifest, &served, is_attached).await;
        Ok(())
    }

    /// What stands under one of cosign's tags.
    async fn tagged(&mut self, digest: &Digest, suffix: &str) {
        let tag = image::tag(digest, suffix);
        let name = self.repository.what(&tag);
        match self.tag(&tag).await {
            Ok(None) => {}
            Ok(Some(served)) => {
                self.seen.insert(served.digest.clone());
                match Manifest::parse(&served.bytes, &served.media_type) {
                    Ok(manifest) => self.layers(&name, manifest, &served, true).await,
                    Err(reason) => self.reasons.push(reason.evidence(&name)),
                }
            }
            Err(reason) => self.reasons.push(reason),
        }
    }

    async fn tag(&self, tag: &str) -> Result<Option<Served>, Reason> {
        match self.repository.manifest(tag).await {
            Ok(served) => Ok(Some(served)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Reads the layers that may be evidence.
    async fn layers(&mut self, name: &str, manifest: Manifest, served: &Served, may_be_document: bool) {
        let Parts::Image { layers, .. } = manifest.parts else { return };
        let alone = layers.len() == 1;
        for (position, layer) in layers.into_iter().enumerate() {
            let Some(kind) = Kind::of(&layer.media_type) else { continue };
            let name = if alone { name.to_owned() } else { format!("{name}#{}", position.saturating_add(1)) };
            let attached = match self.blob(&layer).await {
                Ok(bytes) => Attached { name, kind, annotations: layer.annotations, bytes },
                Err(reason) => {
                    self.reasons.push(reason.evidence(name));
                    continue;
                }
            };
            match kind {
                Kind::Bundle | Kind::SimpleSigning | Kind::Envelope => self.attached.push(attached),
                Kind::Sbom | Kind::Vex if may_be_document => {
                    self.holders.push((attached, (served.bytes.clone(), served.digest.clone())));
                }
                Kind::Sbom | Kind::Vex => {}
            }
        }
    }

    async fn blob(&mut self, layer: &Descriptor) -> Result<Vec<u8>, Reason> {
        let limit = limits::EVIDENCE_BYTES.min(self.budget);
        if layer.size > limit {
            let message = format!("{} has {} bytes, and {limit} may still be read", layer.digest, layer.size);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        self.budget = self.budget.saturating_sub(layer.size);
        self.repository.blob(&layer.digest, layer.size).await.map_err(|error| reason(&error))
    }
}

fn index(manifest: Manifest) -> Option<Vec<Descriptor>> {
    match manifest.parts {
        Parts::Index(manifests) => Some(manifests),
        Parts::Image { .. } => None,
    }
}

fn no_index() -> Reason {
    Reason::new(Code::ImageMalformed, "a list of referrers is an index, and this is an image")
}
