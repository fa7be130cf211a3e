//! Detached OpenPGP signatures, the artifact's hash states, a keyring and `now` in; verified signatures or reasons out.
//! Invariant: no I/O, and no clock but the caller's `now`, which the cryptographic policy is dated by as well.
//!
//! A signature counts when all of this holds (RFC 9580; docs/threat-model.md, OpenPGP):
//!
//! 1. it is a binary signature of version 4 or 6, and every issuer that it names is one key of a pinned certificate;
//! 2. it has no critical notation or subpacket that is not understood;
//! 3. its digest is strong, and so are the signing key and the primary key;
//! 4. it is not older than its key, not from the future, and not expired;
//! 5. it fits the artifact;
//! 6. neither key was ever revoked as compromised (a revocation without a reason says as much), and neither was
//!    revoked for a lesser reason by the time of the signature;
//! 7. both were bound by a valid self-signature, a subkey by a back-signature of its own too, and it may sign;
//! 8. neither had expired at the time of the signature, by the self-signatures of that time and by the newest ones;
//! 9. under [`Validity::Now`], none of this has changed since.
//!
//! Signatures by keys that are not pinned prove nothing and harm nothing. So do flawed ones by a pinned key, as an
//! expired one beside its renewal, with one exception: a signature that names a pinned key and does not fit (point 5)
//! is a no whatever stands beside it. Either the artifact or the signature file was tampered with, or the publisher
//! signed something else; none of them should pass in silence.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use jiff::Timestamp;
use sequoia_openpgp::cert::Cert;
use sequoia_openpgp::cert::amalgamation::key::{ErasedKeyAmalgamation, PrimaryKey as _};
use sequoia_openpgp::cert::amalgamation::{ValidAmalgamation as _, ValidateAmalgamation as _};
use sequoia_openpgp::crypto::mpi::PublicKey;
use sequoia_openpgp::packet::Signature;
use sequoia_openpgp::packet::key::{PublicParts, UnspecifiedRole};
use sequoia_openpgp::packet::signature::subpacket::SubpacketValue;
use sequoia_openpgp::policy::{HashAlgoSecurity, Policy as _, StandardPolicy};
use sequoia_openpgp::types::{RevocationType, SignatureType};

use super::facts::{self, Clock, Signer, TrustedTime};
use crate::release::evidence::openpgp::{ArtifactHashes, DetachedSignatures, Fingerprint, Keyring, fits, is_strong};
use crate::types::{Code, Reason};

/// At which time a key must be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validity {
    /// When it signed, by the signature's own date.
    #[default]
    AtSigning,
    /// When it signed, and still.
    Now,
}

impl Validity {
    /// The word on the command line and in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtSigning => "at-signing",
            Self::Now => "now",
        }
    }
}

/// What the caller demands.
#[derive(Debug, Clone)]
pub struct OpenpgpExpectations {
    /// The primary keys whose signatures count. None means that none does.
    pub pins: Vec<Fingerprint>,
    /// How many distinct pinned keys must have signed.
    pub threshold: NonZeroUsize,
    /// At which time a key must be valid.
    pub validity: Validity,
    /// The time of the run.
    pub now: Timestamp,
}

/// A signature file and the name that reasons and facts call it by.
#[derive(Debug, Clone, Copy)]
pub struct SignatureFile<'a> {
    /// The file's name.
    pub evidence: &'a str,
    /// What it holds.
    pub signatures: &'a DetachedSignatures,
}

