//! Images of a registry: manifests, indexes and lists of referrers in; descriptors, platforms and what is attached out.
//!
//! Source: OCI image specification 1.1, `manifest.md`, `image-index.md`, `descriptor.md`; Docker's image manifest 2,
//! schema 2, which has the same members; cosign, `SIGNATURE_SPEC.md` and `BUNDLE_SPEC.md`, for what is attached where.
//! Invariant: no I/O. A media type says which parser reads a thing, and makes nothing trusted.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::json;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// What a reference to a part says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The part's media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What kind of artifact a manifest is; empty where it does not say.
    pub artifact_type: String,
    /// Free text; cosign keeps signatures in it.
    pub annotations: BTreeMap<String, String>,
    /// Which machines it is for, as `linux/arm64/v8`; none where it is for none.
    pub platform: Option<String>,
}

/// A manifest or an index, sound in form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// What kind of artifact it is; empty where it does not say.
    pub artifact_type: String,
    /// The manifest that it is attached to.
    pub subject: Option<Digest>,
    /// Its parts.
    pub parts: Parts,
}

/// What a manifest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// An image or another artifact: its configuration and its layers.
    Image {
        /// The configuration.
        config: Descriptor,
        /// The layers, in order.
        layers: Vec<Descriptor>,
    },
    /// An index: one manifest a platform.
    Index(Vec<Descriptor>),
}

/// A thing that is attached to an image, with the bytes that the registry gave for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// What reports call it: where it was found.
    pub name: String,
    /// Which parser reads it.
    pub kind: Kind,
    /// The annotations of its descriptor.
    pub annotations: BTreeMap<String, String>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What an attached thing is, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Sigstore bundle.
    Bundle,
    /// The payload of a cosign signature; the signature itself stands in the annotations.
    SimpleSigning,
    /// A DSSE envelope; who signed it stands in the annotations.
    Envelope,
    /// A software bill of materials.
    Sbom,
    /// A statement about vulnerabilities.
    Vex,
}

impl Kind {
    /// The kind of a layer with this media type; none where it is no evidence.
    pub fn of(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or(media_type).trim();
        match essence {
            "application/vnd.dev.cosign.simplesigning.v1+json" => Some(Self::SimpleSigning),
            "application/vnd.dsse.envelope.v1+json" => Some(Self::Envelope),
            "application/vnd.cyclonedx+json" | "application/spdx+json" | "text/spdx+json" => Some(Self::Sbom),
            "application/vnd.openvex+json" | "application/openvex+json" => Some(Self::Vex),
            bundle if bundle.starts_with("application/vnd.dev.sigstore.bundle") && bundle.ends_with("+json") => {
                Some(Self::Bundle)
            }
            _ => None,
        }
    }

    /// Whether an artifact of this type may hold evidence: one that does not say its type may hold anything.
    pub fn may_be_in(artifact_type: &str) -> bool {
        artifact_type.is_empty()
            || Self::of(artifact_type).is_some()
            || artifact_type.starts_with("application/vnd.dev.cosign.artifact.")
            || artifact_type == "application/vnd.oci.image.config.v1+json"
            || artifact_type == EMPTY
    }
}

/// The media type of the two bytes that stand in for a configuration.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

impl Manifest {
    /// Reads a manifest or an index. `served_as` is the media type that the registry gave it, which counts only where
    /// the document itself is silent.
    ///
    /// # Errors
    /// `image-malformed`, `input-too-large` or what strict JSON refuses.
    pub fn parse(bytes: &[u8], served_as: &str) -> Result<Self, Reason> {
        let wire: Wire = json::parse(bytes, Code::ImageMalformed)?;
        let media_type = if wire.media_type.is_empty() { served_as.to_owned() } else { wire.media_type };
        // A document that is both would be one thing to us and another to who runs it (CVE-2021-41190).
        let parts = match (wire.config, wire.layers, wire.manifests) {
            (Some(config), Some(layers), None) if IMAGES.contains(&media_type.as_str()) => {
                Parts::Image { config: config.read("config")?, layers: read_all(layers, "layers")? }
            }
            (None, None, Some(manifests)) if INDEXES.contains(&media_type.as_str()) => {
                Parts::Index(read_all(manifests, "manifests")?)
            }
            _ => {
                let message = format!("a document of type `{media_type}` is neither one image nor one index");
                return Err(Reason::new(Code::ImageMalformed, message).location("mediaType"));
            }
        };
        let subject = wire.subject.map(|subject| subject.read("subject")).transpose()?;
        let of_config = match &parts {
            Parts::Image { config, .. } => config.media_type.clone(),
            Parts::Index(_) => String::new(),
        };
        let artifact_type = if wire.artifact_type.is_empty() { of_config } else { wire.artifact_type };
        Ok(Self { media_type, artifact_type, subject: subject.map(|subject| subject.digest), parts })
    }

    /// The platforms that an index has manifests for, sorted; none of an image.
    pub fn platforms(&self) -> Vec<String> {
        let Parts::Index(manifests) = &self.parts else { return Vec::new() };
        let mut platforms: Vec<String> =
            manifests.iter().filter_map(|manifest| manifest.platform.clone()).filter(|name| is_real(name)).collect();
        platforms.sort();
        platforms.dedup();
        platforms
    }
}

/// BuildKit lists its attestations as images for no machine.
fn is_real(platform: &str) -> bool {
    !platform.starts_with("unknown/")
}

