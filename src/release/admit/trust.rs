//! Whom a server or node believes about what may boot: the `[admission]` table of its configuration in, an
//! [`AdmissionTrust`] out, or every fault of it with its line (docs/reference/admission.md).
//!
//! A key or pin that cannot be read is a fault, since nobody knows whose it was. A policy or a trust root that cannot
//! be read is kept as a reason, and every question is then answered with it: a node that comes up with half of its
//! configuration refuses, and says why.
//! Invariant: no I/O. The caller reads the files that the table names.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use toml::Spanned;

use super::quarantine::QuarantineAction;
use super::two_people::Person;
use crate::release::decision::{PolicyReference, TrustRootReference};
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::openpgp::{Fingerprint, Keyring, parse_fingerprint};
use crate::release::policy::PolicySet;
use crate::release::policy::input::Expected;
use crate::release::trust;
use crate::release::trust::root::TrustRoot;
use crate::release::verify::openpgp::{OpenpgpExpectations, Validity};
use crate::release::verify::{Expectations, Pattern};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, Reason, duration, limits};

/// Reads a file that the configuration names, of at most so many bytes; relative names are the caller's to resolve.
pub type Read<'a> = dyn Fn(&str, u64) -> Result<Vec<u8>, Reason> + 'a;

/// What is believed, and how far.
#[derive(Debug)]
pub struct AdmissionTrust {
    pub(super) policy: Result<PolicySet, Reason>,
    pub(super) root: Result<Root, Reason>,
    pub(super) signers: Vec<Signer>,
    pub(super) kinds: Vec<ArtifactKind>,
    pub(super) require: Vec<String>,
    pub(super) require_of: BTreeMap<ArtifactKind, Vec<String>>,
    pub(super) ticket_keys: Vec<PublicKey>,
    pub(super) break_glass: Vec<(Person, PublicKey)>,
    max_validity: SignedDuration,
    break_glass_validity: SignedDuration,
    release_validity: SignedDuration,
    on_quarantine: QuarantineAction,
}

/// A Sigstore trust root that may be used.
#[derive(Debug)]
pub struct Root {
    /// The root.
    pub root: TrustRoot,
    /// How reports name it.
    pub reference: TrustRootReference,
    /// Whether signatures by a managed key must be in a log of it too.
    pub key_needs_log: bool,
}

/// One who may vouch for what boots. One of several is enough; within one, what is asked must hold as a whole.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The name in the configuration, for reasons.
    pub name: String,
    /// A key or an identity, and what is asked of the provenance.
    pub sigstore: Option<Expectations>,
    /// OpenPGP keys.
    pub openpgp: Option<OpenpgpSigner>,
    /// What the policy is told of it.
    pub expected: Expected,
}

/// The OpenPGP keys of a signer.
#[derive(Debug, Clone)]
pub struct OpenpgpSigner {
    /// The keys.
    pub keyring: Keyring,
    /// Those that count; none but these.
    pub pins: Vec<Fingerprint>,
    /// How many distinct ones must have signed.
    pub threshold: NonZeroUsize,
    /// At which time they must be valid.
    pub validity: Validity,
}

impl OpenpgpSigner {
    pub(super) fn expectations(&self, now: Timestamp) -> OpenpgpExpectations {
        OpenpgpExpectations { pins: self.pins.clone(), threshold: self.threshold, validity: self.validity, now }
    }
}

/// What is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TrustFault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long a ticket holds at most, where the configuration does not say.
const MAX_VALIDITY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long an override holds at most, where the configuration does not say.
const BREAK_GLASS_VALIDITY: SignedDuration = DAY;
/// How long a release from quarantine holds at most, where the configuration does not say.
const RELEASE_VALIDITY: SignedDuration = SignedDuration::from_hours(30 * 24);

impl AdmissionTrust {
    /// Trust for one run over images: no tickets, nobody who may break glass.
    pub fn new(policy: Result<PolicySet, Reason>, root: Result<Root, Reason>, signers: Vec<Signer>) -> Self {
        Self {
            policy,
            root,
            signers,
            kinds: Vec::new(),
            require: Vec::new(),
            require_of: BTreeMap::new(),
            ticket_keys: Vec::new(),
            break_glass: Vec::new(),
            max_validity: MAX_VALIDITY,
            break_glass_validity: BREAK_GLASS_VALIDITY,
            release_validity: RELEASE_VALIDITY,
            on_quarantine: QuarantineAction::default(),
        }
    }

