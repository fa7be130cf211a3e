//! OpenPGP files (RFC 9580): the bytes of a detached signature file or of a keyring in, their packets out, whether
//! armored or binary.
//! Says what the packets say, never whether a signature is good: that is `verify::openpgp`.
//! Invariant: no clock and no I/O. Nothing is decompressed, so nothing can explode.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use sequoia_openpgp::cert::{Cert, CertParser};
use sequoia_openpgp::packet::{Signature, Tag};
use sequoia_openpgp::parse::{Dearmor, PacketParserBuilder, PacketParserResult, Parse as _};
use sequoia_openpgp::types::SignatureType;
use sequoia_openpgp::{KeyHandle, Packet};

use self::armor::{Between, Block};
use crate::types::limits::{OPENPGP_KEYRING_BYTES, OPENPGP_SIGNATURE_BYTES, OPENPGP_SIGNATURES};
use crate::types::{Code, Reason};

mod armor;
mod hashing;

pub(in crate::release) use self::hashing::is_strong;
pub use self::hashing::{ArtifactHasher, ArtifactHashes};

/// The signatures of one detached signature file, in their order; at least one.
#[derive(Debug, Clone)]
pub struct DetachedSignatures {
    signatures: Vec<Signature>,
}

impl DetachedSignatures {
    /// Reads a detached signature file: signature packets and nothing else, binary, or in any number of armored
    /// blocks one after the other (signers often append theirs).
    ///
    /// # Errors
    /// - `signature-missing` where there is none,
    /// - `openpgp-not-detached` for a cleartext signed, inline signed or encrypted message,
    /// - `openpgp-malformed` for what is damaged, cut short, has anything beside, or is no OpenPGP at all,
    /// - `input-too-large` for more than [`OPENPGP_SIGNATURE_BYTES`] or [`OPENPGP_SIGNATURES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        within(bytes, OPENPGP_SIGNATURE_BYTES, "the signature file")?;
        if bytes.trim_ascii().is_empty() {
            return Err(Reason::new(Code::SignatureMissing, "the signature file is empty"));
        }
        let mut signatures = Vec::new();
        if armor::is_binary(bytes) {
            read_signatures(bytes, &mut signatures)?;
        } else {
            for Block { label, bytes } in decode_signature_text(bytes)? {
                match label.as_str() {
                    "SIGNATURE" => read_signatures(&bytes, &mut signatures)?,
                    armor::CLEARTEXT => return Err(not_detached("a cleartext signed message")),
                    "MESSAGE" => return Err(not_detached("an OpenPGP message")),
                    label => return Err(malformed(format!("the file is a PGP {label}, not a signature"))),
                }
            }
        }
        if signatures.is_empty() {
            return Err(Reason::new(Code::SignatureMissing, "the signature file holds no signature"));
        }
        Ok(Self { signatures })
    }

    /// How many signatures there are.
    pub fn count(&self) -> usize {
        self.signatures.len()
    }

    /// The names of the digest algorithms that the signatures use, each once, in order of first use.
    pub fn digest_algorithms(&self) -> Vec<String> {
        let mut names = Vec::new();
        for signature in &self.signatures {
            let name = signature.hash_algo().to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The signature packets.
    pub(in crate::release) fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.signatures.iter()
    }
}

/// A set of public keys with everything that was certified and revoked about them. Several copies of a key are one.
#[derive(Debug, Clone)]
pub struct Keyring {
    certs: BTreeMap<sequoia_openpgp::Fingerprint, Cert>,
}

