//! Bodies of Rekor entries: the canonical JSON of a leaf in, what the log wrote down out.
//!
//! Source: rekor's types hashedrekord 0.0.1, dsse 0.0.1, intoto 0.0.1 and 0.0.2; rekor-tiles' hashedrekord 0.0.2 and
//! dsse 0.0.2.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;

use super::bundle::LogEntry;
use super::json::{self, base64_bytes};
use crate::types::{Code, Digest, DigestAlgorithm, Reason};

/// What the log wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedBody {
    /// Which bytes the digest is over.
    pub covers: Covers,
    /// The digest.
    pub digest: Digest,
    /// The payload's type, where the entry names it.
    pub payload_type: Option<String>,
    /// The signatures, each with its verifier. `intoto` 0.0.1 names the verifier alone.
    pub signatures: Vec<LoggedSignature>,
}

/// Which bytes a log entry's digest is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    /// The bytes that were signed: the artifact, or an envelope's pre-authentication encoding.
    Signed,
    /// An envelope's payload.
    Payload,
}

/// A signature in a log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedSignature {
    /// The signature, where the entry keeps it.
    pub signature: Option<Vec<u8>>,
    /// Who is said to have made it.
    pub verifier: LoggedVerifier,
    /// The kind of key and signature, by its name in protobuf-specs' `PublicKeyDetails`; rekor v2 writes it.
    pub key_details: Option<String>,
}

/// Who is said to have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedVerifier {
    /// A certificate in DER.
    Certificate(Vec<u8>),
    /// A public key, SPKI in DER.
    PublicKey(Vec<u8>),
}

impl LoggedBody {
    /// Reads the body of an entry. Its own kind and version must be the ones that the bundle says.
    ///
    /// # Errors
    /// `log-entry-malformed`, `log-entry-mismatch`, or what strict JSON refuses.
    pub fn parse(entry: &LogEntry) -> Result<Self, Reason> {
        let head: Head = json::parse(&entry.body, Code::LogEntryMalformed)?;
        if head.kind != entry.kind || head.api_version != entry.version {
            return Err(Reason::new(
                Code::LogEntryMismatch,
                format!(
                    "the entry is said to be {}/{} and its body is {}/{}",
                    entry.kind, entry.version, head.kind, head.api_version
                ),
            ));
        }
        // The document was walked once, above; the rest is shape.
        let body = entry.body.as_slice();
        match (entry.kind.as_str(), entry.version.as_str()) {
            ("hashedrekord", "0.0.1") => spec::<HashedRekord>(body)?.read(),
            ("hashedrekord", "0.0.2") => spec::<HashedRekord2>(body)?.hashed_rekord_v002.read(),
            ("dsse", "0.0.1") => spec::<Dsse>(body)?.read(),
            ("dsse", "0.0.2") => spec::<Dsse2>(body)?.dsse_v002.read(),
            ("intoto", "0.0.1") => spec::<Intoto1>(body)?.read(),
            ("intoto", "0.0.2") => spec::<Intoto2>(body)?.read(),
            (kind, version) => Err(malformed(format!("entries of kind {kind}/{version} are not known"))),
        }
    }
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::LogEntryMalformed, message)
}

