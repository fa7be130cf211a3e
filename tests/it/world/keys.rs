//! Key pairs of every kind that signs in this world. Keys live in memory only; none is ever written to disk.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use sha2::{Digest as _, Sha256};

use super::asn1;

/// A key pair with its public half in DER.
#[derive(Debug)]
pub(crate) struct Key {
    pair: Pair,
    spki: Vec<u8>,
}

#[derive(Debug)]
enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    pub(crate) fn p256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = spki(&[&asn1::oid(asn1::EC_PUBLIC_KEY), &asn1::oid(asn1::P256)], pair.public_key().as_ref());
        Self { pair: Pair::P256(pair), spki }
    }

    pub(crate) fn p384() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let spki = spki(&[&asn1::oid(asn1::EC_PUBLIC_KEY), &asn1::oid(asn1::P384)], pair.public_key().as_ref());
        Self { pair: Pair::P384(pair), spki }
    }

    pub(crate) fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki = spki(&[&asn1::oid(asn1::ED25519)], pair.public_key().as_ref());
        Self { pair: Pair::Ed25519(pair), spki }
    }

    pub(crate) fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self { pair: Pair::Rsa(Box::new(pair)), spki }
    }

    /// Signs with the hash that belongs to the key: SHA-384 for P-384, SHA-256 for P-256 and RSA.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The public key as SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key in PEM.
    pub(crate) fn pem(&self) -> String {
        pem_rfc7468::encode_string("PUBLIC KEY", pem_rfc7468::LineEnding::LF, &self.spki).unwrap()
    }

    /// SHA-256 over the SPKI, by which logs name their keys.
    pub(crate) fn id(&self) -> [u8; 32] {
        Sha256::digest(&self.spki).into()
    }

    /// The raw point of an Ed25519 key.
    pub(crate) fn raw(&self) -> &[u8] {
        match &self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// The X.509 AlgorithmIdentifier of this key's signatures.
    pub(crate) fn signature_algorithm(&self) -> Vec<u8> {
        match &self.pair {
            Pair::P256(_) => asn1::sequence(&[&asn1::oid(asn1::ECDSA_SHA256)]),
            Pair::P384(_) => asn1::sequence(&[&asn1::oid(asn1::ECDSA_SHA384)]),
            Pair::Ed25519(_) => asn1::sequence(&[&asn1::oid(asn1::ED25519)]),
            Pair::Rsa(_) => asn1::sequence(&[&asn1::oid(asn1::RSA_SHA256), &asn1::null()]),
        }
    }

    /// Sigstore's name for key and signature together (protobuf-specs, PublicKeyDetails).
    pub(crate) fn details(&self) -> &'static str {
        match &self.pair {
            Pair::P256(_) => "PKIX_ECDSA_P256_SHA_256",
            Pair::P384(_) => "PKIX_ECDSA_P384_SHA_384",
            Pair::Ed25519(_) => "PKIX_ED25519",
            Pair::Rsa(_) => "PKIX_RSA_PKCS1V15_2048_SHA256",
        }
    }

    /// Whether this key signs over SHA-384.
    pub(crate) fn is_p384(&self) -> bool {
        matches!(self.pair, Pair::P384(_))
    }
}

fn spki(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::sequence(algorithm), &asn1::bit_string(key)])
}
