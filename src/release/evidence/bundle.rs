//! Sigstore bundles v0.1, v0.2 and v0.3 in ProtoJSON: bytes in, typed parts out.
//!
//! Source: sigstore protobuf-specs, `sigstore_bundle.proto`, and ProtoJSON for the spelling: member names in camel or
//! snake case, 64-bit integers as text or numbers, `null` for an absent member.

use serde::Deserialize;

use super::json::{self, base64_bytes};
use super::merkle;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// Which rules a bundle's version brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// May rest on a log's promise alone.
    V01,
    /// Needs an inclusion proof.
    V02,
    /// Needs an inclusion proof, and carries one certificate instead of a chain.
    V03,
}

/// One bundle, sound in form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The version that its media type names.
    pub version: Version,
    /// What says who signed.
    pub material: Material,
    /// Transparency log entries.
    pub entries: Vec<LogEntry>,
    /// RFC 3161 timestamps, in DER.
    pub timestamps: Vec<Vec<u8>>,
    /// What was signed.
    pub content: Content,
}

/// What says who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// A certificate in DER, with what else the bundle's chain had.
    Certificate {
        /// The signing certificate.
        leaf: Vec<u8>,
        /// The rest of the chain; never trusted.
        others: Vec<Vec<u8>>,
    },
    /// A key that the verifier must have from elsewhere.
    PublicKey {
        /// The signer's hint; never trusted.
        hint: String,
    },
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The artifact itself.
    Message {
        /// The artifact's digest as the signer noted it; never trusted, but it must agree.
        digest: Option<Digest>,
        /// The signature.
        signature: Vec<u8>,
    },
    /// A statement in a DSSE envelope.
    Envelope(Envelope),
}

/// A DSSE envelope with its one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The payload's type, as signed.
    pub payload_type: String,
    /// The payload, decoded.
    pub payload: Vec<u8>,
    /// The signature over the pre-authentication encoding.
    pub signature: Vec<u8>,
    /// The signer's key id; never trusted.
    pub key_id: String,
}

impl Envelope {
    /// Reads an envelope that stands by itself, outside of a bundle.
    ///
    /// # Errors
    /// The first reason why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() as u64 > limits::BUNDLE_BYTES {
            let message = format!("an envelope has at most {} bytes, not {}", limits::BUNDLE_BYTES, bytes.len());
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        read_envelope(json::parse(bytes, Code::MalformedBundle)?)
    }

    /// The bytes that DSSE signs (DSSE protocol, "PAE").
    pub fn pre_authentication_encoding(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload)
    }
}

/// The bytes that DSSE signs for a payload of this type (DSSE protocol, "PAE").
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    let mut encoded = Vec::with_capacity(head.len().saturating_add(payload.len()));
    encoded.extend_from_slice(head.as_bytes());
    encoded.extend_from_slice(payload);
    encoded
}

/// A transparency log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Index in the whole log.
    pub index: u64,
    /// The log's id.
    pub log_id: Vec<u8>,
    /// The body's kind, as `hashedrekord`.
    pub kind: String,
    /// The kind's version, as `0.0.1`.
    pub version: String,
    /// Seconds since 1970; meant only under a signed entry timestamp.
    pub integrated_time: Option<i64>,
    /// The log's signature over index, time and body: a promise to include.
    pub signed_entry_timestamp: Option<Vec<u8>>,
    /// The proof that it was included.
    pub proof: Option<InclusionProof>,
    /// The entry's canonical body, which is the leaf.
    pub body: Vec<u8>,
}

/// The path from a leaf to a signed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The leaf's index in the tree (the shard's, where the log has shards).
    pub index: u64,
    /// The tree's size.
    pub size: u64,
    /// The root that the proof claims; the checkpoint's is the one that counts.
    pub root: Vec<u8>,
    /// The path.
    pub hashes: Vec<merkle::Hash>,
    /// The signed checkpoint.
    pub checkpoint: Option<String>,
}

