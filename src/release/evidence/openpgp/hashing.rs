//! An artifact's bytes and the signatures over it in, the digest that each signature signs out.
//! The artifact streams by once, whatever the number of signatures. Invariant: weak algorithms are not computed.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{self, Context};
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::packet::signature::subpacket::SubpacketArea;
use sequoia_openpgp::serialize::MarshalInto as _;
use sequoia_openpgp::types::HashAlgorithm;

use super::DetachedSignatures;
use crate::release::artifact::Sink;
use crate::types::{Digest, DigestAlgorithm};

/// What the artifact is hashed under: the algorithm's number, and the salt that version 6 puts in front.
type StreamKey = (u8, Vec<u8>);

/// Hashes an artifact for any number of signature files while it streams by once.
pub struct ArtifactHasher {
    streams: BTreeMap<StreamKey, Context>,
}

impl ArtifactHasher {
    /// A hasher for every signature of these files.
    pub fn new<'a>(files: impl IntoIterator<Item = &'a DetachedSignatures>) -> Self {
        let mut streams = BTreeMap::new();
        for signature in files.into_iter().flat_map(DetachedSignatures::iter) {
            let (Some(key), Some(algorithm)) = (stream_key(signature), strong(signature.hash_algo())) else { continue };
            streams.entry(key).or_insert_with_key(|(_, salt)| {
                let mut context = Context::new(algorithm);
                context.update(salt);
                context
            });
        }
        Self { streams }
    }

    /// What was computed, once the artifact has gone by.
    pub fn finish(self) -> ArtifactHashes {
        ArtifactHashes { streams: self.streams }
    }
}

impl Sink for ArtifactHasher {
    fn update(&mut self, bytes: &[u8]) {
        for context in self.streams.values_mut() {
            context.update(bytes);
        }
    }
}

/// An artifact's hash states, which each signature completes with its own trailer.
#[derive(Clone)]
pub struct ArtifactHashes {
    streams: BTreeMap<StreamKey, Context>,
}

impl ArtifactHashes {
    /// The artifact's plain digest, where the signatures made it a by-product: no need to hash for it again.
    pub fn digest(&self, algorithm: DigestAlgorithm) -> Option<Digest> {
        let id = match algorithm {
            DigestAlgorithm::Sha256 => HashAlgorithm::SHA256,
            DigestAlgorithm::Sha384 => HashAlgorithm::SHA384,
            DigestAlgorithm::Sha512 => HashAlgorithm::SHA512,
        };
        let context = self.streams.get(&(u8::from(id), Vec::new()))?.clone();
        Digest::new(algorithm, context.finish().as_ref()).ok()
    }

    /// The digest that this signature has to fit: the artifact, then the signature's own authenticated fields
    /// (RFC 9580, section 5.2.4). None where its algorithm may not be used, or the artifact was not hashed for it.
    pub(in crate::release) fn signed_digest(&self, signature: &Signature) -> Option<Vec<u8>> {
        let mut context = self.streams.get(&stream_key(signature)?)?.clone();
        context.update(&trailer(signature)?);
        Some(context.finish().as_ref().to_vec())
    }
}

impl fmt::Debug for ArtifactHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtifactHashes").field("streams", &self.streams.keys()).finish()
    }
}

/// Whether a signature over an artifact may use this algorithm: collision resistance of 128 bits or more
/// (NIST SP 800-57, table 3). SHA-1, MD5, RIPEMD-160 and SHA-224 have less.
pub(in crate::release) fn is_strong(algorithm: HashAlgorithm) -> bool {
    strong(algorithm).is_some()
}

/// The strong algorithms, by AWS-LC: its SHA-512 takes two thirds of the time of the one that sequoia links.
fn strong(algorithm: HashAlgorithm) -> Option<&'static digest::Algorithm> {
    match algorithm {
        HashAlgorithm::SHA256 => Some(&digest::SHA256),
        HashAlgorithm::SHA384 => Some(&digest::SHA384),
        HashAlgorithm::SHA512 => Some(&digest::SHA512),
        HashAlgorithm::SHA3_256 => Some(&digest::SHA3_256),
        HashAlgorithm::SHA3_512 => Some(&digest::SHA3_512),
        _ => None,
    }
}

fn stream_key(signature: &Signature) -> Option<StreamKey> {
    let salt = match signature {
        Signature::V4(_) => Vec::new(),
        Signature::V6(signature) => signature.salt().to_vec(),
        _ => return None,
    };
    Some((u8::from(signature.hash_algo()), salt))
}

fn trailer(signature: &Signature) -> Option<Vec<u8>> {
    let area: &SubpacketArea = signature.hashed_area();
    let area = area.to_vec().ok()?;
    let version = signature.version();
    let algorithms = [u8::from(signature.pk_algo()), u8::from(signature.hash_algo())];
    let mut bytes = vec![version, u8::from(signature.typ())];
    bytes.extend(algorithms);
    match version {
        4 => bytes.extend(u16::try_from(area.len()).ok()?.to_be_bytes()),
        6 => bytes.extend(u32::try_from(area.len()).ok()?.to_be_bytes()),
        _ => return None,
    }
    bytes.extend(area);
    let length = u32::try_from(bytes.len()).ok()?;
    bytes.extend([version, 0xff]);
    bytes.extend(length.to_be_bytes());
    Some(bytes)
}