    /// Reads the `[admission]` table of a configuration; other tables are other rooms'. Without the table nobody is
    /// believed, and nothing may boot.
    ///
    /// # Errors
    /// Every fault, in the order of its lines.
    pub fn parse(text: &str, read: &Read<'_>) -> Result<Self, Vec<TrustFault>> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = line_of(text, error.span().unwrap_or_default());
            vec![TrustFault { line, message: error.message().to_owned() }]
        })?;
        let mut reader = Reader { text, read, faults: Vec::new() };
        let trust = reader.trust(document.admission.unwrap_or_default());
        let mut faults = reader.faults;
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(trust) } else { Err(faults) }
    }

    /// The same, where the tickets of this key are believed too: where server and node are one process, its own.
    #[must_use]
    pub fn pinning(mut self, key: PublicKey) -> Self {
        self.ticket_keys.push(key);
        self
    }

    /// The same, where this must be there besides of every artifact: `signature`, `sbom`, `provenance`, `vex`.
    #[must_use]
    pub fn requiring(mut self, require: Vec<String>) -> Self {
        self.require = require;
        self
    }

    /// The policy that decides, where it can be read.
    pub fn policy(&self) -> Option<PolicyReference> {
        self.policy.as_ref().ok().map(PolicySet::reference)
    }

    /// Whether a signer's key signs whole messages: an image that it signed must then be presented with its bytes.
    pub fn has_key_for_whole_messages(&self) -> bool {
        let keys = self.signers.iter().filter_map(|signer| signer.sigstore.as_ref()?.key.as_ref());
        keys.into_iter().any(PublicKey::signs_whole_messages)
    }

    /// The digest of the policy that decides.
    ///
    /// # Errors
    /// Why there is no such policy.
    pub fn policy_digest(&self) -> Result<Digest, Reason> {
        self.policy.as_ref().map(|policy| policy.reference().digest).map_err(Clone::clone)
    }

    /// The digest of the trust root, where there is one.
    pub fn trust_root_digest(&self) -> Option<&Digest> {
        self.root.as_ref().ok().map(|root| &root.reference.digest)
    }

    /// The keys whose tickets are believed.
    pub fn ticket_keys(&self) -> &[PublicKey] {
        &self.ticket_keys
    }

    /// How long a ticket holds at most.
    pub const fn max_validity(&self) -> SignedDuration {
        self.max_validity
    }

    /// How long an override holds at most.
    pub const fn break_glass_validity(&self) -> SignedDuration {
        self.break_glass_validity
    }

    /// How long a release from quarantine holds at most.
    pub const fn release_validity(&self) -> SignedDuration {
        self.release_validity
    }

    /// What is done to a machine that runs what was put into quarantine.
    pub const fn on_quarantine(&self) -> QuarantineAction {
        self.on_quarantine
    }

    /// What the policy is told for an artifact of this kind under this signer.
    pub(super) fn expected(&self, signer: &Signer, kind: ArtifactKind) -> Expected {
        let mut require = self.require.clone();
        require.extend(self.require_of.get(&kind).into_iter().flatten().cloned());
        require.extend(signer.expected.require.iter().cloned());
        require.sort();
        require.dedup();
        let kinds = self.kinds.iter().map(|kind| kind.name().to_owned()).collect();
        Expected { require, kinds, ..signer.expected.clone() }
    }
}