impl Keyring {
    /// Reads a keyring: binary, or in any number of armored blocks with any text between them.
    /// Copies of one key are merged, so that no copy hides a revocation that another one carries.
    /// Keys of versions that nobody should use any more are passed over; they are as good as absent.
    ///
    /// # Errors
    /// - `openpgp-keyring-unreadable` for what is damaged, cut short, holds no key, or holds a private one,
    /// - `input-too-large` for more than [`OPENPGP_KEYRING_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        within(bytes, OPENPGP_KEYRING_BYTES, "the keyring")?;
        let mut packets = Packets::default();
        for block in keyring_blocks(bytes)? {
            packets.read(&block)?;
        }
        let mut keyring = Self { certs: BTreeMap::new() };
        for cert in CertParser::from_iter(packets.in_place) {
            match cert {
                Ok(cert) if cert.is_tsk() => return Err(private_key()),
                Ok(cert) => keyring.insert(cert)?,
                Err(error) if is_unsupported(&error) => {}
                Err(error) => return Err(damaged_keyring(&error)),
            }
        }
        if keyring.certs.is_empty() {
            return Err(unreadable("the keyring holds no key that can be used"));
        }
        for revocation in packets.revocations {
            keyring.attach(&revocation)?;
        }
        Ok(keyring)
    }

    /// One keyring with the keys of both.
    ///
    /// # Errors
    /// `openpgp-keyring-unreadable` where two copies of a key cannot be merged.
    pub fn join(mut self, other: Self) -> Result<Self, Reason> {
        for cert in other.certs.into_values() {
            self.insert(cert)?;
        }
        Ok(self)
    }

    /// How many keys there are, each with all its subkeys counted as one.
    pub fn count(&self) -> usize {
        self.certs.len()
    }

    /// The primary keys' fingerprints, sorted.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.certs.keys().cloned().map(Fingerprint)
    }

    /// Every certificate.
    pub(in crate::release) fn certs(&self) -> impl Iterator<Item = &Cert> {
        self.certs.values()
    }

    /// The certificates that have a key, primary or subkey, to which every one of the handles fits.
    /// No handle fits nothing: a signature that names no issuer has none.
    pub(in crate::release) fn having<'a>(&'a self, handles: &'a [KeyHandle]) -> impl Iterator<Item = &'a Cert> {
        self.certs().filter(|cert| cert.keys().any(|key| fits(&key.key().key_handle(), handles)))
    }

    /// Puts a revocation to the key that it says made it. One by another hand stays where it stood.
    fn attach(&mut self, revocation: &Signature) -> Result<(), Reason> {
        let issuers = revocation.get_issuers();
        let revoked = self.certs.values_mut().filter(|cert| fits(&cert.primary_key().key().key_handle(), &issuers));
        for cert in revoked {
            let (with, _) = cert
                .clone()
                .insert_packets([Packet::from(revocation.clone())])
                .map_err(|error| damaged_keyring(&error))?;
            *cert = with;
        }
        Ok(())
    }

    fn insert(&mut self, cert: Cert) -> Result<(), Reason> {
        match self.certs.entry(cert.fingerprint()) {
            Entry::Vacant(entry) => {
                entry.insert(cert);
            }
            Entry::Occupied(mut entry) => {
                let merged = entry.get().clone().merge_public(cert);
                let merged = merged.map_err(|error| unreadable(format!("two copies of a key differ: {error}")))?;
                entry.insert(merged);
            }
        }
        Ok(())
    }
}

/// A keyring's packets.
#[derive(Default)]
struct Packets {
    in_place: Vec<Packet>,
    /// Revocations of keys that stand apart from their key, each to be put where it belongs.
    revocations: Vec<Signature>,
}

impl Packets {
    /// Reads one block. `gpg --gen-revoke` writes a revocation as a block of its own, and people append it to a
    /// keyring as it is; sequoia would pass over it there.
    fn read(&mut self, block: &[u8]) -> Result<(), Reason> {
        let mut key = None;
        let mut next = PacketParserBuilder::from_bytes(block)
            .and_then(|builder| {
                builder.dearmor(Dearmor::Disabled).max_recursion_depth(0).buffer_unread_content().build()
            })
            .map_err(|error| damaged_keyring(&error))?;
        while let PacketParserResult::Some(parser) = next {
            let (packet, rest) = parser.next().map_err(|error| damaged_keyring(&error))?;
            next = rest;
            match &packet {
                Packet::PublicKey(public) => key = Some(public.key_handle()),
                Packet::Signature(signature) if signature.typ() == SignatureType::KeyRevocation => {
                    let issuers = signature.get_issuers();
                    if !key.as_ref().is_some_and(|key| fits(key, &issuers)) {
                        self.revocations.push(signature.clone());
                    }
                    if key.is_none() {
                        continue;
                    }
                }
                _ => {}
            }
            self.in_place.push(packet);
        }
        Ok(())
    }
}

