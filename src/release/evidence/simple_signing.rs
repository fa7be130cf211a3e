//! Signatures and attestations as cosign attaches them without bundles: a layer and its annotations in, the same typed
//! parts as of a bundle out.
//!
//! Source: cosign, `specs/SIGNATURE_SPEC.md` and `ATTESTATION_SPEC.md`; containers/image, `containers-signature.5`.
//! The log's word in an annotation is a promise without a proof, as in a bundle of version 0.1, and it is held to that
//! version's rules. The chain that stands beside a certificate is left alone: authorities come from the trust root.

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::bundle::{Bundle, Content, Envelope, LogEntry, Material, Version};
use super::json::{self, base64_bytes};
use crate::types::{Code, Digest, Reason, limits};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const LOG: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// The annotations of a layer.
pub type Annotations = BTreeMap<String, String>;

/// What the payload of a signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The manifest that was signed.
    pub digest: Digest,
    /// The reference that the signer knew it by; anybody may copy an image, so it decides nothing.
    pub reference: String,
}

/// Reads a signature: the payload says what was signed, the annotations by whom and under which proofs.
///
/// # Errors
/// `simple-signing-malformed`, `signature-missing`, or what strict JSON refuses.
pub fn signature(payload: &[u8], annotations: &Annotations) -> Result<(Payload, Bundle), Reason> {
    let said = read_payload(payload)?;
    let text = annotations.get(SIGNATURE).map(String::as_str).unwrap_or_default();
    if text.is_empty() {
        return Err(Reason::new(Code::SignatureMissing, "the layer has no signature").location(SIGNATURE));
    }
    let signature = base64_bytes::decode(text).filter(|signature| !signature.is_empty());
    let signature = signature.ok_or_else(|| malformed(SIGNATURE, "it is not base64"))?;
    Ok((said, bundle(Content::Message { digest: None, signature }, annotations)?))
}

/// Reads an attestation: an envelope with its signature in it, and in the annotations by whom it is.
///
/// # Errors
/// `simple-signing-malformed`, what is wrong with the envelope, or what strict JSON refuses.
pub fn attestation(envelope: &[u8], annotations: &Annotations) -> Result<Bundle, Reason> {
    bundle(Content::Envelope(Envelope::parse(envelope)?), annotations)
}

fn malformed(place: &str, message: impl Into<String>) -> Reason {
    Reason::new(Code::SimpleSigningMalformed, message).location(place)
}

fn read_payload(payload: &[u8]) -> Result<Payload, Reason> {
    let wire: WirePayload = json::parse(payload, Code::SimpleSigningMalformed)?;
    let kind = wire.critical.kind.as_str();
    if !matches!(kind, "cosign container image signature" | "atomic container signature") {
        return Err(malformed("critical.type", format!("the payload is a `{kind}`")));
    }
    let place = "critical.image.docker-manifest-digest";
    let text = &wire.critical.image.digest;
    let digest: Digest = text.parse().map_err(|error| malformed(place, format!("{error}")))?;
    if digest.to_string() != *text {
        return Err(malformed(place, "the digest is not lower-case hex"));
    }
    Ok(Payload { digest, reference: wire.critical.identity.reference })
}

fn bundle(content: Content, annotations: &Annotations) -> Result<Bundle, Reason> {
    let given = |name: &str| annotations.get(name).filter(|text| !text.trim().is_empty());
    let material = match given(CERTIFICATE) {
        None => Material::PublicKey { hint: String::new() },
        Some(pem) => {
            if pem.len() > limits::CERTIFICATE_BYTES.saturating_mul(2) {
                return Err(Reason::new(Code::InputTooLarge, "the certificate is too large").location(CERTIFICATE));
            }
            let leaf = CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|_| malformed(CERTIFICATE, "it is no certificate in PEM"))?;
            Material::Certificate { leaf: leaf.to_vec(), others: Vec::new() }
        }
    };
    let entries = given(LOG).map(|text| read_entry(text)).transpose()?.into_iter().collect();
    let timestamps = given(TIMESTAMP).map(|text| read_timestamp(text)).transpose()?.into_iter().collect();
    Ok(Bundle { version: Version::V01, material, entries, timestamps, content })
}