fn spec<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Reason> {
    #[derive(Deserialize)]
    struct Body<T> {
        spec: T,
    }
    serde_json::from_slice::<Body<T>>(body)
        .map(|body| body.spec)
        .map_err(|error| malformed(format!("the entry's body has not the form of its kind: {error}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: String,
    api_version: String,
}

/// A digest as rekor v1 writes it: the algorithm's name and hex.
#[derive(Deserialize)]
struct HexHash {
    algorithm: String,
    value: String,
}

impl HexHash {
    fn read(&self) -> Result<Digest, Reason> {
        let algorithm = DigestAlgorithm::from_name(&self.algorithm).ok_or_else(|| {
            Reason::new(Code::UnsupportedAlgorithm, format!("the log entry's digest is {}", self.algorithm))
        })?;
        Digest::from_hex(algorithm, &self.value).map_err(|error| malformed(error.to_string()))
    }
}

/// A digest as rekor v2 writes it: the enumeration's name and base64.
#[derive(Deserialize)]
struct ProtoHash {
    algorithm: String,
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    digest: Vec<u8>,
}

impl ProtoHash {
    fn read(&self) -> Result<Digest, Reason> {
        let algorithm = match self.algorithm.as_str() {
            "SHA2_256" => DigestAlgorithm::Sha256,
            "SHA2_384" => DigestAlgorithm::Sha384,
            "SHA2_512" => DigestAlgorithm::Sha512,
            other => {
                return Err(Reason::new(Code::UnsupportedAlgorithm, format!("the log entry's digest is {other}")));
            }
        };
        Digest::new(algorithm, &self.digest).map_err(|error| malformed(error.to_string()))
    }
}

/// A certificate or key as rekor v1 writes it: base64 over PEM. Entries hold PEM of every line length, which Go
/// reads and RFC 7468 does not.
fn verifier_from_pem(pem: &[u8]) -> Result<LoggedVerifier, Reason> {
    if let Ok(certificate) = CertificateDer::from_pem_slice(pem) {
        return Ok(LoggedVerifier::Certificate(certificate.to_vec()));
    }
    SubjectPublicKeyInfoDer::from_pem_slice(pem)
        .map(|key| LoggedVerifier::PublicKey(key.to_vec()))
        .map_err(|_| malformed("the entry's verifier is neither a certificate nor a public key in PEM"))
}

/// A certificate or key as rekor v2 writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProtoVerifier {
    key_details: String,
    #[serde(default)]
    x509_certificate: Option<RawBytes>,
    #[serde(default)]
    public_key: Option<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    raw_bytes: Vec<u8>,
}

impl ProtoVerifier {
    fn read(self) -> Result<LoggedVerifier, Reason> {
        match (self.x509_certificate, self.public_key) {
            (Some(certificate), None) => Ok(LoggedVerifier::Certificate(certificate.raw_bytes)),
            (None, Some(key)) => Ok(LoggedVerifier::PublicKey(key.raw_bytes)),
            _ => Err(malformed("the entry's verifier is not one certificate or one key")),
        }
    }
}

#[derive(Deserialize)]
struct Content {
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    content: Vec<u8>,
}

#[derive(Deserialize)]
struct HashedRekord {
    data: HashedData,
    signature: HashedSignature,
}

#[derive(Deserialize)]
struct HashedData {
    hash: HexHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedSignature {
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    content: Vec<u8>,
    public_key: Content,
}

impl HashedRekord {
    fn read(self) -> Result<LoggedBody, Reason> {
        Ok(LoggedBody {
            covers: Covers::Signed,
            digest: self.data.hash.read()?,
            payload_type: None,
            signatures: vec![LoggedSignature {
                signature: Some(self.signature.content),
                verifier: verifier_from_pem(&self.signature.public_key.content)?,
                key_details: None,
            }],
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedRekord2 {
    hashed_rekord_v002: HashedRekord2Body,
}

#[derive(Deserialize)]
struct HashedRekord2Body {
    data: ProtoHash,
    signature: ProtoSignature,
}

#[derive(Deserialize)]
struct ProtoSignature {
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    content: Vec<u8>,
    verifier: ProtoVerifier,
}

impl ProtoSignature {
    fn read(self) -> Result<LoggedSignature, Reason> {
        let key_details = Some(self.verifier.key_details.clone());
        Ok(LoggedSignature { signature: Some(self.content), verifier: self.verifier.read()?, key_details })
    }
}

impl HashedRekord2Body {
    fn read(self) -> Result<LoggedBody, Reason> {
        Ok(LoggedBody {
            covers: Covers::Signed,
            digest: self.data.read()?,
            payload_type: None,
            signatures: vec![self.signature.read()?],
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload_hash: HexHash,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    signature: Vec<u8>,
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    verifier: Vec<u8>,
}

impl Dsse {
    fn read(self) -> Result<LoggedBody, Reason> {
        let signatures = self.signatures.into_iter().map(|signature| {
            Ok(LoggedSignature {
                signature: Some(signature.signature),
                verifier: verifier_from_pem(&signature.verifier)?,
                key_details: None,
            })
        });
        Ok(LoggedBody {
            covers: Covers::Payload,
            digest: self.payload_hash.read()?,
            payload_type: None,
            signatures: signatures.collect::<Result<_, Reason>>()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse2 {
    dsse_v002: Dsse2Body,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse2Body {
    payload_hash: ProtoHash,
    signatures: Vec<ProtoSignature>,
}

impl Dsse2Body {
    fn read(self) -> Result<LoggedBody, Reason> {
        Ok(LoggedBody {
            covers: Covers::Payload,
            digest: self.payload_hash.read()?,
            payload_type: None,
            signatures: self.signatures.into_iter().map(ProtoSignature::read).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto1 {
    content: Intoto1Content,
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    public_key: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto1Content {
    payload_hash: HexHash,
}

impl Intoto1 {
    fn read(self) -> Result<LoggedBody, Reason> {
        Ok(LoggedBody {
            covers: Covers::Payload,
            digest: self.content.payload_hash.read()?,
            payload_type: None,
            signatures: vec![LoggedSignature {
                signature: None,
                verifier: verifier_from_pem(&self.public_key)?,
                key_details: None,
            }],
        })
    }
}

#[derive(Deserialize)]
struct Intoto2 {
    content: Intoto2Content,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto2Content {
    envelope: Intoto2Envelope,
    payload_hash: HexHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto2Envelope {
    payload_type: String,
    signatures: Vec<Intoto2Signature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto2Signature {
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    public_key: Vec<u8>,
    /// Rekor encodes this one twice.
    #[serde(deserialize_with = "base64_bytes::deserialize")]
    sig: Vec<u8>,
}

impl Intoto2 {
    fn read(self) -> Result<LoggedBody, Reason> {
        let signatures = self.content.envelope.signatures.into_iter().map(|signature| {
            let inner = std::str::from_utf8(&signature.sig)
                .ok()
                .and_then(base64_bytes::decode)
                .ok_or_else(|| malformed("the entry's signature is not base64 twice over"))?;
            let verifier = verifier_from_pem(&signature.public_key)?;
            Ok(LoggedSignature { signature: Some(inner), verifier, key_details: None })
        });
        Ok(LoggedBody {
            covers: Covers::Payload,
            digest: self.content.payload_hash.read()?,
            payload_type: Some(self.content.envelope.payload_type),
            signatures: signatures.collect::<Result<_, Reason>>()?,
        })
    }
}