/// The whole file: every table but `[admission]` is left alone.
#[derive(Deserialize)]
struct Document {
    admission: Option<Table>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    policy: Option<Spanned<String>>,
    trusted_root: Option<Spanned<String>>,
    #[serde(default)]
    signers: Vec<Spanned<SignerTable>>,
    #[serde(default)]
    kinds: Vec<ArtifactKind>,
    #[serde(default)]
    require: Vec<Requirement>,
    #[serde(default)]
    require_of: BTreeMap<ArtifactKind, Vec<Requirement>>,
    #[serde(default)]
    ticket_keys: Vec<Spanned<String>>,
    #[serde(default)]
    break_glass: Vec<BreakGlassTable>,
    max_validity: Option<Spanned<String>>,
    break_glass_validity: Option<Spanned<String>>,
    release_validity: Option<Spanned<String>>,
    #[serde(default)]
    on_quarantine: QuarantineAction,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Requirement {
    Signature,
    Sbom,
    Provenance,
    Vex,
}

impl Requirement {
    const fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Sbom => "sbom",
            Self::Provenance => "provenance",
            Self::Vex => "vex",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SignerTable {
    name: String,
    key: Option<Spanned<String>>,
    certificate_identity: Option<String>,
    certificate_identity_regexp: Option<Spanned<String>>,
    certificate_oidc_issuer: Option<String>,
    certificate_oidc_issuer_regexp: Option<Spanned<String>>,
    predicate_type: Option<String>,
    source_uri: Option<String>,
    source_branch: Option<String>,
    source_tag: Option<String>,
    source_versioned_tag: Option<String>,
    builder_id: Option<String>,
    package_name: Option<String>,
    package_version: Option<String>,
    #[serde(default)]
    deny_self_hosted_runners: bool,
    openpgp_keyring: Option<Spanned<String>>,
    #[serde(default)]
    openpgp_fingerprints: Vec<Spanned<String>>,
    threshold: Option<Spanned<u32>>,
    #[serde(default)]
    openpgp_validity: OpenpgpValidity,
    #[serde(default)]
    verifier_ids: Vec<String>,
    policy_digest: Option<Spanned<String>>,
    #[serde(default)]
    require: Vec<Requirement>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OpenpgpValidity {
    #[default]
    AtSigning,
    Now,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BreakGlassTable {
    person: Spanned<String>,
    key: Spanned<String>,
}

/// Reads the table and collects what is wrong with it.
struct Reader<'a> {
    text: &'a str,
    read: &'a Read<'a>,
    faults: Vec<TrustFault>,
}

impl Reader<'_> {
    fn trust(&mut self, table: Table) -> AdmissionTrust {
        if table.signers.len() > limits::ADMISSION_SIGNERS {
            self.fault(0..0, format!("more than {} signers", limits::ADMISSION_SIGNERS));
        }
        let root = self.root(table.trusted_root.as_ref());
        let names = |list: &[Requirement]| list.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
        AdmissionTrust {
            policy: self.policy(table.policy.as_ref()),
            root,
            signers: table.signers.into_iter().filter_map(|signer| self.signer(signer)).collect(),
            kinds: table.kinds,
            require: names(&table.require),
            require_of: table.require_of.iter().map(|(kind, list)| (*kind, names(list))).collect(),
            ticket_keys: table.ticket_keys.iter().filter_map(|path| self.key(path)).collect(),
            break_glass: self.break_glass(&table.break_glass),
            max_validity: self.span_of_time(table.max_validity.as_ref(), MAX_VALIDITY),
            break_glass_validity: self.span_of_time(table.break_glass_validity.as_ref(), BREAK_GLASS_VALIDITY),
            release_validity: self.span_of_time(table.release_validity.as_ref(), RELEASE_VALIDITY),
            on_quarantine: table.on_quarantine,
        }
    }

    /// A policy of DebVisor's own by its name, or a file with a `.` or `/` in its name, which comes on top of
    /// `admission`: a file about versions must not switch off the question who signed.
    fn policy(&self, named: Option<&Spanned<String>>) -> Result<PolicySet, Reason> {
        let name = named.map_or("admission", |name| name.get_ref().as_str());
        let builtin = |name: &str| {
            PolicySet::builtin(name)
                .ok_or_else(|| Reason::new(Code::PolicyUnreadable, format!("there is no policy `{name}`")))
        };
        if !name.contains(['.', '/']) {
            return builtin(name);
        }
        let unreadable = |message: String| Reason::new(Code::PolicyUnreadable, message).evidence(name);
        let bytes = (self.read)(name, limits::POLICY_BYTES).map_err(|reason| unreadable(reason.message))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(format!("the policy `{name}` is not UTF-8")))?;
        let file = name.rsplit('/').next().unwrap_or(name);
        let own = PolicySet::from_sources(name, vec![(file.to_owned(), text)])?;
        Ok(own.with_baseline(&builtin("admission")?))
    }

