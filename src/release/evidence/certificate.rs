//! Signing certificates as Fulcio issues them: DER in; identity, claims, key and certificate timestamps out.
//!
//! Source: RFC 5280, RFC 6962 section 3, and Fulcio's object identifiers under 1.3.6.1.4.1.57264.1.
//! Nothing here says whether the certificate is to be believed.

use std::collections::BTreeMap;

use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5280, rfc6962};
use der::asn1::{OctetStringRef, Utf8StringRef};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, HashAlgorithm, KeyUsage, KeyUsages, SignedCertificateTimestampList,
    SubjectAltName,
};

use super::key::PublicKey;
use crate::types::{Code, DigestAlgorithm, Reason, limits};

const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");

/// The claims under [`FULCIO`], by the last arc. Up to 6 they are bare text, from 8 on a DER `UTF8String`.
const CLAIMS: [(u8, &str); 22] = [
    (1, "issuer_v1"),
    (2, "github_workflow_trigger"),
    (3, "github_workflow_sha"),
    (4, "github_workflow_name"),
    (5, "github_workflow_repository"),
    (6, "github_workflow_ref"),
    (8, "issuer"),
    (9, "build_signer_uri"),
    (10, "build_signer_digest"),
    (11, "runner_environment"),
    (12, "source_repository_uri"),
    (13, "source_repository_digest"),
    (14, "source_repository_ref"),
    (15, "source_repository_identifier"),
    (16, "source_repository_owner_uri"),
    (17, "source_repository_owner_identifier"),
    (18, "build_config_uri"),
    (19, "build_config_digest"),
    (20, "build_trigger"),
    (21, "run_invocation_uri"),
    (22, "source_repository_visibility_at_signing"),
    (23, "deployment_environment"),
];

/// A certificate, sound in form.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate's bytes.
    pub der: Vec<u8>,
    /// The subject's public key.
    pub key: PublicKey,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// The issuer's distinguished name, in DER.
    pub issuer_name: Vec<u8>,
    /// The subject's distinguished name, in DER.
    pub subject_name: Vec<u8>,
    /// The serial number's bytes.
    pub serial: Vec<u8>,
    /// The subject key identifier, where it has one.
    pub key_identifier: Option<Vec<u8>>,
    /// Every subject alternative name that can be an identity.
    pub identities: Vec<String>,
    /// How many subject alternative names there are, of whatever kind.
    pub names: usize,
    /// Fulcio's claims, in snake case.
    pub claims: BTreeMap<&'static str, String>,
    /// Whether it may issue certificates.
    pub is_authority: bool,
    /// Whether its key usage has `digitalSignature`.
    pub may_sign: bool,
    /// The extended key usages.
    pub extended_usages: Vec<ObjectIdentifier>,
    /// The embedded certificate timestamps.
    pub timestamps: Vec<CertificateTimestamp>,
    /// What a CT log signed: the body without the timestamps themselves (RFC 6962 section 3.2).
    pub precertificate: Vec<u8>,
    signed_body: Vec<u8>,
    signature: Vec<u8>,
    signature_algorithm: ObjectIdentifier,
}

