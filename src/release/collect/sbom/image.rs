//! A container image on disk in, the tree of its layers out: an OCI image layout, or a tar of one, or of what
//! `docker save` wrote before there was one.
//!
//! Every blob must be what its digest says, and every layer what the image's configuration says of it uncompressed: a
//! document about a layout whose parts were exchanged would be about another image.
//! Invariant: nothing is fetched. A layer that is not there is a reason.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::layers::{LayerDigests, Layers};
use super::tree::{self, Content, EntryKind, Tree, unreadable};
use super::{links, malformed};
use crate::release::evidence::json;
use crate::types::{Code, Reason, limits};

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    /// Its root file system.
    pub(super) layers: Layers,
    /// What it is called, with its tag, where the layout says so.
    pub(super) name: Option<String>,
    /// SHA-256 of its manifest, in hexadecimal: what a registry calls it. An older docker archive has none.
    pub(super) manifest: Option<String>,
    /// SHA-256 of its configuration: what docker calls its id.
    pub(super) config: String,
    /// For which architecture it was built.
    pub(super) architecture: String,
}

/// A layer as somebody has it: what it should be, and its bytes.
pub(super) struct LayerBlob<'a> {
    /// The digest of the stored bytes, `sha256:…`; nothing where only the uncompressed tar has one.
    pub(super) digest: Option<String>,
    /// The bytes.
    pub(super) content: Box<dyn std::io::Read + 'a>,
    /// What to call it in a message.
    pub(super) name: String,
}

/// An image out of its configuration and its layers, the lowest first, wherever they come from.
///
/// # Errors
/// `image-digest` where a layer is another one than was said; what [`Layers::add`] has against it.
pub(super) fn merge<'a>(
    config: &[u8],
    layers: impl Iterator<Item = Result<LayerBlob<'a>, Reason>>,
) -> Result<Image, Reason> {
    let parsed: Config = parse(config, "the image's configuration")?;
    let mut merged = Layers::default();
    let mut wanted = parsed.rootfs.diff_ids.into_iter();
    let mut count = 0;
    for layer in layers {
        count += 1;
        if count > limits::IMAGE_LAYERS {
            let message = format!("the image has more than {} layers", limits::IMAGE_LAYERS);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let LayerBlob { digest, content, name } = layer?;
        let LayerDigests { stored, uncompressed } = merged.add(content).map_err(|reason| reason.evidence(&name))?;
        if digest.is_some_and(|digest| digest != format!("sha256:{stored}")) {
            return Err(other(&name, "its bytes have another digest"));
        }
        if wanted.next().is_none_or(|diff_id| diff_id != format!("sha256:{uncompressed}")) {
            return Err(other(&name, "the image's configuration names another layer in its place"));
        }
    }
    if wanted.next().is_some() {
        return Err(other("the image", "its configuration names more layers than there are"));
    }
    let config = hex::encode(Sha256::digest(config));
    let architecture = parsed.architecture;
    Ok(Image { layers: merged, name: None, manifest: None, config, architecture })
}

/// Opens the image in a layout.
///
/// # Errors
/// As [`merge`], and `sbom-source-malformed`, `sbom-unsupported` where it holds several images, `subject-unreadable`.
pub(super) fn open(layout: &dyn Tree) -> Result<Image, Reason> {
    let blobs = Blobs::new(layout)?;
    if blobs.has(INDEX) { oci(&blobs) } else { docker(&blobs) }
}

const INDEX: &str = "index.json";
const DOCKER_MANIFEST: &str = "manifest.json";
/// Manifests, indexes and configurations; registries refuse larger ones.
const DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// An index may hold indexes.
const INDEX_DEPTH: usize = 4;

fn oci(blobs: &Blobs<'_>) -> Result<Image, Reason> {
    let index: Index = parse(&blobs.read(INDEX)?, INDEX)?;
    let descriptor = blobs.choose(index, 0)?;
    let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
        .iter()
        .find_map(|key| descriptor.annotations.get(*key).cloned());
    let manifest: Manifest = parse(&blobs.blob(&descriptor)?, &descriptor.digest)?;
    let media_type = manifest.config.media_type.as_str();
    if !matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    ) {
        let message = format!("what the layout holds is no container image, but of the kind {media_type}");
        return Err(Reason::new(Code::SbomUnsupported, message));
    }
    let config = blobs.blob(&manifest.config)?;
    let layers = manifest.layers.iter().map(|layer| {
        let path = blob_path(&layer.digest)?;
        Ok(LayerBlob { digest: Some(layer.digest.clone()), content: Box::new(blobs.open(&path)?), name: path })
    });
    let image = merge(&config, layers)?;
    let manifest = descriptor.digest.strip_prefix("sha256:").map(str::to_owned);
    Ok(Image { name, manifest, ..image })
}

