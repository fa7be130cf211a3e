//! Makes OpenPGP keys and signatures with the one flaw that a case is about. Dates in, packets out; nothing is random
//! but the keys themselves. No other program is asked.

use std::time::SystemTime;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use sequoia_openpgp::crypto::KeyPair;
use sequoia_openpgp::packet::key::{Key4, Key6, PrimaryRole, SecretParts, SubordinateRole, UnspecifiedRole};
use sequoia_openpgp::packet::signature::SignatureBuilder;
use sequoia_openpgp::packet::{Key, Signature, UserID};
use sequoia_openpgp::serialize::Serialize as _;
use sequoia_openpgp::types::{HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};
use sequoia_openpgp::{Packet, armor};

/// The bytes that every test signs.
pub(super) const ARTIFACT: &[u8] = b"release 1.0\n";

/// Midnight UTC of a day, as `2024-01-31`.
pub(super) fn day(text: &str) -> SystemTime {
    text.parse::<Date>().unwrap().to_zoned(TimeZone::UTC).unwrap().timestamp().into()
}

pub(super) type SecretKey = Key<SecretParts, UnspecifiedRole>;

/// A fresh Ed25519 key of version 4.
pub(super) fn ed25519(created: &str) -> SecretKey {
    dated(
        Key4::<SecretParts, UnspecifiedRole>::generate_ecc(true, sequoia_openpgp::types::Curve::Ed25519)
            .unwrap()
            .into(),
        created,
    )
}

/// A fresh Ed25519 key of version 6.
pub(super) fn version_6(created: &str) -> SecretKey {
    dated(Key6::<SecretParts, UnspecifiedRole>::generate_ed25519().unwrap().into(), created)
}

/// A fresh RSA key.
pub(super) fn rsa(bits: usize, created: &str) -> SecretKey {
    dated(Key4::<SecretParts, UnspecifiedRole>::generate_rsa(bits).unwrap().into(), created)
}

fn dated(mut key: SecretKey, created: &str) -> SecretKey {
    key.set_creation_time(day(created)).unwrap();
    key
}

fn pair(key: &SecretKey) -> KeyPair {
    key.clone().into_keypair().unwrap()
}

/// A change to a signature before it is made.
pub(super) type Change<'a> = &'a dyn Fn(SignatureBuilder) -> SignatureBuilder;

/// No change.
pub(super) const PLAIN: Change<'static> = &|builder| builder;

/// Somebody with a primary key, and everything certified about it so far.
pub(super) struct Owner {
    pub(super) key: SecretKey,
    user: UserID,
    on_primary: Vec<Packet>,
    on_user: Vec<Packet>,
    subkeys: Vec<Packet>,
}

impl Owner {
    /// A good signing key, bound on the day it was made and never expiring.
    pub(super) fn new(created: &str) -> Self {
        let owner = Self::unbound(ed25519(created), "Release <release@example.org>");
        owner.certified(created, PLAIN)
    }

    /// A primary key that nothing binds yet.
    pub(super) fn unbound(key: SecretKey, user: &str) -> Self {
        Self { key, user: user.into(), on_primary: Vec::new(), on_user: Vec::new(), subkeys: Vec::new() }
    }

    fn primary(&self) -> Key<SecretParts, PrimaryRole> {
        self.key.clone().role_into_primary()
    }

    pub(super) fn fingerprint(&self) -> String {
        self.key.fingerprint().to_hex()
    }

    /// Adds a self-signature: on the user id, and for version 6 on the key itself.
    pub(super) fn certified(mut self, at: &str, change: Change<'_>) -> Self {
        let builder = |typ| {
            change(
                SignatureBuilder::new(typ)
                    .set_signature_creation_time(day(at))
                    .unwrap()
                    .set_key_flags(KeyFlags::empty().set_certification().set_signing())
                    .unwrap(),
            )
        };
        let primary = self.primary().parts_into_public();
        if self.key.version() == 6 {
            let signature = builder(SignatureType::DirectKey).sign_direct_key(&mut pair(&self.key), &primary).unwrap();
            self.on_primary.push(signature.into());
        }
        let signature = builder(SignatureType::PositiveCertification)
            .sign_userid_binding(&mut pair(&self.key), &primary, &self.user)
            .unwrap();
        self.on_user.push(signature.into());
        self
    }

    /// Binds a signing subkey properly, on the day it was made.
    pub(super) fn with_subkey(self, subkey: &SecretKey, at: &str) -> Self {
        self.with_odd_subkey(subkey, at, true, PLAIN)
    }

    /// Binds a subkey with or without its back-signature.
    pub(super) fn with_odd_subkey(mut self, subkey: &SecretKey, at: &str, back: bool, change: Change<'_>) -> Self {
        let subordinate: Key<_, SubordinateRole> = subkey.clone().parts_into_public().role_into_subordinate();
        let primary = self.primary().parts_into_public();
        let mut builder = SignatureBuilder::new(SignatureType::SubkeyBinding)
            .set_signature_creation_time(day(at))
            .unwrap()
            .set_key_flags(KeyFlags::empty().set_signing())
            .unwrap();
        if back {
            let back = SignatureBuilder::new(SignatureType::PrimaryKeyBinding)
                .set_signature_creation_time(day(at))
                .unwrap()
                .sign_primary_key_binding(&mut pair(subkey), &primary, &subordinate)
                .unwrap();
            builder = builder.set_embedded_signature(back).unwrap();
        }
        let binding = change(builder).sign_subkey_binding(&mut pair(&self.key), &primary, &subordinate).unwrap();
        self.subkeys.extend([Packet::from(subordinate), binding.into()]);
        self
    }

