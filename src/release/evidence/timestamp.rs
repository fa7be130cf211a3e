//! RFC 3161 timestamps: DER in; the time, what it covers and the signature's parts out.
//!
//! Source: RFC 3161 section 2.4.2, RFC 5652 section 5. Whose signature it is, is not decided here.

use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier};
use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5911, rfc5912};
use der::asn1::{GeneralizedTime, Int, OctetString, OctetStringRef};
use der::{Any, Decode as _, Encode as _, Sequence};
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;

use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

const TIMESTAMP_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// A timestamp, sound in form.
#[derive(Debug, Clone)]
pub struct SignedTimestamp {
    /// The time that the authority wrote down.
    pub time: Timestamp,
    /// The digest of what it covers.
    pub imprint: Digest,
    /// The number that ties it to the question it answers, as a DER integer's bytes.
    pub nonce: Option<Vec<u8>>,
    /// Which certificate made it.
    pub signer: SignerName,
    /// The digest that the signature uses.
    pub digest: DigestAlgorithm,
    /// The bytes under the signature: the signed attributes as a SET (RFC 5652 section 5.4).
    pub signed_attributes: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Certificates that came along; never trusted.
    pub certificates: Vec<Vec<u8>>,
}

/// How a timestamp names its signer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerName {
    /// By the issuer's name in DER, and the serial number.
    IssuerAndSerial(Vec<u8>, Vec<u8>),
    /// By the subject key identifier.
    KeyIdentifier(Vec<u8>),
}

#[derive(Sequence)]
struct Response {
    status: Any,
    token: Option<Any>,
}

#[derive(Sequence)]
struct Imprint {
    algorithm: AlgorithmIdentifierOwned,
    digest: OctetString,
}

/// `TSTInfo` as far as it is read; the optional tail follows as it comes.
#[derive(Sequence)]
struct Info {
    version: u8,
    policy: ObjectIdentifier,
    imprint: Imprint,
    serial: Int,
    time: GeneralizedTime,
    #[asn1(optional = "true")]
    accuracy: Option<Accuracy>,
    #[asn1(default = "Default::default")]
    ordering: bool,
    #[asn1(optional = "true")]
    nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    authority: Option<Any>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<x509_cert::ext::Extensions>,
}

#[derive(Sequence)]
struct Accuracy {
    #[asn1(optional = "true")]
    seconds: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    milliseconds: Option<Int>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    microseconds: Option<Int>,
}

impl SignedTimestamp {
    /// Reads a `TimeStampResp`, or the bare token.
    ///
    /// # Errors
    /// `timestamp-invalid`, or `input-too-large`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() > limits::TIMESTAMP_BYTES {
            return Err(Reason::new(
                Code::InputTooLarge,
                format!("a timestamp has at most {} bytes", limits::TIMESTAMP_BYTES),
            ));
        }
        let token = match Response::from_der(bytes) {
            Ok(response) => {
                if !is_granted(&response.status) {
                    return Err(bad("the authority did not grant it"));
                }
                let token = response.token.ok_or_else(|| bad("the response holds no timestamp"))?;
                token.to_der().map_err(|error| bad(&error.to_string()))?
            }
            Err(_) => bytes.to_vec(),
        };
        read_token(&token)
    }

    /// Whether this timestamp is over `message`.
    pub fn covers(&self, message: &[u8]) -> bool {
        self.imprint.algorithm().hash(message) == self.imprint
    }
}

fn bad(what: &str) -> Reason {
    Reason::new(Code::TimestampInvalid, format!("the timestamp is malformed: {what}"))
}

/// Status 0 is granted, 1 granted with changes; the text and failure details behind it are of no consequence
/// (RFC 3161 section 2.4.2).
fn is_granted(status: &Any) -> bool {
    der::SliceReader::new(status.value()).and_then(|mut reader| u8::decode(&mut reader)).is_ok_and(|number| number <= 1)
}

