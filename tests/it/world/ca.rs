//! A Fulcio-like certificate authority and a CT log: identities in, short-lived code-signing certificates out.
//! Whatever a [`CertificatePlan`] asks for is signed and logged afresh, so a certificate has no flaw but the planned one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::asn1;
use super::keys::Key;

pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(crate) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
pub(crate) const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
const FULCIO: &str = "1.3.6.1.4.1.57264.1";
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";
pub(crate) const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// A root and one intermediate, which issues.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) organization: String,
    root_key: Key,
    pub(crate) root: Vec<u8>,
    intermediate_key: Key,
    pub(crate) intermediate: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(organization: &str, since: Timestamp, until: Timestamp) -> Self {
        let (root_key, intermediate_key) = (Key::p384(), Key::p384());
        let name = |common_name| asn1::name(organization, common_name);
        let extensions = |key: &Key, path: Option<u8>, purposes: &[&str]| {
            let path = path.map(|length| asn1::unsigned(&[length])).unwrap_or_default();
            let mut all = vec![
                asn1::extension("2.5.29.15", true, &asn1::flags(0b0000_0110)),
                asn1::extension("2.5.29.19", true, &asn1::sequence(&[&asn1::boolean(true), &path])),
                asn1::extension("2.5.29.14", false, &asn1::octet_string(&key_id(key))),
            ];
            if !purposes.is_empty() {
                all.push(extended_key_usage(purposes, false));
            }
            all.push(authority_key_id(&root_key));
            all
        };
        let root = Template {
            issuer: name("root"),
            subject: name("root"),
            spki: root_key.spki().to_vec(),
            validity: (since, until),
            extensions: extensions(&root_key, Some(1), &[]),
        }
        .signed(&root_key);
        let intermediate = Template {
            issuer: name("root"),
            subject: name("intermediate"),
            spki: intermediate_key.spki().to_vec(),
            validity: (since, until),
            extensions: extensions(&intermediate_key, Some(0), &[CODE_SIGNING]),
        }
        .signed(&root_key);
        Self { organization: organization.to_owned(), root_key, root, intermediate_key, intermediate }
    }

    /// Issues what the plan says for a fresh key.
    pub(crate) fn issue(&self, plan: &CertificatePlan<'_>, key: &Key) -> Vec<u8> {
        self.issue_for(plan, key.spki())
    }

    /// Issues what the plan says for a key of which only the public half is here.
    pub(crate) fn issue_for(&self, plan: &CertificatePlan<'_>, spki: &[u8]) -> Vec<u8> {
        let mut extensions = vec![asn1::extension("2.5.29.15", true, &asn1::flags(0b1000_0000))];
        if !plan.purposes.is_empty() {
            extensions.push(extended_key_usage(&plan.purposes, false));
        }
        if plan.is_authority {
            extensions.push(asn1::extension("2.5.29.19", true, &asn1::sequence(&[&asn1::boolean(true)])));
        }
        extensions.push(asn1::extension("2.5.29.14", false, &asn1::octet_string(&spki_id(spki))));
        extensions.push(authority_key_id(&self.intermediate_key));
        extensions.extend(plan.identity.extensions());
        extensions.extend(plan.extra_extensions.iter().cloned());
        let mut template = Template {
            issuer: asn1::name(&self.organization, "intermediate"),
            subject: asn1::sequence(&[]),
            spki: spki.to_vec(),
            validity: (plan.not_before, plan.not_after),
            extensions,
        };
        if !plan.scts.is_empty() {
            let serial = template.serial();
            let precertificate = template.to_be_signed(&serial, &self.intermediate_key);
            let issuer_hash = self.intermediate_key.id();
            let list: Vec<u8> = plan.scts.iter().flat_map(|sct| sct.signed(&issuer_hash, &precertificate)).collect();
            let list = [&u16::try_from(list.len()).unwrap().to_be_bytes(), list.as_slice()].concat();
            template.extensions.push(asn1::extension(SCT_LIST, false, &asn1::octet_string(&list)));
        }
        let mut certificate = template.signed(&self.intermediate_key);
        certificate.extend_from_slice(&plan.trailing_bytes);
        certificate
    }

    /// A certificate for a timestamp authority, under the root itself.
    pub(crate) fn issue_timestamping(&self, common_name: &str, key: &Key, validity: (Timestamp, Timestamp)) -> Vec<u8> {
        Template {
            issuer: asn1::name(&self.organization, "root"),
            subject: asn1::name(&self.organization, common_name),
            spki: key.spki().to_vec(),
            validity,
            extensions: vec![
                asn1::extension("2.5.29.15", true, &asn1::flags(0b1000_0000)),
                extended_key_usage(&[TIME_STAMPING], true),
                asn1::extension("2.5.29.14", false, &asn1::octet_string(&key_id(key))),
                authority_key_id(&self.root_key),
            ],
        }
        .signed(&self.root_key)
    }
}