    /// Revokes the primary key.
    pub(super) fn revoked(mut self, at: &str, reason: Option<ReasonForRevocation>, change: Change<'_>) -> Self {
        let primary = self.primary().parts_into_public();
        let builder = change(revocation(SignatureType::KeyRevocation, at, reason));
        let signature = builder.sign_direct_key(&mut pair(&self.key), &primary).unwrap();
        self.on_primary.push(signature.into());
        self
    }

    /// A revocation of the primary key as a file of its own, as `gpg --gen-revoke` writes it.
    pub(super) fn revocation(&self, at: &str, reason: Option<ReasonForRevocation>) -> Vec<u8> {
        let primary = self.primary().parts_into_public();
        let builder = revocation(SignatureType::KeyRevocation, at, reason);
        serialized(builder.sign_direct_key(&mut pair(&self.key), &primary).unwrap())
    }

    /// Revokes the primary key by the hand of another.
    pub(super) fn revoked_by(mut self, other: &Self, at: &str, reason: Option<ReasonForRevocation>) -> Self {
        let primary = self.primary().parts_into_public();
        let builder = revocation(SignatureType::KeyRevocation, at, reason);
        let signature = builder.sign_direct_key(&mut pair(&other.key), &primary).unwrap();
        self.on_primary.push(signature.into());
        self
    }

    /// Revokes the subkey that was bound last.
    pub(super) fn subkey_revoked(mut self, subkey: &SecretKey, at: &str, reason: Option<ReasonForRevocation>) -> Self {
        let subordinate: Key<_, SubordinateRole> = subkey.clone().parts_into_public().role_into_subordinate();
        let primary = self.primary().parts_into_public();
        let signature = revocation(SignatureType::SubkeyRevocation, at, reason)
            .sign_subkey_binding(&mut pair(&self.key), &primary, &subordinate)
            .unwrap();
        self.subkeys.push(signature.into());
        self
    }

    /// The public certificate.
    pub(super) fn keyring(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Packet::from(self.primary().parts_into_public()).serialize(&mut bytes).unwrap();
        for packet in &self.on_primary {
            packet.serialize(&mut bytes).unwrap();
        }
        Packet::from(self.user.clone()).serialize(&mut bytes).unwrap();
        for packet in self.on_user.iter().chain(&self.subkeys) {
            packet.serialize(&mut bytes).unwrap();
        }
        bytes
    }

    /// The certificate with its secret key.
    pub(super) fn secret(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Packet::from(self.primary()).serialize(&mut bytes).unwrap();
        bytes
    }
}

fn revocation(typ: SignatureType, at: &str, reason: Option<ReasonForRevocation>) -> SignatureBuilder {
    let builder = SignatureBuilder::new(typ).set_signature_creation_time(day(at)).unwrap();
    match reason {
        Some(reason) => builder.set_reason_for_revocation(reason, b"").unwrap(),
        None => builder,
    }
}

/// A detached signature over [`ARTIFACT`].
pub(super) fn sign(key: &SecretKey, at: &str) -> Vec<u8> {
    sign_oddly(key, at, SignatureType::Binary, PLAIN)
}

/// A detached signature with something else about it.
pub(super) fn sign_oddly(key: &SecretKey, at: &str, typ: SignatureType, change: Change<'_>) -> Vec<u8> {
    let builder = SignatureBuilder::new(typ).set_signature_creation_time(day(at)).unwrap();
    serialized(change(builder.set_hash_algo(HashAlgorithm::SHA512)).sign_message(&mut pair(key), ARTIFACT).unwrap())
}

/// A signature over [`ARTIFACT`] by one key that claims to be by another.
pub(super) fn sign_as(key: &SecretKey, claimed: &SecretKey, at: &str) -> Vec<u8> {
    let claimed = claimed.fingerprint();
    sign_oddly(key, at, SignatureType::Binary, &|builder| {
        builder.set_issuer_fingerprint(claimed.clone()).unwrap().set_issuer((&claimed).into()).unwrap()
    })
}

/// A message that carries its own content: inline signed, or cleartext signed.
pub(super) fn message(key: &SecretKey, at: &str, cleartext: bool) -> Vec<u8> {
    use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
    use std::io::Write as _;

    let mut bytes = Vec::new();
    let signer = Signer::new(Message::new(&mut bytes), pair(key)).unwrap().creation_time(day(at));
    let mut writer = if cleartext {
        signer.cleartext().build().unwrap()
    } else {
        LiteralWriter::new(signer.build().unwrap()).build().unwrap()
    };
    writer.write_all(ARTIFACT).unwrap();
    writer.finalize().unwrap();
    bytes
}

fn serialized(signature: Signature) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::from(signature).serialize(&mut bytes).unwrap();
    bytes
}

/// Bytes in an armored block.
pub(super) fn armored(kind: armor::Kind, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;

    let mut writer = armor::Writer::new(Vec::new(), kind).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finalize().unwrap()
}