/// The log's promise. Its kind and version stand in the body alone.
fn read_entry(text: &str) -> Result<LogEntry, Reason> {
    let at = |reason: Reason| Reason { location: Some(LOG.to_owned()), ..reason };
    let wire: WireEntry = json::parse(text.as_bytes(), Code::SimpleSigningMalformed).map_err(at)?;
    let payload = wire.payload;
    let body = base64_bytes::decode(&payload.body).ok_or_else(|| malformed(LOG, "the entry's body is not base64"))?;
    let head: Head = json::parse(&body, Code::LogEntryMalformed).map_err(at)?;
    let log_id = hex::decode(&payload.log_id).map_err(|_| malformed(LOG, "the log's id is not hexadecimal"))?;
    let index = u64::try_from(payload.log_index).map_err(|_| malformed(LOG, "the entry's index is negative"))?;
    let promise = base64_bytes::decode(&wire.promise).filter(|promise| !promise.is_empty());
    Ok(LogEntry {
        index,
        log_id,
        kind: head.kind,
        version: head.api_version,
        integrated_time: Some(payload.integrated_time).filter(|time| *time != 0),
        signed_entry_timestamp: Some(promise.ok_or_else(|| malformed(LOG, "the log's promise is not base64"))?),
        proof: None,
        body,
    })
}

fn read_timestamp(text: &str) -> Result<Vec<u8>, Reason> {
    let at = |reason: Reason| Reason { location: Some(TIMESTAMP.to_owned()), ..reason };
    let wire: WireTimestamp = json::parse(text.as_bytes(), Code::SimpleSigningMalformed).map_err(at)?;
    base64_bytes::decode(&wire.timestamp).ok_or_else(|| malformed(TIMESTAMP, "it is not base64"))
}

#[derive(Deserialize)]
struct WirePayload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(default)]
    identity: WireIdentity,
    image: WireImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
struct WireIdentity {
    #[serde(default, rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct WireImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
struct WireEntry {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: WireEntryPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntryPayload {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
struct WireTimestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: String,
    api_version: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Annotations, CERTIFICATE, LOG, SIGNATURE, TIMESTAMP, attestation, signature};
    use crate::types::{Code, Digest};

    fn payload(digest: &str, kind: &str) -> Value {
        json!({"critical": {
            "identity": {"docker-reference": "example.org/a"},
            "image": {"docker-manifest-digest": digest},
            "type": kind,
        }, "optional": null})
    }

    fn code(payload: &Value, annotations: &[(&str, &str)]) -> Option<Code> {
        let annotations: Annotations =
            annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        signature(payload.to_string().as_bytes(), &annotations).err().map(|reason| reason.code.known().unwrap())
    }

    #[test]
    fn a_payload_names_one_manifest_by_a_strong_digest() {
        let digest = Digest::sha256(b"x").to_string();
        let kind = "cosign container image signature";
        let signed = [(SIGNATURE, "MEUC")];
        assert_eq!(code(&payload(&digest, kind), &signed), None);
        let refused = Some(Code::SimpleSigningMalformed);
        assert_eq!(code(&payload(&digest, "something else"), &signed), refused);
        assert_eq!(code(&payload("md5:d41d8cd98f00b204e9800998ecf8427e", kind), &signed), refused);
        assert_eq!(code(&payload(&digest.to_uppercase(), kind), &signed), refused);
        assert_eq!(code(&json!({}), &signed), refused);
        assert_eq!(code(&payload(&digest, kind), &[]), Some(Code::SignatureMissing));
    }

    #[test]
    fn an_annotation_that_cannot_be_read_is_refused_and_never_left_out() {
        let payload = payload(&Digest::sha256(b"x").to_string(), "cosign container image signature");
        for (name, value) in [
            (SIGNATURE, "?"),
            (CERTIFICATE, "no PEM"),
            (LOG, "{}"),
            (
                LOG,
                r#"{"SignedEntryTimestamp":"AA==","Payload":{"body":"e30=","integratedTime":1,"logIndex":-1,"logID":"00"}}"#,
            ),
            (TIMESTAMP, r#"{"SignedRFC3161Timestamp":"?"}"#),
        ] {
            let mut annotations = vec![(SIGNATURE, "MEUC")];
            annotations.retain(|(other, _)| *other != name);
            annotations.push((name, value));
            assert!(code(&payload, &annotations).is_some(), "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_crash(bytes in proptest::collection::vec(any::<u8>(), 0..512), text in ".{0,200}") {
            let annotations: Annotations =
                [SIGNATURE, CERTIFICATE, LOG, TIMESTAMP].map(|name| (name.to_owned(), text.clone())).into();
            let _ = signature(&bytes, &annotations);
            let _ = attestation(&bytes, &annotations);
        }
    }
}