fn docker(blobs: &Blobs<'_>) -> Result<Image, Reason> {
    if !blobs.has(DOCKER_MANIFEST) {
        let message = "there is neither an index.json of an OCI layout nor a manifest.json of docker's";
        return Err(Reason::new(Code::SbomUnsupported, message));
    }
    let images: Vec<DockerImage> = parse(&blobs.read(DOCKER_MANIFEST)?, DOCKER_MANIFEST)?;
    let [image] = images.as_slice() else { return Err(several(images.len())) };
    let config = blobs.read(&image.config)?;
    let named = tree::name_of(&image.config).trim_end_matches(".json");
    if named.len() == 64 && named != hex::encode(Sha256::digest(&config)) {
        return Err(other(&image.config, "its bytes have another digest than its name says"));
    }
    let layers = image
        .layers
        .iter()
        .map(|path| Ok(LayerBlob { digest: None, content: Box::new(blobs.open(path)?), name: path.clone() }));
    let name = image.repo_tags.as_deref().unwrap_or_default().first().cloned();
    Ok(Image { name, ..merge(&config, layers)? })
}

fn several(count: usize) -> Reason {
    let reason = Reason::new(Code::SbomUnsupported, format!("there are {count} images; a document is about one"));
    reason.hint("export the one image that is meant, for one platform")
}

fn other(name: &str, why: &str) -> Reason {
    Reason::new(Code::ImageDigest, format!("{name} is not what the image is made of: {why}")).evidence(name)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, Reason> {
    json::parse(bytes, Code::SbomSourceMalformed).map_err(|reason| reason.evidence(name))
}

/// Where a layout keeps a blob (OCI image layout, blobs).
fn blob_path(digest: &str) -> Result<String, Reason> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    let hex = hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    hex.map(|hex| format!("blobs/sha256/{hex}")).ok_or_else(|| malformed(digest, "it is no SHA-256 digest"))
}

/// The files of a layout.
struct Blobs<'a> {
    layout: &'a dyn Tree,
    entries: BTreeMap<String, EntryKind>,
}

impl<'a> Blobs<'a> {
    fn new(layout: &'a dyn Tree) -> Result<Self, Reason> {
        let entries = layout.entries(&|_| true)?;
        Ok(Self { layout, entries: entries.into_iter().map(|entry| (entry.path, entry.kind)).collect() })
    }

    fn has(&self, path: &str) -> bool {
        self.entries.get(path) == Some(&EntryKind::File)
    }

    /// Opens a file. `docker save` links layers that several images share.
    fn open(&self, path: &str) -> Result<Box<dyn Content + 'a>, Reason> {
        let target = |path: &str| match self.entries.get(path)? {
            EntryKind::Link(target) => Some(target.clone()),
            _ => None,
        };
        let followed = links::follow(path, true, &target).ok_or_else(|| unreadable(path, &"its links form a loop"))?;
        self.layout.open(&followed)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Reason> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let mut limited = self.open(path)?.take(DOCUMENT_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
        if bytes.len() as u64 > DOCUMENT_BYTES {
            let message = format!("{path} is larger than {DOCUMENT_BYTES} bytes");
            return Err(Reason::new(Code::InputTooLarge, message).evidence(path));
        }
        Ok(bytes)
    }

    /// The bytes that a descriptor names, and no others.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Reason> {
        let path = blob_path(&descriptor.digest)?;
        let bytes = self.read(&path)?;
        if descriptor.digest != format!("sha256:{}", hex::encode(Sha256::digest(&bytes))) {
            return Err(other(&path, "its bytes have another digest"));
        }
        Ok(bytes)
    }

    /// The one image of an index; of images for several platforms the one for linux/amd64.
    fn choose(&self, index: Index, depth: usize) -> Result<Descriptor, Reason> {
        let mut images: Vec<Descriptor> = index.manifests.into_iter().filter(Descriptor::is_image).collect();
        if images.len() > 1 {
            let count = images.len();
            images.retain(|image| image.platform.as_ref().is_some_and(Platform::is_default));
            if images.len() != 1 {
                return Err(several(count));
            }
        }
        let Some(chosen) = images.pop() else {
            return Err(Reason::new(Code::SbomUnsupported, "the layout holds no image"));
        };
        if !chosen.is_index() {
            return Ok(chosen);
        }
        if depth >= INDEX_DEPTH {
            return Err(Reason::new(Code::InputTooDeep, "the layout's indexes are nested too deep"));
        }
        let inner: Index = parse(&self.blob(&chosen)?, &chosen.digest)?;
        let mut image = self.choose(inner, depth + 1)?;
        for (key, value) in chosen.annotations {
            image.annotations.entry(key).or_insert(value);
        }
        Ok(image)
    }
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

impl Descriptor {
    fn is_index(&self) -> bool {
        let list = "application/vnd.docker.distribution.manifest.list.v2+json";
        self.media_type == "application/vnd.oci.image.index.v1+json" || self.media_type == list
    }

    /// What buildkit attaches to an image stands beside it under a platform that is none.
    fn is_image(&self) -> bool {
        let is_attachment = self.annotations.contains_key("vnd.docker.reference.type");
        !is_attachment && self.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
    }
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Platform {
    fn is_default(&self) -> bool {
        self.os == "linux" && self.architecture == "amd64"
    }
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    rootfs: RootFilesystem,
}

#[derive(Deserialize)]
struct RootFilesystem {
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}
