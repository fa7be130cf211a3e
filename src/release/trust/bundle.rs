//! Offline trust bundles: roots, policies, keys and revocations in one file that a threshold of signers vouches for.
//! Bytes, signers and `now` come in; a [`TrustBundle`] goes out, or the reasons why it is not to be trusted.
//!
//! The file is a DSSE envelope around strict JSON (docs/reference/trust-bundle.md). The signers of the next bundle may
//! be named in this one: it is then signed to both thresholds, as TUF rotates its root (TUF specification, 5.3.4).
//! Invariant: no file and no clock, and no [`TrustBundle`] whose signatures were not counted.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::listing;
use super::revocation::{Revocation, Revocations};
use crate::release::evidence::bundle::pre_authentication_encoding;
use crate::release::evidence::json;
use crate::release::evidence::key::PublicKey;
use crate::types::{Code, Digest, Reason, limits};

/// The payload type of a trust bundle's envelope.
pub const PAYLOAD_TYPE: &str = "application/vnd.debvisor.trust-bundle+json";
/// The version of the form itself.
pub const SCHEMA: u32 = 1;
/// How far a signer's clock may be ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What a bundle says; the payload of its envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Counts up; a lower one is never installed over a higher one.
    pub version: u64,
    /// When it was made. Its roots are as old as that.
    pub created_at: Timestamp,
    /// From when on it is void.
    pub expires_at: Timestamp,
    /// Who signs the next bundle, where that changes; they sign this one too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signers: Option<SignersWire>,
    /// Trust roots; the first is used where none is asked for by name.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub roots: Vec<Item>,
    /// Rego policy sets.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub policies: Vec<Policy>,
    /// Managed public keys, in PEM.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub keys: Vec<Item>,
    /// OpenPGP keyrings.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub openpgp_keyrings: Vec<Item>,
    /// What is revoked.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub revocations: Vec<Revocation>,
}

/// A named file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its name among its kind: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its bytes; base64 in the document.
    #[serde(with = "base64_text")]
    pub content: Vec<u8>,
}

/// A named set of Rego files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The name that `--policy` takes.
    pub name: String,
    /// Its files.
    pub files: Vec<Item>,
}

/// Signers as the document has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignersWire {
    /// How many of them must sign.
    pub threshold: usize,
    /// Their public keys in PEM.
    pub keys: Vec<String>,
}

/// Who may vouch for a bundle, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    threshold: usize,
    keys: Vec<PublicKey>,
}

impl Signers {
    /// Signers that make sense: distinct keys, and a threshold that they can reach and that is not nothing.
    ///
    /// # Errors
    /// `trust-bundle-invalid`.
    pub fn new(threshold: usize, keys: Vec<PublicKey>) -> Result<Self, Reason> {
        let distinct: BTreeSet<_> = keys.iter().map(PublicKey::spki).collect();
        if distinct.len() != keys.len() {
            return Err(invalid("a signer is listed twice"));
        }
        if keys.len() > limits::TRUST_BUNDLE_SIGNATURES {
            return Err(invalid(format!("more than {} signers are listed", limits::TRUST_BUNDLE_SIGNATURES)));
        }
        if threshold == 0 || threshold > keys.len() {
            return Err(invalid(format!("{} signers cannot meet a threshold of {threshold}", keys.len())));
        }
        Ok(Self { threshold, keys })
    }

    /// How many must sign.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// Who may sign.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    fn read(wire: &SignersWire) -> Result<Self, Reason> {
        let keys = wire.keys.iter().map(|pem| PublicKey::from_pem(pem.as_bytes())).collect::<Result<Vec<_>, _>>();
        Self::new(wire.threshold, keys.map_err(|reason| invalid(reason.message))?)
    }

    /// Counts the distinct signers that signed `bundle`.
    ///
    /// A signature by somebody else proves nothing and disproves nothing, in any order. One under a signer's own id
    /// that does not fit is no signature of theirs: the file was changed.
    fn count(&self, bundle: &SignedBundle) -> Result<usize, Reason> {
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &bundle.payload);
        let mut signed = BTreeSet::new();
        for signature in &bundle.signatures {
            let Some(key) = self.keys.iter().find(|key| key.fingerprint().to_string() == signature.keyid) else {
                continue;
            };
            key.verify(&message, &signature.sig).map_err(|_| {
                invalid(format!("the signature of {} does not fit", signature.keyid)).location("signatures")
            })?;
            signed.insert(key.spki());
        }
        Ok(signed.len())
    }

    fn require(&self, bundle: &SignedBundle, who: &str) -> Result<(), Reason> {
        let count = self.count(bundle)?;
        if count >= self.threshold {
            return Ok(());
        }
        Err(invalid(format!("{count} of the {} {who} signed it, and {} must", self.keys.len(), self.threshold))
            .location("signatures")
            .hint("collect the missing signatures: debvisor trust bundle sign"))
    }
}