/// Whether every handle names this key.
pub(in crate::release) fn fits(key: &KeyHandle, handles: &[KeyHandle]) -> bool {
    !handles.is_empty() && handles.iter().all(|handle| handle.aliases(key))
}

/// A whole fingerprint, the only name of a key that cannot be had by anyone else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub(in crate::release) sequoia_openpgp::Fingerprint);

/// Why a text is no fingerprint that may be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Another length, a key id's among them.
    #[error("a fingerprint has 40 or 64 hexadecimal digits, not {0}; anyone can make a key with a given short key id")]
    Length(usize),
    /// Something that is no hexadecimal digit.
    #[error("a fingerprint is hexadecimal; `{0}` is no such digit")]
    Digit(char),
}

/// Reads a fingerprint as people paste it: 40 (version 4) or 64 (version 6) hexadecimal digits of either case,
/// with spaces and a leading `0x` read over.
///
/// # Errors
/// [`FingerprintError`]; short and long key ids are refused by their length.
pub fn parse_fingerprint(text: &str) -> Result<Fingerprint, FingerprintError> {
    let text = text.trim();
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let digits: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    if let Some(other) = digits.chars().find(|character| !character.is_ascii_hexdigit()) {
        return Err(FingerprintError::Digit(other));
    }
    let version = match digits.len() {
        40 => 4,
        64 => 6,
        length => return Err(FingerprintError::Length(length)),
    };
    let bytes = hex::decode(&digits).map_err(|_| FingerprintError::Length(digits.len()))?;
    sequoia_openpgp::Fingerprint::from_bytes(version, &bytes)
        .map(Fingerprint)
        .map_err(|_| FingerprintError::Length(digits.len()))
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_fingerprint(text)
    }
}

impl fmt::Display for Fingerprint {
    /// Upper-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

fn decode_signature_text(bytes: &[u8]) -> Result<Vec<Block>, Reason> {
    let blocks = armor::decode(bytes, Between::Nothing)
        .map_err(|(line, what)| malformed(what.to_owned()).location(format!("line {line}")))?;
    if blocks.len() > OPENPGP_SIGNATURES {
        return Err(too_many());
    }
    Ok(blocks)
}

/// Appends every signature packet. Markers and padding mean nothing and are read over; all else is refused.
fn read_signatures(bytes: &[u8], signatures: &mut Vec<Signature>) -> Result<(), Reason> {
    let damaged = |error: &dyn fmt::Display| malformed(format!("the signature file is damaged: {error}"));
    let mut next = PacketParserBuilder::from_bytes(bytes)
        .and_then(|builder| builder.dearmor(Dearmor::Disabled).max_recursion_depth(0).build())
        .map_err(|error| damaged(&error))?;
    while let PacketParserResult::Some(parser) = next {
        let (packet, rest) = parser.next().map_err(|error| damaged(&error))?;
        match packet {
            Packet::Signature(signature) => signatures.push(signature),
            Packet::Marker(_) | Packet::Padding(_) => {}
            Packet::Unknown(unknown) if unknown.tag() == Tag::Signature => return Err(damaged(unknown.error())),
            other if is_message(other.tag()) => return Err(not_detached("an OpenPGP message")),
            other => return Err(malformed(format!("the signature file holds a {} packet", other.tag()))),
        }
        if signatures.len() > OPENPGP_SIGNATURES {
            return Err(too_many());
        }
        next = rest;
    }
    Ok(())
}

/// Whether such a packet is part of a message that carries its own content (RFC 9580, section 10.3).
const fn is_message(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::OnePassSig
            | Tag::Literal
            | Tag::CompressedData
            | Tag::PKESK
            | Tag::SKESK
            | Tag::SED
            | Tag::SEIP
            | Tag::AED
            | Tag::MDC
    )
}