fn read_all(wire: Vec<WireDescriptor>, place: &str) -> Result<Vec<Descriptor>, Reason> {
    if wire.len() > limits::IMAGE_PARTS {
        let message = format!("it has more than {} {place}", limits::IMAGE_PARTS);
        return Err(Reason::new(Code::InputTooLarge, message).location(place));
    }
    wire.into_iter().enumerate().map(|(index, one)| one.read(&format!("{place}[{index}]"))).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    #[serde(default)]
    config: Option<WireDescriptor>,
    #[serde(default)]
    layers: Option<Vec<WireDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<WireDescriptor>>,
    #[serde(default)]
    subject: Option<WireDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<WirePlatform>,
}

#[derive(Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl WireDescriptor {
    fn read(self, place: &str) -> Result<Descriptor, Reason> {
        let refuse = |message: String| Reason::new(Code::ImageMalformed, message).location(place);
        let digest: Digest = self.digest.parse().map_err(|error| refuse(format!("{error}")))?;
        // Another spelling would be a second name for the same bytes.
        if digest.to_string() != self.digest {
            return Err(refuse("the digest is not lower-case hex".to_owned()));
        }
        let size = u64::try_from(self.size).map_err(|_| refuse(format!("the size {} is negative", self.size)))?;
        let platform = self.platform.map(|platform| {
            let variant = platform.variant.filter(|variant| !variant.is_empty());
            let variant = variant.map_or_else(String::new, |variant| format!("/{variant}"));
            format!("{}/{}{variant}", platform.os, platform.architecture)
        });
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size,
            artifact_type: self.artifact_type.unwrap_or_default(),
            annotations: self.annotations.unwrap_or_default(),
            platform,
        })
    }
}

/// The tag under which clients before OCI 1.1 keep what is attached to a manifest: `sha256-<hex>`, with `suffix`.
pub fn tag(digest: &Digest, suffix: &str) -> String {
    format!("{}-{}{suffix}", digest.algorithm(), digest.to_hex())
}

/// Whether a digest may name an image: what older clients cannot compute names nothing for them.
pub fn names_an_image(digest: &Digest) -> bool {
    digest.algorithm() != DigestAlgorithm::Sha384
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Kind, Manifest};
    use crate::types::{Code, Digest};

    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn parse(document: &Value) -> Result<Manifest, Code> {
        Manifest::parse(document.to_string().as_bytes(), IMAGE).map_err(|reason| reason.code.known().unwrap())
    }

    fn part() -> Value {
        json!({"mediaType": "a/b", "digest": Digest::sha256(b"x").to_string(), "size": 1})
    }

    fn for_platform(os: &str, architecture: &str, variant: &str) -> Value {
        let mut part = part();
        part["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
        part
    }

    #[test]
    fn an_index_says_its_platforms_and_not_its_attestations() {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            for_platform("linux", "arm64", "v8"), for_platform("linux", "amd64", ""), for_platform("unknown", "unknown", ""),
        ]});
        assert_eq!(parse(&index).unwrap().platforms(), ["linux/amd64", "linux/arm64/v8"]);
        let image = json!({"schemaVersion": 2, "mediaType": IMAGE, "config": part(), "layers": [part()]});
        assert!(parse(&image).unwrap().platforms().is_empty());
    }

    #[test]
    fn a_document_that_is_an_image_and_an_index_is_neither() {
        for media_type in [IMAGE, INDEX] {
            let both = json!({"mediaType": media_type, "config": part(), "layers": [], "manifests": [part()]});
            assert_eq!(parse(&both), Err(Code::ImageMalformed), "{media_type}");
        }
        let other = json!({"mediaType": INDEX, "config": part(), "layers": []});
        assert_eq!(parse(&other), Err(Code::ImageMalformed));
        assert_eq!(parse(&json!({"schemaVersion": 1, "fsLayers": []})), Err(Code::ImageMalformed));
    }

    #[test]
    fn a_descriptor_has_one_spelling_of_a_strong_digest() {
        let image = |digest: &str, size: i64| json!({"mediaType": IMAGE, "layers": [], "config": {"mediaType": "a/b", "digest": digest, "size": size}});
        let digest = Digest::sha256(b"x").to_string();
        assert!(parse(&image(&digest, 1)).is_ok());
        assert_eq!(parse(&image(&digest, -1)), Err(Code::ImageMalformed));
        let upper = digest.to_uppercase().replace("SHA256", "sha256");
        assert_eq!(parse(&image(&upper, 1)), Err(Code::ImageMalformed));
        assert_eq!(parse(&image("md5:d41d8cd98f00b204e9800998ecf8427e", 1)), Err(Code::ImageMalformed));
    }

    #[test]
    fn evidence_is_known_by_its_media_type() {
        for (media_type, kind) in [
            ("application/vnd.dev.sigstore.bundle.v0.3+json", Kind::Bundle),
            ("application/vnd.dev.sigstore.bundle+json;version=0.2", Kind::Bundle),
            ("application/vnd.dev.cosign.simplesigning.v1+json", Kind::SimpleSigning),
            ("application/vnd.dsse.envelope.v1+json", Kind::Envelope),
            ("text/spdx+json", Kind::Sbom),
        ] {
            assert_eq!(Kind::of(media_type), Some(kind), "{media_type}");
        }
        assert_eq!(Kind::of("application/vnd.oci.image.layer.v1.tar+gzip"), None);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_crash(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Manifest::parse(&bytes, INDEX);
        }
    }
}
