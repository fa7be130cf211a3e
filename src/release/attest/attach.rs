//! A bundle, attached to an image: the bundle and the image's descriptor in, a referrer in the registry out.
//!
//! Source: OCI distribution specification 1.1, "Pushing Manifests with Subject" and "Referrers Tag Schema"; cosign,
//! `BUNDLE_SPEC.md`. The same bundle attached again is the same manifest: nothing in it tells the time.

use serde_json::{Value, json};

use crate::clients::registry::{INDEX, MANIFEST, RegistryError, Repository};
use crate::release::evidence::image::{self, EMPTY, Manifest, Parts};
use crate::types::{Digest, Reason};

/// The media type of the bundles that we make, and of the artifacts that hold them.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// An empty JSON object: what stands where an image has its configuration.
const NOTHING: &[u8] = b"{}";
/// How often the list is written again because somebody else wrote it at the same time.
const ROUNDS: u32 = 3;

/// The manifest that something is attached to.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// Its media type.
    pub media_type: &'a str,
    /// Its digest.
    pub digest: &'a Digest,
    /// Its length in bytes.
    pub bytes: usize,
}

/// Why nothing was attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What stands under the tag for referrers is no list of them.
    #[error("the tag {tag} holds no list of referrers: {reason}")]
    Occupied {
        /// The tag.
        tag: String,
        /// What is wrong with what it holds.
        reason: Reason,
    },
    /// Others wrote the list at the same time, again and again.
    #[error("the tag {tag} does not keep what is written to it")]
    Contended {
        /// The tag.
        tag: String,
    },
}

/// Sees that this repository takes anything of ours, before something is signed that cannot be unsigned.
///
/// # Errors
/// [`RegistryError`].
pub async fn check(repository: &Repository) -> Result<(), RegistryError> {
    repository.push_blob(NOTHING).await.map(drop)
}

/// Attaches a bundle to an image. Returns the digest of the manifest that holds it.
///
/// # Errors
/// [`AttachError`].
pub async fn attach(
    repository: &Repository,
    subject: &Subject<'_>,
    bundle: &[u8],
    predicate_type: Option<&str>,
) -> Result<Digest, AttachError> {
    let config = repository.push_blob(NOTHING).await?;
    let layer = repository.push_blob(bundle).await?;
    let annotations = match predicate_type {
        Some(predicate_type) => json!({
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": predicate_type,
        }),
        None => json!({"dev.sigstore.bundle.content": "message-signature"}),
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": EMPTY, "digest": config, "size": NOTHING.len()},
        "layers": [{"mediaType": BUNDLE, "digest": layer, "size": bundle.len()}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.bytes},
        "annotations": annotations,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::sha256(&bytes);
    if !repository.push_manifest(&digest.to_string(), MANIFEST, &bytes).await? {
        let descriptor = json!({
            "mediaType": MANIFEST,
            "digest": digest,
            "size": bytes.len(),
            "artifactType": BUNDLE,
            "annotations": annotations,
        });
        list(repository, subject.digest, &digest, descriptor).await?;
    }
    Ok(digest)
}

/// Adds a referrer to the list that the registry does not keep by itself.
async fn list(
    repository: &Repository,
    subject: &Digest,
    digest: &Digest,
    descriptor: Value,
) -> Result<(), AttachError> {
    let tag = image::tag(subject, "");
    for _ in 0..ROUNDS {
        let mut index = match repository.manifest(&tag).await {
            Ok(served) => {
                let occupied = |reason| AttachError::Occupied { tag: tag.clone(), reason };
                let manifest = Manifest::parse(&served.bytes, &served.media_type).map_err(occupied)?;
                let Parts::Index(referrers) = &manifest.parts else {
                    let reason = Reason::new(crate::types::Code::ImageMalformed, "it is an image");
                    return Err(occupied(reason));
                };
                if referrers.iter().any(|referrer| referrer.digest == *digest) {
                    return Ok(());
                }
                serde_json::from_slice(&served.bytes).unwrap_or_else(|_| empty())
            }
            Err(RegistryError::NotFound { .. }) => empty(),
            Err(error) => return Err(error.into()),
        };
        if let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) {
            manifests.push(descriptor.clone());
        }
        // The next round reads it again: the specification has no way to write only where nobody else did.
        repository.push_manifest(&tag, INDEX, index.to_string().as_bytes()).await?;
    }
    match repository.manifest(&tag).await {
        Ok(served) if String::from_utf8_lossy(&served.bytes).contains(&digest.to_string()) => Ok(()),
        Ok(_) | Err(RegistryError::NotFound { .. }) => Err(AttachError::Contended { tag }),
        Err(error) => Err(error.into()),
    }
}

fn empty() -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
}
