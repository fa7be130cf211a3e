//! Who signs notes: a verifier key as text in, the yes or the one reason why not over a checkpoint out.
//!
//! Source: C2SP `signed-note`, with the Ed25519 keys of type 0x01: `NAME+HINT+KEY`, where HINT is the first four bytes
//! of SHA-256 over the name, a line feed, and the key with its type. Whether the key is to be believed is not decided
//! here.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;

use super::checkpoint::Checkpoint;
use super::key::{KeyKind, PublicKey};
use crate::types::{Code, Reason, limits};

/// The type of an Ed25519 key (C2SP signed-note, signature types).
const ED25519: u8 = 0x01;
/// What stands before the 32 bytes of an Ed25519 key in SPKI (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A verifier key: a name and the Ed25519 key that goes by it.
#[derive(Debug, Clone)]
pub struct NoteKey {
    name: String,
    raw: [u8; 32],
    key: PublicKey,
}

impl NoteKey {
    /// The key of this name.
    ///
    /// # Errors
    /// `unsupported-algorithm` where it is no Ed25519 key, or the name has spaces or a plus sign.
    pub fn new(name: &str, key: &PublicKey) -> Result<Self, Reason> {
        let raw = key.spki().strip_prefix(&SPKI_PREFIX).and_then(|raw| <[u8; 32]>::try_from(raw).ok());
        let refuse = |what: &str| Reason::new(Code::UnsupportedAlgorithm, what);
        let raw = raw.filter(|_| key.kind() == KeyKind::Ed25519);
        let raw = raw.ok_or_else(|| refuse("notes are signed with Ed25519 keys"))?;
        if !is_name(name) {
            return Err(refuse("the name of a note's key has no spaces and no plus sign"));
        }
        Ok(Self { name: name.to_owned(), raw, key: key.clone() })
    }

    /// Its name, which is the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key itself.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The first four bytes of its identity.
    pub fn hint(&self) -> [u8; 4] {
        let mut hasher = sha2::Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([0x0a, ED25519]);
        hasher.update(self.raw);
        let [first, second, third, fourth, ..] = <[u8; 32]>::from(hasher.finalize());
        [first, second, third, fourth]
    }

    /// Whether the checkpoint is of this log and signed by this key. Signatures by others are passed over.
    ///
    /// # Errors
    /// `checkpoint-invalid`.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<(), Reason> {
        let invalid = |message: String| Reason::new(Code::CheckpointInvalid, message);
        if checkpoint.origin != self.name {
            return Err(invalid(format!("the checkpoint is of `{}`, not of `{}`", checkpoint.origin, self.name)));
        }
        let hint = self.hint();
        let own = checkpoint.signatures.iter().filter(|line| line.name == self.name && line.hint == hint);
        let mut signed = false;
        for line in own {
            self.key
                .verify(checkpoint.signed_text.as_bytes(), &line.signature)
                .map_err(|_| invalid(format!("the signature of `{}` does not fit the checkpoint", self.name)))?;
            signed = true;
        }
        if signed { Ok(()) } else { Err(invalid(format!("no signature on the checkpoint is by {self}"))) }
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed: Vec<u8> = std::iter::once(ED25519).chain(self.raw).collect();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.hint()), STANDARD.encode(typed))
    }
}

impl FromStr for NoteKey {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        let refuse = |what: &str| Reason::new(Code::UnsupportedAlgorithm, format!("the verifier key {what}"));
        let text = text.trim();
        if text.len() > limits::CHECKPOINT_BYTES {
            return Err(refuse("is too long"));
        }
        // The name may not have a plus sign; base64 may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hint), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("is not NAME+HINT+KEY"));
        };
        let typed = STANDARD.decode(encoded).map_err(|_| refuse("is not in base64"))?;
        let Some((&ED25519, raw)) = typed.split_first() else {
            return Err(refuse("is not of type 1, Ed25519"));
        };
        let spki: Vec<u8> = SPKI_PREFIX.iter().chain(raw).copied().collect();
        let found = Self::new(name, &PublicKey::from_spki(&spki)?)?;
        if hex::encode(found.hint()) != hint {
            return Err(refuse("has a hint that is not its own: it was cut or mixed with another"));
        }
        Ok(found)
    }
}

/// Whether the text can name a key (C2SP signed-note).
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the C2SP signed-note specification.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn the_example_of_the_specification_is_read_and_written_back() {
        let key: NoteKey = KEY.parse().unwrap();
        assert_eq!(key.name(), "PeterNeumann");
        assert_eq!(key.to_string(), KEY);
    }

    #[test]
    fn a_key_that_was_cut_renamed_or_is_of_another_type_is_refused() {
        for text in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a3+ARpc",
            "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Somebody+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+BRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(text.parse::<NoteKey>().is_err(), "{text}");
        }
    }
}