/// One signed certificate timestamp (RFC 6962 section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateTimestamp {
    /// The log's id: SHA-256 of its key.
    pub log_id: [u8; 32],
    /// Milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The extensions' bytes, which are signed too.
    pub extensions: Vec<u8>,
    /// The digest that the signature is over; the log's key says with which kind of key.
    pub digest: DigestAlgorithm,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Certificate {
    /// Reads one certificate. Trailing bytes and repeated extensions are refused.
    ///
    /// # Errors
    /// `certificate-malformed`, `unsupported-algorithm` or `input-too-large`.
    pub fn parse(der: &[u8]) -> Result<Self, Reason> {
        if der.len() > limits::CERTIFICATE_BYTES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a certificate has at most {} bytes, not {}", limits::CERTIFICATE_BYTES, der.len()),
            ));
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(|error| malformed(error.to_string()))?;
        let body = &parsed.tbs_certificate;
        let encode = |value: Result<Vec<u8>, der::Error>| value.map_err(|error| malformed(error.to_string()));

        let extensions = body.extensions.as_deref().unwrap_or_default();
        let mut identifiers: Vec<_> = extensions.iter().map(|extension| extension.extn_id).collect();
        identifiers.sort_unstable();
        if identifiers.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(malformed("an extension stands twice"));
        }
        let find = |identifier: ObjectIdentifier| {
            extensions
                .iter()
                .find(|extension| extension.extn_id == identifier)
                .map(|extension| extension.extn_value.as_bytes())
        };

        let (identities, names) = match find(rfc5280::ID_CE_SUBJECT_ALT_NAME) {
            None => (Vec::new(), 0),
            Some(bytes) => {
                let all = SubjectAltName::from_der(bytes).map_err(|error| malformed(error.to_string()))?.0;
                (all.iter().filter_map(identity).collect(), all.len())
            }
        };
        let may_sign = find(rfc5280::ID_CE_KEY_USAGE)
            .map(KeyUsage::from_der)
            .transpose()
            .map_err(|error| malformed(error.to_string()))?
            .is_some_and(|usage| usage.0.contains(KeyUsages::DigitalSignature));
        let extended_usages = find(rfc5280::ID_CE_EXT_KEY_USAGE)
            .map(ExtendedKeyUsage::from_der)
            .transpose()
            .map_err(|error| malformed(error.to_string()))?
            .map(|usage| usage.0)
            .unwrap_or_default();
        let is_authority = find(rfc5280::ID_CE_BASIC_CONSTRAINTS)
            .map(BasicConstraints::from_der)
            .transpose()
            .map_err(|error| malformed(error.to_string()))?
            .is_some_and(|constraints| constraints.ca);
        let key_identifier = find(rfc5280::ID_CE_SUBJECT_KEY_IDENTIFIER)
            .map(OctetStringRef::from_der)
            .transpose()
            .map_err(|error| malformed(error.to_string()))?
            .map(|octets| octets.as_bytes().to_vec());
        let timestamps = find(rfc6962::CT_PRECERT_SCTS).map(timestamps).transpose()?.unwrap_or_default();
        let precertificate = if timestamps.is_empty() {
            Vec::new()
        } else {
            let mut without = body.clone();
            if let Some(extensions) = &mut without.extensions {
                extensions.retain(|extension| extension.extn_id != rfc6962::CT_PRECERT_SCTS);
            }
            encode(without.to_der())?
        };

        Ok(Self {
            key: PublicKey::from_spki(&encode(body.subject_public_key_info.to_der())?)?,
            not_before: time(&body.validity.not_before)?,
            not_after: time(&body.validity.not_after)?,
            issuer_name: encode(body.issuer.to_der())?,
            subject_name: encode(body.subject.to_der())?,
            serial: body.serial_number.as_bytes().to_vec(),
            key_identifier,
            identities,
            names,
            claims: claims(extensions)?,
            is_authority,
            may_sign,
            extended_usages,
            timestamps,
            precertificate,
            signed_body: signed_body(der)?.to_vec(),
            signature: parsed.signature.raw_bytes().to_vec(),
            signature_algorithm: parsed.signature_algorithm.oid,
            der: der.to_vec(),
        })
    }

    /// Whether `issuer`'s key made this certificate's signature. Names, usages and times are not looked at.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        use DigestAlgorithm::{Sha256, Sha384, Sha512};
        use const_oid::db::{rfc5912, rfc8410};
        let digest = match self.signature_algorithm {
            rfc5912::ECDSA_WITH_SHA_256 | rfc5912::SHA_256_WITH_RSA_ENCRYPTION => Sha256,
            rfc5912::ECDSA_WITH_SHA_384 | rfc5912::SHA_384_WITH_RSA_ENCRYPTION => Sha384,
            rfc5912::ECDSA_WITH_SHA_512 | rfc5912::SHA_512_WITH_RSA_ENCRYPTION => Sha512,
            rfc8410::ID_ED_25519 => return issuer.key.verify(&self.signed_body, &self.signature).is_ok(),
            _ => return false,
        };
        issuer.key.verify_with(digest, &self.signed_body, &self.signature).is_ok()
    }

    /// Whether it names itself as its issuer: a root.
    pub fn is_self_issued(&self) -> bool {
        self.issuer_name == self.subject_name
    }

    /// Whether `time` lies in its validity; both ends belong to it (RFC 5280 section 4.1.2.5).
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        // Certificates count whole seconds: all of the last second belongs to the validity.
        self.not_before <= time && time.as_second() <= self.not_after.as_second()
    }
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::CertificateMalformed, format!("the certificate is malformed: {}", message.into()))
}