/// What a leaf certificate will say and how it is logged.
#[derive(Debug)]
pub(crate) struct CertificatePlan<'w> {
    pub(crate) authority: &'w Authority,
    pub(crate) identity: Identity,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) purposes: Vec<&'static str>,
    pub(crate) is_authority: bool,
    pub(crate) scts: Vec<Sct<'w>>,
    /// Whole extensions in DER, after the honest ones.
    pub(crate) extra_extensions: Vec<Vec<u8>>,
    /// Bytes behind the certificate, inside no structure.
    pub(crate) trailing_bytes: Vec<u8>,
}

/// One signed certificate timestamp that a certificate will carry.
#[derive(Debug)]
pub(crate) struct Sct<'w> {
    pub(crate) key: &'w Key,
    /// The log that it claims to be from; honest when it is the key's own id.
    pub(crate) log_id: [u8; 32],
    pub(crate) at: Timestamp,
    /// A bit of the signature is wrong.
    pub(crate) forged: bool,
    /// It was made for another certificate.
    pub(crate) foreign: bool,
}

impl<'w> Sct<'w> {
    pub(crate) fn by(key: &'w Key, at: Timestamp) -> Self {
        Self { key, log_id: key.id(), at, forged: false, foreign: false }
    }

    /// RFC 6962 section 3.2, with the length that an SCT list puts before it.
    fn signed(&self, issuer_hash: &[u8; 32], precertificate: &[u8]) -> Vec<u8> {
        let timestamp = u64::try_from(self.at.as_millisecond()).unwrap().to_be_bytes();
        let foreign = [precertificate, &[0]].concat();
        let subject = if self.foreign { &foreign } else { precertificate };
        let length = u32::try_from(subject.len()).unwrap().to_be_bytes();
        let entry: [&[u8]; 7] = [&[0, 0], &timestamp, &[0, 1], issuer_hash, &length[1..], subject, &[0, 0]];
        let mut signature = self.key.sign(&entry.concat());
        if self.forged {
            damage(&mut signature);
        }
        let signature_length = u16::try_from(signature.len()).unwrap().to_be_bytes();
        let sct: [&[u8]; 7] = [&[0], &self.log_id, &timestamp, &[0, 0], &[4, 3], &signature_length, &signature];
        let sct = sct.concat();
        [&u16::try_from(sct.len()).unwrap().to_be_bytes(), sct.as_slice()].concat()
    }
}

/// Changes a signature so that it still parses: its last bit.
pub(crate) fn damage(signature: &mut [u8]) {
    *signature.last_mut().unwrap() ^= 1;
}

/// Who a certificate is for, with the claims that Fulcio writes beside the name.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) names: Vec<Name>,
    /// Fulcio's extensions by their last arc; 1 to 6 are raw, the others UTF8String.
    pub(crate) claims: BTreeMap<u8, String>,
}

/// A subject alternative name.
#[derive(Debug, Clone)]
pub(crate) enum Name {
    Uri(String),
    Email(String),
    Dns(String),
}

pub(crate) const COMMIT: &str = "a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3";
const BUILDER_COMMIT: &str = "b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4";

impl Identity {
    /// A person.
    pub(crate) fn email(address: &str, issuer: &str) -> Self {
        Self { names: vec![Name::Email(address.to_owned())], claims: BTreeMap::new() }.claim(1, issuer).claim(8, issuer)
    }

    /// A GitHub workflow of the repository that it builds: `owner/name`, file name, ref.
    pub(crate) fn github(repository: &str, workflow: &str, git_ref: &str) -> Self {
        let signer = format!("https://github.com/{repository}/.github/workflows/{workflow}@{git_ref}");
        Self::reusable(&signer, COMMIT, repository, workflow, git_ref)
    }

    /// A trusted reusable workflow, called from the repository that it builds.
    pub(crate) fn builder(signer: &str, repository: &str, workflow: &str, git_ref: &str) -> Self {
        Self::reusable(signer, BUILDER_COMMIT, repository, workflow, git_ref)
    }