/// Judges all signature files of one artifact together: the threshold counts distinct primary keys over all of them.
///
/// `hashes` are the artifact's, from an `ArtifactHasher` that was made for these files; none where only a digest of
/// the artifact is known, which never suffices.
///
/// Returns the verified signatures and no reason, or no signature and the reasons why not: a signature beside a
/// broken threshold is no fact.
pub fn judge(
    files: &[SignatureFile<'_>],
    hashes: Option<&ArtifactHashes>,
    keyring: &Keyring,
    expected: &OpenpgpExpectations,
) -> (Vec<facts::Signature>, Vec<Reason>) {
    let Some(hashes) = hashes else {
        let reason = "an OpenPGP signature covers the artifact's bytes; its digest alone cannot be checked against it";
        let bytes_required =
            |file: &SignatureFile<'_>| Reason::new(Code::ArtifactBytesRequired, reason).evidence(file.evidence);
        return (Vec::new(), files.iter().map(bytes_required).collect());
    };
    if expected.pins.is_empty() {
        return (Vec::new(), files.iter().map(|file| nothing_pinned(file, keyring)).collect());
    }
    let judge = Judge::new(hashes, keyring, expected);
    let mut signatures = Vec::new();
    let mut signers = BTreeSet::new();
    let mut refusals = Vec::new();
    for file in files {
        let count = file.signatures.count();
        for (signature, number) in file.signatures.iter().zip(1..) {
            match judge.signature(signature) {
                Ok(good) => {
                    signers.insert(good.primary.clone());
                    signatures.push(good.into_fact(file.evidence, expected.validity));
                }
                Err(mut refusal) => {
                    refusal.reason = refusal.reason.evidence(file.evidence);
                    if count > 1 {
                        refusal.reason = refusal.reason.location(format!("signature {number} of {count}"));
                    }
                    refusals.push(refusal);
                }
            }
        }
    }
    let threshold = expected.threshold.get();
    if signers.len() >= threshold {
        let reasons: Vec<_> = refusals.into_iter().filter(|refusal| refusal.fatal).map(|fatal| fatal.reason).collect();
        return if reasons.is_empty() { (signatures, reasons) } else { (Vec::new(), reasons) };
    }
    let mut reasons: Vec<_> = refusals.into_iter().map(|refusal| refusal.reason).collect();
    if reasons.is_empty() || threshold > 1 {
        reasons.push(below_threshold(&signers, threshold));
    }
    (Vec::new(), reasons)
}

/// One good signature.
struct Good {
    primary: Fingerprint,
    signing_key: Fingerprint,
    at: Timestamp,
    valid_now: bool,
}

impl Good {
    fn into_fact(self, evidence: &str, validity: Validity) -> facts::Signature {
        facts::Signature {
            evidence: evidence.to_owned(),
            signer: Signer::Openpgp {
                fingerprint: self.primary.to_string(),
                signing_key: self.signing_key.to_string(),
                validity: validity.name().to_owned(),
                valid_now: self.valid_now,
            },
            times: vec![TrustedTime { at: self.at, clock: Clock::Signer }],
            logs: Vec::new(),
            attestation: None,
        }
    }
}

/// Why a signature does not count, and whether that alone is a no.
struct Refusal {
    reason: Reason,
    fatal: bool,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, fatal: false }
    }
}

type Key<'a> = ErasedKeyAmalgamation<'a, PublicParts>;

struct Judge<'a> {
    hashes: &'a ArtifactHashes,
    keyring: &'a Keyring,
    expected: &'a OpenpgpExpectations,
    policy: StandardPolicy<'static>,
    now: SystemTime,
}

impl<'a> Judge<'a> {
    fn new(hashes: &'a ArtifactHashes, keyring: &'a Keyring, expected: &'a OpenpgpExpectations) -> Self {
        let now = SystemTime::from(expected.now);
        // What counts as weak is weak today, whatever date a signature claims: its date is its maker's word.
        Self { hashes, keyring, expected, policy: StandardPolicy::at(now), now }
    }

    fn signature(&self, signature: &Signature) -> Result<Good, Refusal> {
        if !matches!(signature, Signature::V4(_) | Signature::V6(_)) {
            let version = signature.version();
            let reason = format!("the signature is of version {version}, which has no authenticated fields");
            return Err(Reason::new(Code::OpenpgpAlgorithm, reason).into());
        }
        if signature.typ() != SignatureType::Binary {
            return Err(Reason::new(
                Code::OpenpgpSignatureType,
                format!("the signature is a {}, not a binary signature", signature.typ()),
            )
            .into());
        }
        let issuers = signature.get_issuers();
        let mut first = None;
        for cert in self.keyring.having(&issuers) {
            if !self.is_pinned(cert) {
                continue;
            }
            for key in cert.keys().filter(|key| fits(&key.key().key_handle(), &issuers)) {
                match self.signature_by(signature, cert, &key) {
                    Ok(good) => return Ok(good),
                    Err(refusal) => first = first.or(Some(refusal)),
                }
            }
        }
        Err(first.unwrap_or_else(|| self.not_pinned(signature).into()))
    }

