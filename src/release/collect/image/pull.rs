//! An image on its way to disk: a reference in, an OCI image layout out, of which every blob has the digest that the
//! manifest gives it. What an interrupted run left is gone on from.
//!
//! Source: OCI image specification 1.1, `image-layout.md`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Image, reason};
use crate::clients::registry::Repository;
use crate::release::evidence::image::{Descriptor, Manifest, Parts};
use crate::types::{Code, Digest, Reason, limits};

/// An image on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The manifest of the platform; the image's own, where it has no index.
    pub manifest: Digest,
    /// The configuration's file.
    pub config: PathBuf,
    /// The layers' files, the lowest first, each with its media type.
    pub layers: Vec<(String, PathBuf)>,
    /// How many bytes came over the wire.
    pub bytes: u64,
}

/// Fetches an image for one platform, as `linux/amd64`, into an OCI image layout at `dir`.
///
/// # Errors
/// `image-missing` where an index has no such platform; what the registry said; `evidence-unreadable` where the files
/// cannot be written.
pub async fn pull(repository: &Repository, image: &Image, platform: &str, dir: &Path) -> Result<Pulled, Reason> {
    let disk = |path: &Path, error: &std::io::Error| {
        Reason::new(Code::EvidenceUnreadable, format!("cannot write {}: {error}", path.display()))
    };
    let blobs = dir.join("blobs");
    let (digest, bytes, manifest) = of_platform(repository, image, platform).await?;
    let Parts::Image { config, layers } = &manifest.parts else {
        return Err(Reason::new(Code::ImageMalformed, format!("{digest} is an index inside of an index")));
    };
    let all: u64 = layers.iter().chain([config]).fold(0, |sum, part| sum.saturating_add(part.size));
    if all > limits::IMAGE_BLOB_BYTES {
        return Err(Reason::new(Code::InputTooLarge, format!("the image has {all} bytes")));
    }
    let place = |digest: &Digest| blobs.join(digest.algorithm().name()).join(digest.to_hex());
    let mut came = 0_u64;
    for part in layers.iter().chain([config]) {
        let path = place(&part.digest);
        let folder = path.parent().unwrap_or(&blobs);
        fs::create_dir_all(folder).map_err(|error| disk(folder, &error))?;
        let bytes = repository.download(&part.digest, part.size, &path).await.map_err(|error| reason(&error))?;
        came = came.saturating_add(bytes);
    }
    let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).map_err(|error| disk(path, &error));
    let path = place(&digest);
    fs::create_dir_all(path.parent().unwrap_or(&blobs)).map_err(|error| disk(&blobs, &error))?;
    write(&path, &bytes)?;
    write(&dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    // The name under which containerd and its kin know it.
    let annotations = image.tagged.as_ref().map_or_else(|| json!({}), |name| json!({"io.containerd.image.name": name}));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": crate::clients::registry::INDEX,
        "manifests": [{
            "mediaType": manifest.media_type, "digest": digest, "size": bytes.len(), "annotations": annotations,
        }],
    });
    write(&dir.join("index.json"), index.to_string().as_bytes())?;
    Ok(Pulled {
        config: place(&config.digest),
        layers: layers.iter().map(|layer| (layer.media_type.clone(), place(&layer.digest))).collect(),
        manifest: digest,
        bytes: came,
    })
}

/// The manifest for a platform, with its bytes.
async fn of_platform(
    repository: &Repository,
    image: &Image,
    platform: &str,
) -> Result<(Digest, Vec<u8>, Manifest), Reason> {
    let Parts::Index(manifests) = &image.manifest.parts else {
        let bytes = image.artifact.bytes.clone().unwrap_or_default();
        return Ok((image.digest.clone(), bytes, image.manifest.clone()));
    };
    let has = |one: &&Descriptor| one.platform.as_deref().is_some_and(|of| is_for(of, platform));
    let one = manifests.iter().find(has).ok_or_else(|| {
        let platforms = image.manifest.platforms().join(", ");
        Reason::new(Code::ImageMissing, format!("{} is not for {platform}, but for {platforms}", image.reference))
            .hint("name one of its platforms")
    })?;
    let served = repository.manifest(&one.digest.to_string()).await.map_err(|error| reason(&error))?;
    let manifest = Manifest::parse(&served.bytes, &served.media_type)
        .map_err(|reason| reason.evidence(repository.what(&one.digest.to_string())))?;
    Ok((served.digest, served.bytes, manifest))
}

/// Whether an image for `of` is one for `asked`: a variant that was not asked for does not matter.
fn is_for(of: &str, asked: &str) -> bool {
    of == asked || of.strip_prefix(asked).is_some_and(|variant| variant.starts_with('/'))
}