fn keyring_blocks(bytes: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, Reason> {
    // GnuPG's own database starts with a header block, whose magic stands at its ninth byte.
    if bytes.get(8..12) == Some(b"KBXf") {
        return Err(unreadable("the keyring is GnuPG's own database")
            .hint("export the publisher's keys from it: gpg --export --armor FINGERPRINT"));
    }
    if armor::is_binary(bytes) {
        return Ok(vec![Cow::Borrowed(bytes)]);
    }
    let blocks = armor::decode(bytes, Between::Text)
        .map_err(|(line, what)| unreadable(what.to_owned()).location(format!("line {line}")))?;
    blocks
        .into_iter()
        .map(|block| match block.label.as_str() {
            "PUBLIC KEY BLOCK" => Ok(Cow::Owned(block.bytes)),
            "PRIVATE KEY BLOCK" => Err(private_key()),
            label => Err(unreadable(format!("the keyring holds a PGP {label}"))),
        })
        .collect()
}

/// Keys of version 3 and the like: the file is whole, but this key is not for use.
fn is_unsupported(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(sequoia_openpgp::Error::UnsupportedCert(..)))
}

fn within(bytes: &[u8], limit: u64, what: &str) -> Result<(), Reason> {
    if bytes.len() as u64 > limit {
        return Err(Reason::new(Code::InputTooLarge, format!("{what} is larger than {limit} bytes")));
    }
    Ok(())
}

fn too_many() -> Reason {
    Reason::new(Code::InputTooLarge, format!("the signature file holds more than {OPENPGP_SIGNATURES} signatures"))
}

fn malformed(message: String) -> Reason {
    Reason::new(Code::OpenpgpMalformed, message)
}

fn not_detached(what: &str) -> Reason {
    Reason::new(Code::OpenpgpNotDetached, format!("the file is {what}, not a detached signature"))
}

fn unreadable(message: impl Into<String>) -> Reason {
    Reason::new(Code::OpenpgpKeyringUnreadable, message)
}

fn damaged_keyring(error: &anyhow::Error) -> Reason {
    unreadable(format!("the keyring is damaged: {error}"))
}

fn private_key() -> Reason {
    unreadable("the keyring holds a private key")
        .hint("never hand out a private key; export the public one: gpg --export --armor FINGERPRINT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_people_paste_them() {
        let plain = parse_fingerprint("A0C1D5EBD203FC1CCC7D53958021ED43617B013A").unwrap();
        assert_eq!(plain, parse_fingerprint("0xa0c1d5ebd203fc1ccc7d53958021ed43617b013a").unwrap());
        assert_eq!(plain, parse_fingerprint(" A0C1 D5EB D203 FC1C CC7D  5395 8021 ED43 617B 013A").unwrap());
        assert_eq!(plain.to_string(), "A0C1D5EBD203FC1CCC7D53958021ED43617B013A");
        assert_eq!(parse_fingerprint(&"ab".repeat(32)).unwrap().to_string(), "AB".repeat(32));
    }

    #[test]
    fn key_ids_are_no_fingerprints() {
        assert_eq!(parse_fingerprint("617B013A"), Err(FingerprintError::Length(8)));
        assert_eq!(parse_fingerprint("8021ED43617B013A"), Err(FingerprintError::Length(16)));
        assert_eq!(parse_fingerprint(&"a".repeat(41)), Err(FingerprintError::Length(41)));
        assert_eq!(parse_fingerprint("release@example.org"), Err(FingerprintError::Digit('r')));
        assert_eq!(parse_fingerprint(""), Err(FingerprintError::Length(0)));
    }

    #[test]
    fn what_is_no_openpgp_is_refused() {
        assert_eq!(DetachedSignatures::parse(b"").unwrap_err().code, Code::SignatureMissing.into());
        assert_eq!(DetachedSignatures::parse(b" \n").unwrap_err().code, Code::SignatureMissing.into());
        assert_eq!(DetachedSignatures::parse(b"hello").unwrap_err().code, Code::OpenpgpMalformed.into());
        assert_eq!(DetachedSignatures::parse(b"\xff\xff\xff").unwrap_err().code, Code::OpenpgpMalformed.into());
        assert_eq!(Keyring::parse(b"").unwrap_err().code, Code::OpenpgpKeyringUnreadable.into());
        assert_eq!(Keyring::parse(b"hello").unwrap_err().code, Code::OpenpgpKeyringUnreadable.into());
    }
}