    fn is_pinned(&self, cert: &Cert) -> bool {
        self.expected.pins.iter().any(|pin| pin.0 == cert.fingerprint())
    }

    /// Points 2 to 9 of the list above, in its order.
    fn signature_by(&self, signature: &Signature, cert: &Cert, key: &Key<'_>) -> Result<Good, Refusal> {
        self.check_critical(signature)?;
        self.check_algorithms(signature, cert, key)?;
        let signed = self.check_dates(signature, cert, key)?;
        self.check_fit(signature, key)?;
        for revocation in revocations(self.keyring, &self.policy, cert, key) {
            revocation.check(signed, Validity::AtSigning)?;
        }
        self.check_key_at(signed, cert, key)?;
        let current = self.check_key_now(cert, key);
        if self.expected.validity == Validity::Now
            && let Err(reason) = current
        {
            return Err(reason.into());
        }
        let at = Timestamp::try_from(signed)
            .map_err(|_| Reason::new(Code::OpenpgpSignatureTime, "the signature's date is out of range"))?;
        Ok(Good {
            primary: Fingerprint(cert.fingerprint()),
            signing_key: Fingerprint(key.key().fingerprint()),
            at,
            valid_now: current.is_ok(),
        })
    }

    fn check_critical(&self, signature: &Signature) -> Result<(), Reason> {
        for subpacket in signature.hashed_area().iter().filter(|subpacket| subpacket.critical()) {
            if let SubpacketValue::NotationData(notation) = subpacket.value() {
                // A name may be as long as its maker pleases; this much of it tells which one it is.
                let name: String = notation.name().chars().take(64).collect();
                return Err(Reason::new(
                    Code::OpenpgpNotation,
                    format!("the signature has the critical notation {name:?}"),
                ));
            }
            let rejected = self.policy.critical_subpacket_cutoff(subpacket.tag());
            if rejected.is_some_and(|since| since <= self.now) {
                return Err(Reason::new(
                    Code::OpenpgpNotation,
                    format!("the signature has a critical subpacket that is not understood: {}", subpacket.tag()),
                ));
            }
        }
        Ok(())
    }

    fn check_algorithms(&self, signature: &Signature, cert: &Cert, key: &Key<'_>) -> Result<(), Reason> {
        if !is_strong(signature.hash_algo()) {
            let algorithm = signature.hash_algo();
            return Err(Reason::new(Code::OpenpgpAlgorithm, format!("the signature is over a {algorithm} digest")));
        }
        let primary = cert.primary_key();
        for key in [primary.key().role_as_unspecified(), key.key()] {
            check_strength(key)?;
        }
        self.policy
            .signature(signature, HashAlgoSecurity::CollisionResistance)
            .map_err(|error| Reason::new(Code::OpenpgpAlgorithm, format!("the signature is not acceptable: {error:#}")))
    }

    fn check_dates(&self, signature: &Signature, cert: &Cert, key: &Key<'_>) -> Result<SystemTime, Reason> {
        let untimely = |message: String| Reason::new(Code::OpenpgpSignatureTime, message);
        let Some(signed) = signature.signature_creation_time() else {
            return Err(untimely("the signature does not say when it was made".to_owned()));
        };
        let born = key.key().creation_time().max(cert.primary_key().key().creation_time());
        if signed < born {
            return Err(untimely(format!("the signature of {} is older than its key of {}", date(signed), date(born))));
        }
        if signed > self.now {
            return Err(untimely(format!("the signature claims to be made in the future, on {}", date(signed))));
        }
        if let Some(expires) = signature.signature_expiration_time()
            && expires <= self.now
        {
            return Err(Reason::new(
                Code::OpenpgpSignatureExpired,
                format!("the signature expired on {}", date(expires)),
            ));
        }
        Ok(signed)
    }