/// A bundle as a file: well formed, and nothing more is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBundle {
    payload: Vec<u8>,
    contents: Contents,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    #[serde(with = "base64_text")]
    sig: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    #[serde(with = "base64_text")]
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

impl SignedBundle {
    /// A new bundle without signatures.
    ///
    /// # Errors
    /// `trust-bundle-invalid` where [`Self::parse`] would refuse what was written.
    pub fn new(contents: Contents) -> Result<Self, Reason> {
        let payload = serde_json::to_vec(&contents).map_err(|error| invalid(error.to_string()))?;
        check(&contents)?;
        Ok(Self { payload, contents, signatures: Vec::new() })
    }

    /// Reads a bundle's file, and checks its form alone.
    ///
    /// # Errors
    /// `trust-bundle-invalid`; `input-too-large`, `input-too-deep`, `malformed-json` and `duplicate-key` as they are.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() as u64 > limits::TRUST_BUNDLE_BYTES {
            let message = format!("a trust bundle has at most {} bytes", limits::TRUST_BUNDLE_BYTES);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let envelope: Envelope = json::parse(bytes, Code::TrustBundleInvalid)?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(invalid("the envelope holds no trust bundle").location("payloadType"));
        }
        if envelope.signatures.len() > limits::TRUST_BUNDLE_SIGNATURES {
            return Err(invalid(format!("more than {} signatures", limits::TRUST_BUNDLE_SIGNATURES)));
        }
        let contents: Contents = json::parse(&envelope.payload, Code::TrustBundleInvalid)?;
        check(&contents)?;
        Ok(Self { payload: envelope.payload, contents, signatures: envelope.signatures })
    }

    /// What it says, whoever signed it.
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The fingerprints of those who claim to have signed.
    pub fn claimed_signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| signature.keyid.as_str())
    }

    /// The bytes that a signer signs (DSSE protocol, "PAE").
    pub fn message(&self) -> Vec<u8> {
        pre_authentication_encoding(PAYLOAD_TYPE, &self.payload)
    }

    /// Adds `key`'s signature over [`Self::message`], in place of one that it made before.
    ///
    /// # Errors
    /// `trust-bundle-invalid` where the signature does not fit, or past [`limits::TRUST_BUNDLE_SIGNATURES`].
    pub fn add_signature(&mut self, key: &PublicKey, sig: Vec<u8>) -> Result<(), Reason> {
        key.verify(&self.message(), &sig).map_err(|_| invalid("the new signature does not fit"))?;
        let keyid = key.fingerprint().to_string();
        self.signatures.retain(|signature| signature.keyid != keyid);
        if self.signatures.len() >= limits::TRUST_BUNDLE_SIGNATURES {
            return Err(invalid(format!("more than {} signatures", limits::TRUST_BUNDLE_SIGNATURES)));
        }
        self.signatures.push(Signature { keyid, sig });
        Ok(())
    }

    /// The file's bytes, with a newline at their end.
    ///
    /// # Errors
    /// `trust-bundle-invalid`, which serialising into memory does not yield.
    pub fn to_json(&self) -> Result<Vec<u8>, Reason> {
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: self.payload.clone(),
            signatures: self.signatures.clone(),
        };
        let mut bytes = serde_json::to_vec(&envelope).map_err(|error| invalid(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Verifies it: signed to the threshold of `signers`, and of the signers that it names itself; made before `now`
    /// and not expired; not older than `floor`.
    ///
    /// # Errors
    /// `trust-bundle-invalid`, `trust-bundle-rollback`.
    pub fn verify(self, signers: &Signers, floor: Option<u64>, now: Timestamp) -> Result<TrustBundle, Reason> {
        signers.require(&self, "signers")?;
        let successors = self.contents.signers.as_ref().map(Signers::read).transpose()?;
        if let Some(successors) = &successors {
            successors.require(&self, "signers that it names for the next one")?;
        }
        let Contents { created_at, expires_at, version, .. } = self.contents;
        if created_at > now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) {
            return Err(invalid(format!("it was made in the future, at {created_at}")).location("created_at"));
        }
        if expires_at <= now {
            return Err(invalid(format!("it expired at {expires_at}")).location("expires_at"));
        }
        if let Some(floor) = floor
            && version < floor
        {
            let message = format!("it has version {version}, and version {floor} was in use already");
            return Err(Reason::new(Code::TrustBundleRollback, message).location("version"));
        }
        TrustBundle::new(self, successors.unwrap_or_else(|| signers.clone()))
    }
}