    fn reusable(signer: &str, signer_commit: &str, repository: &str, workflow: &str, git_ref: &str) -> Self {
        let source = format!("https://github.com/{repository}");
        let owner = source.rsplit_once('/').unwrap().0.to_owned();
        let caller = format!("{source}/.github/workflows/{workflow}@{git_ref}");
        let claims: [(u8, &str); 21] = [
            (1, GITHUB_ISSUER),
            (2, "push"),
            (3, COMMIT),
            (4, "Release"),
            (5, repository),
            (6, git_ref),
            (8, GITHUB_ISSUER),
            (9, signer),
            (10, signer_commit),
            (11, "github-hosted"),
            (12, &source),
            (13, COMMIT),
            (14, git_ref),
            (15, "123456"),
            (16, &owner),
            (17, "7890"),
            (18, &caller),
            (19, COMMIT),
            (20, "push"),
            (21, &format!("{source}/actions/runs/99/attempts/1")),
            (22, "public"),
        ];
        let claims = claims.into_iter().map(|(arc, value)| (arc, value.to_owned())).collect();
        Self { names: vec![Name::Uri(signer.to_owned())], claims }
    }

    /// The same identity with one claim set.
    pub(crate) fn claim(mut self, arc: u8, value: &str) -> Self {
        self.claims.insert(arc, value.to_owned());
        self
    }

    /// The same identity without one claim.
    pub(crate) fn without(mut self, arc: u8) -> Self {
        self.claims.remove(&arc);
        self
    }

    /// The same claims under another name.
    pub(crate) fn named(mut self, name: Name) -> Self {
        self.names = vec![name];
        self
    }

    /// The first name's text.
    pub(crate) fn text(&self) -> &str {
        match &self.names[0] {
            Name::Uri(text) | Name::Email(text) | Name::Dns(text) => text,
        }
    }

    fn extensions(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        if !self.names.is_empty() {
            let names: Vec<Vec<u8>> = self
                .names
                .iter()
                .map(|name| match name {
                    Name::Email(text) => asn1::context_primitive(1, text.as_bytes()),
                    Name::Dns(text) => asn1::context_primitive(2, text.as_bytes()),
                    Name::Uri(text) => asn1::context_primitive(6, text.as_bytes()),
                })
                .collect();
            all.push(asn1::extension("2.5.29.17", true, &asn1::tlv(0x30, &names.concat())));
        }
        all.extend(self.claims.iter().map(|(arc, value)| fulcio_extension(*arc, value)));
        all
    }
}

/// One of Fulcio's extensions by its last arc.
pub(crate) fn fulcio_extension(arc: u8, value: &str) -> Vec<u8> {
    let value = if arc <= 6 { value.as_bytes().to_vec() } else { asn1::utf8_string(value) };
    asn1::extension(&format!("{FULCIO}.{arc}"), false, &value)
}

struct Template {
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    validity: (Timestamp, Timestamp),
    extensions: Vec<Vec<u8>>,
}

impl Template {
    /// A serial number that follows from the key, so that a precertificate and its certificate share it.
    fn serial(&self) -> Vec<u8> {
        let mut serial = Sha256::digest([self.spki.as_slice(), &self.subject].concat())[..19].to_vec();
        serial[0] |= 0x40;
        serial
    }

    fn to_be_signed(&self, serial: &[u8], issuer: &Key) -> Vec<u8> {
        asn1::sequence(&[
            &asn1::context(0, &asn1::unsigned(&[2])),
            &asn1::unsigned(serial),
            &issuer.signature_algorithm(),
            &self.issuer,
            &asn1::sequence(&[&asn1::time(self.validity.0), &asn1::time(self.validity.1)]),
            &self.subject,
            &self.spki,
            &asn1::context(3, &asn1::tlv(0x30, &self.extensions.concat())),
        ])
    }

    fn signed(&self, issuer: &Key) -> Vec<u8> {
        let body = self.to_be_signed(&self.serial(), issuer);
        asn1::sequence(&[&body, &issuer.signature_algorithm(), &asn1::bit_string(&issuer.sign(&body))])
    }
}

fn extended_key_usage(purposes: &[&str], critical: bool) -> Vec<u8> {
    let purposes: Vec<u8> = purposes.iter().flat_map(|purpose| asn1::oid(purpose)).collect();
    asn1::extension("2.5.29.37", critical, &asn1::tlv(0x30, &purposes))
}

fn key_id(key: &Key) -> [u8; 20] {
    spki_id(key.spki())
}

fn spki_id(spki: &[u8]) -> [u8; 20] {
    Sha256::digest(spki)[..20].try_into().unwrap()
}

fn authority_key_id(key: &Key) -> Vec<u8> {
    asn1::extension("2.5.29.35", false, &asn1::sequence(&[&asn1::context_primitive(0, &key_id(key))]))
}

/// The ten minutes for which Fulcio issues.
pub(crate) const CERTIFICATE_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