    fn check_fit(&self, signature: &Signature, key: &Key<'_>) -> Result<(), Refusal> {
        let Some(context) = self.hashes.context(signature) else {
            // The caller hashed for other signature files than it asks about.
            let reason = "the artifact was not hashed for this signature";
            return Err(Reason::new(Code::ArtifactBytesRequired, reason).into());
        };
        signature.verify_hash(key.key(), context).map_err(|error| {
            if is_unsupported(&error) {
                return Reason::new(Code::OpenpgpAlgorithm, format!("the signature cannot be checked: {error}")).into();
            }
            let signer = key.key().fingerprint();
            let message = format!("the signature by {signer} does not fit the artifact");
            Refusal { reason: Reason::new(Code::OpenpgpSignatureBad, message), fatal: true }
        })
    }

    /// Points 7 and 8: bound, able to sign, and not expired at the time of the signature.
    fn check_key_at(&self, signed: SystemTime, cert: &Cert, key: &Key<'_>) -> Result<(), Reason> {
        // Key servers and `export-clean` keep the newest self-signature alone. Where none is left from the time
        // of the signature or before it, the owner's later word stands in, as it does for gpg; the expiry that it
        // sets is still held against the signature's own date.
        let view_time = if self.has_binding_until(signed, cert, key) { signed } else { self.now };
        let then = self.view(view_time, key)?;
        then.check_signs(key)?;
        then.check_alive(signed, Validity::AtSigning)?;
        // A newer self-signature may have moved the expiry to before the signature.
        if let Ok(newest) = self.view(self.now, key) {
            newest.check_alive(signed, Validity::AtSigning)?;
        }
        Ok(())
    }

    /// Point 9.
    fn check_key_now(&self, cert: &Cert, key: &Key<'_>) -> Result<(), Reason> {
        for revocation in revocations(self.keyring, &self.policy, cert, key) {
            revocation.check(self.now, Validity::Now)?;
        }
        let now = self.view(self.now, key)?;
        now.check_signs(key)?;
        now.check_alive(self.now, Validity::Now)
    }

    /// Whether both the primary key and the signing key have an acceptable self-signature that is no newer.
    fn has_binding_until(&self, time: SystemTime, cert: &Cert, key: &Key<'_>) -> bool {
        let early = |signature: &Signature| {
            signature.signature_creation_time().is_some_and(|created| created <= time)
                && self.policy.signature(signature, HashAlgoSecurity::SecondPreImageResistance).is_ok()
        };
        let primary = cert.primary_key().self_signatures().any(early)
            || cert.userids().any(|userid| userid.self_signatures().any(early));
        primary && (key.primary() || key.self_signatures().any(early))
    }

    /// What the self-signatures that are in force at `time` say of the key and its primary key.
    fn view(&self, time: SystemTime, key: &Key<'_>) -> Result<View, Reason> {
        let unusable = |error: anyhow::Error| {
            let weak = error
                .chain()
                .any(|cause| matches!(cause.downcast_ref(), Some(sequoia_openpgp::Error::PolicyViolation(..))));
            let code = if weak { Code::OpenpgpAlgorithm } else { Code::OpenpgpKeyUnusable };
            let signer = key.key().fingerprint();
            Reason::new(code, format!("the key {signer} has no acceptable self-signature: {error:#}"))
        };
        let valid = key.clone().with_policy(&self.policy, time).map_err(unusable)?;
        let primary = valid.valid_cert().primary_key().key_expiration_time();
        let expires = [primary, valid.key_expiration_time()].into_iter().flatten().min();
        Ok(View { expires, signs: valid.for_signing() })
    }

    /// Why a signature by no pinned key does not count; the reason says which key it was, where that is known.
    fn not_pinned(&self, signature: &Signature) -> Reason {
        let issuers = signature.get_issuers();
        let Some(issuer) = issuers.first() else {
            return Reason::new(Code::OpenpgpKeyUnknown, "the signature does not say which key made it");
        };
        let Some(cert) = self.keyring.having(&issuers).next() else {
            return Reason::new(Code::OpenpgpKeyUnknown, format!("the signing key {issuer} is not in the keyring"));
        };
        let primary = cert.fingerprint();
        let reason = Reason::new(
            Code::OpenpgpKeyNotPinned,
            format!("the signature names the key {primary}, which is none of the pinned ones"),
        );
        if self.expected.pins.iter().any(|pin| cert.keys().subkeys().any(|subkey| subkey.key().fingerprint() == pin.0))
        {
            return reason.hint(format!("a pin names a subkey; pin its primary key instead: {primary}"));
        }
        reason
    }
}

