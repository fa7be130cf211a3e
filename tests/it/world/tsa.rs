//! RFC 3161 timestamp authorities: signatures in, timestamp responses out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::asn1;
use super::ca::{Authority, damage};
use super::keys::Key;

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";
const POLICY: &str = "1.3.6.1.4.1.57264.2";

/// A timestamp authority: one signing certificate right under a root.
#[derive(Debug)]
pub(crate) struct TimestampAuthority {
    organization: String,
    key: Key,
    pub(crate) certificate: Vec<u8>,
    pub(crate) root: Vec<u8>,
}

/// What one timestamp will say.
#[derive(Debug, Clone)]
pub(crate) struct TimestampPlan<'w> {
    pub(crate) authority: &'w TimestampAuthority,
    pub(crate) at: Timestamp,
    /// Whether it carries its own certificate chain.
    pub(crate) embedded: bool,
    /// Certificates of others that it carries besides.
    pub(crate) stowaways: Vec<Vec<u8>>,
    /// The authority that it names as its signer, where that is another one.
    pub(crate) impersonates: Option<&'w TimestampAuthority>,
    /// A bit of its signature is wrong.
    pub(crate) forged: bool,
    /// It was made over another signature.
    pub(crate) foreign: bool,
    /// Bytes behind the response.
    pub(crate) trailing_bytes: Vec<u8>,
    /// The number of the question that it answers.
    pub(crate) nonce: Option<Vec<u8>>,
}

impl<'w> TimestampPlan<'w> {
    pub(crate) fn by(authority: &'w TimestampAuthority, at: Timestamp) -> Self {
        Self {
            authority,
            at,
            embedded: false,
            stowaways: Vec::new(),
            impersonates: None,
            forged: false,
            foreign: false,
            trailing_bytes: Vec::new(),
            nonce: None,
        }
    }
}

impl TimestampAuthority {
    /// An authority whose root is good for `root_validity` and whose own certificate for `validity`.
    pub(crate) fn new(
        organization: &str,
        root_validity: (Timestamp, Timestamp),
        validity: (Timestamp, Timestamp),
    ) -> Self {
        let authority = Authority::new(organization, root_validity.0, root_validity.1);
        let key = Key::p256();
        let certificate = authority.issue_timestamping("timestamping", &key, validity);
        Self { organization: organization.to_owned(), key, certificate, root: authority.root }
    }

    /// The authority as the trust root names it.
    pub(crate) fn trusted(&self, since: Timestamp) -> Value {
        json!({
            "subject": { "organization": self.organization, "commonName": "root" },
            "uri": format!("https://{}/api/v1/timestamp", self.organization),
            "certChain": { "certificates": [
                { "rawBytes": BASE64.encode(&self.certificate) },
                { "rawBytes": BASE64.encode(&self.root) },
            ] },
            "validFor": { "start": since.to_string() },
        })
    }

    /// A granted response over a signature.
    pub(crate) fn stamp(&self, plan: &TimestampPlan<'_>, signature: &[u8]) -> Vec<u8> {
        let foreign = [signature, b"?"].concat();
        self.stamp_imprint(plan, &Sha256::digest(if plan.foreign { &foreign } else { signature }))
    }

    /// A granted response over a SHA-256 digest.
    pub(crate) fn stamp_imprint(&self, plan: &TimestampPlan<'_>, imprint: &[u8]) -> Vec<u8> {
        let sha256 = asn1::sequence(&[&asn1::oid(asn1::SHA256)]);
        let named = plan.impersonates.unwrap_or(self);
        let issuer = asn1::name(&named.organization, "root");
        let info = asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &asn1::oid(POLICY),
            &asn1::sequence(&[&sha256, &asn1::octet_string(imprint)]),
            &asn1::unsigned(&imprint[..16]),
            &asn1::generalized_time(plan.at),
            &asn1::sequence(&[&asn1::unsigned(&[1])]),
            &asn1::unsigned(plan.nonce.as_deref().unwrap_or(&imprint[16..24])),
            &asn1::context(0, &asn1::context(4, &asn1::name(&named.organization, "timestamping"))),
        ]);

        let serial = serial(&named.certificate);
        let attribute = |kind: &str, value: &[u8]| asn1::sequence(&[&asn1::oid(kind), &asn1::set_of(&[value])]);
        let certificate_id = asn1::sequence(&[
            &asn1::octet_string(&Sha256::digest(&named.certificate)),
            &asn1::sequence(&[&asn1::sequence(&[&asn1::context(4, &issuer)]), &serial]),
        ]);
        let attributes = [
            attribute(CONTENT_TYPE, &asn1::oid(TST_INFO)),
            attribute(SIGNING_TIME, &asn1::time(plan.at)),
            attribute(MESSAGE_DIGEST, &asn1::octet_string(&Sha256::digest(&info))),
            attribute(SIGNING_CERTIFICATE_V2, &asn1::sequence(&[&asn1::sequence(&[&certificate_id])])),
        ];
        let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
        // RFC 5652 section 5.4: signed as a SET OF, carried under an implicit tag.
        let mut signed = self.key.sign(&asn1::set_of(&attributes));
        if plan.forged {
            damage(&mut signed);
        }
        let signer = asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &asn1::sequence(&[&issuer, &serial]),
            &sha256,
            &asn1::context(0, &asn1::sorted(&attributes)),
            &self.key.signature_algorithm(),
            &asn1::octet_string(&signed),
        ]);
        let own: &[&[u8]] = if plan.embedded { &[&self.certificate, &self.root] } else { &[] };
        let carried: Vec<&[u8]> = own.iter().copied().chain(plan.stowaways.iter().map(Vec::as_slice)).collect();
        let certificates = if carried.is_empty() { Vec::new() } else { asn1::context(0, &asn1::sorted(&carried)) };
        let data = asn1::sequence(&[
            &asn1::unsigned(&[3]),
            &asn1::set_of(&[&sha256]),
            &asn1::sequence(&[&asn1::oid(TST_INFO), &asn1::context(0, &asn1::octet_string(&info))]),
            &certificates,
            &asn1::set_of(&[&signer]),
        ]);
        let token = asn1::sequence(&[&asn1::oid(SIGNED_DATA), &asn1::context(0, &data)]);
        let mut response = asn1::sequence(&[&asn1::sequence(&[&asn1::unsigned(&[0])]), &token]);
        response.extend_from_slice(&plan.trailing_bytes);
        response
    }
}

/// The serial number of a certificate of ours, as the INTEGER that it is.
fn serial(certificate: &[u8]) -> Vec<u8> {
    use x509_cert::der::{Decode as _, Encode as _};
    x509_cert::Certificate::from_der(certificate).unwrap().tbs_certificate.serial_number.to_der().unwrap()
}
