//! Managed public keys: PEM or DER in, a key that verifies out.
//! Invariant: a key is judged when it is read. A weak, unknown or malformed one never becomes a [`PublicKey`].

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use spki::SubjectPublicKeyInfoRef;

use crate::types::{Code, Digest, Reason, limits};

/// What a key signs with. The digest follows from the key, so that nobody can choose a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 to 8192 bits, PKCS #1 v1.5 with SHA-256.
    Rsa,
}

impl KeyAlgorithm {
    /// The name in tables and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ECDSA P-256",
            Self::EcdsaP384 => "ECDSA P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        }
    }

    const fn verifier(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::Ed25519 => &signature::ED25519,
            Self::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A public key that somebody manages: sound, strong enough and ready to verify.
#[derive(Debug, Clone)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
    fingerprint: Digest,
    key: ParsedPublicKey,
}

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl PublicKey {
    /// Reads exactly one `PUBLIC KEY` in PEM (RFC 7468), or the same in DER.
    ///
    /// # Errors
    /// `unsupported-algorithm` for anything that is not a sound key of a [`KeyAlgorithm`];
    /// `input-too-large` past [`limits::KEY_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() as u64 > limits::KEY_BYTES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a public key has at most {} bytes, this file has {}", limits::KEY_BYTES, bytes.len()),
            ));
        }
        if bytes.first() == Some(&0x30) {
            return Self::from_der(bytes);
        }
        let (label, der) = pem_rfc7468::decode_vec(bytes).map_err(|error| refused(format!("no PEM: {error}")))?;
        if label != "PUBLIC KEY" {
            return Err(refused(format!("the PEM holds a `{label}`, not a `PUBLIC KEY`")));
        }
        Self::from_der(&der)
    }

    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7), with nothing after it.
    ///
    /// # Errors
    /// `unsupported-algorithm`, as [`Self::parse`].
    pub fn from_der(der: &[u8]) -> Result<Self, Reason> {
        let info =
            SubjectPublicKeyInfoRef::from_der(der).map_err(|error| refused(format!("no public key: {error}")))?;
        let algorithm = match (info.algorithm.oid, info.algorithm.parameters) {
            (EC_PUBLIC_KEY, Some(parameters)) => match parameters.decode_as::<ObjectIdentifier>() {
                Ok(SECP256R1) => KeyAlgorithm::EcdsaP256,
                Ok(SECP384R1) => KeyAlgorithm::EcdsaP384,
                _ => return Err(refused("an elliptic curve other than P-256 and P-384")),
            },
            (ED25519, None) => KeyAlgorithm::Ed25519,
            (RSA_ENCRYPTION, _) => KeyAlgorithm::Rsa,
            (oid, _) => return Err(refused(format!("a key of algorithm {oid}"))),
        };
        let bytes = info.subject_public_key.as_bytes().ok_or_else(|| refused("a key with unused bits"))?;
        let key = ParsedPublicKey::new(algorithm.verifier(), bytes)
            .map_err(|_| refused(format!("an unsound {algorithm} key, or RSA outside 2048 to 8192 bits")))?;
        let spki = info.to_der().map_err(|error| refused(format!("no public key: {error}")))?;
        Ok(Self { algorithm, fingerprint: Digest::sha256(&spki), spki, key })
    }

    /// What it verifies with.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// SHA-256 over the SPKI in DER: the name of the key everywhere in DebVisor.
    pub const fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key in PEM, with a newline at its end.
    pub fn to_pem(&self) -> String {
        // Encoding into memory fails only for lengths that no key reaches.
        pem_rfc7468::encode_string("PUBLIC KEY", pem_rfc7468::LineEnding::LF, &self.spki).unwrap_or_default()
    }

    /// Whether `signature` over `message` is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

fn refused(message: impl Into<String>) -> Reason {
    Reason::new(Code::UnsupportedAlgorithm, message)
        .hint("give one public key in PEM (SPKI): ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits")
}
