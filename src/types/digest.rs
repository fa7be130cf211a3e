//! Digests: an algorithm and its bytes, of exactly the right length.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The digest algorithms that may name an artifact. SHA-1 and MD5 have no variant: nothing is bound by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DigestAlgorithm {
    /// SHA-256 (FIPS 180-4), 32 bytes.
    Sha256,
    /// SHA-384 (FIPS 180-4), 48 bytes.
    Sha384,
    /// SHA-512 (FIPS 180-4), 64 bytes.
    Sha512,
}

impl DigestAlgorithm {
    /// The algorithm's name as in-toto's digest sets and our own `ALGORITHM:HEX` notation spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest of this algorithm, in bytes.
    pub const fn length_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm with this in-toto name, or nothing: unknown names bind nothing.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha384" => Some(Self::Sha384),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Hashes `bytes` that are already in memory.
    pub fn hash(self, bytes: &[u8]) -> Digest {
        use sha2::Digest as _;
        let bytes = match self {
            Self::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
            Self::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
        };
        Digest { algorithm: self, bytes }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One digest; its length always fits its algorithm. Written `sha256:<64 hex>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: DigestAlgorithm,
    bytes: Vec<u8>,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `ALGORITHM:` in front, or one that binds nothing.
    #[error("`{0}` names no digest algorithm that is accepted (sha256, sha384, sha512)")]
    Algorithm(String),
    /// The hexadecimal part is not hexadecimal.
    #[error("the digest is not hexadecimal")]
    Hex,
    /// The digest has the length of another algorithm.
    #[error("a {algorithm} digest has {expected} bytes, not {actual}")]
    Length {
        /// What the text claims to be.
        algorithm: DigestAlgorithm,
        /// The length that the algorithm has, in bytes.
        expected: usize,
        /// The length found, in bytes.
        actual: usize,
    },
}

impl Digest {
    /// A digest from raw bytes; refused unless the length is the algorithm's.
    ///
    /// # Errors
    /// [`DigestError::Length`] where it is not.
    pub fn new(algorithm: DigestAlgorithm, bytes: &[u8]) -> Result<Self, DigestError> {
        if bytes.len() != algorithm.length_bytes() {
            return Err(DigestError::Length { algorithm, expected: algorithm.length_bytes(), actual: bytes.len() });
        }
        Ok(Self { algorithm, bytes: bytes.to_vec() })
    }

    /// A digest from hexadecimal text of either case.
    ///
    /// # Errors
    /// [`DigestError::Hex`] or [`DigestError::Length`].
    pub fn from_hex(algorithm: DigestAlgorithm, text: &str) -> Result<Self, DigestError> {
        let bytes = hex::decode(text).map_err(|_| DigestError::Hex)?;
        Self::new(algorithm, &bytes)
    }

    /// SHA-256 of bytes in memory.
    pub fn sha256(bytes: &[u8]) -> Self {
        DigestAlgorithm::Sha256.hash(bytes)
    }

    /// Which algorithm made it.
    pub const fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The raw digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lower-case hexadecimal, without the algorithm.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.bytes)
    }
}

/// Bytes of the longest digest.
const LONGEST: usize = DigestAlgorithm::Sha512.length_bytes();

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one go: `hex` makes a string character by character, and lists have thousands of digests.
        let mut room = [0; 2 * LONGEST];
        let hex = room.get_mut(..2 * self.bytes.len()).ok_or(fmt::Error)?;
        hex::encode_to_slice(&self.bytes, hex).map_err(|_| fmt::Error)?;
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        f.write_str(str::from_utf8(hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, hex) = text.split_once(':').ok_or_else(|| DigestError::Algorithm(text.to_owned()))?;
        let algorithm = DigestAlgorithm::from_name(name).ok_or_else(|| DigestError::Algorithm(name.to_owned()))?;
        Self::from_hex(algorithm, hex)
    }
}

impl PartialSchema for Digest {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A digest: the algorithm, and its bytes in hexadecimal."))
            .pattern(Some("^(sha256:[0-9a-fA-F]{64}|sha384:[0-9a-fA-F]{96}|sha512:[0-9a-fA-F]{128})$"))
            .max_length(Some(135))
            .into()
    }
}

impl ToSchema for Digest {
    fn name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