/// Reads a file with one bundle, with a bundle on each line (JSON Lines), or with the list of attestations that the
/// registries of npm and GitHub answer with. Each bundle comes with its line or place, from 1.
///
/// # Errors
/// The one reason why the whole file is refused; its location names the line or place.
pub fn parse_file(bytes: &[u8]) -> Result<Vec<(usize, Bundle)>, Reason> {
    if is_list(bytes) {
        return parse_list(bytes);
    }
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let first_is_whole = || lines.clone().next().is_some_and(|(_, line)| json::check(line).is_ok());
    if lines.clone().nth(1).is_none() || !first_is_whole() {
        return Ok(vec![(1, Bundle::parse(bytes)?)]);
    }
    lines.try_fold(Vec::new(), |mut bundles, (index, line)| {
        if bundles.len() >= limits::BUNDLES_PER_FILE {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a file holds at most {} bundles", limits::BUNDLES_PER_FILE),
            ));
        }
        let number = index.saturating_add(1);
        let bundle = Bundle::parse(line).map_err(|reason| {
            let place = reason.location.as_deref().map_or_else(String::new, |place| format!(": {place}"));
            reason.location(format!("line {number}{place}"))
        })?;
        bundles.push((number, bundle));
        Ok(bundles)
    })
}

/// Whether a file is a registry's list, by what it starts with. A bundle's own members never have this name.
fn is_list(bytes: &[u8]) -> bool {
    let head = bytes.trim_ascii_start();
    let name = b"\"attestations\"";
    head.starts_with(b"[")
        || head.strip_prefix(b"{").is_some_and(|members| members.trim_ascii_start().starts_with(name))
}

/// Reads `[{"bundle": …}, …]` or `{"attestations": [{"bundle": …}, …]}`.
fn parse_list(bytes: &[u8]) -> Result<Vec<(usize, Bundle)>, Reason> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Bare(Vec<Attestation>),
        Named { attestations: Vec<Attestation> },
    }
    #[derive(Deserialize)]
    struct Attestation {
        bundle: serde_json::Value,
    }
    if bytes.len() as u64 > limits::EVIDENCE_BYTES {
        return Err(Reason::new(Code::InputTooLarge, format!("a list has at most {} bytes", limits::EVIDENCE_BYTES)));
    }
    let (List::Bare(attestations) | List::Named { attestations }) = json::parse(bytes, Code::MalformedBundle)?;
    if attestations.is_empty() || attestations.len() > limits::BUNDLES_PER_FILE {
        let message = format!("a list holds 1 to {} attestations", limits::BUNDLES_PER_FILE);
        return Err(malformed("attestations", message));
    }
    let read = |(index, attestation): (usize, Attestation)| {
        let place = format!("attestations[{index}]");
        let bundle = Bundle::parse(attestation.bundle.to_string().as_bytes()).map_err(|reason| {
            // A place inside the bundle's own text would mislead; a field's name does not.
            let field = reason.location.as_deref().filter(|place| !place.starts_with("line "));
            let place = field.map_or_else(|| place.clone(), |field| format!("{place}.bundle.{field}"));
            reason.location(place)
        })?;
        Ok((index.saturating_add(1), bundle))
    };
    attestations.into_iter().enumerate().map(read).collect()
}

impl Bundle {
    /// Reads one bundle.
    ///
    /// # Errors
    /// The first reason why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() as u64 > limits::BUNDLE_BYTES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a bundle has at most {} bytes, not {}", limits::BUNDLE_BYTES, bytes.len()),
            ));
        }
        let wire: wire::Bundle = json::parse(bytes, Code::MalformedBundle)?;
        let version = version(&wire.media_type)?;
        let wire_material =
            wire.verification_material.ok_or_else(|| malformed("verificationMaterial", "the bundle has none"))?;
        let (material, entries, timestamps) = read_material(wire_material, version)?;
        let content = match (wire.message_signature, wire.dsse_envelope) {
            (Some(message), None) => read_message(message)?,
            (None, Some(envelope)) => Content::Envelope(read_envelope(envelope)?),
            (Some(_), Some(_)) => {
                return Err(malformed("dsseEnvelope", "the bundle has both a message signature and an envelope"));
            }
            (None, None) => {
                return Err(malformed(
                    "messageSignature",
                    "the bundle has neither a message signature nor an envelope",
                ));
            }
        };
        Ok(Self { version, material, entries, timestamps, content })
    }

    /// The signature itself, which a timestamp covers and a log entry names.
    pub fn signature(&self) -> &[u8] {
        match &self.content {
            Content::Message { signature, .. } => signature,
            Content::Envelope(envelope) => &envelope.signature,
        }
    }
}