fn read_token(token: &[u8]) -> Result<SignedTimestamp, Reason> {
    let der = |error: der::Error| bad(&error.to_string());
    let content = ContentInfo::from_der(token).map_err(der)?;
    if content.content_type != rfc5911::ID_SIGNED_DATA {
        return Err(bad("it is no CMS signed data"));
    }
    let signed: SignedData = content.content.decode_as().map_err(der)?;
    if signed.encap_content_info.econtent_type != TIMESTAMP_INFO {
        return Err(bad("it holds something else than timestamp information"));
    }
    let info_bytes = signed
        .encap_content_info
        .econtent
        .as_ref()
        .ok_or_else(|| bad("it holds no timestamp information"))?
        .decode_as::<OctetStringRef<'_>>()
        .map_err(der)?
        .as_bytes()
        .to_vec();
    let info = Info::from_der(&info_bytes).map_err(der)?;
    if info.version != 1 {
        return Err(bad("its version is not 1"));
    }
    let imprint_algorithm = digest_algorithm(info.imprint.algorithm.oid)?;
    let imprint =
        Digest::new(imprint_algorithm, info.imprint.digest.as_bytes()).map_err(|error| bad(&error.to_string()))?;
    let time = i64::try_from(info.time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .ok_or_else(|| bad("its time is out of range"))?;

    let mut signers = signed.signer_infos.0.iter();
    let signer = match (signers.next(), signers.next()) {
        (Some(signer), None) => signer,
        _ => return Err(bad("it must have one signature")),
    };
    let digest = digest_algorithm(signer.digest_alg.oid)?;
    let attributes = signer.signed_attrs.as_ref().ok_or_else(|| bad("it has no signed attributes"))?;
    let attribute = |identifier: ObjectIdentifier, name: &str| {
        let mut found = attributes.iter().filter(|attribute| attribute.oid == identifier);
        match (found.next(), found.next()) {
            (Some(one), None) if one.values.len() == 1 => {
                one.values.get(0).ok_or_else(|| bad(&format!("its {name} is empty")))
            }
            _ => Err(bad(&format!("it must have one {name}"))),
        }
    };
    let content_type: ObjectIdentifier =
        attribute(rfc5911::ID_CONTENT_TYPE, "content type")?.decode_as().map_err(der)?;
    if content_type != TIMESTAMP_INFO {
        return Err(bad("its signed content type is another one"));
    }
    let message_digest = attribute(rfc5911::ID_MESSAGE_DIGEST, "message digest")?;
    if message_digest.decode_as::<OctetStringRef<'_>>().map_err(der)?.as_bytes() != digest.hash(&info_bytes).as_bytes()
    {
        return Err(Reason::new(Code::TimestampInvalid, "the timestamp's information was changed after signing"));
    }
    let certificates = signed.certificates.iter().flat_map(|set| set.0.iter());
    Ok(SignedTimestamp {
        time,
        imprint,
        nonce: info.nonce.map(|nonce| nonce.as_bytes().to_vec()),
        signer: match &signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(name) => {
                SignerName::IssuerAndSerial(name.issuer.to_der().map_err(der)?, name.serial_number.as_bytes().to_vec())
            }
            SignerIdentifier::SubjectKeyIdentifier(identifier) => {
                SignerName::KeyIdentifier(identifier.0.as_bytes().to_vec())
            }
        },
        digest,
        signed_attributes: attributes.to_der().map_err(der)?,
        signature: signer.signature.as_bytes().to_vec(),
        certificates: certificates
            .map(|choice| match choice {
                cms::cert::CertificateChoices::Certificate(certificate) => certificate.to_der().map_err(der),
                cms::cert::CertificateChoices::Other(_) => Err(bad("it carries something that is no certificate")),
            })
            .collect::<Result<_, _>>()?,
    })
}

fn digest_algorithm(identifier: ObjectIdentifier) -> Result<DigestAlgorithm, Reason> {
    match identifier {
        rfc5912::ID_SHA_256 => Ok(DigestAlgorithm::Sha256),
        rfc5912::ID_SHA_384 => Ok(DigestAlgorithm::Sha384),
        rfc5912::ID_SHA_512 => Ok(DigestAlgorithm::Sha512),
        other => Err(Reason::new(Code::UnsupportedAlgorithm, format!("the timestamp uses digest {other}"))),
    }
}
