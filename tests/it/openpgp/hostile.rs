//! Hostile bytes: whatever is done to a signature file or a keyring, nothing panics and no changed artifact passes.

use std::sync::OnceLock;

use debvisor::release::evidence::openpgp::{DetachedSignatures, Keyring};
use proptest::collection::vec;
use proptest::prelude::*;
use sequoia_openpgp::armor::Kind;

use super::Question;
use super::maker::{Owner, armored, ed25519, sign};

/// Two pinned signers, one with a subkey and a revoked one; binary, then armored.
fn originals() -> &'static [Question; 2] {
    static ORIGINALS: OnceLock<[Question; 2]> = OnceLock::new();
    ORIGINALS.get_or_init(|| {
        let (subkey, revoked) = (ed25519("2024-01-01"), ed25519("2024-01-01"));
        let one = Owner::new("2024-01-01")
            .with_subkey(&subkey, "2024-01-01")
            .with_subkey(&revoked, "2024-01-01")
            .subkey_revoked(&revoked, "2025-01-01", None);
        let two = Owner::new("2024-01-01");
        let signatures = [sign(&subkey, "2024-06-01"), sign(&two.key, "2024-06-01")].concat();
        let keyring = [one.keyring(), two.keyring()].concat();
        let binary = Question::new(&signatures[..], &keyring[..], one.fingerprint()).also_pin(two.fingerprint());
        let mut text = binary.clone();
        text.signatures = vec![armored(Kind::Signature, &signatures)];
        text.keyring = armored(Kind::PublicKey, &keyring);
        [binary, text]
    })
}

#[derive(Debug, Clone)]
enum Edit {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(at, count) => {
                let at = at.index(bytes.len());
                let more = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, more);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<prop::sample::Index>;
    let edit = prop_oneof![
        8 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => (at(), 1..300_usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        2 => (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, more)| Edit::Insert(at, more)),
        2 => (at(), 1..300_usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        1 => at().prop_map(Edit::Cut),
    ];
    vec(edit, 0..4)
}

proptest! {
    #[test]
    fn no_mutation_makes_a_changed_artifact_pass(
        original in 0..2_usize,
        to_signatures in edits(),
        to_keyring in edits(),
        more in vec(any::<u8>(), 1..4),
    ) {
        let mut question = originals()[original].clone();
        to_signatures.iter().for_each(|edit| edit.apply(&mut question.signatures[0]));
        to_keyring.iter().for_each(|edit| edit.apply(&mut question.keyring));
        // The unchanged artifact may pass or not; that it is judged at all is the point.
        let _ = question.ask();
        question.artifact.extend(more);
        prop_assert!(question.ask().is_err());
    }

    #[test]
    fn no_bytes_make_a_parser_panic(mut bytes in vec(any::<u8>(), 0..2000), text in any::<bool>()) {
        if !text && let Some(first) = bytes.first_mut() {
            *first |= 0x80;
        } else {
            bytes.splice(0..0, *b"-----BEGIN PGP SIGNATURE-----\n\n");
        }
        let _ = DetachedSignatures::parse(&bytes);
        let _ = Keyring::parse(&bytes);
    }
}

#[test]
fn unmutated_originals_pass() {
    for original in originals() {
        assert_eq!(original.clone().threshold(2).ask().unwrap().len(), 2);
    }
}