fn malformed(location: &str, message: impl Into<String>) -> Reason {
    Reason::new(Code::MalformedBundle, message).location(location)
}

fn version(media_type: &str) -> Result<Version, Reason> {
    match media_type {
        "application/vnd.dev.sigstore.bundle+json;version=0.1" => Ok(Version::V01),
        "application/vnd.dev.sigstore.bundle+json;version=0.2" => Ok(Version::V02),
        "application/vnd.dev.sigstore.bundle+json;version=0.3" | "application/vnd.dev.sigstore.bundle.v0.3+json" => {
            Ok(Version::V03)
        }
        "" => Err(malformed("mediaType", "the bundle has no media type")),
        other => {
            Err(Reason::new(Code::UnknownMediaType, format!("the bundle's media type is `{other}`"))
                .location("mediaType"))
        }
    }
}

type Materials = (Material, Vec<LogEntry>, Vec<Vec<u8>>);

fn read_material(wire: wire::Material, version: Version) -> Result<Materials, Reason> {
    let material = match (wire.certificate, wire.x509_certificate_chain, wire.public_key) {
        (Some(certificate), None, None) => Material::Certificate { leaf: certificate.raw_bytes, others: Vec::new() },
        (None, Some(_), None) if version >= Version::V03 => {
            return Err(malformed(
                "verificationMaterial.x509CertificateChain",
                "a bundle of version 0.3 carries one certificate and no chain",
            ));
        }
        (None, Some(chain), None) => {
            let mut certificates = chain.certificates.into_iter().map(|certificate| certificate.raw_bytes);
            let leaf = certificates
                .next()
                .ok_or_else(|| malformed("verificationMaterial.x509CertificateChain", "the chain is empty"))?;
            Material::Certificate { leaf, others: certificates.collect() }
        }
        (None, None, Some(key)) => Material::PublicKey { hint: key.hint },
        (None, None, None) => {
            return Err(malformed("verificationMaterial", "there is neither a certificate nor a key"));
        }
        _ => return Err(malformed("verificationMaterial", "there is more than one of certificate, chain and key")),
    };
    if let Material::Certificate { leaf, others } = &material {
        if others.len() >= limits::CERTIFICATES {
            return Err(Reason::new(Code::InputTooLarge, format!("more than {} certificates", limits::CERTIFICATES))
                .location("verificationMaterial.x509CertificateChain"));
        }
        if leaf.is_empty() || others.iter().any(Vec::is_empty) {
            return Err(malformed("verificationMaterial", "a certificate is empty"));
        }
    }
    let wire_entries = wire.tlog_entries.unwrap_or_default();
    if wire_entries.len() > limits::LOG_ENTRIES {
        return Err(Reason::new(Code::InputTooLarge, format!("more than {} log entries", limits::LOG_ENTRIES))
            .location("verificationMaterial.tlogEntries"));
    }
    let entries = wire_entries.into_iter().enumerate().map(read_entry).collect::<Result<_, _>>()?;
    let timestamps: Vec<Vec<u8>> = wire
        .timestamp_verification_data
        .and_then(|data| data.rfc3161_timestamps)
        .unwrap_or_default()
        .into_iter()
        .map(|timestamp| timestamp.signed_timestamp)
        .collect();
    if timestamps.len() > limits::TIMESTAMPS {
        return Err(Reason::new(
            Code::TimestampCount,
            format!("the bundle has {} timestamps, and {} is the most", timestamps.len(), limits::TIMESTAMPS),
        )
        .location("verificationMaterial.timestampVerificationData"));
    }
    Ok((material, entries, timestamps))
}