/// A verified bundle, its contents read.
#[derive(Debug, Clone)]
pub struct TrustBundle {
    signed: SignedBundle,
    signers: Signers,
    keys: Vec<(String, PublicKey)>,
    revocations: Revocations,
}

impl TrustBundle {
    fn new(signed: SignedBundle, signers: Signers) -> Result<Self, Reason> {
        let keys = signed
            .contents
            .keys
            .iter()
            .map(|item| Ok((item.name.clone(), PublicKey::from_pem(&item.content)?)))
            .collect::<Result<_, Reason>>()?;
        let revocations = signed.contents.revocations.iter().cloned().collect();
        Ok(Self { signed, signers, keys, revocations })
    }

    /// Its version.
    pub const fn version(&self) -> u64 {
        self.signed.contents.version
    }

    /// When it was made.
    pub const fn created_at(&self) -> Timestamp {
        self.signed.contents.created_at
    }

    /// From when on it is void.
    pub const fn expires_at(&self) -> Timestamp {
        self.signed.contents.expires_at
    }

    /// SHA-256 over its payload: two bundles that say the same have the same, whoever signed.
    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.signed.payload)
    }

    /// Who must sign the next one.
    pub const fn signers(&self) -> &Signers {
        &self.signers
    }

    /// The trust roots, the default one first.
    pub fn roots(&self) -> &[Item] {
        &self.signed.contents.roots
    }

    /// The policy sets.
    pub fn policies(&self) -> &[Policy] {
        &self.signed.contents.policies
    }

    /// The managed keys with their names.
    pub fn keys(&self) -> &[(String, PublicKey)] {
        &self.keys
    }

    /// The OpenPGP keyrings.
    pub fn openpgp_keyrings(&self) -> &[Item] {
        &self.signed.contents.openpgp_keyrings
    }

    /// What is revoked.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Whether the other one is the very same, signatures aside.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.signed.payload == other.signed.payload
    }

    /// The form that is kept: the signers of the next bundle with this one, in one file, so that neither is ever
    /// there without the other.
    ///
    /// # Errors
    /// `trust-bundle-invalid`, which serialising into memory does not yield.
    pub fn to_installed(&self) -> Result<Vec<u8>, Reason> {
        let keys = self.signers.keys.iter().map(PublicKey::to_pem).collect();
        let installed = Installed {
            signers: SignersWire { threshold: self.signers.threshold, keys },
            bundle: String::from_utf8(self.signed.to_json()?).map_err(|error| invalid(error.to_string()))?,
        };
        let mut bytes = serde_json::to_vec_pretty(&installed).map_err(|error| invalid(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// What is kept of the installed bundle: read before it is verified again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Installed {
    signers: SignersWire,
    bundle: String,
}

/// Reads what [`TrustBundle::to_installed`] wrote. The bundle is verified anew by each run, its expiry included.
///
/// # Errors
/// `trust-bundle-invalid`. An installed bundle that does not verify is never passed over: what it revokes is not known.
pub fn read_installed(bytes: &[u8]) -> Result<(Signers, SignedBundle), Reason> {
    let installed: Installed = json::parse(bytes, Code::TrustBundleInvalid)?;
    Ok((Signers::read(&installed.signers)?, SignedBundle::parse(installed.bundle.as_bytes())?))
}

/// The rules that need no signer: who signs a bundle that breaks them made a mistake.
fn check(contents: &Contents) -> Result<(), Reason> {
    if contents.schema != SCHEMA {
        return Err(invalid(format!("its schema is {}, and {SCHEMA} is known", contents.schema)).location("schema"));
    }
    if contents.version == 0 {
        return Err(invalid("versions count from 1").location("version"));
    }
    if contents.expires_at <= contents.created_at {
        return Err(invalid("it expires before it was made").location("expires_at"));
    }
    if let Some(signers) = &contents.signers {
        Signers::read(signers).map_err(|reason| reason.location("signers"))?;
    }
    check_names("roots", contents.roots.iter().map(|item| &item.name))?;
    check_names("policies", contents.policies.iter().map(|policy| &policy.name))?;
    check_names("keys", contents.keys.iter().map(|item| &item.name))?;
    check_names("openpgp_keyrings", contents.openpgp_keyrings.iter().map(|item| &item.name))?;
    for (at, root) in contents.roots.iter().enumerate() {
        listing::parse(&root.content).map_err(|reason| invalid(reason.message).location(format!("roots[{at}]")))?;
    }
    for (at, policy) in contents.policies.iter().enumerate() {
        let place = format!("policies[{at}].files");
        check_names(&place, policy.files.iter().map(|file| &file.name))?;
        if policy.files.is_empty() || policy.files.len() > limits::POLICY_FILES {
            return Err(invalid(format!("a policy has 1 to {} files", limits::POLICY_FILES)).location(place));
        }
    }
    for (at, key) in contents.keys.iter().enumerate() {
        PublicKey::from_pem(&key.content).map_err(|reason| invalid(reason.message).location(format!("keys[{at}]")))?;
    }
    if contents.revocations.len() > limits::TRUST_BUNDLE_REVOCATIONS {
        return Err(invalid(format!("more than {} revocations", limits::TRUST_BUNDLE_REVOCATIONS)));
    }
    Ok(())
}

/// Names end up in paths, tables and flags; and one name for two things is a question of who reads first.
fn check_names<'a>(place: &str, names: impl Iterator<Item = &'a String>) -> Result<(), Reason> {
    let mut seen = BTreeSet::new();
    for name in names {
        let plain = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !plain {
            return Err(invalid(format!("`{}` is no name", name.escape_debug())).location(place));
        }
        if !seen.insert(name) {
            return Err(invalid(format!("the name `{name}` stands twice")).location(place));
        }
    }
    if seen.len() > limits::TRUST_BUNDLE_ITEMS {
        return Err(invalid(format!("more than {} items", limits::TRUST_BUNDLE_ITEMS)).location(place));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Reason {
    Reason::new(Code::TrustBundleInvalid, message)
}

/// Binary data in the standard alphabet, padded, and in the one spelling that encoding yields.
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map_err(|_| serde::de::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents() -> Contents {
        let created_at = Timestamp::from_second(1_790_000_000).unwrap();
        Contents {
            schema: SCHEMA,
            version: 1,
            created_at,
            expires_at: created_at + SignedDuration::from_hours(24),
            signers: None,
            roots: vec![Item { name: "main".to_owned(), content: super::super::embedded().json.to_vec() }],
            policies: Vec::new(),
            keys: Vec::new(),
            openpgp_keyrings: Vec::new(),
            revocations: Vec::new(),
        }
    }

    #[test]
    fn a_bundle_is_read_back_as_it_was_written() {
        let bundle = SignedBundle::new(contents()).unwrap();
        assert_eq!(SignedBundle::parse(&bundle.to_json().unwrap()).unwrap(), bundle);
    }

    #[test]
    fn another_spelling_of_base64_is_refused() {
        let text = String::from_utf8(SignedBundle::new(contents()).unwrap().to_json().unwrap()).unwrap();
        assert!(SignedBundle::parse(text.as_bytes()).is_ok());
        let payload = text.split("\"payload\":\"").nth(1).unwrap().split('"').next().unwrap();
        for other in [payload.trim_end_matches('=').to_owned() + "\\n", format!("{payload}===="), format!(" {payload}")]
        {
            let reason = SignedBundle::parse(text.replace(payload, &other).as_bytes()).unwrap_err();
            assert_eq!(reason.code.known(), Some(Code::TrustBundleInvalid));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_a_reason_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(SignedBundle::parse(&bytes).is_err());
            prop_assert!(read_installed(&bytes).is_err());
        }

        #[test]
        fn a_damaged_bundle_never_verifies(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let (bytes, key) = signed();
            let mut damaged = bytes.clone();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let Ok(bundle) = SignedBundle::parse(&damaged) else { return Ok(()) };
            let same = bundle == SignedBundle::parse(bytes).unwrap();
            let signers = Signers::new(1, vec![key.clone()]).unwrap();
            let now = contents().created_at;
            // An ECDSA signature is one of two, so an edit of it may yield another good one; the words stay the same.
            prop_assert!(same || bundle.contents == contents() || bundle.verify(&signers, None, now).is_err());
        }
    }

    fn signed() -> &'static (Vec<u8>, PublicKey) {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
        static SIGNED: std::sync::OnceLock<(Vec<u8>, PublicKey)> = std::sync::OnceLock::new();
        SIGNED.get_or_init(|| {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
            let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            let key = PublicKey::from_spki(spki.as_ref()).unwrap();
            let mut bundle = SignedBundle::new(contents()).unwrap();
            bundle.add_signature(&key, pair.sign(&bundle.message()).as_ref().to_vec()).unwrap();
            (bundle.to_json().unwrap(), key)
        })
    }
}