fn identity(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str().to_owned()),
        GeneralName::Rfc822Name(address) => Some(address.as_str().to_owned()),
        GeneralName::OtherName(other) if other.type_id == OTHER_NAME => {
            other.value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned())
        }
        _ => None,
    }
}

fn claims(extensions: &[x509_cert::ext::Extension]) -> Result<BTreeMap<&'static str, String>, Reason> {
    let mut claims = BTreeMap::new();
    for extension in extensions {
        // Every known claim is one arc below the prefix, of one byte.
        let Some([arc]) = extension.extn_id.as_bytes().strip_prefix(FULCIO.as_bytes()) else { continue };
        let Some((_, name)) = CLAIMS.iter().find(|(number, _)| number == arc) else { continue };
        let bytes = extension.extn_value.as_bytes();
        let text = if *arc < 8 {
            std::str::from_utf8(bytes).map_err(|_| malformed(format!("the claim {name} is not UTF-8")))?
        } else {
            Utf8StringRef::from_der(bytes)
                .map_err(|error| malformed(format!("the claim {name} is no UTF8String: {error}")))?
                .as_str()
        };
        claims.insert(*name, text.to_owned());
    }
    Ok(claims)
}

fn time(time: &x509_cert::time::Time) -> Result<Timestamp, Reason> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| malformed("a time is out of range"))?;
    Timestamp::from_second(seconds).map_err(|_| malformed("a time is out of range"))
}

fn timestamps(bytes: &[u8]) -> Result<Vec<CertificateTimestamp>, Reason> {
    let bad = |what: &str| Reason::new(Code::SctInvalid, format!("the certificate timestamps are malformed: {what}"));
    let list = SignedCertificateTimestampList::from_der(bytes).map_err(|error| bad(&error.to_string()))?;
    let list = list.parse_timestamps().map_err(|_| bad("the list's lengths disagree"))?;
    if list.len() > limits::SCTS {
        return Err(Reason::new(Code::InputTooLarge, format!("more than {} certificate timestamps", limits::SCTS)));
    }
    list.iter()
        .map(|serialized| {
            let parsed = serialized.parse_timestamp().map_err(|_| bad("a timestamp does not parse"))?;
            Ok(CertificateTimestamp {
                log_id: parsed.log_id.key_id,
                timestamp_ms: parsed.timestamp,
                extensions: parsed.extensions.into_vec(),
                digest: match parsed.signature.algorithm.hash {
                    HashAlgorithm::Sha256 => DigestAlgorithm::Sha256,
                    HashAlgorithm::Sha384 => DigestAlgorithm::Sha384,
                    HashAlgorithm::Sha512 => DigestAlgorithm::Sha512,
                    _ => return Err(bad("a timestamp uses a weak or unknown hash")),
                },
                signature: parsed.signature.signature.into_vec(),
            })
        })
        .collect()
}

/// The bytes of the certificate's signed body, as they stand.
fn signed_body(der: &[u8]) -> Result<&[u8], Reason> {
    use der::Reader as _;
    let read = || -> Result<&[u8], der::Error> {
        let mut reader = der::SliceReader::new(der)?;
        let outer = der::Header::decode(&mut reader)?;
        reader.read_nested(outer.length, |inner| {
            let body = inner.tlv_bytes()?;
            // The rest was parsed already; it only has to be consumed.
            inner.read_slice(inner.remaining_len())?;
            Ok(body)
        })
    };
    read().map_err(|error| malformed(error.to_string()))
}
