//! Public keys and bare signature checks: SPKI or PEM in, "this key signed these bytes" out.
//! Whether a key is to be believed is not decided here.

use std::fmt;

use aws_lc_rs::digest as aws_digest;
use aws_lc_rs::signature::{self as algorithms, ParsedPublicKey, VerificationAlgorithm};
use der::Decode as _;
use spki::SubjectPublicKeyInfoRef;

use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// The kinds of key that may sign. Everything else is refused when the key is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA over NIST P-256.
    P256,
    /// ECDSA over NIST P-384.
    P384,
    /// ECDSA over NIST P-521.
    P521,
    /// Ed25519 (RFC 8032), over the message itself.
    Ed25519,
    /// RSA of 2048 bits or more, PKCS #1 v1.5.
    Rsa,
}

/// A public key that can check signatures. Parsed once; checking is cheap to repeat.
#[derive(Clone)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
    /// Parsed for the key's own digest, which nearly every signature uses.
    parsed: ParsedPublicKey,
}

/// A signature did not fit. The library says no more, and neither may we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit")]
pub struct SignatureInvalid;

impl PublicKey {
    /// Reads a key from SPKI in DER (RFC 5280 section 4.1).
    ///
    /// # Errors
    /// `unsupported-algorithm` where it is no key of a kind that may sign.
    pub fn from_spki(spki: &[u8]) -> Result<Self, Reason> {
        let refuse = |message: &str| Reason::new(Code::UnsupportedAlgorithm, message);
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| refuse("the public key is not SPKI in DER"))?;
        let kind = kind_of(&info)
            .ok_or_else(|| refuse(&format!("a public key of algorithm {} may not sign", info.algorithm.oid)))?;
        let parsed =
            ParsedPublicKey::new(algorithm(kind, default_digest(kind)).ok_or_else(|| refuse("no such key"))?, spki)
                .map_err(|_| refuse("the public key is malformed, or RSA under 2048 bits"))?;
        // The library checks an RSA modulus only when it checks a signature; a short one must not get that far.
        if kind == KeyKind::Rsa && !rsa_is_long_enough(&info) {
            return Err(refuse("an RSA key under 2048 bits may not sign"));
        }
        Ok(Self { spki: spki.to_vec(), kind, parsed })
    }

    /// Reads an RSA key in the bare PKCS #1 form (RFC 8017 appendix A.1.1), which old CT logs have in trust roots.
    ///
    /// # Errors
    /// `unsupported-algorithm`.
    pub fn from_pkcs1(der: &[u8]) -> Result<Self, Reason> {
        use der::Encode as _;
        use der::asn1::{AnyRef, BitStringRef};
        let refuse = || Reason::new(Code::UnsupportedAlgorithm, "the public key is not RSA in DER");
        let info = SubjectPublicKeyInfoRef {
            algorithm: spki::AlgorithmIdentifierRef {
                oid: const_oid::db::rfc5912::RSA_ENCRYPTION,
                parameters: Some(AnyRef::NULL),
            },
            subject_public_key: BitStringRef::from_bytes(der).map_err(|_| refuse())?,
        };
        Self::from_spki(&info.to_der().map_err(|_| refuse())?)
    }

    /// Reads a key from PEM with the label `PUBLIC KEY` (RFC 7468 section 13).
    ///
    /// # Errors
    /// `unsupported-algorithm`, also where it is no PEM.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Reason> {
        if pem.len() as u64 > limits::KEY_BYTES {
            return Err(Reason::new(Code::InputTooLarge, format!("a key has at most {} bytes", limits::KEY_BYTES)));
        }
        match pem_rfc7468::decode_vec(pem) {
            Ok(("PUBLIC KEY", der)) => Self::from_spki(&der),
            Ok(("RSA PUBLIC KEY", der)) => Self::from_pkcs1(&der),
            Ok((label, _)) => Err(Reason::new(
                Code::UnsupportedAlgorithm,
                format!("the PEM holds a {label}, where a PUBLIC KEY is needed"),
            )),
            Err(error) => {
                Err(Reason::new(Code::UnsupportedAlgorithm, format!("the key is not PEM with one PUBLIC KEY: {error}")))
            }
        }
    }

    /// The key in SPKI DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key in PEM, with a newline at its end.
    pub fn to_pem(&self) -> String {
        // Encoding into memory fails only for lengths that no key reaches.
        pem_rfc7468::encode_string("PUBLIC KEY", pem_rfc7468::LineEnding::LF, &self.spki).unwrap_or_default()
    }

    /// What kind of key it is.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// `sha256:<hex>` over the SPKI: how reports name a key.
    pub fn fingerprint(&self) -> Digest {
        Digest::sha256(&self.spki)
    }

    /// Checks a signature over `message` with the digest that the key's kind goes with.
    ///
    /// # Errors
    /// [`SignatureInvalid`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureInvalid> {
        self.parsed.verify_sig(message, signature).map_err(|_| SignatureInvalid)
    }

    /// Checks a signature over `message` that was hashed with `digest`. Ed25519 has no digest of its own to choose.
    ///
    /// # Errors
    /// [`SignatureInvalid`], also where the kind of key does not go with that digest.
    pub fn verify_with(
        &self,
        digest: DigestAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        if default_digest(self.kind) == Some(digest) {
            return self.verify(message, signature);
        }
        let algorithm = algorithm(self.kind, Some(digest)).ok_or(SignatureInvalid)?;
        algorithm.verify_sig(&self.spki, message, signature).map_err(|_| SignatureInvalid)
    }

    /// Checks a signature over a message of which only the digest is known.
    ///
    /// # Errors
    /// [`SignatureInvalid`], also where the kind of key needs the message itself ([`Self::signs_whole_messages`]).
    pub fn verify_digest(&self, digest: &Digest, signature: &[u8]) -> Result<(), SignatureInvalid> {
        let algorithm = digest.algorithm();
        let imported = match algorithm {
            DigestAlgorithm::Sha256 => aws_digest::Digest::import_less_safe(digest.as_bytes(), &aws_digest::SHA256),
            DigestAlgorithm::Sha384 => aws_digest::Digest::import_less_safe(digest.as_bytes(), &aws_digest::SHA384),
            DigestAlgorithm::Sha512 => aws_digest::Digest::import_less_safe(digest.as_bytes(), &aws_digest::SHA512),
        }
        .map_err(|_| SignatureInvalid)?;
        let checked = if default_digest(self.kind) == Some(algorithm) {
            self.parsed.verify_digest_sig(&imported, signature)
        } else {
            let other = self::algorithm(self.kind, Some(algorithm)).ok_or(SignatureInvalid)?;
            other.verify_digest_sig(&self.spki, &imported, signature)
        };
        checked.map_err(|_| SignatureInvalid)
    }

    /// Whether this kind of key signs the message and not its digest.
    pub const fn signs_whole_messages(&self) -> bool {
        matches!(self.kind, KeyKind::Ed25519)
    }

    /// The digest that goes with this kind of key, where it has one.
    pub const fn digest(&self) -> Option<DigestAlgorithm> {
        default_digest(self.kind)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.fingerprint())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