    /// The named trust root, else the public-good instance's that the program carries.
    fn root(&self, named: Option<&Spanned<String>>) -> Result<Root, Reason> {
        let Some(path) = named.map(|path| path.get_ref().as_str()) else {
            return Root::parse(trust::embedded().json, false);
        };
        let bytes = (self.read)(path, limits::TRUST_ROOT_BYTES)
            .map_err(|reason| Reason::new(Code::TrustRootUnreadable, reason.message).evidence(path))?;
        Root::parse(&bytes, true).map_err(|reason| reason.evidence(path))
    }

    fn signer(&mut self, spanned: Spanned<SignerTable>) -> Option<Signer> {
        let span = spanned.span();
        let table = spanned.into_inner();
        let faults = self.faults.len();
        let mut pattern = |exact: &Option<String>, regexp: &Option<Spanned<String>>, name: &str| match (exact, regexp) {
            (Some(_), Some(both)) => {
                self.fault(both.span(), format!("{name} and {name}-regexp exclude each other"));
                None
            }
            (Some(text), None) => Some(Pattern::Exact(text.clone())),
            (None, Some(source)) => Pattern::regexp(source.get_ref())
                .map_err(|error| self.fault(source.span(), format!("{name}-regexp: {error}")))
                .ok(),
            (None, None) => None,
        };
        let identity = pattern(&table.certificate_identity, &table.certificate_identity_regexp, "certificate-identity");
        let issuer =
            pattern(&table.certificate_oidc_issuer, &table.certificate_oidc_issuer_regexp, "certificate-oidc-issuer");
        let key = table.key.as_ref().and_then(|path| self.key(path));
        let named_identity = table.certificate_identity.is_some() || table.certificate_identity_regexp.is_some();
        let named_issuer = table.certificate_oidc_issuer.is_some() || table.certificate_oidc_issuer_regexp.is_some();
        if named_identity && !named_issuer {
            self.fault(span.clone(), "an identity means nothing without the issuer who vouches for it".to_owned());
        }
        if table.key.is_some() && (named_identity || named_issuer) {
            self.fault(span.clone(), "a key stands in place of an identity: leave out one of the two".to_owned());
        }
        let asks_sigstore = table.key.is_some() || named_identity || named_issuer || table.source_uri.is_some();
        let openpgp = self.openpgp(&table, &span);
        if !asks_sigstore && table.openpgp_keyring.is_none() {
            self.fault(span, format!("the signer `{}` names nobody: no key, identity or keyring", table.name));
        }
        let policy_digest = table.policy_digest.as_ref().and_then(|text| self.digest(text));
        if self.faults.len() > faults {
            return None;
        }
        let expected = expected(&table, policy_digest, asks_sigstore);
        let sigstore = asks_sigstore.then(|| Expectations {
            identity,
            issuer,
            key,
            key_needs_log: false,
            predicate_type: table.predicate_type,
            source_uri: table.source_uri,
            source_branch: table.source_branch,
            source_tag: table.source_tag,
            source_versioned_tag: table.source_versioned_tag,
            builder_id: table.builder_id,
            package_name: table.package_name,
            package_version: table.package_version,
            deny_self_hosted_runners: table.deny_self_hosted_runners,
        });
        Some(Signer { name: table.name, sigstore, openpgp, expected })
    }

    fn openpgp(&mut self, table: &SignerTable, span: &Range<usize>) -> Option<OpenpgpSigner> {
        let Some(path) = &table.openpgp_keyring else {
            if !table.openpgp_fingerprints.is_empty() || table.threshold.is_some() {
                self.fault(span.clone(), "openpgp-fingerprints and threshold need an openpgp-keyring".to_owned());
            }
            return None;
        };
        let read = (self.read)(path.get_ref(), limits::OPENPGP_KEYRING_BYTES);
        let keyring = read.and_then(|bytes| Keyring::parse(&bytes));
        let keyring = keyring.map_err(|reason| self.fault(path.span(), reason.message)).ok();
        let mut pins = Vec::new();
        for text in &table.openpgp_fingerprints {
            match parse_fingerprint(text.get_ref()) {
                Ok(pin) => pins.push(pin),
                Err(error) => self.fault(text.span(), format!("{}: {error}", text.get_ref())),
            }
        }
        pins.sort();
        pins.dedup();
        if pins.is_empty() {
            self.fault(path.span(), "a keyring counts for nothing without openpgp-fingerprints".to_owned());
        }
        let wanted = table.threshold.as_ref().map_or(1, |threshold| *threshold.get_ref());
        let threshold =
            usize::try_from(wanted).ok().and_then(NonZeroUsize::new).filter(|count| count.get() <= pins.len());
        if threshold.is_none() && !pins.is_empty() {
            let place = table.threshold.as_ref().map_or_else(|| span.clone(), Spanned::span);
            self.fault(place, format!("a threshold of {wanted} can never be met by {} fingerprints", pins.len()));
        }
        let validity = match table.openpgp_validity {
            OpenpgpValidity::AtSigning => Validity::AtSigning,
            OpenpgpValidity::Now => Validity::Now,
        };
        Some(OpenpgpSigner { keyring: keyring?, pins, threshold: threshold?, validity })
    }

