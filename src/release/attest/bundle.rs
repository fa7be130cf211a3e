//! Sigstore bundles, written: what was signed, by whom and under which proofs in; a bundle v0.3 out.
//!
//! Source: sigstore protobuf-specs, `sigstore_bundle.proto`, in ProtoJSON. Nothing is fetched here and nothing judged;
//! whoever writes a bundle to disk first verifies it, so that none leaves that we would refuse ourselves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::key::{KeyError, PrivateKey};
use crate::release::artifact::Artifact;
use crate::release::evidence::bundle::pre_authentication_encoding;
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::statement::PAYLOAD_TYPE;
use crate::types::{Digest, DigestAlgorithm};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What is to be signed.
#[derive(Debug, Clone)]
pub enum Content {
    /// An artifact itself, by its digest; with its bytes where the key signs whole messages.
    Artifact {
        /// The digest of the algorithm that the key goes with.
        digest: Digest,
        /// The bytes, where the key needs them.
        bytes: Option<Vec<u8>>,
    },
    /// An in-toto statement, in an envelope.
    Statement {
        /// The statement's JSON.
        payload: Vec<u8>,
    },
}

/// What was signed, with its signature.
#[derive(Debug, Clone)]
pub struct Signed {
    content: Content,
    signature: Vec<u8>,
}

/// Who signed, as the bundle carries it.
#[derive(Debug, Clone)]
pub enum Author {
    /// A certificate in DER.
    Certificate(Vec<u8>),
    /// A managed key; the bundle carries a hint alone.
    Key(PublicKey),
}

/// Why something cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key signs whole messages, and the artifact is too large or is not here.
    #[error("a key of this kind signs whole messages, and only the artifact's digest is here")]
    NeedsBytes,
    /// The artifact was not hashed with the digest that the key goes with.
    #[error("the artifact has no {0} digest")]
    NeedsDigest(DigestAlgorithm),
    /// The key refused.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Content {
    /// An artifact to be signed with `key`.
    ///
    /// # Errors
    /// [`SignError::NeedsBytes`] or [`SignError::NeedsDigest`].
    pub fn artifact(artifact: &Artifact, key: &PublicKey) -> Result<Self, SignError> {
        let algorithm = key.digest().unwrap_or(DigestAlgorithm::Sha256);
        let digest = artifact.digest(algorithm).ok_or(SignError::NeedsDigest(algorithm))?.clone();
        if key.signs_whole_messages() && artifact.bytes.is_none() {
            return Err(SignError::NeedsBytes);
        }
        let bytes = key.signs_whole_messages().then(|| artifact.bytes.clone()).flatten();
        Ok(Self::Artifact { digest, bytes })
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(self, key: &PrivateKey) -> Result<Signed, SignError> {
        let signature = match &self {
            Self::Artifact { bytes: Some(bytes), .. } => key.sign(bytes)?,
            Self::Artifact { digest, bytes: None } => key.sign_digest(digest)?,
            Self::Statement { payload } => key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, payload))?,
        };
        Ok(Signed { content: self, signature })
    }
}

impl Signed {
    /// The signature, over which timestamps are taken.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// What was signed.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// The bundle in JSON, with what logs (as ProtoJSON entries) and timestamp authorities (in DER) gave for it.
    pub fn to_bundle(&self, author: &Author, entries: &[Value], timestamps: &[Vec<u8>]) -> Value {
        let mut material = match author {
            Author::Certificate(der) => json!({"certificate": {"rawBytes": STANDARD.encode(der)}}),
            // The hint that sigstore clients give: base64 over the digest of the key.
            Author::Key(key) => json!({"publicKey": {"hint": STANDARD.encode(key.fingerprint().as_bytes())}}),
        };
        if let Some(members) = material.as_object_mut() {
            if !entries.is_empty() {
                members.insert("tlogEntries".to_owned(), json!(entries));
            }
            if !timestamps.is_empty() {
                let signed = timestamps.iter().map(|der| json!({"signedTimestamp": STANDARD.encode(der)}));
                let signed: Vec<Value> = signed.collect();
                members.insert("timestampVerificationData".to_owned(), json!({"rfc3161Timestamps": signed}));
            }
        }
        let mut bundle = json!({"mediaType": MEDIA_TYPE, "verificationMaterial": material});
        let (name, content) = match &self.content {
            Content::Artifact { digest, .. } => (
                "messageSignature",
                json!({
                    "messageDigest": {
                        "algorithm": proto_name(digest.algorithm()),
                        "digest": STANDARD.encode(digest.as_bytes()),
                    },
                    "signature": STANDARD.encode(&self.signature),
                }),
            ),
            Content::Statement { payload } => ("dsseEnvelope", self.envelope(payload)),
        };
        if let Some(members) = bundle.as_object_mut() {
            members.insert(name.to_owned(), content);
        }
        bundle
    }

    fn envelope(&self, payload: &[u8]) -> Value {
        json!({
            "payload": STANDARD.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(&self.signature)}],
        })
    }
}

/// `sigstore_common.proto`, `HashAlgorithm`.
pub const fn proto_name(algorithm: DigestAlgorithm) -> &'static str {
    match algorithm {
        DigestAlgorithm::Sha256 => "SHA2_256",
        DigestAlgorithm::Sha384 => "SHA2_384",
        DigestAlgorithm::Sha512 => "SHA2_512",
    }
}