fn kind_of(info: &SubjectPublicKeyInfoRef<'_>) -> Option<KeyKind> {
    use const_oid::db::{rfc5912, rfc8410};
    match info.algorithm.oid {
        rfc5912::RSA_ENCRYPTION => Some(KeyKind::Rsa),
        rfc8410::ID_ED_25519 => Some(KeyKind::Ed25519),
        rfc5912::ID_EC_PUBLIC_KEY => match info.algorithm.parameters_oid().ok()? {
            rfc5912::SECP_256_R_1 => Some(KeyKind::P256),
            rfc5912::SECP_384_R_1 => Some(KeyKind::P384),
            rfc5912::SECP_521_R_1 => Some(KeyKind::P521),
            _ => None,
        },
        _ => None,
    }
}

const fn default_digest(kind: KeyKind) -> Option<DigestAlgorithm> {
    match kind {
        KeyKind::P256 | KeyKind::Rsa => Some(DigestAlgorithm::Sha256),
        KeyKind::P384 => Some(DigestAlgorithm::Sha384),
        KeyKind::P521 => Some(DigestAlgorithm::Sha512),
        KeyKind::Ed25519 => None,
    }
}

fn algorithm(kind: KeyKind, digest: Option<DigestAlgorithm>) -> Option<&'static dyn VerificationAlgorithm> {
    use DigestAlgorithm::{Sha256, Sha384, Sha512};
    Some(match (kind, digest) {
        (KeyKind::P256, Some(Sha256)) => &algorithms::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, Some(Sha384)) => &algorithms::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, Some(Sha512)) => &algorithms::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, Some(Sha256)) => &algorithms::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, Some(Sha384)) => &algorithms::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P384, Some(Sha512)) => &algorithms::ECDSA_P384_SHA512_ASN1,
        (KeyKind::P521, Some(Sha256)) => &algorithms::ECDSA_P521_SHA256_ASN1,
        (KeyKind::P521, Some(Sha384)) => &algorithms::ECDSA_P521_SHA384_ASN1,
        (KeyKind::P521, Some(Sha512)) => &algorithms::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Rsa, Some(Sha256)) => &algorithms::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa, Some(Sha384)) => &algorithms::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa, Some(Sha512)) => &algorithms::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Ed25519, None) => &algorithms::ED25519,
        _ => return None,
    })
}

fn rsa_is_long_enough(info: &SubjectPublicKeyInfoRef<'_>) -> bool {
    #[derive(der::Sequence)]
    struct RsaPublicKey<'a> {
        modulus: der::asn1::UintRef<'a>,
        exponent: der::asn1::UintRef<'a>,
    }
    let bytes = info.subject_public_key.raw_bytes();
    RsaPublicKey::from_der(bytes).is_ok_and(|key| {
        let modulus = key.modulus.as_bytes();
        // A DER integer of this form has no leading zero bytes, so the first byte decides the odd bits.
        let leading_zeros = modulus.first().map_or(8, |byte| byte.leading_zeros() as usize);
        modulus.len().saturating_mul(8) >= 2048 + leading_zeros
    })
}
