//! An artifact's bytes and the signatures over it in, the hash states that each signature completes out.
//! The artifact streams by once, whatever the number of signatures. Invariant: weak algorithms are not computed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use sequoia_openpgp::crypto::hash::Context;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::types::HashAlgorithm;

use super::DetachedSignatures;
use crate::release::artifact::Sink;
use crate::types::{Digest, DigestAlgorithm};

/// What the artifact is hashed under: the signature's version, the algorithm's number, and version 6's salt in front.
type StreamKey = (u8, u8, Vec<u8>);

/// Hashes an artifact for any number of signature files while it streams by once.
pub struct ArtifactHasher {
    streams: BTreeMap<StreamKey, Context>,
}

impl ArtifactHasher {
    /// A hasher for every signature of these files.
    pub fn new<'a>(files: impl IntoIterator<Item = &'a DetachedSignatures>) -> Self {
        let mut streams = BTreeMap::new();
        for signature in files.into_iter().flat_map(DetachedSignatures::iter) {
            let Some(key) = stream_key(signature) else { continue };
            if let Entry::Vacant(entry) = streams.entry(key)
                && let Ok(builder) = signature.hash_algo().context()
            {
                let mut context = builder.for_signature(signature.version());
                context.update(&entry.key().2);
                entry.insert(context);
            }
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
    /// Whether every signature that this hasher was made for can be completed with what is here.
    pub fn answer(&self, asked: &ArtifactHasher) -> bool {
        asked.streams.keys().all(|key| self.streams.contains_key(key))
    }

    /// The artifact's plain digest, where the signatures made it a by-product: no need to hash for it again.
    pub fn digest(&self, algorithm: DigestAlgorithm) -> Option<Digest> {
        let id = match algorithm {
            DigestAlgorithm::Sha256 => HashAlgorithm::SHA256,
            DigestAlgorithm::Sha384 => HashAlgorithm::SHA384,
            DigestAlgorithm::Sha512 => HashAlgorithm::SHA512,
        };
        let context = self.streams.get(&(4, u8::from(id), Vec::new()))?.clone();
        Digest::new(algorithm, &context.into_digest().ok()?).ok()
    }

    /// The state that this signature completes with its own authenticated fields (RFC 9580, section 5.2.4).
    /// None where its algorithm may not be used, or the artifact was not hashed for it.
    pub(in crate::release) fn context(&self, signature: &Signature) -> Option<Context> {
        self.streams.get(&stream_key(signature)?).cloned()
    }
}

impl fmt::Debug for ArtifactHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtifactHashes").field("streams", &self.streams.keys()).finish()
    }
}

/// Whether a signature over an artifact may use this algorithm: collision resistance of 128 bits or more
/// (NIST SP 800-57, table 3). SHA-1, MD5, RIPEMD-160 and SHA-224 have less.
pub(in crate::release) const fn is_strong(algorithm: HashAlgorithm) -> bool {
    matches!(
        algorithm,
        HashAlgorithm::SHA256
            | HashAlgorithm::SHA384
            | HashAlgorithm::SHA512
            | HashAlgorithm::SHA3_256
            | HashAlgorithm::SHA3_512
    )
}

fn stream_key(signature: &Signature) -> Option<StreamKey> {
    let salt = match signature {
        Signature::V4(_) => Vec::new(),
        Signature::V6(signature) => signature.salt().to_vec(),
        _ => return None,
    };
    let algorithm = signature.hash_algo();
    is_strong(algorithm).then(|| (signature.version(), u8::from(algorithm), salt))
}