/// What self-signatures say of a key and its primary key at some time.
struct View {
    /// The earlier of the two expiries.
    expires: Option<SystemTime>,
    signs: bool,
}

impl View {
    fn check_signs(&self, key: &Key<'_>) -> Result<(), Reason> {
        if self.signs {
            return Ok(());
        }
        let signer = key.key().fingerprint();
        Err(Reason::new(Code::OpenpgpKeyUnusable, format!("the key {signer} has no signing capability")))
    }

    fn check_alive(&self, time: SystemTime, moment: Validity) -> Result<(), Reason> {
        match self.expires {
            Some(expires) if expires <= time => Err(expired(expires, moment)),
            _ => Ok(()),
        }
    }
}

fn expired(expires: SystemTime, moment: Validity) -> Reason {
    let expires = date(expires);
    match moment {
        Validity::AtSigning => {
            Reason::new(Code::OpenpgpKeyExpired, format!("the key had expired when it signed, on {expires}"))
                .hint("ask the publisher to sign again with a valid key")
        }
        Validity::Now => {
            Reason::new(Code::OpenpgpKeyExpired, format!("the key has expired since it signed, on {expires}"))
        }
    }
}

/// One revocation of the signing key or of its primary key.
struct Revocation {
    /// The key that it revokes.
    key: String,
    /// When it takes effect; never for one that voids the key whatever the date.
    since: Option<SystemTime>,
    /// The owner's reason, as RFC 9580 names it.
    because: String,
    /// Whether only a designated revoker that is not in the keyring could confirm it.
    unconfirmed: bool,
}

impl Revocation {
    fn check(&self, time: SystemTime, moment: Validity) -> Result<(), Reason> {
        let Self { key, because, .. } = self;
        let message = match self.since {
            None => format!("the key {key} was revoked ({because}), which voids its signatures whatever their date"),
            Some(since) if since > time => return Ok(()),
            Some(since) => {
                let order = match moment {
                    Validity::AtSigning => "before",
                    Validity::Now => "after",
                };
                format!("the key {key} was revoked ({because}) on {}, {order} it signed", date(since))
            }
        };
        let reason = Reason::new(Code::OpenpgpKeyRevoked, message);
        Err(if self.unconfirmed {
            reason.hint("add the designated revoker's key to the keyring to have the revocation checked")
        } else {
            reason
        })
    }
}

/// Every revocation that concerns signatures by `key`: its own and its primary key's, by the owner or by a revoker
/// whom the owner designated.
///
/// Stricter than sequoia in three ways, each because a revocation wrongly honoured is a no and one wrongly passed
/// over is a forgery let in: one made over a weak digest counts, no later self-signature lifts one (as in gpg), and
/// one that names a designated revoker counts where his key is not at hand to check it.
fn revocations(keyring: &Keyring, policy: &StandardPolicy<'_>, cert: &Cert, key: &Key<'_>) -> Vec<Revocation> {
    let primary = cert.primary_key();
    let mut found: Vec<_> =
        primary.self_revocations().map(|signature| revocation(&cert.fingerprint(), signature)).collect();
    found.extend(designated(keyring, policy, cert, primary.other_revocations(), |signature, revoker| {
        signature.verify_primary_key_revocation(revoker, primary.key()).is_ok()
    }));
    if !key.primary() {
        let subkey = key.key().role_as_subordinate();
        found.extend(key.self_revocations().map(|signature| revocation(&key.key().fingerprint(), signature)));
        found.extend(designated(keyring, policy, cert, key.other_revocations(), |signature, revoker| {
            signature.verify_subkey_revocation(revoker, primary.key(), subkey).is_ok()
        }));
    }
    found
}