    fn break_glass(&mut self, tables: &[BreakGlassTable]) -> Vec<(Person, PublicKey)> {
        let mut people: Vec<(Person, PublicKey)> = Vec::new();
        for table in tables {
            let person = table.person.get_ref().parse::<Person>();
            let person = person.map_err(|error| self.fault(table.person.span(), error.to_string())).ok();
            let (Some(person), Some(key)) = (person, self.key(&table.key)) else { continue };
            // One key for two people would let one of them be both.
            if people.iter().any(|(other, known)| *known == key && *other != person) {
                self.fault(table.key.span(), format!("the key of {person} is somebody else's already"));
            }
            people.push((person, key));
        }
        people
    }

    fn key(&mut self, path: &Spanned<String>) -> Option<PublicKey> {
        let read = (self.read)(path.get_ref(), limits::KEY_BYTES);
        read.and_then(|bytes| PublicKey::from_pem(&bytes))
            .map_err(|reason| self.fault(path.span(), format!("{}: {}", path.get_ref(), reason.message)))
            .ok()
    }

    fn digest(&mut self, text: &Spanned<String>) -> Option<Digest> {
        text.get_ref().parse().map_err(|error| self.fault(text.span(), format!("{}: {error}", text.get_ref()))).ok()
    }

    fn span_of_time(&mut self, text: Option<&Spanned<String>>, default: SignedDuration) -> SignedDuration {
        let Some(text) = text else { return default };
        duration::parse(text.get_ref()).unwrap_or_else(|message| {
            self.fault(text.span(), message);
            default
        })
    }

    fn fault(&mut self, span: Range<usize>, message: String) {
        self.faults.push(TrustFault { line: line_of(self.text, span), message });
    }
}

impl Root {
    /// Reads a `trusted_root.json`.
    ///
    /// # Errors
    /// `trust-root-unreadable`.
    pub fn parse(json: &[u8], key_needs_log: bool) -> Result<Self, Reason> {
        let reference = TrustRootReference { digest: Digest::sha256(json), age_days: None };
        Ok(Self { root: TrustRoot::parse(json)?, reference, key_needs_log })
    }
}

fn expected(table: &SignerTable, policy_digest: Option<Digest>, asks_sigstore: bool) -> Expected {
    let text = |spanned: &Option<Spanned<String>>| spanned.as_ref().map(|text| text.get_ref().clone());
    Expected {
        certificate_identity: table.certificate_identity.clone(),
        certificate_identity_regexp: text(&table.certificate_identity_regexp),
        certificate_oidc_issuer: table.certificate_oidc_issuer.clone(),
        certificate_oidc_issuer_regexp: text(&table.certificate_oidc_issuer_regexp),
        key: asks_sigstore && table.key.is_some(),
        openpgp: table.openpgp_keyring.is_some(),
        predicate_type: table.predicate_type.clone(),
        source_uri: table.source_uri.clone(),
        source_branch: table.source_branch.clone(),
        source_tag: table.source_tag.clone(),
        source_versioned_tag: table.source_versioned_tag.clone(),
        builder_id: table.builder_id.clone(),
        package_name: table.package_name.clone(),
        package_version: table.package_version.clone(),
        deny_self_hosted_runners: table.deny_self_hosted_runners,
        require: table.require.iter().map(|one| one.name().to_owned()).collect(),
        policy_digest: policy_digest.map(|digest| digest.to_string()),
        verifier_ids: table.verifier_ids.clone(),
        ..Expected::default()
    }
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