fn read_entry((position, wire): (usize, wire::LogEntry)) -> Result<LogEntry, Reason> {
    let place = format!("verificationMaterial.tlogEntries[{position}]");
    let bad = |field: &str, message: String| {
        Reason::new(Code::LogEntryMalformed, message).location(format!("{place}.{field}"))
    };
    let index = |field: &str, value: Option<wire::Int64>| {
        let value = value.map_or(0, |value| value.0);
        u64::try_from(value).map_err(|_| bad(field, format!("the number {value} is negative")))
    };
    let kind = wire.kind_version.ok_or_else(|| bad("kindVersion", "the entry has no kind".to_owned()))?;
    let body = wire.canonicalized_body.map(|body| body.0).unwrap_or_default();
    if body.is_empty() {
        return Err(bad("canonicalizedBody", "the entry has no body".to_owned()));
    }
    let log_id = wire.log_id.map(|id| id.key_id).unwrap_or_default();
    if log_id.is_empty() {
        return Err(bad("logId", "the entry names no log".to_owned()));
    }
    let proof = wire
        .inclusion_proof
        .map(|proof| {
            if proof.hashes.len() > limits::PROOF_HASHES {
                return Err(Reason::new(
                    Code::InputTooLarge,
                    format!("a proof has at most {} hashes", limits::PROOF_HASHES),
                )
                .location(format!("{place}.inclusionProof.hashes")));
            }
            let hashes = proof.hashes.into_iter().map(|hash| merkle::Hash::try_from(hash.0.as_slice()));
            Ok(InclusionProof {
                index: index("inclusionProof.logIndex", proof.log_index)?,
                size: index("inclusionProof.treeSize", proof.tree_size)?,
                root: proof.root_hash.map(|root| root.0).unwrap_or_default(),
                hashes: hashes
                    .collect::<Result<_, _>>()
                    .map_err(|_| bad("inclusionProof.hashes", "a hash has not 32 bytes".to_owned()))?,
                checkpoint: proof.checkpoint.map(|checkpoint| checkpoint.envelope).filter(|text| !text.is_empty()),
            })
        })
        .transpose()?;
    Ok(LogEntry {
        index: index("logIndex", wire.log_index)?,
        log_id,
        kind: kind.kind,
        version: kind.version,
        // ProtoJSON cannot tell an absent number from zero.
        integrated_time: wire.integrated_time.map(|time| time.0).filter(|time| *time != 0),
        signed_entry_timestamp: wire
            .inclusion_promise
            .map(|promise| promise.signed_entry_timestamp)
            .filter(|promise| !promise.is_empty()),
        proof,
        body,
    })
}

fn read_message(wire: wire::MessageSignature) -> Result<Content, Reason> {
    let digest = wire
        .message_digest
        .map(|digest| {
            let place = "messageSignature.messageDigest";
            let algorithm = digest.algorithm.and_then(|algorithm| algorithm.known()).ok_or_else(|| {
                Reason::new(Code::UnsupportedAlgorithm, "the digest's algorithm is not SHA-256, SHA-384 or SHA-512")
                    .location(place)
            })?;
            Digest::new(algorithm, &digest.digest.map(|bytes| bytes.0).unwrap_or_default())
                .map_err(|error| malformed(place, error.to_string()))
        })
        .transpose()?;
    let signature = wire.signature.map(|signature| signature.0).unwrap_or_default();
    if signature.is_empty() {
        return Err(
            Reason::new(Code::SignatureMissing, "the signature is empty").location("messageSignature.signature")
        );
    }
    Ok(Content::Message { digest, signature })
}

fn read_envelope(wire: wire::Envelope) -> Result<Envelope, Reason> {
    let mut signatures = wire.signatures.unwrap_or_default().into_iter();
    let place = "dsseEnvelope.signatures";
    let one = match (signatures.next(), signatures.next()) {
        (Some(one), None) => one,
        (None, _) => {
            return Err(Reason::new(Code::SignatureMissing, "the envelope has no signature").location(place));
        }
        (Some(_), Some(_)) => {
            return Err(Reason::new(Code::SignatureCount, "the envelope has more than one signature").location(place));
        }
    };
    let signature = one.sig.map(|signature| signature.0).unwrap_or_default();
    if signature.is_empty() {
        return Err(Reason::new(Code::SignatureMissing, "the envelope's signature is empty").location(place));
    }
    Ok(Envelope {
        payload_type: wire.payload_type,
        payload: wire.payload.map(|payload| payload.0).unwrap_or_default(),
        signature,
        key_id: one.keyid.unwrap_or_default(),
    })
}

