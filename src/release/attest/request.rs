//! Requests to services, written: a key's certificate request, a log's proposed entry.
//!
//! Source: PKCS #10 (RFC 2986); rekor's types; rekor-tiles' `CreateEntryRequest`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use const_oid::db::rfc5912;
use der::asn1::BitString;
use der::{Decode as _, Encode as _};
use pem_rfc7468::LineEnding;
use serde_json::{Value, json};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, Version};

use super::bundle::{Author, Content, Signed};
use super::key::PrivateKey;
use crate::release::evidence::bundle::pre_authentication_encoding;
use crate::release::evidence::key::KeyKind;
use crate::release::evidence::statement::PAYLOAD_TYPE;
use crate::types::DigestAlgorithm;

/// Why a request could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The key refused.
    #[error(transparent)]
    Key(#[from] super::key::KeyError),
    /// Something had no form in DER.
    #[error("the request cannot be encoded: {0}")]
    Der(#[from] der::Error),
    /// Something had no form in PEM.
    #[error("the request cannot be encoded: {0}")]
    Pem(#[from] pem_rfc7468::Error),
    /// The key is of a kind that the service does not take.
    #[error("the service does not take keys of kind {0:?}")]
    Kind(KeyKind),
}

/// A certificate request for an ephemeral P-256 key, in PEM. It names nobody: the identity comes from the token.
///
/// # Errors
/// [`RequestError`].
pub fn certificate_request(key: &PrivateKey) -> Result<String, RequestError> {
    if key.kind() != KeyKind::P256 {
        return Err(RequestError::Kind(key.kind()));
    }
    let info = CertReqInfo {
        version: Version::V1,
        subject: Name::default(),
        public_key: SubjectPublicKeyInfoOwned::from_der(key.public_key_spki())?,
        attributes: Default::default(),
    };
    let signature = key.sign(&info.to_der()?)?;
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned { oid: rfc5912::ECDSA_WITH_SHA_256, parameters: None },
        signature: BitString::from_bytes(&signature)?,
    };
    Ok(pem_rfc7468::encode_string("CERTIFICATE REQUEST", LineEnding::LF, &request.to_der()?)?)
}

fn verifier_pem(author: &Author) -> Result<String, RequestError> {
    let (label, der) = match author {
        Author::Certificate(der) => ("CERTIFICATE", der.as_slice()),
        Author::Key(key) => ("PUBLIC KEY", key.spki()),
    };
    Ok(pem_rfc7468::encode_string(label, LineEnding::LF, der)?)
}

/// The entry that a log of version 1 is asked to add: `hashedrekord` or `dsse`, both 0.0.1.
///
/// # Errors
/// [`RequestError`].
pub fn entry_v1(signed: &Signed, author: &Author) -> Result<Value, RequestError> {
    let verifier = STANDARD.encode(verifier_pem(author)?);
    Ok(match signed.content() {
        Content::Artifact { digest, .. } => json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": {"algorithm": digest.algorithm().name(), "value": digest.to_hex()}},
                "signature": {
                    "content": STANDARD.encode(signed.signature()),
                    "publicKey": {"content": verifier},
                },
            },
        }),
        Content::Statement { payload } => {
            let envelope = json!({
                "payload": STANDARD.encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": STANDARD.encode(signed.signature())}],
            });
            json!({
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {"proposedContent": {"envelope": envelope.to_string(), "verifiers": [verifier]}},
            })
        }
    })
}

/// The request that a log of version 2 is sent: `hashedrekord` 0.0.2, over an envelope's pre-authentication encoding
/// where there is an envelope.
///
/// # Errors
/// [`RequestError`].
pub fn entry_v2(signed: &Signed, author: &Author, kind: KeyKind) -> Result<Value, RequestError> {
    let details = match kind {
        KeyKind::P256 => "PKIX_ECDSA_P256_SHA_256",
        KeyKind::P384 => "PKIX_ECDSA_P384_SHA_384",
        KeyKind::P521 => "PKIX_ECDSA_P521_SHA_512",
        KeyKind::Rsa => "PKIX_RSA_PKCS1V15_2048_SHA256",
        KeyKind::Ed25519 => return Err(RequestError::Kind(kind)),
    };
    // An envelope is hashed with the digest that the key goes with, as its signature is.
    let digest = match signed.content() {
        Content::Artifact { digest, .. } => digest.clone(),
        Content::Statement { payload } => digest_of(kind).hash(&pre_authentication_encoding(PAYLOAD_TYPE, payload)),
    };
    let verifier = match author {
        Author::Certificate(der) => {
            json!({"x509Certificate": {"rawBytes": STANDARD.encode(der)}, "keyDetails": details})
        }
        Author::Key(key) => json!({"publicKey": {"rawBytes": STANDARD.encode(key.spki())}, "keyDetails": details}),
    };
    Ok(json!({
        "hashedRekordRequestV002": {
            "digest": STANDARD.encode(digest.as_bytes()),
            "signature": {"content": STANDARD.encode(signed.signature()), "verifier": verifier},
        },
    }))
}

const fn digest_of(kind: KeyKind) -> DigestAlgorithm {
    match kind {
        KeyKind::P384 => DigestAlgorithm::Sha384,
        KeyKind::P521 => DigestAlgorithm::Sha512,
        KeyKind::P256 | KeyKind::Rsa | KeyKind::Ed25519 => DigestAlgorithm::Sha256,
    }
}