fn revocation(key: &sequoia_openpgp::Fingerprint, signature: &Signature) -> Revocation {
    let reason = signature.reason_for_revocation().map(|(reason, _)| reason);
    let soft = reason.is_some_and(|reason| reason.revocation_type() == RevocationType::Soft);
    Revocation {
        key: key.to_hex(),
        since: if soft { signature.signature_creation_time() } else { None },
        because: reason.map_or_else(|| "no reason given".to_owned(), |reason| reason.to_string()),
        unconfirmed: false,
    }
}

/// The revocations by designated revokers (RFC 9580, section 5.2.3.23). Revocations by others mean nothing.
fn designated<'a>(
    keyring: &Keyring,
    policy: &StandardPolicy<'_>,
    cert: &Cert,
    revocations: impl Iterator<Item = &'a Signature>,
    verify: impl Fn(&Signature, &sequoia_openpgp::packet::Key<PublicParts, UnspecifiedRole>) -> bool,
) -> Vec<Revocation> {
    let mut found = Vec::new();
    for signature in revocations {
        let issuers = signature.get_issuers();
        for designated in cert.revocation_keys(policy) {
            let (_, revoker) = designated.revoker();
            if !fits(&revoker.clone().into(), &issuers) {
                continue;
            }
            let known = keyring.certs().find(|cert| cert.fingerprint() == *revoker);
            if let Some(known) = known
                && !verify(signature, known.primary_key().key().role_as_unspecified())
            {
                continue;
            }
            found.push(Revocation { unconfirmed: known.is_none(), ..revocation(&cert.fingerprint(), signature) });
        }
    }
    found
}

/// RSA and DSA under 2048 bits are refused by name, so that the reason can say so. The policy knows the rest.
fn check_strength(key: &sequoia_openpgp::packet::Key<PublicParts, UnspecifiedRole>) -> Result<(), Reason> {
    let bits = match key.mpis() {
        PublicKey::RSA { .. } | PublicKey::DSA { .. } => key.mpis().bits().unwrap_or(0),
        _ => return Ok(()),
    };
    if bits >= 2048 {
        return Ok(());
    }
    let (algorithm, fingerprint) = (key.pk_algo(), key.fingerprint());
    Err(Reason::new(Code::OpenpgpAlgorithm, format!("the key {fingerprint} is {algorithm} of {bits} bits")))
}

fn is_unsupported(error: &anyhow::Error) -> bool {
    use sequoia_openpgp::Error;
    matches!(
        error.downcast_ref(),
        Some(
            Error::UnsupportedHashAlgorithm(_)
                | Error::UnsupportedPublicKeyAlgorithm(_)
                | Error::UnsupportedEllipticCurve(_)
                | Error::UnsupportedSignatureType(_)
        )
    )
}

fn nothing_pinned(file: &SignatureFile<'_>, keyring: &Keyring) -> Reason {
    let reason =
        Reason::new(Code::OpenpgpKeyNotPinned, "no fingerprint is pinned, so any key in the keyring could sign")
            .evidence(file.evidence);
    let issuers = file.signatures.iter().map(Signature::get_issuers);
    let made_by: BTreeSet<_> = issuers
        .flat_map(|issuers| keyring.having(&issuers).map(Cert::fingerprint).collect::<Vec<_>>())
        .map(|fingerprint| fingerprint.to_hex())
        .collect();
    if made_by.is_empty() {
        return reason;
    }
    let made_by = made_by.into_iter().collect::<Vec<_>>().join(", ");
    reason.hint(format!(
        "the file names {made_by}; once the publisher has confirmed it elsewhere, pin it with --openpgp-fingerprint"
    ))
}

fn below_threshold(signers: &BTreeSet<Fingerprint>, threshold: usize) -> Reason {
    let who = signers.iter().map(Fingerprint::to_string).collect::<Vec<_>>().join(", ");
    let who = if who.is_empty() { who } else { format!(" ({who})") };
    let count = signers.len();
    Reason::new(
        Code::OpenpgpThreshold,
        format!(
            "{count} of the pinned keys signed{who}, and {threshold} distinct ones must have; subkeys of one key are one"
        ),
    )
}

/// The day and time in UTC, for messages.
fn date(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "an impossible date".to_owned(), |time| time.to_string())
}