/// The documents as they stand on the wire.
mod wire {
    use super::{Deserialize, DigestAlgorithm, base64_bytes};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Bundle {
        #[serde(default, alias = "media_type")]
        pub(super) media_type: String,
        #[serde(default, alias = "verification_material")]
        pub(super) verification_material: Option<Material>,
        #[serde(default, alias = "message_signature")]
        pub(super) message_signature: Option<MessageSignature>,
        #[serde(default, alias = "dsse_envelope")]
        pub(super) dsse_envelope: Option<Envelope>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Material {
        #[serde(default)]
        pub(super) certificate: Option<Certificate>,
        #[serde(default, alias = "x509_certificate_chain")]
        pub(super) x509_certificate_chain: Option<Chain>,
        #[serde(default, alias = "public_key")]
        pub(super) public_key: Option<PublicKey>,
        #[serde(default, alias = "tlog_entries")]
        pub(super) tlog_entries: Option<Vec<LogEntry>>,
        #[serde(default, alias = "timestamp_verification_data")]
        pub(super) timestamp_verification_data: Option<TimestampData>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Certificate {
        #[serde(alias = "raw_bytes", deserialize_with = "base64_bytes::deserialize")]
        pub(super) raw_bytes: Vec<u8>,
    }

    #[derive(Deserialize)]
    pub(super) struct Chain {
        #[serde(default)]
        pub(super) certificates: Vec<Certificate>,
    }

    #[derive(Deserialize)]
    pub(super) struct PublicKey {
        #[serde(default)]
        pub(super) hint: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct LogEntry {
        #[serde(default, alias = "log_index")]
        pub(super) log_index: Option<Int64>,
        #[serde(default, alias = "log_id")]
        pub(super) log_id: Option<LogId>,
        #[serde(default, alias = "kind_version")]
        pub(super) kind_version: Option<KindVersion>,
        #[serde(default, alias = "integrated_time")]
        pub(super) integrated_time: Option<Int64>,
        #[serde(default, alias = "inclusion_promise")]
        pub(super) inclusion_promise: Option<Promise>,
        #[serde(default, alias = "inclusion_proof")]
        pub(super) inclusion_proof: Option<Proof>,
        #[serde(default, alias = "canonicalized_body")]
        pub(super) canonicalized_body: Option<Bytes>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct LogId {
        #[serde(alias = "key_id", deserialize_with = "base64_bytes::deserialize")]
        pub(super) key_id: Vec<u8>,
    }

    #[derive(Deserialize)]
    pub(super) struct KindVersion {
        pub(super) kind: String,
        pub(super) version: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Promise {
        #[serde(alias = "signed_entry_timestamp", deserialize_with = "base64_bytes::deserialize")]
        pub(super) signed_entry_timestamp: Vec<u8>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Proof {
        #[serde(default, alias = "log_index")]
        pub(super) log_index: Option<Int64>,
        #[serde(default, alias = "root_hash")]
        pub(super) root_hash: Option<Bytes>,
        #[serde(default, alias = "tree_size")]
        pub(super) tree_size: Option<Int64>,
        #[serde(default)]
        pub(super) hashes: Vec<Bytes>,
        #[serde(default)]
        pub(super) checkpoint: Option<Checkpoint>,
    }

    #[derive(Deserialize)]
    pub(super) struct Checkpoint {
        #[serde(default)]
        pub(super) envelope: String,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct TimestampData {
        #[serde(default, alias = "rfc3161_timestamps")]
        pub(super) rfc3161_timestamps: Option<Vec<Timestamp>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Timestamp {
        #[serde(alias = "signed_timestamp", deserialize_with = "base64_bytes::deserialize")]
        pub(super) signed_timestamp: Vec<u8>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct MessageSignature {
        #[serde(default, alias = "message_digest")]
        pub(super) message_digest: Option<MessageDigest>,
        #[serde(default)]
        pub(super) signature: Option<Bytes>,
    }

    #[derive(Deserialize)]
    pub(super) struct MessageDigest {
        #[serde(default)]
        pub(super) algorithm: Option<HashAlgorithm>,
        #[serde(default)]
        pub(super) digest: Option<Bytes>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Envelope {
        #[serde(default)]
        pub(super) payload: Option<Bytes>,
        #[serde(default, alias = "payload_type")]
        pub(super) payload_type: String,
        #[serde(default)]
        pub(super) signatures: Option<Vec<Signature>>,
    }

    #[derive(Deserialize)]
    pub(super) struct Signature {
        #[serde(default)]
        pub(super) sig: Option<Bytes>,
        #[serde(default)]
        pub(super) keyid: Option<String>,
    }

    /// Base64 of either alphabet.
    pub(super) struct Bytes(pub(super) Vec<u8>);

    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            base64_bytes::deserialize(deserializer).map(Self)
        }
    }

    /// A 64-bit integer, as a number or as text.
    pub(super) struct Int64(pub(super) i64);

    impl<'de> Deserialize<'de> for Int64 {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Spelling<'a> {
                Number(i64),
                #[serde(borrow)]
                Text(std::borrow::Cow<'a, str>),
            }
            match Spelling::deserialize(deserializer)? {
                Spelling::Number(number) => Ok(Self(number)),
                Spelling::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
            }
        }
    }

    /// `sigstore_common.proto`, `HashAlgorithm`: by name or by number.
    #[derive(Deserialize)]
    #[serde(untagged)]
    pub(super) enum HashAlgorithm {
        Name(String),
        Number(i64),
    }

    impl HashAlgorithm {
        pub(super) fn known(&self) -> Option<DigestAlgorithm> {
            match self {
                Self::Name(name) => match name.as_str() {
                    "SHA2_256" => Some(DigestAlgorithm::Sha256),
                    "SHA2_384" => Some(DigestAlgorithm::Sha384),
                    "SHA2_512" => Some(DigestAlgorithm::Sha512),
                    _ => None,
                },
                Self::Number(1) => Some(DigestAlgorithm::Sha256),
                Self::Number(2) => Some(DigestAlgorithm::Sha384),
                Self::Number(3) => Some(DigestAlgorithm::Sha512),
                Self::Number(_) => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "h"}, "tlogEntries": null},
        "messageSignature": {"signature": "AAAA"}}"#;

    #[test]
    fn a_registrys_list_of_attestations_is_as_many_bundles() {
        let two = format!(r#"[{{"predicateType": "p", "bundle": {BUNDLE}}}, {{"bundle": {BUNDLE}}}]"#);
        for list in [two.clone(), format!(r#" {{"attestations": {two}}}"#)] {
            let read = parse_file(list.as_bytes()).unwrap();
            assert_eq!(read.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 2]);
        }
        let bad = two.replacen("AAAA", "", 1);
        let reason = parse_file(bad.as_bytes()).unwrap_err();
        assert_eq!(reason.location.as_deref(), Some("attestations[0].bundle.messageSignature.signature"));
        for refused in ["[]", "[1]", r#"{"attestations": []}"#, r#"[{"bundle": {}, "bundle": {}}]"#] {
            assert!(parse_file(refused.as_bytes()).is_err(), "{refused}");
        }
    }

    #[test]
    fn json_lines_are_as_many_bundles_and_one_bad_line_is_a_no() {
        let line = BUNDLE.replace('\n', "");
        let read = parse_file(format!("{line}\n\n{line}\n").as_bytes()).unwrap();
        assert_eq!(read.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 3]);
        assert!(parse_file(format!("{line}\nx").as_bytes()).is_err());
        assert!(parse_file(format!("{line}{line}").as_bytes()).is_err());
    }
}
